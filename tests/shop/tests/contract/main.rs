//! What examples/checkout answers over HTTP, against a real database and the stand-in gateway.

mod operators;
mod orders;
mod purchase;
mod requests;
mod reserve;
mod shopper;
mod webhooks;
