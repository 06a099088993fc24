//! Statements that only read. They lock nothing, and see what their caller sees.
//!
//! PostgreSQL builds their answers, as jsonb, which are returned as text: pgrx would leave a copy
//! of each jsonb in the transaction's memory.

use super::orders::HOLDINGS;
use super::stale::ITEM_EXPIRY;
use super::{Statement, orders, some};
use crate::error::Fault;
use flashsale_core::launch::DatabaseState;
use flashsale_core::order_ref::OrderName;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::BuiltinOid::{INT8OID, TEXTOID};
use pgrx::spi::SpiClient;

/// An order and its payments, as jsonb.
macro_rules! order_json {
    () => {
        "jsonb_build_object( \
             'order_id', o.order_id, 'order_ref', o.order_id || '-' || o.ref_code, 'item_id', o.item_id, 'user_id', o.user_id, 'quantity', o.quantity, \
             'status', o.status, 'unit_price', o.unit_price, 'currency', o.currency, \
             'total', o.unit_price * o.quantity, 'idempotency_key', o.idempotency_key, \
             'created_at', o.created_at, 'expires_at', o.expires_at, 'paying_at', o.paying_at, \
             'payment_deadline', o.payment_deadline, 'confirmed_at', o.confirmed_at, \
             'closed_at', o.closed_at, 'close_reason', o.close_reason, \
             'payments', coalesce(( \
                 SELECT jsonb_agg(jsonb_build_object( \
                            'payment_ref', p.payment_ref, 'status', p.status, 'why', p.why, \
                            'amount', coalesce(p.amount, o.unit_price * o.quantity), \
                            'currency', coalesce(p.currency, o.currency)) ORDER BY p.payment_id) \
                 FROM flashsale.payments p \
                 WHERE p.order_id = o.order_id AND p.why IS DISTINCT FROM 'order_not_found'), '[]'::jsonb))"
    };
}

static ORDER: Statement = Statement::looking(
    concat!(
        "SELECT ",
        order_json!(),
        "::text FROM flashsale.orders o WHERE o.order_id = $1 AND ($2 IS NULL OR o.ref_code = $2)"
    ),
    &[INT8OID, TEXTOID],
);

static USER_ORDERS: Statement = Statement::looking(concat!(
        "SELECT jsonb_build_object('user_id', $1, 'orders', jsonb_agg(found.body ORDER BY found.order_id DESC))::text \
         FROM (SELECT o.order_id, ",
        order_json!(),
        " AS body FROM flashsale.orders o \
               WHERE o.user_id = $1 ORDER BY o.order_id DESC LIMIT 100) found \
         HAVING count(*) > 0"
    ),
    &[TEXTOID],
).by(HOLDINGS);

static PAYMENT: Statement = Statement::looking(
    "SELECT jsonb_build_object( \
         'payment_ref', p.payment_ref, 'order_id', p.order_id, \
         'order_ref', coalesce(p.order_ref, o.order_id || '-' || o.ref_code), \
         'status', p.status, 'why', p.why, \
         'amount', coalesce(p.amount, o.unit_price * o.quantity), \
         'currency', coalesce(p.currency, o.currency), 'created_at', p.created_at, \
         'due_since', p.due_since, 'refunded_at', p.refunded_at, 'refund_ref', p.refund_ref)::text \
     FROM flashsale.payments p LEFT JOIN flashsale.orders o \
       ON o.order_id = p.order_id AND p.why IS DISTINCT FROM 'order_not_found' \
     WHERE p.payment_ref = $1",
    &[TEXTOID],
);

/// The units of stale reservations count as free, because who buys gets them: of the 1,000 oldest
/// orders, since there may be many if nobody expires them.
static AVAILABILITY: Statement = Statement::looking("SELECT jsonb_build_object( \
         'item_id', item_id, 'name', name, 'remaining_inventory', units, \
         'available', state = 'on_sale', 'state', state, \
         'unit_price', unit_price, 'currency', currency, 'max_per_user', max_per_user, \
         'starts_at', starts_at, 'ends_at', ends_at)::text \
     FROM (SELECT i.*, f.units, flashsale.item_state(f.units, i.starts_at, i.ends_at, i.paused) AS state \
           FROM flashsale.items i, \
           LATERAL (SELECT i.inventory + coalesce(sum(stale.quantity), 0)::bigint AS units \
                    FROM (SELECT o.quantity FROM flashsale.orders o \
                          WHERE o.item_id = i.item_id AND o.status = 'reserved' \
                            AND o.expires_at <= statement_timestamp() \
                          ORDER BY o.expires_at LIMIT 1000) stale) f \
           WHERE i.item_id = $1) found",
    &[INT8OID],
).by(ITEM_EXPIRY);

/// An order with its payments; `None` if there is none of this name.
pub fn order(client: &SpiClient<'_>, name: &OrderName<'_>) -> Result<Option<String>, Fault> {
    match orders::key(name) {
        Some(key) => one(client, &ORDER, &key),
        None => Ok(None),
    }
}

/// A user's 100 newest orders; `None` if there is none.
pub fn user_orders(client: &SpiClient<'_>, user_id: &str) -> Result<Option<String>, Fault> {
    one(client, &USER_ORDERS, &[user_id.into()])
}

/// The payment with a ref; `None` if there is none.
pub fn payment(client: &SpiClient<'_>, payment_ref: &str) -> Result<Option<String>, Fault> {
    one(client, &PAYMENT, &[payment_ref.into()])
}

/// An item as a shop page shows it; `None` if there is none.
pub fn availability(client: &SpiClient<'_>, item_id: i64) -> Result<Option<String>, Fault> {
    one(client, &AVAILABILITY, &[item_id.into()])
}

static DATABASE_STATE: Statement = Statement::looking(
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'flashsale'), \
            EXISTS (SELECT FROM pg_catalog.pg_subscription_rel r \
                    JOIN pg_catalog.pg_class c ON c.oid = r.srrelid \
                    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                    WHERE n.nspname = 'flashsale')",
    &[],
);

/// Whether this database is to be served by the workers.
pub fn database_state(client: &SpiClient<'_>) -> Result<DatabaseState, Fault> {
    let row = DATABASE_STATE.first(client, &[])?;
    let row = row.ok_or(Fault::Broken("a statement returned no row"))?;
    Ok(match (some(&row, 1)?, some(&row, 2)?) {
        (false, _) => DatabaseState::NoExtension,
        (true, true) => DatabaseState::Copy,
        (true, false) => DatabaseState::Served,
    })
}

fn one(
    client: &SpiClient<'_>,
    statement: &Statement,
    arguments: &[DatumWithOid<'_>],
) -> Result<Option<String>, Fault> {
    let row = statement.first(client, arguments)?;
    row.map(|row| some(&row, 1)).transpose()
}
