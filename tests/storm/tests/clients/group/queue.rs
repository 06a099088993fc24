//! The queue: first come first served, bounded in length and in waiting time.

use std::time::{Duration, Instant};

use storm::{Answer, Call};
use tokio::task::{JoinHandle, JoinSet};

use super::{
    CALLERS, DOORS, buy, buyers, buying, close_door, hold, open_door, set, soon, storm, terminate,
    until, until_asked, worker,
};
use crate::cluster::signal;
use crate::shop::{Shop, refused, sold, within};
use crate::sql::{ask, run};

/// Purchases that wait, in this order, for an item's row that another session holds.
async fn queue_up(shop: &Shop, item_id: i64, quantities: &[i64]) -> Vec<JoinHandle<Answer>> {
    let mut queued = Vec::new();
    for (n, quantity) in quantities.iter().enumerate() {
        let client = shop.connect().await;
        let purchase = format!("SELECT flashsale.purchase_item({item_id}, 'user {n}', {quantity})");
        queued.push(tokio::spawn(async move { ask(&client, &purchase).await }));
        until_asked(&shop.client, n + 1).await;
    }
    queued
}

#[tokio::test(flavor = "multi_thread")]
async fn first_come_first_served() {
    const UNITS: usize = 7;
    let shop = Shop::grouped(&["flashsale.group_wait = 60s"]).await;
    let item_id = shop.item(UNITS as i64).await;
    let holder = shop.connect().await;
    hold(&holder, item_id).await;
    let queued = queue_up(&shop, item_id, &[1; 20]).await;
    run(&holder, "COMMIT").await;
    for (n, caller) in queued.into_iter().enumerate() {
        let answer = within(caller).await.expect("an answer");
        let left = UNITS as i64 - 1 - n as i64;
        let expected = if left >= 0 {
            ("", left)
        } else {
            ("out_of_stock", 0)
        };
        let told = (
            answer.reason(),
            answer.number("remaining_inventory").expect("units"),
        );
        assert_eq!(told, expected, "caller {n}");
    }
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_fit_blocks_no_later_one() {
    let shop = Shop::grouped(&["flashsale.group_wait = 60s"]).await;
    let item_id = shop.item(5).await;
    let holder = shop.connect().await;
    hold(&holder, item_id).await;
    let queued = queue_up(&shop, item_id, &[3, 3, 1, 2, 1]).await;
    run(&holder, "COMMIT").await;
    let mut got = Vec::new();
    for caller in queued {
        got.push(within(caller).await.expect("an answer").success());
    }
    assert_eq!(got, [true, false, true, false, true]);
    assert_eq!(shop.inventory(item_id).await, 0);
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_answers_busy() {
    const UNITS: usize = 300;
    let shop = Shop::grouped(&["flashsale.queue_size = 4", "flashsale.group_wait = 60s"]).await;
    let item_id = shop.item(UNITS as i64).await;
    let holder = shop.connect().await;
    hold(&holder, item_id).await;
    let queued = queue_up(&shop, item_id, &[1; 4]).await;
    let fifth = buying(shop.connect().await, item_id, "the fifth");
    let fifth = soon(fifth, "it waited for a place").await;
    assert_eq!(
        (fifth.reason(), fifth.retryable()),
        ("busy", true),
        "{fifth:?}"
    );
    run(&holder, "COMMIT").await;
    let first = within(JoinSet::from_iter(queued).join_all()).await;
    let first = first
        .into_iter()
        .filter(|answer| answer.as_ref().is_ok_and(Answer::success))
        .count();

    let pool = shop.pool(50).await;
    let late = (0..1_000).map(|n| Call::buy(item_id, format!("late user {n}")));
    let done = crate::shop::rush(&pool, late).await;
    assert!(pool.retries() > 0, "nobody found the queue full");
    assert_eq!(first + sold(&done), UNITS);
    assert_eq!(refused(&done, "out_of_stock"), done.len() + first - UNITS);
    shop.assert_sound().await;
}

/// health() says so while three quarters of the queue wait: here for a seller whose transaction waits in
/// a trigger.
#[tokio::test(flavor = "multi_thread")]
async fn a_nearly_full_queue_is_a_problem() {
    let shop = Shop::grouped(&["flashsale.queue_size = 8", "flashsale.group_wait = 60s"]).await;
    let item_id = shop.item(100).await;
    shop.run(DOORS).await;
    let full = "SELECT count(*) = 1 FROM flashsale.health()
                WHERE problem = 'queue_full' AND detail = '6 calls wait for the seller'";
    let not_full = "SELECT count(*) = 0 FROM flashsale.health() WHERE problem = 'queue_full'";

    close_door(&shop.client, 1).await;
    let mut callers = vec![buying(shop.connect().await, item_id, "door 1")];
    until_asked(&shop.client, 1).await;
    until(
        &shop.client,
        "SELECT value = 0 FROM flashsale.stats WHERE name = 'waiting'",
    )
    .await;
    for n in 0..5 {
        callers.push(buying(shop.connect().await, item_id, &format!("user {n}")));
    }
    until(
        &shop.client,
        "SELECT value = 5 FROM flashsale.stats WHERE name = 'waiting'",
    )
    .await;
    assert!(shop.value::<bool>(not_full, &[]).await);
    callers.push(buying(shop.connect().await, item_id, "user 5"));
    until(&shop.client, full).await;
    open_door(&shop.client, 1).await;
    for caller in callers {
        assert!(within(caller).await.expect("an answer").success());
    }
    until(&shop.client, not_full).await;
    shop.assert_sound().await;
}

/// A row held by an idle transaction: its buyers are told busy in time, and nobody else is
/// held up meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_row_holds_up_no_other_item() {
    const PATIENCE: Duration = Duration::from_secs(10);
    let shop = Shop::grouped(&["flashsale.group_wait = 10s"]).await;
    let (held, free) = (shop.item(100).await, shop.item(1_000_000).await);
    let holder = shop.connect().await;
    hold(&holder, held).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(shop.connect().await);
    }
    let mut waiting = JoinSet::new();
    for (n, client) in clients.into_iter().enumerate() {
        waiting.spawn(async move {
            let since = Instant::now();
            (
                buy(&client, held, &format!("user {n}")).await,
                since.elapsed(),
            )
        });
    }
    until_asked(&shop.client, 10).await;
    let mut slowest = Duration::ZERO;
    while !waiting.is_empty() {
        let since = Instant::now();
        let answer = buy(&shop.client, free, "bob").await;
        assert!(answer.success(), "{answer:?}");
        slowest = slowest.max(since.elapsed());
        while let Some(done) = waiting.try_join_next() {
            let (answer, took) = done.expect("an answer");
            assert_eq!(
                (answer.reason(), answer.retryable()),
                ("busy", true),
                "{answer:?}"
            );
            assert!(
                (PATIENCE / 2..3 * PATIENCE).contains(&took),
                "busy after {took:?}"
            );
        }
    }
    assert!(
        slowest < PATIENCE,
        "another item's buyer waited {slowest:?}"
    );
    run(&holder, "COMMIT").await;
    assert!(within(buy(&shop.client, held, "carol")).await.success());
    assert_eq!(shop.inventory(held).await, 99);
    shop.assert_sound().await;
}

