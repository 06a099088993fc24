//! The guard of the orders in servers that do not preload the library, and where it is missing.

use storm::connect;
use tokio::task::block_in_place;
use tokio_postgres::Client;

use crate::cluster::Cluster;
use crate::room::room_for_a_cluster;
use crate::sql::{run, sqlstate, value};

const PROTECTED: &str = "2BP01";
const DENIED: &str = "42501";
const ADD_COLUMN: &str = "ALTER TABLE flashsale.orders ADD COLUMN color text";
/// Whatever may drop, rename or change a table of the extension, also because it cascades to one, or
/// keep it from being dumped.
const REFUSED: [&str; 14] = [
    "ALTER EXTENSION flashsale DROP TABLE flashsale.orders",
    "DROP EXTENSION flashsale",
    "DROP EXTENSION flashsale CASCADE",
    "DROP EXTENSION plpgsql CASCADE",
    "DROP OWNED BY keeper CASCADE",
    ADD_COLUMN,
    "ALTER TABLE flashsale.orders RENAME TO sales",
    "DROP TABLE mother CASCADE",
    "ALTER TYPE flashsale.orders RENAME ATTRIBUTE user_id TO buyer",
    "ALTER INDEX flashsale.orders RENAME TO sales",
    "ALTER VIEW flashsale.orders RENAME COLUMN user_id TO buyer",
    "ALTER MATERIALIZED VIEW flashsale.orders RENAME COLUMN user_id TO buyer",
    "ALTER FOREIGN TABLE flashsale.orders RENAME COLUMN user_id TO buyer",
    "ALTER SCHEMA flashsale RENAME TO sales",
];

const REMOVE_LIBRARY: &str =
    "UPDATE pg_proc SET probin = '$libdir/gone' WHERE probin = 'flashsale'";
/// Whatever drops the tables, in ways that the text of the statement does not tell.
const DROPS: [&str; 12] = [
    "DROP EXTENSION flashsale",
    "DROP EXTENSION flashsale CASCADE",
    "DROP EXTENSION IF EXISTS nothing, flashsale",
    "DROP EXTENSION plpgsql CASCADE",
    "DROP OWNED BY keeper CASCADE",
    "DROP TABLE mother CASCADE",
    "SELECT 'DROP EXTENSION other'; DROP EXTENSION flashsale",
    "DO $$ BEGIN EXECUTE 'DROP EXTENSION flashsale'; END $$",
    "SET flashsale.protect_data = off; SET ROLE keeper; DROP EXTENSION flashsale",
    "SET session_replication_role = replica; DROP EXTENSION flashsale",
    "ALTER TABLE flashsale.orders ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; DROP EXTENSION flashsale",
    "DROP ACCESS METHOD heap_2 CASCADE",
];
/// Whatever changes the tables so that a dump cannot be restored.
const CHANGES: [&str; 14] = [
    ADD_COLUMN,
    "ALTER TABLE flashsale.orders DROP COLUMN close_reason",
    "ALTER TABLE flashsale.orders RENAME user_id TO buyer",
    "ALTER TABLE flashsale.stock_movements ALTER reason TYPE varchar(100)",
    "ALTER TABLE flashsale.orders RENAME TO sales",
    "ALTER TABLE flashsale.orders SET SCHEMA of_shop",
    "ALTER SEQUENCE flashsale.orders_order_id_seq RENAME TO numbers",
    "ALTER VIEW flashsale.orders RENAME COLUMN user_id TO buyer",
    "ALTER TYPE flashsale.orders RENAME ATTRIBUTE user_id TO buyer",
    "ALTER SCHEMA flashsale RENAME TO sales",
    "ALTER EXTENSION flashsale DROP TABLE flashsale.orders",
    "ALTER EXTENSION flashsale DROP FUNCTION flashsale.load_guard()",
    "ALTER EXTENSION flashsale ADD TABLE mine",
    "ALTER TABLE mother ADD COLUMN color text",
];
/// What concerns others only, though some of it refers to our tables, or does no harm to them.
const OF_OTHERS: [&str; 11] = [
    "DROP EXTENSION other",
    "DROP OWNED BY stranger CASCADE",
    "DROP SCHEMA of_shop CASCADE",
    "ALTER TABLE mine ADD COLUMN more text",
    "ALTER TABLE mine RENAME TO yours",
    "ALTER TABLE flashsale.orders SET (fillfactor = 80)",
    "BEGIN; ALTER TABLE yours ADD note_2 text; ALTER TABLE yours DROP note_2; COMMIT",
    "BEGIN; ALTER TABLE yours ADD note_2 text; SET LOCAL quote_all_identifiers = on; ALTER TABLE yours DROP note_2; COMMIT",
    "ALTER TABLE lines DROP CONSTRAINT of_order",
    "DROP TABLE lines",
    "DROP TYPE color CASCADE",
];

