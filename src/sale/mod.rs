//! A purchase from request to outcome: obtain the item, fit the request, store the order.

mod atomic;
pub mod batch;
pub mod expiry;
mod nowait;
mod optimistic;
pub mod order;
pub mod payment;
pub mod serve;
pub mod stock;

use crate::attempt::{Verdict, attempt_or_busy};
use crate::error::Fault;
use crate::pg::wal;
use crate::settings::Strategy;
use crate::{gate, stats};
use flashsale_core::fit::Request;
use flashsale_core::outcome::Outcome;
use serve::Outcomes;

/// The outcome if the item is known to be sold out. A key that stands for an order still
/// gets that order.
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
        Ok(Verdict::Undo(replayed.unwrap_or_else(Outcome::sold_out)))
    })?;
    let outcome = replayed.unwrap_or(Outcome::Busy);
    make_durable(std::slice::from_ref(&outcome));
    Ok(Some(outcome))
}

/// Serves requests for one item, which the strategies obtain each in its way.
pub fn obtain(
    item_id: i64,
    requests: &[Request<'_>],
    strategy: Strategy,
) -> Result<Outcomes, Fault> {
    let outcomes = match strategy {
        // A batch is a group already; only a single purchase joins one.
        Strategy::Nowait | Strategy::Grouped => nowait::purchase(item_id, requests),
        Strategy::Optimistic => optimistic::purchase(item_id, requests),
        Strategy::Atomic => atomic::purchase(item_id, requests),
    }?;
    make_durable(&outcomes);
    Ok(outcomes)
}

/// A replay writes nothing, so no commit of its own makes durable what it tells of; and the
/// seller's commits are seen before they are.
fn make_durable(outcomes: &[Outcome]) {
    if outcomes.iter().any(Outcome::is_replay) {
        wal::by_now();
    }
}
