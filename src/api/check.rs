//! What must hold in every row, for the CHECKs of the tables; the defaults of columns; and a trigger.

// The large Err is pgrx's ErrorReport: any other type would lose its SQLSTATE.
#![allow(clippy::result_large_err)]

use crate::pg::random;
use crate::store::node;
use flashsale_core::fate::Row;
use flashsale_core::{item, order};
use pgrx::pg_sys::Oid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

#[pg_extern(sql = false)]
fn stock_adds_up(inventory: i64, stock: i64) -> bool {
    item::stock_adds_up(inventory, stock)
}

#[pg_extern(sql = false)]
fn units_add_up(status: &str, quantity: i64, units_held: i64) -> bool {
    order::units_add_up(status, quantity, units_held)
}

#[pg_extern(sql = false)]
fn new_ref_code() -> String {
    random::ref_code().as_str().to_owned()
}

#[pg_extern(sql = false)]
fn next_id(sequence: Oid) -> Result<i64, ErrorReport> {
    Ok(node::next_id(sequence)?)
}

/// The trigger of the table `node`. What it returns is of no consequence after a statement.
#[pg_extern(sql = false)]
fn forget_node() {
    node::has_changed();
}

#[pg_extern(sql = false)]
fn payment_adds_up(
    status: Option<&str>,
    why: Option<&str>,
    is_due: Option<bool>,
    is_refunded: Option<bool>,
    payment_ref: Option<&str>,
    refund_ref: Option<&str>,
    amount: Option<i64>,
) -> bool {
    let row = Row {
        status,
        why,
        is_due,
        is_refunded,
        payment_ref,
        refund_ref,
        amount,
    };
    row.adds_up()
}
