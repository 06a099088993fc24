//! One attempt in a subtransaction with a bound on lock waits. A refused lock is returned to the
//! caller instead of raised.

use crate::error::{self, Fault};
use crate::pg::clock;
use crate::pg::guc;
use crate::pg::subtransaction::{self, End};
use crate::pg::transaction;
use crate::settings;
use flashsale_core::time::{MILLISECOND, Micros};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::PgSqlErrorCode;
use pgrx::spi::{Spi, SpiClient};

/// An error that ended an attempt, and for which the caller may have an answer.
#[derive(Debug)]
pub enum Caught {
    /// Another transaction holds a lock (55P03), or the wait for it was part of a deadlock (40P01).
    LockRefused,
    /// Another transaction wrote the same unique key first (23505).
    DuplicateKey(Box<CaughtError>),
}

/// Runs `body` in a subtransaction under `flashsale.lock_wait`, and returns its value.
///
/// Any error rolls the subtransaction back. Errors other than a refused lock or a duplicate key
/// are raised again. So is a deadlock in a transaction block, which may hold locks that are part of it
/// until it ends. pgrx turns a SQLSTATE that PostgreSQL does not define into XX000. The row
/// lock, the update and the insert of a purchase share this one subtransaction: if the row were
/// locked in a released subtransaction and updated in its parent, each sale would create a
/// multixact.
pub fn attempt<T>(
    body: impl FnOnce(&SpiClient<'_>) -> Result<End<T>, Fault>,
) -> Result<Result<T, Caught>, Fault> {
    use PgSqlErrorCode::{
        ERRCODE_LOCK_NOT_AVAILABLE, ERRCODE_T_R_DEADLOCK_DETECTED, ERRCODE_UNIQUE_VIOLATION,
    };
    let is_in_block = transaction::is_in_block();
    let tried = subtransaction::run(|| {
        guc::bound_lock_timeout(settings::lock_wait_ms());
        guc::pin_search_path();
        match Spi::connect(body) {
            Ok(end) => end.map(Ok),
            Err(fault) => End::RollBack(Err(fault)),
        }
    });
    match tried {
        Ok(done) => done.map(Ok),
        Err(error) => match sqlstate(&error) {
            Some(ERRCODE_LOCK_NOT_AVAILABLE) => Ok(Err(Caught::LockRefused)),
            Some(ERRCODE_T_R_DEADLOCK_DETECTED) if !is_in_block => Ok(Err(Caught::LockRefused)),
            Some(ERRCODE_UNIQUE_VIOLATION) => Ok(Err(Caught::DuplicateKey(error))),
            _ => error.rethrow(),
        },
    }
}

/// Like [`attempt`], for moves that write no unique key that another transaction could write;
/// `None` if a lock was refused.
pub fn attempt_or_busy<T>(
    body: impl FnOnce(&SpiClient<'_>) -> Result<End<T>, Fault>,
) -> Result<Option<T>, Fault> {
    answered(attempt(body)?)
}

/// The value of an attempt; `None` if a lock was refused, and a duplicate key is raised.
pub fn answered<T>(tried: Result<T, Caught>) -> Result<Option<T>, Fault> {
    match tried {
        Ok(value) => Ok(Some(value)),
        Err(Caught::LockRefused) => Ok(None),
        Err(Caught::DuplicateKey(error)) => error.rethrow(),
    }
}

/// Bounds each lock wait of the function that is running, which has a SET clause, to what is left of
/// `flashsale.lock_wait` since `begun`, by the monotonic clock; to a millisecond if nothing is left.
pub fn bound_lock_waits_since(begun: Micros) {
    let gone = (clock::monotonic() - begun) / MILLISECOND;
    let left = Micros::from(settings::lock_wait_ms()) - gone;
    guc::bound_lock_timeout(left.max(1) as i32);
}

/// How long a call may still wait, in all, for locks that the triggers of a shop's want.
pub struct Patience {
    left: Micros,
}

impl Patience {
    /// The first wait can take as long as any lock wait of the transaction, and all of them twice as
    /// long. In the seller that is a fifth of `flashsale.group_wait`, less than the share of any group.
    pub fn new() -> Self {
        Self {
            left: 2 * Micros::from(guc::lock_timeout()) * MILLISECOND,
        }
    }

    /// Lets each lock wait of the innermost subtransaction take half of what is left, but a millisecond
    /// at least.
    pub fn bound_lock_waits(&self) {
        guc::bound_lock_timeout((self.left / 2 / MILLISECOND).max(1) as i32);
    }

    /// Less is left, because what began at `since` was in vain, by the monotonic clock.
    pub fn lose(&mut self, since: Micros) {
        self.left = (self.left - (clock::monotonic() - since)).max(0);
    }
}

/// Whether an error may have its reason in one of the rows that a statement writes, all of which the
/// transaction holds: it is that of a trigger or a constraint, or a trigger wanted a lock that another
/// transaction holds. Cancels and shutdowns have not, nor has what goes wrong with the server, as a
/// full disk or a damaged page.
pub fn is_about_one_row(error: &CaughtError) -> bool {
    use PgSqlErrorCode::*;
    if sqlstate(error).is_some_and(error::is_lock_refused) {
        return true;
    }
    let classes = [
        ERRCODE_TRIGGERED_ACTION_EXCEPTION,
        ERRCODE_CARDINALITY_VIOLATION,
        ERRCODE_DATA_EXCEPTION,
        ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION,
        ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
        ERRCODE_SQL_ROUTINE_EXCEPTION,
        ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
        ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION,
        ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,
        ERRCODE_WITH_CHECK_OPTION_VIOLATION,
        ERRCODE_PLPGSQL_ERROR,
    ];
    sqlstate(error).is_some_and(|code| {
        // pgrx turns a SQLSTATE of a shop's own, which PostgreSQL does not define, into XX000.
        code == ERRCODE_INTERNAL_ERROR || classes.iter().any(|of| class(*of) == class(code))
    })
}

/// The first two characters of a SQLSTATE, as PostgreSQL packs them.
fn class(code: PgSqlErrorCode) -> isize {
    code as isize & 0xfff
}

fn sqlstate(error: &CaughtError) -> Option<PgSqlErrorCode> {
    match error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => {
            Some(report.sql_error_code())
        }
        CaughtError::RustPanic { .. } => None,
    }
}
