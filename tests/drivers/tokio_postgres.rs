//! The scenarios with tokio-postgres.

use std::future::Future;
use std::pin::Pin;

use serde_json::{Value, json};
use storm::{config_from_env, connect};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

const PURCHASE: &str = "SELECT flashsale.purchase_item($1, $2, $3, $4, $5)";
const GET_ORDER: &str = "SELECT flashsale.get_order($1)";
const REPEATABLE_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ";

type Parameters<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// Nothing is prepared, because the types of the parameters are sent along.
async fn try_ask(client: &Client, sql: &str, parameters: Parameters<'_>) -> Result<Value, Error> {
    client.query_typed_one(sql, parameters).await?.try_get(0)
}

async fn ask(client: &Client, sql: &str, parameters: Parameters<'_>) -> Value {
    try_ask(client, sql, parameters).await.expect(sql)
}

#[derive(Clone, Copy)]
struct Purchase {
    item: i64,
    user: &'static str,
    quantity: i64,
    key: Option<&'static str>,
    strategy: Option<&'static str>,
}

impl Purchase {
    fn of(item: i64) -> Self {
        Self {
            item,
            user: "alice",
            quantity: 1,
            key: None,
            strategy: None,
        }
    }

    async fn try_over(&self, client: &Client) -> Result<Value, Error> {
        let parameters: Parameters = &[
            (&self.item, Type::INT8),
            (&self.user, Type::TEXT),
            (&self.quantity, Type::INT8),
            (&self.key, Type::TEXT),
            (&self.strategy, Type::TEXT),
        ];
        try_ask(client, PURCHASE, parameters).await
    }

    async fn over(&self, client: &Client) -> Value {
        self.try_over(client).await.expect(PURCHASE)
    }
}

async fn open() -> Client {
    let config = config_from_env().expect("a server in the environment");
    connect(&config).await.expect("the server answers")
}

async fn execute(client: &Client, sql: &str) {
    client.batch_execute(sql).await.expect(sql);
}

async fn new_item(client: &Client, units: i64) -> i64 {
    let create = "SELECT flashsale.create_item($1, unit_price => 500, currency => 'EUR')";
    let row = client
        .query_typed_one(create, &[(&units, Type::INT8)])
        .await;
    row.expect(create).get(0)
}

async fn free_units(client: &Client, item: i64) -> Value {
    let sql = "SELECT flashsale.item_availability($1)";
    ask(client, sql, &[(&item, Type::INT8)]).await["remaining_inventory"].take()
}

fn state(outcome: Result<Value, Error>) -> SqlState {
    outcome
        .expect_err("an error")
        .code()
        .expect("an error of the server")
        .clone()
}

async fn purchase() {
    let client = open().await;
    let item = new_item(&client, 10).await;
    let answer = Purchase::of(item).over(&client).await;
    assert_eq!(answer["success"], true);
    assert_eq!(answer["status"], "reserved");
    assert_eq!(free_units(&client, item).await, 9);
}

async fn key() {
    let client = open().await;
    let item = new_item(&client, 10).await;
    let purchase = Purchase {
        key: Some("basket"),
        ..Purchase::of(item)
    };
    let first = purchase.over(&client).await;
    let again = purchase.over(&client).await;
    assert_eq!(first["replayed"], false);
    assert_eq!(again["replayed"], true);
    assert_eq!(again["order_id"], first["order_id"]);
    assert_eq!(free_units(&client, item).await, 9);
}

async fn busy() {
    let (client, other) = (open().await, open().await);
    let item = new_item(&client, 10).await;
    execute(&other, "BEGIN").await;
    Purchase::of(item).over(&other).await;
    let refused = Purchase::of(item).over(&client).await;
    assert_eq!(refused["success"], false);
    assert_eq!(refused["reason"], "busy");
    assert_eq!(refused["retryable"], true);
    assert!(refused["retry_after_ms"].as_i64() > Some(0));
    execute(&other, "COMMIT").await;
    assert_eq!(Purchase::of(item).over(&client).await["success"], true);
}

