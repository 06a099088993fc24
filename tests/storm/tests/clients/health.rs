//! What health() says of a server: its workers, its settings, and sessions in the way of others.

use std::time::Duration;

use storm::connect;
use tokio::task::block_in_place;
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::cluster::Cluster;
use crate::room::room_for_a_cluster;
use crate::shop::{Shop, within};
use crate::sql::{run, value};

/// The problems that are shown, in alphabetical order.
async fn problems(client: &Client) -> String {
    let problems = "SELECT coalesce(string_agg(DISTINCT problem, ' ' ORDER BY problem), '')
                    FROM flashsale.health()";
    value(client, problems, &[]).await
}

async fn until_healthy(client: &Client) {
    within(async {
        while !problems(client).await.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// A new server with these settings has these problems, and no others.
async fn assert_problems(settings: &[&str], expected: &str) {
    let _room = room_for_a_cluster().await;
    let cluster = block_in_place(|| Cluster::start(settings));
    let client = connect(&cluster.config).await.expect("a connection");
    run(&client, "CREATE EXTENSION flashsale").await;
    within(async {
        while problems(&client).await != expected {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_preload() {
    assert_problems(&["shared_preload_libraries = ''"], "not_preloaded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_workers_serve_another_database() {
    assert_problems(&["flashsale.database = other"], "other_database").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_processes_for_the_workers() {
    assert_problems(&["max_worker_processes = 1"], "worker_missing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_can_lose_commits() {
    let settings = [
        "fsync = off",
        "full_page_writes = off",
        "synchronous_commit = off",
    ];
    let expected = "fsync_off full_page_writes_off synchronous_commit_off";
    assert_problems(&settings, expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_wait_for_its_standby() {
    let settings = [
        "synchronous_standby_names = '*'",
        "synchronous_commit = local",
    ];
    let expected = "no_synchronous_standby not_synchronous";
    assert_problems(&settings, expected).await;
}

/// Sessions that hold a row of items, a snapshot, a transaction.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_in_the_way() {
    const ITEMS_ARE_LOCKED_TOO_LONG: Duration = Duration::from_secs(6);
    const TRANSACTIONS_ARE_TOO_OLD: Duration = Duration::from_secs(56);
    let shop = Shop::grouped(&["max_prepared_transactions = 1"]).await;
    let item_id = shop.item(10).await;
    until_healthy(&shop.client).await;

    let (holder, reader) = (shop.connect().await, shop.connect().await);
    let preparer = shop.connect().await;
    run(&holder, "BEGIN; SELECT FROM flashsale.items FOR UPDATE").await;
    run(&reader, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await;
    run(
        &preparer,
        "BEGIN; CREATE TABLE prepared (); PREPARE TRANSACTION 'p'",
    )
    .await;
    assert_eq!(problems(&shop.client).await, "");
    sleep(ITEMS_ARE_LOCKED_TOO_LONG).await;
    assert_eq!(problems(&shop.client).await, "items_locked");
    let pid: i32 = value(&holder, "SELECT pg_backend_pid()", &[]).await;
    let named = format!(
        "SELECT detail LIKE 'process {pid} (idle in transaction) %'
         FROM flashsale.health() WHERE problem = 'items_locked'"
    );
    assert!(shop.value::<bool>(&named, &[]).await);
    sleep(TRANSACTIONS_ARE_TOO_OLD).await;
    let all = "idle_in_transaction items_locked old_snapshot prepared_transaction";
    assert_eq!(problems(&shop.client).await, all);

    run(&holder, "COMMIT").await;
    run(&reader, "COMMIT").await;
    run(&preparer, "ROLLBACK PREPARED 'p'").await;
    until_healthy(&shop.client).await;
    assert!(
        super::sql::ask(
            &shop.client,
            &format!("SELECT flashsale.item_availability({item_id})")
        )
        .await
        .success()
    );
}

/// Milliseconds, also with many orders: it reads no table whole.
#[tokio::test(flavor = "multi_thread")]
async fn reads_no_table_whole() {
    const ORDERS: i64 = 20_000;
    let shop = Shop::open(0).await;
    let item_id = shop.item(1_000_000).await;
    let buy =
        "SELECT count(flashsale.purchase_item($1, 'user ' || n)) FROM generate_series(1, 20) n";
    shop.value::<i64>(buy, &[&item_id]).await;
    shop.run("SET flashsale.protect_data = off").await;
    shop.run(&format!(
        "INSERT INTO flashsale.orders (item_id, quantity, units_held, created_at, closed_at, status, user_id)
         SELECT {item_id}, 1, 0, now(), now(), 'expired', 'dead ' || n FROM generate_series(1, {ORDERS}) n;
         ANALYZE flashsale.orders"
    ))
    .await;
    let read = "SELECT (seq_tup_read + idx_tup_fetch)::int8 FROM pg_stat_xact_user_tables
                WHERE relid = 'flashsale.orders'::regclass";
    shop.run("BEGIN").await;
    shop.run("SELECT FROM flashsale.health()").await;
    let read: i64 = shop.value(read, &[]).await;
    assert!(read < 1_000, "{read} rows were read");
    shop.run("COMMIT").await;
}
