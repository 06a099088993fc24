//! What every strategy shares: replays of a key, and serving a request once the item is held.

use super::Outcome;
use super::fit::{self, Fit, Item, PriorOrder, Request};
use crate::answer::Reason;
use crate::attempt::Verdict;
use crate::clock;
use crate::error::Fault;
use crate::order::machine::Status;
use crate::settings;
use crate::store::{items, orders};
use pgrx::spi::SpiClient;
use std::collections::HashMap;

/// The outcome of a purchase whose key is known already.
pub fn replay(client: &SpiClient<'_>, request: &Request<'_>) -> Result<Option<Outcome>, Fault> {
    Ok(
        orders::by_key(client, request)?.map(|order| match fit::replay(request, &order) {
            None => Outcome::Reserved {
                order,
                replayed: true,
            },
            Some(reason) => Outcome::DeadReplay {
                order_id: order.order_id,
                reason,
            },
        }),
    )
}

/// Serves a request for an item whose row is held: key again, holdings, fit, store.
pub fn serve(
    client: &SpiClient<'_>,
    item: &Item,
    request: &Request<'_>,
) -> Result<Verdict<Outcome>, Fault> {
    // Again, now that the row is held: a twin may have bought while we got here.
    if let Some(replayed) = replay(client, request)? {
        return Ok(Verdict::Undo(replayed));
    }
    let held = match item.max_per_user {
        Some(_) => HashMap::from([(request.user_id, orders::held_units(client, request)?)]),
        None => HashMap::new(),
    };
    let now = clock::now();
    match fit::fit(item, now, &[*request], &held)[..] {
        [
            Fit::Reserved {
                remaining_inventory,
            },
        ] => store(client, item, request, now, remaining_inventory),
        [Fit::Refused(reason)] => Ok(Verdict::Undo(refused(client, item, request, reason)?)),
        _ => Err(Fault::Broken("a list of one repeats nothing")),
    }
}

/// Takes the units if the version is still the one decided on, and writes the order.
fn store(
    client: &SpiClient<'_>,
    item: &Item,
    request: &Request<'_>,
    now: clock::Micros,
    remaining_inventory: i64,
) -> Result<Verdict<Outcome>, Fault> {
    if items::take_versioned(client, item, request.quantity)? != Some(remaining_inventory) {
        return Ok(Verdict::Undo(Outcome::Conflict));
    }
    let expires_at = now
        + item
            .reservation_ttl
            .unwrap_or_else(settings::reservation_ttl);
    let order = PriorOrder {
        order_id: orders::insert(client, item, request, now, expires_at)?,
        quantity: request.quantity,
        status: Status::Reserved,
        expires_at: Some(expires_at),
        unit_price: item.unit_price,
        currency: item.currency.clone(),
        remaining_inventory,
    };
    Ok(Verdict::Keep(Outcome::Reserved {
        order,
        replayed: false,
    }))
}

fn refused(
    client: &SpiClient<'_>,
    item: &Item,
    request: &Request<'_>,
    reason: Reason,
) -> Result<Outcome, Fault> {
    let item = item.clone();
    Ok(match reason {
        Reason::UserLimitReached => Outcome::LimitReached {
            item,
            order_ids: orders::held_orders(client, request)?,
        },
        reason => Outcome::Closed { reason, item },
    })
}

/// Answers a request for an item that could not be held because it is not on sale, from
/// a plain read: the crowd at a sold-out item takes no lock.
pub fn refuse_unheld(
    client: &SpiClient<'_>,
    request: &Request<'_>,
) -> Result<Verdict<Outcome>, Fault> {
    let Some(item) = items::read(client, request.item_id)? else {
        return Ok(Verdict::Undo(Outcome::NotFound));
    };
    let Some(reason) = fit::closed(&item, clock::now()) else {
        // It came on sale between the two statements: worth another try.
        return Ok(Verdict::Undo(Outcome::Busy));
    };
    let outcome = match replay(client, request)? {
        Some(replayed) => replayed,
        None => refused(client, &item, request, reason)?,
    };
    Ok(Verdict::Undo(outcome))
}
