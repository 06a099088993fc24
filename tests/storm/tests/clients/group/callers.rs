//! Callers join and leave during a storm; each answer reaches its own caller, or none.

use std::time::{Duration, Instant};

use storm::{Call, Done, Pool};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls};

use super::{
    CALLERS, DOORS, assert_truthful, buy, buyers, close_door, errors, hold, open_door, orders,
    storm, until, until_asked, worker,
};
use crate::shop::{Shop, answer, within};
use crate::sql::{run, sqlstate, value};

const CANCELLED: &str = "57014";
const TERMINATED: &str = "57P01";
const CLOSED: &str = "";

/// A caller that gives up while the seller is at work for it leaves its slot to the next, who
/// must not get its answer when that comes at last.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_never_reaches_another_caller() {
    let shop = Shop::grouped(&["flashsale.group_wait = 60s", "flashsale.queue_size = 1"]).await;
    shop.run(DOORS).await;
    let item_id = shop.item(100).await;
    let doors = shop.connect().await;
    for round in 0..3 {
        close_door(&doors, round).await;
        let hasty = shop.connect().await;
        let token = hasty.cancel_token();
        let purchase = format!("SELECT flashsale.purchase_item({item_id}, 'door {round}')");
        let caller = tokio::spawn(async move { sqlstate(&hasty, &purchase).await });
        let taken = "SELECT count(*) = 1 FROM pg_stat_activity
             WHERE backend_type = 'flashsale seller' AND wait_event = 'PgSleep'";
        until(&shop.client, taken).await;
        token.cancel_query(NoTls).await.expect("a cancel request");
        assert_eq!(within(caller).await.expect("an error"), CANCELLED);
        // There is one slot only, so the next has the same.
        let next = shop.connect().await;
        let user_id = format!("next {round}");
        let caller = tokio::spawn(async move { buy(&next, item_id, &user_id).await });
        until_asked(&shop.client, 1).await;
        open_door(&doors, round).await;
        let answer = within(caller).await.expect("an answer");
        let owner = "SELECT user_id FROM flashsale.orders WHERE order_id = $1";
        let owner: String = value(&shop.client, owner, &[&answer.order_id()]).await;
        assert_eq!(owner, format!("next {round}"), "{answer:?}");
    }
    // The caller that gave up has an order nevertheless, as the seller had taken its request.
    assert_eq!(orders(&shop.client).await, 6);
    shop.assert_sound().await;
}

/// Starts buyers, applies `what` to random sessions of theirs until all are done, and returns the
/// result of each. The first time, they all wait.
async fn disturbed(shop: &Shop, item_id: i64, crowd: usize, what: &str) -> Vec<Done> {
    let pool = shop.pool(CALLERS).await;
    let holder = shop.connect().await;
    hold(&holder, item_id).await;
    let crowd = storm(&pool, buyers(item_id, crowd));
    until_asked(&shop.client, CALLERS).await;
    let disturb = format!(
        "SELECT count({what}(pid)) FROM (SELECT pid FROM pg_stat_activity
         WHERE backend_type = 'client backend' AND state = 'active' AND pid <> pg_backend_pid()
         ORDER BY random() LIMIT 3) victims"
    );
    run(&shop.client, &disturb).await;
    run(&holder, "COMMIT").await;
    while !crowd.is_finished() {
        run(&shop.client, &disturb).await;
        sleep(Duration::from_millis(3)).await;
    }
    within(crowd).await.expect("the crowd comes home")
}

