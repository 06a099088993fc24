//! Answers: the jsonb every function returns.

use crate::backoff::retry_after_ms;
use crate::pg::clock;
use flashsale_core::cancel::Cancelled;
use flashsale_core::fit::{PriorOrder, Request};
use flashsale_core::order::Status;
use flashsale_core::outcome::Outcome;
use flashsale_core::reason::Reason;
use serde_json::{Value, json};

/// `{"success": true, ...fields}`.
pub fn success(fields: Value) -> Value {
    finish(true, fields)
}

/// `{"success": false, "reason", "message", "retryable", ...fields}`.
pub fn failure(reason: Reason, fields: Value) -> Value {
    let mut answer = finish(false, fields);
    answer["reason"] = json!(reason.code());
    answer["message"] = json!(reason.message());
    answer["retryable"] = json!(reason.retryable());
    answer
}

/// A lock somebody else holds; `retry_after_ms` is jittered so that buyers do not return in step.
pub fn busy(retry_after_ms: i64) -> Value {
    failure(Reason::Busy, json!({ "retry_after_ms": retry_after_ms }))
}

fn finish(success: bool, fields: Value) -> Value {
    let Value::Object(mut answer) = fields else {
        unreachable!("the fields of an answer are an object")
    };
    answer.insert("success".into(), Value::Bool(success));
    Value::Object(answer)
}

/// The answer to a purchase.
pub fn purchase(request: &Request<'_>, outcome: &Outcome) -> Value {
    let item_id = request.item_id;
    let about = match *outcome {
        Outcome::Reserved { order, replayed } => return reserved(item_id, &order, replayed),
        Outcome::Busy => return busy(retry_after_ms()),
        Outcome::DeadReplay { order_id, .. } => {
            json!({ "item_id": item_id, "order_id": order_id })
        }
        Outcome::Unavailable {
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
        Outcome::LimitReached {
            max_per_user,
            orders,
        } => json!({
            "item_id": item_id,
            "max_per_user": max_per_user,
            "order_ids": orders.as_slice(),
        }),
        Outcome::NotFound | Outcome::Conflict => json!({ "item_id": item_id }),
    };
    failure(outcome.reason().expect("it failed"), about)
}

fn reserved(item_id: i64, order: &PriorOrder, replayed: bool) -> Value {
    // An order past reserved no longer expires.
    let expires_at = order
        .expires_at
        .filter(|_| order.status == Status::Reserved);
    success(json!({
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

/// The answer to a cancel.
pub fn cancelled(order_id: i64, cancelled: Cancelled) -> Value {
    match cancelled {
        Cancelled::Closed { status, restored } => success(json!({
            "order_id": order_id,
            "status": status.name(),
            "restored": restored,
            "already_closed": restored == 0,
        })),
        Cancelled::Refused { status, reason } => failure(
            reason,
            json!({ "order_id": order_id, "status": status.name() }),
        ),
        Cancelled::NotFound => failure(Reason::OrderNotFound, json!({ "order_id": order_id })),
        Cancelled::Busy => busy(retry_after_ms()),
    }
}
