//! The reconciler: the worker that expires stale reservations every `flashsale.reconcile_interval`.

use crate::database::Database;
use crate::error::{self, Fault, is_lock_refused};
use crate::pg::clock;
use crate::pg::signals;
use crate::pg::subtransaction::End;
use crate::pg::worker::{self, Bounds, Worker};
use crate::sale::expiry;
use crate::store::stale::{Excluded, Staleness};
use crate::store::{grants, schema, stale};
use crate::{settings, stats, workers};
use flashsale_core::launch::{LOOK_AGAIN_AFTER, OnceAMinute};
use flashsale_core::order::Expired;
use flashsale_core::time::{MILLISECOND, Micros, left_ms};
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

/// The most orders that one transaction expires, so that no lock is held for long.
const ORDERS_PER_TRANSACTION: i32 = 1_000;
/// A transaction that takes longer is cancelled, and tried again.
const MAX_RUN_MS: i64 = 60_000;
/// How many times, and after what pause, it returns to rows that were locked. The seller holds a
/// hot item most of the time, though never for long.
const MOST_RETURNS: usize = 20;
const RETURN_AFTER_MS: i64 = 10;
/// For how long orders that fail to expire are skipped, and the most such orders to remember.
const SKIPPED_FOR: Micros = 3_600_000_000;
const MOST_SKIPPED: usize = 10_000;
/// The longest sleep, after which it looks whether its database is still to be served.
const LOOK_MS: i64 = LOOK_AGAIN_AFTER / MILLISECOND;

#[pg_guard]
#[allow(unsafe_code)] // the postmaster looks it up by name
#[unsafe(no_mangle)]
pub extern "C-unwind" fn flashsale_reconciler_main(_argument: pg_sys::Datum) {
    work();
}

/// Expires stale reservations as long as the database is to be served.
fn work() {
    let leave = || workers::leave(Worker::Reconciler);
    let Some(mut database) = Database::connect(Worker::Reconciler, leave) else {
        return;
    };
    let mut skipped = Skipped::none();
    let mut last_run = None;
    while database.is_served() {
        signals::reload_if_requested();
        let interval_ms = settings::reconcile_interval_ms();
        let left_ms = last_run.map_or(0, |at| left_ms(at, clock::monotonic(), interval_ms));
        if interval_ms == 0 || left_ms > 0 {
            let until_next = if interval_ms == 0 { LOOK_MS } else { left_ms };
            worker::idle(until_next.min(LOOK_MS));
            continue;
        }
        worker::report(Some("flashsale: expiring stale reservations"));
        run(&mut skipped);
        worker::report(None);
        last_run = Some(clock::monotonic());
    }
}

/// Orders that fail to expire.
struct Skipped {
    order_ids: Vec<i64>,
    /// Since when these are skipped, by the monotonic clock.
    since: Micros,
    /// Those for which a lock was refused: they are skipped until the end of the run.
    locked: Vec<i64>,
    log: OnceAMinute,
}

impl Skipped {
    /// No order is known to fail, from now on.
    fn none() -> Self {
        Self {
            order_ids: Vec::new(),
            since: clock::monotonic(),
            locked: Vec::new(),
            log: OnceAMinute::default(),
        }
    }

    /// From now on all orders are tried again.
    fn forget(&mut self) {
        self.order_ids.clear();
        self.since = clock::monotonic();
    }

    /// The orders that are skipped now.
    fn orders(&self) -> Vec<i64> {
        [&self.order_ids[..], &self.locked].concat()
    }

    /// Skips an order because of this fault, unless too many are skipped already; then false. An
    /// order of `None` could not be found out. Writes to the log, once a minute.
    fn skip(&mut self, order_id: Option<i64>, fault: &Fault) -> bool {
        let orders = match is_lock_refused(fault.sqlstate()) {
            true => &mut self.locked,
            false => &mut self.order_ids,
        };
        let order_id = order_id.filter(|_| orders.len() < MOST_SKIPPED);
        orders.extend(order_id);
        if let Some(held_back) = self.log.may_pass(clock::monotonic()) {
            let what = match order_id {
                Some(order_id) => format!("order {order_id} does not expire: "),
                None => String::new(),
            };
            let others = match held_back {
                0 => String::new(),
                more => format!(" ({more} more such errors since the last line)"),
            };
            let advice = match fault {
                Fault::OtherVersion { is_older, .. } => error::what_updates(*is_older),
                _ => "flashsale.reconcile_interval = 0 turns it off",
            };
            log!("flashsale reconciler: {what}{fault}{others}; {advice}");
        }
        order_id.is_some()
    }
}

