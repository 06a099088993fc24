//! Operator functions: arguments checked, the work done elsewhere.

use super::answer::{self, SESSION};
use super::buyer::{by_id, by_ref, own_item};
use super::{Answer, run, to_jsonb};
use crate::error::Fault;
use crate::group::queue::{Queue, queue};
use crate::pg::{clock, session};
use crate::sale::expiry::{self, FailedOrder};
use crate::sale::{node, order, payment, stock};
use crate::stats;
use crate::store::grants;
use crate::store::items::NewItem;
use flashsale_core::argument::{
    self, Invalid, at_least, number, optional_text, required, required_text, span, value_of_stock,
};
use flashsale_core::order_ref::OrderName;
use flashsale_core::time::SECOND;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use serde_json::Value;

/// The most orders that one call of `reconcile_stale_reservations` names in warnings.
const MOST_WARNINGS: usize = 10;

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // as many as the SQL function has, all but one optional
fn create_item(
    inventory: Option<i64>,
    name: Option<&str>,
    unit_price: Option<i64>,
    currency: Option<&str>,
    max_per_user: Option<i32>,
    starts_at: Option<TimestampWithTimeZone>,
    ends_at: Option<TimestampWithTimeZone>,
    reservation_ttl: Option<Interval>,
    item_id: Option<i64>,
) -> Result<i64, ErrorReport> {
    run(|| {
        let item = NewItem {
            item_id: item_id.map(|id| number("item_id", id, 1)).transpose()?,
            inventory: number("inventory", required("inventory", inventory)?, 0)?,
            name: optional_text("name", name)?,
            unit_price: unit_price
                .map(|price| number("unit_price", price, 0))
                .transpose()?,
            currency: currency.map(argument::currency).transpose()?,
            max_per_user: max_per_user
                .map(|limit| at_least("max_per_user", limit, 1))
                .transpose()?,
            starts_at: starts_at.map(pg_sys::TimestampTz::from),
            ends_at: ends_at.map(pg_sys::TimestampTz::from),
            reservation_ttl: reservation_ttl.map(whole_span).transpose()?,
        };
        argument::sale_window(item.starts_at, item.ends_at, clock::iso)?;
        if let Some(price) = item.unit_price {
            value_of_stock("unit_price", price, item.unit_price, item.inventory.max(1))?;
        }
        stock::create(&item)
    })
}

/// The span without months and years: PostgreSQL counts a year as 360 days when it compares
/// intervals, and as 365.25 days when it extracts the seconds.
fn whole_span(ttl: Interval) -> Result<Interval, Invalid> {
    Ok(Interval::from_micros(span(
        "reservation_ttl",
        ttl.as_micros(),
        SECOND,
    )?))
}

/// As 0.1.0 declares it, for a database that has not been updated.
#[pg_extern(sql = false)]
fn restock_item(item_id: Option<i64>, delta: Option<i64>, reason: Option<&str>) -> Answer {
    restock_item_with_key(item_id, delta, reason, None)
}

#[pg_extern(sql = false)]
fn restock_item_with_key(
    item_id: Option<i64>,
    delta: Option<i64>,
    reason: Option<&str>,
    idempotency_key: Option<&str>,
) -> Answer {
    to_jsonb(|| {
        let item_id = own_item(item_id)?;
        let delta = argument::delta(required("delta", delta)?)?;
        let reason = optional_text("reason", reason)?;
        let key = optional_text("idempotency_key", idempotency_key)?;
        let restocked = stock::restock(item_id, delta, reason, key)?;
        Ok(answer::restocked_to_json(
            item_id, delta, restocked, &SESSION,
        ))
    })
}

#[pg_extern(sql = false)]
fn pause_item(item_id: Option<i64>) -> Answer {
    set_paused(item_id, true)
}

#[pg_extern(sql = false)]
fn resume_item(item_id: Option<i64>) -> Answer {
    set_paused(item_id, false)
}