/// Sells the rest to others: nothing of those who left is stuck.
async fn assert_sells_the_rest(shop: &Shop, item_id: i64) {
    let left = shop.inventory(item_id).await;
    assert!(left > 0, "nothing left to show it with");
    let pool = shop.pool(CALLERS).await;
    let late = (0..left + 5).map(|n| Call::buy(item_id, format!("late user {n}")));
    let done = crate::shop::rush(&pool, late).await;
    assert_eq!(crate::shop::sold(&done) as i64, left);
    assert_eq!(shop.inventory(item_id).await, 0);
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancels_in_mid_storm() {
    let shop = Shop::grouped(&[]).await;
    let item_id = shop.item(6_000).await;
    let done = disturbed(&shop, item_id, 5_000, "pg_cancel_backend").await;
    assert_eq!(errors(&done).into_iter().collect::<Vec<_>>(), [CANCELLED]);
    assert!(assert_truthful(&shop, &done).await > 0);
    assert_sells_the_rest(&shop, item_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_in_mid_storm() {
    let shop = Shop::grouped(&[]).await;
    let item_id = shop.item(4_000).await;
    let done = disturbed(&shop, item_id, 3_000, "pg_terminate_backend").await;
    // A session killed between two statements is a closed connection.
    assert!(errors(&done).contains(TERMINATED));
    assert!(errors(&done).is_subset(&[CLOSED, TERMINATED].into()));
    assert!(assert_truthful(&shop, &done).await > 0);
    assert_sells_the_rest(&shop, item_id).await;
}

/// The first third of the callers has less time than an answer takes, the second may have enough, and
/// the last has all the time it needs.
#[tokio::test(flavor = "multi_thread")]
async fn timeouts_in_mid_storm() {
    let shop = Shop::grouped(&["flashsale.debug_publish_delay = 5ms"]).await;
    let item_id = shop.item(2_000).await;
    let mut crowds = Vec::new();
    for (third, timeout_ms) in [4, 8, 0].into_iter().enumerate() {
        let mut config = shop.config.clone();
        config.options(format!(
            "-c flashsale.strategy=grouped -c statement_timeout={timeout_ms}"
        ));
        let pool = Pool::open(&config, CALLERS / 3).await.expect("connections");
        let names = third * 500..(third + 1) * 500;
        let calls = names.map(|n| Call::buy(item_id, format!("user {n}")));
        crowds.push(storm(&pool.into(), calls));
    }
    let mut done = Vec::new();
    for crowd in crowds {
        done.extend(within(crowd).await.expect("the crowd comes home"));
    }
    assert_eq!(errors(&done).into_iter().collect::<Vec<_>>(), [CANCELLED]);
    assert!(assert_truthful(&shop, &done).await > 0);
    assert_sells_the_rest(&shop, item_id).await;
}

/// A purchase that will be answered only after the item's row is given back.
fn waiting(client: Client, item_id: i64) -> JoinHandle<(Duration, String)> {
    tokio::spawn(async move {
        let since = Instant::now();
        let purchase = format!("SELECT flashsale.purchase_item({item_id}, 'alice')");
        let code = sqlstate(&client, &purchase).await;
        (since.elapsed(), code)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_caller_can_be_cancelled_timed_out_and_killed() {
    let shop = Shop::grouped(&["flashsale.group_wait = 60s"]).await;
    let item_id = shop.item(10).await;
    let holder = shop.connect().await;
    run(&holder, "BEGIN; SELECT 1 FROM flashsale.items FOR UPDATE").await;

    let client = shop.connect().await;
    run(&client, "SET statement_timeout = '300ms'").await;
    let (took, code) = within(waiting(client, item_id)).await.expect("an error");
    assert_eq!(code, CANCELLED);
    assert!(took < Duration::from_secs(30), "{took:?}");

    let client = shop.connect().await;
    let token = client.cancel_token();
    let caller = waiting(client, item_id);
    until_asked(&shop.client, 1).await;
    token.cancel_query(NoTls).await.expect("a cancel request");
    assert_eq!(within(caller).await.expect("an error").1, CANCELLED);

    let caller = waiting(shop.connect().await, item_id);
    until_asked(&shop.client, 1).await;
    run(
        &shop.client,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE wait_event_type = 'Extension' AND backend_type = 'client backend'",
    )
    .await;
    assert_eq!(within(caller).await.expect("an error").1, TERMINATED);

    // What they asked for may still be done for them, once each; it is never undone.
    run(&holder, "COMMIT").await;
    assert!(within(buy(&shop.client, item_id, "bob")).await.success());
    let of_alice = "SELECT count(*) <= 3 FROM flashsale.orders WHERE user_id = 'alice'";
    assert!(value::<bool>(&shop.client, of_alice, &[]).await);
    shop.assert_sound().await;
}

/// A hundred requests given up in a row use no slot up.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_given_up_is_free_again() {
    let shop = Shop::grouped(&[
        "flashsale.queue_size = 2",
        "flashsale.debug_publish_delay = 20ms",
    ])
    .await;
    let item_id = shop.item(200).await;
    let hasty = shop.connect().await;
    run(&hasty, "SET statement_timeout = '2ms'").await;
    for n in 0..100 {
        let purchase = format!("SELECT flashsale.purchase_item({item_id}, 'hasty {n}')");
        let code = sqlstate(&hasty, &purchase).await;
        assert!(code == CANCELLED || code.is_empty(), "{code}");
    }
    // The slot of the last ones may still be in use.
    let pool = shop.pool(1).await;
    let answer = within(pool.settle(&Call::buy(item_id, "bob"))).await;
    assert!(answer.expect("an answer").success());
    let pid = worker(&shop.client, "seller").await;
    until(
        &shop.client,
        &format!("SELECT state = 'idle' FROM pg_stat_activity WHERE pid = {pid}"),
    )
    .await;
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_trouble_is_told_of_its_own_order() {
    let shop = Shop::grouped(&[]).await;
    let item_id = shop.item(1_000).await;
    let pool = shop.pool(CALLERS).await;
    let done = within(storm(&pool, buyers(item_id, 1_000)))
        .await
        .expect("the crowd comes home");
    assert!(done.iter().all(|done| answer(done).success()));
    assert_eq!(assert_truthful(&shop, &done).await, 1_000);
}
