//! The publisher: waits until commits are durable while the seller serves the next buyers.

use super::queue::{self, QUEUE, Queue};
use crate::pg::memory::LwLock;
use crate::pg::wait;
use crate::pg::wal;
use crate::pg::worker::{self, Worker};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// The latch wakes an idle publisher; this only bounds what a lost one could do.
const IDLE_MS: i64 = 10_000;

/// Answers stay handed over until they are published, so one that dies is made good by
/// the next.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn flashsale_publisher_main(_argument: pg_sys::Datum) {
    let Some(queue) = QUEUE.get() else { return };
    worker::connect(Worker::Publisher);
    wal::set_synchronous_commit(c"off");
    // SAFETY: the hook lives as long as the library, which is never unloaded.
    unsafe {
        pg_sys::before_shmem_exit(Some(gone_at_exit), pg_sys::Datum::null());
    }
    queue::open_publisher();
    loop {
        worker::reload_if_asked();
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

#[pg_guard]
unsafe extern "C-unwind" fn gone_at_exit(_code: i32, _argument: pg_sys::Datum) {
    queue::close_publisher();
}
