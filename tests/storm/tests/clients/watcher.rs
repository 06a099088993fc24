//! audit() uses one snapshot, so it finds nothing wrong during a storm either.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::shop::{CROWD, Shop};
use crate::sql::audit;
use crate::strategy::{Strategy, under_each_strategy};
use crate::visit::visitors;

under_each_strategy!(a_watcher_never_sees_a_broken_invariant);

/// The storm continues until the watcher has checked this many times.
const LOOKS: usize = 100;
const VISITORS_A_WAVE: usize = 400;

async fn a_watcher_never_sees_a_broken_invariant(strategy: Strategy) {
    let shop = Shop::open_under(strategy, CROWD + 10).await;
    let create = "SELECT flashsale.create_item(1000000, unit_price => 1999, currency => 'EUR')";
    let item_id: i64 = shop.value(create, &[]).await;
    let pool = shop.pool(CROWD).await;

    let looks = Arc::new(AtomicUsize::new(0));
    let watcher = tokio::spawn(watch(shop.connect().await, Arc::clone(&looks)));
    let mut visitors_sent = 0;
    while looks.load(Relaxed) < LOOKS && !watcher.is_finished() {
        let wave = visitors_sent..visitors_sent + VISITORS_A_WAVE;
        visitors_sent = wave.end;
        visitors(&shop, &pool, item_id, wave).await;
    }
    watcher.abort();
    let ended = watcher
        .await
        .expect_err("the watcher looks until it is stopped");
    assert!(ended.is_cancelled(), "the watcher saw {ended}");
    shop.assert_sound().await;
}

async fn watch(client: tokio_postgres::Client, looks: Arc<AtomicUsize>) {
    loop {
        assert_eq!(audit(&client).await, Vec::<String>::new());
        looks.fetch_add(1, Relaxed);
    }
}
