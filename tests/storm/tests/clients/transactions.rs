//! A purchase belongs to its caller's transaction.

use tokio_postgres::Client;

use crate::shop::{Shop, within};
use crate::sql::{ask, run, sqlstate, value};

const BUY: &str = "SELECT flashsale.purchase_item(1, 'alice')";

async fn shop_with_two_items() -> (Shop, Client, Client) {
    let shop = Shop::open(2).await;
    assert_eq!((shop.item(10).await, shop.item(10).await), (1, 2));
    shop.run("CREATE TABLE notes (note text)").await;
    let (one, other) = (shop.connect().await, shop.connect().await);
    (shop, one, other)
}

async fn notes(client: &Client) -> i64 {
    value(client, "SELECT count(*) FROM notes", &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rollback_undoes_a_purchase() {
    let (shop, one, _other) = shop_with_two_items().await;
    run(&one, "BEGIN").await;
    assert!(ask(&one, BUY).await.success());
    run(&one, "ROLLBACK").await;
    assert_eq!(shop.inventory(1).await, 10);
    assert_eq!(
        shop.value::<i64>("SELECT count(*) FROM flashsale.orders", &[])
            .await,
        0
    );
    assert!(ask(&one, BUY).await.success());
    assert_eq!(shop.inventory(1).await, 9);
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_commits_with_its_callers_writes() {
    let (shop, one, other) = shop_with_two_items().await;
    run(&one, "BEGIN; INSERT INTO notes VALUES ('before')").await;
    assert!(ask(&one, BUY).await.success());
    run(&one, "INSERT INTO notes VALUES ('after')").await;
    assert_eq!(
        (notes(&other).await, shop.inventory(1).await),
        (0, 10),
        "nothing shows before the commit"
    );
    run(&one, "COMMIT").await;
    assert_eq!((notes(&other).await, shop.inventory(1).await), (2, 9));
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_leaves_the_transaction_usable() {
    let (shop, holder, buyer) = shop_with_two_items().await;
    run(&holder, "BEGIN").await;
    assert!(ask(&holder, BUY).await.success());

    // A purchase that waits for the row after all would run into the timeout.
    run(
        &buyer,
        "SET flashsale.lock_wait = '10min'; SET statement_timeout = '20s'",
    )
    .await;
    run(&buyer, "BEGIN; INSERT INTO notes VALUES ('before')").await;
    for _ in 0..3 {
        let answer = within(ask(&buyer, BUY)).await;
        assert_eq!(
            (answer.reason(), answer.retryable()),
            ("busy", true),
            "{answer:?}"
        );
        assert!(answer.retry_after_ms() > 0, "{answer:?}");
    }
    run(&buyer, "INSERT INTO notes VALUES ('after')").await;
    run(&holder, "COMMIT").await;
    assert!(ask(&buyer, BUY).await.success());
    run(&buyer, "COMMIT").await;
    assert_eq!((notes(&holder).await, shop.inventory(1).await), (2, 8));
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_savepoint_takes_back_a_purchase_alone() {
    let (shop, one, _other) = shop_with_two_items().await;
    run(&one, "BEGIN").await;
    assert!(ask(&one, BUY).await.success());
    run(&one, "SAVEPOINT a").await;
    assert!(ask(&one, BUY).await.success());
    assert_eq!(ask(&one, BUY).await.number("remaining_inventory"), Some(7));
    run(&one, "ROLLBACK TO a; INSERT INTO notes VALUES ('kept')").await;
    assert_eq!(ask(&one, BUY).await.number("remaining_inventory"), Some(8));
    run(&one, "RELEASE a; COMMIT").await;
    assert_eq!((notes(&one).await, shop.inventory(1).await), (1, 8));
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_a_savepoint_takes_back_what_was_bought_there() {
    let (shop, one, _other) = shop_with_two_items().await;
    run(&one, "BEGIN").await;
    assert!(ask(&one, BUY).await.success());
    run(&one, "SAVEPOINT a").await;
    assert!(ask(&one, BUY).await.success());
    assert_eq!(
        sqlstate(&one, "SELECT flashsale.purchase_item(1, 'alice', 0)").await,
        "22023"
    );
    run(&one, "ROLLBACK TO a; COMMIT").await;
    assert_eq!(shop.inventory(1).await, 9);
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_purchase_holds_up_no_other_item() {
    let (shop, holder, buyer) = shop_with_two_items().await;
    run(&holder, "BEGIN").await;
    assert!(ask(&holder, BUY).await.success());
    for _ in 0..5 {
        assert!(
            within(ask(&buyer, "SELECT flashsale.purchase_item(2, 'bob')"))
                .await
                .success()
        );
    }
    run(&holder, "COMMIT").await;
    assert_eq!((shop.inventory(1).await, shop.inventory(2).await), (9, 5));
    shop.assert_sound().await;
}

/// Buying both items in the opposite order cannot deadlock: nobody waits.
#[tokio::test(flavor = "multi_thread")]
async fn two_items_in_one_transaction() {
    let (shop, one, other) = shop_with_two_items().await;
    run(&one, "BEGIN").await;
    run(&other, "BEGIN").await;
    assert!(ask(&one, BUY).await.success());
    assert!(
        ask(&other, "SELECT flashsale.purchase_item(2, 'bob')")
            .await
            .success()
    );
    assert_eq!(
        within(ask(&one, "SELECT flashsale.purchase_item(2, 'alice')"))
            .await
            .reason(),
        "busy"
    );
    assert_eq!(
        within(ask(&other, "SELECT flashsale.purchase_item(1, 'bob')"))
            .await
            .reason(),
        "busy"
    );
    run(&one, "COMMIT").await;
    assert!(
        ask(&other, "SELECT flashsale.purchase_item(1, 'bob')")
            .await
            .success()
    );
    run(&other, "COMMIT").await;
    assert_eq!((shop.inventory(1).await, shop.inventory(2).await), (8, 9));
    shop.assert_sound().await;
}
