//! What can go wrong with a call. A refusal is no error: it is an [`Answer`](crate::Answer).

use std::error::Error as StdError;
use std::sync::Arc;

use tokio_postgres::error::SqlState;

/// An error of a call. Cheap to clone, because all callers of a batch get the same.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server raised an error, such as one about an argument, or the connection failed.
    #[error("{}", explain(.0))]
    Database(#[source] Arc<tokio_postgres::Error>),
    /// The server cancelled a batch, such as for `statement_timeout`, and rolled it back: nothing was
    /// bought.
    #[error("the batch was rolled back: {}", explain(.0))]
    RolledBack(#[source] Arc<tokio_postgres::Error>),
    /// There was no connection to ask over, so nothing was asked.
    #[error("no connection to the database: {0}")]
    NoConnection(#[source] Arc<dyn StdError + Send + Sync>),
    /// The connection was lost, or the answer did not come in time, in mid-call. The call may have
    /// been made. A purchase with a key can be repeated; without one, the reservation expires.
    #[error("it is unknown whether the call was made: {0}")]
    OutcomeUnknown(Arc<str>),
    /// The gatherer's queue is full, because the database is slow: nothing was asked. Tell the user
    /// to come back later.
    #[error("too many purchases are waiting")]
    Overloaded,
    /// The gatherer is being shut down: nothing was asked.
    #[error("the gatherer is closed")]
    Closed,
    /// The answer is not what this version of the library can read.
    #[error("an answer that cannot be read: {0}")]
    Unreadable(#[source] Arc<serde_json::Error>),
}

impl Error {
    /// For pools and connectors: the reason why there is no connection.
    pub fn no_connection(cause: impl StdError + Send + Sync + 'static) -> Self {
        Self::NoConnection(Arc::new(cause))
    }

    /// The SQLSTATE of an error that the server raised.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Error::Database(error) | Error::RolledBack(error) => {
                error.code().map(|state| state.code())
            }
            _ => None,
        }
    }

    /// What the server says about an argument that the extension does not take.
    pub fn about_arguments(&self) -> Option<&str> {
        let Error::Database(error) = self else {
            return None;
        };
        let error = error.as_db_error()?;
        let is_ours = matches!(error.code().code(), "22003" | "22004" | "22023");
        is_ours.then(|| error.message())
    }

    /// Whether the cause passes by itself, so that the call can succeed a moment later: lost
    /// connections, a server that stops or starts, deadlocks, time-outs, too little of something.
    pub fn is_passing(&self) -> bool {
        match self {
            Error::Database(error) => match error.code() {
                Some(state) => is_passing(state.code()),
                None => is_lost(error),
            },
            Error::NoConnection(cause) => !is_refused_for_good(&**cause),
            Error::RolledBack(_) | Error::OutcomeUnknown(_) => true,
            Error::Overloaded | Error::Closed | Error::Unreadable(_) => false,
        }
    }

    /// Whether the call may have been made nevertheless.
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Error::Database(error) => match error.code() {
                Some(state) => may_be_committed(state.code()),
                None => is_lost(error),
            },
            Error::OutcomeUnknown(_) | Error::Unreadable(_) => true,
            Error::RolledBack(_) | Error::NoConnection(_) | Error::Overloaded | Error::Closed => {
                false
            }
        }
    }
}

impl Error {
    /// The error of a batch. The seller never makes one, so that it is rolled back if it is cancelled.
    pub(crate) fn of_batch(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(&SqlState::QUERY_CANCELED) => Self::RolledBack(Arc::new(error)),
            _ => error.into(),
        }
    }

    /// The last error of a call that may have been made, by this try or an earlier one.
    pub(crate) fn into_unknown(self) -> Self {
        match self {
            Self::OutcomeUnknown(_) => self,
            error => Self::OutcomeUnknown(error.to_string().into()),
        }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Error::Database(Arc::new(error))
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Error::Unreadable(Arc::new(error))
    }
}

/// The error with what the server said about it.
fn explain(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => said.to_string(),
        None => error.to_string(),
    }
}

/// An error without a SQLSTATE is about the connection, or about what was asked for.
fn is_lost(error: &tokio_postgres::Error) -> bool {
    error.is_closed() || StdError::source(error).is_some_and(|cause| cause.is::<std::io::Error>())
}

fn is_passing(sqlstate: &str) -> bool {
    matches!(&sqlstate[..2], "08" | "40" | "53")
        || matches!(sqlstate, "55P03" | "57014")
        || sqlstate.starts_with("57P")
}

/// Whether a statement that failed with this may have been committed. A cancelled one (57014) only
/// under the strategy `grouped`, where the seller commits.
fn may_be_committed(sqlstate: &str) -> bool {
    sqlstate.starts_with("08")
        || sqlstate.starts_with("57P")
        || matches!(sqlstate, "40003" | "57014")
}

/// A wrong password, user or database does not mend itself.
fn is_refused_for_good(cause: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(cause);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
            return error
                .code()
                .is_some_and(|state| matches!(&state.code()[..2], "28" | "3D"));
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_committed_has_an_unknown_outcome() {
        for sqlstate in ["08006", "08007", "57P01", "40003", "57014"] {
            assert!(may_be_committed(sqlstate), "{sqlstate}");
        }
        for sqlstate in ["22023", "40001", "40P01", "53300", "55P03"] {
            assert!(!may_be_committed(sqlstate), "{sqlstate}");
        }
    }

    #[test]
    fn errors_of_arguments_do_not_pass() {
        for sqlstate in ["08006", "40001", "53300", "55P03", "57014", "57P03"] {
            assert!(is_passing(sqlstate), "{sqlstate}");
        }
        for sqlstate in ["22023", "22004", "25001", "42501", "55000"] {
            assert!(!is_passing(sqlstate), "{sqlstate}");
        }
        assert!(!Error::Overloaded.is_passing());
        assert!(Error::no_connection(std::io::Error::other("refused")).is_passing());
    }
}
