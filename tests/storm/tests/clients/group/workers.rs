//! The workers die, reload, stop, lose the extension, and come back; callers always get true
//! answers.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use storm::{Answer, Call, Pool, connect};
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::sleep;
use tokio_postgres::{Client, Config};

use super::{
    CALLERS, assert_truthful, buy, buyers, errors, orders, storm, terminate, until, worker,
};
use crate::cluster::{Cluster, signal};
use crate::shop::{HANGS_AFTER, Shop, answer, sold, within};
use crate::sql::{ask, audit, run, sqlstate, value};
use crate::strategy::Strategy;

const WORKERS: [&str; 4] = ["launcher", "seller", "publisher", "reconciler"];

#[tokio::test(flavor = "multi_thread")]
async fn each_worker_comes_back() {
    let shop = Shop::grouped(&[]).await;
    let item_id = shop.item(100).await;
    let pool = shop.pool(1).await;
    for name in WORKERS {
        let before = worker(&shop.client, name).await;
        terminate(&shop.client, before).await;
        assert_ne!(worker(&shop.client, name).await, before, "{name}");
        let answer = within(pool.settle(&Call::buy(item_id, name))).await;
        assert!(answer.expect("an answer").success(), "after {name}");
    }
    // A cancel is nothing to die of.
    for name in WORKERS {
        let pid = worker(&shop.client, name).await;
        shop.run(&format!("SELECT pg_cancel_backend({pid}), pg_sleep(0.1)"))
            .await;
        assert_eq!(worker(&shop.client, name).await, pid, "{name}");
    }
    assert!(within(buy(&shop.client, item_id, "alice")).await.success());
    shop.assert_sound().await;
}

/// Room for the launcher and the seller, and none for the publisher. One is PostgreSQL's own.
#[tokio::test(flavor = "multi_thread")]
async fn sells_without_a_publisher() {
    let shop = Shop::grouped(&["max_worker_processes = 3"]).await;
    let item_id = shop.item(100).await;
    let done = shop.rush(CALLERS, buyers(item_id, 500)).await;
    assert_eq!(sold(&done), 100);
    shop.assert_acknowledged(&done).await;
    shop.assert_sound().await;
}

