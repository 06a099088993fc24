//! Which database the workers serve: they come when it is there to be served, leave when it is not,
//! and nobody waits for them in vain.

use std::time::Duration;

use storm::{Call, connect};
use tokio::task::block_in_place;
use tokio::time::sleep;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};

use super::{buy, until};
use crate::cluster::Cluster;
use crate::room::room_for_a_cluster;
use crate::shop::{Shop, within};
use crate::sql::{ask, run, value};
use crate::strategy::Strategy;

const NOT_IN_PREREQUISITE_STATE: &str = "55000";
const DROP: &str = "SET flashsale.protect_data = off; DROP EXTENSION flashsale";
const BUY: &str = "SELECT flashsale.purchase_item(1, 'alice')";
const STALE: &str = "SELECT flashsale.purchase_item(1, 'stale', strategy => 'nowait');
    UPDATE flashsale.orders SET expires_at = clock_timestamp() WHERE user_id = 'stale'";
const EXPIRED: &str =
    "SELECT count(*) = 1 FROM flashsale.orders WHERE user_id = 'stale' AND status = 'expired'";
/// Long enough for workers that look again too often to be noticed; correct ones do nothing.
const A_WHILE: Duration = Duration::from_secs(3);

/// Workers that are connected to this database.
fn workers_of(database: &str) -> String {
    format!(
        "SELECT count(*) FROM pg_stat_activity
         WHERE backend_type LIKE 'flashsale %' AND datname = '{database}'"
    )
}

/// The first call for which there is no seller, within the seconds in which one may just be
/// starting, is answered busy; then it is an error with this hint.
async fn assert_no_seller(client: &Client, hint: &str) {
    within(async {
        loop {
            let Err(error) = client.batch_execute(BUY).await else {
                continue;
            };
            let error = error.as_db_error().expect("an error of the server");
            assert_eq!(error.code().code(), NOT_IN_PREREQUISITE_STATE, "{error:?}");
            assert!(error.hint().expect("a hint").contains(hint), "{error:?}");
            return;
        }
    })
    .await;
}

/// No room for any worker.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_process_for_the_seller_callers_are_told_so() {
    let shop = Shop::grouped(&["max_worker_processes = 1", "flashsale.group_wait = 60s"]).await;
    shop.item(10).await;
    assert_no_seller(&shop.client, "max_worker_processes").await;
    let other = "SELECT flashsale.purchase_item(1, 'bob', strategy => 'nowait')";
    assert!(ask(&shop.client, other).await.success());
    // A cancel is made by the caller instead.
    let cancel = "SELECT flashsale.cancel_order(1)";
    assert!(ask(&shop.client, cancel).await.success());
    shop.assert_sound().await;
}

/// Room for the launcher, and none for the seller: the log says so, once.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_told_once_that_no_worker_can_be_started() {
    let shop = Shop::grouped(&["max_worker_processes = 2"]).await;
    shop.item(10).await;
    assert_no_seller(&shop.client, "max_worker_processes").await;
    let cluster = shop.cluster.as_ref().expect("its own");
    let line = "LOG:  flashsale: no background worker can be started";
    let log = log_a_while_after(cluster, line).await;
    assert_eq!(log.matches(line).count(), 1, "{log}");
}

