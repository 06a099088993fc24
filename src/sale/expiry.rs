//! Expiry: the units of stale reservations are returned to their items, by the reconciler or by a
//! purchase that would be refused for want of units.

use crate::attempt::{attempt_or_busy, is_about_one_row};
use crate::error::Fault;
use crate::pg::clock;
use crate::pg::subtransaction::{self, End};
use crate::store::orders::{LeftOut, StaleOfItem, StaleOrder, Staleness};
use crate::store::{items, orders};
use flashsale_core::order::{Expired, ExpiryRun, Move, Status, Step, step};
use flashsale_core::time::Micros;
use pgrx::spi::SpiClient;
use std::collections::{BTreeMap, HashSet};

/// The most orders that a purchase expires in one statement.
const ORDERS_PER_STATEMENT: i64 = 1_000;
/// After that many failed statements a purchase gives up: it holds the item, and a trigger may fail
/// for every order. They are enough to find one order at fault among `ORDERS_PER_STATEMENT`.
const MOST_FAILURES: u32 = 11;

/// The progress of a run.
#[derive(Default)]
struct Progress {
    expired: Expired,
    /// Items and orders that other transactions hold, and orders that the caller excludes.
    but: LeftOut,
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
        but: LeftOut {
            orders: but_orders.to_vec(),
            ..LeftOut::default()
        },
        ..Progress::default()
    };
    while progress.expired.orders < i64::from(max_orders)
        && round(client, staleness, max_orders, &mut progress)?
    {}
    progress.expired.more = !orders::stale(client, staleness, &progress.but, 1)?.is_empty();
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
    let found = orders::stale(client, staleness, &progress.but, room)?;
    let Some(&(_, last_expired_at)) = found.last() else {
        return Ok(false);
    };
    let found: Vec<i64> = found.into_iter().map(|(order_id, _)| order_id).collect();
    let taken = orders::lock_stale(client, found.clone())?;
    let wanted: HashSet<i64> = taken.iter().map(|order| order.item_id).collect();
    let held = items::lock_unheld(client, wanted.iter().copied().collect())?;
    let held: HashSet<i64> = held.into_iter().collect();
    let stale: Vec<&StaleOrder> = taken
        .iter()
        .filter(|order| held.contains(&order.item_id))
        .filter(|order| step(order.status, Move::Expire) == Step::To(Status::Expired))
        .collect();
    expire(client, &stale, progress)?;

    let had: HashSet<i64> = taken.iter().map(|order| order.order_id).collect();
    progress.expired.skipped += (found.len() - stale.len()) as i64;
    let but = &mut progress.but;
    but.items.extend(wanted.difference(&held));
    but.orders
        .extend(found.into_iter().filter(|order_id| !had.contains(order_id)));
    but.expired_before = last_expired_at;
    Ok(true)
}

