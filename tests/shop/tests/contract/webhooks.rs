//! POST /webhooks/payment: what the gateway tells by itself, if it is the gateway.

use gateway::webhooks::{now_s, sign};
use serde_json::{Value, json};
use shop::stage::WEBHOOK_SECRET;

use crate::shopper::Shop;

async fn deliver(shop: &Shop, body: &str, signature: Option<String>) -> (u16, Value) {
    let mut request = reqwest::Client::new()
        .post(shop.stage.url("/webhooks/payment"))
        .body(body.to_owned());
    if let Some(signature) = signature {
        request = request.header("stripe-signature", signature);
    }
    let response = request.send().await.expect("an answer");
    (
        response.status().as_u16(),
        response.json().await.expect("JSON"),
    )
}

/// As the gateway does; it is always taken.
async fn tell(shop: &Shop, body: &str) {
    let signature = sign(WEBHOOK_SECRET, body, now_s());
    let answer = deliver(shop, body, Some(signature)).await;
    assert_eq!(answer, (200, json!({"success": true})));
}

/// The event of a charge with these notes on it.
fn succeeded(intent: &str, metadata: Value, amount: i64) -> String {
    let object = json!({"id": intent, "object": "payment_intent", "status": "succeeded", "amount": amount,
        "amount_received": amount, "currency": "eur", "metadata": metadata});
    json!({"id": "evt_x", "type": "payment_intent.succeeded", "data": {"object": object}})
        .to_string()
}

/// What the shop writes on the intent of an order.
async fn notes(shop: &Shop, order_id: i64) -> Value {
    let order_ref =
        "SELECT coalesce(flashsale.get_order($1::bigint) ->> 'order_ref', $1 || '-0123456789')";
    let order_ref: String = shop.sql(order_ref, order_id).await;
    json!({"shop": "stage", "order_ref": order_ref})
}

async fn payment(shop: &Shop, intent: &str) -> Value {
    shop.stage
        .database
        .value("SELECT flashsale.find_payment($1)", &[&intent])
        .await
}

#[tokio::test]
async fn only_what_the_gateway_signed_lately_counts() {
    let shop = Shop::open(1).await;
    let order_id = shop.reserve().await;
    let intent = format!("pi_forged_{order_id}");
    let body = succeeded(&intent, notes(&shop, order_id).await, 49_900);
    for bad in [
        None,
        Some(String::new()),
        Some("t=1,v1=00".into()),
        Some(sign("whsec_other", &body, now_s())),
        Some(sign(WEBHOOK_SECRET, &body, now_s() - 301)),
        Some(sign(WEBHOOK_SECRET, &body, now_s() + 600)),
        Some(sign(WEBHOOK_SECRET, &body.replace("49900", "1"), now_s())),
    ] {
        let (status, answer) = deliver(&shop, &body, bad).await;
        assert_eq!((status, &answer["reason"]), (400, &json!("bad_signature")));
    }
    assert_eq!(payment(&shop, &intent).await["reason"], "payment_not_found");
    for broken in [
        "",
        "{",
        "[]",
        r#"{"type": "payment_intent.succeeded", "data": {"object": {}}}"#,
    ] {
        let (status, answer) =
            deliver(&shop, broken, Some(sign(WEBHOOK_SECRET, broken, now_s()))).await;
        assert_eq!(
            (status, &answer["reason"]),
            (400, &json!("bad_request")),
            "{broken}"
        );
    }
}

#[tokio::test]
async fn a_charge_that_is_told_three_times_pays_once() {
    let shop = Shop::open(1).await;
    let order_id = shop.reserve().await;
    let body = succeeded("pi_told", notes(&shop, order_id).await, 49_900);
    for _ in 0..3 {
        tell(&shop, &body).await;
    }
    assert_eq!(payment(&shop, "pi_told").await["status"], "paid");
    assert_eq!(shop.buy("alice", "a").await.is(200)["status"], "confirmed");
    assert_eq!(
        shop.stage.book().intents().count(),
        0,
        "it is not charged again"
    );
}

#[tokio::test]
async fn events_of_other_kinds_and_of_other_shops_are_taken_and_ignored() {
    let shop = Shop::open(1).await;
    let order_id = shop.reserve().await;
    let mut other = notes(&shop, order_id).await;
    other["shop"] = json!("another");
    for body in [
        r#"{"type": "customer.created", "data": {"object": {}}}"#.to_owned(),
        succeeded("pi_other", json!({"order_ref": other["order_ref"]}), 49_900),
        succeeded("pi_other", json!({}), 49_900),
        succeeded("pi_other", json!({"shop": "stage"}), 49_900),
        succeeded("pi_other", other, 49_900),
    ] {
        tell(&shop, &body).await;
    }
    assert_eq!(
        payment(&shop, "pi_other").await["reason"],
        "payment_not_found"
    );
    let order = shop
        .get("alice", &format!("/orders/{order_id}"))
        .await
        .is(200);
    assert_eq!(order["status"], "reserved");
}

#[tokio::test]
async fn charges_that_pay_nothing_are_due_for_refund() {
    let shop = Shop::open(1).await;
    let order_id = shop.reserve().await;
    let ours = notes(&shop, order_id).await;
    // The database was restored, and the number went to another order.
    let mut before = ours.clone();
    before["order_ref"] = json!(format!("{order_id}-0123456789"));
    for (intent, metadata, amount, why) in [
        ("pi_wrong", ours, 1, "amount_mismatch"),
        ("pi_before", before, 49_900, "order_not_found"),
        (
            "pi_stray",
            notes(&shop, order_id + 1).await,
            500,
            "order_not_found",
        ),
    ] {
        tell(&shop, &succeeded(intent, metadata, amount)).await;
        let payment = payment(&shop, intent).await;
        assert_eq!(
            (&payment["status"], &payment["why"]),
            (&json!("due"), &json!(why)),
            "{intent}"
        );
    }
    let order = shop
        .get("alice", &format!("/orders/{order_id}"))
        .await
        .is(200);
    assert_eq!(order["status"], "reserved", "none of them pays it");
}
