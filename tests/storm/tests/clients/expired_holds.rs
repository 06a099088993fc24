//! Stale reservations do not keep their units from a crowd, and each unit is sold once.

use std::time::Duration;

use storm::{Call, connect};
use tokio::task::block_in_place;
use tokio::time::{sleep, timeout};

use crate::cluster::Cluster;
use crate::room::room_for_a_cluster;
use crate::shop::{Shop, refused, rush, sold};
use crate::sql::{ask, audit, run, value};
use crate::strategy::{Strategy, under_each_strategy};

under_each_strategy!(
    fifty_buyers_and_one_freed_unit,
    a_crowd_buys_what_stale_holds_have,
    a_buyer_is_busy_while_a_stale_hold_is_undecided
);

const CROWD: usize = 50;

/// Reservations of the item expired a second ago.
async fn make_stale(shop: &Shop, item_id: i64, user_ids: &str) {
    shop.run(&format!(
        "UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 second'
         WHERE item_id = {item_id} AND user_id LIKE '{user_ids}'"
    ))
    .await;
}

async fn fifty_buyers_and_one_freed_unit(strategy: Strategy) {
    let shop = Shop::open_under(strategy, CROWD).await;
    let pool = shop.pool(CROWD).await;
    for _ in 0..10 {
        let item_id = shop.item(1).await;
        assert_eq!(sold(&rush(&pool, [Call::buy(item_id, "holder")]).await), 1);
        make_stale(&shop, item_id, "holder").await;
        let buyers = (0..CROWD).map(|n| Call::buy_once(item_id, format!("user {n}"), "key"));
        let done = rush(&pool, buyers).await;
        assert_eq!(
            (sold(&done), refused(&done, "out_of_stock")),
            (1, CROWD - 1)
        );
        let statuses: String = shop
            .value(
                "SELECT string_agg(status, ' ' ORDER BY order_id) FROM flashsale.orders
                 WHERE item_id = $1",
                &[&item_id],
            )
            .await;
        assert_eq!(statuses, "expired reserved");
    }
    shop.assert_sound().await;
}

/// Of 200 units, 60 are held by stale reservations, and half of these buyers begin to pay while the
/// crowd buys.
async fn a_crowd_buys_what_stale_holds_have(strategy: Strategy) {
    let shop = Shop::open_under(strategy, CROWD).await;
    let pool = shop.pool(CROWD).await;
    let item_id = shop.item(200).await;
    let late = (0..60).map(|n| Call::buy(item_id, format!("late {n}")));
    let early = (0..140).map(|n| Call::buy(item_id, format!("early {n}")));
    assert_eq!(sold(&rush(&pool, late.chain(early)).await), 200);
    make_stale(&shop, item_id, "late %").await;
    let late = "SELECT array_agg(order_id ORDER BY order_id) FROM flashsale.orders
                WHERE user_id LIKE 'late %'";
    let late: Vec<i64> = shop.value(late, &[]).await;
    let pay = late
        .iter()
        .filter(|order_id| *order_id % 2 == 0)
        .map(|&order_id| Call::BeginPayment { order_id });
    let buy = (0..300).map(|n| Call::buy(item_id, format!("user {n}")));
    let mut calls: Vec<Call> = buy.collect();
    for (nth, call) in pay.enumerate() {
        calls.insert(nth * 5, call);
    }
    let done = rush(&pool, calls).await;
    let (bought, paying): (Vec<_>, Vec<_>) = done
        .into_iter()
        .partition(|done| matches!(done.call, Call::Purchase { .. }));
    assert_eq!(sold(&bought) + sold(&paying), 60);
    assert_eq!(refused(&bought, "out_of_stock"), 300 - sold(&bought));
    assert_eq!(shop.inventory(item_id).await, 0);
    shop.assert_sound().await;
}

