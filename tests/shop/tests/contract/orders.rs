//! One's own orders, and nobody else's.

use serde_json::json;

use crate::shopper::Shop;

#[tokio::test]
async fn orders_are_listed_newest_first_to_their_owner_alone() {
    let shop = Shop::open(3).await;
    let (alice, bob) = (
        format!("alice-{}", shop.item_id),
        format!("bob-{}", shop.item_id),
    );
    let first = shop.buy(&alice, "a").await.is(200)["orderId"].clone();
    let second = shop.buy(&alice, "b").await.is(200)["orderId"].clone();
    let listed = shop.get(&alice, "/orders").await.is(200);
    let ids: Vec<_> = listed["orders"]
        .as_array()
        .expect("orders")
        .iter()
        .map(|order| order["orderId"].clone())
        .collect();
    assert_eq!(ids, [second, first.clone()]);
    assert_eq!(
        shop.get(&bob, "/orders").await.is(200),
        json!({"orders": []})
    );
    let path = format!("/orders/{first}");
    let others = shop.get(&bob, &path).await;
    others.fails(404, "order_not_found");
    shop.post(&bob, &format!("{path}/cancel"), "")
        .await
        .fails(404, "order_not_found");
    let unknown = shop.get(&bob, "/orders/999999999").await;
    assert_eq!(
        unknown.json()["message"],
        others.json()["message"],
        "others' orders look like none"
    );
    assert!(
        !shop.get(&alice, &path).await.text.contains(&alice),
        "the answer has no more than it needs"
    );
}

#[tokio::test]
async fn a_paid_order_cannot_be_cancelled() {
    let shop = Shop::open(1).await;
    let order_id = shop.buy("alice", "a").await.is(200)["orderId"].clone();
    shop.post("alice", &format!("/orders/{order_id}/cancel"), "")
        .await
        .fails(409, "already_confirmed");
    assert_eq!(shop.ledgers().await.confirmed(), 1);
}

#[tokio::test]
async fn a_reservation_is_cancelled_once_and_its_key_is_used_up() {
    let shop = Shop::open(1).await;
    let order_id = shop.reserve().await;
    for _ in 0..2 {
        let cancelled = shop
            .post("alice", &format!("/orders/{order_id}/cancel"), "")
            .await
            .is(200);
        assert_eq!(
            cancelled,
            json!({"success": true, "orderId": order_id, "status": "cancelled"})
        );
    }
    shop.buy("alice", "a").await.fails(409, "order_cancelled");
    let intents: Vec<_> = shop
        .stage
        .book()
        .intents()
        .map(|intent| intent.amount_received)
        .collect();
    assert_eq!(intents, [0], "the gateway was asked to rule the charge out");
    assert_eq!(shop.ledgers().await.free(), 1);
}

#[tokio::test]
async fn a_purchase_that_an_app_left_behind_is_finished_by_its_key() {
    let shop = Shop::open(1).await;
    let order_id = shop.reserve().await;
    assert_eq!(shop.buy("alice", "a").await.is(200)["orderId"], order_id);
    assert_eq!(shop.ledgers().await.confirmed(), 1);
}

#[tokio::test]
async fn a_payment_that_an_app_left_behind_is_settled_without_it() {
    let shop = Shop::open(1).await;
    let order_id = shop.reserve().await;
    let _: serde_json::Value = shop
        .stage
        .database
        .value(
            "SELECT flashsale.begin_payment($1::bigint, '1 ms')",
            &[&order_id],
        )
        .await;
    // The resolver has the gateway rule the charge out, then cancels.
    let ledgers = shop.ledgers().await;
    assert_eq!(
        (ledgers.free(), ledgers.orders_in("cancelled").count()),
        (1, 1)
    );
    shop.buy("alice", "a").await.fails(409, "order_cancelled");
}

#[tokio::test]
async fn a_payment_that_the_gateway_may_have_forgotten_is_left_to_a_person() {
    let mut shop = Shop::open(1).await;
    let order_id = shop.reserve().await;
    let begin = "SELECT flashsale.begin_payment($1::bigint)";
    let _: serde_json::Value = shop.stage.database.value(begin, &[&order_id]).await;
    let age = "UPDATE flashsale.orders SET paying_at = now() - interval '21 hours', payment_deadline = now()";
    shop.stage
        .database
        .owner()
        .await
        .batch_execute(age)
        .await
        .expect("an old payment");
    // A process that meets it from the beginning, and has dealt with all that is overdue.
    shop.stage.apps[0].kill();
    shop.stage.apps[0].start_again();
    shop.stage.apps[0].until_well().await;
    shop.until_answered("/metrics", |metrics| {
        metrics.text.contains("checkout_payments_for_a_person 1")
    })
    .await;
    shop.post("alice", &format!("/orders/{order_id}/cancel"), "")
        .await
        .fails(503, "busy");
    assert_eq!(
        shop.get("alice", &format!("/orders/{order_id}"))
            .await
            .is(200)["status"],
        "paying"
    );
    assert_eq!(
        shop.stage.book().intents().count(),
        0,
        "the gateway is not asked"
    );
    let repeated = shop.buy("alice", "a").await.is(202);
    assert_eq!(repeated["status"], "paying");
    assert_eq!(
        shop.stage.book().intents().count(),
        0,
        "nor is it when the click is repeated"
    );
}

#[tokio::test]
async fn an_order_without_a_price_that_is_left_in_payment_is_cancelled() {
    let shop = Shop::open(2).await;
    for price in [
        "unit_price = NULL, currency = NULL",
        "unit_price = 0, currency = 'EUR'",
    ] {
        shop.set(price).await;
        let order_id = shop.reserve().await;
        let _: serde_json::Value = shop
            .sql(
                "SELECT flashsale.begin_payment($1::bigint, '1 ms')",
                order_id,
            )
            .await;
        shop.ledgers().await;
        shop.buy("alice", "a").await.fails(409, "not_for_sale");
        let free_the_key = "UPDATE flashsale.orders SET idempotency_key = NULL WHERE order_id = $1 RETURNING 1::bigint";
        let _: i64 = shop.sql(free_the_key, order_id).await;
    }
    assert_eq!(shop.ledgers().await.free(), 2);
    assert_eq!(shop.stage.book().intents().count(), 0);
}
