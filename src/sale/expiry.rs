//! Expiry: the units of stale reservations are returned to their items, by the reconciler or by a
//! purchase that would be refused for want of units.

use crate::attempt::{attempt_or_busy, is_about_one_row};
use crate::error::Fault;
use crate::pg::clock;
use crate::pg::subtransaction::{self, End};
use crate::store::orders::{HeldOrder, Staleness};
use crate::store::{items, orders};
use flashsale_core::order::{Expired, ExpiryRun, Move, Status, Step, step};
use flashsale_core::time::Micros;
use pgrx::spi::SpiClient;
use std::collections::{BTreeMap, HashSet};

/// The most orders that [`free`] expires in one statement.
const ORDERS_PER_STATEMENT: i64 = 1_000;

/// The progress of a run.
#[derive(Default)]
struct Progress {
    expired: Expired,
    /// Items to leave out, because other transactions hold them.
    held_items: Vec<i64>,
    /// Orders to leave out: those that other transactions hold, and those that the caller excludes.
    but_orders: Vec<i64>,
}

/// Expires up to `max_orders` stale reservations: those that have expired or, with `older_than`,
/// those that are older than that many microseconds. Locks the same as [`expire_stale`]. `None` if
/// a lock was refused, as a table's can be.
pub fn run(older_than: Option<Micros>, max_orders: i32) -> Result<Option<ExpiryRun>, Fault> {
    let now = clock::now();
    let staleness = match older_than {
        None => Staleness::ExpiredAt(now),
        Some(age) => Staleness::CreatedBefore(now.saturating_sub(age)),
    };
    attempt_or_busy(|client| {
        let run = ExpiryRun {
            expired: expire_stale(client, staleness, max_orders, &[])?,
            payment_checks: orders::count_payment_checks(client, now)?,
        };
        Ok(match run.expired.orders {
            0 => End::RollBack(run),
            _ => End::Commit(run),
        })
    })
}

/// Expires up to `max_orders` stale reservations, without `but_orders`. Locks orders, then their
/// items, SKIP LOCKED, so it waits for no row. It locks no item of which it could not lock an
/// order, because that would delay sales for nothing. Runs in the transaction of its caller.
pub fn expire_stale(
    client: &SpiClient<'_>,
    staleness: Staleness,
    max_orders: i32,
    but_orders: &[i64],
) -> Result<Expired, Fault> {
    let mut progress = Progress {
        but_orders: but_orders.to_vec(),
        ..Progress::default()
    };
    while progress.expired.orders < i64::from(max_orders)
        && round(client, staleness, max_orders, &mut progress)?
    {}
    progress.expired.more = !left(client, staleness, 1, &progress)?.is_empty();
    Ok(progress.expired)
}

/// Expires those of the oldest stale orders that no other transaction holds, and adds the others to
/// those that the next round leaves out. False if no stale order was left.
fn round(
    client: &SpiClient<'_>,
    staleness: Staleness,
    max_orders: i32,
    progress: &mut Progress,
) -> Result<bool, Fault> {
    let room = max_orders - progress.expired.orders as i32;
    let found = left(client, staleness, room, progress)?;
    if found.is_empty() {
        return Ok(false);
    }
    let taken = orders::lock_stale(client, found.clone())?;
    let wanted: HashSet<i64> = taken.iter().map(|order| order.item_id).collect();
    let held = items::lock_unheld(client, wanted.iter().copied().collect())?;
    let held: HashSet<i64> = held.into_iter().collect();
    let stale: Vec<&HeldOrder> = taken
        .iter()
        .filter(|order| held.contains(&order.item_id))
        .filter(|order| step(order.status, Move::Expire) == Step::To(Status::Expired))
        .collect();
    expire(client, &stale, progress)?;

    let had: HashSet<i64> = taken.iter().map(|order| order.order_id).collect();
    progress.expired.skipped += (found.len() - stale.len()) as i64;
    progress.held_items.extend(wanted.difference(&held));
    progress
        .but_orders
        .extend(found.into_iter().filter(|order_id| !had.contains(order_id)));
    Ok(true)
}

