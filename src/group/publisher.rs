//! The publisher: waits until commits are durable while the seller serves the next buyers.

use super::queue::{Queue, queue};
use crate::pg::wal::{self, Durable};
use crate::pg::worker::{self, Worker};
use crate::pg::{session, signals, wait};
use crate::settings;
use flashsale_core::slots::Ticket;
use pgrx::pg_sys::{self, XLogRecPtr};
use pgrx::prelude::*;

/// The latch wakes an idle publisher; this only bounds what a lost one could do.
const IDLE_MS: i64 = 10_000;
/// Standbys wake nobody here, so what they have is looked at again after this time. PostgreSQL's
/// own wait is for one level of durability, and who asks for less would wait with who asks for more.
pub const STANDBY_POLL_MS: i64 = 1;

/// Replies stay handed over until they are published, so one that dies is made good by
/// the next.
#[pg_guard]
#[allow(unsafe_code)] // the postmaster looks it up by its name
#[unsafe(no_mangle)]
pub extern "C-unwind" fn flashsale_publisher_main(_argument: pg_sys::Datum) {
    let Some(queue) = queue() else { return };
    worker::connect(Worker::Publisher, &settings::database());
    session::before_exit(gone);
    queue.attach_publisher();
    loop {
        signals::reload_if_asked();
        publish_durable(queue);
        if !wait::yielding(|| queue.committed().is_some()) {
            worker::idle(IDLE_MS);
        } else if wal::standbys_wanted() {
            worker::idle(STANDBY_POLL_MS);
        }
        worker::serve_interrupts();
    }
}

/// A reply that was written, and what must be durable before its caller hears of it.
pub struct Written {
    pub ticket: Ticket,
    /// Where its commit ends in the log; `None` for a reply that promises nothing.
    pub end: Option<XLogRecPtr>,
    /// The caller's `synchronous_commit`.
    pub level: i32,
}

impl Written {
    /// The end of the commit that its caller waits for, if it waits for one.
    fn awaited(&self) -> Option<XLogRecPtr> {
        self.end.filter(|_| wal::is_awaited(self.level))
    }
}

/// Publishes replies, each once its own caller's durability is reached: those that wait for
/// nothing at once. While others wait to be served the rest is left to the publisher; else nobody
/// gains by another process, so the log is flushed here, and only who waits for a standby is left.
pub fn publish(queue: Queue, replies: Vec<Written>) {
    if replies.is_empty() {
        return;
    }
    worker::sleep(settings::debug_publish_delay_ms());
    let at_once = replies.iter().filter(|reply| reply.awaited().is_none());
    queue.publish(at_once.map(|reply| reply.ticket));
    let awaited = |reply: &Written| Some((reply.ticket, reply.awaited()?));
    let Some(end) = replies.iter().filter_map(Written::awaited).max() else {
        return;
    };
    queue.hand_over(replies.iter().filter_map(awaited));
    if queue.backlog() > 0 && queue.has_publisher() {
        queue.wake_publisher();
        return;
    }
    flush_and_publish(queue, end);
    if queue.committed().is_some() {
        queue.wake_publisher();
    }
}

/// Flushes the log for what was handed over, and publishes each reply that is as durable as its
/// caller asks. Waits for no standby: who needs one stays handed over until it has the commit.
pub fn publish_durable(queue: Queue) {
    if let Some(end) = queue.committed() {
        flush_and_publish(queue, end);
    }
}

fn flush_and_publish(queue: Queue, end: XLogRecPtr) {
    wal::flush(end);
    let durable = Durable::flushed(end);
    queue.publish_durable(|end, level| durable.covers(end, level));
}

fn gone() {
    if let Some(queue) = queue() {
        queue.detach_publisher();
    }
}
