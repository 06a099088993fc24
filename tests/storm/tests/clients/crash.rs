//! Servers crash and connections break during a storm; buyers that repeat their key lose nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use storm::{Call, Crowd, Done, Pool, connect};
use tokio::task::block_in_place;
use tokio::time::sleep;
use tokio_postgres::{Client, Config};

use crate::cluster::Cluster;
use crate::room::room_for_a_cluster;
use crate::shop::{CROWD, Shop, answer, sold, within};
use crate::sql::{audit, run, value};
use crate::strategy::{Strategy, under_each_strategy};

under_each_strategy!(
    a_crash_in_mid_storm_loses_nothing,
    broken_connections_lose_nothing
);

const UNITS: usize = 400;
const BUYERS: usize = 1_200;

fn keyed_buyers(item_id: i64) -> impl Iterator<Item = Call> {
    (0..BUYERS).map(move |n| Call::buy_once(item_id, format!("user {n}"), format!("click {n}")))
}

/// The buyers to whom an order was reported, whether or not the first call was answered.
fn told(done: &[Done]) -> BTreeSet<(i64, String)> {
    let buyer = |done: &Done| match &done.call {
        Call::Purchase { user_id, .. } => user_id.clone(),
        other => panic!("{other:?} is no purchase"),
    };
    let bought = done.iter().filter(|done| answer(done).success());
    bought
        .map(|done| (answer(done).order_id().expect("an order id"), buyer(done)))
        .collect()
}

async fn rows(client: &Client) -> BTreeSet<(i64, String)> {
    let rows = client
        .query("SELECT order_id, user_id FROM flashsale.orders", &[])
        .await
        .expect("orders");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Waits until that many orders are committed, over a connection of its own.
async fn until_sold(config: &Config, orders: i64) {
    let client = connect(config).await.expect("the server answers");
    while value::<i64>(&client, "SELECT count(*) FROM flashsale.orders", &[]).await < orders {
        sleep(Duration::from_millis(5)).await;
    }
}

async fn a_crash_in_mid_storm_loses_nothing(strategy: Strategy) {
    const CRASHES: usize = 3;
    let _room = room_for_a_cluster().await;
    let cluster = Cluster::start(&[]);
    let client = connect(&cluster.config).await.expect("the server answers");
    run(&client, "CREATE EXTENSION flashsale").await;
    let item_id: i64 = value(
        &client,
        "SELECT flashsale.create_item($1)",
        &[&(UNITS as i64)],
    )
    .await;
    let pool = Arc::new(
        Pool::open(&strategy.of(&cluster.config), 50)
            .await
            .expect("connections"),
    );

    // The first crash meets all of them: until then nobody can buy.
    let hold = "BEGIN; SELECT FROM flashsale.items FOR UPDATE";
    run(&client, hold).await;
    let storm = tokio::spawn(Crowd::start(&pool, keyed_buyers(item_id)).all());
    for crash in 0..=CRASHES {
        // Never so late that the last unit is gone.
        within(until_sold(
            &cluster.config,
            (UNITS * crash / (CRASHES + 1)) as i64,
        ))
        .await;
        block_in_place(|| {
            cluster.crash();
            cluster.restart();
        });
    }
    let done = within(storm).await.expect("the crowd comes home");

    assert!(pool.reconnects() > 0, "nobody noticed the crashes");
    assert_eq!(sold(&done), UNITS);
    let client = connect(&cluster.config).await.expect("the server answers");
    assert_eq!(rows(&client).await, told(&done));
    assert_eq!(
        value::<i64>(&client, "SELECT inventory FROM flashsale.items", &[]).await,
        0
    );
    assert_eq!(audit(&client).await, Vec::<String>::new());
}

async fn broken_connections_lose_nothing(strategy: Strategy) {
    let shop = Shop::open_under(strategy, CROWD + 10).await;
    let item_id = shop.item(UNITS as i64).await;
    let pool = shop.pool(CROWD).await;
    const TERMINATE: &str = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
         WHERE datname = current_database() AND backend_type = 'client backend'
           AND pid <> pg_backend_pid() ORDER BY random() LIMIT";
    // When the storm begins, every connection is broken.
    shop.run(&format!("{TERMINATE} {CROWD}")).await;
    let storm = tokio::spawn(Crowd::start(&pool, keyed_buyers(item_id)).all());
    let mut rounds = 0;
    while !storm.is_finished() {
        shop.run(&format!("{TERMINATE} 2")).await;
        rounds += 1;
        sleep(Duration::from_millis(10)).await;
    }
    let done = within(storm).await.expect("the crowd comes home");

    assert!(
        pool.reconnects() > 0,
        "nobody noticed {rounds} rounds of broken connections"
    );
    assert_eq!(sold(&done), UNITS);
    assert_eq!(rows(&shop.client).await, told(&done));
    assert_eq!(shop.inventory(item_id).await, 0);
    shop.assert_sound().await;
}
