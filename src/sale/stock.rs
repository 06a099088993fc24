//! Stock: items created, restocked, paused and resumed.

use crate::answer;
use crate::attempt::{Verdict, attempt_answer, attempt_or_busy};
use crate::error::Fault;
use crate::store::items::{self, NewItem};
use flashsale_core::argument::{self, Invalid};
use flashsale_core::limits::MAX_NUMBER;
use flashsale_core::reason::Reason;
use serde_json::{Value, json};

/// Creates an item and returns its id; a generated id skips ids already taken.
pub fn create(item: &NewItem<'_>) -> Result<i64, Fault> {
    loop {
        match (
            attempt_or_busy(|client| Ok(Verdict::Keep(items::create(client, item)?)))?,
            item.item_id,
        ) {
            (Some(Some(item_id)), _) => return Ok(item_id),
            (Some(None), Some(taken)) => {
                return Err(Invalid::value("item_id", taken, "this id is taken").into());
            }
            (Some(None), None) => {
                pgrx::check_for_interrupts!();
            }
            (None, _) => return Err(Fault::Locked("create_item")),
        }
    }
}

/// Adds units, or takes free ones away. Locks the item.
pub fn restock(item_id: i64, delta: i64, reason: Option<&str>) -> Result<Value, Fault> {
    attempt_answer(|client| {
        let Some(before) = items::lock_stock(client, item_id)? else {
            return Ok(not_found(item_id));
        };
        if before.inventory.saturating_add(delta) < 0 {
            let about = json!({ "item_id": item_id, "remaining_inventory": before.inventory });
            return Ok(Verdict::Undo(answer::failure(Reason::NotEnoughFree, about)));
        }
        let stock = before.stock.saturating_add(delta);
        if stock > MAX_NUMBER {
            let rule = format!("the stock of {} would pass {}", before.stock, MAX_NUMBER);
            return Err(Invalid::out_of_range("delta", delta, rule).into());
        }
        argument::value_of_stock("delta", delta, before.unit_price, stock)?;
        items::move_stock(client, item_id, delta, reason)?;
        Ok(Verdict::Keep(answer::success(json!({
            "item_id": item_id,
            "delta": delta,
            "stock": stock,
            "remaining_inventory": before.inventory + delta,
        }))))
    })
}

/// Stops or restarts sales of an item. Locks the item.
pub fn set_paused(item_id: i64, paused: bool) -> Result<Value, Fault> {
    attempt_answer(|client| {
        Ok(match items::set_paused(client, item_id, paused)? {
            true => Verdict::Keep(answer::success(
                json!({ "item_id": item_id, "paused": paused }),
            )),
            false => not_found(item_id),
        })
    })
}

fn not_found(item_id: i64) -> Verdict<Value> {
    Verdict::Undo(answer::failure(
        Reason::ItemNotFound,
        json!({ "item_id": item_id }),
    ))
}
