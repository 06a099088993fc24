//! What a call locks, what it waits for, and what it leaves behind.

use std::time::Duration;

use serde_json::json;
use storm::{Answer, Call};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls};

use crate::shop::{Shop, refused, rush, sold, within};
use crate::sql::{ask, run, sqlstate, value};
use crate::strategy::{Strategy, under_each_strategy};

under_each_strategy!(what_is_locked_after_the_item_makes_it_busy);

const BUY: &str = "SELECT flashsale.purchase_item(1, 'alice')";

async fn shop_with_an_item(units: i64) -> (Shop, Client, Client) {
    let shop = Shop::open(3).await;
    assert_eq!(shop.item(units).await, 1);
    let (one, other) = (shop.connect().await, shop.connect().await);
    (shop, one, other)
}

/// In a transaction of its own: the answer needs neither an id nor the item's row.
async fn assert_leaves_no_trace(client: &Client, other: &Client, call: &str, reason: &str) {
    run(client, "BEGIN").await;
    let answer = within(ask(client, call)).await;
    assert_eq!(answer.reason(), reason, "{call}: {answer:?}");
    let no_id = "SELECT pg_current_xact_id_if_assigned() IS NULL";
    assert!(
        value::<bool>(client, no_id, &[]).await,
        "{call} took a transaction id"
    );
    let lock = "SELECT 1 FROM flashsale.items WHERE item_id = 1 FOR UPDATE NOWAIT";
    assert_eq!(sqlstate(other, lock).await, "", "{call} holds the row");
    run(client, "COMMIT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sold_out_answer_locks_nothing_and_takes_no_id() {
    let (_shop, one, other) = shop_with_an_item(1).await;
    assert!(ask(&one, BUY).await.success());
    assert_leaves_no_trace(&one, &other, BUY, "out_of_stock").await;
    assert_leaves_no_trace(
        &one,
        &other,
        "SELECT flashsale.purchase_item(1, 'bob', 3, 'a key')",
        "out_of_stock",
    )
    .await;
    assert_leaves_no_trace(
        &one,
        &other,
        "SELECT flashsale.purchase_item(99, 'bob')",
        "item_not_found",
    )
    .await;
}

/// A sold-out item is answered even while someone holds its row.
#[tokio::test(flavor = "multi_thread")]
async fn a_sold_out_answer_does_not_need_the_row() {
    let (_shop, one, holder) = shop_with_an_item(1).await;
    assert!(ask(&one, BUY).await.success());
    run(
        &holder,
        "BEGIN; SELECT 1 FROM flashsale.items WHERE item_id = 1 FOR UPDATE",
    )
    .await;
    assert_eq!(within(ask(&one, BUY)).await.reason(), "out_of_stock");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sales_create_no_multixact() {
    let shop = Shop::alone().await;
    let item_id = shop.item(1_000).await;
    let next = "SELECT next_multixact_id::text::bigint FROM pg_control_checkpoint()";
    shop.run("CHECKPOINT").await;
    let before: i64 = shop.value(next, &[]).await;
    let done = shop
        .rush(
            20,
            (0..1_100).map(|n| Call::buy(item_id, format!("user {n}"))),
        )
        .await;
    shop.run("CHECKPOINT").await;
    assert_eq!(shop.value::<i64>(next, &[]).await, before);
    assert_eq!((sold(&done), refused(&done, "out_of_stock")), (1_000, 100));

    // The counter does move when one is made.
    let (one, other) = (shop.connect().await, shop.connect().await);
    for client in [&one, &other] {
        run(
            client,
            "BEGIN; SELECT 1 FROM flashsale.items WHERE item_id = 1 FOR SHARE",
        )
        .await;
    }
    run(&one, "COMMIT").await;
    run(&other, "COMMIT; CHECKPOINT").await;
    assert!(shop.value::<i64>(next, &[]).await > before);
}

/// Every function that changes something answers `busy` if a whole table is locked.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_answers_busy() {
    let (shop, client, holder) = shop_with_an_item(10).await;
    shop.run(&[BUY, BUY, BUY].join(";")).await;
    shop.run(
        "SELECT flashsale.confirm_order(2, 'a charge'); SELECT flashsale.confirm_order(3, 'b')",
    )
    .await;
    shop.run("SELECT flashsale.refund_order(3)").await;
    run(&client, "SET flashsale.lock_wait = '100ms'").await;
    let calls = [
        ("items", BUY),
        (
            "items",
            "SELECT flashsale.purchase_item(1, 'alice', 1, 'a key')",
        ),
        ("items", "SELECT flashsale.cancel_order(1)"),
        ("items", "SELECT flashsale.refund_order(2)"),
        ("items", "SELECT flashsale.restock_item(1, 1)"),
        ("items", "SELECT flashsale.pause_item(1)"),
        ("items", "SELECT flashsale.resume_item(1)"),
        (
            "items",
            "SELECT flashsale.reconcile_stale_reservations(older_than => '0 s')",
        ),
        ("orders", BUY),
        ("orders", "SELECT flashsale.begin_payment(1)"),
        ("orders", "SELECT flashsale.confirm_order(1, 'c')"),
        ("orders", "SELECT flashsale.cancel_order(1)"),
        ("orders", "SELECT flashsale.refund_order(2)"),
        (
            "orders",
            "SELECT flashsale.reconcile_stale_reservations(older_than => '0 s')",
        ),
        ("payments", "SELECT flashsale.confirm_order(1, 'c')"),
        ("payments", "SELECT flashsale.refund_order(2)"),
        ("payments", "SELECT flashsale.refund_payment('b')"),
        ("stock_movements", "SELECT flashsale.restock_item(1, 1)"),
    ];
    for (table, call) in calls {
        run(
            &holder,
            &format!("BEGIN; LOCK TABLE flashsale.{table} IN ACCESS EXCLUSIVE MODE"),
        )
        .await;
        let answer = within(ask(&client, call)).await;
        assert_eq!(
            (answer.reason(), answer.retryable()),
            ("busy", true),
            "{table}, {call}: {answer:?}"
        );
        run(&holder, "COMMIT").await;
    }
    // The calls answered busy have changed nothing.
    assert_eq!(shop.inventory(1).await, 8);
    assert!(ask(&client, BUY).await.success());
    shop.assert_sound().await;
}

/// Purchases obtain the item, and then need what another session holds until all have answered:
/// nobody waits for it, and nobody has bought.
async fn what_is_locked_after_the_item_makes_it_busy(strategy: Strategy) {
    const BUYERS: usize = 24;
    let shop = Shop::open_under(strategy, BUYERS + 1).await;
    let item_id = shop.item(BUYERS as i64).await;
    shop.run(
        "CREATE TABLE held AS SELECT 1 AS n;
         CREATE FUNCTION want_held() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM FROM public.held FOR UPDATE;
             RETURN NEW;
         END $$;
         CREATE TRIGGER want_held BEFORE INSERT ON flashsale.orders
             FOR EACH ROW EXECUTE FUNCTION want_held()",
    )
    .await;
    let holder = shop.connect().await;
    let pool = shop.pool(BUYERS).await;
    for lock in [
        "LOCK TABLE flashsale.orders IN ACCESS EXCLUSIVE MODE",
        "LOCK TABLE flashsale.orders IN SHARE MODE", // which lets them read
        "SELECT FROM held FOR UPDATE",
    ] {
        run(&holder, &format!("BEGIN; {lock}")).await;
        let mut buying = JoinSet::new();
        for n in 0..BUYERS {
            let user_id = format!("user {n}");
            let call = match n {
                0 => Call::Batch {
                    requests: json!([{ "item_id": item_id, "user_id": user_id }]),
                },
                _ => Call::buy_once(item_id, user_id, "key"),
            };
            let pool = pool.clone();
            buying.spawn(async move { pool.call(&call).await.expect("an answer") });
        }
        for answer in within(buying.join_all()).await {
            let answer = match answer.0.is_array() {
                true => answer.each().remove(0),
                false => answer,
            };
            let what = (answer.reason(), answer.retryable());
            assert_eq!(what, ("busy", true), "{lock}: {answer:?}");
        }
        run(&holder, "COMMIT").await;
        assert_eq!(shop.inventory(item_id).await, BUYERS as i64, "{lock}");
    }
    let calls = (0..BUYERS).map(|n| Call::buy_once(item_id, format!("user {n}"), "key"));
    let done = rush(&pool, calls).await;
    assert_eq!(sold(&done), BUYERS);
    shop.assert_acknowledged(&done).await;
    shop.assert_sound().await;
}

/// A call leaves the caller's own lock_timeout unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_session_survive_a_call() {
    let (_shop, client, holder) = shop_with_an_item(10).await;
    run(
        &client,
        "SET lock_timeout = '123s'; SET flashsale.lock_wait = '50ms'",
    )
    .await;
    let settings =
        "SELECT current_setting('lock_timeout') || ' ' || current_setting('search_path')";
    let before: String = value(&client, settings, &[]).await;
    assert!(ask(&client, BUY).await.success());
    assert_eq!(value::<String>(&client, settings, &[]).await, before);
    run(&holder, "BEGIN; LOCK TABLE flashsale.items").await;
    assert_eq!(within(ask(&client, BUY)).await.reason(), "busy");
    assert_eq!(value::<String>(&client, settings, &[]).await, before);
    assert_eq!(
        sqlstate(&client, "SELECT flashsale.purchase_item(1, NULL::text)").await,
        "22004"
    );
    assert_eq!(value::<String>(&client, settings, &[]).await, before);
}

