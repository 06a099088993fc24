//! The decisions of flashsale, without PostgreSQL: what is in here reads no table, takes no lock
//! and knows no clock, so that plain `cargo test` covers it.

#![forbid(unsafe_code)]

pub mod slots;