/// The ids of up to `limit` stale orders that are not left out.
fn left(
    client: &SpiClient<'_>,
    staleness: Staleness,
    limit: i32,
    progress: &Progress,
) -> Result<Vec<i64>, Fault> {
    orders::stale(
        client,
        staleness,
        &progress.held_items,
        &progress.but_orders,
        limit,
    )
}

fn expire(
    client: &SpiClient<'_>,
    stale: &[&HeldOrder],
    progress: &mut Progress,
) -> Result<(), Fault> {
    if stale.is_empty() {
        return Ok(());
    }
    let mut units = BTreeMap::<i64, i64>::new();
    for order in stale {
        *units.entry(order.item_id).or_default() += order.quantity;
    }
    let expired = &mut progress.expired;
    expired.orders += stale.len() as i64;
    expired.units = units
        .values()
        .fold(expired.units, |sum, &units| sum.saturating_add(units));
    orders::expire(
        client,
        stale.iter().map(|order| order.order_id).collect(),
        clock::now(),
    )?;
    items::restore_many(
        client,
        units.keys().copied().collect(),
        units.values().copied().collect(),
        Status::Expired,
    )
}

/// Expires stale reservations of an item, oldest first, until at least `units` units have returned to
/// it; returns how many have, which may be fewer. The caller has locked the item. Locks orders SKIP
/// LOCKED, so it waits for no row. Runs in the transaction of its caller, and is undone with it.
pub fn free(client: &SpiClient<'_>, item_id: i64, units: i64, now: Micros) -> Result<i64, Fault> {
    let mut freed = 0;
    let mut but_orders = Vec::new();
    while freed < units {
        let limit = ORDERS_PER_STATEMENT.min(units - freed);
        let found = orders::stale_of_item(client, item_id, now, &but_orders, limit)?;
        let mut missing = units - freed;
        let needed = found.into_iter().take_while(|(_, quantity)| {
            let is_needed = missing > 0;
            missing -= quantity;
            is_needed
        });
        let needed: Vec<i64> = needed.map(|(order_id, _)| order_id).collect();
        if needed.is_empty() {
            break;
        }
        freed += free_units_of(client, &needed, &mut but_orders)?;
    }
    if freed > 0 {
        items::restore(client, item_id, freed, Status::Expired)?;
    }
    Ok(freed)
}

/// Expires those of the orders that no other transaction holds, and returns their units; adds the
/// others to `but_orders`. An order that fails to expire, because of a trigger of the shop's, does
/// not fail the purchase: it is left to the reconciler, which reports it.
fn free_units_of(
    client: &SpiClient<'_>,
    order_ids: &[i64],
    but_orders: &mut Vec<i64>,
) -> Result<i64, Fault> {
    let tried = subtransaction::run(|| match expire_unheld(client, order_ids) {
        Ok(expired) => End::Commit(Ok(expired)),
        Err(fault) => End::RollBack(Err(fault)),
    });
    match tried {
        Ok(expired) => {
            let expired = expired?;
            let ids: HashSet<i64> = expired.iter().map(|order| order.order_id).collect();
            but_orders.extend(order_ids.iter().filter(|order_id| !ids.contains(order_id)));
            Ok(expired.iter().map(|order| order.quantity).sum())
        }
        Err(error) if !is_about_one_row(&error) => error.rethrow(),
        Err(_) if order_ids.len() == 1 => {
            but_orders.extend(order_ids);
            Ok(0)
        }
        Err(_) => {
            let (first, second) = order_ids.split_at(order_ids.len() / 2);
            let freed = free_units_of(client, first, but_orders)?;
            Ok(freed + free_units_of(client, second, but_orders)?)
        }
    }
}

/// Expires those of the orders that no other transaction holds and that are still reserved, and
/// returns them. Restores no units.
fn expire_unheld(client: &SpiClient<'_>, order_ids: &[i64]) -> Result<Vec<HeldOrder>, Fault> {
    let mut taken = orders::lock_stale(client, order_ids.to_vec())?;
    taken.retain(|order| step(order.status, Move::Expire) == Step::To(Status::Expired));
    if !taken.is_empty() {
        let ids = taken.iter().map(|order| order.order_id).collect();
        orders::expire(client, ids, clock::now())?;
    }
    Ok(taken)
}
