//! The background task that finishes what was left open: payments past their deadline, and
//! charges that have to be refunded.
//!
//! Every step is idempotent at the gateway and in the database, so any number of processes may
//! do this at once, and one that is killed simply begins again.

use std::future::Future;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;

use crate::Shop;
use crate::backoff::jittered;
use crate::database::Error;
use crate::payment::{Fate, SettleError, settle};
use crate::statements::{BACKLOG, DUE, OVERDUE};

const AT_ONCE: usize = 16;

pub async fn run(shop: Shop, every: Duration) {
    loop {
        let overdue = each(&shop, OVERDUE, resolve).await;
        let due = each(&shop, DUE, refund).await;
        let backlog = note_backlog(&shop).await;
        for error in [overdue.err(), due.err(), backlog.err()]
            .into_iter()
            .flatten()
        {
            tracing::warn!(%error, "the resolver could not read its lists");
        }
        sleep(jittered(every)).await;
    }
}

/// What is left, for those who watch the metrics.
async fn note_backlog(shop: &Shop) -> Result<(), Error> {
    let backlog = shop.operators.value(BACKLOG, &[]).await?;
    for (gauge, list) in [
        ("checkout_payment_checks", "payment_checks"),
        ("checkout_payments_for_a_person", "forgotten"),
        ("checkout_refunds_due", "refunds_due"),
    ] {
        metrics::gauge!(gauge).set(backlog[list].as_f64().unwrap_or_default());
    }
    Ok(())
}

/// Works on the rows of a list, a few at a time.
async fn each<Row, Work>(shop: &Shop, list: &str, work: fn(Shop, Row) -> Work) -> Result<(), Error>
where
    Row: DeserializeOwned,
    Work: Future<Output = ()> + Send + 'static,
{
    let rows: Vec<Row> = {
        let list = shop.operators.value(list, &[]).await?;
        serde_json::from_value(list).map_err(flashsale_client::Error::from)?
    };
    let mut at_work = JoinSet::new();
    for row in rows {
        if at_work.len() == AT_ONCE {
            note_panic(at_work.join_next().await);
        }
        at_work.spawn(work(shop.clone(), row));
    }
    while let Some(done) = at_work.join_next().await {
        note_panic(Some(done));
    }
    Ok(())
}

/// One row's panic must not end the work on the others.
fn note_panic(done: Option<Result<(), JoinError>>) {
    if let Some(Err(error)) = done {
        tracing::error!(%error, "the resolver failed at a row");
    }
}

async fn resolve(shop: Shop, order_id: i64) {
    match settle(&shop, order_id).await {
        Ok(Fate::Open) => tracing::info!(order_id, "not resolved yet"),
        Ok(fate) => tracing::info!(order_id, fate = fate.name(), "resolved"),
        Err(error) => tracing::warn!(order_id, %error, "not resolved yet"),
    }
}

async fn refund(shop: Shop, payment_ref: String) {
    let outcome = async {
        let refund_ref = shop.gateway.refund(&payment_ref).await?;
        shop.operators
            .refund_payment(&payment_ref, refund_ref.as_deref())
            .await?;
        Ok::<_, SettleError>(())
    };
    match outcome.await {
        Ok(()) => {
            metrics::counter!("checkout_refunds_total").increment(1);
            tracing::info!(payment_ref, "refunded");
        }
        Err(error) => tracing::warn!(payment_ref, %error, "not refunded yet"),
    }
}