/// Expires all stale reservations, in several transactions. If one fails, as one that takes too long,
/// the next ones have fewer and fewer orders, until the order at fault is alone. Orders that do not
/// expire are skipped for an hour; those for which a lock was refused, until the next run.
fn run(skipped: &mut Skipped) {
    if clock::monotonic() - skipped.since > SKIPPED_FOR {
        skipped.forget();
    }
    skipped.locked.clear();
    let mut returns = 0;
    let mut most = ORDERS_PER_TRANSACTION;
    loop {
        match expire_some(most, skipped) {
            Ok(Remaining::None) => break,
            Ok(Remaining::Some) => most = (most * 2).min(ORDERS_PER_TRANSACTION),
            Ok(Remaining::Locked) if returns < MOST_RETURNS => {
                returns += 1;
                worker::idle(RETURN_AFTER_MS);
            }
            Ok(Remaining::Locked) => break,
            Err(_) if most > 1 => most /= 2,
            Err(fault) => {
                stats::reconciler_failed();
                let order_id = oldest(skipped.orders());
                // It may be the lock of a table, which all orders need.
                returns += usize::from(is_lock_refused(fault.sqlstate()));
                if !skipped.skip(order_id, &fault) || returns > MOST_RETURNS {
                    break;
                }
            }
        }
        worker::idle(0);
    }
    stats::reconciled();
}

/// Which stale orders remain after a transaction.
enum Remaining {
    None,
    Some,
    /// Only orders that other transactions have locked.
    Locked,
}

/// Expires up to `most` orders in one transaction.
fn expire_some(most: i32, skipped: &mut Skipped) -> Result<Remaining, Fault> {
    let done = in_transaction(|client| {
        let staleness = Staleness::ExpiredAt(clock::now());
        expiry::expire_stale(client, staleness, most, &skipped.orders())
    })?;
    let Some((expired, failed)) = done else {
        return Ok(Remaining::None);
    };
    stats::expired(expired.orders, expired.skipped);
    for order in failed {
        stats::reconciler_failed();
        skipped.skip(Some(order.order_id), &order.fault);
    }
    Ok(match expired {
        Expired { more: true, .. } => Remaining::Some,
        Expired { skipped: 1.., .. } => Remaining::Locked,
        _ => Remaining::None,
    })
}

/// The order that would be expired next.
fn oldest(skipped: Vec<i64>) -> Option<i64> {
    let staleness = Staleness::ExpiredAt(clock::now());
    let excluded = Excluded {
        orders: skipped,
        ..Excluded::default()
    };
    let found = in_transaction(|client| stale::oldest(client, staleness, &excluded, 1));
    let (order_id, _) = found.ok().flatten()?.pop()?;
    Some(order_id)
}

/// Runs `body` in a transaction as the functions' owner; `None` while the extension is not
/// installed.
fn in_transaction<T>(
    body: impl FnOnce(&SpiClient<'_>) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    match committed(None, grants::functions_owner)? {
        Some(owner) => committed(Some(owner), |client| {
            schema::check_version_now(client)?;
            body(client)
        })
        .map(Some),
        None => Ok(None),
    }
}

fn committed<T>(
    owner: Option<Oid>,
    body: impl FnOnce(&SpiClient<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let bounds = Bounds {
        transaction_ms: MAX_RUN_MS,
        lock_wait_ms: settings::worker_lock_wait_ms(),
    };
    let body = || Ok(End::Commit(Spi::connect(body)?));
    worker::transaction(owner, bounds, body).map(|(done, _)| done)
}
