//! What every strategy shares: replays of keys, and serving requests once their item is obtained.

use super::expiry::{ForSale, Freed};
use crate::backoff;
use crate::error::Fault;
use crate::gate;
use crate::pg::clock;
use crate::pg::subtransaction::End;
use crate::sale::numbered::attempt_or_busy;
use crate::store::items::Need;
use crate::store::stale::{self, StaleOfItem};
use crate::store::{Found, items, orders};
use flashsale_core::fit::{self, Fit, PriorOrder, Request};
use flashsale_core::gate::Epoch;
use flashsale_core::item::Item;
use flashsale_core::order::Status;
use flashsale_core::order_ref::OrderRef;
use flashsale_core::outcome::Outcome;
use flashsale_core::reason::Reason;
use flashsale_core::time::Micros;
use pgrx::spi::SpiClient;
use std::collections::HashMap;

/// How many times requests are fitted while there turn out to be fewer stale units, as others lock
/// their orders. Then they are refused, as the item is locked meanwhile.
const MOST_FITS: u32 = 3;

/// How the item was obtained.
#[derive(Clone, Copy)]
pub enum Obtained {
    /// Its row is locked.
    Locked,
    /// Its row is locked, and the units of the requests have been taken from its inventory.
    Taken,
    /// It was read without a lock, since this epoch of its gate. Its version is compared when units
    /// are taken.
    Read(Epoch),
}

/// The outcomes of requests for one item, in the order of the requests.
pub type Outcomes = Vec<Outcome>;

