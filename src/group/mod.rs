//! Strategy `grouped`: buyers queue, the seller serves all who wait for an item in one transaction.

pub mod ask;
pub mod durable;
mod publisher;
pub mod queue;
pub mod seller;
