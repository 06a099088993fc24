//! The functions for people and scheduled jobs. A role calls them after `flashsale.grant_operator`.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio_postgres::types::{Json, Type};
use tokio_postgres::{GenericClient, Row};

use crate::answer::Answer;
use crate::call::{ask, value};
use crate::error::Error;
use crate::outcomes::{
    OrderRefunded, Paused, PaymentCheck, PaymentRefunded, Reconciled, RefundDue, Restocked,
};

/// An item to put on sale; everything but its units may be left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewItem<'a> {
    /// Units on sale.
    pub inventory: i64,
    pub name: Option<&'a str>,
    /// In minor units. If there is none, the application decides on prices.
    pub unit_price: Option<i64>,
    pub currency: Option<&'a str>,
    pub max_per_user: Option<i32>,
    /// ISO 8601, as PostgreSQL reads it.
    pub starts_at: Option<&'a str>,
    /// ISO 8601, as PostgreSQL reads it.
    pub ends_at: Option<&'a str>,
    /// How long a reservation lasts.
    pub reservation_ttl: Option<Duration>,
    /// By default the next free number.
    pub item_id: Option<i64>,
}

/// Puts a new item on sale, and returns its id.
pub async fn create_item(client: &impl GenericClient, item: &NewItem<'_>) -> Result<i64, Error> {
    let sql = "SELECT flashsale.create_item($1, $2, $3, $4, $5, $6::timestamptz, $7::timestamptz, \
         make_interval(secs => $8), $9)";
    let ttl_s = item.reservation_ttl.map(|ttl| ttl.as_secs_f64());
    let parameters = [
        (&item.inventory as _, Type::INT8),
        (&item.name as _, Type::TEXT),
        (&item.unit_price as _, Type::INT8),
        (&item.currency as _, Type::TEXT),
        (&item.max_per_user as _, Type::INT4),
        (&item.starts_at as _, Type::TEXT),
        (&item.ends_at as _, Type::TEXT),
        (&ttl_s as _, Type::FLOAT8),
        (&item.item_id as _, Type::INT8),
    ];
    value(&client.query_typed_one(sql, &parameters).await?)
}

/// Adds units to the stock, or takes free units away if `delta` is negative. Calls of the same item
/// and key are one movement; without a key it must not be repeated if its outcome is unknown.
pub async fn restock_item(
    client: &impl GenericClient,
    item_id: i64,
    delta: i64,
    reason: Option<&str>,
    key: Option<&str>,
) -> Result<Answer<Restocked>, Error> {
    let sql = "SELECT flashsale.restock_item($1, $2, $3, $4)";
    let parameters = [
        (&item_id as _, Type::INT8),
        (&delta as _, Type::INT8),
        (&reason as _, Type::TEXT),
        (&key as _, Type::TEXT),
    ];
    ask(client, sql, &parameters).await
}

/// Stops the sale of an item. Orders that are reserved can still be paid.
pub async fn pause_item(
    client: &impl GenericClient,
    item_id: i64,
) -> Result<Answer<Paused>, Error> {
    let sql = "SELECT flashsale.pause_item($1)";
    ask(client, sql, &[(&item_id, Type::INT8)]).await
}

/// Restarts the sale of an item.
pub async fn resume_item(
    client: &impl GenericClient,
    item_id: i64,
) -> Result<Answer<Paused>, Error> {
    let sql = "SELECT flashsale.resume_item($1)";
    ask(client, sql, &[(&item_id, Type::INT8)]).await
}

/// Expires stale reservations, `max_orders` at most (by default 1,000), and puts their units back on
/// sale. With `older_than` those that were created longer ago than that. Only needed where the library
/// is not preloaded.
pub async fn reconcile_stale_reservations(
    client: &impl GenericClient,
    older_than: Option<Duration>,
    max_orders: Option<i32>,
) -> Result<Answer<Reconciled>, Error> {
    let seconds = older_than.map(|age| age.as_secs_f64());
    let age = (&seconds as _, Type::FLOAT8);
    match max_orders {
        None => {
            let sql = "SELECT flashsale.reconcile_stale_reservations(make_interval(secs => $1))";
            ask(client, sql, &[age]).await
        }
        Some(max_orders) => {
            let sql =
                "SELECT flashsale.reconcile_stale_reservations(make_interval(secs => $1), $2)";
            ask(client, sql, &[age, (&max_orders, Type::INT4)]).await
        }
    }
}