/// How long a buyer of a held row is kept is what the setting says after a reload.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_how_long_a_buyer_waits() {
    let shop = Shop::grouped(&["flashsale.group_wait = 60s"]).await;
    let item_id = shop.item(10).await;
    let (holder, client) = (shop.connect().await, shop.connect().await);
    hold(&holder, item_id).await;
    set(&shop, "flashsale.group_wait", "200ms").await;
    let since = Instant::now();
    assert_eq!(
        within(buy(&client, item_id, "alice")).await.reason(),
        "busy"
    );
    assert!(
        since.elapsed() < Duration::from_secs(30),
        "busy after {:?}",
        since.elapsed()
    );
    shop.assert_sound().await;
}

/// For the first seconds in which the seller cannot come, buyers are told busy in time; when it
/// comes, they are served.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_seller_it_is_busy() {
    let shop = Shop::grouped(&["flashsale.group_wait = 300ms"]).await;
    let item_id = shop.item(500).await;
    let pool = shop.pool(CALLERS).await;
    let launcher = worker(&shop.client, "launcher").await;
    let seller = worker(&shop.client, "seller").await;
    signal(launcher, "STOP");
    terminate(&shop.client, seller).await;
    let since = Instant::now();
    let answer = within(buy(&shop.client, item_id, "alice")).await;
    assert_eq!(
        (answer.reason(), answer.retryable()),
        ("busy", true),
        "{answer:?}"
    );
    assert!(
        since.elapsed() < Duration::from_secs(30),
        "{:?}",
        since.elapsed()
    );
    let crowd = storm(&pool, buyers(item_id, 400));
    signal(launcher, "CONT");
    let done = within(crowd).await.expect("the crowd comes home");
    assert_eq!(sold(&done), 400);
    shop.assert_acknowledged(&done).await;
    shop.assert_sound().await;
}
