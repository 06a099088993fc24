//! All errors that a caller can get, each with its SQLSTATE. Business outcomes are answers, not
//! errors.

use flashsale_core::argument::Invalid;
use flashsale_core::guard::Refusal;
use flashsale_core::launch::NoSeller;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::spi::SpiError;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum Fault {
    #[error(transparent)]
    Argument(#[from] Invalid),

    /// Only for functions that return no answer that could be `busy`.
    #[error("another transaction holds a lock that {0} needs")]
    Locked(&'static str),

    #[error("{0} needs flashsale in shared_preload_libraries")]
    NotPreloaded(&'static str),

    /// The objects in this database and the library do not belong together.
    #[error("flashsale is of version {installed} in this database, and the library of {library}")]
    OtherVersion {
        installed: String,
        library: &'static str,
        is_older: bool,
    },

    #[error("strategy grouped works only in the database that flashsale.database names")]
    OtherDatabase,

    #[error("strategy grouped has no seller: {}", why_no_seller(*.0))]
    NoSeller(NoSeller),

    #[error("strategy grouped commits on its own and cannot be used {0}")]
    NotOnItsOwn(&'static str),

    #[error("{}", .0.message)]
    Protected(Refusal),

    #[error("no id below 2^53 is left")]
    NoMoreIds,

    #[error("cannot sell in a read-only transaction")]
    ReadOnly,

    /// An error of PostgreSQL or of a trigger that occurred in a worker.
    #[error("{message}")]
    Raised {
        sqlstate: PgSqlErrorCode,
        message: String,
        detail: String,
        hint: String,
    },

    #[error("it cannot be known whether the change of order {0} would survive a failover")]
    OutcomeUnknown(i64),

    /// The caller's snapshot cannot see a row that another transaction wrote.
    #[error("could not serialize access due to concurrent update")]
    Serialization,

    #[error("a trigger on flashsale.orders suppressed the {0} of an order")]
    Suppressed(&'static str),

    #[error("internal error: {0}")]
    Broken(&'static str),

    #[error(transparent)]
    Spi(#[from] SpiError),
}

impl Fault {
    pub fn sqlstate(&self) -> PgSqlErrorCode {
        use PgSqlErrorCode::*;
        match self {
            Self::Argument(Invalid::Null { .. }) => ERRCODE_NULL_VALUE_NOT_ALLOWED,
            Self::Argument(Invalid::Value { .. } | Invalid::Foreign { .. }) => {
                ERRCODE_INVALID_PARAMETER_VALUE
            }
            Self::Argument(Invalid::OutOfRange { .. }) => ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
            Self::Locked(_) => ERRCODE_LOCK_NOT_AVAILABLE,
            Self::NotPreloaded(_)
            | Self::OtherVersion { .. }
            | Self::OtherDatabase
            | Self::NoSeller(_) => ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Self::NotOnItsOwn(_) => ERRCODE_ACTIVE_SQL_TRANSACTION,
            Self::Protected(_) => ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            Self::Suppressed(_) => ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
            Self::NoMoreIds => ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED,
            Self::ReadOnly => ERRCODE_READ_ONLY_SQL_TRANSACTION,
            Self::Raised { sqlstate, .. } => *sqlstate,
            Self::OutcomeUnknown(_) => ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN,
            Self::Serialization => ERRCODE_T_R_SERIALIZATION_FAILURE,
            Self::Broken(_) | Self::Spi(_) => ERRCODE_INTERNAL_ERROR,
        }
    }
}

/// Whether the error says that another transaction holds a lock, at the end of a wait or at once.
pub fn is_lock_refused(sqlstate: PgSqlErrorCode) -> bool {
    use PgSqlErrorCode::{ERRCODE_LOCK_NOT_AVAILABLE, ERRCODE_T_R_DEADLOCK_DETECTED};
    matches!(
        sqlstate,
        ERRCODE_LOCK_NOT_AVAILABLE | ERRCODE_T_R_DEADLOCK_DETECTED
    )
}

impl From<&CaughtError> for Fault {
    fn from(error: &CaughtError) -> Self {
        let (CaughtError::PostgresError(report)
        | CaughtError::ErrorReport(report)
        | CaughtError::RustPanic {
            ereport: report, ..
        }) = error;
        Self::Raised {
            sqlstate: report.sql_error_code(),
            message: report.message().to_owned(),
            detail: report.detail().unwrap_or_default().to_owned(),
            hint: report.hint().unwrap_or_default().to_owned(),
        }
    }
}

impl From<Fault> for ErrorReport {
    fn from(fault: Fault) -> Self {
        let report = ErrorReport::new(fault.sqlstate(), fault.to_string(), "flashsale");
        match fault {
            Fault::Broken(_) => report.set_hint("See flashsale.audit()."),
            Fault::NotPreloaded(_) => report.set_hint(
                "Add flashsale to shared_preload_libraries and restart the server. The other strategies work without it.",
            ),
            Fault::OtherVersion { is_older, .. } => report.set_hint(what_updates(is_older)),
            Fault::OtherDatabase => report.set_hint(
                "Set flashsale.database to this database and restart the server, or use another strategy.",
            ),
            Fault::Protected(refusal) => report.set_hint(refusal.hint),
            Fault::NoSeller(why) => report.set_hint(what_without_seller(why)),
            Fault::NotOnItsOwn(_) => report.set_hint(
                "Call it outside a transaction block at READ COMMITTED, or use strategy nowait.",
            ),
            Fault::OutcomeUnknown(order_id) => report.set_hint(format!(
                "It is committed on this server: see flashsale.get_order({order_id})."
            )),
            Fault::Raised { detail, hint, .. } => with_texts(report, detail, hint),
            _ => report,
        }
    }
}

/// What makes the versions agree; `is_older` says that the database has the older one.
pub fn what_updates(is_older: bool) -> &'static str {
    match is_older {
        true => "Call ALTER EXTENSION flashsale UPDATE.",
        false => {
            "This session has loaded the earlier library. Restart the server if flashsale is preloaded, else connect again."
        }
    }
}

fn why_no_seller(why: NoSeller) -> &'static str {
    match why {
        NoSeller::NoProcess => "no background worker could be started for it",
        NoSeller::Copy => "the tables of this database are the copy of a subscription",
        NoSeller::DoesNotStart => "it does not start",
    }
}

fn what_without_seller(why: NoSeller) -> &'static str {
    match why {
        NoSeller::NoProcess => {
            "Raise max_worker_processes and restart the server, or use another strategy."
        }
        NoSeller::Copy => "Sell on the server that it copies, or drop the subscription.",
        NoSeller::DoesNotStart => "See the server's log, or use another strategy.",
    }
}

fn with_texts(report: ErrorReport, detail: String, hint: String) -> ErrorReport {
    let report = match detail.is_empty() {
        true => report,
        false => report.set_detail(detail),
    };
    match hint.is_empty() {
        true => report,
        false => report.set_hint(hint),
    }
}
