//! One bounded try at a move: a subtransaction whose lock waits end in `busy`, not in an error.

use crate::answer;
use crate::backoff::retry_after_ms;
use crate::error::Fault;
use crate::pg::guc::pinned;
use crate::settings;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::pg_sys::{self, PgTryBuilder};
use pgrx::prelude::PgSqlErrorCode;
use pgrx::spi::{Spi, SpiClient};
use serde_json::Value;
use std::panic::AssertUnwindSafe;

/// What a try leaves behind once its answer is known.
pub enum Verdict<T> {
    /// The writes stand.
    Keep(T),
    /// Writes and locks of the try are given back.
    Undo(T),
}

impl<T> Verdict<T> {
    /// The same verdict on another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Verdict<U> {
        match self {
            Self::Keep(value) => Verdict::Keep(change(value)),
            Self::Undo(value) => Verdict::Undo(change(value)),
        }
    }
}

/// Why a try came to nothing.
#[derive(Debug)]
pub enum Setback {
    /// A lock was held by somebody else.
    Busy,
    /// Somebody else wrote the same unique key first.
    Clash(Box<CaughtError>),
}

/// Runs `body` in a subtransaction under `flashsale.lock_wait`.
///
/// Every error but a refused lock or a unique key passes through unchanged, after
/// the subtransaction is rolled back. The row lock, the update and the insert of a
/// purchase share this one subtransaction: a lock taken in a released one and an
/// update in its parent would leave a multixact behind with each sale.
pub fn attempt<T>(
    body: impl FnOnce(&SpiClient<'_>) -> Result<Verdict<T>, Fault>,
) -> Result<Result<T, Setback>, Fault> {
    let nest = Subtransaction::begin();
    let caught = PgTryBuilder::new(AssertUnwindSafe(|| {
        let _bounds = Bounds::set();
        Ok(pinned(|| Spi::connect(body)))
    }))
    .catch_others(|error| Err(Box::new(error)))
    .execute();
    match caught {
        Ok(Ok(Verdict::Keep(value))) => {
            nest.release();
            Ok(Ok(value))
        }
        Ok(Ok(Verdict::Undo(value))) => {
            nest.roll_back();
            Ok(Ok(value))
        }
        Ok(Err(fault)) => {
            nest.roll_back();
            Err(fault)
        }
        Err(error) => {
            nest.roll_back();
            match sqlstate(&error) {
                Some(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE) => Ok(Err(Setback::Busy)),
                Some(PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION) => Ok(Err(Setback::Clash(error))),
                _ => error.rethrow(),
            }
        }
    }
}

/// As [`attempt`], for moves that write no unique key others could write: `None` is busy.
pub fn attempt_or_busy<T>(
    body: impl FnOnce(&SpiClient<'_>) -> Result<Verdict<T>, Fault>,
) -> Result<Option<T>, Fault> {
    match attempt(body)? {
        Ok(value) => Ok(Some(value)),
        Err(Setback::Busy) => Ok(None),
        Err(Setback::Clash(error)) => error.rethrow(),
    }
}

/// As [`attempt_or_busy`], for functions that answer jsonb.
pub fn attempt_answer(
    body: impl FnOnce(&SpiClient<'_>) -> Result<Verdict<Value>, Fault>,
) -> Result<Value, Fault> {
    Ok(attempt_or_busy(body)?.unwrap_or_else(|| answer::busy(retry_after_ms())))
}

fn sqlstate(error: &CaughtError) -> Option<PgSqlErrorCode> {
    match error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => {
            Some(report.sql_error_code())
        }
        CaughtError::RustPanic { .. } => None,
    }
}

/// An internal subtransaction, with what must be put back when it ends.
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

    fn release(self) {
        // SAFETY: the innermost subtransaction is ours; nothing inside it is open.
        unsafe { pg_sys::ReleaseCurrentSubTransaction() };
        self.put_back();
    }

    fn roll_back(self) {
        // SAFETY: as in release; also right after an error was caught.
        unsafe {
            pg_sys::MemoryContextSwitchTo(self.memory);
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        self.put_back();
    }

    fn put_back(self) {
        // SAFETY: both outlive the subtransaction: they were current before it.
        unsafe {
            pg_sys::MemoryContextSwitchTo(self.memory);
            pg_sys::CurrentResourceOwner = self.owner;
        }
    }
}

/// What a try needs to run bounded, put back when dropped.
///
/// `lock_timeout` is `flashsale.lock_wait` unless a shorter one holds. Sequential and
/// bitmap scans are off since plans are kept: one made while a table was small would scan
/// it whole when it has grown, under the item's lock, until the next analyze. The
/// variables are set without set_config_option, which with its undoing costs a purchase
/// more than its row lock does.
struct Bounds {
    lock_timeout_ms: i32,
    seqscan: bool,
    bitmapscan: bool,
}

impl Bounds {
    fn set() -> Self {
        let lock_wait_ms = settings::lock_wait_ms();
        // SAFETY: settings of a single-threaded backend, within their ranges.
        unsafe {
            let before = Self {
                lock_timeout_ms: pg_sys::LockTimeout,
                seqscan: pg_sys::enable_seqscan,
                bitmapscan: pg_sys::enable_bitmapscan,
            };
            if before.lock_timeout_ms == 0 || before.lock_timeout_ms > lock_wait_ms {
                pg_sys::LockTimeout = lock_wait_ms;
            }
            pg_sys::enable_seqscan = false;
            pg_sys::enable_bitmapscan = false;
            before
        }
    }
}

impl Drop for Bounds {
    fn drop(&mut self) {
        // SAFETY: what they were before.
        unsafe {
            pg_sys::LockTimeout = self.lock_timeout_ms;
            pg_sys::enable_seqscan = self.seqscan;
            pg_sys::enable_bitmapscan = self.bitmapscan;
        }
    }
}
