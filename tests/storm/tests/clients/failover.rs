//! After a failover, in a restored copy or after a sequence was set back, numbers of orders come
//! again. Nobody's charge pays a stranger's order, and no buyer meets a number that is taken.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use storm::{Answer, Call, Crowd, Done, Pool, connect};
use tokio::task::block_in_place;
use tokio::time::sleep;
use tokio_postgres::{Client, Config};

use crate::cluster::{Cluster, tool};
use crate::room::room_for_a_cluster;
use crate::shop::{Shop, answer, rush, sold, within};
use crate::sql::{ask, audit, run, value};
use crate::strategy::{Strategy, under_each_strategy};

under_each_strategy!(a_sequence_set_back_in_mid_storm_harms_nobody);

const PRICE: i64 = 4_900;
const BUYERS: usize = 100;

async fn open_shop(client: &Client) {
    run(client, "CREATE EXTENSION IF NOT EXISTS flashsale").await;
    run(client, "SELECT flashsale.set_node(1, 3)").await;
    let create = format!("SELECT flashsale.create_item(1000, NULL, {PRICE}, 'EUR', item_id => 1)");
    run(client, &create).await;
}

/// One unit for each of a hundred buyers; returns their ids, which are those of the server's place,
/// and refs.
async fn sell(config: &Config, name: &str) -> Vec<(i64, String)> {
    let pool = Arc::new(Pool::open(config, 20).await.expect("connections"));
    let done = rush(
        &pool,
        (0..BUYERS).map(|n| Call::buy_once(1, format!("{name} {n}"), "key")),
    )
    .await;
    assert_eq!(sold(&done), BUYERS);
    let order = |answer: &Answer| {
        let order_id = answer.order_id().expect("an order id");
        assert_eq!(order_id % 3, 1);
        (order_id, answer.text("order_ref").to_owned())
    };
    done.iter().map(|done| order(answer(done))).collect()
}

async fn orders_in(client: &Client, status: &str) -> i64 {
    let count = "SELECT count(*) FROM flashsale.orders WHERE status = $1";
    value(client, count, &[&status]).await
}

async fn confirm(client: &Client, order_ref: &str, charge: &str) -> Answer {
    ask(
        client,
        &format!("SELECT flashsale.confirm_order('{order_ref}', '{charge}', {PRICE}, 'EUR')"),
    )
    .await
}

/// The gateway reports the charges of orders that are lost, some of whose numbers others have now:
/// each is due for refund under its ref, repeatedly, and pays nobody's order.
async fn assert_lost_charges_are_due(
    client: &Client,
    lost: &[(i64, String)],
    new: &[(i64, String)],
) {
    let ids = |orders: &[(i64, String)]| orders.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>();
    let again = ids(lost).intersection(&ids(new)).count();
    assert!(again > 50, "only {again} numbers came again: shows nothing");
    let reserved = orders_in(client, "reserved").await;
    for _ in 0..2 {
        for (order_id, order_ref) in lost {
            let answer = confirm(client, order_ref, &format!("lost {order_id}")).await;
            assert_eq!(answer.reason(), "order_not_found", "{answer:?}");
            assert!(answer.flag("refund_required"), "{answer:?}");
        }
    }
    assert_eq!(orders_in(client, "reserved").await, reserved);
    assert_eq!(orders_in(client, "confirmed").await, 0);
    let due = "SELECT payment_ref, order_ref, amount, user_id FROM flashsale.refunds_due ORDER BY payment_ref";
    let due = client.query(due, &[]).await.expect("refunds due");
    let due: BTreeSet<(String, String, i64, Option<String>)> = due
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect();
    let expected = lost
        .iter()
        .map(|(id, order_ref)| (format!("lost {id}"), order_ref.clone(), PRICE, None));
    assert_eq!(due, expected.collect());

    for (order_id, order_ref) in new {
        let answer = confirm(client, order_ref, &format!("new {order_id}")).await;
        assert_eq!(answer.text("status"), "confirmed", "{answer:?}");
    }
    assert_eq!(orders_in(client, "confirmed").await, BUYERS as i64);
    assert_eq!(audit(client).await, Vec::<String>::new());
}

/// Keeps a standby from whatever its primary does from now on.
async fn cut_off(standby: &Client) {
    run(standby, "ALTER SYSTEM SET primary_conninfo = ''").await;
    run(standby, "SELECT pg_reload_conf()").await;
    until(
        standby,
        "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)",
    )
    .await;
}

