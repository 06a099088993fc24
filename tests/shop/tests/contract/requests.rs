//! Sessions, and requests that are not as they should be.

use std::process::Command;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shop::database::Database;
use shop::programs::program;
use shop::stage::{SESSION_SECRET, Setup, session_of, session_until, signed_by};
use storm::wire::Wire;
use tokio::time::timeout;

use crate::shopper::{Answer, Shop, With};

#[tokio::test]
async fn without_a_valid_session_it_is_401() {
    let shop = Shop::open(1).await;
    let other_secret = "another secret that is just as long as the one of the shop, that is 64.";
    let genuine = session_of("alice");
    let (name, signed) = genuine.split_once('=').expect("a cookie");
    let cookies = [
        None,
        Some("session=".to_owned()),
        Some("session=session|alice|99999999999".to_owned()),
        Some(signed_by(
            other_secret,
            "session",
            "session|alice|99999999999",
        )),
        Some(signed_by(
            &SESSION_SECRET.replace("run knows.", "run knows?"),
            "session",
            "session|alice|99999999999",
        )),
        Some(session_until("alice", 1)),
        Some(format!("{name}={}", signed.replace("alice", "bob00"))),
        Some(format!("operator={signed}")),
        Some(session_of("operator").replace("session=", "operator=")),
        Some(signed_by(
            SESSION_SECRET,
            "operator",
            "operator|operator|99999999999",
        )),
        Some("session=%FF%00; session=;;=".to_owned()),
    ];
    for cookie in cookies {
        for (method, path) in [
            (Method::POST, shop.purchase_path()),
            (Method::GET, "/orders".into()),
            (Method::GET, "/orders/1".into()),
            (Method::POST, "/orders/1/cancel".into()),
            (Method::GET, "/operator/events".into()),
            (Method::POST, "/operator/items/1/pause".into()),
        ] {
            let with = With {
                cookie: cookie.clone(),
                ..With::default()
            };
            shop.call(method, &path, with)
                .await
                .fails(401, "unauthenticated");
        }
    }
    assert_eq!(shop.ledgers().await.free(), 1);
}

