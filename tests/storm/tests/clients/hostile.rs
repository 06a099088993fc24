//! Functions, operators, tables and types in front of the real ones change nothing.

use tokio_postgres::Client;

use crate::shop::Shop;
use crate::sql::{ask, audit, run, sqlstate};

/// Functions named like the built-in ones. Each raises an error, so that its use shows.
const FUNCTIONS: &[&str] = &[
    "nextval(regclass) RETURNS bigint",
    "clock_timestamp() RETURNS timestamptz",
    "now() RETURNS timestamptz",
    "sum(bigint) RETURNS bigint",
    "octet_length(text) RETURNS int",
    "upper(text) RETURNS text",
    "format(text, VARIADIC text[]) RETURNS text",
    "to_jsonb(anyelement) RETURNS jsonb",
    "jsonb_build_object(VARIADIC text[]) RETURNS jsonb",
];
const OPERATORS: &[&str] = &["=", "<>", "<", "<=", ">", ">=", "+", "-", "*", "||"];
const OPERANDS: &[&str] = &[
    "pg_catalog.int8",
    "pg_catalog.text",
    "pg_catalog.timestamptz",
];
/// Tables and types named like the real ones; no value fits the types.
const RELATIONS_AND_TYPES: &str = "
    CREATE TABLE items (item_id bigint, inventory bigint, stock bigint);
    CREATE TABLE orders (order_id bigint, item_id bigint, status text);
    CREATE TABLE payments (payment_ref text, order_id bigint, status text);
    CREATE TABLE stock_movements (item_id bigint, delta bigint);
    CREATE TEMP TABLE items (item_id bigint, inventory bigint, stock bigint);
    CREATE TEMP TABLE orders (order_id bigint, item_id bigint, status text);
    CREATE TEMP TABLE payments (payment_ref text, order_id bigint, status text);
    CREATE TEMP TABLE stock_movements (item_id bigint, delta bigint);
    CREATE TEMP TABLE pg_class (oid oid);
    CREATE DOMAIN \"text\" AS pg_catalog.text CHECK (false);
    CREATE DOMAIN \"bigint\" AS pg_catalog.int8 CHECK (false);
    CREATE DOMAIN int8 AS pg_catalog.int8 CHECK (false);
    CREATE DOMAIN jsonb AS pg_catalog.jsonb CHECK (false);
    CREATE DOMAIN timestamptz AS pg_catalog.timestamptz CHECK (false);
    CREATE DOMAIN \"interval\" AS pg_catalog.interval CHECK (false);
    CREATE TYPE purchase_item AS (a pg_catalog.int4);
    CREATE CAST (purchase_item AS pg_catalog.text) WITH INOUT AS IMPLICIT;";

/// A whole life of orders; each line must answer `success`.
const SALE: &[&str] = &[
    "SELECT flashsale.purchase_item(1, 'alice', 2, 'a key')",
    "SELECT flashsale.purchase_item(1, 'alice', 2, 'a key')",
    "SELECT flashsale.purchase_item(1, 42)",
    "SELECT flashsale.purchase_item(1, '00000000-0000-0000-0000-000000000001'::pg_catalog.uuid)",
    "SELECT flashsale.begin_payment(1)",
    "SELECT flashsale.confirm_order(1, 'a charge', 20, 'eur')",
    "SELECT flashsale.confirm_order(1, 'a charge', 20, 'eur')",
    "SELECT flashsale.cancel_order(2, 'changed my mind')",
    "SELECT flashsale.get_order(1)",
    "SELECT flashsale.user_orders('alice')",
    "SELECT flashsale.find_payment('a charge')",
    "SELECT flashsale.item_availability(1)",
    "SELECT flashsale.restock_item(1, 5, 'found some')",
    "SELECT flashsale.restock_item(1, -5)",
    "SELECT flashsale.pause_item(1)",
    "SELECT flashsale.resume_item(1)",
    "SELECT flashsale.reconcile_stale_reservations(older_than => '0 s')",
    "SELECT flashsale.refund_order(1)",
    "SELECT flashsale.refund_payment('a charge', 'its refund')",
];

