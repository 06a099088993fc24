//! Subtransactions, which commit or roll back as a whole, and in which errors are caught.

use pgrx::pg_sys::panic::CaughtError;
use pgrx::pg_sys::{self, PgTryBuilder};
use std::panic::AssertUnwindSafe;

/// How a transaction or subtransaction must end, and the value that it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End<T> {
    /// Commit: a subtransaction's writes and locks become those of its parent.
    Commit(T),
    /// Roll back: its writes are undone, and its locks released.
    RollBack(T),
}

impl<T> End<T> {
    /// The same end with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> End<U> {
        match self {
            Self::Commit(value) => End::Commit(change(value)),
            Self::RollBack(value) => End::RollBack(change(value)),
        }
    }
}

/// Runs `body` in a subtransaction, which ends as `body` determines, and returns its value. An
/// error rolls it back and is returned, so that it can be raised again unchanged.
pub fn run<T>(body: impl FnOnce() -> End<T>) -> Result<T, Box<CaughtError>> {
    let subtransaction = Subtransaction::begin();
    let caught = PgTryBuilder::new(AssertUnwindSafe(|| Ok(body())))
        .catch_others(|error| Err(Box::new(error)))
        .execute();
    match caught {
        Ok(End::Commit(value)) => {
            subtransaction.commit();
            Ok(value)
        }
        Ok(End::RollBack(value)) => {
            subtransaction.roll_back();
            Ok(value)
        }
        Err(error) => {
            subtransaction.roll_back();
            Err(error)
        }
    }
}

/// The innermost subtransaction, with the state to restore when it ends.
struct Subtransaction {
    memory: pg_sys::MemoryContext,
    owner: pg_sys::ResourceOwner,
}

impl Subtransaction {
    fn begin() -> Self {
        // SAFETY: PL/pgSQL's own sequence for a block with an EXCEPTION clause.
        unsafe {
            let outer = Self {
                memory: pg_sys::CurrentMemoryContext,
                owner: pg_sys::CurrentResourceOwner,
            };
            pg_sys::BeginInternalSubTransaction(std::ptr::null());
            pg_sys::MemoryContextSwitchTo(outer.memory);
            outer
        }
    }

    fn commit(self) {
        // SAFETY: the innermost subtransaction is ours, as those that body began have ended.
        unsafe { pg_sys::ReleaseCurrentSubTransaction() };
        self.restore();
    }

    fn roll_back(self) {
        // SAFETY: as in commit; also right after an error was caught.
        unsafe {
            pg_sys::MemoryContextSwitchTo(self.memory);
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        self.restore();
    }

    fn restore(self) {
        // SAFETY: both were current before the subtransaction, so they outlive it.
        unsafe {
            pg_sys::MemoryContextSwitchTo(self.memory);
            pg_sys::CurrentResourceOwner = self.owner;
        }
    }
}
