//! Statements that grant the two privilege sets.

use crate::error::Fault;
use pgrx::spi::Spi;

/// What both sets need: to settle orders and to look things up.
const SHARED_FUNCTIONS: &str = "flashsale.confirm_order(bigint, text, bigint, text), \
     flashsale.cancel_order(bigint, text), flashsale.get_order(bigint), flashsale.user_orders(text), \
     flashsale.find_payment(text), flashsale.item_availability(bigint)";

const APP_FUNCTIONS: &str = "flashsale.purchase_item(bigint, text, bigint, text, text), \
     flashsale.purchase_item(bigint, bigint, bigint, text, text), \
     flashsale.purchase_item(bigint, uuid, bigint, text, text), flashsale.begin_payment(bigint, interval)";

const OPERATOR_FUNCTIONS: &str = "flashsale.create_item(bigint, text, bigint, text, integer, timestamptz, \
         timestamptz, interval, bigint), \
     flashsale.restock_item(bigint, bigint, text), flashsale.pause_item(bigint), \
     flashsale.resume_item(bigint), flashsale.reconcile_stale_reservations(interval, integer), \
     flashsale.refund_order(bigint, boolean), flashsale.refund_payment(text, text), flashsale.audit(), \
     flashsale.item_state(bigint, timestamptz, timestamptz, boolean)";

const OPERATOR_RELATIONS: &str = "flashsale.items, flashsale.orders, flashsale.payments, \
     flashsale.stock_movements, flashsale.item_status, flashsale.payment_checks, flashsale.refunds_due";

/// `role` is a quoted identifier.
pub fn to_app(role: &str) -> Result<(), Fault> {
    grant(&[
        format!("GRANT USAGE ON SCHEMA flashsale TO {role}"),
        format!("GRANT EXECUTE ON FUNCTION {SHARED_FUNCTIONS}, {APP_FUNCTIONS} TO {role}"),
    ])
}

/// `role` is a quoted identifier.
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
