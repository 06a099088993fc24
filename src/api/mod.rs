//! What SQL sees: one thin function per SQL function, declared in `sql/`.

// The large Err is pgrx's ErrorReport: any other type would lose its SQLSTATE.
#![allow(clippy::result_large_err)]

mod answer;
mod buyer;
mod check;
mod operator;

use crate::error::Fault;
use crate::pg::jsonb::Jsonb;
use crate::store::schema;
use pgrx::pg_sys::panic::ErrorReport;
use serde::Serialize;

/// What most functions return.
type Answer = Result<Jsonb, ErrorReport>;

/// Runs a function and returns its answer.
fn to_jsonb<T: Serialize>(body: impl FnOnce() -> Result<T, Fault>) -> Answer {
    run(|| Jsonb::of(&body()?).map_err(|_| Fault::Broken("an answer is not JSON")))
}

/// Runs a function that uses tables. 55000 if these are of another version than the library.
fn run<T>(body: impl FnOnce() -> Result<T, Fault>) -> Result<T, ErrorReport> {
    schema::check_version()?;
    Ok(body()?)
}
