//! Sessions keep plans; whatever happens to the tables meanwhile, the next call works.

use tokio_postgres::Client;

use crate::shop::Shop;
use crate::sql::{ask, audit, run, value};

const CALLS: &[&str] = &[
    "SELECT flashsale.purchase_item(1, 'alice', 1, 'a key')",
    "SELECT flashsale.begin_payment(1)",
    "SELECT flashsale.confirm_order(1, 'a charge')",
    "SELECT flashsale.purchase_item(1, 'alice')",
    "SELECT flashsale.cancel_order(2)",
    "SELECT flashsale.restock_item(1, 1)",
    "SELECT flashsale.pause_item(1)",
    "SELECT flashsale.resume_item(1)",
    "SELECT flashsale.get_order(1)",
    "SELECT flashsale.user_orders('alice')",
    "SELECT flashsale.find_payment('a charge')",
    "SELECT flashsale.item_availability(1)",
    "SELECT flashsale.purchase_item(1, 'bob')",
    "SELECT flashsale.reconcile_stale_reservations(older_than => '0 s')",
    "SELECT flashsale.refund_order(1)",
    "SELECT flashsale.refund_payment('a charge')",
];

/// A fresh sale from creation to refund, in a session that has done it before.
async fn live_through_a_sale(client: &Client) {
    run(
        client,
        "SELECT flashsale.create_item(10, unit_price => 5, currency => 'EUR')",
    )
    .await;
    for call in CALLS {
        let answer = ask(client, call).await;
        assert!(answer.success(), "{call}: {answer:?}");
    }
    assert_eq!(audit(client).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn ddl_between_calls() {
    let shop = Shop::open(1).await;
    let client = shop.connect().await;
    live_through_a_sale(&client).await;
    let changes = [
        "SET flashsale.protect_data = off",
        "ALTER TABLE flashsale.items ADD COLUMN colour text",
        "ALTER TABLE flashsale.orders ADD COLUMN gift boolean NOT NULL DEFAULT false",
        "ALTER TABLE flashsale.payments ADD COLUMN gateway text",
        "CREATE INDEX ON flashsale.orders (created_at)",
        "CREATE INDEX ON flashsale.items (name)",
        "ALTER TABLE flashsale.orders DROP COLUMN gift",
        "ANALYZE",
        "VACUUM FULL flashsale.items",
        "REINDEX TABLE flashsale.orders",
    ];
    for (n, change) in changes.into_iter().enumerate() {
        shop.run(change).await;
        let order = ask(
            &client,
            &format!("SELECT flashsale.purchase_item(1, 'carol', 1, 'key {n}')"),
        )
        .await;
        let order_id = order
            .order_id()
            .unwrap_or_else(|| panic!("after {change}: {order:?}"));
        let confirm = format!("SELECT flashsale.confirm_order({order_id}, 'charge {n}')");
        let refund = format!("SELECT flashsale.refund_order({order_id})");
        for call in [confirm, refund] {
            let answer = ask(&client, &call).await;
            assert!(answer.success(), "after {change}: {call}: {answer:?}");
        }
    }
    shop.assert_sound().await;
}

/// New tables with new oids, under plans made for the old ones.
#[tokio::test(flavor = "multi_thread")]
async fn the_extension_is_dropped_and_created_again() {
    let shop = Shop::open(1).await;
    let client = shop.connect().await;
    live_through_a_sale(&client).await;
    shop.run(
        "SET flashsale.protect_data = off; DROP EXTENSION flashsale; CREATE EXTENSION flashsale",
    )
    .await;
    live_through_a_sale(&client).await;
    run(
        &client,
        "SET flashsale.protect_data = off; DROP EXTENSION flashsale",
    )
    .await;
    run(&client, "CREATE EXTENSION flashsale").await;
    live_through_a_sale(&client).await;
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_rolled_back_leaves_nothing() {
    let shop = Shop::empty(0).await;
    shop.run("BEGIN; CREATE EXTENSION flashsale").await;
    live_through_a_sale(&shop.client).await;
    shop.run("ROLLBACK").await;
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname = 'flashsale'";
    assert_eq!(shop.value::<i64>(left, &[]).await, 0);
    shop.run("CREATE EXTENSION flashsale").await;
    live_through_a_sale(&shop.client).await;
}

/// What DISCARD and a pooler's reset query throw away is not needed.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_reset() {
    let shop = Shop::open(1).await;
    let client = shop.connect().await;
    live_through_a_sale(&client).await;
    for reset in [
        "DISCARD ALL",
        "DISCARD PLANS",
        "DEALLOCATE ALL",
        "RESET ALL",
    ] {
        client.batch_execute(reset).await.expect(reset);
        client.clear_type_cache();
        let purchase = client
            .simple_query("SELECT flashsale.purchase_item(1, 'dave') ->> 'success'")
            .await;
        assert!(purchase.is_ok(), "after {reset}: {purchase:?}");
    }
    let bought = "SELECT count(*) FROM flashsale.orders WHERE user_id = 'dave'";
    assert_eq!(value::<i64>(&shop.client, bought, &[]).await, 4);
    shop.assert_sound().await;
}