#[tokio::test]
async fn a_guest_gets_a_session_and_keeps_it() {
    let shop = Shop::open(1).await;
    let first = shop.call(Method::POST, "/session", With::default()).await;
    let cookie = first.headers["set-cookie"].to_str().expect("a cookie");
    for word in ["session=", "HttpOnly", "SameSite=Strict", "Secure"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    let with = With {
        cookie: Some(first.cookie()),
        ..With::default()
    };
    let again = shop.call(Method::POST, "/session", with).await;
    assert_eq!(first.is(200)["userId"], again.is(200)["userId"]);
    assert!(!again.headers.contains_key("set-cookie"));
}

#[tokio::test]
async fn bad_bodies_and_ids_are_400_and_change_nothing() {
    let shop = Shop::open(5).await;
    for body in [
        "{",
        "[]",
        "null",
        "1",
        "\"\"",
        r#"{"quantity": "1"}"#,
        r#"{"quantity": 1.5}"#,
        r#"{"quantity": 0}"#,
        r#"{"quantity": -1}"#,
        r#"{"quantity": 99999999999999999999}"#,
        r#"{"quantity": null}"#,
        r#"{"userId": "bob"}"#,
        r#"{"paymentMethod": 5}"#,
        "\u{0}",
        r#"{"quantity": 1} x"#,
    ] {
        shop.buy_with("alice", "a", body)
            .await
            .fails(400, "bad_request");
    }
    for id in ["abc", "1.5", "99999999999999999999", "1%00", "%20"] {
        shop.post("alice", &format!("/purchase/{id}"), "")
            .await
            .fails(400, "bad_request");
        shop.get("alice", &format!("/orders/{id}"))
            .await
            .fails(400, "bad_request");
    }
    assert_eq!(shop.ledgers().await.free(), 5);
}

#[tokio::test]
async fn a_quantity_past_every_stock_is_refused_not_an_error() {
    let shop = Shop::open(5).await;
    shop.buy_with("alice", "a", r#"{"quantity": 9000000000000000000}"#)
        .await
        .fails(409, "out_of_stock");
}

#[tokio::test]
async fn keys_must_fit() {
    let shop = Shop::open(2).await;
    for key in ["", &"k".repeat(256), "schlüssel"] {
        shop.buy("alice", key).await.fails(400, "bad_request");
    }
    shop.buy("alice", &"k".repeat(255)).await.is(200);
    assert_eq!(shop.ledgers().await.confirmed(), 1);
}

#[tokio::test]
async fn a_huge_body_is_413() {
    let shop = Shop::open(1).await;
    let body = format!(r#"{{"paymentMethod": "{}"}}"#, "x".repeat(1_000_000));
    shop.buy_with("alice", "a", &body)
        .await
        .fails(413, "body_too_large");
    assert_eq!(shop.ledgers().await.free(), 1);
}

#[tokio::test]
async fn unknown_routes_are_404_and_wrong_methods_405() {
    let shop = Shop::open(1).await;
    for path in [
        "/nothing",
        "/purchase",
        "/purchase/1/2",
        "/orders/1/confirm",
        "/../etc/passwd",
        "/shop.html",
    ] {
        shop.call(Method::GET, path, With::default())
            .await
            .fails(404, "not_found");
    }
    for (method, path) in [
        (Method::GET, "/purchase/1"),
        (Method::DELETE, "/orders/1"),
        (Method::POST, "/items"),
        (Method::PUT, "/session"),
        (Method::GET, "/webhooks/payment"),
    ] {
        let answer = shop.call(method, path, With::default()).await;
        answer.fails(405, "method_not_allowed");
        assert!(answer.headers.contains_key("allow"));
    }
}

#[tokio::test]
async fn an_error_of_ours_is_500_without_internals() {
    let shop = Shop::open(1).await;
    // A trigger's error stands for whatever nobody thought of.
    let trigger = format!(
        "CREATE FUNCTION pg_temp_fail_{0}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF new.item_id = {0} THEN RAISE EXCEPTION 'secret internals' USING ERRCODE = 'XX001'; END IF; \
             RETURN new; END $$; \
         CREATE TRIGGER fail_{0} BEFORE INSERT ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION pg_temp_fail_{0}()",
        shop.item_id
    );
    shop.stage
        .database
        .owner()
        .await
        .batch_execute(&trigger)
        .await
        .expect("a trigger");
    let answer = shop.buy("alice", "a").await;
    answer.fails(500, "internal_error");
    assert!(
        !answer.text.contains("secret") && !answer.text.contains("flashsale"),
        "{answer:?}"
    );
    assert!(
        shop.stage.apps[0].said().contains("secret internals"),
        "the log does say it"
    );
    let tidy = format!(
        "DROP TRIGGER fail_{0} ON flashsale.orders; DROP FUNCTION pg_temp_fail_{0}()",
        shop.item_id
    );
    shop.stage
        .database
        .owner()
        .await
        .batch_execute(&tidy)
        .await
        .expect("no trigger");
}

#[tokio::test]
async fn without_its_database_it_is_503_and_back_with_it() {
    let shop = Shop::open(1).await;
    let name: String = shop
        .stage
        .database
        .value("SELECT current_database()::text", &[])
        .await;
    let main = Database::main().owner().await;
    // First for the sessions to come; in one transaction one could come in between.
    for close in [
        format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
        format!(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = '{name}'"
        ),
    ] {
        main.batch_execute(&close).await.expect("a closed database");
    }
    shop.call(Method::GET, "/healthz", With::default())
        .await
        .fails(503, "busy");
    let refused = shop.buy("alice", "a").await;
    refused.fails(503, "busy");
    assert_eq!(refused.headers["retry-after"], "1");
    let open = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true");
    main.batch_execute(&open).await.expect("an open database");
    shop.until_well().await;
    shop.buy("alice", "a").await.is(200);
    assert_eq!(shop.ledgers().await.confirmed(), 1);
}

#[tokio::test]
async fn a_database_that_falls_silent_is_given_up_for_new_connections() {
    let wire = Wire::open().await;
    let setup = Setup {
        database_at: Some(wire.address),
        ..Setup::default()
    };
    let shop = Shop::with(3, setup).await;
    shop.buy("alice", "a").await.is(200);
    wire.fall_silent();
    let outcome = timeout(Duration::from_secs(60), async {
        while shop.buy("bob", "b").await.status != 200 {}
    });
    outcome.await.expect("bob bought over a new connection");
    let order_id = shop.reserve().await;
    let _: serde_json::Value = shop
        .sql(
            "SELECT flashsale.begin_payment($1::bigint, '1 ms')",
            order_id,
        )
        .await;
    let ledgers = shop.ledgers().await; // the resolver finds one, too
    assert_eq!(ledgers.free(), 1);
}

#[tokio::test]
async fn settings_that_cannot_be_right_are_refused_at_the_start() {
    let shop = Shop::open(1).await;
    for (name, value) in [
        ("OPERATOR_KEY", ""),
        ("STRIPE_WEBHOOK_SECRET", ""),
        ("STRIPE_SECRET_KEY", ""),
        ("SHOP_ID", ""),
        ("SESSION_SECRET", "hunter2"),
        (
            "DATABASE_URL",
            "host=x password=hunter2 sslmode=verify-nothing",
        ),
        ("PAYMENT_WINDOW_S", "0"),
        ("PAYMENT_WINDOW_S", "3601"),
        ("POOL_SIZE", "0"),
        ("GATEWAY_TIMEOUT_MS", "0"),
    ] {
        let mut command = Command::new(program("checkout"));
        command.envs(
            shop.stage.apps[0]
                .environment()
                .iter()
                .map(|(name, value)| (name, value)),
        );
        let output = command
            .env("LISTEN", "127.0.0.1:0")
            .env(name, value)
            .output()
            .expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{name}={value}");
        assert!(
            said.contains(name) || said.contains(&name.to_lowercase().replace('_', "-")),
            "{said}"
        );
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn without_the_operators_rights_the_app_is_unwell_and_sells_all_the_same() {
    let shop = Shop::open(2).await;
    let owner = shop.stage.database.owner().await;
    let relations = "flashsale.orders, flashsale.payment_checks";
    shop.until_well().await;
    owner
        .batch_execute(&format!("REVOKE ALL ON {relations} FROM shop_operator"))
        .await
        .expect("no rights");
    shop.call(Method::GET, "/healthz", With::default())
        .await
        .fails(503, "busy");
    shop.buy("alice", "a").await.is(200);
    assert_eq!(shop.ledgers().await.confirmed(), 1);
}

#[tokio::test]
async fn items_health_and_metrics_are_there_for_everybody() {
    let shop = Shop::open(7).await;
    shop.buy("alice", "a").await.is(200);
    shop.post("alice", "/purchase/0", "")
        .await
        .fails(404, "item_not_found");
    let is_well = |answer: &Answer| answer.status == StatusCode::OK;
    let well = shop.until_answered("/healthz", is_well).await;
    assert_eq!(well.json(), json!({"success": true}));
    // Others are counted as they happen, but these when the resolver has looked.
    let has_looked = |metrics: &Answer| metrics.text.contains("checkout_refunds_due ");
    let metrics = shop.until_answered("/metrics", has_looked).await.text;
    for line in [
        r#"checkout_purchases_total{outcome="confirmed"} 1"#,
        r#"checkout_purchases_total{outcome="item_not_found"} 1"#,
        r#"checkout_charges_total{outcome="succeeded"} 1"#,
        "checkout_purchase_seconds_count 2",
        "# TYPE checkout_purchase_seconds histogram",
        "checkout_payment_checks ",
        "checkout_refunds_due ",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let ours = |items: &Answer| {
        let items = items.json()["items"].as_array().cloned();
        let is_ours = |item: &Value| item["itemId"] == shop.item_id;
        items.unwrap_or_default().into_iter().find(is_ours)
    };
    let is_sold = |items: &Answer| ours(items).is_some_and(|item| item["inventory"] == 6);
    let items = shop.until_answered("/items", is_sold).await;
    let item = ours(&items).expect("the last look");
    assert_eq!(
        (&item["stock"], &item["state"]),
        (&json!(7), &json!("on_sale"))
    );
    assert!(items.json()["serverTime"].is_string());
}

#[tokio::test]
async fn pages_may_load_nothing_from_elsewhere() {
    let shop = Shop::open(1).await;
    for path in [
        "/",
        "/operator",
        "/shop.js",
        "/common.js",
        "/operator.js",
        "/style.css",
    ] {
        let page = shop.call(Method::GET, path, With::default()).await;
        assert_eq!(page.status, 200);
        assert!(
            page.headers["content-security-policy"]
                .to_str()
                .is_ok_and(|policy| policy.starts_with("default-src 'self'"))
        );
        assert!(
            !page
                .text
                .replace("http://www.w3.org/2000/svg", "")
                .contains("http"),
            "{path}"
        );
    }
}
