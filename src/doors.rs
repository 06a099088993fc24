//! Which strategy serves a call: the only file that knows them all.

use crate::error::Fault;
use crate::group::caller;
use crate::pg::session;
use crate::sale::{self, Obtain, atomic, batch, nowait, optimistic, order};
use crate::settings::{self, Strategy};
use crate::stats;
use flashsale_core::cancel::{Cancel, Cancelled};
use flashsale_core::fit::Request;
use flashsale_core::order::Moved;
use flashsale_core::order_ref::OrderName;
use flashsale_core::outcome::Outcome;
use flashsale_core::time::Micros;

/// Makes a purchase under the strategy and returns its outcome, which the view `stats` counts.
/// Raises 25001 or 55000 under `grouped` if the seller cannot serve the caller. Locks what the
/// strategy locks: see [`sale::purchase`]; under `grouped` nothing.
pub fn purchase(request: &Request<'_>, strategy: Strategy) -> Result<Outcome, Fault> {
    let obtain = obtain(strategy);
    if obtain.is_none() {
        caller::check_caller()?;
    }
    let request_alone = std::slice::from_ref(request);
    let outcome = match (sale::at_the_gate(request)?, obtain) {
        // The seller's replays wait for standbys, too.
        (Some(outcome), None) if outcome.is_replay() => caller::purchase(request)?,
        (Some(outcome), _) => outcome,
        (None, None) => caller::purchase(request)?,
        (None, Some(obtain)) => {
            *sale::purchase(request.item_id, request_alone, obtain, Micros::MAX)?
                .first()
                .ok_or(Fault::Broken("a request has no outcome"))?
        }
    };
    stats::answered(strategy.into(), &outcome);
    Ok(outcome)
}

/// Makes many purchases under the strategy, and returns the outcome of each, in their order. Only
/// single purchases are passed to the seller: a batch is a group already, of which much would be lost
/// if all of it were busy. Under `grouped` it waits for each item as under `atomic`.
pub fn purchase_batch(requests: &[Request<'_>], strategy: Strategy) -> Result<Vec<Outcome>, Fault> {
    batch::purchase(requests, obtain(strategy).unwrap_or(atomic::purchase))
}

/// How a strategy obtains an item in the caller's transaction; `None`: the seller does it in one of
/// its own.
fn obtain(strategy: Strategy) -> Option<Obtain> {
    match strategy {
        Strategy::Nowait => Some(nowait::purchase),
        Strategy::Optimistic => Some(optimistic::purchase),
        Strategy::Atomic => Some(atomic::purchase),
        Strategy::Grouped => None,
    }
}

/// Cancels an order and returns its units to the item; a repeat returns none. Under `grouped` the
/// seller does it, and the caller holds no lock afterwards, unless the cancel has to be part of the
/// caller's transaction.
pub fn cancel(name: &OrderName<'_>, reason: Option<&str>) -> Result<Moved<Cancelled>, Fault> {
    let grouped = match (settings::strategy(), name.key()) {
        (Strategy::Grouped, Some((order_id, code))) => caller::cancel(&Cancel {
            order_id,
            code,
            reason,
            by: session::session_user().to_u32(),
        })?,
        _ => None,
    };
    match grouped {
        Some(cancelled) => Ok(cancelled),
        None => order::cancel(name, reason),
    }
}
