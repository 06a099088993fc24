//! Foreign keys of a shop's own tables that refer to the extension's tables.

use storm::Call;

use crate::shop::{Shop, refused, sold};
use crate::sql::{ask, run, value};
use crate::strategy::Strategy;

const PAGES: &str = "CREATE TABLE pages (item_id bigint REFERENCES flashsale.items)";
const NEXT: &str = "SELECT next_multixact_id::text::bigint FROM pg_control_checkpoint()";

/// The number of multixacts that the cluster has made so far.
async fn multixacts(shop: &Shop) -> i64 {
    shop.run("CHECKPOINT").await;
    shop.value(NEXT, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn references_to_items_breed_no_multixacts() {
    let shop = Shop::alone().await;
    shop.run(PAGES).await;
    let item_id = shop.item(1_000).await;
    let before = multixacts(&shop).await;
    for strategy in [Strategy::Nowait, Strategy::Optimistic, Strategy::Atomic] {
        let pool = shop.pool_under(strategy, 20).await;
        let calls = (0..300).map(|n| Call::buy(item_id, format!("{strategy:?} {n}")));
        let done = crate::shop::rush(&pool, calls).await;
        assert_eq!(sold(&done) + refused(&done, "conflict"), 300);
    }
    // A referring row in the same transaction, inserted by each of several buyers.
    let buyer = shop.connect().await;
    for _ in 0..50 {
        run(&buyer, "BEGIN").await;
        assert!(
            ask(&buyer, "SELECT flashsale.purchase_item(1, 'alice')")
                .await
                .success()
        );
        run(&buyer, "INSERT INTO pages VALUES (1); COMMIT").await;
    }
    assert_eq!(multixacts(&shop).await, before);

    // While a referring insert is open, each sale makes two, and none once it has ended.
    let editor = shop.connect().await;
    run(&editor, "BEGIN; INSERT INTO pages VALUES (1)").await;
    for n in 0..20 {
        let purchase = format!("SELECT flashsale.purchase_item(1, 'bob {n}')");
        assert!(ask(&buyer, &purchase).await.success());
    }
    run(&editor, "COMMIT").await;
    let after = multixacts(&shop).await;
    assert!((20..=40).contains(&(after - before)), "{before} {after}");
    for _ in 0..20 {
        assert!(
            ask(&buyer, "SELECT flashsale.purchase_item(1, 'carol')")
                .await
                .success()
        );
    }
    assert_eq!(multixacts(&shop).await, after);
    shop.assert_sound().await;
}

/// Nobody who buys is held up by those who insert referring rows, nor the other way round.
#[tokio::test(flavor = "multi_thread")]
async fn buyers_and_referring_inserts_do_not_meet() {
    let shop = Shop::open(2).await;
    shop.run(PAGES).await;
    shop.item(1_000).await;
    let (buyer, editor) = (shop.connect().await, shop.connect().await);
    run(&buyer, "SET flashsale.lock_wait = '10s'").await;
    run(&editor, "SET lock_timeout = '10s'").await;
    for n in 0..100 {
        run(&editor, "BEGIN; INSERT INTO pages VALUES (1)").await;
        run(&buyer, "BEGIN").await;
        let purchase = format!("SELECT flashsale.purchase_item(1, 'user {n}')");
        let answer = ask(&buyer, &purchase).await;
        assert!(answer.success(), "{answer:?}");
        run(&editor, "COMMIT; BEGIN; INSERT INTO pages VALUES (1)").await;
        run(&buyer, "COMMIT").await;
        run(&editor, "COMMIT").await;
    }
    assert_eq!(
        value::<i64>(&buyer, "SELECT count(*) FROM pages", &[]).await,
        200
    );
    shop.assert_sound().await;
}