/// Orders in `paying` past their deadline, the longest overdue first: ask the gateway about each, then
/// call [`confirm_order`](crate::confirm_order) or [`cancel_order`](crate::cancel_order).
pub async fn payment_checks(client: &impl GenericClient) -> Result<Vec<PaymentCheck>, Error> {
    let sql =
        "SELECT to_jsonb(checks) FROM flashsale.payment_checks checks ORDER BY payment_deadline";
    rows(client, sql).await
}

/// Charges that are due for refund, the longest due first: refund each at the gateway, then call
/// [`refund_payment`].
pub async fn refunds_due(client: &impl GenericClient) -> Result<Vec<RefundDue>, Error> {
    rows(
        client,
        "SELECT to_jsonb(due) FROM flashsale.refunds_due due ORDER BY due_since",
    )
    .await
}

async fn rows<T: DeserializeOwned>(
    client: &impl GenericClient,
    sql: &str,
) -> Result<Vec<T>, Error> {
    let rows = client.query_typed(sql, &[]).await?;
    let read = |row: &Row| {
        let Json(row): Json<&RawValue> = value(row)?;
        Ok(serde_json::from_str(row.get())?)
    };
    rows.iter().map(read).collect()
}

/// Refunds a confirmed order: its payment becomes due for refund. Its units go back on sale, or
/// without `restock` leave the stock.
pub async fn refund_order(
    client: &impl GenericClient,
    order_ref: &str,
    restock: bool,
) -> Result<Answer<OrderRefunded>, Error> {
    let sql = "SELECT flashsale.refund_order($1, $2)";
    let parameters = [(&order_ref as _, Type::TEXT), (&restock as _, Type::BOOL)];
    ask(client, sql, &parameters).await
}

/// Reports that a payment due for refund was refunded at the gateway.
pub async fn refund_payment(
    client: &impl GenericClient,
    payment_ref: &str,
    refund_ref: Option<&str>,
) -> Result<Answer<PaymentRefunded>, Error> {
    let sql = "SELECT flashsale.refund_payment($1, $2)";
    let parameters = [
        (&payment_ref as _, Type::TEXT),
        (&refund_ref as _, Type::TEXT),
    ];
    ask(client, sql, &parameters).await
}

/// One violation of an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokenInvariant {
    pub invariant: String,
    pub item_id: Option<i64>,
    pub order_id: Option<i64>,
    pub payment_ref: Option<String>,
    pub detail: String,
}

/// What is wrong with the figures, of all items or of one; nothing, if all is well.
pub async fn audit(
    client: &impl GenericClient,
    item_id: Option<i64>,
) -> Result<Vec<BrokenInvariant>, Error> {
    let rows = match item_id {
        None => {
            client
                .query_typed("SELECT * FROM flashsale.audit()", &[])
                .await?
        }
        Some(item_id) => {
            let sql = "SELECT * FROM flashsale.audit($1)";
            client.query_typed(sql, &[(&item_id, Type::INT8)]).await?
        }
    };
    rows.iter().map(broken_invariant).collect()
}

fn broken_invariant(row: &Row) -> Result<BrokenInvariant, Error> {
    Ok(BrokenInvariant {
        invariant: row.try_get("invariant")?,
        item_id: row.try_get("item_id")?,
        order_id: row.try_get("order_id")?,
        payment_ref: row.try_get("payment_ref")?,
        detail: row.try_get("detail")?,
    })
}

/// One thing that needs a person.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// `error` or `warning`.
    pub severity: String,
    pub problem: String,
    pub detail: String,
    /// What to do about it.
    pub hint: String,
}

/// What needs a person; nothing, if all is well.
pub async fn health(client: &impl GenericClient) -> Result<Vec<Problem>, Error> {
    let rows = client
        .query_typed("SELECT * FROM flashsale.health()", &[])
        .await?;
    rows.iter().map(problem).collect()
}

fn problem(row: &Row) -> Result<Problem, Error> {
    Ok(Problem {
        severity: row.try_get("severity")?,
        problem: row.try_get("problem")?,
        detail: row.try_get("detail")?,
        hint: row.try_get("hint")?,
    })
}
