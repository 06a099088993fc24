//! Decides which of a list of requests for one item get their units, first come first served.

use crate::item::{Currency, Item};
use crate::order::Status;
use crate::order_ref::OrderRef;
use crate::reason::Reason;
use crate::time::Micros;
use std::collections::HashMap;

/// One requested purchase, whose arguments have been checked.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub item_id: i64,
    pub user_id: &'a str,
    pub quantity: i64,
    pub idempotency_key: Option<&'a str>,
    /// How long its reservation lasts if the item does not set a time.
    pub default_ttl: Micros,
}

impl Request<'_> {
    /// How long its reservation of the item lasts.
    pub fn ttl(&self, item: &Item) -> Micros {
        item.reservation_ttl.unwrap_or(self.default_ttl)
    }
}

/// The order that an earlier purchase with the same idempotency key created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriorOrder {
    pub order_ref: OrderRef,
    pub quantity: i64,
    pub status: Status,
    pub expires_at: Option<Micros>,
    pub unit_price: Option<i64>,
    pub currency: Option<Currency>,
    pub remaining_inventory: i64,
}

/// The decision on one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The request gets its units; `remaining_inventory` units are left after it.
    Reserved { remaining_inventory: i64 },
    /// The request has the same user and key as the request at this index, which is reserved.
    Repeats(usize),
    Refused {
        reason: Reason,
        remaining_inventory: i64,
    },
    /// The request needs units whose stale reservations other transactions hold, which may free them
    /// or not.
    Undecided,
}

/// Why a request whose key has an order already is refused; `None` if the request repeats that
/// purchase and is answered with its order.
pub fn replay(request: &Request<'_>, prior: &PriorOrder) -> Option<Reason> {
    if prior.quantity != request.quantity {
        return Some(Reason::IdempotencyKeyReused);
    }
    prior.status.dead()
}

/// Decides on requests whose keys have no order yet, in their order. `held` is how many units of
/// the item each user holds or has bought already. A request that does not fit does not block a
/// later one that does.
pub fn fit<'a>(
    item: &Item,
    now: Micros,
    requests: &[Request<'a>],
    held: &HashMap<&'a str, i64>,
) -> Vec<Fit> {
    let mut item = *item;
    let mut taken = HashMap::<&str, i64>::new();
    let mut keys = HashMap::<(&str, &str), usize>::new();
    let mut fits = Vec::with_capacity(requests.len());
    for (index, request) in requests.iter().enumerate() {
        let key = request.idempotency_key.map(|key| (request.user_id, key));
        if let Some(&first) = key.as_ref().and_then(|key| keys.get(key)) {
            fits.push(Fit::Repeats(first));
            continue;
        }
        let before = held.get(request.user_id).copied().unwrap_or_default();
        let taken = taken.entry(request.user_id).or_default();
        if let Some(reason) = refusal(&item, now, request, before.saturating_add(*taken)) {
            fits.push(Fit::Refused {
                reason,
                remaining_inventory: item.inventory,
            });
            continue;
        }
        *taken += request.quantity;
        item.inventory -= request.quantity;
        if let Some(key) = key {
            keys.insert(key, index);
        }
        fits.push(Fit::Reserved {
            remaining_inventory: item.inventory,
        });
    }
    fits
}

/// Whether a request is refused for want of units.
pub fn is_short(fits: &[Fit]) -> bool {
    let is_short = |fit: &Fit| {
        matches!(
            fit,
            Fit::Refused {
                reason: Reason::OutOfStock,
                ..
            }
        )
    };
    fits.iter().any(is_short)
}

/// Leaves undecided the refused requests that would get their units if there were `more` in addition
/// to those that the other requests leave.
pub fn leave_undecided<'a>(
    item: &Item,
    now: Micros,
    requests: &[Request<'a>],
    held: &HashMap<&'a str, i64>,
    fits: &mut [Fit],
    more: i64,
) {
    let left = item.inventory - sold(requests, fits);
    let item = Item {
        inventory: left.saturating_add(more),
        ..*item
    };
    let mut held = held.clone();
    let (mut refused, mut of_refused) = (Vec::new(), Vec::new());
    for (request, fit) in requests.iter().zip(fits) {
        match fit {
            Fit::Reserved { .. } => *held.entry(request.user_id).or_default() += request.quantity,
            Fit::Refused { .. } => {
                refused.push(*request);
                of_refused.push(fit);
            }
            Fit::Repeats(_) | Fit::Undecided => {}
        }
    }
    for (fit, with_more) in of_refused
        .into_iter()
        .zip(self::fit(&item, now, &refused, &held))
    {
        if let Fit::Reserved { .. } | Fit::Repeats(_) = with_more {
            *fit = Fit::Undecided;
        }
    }
}

/// The units that the requests get, whose fits these are.
pub fn sold(requests: &[Request<'_>], fits: &[Fit]) -> i64 {
    let reserved = requests
        .iter()
        .zip(fits)
        .filter(|(_, fit)| matches!(fit, Fit::Reserved { .. }));
    reserved.fold(0i64, |sum, (request, _)| {
        sum.saturating_add(request.quantity)
    })
}

/// How many more units there must be so that every request gets its units that would get them of an
/// unlimited number. At least 1 if there are none, because that hides the other reasons for a
/// refusal.
pub fn missing<'a>(
    item: &Item,
    now: Micros,
    requests: &[Request<'a>],
    held: &HashMap<&'a str, i64>,
) -> i64 {
    let plenty = Item {
        inventory: i64::MAX,
        ..*item
    };
    let wanted = sold(requests, &fit(&plenty, now, requests, held));
    wanted.max(1).saturating_sub(item.inventory).max(0)
}

fn refusal(item: &Item, now: Micros, request: &Request<'_>, holdings: i64) -> Option<Reason> {
    let limit_passed = |limit: i64| holdings.saturating_add(request.quantity) > limit;
    item.not_on_sale(now)
        .or_else(|| {
            item.max_per_user
                .is_some_and(limit_passed)
                .then_some(Reason::UserLimitReached)
        })
        .or_else(|| (item.inventory < request.quantity).then_some(Reason::OutOfStock))
}

#[cfg(test)]
mod tests;
