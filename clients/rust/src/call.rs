//! One call: a statement of one row with one value, sent together with its types.
//!
//! Nothing is prepared, so that a call takes one round trip, works through a pooler in transaction
//! mode, and leaves nothing in the session.

use std::pin::pin;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::timeout;
use tokio_postgres::types::{FromSql, Json, ToSql, Type};
use tokio_postgres::{Client, GenericClient, NoTls, Row};

use crate::answer::Answer;
use crate::error::Error;

/// A parameter with its type.
type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// Runs a statement of your own that returns one answer of the extension, such as one with more
/// fields, or of a function that this version of the library does not know.
pub async fn ask<T: DeserializeOwned>(
    client: &impl GenericClient,
    sql: &str,
    parameters: &[Parameter<'_>],
) -> Result<Answer<T>, Error> {
    let row = client.query_typed_one(sql, parameters).await?;
    let Json(answer): Json<&RawValue> = value(&row)?;
    Ok(Answer::read(answer)?)
}

const LONGEST_CANCEL: Duration = Duration::from_secs(1);

/// What became of a call that was bounded in time.
#[derive(Debug)]
pub struct Bounded<T> {
    pub outcome: Result<T, Error>,
    /// Whether the server was asked to cancel the call. Then give up the connection, also if there is
    /// an answer: the request may arrive late, and would end the next call.
    pub was_cancelled: bool,
}

/// Makes a call over the client, and cancels it if it takes longer than `bound`, so that it does not
/// hold its locks on for nobody. If the server answers then, by an error as a rule, this is the outcome.
/// If it does not, within two seconds, the outcome is [`Error::OutcomeUnknown`].
///
/// The server is asked for this over a connection of its own, without TLS. If yours has to be
/// encrypted (`sslmode=require`), set `statement_timeout` as well, a little below `bound`. So do for
/// PgBouncer 1.18, which crashes if the sender of such a request does not wait for its end, as
/// tokio-postgres does not.
pub async fn call_within<T>(
    client: &Client,
    bound: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Bounded<T> {
    let mut call = pin!(call);
    if let Ok(outcome) = timeout(bound, &mut call).await {
        return Bounded {
            outcome,
            was_cancelled: false,
        };
    }
    // An error says that the server cannot be reached; then no answer comes either.
    let _ = timeout(LONGEST_CANCEL, client.cancel_token().cancel_query(NoTls)).await;
    let late = timeout(LONGEST_CANCEL, call).await;
    Bounded {
        outcome: late.unwrap_or_else(|_| {
            let text = format!("no answer within {bound:?}");
            Err(Error::OutcomeUnknown(text.into()))
        }),
        was_cancelled: true,
    }
}

/// The one value of a row.
pub(crate) fn value<'a, T: FromSql<'a>>(row: &'a Row) -> Result<T, Error> {
    Ok(row.try_get(0)?)
}
