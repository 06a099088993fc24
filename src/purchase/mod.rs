//! A purchase from request to outcome: obtain the item, fit the request, store the order.

mod atomic;
pub mod batch;
pub mod fit;
mod nowait;
mod optimistic;
pub mod outcome;
pub mod serve;

use crate::error::Fault;
use crate::group::ask;
use crate::search_path::pinned;
use crate::settings::Strategy;
use crate::{gate, stats};
use fit::Request;
use outcome::Outcome;
use pgrx::spi::Spi;
use serve::Outcomes;

/// Purchases by the strategy.
pub fn purchase(request: &Request<'_>, strategy: Strategy) -> Result<Outcome, Fault> {
    if strategy == Strategy::Grouped {
        ask::check_caller()?;
    }
    let outcome = match at_the_gate(request)? {
        Some(outcome) => outcome,
        None if strategy == Strategy::Grouped => ask::purchase(request)?,
        None => {
            let outcomes = obtain(request.item_id, std::slice::from_ref(request), strategy)?;
            *outcomes
                .first()
                .ok_or(Fault::Broken("a request has no outcome"))?
        }
    };
    stats::answered(strategy.into(), &outcome);
    Ok(outcome)
}

/// The outcome if the item is known to be sold out. A key that stands for an order still
/// gets that order.
fn at_the_gate(request: &Request<'_>) -> Result<Option<Outcome>, Fault> {
    if !gate::is_shut(request.item_id) {
        return Ok(None);
    }
    stats::gate_hit();
    let replayed = match request.idempotency_key {
        None => None,
        Some(_) => pinned(|| Spi::connect(|client| serve::replays(client, &[*request])))?
            .pop()
            .flatten(),
    };
    Ok(Some(replayed.unwrap_or_else(Outcome::sold_out)))
}

/// Serves requests for one item, which the strategies obtain each in its way.
fn obtain(item_id: i64, requests: &[Request<'_>], strategy: Strategy) -> Result<Outcomes, Fault> {
    match strategy {
        // A group is a batch already; `ask` is how a single purchase joins one.
        Strategy::Nowait | Strategy::Grouped => nowait::purchase(item_id, requests),
        Strategy::Optimistic => optimistic::purchase(item_id, requests),
        Strategy::Atomic => atomic::purchase(item_id, requests),
    }
}
