//! The reconciler: what is stale expires by itself, whatever else is held or fails.

use std::time::Duration;

use tokio::time::sleep;

use crate::shop::{Shop, within};

const SOON: &str = "flashsale.reconcile_interval = '100ms'";

async fn buy(shop: &Shop, item_id: i64, user: &str, orders: i32) {
    const BUY: &str = "SELECT count(flashsale.purchase_item($1, $2 || n, strategy => 'nowait'))
                       FROM generate_series(1, $3::int4) n";
    shop.run("SET flashsale.reservation_ttl = '1s'").await;
    let bought: i64 = shop.value(BUY, &[&item_id, &user, &orders]).await;
    assert_eq!(bought, i64::from(orders));
}

async fn until_restored(shop: &Shop, item_id: i64, units: i64) {
    within(async {
        while shop.inventory(item_id).await < units {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Many fail because of a trigger, and are older than those that do not.
async fn assert_fail_alone(trigger: &str) {
    let shop = Shop::grouped(&[SOON]).await;
    let (bad, good) = (shop.item(150).await, shop.item(20).await);
    shop.run(&format!(
        "CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.user_id LIKE 'stayer %' THEN RAISE 'I stay'; END IF;
             RETURN NEW;
         END $$;
         {trigger} FOR EACH ROW EXECUTE FUNCTION stay()"
    ))
    .await;
    buy(&shop, bad, "stayer ", 150).await;
    buy(&shop, good, "goer ", 20).await;
    until_restored(&shop, good, 20).await;
    assert_eq!(shop.inventory(bad).await, 0);

    shop.run("DROP TRIGGER stay ON flashsale.orders").await;
    shop.run("SELECT flashsale.reconcile_stale_reservations()")
        .await;
    until_restored(&shop, bad, 150).await; // some by the reconciler
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_fail_keep_no_other_from_expiring() {
    assert_fail_alone("CREATE TRIGGER stay BEFORE UPDATE ON flashsale.orders").await;
}

/// These fail only at the commit.
#[tokio::test(flavor = "multi_thread")]
async fn orders_that_fail_at_the_commit_keep_no_other_from_expiring() {
    let trigger = "CREATE CONSTRAINT TRIGGER stay AFTER UPDATE ON flashsale.orders
                   DEFERRABLE INITIALLY DEFERRED";
    assert_fail_alone(trigger).await;
}

/// The seller holds a hot item most of the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_hot_item_gets_its_units_back() {
    let shop = Shop::grouped(&[SOON]).await;
    let item_id = shop.item(1_000_000).await;
    buy(&shop, item_id, "early bird ", 500).await;
    let pool = shop.pool(32).await;
    let expired = "SELECT count(*) FROM flashsale.orders WHERE status = 'expired'";
    let mut sold = 0;
    while shop.value::<i64>(expired, &[]).await < 500 {
        let wave = (sold..sold + 200).map(|n| storm::Call::buy(item_id, format!("user {n}")));
        sold += within(storm::Crowd::start(&pool, wave).all()).await.len();
    }
    shop.assert_sound().await;
}
