//! The reconciler: the worker that expires stale reservations every `flashsale.reconcile_interval`.

use crate::error::Fault;
use crate::pg::clock;
use crate::pg::signals;
use crate::pg::subtransaction::End;
use crate::pg::worker::{self, Bounds, Worker};
use crate::sale::expiry;
use crate::store::orders::Staleness;
use crate::store::{grants, orders};
use crate::{settings, stats};
use flashsale_core::order::Expired;
use flashsale_core::time::Micros;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

/// How many orders one transaction expires at most, so that no lock is held for long.
const ORDERS_PER_TRANSACTION: i32 = 1_000;
/// A run that takes longer is given up, and tried again.
const MAX_RUN_MS: i64 = 60_000;
/// How often, and how soon, it comes back to items that somebody held. The seller holds a hot
/// one most of the time, though never for long.
const MOST_RETURNS: usize = 20;
const RETURN_AFTER_MS: i64 = 10;
/// For how long, and of how many at most, orders that fail are left as they are.
const LEFT_FOR: Micros = 3_600_000_000;
const MOST_AT_FAULT: usize = 10_000;
/// How often a reconciler that is off looks whether it still is.
const OFF_MS: i64 = 60_000;

#[pg_guard]
#[allow(unsafe_code)] // the postmaster looks it up by its name
#[unsafe(no_mangle)]
pub extern "C-unwind" fn flashsale_reconciler_main(_argument: pg_sys::Datum) {
    worker::connect(Worker::Reconciler, &settings::database());
    let mut at_fault = AtFault::default();
    loop {
        signals::reload_if_asked();
        let interval_ms = settings::reconcile_interval_ms();
        if interval_ms == 0 {
            worker::idle(OFF_MS);
            continue;
        }
        worker::report(Some("flashsale: expiring stale reservations"));
        run(&mut at_fault);
        worker::report(None);
        worker::idle(interval_ms);
    }
}

/// Orders that fail to expire, and since when they are left alone.
#[derive(Default)]
struct AtFault {
    order_ids: Vec<i64>,
    since: Micros,
}

/// Expires all that is stale, transaction by transaction. Where one fails, ever fewer orders
/// go into the next, until the one at fault stands alone; it is left as it is for an hour.
fn run(at_fault: &mut AtFault) {
    if clock::now() - at_fault.since > LEFT_FOR {
        *at_fault = AtFault {
            order_ids: Vec::new(),
            since: clock::now(),
        };
    }
    let at_fault = &mut at_fault.order_ids;
    let mut returns = 0;
    let mut most = ORDERS_PER_TRANSACTION;
    loop {
        match expire_some(most, at_fault) {
            Ok(Left::Nothing) => break,
            Ok(Left::More) => most = (most * 2).min(ORDERS_PER_TRANSACTION),
            Ok(Left::Held) if returns < MOST_RETURNS => {
                returns += 1;
                worker::idle(RETURN_AFTER_MS);
            }
            Ok(Left::Held) => break,
            Err(_) if most > 1 => most /= 2,
            Err(fault) => {
                stats::reconciler_failed();
                let order_id = oldest(at_fault);
                let Some(order_id) = order_id.filter(|_| at_fault.len() < MOST_AT_FAULT) else {
                    log!("flashsale reconciler: {fault}");
                    break;
                };
                log!("flashsale reconciler: order {order_id} does not expire: {fault}");
                at_fault.push(order_id);
            }
        }
        worker::idle(0);
    }
    stats::reconciled();
}

/// What a transaction leaves to the next.
enum Left {
    Nothing,
    More,
    /// Nothing but what somebody else holds.
    Held,
}

/// Expires what one transaction may.
fn expire_some(most: i32, at_fault: &[i64]) -> Result<Left, Fault> {
    let expired = in_transaction(|client| {
        let staleness = Staleness::ExpiredAt(clock::now());
        expiry::expire_stale(client, staleness, most, at_fault)
    })?;
    let Some(expired) = expired else {
        return Ok(Left::Nothing);
    };
    stats::expired(expired.orders, expired.skipped);
    Ok(match expired {
        Expired { more: true, .. } => Left::More,
        Expired { skipped: 1.., .. } => Left::Held,
        _ => Left::Nothing,
    })
}

/// The order that is expired next.
fn oldest(at_fault: &[i64]) -> Option<i64> {
    let staleness = Staleness::ExpiredAt(clock::now());
    let found = in_transaction(|client| orders::stale(client, staleness, &[], at_fault, 1));
    found.ok().flatten()?.pop()
}

/// Runs what is done as the owner; `None` while the extension is not installed.
fn in_transaction<T>(
    body: impl FnOnce(&SpiClient<'_>) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    match committed(None, grants::functions_owner)? {
        Some(owner) => committed(Some(owner), body).map(Some),
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
