//! Subtransactions: what runs in one is kept or undone as a whole, and an error in it is caught.

use pgrx::pg_sys::panic::CaughtError;
use pgrx::pg_sys::{self, PgTryBuilder};
use std::panic::AssertUnwindSafe;

/// How a subtransaction is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// What it wrote and locked becomes part of the transaction around it.
    Commit,
    /// What it wrote is undone, and what it locked is free.
    RollBack,
}

/// Runs `body` in a subtransaction, which ends as `body` says. An error rolls it back and is
/// returned; whoever rethrows it rethrows it as it was.
pub fn run<T>(body: impl FnOnce() -> (T, End)) -> Result<T, Box<CaughtError>> {
    let subtransaction = Subtransaction::begin();
    let caught = PgTryBuilder::new(AssertUnwindSafe(|| Ok(body())))
        .catch_others(|error| Err(Box::new(error)))
        .execute();
    match caught {
        Ok((done, End::Commit)) => {
            subtransaction.commit();
            Ok(done)
        }
        Ok((done, End::RollBack)) => {
            subtransaction.roll_back();
            Ok(done)
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