fn expire(
    client: &SpiClient<'_>,
    stale: &[&StaleOrder],
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

/// What [`ForSale::free`] did.
pub enum Freed {
    /// That many units have returned to the item, at least those that were asked for.
    Enough(i64),
    /// There are only that many units. Nothing was expired.
    Only(i64),
}

/// The stale reservations of an item that a purchase may expire. The caller has locked the item.
pub struct ForSale {
    stale: StaleOfItem,
    failures_left: u32,
}

impl ForSale {
    pub fn of(item_id: i64, now: Micros) -> Self {
        Self {
            stale: StaleOfItem {
                item_id,
                now,
                but_orders: Vec::new(),
            },
            failures_left: MOST_FAILURES,
        }
    }

    /// Expires the oldest of them, until at least `units` units have returned to the item. If they
    /// have too few, none is expired. Locks orders SKIP LOCKED, so it waits for no row. An order that
    /// fails to expire, because of a trigger of the shop's, is left to the reconciler, which reports
    /// it. Runs in the transaction of its caller, and is undone with it.
    pub fn free(&mut self, client: &SpiClient<'_>, units: i64) -> Result<Freed, Fault> {
        let tried = subtransaction::run(|| match self.expire(client, units) {
            Ok(freed) if freed >= units => End::Commit(Ok(freed)),
            less => End::RollBack(less),
        });
        let freed = tried.unwrap_or_else(|error| error.rethrow())?;
        if freed < units {
            return Ok(Freed::Only(freed));
        }
        if freed > 0 {
            items::restore(client, self.stale.item_id, freed, Status::Expired)?;
        }
        Ok(Freed::Enough(freed))
    }

    /// Expires orders until they have had `units` units, and returns how many these are; if there
    /// are fewer, possibly without expiring all. If a statement fails, the next ones have half as many
    /// orders, until the order at fault is alone and is left out.
    fn expire(&mut self, client: &SpiClient<'_>, units: i64) -> Result<i64, Fault> {
        let mut freed = 0;
        let mut most = ORDERS_PER_STATEMENT;
        while freed < units && self.failures_left > 0 {
            let missing = units - freed;
            let limit = most.min(missing);
            let quantities = self.stale.quantities(client, limit)?;
            let there: i64 = quantities.iter().sum();
            if there < missing && (quantities.len() as i64) < limit {
                return Ok(freed + there);
            }
            let orders = count_until(missing, quantities) as i64;
            match self.expire_oldest(client, missing, orders)? {
                Attempt::Freed(0) => break,
                Attempt::Freed(units) => freed += units,
                Attempt::Failed(order_ids) => {
                    self.failures_left -= 1;
                    most = order_ids.len() as i64 / 2;
                    if let [at_fault] = order_ids[..] {
                        self.stale.but_orders.push(at_fault);
                        most = ORDERS_PER_STATEMENT;
                    }
                }
            }
        }
        Ok(freed)
    }

    /// Locks the oldest `most` orders that no other transaction holds, and expires as many of them
    /// as have `units` units. In a subtransaction of its own, with the lock in it: an update in
    /// another one than the lock would create a multixact for each order.
    fn expire_oldest(
        &self,
        client: &SpiClient<'_>,
        units: i64,
        most: i64,
    ) -> Result<Attempt, Fault> {
        let mut order_ids = Vec::new();
        let tried = subtransaction::run(|| {
            let expired = self.stale.lock(client, most).and_then(|mut taken| {
                taken.retain(|order| step(order.status, Move::Expire) == Step::To(Status::Expired));
                taken.truncate(count_until(units, taken.iter().map(|order| order.quantity)));
                order_ids.extend(taken.iter().map(|order| order.order_id));
                if !taken.is_empty() {
                    orders::expire(client, order_ids.clone(), clock::now())?;
                }
                Ok(taken.iter().map(|order| order.quantity).sum())
            });
            match expired {
                Ok(units) => End::Commit(Ok(units)),
                Err(fault) => End::RollBack(Err(fault)),
            }
        });
        match tried {
            Ok(Ok(units)) => Ok(Attempt::Freed(units)),
            Ok(Err(Fault::Suppressed(_))) => Ok(Attempt::Failed(order_ids)),
            Ok(Err(fault)) => Err(fault),
            Err(error) if !order_ids.is_empty() && is_about_one_row(&error) => {
                Ok(Attempt::Failed(order_ids))
            }
            Err(error) => error.rethrow(),
        }
    }
}

/// How a statement that expires orders ended.
enum Attempt {
    /// The orders had that many units; 0 if none could be locked.
    Freed(i64),
    /// One of these orders does not expire.
    Failed(Vec<i64>),
}

/// How many of the orders with these quantities have at least `units` units; all if they have fewer.
fn count_until(units: i64, quantities: impl IntoIterator<Item = i64>) -> usize {
    let mut missing = units;
    let needed = quantities.into_iter().take_while(|quantity| {
        let is_needed = missing > 0;
        missing -= quantity;
        is_needed
    });
    needed.count()
}
