//! Expiry: the units of stale reservations are returned to their items, by the reconciler or by a
//! purchase that would be refused for want of units.

use crate::attempt::{Patience, attempt_or_busy, is_about_one_row};
use crate::error::{Fault, is_lock_refused};
use crate::pg::clock;
use crate::pg::subtransaction::{self, End};
use crate::store::stale::{Excluded, StaleOfItem, StaleOrder, Staleness};
use crate::store::{items, orders, stale};
use flashsale_core::order::{Closed, Expired, ExpiryRun, Move, Status, Step, step};
use flashsale_core::time::Micros;
use pgrx::spi::SpiClient;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The most orders that a purchase expires in one statement.
const ORDERS_PER_STATEMENT: i64 = 1_000;
/// After that many failed statements a purchase gives up: it holds the item, and a trigger may fail
/// for every order. They are enough to find one order at fault among `ORDERS_PER_STATEMENT`.
const MOST_FAILURES: u32 = 11;

/// After that many orders that do not expire a run ends: each costs a failed subtransaction, and a
/// trigger may fail for every order.
const MOST_FAILED: usize = 1_000;

/// An order that does not expire, because a trigger or a constraint of the shop's refuses that, or a
/// trigger wants a lock that another transaction holds.
pub struct FailedOrder {
    pub order_id: i64,
    pub fault: Fault,
}

thread_local! {
    /// The last order that the session's last run expired, and when its reservation ended, if that run
    /// left others and passed over none. The next one begins there, because under an old snapshot the
    /// index of reservations leads to all that were ever reserved.
    static LAST_EXPIRED: Cell<Option<(i64, Micros)>> = const { Cell::new(None) };
}

/// The progress of a run.
#[derive(Clone, Default)]
struct Progress {
    expired: Expired,
    /// The run has begun where another one ended, and has not looked for older orders yet.
    has_resumed: bool,
    /// The last order of the last round, and when its reservation ended.
    last: Option<(i64, Micros)>,
    /// Items and orders that other transactions hold, orders that do not expire, and those that the
    /// caller excludes.
    excluded: Excluded,
}

/// Expires up to `max_orders` stale reservations: those that have expired or, with `older_than`,
/// those that are older than that many microseconds. Also returns the orders that do not expire.
/// Locks the same as [`expire_stale`]. `None` if a lock was refused, as a table's can be.
pub fn run(
    older_than: Option<Micros>,
    max_orders: i32,
) -> Result<Option<(ExpiryRun, Vec<FailedOrder>)>, Fault> {
    let now = clock::now();
    let staleness = match older_than {
        None => Staleness::ExpiredAt(now),
        Some(age) => Staleness::CreatedBefore(now.saturating_sub(age)),
    };
    attempt_or_busy(|client| {
        let (expired, failed) = expire_stale(client, staleness, max_orders, &[])?;
        let run = ExpiryRun {
            expired,
            payment_checks: orders::count_payment_checks(client, now)?,
        };
        Ok(match run.expired.orders {
            0 => End::RollBack((run, failed)),
            _ => End::Commit((run, failed)),
        })
    })
}

/// Expires up to `max_orders` stale reservations, without `excluded`, and returns those that do
/// not expire, too. Locks orders, then their items, SKIP LOCKED, so it waits for no row. It locks no
/// item of which it could not lock an order, because that would delay sales for nothing. Runs in the
/// transaction of its caller. If a round fails, the next ones have half as many orders, until the
/// order at fault is alone and is passed over.
pub fn expire_stale(
    client: &SpiClient<'_>,
    staleness: Staleness,
    max_orders: i32,
    excluded: &[i64],
) -> Result<(Expired, Vec<FailedOrder>), Fault> {
    let mut progress = Progress::default();
    progress.excluded.orders = excluded.to_vec();
    progress.excluded.expired_before = resume_at(client, staleness)?;
    progress.has_resumed = progress.excluded.expired_before.is_some();
    let mut failed = Vec::new();
    let mut patience = Patience::new();
    let mut most = max_orders;
    let mut is_done = false;
    while progress.expired.orders < i64::from(max_orders) && failed.len() < MOST_FAILED {
        let limit = most.min(max_orders - progress.expired.orders as i32);
        match round(client, staleness, limit, &mut progress, &mut patience)? {
            Round::NothingLeft => {
                is_done = true;
                break;
            }
            Round::Done(next) => {
                progress = next;
                most = most.saturating_mul(2).min(max_orders);
            }
            Round::Failed(order_ids, fault) => {
                most = (order_ids.len() as i32 / 2).max(1);
                if let [order_id] = order_ids[..] {
                    progress.excluded.orders.push(order_id);
                    progress.expired.skipped += 1;
                    failed.push(FailedOrder { order_id, fault });
                }
            }
        }
    }
    // Who calls again while there is more must come to an end.
    let is_in_vain = progress.expired.orders == 0 && failed.len() == MOST_FAILED;
    progress.expired.more =
        !is_done && !is_in_vain && !oldest(client, staleness, 1, &mut progress)?.is_empty();
    let has_passed_over_none = progress.expired.skipped == 0;
    if let (Staleness::ExpiredAt(_), true, true) =
        (staleness, progress.expired.more, has_passed_over_none)
    {
        LAST_EXPIRED.set(progress.last);
    }
    Ok((progress.expired, failed))
}

