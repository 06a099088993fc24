//! A shop restored from a dump is the same shop, and continues to sell.

use std::collections::BTreeSet;
use std::env;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use storm::Call;

use crate::cluster::tool;
use crate::shop::{Shop, sold};
use crate::sql::ask;
use crate::visit::visitors;

const CONNECTIONS: usize = 40;
/// Both shops, and what the tools need.
const ROOM: usize = 2 * CONNECTIONS + 10;

/// A shop with orders and payments in every state, and a role that may buy. It is one of several servers.
async fn shop_with_a_past() -> (Shop, String, i64) {
    let mut shop = Shop::open(ROOM).await;
    let app = shop.role("app").await;
    shop.run(&format!("SELECT flashsale.grant_app('{app}')"))
        .await;
    shop.run("SELECT flashsale.set_node(1, 3)").await;
    let create = "SELECT flashsale.create_item(300, 'a \"cup\"\n', 1999, 'EUR', item_id => 70)";
    let item_id: i64 = shop.value(create, &[]).await;
    shop.run("SELECT flashsale.create_item(5), flashsale.restock_item(70, 10, 'found some')")
        .await;
    let pool = shop.pool(CONNECTIONS).await;
    visitors(&shop, &pool, item_id, 0..200).await;
    shop.run(
        "SELECT flashsale.refund_order(order_id, restock => order_id % 2 = 0)
             FROM (SELECT order_id FROM flashsale.orders
                   WHERE status = 'confirmed' ORDER BY 1 LIMIT 10) o;
         SELECT flashsale.refund_payment(payment_ref, 'done')
             FROM (SELECT payment_ref FROM flashsale.refunds_due ORDER BY 1 LIMIT 5) d;
         SELECT flashsale.purchase_item(70, 'still reserved', 2, 'a key');
         SELECT flashsale.begin_payment((order_answer ->> 'order_id')::bigint)
             FROM flashsale.purchase_item(70, 'still paying') order_answer",
    )
    .await;
    shop.assert_sound().await;
    (shop, app, item_id)
}

/// Every row of every table and the state of every sequence, as text.
async fn contents(shop: &Shop) -> Vec<String> {
    let mut contents = Vec::new();
    for table in ["items", "orders", "payments", "stock_movements", "node"] {
        let rows = format!("SELECT '{table} ' || t::text FROM flashsale.{table} t ORDER BY 1");
        let rows = shop.client.query(&rows, &[]).await.expect("rows");
        assert!(!rows.is_empty(), "{table} is empty, so it shows nothing");
        contents.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    }
    for sequence in [
        "items_item_id",
        "orders_order_id",
        "payments_payment_id",
        "stock_movements_movement_id",
    ] {
        let state = format!(
            "SELECT format('{sequence} %s %s', last_value, is_called) FROM flashsale.{sequence}_seq"
        );
        contents.push(shop.value(&state, &[]).await);
    }
    contents
}

/// Restored rows are the old ones; new ones get new ids; the app may still buy.
async fn assert_carries_on(old: &Shop, new: &Shop, app: &str, item_id: i64) {
    assert_eq!(contents(new).await, contents(old).await);
    new.assert_sound().await;

    let replay = ask(
        &new.client,
        "SELECT flashsale.purchase_item(70, 'still reserved', 2, 'a key')",
    )
    .await;
    assert!(replay.flag("replayed"), "{replay:?}");

    let orders = "SELECT array_agg(order_id ORDER BY order_id) FROM flashsale.orders";
    let old_orders: Vec<i64> = new.value(orders, &[]).await;
    let free = new.inventory(item_id).await;
    assert!(free > 0, "nothing left to buy");
    let done = new
        .rush(
            CONNECTIONS,
            (0..free + 50).map(|n| Call::buy(item_id, format!("new user {n}"))),
        )
        .await;
    assert_eq!(sold(&done) as i64, free);
    let all_orders: Vec<i64> = new.value(orders, &[]).await;
    let newest = old_orders.last().expect("old orders");
    assert_eq!(
        all_orders
            .iter()
            .filter(|order_id| *order_id > newest)
            .count() as i64,
        free
    );
    assert_eq!(
        all_orders.iter().collect::<BTreeSet<_>>().len(),
        all_orders.len()
    );

    new.run(&format!(
        "SELECT flashsale.confirm_order({newest}, 'a new charge')"
    ))
    .await;
    new.run("SELECT flashsale.restock_item(70, 1)").await;
    let another: i64 = new.value("SELECT flashsale.create_item(1)", &[]).await;
    assert_ne!(another, item_id);
    assert_eq!(another % 3, 1);
    assert!(all_orders.iter().all(|order_id| order_id % 3 == 1));
    let buyer = new.connect_as(app).await;
    let purchase = format!("SELECT flashsale.purchase_item({another}, 'alice')");
    assert!(ask(&buyer, &purchase).await.success());
    new.assert_sound().await;
}

