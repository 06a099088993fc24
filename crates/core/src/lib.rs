//! The decisions of flashsale: which buyers get units, what a move does to an order, whether a
//! charge pays its order or is due for refund, which arguments are valid. This crate reads no
//! clock, takes no lock and does not depend on PostgreSQL.
//!
//! `cargo test -p flashsale-core` needs no PostgreSQL. `make fuzz` runs the property tests with
//! many more cases, on the stable toolchain. With a nightly toolchain that includes Miri, run
//! `PROPTEST_CASES=4 MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test -p flashsale-core --lib`.

#![forbid(unsafe_code)]

pub mod argument;
pub mod cancel;
pub mod charge;
pub mod clicks;
pub mod fate;
pub mod fit;
pub mod flush;
pub mod gate;
pub mod guard;
pub mod item;
pub mod launch;
pub mod limits;
pub mod node;
pub mod order;
pub mod order_ref;
pub mod outcome;
pub mod pace;
pub mod reason;
pub mod slots;
pub mod time;
