//! Buyer functions: arguments checked, the work done elsewhere.

use super::answer::{self, Purchased, SESSION};
use super::{Answer, to_jsonb};
use crate::doors;
use crate::error::Fault;
use crate::pg::jsonb::list::JsonbArgument;
use crate::sale::{order, payment};
use crate::settings::{self, Strategy};
use crate::store::{lookups, node};
use flashsale_core::argument::{
    Invalid, at_least, currency, number, optional_text, required, required_text, span,
};
use flashsale_core::charge::Charge;
use flashsale_core::clicks;
use flashsale_core::fit::Request;
use flashsale_core::limits::MAX_BATCH;
use flashsale_core::order_ref::{self, OrderName};
use flashsale_core::reason::Reason;
use pgrx::Uuid;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde_json::{Value, json};

#[pg_extern(sql = false)]
fn purchase_item(
    item_id: Option<i64>,
    user_id: Option<&str>,
    quantity: Option<i64>,
    idempotency_key: Option<&str>,
    strategy: Option<&str>,
) -> Answer {
    to_jsonb(|| checked_purchase(item_id, user_id, quantity, idempotency_key, strategy))
}

#[pg_extern(sql = false)]
fn purchase_item_bigint(
    item_id: Option<i64>,
    user_id: Option<i64>,
    quantity: Option<i64>,
    idempotency_key: Option<&str>,
    strategy: Option<&str>,
) -> Answer {
    let user_id = user_id.map(|id| id.to_string());
    let user_id = user_id.as_deref();
    to_jsonb(|| checked_purchase(item_id, user_id, quantity, idempotency_key, strategy))
}

#[pg_extern(sql = false)]
fn purchase_item_uuid(
    item_id: Option<i64>,
    user_id: Option<Uuid>,
    quantity: Option<i64>,
    idempotency_key: Option<&str>,
    strategy: Option<&str>,
) -> Answer {
    let user_id = user_id.map(|id| id.to_string());
    let user_id = user_id.as_deref();
    to_jsonb(|| checked_purchase(item_id, user_id, quantity, idempotency_key, strategy))
}

fn checked_purchase(
    item_id: Option<i64>,
    user_id: Option<&str>,
    quantity: Option<i64>,
    idempotency_key: Option<&str>,
    strategy: Option<&str>,
) -> Result<Purchased, Fault> {
    let request = Request {
        item_id: own_item(item_id)?,
        user_id: required_text("user_id", user_id)?,
        quantity: at_least("quantity", required("quantity", quantity)?, 1)?,
        idempotency_key: optional_text("idempotency_key", idempotency_key)?,
        default_ttl: settings::reservation_ttl(),
    };
    let outcome = doors::purchase(&request, named_strategy(strategy)?)?;
    Ok(answer::purchased(request.item_id, &outcome, &SESSION))
}

/// The item of an argument `item_id`. An error if another server has it.
pub fn own_item(item_id: Option<i64>) -> Result<i64, Fault> {
    let item_id = required("item_id", item_id)?;
    node::check_item(item_id)?;
    Ok(item_id)
}

/// The strategy of an argument `strategy`; the session's if it is NULL.
fn named_strategy(name: Option<&str>) -> Result<Strategy, Invalid> {
    let Some(name) = optional_text("strategy", name)? else {
        return Ok(settings::strategy());
    };
    Strategy::parse(name).ok_or_else(|| {
        let rule = format!("it must be {}", Strategy::NAMES);
        Invalid::value("strategy", format!("'{name}'"), rule)
    })
}

/// The function of 0.1.0.
#[pg_extern(sql = false)]
fn purchase_batch(requests: Option<JsonbArgument>) -> Answer {
    purchase_batch_by_strategy(requests, None)
}

#[pg_extern(sql = false)]
fn purchase_batch_by_strategy(requests: Option<JsonbArgument>, strategy: Option<&str>) -> Answer {
    to_jsonb(|| checked_batch(requests, strategy))
}

fn checked_batch(
    requests: Option<JsonbArgument>,
    strategy: Option<&str>,
) -> Result<Vec<Purchased>, Fault> {
    let requests = required("requests", requests)?;
    let list = requests.list(MAX_BATCH);
    let clicks = clicks::clicks(&list)?;
    let requests = clicks::requests(&clicks, settings::reservation_ttl())?;
    node::check_items(requests.iter().map(|request| request.item_id))?;
    let outcomes = doors::purchase_batch(&requests, named_strategy(strategy)?)?;
    let answers = requests.iter().zip(&outcomes);
    Ok(answers
        .map(|(request, outcome)| answer::purchased(request.item_id, outcome, &SESSION))
        .collect())
}

/// The order of an argument `order_id`. An error if another server has it.
pub fn by_id(order_id: Option<i64>) -> Result<OrderName<'static>, Fault> {
    own(OrderName::Id(required("order_id", order_id)?))
}

/// The order of an argument `order_ref`. An error if another server has it.
pub fn by_ref(order_ref: Option<&str>) -> Result<OrderName<'_>, Fault> {
    own(OrderName::parse(required_text("order_ref", order_ref)?)?)
}

