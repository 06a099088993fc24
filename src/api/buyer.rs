//! Buyer functions: arguments checked, the work done elsewhere.

use super::{Answer, answer};
use crate::answer;
use crate::doors;
use crate::error::Fault;
use crate::sale::{batch, order, payment};
use crate::settings::{self, Strategy};
use crate::store::lookups;
use flashsale_core::argument::{
    Invalid, at_least, currency, number, optional_text, required, required_text, span,
};
use flashsale_core::charge::Charge;
use flashsale_core::clicks;
use flashsale_core::fit::Request;
use flashsale_core::reason::Reason;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use pgrx::{JsonB, Uuid};
use serde_json::{Value, json};

#[pg_extern(sql = false)]
fn purchase_item(
    item_id: Option<i64>,
    user_id: Option<&str>,
    quantity: Option<i64>,
    idempotency_key: Option<&str>,
    strategy: Option<&str>,
) -> Answer {
    answer(|| checked_purchase(item_id, user_id, quantity, idempotency_key, strategy))
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
    answer(|| checked_purchase(item_id, user_id, quantity, idempotency_key, strategy))
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
    answer(|| checked_purchase(item_id, user_id, quantity, idempotency_key, strategy))
}

fn checked_purchase(
    item_id: Option<i64>,
    user_id: Option<&str>,
    quantity: Option<i64>,
    idempotency_key: Option<&str>,
    strategy: Option<&str>,
) -> Result<Value, Fault> {
    let request = Request {
        item_id: required("item_id", item_id)?,
        user_id: required_text("user_id", user_id)?,
        quantity: at_least("quantity", required("quantity", quantity)?, 1)?,
        idempotency_key: optional_text("idempotency_key", idempotency_key)?,
        default_ttl: settings::reservation_ttl(),
    };
    let strategy = match optional_text("strategy", strategy)? {
        None => settings::strategy(),
        Some(name) => Strategy::parse(name).ok_or_else(|| {
            Invalid::value(
                "strategy",
                format!("'{name}'"),
                format!("it must be {}", Strategy::NAMES),
            )
        })?,
    };
    let outcome = doors::purchase(&request, strategy)?;
    Ok(answer::purchase(&request, &outcome))
}

#[pg_extern(sql = false)]
fn purchase_batch(requests: Option<JsonB>) -> Answer {
    answer(|| checked_batch(requests))
}

fn checked_batch(requests: Option<JsonB>) -> Result<Value, Fault> {
    let JsonB(list) = required("requests", requests)?;
    let clicks = clicks::clicks(&list)?;
    let requests = clicks::requests(&clicks, settings::reservation_ttl())?;
    let outcomes = batch::purchase(&requests, settings::strategy())?;
    let answers = requests.iter().zip(&outcomes);
    Ok(answers
        .map(|(request, outcome)| answer::purchase(request, outcome))
        .collect())
}

#[pg_extern(sql = false)]
fn begin_payment(order_id: Option<i64>, payment_window: Option<Interval>) -> Answer {
    answer(|| {
        let window = match payment_window {
            None => settings::payment_window(),
            Some(window) => span("payment_window", window.as_micros(), 1)?,
        };
        order::begin_payment(required("order_id", order_id)?, window)
    })
}

#[pg_extern(sql = false)]
fn confirm_order(
    order_id: Option<i64>,
    payment_ref: Option<&str>,
    amount: Option<i64>,
    currency_code: Option<&str>,
) -> Answer {
    answer(|| {
        payment::confirm(&Charge {
            order_id: required("order_id", order_id)?,
            payment_ref: optional_text("payment_ref", payment_ref)?,
            amount: amount
                .map(|amount| number("amount", amount, 0))
                .transpose()?,
            currency: currency_code.map(currency).transpose()?,
        })
    })
}

#[pg_extern(sql = false)]
fn cancel_order(order_id: Option<i64>, reason: Option<&str>) -> Answer {
    answer(|| {
        let order_id = required("order_id", order_id)?;
        let cancelled = doors::cancel(order_id, optional_text("reason", reason)?)?;
        Ok(answer::cancelled(order_id, cancelled))
    })
}

#[pg_extern(sql = false)]
fn get_order(order_id: Option<i64>) -> Answer {
    answer(|| {
        let order_id = required("order_id", order_id)?;
        look(
            |client| lookups::order(client, order_id),
            Reason::OrderNotFound,
            json!({ "order_id": order_id }),
        )
    })
}

#[pg_extern(sql = false)]
fn user_orders(user_id: Option<&str>) -> Answer {
    answer(|| {
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
    answer(|| {
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
    answer(|| {
        let item_id = required("item_id", item_id)?;
        look(
            |client| lookups::availability(client, item_id),
            Reason::ItemNotFound,
            json!({ "item_id": item_id }),
        )
    })
}

fn look(
    find: impl FnOnce(&SpiClient<'_>) -> Result<Option<Value>, Fault>,
    reason: Reason,
    about: Value,
) -> Result<Value, Fault> {
    Ok(match Spi::connect(find)? {
        Some(fields) => answer::success(fields),
        None => answer::failure(reason, about),
    })
}
