//! Expiry: reservations nobody came back for give their units back.

use crate::answer;
use crate::attempt::{Verdict, attempt_answer};
use crate::error::Fault;
use crate::pg::clock;
use crate::store::orders::{HeldOrder, Staleness};
use crate::store::{items, orders};
use flashsale_core::order::{Move, Status, Step, step};
use flashsale_core::time::Micros;
use pgrx::spi::SpiClient;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};

/// What a run did, and what it had to leave to others.
#[derive(Default)]
pub struct Progress {
    pub expired: i64,
    restored: i64,
    held_items: Vec<i64>,
    /// Orders to look past: those held by others, and those a caller wants left alone.
    but_orders: Vec<i64>,
    pub skipped: i64,
    pub more: bool,
}

/// Expires up to `max_orders` stale reservations, and says so to SQL.
pub fn run(older_than: Option<Micros>, max_orders: i32) -> Result<Value, Fault> {
    let now = clock::now();
    let staleness = match older_than {
        None => Staleness::ExpiredAt(now),
        Some(age) => Staleness::CreatedBefore(now.saturating_sub(age)),
    };
    attempt_answer(|client| {
        let progress = expire_stale(client, staleness, max_orders, &[])?;
        let answer = answer::success(json!({
            "expired": progress.expired,
            "restored": progress.restored,
            "skipped": progress.skipped,
            "payment_checks": orders::count_payment_checks(client, now)?,
            "more": progress.more,
        }));
        Ok(if progress.expired > 0 {
            Verdict::Keep(answer)
        } else {
            Verdict::Undo(answer)
        })
    })
}

/// Expires up to `max_orders` stale reservations, but for some. Orders, then their items, are
/// taken SKIP LOCKED, so it waits for nobody; an item none of whose orders it could take is
/// not touched, so that it holds up no sale.
pub fn expire_stale(
    client: &SpiClient<'_>,
    staleness: Staleness,
    max_orders: i32,
    but_orders: &[i64],
) -> Result<Progress, Fault> {
    let mut progress = Progress {
        but_orders: but_orders.to_vec(),
        ..Progress::default()
    };
    while progress.expired < i64::from(max_orders)
        && round(client, staleness, max_orders, &mut progress)?
    {}
    progress.more = !left(client, staleness, 1, &progress)?.is_empty();
    Ok(progress)
}

/// Expires what can be had of the oldest stale orders, and remembers what was held by
/// others, so that the next round looks past it. False when nothing is left to try.
fn round(
    client: &SpiClient<'_>,
    staleness: Staleness,
    max_orders: i32,
    progress: &mut Progress,
) -> Result<bool, Fault> {
    let room = max_orders - progress.expired as i32;
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
    progress.skipped += (found.len() - stale.len()) as i64;
    progress.held_items.extend(wanted.difference(&held));
    progress
        .but_orders
        .extend(found.into_iter().filter(|order_id| !had.contains(order_id)));
    Ok(true)
}

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
    progress.expired += stale.len() as i64;
    progress.restored = units
        .values()
        .fold(progress.restored, |sum, &units| sum.saturating_add(units));
    orders::expire(
        client,
        stale.iter().map(|order| order.order_id).collect(),
        clock::now(),
    )?;
    items::restore_many(
        client,
        units.keys().copied().collect(),
        units.values().copied().collect(),
    )
}
