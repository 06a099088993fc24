//! The mistake to avoid: the item's row stays locked while the card is charged. Measured beside
//! the shop, never used by it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::stage::{POOL_SIZE, SECRET_KEY, Stage};
use crate::times::Times;

const TABLES: &str = "CREATE TABLE IF NOT EXISTS mistaken_items (item_id bigint PRIMARY KEY, inventory bigint); \
     CREATE TABLE IF NOT EXISTS mistaken_orders (order_id bigserial PRIMARY KEY, item_id bigint, user_id text); \
     TRUNCATE mistaken_items, mistaken_orders";

/// Sells to a crowd this way; returns how many bought, and the times from the click to the
/// answer. It has as many connections as an app.
pub async fn sell(stage: &Stage, buyers: usize, units: i64) -> (usize, Times) {
    let owner = stage.database.owner().await;
    owner.batch_execute(TABLES).await.expect("tables");
    owner
        .execute("INSERT INTO mistaken_items VALUES (1, $1)", &[&units])
        .await
        .expect("an item");
    let mut connections = Vec::new();
    for _ in 0..POOL_SIZE {
        connections.push(Arc::new(Mutex::new(stage.database.owner().await)));
    }
    let http = reqwest::Client::new();
    let (begun, mut crowd) = (Instant::now(), JoinSet::new());
    for n in 0..buyers {
        let (connection, http, url) = (
            connections[n % POOL_SIZE].clone(),
            http.clone(),
            stage.gateway.url(""),
        );
        crowd.spawn(async move {
            let has_bought = buy(&*connection.lock().await, &http, &url, n).await;
            (has_bought, begun.elapsed())
        });
    }
    let stories: Vec<(bool, Duration)> = crowd.join_all().await;
    let sold = stories.iter().filter(|(has_bought, _)| *has_bought).count();
    (sold, stories.into_iter().map(|(_, took)| took).collect())
}

async fn buy(client: &Client, http: &reqwest::Client, gateway: &str, n: usize) -> bool {
    client.batch_execute("BEGIN").await.expect("a transaction");
    let lock = "SELECT inventory FROM mistaken_items WHERE item_id = 1 FOR UPDATE";
    let left: i64 = client.query_one(lock, &[]).await.expect("the row").get(0);
    if left > 0 {
        charge(http, gateway, n).await;
        let sell = "UPDATE mistaken_items SET inventory = inventory - 1 WHERE item_id = 1";
        client.execute(sell, &[]).await.expect("a unit");
        let order = "INSERT INTO mistaken_orders (item_id, user_id) VALUES (1, $1)";
        client
            .execute(order, &[&n.to_string()])
            .await
            .expect("an order");
    }
    client.batch_execute("COMMIT").await.expect("its end");
    left > 0
}

/// The two calls that the shop makes.
async fn charge(http: &reqwest::Client, gateway: &str, n: usize) {
    let post = |path: String, form: &'static str| {
        let request = http
            .post(format!("{gateway}{path}"))
            .bearer_auth(SECRET_KEY)
            .body(form);
        request.header("content-type", "application/x-www-form-urlencoded")
    };
    let create = post("/v1/payment_intents".into(), "amount=49900&currency=eur");
    let create = create.header("idempotency-key", format!("mistake-{n}"));
    let intent: serde_json::Value = create
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("an intent");
    let id = intent["id"].as_str().expect("an id");
    let confirm = post(
        format!("/v1/payment_intents/{id}/confirm"),
        "payment_method=pm_card_visa",
    );
    let confirmed = confirm.send().await.expect("an answer");
    assert!(confirmed.status().is_success());
}
