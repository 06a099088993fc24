//! What health() says of a server: its workers, its settings, and sessions in the way of others.

use std::time::{Duration, SystemTime};

use storm::connect;
use tokio::task::block_in_place;
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::cluster::{Cluster, signal};
use crate::room::room_for_a_cluster;
use crate::shop::{Shop, within};
use crate::sql::{ask, run, value};

/// The problems that are shown, in alphabetical order.
async fn problems(client: &Client) -> String {
    let problems = "SELECT coalesce(string_agg(DISTINCT problem, ' ' ORDER BY problem), '')
                    FROM flashsale.health()";
    value(client, problems, &[]).await
}

async fn until_problems(client: &Client, expected: &str) {
    within(async {
        while problems(client).await != expected {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

async fn until_healthy(client: &Client) {
    until_problems(client, "").await;
}

/// A new server with these settings has these problems, and no others.
async fn assert_problems(settings: &[&str], expected: &str) {
    let _room = room_for_a_cluster().await;
    let cluster = block_in_place(|| Cluster::start(settings));
    let client = connect(&cluster.config).await.expect("a connection");
    run(&client, "CREATE EXTENSION flashsale").await;
    until_problems(&client, expected).await;
}

/// The only problem that a new session finds: severity, detail and hint, each a line.
async fn only_problem(cluster: &Cluster, name: &str) -> String {
    let client = connect(&cluster.config).await.expect("a connection");
    assert_eq!(problems(&client).await, name);
    let row = "SELECT concat_ws(E'\n', severity, detail, hint) FROM flashsale.health()";
    value(&client, row, &[]).await
}

/// For roles that have grouped as their strategy, all purchases fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_preload() {
    let _room = room_for_a_cluster().await;
    let cluster = block_in_place(|| Cluster::start(&["shared_preload_libraries = ''"]));
    let client = connect(&cluster.config).await.expect("a connection");
    run(&client, "CREATE EXTENSION flashsale; CREATE ROLE app").await;
    let row = only_problem(&cluster, "not_preloaded").await;
    assert!(row.starts_with("warning\n"), "{row}");
    run(&client, "ALTER ROLE app SET flashsale.strategy = 'Grouped'").await;
    let row = only_problem(&cluster, "not_preloaded").await;
    assert!(row.starts_with("error\n"), "{row}");
    assert!(row.contains("set flashsale.strategy"), "{row}");
    run(
        &client,
        "ALTER ROLE app RESET ALL;
         ALTER ROLE app IN DATABASE template1 SET flashsale.strategy = grouped",
    )
    .await;
    let row = only_problem(&cluster, "not_preloaded").await;
    assert!(row.starts_with("warning\n"), "{row}");
    set(&client, "flashsale.strategy = grouped").await;
    within(async {
        while !only_problem(&cluster, "not_preloaded")
            .await
            .starts_with("error\n")
        {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_workers_serve_another_database() {
    let _room = room_for_a_cluster().await;
    let cluster = block_in_place(|| Cluster::start(&["flashsale.database = other"]));
    let client = connect(&cluster.config).await.expect("a connection");
    run(&client, "CREATE EXTENSION flashsale; CREATE ROLE app").await;
    let row = only_problem(&cluster, "other_database").await;
    assert!(row.starts_with("warning\n"), "{row}");
    assert!(row.contains("other, which does not exist"), "{row}");
    run(&client, "CREATE DATABASE other").await;
    let row = only_problem(&cluster, "other_database").await;
    assert!(row.contains("serve database other\nSet "), "{row}");
    let grouped = "ALTER ROLE app IN DATABASE postgres SET flashsale.strategy = grouped";
    run(&client, grouped).await;
    let row = only_problem(&cluster, "other_database").await;
    assert!(row.starts_with("error\n"), "{row}");
    // The name is changed already, and only a restart is left to do.
    set(&client, "flashsale.database = postgres").await;
    within(async {
        while !only_problem(&cluster, "other_database")
            .await
            .contains("\nRestart the server")
        {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Neither its workers nor its versions are judged without the library.
#[tokio::test(flavor = "multi_thread")]
async fn servers_without_the_library() {
    let _room = room_for_a_cluster().await;
    for settings in [&["shared_preload_libraries = ''"][..], &[]] {
        let cluster = block_in_place(|| Cluster::start(settings));
        let client = connect(&cluster.config).await.expect("a connection");
        run(
            &client,
            "CREATE EXTENSION flashsale;
             UPDATE pg_proc SET probin = '$libdir/gone' WHERE probin = 'flashsale'",
        )
        .await;
        let row = only_problem(&cluster, "library_missing").await;
        assert!(row.starts_with("error\n"), "{row}");
        assert!(row.contains("$libdir/gone"), "{row}");
    }
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
    assert_problems(&settings, "not_synchronous").await;
}

/// Its buyers wait for as long as they may, and get busy.
#[tokio::test(flavor = "multi_thread")]
async fn a_seller_that_is_stopped() {
    let shop = Shop::grouped(&["flashsale.group_wait = 1s"]).await;
    let item_id = shop.item(1_000).await;
    until_healthy(&shop.client).await;
    let seller = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'flashsale seller'";
    let seller: i32 = shop.value(seller, &[]).await;
    let buyer = connect(&shop.config).await.expect("a connection");
    signal(seller, "STOP");
    let buying = tokio::spawn(async move {
        loop {
            let buy = format!("SELECT flashsale.purchase_item({item_id}, 'alice')");
            ask(&buyer, &buy).await;
        }
    });
    until_problems(&shop.client, "seller_slow").await;
    signal(seller, "CONT");
    buying.abort();
    until_healthy(&shop.client).await;
}

/// Takes this many transaction ids.
async fn take_transaction_ids(client: &Client, count: i64) {
    run(client, "CREATE TABLE IF NOT EXISTS taken (n bigint)").await;
    let take = format!(
        "DO $$ BEGIN
             FOR n IN 1..{count} LOOP
                 BEGIN INSERT INTO taken VALUES (n); EXCEPTION WHEN division_by_zero THEN END;
             END LOOP;
         END $$"
    );
    run(client, &take).await;
}

async fn set(client: &Client, setting: &str) {
    run(client, &format!("ALTER SYSTEM SET {setting}")).await;
    run(client, "SELECT pg_reload_conf()").await;
}

/// A commit waits for as many standbys as the setting says; a standby's queries keep row versions.
#[tokio::test(flavor = "multi_thread")]
async fn standbys() {
    let _room = room_for_a_cluster().await;
    let primary = block_in_place(|| Cluster::start(&[]));
    let client = connect(&primary.config).await.expect("a connection");
    run(&client, "CREATE EXTENSION flashsale").await;
    let standby = block_in_place(|| Cluster::standby_of(&primary));
    let reader = connect(&standby.config).await.expect("a connection");
    until_healthy(&client).await;

    set(
        &client,
        "synchronous_standby_names = 'ANY 2 (walreceiver, other)'",
    )
    .await;
    // The connection to the standby reloads the setting by itself, perhaps later.
    let one_of_two = "SELECT bool_and(problem = 'standby_missing' AND detail =
             '1 synchronous standbys are connected, but a commit waits for 2, so none returns')
         IS TRUE FROM flashsale.health()";
    within(async {
        while !value::<bool>(&client, one_of_two, &[]).await {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    set(&client, "synchronous_standby_names = 'walreceiver'").await;
    until_healthy(&client).await;
    set(&client, "synchronous_standby_names = 'other'").await;
    until_problems(&client, "standby_missing").await;
    set(&client, "synchronous_standby_names = ''").await;
    until_healthy(&client).await;

    set(&reader, "wal_receiver_status_interval = '1s'").await;
    set(&reader, "hot_standby_feedback = on").await;
    run(&reader, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await;
    let known = "SELECT count(backend_xmin) = 1 FROM pg_stat_replication";
    within(async {
        while !value::<bool>(&client, known, &[]).await {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    take_transaction_ids(&client, 90_000).await;
    assert_eq!(problems(&client).await, "");
    take_transaction_ids(&client, 15_000).await;
    assert_eq!(problems(&client).await, "old_snapshot");
    run(&reader, "COMMIT").await;
    until_healthy(&client).await;
}

/// The problems with sessions and slots that there are, or will be this long after `start`.
async fn in_the_way(client: &Client, start: SystemTime, later: &str) -> String {
    let problems = format!(
        "SELECT coalesce(string_agg(DISTINCT problem, ' ' ORDER BY problem), '')
         FROM flashsale.health_of_sessions($1::timestamptz + interval '{later}')"
    );
    value(client, &problems, &[&start]).await
}

/// Sessions that hold a row of items, a snapshot, a transaction, and a slot that nobody reads.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_in_the_way() {
    let shop = Shop::grouped(&["max_prepared_transactions = 1", "wal_level = logical"]).await;
    let (item_id, other_id) = (shop.item(10).await, shop.item(10).await);
    let client = &shop.client;
    until_healthy(client).await;
    shop.run("SELECT pg_create_logical_replication_slot('unread', 'pgoutput')")
        .await;
    shop.run("CREATE TABLE lines (item_id bigint REFERENCES flashsale.items)")
        .await;
    let start: SystemTime = shop.value("SELECT clock_timestamp()", &[]).await;

    // Its lock on the item blocks no sale.
    let referring = shop.connect().await;
    run(
        &referring,
        &format!("BEGIN; INSERT INTO lines VALUES ({other_id})"),
    )
    .await;
    assert_eq!(in_the_way(client, start, "59 s").await, "");
    assert_eq!(
        in_the_way(client, start, "1 h").await,
        "idle_in_transaction"
    );
    let buy = format!("SELECT flashsale.purchase_item({other_id}, 'alice', strategy => 'nowait')");
    assert!(ask(client, &buy).await.success());
    run(&referring, "COMMIT").await;

    let (holder, reader) = (shop.connect().await, shop.connect().await);
    let preparer = shop.connect().await;
    // Not within the transaction, in which the statement would stay open, and so its snapshot.
    let pid: i32 = value(&holder, "SELECT pg_backend_pid()", &[]).await;
    let lock = format!("BEGIN; SELECT FROM flashsale.items WHERE item_id = {item_id} FOR UPDATE");
    run(&holder, &lock).await;
    assert_eq!(in_the_way(client, start, "1 s").await, "");
    assert_eq!(in_the_way(client, start, "59 s").await, "items_locked");
    let named = format!(
        "SELECT detail LIKE 'process {pid} (idle in transaction) %'
         FROM flashsale.health_of_sessions(clock_timestamp() + interval '1 h') WHERE problem = 'items_locked'"
    );
    assert!(shop.value::<bool>(&named, &[]).await);
    until_problems(client, "items_locked").await;

    run(&reader, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await;
    let mut elsewhere = shop.config.clone();
    let stranger = connect(elsewhere.dbname("template1"))
        .await
        .expect("a connection");
    run(&stranger, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await;
    run(
        &preparer,
        "BEGIN; CREATE TABLE prepared (); PREPARE TRANSACTION 'p'",
    )
    .await;
    let idle = "idle_in_transaction items_locked prepared_transaction";
    assert_eq!(in_the_way(client, start, "1 h").await, idle);
    take_transaction_ids(client, 1_100).await;
    let all = "idle_in_transaction items_locked old_snapshot prepared_transaction";
    assert_eq!(in_the_way(client, start, "1 h").await, all);
    let pid: i32 = value(&reader, "SELECT pg_backend_pid()", &[]).await;
    let old = "SELECT string_agg(substring(detail FROM '^[^(,]*[^ (,]'), ', ' ORDER BY detail)
               FROM flashsale.health_of_sessions(clock_timestamp() + interval '1 h') WHERE problem = 'old_snapshot'";
    let expected = format!("replication slot unread, the snapshot of process {pid}");
    assert_eq!(shop.value::<String>(old, &[]).await, expected);

    for session in [&holder, &reader, &stranger] {
        run(session, "COMMIT").await;
    }
    run(&preparer, "ROLLBACK PREPARED 'p'").await;
    shop.run("SELECT pg_drop_replication_slot('unread')").await;
    until_healthy(client).await;
    assert_eq!(in_the_way(client, start, "1 h").await, "");
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
