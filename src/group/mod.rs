//! Strategy `grouped`: buyers queue, the seller serves all who wait for an item in one transaction.

pub mod ask;
mod publisher;
pub mod queue;
pub mod seller;
