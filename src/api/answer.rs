//! Answers: what happened, as the jsonb that SQL sees.

use crate::backoff;
use crate::error::Fault;
use crate::pg::clock;
use flashsale_core::cancel::Cancelled;
use flashsale_core::charge::{Confirmed, PaymentRefunded};
use flashsale_core::fit::PriorOrder;
use flashsale_core::item::{Paused, Restocked};
use flashsale_core::order::{Begun, ExpiryRun, Moved, Refunded, Status};
use flashsale_core::order_ref::OrderName;
use flashsale_core::outcome::Outcome;
use flashsale_core::reason::Reason;
use flashsale_core::time::Micros;
use serde::Serialize;
use serde_json::{Value, json};

/// What an answer depends on besides what happened. Tests use their own.
pub struct Context {
    /// A time as ISO 8601 text.
    pub iso: fn(Micros) -> String,
    /// After how many milliseconds a caller that got `busy` should try again.
    pub retry_after_ms: fn() -> i64,
}

/// Times in the session's time zone, and random jitter.
pub const SESSION: Context = Context {
    iso: clock::iso,
    retry_after_ms: backoff::retry_after_ms,
};

/// The answer to a purchase.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Purchased {
    Reserved(Reserved),
    Refused(Value),
}

/// The answer to a purchase that has a reservation. It is no JSON value like the other answers,
/// because making and freeing one takes longer than making the jsonb.
#[derive(Serialize)]
pub struct Reserved {
    success: bool,
    order_id: i64,
    order_ref: String,
    item_id: i64,
    quantity: i64,
    status: &'static str,
    remaining_inventory: i64,
    expires_at: Option<String>,
    unit_price: Option<i64>,
    currency: Option<String>,
    replayed: bool,
}

