//! What happens to items, orders and payments. A purchase from request to outcome: obtain the
//! item, fit the request, store the order.

pub mod atomic;
pub mod batch;
pub mod expiry;
pub mod node;
pub mod nowait;
pub mod numbered;
pub mod optimistic;
pub mod order;
pub mod payment;
pub mod serve;
pub mod stock;

use crate::attempt::attempt_or_busy;
use crate::error::Fault;
use crate::pg::subtransaction::End;
use crate::pg::wal;
use crate::{gate, stats};
use flashsale_core::fit::Request;
use flashsale_core::outcome::Outcome;
use flashsale_core::time::Micros;
use serve::Outcomes;

/// The outcome if the gate is shut for the item; else `None`. If there is an order with the
/// request's key, that is replayed nevertheless. Locks nothing.
pub fn at_the_gate(request: &Request<'_>) -> Result<Option<Outcome>, Fault> {
    if !gate::is_shut(request.item_id) {
        return Ok(None);
    }
    stats::gate_hit();
    if request.idempotency_key.is_none() {
        return Ok(Some(Outcome::sold_out()));
    }
    let replayed = attempt_or_busy(|client| {
        let replayed = serve::replays(client, &[*request])?.pop().flatten();
        Ok(End::RollBack(replayed.unwrap_or_else(Outcome::sold_out)))
    })?;
    let outcome = replayed.unwrap_or(Outcome::Busy);
    make_durable(std::slice::from_ref(&outcome));
    Ok(Some(outcome))
}

/// A strategy: how an item is obtained for requests, which are then served. After the given time, by
/// the monotonic clock, it does not try again.
pub type Obtain = fn(i64, &[Request<'_>], Micros) -> Result<Outcomes, Fault>;

/// Obtains an item and serves requests for it; returns the outcome of each, in their order. If units
/// were sold, the item stays locked until the caller's transaction ends; else nothing stays locked.
pub fn purchase(
    item_id: i64,
    requests: &[Request<'_>],
    obtain: Obtain,
    retry_until: Micros,
) -> Result<Outcomes, Fault> {
    let outcomes = obtain(item_id, requests, retry_until)?;
    make_durable(&outcomes);
    Ok(outcomes)
}

/// A replay writes nothing, so its own commit does not make the order durable that it reports, and
/// the seller's commits are visible before they are durable.
fn make_durable(outcomes: &[Outcome]) {
    if outcomes.iter().any(Outcome::is_replay) {
        wal::make_seen_commits_durable();
    }
}
