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
        while expire_some() {
            worker::wait(0);
        }
        worker::report(None);
        worker::wait(interval_ms);
    }
}

/// Expires what one transaction may; whether there is more. An error is logged and left
/// to the next run.
fn expire_some() -> bool {
    let run = worker::guarded(|| match owner()? {
        None => Ok(false),
        Some(owner) => {
            let transaction = Transaction::begin_as(owner, MAX_RUN_MS);
            let answer = reconcile::run(None, MAX_ORDERS)?;
            transaction.commit();
            let count = |name: &str| answer[name].as_i64().unwrap_or_default();
            stats::reconciled(count("expired"), count("skipped"));
            Ok(answer["more"].as_bool().unwrap_or_default())
        }
    });
    run.unwrap_or_else(|fault| {
        stats::reconciler_failed();
        log!("flashsale reconciler: {fault}");
        false
    })
}

/// Who owns the functions; `None` while the extension is not installed.
fn owner() -> Result<Option<Oid>, Fault> {
    let transaction = Transaction::begin(MAX_RUN_MS);
    let owner = Spi::connect(grants::functions_owner)?;
    transaction.commit();
    Ok(owner)
}
