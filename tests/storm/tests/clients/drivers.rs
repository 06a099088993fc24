//! However a driver sends its parameters, the call resolves, and to the right overload.

use serde_json::Value;
use storm::Answer;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::{ToSql, Type};

use crate::shop::Shop;
use crate::sql::{ask, sqlstate, value};

const UUID: &str = "6b29fc40-ca47-1067-b31d-00dd010662da";

async fn buyer_of(shop: &Shop, answer: &Answer) -> String {
    assert!(answer.success(), "{answer:?}");
    shop.value(
        "SELECT user_id FROM flashsale.orders WHERE order_id = $1",
        &[&answer.order_id()],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn literals_and_named_arguments() {
    let shop = Shop::open(0).await;
    shop.item(100).await;
    let uuid = format!("purchase_item(1, '{UUID}'::uuid)");
    let calls = [
        ("purchase_item(1, 'alice')", "alice"),
        ("purchase_item(1, 'alice'::varchar)", "alice"),
        ("purchase_item(1, 42)", "42"),
        ("purchase_item(1, 42::smallint)", "42"),
        ("purchase_item(1::smallint, 42::bigint, 2::smallint)", "42"),
        ("purchase_item(1, -7)", "-7"),
        (&uuid, UUID),
        ("purchase_item(item_id => 1, user_id => 'alice')", "alice"),
        (
            "purchase_item(user_id => 42, item_id => 1, quantity => 2)",
            "42",
        ),
        (
            "purchase_item(1, user_id => 'alice', idempotency_key => 'a key')",
            "alice",
        ),
        ("purchase_item(1, 42, strategy => 'nowait')", "42"),
        (
            "purchase_item(1, 'alice', 2, 'another key', 'nowait')",
            "alice",
        ),
    ];
    for (call, buyer) in calls {
        let answer = ask(&shop.client, &format!("SELECT flashsale.{call}")).await;
        assert_eq!(buyer_of(&shop, &answer).await, buyer, "{call}");
    }
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_parameters() {
    let shop = Shop::open(0).await;
    shop.item(100).await;
    let two = "SELECT flashsale.purchase_item($1, $2)";
    let uuid = "SELECT flashsale.purchase_item($1, $2::text::uuid)";
    type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);
    let calls: &[(&str, Parameter, Parameter, &str)] = &[
        (two, (&1i64, Type::INT8), (&"alice", Type::TEXT), "alice"),
        (two, (&1i64, Type::INT8), (&"alice", Type::VARCHAR), "alice"),
        (two, (&1i64, Type::INT8), (&"alice", Type::UNKNOWN), "alice"),
        (two, (&1i64, Type::INT8), (&42i64, Type::INT8), "42"),
        (two, (&1i32, Type::INT4), (&42i32, Type::INT4), "42"),
        (two, (&1i16, Type::INT2), (&42i16, Type::INT2), "42"),
        (uuid, (&1i32, Type::INT4), (&UUID, Type::TEXT), UUID),
    ];
    for (sql, item, user, buyer) in calls {
        let statement = shop
            .client
            .prepare_typed(sql, &[item.1.clone(), user.1.clone()])
            .await
            .expect(sql);
        // Past the fifth run a plan is no longer made for the values of the day.
        for _ in 0..7 {
            let answer: Value = shop
                .client
                .query_one_scalar(&statement, &[item.0, user.0])
                .await
                .expect(sql);
            assert_eq!(
                buyer_of(&shop, &Answer(answer)).await,
                *buyer,
                "{item:?} {user:?}"
            );
        }
    }
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn untyped_parameters_are_texts() {
    let shop = Shop::open(0).await;
    shop.item(100).await;
    let sql = "SELECT flashsale.purchase_item($1, $2, $3, $4, $5)";
    let statement = shop.client.prepare(sql).await.expect(sql);
    assert_eq!(
        statement.params(),
        [Type::INT8, Type::TEXT, Type::INT8, Type::TEXT, Type::TEXT]
    );
    for key in [None, Some("a key")] {
        let answer = value(
            &shop.client,
            sql,
            &[&1i64, &"alice", &2i64, &key, &None::<&str>],
        )
        .await;
        assert_eq!(buyer_of(&shop, &Answer(answer)).await, "alice");
    }
    let order_id: i64 = shop
        .value("SELECT max(order_id) FROM flashsale.orders", &[])
        .await;
    let order_ref: String = shop
        .value(
            "SELECT flashsale.get_order($1::bigint) ->> 'order_ref'",
            &[&order_id],
        )
        .await;
    let digits = order_id.to_string();
    let calls: [(&str, &[&(dyn ToSql + Sync)]); 9] = [
        ("SELECT flashsale.begin_payment($1)", &[&digits]),
        ("SELECT flashsale.begin_payment($1)", &[&order_ref]),
        ("SELECT flashsale.begin_payment($1::bigint)", &[&order_id]),
        (
            "SELECT flashsale.confirm_order($1, $2, $3, $4)",
            &[&order_ref, &"a charge", &5i64, &"eur"],
        ),
        (
            "SELECT flashsale.confirm_order(order_id => $1, payment_ref => $2)",
            &[&order_id, &"a charge"],
        ),
        (
            "SELECT flashsale.cancel_order($1::bigint - 1, $2)",
            &[&order_id, &"a reason"],
        ),
        ("SELECT flashsale.get_order($1)", &[&order_ref]),
        ("SELECT flashsale.user_orders($1)", &[&"alice"]),
        ("SELECT flashsale.find_payment($1)", &[&"a charge"]),
    ];
    for (sql, parameters) in calls {
        let answer = Answer(value(&shop.client, sql, parameters).await);
        assert!(answer.success(), "{sql}: {answer:?}");
    }
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_simple_protocol() {
    let shop = Shop::open(0).await;
    shop.item(100).await;
    // Both statements are one implicit transaction.
    let sql = "SELECT flashsale.purchase_item(1, 'alice') ->> 'success';
               SELECT flashsale.purchase_item(1, 42) ->> 'success'";
    let messages = shop.client.simple_query(sql).await.expect(sql);
    let successes: Vec<_> = messages
        .iter()
        .filter_map(|message| {
            if let SimpleQueryMessage::Row(row) = message {
                row.get(0)
            } else {
                None
            }
        })
        .collect();
    assert_eq!(successes, ["true", "true"]);
    assert_eq!(shop.inventory(1).await, 98);
    assert_eq!(
        sqlstate(&shop.client, &format!("{sql}; SELECT 1 / 0")).await,
        "22012"
    );
    assert_eq!(shop.inventory(1).await, 98);
    shop.assert_sound().await;
}

/// The overloads of a bad argument raise alike.
#[tokio::test(flavor = "multi_thread")]
async fn a_null_user_is_refused_by_each_overload() {
    let shop = Shop::open(0).await;
    shop.item(1).await;
    for kind in ["text", "bigint", "uuid"] {
        let call = format!("SELECT flashsale.purchase_item(1, NULL::{kind})");
        assert_eq!(sqlstate(&shop.client, &call).await, "22004", "{call}");
    }
    assert_eq!(shop.inventory(1).await, 1);
}
