//! The queue between callers and the seller: one slot for each request, first come first served.
//!
//! It consists of several parts of shared memory. The slots are behind a lock that is held only for
//! moments; the words with their phases, and the rooms in which callers wait, are read without a
//! lock. Callers whose requests join between two takes of the seller wait in one room, so that one
//! call wakes them.

use super::request::{Call, QueuedReply, QueuedRequest};
use crate::pg::memory::{LwLock, Shared};
use crate::pg::wait::{Parking, WaitFor};
use crate::pg::worker::Worker;
use crate::{settings, workers};
use flashsale_core::limits::SLOTS;
use flashsale_core::slots::{Collected, Slots, Ticket, Words};
use flashsale_core::time::Micros;
use pgrx::pg_sys::XLogRecPtr;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

pub static QUEUE: Shared<LwLock<Slots<QueuedRequest, QueuedReply, SLOTS>>> =
    Shared::new(c"flashsale queue");
pub static WORDS: Shared<Words<SLOTS>> = Shared::new(c"flashsale queue words");
pub static ROOMS: Shared<[Parking; MOST_ROOMS]> = Shared::new(c"flashsale queue rooms");
/// How often the seller has taken requests, so which of the rooms callers enter now.
pub static TAKES: Shared<AtomicU32> = Shared::new(c"flashsale queue takes");

/// More than groups are ever under way at once, so that two seldom share a room.
const MOST_ROOMS: usize = 256;

/// References to all parts of the queue.
#[derive(Clone, Copy)]
pub struct Queue {
    slots: &'static LwLock<Slots<QueuedRequest, QueuedReply, SLOTS>>,
    words: &'static Words<SLOTS>,
    rooms: &'static [Parking; MOST_ROOMS],
    takes: &'static AtomicU32,
}

/// The queue; `None` if the library was not preloaded.
pub fn queue() -> Option<Queue> {
    Some(Queue {
        slots: QUEUE.get()?,
        words: WORDS.get()?,
        rooms: ROOMS.get()?,
        takes: TAKES.get()?,
    })
}

/// The caller's side.
impl Queue {
    /// Queues a request and wakes the seller; `None` if the queue is full. Returns the ticket, and
    /// the room in which to wait.
    pub fn join(self, call: &Call<'_>) -> Option<(Ticket, u32)> {
        let room = self.takes.load(Relaxed) % MOST_ROOMS as u32;
        let request = QueuedRequest::new(call, room);
        let capacity = settings::queue_size();
        let ticket = self.slots.lock().join(self.words, capacity, request)?;
        workers::wake(Worker::Seller);
        Some((ticket, room))
    }

    /// Whether the caller still has to wait for its reply; takes no lock.
    pub fn is_pending(self, ticket: Ticket) -> bool {
        self.words.is_pending(ticket)
    }

    /// Sleeps until there may be a reply, for `at_most_ms` at most.
    pub fn park(self, ticket: Ticket, room: u32, at_most_ms: i64) {
        let room = &self.rooms[room as usize];
        room.park(WaitFor::Seller, at_most_ms, || !self.is_pending(ticket));
    }

    /// Returns the caller's reply and leaves the queue; `None` while the caller has to wait.
    pub fn collect(self, ticket: Ticket) -> Option<Collected<QueuedReply>> {
        self.slots.lock().collect(self.words, ticket)
    }

    /// Leaves the queue if the seller has not taken the request; false if it has.
    pub fn withdraw(self, ticket: Ticket) -> bool {
        self.slots.lock().withdraw(self.words, ticket)
    }

    /// Leaves the queue, answered or not, and frees the slot.
    pub fn leave(self, ticket: Ticket) {
        self.slots.lock().leave(self.words, ticket);
    }
}

/// The seller's side.
impl Queue {
    /// To be called when the seller exits. The callers of requests that it had taken find out
    /// whether its transaction committed; the other requests wait for the next seller.
    pub fn detach_seller(self) {
        let mut rooms = Vec::new();
        let mut slots = self.slots.lock();
        slots.orphan(self.words, |request| rooms.push(request.room));
        drop(slots);
        self.unpark(rooms);
    }

    /// Takes up to `most` requests, oldest first.
    pub fn take(self, most: usize) -> Vec<(Ticket, QueuedRequest)> {
        let taken = self.slots.lock().take(self.words, most);
        if !taken.is_empty() {
            self.takes.fetch_add(1, Relaxed);
        }
        taken
    }

    /// The number of requests that the seller has not taken yet.
    pub fn backlog(self) -> usize {
        self.slots.read().waiting()
    }

    /// When the oldest of these was queued, by the monotonic clock.
    pub fn oldest_since(self) -> Option<Micros> {
        let slots = self.slots.read();
        slots.oldest_waiting().map(|request| request.queued_at)
    }

    /// Writes replies into their slots. Callers collect them once they are published, or if the
    /// seller dies and its transaction has committed.
    pub fn write(self, replies: impl Iterator<Item = (Ticket, QueuedReply)>) {
        let mut slots = self.slots.lock();
        for (ticket, reply) in replies {
            slots.write(self.words, ticket, reply);
        }
    }

    /// Publishes written replies and wakes their callers.
    pub fn publish(self, tickets: impl Iterator<Item = Ticket>) {
        let mut rooms = Vec::new();
        let mut slots = self.slots.lock();
        for ticket in tickets {
            let published = slots.publish(self.words, ticket);
            rooms.extend(published.map(|request| request.room));
        }
        drop(slots);
        self.unpark(rooms);
    }

    /// Moves requests with written replies, each with the WAL position of its commit, to the
    /// committed list, from which they are published once they are durable.
    pub fn hand_over(self, replies: impl Iterator<Item = (Ticket, XLogRecPtr)>) {
        let mut slots = self.slots.lock();
        for (ticket, end) in replies {
            slots.hand_over(self.words, ticket, end);
        }
    }

    /// Wakes the publisher, after replies were handed over.
    pub fn wake_publisher(self) {
        workers::wake(Worker::Publisher);
    }
}

/// The publisher's side.
impl Queue {
    /// Whether a publisher runs.
    pub fn has_publisher(self) -> bool {
        workers::is_at_work(Worker::Publisher)
    }

    /// The largest WAL position of a commit on the committed list; `None` if the list is empty.
    pub fn committed(self) -> Option<XLogRecPtr> {
        self.slots.read().committed().map(|(_, end)| end).max()
    }

    /// Publishes the replies on the committed list for which `is_durable`, called with the end of
    /// the commit and the caller's `synchronous_commit`, is true.
    pub fn publish_durable(self, is_durable: impl Fn(XLogRecPtr, i32) -> bool) {
        let is_due = |request: &QueuedRequest, end| is_durable(end, request.synchronous_commit);
        let mut rooms = Vec::new();
        let mut slots = self.slots.lock();
        slots.publish_durable(self.words, is_due, |request| rooms.push(request.room));
        drop(slots);
        self.unpark(rooms);
    }

    /// Wakes the callers in these rooms. They must have been noted under the lock: as soon as a reply
    /// is published, its slot may be another caller's.
    fn unpark(self, mut rooms: Vec<u32>) {
        rooms.sort_unstable();
        rooms.dedup();
        for room in rooms {
            self.rooms[room as usize].unpark();
        }
    }
}
