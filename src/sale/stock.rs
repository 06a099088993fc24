//! Stock: items created, restocked, paused and resumed.

use crate::error::Fault;
use crate::pg::clock;
use crate::pg::subtransaction::End;
use crate::pg::wal;
use crate::sale::expiry::{ForSale, Freed};
use crate::sale::numbered::attempt_or_busy;
use crate::store::items::{self, NewItem};
use crate::store::node;
use flashsale_core::argument::Invalid;
use flashsale_core::item::{self, Paused, Restocked, Stock};
use pgrx::spi::SpiClient;

/// Creates an item and returns its id; a generated id skips ids already taken. 22023 if the id
/// that is asked for is taken or belongs to another server, 55P03 if a lock was refused.
pub fn create(item: &NewItem<'_>) -> Result<i64, Fault> {
    loop {
        match (
            attempt_or_busy(|client| create_or_none(client, item))?,
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

/// Creates an item; `None` if its id is taken. Now that the table is locked, the place of this server
/// stays the same.
fn create_or_none(client: &SpiClient<'_>, item: &NewItem<'_>) -> Result<End<Option<i64>>, Fault> {
    let created = items::create(client, item)?;
    if let Some(item_id) = created {
        node::here()?.check("item", item_id)?;
    }
    Ok(End::Commit(created))
}

/// Adds units, or removes free ones if `delta` is negative, and then also those of stale reservations;
/// a repeat with the same key moves none. Locks the item, and stale orders whose units it removes.
/// 22003 if the stock or its value would be too large a number.
pub fn restock(
    item_id: i64,
    delta: i64,
    reason: Option<&str>,
    key: Option<&str>,
) -> Result<Restocked, Fault> {
    let restocked = attempt_or_busy(|client| {
        let Some(before) = items::lock_stock(client, item_id)? else {
            return Ok(End::RollBack(Restocked::NotFound));
        };
        // Only now: another call with the same key may have held the item until it committed.
        if let Some(key) = key
            && let Some(movement) = items::movement_by_key(client, item_id, key)?
        {
            return Ok(End::RollBack(movement.again(delta)));
        }
        let restocked = restocked(client, item_id, before, delta)?;
        if !matches!(restocked, Restocked::Done { .. }) {
            return Ok(End::RollBack(restocked));
        }
        items::move_stock(client, item_id, delta, reason, key)?;
        Ok(End::Commit(restocked))
    })?;
    if matches!(restocked, Some(Restocked::Done { replayed: true, .. })) {
        wal::make_seen_commits_durable();
    }
    Ok(restocked.unwrap_or(Restocked::Busy))
}

/// The units after the restock. If too few are free, but stale reservations hold the others, those are
/// expired first; if other transactions hold these, the item is busy.
fn restocked(
    client: &SpiClient<'_>,
    item_id: i64,
    before: Stock,
    delta: i64,
) -> Result<Restocked, Fault> {
    let restocked = item::restock(before, delta)?;
    let wanted = delta.saturating_neg();
    // More than the stock cannot become free.
    if !matches!(restocked, Restocked::NotEnoughFree { .. }) || wanted > before.stock {
        return Ok(restocked);
    }
    let missing = wanted - before.inventory;
    let mut for_sale = ForSale::of(item_id, clock::now());
    let freed = match for_sale.free(client, missing)? {
        Freed::Enough(freed) => freed,
        Freed::Only(_) if for_sale.left(client, missing)? >= missing => return Ok(Restocked::Busy),
        Freed::Only(_) => return Ok(restocked),
    };
    let inventory = before.inventory + freed;
    Ok(item::restock(
        Stock {
            inventory,
            ..before
        },
        delta,
    )?)
}

/// Stops or restarts sales of an item. Locks the item.
pub fn set_paused(item_id: i64, paused: bool) -> Result<Paused, Fault> {
    let done = attempt_or_busy(|client| {
        if items::lock_stock(client, item_id)?.is_none() {
            return Ok(End::RollBack(Paused::NotFound));
        }
        items::set_paused(client, item_id, paused)?;
        Ok(End::Commit(Paused::Done { paused }))
    })?;
    Ok(done.unwrap_or(Paused::Busy))
}
