//! What must hold in every row, for the CHECKs of the tables.

use crate::order::machine::Status;
use crate::payment::fate::Standing;
use crate::purchase::fit;
use pgrx::prelude::*;

#[pg_extern(sql = false)]
fn stock_adds_up(inventory: i64, stock: i64) -> bool {
    fit::stock_adds_up(inventory, stock)
}

#[pg_extern(sql = false)]
fn units_add_up(status: &str, quantity: i64, units_held: i64) -> bool {
    Status::parse(status).is_some_and(|status| {
        let held = if status.dead().is_none() { quantity } else { 0 };
        quantity > 0 && units_held == held
    })
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
    let fits = |text: Option<&str>| text.is_none_or(|text| (1..=255).contains(&text.len()));
    let since = match status.and_then(|status| Standing::parse(status, why)) {
        None => return false,
        Some(Standing::Paid) => (Some(false), Some(false)),
        Some(Standing::Due(_)) => (Some(true), Some(false)),
        Some(Standing::Refunded(_)) => (Some(true), Some(true)),
    };
    (is_due, is_refunded) == since
        && (refund_ref.is_none() || is_refunded == Some(true))
        && fits(payment_ref)
        && fits(refund_ref)
        && amount.is_none_or(|amount| amount >= 0)
}
