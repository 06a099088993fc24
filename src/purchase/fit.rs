//! Who gets what (pure): fits a list of requests into one item, first come first served.

use crate::answer::Reason;
use crate::order::machine::Status;
use crate::pg::clock::Micros;
use std::collections::HashMap;

/// An ISO 4217 code in capitals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Currency([u8; 3]);

impl Currency {
    pub fn parse(code: &str) -> Option<Self> {
        let letters: [u8; 3] = code.as_bytes().try_into().ok()?;
        letters
            .iter()
            .all(u8::is_ascii_uppercase)
            .then_some(Self(letters))
    }

    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).expect("capitals are UTF-8")
    }
}

/// An item's state; under its lock, or as a plain read saw it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Item {
    pub item_id: i64,
    pub inventory: i64,
    pub version: i64,
    pub paused: bool,
    pub max_per_user: Option<i64>,
    pub starts_at: Option<Micros>,
    pub ends_at: Option<Micros>,
    pub unit_price: Option<i64>,
    pub currency: Option<Currency>,
    pub reservation_ttl: Option<Micros>,
    /// Where the store found its row.
    pub place: u64,
}

impl Item {
    /// How long a reservation of it lasts.
    pub fn ttl_for(&self, request: &Request<'_>) -> Micros {
        self.reservation_ttl.unwrap_or(request.default_ttl)
    }
}

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

/// The order an idempotency key stands for already.
#[derive(Clone, Copy, Debug, PartialEq)]
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

/// Whether inventory is neither negative nor more than stock.
pub fn stock_adds_up(inventory: i64, stock: i64) -> bool {
    (0..=stock).contains(&inventory)
}

/// Why nobody can buy the item now, whoever asks; `None` while it is on sale.
pub fn closed(item: &Item, now: Micros) -> Option<Reason> {
    if item.inventory == 0 {
        Some(Reason::OutOfStock)
    } else if item.starts_at.is_some_and(|starts_at| now < starts_at) {
        Some(Reason::SaleNotStarted)
    } else if item.ends_at.is_some_and(|ends_at| now >= ends_at) {
        Some(Reason::SaleEnded)
    } else if item.paused {
        Some(Reason::SalePaused)
    } else {
        None
    }
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
    closed(item, now)
        .or_else(|| {
            item.max_per_user
                .is_some_and(limit_passed)
                .then_some(Reason::UserLimitReached)
        })
        .or_else(|| (item.inventory < request.quantity).then_some(Reason::OutOfStock))
}

#[cfg(test)]
mod tests;
