//! purchase_batch in crowds: exact, and without deadlocks whatever the order of the items.

use std::sync::Arc;

use serde_json::{Value, json};
use storm::{Answer, Backoff, Call, Pool, explain};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::shop::{Shop, within};
use crate::strategy::{Strategy, under_each_strategy};

under_each_strategy!(
    batches_over_the_same_items_in_any_order,
    keys_and_limits_hold_in_batches
);

const CONNECTIONS: usize = 32;

/// Sends the requests in batches of this size, those answered busy again, until each has its
/// final answer.
pub async fn buy_in_batches(pool: &Arc<Pool>, requests: Vec<Value>, size: usize) -> Vec<Answer> {
    let mut batches = JoinSet::new();
    for batch in requests.chunks(size) {
        batches.spawn(settle(Arc::clone(pool), batch.to_vec()));
    }
    within(batches.join_all())
        .await
        .into_iter()
        .flatten()
        .collect()
}

async fn settle(pool: Arc<Pool>, mut requests: Vec<Value>) -> Vec<Answer> {
    let mut settled = Vec::with_capacity(requests.len());
    let mut backoff = Backoff::default();
    while !requests.is_empty() {
        let call = Call::Batch {
            requests: Value::Array(requests.clone()),
        };
        let answers = match pool.call(&call).await {
            Ok(answers) => answers.each(),
            Err(error) => panic!("a batch has no answer: {}", explain(&error)),
        };
        assert_eq!(answers.len(), requests.len());
        let mut again = Vec::new();
        for (request, answer) in requests.into_iter().zip(answers) {
            let item_id = answer.number("item_id");
            assert!(!answer.success() || item_id == request["item_id"].as_i64());
            match answer.retryable() {
                true => again.push(request),
                false => settled.push(answer),
            }
        }
        requests = again;
        sleep(backoff.next_wait(5)).await;
    }
    settled
}

async fn batches_over_the_same_items_in_any_order(strategy: Strategy) {
    const ITEMS: usize = 7;
    const BATCHES: usize = 96;
    let shop = Shop::open_under(strategy, CONNECTIONS).await;
    let mut items = Vec::new();
    for _ in 0..ITEMS {
        items.push(shop.item(BATCHES as i64 - 10).await);
    }
    let pool = shop.pool(CONNECTIONS).await;
    // One item of each a batch, first to last, last to first, or from the middle on.
    let requests = (0..BATCHES).flat_map(|batch| {
        let mut order = items.clone();
        order.rotate_left(batch % ITEMS);
        if batch % 2 == 1 {
            order.reverse();
        }
        order
            .into_iter()
            .map(move |item_id| json!({ "item_id": item_id, "user_id": batch }))
    });
    let answers = buy_in_batches(&pool, requests.collect(), ITEMS).await;
    assert_eq!(answers.len(), ITEMS * BATCHES);
    let bought = answers.iter().filter(|answer| answer.success()).count();
    let refused = answers
        .iter()
        .filter(|answer| answer.reason() == "out_of_stock")
        .count();
    assert_eq!((bought, refused), (ITEMS * (BATCHES - 10), ITEMS * 10));
    for item_id in items {
        assert_eq!(shop.inventory(item_id).await, 0);
    }
    shop.assert_sound().await;
}

async fn keys_and_limits_hold_in_batches(strategy: Strategy) {
    const USERS: usize = 60;
    const CLICKS: usize = 6;
    let shop = Shop::open_under(strategy, CONNECTIONS).await;
    let keyed = shop.item(1_000).await;
    let create = "SELECT flashsale.create_item(1000, max_per_user => 2)";
    let limited: i64 = shop.value(create, &[]).await;
    let pool = shop.pool(CONNECTIONS).await;
    // Clicks of one user stand in one batch, and in the batches of others.
    let requests = (0..2 * CLICKS * USERS).map(|n| {
        let user_id = n / 2 * 7 % USERS;
        match n % 2 {
            0 => json!({ "item_id": keyed, "user_id": user_id, "idempotency_key": "my click" }),
            _ => json!({ "item_id": limited, "user_id": user_id }),
        }
    });
    let answers = buy_in_batches(&pool, requests.collect(), 30).await;
    let limit_reached = |answer: &&Answer| answer.reason() == "user_limit_reached";
    assert_eq!(
        answers.iter().filter(limit_reached).count(),
        USERS * (CLICKS - 2)
    );
    let replayed = |answer: &&Answer| answer.flag("replayed");
    assert_eq!(
        answers.iter().filter(replayed).count(),
        USERS * (CLICKS - 1)
    );
    assert_eq!(shop.inventory(keyed).await as usize, 1_000 - USERS);
    assert_eq!(shop.inventory(limited).await as usize, 1_000 - 2 * USERS);
    shop.assert_sound().await;
}

/// Nobody is turned away because another connection's batch holds the item.
#[tokio::test(flavor = "multi_thread")]
async fn under_grouped_batches_wait_for_each_other() {
    const BATCHES: usize = 60;
    const SIZE: usize = 50;
    const CLIENTS: usize = 2;
    let shop = Shop::open_under(Strategy::Grouped, 1).await;
    let item_id = shop.item((CLIENTS * BATCHES * SIZE) as i64).await;
    let mut clients = JoinSet::new();
    for nth in 0..CLIENTS {
        let client = shop.connect().await;
        // By the setting of the session, or by the argument.
        let (set, batch) = match nth {
            0 => ("grouped", "SELECT flashsale.purchase_batch($1)"),
            _ => ("nowait", "SELECT flashsale.purchase_batch($1, 'grouped')"),
        };
        let set = format!("SET flashsale.strategy = '{set}'; SET flashsale.lock_wait = '60s'");
        crate::sql::run(&client, &set).await;
        clients.spawn(async move {
            for _ in 0..BATCHES {
                let requests = vec![json!({ "item_id": item_id, "user_id": nth }); SIZE];
                let requests = Value::Array(requests);
                let answers = Answer(crate::sql::value(&client, batch, &[&requests]).await).each();
                assert_eq!(answers.len(), SIZE);
                for answer in answers {
                    assert!(answer.success(), "{answer:?}");
                }
            }
        });
    }
    within(clients.join_all()).await;
    assert_eq!(shop.inventory(item_id).await, 0);
    shop.assert_sound().await;
}

/// A batch that is undone by its caller sells nothing, whatever it answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_belongs_to_its_callers_transaction() {
    let shop = Shop::open(1).await;
    let item_id = shop.item(3).await;
    let client = shop.connect().await;
    crate::sql::run(&client, "BEGIN").await;
    let requests = json!([{ "item_id": item_id, "user_id": 1, "quantity": 2 },
                          { "item_id": item_id, "user_id": 2, "quantity": 2 },
                          { "item_id": item_id, "user_id": 3 }, { "item_id": 99, "user_id": 4 }]);
    let batch = "SELECT flashsale.purchase_batch($1)";
    let answers = Answer(crate::sql::value(&client, batch, &[&requests]).await).each();
    let reasons: Vec<&str> = answers.iter().map(Answer::reason).collect();
    assert_eq!(reasons, ["", "out_of_stock", "", "item_not_found"]);
    crate::sql::run(&client, "ROLLBACK").await;
    assert_eq!(shop.inventory(item_id).await, 3);
    shop.assert_sound().await;
}
