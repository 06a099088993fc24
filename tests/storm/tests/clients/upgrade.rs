//! From 0.1.0 to 0.2.0 while sessions are open, through a pooler, and by a dump.
//!
//! `tests/regress/sql/24_upgrade.sql` compares catalog and rows before and after.

use std::time::Duration;

use storm::{Answer, Call, Pool, connect, explain};
use tokio::time::sleep;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Statement};

use crate::bouncer::{Bouncer, SERVER_CONNECTIONS};
use crate::dump::restore_plain_dump;
use crate::shop::{Shop, within};
use crate::sql::{ask, run, sqlstate};
use crate::strategy::Strategy;

const UPDATE: &str = "ALTER EXTENSION flashsale UPDATE TO '0.2.0'";

/// What 0.1.0 leaves: an item with a stale reservation, an order in paying and a paid one.
const SHOP_OF_0_1_0: &str = "
    CREATE EXTENSION flashsale SCHEMA pg_catalog VERSION '0.1.0';
    INSERT INTO flashsale.items (item_id, inventory, stock, unit_price, currency) VALUES (70, 997, 1000, 250, 'EUR');
    INSERT INTO flashsale.stock_movements (item_id, delta, reason) VALUES (70, 1000, 'created');
    INSERT INTO flashsale.orders (item_id, quantity, units_held, unit_price, currency, created_at, expires_at, paying_at,
                                  payment_deadline, confirmed_at, status, user_id)
    SELECT 70, 1, 1, 250, 'EUR', at, at, CASE WHEN status <> 'reserved' THEN at END,
           CASE WHEN status <> 'reserved' THEN at END, CASE WHEN status = 'confirmed' THEN at END, status, status || ' one'
    FROM unnest('{reserved,paying,confirmed}'::text[]) AS status, (VALUES (timestamptz '2026-07-01')) AS v (at);
    INSERT INTO flashsale.payments (order_id, payment_ref, amount, currency, status)
    SELECT order_id, 'pay-1', 250, 'EUR', 'paid' FROM flashsale.orders WHERE status = 'confirmed'";

/// A session with a statement that it prepared once.
struct Session {
    client: Client,
    purchase: Statement,
}

impl Session {
    async fn open(shop: &Shop, strategy: Strategy) -> Self {
        let client = connect(&strategy.of(&shop.config))
            .await
            .expect("a session");
        let purchase = "SELECT flashsale.purchase_item($1, $2)";
        let purchase = client
            .prepare_typed(purchase, &[Type::INT8, Type::TEXT])
            .await;
        Self {
            client,
            purchase: purchase.expect("a prepared statement"),
        }
    }

    async fn purchase(&self, item_id: i64) -> Result<Answer, Error> {
        let user_id = "alice";
        self.client
            .query_one_scalar(&self.purchase, &[&item_id, &user_id])
            .await
            .map(Answer)
    }

    /// Every call is refused: the tables are of another version than the library.
    async fn is_refused(&self) {
        let error = self.purchase(70).await.expect_err("a refusal");
        let error = error.as_db_error().expect("an error of the server");
        assert_eq!(error.code().code(), "55000", "{error}");
        assert_eq!(error.hint(), Some("Call ALTER EXTENSION flashsale UPDATE."));
    }

