//! A server becomes one of several while it sells.

use std::time::Duration;

use storm::{Call, Crowd};
use tokio::time::sleep;

use crate::shop::{Shop, rush, sold, within};
use crate::sql::{ask, sqlstate};
use crate::strategy::{Strategy, under_each_strategy};

under_each_strategy!(a_server_is_split_in_mid_sale);

const CROWD: usize = 32;
const BUYERS: usize = 400;
const LATER: usize = 50;
/// Where the sequences of both servers go on after the split.
const NUMBER: i64 = 10_000;

/// As docs/api.md says: nobody assigns an id meanwhile.
fn split(node: i64) -> String {
    format!(
        "BEGIN; SET LOCAL flashsale.lock_wait = '10min'; SELECT flashsale.set_node({node}, 4);
         SELECT setval(sequence, {NUMBER}) FROM flashsale.id_sequences(); COMMIT"
    )
}

/// The server to which a router sends an id.
fn home(id: i64) -> i64 {
    match id > NUMBER * 4 {
        true => id % 4,
        false => id % 2,
    }
}

/// Ids and refs of all orders.
async fn orders(shop: &Shop) -> Vec<(i64, String)> {
    let orders = "SELECT order_id, order_id || '-' || ref_code FROM flashsale.orders";
    let rows = shop.client.query(orders, &[]).await.expect("orders");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Every order is found where its id says, and the other server refuses it. The new one takes ids of
/// its remainder from before the split for its own.
async fn assert_orders_are_at(node: i64, shop: &Shop, other: &Shop) {
    for (order_id, order_ref) in orders(shop).await {
        assert_eq!(home(order_id), node, "order {order_id}");
        let look = format!("SELECT flashsale.get_order('{order_ref}')");
        assert!(ask(&shop.client, &look).await.success(), "{order_ref}");
        let expected = match order_id % 4 == node {
            true => "22023",
            false => "",
        };
        assert_eq!(
            sqlstate(&other.client, &look).await,
            expected,
            "{order_ref}"
        );
    }
}

/// Node 1 of 2 becomes node 1 of 4 while a crowd buys, and a new server is node 3 of 4.
async fn a_server_is_split_in_mid_sale(strategy: Strategy) {
    let old = Shop::open_under(strategy, CROWD + 5).await;
    old.run("SELECT flashsale.set_node(1, 2)").await;
    let item_id = old.item((BUYERS + LATER) as i64).await;
    let pool = old.pool(CROWD).await;
    let buyers = (0..BUYERS).map(|n| Call::buy(item_id, format!("user {n}")));
    let crowd = Crowd::start(&pool, buyers);
    within(async {
        let count = "SELECT count(*) FROM flashsale.orders";
        while old.value::<i64>(count, &[]).await < 50 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    old.run(&split(1)).await;
    let mut done = within(crowd.all()).await;
    let later = (0..LATER).map(|n| Call::buy(item_id, format!("later {n}")));
    done.extend(rush(&pool, later).await);
    assert_eq!(sold(&done), BUYERS + LATER);
    old.assert_acknowledged(&done).await;
    old.assert_sound().await;

    let new = old.sibling().await;
    new.run("CREATE EXTENSION flashsale").await;
    new.run(&split(3)).await;
    let item_id = new.item(5).await;
    assert_eq!(home(item_id), 3);
    for n in 0..5 {
        let buy = format!("SELECT flashsale.purchase_item({item_id}, 'user {n}')");
        assert!(ask(&new.client, &buy).await.success());
        assert_eq!(sqlstate(&old.client, &buy).await, "22023");
    }
    new.assert_sound().await;

    let ids = orders(&old).await.into_iter().map(|(order_id, _)| order_id);
    let (later, earlier): (Vec<i64>, Vec<i64>) = ids.partition(|id| *id > NUMBER * 4);
    assert!(earlier.len() >= 50 && later.len() >= LATER);
    assert_orders_are_at(1, &old, &new).await;
    assert_orders_are_at(3, &new, &old).await;
}
