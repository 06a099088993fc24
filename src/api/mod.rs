//! What SQL sees: one thin function per SQL function, declared in `sql/`.

// The large Err is pgrx's ErrorReport: any other type would lose its SQLSTATE.
#![allow(clippy::result_large_err)]

mod batch;
mod buyer;
mod check;
mod operator;
