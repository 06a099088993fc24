//! Each role can do what it is for, and nothing else.

use tokio_postgres::Client;

use crate::shop::Shop;
use crate::sql::{ask, sqlstate, value};

const DENIED: &str = "42501";

const APP: &[&str] = &[
    "begin_payment",
    "cancel_order",
    "confirm_order",
    "find_payment",
    "get_order",
    "item_availability",
    "purchase_batch",
    "purchase_item",
    "user_orders",
];
const OPERATOR: &[&str] = &[
    "audit",
    "cancel_order",
    "confirm_order",
    "create_item",
    "find_payment",
    "get_order",
    "health",
    "item_availability",
    // The views call it.
    "item_state",
    "pause_item",
    "read_stats",
    "reconcile_stale_reservations",
    "refund_order",
    "refund_payment",
    "restock_item",
    "resume_item",
    "stats_reset",
    // The CHECK of items calls it when an operator changes a price.
    "stock_adds_up",
    "user_orders",
];
const OPERATOR_COLUMNS: &[&str] = &[
    "currency",
    "ends_at",
    "max_per_user",
    "name",
    "starts_at",
    "unit_price",
];

/// What nobody but the owner may do. Each would go through if it were allowed.
const FORBIDDEN: &[&str] = &[
    "INSERT INTO flashsale.items (inventory, stock) VALUES (1, 1)",
    "INSERT INTO flashsale.stock_movements (item_id, delta) VALUES (1, 1)",
    "INSERT INTO flashsale.payments (order_id, status) VALUES (1, 'paid')",
    "INSERT INTO flashsale.orders (item_id, quantity, units_held, created_at, expires_at, user_id)
         VALUES (1, 1, 1, now(), now(), 'thief')",
    "UPDATE flashsale.items SET inventory = 1",
    "UPDATE flashsale.items SET stock = 1",
    "UPDATE flashsale.items SET version = 1",
    "UPDATE flashsale.items SET paused = true",
    "UPDATE flashsale.orders SET status = 'confirmed'",
    "UPDATE flashsale.payments SET status = 'refunded'",
    "DELETE FROM flashsale.items",
    "DELETE FROM flashsale.orders",
    "DELETE FROM flashsale.payments",
    "DELETE FROM flashsale.stock_movements",
    "TRUNCATE flashsale.payments",
    "SELECT nextval('flashsale.orders_order_id_seq')",
    "SELECT setval('flashsale.orders_order_id_seq', 1)",
    "DO 'BEGIN LOCK TABLE flashsale.items IN EXCLUSIVE MODE; END'",
    "ALTER TABLE flashsale.items DISABLE TRIGGER ALL",
    "CREATE TABLE flashsale.mine ()",
    "CREATE FUNCTION flashsale.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "DROP FUNCTION flashsale.audit()",
    "SELECT flashsale.grant_app(current_user::regrole)",
    "SELECT flashsale.grant_operator(current_user::regrole)",
];
const READS: &[&str] = &[
    "SELECT FROM flashsale.items",
    "SELECT FROM flashsale.orders",
    "SELECT FROM flashsale.payments",
    "SELECT FROM flashsale.stock_movements",
    "SELECT FROM flashsale.item_status",
    "SELECT FROM flashsale.payment_checks",
    "SELECT FROM flashsale.refunds_due",
    "SELECT FROM flashsale.stats",
    "SELECT last_value FROM flashsale.orders_order_id_seq",
    "SELECT flashsale.audit()",
];
const OPERATOR_CALLS: &[&str] = &[
    "SELECT flashsale.create_item(1)",
    "SELECT flashsale.restock_item(1, 1)",
    "SELECT flashsale.pause_item(1)",
    "SELECT flashsale.resume_item(1)",
    "SELECT flashsale.reconcile_stale_reservations()",
    "SELECT flashsale.refund_order(1)",
    "SELECT flashsale.refund_payment('a charge')",
    "SELECT flashsale.stats_reset()",
];
const APP_CALLS: &[&str] = &[
    "SELECT flashsale.purchase_item(1, 'alice')",
    "SELECT flashsale.purchase_item(1, 42)",
    "SELECT flashsale.purchase_item(1, '00000000-0000-0000-0000-000000000001'::uuid)",
    "SELECT flashsale.purchase_batch('[{\"item_id\": 1, \"user_id\": \"alice\"}]')",
    "SELECT flashsale.begin_payment(1)",
    "SELECT flashsale.confirm_order(1, 'a charge')",
    "SELECT flashsale.cancel_order(2)",
    "SELECT flashsale.get_order(1)",
    "SELECT flashsale.user_orders('alice')",
    "SELECT flashsale.find_payment('a charge')",
    "SELECT flashsale.item_availability(1)",
];

async fn shop_with_a_sale() -> Shop {
    let shop = Shop::open(2).await;
    assert_eq!(shop.item(10).await, 1);
    shop.run("SELECT flashsale.purchase_item(1, 'first')").await;
    shop
}

async fn assert_denied(client: &Client, statements: &[&str]) {
    for statement in statements {
        assert_eq!(sqlstate(client, statement).await, DENIED, "{statement}");
    }
}

async fn assert_allowed(client: &Client, statements: &[&str]) {
    for statement in statements {
        assert_eq!(sqlstate(client, statement).await, "", "{statement}");
    }
}

/// Names of the functions that a role may call, also those that no test here calls.
async fn callable(shop: &Shop, role: &str) -> Vec<String> {
    const CALLABLE: &str = "
         SELECT coalesce(array_agg(DISTINCT proname::text ORDER BY proname::text), '{}')
         FROM pg_proc
         WHERE pronamespace = 'flashsale'::regnamespace
           AND has_function_privilege($1::text, oid, 'EXECUTE')";
    shop.value(CALLABLE, &[&role]).await
}