/// Where the session's last run ended, if what it did is still so.
fn resume_at(client: &SpiClient<'_>, staleness: Staleness) -> Result<Option<Micros>, Fault> {
    let Staleness::ExpiredAt(_) = staleness else {
        return Ok(None);
    };
    // Forgotten if this run fails: the next one must begin with the oldest order, to find the one at
    // fault.
    match LAST_EXPIRED.take() {
        Some((order_id, ended_at)) if stale::is_expired(client, order_id)? => Ok(Some(ended_at)),
        _ => Ok(None),
    }
}

/// The ids of the oldest `limit` stale orders that are left, and when each expires. If too few are
/// left behind the place where the run has resumed, it goes back to the oldest of all.
fn oldest(
    client: &SpiClient<'_>,
    staleness: Staleness,
    limit: i32,
    progress: &mut Progress,
) -> Result<Vec<(i64, Option<Micros>)>, Fault> {
    let found = stale::oldest(client, staleness, &progress.excluded, limit)?;
    if !progress.has_resumed || found.len() >= limit as usize {
        return Ok(found);
    }
    progress.has_resumed = false;
    progress.excluded.expired_before = None;
    stale::oldest(client, staleness, &progress.excluded, limit)
}

/// How a round ended.
enum Round {
    NothingLeft,
    Done(Progress),
    /// One of these orders does not expire.
    Failed(Vec<i64>, Fault),
}

/// Expires up to `limit` of the oldest stale orders, in a subtransaction with their locks: an update
/// in another one than the lock would create a multixact for each order. Of a round that fails,
/// `progress` keeps where the search found the first order: the next search begins there.
fn round(
    client: &SpiClient<'_>,
    staleness: Staleness,
    limit: i32,
    progress: &mut Progress,
    patience: &mut Patience,
) -> Result<Round, Fault> {
    let found = oldest(client, staleness, limit, progress)?;
    let (Some(&(_, first_expired_at)), Some(&(last_order, last_expired_at))) =
        (found.first(), found.last())
    else {
        return Ok(Round::NothingLeft);
    };
    progress.excluded.expired_before = first_expired_at;
    let mut next = progress.clone();
    let found: Vec<i64> = found.into_iter().map(|(order_id, _)| order_id).collect();
    next.last = last_expired_at.map(|at| (last_order, at));
    next.excluded.expired_before = last_expired_at;
    stale::lock_table_to_expire();
    items::lock_table_to_restore();
    let expired = in_subtransaction(patience, |holds_rows| {
        expire_found(client, &found, &mut next, holds_rows)
    })?;
    Ok(match expired {
        Ok(()) => Round::Done(next),
        Err(fault) => Round::Failed(found, fault),
    })
}

/// Runs `body`, which sets its argument once it holds the rows that it changes, in a subtransaction.
/// `Ok(Err)` if it fails because of one of these rows; then there is less patience.
fn in_subtransaction<T>(
    patience: &mut Patience,
    body: impl FnOnce(&Cell<bool>) -> Result<T, Fault>,
) -> Result<Result<T, Fault>, Fault> {
    let (begun, holds_rows) = (clock::monotonic(), Cell::new(false));
    let tried = subtransaction::run(|| {
        patience.bound_lock_waits();
        match body(&holds_rows) {
            Ok(done) => End::Commit(Ok(done)),
            Err(fault) => End::RollBack(Err(fault)),
        }
    });
    let fault = match tried {
        Ok(Ok(done)) => return Ok(Ok(done)),
        Ok(Err(fault @ Fault::Suppressed(_))) => fault,
        Ok(Err(fault)) => return Err(fault),
        Err(error) if holds_rows.get() && is_about_one_row(&error) => Fault::from(&*error),
        Err(error) => error.rethrow(),
    };
    patience.lose(begun);
    Ok(Err(fault))
}

