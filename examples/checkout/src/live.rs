//! What pages watch: one read of the database serves all pages that watch this process.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::database::{Database, Error};
use crate::statements::{AUDIT, SHOP, STOCK};

const STOCK_EVERY: Duration = Duration::from_millis(250);
const SHOP_EVERY: Duration = Duration::from_secs(1);
/// It reads every order and payment.
const AUDIT_EVERY: u32 = 5;

/// The last look, ready to be sent; empty before the first. One receiver that all clones of the
/// shop share, so that the others can be counted.
pub type Live = Arc<watch::Receiver<Arc<str>>>;

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

/// Reads the state of the whole shop, while any page watches.
pub async fn shop(database: Database, sender: watch::Sender<Arc<str>>, stop: CancellationToken) {
    let mut audit = Value::Null;
    let mut ticks = ticks(SHOP_EVERY);
    let mut looks = 0;
    while next(&mut ticks, &stop).await {
        // One receiver is the shop's own.
        if sender.receiver_count() == 1 {
            continue;
        }
        let outcome = async {
            let mut look = database.value(SHOP, &[]).await?;
            if looks % AUDIT_EVERY == 0 {
                audit = database.value(AUDIT, &[]).await?;
            }
            looks = looks.wrapping_add(1);
            look["audit"] = audit.clone();
            Ok::<_, Error>(look)
        };
        match outcome.await {
            Ok(look) => {
                sender.send_replace(look.to_string().into());
            }
            Err(error) => tracing::warn!(%error, "no look at the shop"),
        }
    }
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
