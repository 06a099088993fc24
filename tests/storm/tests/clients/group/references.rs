//! The strength of the seller's lock on an item's row, with and without foreign keys that refer to
//! it, and purchases and cancels while a referring insert is open.

use super::{DOORS, buy, buying, close_door, open_door, soon, until};
use crate::shop::Shop;
use crate::sql::{ask, run, sqlstate};

/// What the insert of a referring row takes.
const KEY_SHARE: &str = "SELECT FROM flashsale.items FOR KEY SHARE NOWAIT";
/// What every lock of ours excludes.
const NO_KEY_UPDATE: &str = "SELECT FROM flashsale.items FOR NO KEY UPDATE NOWAIT";
const REFUSED: &str = "55P03";

/// The SQLSTATE with which a reference to the item is refused while the seller holds it.
async fn refusal_of_a_reference(shop: &Shop) -> String {
    close_door(&shop.client, 1).await;
    let buyer = buying(shop.connect().await, 1, "door 1");
    let at_the_door = "SELECT EXISTS (SELECT FROM pg_stat_activity
                       WHERE backend_type = 'flashsale seller' AND wait_event = 'PgSleep')";
    until(&shop.client, at_the_door).await;
    let other = shop.connect().await;
    assert_eq!(sqlstate(&other, NO_KEY_UPDATE).await, REFUSED);
    let refusal = sqlstate(&other, KEY_SHARE).await;
    open_door(&shop.client, 1).await;
    let answer = soon(buyer, "the door is open").await;
    assert!(answer.success(), "{answer:?}");
    refusal
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seller_excludes_references_only_while_there_are_none() {
    for direct in ["on", "off"] {
        let settings = format!("flashsale.direct_access = {direct}");
        let shop = Shop::grouped(&["flashsale.group_wait = 60s", &settings]).await;
        shop.run(DOORS).await;
        assert_eq!(shop.item(100).await, 1);
        assert_eq!(refusal_of_a_reference(&shop).await, REFUSED, "{direct}");
        shop.run("CREATE TABLE pages (item_id bigint REFERENCES flashsale.items)")
            .await;
        assert_eq!(refusal_of_a_reference(&shop).await, "", "{direct}");
        shop.run("DROP TABLE pages").await;
        assert_eq!(refusal_of_a_reference(&shop).await, REFUSED, "{direct}");
        shop.assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_reference_makes_nobody_busy() {
    let shop = Shop::grouped(&[]).await;
    shop.run(
        "CREATE TABLE pages (item_id bigint REFERENCES flashsale.items ON DELETE CASCADE);
         CREATE TABLE parcels (order_id bigint REFERENCES flashsale.orders (order_id))",
    )
    .await;
    assert_eq!(shop.item(10).await, 1);
    let buyer = shop.connect().await;
    assert!(buy(&buyer, 1, "alice").await.success());
    let editor = shop.connect().await;
    run(
        &editor,
        "BEGIN; INSERT INTO pages VALUES (1); INSERT INTO parcels VALUES (1)",
    )
    .await;
    for n in 0..3 {
        let answer = buy(&buyer, 1, &format!("user {n}")).await;
        assert!(answer.success(), "{answer:?}");
    }
    let cancelled = ask(&buyer, "SELECT flashsale.cancel_order(1)").await;
    assert!(cancelled.success(), "{cancelled:?}");
    run(&editor, "COMMIT").await;
    assert_eq!(shop.inventory(1).await, 7);
    shop.assert_sound().await;
}