const CANCELLED: &str = "57014";

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_timeout_goes_through_unchanged() {
    let (shop, client, holder) = shop_with_an_item(10).await;
    run(&holder, "BEGIN; LOCK TABLE flashsale.items").await;
    run(
        &client,
        "SET flashsale.lock_wait = '60s'; SET statement_timeout = '50ms'",
    )
    .await;
    assert_eq!(within(sqlstate(&client, BUY)).await, CANCELLED);
    run(&holder, "COMMIT").await;
    run(&client, "SET statement_timeout = 0").await;
    assert!(ask(&client, BUY).await.success());
    assert_eq!(shop.inventory(1).await, 9);
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_goes_through_unchanged() {
    let (shop, client, holder) = shop_with_an_item(10).await;
    run(&holder, "BEGIN; LOCK TABLE flashsale.items").await;
    run(&client, "SET flashsale.lock_wait = '60s'").await;
    let token = client.cancel_token();
    let pid: i32 = value(&client, "SELECT pg_backend_pid()", &[]).await;
    let cancel = async {
        let waiting =
            "SELECT wait_event_type = 'Lock' IS TRUE FROM pg_stat_activity WHERE pid = $1";
        while !value::<bool>(&shop.client, waiting, &[&pid]).await {
            sleep(Duration::from_millis(5)).await;
        }
        token.cancel_query(NoTls).await.expect("a cancel request");
    };
    let (code, ()) = within(async { tokio::join!(sqlstate(&client, BUY), cancel) }).await;
    assert_eq!(code, CANCELLED);
    run(&holder, "COMMIT").await;
    assert!(ask(&client, BUY).await.success());
    shop.assert_sound().await;
}

/// Look-ups do not wait for calls that change something.
#[tokio::test(flavor = "multi_thread")]
async fn reads_are_not_held_up_by_a_move() {
    let (shop, client, holder) = shop_with_an_item(10).await;
    assert!(ask(&client, BUY).await.success());
    shop.run("SELECT flashsale.confirm_order(1, 'a charge')")
        .await;
    run(&holder, "BEGIN; SELECT flashsale.refund_order(1)").await;
    let reads = [
        "get_order(1)",
        "user_orders('alice')",
        "find_payment('a charge')",
        "item_availability(1)",
    ];
    for read in reads {
        let answer: Answer = within(ask(&client, &format!("SELECT flashsale.{read}"))).await;
        assert!(answer.success(), "{read}: {answer:?}");
    }
    run(&holder, "ROLLBACK").await;
}
