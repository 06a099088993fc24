//! What operators do over HTTP.

use reqwest::Method;
use serde_json::{Value, json};
use shop::stage::{OPERATOR_KEY, session_of};

use crate::shopper::{Shop, With};

#[tokio::test]
async fn the_key_opens_and_nothing_else_does() {
    let shop = Shop::open(1).await;
    for key in ["", "let me i", "let me in ", "LET ME IN"] {
        shop.post(
            "alice",
            "/operator/session",
            &json!({"key": key}).to_string(),
        )
        .await
        .fails(401, "unauthenticated");
    }
    let opened = shop
        .post(
            "alice",
            "/operator/session",
            &json!({"key": OPERATOR_KEY}).to_string(),
        )
        .await;
    opened.is(200);
    let with = |cookie| With {
        cookie: Some(cookie),
        ..With::default()
    };
    shop.call(Method::GET, "/operator/session", with(opened.cookie()))
        .await
        .is(200);
    // An operator is no buyer, and a buyer no operator, whatever they are called.
    let renamed = opened.cookie().replace("operator=", "session=");
    let purchase = shop
        .call(Method::POST, &shop.purchase_path(), with(renamed))
        .await;
    purchase.fails(401, "unauthenticated");
    for user in ["alice", "operator"] {
        let renamed = session_of(user).replace("session=", "operator=");
        let answer = shop
            .call(Method::GET, "/operator/session", with(renamed))
            .await;
        answer.fails(401, "unauthenticated");
    }
}

#[tokio::test]
async fn units_are_added_and_taken_away_as_far_as_they_are_free() {
    let shop = Shop::open(1).await;
    let path = format!("/operator/items/{}/restock", shop.item_id);
    let added = shop
        .operate(&path, r#"{"delta": 4, "reason": "second delivery"}"#)
        .await
        .is(200);
    assert_eq!(
        added,
        json!({"success": true, "stock": 5, "remainingInventory": 5})
    );
    let refused = shop
        .operate(&path, r#"{"delta": -6}"#)
        .await
        .fails(409, "not_enough_free");
    assert_eq!(refused["remainingInventory"], 5);
    for body in [
        "{}",
        r#"{"delta": 0}"#,
        r#"{"delta": "1"}"#,
        r#"{"delta": 1, "reason": ""}"#,
        r#"{"delta": 9007199254740993}"#,
    ] {
        shop.operate(&path, body).await.fails(400, "bad_request");
    }
    shop.operate("/operator/items/0/restock", r#"{"delta": 1}"#)
        .await
        .fails(404, "item_not_found");
    assert_eq!(shop.ledgers().await.free(), 5);
}

#[tokio::test]
async fn a_sold_out_item_sells_again_after_a_restock() {
    let shop = Shop::open(1).await;
    shop.buy("alice", "a").await.is(200);
    shop.buy("bob", "b").await.fails(409, "out_of_stock");
    shop.operate(
        &format!("/operator/items/{}/restock", shop.item_id),
        r#"{"delta": 1}"#,
    )
    .await
    .is(200);
    shop.buy("bob", "c").await.is(200);
    assert_eq!(shop.ledgers().await.confirmed(), 2);
}

#[tokio::test]
async fn a_sale_is_paused_and_resumed() {
    let shop = Shop::open(1).await;
    let path = |move_| format!("/operator/items/{}/{move_}", shop.item_id);
    assert_eq!(
        shop.operate(&path("pause"), "").await.is(200)["paused"],
        true
    );
    shop.buy("alice", "a").await.fails(409, "sale_paused");
    assert_eq!(
        shop.operate(&path("resume"), "").await.is(200)["paused"],
        false
    );
    shop.buy("alice", "a").await.is(200);
    assert_eq!(shop.ledgers().await.confirmed(), 1);
}

/// An audit can take long. This one waits for a table that a look does not read, and each time until
/// the statement is cancelled.
#[tokio::test]
async fn looks_do_not_wait_for_the_audit() {
    let shop = Shop::open(1).await;
    let mut looks = shop.looks().await;
    looks.until(|look| look["audit"] == json!([])).await;
    let owner = shop.stage.database.owner().await;
    owner
        .batch_execute("BEGIN; LOCK TABLE flashsale.stock_movements")
        .await
        .expect("a lock");
    let is_old = |look: &Value| look["auditAgeS"].as_u64().is_some_and(|age| age >= 8);
    let look = looks.until(is_old).await;
    assert_eq!(look["audit"], json!([]), "the last one that was completed");
    owner
        .batch_execute("UPDATE flashsale.stock_movements SET delta = delta + 1; COMMIT")
        .await
        .expect("the end of it");
    let look = looks.until(|look| look["audit"] != json!([])).await;
    assert_eq!(look["audit"][0]["invariant"], "movements_add_up_to_stock");
}
