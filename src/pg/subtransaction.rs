//! Subtransactions: what runs in one is kept or undone as a whole, and an error in it is caught.

use pgrx::pg_sys::panic::CaughtError;
use pgrx::pg_sys::{self, PgTryBuilder};
use std::panic::AssertUnwindSafe;

/// How a transaction or a subtransaction is to end, and the value that it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End<T> {
    /// What it wrote and locked becomes part of the transaction around it.
    Commit(T),
    /// What it wrote is undone, and what it locked is free.
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

/// Runs `body` in a subtransaction, which ends as `body` says, and returns its value. An error
/// rolls it back and is returned, to be rethrown unchanged.
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

/// The innermost subtransaction, with what must be put back when it ends.
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
        // SAFETY: the innermost subtransaction is ours: whatever body began has ended with it.
        unsafe { pg_sys::ReleaseCurrentSubTransaction() };
        self.put_back();
    }

    fn roll_back(self) {
        // SAFETY: as in commit; also right after an error was caught.
        unsafe {
            pg_sys::MemoryContextSwitchTo(self.memory);
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        self.put_back();
    }

    fn put_back(self) {
        // SAFETY: both were current before the subtransaction, so they outlive it.
        unsafe {
            pg_sys::MemoryContextSwitchTo(self.memory);
            pg_sys::CurrentResourceOwner = self.owner;
        }
    }
}
