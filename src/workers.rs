//! Which workers are at work, and if the seller is not, why not.
//!
//! What all processes need to know of it lies in shared memory: the latches of the workers at work,
//! the state of their database, and since when the seller is missed. A transaction that creates,
//! changes or drops a database, an extension or a subscription is counted when it commits, so that the
//! workers look again.

use crate::pg::memory::Shared;
use crate::pg::wait::Latches;
use crate::pg::worker::{WORKERS, Worker};
use crate::pg::{clock, hooks, transaction};
use flashsale_core::launch::{self, DatabaseState, NoSeller};
use flashsale_core::time::Micros;
use std::cell::Cell;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// The latches of the workers that are at work.
pub static LATCHES: Shared<Latches<WORKERS>> = Shared::new(c"flashsale workers");
pub static STATE: Shared<[AtomicI64; STATES]> = Shared::new(c"flashsale workers' state");

/// The numbers in [`STATE`].
#[derive(Clone, Copy)]
enum State {
    /// How many commits have changed what the workers should look at.
    Changes,
    /// A [`DatabaseState`], the changes as of which it was found, and when, by the monotonic clock.
    Database,
    DatabaseAsOf,
    DatabaseAt,
    /// Since when the seller is missed, by the monotonic clock; 0 while it is not.
    MissedSince,
    /// 1 if a worker could not be started because `max_worker_processes` are running.
    IsFull,
}

const STATES: usize = State::IsFull as usize + 1;

impl State {
    fn get(self) -> i64 {
        STATE
            .get()
            .map_or(0, |all| all[self as usize].load(Acquire))
    }

    fn set(self, value: i64) {
        if let Some(all) = STATE.get() {
            all[self as usize].store(value, Release);
        }
    }
}

thread_local! {
    /// Whether this transaction has changed what the workers should look at.
    static HAS_CHANGED: Cell<bool> = const { Cell::new(false) };
}

/// Hooks into what the workers should look at. Call it while the library is preloaded.
pub fn init() {
    hooks::on_change(|| HAS_CHANGED.set(true));
    hooks::at_login(miss_seller);
    transaction::at_end(|ended| {
        // A transaction that is prepared may commit in any session.
        if HAS_CHANGED.replace(false) && ended != transaction::Ended::RolledBack {
            announce_change();
        }
    });
}

fn announce_change() {
    if let (Some(all), Some(latches)) = (STATE.get(), LATCHES.get()) {
        all[State::Changes as usize].fetch_add(1, Release);
        for worker in [Worker::Launcher, Worker::Seller, Worker::Reconciler] {
            latches.wake(worker as usize);
        }
    }
}

/// How many commits so far have changed what the workers should look at.
pub fn changes() -> i64 {
    State::Changes.get()
}

/// This process is at work from now on; false if another one is this worker already.
pub fn arrive(worker: Worker) -> bool {
    let arrived = LATCHES
        .get()
        .is_some_and(|latches| latches.take(worker as usize));
    if arrived && worker == Worker::Seller {
        State::MissedSince.set(0);
    }
    wake(Worker::Launcher);
    arrived
}

/// To be called when a worker that has arrived exits.
pub fn leave(worker: Worker) {
    if let Some(latches) = LATCHES.get() {
        latches.leave(worker as usize);
    }
    if worker == Worker::Seller {
        miss_seller();
    }
    wake(Worker::Launcher);
}

pub fn is_at_work(worker: Worker) -> bool {
    LATCHES
        .get()
        .is_some_and(|latches| latches.is_taken(worker as usize))
}

pub fn wake(worker: Worker) {
    if let Some(latches) = LATCHES.get() {
        latches.wake(worker as usize);
    }
}

/// Notes the state of the workers' database; `changes` is their number before it was looked up.
pub fn set_database_state(state: DatabaseState, changes: i64) {
    State::Database.set(state as i64);
    State::DatabaseAsOf.set(changes);
    State::DatabaseAt.set(clock::monotonic());
}

/// That state, and when it was found, by the monotonic clock.
pub fn database_state() -> (DatabaseState, Micros) {
    (
        DatabaseState::from_number(State::Database.get()),
        State::DatabaseAt.get(),
    )
}

/// Whether somebody should look at the database again: something has changed, or the last look is
/// long ago.
pub fn should_look_again() -> bool {
    let (_, at) = database_state();
    State::DatabaseAsOf.get() != changes() || clock::monotonic() - at >= launch::LOOK_AGAIN_AFTER
}

/// Notes whether all processes that a worker could need are running already.
pub fn set_full(is_full: bool) {
    State::IsFull.set(i64::from(is_full));
}

/// From now on the seller is missed, unless it is there or was missed before.
pub fn miss_seller() {
    if let Some(all) = STATE.get()
        && !is_at_work(Worker::Seller)
        && !transaction::is_in_recovery()
    {
        let now = clock::monotonic();
        let _ = all[State::MissedSince as usize].compare_exchange(0, now, Release, Relaxed);
    }
}

/// Why there is no seller; `None` if there is one, or if it may just be starting.
pub fn no_seller() -> Option<NoSeller> {
    if is_at_work(Worker::Seller) {
        return None;
    }
    miss_seller();
    if database_state().0 == DatabaseState::Copy && State::DatabaseAsOf.get() == changes() {
        return Some(NoSeller::Copy);
    }
    let since = State::MissedSince.get();
    let since = (since != 0).then_some(since);
    if !launch::is_overdue(since, clock::monotonic()) {
        return None;
    }
    Some(
        match State::IsFull.get() == 1 || !is_at_work(Worker::Launcher) {
            true => NoSeller::NoProcess,
            false => NoSeller::DoesNotStart,
        },
    )
}
