//! A stand-in for Stripe: the part of its PaymentIntents API that `examples/checkout` speaks,
//! with a book on disk, and faults at the rates it is told.

pub mod book;
pub mod faults;
pub mod server;

mod money;
pub mod webhooks;
