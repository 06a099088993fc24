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
use flashsale_core::outcome::Outcome;

/// Purchases by the strategy and returns the outcome, which is counted in the view `stats`. Under
/// `grouped` 25001 or 55000 if the caller cannot be served by the seller. What is locked is what
/// the strategy locks: see [`sale::obtain`] and, for `grouped`, nothing.
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

/// Gives up a reservation; its units come back once. Under strategy `grouped` the seller does it
/// and nothing is locked afterwards, unless the cancel has to be part of the caller's transaction.
pub fn cancel(order_id: i64, reason: Option<&str>) -> Result<Moved<Cancelled>, Fault> {
    let cancel = Cancel {
        order_id,
        reason,
        by: session::session_user().to_u32(),
    };
    let grouped = match settings::strategy() {
        Strategy::Grouped => caller::cancel(&cancel)?,
        _ => None,
    };
    match grouped {
        Some(cancelled) => Ok(cancelled),
        None => order::cancel(&cancel),
    }
}