/// The answer to a purchase of an item.
pub fn purchased(item_id: i64, outcome: &Outcome, context: &Context) -> Purchased {
    let about = match *outcome {
        Outcome::Reserved { order, replayed } => {
            return Purchased::Reserved(reserved(item_id, &order, replayed, context));
        }
        Outcome::Busy => return Purchased::Refused(busy(context)),
        Outcome::DeadReplay { order_ref, .. } => json!({
            "item_id": item_id,
            "order_id": order_ref.order_id,
            "order_ref": order_ref.to_string(),
        }),
        Outcome::Unavailable {
            reason,
            inventory,
            starts_at,
            ends_at,
        } => {
            let mut about = json!({ "item_id": item_id });
            match reason {
                Reason::OutOfStock => about["remaining_inventory"] = json!(inventory),
                Reason::SaleNotStarted => about["starts_at"] = json!(starts_at.map(context.iso)),
                Reason::SaleEnded => about["ends_at"] = json!(ends_at.map(context.iso)),
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
    let reason = outcome.reason().expect("it was refused");
    Purchased::Refused(failure(reason, about))
}

fn reserved(item_id: i64, order: &PriorOrder, replayed: bool, context: &Context) -> Reserved {
    // An order that is no longer reserved does not expire.
    let expires_at = order
        .expires_at
        .filter(|_| order.status == Status::Reserved);
    let currency = order.currency.as_ref();
    Reserved {
        success: true,
        order_id: order.order_ref.order_id,
        order_ref: order.order_ref.to_string(),
        item_id,
        quantity: order.quantity,
        status: order.status.name(),
        remaining_inventory: order.remaining_inventory,
        expires_at: expires_at.map(context.iso),
        unit_price: order.unit_price,
        currency: currency.map(|currency| currency.code().to_owned()),
        replayed,
    }
}

/// The answer to `begin_payment`.
pub fn begun_to_json(name: &OrderName<'_>, moved: Moved<Begun>, context: &Context) -> Value {
    moved_to_json(name, moved, context, |Begun { payment_deadline }| {
        json!({
            "status": Status::Paying.name(),
            "payment_deadline": (context.iso)(payment_deadline),
        })
    })
}

/// The answer to `cancel_order`.
pub fn cancelled_to_json(
    name: &OrderName<'_>,
    moved: Moved<Cancelled>,
    context: &Context,
) -> Value {
    moved_to_json(name, moved, context, |Cancelled { status, restored }| {
        json!({
            "status": status.name(),
            "restored": restored,
            "already_closed": restored == 0,
        })
    })
}

/// The answer to `refund_order`.
pub fn refunded_to_json(name: &OrderName<'_>, moved: Moved<Refunded>, context: &Context) -> Value {
    let done = |Refunded {
                    restored,
                    written_off,
                }| {
        json!({
            "status": Status::Refunded.name(),
            "restored": restored,
            "written_off": written_off,
            "already_refunded": restored == 0 && written_off == 0,
        })
    };
    moved_to_json(name, moved, context, done)
}

/// The answer to a move of an order; `done` makes the fields of a success besides its name.
fn moved_to_json<T>(
    name: &OrderName<'_>,
    moved: Moved<T>,
    context: &Context,
    done: impl FnOnce(T) -> Value,
) -> Value {
    match moved {
        Moved::Done(order) => success(about_order(name, done(order))),
        Moved::Refused { status, reason } => failure(
            reason,
            about_order(name, json!({ "status": status.name() })),
        ),
        Moved::NotFound => failure(Reason::OrderNotFound, as_named(name)),
        Moved::Busy => busy(context),
    }
}

/// The fields with the order's id and, if the caller named it by its ref, the ref.
fn about_order(name: &OrderName<'_>, mut fields: Value) -> Value {
    if let Some((order_id, _)) = name.key() {
        fields["order_id"] = json!(order_id);
    }
    if let OrderName::Ref { order_ref, .. } = name {
        fields["order_ref"] = json!(order_ref.to_string());
    }
    fields
}

/// The name as the caller wrote it. A ref that names no order has no id: that of another order may
/// be the same.
pub fn as_named(name: &OrderName<'_>) -> Value {
    match (name.text(), name.key()) {
        (Some(text), _) => json!({ "order_ref": text }),
        (None, key) => json!({ "order_id": key.map(|(order_id, _)| order_id) }),
    }
}

/// The answer to `confirm_order`.
pub fn confirmed_to_json(name: &OrderName<'_>, confirmed: Confirmed, context: &Context) -> Value {
    let is_before = match confirmed {
        Confirmed::PaidBefore => true,
        Confirmed::Paid | Confirmed::Reinstated => false,
        Confirmed::Refused {
            reason,
            refund_required,
        } => {
            let mut about = match reason {
                // There may be no such order.
                Reason::OrderNotFound | Reason::PaymentRefInUse => as_named(name),
                _ => about_order(name, json!({})),
            };
            about["refund_required"] = json!(refund_required);
            return failure(reason, about);
        }
        Confirmed::Busy => return busy(context),
    };
    let fields = json!({
        "status": Status::Confirmed.name(),
        "already_confirmed": is_before,
        "reinstated": confirmed == Confirmed::Reinstated,
    });
    success(about_order(name, fields))
}

/// The answer to `refund_payment`.
pub fn payment_refunded_to_json(
    payment_ref: &str,
    refunded: &PaymentRefunded,
    context: &Context,
) -> Value {
    match refunded {
        PaymentRefunded::Done {
            order,
            refund_ref,
            already_refunded,
        } => success(json!({
            "payment_ref": payment_ref,
            "order_id": order.order_id,
            "order_ref": order.order_ref,
            "status": "refunded",
            "refund_ref": refund_ref,
            "already_refunded": already_refunded,
        })),
        PaymentRefunded::NotDue(order) => failure(
            Reason::PaymentNotDue,
            json!({
                "payment_ref": payment_ref,
                "order_id": order.order_id,
                "order_ref": order.order_ref,
            }),
        ),
        PaymentRefunded::NotFound => failure(
            Reason::PaymentNotFound,
            json!({ "payment_ref": payment_ref }),
        ),
        PaymentRefunded::Busy => busy(context),
    }
}

/// The answer to `restock_item`.
pub fn restocked_to_json(
    item_id: i64,
    delta: i64,
    restocked: Restocked,
    context: &Context,
) -> Value {
    match restocked {
        Restocked::Done {
            stock,
            inventory,
            replayed,
        } => success(json!({
            "item_id": item_id,
            "delta": delta,
            "stock": stock,
            "remaining_inventory": inventory,
            "replayed": replayed,
        })),
        Restocked::KeyReused => {
            failure(Reason::IdempotencyKeyReused, json!({ "item_id": item_id }))
        }
        Restocked::NotEnoughFree { inventory } => failure(
            Reason::NotEnoughFree,
            json!({ "item_id": item_id, "remaining_inventory": inventory }),
        ),
        Restocked::NotFound => failure(Reason::ItemNotFound, json!({ "item_id": item_id })),
        Restocked::Busy => busy(context),
    }
}

/// The answer to `pause_item` and `resume_item`.
pub fn paused_to_json(item_id: i64, paused: Paused, context: &Context) -> Value {
    match paused {
        Paused::Done { paused } => success(json!({ "item_id": item_id, "paused": paused })),
        Paused::NotFound => failure(Reason::ItemNotFound, json!({ "item_id": item_id })),
        Paused::Busy => busy(context),
    }
}

/// The answer to `reconcile_stale_reservations`; `None` is busy.
pub fn run_to_json(run: Option<ExpiryRun>, context: &Context) -> Value {
    let Some(ExpiryRun {
        expired,
        payment_checks,
    }) = run
    else {
        return busy(context);
    };
    success(json!({
        "expired": expired.orders,
        "restored": expired.units,
        "skipped": expired.skipped,
        "payment_checks": payment_checks,
        "more": expired.more,
    }))
}

/// The answer to a look-up: the object that PostgreSQL built, or a failure if there is none.
pub fn found_to_json(found: Option<&str>, reason: Reason, about: Value) -> Result<Value, Fault> {
    let Some(found) = found else {
        return Ok(failure(reason, about));
    };
    let fields = serde_json::from_str(found).map_err(|_| Fault::Broken("an answer is not JSON"))?;
    Ok(success(fields))
}

/// `{"success": true, ...fields}`.
fn success(fields: Value) -> Value {
    with_success(true, fields)
}

/// `{"success": false, "reason", "message", "retryable", ...fields}`.
fn failure(reason: Reason, fields: Value) -> Value {
    let mut answer = with_success(false, fields);
    answer["reason"] = json!(reason.code());
    answer["message"] = json!(reason.message());
    answer["retryable"] = json!(reason.retryable());
    answer
}

fn with_success(success: bool, fields: Value) -> Value {
    let Value::Object(mut answer) = fields else {
        unreachable!("the fields of an answer are an object")
    };
    answer.insert("success".into(), Value::Bool(success));
    Value::Object(answer)
}

/// Another transaction holds a lock. `retry_after_ms` is jittered, so that buyers do not all return
/// at the same time.
fn busy(context: &Context) -> Value {
    let about = json!({ "retry_after_ms": (context.retry_after_ms)() });
    failure(Reason::Busy, about)
}

#[cfg(test)]
mod tests;