/// Dumps a database as text, restores it into another one, and returns the text.
pub fn restore_plain_dump(old: &Shop, new: &Shop) -> String {
    let dump = tool("pg_dump").args(["--dbname", &old.name]).output();
    let dump = dump.expect("pg_dump");
    assert!(dump.status.success(), "pg_dump");
    let mut psql = tool("psql")
        .args([
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            "--output=/dev/null",
            "--dbname",
            &new.name,
        ])
        .stdin(Stdio::piped())
        .spawn()
        .expect("psql");
    let mut input = psql.stdin.take().expect("a pipe");
    input.write_all(&dump.stdout).expect("psql reads");
    drop(input);
    assert!(psql.wait().expect("psql").success());
    String::from_utf8(dump.stdout).expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_dump_restores_the_shop() {
    let (old, app, item_id) = shop_with_a_past().await;
    let new = old.sibling().await;
    restore_plain_dump(&old, &new);
    assert_carries_on(&old, &new, &app, item_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_dump_restores_the_shop_in_parallel() {
    let (old, app, item_id) = shop_with_a_past().await;
    let new = old.sibling().await;
    let file = DumpFile(env::temp_dir().join(format!("{}.dump", old.name)));
    run(tool("pg_dump")
        .args(["-Fc", "--dbname", &old.name, "--file"])
        .arg(&file.0));
    run(tool("pg_restore")
        .args(["--exit-on-error", "-j2", "--dbname", &new.name])
        .arg(&file.0));
    assert_carries_on(&old, &new, &app, item_id).await;
}

/// The rows alone, into a shop that has its tables already.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_the_data_alone_restores_the_shop() {
    let (old, app, item_id) = shop_with_a_past().await;
    let new = old.sibling().await;
    new.run("CREATE EXTENSION flashsale").await;
    new.run(&format!("SELECT flashsale.grant_app('{app}')"))
        .await;
    let file = DumpFile(env::temp_dir().join(format!("{}.dump", old.name)));
    run(tool("pg_dump")
        .args(["-Fc", "--dbname", &old.name, "--file"])
        .arg(&file.0));
    run(tool("pg_restore")
        .args(["--exit-on-error", "--data-only", "--dbname", &new.name])
        .arg(&file.0));
    assert_carries_on(&old, &new, &app, item_id).await;
}

/// Over a shop that has orders: refused, unless the superuser allows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_over_a_shop_has_to_be_allowed() {
    let (old, app, item_id) = shop_with_a_past().await;
    let new = old.sibling().await;
    new.run(
        "CREATE EXTENSION flashsale; SELECT flashsale.create_item(1);
         SELECT flashsale.purchase_item(1, 'alice')",
    )
    .await;
    let file = DumpFile(env::temp_dir().join(format!("{}.dump", old.name)));
    run(tool("pg_dump")
        .args(["-Fc", "--dbname", &old.name, "--file"])
        .arg(&file.0));
    let restore = || {
        let mut restore = tool("pg_restore");
        restore
            .args(["--exit-on-error", "--clean", "--dbname", &new.name])
            .arg(&file.0);
        restore
    };
    let refused = restore().output().expect("pg_restore");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("flashsale.protect_data"),
        "{said}"
    );
    let orders = "SELECT count(*) FROM flashsale.orders WHERE user_id = 'alice'";
    assert_eq!(new.value::<i64>(orders, &[]).await, 1);
    run(restore().env("PGOPTIONS", "-c flashsale.protect_data=off"));
    assert_carries_on(&old, &new, &app, item_id).await;
}

fn run(command: &mut Command) {
    assert!(
        command.status().expect("it starts").success(),
        "{command:?}"
    );
}

struct DumpFile(PathBuf);

impl Drop for DumpFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}