fn own(name: OrderName<'_>) -> Result<OrderName<'_>, Fault> {
    if let Some((order_id, _)) = name.key() {
        node::check_order(order_id)?;
    }
    Ok(name)
}

#[pg_extern(sql = false)]
fn begin_payment(order_id: Option<i64>, payment_window: Option<Interval>) -> Answer {
    to_jsonb(|| begun(by_id(order_id)?, payment_window))
}

#[pg_extern(sql = false)]
fn begin_payment_by_ref(order_ref: Option<&str>, payment_window: Option<Interval>) -> Answer {
    to_jsonb(|| begun(by_ref(order_ref)?, payment_window))
}

fn begun(name: OrderName<'_>, payment_window: Option<Interval>) -> Result<Value, Fault> {
    let window = match payment_window {
        None => settings::payment_window(),
        Some(window) => span("payment_window", window.as_micros(), 1)?,
    };
    let begun = order::begin_payment(&name, window)?;
    Ok(answer::begun_to_json(&name, begun, &SESSION))
}

#[pg_extern(sql = false)]
fn confirm_order(
    order_id: Option<i64>,
    payment_ref: Option<&str>,
    amount: Option<i64>,
    currency_code: Option<&str>,
) -> Answer {
    to_jsonb(|| confirmed(by_id(order_id)?, payment_ref, amount, currency_code))
}

#[pg_extern(sql = false)]
fn confirm_order_by_ref(
    order_ref: Option<&str>,
    payment_ref: Option<&str>,
    amount: Option<i64>,
    currency_code: Option<&str>,
) -> Answer {
    to_jsonb(|| {
        // It may be recorded, and then compared with the ref of another report.
        let order_ref = order_ref.map(order_ref::as_answered);
        let order = by_ref(order_ref.as_deref())?;
        confirmed(order, payment_ref, amount, currency_code)
    })
}

fn confirmed(
    order: OrderName<'_>,
    payment_ref: Option<&str>,
    amount: Option<i64>,
    currency_code: Option<&str>,
) -> Result<Value, Fault> {
    let charge = Charge {
        order,
        payment_ref: optional_text("payment_ref", payment_ref)?,
        amount: amount
            .map(|amount| number("amount", amount, 0))
            .transpose()?,
        currency: currency_code.map(currency).transpose()?,
    };
    let confirmed = payment::confirm(&charge)?;
    Ok(answer::confirmed_to_json(&order, confirmed, &SESSION))
}

#[pg_extern(sql = false)]
fn cancel_order(order_id: Option<i64>, reason: Option<&str>) -> Answer {
    to_jsonb(|| cancelled(by_id(order_id)?, reason))
}

#[pg_extern(sql = false)]
fn cancel_order_by_ref(order_ref: Option<&str>, reason: Option<&str>) -> Answer {
    to_jsonb(|| cancelled(by_ref(order_ref)?, reason))
}

fn cancelled(name: OrderName<'_>, reason: Option<&str>) -> Result<Value, Fault> {
    let cancelled = doors::cancel(&name, optional_text("reason", reason)?)?;
    Ok(answer::cancelled_to_json(&name, cancelled, &SESSION))
}

#[pg_extern(sql = false)]
fn get_order(order_id: Option<i64>) -> Answer {
    to_jsonb(|| found(by_id(order_id)?))
}

#[pg_extern(sql = false)]
fn get_order_by_ref(order_ref: Option<&str>) -> Answer {
    to_jsonb(|| found(by_ref(order_ref)?))
}

fn found(name: OrderName<'_>) -> Result<Value, Fault> {
    look(
        |client| lookups::order(client, &name),
        Reason::OrderNotFound,
        answer::as_named(&name),
    )
}

#[pg_extern(sql = false)]
fn user_orders(user_id: Option<&str>) -> Answer {
    to_jsonb(|| {
        let user_id = required_text("user_id", user_id)?;
        look(
            |client| lookups::user_orders(client, user_id),
            Reason::UserNotFound,
            json!({ "user_id": user_id }),
        )
    })
}

#[pg_extern(sql = false)]
fn find_payment(payment_ref: Option<&str>) -> Answer {
    to_jsonb(|| {
        let payment_ref = required_text("payment_ref", payment_ref)?;
        look(
            |client| lookups::payment(client, payment_ref),
            Reason::PaymentNotFound,
            json!({ "payment_ref": payment_ref }),
        )
    })
}

#[pg_extern(sql = false)]
fn item_availability(item_id: Option<i64>) -> Answer {
    to_jsonb(|| {
        let item_id = own_item(item_id)?;
        look(
            |client| lookups::availability(client, item_id),
            Reason::ItemNotFound,
            json!({ "item_id": item_id }),
        )
    })
}

/// Looks something up; a failure with this reason if there is none.
fn look(
    find: impl FnOnce(&SpiClient<'_>) -> Result<Option<String>, Fault>,
    reason: Reason,
    about: Value,
) -> Result<Value, Fault> {
    let found = Spi::connect(find)?;
    answer::found_to_json(found.as_deref(), reason, about)
}
