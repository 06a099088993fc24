//! Crowds against `examples/checkout`: the programs of a shop, buyers over HTTP, and the three
//! ledgers that must agree in the end.

pub mod buyer;
pub mod database;
pub mod ledgers;
pub mod mistake;
pub mod programs;
pub mod stage;
pub mod storm;
pub mod times;
