//! What a purchase comes to, in a form that fits shared memory, and how it is worded.

use super::fit::{Item, PriorOrder, Request};
use crate::answer::{self, Reason};
use crate::backoff::retry_after_ms;
use crate::order::machine::Status;
use crate::pg::clock::{self, Micros};
use serde_json::{Value, json};

/// What a purchase comes to. It owns no memory, so that one process can leave it for another.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    Reserved {
        order: PriorOrder,
        replayed: bool,
    },
    /// The key's order holds nothing any more, or was for something else.
    DeadReplay {
        order_id: i64,
        reason: Reason,
    },
    /// Nobody can buy the item now, or not that many units of it.
    Closed {
        reason: Reason,
        inventory: i64,
        starts_at: Option<Micros>,
        ends_at: Option<Micros>,
    },
    LimitReached {
        max_per_user: Option<i64>,
        orders: OrderIds,
    },
    NotFound,
    Busy,
    Conflict,
}

/// Ids of orders, `OrderIds::MOST` at most.
#[derive(Clone, Copy, Debug)]
pub struct OrderIds {
    ids: [i64; Self::MOST],
    len: usize,
}

impl OrderIds {
    pub const MOST: usize = 20;

    pub fn as_slice(&self) -> &[i64] {
        &self.ids[..self.len]
    }
}

impl FromIterator<i64> for OrderIds {
    fn from_iter<I: IntoIterator<Item = i64>>(found: I) -> Self {
        let mut orders = Self {
            ids: [0; Self::MOST],
            len: 0,
        };
        for order_id in found.into_iter().take(Self::MOST) {
            orders.ids[orders.len] = order_id;
            orders.len += 1;
        }
        orders
    }
}

impl Outcome {
    pub fn closed(reason: Reason, item: &Item) -> Self {
        Self::Closed {
            reason,
            inventory: item.inventory,
            starts_at: item.starts_at,
            ends_at: item.ends_at,
        }
    }

    pub fn sold_out() -> Self {
        Self::closed(Reason::OutOfStock, &Item::default())
    }

    /// Whether it tells of an order that was there before.
    pub fn is_replay(&self) -> bool {
        matches!(self, Self::Reserved { replayed: true, .. })
    }

    /// The reason of a refusal.
    pub fn reason(&self) -> Option<Reason> {
        match *self {
            Self::Reserved { .. } => None,
            Self::DeadReplay { reason, .. } | Self::Closed { reason, .. } => Some(reason),
            Self::LimitReached { .. } => Some(Reason::UserLimitReached),
            Self::NotFound => Some(Reason::ItemNotFound),
            Self::Busy => Some(Reason::Busy),
            Self::Conflict => Some(Reason::Conflict),
        }
    }

    /// The answer as callers see it.
    pub fn worded(&self, request: &Request<'_>) -> Value {
        let item_id = request.item_id;
        let about = match *self {
            Self::Reserved { order, replayed } => return reserved(item_id, &order, replayed),
            Self::Busy => return answer::busy(retry_after_ms()),
            Self::DeadReplay { order_id, .. } => {
                json!({ "item_id": item_id, "order_id": order_id })
            }
            Self::Closed {
                reason,
                inventory,
                starts_at,
                ends_at,
            } => {
                let mut about = json!({ "item_id": item_id });
                match reason {
                    Reason::OutOfStock => about["remaining_inventory"] = json!(inventory),
                    Reason::SaleNotStarted => about["starts_at"] = json!(starts_at.map(clock::iso)),
                    Reason::SaleEnded => about["ends_at"] = json!(ends_at.map(clock::iso)),
                    _ => {}
                }
                about
            }
            Self::LimitReached {
                max_per_user,
                orders,
            } => json!({
                "item_id": item_id,
                "max_per_user": max_per_user,
                "order_ids": orders.as_slice(),
            }),
            Self::NotFound | Self::Conflict => json!({ "item_id": item_id }),
        };
        answer::failure(self.reason().expect("it failed"), about)
    }
}

fn reserved(item_id: i64, order: &PriorOrder, replayed: bool) -> Value {
    // An order past reserved no longer expires.
    let expires_at = order
        .expires_at
        .filter(|_| order.status == Status::Reserved);
    answer::success(json!({
        "order_id": order.order_id,
        "item_id": item_id,
        "quantity": order.quantity,
        "status": order.status.name(),
        "remaining_inventory": order.remaining_inventory,
        "expires_at": expires_at.map(clock::iso),
        "unit_price": order.unit_price,
        "currency": order.currency.as_ref().map(|currency| currency.code()),
        "replayed": replayed,
    }))
}
