//! One bounded try at a move: a subtransaction whose lock waits end in `busy`, not in an error.

use crate::answer;
use crate::backoff::retry_after_ms;
use crate::error::Fault;
use crate::pg::guc;
use crate::pg::subtransaction::{self, End};
use crate::settings;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::PgSqlErrorCode;
use pgrx::spi::{Spi, SpiClient};
use serde_json::Value;

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
    let tried = subtransaction::run(|| {
        guc::bound_lock_timeout(settings::lock_wait_ms());
        guc::pin_search_path();
        match Spi::connect(body) {
            Ok(Verdict::Keep(value)) => (Ok(value), End::Commit),
            Ok(Verdict::Undo(value)) => (Ok(value), End::RollBack),
            Err(fault) => (Err(fault), End::RollBack),
        }
    });
    match tried {
        Ok(done) => done.map(Ok),
        Err(error) => match sqlstate(&error) {
            Some(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE) => Ok(Err(Setback::Busy)),
            Some(PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION) => Ok(Err(Setback::Clash(error))),
            _ => error.rethrow(),
        },
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