async fn sold_out() {
    let client = open().await;
    let item = new_item(&client, 1).await;
    assert_eq!(Purchase::of(item).over(&client).await["success"], true);
    let refused = Purchase::of(item).over(&client).await;
    assert_eq!(refused["reason"], "out_of_stock");
    assert_eq!(refused["retryable"], false);
    assert_eq!(refused["remaining_inventory"], 0);
}

async fn payment() {
    let client = open().await;
    let purchase = Purchase {
        quantity: 2,
        ..Purchase::of(new_item(&client, 10).await)
    };
    let reserved = purchase.over(&client).await;
    let order_ref = reserved["order_ref"].as_str().expect("a ref");
    let by_ref: Parameters = &[(&order_ref, Type::TEXT)];
    let begun = ask(&client, "SELECT flashsale.begin_payment($1)", by_ref).await;
    assert_eq!(begun["status"], "paying");
    let confirm = "SELECT flashsale.confirm_order($1, $2, $3, $4)";
    let charge = format!("charge {order_ref}");
    let parameters: Parameters = &[
        (&order_ref, Type::TEXT),
        (&charge, Type::TEXT),
        (&1000i64, Type::INT8),
        (&"EUR", Type::TEXT),
    ];
    assert_eq!(
        ask(&client, confirm, parameters).await["status"],
        "confirmed"
    );
    let order = ask(&client, GET_ORDER, by_ref).await;
    assert_eq!(order["total"], 1000);
    assert_eq!(order["payments"][0]["payment_ref"], charge);
}

async fn named() {
    let client = open().await;
    let answer = Purchase::of(new_item(&client, 10).await)
        .over(&client)
        .await;
    let order_ref = answer["order_ref"].as_str().expect("a ref");
    let id = answer["order_id"].as_i64().expect("an id");
    let found = ask(&client, GET_ORDER, &[(&order_ref, Type::TEXT)]).await;
    assert_eq!(found["order_id"], id);
    let found = ask(&client, GET_ORDER, &[(&id, Type::INT8)]).await;
    assert_eq!(found["order_ref"], order_ref);
    let unknown = format!("{id}-0000000000");
    let found = ask(&client, GET_ORDER, &[(&unknown, Type::TEXT)]).await;
    assert_eq!(found["reason"], "order_not_found");
    let cancel = "SELECT flashsale.cancel_order($1)";
    assert_eq!(
        ask(&client, cancel, &[(&id, Type::INT8)]).await["restored"],
        1
    );
}

async fn batch() {
    let client = open().await;
    let item = new_item(&client, 2).await;
    let requests = json!([
        {"item_id": item, "user_id": "alice"},
        {"item_id": item, "user_id": 42},
        {"item_id": item, "user_id": "carol"},
    ]);
    let sql = "SELECT flashsale.purchase_batch($1)";
    let answers = ask(&client, sql, &[(&requests, Type::JSONB)]).await;
    let successes = [0, 1, 2].map(|n| answers[n]["success"].clone());
    assert_eq!(successes, [true, true, false]);
}

async fn error() {
    let client = open().await;
    let item = new_item(&client, 10).await;
    let wrong = Purchase {
        quantity: 0,
        ..Purchase::of(item)
    };
    let error = wrong.try_over(&client).await.expect_err("an error");
    let error = error.as_db_error().expect("an error of the server");
    assert_eq!(error.code().code(), "22023");
    assert_eq!(error.message(), "quantity is 0: it must be at least 1");
    assert_eq!(Purchase::of(item).over(&client).await["success"], true);
}

async fn transaction() {
    let mut client = open().await;
    let item = new_item(&client, 10).await;
    let transaction = client.transaction().await.expect("a transaction");
    let too_many = Purchase {
        quantity: 11,
        ..Purchase::of(item)
    };
    let refused = too_many.over(transaction.client()).await;
    assert_eq!(refused["reason"], "out_of_stock");
    let bought = Purchase::of(item).over(transaction.client()).await;
    assert_eq!(bought["success"], true);
    transaction.rollback().await.expect("a rollback");
    assert_eq!(free_units(&client, item).await, 10);
}

