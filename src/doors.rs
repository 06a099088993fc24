//! Which strategy serves a call: the only file that knows them all.

use crate::error::Fault;
use crate::group::caller;
use crate::pg::session;
use crate::sale::{self, order};
use crate::settings::{self, Strategy};
use crate::stats;
use flashsale_core::cancel::{Cancel, Cancelled};
use flashsale_core::fit::Request;
use flashsale_core::order::Moved;
use flashsale_core::order_ref::OrderName;
use flashsale_core::outcome::Outcome;

/// Makes a purchase under the strategy and returns its outcome, which the view `stats` counts.
/// Raises 25001 or 55000 under `grouped` if the seller cannot serve the caller. Locks what the
/// strategy locks: see [`sale::obtain`]; under `grouped` nothing.
pub fn purchase(request: &Request<'_>, strategy: Strategy) -> Result<Outcome, Fault> {
    if strategy == Strategy::Grouped {
        caller::check_caller()?;
    }
    let request_alone = std::slice::from_ref(request);
    let outcome = match sale::at_the_gate(request)? {
        Some(outcome) => outcome,
        None if strategy == Strategy::Grouped => caller::purchase(request)?,
        None => *sale::obtain(request.item_id, request_alone, strategy)?
            .first()
            .ok_or(Fault::Broken("a request has no outcome"))?,
    };
    stats::answered(strategy.into(), &outcome);
    Ok(outcome)
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
