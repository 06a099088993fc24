//! Crowds of buyers against `examples/checkout` with a faulty gateway, and the three ledgers
//! that have to agree afterwards: the orders, the payments, and the gateway's book.
//!
//! [`Buyer::buy`] is how a client treats the app, [`Ledgers::complaints`] what must never be
//! found.

mod buyer;
mod ledgers;
mod programs;
mod rush;
mod session;
mod shop;
mod tally;
mod trouble;

pub use buyer::{Buyer, Done, Door, Temper};
pub use ledgers::Ledgers;
pub use programs::Program;
pub use rush::{Outcome, Rush};
pub use session::cookie;
pub use shop::{Plan, Secrets, Shop};
pub use tally::Tally;
