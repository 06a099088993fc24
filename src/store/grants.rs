//! Statements on privileges: the two sets, and the owner of the functions.

use super::{Statement, some};
use crate::error::Fault;
use pgrx::pg_sys::Oid;
use pgrx::spi::{Spi, SpiClient};

/// The functions in both sets: those that settle orders, and look-ups.
const SHARED_FUNCTIONS: &str = "flashsale.confirm_order(bigint, text, bigint, text), \
     flashsale.confirm_order(text, text, bigint, text), flashsale.cancel_order(bigint, text), \
     flashsale.cancel_order(text, text), flashsale.get_order(bigint), flashsale.get_order(text), \
     flashsale.user_orders(text), \
     flashsale.find_payment(text), flashsale.item_availability(bigint)";

const APP_FUNCTIONS: &str = "flashsale.purchase_item(bigint, text, bigint, text, text), \
     flashsale.purchase_item(bigint, bigint, bigint, text, text), \
     flashsale.purchase_item(bigint, uuid, bigint, text, text), \
     flashsale.purchase_batch(jsonb, text), \
     flashsale.begin_payment(bigint, interval), flashsale.begin_payment(text, interval)";

const OPERATOR_FUNCTIONS: &str = "flashsale.create_item(bigint, text, bigint, text, integer, timestamptz, \
         timestamptz, interval, bigint), \
     flashsale.restock_item(bigint, bigint, text, text), flashsale.pause_item(bigint), \
     flashsale.resume_item(bigint), flashsale.reconcile_stale_reservations(interval, integer), \
     flashsale.refund_order(bigint, boolean), flashsale.refund_order(text, boolean), \
     flashsale.refund_payment(text, text), flashsale.audit(), flashsale.audit(bigint), flashsale.health(), \
     flashsale.stats_reset(), flashsale.read_stats(), \
     flashsale.item_state(bigint, timestamptz, timestamptz, boolean), flashsale.stock_adds_up(bigint, bigint)";

const OPERATOR_RELATIONS: &str = "flashsale.items, flashsale.orders, flashsale.payments, \
     flashsale.stock_movements, flashsale.node, flashsale.item_status, flashsale.payment_checks, flashsale.refunds_due, \
     flashsale.broken_invariants, flashsale.stats";

/// Grants what an application needs. `role` is a quoted identifier.
pub fn to_app(role: &str) -> Result<(), Fault> {
    grant(&[
        format!("GRANT USAGE ON SCHEMA flashsale TO {role}"),
        format!("GRANT EXECUTE ON FUNCTION {SHARED_FUNCTIONS}, {APP_FUNCTIONS} TO {role}"),
    ])
}

/// Grants what an operator needs. `role` is a quoted identifier.
pub fn to_operator(role: &str) -> Result<(), Fault> {
    grant(&[
        format!("GRANT USAGE ON SCHEMA flashsale TO {role}"),
        format!("GRANT EXECUTE ON FUNCTION {SHARED_FUNCTIONS}, {OPERATOR_FUNCTIONS} TO {role}"),
        format!("GRANT SELECT ON {OPERATOR_RELATIONS} TO {role}"),
        format!(
            "GRANT UPDATE (name, unit_price, currency, max_per_user, starts_at, ends_at) \
             ON flashsale.items TO {role}"
        ),
    ])
}

fn grant(statements: &[String]) -> Result<(), Fault> {
    statements
        .iter()
        .try_for_each(|statement| Ok(Spi::run(statement)?))
}

/// Locks nothing.
static FUNCTIONS_OWNER: Statement = Statement::looking(
    "SELECT extowner FROM pg_catalog.pg_extension WHERE extname = 'flashsale'",
    &[],
);

/// The extension's owner, and so the owner of its functions; `None` if it is not installed.
pub fn functions_owner(client: &SpiClient<'_>) -> Result<Option<Oid>, Fault> {
    let row = FUNCTIONS_OWNER.first(client, &[])?;
    row.map(|row| some(&row, 1)).transpose()
}
