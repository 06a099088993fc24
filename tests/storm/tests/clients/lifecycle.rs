//! Orders through their whole lives under load: units come back once, no charge is forgotten.

use std::collections::BTreeSet;

use storm::Answer;

use crate::shop::{CROWD, Shop};
use crate::sql::ask;
use crate::strategy::{Strategy, under_each_strategy};
use crate::visit::{Trace, visitors};

under_each_strategy!(
    every_order_and_charge_ends_as_its_buyer_was_told,
    refunds_happen_once,
);

/// The pool, two reconcilers, the desk, and one to spare.
const CONNECTIONS: usize = CROWD + 4;
const UNITS: i64 = 250;

async fn priced_item(shop: &Shop) -> i64 {
    let create = "SELECT flashsale.create_item($1, unit_price => 1999, currency => 'eur')";
    shop.value(create, &[&UNITS]).await
}

/// The tables have every order and charge as its buyer's answers say, and nothing else.
async fn assert_as_told(shop: &Shop, traces: &[Trace]) {
    let orders = "SELECT order_id, user_id, status FROM flashsale.orders";
    let rows = shop.client.query(orders, &[]).await.expect("orders");
    let rows: BTreeSet<(i64, String, String)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    let told = traces.iter().map(|trace| {
        (
            trace.order_id,
            trace.user_id.clone(),
            trace.status.to_owned(),
        )
    });
    assert_eq!(rows, told.collect(), "orders");

    let payments =
        "SELECT coalesce(payment_ref, 'without a ref'), order_id, status FROM flashsale.payments";
    let rows = shop.client.query(payments, &[]).await.expect("payments");
    let mut rows: Vec<(String, i64, String)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    let charges = traces.iter().flat_map(|trace| {
        let charge = |(payment_ref, fate): &(String, &str)| {
            (payment_ref.clone(), trace.order_id, (*fate).to_owned())
        };
        trace.charges.iter().map(charge)
    });
    let mut told: Vec<(String, i64, String)> = charges.collect();
    rows.sort();
    told.sort();
    assert_eq!(rows, told, "payments");
}

fn count(traces: &[Trace], status: &str) -> usize {
    traces.iter().filter(|trace| trace.status == status).count()
}

async fn every_order_and_charge_ends_as_its_buyer_was_told(strategy: Strategy) {
    let shop = Shop::open_under(strategy, CONNECTIONS).await;
    let item_id = priced_item(&shop).await;
    let pool = shop.pool(CROWD).await;
    let visits = if strategy == Strategy::Nowait {
        1_500
    } else {
        600
    };
    let traces = visitors(&shop, &pool, item_id, 0..visits).await;
    assert_as_told(&shop, &traces).await;
    shop.assert_sound().await;

    // More orders than units: some came from units given back.
    assert!(traces.len() as i64 >= UNITS, "{} orders", traces.len());
    assert_eq!(
        shop.inventory(item_id).await,
        UNITS - count(&traces, "confirmed") as i64
    );
    for status in ["confirmed", "cancelled", "expired"] {
        assert!(count(&traces, status) > 0, "no order was {status}");
    }
}

async fn refunds_happen_once(strategy: Strategy) {
    let shop = Shop::open_under(strategy, CONNECTIONS).await;
    let item_id = priced_item(&shop).await;
    let pool = shop.pool(CROWD).await;
    let traces = visitors(&shop, &pool, item_id, 0..600).await;
    let confirmed: Vec<_> = traces
        .iter()
        .filter(|trace| trace.status == "confirmed")
        .collect();
    let free = shop.inventory(item_id).await;

    // Half of the confirmed orders are refunded, and every other one of these is written off.
    let (one, other) = (shop.connect().await, shop.connect().await);
    let (mut restored, mut written_off) = (0, 0);
    for (n, trace) in confirmed.iter().step_by(2).enumerate() {
        let refund = format!(
            "SELECT flashsale.refund_order({}, restock => {})",
            trace.order_id,
            n % 2 == 0
        );
        assert_one_of_two_did_it(&settle_both(&one, &other, &refund).await);
        *if n % 2 == 0 {
            &mut restored
        } else {
            &mut written_off
        } += 1;
    }
    assert_eq!(shop.inventory(item_id).await, free + restored);
    let stock: i64 = shop
        .value(
            "SELECT stock FROM flashsale.items WHERE item_id = $1",
            &[&item_id],
        )
        .await;
    assert_eq!(stock, UNITS - written_off);

    let due = shop
        .client
        .query("SELECT payment_ref FROM flashsale.refunds_due", &[])
        .await
        .expect("refunds due");
    assert!(!due.is_empty());
    for payment_ref in due.iter().map(|row| row.get::<_, String>(0)) {
        let refund =
            format!("SELECT flashsale.refund_payment('{payment_ref}', 'refund of {payment_ref}')");
        assert_one_of_two_did_it(&settle_both(&one, &other, &refund).await);
    }
    assert_eq!(
        shop.value::<i64>("SELECT count(*) FROM flashsale.refunds_due", &[])
            .await,
        0
    );
    shop.assert_sound().await;
}

/// The same statement from two sessions at once, each until it is not busy.
async fn settle_both(
    one: &tokio_postgres::Client,
    other: &tokio_postgres::Client,
    sql: &str,
) -> [Answer; 2] {
    let settle = async |client| loop {
        let answer = ask(client, sql).await;
        if !answer.retryable() {
            return answer;
        }
    };
    tokio::join!(settle(one), settle(other)).into()
}

fn assert_one_of_two_did_it(answers: &[Answer; 2]) {
    assert!(answers.iter().all(Answer::success), "{answers:?}");
    let again = answers
        .iter()
        .filter(|answer| answer.flag("already_refunded"))
        .count();
    assert_eq!(again, 1, "{answers:?}");
}