/// Sends buyers in until the worker has died several times in the midst of them.
async fn sells_exactly_without(name: &str, settings: &[&str]) {
    const UNITS: i64 = 1_000_000;
    const WAVE: usize = 500;
    const DEATHS: usize = 3;
    let shop = Shop::grouped(settings).await;
    let item_id = shop.item(UNITS).await;
    let pool = shop.pool(CALLERS).await;
    let undertaker = shop.connect().await;
    let name = name.to_owned();
    let deaths = tokio::spawn(async move {
        for _ in 0..DEATHS {
            let pid = worker(&undertaker, &name).await;
            sleep(Duration::from_millis(50)).await;
            terminate(&undertaker, pid).await;
        }
    });
    let mut done = Vec::new();
    while !deaths.is_finished() {
        let names = done.len()..done.len() + WAVE;
        let calls = names.map(|n| Call::buy(item_id, format!("user {n}")));
        done.extend(
            within(storm(&pool, calls))
                .await
                .expect("the crowd comes home"),
        );
    }
    within(deaths)
        .await
        .expect("the worker comes back each time");
    assert!(done.iter().all(|done| answer(done).success()));
    assert_eq!(assert_truthful(&shop, &done).await, done.len());
    assert_eq!(shop.inventory(item_id).await, UNITS - done.len() as i64);
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seller_dies_in_mid_storm() {
    sells_exactly_without("seller", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seller_dies_between_commits_and_answers() {
    sells_exactly_without("seller", &["flashsale.debug_publish_delay = 100ms"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_publisher_dies_in_mid_storm() {
    sells_exactly_without("publisher", &[]).await;
}

/// The order is committed and the seller about to answer when it dies.
#[tokio::test(flavor = "multi_thread")]
async fn the_seller_dies_between_commit_and_answer() {
    let shop = Shop::grouped(&["flashsale.debug_publish_delay = 10s"]).await;
    let item_id = shop.item(10).await;
    for round in 1..=3 {
        let client = shop.connect().await;
        let seller = worker(&shop.client, "seller").await;
        let caller = tokio::spawn(async move { buy(&client, item_id, "alice").await });
        until(
            &shop.client,
            &format!("SELECT count(*) = {round} FROM flashsale.orders"),
        )
        .await;
        terminate(&shop.client, seller).await;
        let answer: Answer = within(caller).await.expect("an answer");
        let newest = "SELECT max(order_id) FROM flashsale.orders";
        let newest: i64 = shop.value(newest, &[]).await;
        assert_eq!(answer.order_id(), Some(newest), "{answer:?}");
        assert_eq!(
            answer.number("remaining_inventory"),
            Some(10 - round),
            "{answer:?}"
        );
    }
    shop.assert_sound().await;
}

/// A trigger keeps the seller's transaction open when it dies: nothing was bought.
#[tokio::test(flavor = "multi_thread")]
async fn the_seller_dies_before_the_commit() {
    let shop = Shop::grouped(&["flashsale.group_wait = 60s"]).await;
    let item_id = shop.item(10).await;
    shop.run(
        "CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER sleep AFTER INSERT ON flashsale.orders
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sleep()",
    )
    .await;
    let client = shop.connect().await;
    let seller = worker(&shop.client, "seller").await;
    let caller = tokio::spawn(async move { buy(&client, item_id, "alice").await });
    let sleeping =
        format!("SELECT wait_event = 'PgSleep' IS TRUE FROM pg_stat_activity WHERE pid = {seller}");
    until(&shop.client, &sleeping).await;
    terminate(&shop.client, seller).await;
    let answer = within(caller).await.expect("an answer");
    assert_eq!(
        (answer.reason(), answer.retryable()),
        ("busy", true),
        "{answer:?}"
    );
    assert_eq!(
        (orders(&shop.client).await, shop.inventory(item_id).await),
        (0, 10)
    );
    shop.assert_sound().await;
}

fn keyed_buyers(item_id: i64, buyers: usize) -> impl Iterator<Item = Call> {
    (0..buyers).map(move |n| Call::buy_once(item_id, format!("user {n}"), "my click"))
}

async fn reconnected(config: &Config) -> Client {
    within(async {
        loop {
            match connect(config).await {
                Ok(client) if client.batch_execute("SELECT 1").await.is_ok() => return client,
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await
}

/// If a worker is killed, the server ends all sessions and restarts.
#[tokio::test(flavor = "multi_thread")]
async fn workers_are_killed_in_mid_storm() {
    const UNITS: usize = 1_500;
    let shop = Shop::grouped(&[]).await;
    let item_id = shop.item(UNITS as i64).await;
    let pool = shop.pool(CALLERS).await;
    let crowd = storm(&pool, keyed_buyers(item_id, UNITS + 200));
    for (n, name) in ["seller", "publisher", "seller"].into_iter().enumerate() {
        let client = reconnected(&shop.config).await;
        let some = format!("SELECT count(*) > {} FROM flashsale.orders", n * 300);
        until(&client, &some).await;
        let pid = worker(&client, name).await;
        signal(pid, "KILL");
        // The session is lost with the server's other processes.
        within(async { while client.batch_execute("SELECT 1").await.is_ok() {} }).await;
    }
    let done = within(crowd).await.expect("the crowd comes home");
    assert!(pool.reconnects() > 0, "nobody noticed");
    assert_eq!(sold(&done), UNITS);
    let client = reconnected(&shop.config).await;
    assert_eq!(audit(&client).await, Vec::<String>::new());
    let told = done.iter().filter(|done| answer(done).success());
    for done in told {
        let mine = "SELECT user_id FROM flashsale.orders WHERE order_id = $1";
        let mine: String = value(&client, mine, &[&answer(done).order_id()]).await;
        assert_eq!(mine, super::user(done));
    }
    assert_eq!(orders(&client).await as usize, UNITS);
}

/// The extension is dropped and made again in mid-storm: calls fail or are answered, none
/// hangs, and the new tables are served again.
#[tokio::test(flavor = "multi_thread")]
async fn the_extension_is_dropped_in_mid_storm() {
    // The crowd takes longer than a drop that is late.
    let shop = Shop::grouped(&["flashsale.debug_publish_delay = 300ms"]).await;
    for round in 0..2 {
        let item_id = shop.item(100_000).await;
        let pool = shop.pool(CALLERS).await;
        let crowd = storm(&pool, buyers(item_id, 1_200));
        until(&shop.client, "SELECT count(*) > 200 FROM flashsale.orders").await;
        within(dropped(&shop)).await;
        let done = within(crowd).await.expect("the crowd comes home");
        assert!(!errors(&done).is_empty(), "round {round}: nobody noticed");
        shop.run("CREATE EXTENSION flashsale").await;
        let item_id = shop.item(200).await;
        let done = shop.rush(CALLERS, buyers(item_id, 250)).await;
        assert_eq!(sold(&done), 200);
        shop.assert_acknowledged(&done).await;
        shop.assert_sound().await;
    }
}

/// A drop may lose against the calls it meets; that is for the operator to repeat.
async fn dropped(shop: &Shop) {
    let drop = "SET flashsale.protect_data = off; DROP EXTENSION flashsale";
    while !sqlstate(&shop.client, drop).await.is_empty() {}
}

/// An operator stops the server in mid-storm: it goes down at once, and what anybody was told
/// is still true when it is up again.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_in_mid_storm_is_prompt() {
    // Less than flashsale.group_wait, and time enough for a checkpoint on a busy disk.
    const PROMPT: Duration = Duration::from_secs(45);
    let shop = Shop::grouped(&[]).await;
    let cluster = shop.cluster.as_ref().expect("its own");
    let item_id = shop.item(100_000).await;
    let mut sent = 0;
    let mut crowds: Vec<JoinHandle<_>> = Vec::new();
    for round in 1..=3 {
        let pool: Arc<Pool> = shop.pool(CALLERS).await;
        let names = sent..sent + 6_000;
        sent = names.end;
        crowds.push(storm(
            &pool,
            names.map(|n| Call::buy(item_id, format!("user {n}"))),
        ));
        let client = shop.connect().await;
        until(
            &client,
            &format!("SELECT count(*) > {} FROM flashsale.orders", sent - 5_500),
        )
        .await;
        let since = Instant::now();
        block_in_place(|| cluster.stop());
        assert!(
            since.elapsed() < PROMPT,
            "round {round}: {:?}",
            since.elapsed()
        );
        block_in_place(|| cluster.restart());
    }
    let client = shop.connect().await;
    for crowd in crowds {
        for done in within(crowd).await.expect("the crowd comes home") {
            let Ok(told) = &done.answer else { continue };
            let mine = "SELECT user_id FROM flashsale.orders WHERE order_id = $1";
            let mine: String = value(&client, mine, &[&told.order_id()]).await;
            assert_eq!(mine, super::user(&done));
        }
    }
    assert_eq!(audit(&client).await, Vec::<String>::new());
    let pool = shop.pool(1).await;
    assert!(
        within(pool.settle(&Call::buy(item_id, "alice")))
            .await
            .expect("an answer")
            .success()
    );
}

/// Stops a server, and returns how long this process of it went on. The server itself ends later, with
/// a checkpoint, which may take its time.
fn stop_without(cluster: &Cluster, process: i32) -> Duration {
    thread::scope(|scope| {
        let since = Instant::now();
        scope.spawn(|| cluster.stop());
        let is_there = || Path::new(&format!("/proc/{process}")).exists();
        while is_there() && since.elapsed() < HANGS_AFTER {
            thread::sleep(Duration::from_millis(5));
        }
        since.elapsed()
    })
}

/// Workers with nothing to do stop at once, too, and a held row does not keep the seller.
#[tokio::test(flavor = "multi_thread")]
async fn workers_stop_promptly() {
    const PROMPT: Duration = Duration::from_secs(5);
    let settings = [
        "flashsale.group_wait = 60s",
        "max_prepared_transactions = 1",
    ];
    let shop = Shop::grouped(&settings).await;
    let item_id = shop.item(10).await;
    // A lock that outlasts the server: that of a session could pass to the seller as both end.
    let lock = "BEGIN; LOCK TABLE flashsale.items; PREPARE TRANSACTION 'the lock'";
    run(&shop.client, lock).await;
    let client = shop.connect().await;
    let caller = tokio::spawn(async move {
        sqlstate(
            &client,
            &format!("SELECT flashsale.purchase_item({item_id}, 'alice')"),
        )
        .await
    });
    let stuck = "SELECT count(*) = 1 FROM pg_stat_activity
         WHERE backend_type = 'flashsale seller' AND wait_event_type = 'Lock'";
    until(&shop.client, stuck).await;
    let seller = worker(&shop.client, "seller").await;
    let cluster = shop.cluster.as_ref().expect("its own");
    let took = block_in_place(|| stop_without(cluster, seller));
    assert!(took < PROMPT, "{took:?}");
    const TERMINATED: &str = "57P01";
    assert_eq!(within(caller).await.expect("an error"), TERMINATED);
    block_in_place(|| cluster.restart());
    let client = shop.connect().await;
    assert_eq!(orders(&client).await, 0);
    run(&client, "ROLLBACK PREPARED 'the lock'").await;
    assert!(
        within(ask(&client, "SELECT flashsale.item_availability(1)"))
            .await
            .success()
    );
}

/// On a standby there is nobody to sell; from the promotion on there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_standby_sells() {
    let shop = Shop::grouped(&[]).await;
    let item_id = shop.item(10).await;
    assert!(within(buy(&shop.client, item_id, "alice")).await.success());
    let primary = shop.cluster.as_ref().expect("its own");
    let standby = block_in_place(|| Cluster::standby_of(primary));
    let client = reconnected(&Strategy::Grouped.of(&standby.config)).await;
    assert_eq!(orders(&client).await, 1);
    const READ_ONLY: &str = "25006";
    let purchase = format!("SELECT flashsale.purchase_item({item_id}, 'bob')");
    assert_eq!(within(sqlstate(&client, &purchase)).await, READ_ONLY);
    let workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'flashsale %'";
    assert_eq!(value::<i64>(&client, workers, &[]).await, 0);

    run(&client, "SELECT pg_promote()").await;
    let pool = Pool::open(&Strategy::Grouped.of(&standby.config), 1)
        .await
        .expect("a connection");
    let answer = within(pool.settle(&Call::buy(item_id, "carol")))
        .await
        .expect("an answer");
    assert_eq!(answer.number("remaining_inventory"), Some(8), "{answer:?}");
    assert_eq!(audit(&client).await, Vec::<String>::new());
}