/// Expires those of the orders that no other transaction holds, and adds the others to those that
/// the next round leaves out. Sets `holds_rows` once it has locked them and their items.
fn expire_found(
    client: &SpiClient<'_>,
    found: &[i64],
    progress: &mut Progress,
    holds_rows: &Cell<bool>,
) -> Result<(), Fault> {
    let taken = stale::lock(client, found.to_vec())?;
    let wanted: BTreeSet<i64> = taken.iter().map(|order| order.item_id).collect();
    let held = items::lock_unheld(client, wanted.clone())?;
    holds_rows.set(true);
    let stale: Vec<&StaleOrder> = taken
        .iter()
        .filter(|order| held.contains(&order.item_id))
        .filter(|order| step(order.status, Move::Expire) == Step::To(Status::Expired))
        .collect();
    expire(client, &stale, progress)?;

    let had: HashSet<i64> = taken.iter().map(|order| order.order_id).collect();
    progress.expired.skipped += (found.len() - stale.len()) as i64;
    let excluded = &mut progress.excluded;
    excluded
        .items
        .extend(wanted.into_iter().filter(|item_id| !held.contains(item_id)));
    let not_had = found.iter().filter(|order_id| !had.contains(order_id));
    excluded.orders.extend(not_had);
    Ok(())
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
    stale::expire(
        client,
        stale.iter().map(|order| order.order_id).collect(),
        clock::now(),
    )?;
    items::restore_many(
        client,
        units.keys().copied().collect(),
        units.values().copied().collect(),
        Closed::Expired,
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
    /// Those of the orders left out whose failure was no refused lock.
    at_fault: Vec<i64>,
    was_lock_refused: bool,
    failures_left: u32,
    patience: Patience,
}

impl ForSale {
    pub fn of(item_id: i64, now: Micros) -> Self {
        Self {
            stale: StaleOfItem::of(item_id, now),
            at_fault: Vec::new(),
            was_lock_refused: false,
            failures_left: MOST_FAILURES,
            patience: Patience::new(),
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
            items::restore(client, self.stale.item_id, freed, Closed::Expired)?;
        }
        Ok(Freed::Enough(freed))
    }

    /// The units of up to `limit` orders that are still stale, after [`Self::free`] found too few: other
    /// transactions hold them, or the locks that their triggers want. 0 if too many do not expire.
    /// Locks nothing.
    pub fn left(&self, client: &SpiClient<'_>, limit: i64) -> Result<i64, Fault> {
        if self.failures_left == 0 && !self.was_lock_refused {
            return Ok(0);
        }
        let left = StaleOfItem {
            excluded: self.at_fault.clone(),
            ..self.stale
        };
        left.units(client, limit)
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
            let (order_ids, expired) = self.expire_oldest(client, missing, orders)?;
            match expired {
                Ok(0) => break,
                Ok(units) => freed += units,
                Err(fault) => {
                    let is_lock_refused = is_lock_refused(fault.sqlstate());
                    self.failures_left -= 1;
                    self.was_lock_refused |= is_lock_refused;
                    most = order_ids.len() as i64 / 2;
                    if let [order_id] = order_ids[..] {
                        self.stale.excluded.push(order_id);
                        if !is_lock_refused {
                            self.at_fault.push(order_id);
                        }
                        most = ORDERS_PER_STATEMENT;
                    }
                }
            }
        }
        Ok(freed)
    }

    /// Locks the oldest `most` orders that no other transaction holds, and expires as many of them
    /// as have `units` units. Returns these orders, and their units, or why one of them does not
    /// expire. In a subtransaction of its own, with the lock in it: an update in
    /// another one than the lock would create a multixact for each order.
    fn expire_oldest(
        &mut self,
        client: &SpiClient<'_>,
        units: i64,
        most: i64,
    ) -> Result<(Vec<i64>, Result<i64, Fault>), Fault> {
        let mut order_ids = Vec::new();
        stale::lock_table_to_expire();
        let expired = in_subtransaction(&mut self.patience, |holds_rows| {
            let mut taken = self.stale.lock(client, most)?;
            taken.retain(|order| step(order.status, Move::Expire) == Step::To(Status::Expired));
            taken.truncate(count_until(units, taken.iter().map(|order| order.quantity)));
            order_ids.extend(taken.iter().map(|order| order.order_id));
            holds_rows.set(!taken.is_empty());
            if !taken.is_empty() {
                stale::expire(client, order_ids.clone(), clock::now())?;
            }
            Ok(taken.iter().map(|order| order.quantity).sum())
        })?;
        Ok((order_ids, expired))
    }
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