async fn until(client: &Client, query: &str) {
    within(async {
        while !value::<bool>(client, query, &[]).await {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The promoted standby lacks the last orders, and hands their numbers out again.
#[tokio::test(flavor = "multi_thread")]
async fn charges_of_orders_that_a_failover_lost_pay_nobodys_order() {
    let _room = room_for_a_cluster().await;
    let primary = block_in_place(|| Cluster::start(&[]));
    let on_primary = connect(&primary.config).await.expect("the primary");
    open_shop(&on_primary).await;
    let grouped = |cluster: &Cluster| Strategy::Grouped.of(&cluster.config);
    sell(&grouped(&primary), "kept").await;
    let standby = block_in_place(|| Cluster::standby_of(&primary));
    let on_standby = connect(&standby.config).await.expect("the standby");
    let kept = format!("SELECT count(*) = {BUYERS} FROM flashsale.orders");
    until(&on_standby, &kept).await;
    cut_off(&on_standby).await;

    let lost = sell(&grouped(&primary), "lost").await;
    drop(on_primary);
    block_in_place(|| primary.crash());
    run(&on_standby, "SELECT pg_promote(wait_seconds => 600)").await;
    let new = sell(&grouped(&standby), "new").await;
    assert_eq!(orders_in(&on_standby, "reserved").await, 2 * BUYERS as i64);
    assert_lost_charges_are_due(&on_standby, &lost, &new).await;
}

/// A database that is restored lacks what was sold after its dump.
#[tokio::test(flavor = "multi_thread")]
async fn charges_of_orders_that_a_restored_dump_lacks_pay_nobodys_order() {
    let shop = Shop::open(50).await;
    open_shop(&shop.client).await;
    sell(&shop.config, "kept").await;
    let file = env::temp_dir().join(format!("{}.older", shop.name));
    let dumped = tool("pg_dump")
        .args(["-Fc", "--dbname", &shop.name, "--file"])
        .arg(&file)
        .status();
    assert!(dumped.expect("pg_dump").success());
    let lost = sell(&shop.config, "lost").await;

    let restored = shop.sibling().await;
    let status = tool("pg_restore")
        .args(["--exit-on-error", "--dbname", &restored.name])
        .arg(&file)
        .status();
    fs::remove_file(&file).ok();
    assert!(status.expect("pg_restore").success());
    let new = sell(&restored.config, "new").await;
    assert_lost_charges_are_due(&restored.client, &lost, &new).await;
}

/// Orders are deleted, and their numbers come again.
#[tokio::test(flavor = "multi_thread")]
async fn charges_of_orders_whose_numbers_come_again_pay_nobodys_order() {
    let shop = Shop::open(50).await;
    open_shop(&shop.client).await;
    let lost = sell(&shop.config, "lost").await;
    shop.run(
        "SELECT flashsale.cancel_order(order_id) FROM flashsale.orders;
         DELETE FROM flashsale.orders;
         UPDATE flashsale.items SET cancelled_units = 0;
         SELECT setval('flashsale.orders_order_id_seq', 1, false)",
    )
    .await;
    let new = sell(&shop.config, "new").await;
    assert_lost_charges_are_due(&shop.client, &lost, &new).await;
}

/// While a crowd buys, the sequence is set back again and again.
async fn a_sequence_set_back_in_mid_storm_harms_nobody(strategy: Strategy) {
    const CROWD: usize = 64;
    const UNITS: i64 = 600;
    let shop = Shop::open_under(strategy, CROWD + 5).await;
    let item_id = shop.item(UNITS).await;
    let others: Vec<i64> = vec![shop.item(100).await, shop.item(100).await];
    let pool = shop.pool(CROWD).await;
    // From the beginning there are orders whose numbers can come again.
    let early = (0..20).map(|n| Call::buy(others[0], format!("early {n}")));
    assert_eq!(sold(&rush(&pool, early).await), 20);
    let calls = (0..UNITS as usize).flat_map(|n| {
        let other = (n < 200).then(|| Call::buy(others[n % 2], format!("other {n}")));
        let batch = format!(r#"[{{"item_id": {item_id}, "user_id": "batch {n}"}}]"#);
        let batch = (n % 50 == 0).then(|| Call::Batch {
            requests: serde_json::from_str(&batch).expect("JSON"),
        });
        [Some(Call::buy(item_id, format!("user {n}"))), other, batch]
            .into_iter()
            .flatten()
    });
    let storm = tokio::spawn(Crowd::start(&pool, calls.collect::<Vec<_>>()).all());
    let client = shop.connect().await;
    let mut set_back = 0;
    while set_back == 0 || !storm.is_finished() {
        let to = "SELECT setval('flashsale.orders_order_id_seq', greatest(1, (random() * max(order_id))::bigint))
                  FROM flashsale.orders";
        set_back += client.query(to, &[]).await.expect("a move").len();
        sleep(Duration::from_millis(20)).await;
    }
    let done = within(storm).await.expect("the crowd comes home");
    let (batches, single): (Vec<Done>, Vec<Done>) = done
        .into_iter()
        .partition(|done| matches!(done.call, Call::Batch { .. }));
    let errors = batches.iter().filter(|done| done.answer.is_err()).count();
    assert_eq!(errors, 0, "errors of batches");
    assert_eq!(shop.inventory(item_id).await, 0);
    let ids: Vec<i64> = single
        .iter()
        .filter(|done| answer(done).success())
        .map(|done| answer(done).order_id().expect("an order id"))
        .collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    let known = "SELECT count(*) FROM flashsale.orders WHERE order_id = ANY ($1)";
    assert_eq!(shop.value::<i64>(known, &[&ids]).await, ids.len() as i64);
    shop.assert_sound().await;
}
