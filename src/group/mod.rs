//! Strategy `grouped`: buyers queue, the seller serves all who wait for an item in one transaction.

pub mod caller;
mod publisher;
pub mod queue;
mod request;
pub mod seller;
mod transaction;
