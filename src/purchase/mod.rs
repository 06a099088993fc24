//! A purchase from request to outcome: obtain the item, fit the request, store the order.

pub mod fit;
mod nowait;
mod serve;

use crate::answer::{self, Reason};
use crate::backoff::retry_after_ms;
use crate::clock;
use crate::error::Fault;
use crate::order::machine::Status;
use crate::settings::Strategy;
use fit::{Item, PriorOrder, Request};
use serde_json::{Value, json};

/// What a purchase comes to.
#[derive(Clone, Debug)]
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
    Closed {
        reason: Reason,
        item: Item,
    },
    LimitReached {
        item: Item,
        order_ids: Vec<i64>,
    },
    NotFound,
    Busy,
    Conflict,
}

/// Purchases by the strategy and words the answer.
pub fn purchase(request: &Request<'_>, strategy: Strategy) -> Result<Value, Fault> {
    let outcome = match strategy {
        Strategy::Nowait => nowait::purchase(request)?,
        other => return Err(Fault::StrategyUnavailable(other.name())),
    };
    Ok(report(request, outcome))
}

fn report(request: &Request<'_>, outcome: Outcome) -> Value {
    let about = json!({ "item_id": request.item_id });
    match outcome {
        Outcome::Reserved { order, replayed } => reserved(request, order, replayed),
        Outcome::DeadReplay { order_id, reason } => answer::failure(
            reason,
            json!({ "item_id": request.item_id, "order_id": order_id }),
        ),
        Outcome::Closed { reason, item } => closed(reason, &item),
        Outcome::LimitReached { item, order_ids } => answer::failure(
            Reason::UserLimitReached,
            json!({ "item_id": item.item_id, "max_per_user": item.max_per_user, "order_ids": order_ids }),
        ),
        Outcome::NotFound => answer::failure(Reason::ItemNotFound, about),
        Outcome::Busy => answer::busy(retry_after_ms()),
        Outcome::Conflict => answer::failure(Reason::Conflict, about),
    }
}

fn reserved(request: &Request<'_>, order: PriorOrder, replayed: bool) -> Value {
    // An order past reserved no longer expires.
    let expires_at = order
        .expires_at
        .filter(|_| order.status == Status::Reserved);
    answer::success(json!({
        "order_id": order.order_id,
        "item_id": request.item_id,
        "quantity": order.quantity,
        "status": order.status.name(),
        "remaining_inventory": order.remaining_inventory,
        "expires_at": expires_at.map(clock::iso),
        "unit_price": order.unit_price,
        "currency": order.currency,
        "replayed": replayed,
    }))
}

fn closed(reason: Reason, item: &Item) -> Value {
    let mut about = json!({ "item_id": item.item_id });
    match reason {
        Reason::OutOfStock => about["remaining_inventory"] = json!(item.inventory),
        Reason::SaleNotStarted => about["starts_at"] = json!(item.starts_at.map(clock::iso)),
        Reason::SaleEnded => about["ends_at"] = json!(item.ends_at.map(clock::iso)),
        _ => {}
    }
    answer::failure(reason, about)
}
