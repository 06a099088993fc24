//! RUST_BACKTRACE in the server's environment is for debugging the server, not for clients.

use tokio::task::block_in_place;
use tokio_postgres::error::DbError;

use crate::cluster::Cluster;
use crate::room::room_for_a_cluster;
use crate::sql::{run, value};
use crate::strategy::Strategy;
use storm::connect;
use tokio_postgres::Client;

async fn error(client: &Client, sql: &str) -> DbError {
    let error = client.batch_execute(sql).await.expect_err(sql);
    error.as_db_error().expect("an error of the server").clone()
}

/// The error has the detail that it was raised with, and nothing besides.
async fn assert_detail(client: &Client, sql: &str, code: &str, detail: Option<&str>) {
    let error = error(client, sql).await;
    assert_eq!(error.code().code(), code, "{sql}: {error:?}");
    assert_eq!(error.detail(), detail, "{sql}: {error:?}");
}

const WRONG: &str = "SELECT flashsale.purchase_item(1, 'ann', 0)";
const READ_ONLY: &str = "BEGIN READ ONLY; SELECT flashsale.purchase_item(1, 'ann')";
const REFUSED: &str = "SELECT flashsale.purchase_item(1, 'eve')";
/// Raises for one buyer, with a detail of the shop's own.
const TRIGGER: &str = "
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE 'not to eve' USING DETAIL = 'she knows why';
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON flashsale.orders FOR EACH ROW
        WHEN (NEW.user_id = 'eve') EXECUTE FUNCTION refuse()";

#[tokio::test(flavor = "multi_thread")]
async fn clients_see_no_frames() {
    let _room = room_for_a_cluster().await;
    let cluster = block_in_place(|| {
        let mut cluster = Cluster::start(&[]);
        cluster.stop();
        cluster.restart_in(&[("RUST_BACKTRACE", "1"), ("RUST_LIB_BACKTRACE", "full")]);
        cluster
    });
    let client = connect(&cluster.config).await.expect("the server answers");
    run(&client, "CREATE EXTENSION flashsale").await;
    run(&client, "SELECT flashsale.create_item(10)").await;
    run(&client, TRIGGER).await;
    for strategy in Strategy::ALL {
        let client = connect(&strategy.of(&cluster.config)).await;
        let client = client.expect("the server answers");
        assert_detail(&client, WRONG, "22023", None).await;
        assert_detail(&client, REFUSED, "P0001", Some("she knows why")).await;
        assert_detail(&client, READ_ONLY, "25006", None).await;
    }
    // Programs that the server starts find the environment unchanged.
    let echo = "CREATE TABLE seen (line text);
        COPY seen FROM PROGRAM 'echo $RUST_BACKTRACE $RUST_LIB_BACKTRACE'";
    run(&client, echo).await;
    let seen: String = value(&client, "SELECT line FROM seen", &[]).await;
    assert_eq!(seen, "1 full");
}
