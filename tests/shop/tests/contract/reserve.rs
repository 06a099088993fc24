//! POST /reserve/{item_id} and POST /orders/{id}/pay: a purchase in two requests.

use serde_json::{Value, json};

use crate::shopper::{Answer, Shop, With};
use reqwest::Method;
use shop::stage::session_of;

const DECLINED: &str = r#"{"paymentMethod": "pm_card_chargeDeclined"}"#;

async fn reserve(shop: &Shop, user: &str, key: &str, body: &str) -> Answer {
    let with = With {
        cookie: Some(session_of(user)),
        key: Some(key),
        body: Some(body.into()),
    };
    let path = format!("/reserve/{}", shop.item_id);
    shop.call(Method::POST, &path, with).await
}

async fn pay(shop: &Shop, user: &str, order_id: &Value, body: &str) -> Answer {
    shop.post(user, &format!("/orders/{order_id}/pay"), body)
        .await
}

#[tokio::test]
async fn a_reservation_charges_nothing_until_it_is_paid() {
    let shop = Shop::open(3).await;
    let reserved = reserve(&shop, "alice", "a", "").await.is(200);
    let order_id = reserved["orderId"].clone();
    assert_eq!(
        (&reserved["status"], &reserved["remainingInventory"]),
        (&json!("reserved"), &json!(2))
    );
    assert!(reserved["expiresAt"].is_string());
    assert_eq!(shop.stage.book().intents().count(), 0);

    let paid = pay(&shop, "alice", &order_id, "{}").await.is(200);
    let expected = json!({"success": true, "orderId": order_id, "status": "confirmed"});
    assert_eq!(paid, expected);
    // Both requests may be repeated.
    assert_eq!(pay(&shop, "alice", &order_id, "").await.is(200), expected);
    let again = reserve(&shop, "alice", "a", "").await.is(200);
    assert_eq!(
        (&again["orderId"], &again["status"]),
        (&order_id, &json!("confirmed"))
    );
    assert_eq!(shop.ledgers().await.confirmed(), 1);
}

#[tokio::test]
async fn the_last_unit_is_reserved_once() {
    let shop = Shop::open(1).await;
    reserve(&shop, "alice", "a", "").await.is(200);
    reserve(&shop, "bob", "b", "")
        .await
        .fails(409, "out_of_stock");
    reserve(&shop, "bob", "c", r#"{"quantity": 0}"#)
        .await
        .fails(400, "bad_request");
}

#[tokio::test]
async fn only_its_buyer_pays_a_reservation() {
    let shop = Shop::open(1).await;
    let order_id = reserve(&shop, "alice", "a", "").await.is(200)["orderId"].clone();
    pay(&shop, "bob", &order_id, "{}")
        .await
        .fails(404, "order_not_found");
    pay(&shop, "alice", &order_id, DECLINED)
        .await
        .fails(402, "card_declined");
    pay(&shop, "alice", &order_id, "{}")
        .await
        .fails(402, "card_declined"); // the order was cancelled for it
    assert_eq!(shop.ledgers().await.confirmed(), 0);
}

#[tokio::test]
async fn a_cancelled_reservation_is_not_charged() {
    let shop = Shop::open(1).await;
    let order_id = reserve(&shop, "alice", "a", "").await.is(200)["orderId"].clone();
    shop.post("alice", &format!("/orders/{order_id}/cancel"), "")
        .await
        .is(200);
    pay(&shop, "alice", &order_id, "{}")
        .await
        .fails(409, "order_cancelled");
    let book = shop.stage.book();
    assert!(book.intents().all(|intent| intent.amount_received == 0));
}
