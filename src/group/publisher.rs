//! The publisher: waits until commits are durable while the seller serves the next buyers.

use super::queue::{self, QUEUE, Queue};
use crate::pg::memory::LwLock;
use crate::pg::wal;
use crate::pg::worker::{self, Worker};
use crate::pg::{session, signals, wait};
use crate::settings;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// The latch wakes an idle publisher; this only bounds what a lost one could do.
const IDLE_MS: i64 = 10_000;

/// Answers stay handed over until they are published, so one that dies is made good by
/// the next.
#[pg_guard]
#[allow(unsafe_code)] // the postmaster looks it up by its name
#[unsafe(no_mangle)]
pub extern "C-unwind" fn flashsale_publisher_main(_argument: pg_sys::Datum) {
    let Some(queue) = QUEUE.get() else { return };
    worker::connect(Worker::Publisher, &settings::database());
    wal::set_synchronous_commit(c"off");
    session::before_exit(queue::close_publisher);
    queue::open_publisher();
    loop {
        signals::reload_if_asked();
        if !publish(queue) && !wait::yielding(|| queue::committed(queue).is_some()) {
            worker::idle(IDLE_MS);
        }
        worker::serve_interrupts();
    }
}

/// Publishes what was handed over, once it is durable. False if there was nothing.
pub fn publish(queue: &LwLock<Queue>) -> bool {
    let Some((end, level)) = queue::committed(queue) else {
        return false;
    };
    if wal::wait(end, level) {
        queue::publish_committed(queue, end);
    }
    true
}
