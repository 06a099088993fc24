//! What must hold in every row, for the CHECKs of the tables.

use crate::order::machine::Status;
use pgrx::prelude::*;

#[pg_extern(sql = false)]
fn stock_adds_up(inventory: i64, stock: i64) -> bool {
    (0..=stock).contains(&inventory)
}

#[pg_extern(sql = false)]
fn units_add_up(status: &str, quantity: i64, units_held: i64) -> bool {
    Status::parse(status).is_some_and(|status| {
        let held = if status.dead().is_none() { quantity } else { 0 };
        quantity > 0 && units_held == held
    })
}