async fn session(cluster: &Cluster, user: &str) -> Client {
    let mut config = cluster.config.clone();
    connect(config.user(user)).await.expect("a connection")
}

/// Each statement in a session of its own, which has not loaded the library before.
#[tokio::test(flavor = "multi_thread")]
async fn guards_without_preload() {
    let _room = room_for_a_cluster().await;
    let cluster = block_in_place(|| Cluster::start(&["shared_preload_libraries = ''"]));
    let admin = session(&cluster, "postgres").await;
    run(
        &admin,
        "CREATE ROLE keeper SUPERUSER LOGIN; SET ROLE keeper; CREATE EXTENSION flashsale; RESET ROLE;
         ALTER ROLE keeper NOSUPERUSER;
         SELECT flashsale.create_item(10); SELECT flashsale.purchase_item(1, 'alice');
         CREATE TABLE mine (note text);
         CREATE TABLE mother (order_id bigint NOT NULL); ALTER TABLE flashsale.orders INHERIT mother",
    )
    .await;
    for statement in REFUSED {
        let client = session(&cluster, "postgres").await;
        assert_eq!(sqlstate(&client, statement).await, PROTECTED, "{statement}");
    }
    // The owner is no superuser, and sets what nobody knows yet.
    let keeper = session(&cluster, "keeper").await;
    run(&keeper, "SET flashsale.protect_data = off").await;
    assert_eq!(sqlstate(&keeper, ADD_COLUMN).await, PROTECTED);
    let off = "SET flashsale.protect_data = off";
    assert_eq!(sqlstate(&keeper, off).await, DENIED);
    let other = session(&cluster, "postgres").await;
    run(&other, "ALTER TABLE mine ADD COLUMN more text").await;

    // What a half-done removal leaves behind can be removed.
    run(
        &session(&cluster, "postgres").await,
        "DELETE FROM pg_depend WHERE classid = 'pg_event_trigger'::regclass AND deptype = 'e';
         DROP EVENT TRIGGER flashsale_guard; DROP EVENT TRIGGER flashsale_guard_end",
    )
    .await;
    let client = session(&cluster, "postgres").await;
    let orders: i64 = value(&client, "SELECT count(*) FROM flashsale.orders", &[]).await;
    assert_eq!(orders, 1);
    run(
        &client,
        "SET flashsale.protect_data = off; DROP EXTENSION flashsale",
    )
    .await;
}

