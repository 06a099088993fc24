//! This process's transaction and its end, and the state of other transactions.

use pgrx::pg_sys::{self, TransactionId};
use std::ffi::c_void;

pub fn is_read_only() -> bool {
    // SAFETY: reads this process's own state.
    unsafe { pg_sys::XactReadOnly }
}

/// Whether all its statements share one snapshot: under REPEATABLE READ or SERIALIZABLE.
pub fn has_one_snapshot() -> bool {
    // SAFETY: reads this process's own state.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Whether it does not end with the current statement: in a transaction block or subtransaction.
pub fn is_in_block() -> bool {
    // SAFETY: reads this process's own state.
    unsafe { pg_sys::IsTransactionBlock() || pg_sys::GetCurrentTransactionNestLevel() > 1 }
}

/// Whether this server is a standby, or still recovering.
pub fn is_in_recovery() -> bool {
    // SAFETY: reads shared memory, which exists from the server's start.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// Its id; `None` until it writes something.
pub fn id() -> Option<TransactionId> {
    // SAFETY: reads this process's own state.
    let id = unsafe { pg_sys::GetTopTransactionIdIfAny() };
    (id != pg_sys::InvalidTransactionId).then_some(id)
}

/// Whether a transaction of any process is still running. Call it within a transaction.
pub fn is_in_progress(id: TransactionId) -> bool {
    // SAFETY: reads the list of running transactions.
    unsafe { pg_sys::TransactionIdIsInProgress(id) }
}

/// Whether a transaction that has ended committed. Call it within a transaction.
pub fn has_committed(id: TransactionId) -> bool {
    // SAFETY: reads the commit log.
    unsafe { pg_sys::TransactionIdDidCommit(id) }
}

/// Runs `body` under a snapshot taken now, even if the transaction has a snapshot of its own. After
/// an error the end of the (sub)transaction pops the snapshot.
pub fn with_latest_snapshot<T>(body: impl FnOnce() -> T) -> T {
    // SAFETY: called within a transaction.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
    let done = body();
    // SAFETY: body has popped the snapshots that it pushed, so the active one was pushed above.
    unsafe { pg_sys::PopActiveSnapshot() };
    done
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its changes are visible to others.
    Committed,
    /// By PREPARE TRANSACTION: it may commit at any time, in any session.
    Prepared,
    RolledBack,
}

/// Runs `callback` at the end of each transaction of this process. It must raise no error.
pub fn at_end(callback: fn(Ended)) {
    // SAFETY: call() lives as long as the library, which is never unloaded; it gets the function
    // that is passed here.
    unsafe { pg_sys::RegisterXactCallback(Some(call), callback as *mut c_void) };
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn call(event: pg_sys::XactEvent::Type, argument: *mut c_void) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    // SAFETY: at_end() alone registers this callback, always with a `fn(Ended)`.
    let callback = unsafe { std::mem::transmute::<*mut c_void, fn(Ended)>(argument) };
    match event {
        XACT_EVENT_COMMIT => callback(Ended::Committed),
        XACT_EVENT_PREPARE => callback(Ended::Prepared),
        XACT_EVENT_ABORT => callback(Ended::RolledBack),
        _ => {}
    }
}
