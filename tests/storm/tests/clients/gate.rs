//! The gate only refuses, and never for longer than it may.
//!
//! The server of these tests is preloaded, so the gate is on in every shop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use storm::Call;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::shop::{Shop, within};
use crate::sql::{ask, run, value};
use crate::strategy::{Strategy, under_each_strategy};

under_each_strategy!(
    the_next_request_buys_what_came_back,
    a_restock_is_sold_in_mid_storm
);

const BUY: &str = "SELECT flashsale.purchase_item(1, 'alice')";
const SOLD_OUT: &str = "out_of_stock";
/// The default of `flashsale.sold_out_ttl`.
const SOLD_OUT_TTL: Duration = Duration::from_secs(1);

/// Refusals that took no look at a table, of all shops of the server together.
const HITS: &str =
    "SELECT value::bigint FROM flashsale.stats WHERE subject = 'gate' AND name = 'hits'";

/// A shop whose only item was seen sold out a moment ago.
async fn shop_with_a_shut_gate() -> (Shop, Client) {
    let shop = Shop::open(3).await;
    assert_eq!(shop.item(1).await, 1);
    let client = shop.connect().await;
    assert!(ask(&client, BUY).await.success());
    assert_eq!(ask(&client, BUY).await.reason(), SOLD_OUT);
    (shop, client)
}

/// However a unit comes back, the next request buys it.
async fn the_next_request_buys_what_came_back(strategy: Strategy) {
    let shop = Shop::open_under(strategy, 2).await;
    let create = "SELECT flashsale.create_item(1, unit_price => 100, currency => 'EUR')";
    let item_id: i64 = shop.value(create, &[]).await;
    let buyer = shop.pool(1).await;
    let desk = shop.connect().await;
    let newest = "(SELECT max(order_id) FROM flashsale.orders)";
    let pay = format!("SELECT flashsale.confirm_order({newest})");
    let returns = [
        vec![format!("SELECT flashsale.cancel_order({newest})")],
        vec![format!("SELECT flashsale.restock_item({item_id}, 1)")],
        vec!["SELECT flashsale.reconcile_stale_reservations('0 s', 1)".into()],
        vec![pay, format!("SELECT flashsale.refund_order({newest})")],
    ];
    let buy = async |n: usize| {
        let answer = buyer.settle(&Call::buy(item_id, format!("user {n}"))).await;
        answer.expect("an answer")
    };
    let first = buy(0).await;
    assert!(first.success(), "{first:?}");
    for n in 1..=40 {
        for _ in 0..2 {
            assert_eq!(buy(n).await.reason(), SOLD_OUT);
        }
        let how = &returns[n % returns.len()];
        for call in how {
            let answer = ask(&desk, call).await;
            assert!(answer.success(), "{call}: {answer:?}");
        }
        let answer = buy(n).await;
        assert!(answer.success(), "after {how:?}: {answer:?}");
    }
    shop.assert_sound().await;
}

/// Units arrive one by one while a crowd is being refused: none lies there unsold, as it would
/// for as long as a gate stays shut that should not.
async fn a_restock_is_sold_in_mid_storm(strategy: Strategy) {
    const CROWD: usize = 16;
    const UNITS: usize = 40;
    let mut shop = Shop::grouped(&["flashsale.sold_out_ttl = 60s"]).await;
    shop.config = strategy.of(&shop.config);
    let item_id = shop.item(1).await;
    let pool = shop.pool(CROWD).await;
    let mut crowd = JoinSet::new();
    for n in 0..CROWD {
        let pool = Arc::clone(&pool);
        crowd.spawn(async move {
            loop {
                let answer = pool.settle(&Call::buy(item_id, format!("user {n}"))).await;
                answer.expect("an answer");
            }
        });
    }
    let desk = shop.connect().await;
    let restock = format!("SELECT flashsale.restock_item({item_id}, 1)");
    let mut slowest = Duration::ZERO;
    for _ in 0..UNITS {
        within(async { while ask(&desk, &restock).await.retryable() {} }).await;
        let since = Instant::now();
        within(async { while shop.inventory(item_id).await > 0 {} }).await;
        slowest = slowest.max(since.elapsed());
    }
    assert!(crowd.try_join_next().is_none(), "a buyer failed");
    crowd.shutdown().await;
    assert!(
        slowest < Duration::from_secs(30),
        "a unit lay there for {slowest:?}"
    );
    shop.assert_sound().await;
}

/// Whether a buyer who has just seen the item sold out is refused while the table is locked.
async fn is_refused_at_the_gate(client: &Client, holder: &Client) -> bool {
    assert_eq!(ask(client, BUY).await.reason(), SOLD_OUT);
    run(holder, "BEGIN; LOCK TABLE flashsale.items").await;
    let answer = ask(client, BUY).await;
    run(holder, "COMMIT").await;
    answer.reason() == SOLD_OUT
}

