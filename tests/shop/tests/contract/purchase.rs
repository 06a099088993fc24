//! POST /purchase/{item_id}: each status of its contract.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use shop::stage::{Setup, session_of};
use storm::wire::Wire;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::shopper::{Shop, With};

const DECLINED: &str = r#"{"paymentMethod": "pm_card_chargeDeclined"}"#;
/// Whether an order of the item is being paid.
const PAYING: &str =
    "SELECT EXISTS (SELECT FROM flashsale.orders WHERE item_id = $1 AND paying_at IS NOT NULL)";

#[tokio::test]
async fn a_purchase_is_paid_and_confirmed() {
    let shop = Shop::open(3).await;
    let bought = shop.buy("alice", "a").await.is(200);
    let order_id = bought["orderId"].as_i64().expect("an order");
    assert_eq!(
        bought,
        json!({"success": true, "orderId": order_id, "remainingInventory": 2, "status": "confirmed"})
    );
    let order = shop
        .get("alice", &format!("/orders/{order_id}"))
        .await
        .is(200);
    assert_eq!(
        (&order["status"], &order["total"], &order["currency"]),
        (&json!("confirmed"), &json!(49900), &json!("EUR"))
    );
    assert_eq!(shop.ledgers().await.confirmed(), 1);
}

#[tokio::test]
async fn a_quantity_is_charged_whole() {
    let shop = Shop::open(5).await;
    let bought = shop
        .buy_with("alice", "a", r#"{"quantity": 3}"#)
        .await
        .is(200);
    assert_eq!(bought["remainingInventory"], 2);
    let amounts: Vec<i64> = shop
        .stage
        .book()
        .intents()
        .map(|intent| intent.amount_received)
        .collect();
    assert_eq!(amounts, [3 * 49_900]);
}

#[tokio::test]
async fn a_purchase_without_key_and_body_is_one_of_its_own() {
    let shop = Shop::open(3).await;
    for remaining in [2, 1] {
        let with = With {
            cookie: Some(session_of("alice")),
            ..With::default()
        };
        let bought = shop
            .call(Method::POST, &shop.purchase_path(), with)
            .await
            .is(200);
        assert_eq!(bought["remainingInventory"], remaining);
    }
    assert_eq!(shop.ledgers().await.confirmed(), 2);
}

#[tokio::test]
async fn the_same_key_is_the_same_purchase() {
    let shop = Shop::open(3).await;
    let first = shop.buy("alice", "a").await.is(200);
    let again = shop.buy("alice", "a").await.is(200);
    assert_eq!(first["orderId"], again["orderId"]);
    let other = shop.buy("bob", "a").await.is(200);
    assert_ne!(
        first["orderId"], other["orderId"],
        "a key belongs to its user"
    );
    shop.buy_with("alice", "a", r#"{"quantity": 2}"#)
        .await
        .fails(409, "idempotency_key_reused");
    assert_eq!(shop.ledgers().await.confirmed(), 2);
    assert_eq!(shop.stage.book().intents().count(), 2);
}

#[tokio::test]
async fn a_key_used_ten_times_at_once_is_charged_once() {
    let shop = Arc::new(Shop::with(20, Setup::slow()).await);
    let mut clicks = JoinSet::new();
    for _ in 0..10 {
        let shop = shop.clone();
        clicks.spawn(async move { shop.buy("alice", "a").await.json()["orderId"].clone() });
    }
    let orders = clicks.join_all().await;
    assert!(
        orders.iter().all(|id| id.is_i64() && id == &orders[0]),
        "{orders:?}"
    );
    assert_eq!(shop.ledgers().await.confirmed(), 1);
    assert_eq!(shop.stage.book().intents().count(), 1);
}

#[tokio::test]
async fn a_repeat_without_a_card_does_not_end_a_payment_that_goes_on() {
    let shop = Arc::new(Shop::with(1, Setup::slow()).await);
    let paying = tokio::spawn({
        let shop = shop.clone();
        async move { shop.buy("alice", "a").await.status.as_u16() }
    });
    shop.until(PAYING).await;
    let repeat = shop
        .buy_with("alice", "a", r#"{"paymentMethod": ""}"#)
        .await
        .status
        .as_u16();
    let first = paying.await.expect("an answer");
    // Either the repeat ruled the charge out before it was made, or the charge pays for both. Who
    // comes when the order is closed is told 402 as well.
    assert!(
        matches!((first, repeat), (409 | 402, 402) | (200, 200)),
        "{first} {repeat}"
    );
    shop.ledgers().await;
    assert_eq!(shop.stage.book().refunds().count(), 0);
}

#[tokio::test]
async fn a_declined_card_gives_the_unit_back_and_is_told_again() {
    let shop = Shop::open(1).await;
    let order_id = shop
        .buy_with("alice", "a", DECLINED)
        .await
        .fails(402, "card_declined")["orderId"]
        .clone();
    let again = shop
        .buy_with("alice", "a", DECLINED)
        .await
        .fails(402, "card_declined");
    assert_eq!(again["orderId"], order_id);
    let order = shop
        .get("alice", &format!("/orders/{order_id}"))
        .await
        .is(200);
    assert_eq!(
        (&order["status"], &order["closeReason"]),
        (&json!("cancelled"), &json!("card_declined"))
    );
    shop.buy("bob", "b").await.is(200);
    assert_eq!(shop.ledgers().await.confirmed(), 1);
}

#[tokio::test]
async fn a_card_that_does_not_exist_is_declined() {
    let shop = Shop::open(1).await;
    shop.buy_with("alice", "a", r#"{"paymentMethod": "pm_nonsense"}"#)
        .await
        .fails(402, "card_declined");
    assert_eq!(shop.ledgers().await.free(), 1);
}

#[tokio::test]
async fn a_card_that_asks_its_owner_for_more_holds_no_unit() {
    let shop = Shop::open(1).await;
    let asks = r#"{"paymentMethod": "pm_card_authenticationRequired"}"#;
    shop.buy_with("alice", "a", asks)
        .await
        .fails(402, "card_declined");
    shop.buy("bob", "b").await.is(200);
    assert_eq!(shop.ledgers().await.confirmed(), 1);
}

#[tokio::test]
async fn an_order_that_another_charge_paid_meanwhile_is_paid_and_the_second_given_back() {
    let shop = Arc::new(Shop::open(1).await);
    shop.stage.gateway.stop();
    let buyer = shop.clone();
    let click = tokio::spawn(async move { buyer.buy("alice", "a").await });
    shop.until(PAYING).await;
    let confirm = "SELECT flashsale.confirm_order(order_id, 'at the counter', 49900, 'EUR') ->> 'success' \
                   FROM flashsale.orders WHERE item_id = $1";
    assert_eq!(shop.sql::<String>(confirm, shop.item_id).await, "true");
    shop.stage.gateway.go_on();
    assert_eq!(
        click.await.expect("an answer").is(200)["status"],
        "confirmed"
    );
    let deadline = Instant::now() + Duration::from_secs(60);
    while shop.stage.book().refunds().count() == 0 {
        assert!(
            Instant::now() < deadline,
            "the card's charge is not given back"
        );
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(
        (charges(&shop), shop.stage.book().refunds().count()),
        (1, 1)
    );
}

#[tokio::test]
async fn shops_that_share_an_account_share_no_charge() {
    let mut one = Shop::open(1).await;
    assert_eq!(one.buy("alice", "a").await.is(200)["orderId"], 1);
    one.stage.apps[0].kill();
    let account = ("STRIPE_API_BASE", one.stage.gateway.url(""));
    // Another shop; and the first one's database made anew, so that order 1 comes again.
    for (shop_id, charged_before) in [("another", 1), ("stage", 2)] {
        let settings = vec![account.clone(), ("SHOP_ID", shop_id.to_owned())];
        let other = Shop::with(
            1,
            Setup {
                settings,
                ..Setup::default()
            },
        )
        .await;
        assert_eq!(charges(&one), charged_before);
        assert_eq!(other.buy("alice", "a").await.is(200)["orderId"], 1);
        assert_eq!(
            charges(&one),
            charged_before + 1,
            "paid by a charge of its own"
        );
    }
}

fn charges(shop: &Shop) -> usize {
    shop.stage
        .book()
        .intents()
        .filter(|intent| intent.amount_received > 0)
        .count()
}

#[tokio::test]
async fn sold_out_is_409_with_what_is_left() {
    let shop = Shop::open(2).await;
    let few = shop
        .buy_with("alice", "a", r#"{"quantity": 3}"#)
        .await
        .fails(409, "out_of_stock");
    assert_eq!(few["remainingInventory"], 2);
    shop.buy_with("alice", "b", r#"{"quantity": 2}"#)
        .await
        .is(200);
    let none = shop.buy("bob", "a").await.fails(409, "out_of_stock");
    assert_eq!(none["remainingInventory"], 0);
    assert_eq!(
        shop.buy_with("alice", "b", r#"{"quantity": 2}"#)
            .await
            .status,
        200,
        "a repeat on a sold-out item"
    );
}

#[tokio::test]
async fn the_limit_is_409_with_the_orders_that_fill_it() {
    let shop = Shop::open(5).await;
    shop.set("max_per_user = 1").await;
    let first = shop.buy("alice", "a").await.is(200);
    let refused = shop
        .buy("alice", "b")
        .await
        .fails(409, "user_limit_reached");
    assert_eq!(
        (&refused["orderIds"], &refused["maxPerUser"]),
        (&json!([first["orderId"]]), &json!(1))
    );
}

#[tokio::test]
async fn outside_of_the_sale_it_is_409() {
    let shop = Shop::open(5).await;
    shop.set("starts_at = now() + interval '1 hour'").await;
    let early = shop.buy("alice", "a").await.fails(409, "sale_not_started");
    assert!(early["startsAt"].is_string());
    shop.set("starts_at = NULL, ends_at = now()").await;
    shop.buy("alice", "a").await.fails(409, "sale_ended");
    shop.set("ends_at = NULL").await;
    shop.operate(&format!("/operator/items/{}/pause", shop.item_id), "")
        .await
        .is(200);
    shop.buy("alice", "a").await.fails(409, "sale_paused");
    assert_eq!(shop.ledgers().await.free(), 5);
}

#[tokio::test]
async fn an_item_without_a_price_is_not_sold() {
    let shop = Shop::open(5).await;
    shop.set("unit_price = NULL, currency = NULL").await;
    shop.buy("alice", "a").await.fails(409, "not_for_sale");
    let held: i64 = shop
        .stage
        .database
        .value(
            "SELECT count(*) FROM flashsale.orders WHERE item_id = $1 AND units_held > 0",
            &[&shop.item_id],
        )
        .await;
    assert_eq!(held, 0);
}

#[tokio::test]
async fn an_item_that_does_not_exist_is_404() {
    let shop = Shop::open(1).await;
    for id in ["0", "-1", "9007199254740993"] {
        shop.post("alice", &format!("/purchase/{id}"), "")
            .await
            .fails(404, "item_not_found");
    }
}

#[tokio::test]
async fn a_locked_item_is_503_with_retry_after() {
    let shop = Shop::open(1).await;
    let holder = shop.stage.database.owner().await;
    holder.batch_execute("BEGIN").await.expect("a transaction");
    let lock = "SELECT FROM flashsale.items WHERE item_id = $1 FOR UPDATE";
    holder
        .execute(lock, &[&shop.item_id])
        .await
        .expect("the row");
    let answer = shop.buy("alice", "a").await;
    let body = answer.fails(503, "busy");
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(body["idempotencyKey"], "a");
    holder.batch_execute("ROLLBACK").await.expect("its end");
    shop.buy("alice", "a").await.is(200);
    assert_eq!(shop.ledgers().await.confirmed(), 1);
}

/// The buyer sent no key, so only the app knows under which it may have reserved.
#[tokio::test]
async fn a_purchase_whose_answer_was_lost_is_repeated_with_the_key_of_the_answer() {
    let wire = Wire::open().await;
    let setup = Setup {
        database_at: Some(wire.address),
        settings: vec![("GATHER_CONNECTIONS", "1".to_owned())],
        ..Setup::default()
    };
    let shop = Shop::with(5, setup).await;
    for (user, path) in [("alice", "purchase"), ("bob", "reserve")] {
        let path = format!("/{path}/{}", shop.item_id);
        shop.post("carol", &path, "").await.is(200);
        wire.fall_silent();
        let lost = shop.post(user, &path, "").await;
        let body = lost.fails(500, "outcome_unknown");
        assert!(!lost.headers.contains_key("retry-after"), "{lost:?}");
        let key = body["idempotencyKey"].as_str().expect("a key");
        let repeat = || {
            let with = With {
                cookie: Some(session_of(user)),
                key: Some(key),
                body: Some(String::new()),
            };
            shop.call(Method::POST, &path, with)
        };
        let outcome = timeout(Duration::from_secs(60), async {
            while repeat().await.status != 200 {} // other connections are silent, too
        });
        outcome.await.expect("the purchase goes on");
        let sql = "SELECT count(*) FROM flashsale.orders WHERE user_id = $1";
        let orders: i64 = shop.stage.database.value(sql, &[&user]).await;
        assert_eq!(orders, 1, "of {user}");
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_202_and_becomes_known() {
    let held = [
        ("GATEWAY_TIMEOUTS", "0.4"),
        ("GATEWAY_HOLD_MS", "600000"),
        ("GATEWAY_SEED", "1"),
    ];
    let faults = held.map(|(name, value)| (name, value.to_owned())).to_vec();
    let settings = vec![("GATEWAY_TIMEOUT_MS", "300".to_owned())];
    let shop = Shop::with(
        20,
        Setup {
            faults,
            settings,
            ..Setup::default()
        },
    )
    .await;
    let mut unknown = Vec::new();
    for n in 0..8 {
        let answer = shop.buy(&format!("user {n}"), "a").await;
        if answer.status == 202 {
            unknown.push((n, answer.is(202)));
        } else {
            answer.is(200);
        }
    }
    assert!(!unknown.is_empty());
    // As if the payment window had passed.
    let overdue = "UPDATE flashsale.orders SET payment_deadline = now() WHERE status = 'paying'";
    let owner = shop.stage.database.owner().await;
    owner.batch_execute(overdue).await.expect("late payments");
    shop.ledgers().await;
    for (n, bought) in unknown {
        assert_eq!(bought["status"], "paying");
        let order = shop
            .get(
                &format!("user {n}"),
                &format!("/orders/{}", bought["orderId"]),
            )
            .await
            .is(200);
        assert!(
            order["status"] == "confirmed" || order["status"] == "cancelled",
            "{order}"
        );
    }
}

#[tokio::test]
async fn a_charge_whose_answer_is_lost_is_confirmed_all_the_same() {
    let faults = vec![
        ("GATEWAY_LOST", "0.5".to_owned()),
        ("GATEWAY_SEED", "3".to_owned()),
    ];
    // There is time enough to ask until an answer is not lost.
    let setup = Setup {
        faults,
        ..Setup::default()
    };
    let shop = Shop::with(20, setup).await;
    for n in 0..10 {
        shop.buy(&format!("user {n}"), "a").await.is(200);
    }
    let ledgers = shop.ledgers().await;
    assert_eq!((ledgers.confirmed(), ledgers.free()), (10, 10));
}

#[tokio::test]
async fn a_buyer_who_leaves_has_bought_once() {
    let shop = Shop::open(2).await;
    shop.stage.gateway.stop();
    let ordered = shop.until("SELECT count(*) = 1 FROM flashsale.orders WHERE item_id = $1");
    tokio::select! {
        _ = shop.buy("alice", "a") => panic!("the gateway stands still"),
        () = ordered => {}
    }
    shop.stage.gateway.go_on();
    let ledgers = shop.ledgers().await;
    assert_eq!(ledgers.confirmed(), 1, "the purchase went on");
    shop.buy("alice", "a").await.is(200);
    assert_eq!(shop.ledgers().await.confirmed(), 1);
}
