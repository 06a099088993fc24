//! Expiry: the units of stale reservations are returned to their items.

use crate::attempt::attempt_or_busy;
use crate::error::Fault;
use crate::pg::clock;
use crate::pg::subtransaction::End;
use crate::store::orders::{HeldOrder, Staleness};
use crate::store::{items, orders};
use flashsale_core::order::{Expired, ExpiryRun, Move, Status, Step, step};
use flashsale_core::time::Micros;
use pgrx::spi::SpiClient;
use std::collections::{BTreeMap, HashSet};

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