/// Someone with every right that can be granted, and a schema full of traps.
async fn mallory(shop: &mut Shop) -> Client {
    let role = shop.role("mallory").await;
    shop.run(&format!(
        "SELECT flashsale.grant_app('{role}'), flashsale.grant_operator('{role}')"
    ))
    .await;
    shop.run(&format!("CREATE SCHEMA evil AUTHORIZATION {role}"))
        .await;
    let mallory = shop.connect_as(&role).await;
    run(&mallory, "SET search_path = evil, pg_catalog").await;
    for function in FUNCTIONS {
        run(&mallory, &trap(function)).await;
    }
    for kind in OPERANDS {
        run(
            &mallory,
            &trap(&format!("trap({kind}, {kind}) RETURNS pg_catalog.bool")),
        )
        .await;
    }
    for operator in OPERATORS {
        for kind in OPERANDS {
            let operands = format!("LEFTARG = {kind}, RIGHTARG = {kind}");
            let create = format!("CREATE OPERATOR {operator} (FUNCTION = trap, {operands})");
            run(&mallory, &create).await;
        }
    }
    run(&mallory, RELATIONS_AND_TYPES).await;
    run(&mallory, "SET search_path = evil, pg_temp, pg_catalog").await;
    mallory
}

fn trap(function: &str) -> String {
    let body = "BEGIN RAISE EXCEPTION 'hijacked'; END";
    format!("CREATE FUNCTION {function} LANGUAGE plpgsql AS $$ {body} $$")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_traps_work() {
    let mut shop = Shop::open(1).await;
    let mallory = mallory(&mut shop).await;
    for statement in [
        "SELECT 1::pg_catalog.int8 = 2::pg_catalog.int8",
        "SELECT clock_timestamp()",
        "SELECT 'a'::\"text\"",
    ] {
        assert_ne!(sqlstate(&mallory, statement).await, "", "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_under_a_hostile_search_path_is_a_sale() {
    let mut shop = Shop::open(1).await;
    let mallory = mallory(&mut shop).await;
    let create = "SELECT flashsale.create_item(10, 'cup', 10, 'eur', 5, item_id => 1)";
    run(&mallory, create).await;
    for call in SALE {
        let answer = ask(&mallory, call).await;
        assert!(answer.success(), "{call}: {answer:?}");
    }
    // The triggers run in the session that changes the row.
    run(
        &mallory,
        "UPDATE flashsale.items SET unit_price = 11, max_per_user = 4",
    )
    .await;
    assert!(audit(&mallory).await.is_empty());
    assert_eq!(shop.inventory(1).await, 10);
    shop.assert_sound().await;
}

/// Not only the first call: plans are saved, and made again, under changing search paths.
#[tokio::test(flavor = "multi_thread")]
async fn kept_plans_do_not_follow_the_search_path() {
    let mut shop = Shop::open(1).await;
    let mallory = mallory(&mut shop).await;
    let item_id = shop.item(100).await;
    let purchase = format!("SELECT flashsale.purchase_item({item_id}, 'alice')");
    for path in [
        "pg_catalog",
        "evil, pg_temp, pg_catalog",
        "pg_temp, evil",
        "''",
        "evil, pg_catalog",
    ] {
        run(&mallory, &format!("SET search_path = {path}")).await;
        assert!(ask(&mallory, &purchase).await.success(), "under {path}");
        shop.run("ALTER TABLE flashsale.items ALTER COLUMN name SET STATISTICS 10")
            .await;
        assert!(
            ask(&mallory, &purchase).await.success(),
            "replanned under {path}"
        );
    }
    assert_eq!(shop.inventory(item_id).await, 90);
    shop.assert_sound().await;
}

/// A role that created the schema first would own what the functions rely on.
#[tokio::test(flavor = "multi_thread")]
async fn the_extension_refuses_a_schema_that_is_there_already() {
    let mut shop = Shop::empty(0).await;
    let role = shop.role("squatter").await;
    shop.run(&format!("CREATE SCHEMA flashsale AUTHORIZATION {role}"))
        .await;
    const DUPLICATE_SCHEMA: &str = "42P06";
    assert_eq!(
        sqlstate(&shop.client, "CREATE EXTENSION flashsale").await,
        DUPLICATE_SCHEMA
    );
}