/// The outcomes of requests for whose key there is already an order, `None` for the others. Locks
/// nothing.
pub fn replays(
    client: &SpiClient<'_>,
    requests: &[Request<'_>],
) -> Result<Vec<Option<Outcome>>, Fault> {
    let known = orders::by_keys(client, requests)?;
    let known = requests.iter().zip(known);
    Ok(known
        .map(|(request, prior)| prior.map(|order| replay(request, order)))
        .collect())
}

/// The outcome of a request for whose key there is already an order.
fn replay(request: &Request<'_>, order: PriorOrder) -> Outcome {
    match fit::replay(request, &order) {
        None => Outcome::Reserved {
            order,
            replayed: true,
        },
        Some(reason) => Outcome::DeadReplay {
            order_ref: order.order_ref,
            reason,
        },
    }
}

/// Tries once, and then up to `retries` times more while `should_retry` is true of the outcomes, but
/// not after `until`, by the monotonic clock. Before each of these it pauses for about
/// `flashsale.retry_delay`.
pub fn retry_while(
    should_retry: impl Fn(&Outcomes) -> bool,
    retries: i32,
    until: Micros,
    try_once: impl Fn() -> Result<Outcomes, Fault>,
) -> Result<Outcomes, Fault> {
    let mut outcomes = try_once()?;
    for _ in 0..retries {
        if !should_retry(&outcomes) || clock::monotonic() >= until {
            break;
        }
        backoff::pause();
        outcomes = try_once()?;
    }
    Ok(outcomes)
}

/// Runs `body` in a subtransaction of its own, and again if the sequence returned the id of another
/// order; all outcomes are busy if a lock was refused.
pub fn attempt(
    requests: &[Request<'_>],
    body: impl Fn(&SpiClient<'_>) -> Result<End<Outcomes>, Fault>,
) -> Result<Outcomes, Fault> {
    Ok(attempt_or_busy(body)?.unwrap_or_else(|| vec![Outcome::Busy; requests.len()]))
}

/// Like [`attempt`], but if all requests are replays, `body` is not run and nothing is locked.
pub fn attempt_unless_replayed(
    requests: &[Request<'_>],
    body: impl Fn(&SpiClient<'_>) -> Result<End<Outcomes>, Fault>,
) -> Result<Outcomes, Fault> {
    attempt(requests, |client| match all_replayed(client, requests)? {
        Some(replayed) => Ok(End::RollBack(replayed)),
        None => body(client),
    })
}

/// The outcomes if every request is a replay, else `None`.
fn all_replayed(
    client: &SpiClient<'_>,
    requests: &[Request<'_>],
) -> Result<Option<Outcomes>, Fault> {
    if requests
        .iter()
        .any(|request| request.idempotency_key.is_none())
    {
        return Ok(None);
    }
    Ok(replays(client, requests)?.into_iter().collect())
}

/// Serves requests for an item whose row is locked, or whose version is compared later (see
/// `optimistic`): reads holdings and keys, fits the requests, stores the orders. If units are
/// missing, stale reservations of the item are expired first. Returns the outcomes, to be committed
/// if there is a new order. If the version has changed, all but replays are conflicts. Locks the
/// item's row, the orders that it expires and the new orders. Runs in the transaction of its caller.
pub fn serve(
    client: &SpiClient<'_>,
    item: &Found,
    requests: &[Request<'_>],
    obtained: Obtained,
) -> Result<End<Outcomes>, Fault> {
    let held = holdings(client, item, requests)?;
    // Again, because another call with the same key may have bought before the item was obtained.
    let mut outcomes = replays(client, requests)?;
    if let Obtained::Taken = obtained {
        give_back_in(&mut outcomes, item);
    }
    let fresh = without_outcome(&outcomes, requests);
    let mut supply = Supply::of(item, clock::now(), &fresh, &held);
    if supply.is_short() {
        match obtained {
            Obtained::Locked => supply.add_stale(client)?,
            // It has one request, whose units have been taken, so this is not refused for want of them.
            Obtained::Taken => {}
            Obtained::Read(epoch) => match supply.stale_units(client, epoch)? {
                None => return Ok(conflicts(outcomes)),
                Some(stale) if supply.sells_of(stale) > 0 => {
                    let lock = || items::await_on_sale(client, item.item_id, Need::Nothing);
                    return serve_locked(client, lock, requests);
                }
                Some(stale) => supply.refuse_as_with(stale),
            },
        }
    }
    if !matches!(obtained, Obtained::Taken) && !supply.take(client)? {
        return Ok(conflicts(outcomes));
    }
    let order_refs = orders::insert(client, &supply.item, &supply.reserved(), supply.now)?;
    fill(&mut outcomes, supply.outcomes(client, &order_refs)?);
    let outcomes: Outcomes = outcomes.into_iter().flatten().collect();
    Ok(if order_refs.is_empty() {
        End::RollBack(outcomes)
    } else {
        End::Commit(outcomes)
    })
}

/// Replays were read after the units of their request had been taken, which is rolled back if there
/// is no new order: they report the inventory of the item as it was before.
fn give_back_in(replayed: &mut [Option<Outcome>], before: &Item) {
    for outcome in replayed.iter_mut().flatten() {
        if let Outcome::Reserved { order, .. } = outcome {
            order.remaining_inventory = before.inventory;
        }
    }
}

/// The item has changed since it was read, so all requests without an outcome are conflicts.
fn conflicts(outcomes: Vec<Option<Outcome>>) -> End<Outcomes> {
    let conflict = |outcome: Option<Outcome>| outcome.unwrap_or(Outcome::Conflict);
    End::RollBack(outcomes.into_iter().map(conflict).collect())
}

/// Serves requests once `lock` has locked their item; if it is no longer on sale, all are busy.
fn serve_locked(
    client: &SpiClient<'_>,
    lock: impl FnOnce() -> Result<Option<Found>, Fault>,
    requests: &[Request<'_>],
) -> Result<End<Outcomes>, Fault> {
    match lock()? {
        Some(item) => serve(client, &item, requests, Obtained::Locked),
        None => Ok(End::RollBack(vec![Outcome::Busy; requests.len()])),
    }
}

/// An item's units, and what requests get of them.
struct Supply<'r, 'a> {
    item: Found,
    now: Micros,
    requests: &'r [Request<'a>],
    held: &'r HashMap<&'a str, i64>,
    fits: Vec<Fit>,
}

impl<'r, 'a> Supply<'r, 'a> {
    fn of(
        item: &Found,
        now: Micros,
        requests: &'r [Request<'a>],
        held: &'r HashMap<&'a str, i64>,
    ) -> Self {
        Self {
            item: *item,
            now,
            requests,
            held,
            fits: fit::fit(item, now, requests, held),
        }
    }

    /// Whether a request is refused for want of units.
    fn is_short(&self) -> bool {
        fit::is_short(&self.fits)
    }

    fn missing(&self) -> i64 {
        fit::missing(&self.item, self.now, self.requests, self.held)
    }

    /// What the requests would get of `units` more.
    fn fits_with(&self, units: i64) -> Vec<Fit> {
        let item = Item {
            inventory: self.item.inventory.saturating_add(units),
            ..*self.item
        };
        fit::fit(&item, self.now, self.requests, self.held)
    }

    /// How many of `units` more would be sold in addition to the inventory; 0 or less if none.
    fn sells_of(&self, units: i64) -> i64 {
        if units == 0 {
            return 0;
        }
        fit::sold(self.requests, &self.fits_with(units)) - self.item.inventory
    }

    /// Gives the refused requests the reasons and numbers that they would get of an item with
    /// `units` more, none of which is sold.
    fn refuse_as_with(&mut self, units: i64) {
        if units == 0 {
            return;
        }
        let with_more = self.fits_with(units);
        for (fit, with_more) in self.fits.iter_mut().zip(with_more) {
            if let (Fit::Refused { .. }, Fit::Refused { .. }) = (&fit, with_more) {
                *fit = with_more;
            }
        }
    }

    /// Adds the units of as many stale reservations as are sold to the item, which must be locked.
    /// Refused requests that would get their units of reservations which other transactions hold are
    /// left undecided.
    fn add_stale(&mut self, client: &SpiClient<'_>) -> Result<(), Fault> {
        let after = self.free_stale(client)?;
        if let Some(with_more) = after.item {
            *self = Self::of(&with_more, self.now, self.requests, self.held);
        }
        self.refuse_as_with(after.stale);
        if after.held > 0 {
            let (item, now, held) = (&self.item, self.now, self.held);
            fit::leave_undecided(item, now, self.requests, held, &mut self.fits, after.held);
        }
        Ok(())
    }

    /// Expires as many stale reservations as are sold; none if no request gets more by that. The item
    /// must be locked.
    fn free_stale(&self, client: &SpiClient<'_>) -> Result<AfterExpiry, Fault> {
        let (item_id, missing) = (self.item.item_id, self.missing());
        let mut after = AfterExpiry {
            item: None,
            stale: StaleOfItem::of(item_id, self.now).units(client, missing)?,
            held: 0,
        };
        let mut for_sale = ForSale::of(item_id, self.now);
        let mut are_fewer = false;
        for _ in 0..MOST_FITS {
            let units = self.sells_of(after.stale);
            if units <= 0 {
                break;
            }
            match for_sale.free(client, units)? {
                Freed::Enough(freed) => {
                    after.item = items::read(client, item_id)?;
                    after.stale = (after.stale - freed).max(0);
                    break;
                }
                Freed::Only(fewer) => (after.stale, are_fewer) = (fewer, true),
            }
        }
        if are_fewer {
            after.held = for_sale.left(client, missing)?;
        }
        Ok(after)
    }

    /// The units of stale reservations, of as many of these as could be needed. If the item is sold
    /// out and has none, shuts its gate until its next reservation expires. `None` if units have come
    /// back since the item was read: those may be of reservations that were stale then. Locks nothing.
    fn stale_units(&self, client: &SpiClient<'_>, epoch: Epoch) -> Result<Option<i64>, Fault> {
        let (item_id, version) = (self.item.item_id, self.item.version);
        if gate::is_none_stale(item_id, version) {
            return Ok(Some(0));
        }
        let next = stale::next_expiry(client, item_id)?.unwrap_or(Micros::MAX);
        let expires_in = next.saturating_sub(self.now);
        gate::remember_next_expiry(item_id, version, expires_in);
        if expires_in > 0 && self.item.inventory == 0 {
            gate::shut(item_id, epoch, expires_in);
        }
        let stale = match expires_in {
            1.. => 0,
            _ => StaleOfItem::of(item_id, self.now).units(client, self.missing())?,
        };
        if self.sells_of(stale) <= 0 && self.has_more_by_now(client)? {
            return Ok(None);
        }
        Ok(Some(stale))
    }

    /// Whether more units are free than when the item was read. Locks nothing.
    fn has_more_by_now(&self, client: &SpiClient<'_>) -> Result<bool, Fault> {
        let now = items::read(client, self.item.item_id)?;
        Ok(now.is_some_and(|now| now.inventory > self.item.inventory))
    }

    /// Takes the units of the reserved requests; false if the item has changed since it was read.
    fn take(&self, client: &SpiClient<'_>) -> Result<bool, Fault> {
        match fit::sold(self.requests, &self.fits) {
            0 => Ok(true),
            units => items::take_versioned(client, &self.item, units),
        }
    }

    fn reserved(&self) -> Vec<&'r Request<'a>> {
        self.requests
            .iter()
            .zip(&self.fits)
            .filter(|(_, fit)| matches!(fit, Fit::Reserved { .. }))
            .map(|(request, _)| request)
            .collect()
    }

    /// The outcomes; `order_refs` are those of the reserved requests, in their order.
    fn outcomes(&self, client: &SpiClient<'_>, order_refs: &[OrderRef]) -> Result<Outcomes, Fault> {
        let mut order_refs = order_refs.iter();
        let mut outcomes = Outcomes::with_capacity(self.fits.len());
        for (request, fit) in self.requests.iter().zip(&self.fits) {
            outcomes.push(match *fit {
                Fit::Reserved {
                    remaining_inventory,
                } => {
                    let order_ref = order_refs
                        .next()
                        .ok_or(Fault::Broken("an order was not inserted"))?;
                    self.reservation(request, *order_ref, remaining_inventory)
                }
                Fit::Repeats(earlier) => match outcomes[earlier] {
                    Outcome::Reserved { order, .. } => replay(request, order),
                    other => other,
                },
                Fit::Refused {
                    reason,
                    remaining_inventory,
                } => refusal(client, &self.item, remaining_inventory, request, reason)?,
                Fit::Undecided => Outcome::Busy,
            });
        }
        Ok(outcomes)
    }

    fn reservation(
        &self,
        request: &Request<'_>,
        order_ref: OrderRef,
        remaining_inventory: i64,
    ) -> Outcome {
        Outcome::Reserved {
            order: PriorOrder {
                order_ref,
                quantity: request.quantity,
                status: Status::Reserved,
                expires_at: Some(self.now + request.ttl(&self.item)),
                unit_price: self.item.unit_price,
                currency: self.item.currency,
                remaining_inventory,
            },
            replayed: false,
        }
    }
}

/// What a purchase has left of its item's stale reservations.
struct AfterExpiry {
    /// The item with the units that have come back; `None` if none have.
    item: Option<Found>,
    /// The units of those that could be expired, and are not.
    stale: i64,
    /// The units of those that are left, if other transactions hold some of them.
    held: i64,
}

/// The outcomes of requests for an item that was not on sale, or had too few units. They rest on
/// plain reads, so that calls for a sold-out item lock nothing. But if a request could get the units
/// of stale reservations, `lock` locks the item, and they are served.
pub fn refuse(
    client: &SpiClient<'_>,
    item_id: i64,
    requests: &[Request<'_>],
    lock: impl FnOnce() -> Result<Option<Found>, Fault>,
) -> Result<End<Outcomes>, Fault> {
    let epoch = gate::epoch(item_id);
    let Some(item) = items::read(client, item_id)? else {
        return Ok(End::RollBack(vec![Outcome::NotFound; requests.len()]));
    };
    let held = holdings(client, &item, requests)?;
    let mut outcomes = replays(client, requests)?;
    let fresh = without_outcome(&outcomes, requests);
    let mut supply = Supply::of(&item, clock::now(), &fresh, &held);
    // If the item has come on sale since, every caller should try again.
    let mut is_on_sale = !supply.reserved().is_empty();
    if supply.is_short() {
        match supply.stale_units(client, epoch)? {
            None => is_on_sale = true,
            Some(stale) if supply.sells_of(stale) > 0 => {
                return serve_locked(client, lock, requests);
            }
            Some(stale) => supply.refuse_as_with(stale),
        }
    }
    let mut refused = Vec::with_capacity(fresh.len());
    for (request, fit) in fresh.iter().zip(&supply.fits) {
        refused.push(match *fit {
            Fit::Refused {
                reason,
                remaining_inventory,
            } if !is_on_sale => refusal(client, &item, remaining_inventory, request, reason)?,
            _ => Outcome::Busy,
        });
    }
    fill(&mut outcomes, refused);
    Ok(End::RollBack(outcomes.into_iter().flatten().collect()))
}

/// The requests that have no outcome yet.
fn without_outcome<'a>(outcomes: &[Option<Outcome>], requests: &[Request<'a>]) -> Vec<Request<'a>> {
    requests
        .iter()
        .zip(outcomes)
        .filter(|(_, outcome)| outcome.is_none())
        .map(|(request, _)| *request)
        .collect()
}

/// Fills in the missing outcomes, in order.
fn fill(outcomes: &mut [Option<Outcome>], found: Vec<Outcome>) {
    let missing = outcomes.iter_mut().filter(|outcome| outcome.is_none());
    for (missing, outcome) in missing.zip(found) {
        *missing = Some(outcome);
    }
}

/// The units that each user holds or has bought; not read if there is no limit. Call it before the
/// keys are read: if the item is not locked, the order of another call with the same key that
/// counts here must be found there.
fn holdings<'a>(
    client: &SpiClient<'_>,
    item: &Item,
    requests: &[Request<'a>],
) -> Result<HashMap<&'a str, i64>, Fault> {
    match item.max_per_user {
        Some(_) => orders::held_units(client, item.item_id, requests),
        None => Ok(HashMap::new()),
    }
}

fn refusal(
    client: &SpiClient<'_>,
    item: &Item,
    remaining_inventory: i64,
    request: &Request<'_>,
    reason: Reason,
) -> Result<Outcome, Fault> {
    Ok(match reason {
        Reason::UserLimitReached => Outcome::LimitReached {
            max_per_user: item.max_per_user,
            orders: orders::held_orders(client, request)?,
        },
        reason => {
            let left = Item {
                inventory: remaining_inventory,
                ..*item
            };
            Outcome::unavailable(reason, &left)
        }
    })
}
