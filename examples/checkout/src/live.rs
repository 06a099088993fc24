//! What pages watch: one look at the database serves everybody who watches this process.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::database::{Database, Error};

const STOCK_EVERY: Duration = Duration::from_millis(250);
const SHOP_EVERY: Duration = Duration::from_secs(1);
/// It reads every order and payment.
const AUDIT_EVERY: u32 = 5;

const STOCK: &str = "SELECT jsonb_build_object('serverTime', clock_timestamp(), 'items', coalesce(jsonb_agg( \
     jsonb_build_object('itemId', item_id, 'name', name, \
     'state', flashsale.item_state(inventory, starts_at, ends_at, paused), 'stock', stock, \
     'inventory', inventory, 'unitPrice', unit_price, 'currency', currency, \
     'maxPerUser', max_per_user, 'startsAt', starts_at, 'endsAt', ends_at) ORDER BY item_id), '[]')) \
     FROM flashsale.items";

const SHOP: &str = "SELECT jsonb_build_object('serverTime', clock_timestamp(), \
     'items', (SELECT coalesce(jsonb_agg(jsonb_build_object('itemId', item_id, 'name', name, \
         'state', state, 'stock', stock, 'inventory', inventory, 'reserved', reserved, \
         'paying', paying, 'confirmed', confirmed, 'cancelled', cancelled, 'expired', expired, \
         'refunded', refunded) ORDER BY item_id), '[]') FROM flashsale.item_status), \
     'answers', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', name, 'value', value) \
         ORDER BY name), '[]') FROM (SELECT name, sum(value) AS value FROM flashsale.stats \
         WHERE subject = 'purchases' GROUP BY name HAVING sum(value) > 0) s), \
     'refundsDueCount', (SELECT count(*) FROM flashsale.refunds_due), \
     'refundsDue', (SELECT coalesce(jsonb_agg(jsonb_build_object('paymentRef', payment_ref, \
         'orderId', order_id, 'userId', user_id, 'amount', amount, 'currency', currency, \
         'dueSince', due_since, 'why', why)), '[]') \
         FROM (SELECT * FROM flashsale.refunds_due ORDER BY due_since LIMIT 20) r), \
     'paymentChecksCount', (SELECT count(*) FROM flashsale.payment_checks), \
     'paymentChecks', (SELECT coalesce(jsonb_agg(jsonb_build_object('orderId', order_id, \
         'itemId', item_id, 'userId', user_id, 'amount', amount, 'currency', currency, \
         'payingAt', paying_at, 'paymentDeadline', payment_deadline)), '[]') \
         FROM (SELECT * FROM flashsale.payment_checks ORDER BY payment_deadline LIMIT 20) p))";

const AUDIT: &str = "SELECT coalesce(jsonb_agg(jsonb_build_object('invariant', invariant, 'itemId', item_id, \
     'orderId', order_id, 'paymentRef', payment_ref, 'detail', detail)), '[]') FROM flashsale.audit()";

/// The last look, ready to be sent; empty before the first.
pub type Live = watch::Receiver<Arc<str>>;

pub fn watched() -> (watch::Sender<Arc<str>>, Live) {
    watch::channel(Arc::from(""))
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

/// Looks at the whole shop, while somebody watches.
pub async fn shop(database: Database, sender: watch::Sender<Arc<str>>, stop: CancellationToken) {
    let mut audit = Value::Null;
    let mut ticks = ticks(SHOP_EVERY);
    let mut looks = 0;
    while next(&mut ticks, &stop).await {
        // One receiver is the app's own.
        if sender.receiver_count() < 2 {
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