/// The gate is what answers: a sold-out item is refused even while its table is locked away.
#[tokio::test(flavor = "multi_thread")]
async fn a_shut_gate_looks_at_no_table() {
    let (shop, client) = shop_with_a_shut_gate().await;
    let before: i64 = shop.value(HITS, &[]).await;
    let holder = shop.connect().await;
    run(&client, "SET flashsale.lock_wait = '100ms'").await;
    // It may be open again by the time the table is locked.
    within(async { while !is_refused_at_the_gate(&client, &holder).await {} }).await;
    assert!(shop.value::<i64>(HITS, &[]).await > before);
    // It opens by itself: the truth is looked at again.
    sleep(SOLD_OUT_TTL).await;
    run(&holder, "BEGIN; LOCK TABLE flashsale.items").await;
    assert_eq!(within(ask(&client, BUY)).await.reason(), "busy");
    run(&holder, "COMMIT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_is_off_refuses_nobody() {
    let shop = Shop::grouped(&["flashsale.sold_out_ttl = 0"]).await;
    let item_id = shop.item(1).await;
    let pool = shop.pool(1).await;
    for n in 0..10 {
        let answer = pool.settle(&Call::buy(item_id, format!("user {n}"))).await;
        assert_eq!(answer.expect("an answer").success(), n == 0);
    }
    assert_eq!(shop.value::<i64>(HITS, &[]).await, 0);
}

/// The same item id in another database is another item.
#[tokio::test(flavor = "multi_thread")]
async fn each_database_has_its_own_items() {
    let one = Shop::open(4).await;
    let other = one.sibling().await;
    other.run("CREATE EXTENSION flashsale").await;
    assert_eq!((one.item(1).await, other.item(100).await), (1, 1));
    assert!(ask(&one.client, BUY).await.success());
    for _ in 0..50 {
        assert_eq!(ask(&one.client, BUY).await.reason(), SOLD_OUT);
        assert!(ask(&other.client, BUY).await.success());
    }
    one.assert_sound().await;
    other.assert_sound().await;
}

/// A buyer that sees its own last unit gone may yet roll back.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_unit_is_rolled_back() {
    let shop = Shop::open(2).await;
    shop.item(1).await;
    let (one, other) = (shop.connect().await, shop.connect().await);
    run(&one, "BEGIN").await;
    assert!(ask(&one, BUY).await.success());
    assert_eq!(ask(&one, BUY).await.reason(), SOLD_OUT);
    run(&one, "ROLLBACK").await;
    assert!(ask(&other, BUY).await.success());
    shop.assert_sound().await;
}

/// What an old snapshot sees is not current, so it does not shut the gate.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_with_an_old_snapshot_shuts_nothing() {
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let (shop, client) = shop_with_a_shut_gate().await;
        let reader = shop.connect().await;
        run(
            &reader,
            &format!("BEGIN ISOLATION LEVEL {level}; SELECT 1 FROM flashsale.items"),
        )
        .await;
        assert!(
            ask(&shop.client, "SELECT flashsale.restock_item(1, 1)")
                .await
                .success()
        );
        assert_eq!(
            ask(&reader, BUY).await.reason(),
            SOLD_OUT,
            "{level}: it sees the past"
        );
        assert!(ask(&client, BUY).await.success(), "{level}");
        run(&reader, "ROLLBACK").await;
        shop.assert_sound().await;
    }
}

/// A restock that is rolled back opens nothing, and one that commits opens at once, also when
/// it was one of several in its transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_restock_opens_when_it_commits() {
    let (shop, client) = shop_with_a_shut_gate().await;
    let desk = shop.connect().await;
    for (end, bought) in [("ROLLBACK", false), ("COMMIT", true)] {
        run(&desk, "BEGIN; SELECT flashsale.restock_item(1, 1)").await;
        run(
            &desk,
            "SAVEPOINT a; SELECT flashsale.create_item(1); ROLLBACK TO a",
        )
        .await;
        assert_eq!(
            ask(&client, BUY).await.reason(),
            SOLD_OUT,
            "before the {end}"
        );
        run(&desk, end).await;
        assert_eq!(ask(&client, BUY).await.success(), bought, "after the {end}");
    }
    shop.assert_sound().await;
}

/// Makes every read of items by a session that requests it wait, after its snapshot was taken, for
/// the session that holds the door's lock.
const SLOW_READS: &str = "
    SET flashsale.protect_data = off;
    ALTER TABLE flashsale.items RENAME TO all_items;
    CREATE FUNCTION at_the_door() RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        IF current_setting('storm.slow', true) = 'on' THEN
            PERFORM pg_catalog.pg_advisory_xact_lock_shared(1);
        END IF;
        RETURN true;
    END $$;
    CREATE VIEW flashsale.items AS
        SELECT *, ctid FROM flashsale.all_items WHERE public.at_the_door()";

/// A slow reader sees no unit, and before it shuts the gate a unit comes back. What it saw is too
/// old to shut the gate.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_does_not_shut_the_gate() {
    let shop = Shop::open(3).await;
    shop.item(1).await;
    assert!(ask(&shop.client, BUY).await.success());
    shop.run(SLOW_READS).await;
    let door = shop.connect().await;
    for strategy in ["optimistic", "nowait", "atomic"] {
        run(&door, "SELECT pg_advisory_lock(1)").await;
        let buy = format!("SELECT flashsale.purchase_item(1, 'bob', strategy => '{strategy}')");
        let reading = tokio::spawn({
            let slow = shop.connect().await;
            run(
                &slow,
                "SET storm.slow = 'on'; SET flashsale.lock_wait = '1min'",
            )
            .await;
            async move { ask(&slow, &buy).await }
        });
        let waits = "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        within(async { while !value::<bool>(&shop.client, waits, &[]).await {} }).await;
        assert!(
            ask(&shop.client, "SELECT flashsale.restock_item(1, 1)")
                .await
                .success()
        );
        run(&door, "SELECT pg_advisory_unlock(1)").await;
        let told = within(reading).await.expect("an answer");
        if told.success() {
            continue; // a later look of its own found the unit
        }
        let next = ask(&shop.client, BUY).await;
        assert!(next.success(), "{strategy}: {told:?}, then {next:?}");
    }
}