/// What the server has logged a while after it logged this.
async fn log_a_while_after(cluster: &Cluster, text: &str) -> String {
    within(async {
        while !cluster.log().contains(text) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    sleep(A_WHILE).await;
    cluster.log()
}

/// Buys by way of the seller, which may just be starting.
async fn assert_sells(config: &Config) {
    let config = Strategy::Grouped.of(config);
    let pool = storm::Pool::open(&config, 1).await.expect("a connection");
    let answer = within(pool.settle(&Call::buy(1, "bob"))).await;
    assert!(answer.expect("an answer").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_comes_later_goes_and_comes_back() {
    let _room = room_for_a_cluster().await;
    let cluster = block_in_place(|| {
        Cluster::start(&[
            "flashsale.database = later",
            "flashsale.reconcile_interval = 100ms",
        ])
    });
    let admin = connect(&cluster.config).await.expect("a connection");
    let log = log_a_while_after(&cluster, "later").await;
    let lines = log.lines().filter(|line| line.contains("later"));
    assert_eq!(lines.count(), 1, "{log}");
    assert!(log.contains("flashsale.database"), "{log}");

    let later = Config::clone(cluster.config.clone().dbname("later"));
    for _ in 0..2 {
        run(&admin, "CREATE DATABASE later").await;
        let client = connect(&later).await.expect("a connection");
        run(&client, "CREATE EXTENSION flashsale").await;
        run(&client, "SELECT flashsale.create_item(10)").await;
        assert_sells(&later).await;
        run(&client, STALE).await;
        until(&client, EXPIRED).await;
        // The extension alone goes, and comes back.
        run(&client, DROP).await;
        let gone = format!("SELECT ({}) = 0", workers_of("later"));
        until(&admin, &gone).await;
        run(&client, "CREATE EXTENSION flashsale").await;
        run(&client, "SELECT flashsale.create_item(10)").await;
        assert_sells(&later).await;
        run(&client, DROP).await;
        drop(client);
        // As an operator does it, who waits for nobody.
        run(&admin, "DROP DATABASE later").await;
    }
}

/// The database is not to be dropped while the workers serve it, but it can be by force.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_dropped_by_force_can_come_back() {
    let _room = room_for_a_cluster().await;
    let cluster = block_in_place(|| Cluster::start(&["flashsale.database = later"]));
    let admin = connect(&cluster.config).await.expect("a connection");
    let later = Config::clone(cluster.config.clone().dbname("later"));
    for _ in 0..2 {
        run(&admin, "CREATE DATABASE later").await;
        let client = connect(&later).await.expect("a connection");
        run(&client, "CREATE EXTENSION flashsale").await;
        run(&client, "SELECT flashsale.create_item(10)").await;
        assert_sells(&later).await;
        run(&admin, "DROP DATABASE later WITH (FORCE)").await;
    }
}

/// The workers are in the way of both, unless nobody may connect. Afterwards they come back.
#[tokio::test(flavor = "multi_thread")]
async fn the_database_can_be_copied_and_renamed() {
    let _room = room_for_a_cluster().await;
    let cluster = block_in_place(|| Cluster::start(&["flashsale.database = sale"]));
    let database = |name: &str| Config::clone(cluster.config.clone().dbname(name));
    let admin = connect(&cluster.config).await.expect("a connection");
    run(&admin, "CREATE DATABASE sale").await;
    let client = connect(&database("sale")).await.expect("a connection");
    run(&client, "CREATE EXTENSION flashsale").await;
    run(&client, "SELECT flashsale.create_item(10)").await;
    drop(client);
    assert_sells(&database("sale")).await;

    let copy = "CREATE DATABASE copy TEMPLATE sale";
    let rename = "ALTER DATABASE sale RENAME TO renamed";
    for statement in [copy, rename] {
        let error = admin.batch_execute(statement).await.expect_err(statement);
        assert_eq!(error.code(), Some(&SqlState::OBJECT_IN_USE), "{error:?}");
    }
    close(&admin, "sale").await;
    run(&admin, copy).await;
    run(&admin, "ALTER DATABASE sale ALLOW_CONNECTIONS true").await;
    assert_sells(&database("sale")).await;

    close(&admin, "sale").await;
    run(&admin, rename).await;
    run(&admin, "ALTER DATABASE renamed ALLOW_CONNECTIONS true").await;
    run(&admin, "ALTER SYSTEM SET flashsale.database = renamed").await;
    block_in_place(|| {
        cluster.stop();
        cluster.restart();
    });
    assert_sells(&database("renamed")).await;
    let copy = connect(&database("copy")).await.expect("a connection");
    assert!(ask(&copy, BUY).await.success());
}

/// Ends all connections to the database that the workers serve, theirs too, and allows no others.
async fn close(admin: &Client, database: &str) {
    // Seller and reconciler: one that is just connecting might not be seen.
    let served = format!("SELECT ({}) = 2", workers_of(database));
    until(admin, &served).await;
    let allow = format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false");
    run(admin, &allow).await;
    let end = format!(
        "SELECT bool_and(pg_terminate_backend(pid, 60000))
         FROM pg_stat_activity WHERE datname = '{database}'"
    );
    assert!(value::<bool>(admin, &end, &[]).await);
}

/// Where a subscription writes the tables, orders are another server's to expire and to sell.
#[tokio::test(flavor = "multi_thread")]
async fn the_copy_of_a_subscription_is_left_alone() {
    let shop = Shop::grouped(&[
        "wal_level = logical",
        "flashsale.reconcile_interval = 100ms",
    ])
    .await;
    let cluster = shop.cluster.as_ref().expect("its own");
    run(&shop.client, "CREATE DATABASE origin").await;
    let origin = Config::clone(cluster.config.clone().dbname("origin"));
    let origin = connect(&origin).await.expect("a connection");
    run(
        &origin,
        "CREATE EXTENSION flashsale;
         CREATE PUBLICATION sales FOR TABLE flashsale.items, flashsale.orders",
    )
    .await;
    // Within one server a subscription cannot make its slot itself.
    run(
        &origin,
        "SELECT pg_create_logical_replication_slot('sales', 'pgoutput')",
    )
    .await;
    shop.item(10).await;
    assert!(buy(&shop.client, 1, "early").await.success());
    let subscribe = format!(
        "CREATE SUBSCRIPTION sales CONNECTION 'host={} port=5432 user=postgres dbname=origin'
         PUBLICATION sales WITH (create_slot = false, slot_name = sales, copy_data = false)",
        cluster.folder()
    );
    run(&shop.client, &subscribe).await;
    let left = "SELECT count(*) = 0 FROM pg_stat_activity
                WHERE backend_type IN ('flashsale seller', 'flashsale reconciler')";
    until(&shop.client, left).await;
    assert_no_seller(&shop.client, "subscription").await;
    let problem = "SELECT string_agg(problem, ' ') FROM flashsale.health()";
    let problem: String = value(&shop.client, problem, &[]).await;
    assert!(problem.starts_with("copy_of_subscription"), "{problem}");
    run(&shop.client, STALE).await;
    sleep(A_WHILE).await;
    assert!(!value::<bool>(&shop.client, EXPIRED, &[]).await);

    run(
        &shop.client,
        "ALTER SUBSCRIPTION sales DISABLE;
         ALTER SUBSCRIPTION sales SET (slot_name = NONE);
         DROP SUBSCRIPTION sales",
    )
    .await;
    until(&shop.client, EXPIRED).await;
    until_sells(&shop.client).await;
    assert_sells(&shop.config).await;
}

/// While there is no seller, this is an error.
async fn until_sells(client: &Client) {
    within(async { while client.batch_execute(BUY).await.is_err() {} }).await;
}

/// A seller that cannot find out whether its database is to be served does not serve it, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_looked_at_is_not_served() {
    let shop = Shop::grouped(&[]).await;
    shop.item(10).await;
    assert_sells(&shop.config).await;
    let locker = connect(&shop.config).await.expect("a connection");
    run(&locker, "BEGIN; LOCK TABLE pg_subscription_rel").await;
    run(
        &shop.client,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE backend_type = 'flashsale seller'",
    )
    .await;
    assert_no_seller(&shop.client, "log").await;
    let log = shop.cluster.as_ref().expect("its own").log();
    assert!(
        log.contains("whether the database is to be served: canceling"),
        "{log}"
    );
    run(&locker, "ROLLBACK").await;
    until_sells(&shop.client).await;
    assert_sells(&shop.config).await;
}

/// However many orders fail to expire, the log gets a line a minute.
#[tokio::test(flavor = "multi_thread")]
async fn orders_that_do_not_expire_do_not_flood_the_log() {
    let shop = Shop::grouped(&["flashsale.reconcile_interval = 100ms"]).await;
    let item_id = shop.item(50).await;
    shop.run(
        "CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'I stay'; END $$;
         CREATE TRIGGER stay BEFORE UPDATE OF status ON flashsale.orders
             FOR EACH ROW EXECUTE FUNCTION stay()",
    )
    .await;
    shop.run("SET flashsale.reservation_ttl = '1s'").await;
    let buy = format!(
        "SELECT count(flashsale.purchase_item({item_id}, 'user ' || n, strategy => 'nowait'))
         FROM generate_series(1, 50) n"
    );
    assert_eq!(shop.value::<i64>(&buy, &[]).await, 50);
    let failed =
        "SELECT value >= 50 FROM flashsale.stats WHERE subject = 'reconciler' AND name = 'errors'";
    until(&shop.client, failed).await;
    let log = shop.cluster.as_ref().expect("its own").log();
    let lines = log.lines().filter(|line| line.contains("I stay"));
    assert_eq!(lines.count(), 1, "{log}");
    assert!(log.contains("flashsale.reconcile_interval"), "{log}");
}