async fn grouped() {
    let client = open().await;
    let item = new_item(&client, 10).await;
    let purchase = Purchase {
        strategy: Some("grouped"),
        ..Purchase::of(item)
    };
    assert_eq!(purchase.over(&client).await["status"], "reserved");
    execute(&client, "BEGIN").await;
    assert_eq!(
        state(purchase.try_over(&client).await),
        SqlState::ACTIVE_SQL_TRANSACTION
    );
    execute(&client, "ROLLBACK").await;
    assert_eq!(free_units(&client, item).await, 9);
}

async fn serialization() {
    let (client, other) = (open().await, open().await);
    let item = new_item(&client, 10).await;
    let purchase = Purchase::of(item);
    execute(&client, REPEATABLE_READ).await;
    free_units(&client, item).await;
    purchase.over(&other).await;
    assert_eq!(
        state(purchase.try_over(&client).await),
        SqlState::T_R_SERIALIZATION_FAILURE
    );
    execute(&client, "ROLLBACK").await;
    execute(&client, REPEATABLE_READ).await;
    assert_eq!(purchase.over(&client).await["success"], true);
    execute(&client, "COMMIT").await;
    assert_eq!(free_units(&client, item).await, 8);
}

async fn repeated() {
    let (client, other) = (open().await, open().await);
    let purchase = Purchase {
        key: Some("basket"),
        ..Purchase::of(new_item(&client, 10).await)
    };
    for n in 0..20 {
        if n == 10 {
            execute(&other, "BEGIN").await; // so the others go over another connection of a pooler
        }
        assert_eq!(purchase.over(&client).await["success"], true);
    }
    execute(&other, "COMMIT").await;
}

async fn types() {
    let client = open().await;
    let item: i64 = new_item(&client, 10).await;
    let by_number = "SELECT flashsale.purchase_item($1, $2)";
    let answer = ask(
        &client,
        by_number,
        &[(&item, Type::INT8), (&42i32, Type::INT4)],
    )
    .await;
    assert!(answer["order_id"].is_i64() && answer["success"].is_boolean());
    assert!(answer["expires_at"].is_string());
    let order_ref = answer["order_ref"].as_str().expect("a ref");
    let order = ask(&client, GET_ORDER, &[(&order_ref, Type::TEXT)]).await;
    assert_eq!(order["user_id"], "42");
    assert_eq!(order["paying_at"], Value::Null);
    let by_uuid = "SELECT flashsale.purchase_item($1, $2::text::uuid)";
    let uuid = "6b29fc40-ca47-1067-b31d-00dd010662da";
    let answer = ask(
        &client,
        by_uuid,
        &[(&item, Type::INT8), (&uuid, Type::TEXT)],
    )
    .await;
    assert_eq!(answer["success"], true);
}

type Scenario = Pin<Box<dyn Future<Output = ()> + Send>>;

#[tokio::main]
async fn main() {
    let scenarios: [(&str, Scenario); 13] = [
        ("purchase", Box::pin(purchase())),
        ("key", Box::pin(key())),
        ("busy", Box::pin(busy())),
        ("sold-out", Box::pin(sold_out())),
        ("payment", Box::pin(payment())),
        ("ref", Box::pin(named())),
        ("batch", Box::pin(batch())),
        ("error", Box::pin(error())),
        ("transaction", Box::pin(transaction())),
        ("grouped", Box::pin(grouped())),
        ("serialization", Box::pin(serialization())),
        ("repeated", Box::pin(repeated())),
        ("types", Box::pin(types())),
    ];
    for (name, scenario) in scenarios {
        match tokio::spawn(scenario).await {
            Ok(()) => println!("ok {name}"),
            Err(_) => println!("not ok {name}: see above"),
        }
    }
}
