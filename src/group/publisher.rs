//! The publisher: waits until commits are durable and publishes their replies, while the seller
//! serves the next requests.

use super::queue::{Queue, queue};
use crate::pg::wal::{self, Durable};
use crate::pg::worker::{self, Worker};
use crate::pg::{session, signals, wait};
use crate::{settings, workers};
use flashsale_core::slots::Ticket;
use pgrx::pg_sys::{self, XLogRecPtr};
use pgrx::prelude::*;

/// How long an idle publisher sleeps unless its latch wakes it.
const IDLE_MS: i64 = 10_000;
/// How often to check how far the standbys are, as they do not wake this process. PostgreSQL's own
/// wait is for a single level, so a caller that requires less would wait as long as one that
/// requires more.
pub const STANDBY_POLL_MS: i64 = 1;

#[pg_guard]
#[allow(unsafe_code)] // the postmaster looks it up by name
#[unsafe(no_mangle)]
pub extern "C-unwind" fn flashsale_publisher_main(_argument: pg_sys::Datum) {
    work();
}

/// Publishes replies as long as the server runs. They stay on the queue's committed list until they are
/// published, so after a publisher died the next one publishes them.
fn work() {
    let Some(queue) = queue() else { return };
    worker::connect(None); // it touches no table
    if !workers::arrive(Worker::Publisher) {
        return;
    }
    session::before_exit(leave);
    workers::wake(Worker::Seller);
    loop {
        signals::reload_if_requested();
        publish_committed(queue);
        if !wait::yielding(|| queue.committed().is_some()) {
            worker::idle(IDLE_MS);
        } else if wal::standbys_configured() {
            worker::idle(STANDBY_POLL_MS);
        }
        worker::serve_interrupts();
    }
}

/// A reply that was written, and what must be durable before it is published.
pub struct Written {
    pub ticket: Ticket,
    /// The WAL position at which its commit ends; `None` if it does not depend on a commit.
    pub end: Option<XLogRecPtr>,
    /// The caller's `synchronous_commit`.
    pub level: i32,
}

impl Written {
    /// The end of the commit that the caller has to wait for; `None` if it has to wait for none.
    fn awaited(&self, durable: Durable) -> Option<XLogRecPtr> {
        self.end.filter(|&end| !durable.covers(end, self.level))
    }
}

/// Publishes replies, each once its commit is as durable as its own caller requires. Replies that
/// wait for no commit, or for one that is durable already, are published at once. If other requests
/// wait to be served, the rest is left to the publisher. Else a second process would gain nothing: the
/// WAL is flushed here, and only replies that wait for a standby are left to the publisher.
pub fn publish_or_hand_over(queue: Queue, replies: Vec<Written>) {
    if replies.is_empty() {
        return;
    }
    worker::sleep(settings::debug_publish_delay_ms());
    let durable = Durable::now();
    let (at_once, late): (Vec<Written>, Vec<Written>) = replies
        .into_iter()
        .partition(|reply| reply.awaited(durable).is_none());
    queue.publish(at_once.iter().map(|reply| reply.ticket));
    let awaited = late
        .iter()
        .filter_map(|reply| Some((reply.ticket, reply.end?)));
    let Some(end) = awaited.clone().map(|(_, end)| end).max() else {
        return;
    };
    queue.hand_over(awaited);
    if queue.backlog() > 0 && queue.has_publisher() {
        queue.wake_publisher();
        return;
    }
    flush_and_publish(queue, end);
    if queue.committed().is_some() {
        queue.wake_publisher();
    }
}

/// Flushes the WAL for the replies that were handed over, and publishes those whose commits are as
/// durable as their callers require. Does not wait for standbys: replies that need one stay handed
/// over until it has their commit.
pub fn publish_committed(queue: Queue) {
    if let Some(end) = queue.committed() {
        flush_and_publish(queue, end);
    }
}

fn flush_and_publish(queue: Queue, end: XLogRecPtr) {
    wal::flush(end);
    let durable = Durable::flushed(end);
    queue.publish_durable(|end, level| durable.covers(end, level));
}

/// The seller has to publish from now on.
fn leave() {
    workers::leave(Worker::Publisher);
    workers::wake(Worker::Seller);
}
