//! What pages watch: one read of the database serves all pages that watch this process.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::database::Database;
use crate::statements::{AUDIT, SHOP, STOCK};

const STOCK_EVERY: Duration = Duration::from_millis(250);
const SHOP_EVERY: Duration = Duration::from_secs(1);
/// From the end of one audit to the next, because each reads every order and payment.
const AUDIT_PAUSE: Duration = Duration::from_secs(5);

/// The last look, ready to be sent; empty before the first. One receiver that all clones of the
/// shop share, so that the others can be counted.
pub type Live = Arc<watch::Receiver<Arc<str>>>;

/// The last audit that was completed.
pub struct Audit {
    broken: Value,
    ended_at: Instant,
}

pub fn watched() -> (watch::Sender<Arc<str>>, Live) {
    let (sender, receiver) = watch::channel(Arc::from(""));
    (sender, Arc::new(receiver))
}

/// Looks at the stock and wakes the watchers when an item has changed. Ends with `stop`, and with
/// it the streams of those who watch.
pub async fn stock(database: Database, sender: watch::Sender<Arc<str>>, stop: CancellationToken) {
    let mut items_before = Value::Null;
    let mut ticks = ticks(STOCK_EVERY);
    while next(&mut ticks, &stop).await {
        match database.value(STOCK, &[]).await {
            Ok(look) => sender.send_if_modified(|last| {
                *last = look.to_string().into();
                let has_changed = look["items"] != items_before;
                items_before = look["items"].clone();
                has_changed
            }),
            Err(error) => {
                tracing::warn!(%error, "no look at the stock");
                false
            }
        };
    }
}

/// Reads the state of the whole shop, while any page watches. The last audit goes with it.
pub async fn shop(
    database: Database,
    sender: watch::Sender<Arc<str>>,
    audits: watch::Receiver<Option<Audit>>,
    stop: CancellationToken,
) {
    let mut ticks = ticks(SHOP_EVERY);
    while next(&mut ticks, &stop).await {
        if !is_watched(&sender) {
            continue;
        }
        match database.value(SHOP, &[]).await {
            Ok(mut look) => {
                if let Some(audit) = &*audits.borrow() {
                    look["audit"] = audit.broken.clone();
                    look["auditAgeS"] = audit.ended_at.elapsed().as_secs().into();
                }
                sender.send_replace(look.to_string().into());
            }
            Err(error) => tracing::warn!(%error, "no look at the shop"),
        }
    }
}

/// Audits the shop, while any page watches. A task of its own, since an audit can take many times as
/// long as a look.
pub async fn audit(
    database: Database,
    watched: watch::Sender<Arc<str>>,
    sender: watch::Sender<Option<Audit>>,
    stop: CancellationToken,
) {
    let mut ticks = ticks(SHOP_EVERY);
    let mut last: Option<Instant> = None;
    while next(&mut ticks, &stop).await {
        if !is_watched(&watched) || last.is_some_and(|last| last.elapsed() < AUDIT_PAUSE) {
            continue;
        }
        let outcome = tokio::select! {
            outcome = database.value(AUDIT, &[]) => outcome,
            () = stop.cancelled() => return,
        };
        let ended_at = Instant::now();
        last = Some(ended_at);
        match outcome {
            Ok(broken) => {
                sender.send_replace(Some(Audit { broken, ended_at }));
            }
            Err(error) => tracing::warn!(%error, "no audit"),
        }
    }
}

/// Whether a page watches. One receiver is the shop's own.
fn is_watched(sender: &watch::Sender<Arc<str>>) -> bool {
    sender.receiver_count() > 1
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits for the next tick; false when it is time to stop.
async fn next(ticks: &mut tokio::time::Interval, stop: &CancellationToken) -> bool {
    tokio::select! {
        _ = ticks.tick() => true,
        () = stop.cancelled() => false,
    }
}