    /// The reconciler may hold the item for a moment.
    async fn sells(&self, item_id: i64) {
        within(async {
            loop {
                match self.purchase(item_id).await {
                    Ok(answer) if answer.success() => return,
                    Ok(answer) => assert_eq!(answer.reason(), "busy"),
                    Err(error) => panic!("{}", explain(&error)),
                }
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}

/// The server becomes one of several, and keeps what it has. All sessions know its place.
async fn becomes_one_of_several(shop: &Shop, sessions: &[Session]) {
    shop.run("SET flashsale.lock_wait = '10min'; SELECT flashsale.set_node(1, 2); RESET flashsale.lock_wait")
        .await;
    let newest: i64 = shop
        .value("SELECT max(order_id) FROM flashsale.orders", &[])
        .await;
    for session in sessions {
        session.sells(70).await;
    }
    let remainders =
        "SELECT array_agg(DISTINCT order_id % 2) FROM flashsale.orders WHERE order_id > $1";
    assert_eq!(shop.value::<Vec<i64>>(remainders, &[&newest]).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_sell_after_an_update_and_refuse_before_it() {
    let shop = Shop::grouped(&["flashsale.reconcile_interval = 100ms"]).await;
    shop.run("SELECT flashsale.create_item(100, item_id => 7)")
        .await;
    // They remember what 0.2 is, and meet 0.1.0 after it.
    let mut sessions = Vec::new();
    for strategy in Strategy::ALL {
        let session = Session::open(&shop, strategy).await;
        session.sells(7).await;
        sessions.push(session);
    }
    shop.run(
        "TRUNCATE flashsale.orders, flashsale.payments, flashsale.stock_movements;
         TRUNCATE flashsale.items; DROP EXTENSION flashsale",
    )
    .await;
    shop.run(SHOP_OF_0_1_0).await;
    for session in &sessions {
        session.is_refused().await;
    }
    for call in [
        "SELECT flashsale.create_item(1)",
        "SELECT flashsale.restock_item(70, 1)",
        "SELECT flashsale.confirm_order(2, 'pay-2')",
        "SELECT flashsale.get_order(1)",
        "SELECT flashsale.reconcile_stale_reservations()",
        "SELECT flashsale.grant_app('postgres')",
    ] {
        assert_eq!(sqlstate(&shop.client, call).await, "55000", "{call}");
    }
    // The reconciler says what to do.
    let advice = "the library of 0.2.0; Call ALTER EXTENSION flashsale UPDATE.";
    let server = shop.cluster.as_ref().expect("its own");
    within(async {
        while !server.log().contains(advice) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let early = Session::open(&shop, Strategy::Nowait).await;
    run(
        &early.client,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1",
    )
    .await;

    shop.run(UPDATE).await;
    early.is_refused().await; // its snapshot is older than the tables
    run(&early.client, "ROLLBACK").await;
    sessions.push(early);
    for session in &sessions {
        session.sells(70).await;
    }
    // The reconciler carries on by itself.
    let stale = "SELECT count(*) FROM flashsale.orders WHERE user_id = 'reserved one' AND status = 'reserved'";
    within(async {
        while shop.value::<i64>(stale, &[]).await > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    becomes_one_of_several(&shop, &sessions).await;
    for call in [
        "SELECT flashsale.confirm_order(order_id, 'pay-2') FROM flashsale.orders WHERE status = 'paying'",
        "SELECT flashsale.confirm_order(order_id, 'pay-1') FROM flashsale.orders WHERE user_id = 'confirmed one'",
        "SELECT flashsale.restock_item(70, 10, idempotency_key => 'a lorry')",
    ] {
        let answer = ask(&shop.client, call).await;
        assert!(answer.success(), "{call}: {answer:?}");
    }
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_keeps_its_connections_across_an_update() {
    let Some(program) = Bouncer::program() else {
        return;
    };
    let shop = Shop::empty(SERVER_CONNECTIONS as usize + 1).await;
    shop.run(SHOP_OF_0_1_0).await;
    let bouncer = Bouncer::start(program, &shop.config);
    let config = within(bouncer.database(&shop.name)).await;
    // Each server connection gets a statement of this name, because the transactions are open at once.
    let mut clients = Vec::new();
    for _ in 0..SERVER_CONNECTIONS {
        let client = connect(&config).await.expect("a connection");
        let prepare = "PREPARE buy (int8, text) AS SELECT flashsale.purchase_item($1, $2)";
        run(&client, &format!("BEGIN; {prepare}")).await;
        clients.push(client);
    }
    for client in &clients {
        run(client, "COMMIT").await;
    }
    let prepared = |n: usize| {
        (
            &clients[n % clients.len()],
            format!("EXECUTE buy (70, 'user {n}')"),
        )
    };
    let pool = Pool::open(&config, 10).await.expect("connections");
    let pool = pool.without_prepared_statements();
    for n in 0..20 {
        let error = pool.call(&Call::buy(70, format!("early {n}"))).await;
        let error = error.expect_err("a refusal");
        assert_eq!(error.code().expect("a code").code(), "55000");
        let (client, buy) = prepared(n);
        assert_eq!(sqlstate(client, &buy).await, "55000");
    }
    shop.run(UPDATE).await;
    for n in 0..20 {
        let answer = pool.call(&Call::buy(70, format!("late {n}"))).await;
        assert!(answer.expect("an answer").success());
        let (client, buy) = prepared(n);
        assert_eq!(sqlstate(client, &buy).await, "");
    }
    let sold = "SELECT count(*) FROM flashsale.orders WHERE user_id ~ '^(late|user) '";
    assert_eq!(shop.value::<i64>(sold, &[]).await, 40);
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dumps_from_before_and_after_an_update_are_restored() {
    let mut old = Shop::empty(10).await;
    old.run(SHOP_OF_0_1_0).await;
    let operator = old.role("operator").await;
    old.run(&format!(
        "GRANT USAGE ON SCHEMA flashsale TO {operator};
         GRANT EXECUTE ON FUNCTION flashsale.pause_item(bigint) TO {operator}"
    ))
    .await;
    let rows = "SELECT count(*) FROM flashsale.orders o JOIN flashsale.items USING (item_id)
                LEFT JOIN flashsale.payments USING (order_id)";

    let from_before = old.sibling().await;
    let dump = restore_plain_dump(&old, &from_before);
    assert!(
        dump.contains("CREATE EXTENSION IF NOT EXISTS flashsale WITH SCHEMA pg_catalog;"),
        "0.1 is installed into pg_catalog"
    );
    assert_eq!(from_before.value::<i64>(rows, &[]).await, 3);
    sells_and_is_sound(&from_before).await;

    old.run(&format!(
        "GRANT EXECUTE ON FUNCTION flashsale.restock_item(bigint, bigint, text) TO {operator}"
    ))
    .await;
    old.run(UPDATE).await;
    let from_after = old.sibling().await;
    restore_plain_dump(&old, &from_after);
    assert_eq!(from_after.value::<i64>(rows, &[]).await, 3);
    sells_and_is_sound(&from_after).await;
    for shop in [&old, &from_after] {
        let operator = shop.connect_as(&operator).await;
        let answer = ask(&operator, "SELECT flashsale.restock_item(70, 1)").await;
        assert!(answer.success(), "{answer:?}");
        assert!(
            ask(&operator, "SELECT flashsale.pause_item(70)")
                .await
                .success()
        );
    }
    // Nothing is left that would hold the role back.
    old.run(&format!("DROP OWNED BY {operator}")).await;
    from_before.run(&format!("DROP OWNED BY {operator}")).await;
    from_after.run(&format!("DROP OWNED BY {operator}")).await;
}

async fn sells_and_is_sound(shop: &Shop) {
    let session = Session::open(shop, Strategy::Nowait).await;
    session.sells(70).await;
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_was_made_before_is_in_the_dump() {
    let old = Shop::empty(10).await;
    old.run("CREATE SCHEMA flashsale; CREATE EXTENSION flashsale SCHEMA flashsale")
        .await;
    old.run("SELECT flashsale.create_item(10, item_id => 70)")
        .await;
    let new = old.sibling().await;
    let dump = restore_plain_dump(&old, &new);
    assert!(dump.contains("CREATE SCHEMA flashsale;"));
    sells_and_is_sound(&new).await;
}
