//! POST /webhooks/payment: what the gateway tells by itself, if it is the gateway.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use shop::stage::WEBHOOK_SECRET;

use crate::shopper::Shop;

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

fn signature(secret: &str, time: u64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(format!("{time}.{body}").as_bytes());
    format!("t={time},v1={}", hex::encode(mac.finalize().into_bytes()))
}

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

fn succeeded(intent: &str, order_id: &str, amount: i64) -> String {
    let object = json!({"id": intent, "object": "payment_intent", "status": "succeeded", "amount": amount,
        "amount_received": amount, "currency": "eur", "metadata": {"order_id": order_id}});
    json!({"id": "evt_x", "type": "payment_intent.succeeded", "data": {"object": object}})
        .to_string()
}

async fn payment(shop: &Shop, intent: &str) -> Value {
    shop.stage
        .database
        .value("SELECT flashsale.find_payment($1)", &[&intent])
        .await
}

async fn reserved_order(shop: &Shop) -> i64 {
    let sql = "SELECT (flashsale.purchase_item($1, 'alice'::text, 1, 'a', strategy => 'atomic') ->> 'order_id')::bigint";
    shop.stage.database.value(sql, &[&shop.item_id]).await
}

#[tokio::test]
async fn only_what_the_gateway_signed_lately_counts() {
    let shop = Shop::open(1).await;
    let order_id = reserved_order(&shop).await;
    let intent = format!("pi_forged_{order_id}");
    let body = succeeded(&intent, &order_id.to_string(), 49_900);
    for bad in [
        None,
        Some(String::new()),
        Some("t=1,v1=00".into()),
        Some(signature("whsec_other", now_s(), &body)),
        Some(signature(WEBHOOK_SECRET, now_s() - 301, &body)),
        Some(signature(WEBHOOK_SECRET, now_s() + 301, &body)),
        Some(signature(
            WEBHOOK_SECRET,
            now_s(),
            &body.replace("49900", "1"),
        )),
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
        let (status, answer) = deliver(
            &shop,
            broken,
            Some(signature(WEBHOOK_SECRET, now_s(), broken)),
        )
        .await;
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
    let order_id = reserved_order(&shop).await;
    let intent = format!("pi_told_{order_id}");
    let body = succeeded(&intent, &order_id.to_string(), 49_900);
    for _ in 0..3 {
        assert_eq!(
            deliver(
                &shop,
                &body,
                Some(signature(WEBHOOK_SECRET, now_s(), &body))
            )
            .await
            .0,
            200
        );
    }
    assert_eq!(payment(&shop, &intent).await["status"], "paid");
    assert_eq!(
        shop.get("alice", &format!("/orders/{order_id}"))
            .await
            .is(200)["status"],
        "confirmed"
    );
}

#[tokio::test]
async fn events_of_other_kinds_and_of_other_shops_are_taken_and_ignored() {
    let shop = Shop::open(1).await;
    let foreign = succeeded("pi_foreign", "basket of another shop", 100);
    for body in [
        r#"{"type": "customer.created", "data": {"object": {}}}"#,
        foreign.as_str(),
    ] {
        assert_eq!(
            deliver(&shop, body, Some(signature(WEBHOOK_SECRET, now_s(), body)))
                .await
                .0,
            200
        );
    }
    assert_eq!(
        payment(&shop, "pi_foreign").await["reason"],
        "payment_not_found"
    );
}

#[tokio::test]
async fn charges_that_pay_nothing_are_due_for_refund() {
    let shop = Shop::open(1).await;
    let order_id = reserved_order(&shop).await;
    let wrong = format!("pi_wrong_{order_id}");
    let stray = format!("pi_stray_{order_id}");
    for (intent, order, amount, why) in [
        (&wrong, order_id.to_string(), 1, "amount_mismatch"),
        (
            &stray,
            (8_000_000_000_000_000 + order_id).to_string(),
            500,
            "order_not_found",
        ),
    ] {
        let body = succeeded(intent, &order, amount);
        assert_eq!(
            deliver(
                &shop,
                &body,
                Some(signature(WEBHOOK_SECRET, now_s(), &body))
            )
            .await
            .0,
            200
        );
        let payment = payment(&shop, intent).await;
        assert_eq!(
            (&payment["status"], &payment["why"]),
            (&json!("due"), &json!(why))
        );
    }
}
