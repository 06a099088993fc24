//! Every error a caller can meet, with its SQLSTATE; business outcomes are answers, not errors.

use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::spi::SpiError;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum Fault {
    #[error("{name} must not be NULL")]
    NullArgument { name: &'static str },

    #[error("{name} is {value}: {rule}")]
    InvalidArgument {
        name: &'static str,
        value: String,
        rule: String,
    },

    #[error("{name} is {value}: {rule}")]
    OutOfRange {
        name: &'static str,
        value: String,
        rule: String,
    },

    /// Only where the result is no answer that could say `busy`.
    #[error("another transaction holds what {0} needs")]
    Locked(&'static str),

    #[error("strategy {0} is not available in this version")]
    StrategyUnavailable(&'static str),

    /// A row that another transaction wrote cannot be seen under the caller's snapshot.
    #[error("could not serialize access due to concurrent update")]
    Serialization,

    #[error("the store broke its own rule: {0}")]
    Broken(&'static str),

    #[error(transparent)]
    Spi(#[from] SpiError),
}

impl Fault {
    /// A value that makes no sense (22023).
    pub fn invalid(name: &'static str, value: impl ToString, rule: impl Into<String>) -> Self {
        Self::InvalidArgument {
            name,
            value: value.to_string(),
            rule: rule.into(),
        }
    }

    /// A number too large to be counted with (22003).
    pub fn out_of_range(name: &'static str, value: impl ToString, rule: impl Into<String>) -> Self {
        Self::OutOfRange {
            name,
            value: value.to_string(),
            rule: rule.into(),
        }
    }

    fn sqlstate(&self) -> PgSqlErrorCode {
        use PgSqlErrorCode::*;
        match self {
            Self::NullArgument { .. } => ERRCODE_NULL_VALUE_NOT_ALLOWED,
            Self::InvalidArgument { .. } => ERRCODE_INVALID_PARAMETER_VALUE,
            Self::OutOfRange { .. } => ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
            Self::Locked(_) => ERRCODE_LOCK_NOT_AVAILABLE,
            Self::StrategyUnavailable(_) => ERRCODE_FEATURE_NOT_SUPPORTED,
            Self::Serialization => ERRCODE_T_R_SERIALIZATION_FAILURE,
            Self::Broken(_) | Self::Spi(_) => ERRCODE_INTERNAL_ERROR,
        }
    }
}

impl From<Fault> for ErrorReport {
    fn from(fault: Fault) -> Self {
        let report = ErrorReport::new(fault.sqlstate(), fault.to_string(), "flashsale");
        match fault {
            Fault::Broken(_) => report.set_hint("See flashsale.audit()."),
            Fault::StrategyUnavailable(_) => report.set_hint("Use strategy nowait."),
            _ => report,
        }
    }
}
