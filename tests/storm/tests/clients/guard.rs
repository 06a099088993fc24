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

    // Without the library nothing is guarded, and nothing blocked.
    let (of_event_trigger, gone) = (
        "stock_adds_up",
        "UPDATE pg_proc SET probin = '$libdir/gone'",
    );
    run(
        &admin,
        &format!("{gone} WHERE proname = '{of_event_trigger}'"),
    )
    .await;
    let client = session(&cluster, "postgres").await;
    run(
        &client,
        "ALTER TABLE mine ADD COLUMN and_more text; CREATE SCHEMA another; DROP SCHEMA another",
    )
    .await;
    run(&client, ADD_COLUMN).await;
    run(&client, "ALTER TABLE flashsale.orders DROP COLUMN color").await;
    run(
        &admin,
        &format!(
            "UPDATE pg_proc SET probin = '$libdir/flashsale' WHERE proname = '{of_event_trigger}'"
        ),
    )
    .await;

    // What a half-done removal leaves behind can be removed.
    run(
        &session(&cluster, "postgres").await,
        "DELETE FROM pg_depend WHERE classid = 'pg_event_trigger'::regclass AND deptype = 'e';
         DROP EVENT TRIGGER flashsale_guard",
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
    run(&client, "ALTER EVENT TRIGGER flashsale_guard DISABLE").await;
    run(&client, &add("a")).await;
    run(&client, "ALTER EVENT TRIGGER flashsale_guard ENABLE").await;
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
