//! The decisions of flashsale: who gets what, what a move does to an order, what becomes of a
//! charge, which arguments make sense. They read no clock, lock nothing and know no PostgreSQL.
//!
//! `cargo test -p flashsale-core` needs no PostgreSQL. `make fuzz` runs the property tests with
//! many more cases, on the stable toolchain. Where a nightly toolchain has Miri,
//! `PROPTEST_CASES=4 MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test -p flashsale-core --lib`
//! runs under it.

#![forbid(unsafe_code)]

pub mod argument;
pub mod cancel;
pub mod charge;
pub mod clicks;
pub mod fate;
pub mod fit;
pub mod gate;
pub mod item;
pub mod limits;
pub mod order;
pub mod outcome;
pub mod pace;
pub mod reason;
pub mod slots;
pub mod time;
