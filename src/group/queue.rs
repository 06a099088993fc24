//! The queue between callers and the seller: one slot a waiting request, first come first served.
//!
//! It lies in four parts of shared memory. The slots are behind a lock that is held for moments;
//! the words that tell their phases, the words on which callers park, and the latches of the
//! workers are read without it.

use super::request::{Call, QueuedReply, QueuedRequest};
use crate::pg::memory::{LwLock, Shared};
use crate::pg::wait::{Latches, Parking, WaitFor};
use crate::settings;
use flashsale_core::limits::SLOTS;
use flashsale_core::slots::{Collected, Slots, Ticket, Words};
use pgrx::pg_sys::XLogRecPtr;

pub static QUEUE: Shared<LwLock<Slots<QueuedRequest, QueuedReply, SLOTS>>> =
    Shared::new(c"flashsale queue");
pub static WORDS: Shared<Words<SLOTS>> = Shared::new(c"flashsale queue words");
/// Where the caller of each slot sleeps.
pub static PARKINGS: Shared<[Parking; SLOTS]> = Shared::new(c"flashsale queue parkings");
/// The workers that serve and publish, while they are there.
pub static LATCHES: Shared<Latches<2>> = Shared::new(c"flashsale queue latches");
const SELLER: usize = 0;
const PUBLISHER: usize = 1;

/// All parts of the queue.
#[derive(Clone, Copy)]
pub struct Queue {
    slots: &'static LwLock<Slots<QueuedRequest, QueuedReply, SLOTS>>,
    words: &'static Words<SLOTS>,
    parkings: &'static [Parking; SLOTS],
    latches: &'static Latches<2>,
}

/// The queue; `None` if the library was not preloaded.
pub fn queue() -> Option<Queue> {
    Some(Queue {
        slots: QUEUE.get()?,
        words: WORDS.get()?,
        parkings: PARKINGS.get()?,
        latches: LATCHES.get()?,
    })
}

/// A caller's side.
impl Queue {
    /// Queues a call and wakes the seller; `None` if the queue is full.
    pub fn join(self, call: &Call<'_>) -> Option<Ticket> {
        let request = QueuedRequest::new(call);
        let capacity = settings::queue_size();
        let ticket = self.slots.lock().join(self.words, capacity, request)?;
        self.latches.wake(SELLER);
        Some(ticket)
    }

    /// Whether the caller still has to wait for its reply; takes no lock.
    pub fn is_pending(self, ticket: Ticket) -> bool {
        self.words.is_pending(ticket)
    }

    /// Sleeps until there may be something to collect.
    pub fn park(self, ticket: Ticket, at_most_ms: i64) {
        let parking = &self.parkings[ticket.slot()];
        parking.park(WaitFor::Seller, at_most_ms, || !self.is_pending(ticket));
    }

    /// What there is for the caller, who has then left the queue; `None` while it has to wait.
    pub fn collect(self, ticket: Ticket) -> Option<Collected<QueuedReply>> {
        self.slots.lock().collect(self.words, ticket)
    }

    /// Leaves the queue unless the seller has taken the request; false if it has.
    pub fn withdraw(self, ticket: Ticket) -> bool {
        self.slots.lock().withdraw(self.words, ticket)
    }

    /// Leaves the queue, answered or not: the slot is free for the next.
    pub fn leave(self, ticket: Ticket) {
        self.slots.lock().leave(self.words, ticket);
    }

    /// Whether there is a seller.
    pub fn is_served(self) -> bool {
        self.latches.is_taken(SELLER)
    }
}

/// The seller's side.
impl Queue {
    /// This worker serves from now on.
    pub fn attach_seller(self) {
        self.latches.take(SELLER);
    }

    /// The seller is gone: those it had taken learn what became of them by its transaction,
    /// the others wait for the next seller.
    pub fn detach_seller(self) {
        self.latches.leave(SELLER);
        let orphaned = self.slots.lock().orphan(self.words);
        self.unpark(orphaned);
    }

    /// Takes up to `most` requests, oldest first.
    pub fn take(self, most: usize) -> Vec<(Ticket, QueuedRequest)> {
        self.slots.lock().take(self.words, most)
    }

    /// How many requests the seller has not taken yet.
    pub fn backlog(self) -> usize {
        self.slots.read().waiting()
    }

    /// Leaves replies where callers find them once they are published, or once the seller died
    /// and its transaction committed.
    pub fn write(self, replies: impl Iterator<Item = (Ticket, QueuedReply)>) {
        let mut slots = self.slots.lock();
        for (ticket, reply) in replies {
            slots.write(self.words, ticket, reply);
        }
    }

    /// Hands written replies to their callers, and wakes them all.
    pub fn publish(self, tickets: impl Iterator<Item = Ticket>) {
        let mut published = Vec::new();
        let mut slots = self.slots.lock();
        for ticket in tickets {
            if slots.publish(self.words, ticket) {
                published.push(ticket.slot());
            }
        }
        drop(slots);
        self.unpark(published);
    }

    /// Leaves committed replies, each with the end of its commit in the log, to be published
    /// once they are durable.
    pub fn hand_over(self, replies: impl Iterator<Item = (Ticket, XLogRecPtr)>) {
        let mut slots = self.slots.lock();
        for (ticket, end) in replies {
            slots.hand_over(self.words, ticket, end);
        }
    }

    /// Tells the publisher that replies were handed over.
    pub fn wake_publisher(self) {
        self.latches.wake(PUBLISHER);
    }
}

/// The publisher's side.
impl Queue {
    /// This worker publishes from now on.
    pub fn attach_publisher(self) {
        self.latches.take(PUBLISHER);
        self.latches.wake(SELLER);
    }

    /// Nobody publishes from now on, so the seller has to.
    pub fn detach_publisher(self) {
        self.latches.leave(PUBLISHER);
        self.latches.wake(SELLER);
    }

    /// Whether there is a publisher.
    pub fn has_publisher(self) -> bool {
        self.latches.is_taken(PUBLISHER)
    }

    /// Up to where the log must be durable for all that was handed over; `None` if there is
    /// nothing.
    pub fn committed(self) -> Option<XLogRecPtr> {
        self.slots.read().committed().map(|(_, end)| end).max()
    }

    /// Publishes what was handed over and is durable by the judgement of `is_durable`, which gets
    /// a commit's end and how durable it must be.
    pub fn publish_durable(self, is_durable: impl Fn(XLogRecPtr, i32) -> bool) {
        let is_due = |request: &QueuedRequest, end| is_durable(end, request.synchronous_commit);
        let published = self.slots.lock().publish_durable(self.words, is_due);
        self.unpark(published);
    }

    fn unpark(self, slots: Vec<usize>) {
        for slot in slots {
            self.parkings[slot].unpark();
        }
    }
}
