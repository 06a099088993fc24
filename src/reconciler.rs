//! The reconciler: the worker that expires stale reservations every `flashsale.reconcile_interval`.

use crate::error::Fault;
use crate::reconcile;
use crate::store::grants;
use crate::worker::{self, Transaction, Worker};
use crate::{settings, stats};
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;

/// One transaction's worth, so that no lock is held for long.
const MAX_ORDERS: i32 = 1_000;
/// A run that takes longer is given up, and tried again.
const MAX_RUN_MS: i64 = 60_000;
/// How often, and how soon, it comes back to items that somebody held. The seller holds a hot
/// one most of the time, though never for long.
const MOST_RETURNS: usize = 20;
const RETURN_AFTER_MS: i64 = 10;
/// How often a reconciler that is off looks whether it still is.
const OFF_MS: i64 = 60_000;

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn flashsale_reconciler_main(_argument: pg_sys::Datum) {
    worker::connect(Worker::Reconciler);
    loop {
        worker::reload_if_asked();
        let interval_ms = settings::reconcile_interval_ms();
        if interval_ms == 0 {
            worker::wait(OFF_MS);
            continue;
        }
        worker::report(Some("flashsale: expiring stale reservations"));
        run();
        worker::report(None);
        worker::wait(interval_ms);
    }
}

/// Expires all that is stale, transaction by transaction.
fn run() {
    let mut returns = 0;
    loop {
        match expire_some() {
            Left::Nothing => break,
            Left::More => worker::wait(0),
            Left::Held if returns < MOST_RETURNS => {
                returns += 1;
                worker::wait(RETURN_AFTER_MS);
            }
            Left::Held => break,
        }
    }
}

/// What a transaction leaves to the next.
enum Left {
    Nothing,
    More,
    /// Nothing but what somebody else holds.
    Held,
}

/// Expires what one transaction may. An error is logged and left to the next run.
fn expire_some() -> Left {
    let run = worker::guarded(|| match owner()? {
        None => Ok(Left::Nothing),
        Some(owner) => {
            let transaction = Transaction::begin_as(owner, MAX_RUN_MS);
            let answer = reconcile::run(None, MAX_ORDERS)?;
            transaction.commit();
            let count = |name: &str| answer[name].as_i64().unwrap_or_default();
            stats::reconciled(count("expired"), count("skipped"));
            Ok(match answer["more"].as_bool() {
                Some(true) => Left::More,
                _ if count("skipped") > 0 => Left::Held,
                _ => Left::Nothing,
            })
        }
    });
    run.unwrap_or_else(|fault| {
        stats::reconciler_failed();
        log!("flashsale reconciler: {fault}");
        Left::Nothing
    })
}

/// Who owns the functions; `None` while the extension is not installed.
fn owner() -> Result<Option<Oid>, Fault> {
    let transaction = Transaction::begin(MAX_RUN_MS);
    let owner = Spi::connect(grants::functions_owner)?;
    transaction.commit();
    Ok(owner)
}
