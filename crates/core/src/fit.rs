//! Who gets what: fits a list of requests into one item, first come first served.

use crate::item::{Currency, Item};
use crate::order::Status;
use crate::reason::Reason;
use crate::time::Micros;
use std::collections::HashMap;

/// One purchase as a caller asks for it, its arguments checked.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub item_id: i64,
    pub user_id: &'a str,
    pub quantity: i64,
    pub idempotency_key: Option<&'a str>,
    /// How long its reservation lasts where the item does not say.
    pub default_ttl: Micros,
}

impl Request<'_> {
    /// How long a reservation of the item by it lasts.
    pub fn ttl(&self, item: &Item) -> Micros {
        item.reservation_ttl.unwrap_or(self.default_ttl)
    }
}

/// The order an idempotency key stands for already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriorOrder {
    pub order_id: i64,
    pub quantity: i64,
    pub status: Status,
    pub expires_at: Option<Micros>,
    pub unit_price: Option<i64>,
    pub currency: Option<Currency>,
    pub remaining_inventory: i64,
}

/// What a request comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It gets its units, of which this many are then left.
    Reserved { remaining_inventory: i64 },
    /// It has the key of the earlier request at this place in the list, which was reserved.
    Repeats(usize),
    Refused {
        reason: Reason,
        remaining_inventory: i64,
    },
}

/// Whether a request with a known key is that purchase again, and if not, why.
pub fn replay(request: &Request<'_>, prior: &PriorOrder) -> Option<Reason> {
    if prior.quantity != request.quantity {
        return Some(Reason::IdempotencyKeyReused);
    }
    prior.status.dead()
}

/// Fits requests whose keys are new into an item held by the caller. `held` says how
/// many units each user holds or has bought already. One that does not fit does not
/// block a later one that does.
pub fn fit<'a>(
    item: &Item,
    now: Micros,
    requests: &[Request<'a>],
    mut held: HashMap<&'a str, i64>,
) -> Vec<Fit> {
    let mut item = *item;
    let mut keys = HashMap::<(&str, &str), usize>::new();
    let mut fits = Vec::with_capacity(requests.len());
    for (place, request) in requests.iter().enumerate() {
        let key = request.idempotency_key.map(|key| (request.user_id, key));
        if let Some(&first) = key.as_ref().and_then(|key| keys.get(key)) {
            fits.push(Fit::Repeats(first));
            continue;
        }
        let holdings = held.entry(request.user_id).or_default();
        if let Some(reason) = refusal(&item, now, request, *holdings) {
            fits.push(Fit::Refused {
                reason,
                remaining_inventory: item.inventory,
            });
            continue;
        }
        *holdings += request.quantity;
        item.inventory -= request.quantity;
        if let Some(key) = key {
            keys.insert(key, place);
        }
        fits.push(Fit::Reserved {
            remaining_inventory: item.inventory,
        });
    }
    fits
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