/// Whatever a role may write: columns, whole relations, sequences, the schema.
async fn writable(shop: &Shop, role: &str) -> Vec<String> {
    const WRITABLE: &str = "SELECT coalesce(array_agg(what ORDER BY what), '{}') FROM (
             SELECT a.attname::text
             FROM pg_class c
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             WHERE c.relnamespace = 'flashsale'::regnamespace AND c.relkind IN ('r', 'v')
               AND has_column_privilege($1::text, c.oid, a.attnum, 'INSERT, UPDATE, REFERENCES')
             UNION ALL
             SELECT 'all of ' || c.relname FROM pg_class c
             WHERE c.relnamespace = 'flashsale'::regnamespace AND c.relkind IN ('r', 'v')
               AND has_table_privilege($1::text, c.oid,
                                       'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
             UNION ALL
             SELECT 'sequence ' || c.relname FROM pg_class c
             WHERE c.relnamespace = 'flashsale'::regnamespace
               AND CASE c.relkind WHEN 'S'
                   THEN has_sequence_privilege($1::text, c.oid, 'USAGE, UPDATE') END
             UNION ALL
             SELECT 'schema' WHERE has_schema_privilege($1::text, 'flashsale', 'CREATE')) w (what)";
    shop.value(WRITABLE, &[&role]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_nothing_can_do_nothing() {
    let mut shop = shop_with_a_sale().await;
    let role = shop.role("nobody").await;
    let nobody = shop.connect_as(&role).await;
    for statements in [FORBIDDEN, READS, APP_CALLS, OPERATOR_CALLS] {
        assert_denied(&nobody, statements).await;
    }
    assert_eq!(callable(&shop, &role).await, [""; 0]);
    assert_eq!(writable(&shop, &role).await, [""; 0]);
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_buys_and_settles_and_no_more() {
    let mut shop = shop_with_a_sale().await;
    let role = shop.role("app").await;
    shop.run(&format!("SELECT flashsale.grant_app('{role}')"))
        .await;
    let app = shop.connect_as(&role).await;
    for statements in [FORBIDDEN, READS, OPERATOR_CALLS] {
        assert_denied(&app, statements).await;
    }
    assert_allowed(&app, APP_CALLS).await;
    assert_eq!(callable(&shop, &role).await, APP);
    assert_eq!(writable(&shop, &role).await, [""; 0]);
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_runs_the_sale_and_moves_no_stock_by_hand() {
    let mut shop = shop_with_a_sale().await;
    let role = shop.role("operator").await;
    shop.run(&format!("SELECT flashsale.grant_operator('{role}')"))
        .await;
    let operator = shop.connect_as(&role).await;
    assert_denied(&operator, FORBIDDEN).await;
    assert_denied(&operator, &APP_CALLS[..4]).await;
    assert_allowed(&operator, OPERATOR_CALLS).await;
    assert_allowed(
        &operator,
        &[
            "SELECT FROM flashsale.item_status",
            "SELECT FROM flashsale.payment_checks",
            "SELECT FROM flashsale.refunds_due",
            "SELECT FROM flashsale.stats",
            "SELECT flashsale.audit()",
            "UPDATE flashsale.items SET name = 'cup', unit_price = 5, currency = 'EUR'",
            "UPDATE flashsale.items SET starts_at = now(), ends_at = now() + interval '1 hour'",
            "UPDATE flashsale.items SET max_per_user = 2 WHERE item_id = 1",
        ],
    )
    .await;
    assert_eq!(callable(&shop, &role).await, OPERATOR);
    assert_eq!(writable(&shop, &role).await, OPERATOR_COLUMNS);
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_hands_nothing_on() {
    let mut shop = shop_with_a_sale().await;
    let (app, friend) = (shop.role("app").await, shop.role("friend").await);
    shop.run(&format!("SELECT flashsale.grant_app('{app}')"))
        .await;
    let client = shop.connect_as(&app).await;
    // A grant without the right to grant is a warning and does nothing.
    client
        .batch_execute(&format!(
            "GRANT EXECUTE ON FUNCTION flashsale.get_order(bigint) TO {friend}"
        ))
        .await
        .ok();
    assert_eq!(callable(&shop, &friend).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_price_raises_the_version() {
    let mut shop = shop_with_a_sale().await;
    let role = shop.role("operator").await;
    shop.run(&format!("SELECT flashsale.grant_operator('{role}')"))
        .await;
    let operator = shop.connect_as(&role).await;
    let version = "SELECT version FROM flashsale.items WHERE item_id = 1";
    let before: i64 = shop.value(version, &[]).await;
    assert_allowed(
        &operator,
        &["UPDATE flashsale.items SET unit_price = 7 WHERE item_id = 1"],
    )
    .await;
    assert_eq!(shop.value::<i64>(version, &[]).await, before + 1);
}

/// Functions act as their owner, but who moved stock is on record.
#[tokio::test(flavor = "multi_thread")]
async fn a_movement_names_who_made_it() {
    let mut shop = shop_with_a_sale().await;
    let role = shop.role("operator").await;
    shop.run(&format!("SELECT flashsale.grant_operator('{role}')"))
        .await;
    let operator = shop.connect_as(&role).await;
    assert!(
        ask(
            &operator,
            "SELECT flashsale.restock_item(1, 5, 'found some')"
        )
        .await
        .success()
    );
    let moved_by =
        "SELECT moved_by FROM flashsale.stock_movements ORDER BY movement_id DESC LIMIT 1";
    assert_eq!(value::<String>(&shop.client, moved_by, &[]).await, role);
}
