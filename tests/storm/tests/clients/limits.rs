//! No user gets more than the limit, however often they click.

use std::collections::HashMap;

use storm::{Call, Done};

use crate::shop::{CROWD, Shop, answer, refused, sold};
use crate::strategy::{Strategy, under_each_strategy};

under_each_strategy!(
    clicks_of_one_user_meet,
    everybody_reaches_the_limit_and_no_further,
    the_limit_holds_while_the_stock_runs_out,
);

const LIMIT: usize = 3;
const CLICKS: usize = 8;

fn clicks(item_id: i64, users: usize) -> impl Iterator<Item = Call> {
    // Neighbours in the crowd are the same user, so that clicks of one user compete.
    (0..users * CLICKS).map(move |n| Call::buy(item_id, format!("user {}", n / CLICKS)))
}

fn units_by_user(done: &[Done]) -> HashMap<&str, usize> {
    let mut units = HashMap::new();
    for done in done.iter().filter(|done| answer(done).success()) {
        let Call::Purchase { user_id, .. } = &done.call else {
            panic!("not a purchase")
        };
        *units.entry(user_id.as_str()).or_default() += 1;
    }
    units
}

async fn limited_item(shop: &Shop, units: usize) -> i64 {
    let create = "SELECT flashsale.create_item($1, max_per_user => $2)";
    shop.value(create, &[&(units as i64), &(LIMIT as i32)])
        .await
}

/// Each user buys a separate item, so that only their own clicks compete: a purchase that counted
/// holdings before it holds the row would count too few.
async fn clicks_of_one_user_meet(strategy: Strategy) {
    const ITEMS: usize = 300;
    let shop = Shop::open_under(strategy, CROWD).await;
    let mut items = Vec::new();
    for _ in 0..ITEMS {
        items.push(limited_item(&shop, 100).await);
    }
    let done = shop
        .rush(CROWD, items.iter().flat_map(|&item_id| clicks(item_id, 1)))
        .await;
    assert_eq!(sold(&done), ITEMS * LIMIT);
    assert_eq!(
        refused(&done, "user_limit_reached"),
        ITEMS * (CLICKS - LIMIT)
    );
    let most = "SELECT max(units) FROM (SELECT sum(quantity)::bigint AS units
                FROM flashsale.orders GROUP BY item_id) o";
    assert_eq!(shop.value::<i64>(most, &[]).await, LIMIT as i64);
    shop.assert_acknowledged(&done).await;
    shop.assert_sound().await;
}

async fn everybody_reaches_the_limit_and_no_further(strategy: Strategy) {
    const USERS: usize = 150;
    let shop = Shop::open_under(strategy, CROWD).await;
    let item_id = limited_item(&shop, 10_000).await;
    let done = shop.rush(CROWD, clicks(item_id, USERS)).await;
    let units = units_by_user(&done);
    assert_eq!(units.len(), USERS);
    assert!(units.values().all(|&units| units == LIMIT), "{units:?}");
    assert_eq!(
        refused(&done, "user_limit_reached"),
        USERS * (CLICKS - LIMIT)
    );
    shop.assert_acknowledged(&done).await;
    shop.assert_sound().await;
}

async fn the_limit_holds_while_the_stock_runs_out(strategy: Strategy) {
    const UNITS: usize = 200;
    let shop = Shop::open_under(strategy, CROWD).await;
    let item_id = limited_item(&shop, UNITS).await;
    let done = shop.rush(CROWD, clicks(item_id, 150)).await;
    assert_eq!(sold(&done), UNITS);
    let units = units_by_user(&done);
    assert!(units.values().all(|&units| units <= LIMIT), "{units:?}");
    assert_eq!(
        refused(&done, "user_limit_reached") + refused(&done, "out_of_stock") + UNITS,
        done.len()
    );
    shop.assert_acknowledged(&done).await;
    shop.assert_sound().await;
}