/// No process has loaded the library, and its file is gone.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_library_nothing_drops_the_orders() {
    const IN_USE: &str = "55006";
    let _room = room_for_a_cluster().await;
    let cluster = block_in_place(|| Cluster::start(&["shared_preload_libraries = ''"]));
    let admin = session(&cluster, "postgres").await;
    run(
        &admin,
        "CREATE ROLE keeper SUPERUSER LOGIN; SET ROLE keeper; CREATE EXTENSION flashsale; RESET ROLE;
         ALTER ROLE keeper NOSUPERUSER;
         SELECT flashsale.create_item(10); SELECT flashsale.purchase_item(1, 'alice');
         CREATE ROLE stranger; CREATE SCHEMA of_shop CREATE TABLE notes (note text);
         CREATE TYPE color AS ENUM ('red'); CREATE TABLE mine (note text, color color);
         CREATE TABLE mother (order_id bigint NOT NULL); ALTER TABLE flashsale.orders INHERIT mother;
         CREATE ACCESS METHOD heap_2 TYPE TABLE HANDLER heap_tableam_handler;
         ALTER TABLE flashsale.payments SET ACCESS METHOD heap_2;
         INSERT INTO pg_extension VALUES (99999, 'other', 10, 'public'::regnamespace, false, '1.0', NULL, NULL)",
    )
    .await;
    run(&admin, REMOVE_LIBRARY).await;
    for statement in DROPS {
        let client = session(&cluster, "postgres").await;
        assert_eq!(sqlstate(&client, statement).await, IN_USE, "{statement}");
    }
    for statement in CHANGES {
        let client = session(&cluster, "postgres").await;
        assert_eq!(sqlstate(&client, statement).await, PROTECTED, "{statement}");
    }
    let keeper = session(&cluster, "keeper").await;
    run(&keeper, "SET flashsale.protect_data = off").await;
    assert_eq!(sqlstate(&keeper, ADD_COLUMN).await, PROTECTED);
    let drop = "DROP EXTENSION flashsale";
    assert_eq!(sqlstate(&keeper, drop).await, IN_USE);
    run(&admin, "REVOKE SELECT ON flashsale.orders FROM keeper").await;
    assert_eq!(sqlstate(&keeper, drop).await, IN_USE);
    let client = session(&cluster, "postgres").await;
    let lines =
        "CREATE TABLE lines (order_id bigint CONSTRAINT of_order REFERENCES flashsale.orders)";
    run(&client, lines).await;
    for statement in OF_OTHERS {
        assert_eq!(sqlstate(&client, statement).await, "", "{statement}");
    }

    // If it loses no order, or a superuser wants it.
    run(
        &client,
        &format!("BEGIN; TRUNCATE flashsale.payments, flashsale.orders; {drop}; ROLLBACK"),
    )
    .await;
    run(
        &client,
        &format!("BEGIN; ALTER TABLE yours ADD b int; SET LOCAL flashsale.protect_data = false; {ADD_COLUMN}; ROLLBACK"),
    )
    .await;
    let orders: i64 = value(&client, "SELECT count(*) FROM flashsale.orders", &[]).await;
    assert_eq!(orders, 1);
    run(
        &client,
        &format!("SET flashsale.protect_data = off; {ADD_COLUMN}; {drop}"),
    )
    .await;
}

/// Such a schema is not the extension's, so PostgreSQL lets it be dropped.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_library_a_schema_made_before_is_not_dropped() {
    let _room = room_for_a_cluster().await;
    let cluster = block_in_place(|| Cluster::start(&["shared_preload_libraries = ''"]));
    let admin = session(&cluster, "postgres").await;
    run(
        &admin,
        "CREATE SCHEMA flashsale; CREATE EXTENSION flashsale SCHEMA flashsale;
         SELECT flashsale.confirm_order(99, 'stray charge')",
    )
    .await;
    run(&admin, REMOVE_LIBRARY).await;
    let client = session(&cluster, "postgres").await;
    let drop = "DROP SCHEMA flashsale CASCADE";
    assert_eq!(sqlstate(&client, drop).await, "55006");
}

/// A removal that was interrupted in the worst way: the event trigger is there, and its function gone.
/// It fails, but what docs/operations.md says gets past it.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_trigger_left_behind_locks_nobody_out() {
    const INTERNAL: &str = "XX000";
    let add = |column: &str| format!("ALTER TABLE mine ADD COLUMN {column} text");
    let _room = room_for_a_cluster().await;
    let cluster = block_in_place(|| Cluster::start(&["shared_preload_libraries = ''"]));
    let admin = session(&cluster, "postgres").await;
    run(
        &admin,
        "CREATE EXTENSION flashsale; CREATE TABLE mine (note text);
         DELETE FROM pg_proc WHERE proname = 'load_guard'",
    )
    .await;
    let client = session(&cluster, "postgres").await;
    assert_eq!(sqlstate(&client, &add("a")).await, INTERNAL);
    run(
        &client,
        "ALTER EVENT TRIGGER flashsale_guard DISABLE; ALTER EVENT TRIGGER flashsale_guard_end DISABLE",
    )
    .await;
    run(&client, &add("a")).await;
    run(
        &client,
        "ALTER EVENT TRIGGER flashsale_guard ENABLE ALWAYS; ALTER EVENT TRIGGER flashsale_guard_end ENABLE ALWAYS",
    )
    .await;
    assert_eq!(sqlstate(&client, &add("b")).await, INTERNAL);

    let major = "SELECT current_setting('server_version_num')::int / 10000";
    if value::<i32>(&client, major, &[]).await >= 17 {
        run(&client, "SET event_triggers = off").await;
        run(&client, &add("c")).await;
    }

    block_in_place(|| {
        cluster.stop();
        cluster.run_alone(&(add("b") + "\n"));
        cluster.restart();
    });
    let client = session(&cluster, "postgres").await;
    run(&client, "SELECT a, b FROM mine").await;
}