/// Another transaction holds the order with the last unit, as the reconciler does before it has the
/// item: the unit may be free in a moment.
async fn a_buyer_is_busy_while_a_stale_hold_is_undecided(strategy: Strategy) {
    let shop = Shop::open_under(strategy, 2).await;
    let pool = shop.pool(1).await;
    let item_id = shop.item(1).await;
    assert_eq!(sold(&rush(&pool, [Call::buy(item_id, "holder")]).await), 1);
    make_stale(&shop, item_id, "holder").await;
    let holder = shop.connect().await;
    run(
        &holder,
        "BEGIN; SELECT FROM flashsale.orders FOR NO KEY UPDATE",
    )
    .await;
    for key in [None, Some("key".to_owned())] {
        let call = Call::Purchase {
            item_id,
            user_id: "buyer".to_owned(),
            quantity: 1,
            key,
        };
        let busy = pool.call(&call).await.expect("an answer");
        assert_eq!((busy.reason(), busy.retryable()), ("busy", true));
    }
    // Two units cannot become free.
    let two = Call::Purchase {
        item_id,
        user_id: "buyer".to_owned(),
        quantity: 2,
        key: None,
    };
    let refused = pool.settle(&two).await.expect("an answer");
    assert_eq!(refused.reason(), "out_of_stock");
    run(&holder, "COMMIT").await;
    assert_eq!(sold(&rush(&pool, [Call::buy(item_id, "buyer")]).await), 1);
    shop.assert_sound().await;
}

/// The gate is shut until the next reservation expires, and no longer, although it may stay shut for
/// a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_shut_gate_opens_when_a_hold_expires() {
    const MUCH_LESS_THAN_A_MINUTE: Duration = Duration::from_secs(40);
    let settings = [
        "flashsale.sold_out_ttl = 60s",
        "flashsale.reconcile_interval = 0",
    ];
    let shop = Shop::grouped(&settings).await;
    let create = "SELECT flashsale.create_item(1, reservation_ttl => '2 s')";
    let item_id: i64 = shop.value(create, &[]).await;
    for strategy in ["nowait", "optimistic", "atomic", "grouped", "nowait"] {
        let buy = format!(
            "SELECT flashsale.purchase_item({item_id}, '{strategy}', strategy => '{strategy}')"
        );
        let bought = timeout(MUCH_LESS_THAN_A_MINUTE, async {
            while !ask(&shop.client, &buy).await.success() {
                sleep(Duration::from_millis(10)).await;
            }
        });
        bought.await.expect("the hold has expired");
    }
    let shut = "SELECT value::bigint FROM flashsale.stats WHERE subject = 'gate' AND name = 'shut'";
    assert!(shop.value::<i64>(shut, &[]).await > 0);
    shop.assert_sound().await;
}

/// Without preload there is no gate. A session that knows when an item's next reservation expires
/// does not search for it again, and sells the unit once it has expired.
#[tokio::test(flavor = "multi_thread")]
async fn without_preload_a_session_remembers_when_a_hold_expires() {
    const MUCH_LESS_THAN_A_MINUTE: Duration = Duration::from_secs(40);
    // In this transaction, and in those before it that have not been reported yet.
    const SEARCHES: &str =
        "SELECT pg_stat_get_xact_numscans('flashsale.orders_item_expiry'::regclass::oid)";
    let settings = [
        "shared_preload_libraries = ''",
        "flashsale.sold_out_ttl = 60s",
    ];
    let _room = room_for_a_cluster().await;
    let cluster = block_in_place(|| Cluster::start(&settings));
    let client = connect(cluster.config.clone().user("postgres"))
        .await
        .expect("a connection");
    run(
        &client,
        "CREATE EXTENSION flashsale;
         SELECT flashsale.create_item(1, reservation_ttl => '1 hour');
         SELECT flashsale.create_item(1, reservation_ttl => '2 s');
         SELECT flashsale.purchase_item(item_id, 'holder') FROM flashsale.items",
    )
    .await;
    for strategy in ["nowait", "optimistic", "atomic"] {
        let buy = |item_id: i64| {
            format!("SELECT flashsale.purchase_item({item_id}, 'buyer', strategy => '{strategy}')")
        };
        // Another item, of which nothing is remembered any more.
        run(&client, &format!("{}; BEGIN", buy(2))).await;
        let before: i64 = value(&client, SEARCHES, &[]).await;
        for _ in 0..3 {
            let refused = ask(&client, &buy(1)).await;
            assert_eq!(refused.reason(), "out_of_stock", "{strategy}");
        }
        let more = value::<i64>(&client, SEARCHES, &[]).await - before;
        assert_eq!(more, 1, "{strategy}");
        run(&client, "COMMIT").await;
        let bought = timeout(MUCH_LESS_THAN_A_MINUTE, async {
            while !ask(&client, &buy(2)).await.success() {
                sleep(Duration::from_millis(10)).await;
            }
        });
        bought.await.expect("the hold has expired");
    }
    assert_eq!(audit(&client).await, Vec::<String>::new());
}
