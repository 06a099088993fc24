//! One call: a statement of one row with one value, sent together with its types.
//!
//! Nothing is prepared, so that a call takes one round trip, works through a pooler in transaction
//! mode, and leaves nothing in the session.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio_postgres::types::{FromSql, Json, ToSql, Type};
use tokio_postgres::{GenericClient, Row};

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

/// The one value of a row.
pub(crate) fn value<'a, T: FromSql<'a>>(row: &'a Row) -> Result<T, Error> {
    Ok(row.try_get(0)?)
}
