//! A grouped purchase, which commits on its own, is refused inside any larger transaction.

use std::fs;

use tokio_postgres::Client;

use super::{buy, orders};
use crate::cluster::{Cluster, Folder, tool};
use crate::room::room_for_a_cluster;
use crate::shop::Shop;
use crate::sql::{ask, run, sqlstate, value};

const BUY: &str = "SELECT flashsale.purchase_item(1, 'alice')";
const ACTIVE_TRANSACTION: &str = "25001";
const NOT_IN_PREREQUISITE_STATE: &str = "55000";

/// The statement fails with this code, and the error has a hint.
async fn assert_refused(client: &Client, sql: &str, code: &str) {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let error = error.as_db_error().expect("an error of the server");
    assert_eq!(error.code().code(), code, "{sql}: {error:?}");
    assert!(error.hint().is_some(), "{sql}: {error:?}");
}

/// Within a block, after these statements.
async fn assert_refused_after(client: &Client, before: &str) {
    run(client, before).await;
    assert_refused(client, BUY, ACTIVE_TRANSACTION).await;
    run(client, "ROLLBACK").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_within_a_transaction() {
    let shop = Shop::grouped(&[]).await;
    shop.item(10).await;
    shop.run("CREATE TABLE notes (note text)").await;
    let client = shop.connect().await;
    for before in [
        "BEGIN",
        "BEGIN; SAVEPOINT a",
        "BEGIN; INSERT INTO notes VALUES ('a note')",
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        "BEGIN ISOLATION LEVEL SERIALIZABLE",
    ] {
        assert_refused_after(&client, before).await;
    }
    for level in ["repeatable read", "serializable"] {
        run(
            &client,
            &format!("SET default_transaction_isolation = '{level}'"),
        )
        .await;
        assert_refused(&client, BUY, ACTIVE_TRANSACTION).await;
        run(&client, "RESET default_transaction_isolation").await;
    }
    for statement in [
        // After the transaction has written.
        "WITH note AS (INSERT INTO notes VALUES ('a note') RETURNING note)
             SELECT flashsale.purchase_item(1, note) FROM note",
        "DO $$ BEGIN INSERT INTO notes VALUES ('a note');
             PERFORM flashsale.purchase_item(1, 'alice'); END $$",
        // In a subtransaction.
        "DO $$ BEGIN PERFORM flashsale.purchase_item(1, 'alice');
             EXCEPTION WHEN division_by_zero THEN NULL; END $$",
        // Several statements sent as one are one transaction.
        "SELECT 1; SELECT flashsale.purchase_item(1, 'alice')",
    ] {
        assert_refused(&client, statement, ACTIVE_TRANSACTION).await;
    }
    assert_eq!(
        (orders(&shop.client).await, shop.inventory(1).await),
        (0, 10)
    );

    // The session stays usable.
    assert!(buy(&client, 1, "alice").await.success());
    shop.assert_sound().await;
}

/// A function, or a procedure between two of its transactions, is no transaction block.
#[tokio::test(flavor = "multi_thread")]
async fn served_within_a_function() {
    let shop = Shop::grouped(&[]).await;
    shop.item(10).await;
    shop.run(
        "CREATE FUNCTION buy_two() RETURNS jsonb LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM flashsale.purchase_item(1, 'alice');
             RETURN flashsale.purchase_item(1, 'alice');
         END $$;
         CREATE FUNCTION buy_one() RETURNS jsonb LANGUAGE sql
             AS 'SELECT flashsale.purchase_item(1, ''bob'')';
         CREATE PROCEDURE note_and_buy() LANGUAGE plpgsql AS $$
         BEGIN
             CREATE TABLE a_note ();
             COMMIT;
             PERFORM flashsale.purchase_item(1, 'carol');
         END $$",
    )
    .await;
    let client = shop.connect().await;
    assert!(ask(&client, "SELECT buy_two()").await.success());
    assert!(ask(&client, "SELECT buy_one()").await.success());
    run(&client, "CALL note_and_buy()").await;
    assert_eq!(
        (orders(&shop.client).await, shop.inventory(1).await),
        (4, 6)
    );
    shop.assert_sound().await;
}

/// As documented: without a transaction block, a later failure does not undo it.
#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_in_a_pipeline_stands() {
    let shop = Shop::grouped(&[]).await;
    shop.item(10).await;
    let folder = Folder::new();
    let script = folder.0.join("pipeline.sql");
    fs::write(
        &script,
        "\\startpipeline\n\
         SELECT flashsale.purchase_item(1, 'alice', strategy => 'grouped');\n\
         SELECT 1 / 0;\n\
         \\endpipeline\n",
    )
    .expect("a script");
    let output = tool("pgbench")
        .args(["-n", "-M", "extended", "-t", "1", "-U", "postgres", "-f"])
        .arg(&script)
        .arg("postgres")
        .env("PGHOST", shop.cluster.as_ref().expect("its own").folder())
        .env("PGPORT", "5432")
        .output()
        .expect("pgbench");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("division by zero"),
        "{output:?}"
    );
    assert_eq!(
        (orders(&shop.client).await, shop.inventory(1).await),
        (1, 9)
    );
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_without_preload_or_in_another_database() {
    const BUY_GROUPED: &str = "SELECT flashsale.purchase_item(1, 'alice', strategy => 'grouped')";
    let _room = room_for_a_cluster().await;
    let cluster = Cluster::start(&["shared_preload_libraries = ''"]);
    let bare = storm::connect(&cluster.config).await.expect("a connection");
    // The server of the other tests is preloaded, for a database that is not this one.
    let other = Shop::open(0).await;
    run(&bare, "CREATE EXTENSION flashsale").await;
    for client in [&bare, &other.client] {
        run(client, "SELECT flashsale.create_item(2)").await;
        assert_refused(client, BUY_GROUPED, NOT_IN_PREREQUISITE_STATE).await;
        assert_eq!(orders(client).await, 0);
        for strategy in ["nowait", "optimistic", "atomic"] {
            let buy = format!("SELECT flashsale.purchase_item(1, 'alice', 1, 'key', '{strategy}')");
            assert!(ask(client, &buy).await.success());
        }
        let rest =
            "SELECT flashsale.purchase_batch('[{\"item_id\": 1, \"user_id\": \"bob\"}]') -> 0";
        assert!(ask(client, rest).await.success());
        assert_eq!(
            ask(client, "SELECT flashsale.purchase_item(1, 'carol')")
                .await
                .reason(),
            "out_of_stock"
        );
        assert!(
            ask(client, "SELECT flashsale.cancel_order(1)")
                .await
                .success()
        );
        assert_eq!(
            value::<i64>(client, "SELECT count(*) FROM flashsale.audit()", &[]).await,
            0
        );
    }
}

/// The seller would write on behalf of a caller whose transaction is read-only.
#[tokio::test(flavor = "multi_thread")]
async fn refused_in_a_read_only_transaction() {
    const READ_ONLY: &str = "25006";
    let shop = Shop::grouped(&[]).await;
    shop.item(10).await;
    assert!(buy(&shop.client, 1, "alice").await.success());
    let client = shop.connect().await;
    run(&client, "SET default_transaction_read_only = on").await;
    for call in [BUY, "SELECT flashsale.cancel_order(1)"] {
        assert_eq!(sqlstate(&client, call).await, READ_ONLY, "{call}");
    }
    assert_eq!(shop.inventory(1).await, 9);
    shop.assert_sound().await;
}