fn set_paused(item_id: Option<i64>, paused: bool) -> Answer {
    to_jsonb(|| {
        let item_id = own_item(item_id)?;
        let paused = stock::set_paused(item_id, paused)?;
        Ok(answer::paused_to_json(item_id, paused, &SESSION))
    })
}

#[pg_extern(sql = false)]
fn reconcile_stale_reservations(older_than: Option<Interval>, max_orders: Option<i32>) -> Answer {
    to_jsonb(|| {
        let max_orders = argument::max_orders(required("max_orders", max_orders)?)?;
        let older_than = older_than
            .map(|age| argument::age("older_than", age.as_micros()))
            .transpose()?;
        let run = expiry::run(older_than, max_orders)?;
        let run = run.map(|(run, failed)| {
            warn_of(&failed);
            run
        });
        Ok(answer::run_to_json(run, &SESSION))
    })
}

/// Names the orders that do not expire, the first ones each with its reason.
fn warn_of(failed: &[FailedOrder]) {
    for FailedOrder { order_id, fault } in failed.iter().take(MOST_WARNINGS) {
        pgrx::warning!("order {order_id} does not expire: {fault}");
    }
    if failed.len() > MOST_WARNINGS {
        let others = failed.len() - MOST_WARNINGS;
        pgrx::warning!("{others} more orders do not expire");
    }
}

#[pg_extern(sql = false)]
fn refund_order(order_id: Option<i64>, restock: Option<bool>) -> Answer {
    to_jsonb(|| refunded(by_id(order_id)?, restock))
}

#[pg_extern(sql = false)]
fn refund_order_by_ref(order_ref: Option<&str>, restock: Option<bool>) -> Answer {
    to_jsonb(|| refunded(by_ref(order_ref)?, restock))
}

fn refunded(name: OrderName<'_>, restock: Option<bool>) -> Result<Value, Fault> {
    let refunded = order::refund(&name, required("restock", restock)?)?;
    Ok(answer::refunded_to_json(&name, refunded, &SESSION))
}

#[pg_extern(sql = false)]
fn refund_payment(payment_ref: Option<&str>, refund_ref: Option<&str>) -> Answer {
    to_jsonb(|| {
        let payment_ref = required_text("payment_ref", payment_ref)?;
        let refunded = payment::refund(payment_ref, optional_text("refund_ref", refund_ref)?)?;
        Ok(answer::payment_refunded_to_json(
            payment_ref,
            &refunded,
            &SESSION,
        ))
    })
}

#[pg_extern(sql = false)]
fn set_node(node: Option<i32>, nodes: Option<i32>) -> Result<(), ErrorReport> {
    run(|| node::set(required("node", node)?, required("nodes", nodes)?))
}

#[pg_extern(sql = false)]
fn grant_app(role: Option<Oid>) -> Result<(), ErrorReport> {
    run(|| grants::to_app(&role_name(required("role", role)?)))
}

#[pg_extern(sql = false)]
fn grant_operator(role: Option<Oid>) -> Result<(), ErrorReport> {
    run(|| grants::to_operator(&role_name(required("role", role)?)))
}

/// The role's name as a quoted identifier; an unknown role is an error (42704).
fn role_name(role: Oid) -> String {
    pgrx::spi::quote_identifier(session::role_name(role))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // pgrx reads the columns off the type
fn read_stats() -> Result<
    TableIterator<
        'static,
        (
            name!(subject, &'static str),
            name!(strategy, Option<&'static str>),
            name!(name, &'static str),
            name!(value, f64),
        ),
    >,
    ErrorReport,
> {
    let waiting = queue().map_or(0, Queue::backlog);
    let oldest_since = queue().and_then(Queue::oldest_since);
    Ok(TableIterator::new(stats::lines(waiting, oldest_since)?))
}

#[pg_extern(sql = false)]
fn stats_reset() -> Result<(), ErrorReport> {
    Ok(stats::reset()?)
}
