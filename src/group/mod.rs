//! Strategy `grouped`: purchases are queued, and the seller serves all that wait for an item in one
//! transaction.

pub mod caller;
mod publisher;
pub mod queue;
mod request;
pub mod seller;
mod transaction;
