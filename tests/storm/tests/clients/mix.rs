//! Buyers of one item who purchase each in another way, and in batches, all at once.

use std::sync::Arc;

use serde_json::json;
use storm::{Call, Crowd, Pool};

use crate::batch::buy_in_batches;
use crate::shop::{Shop, answer, sold, within};
use crate::strategy::Strategy;
use crate::visit::visitors_through;

const CONNECTIONS: usize = 24;

async fn pools(shop: &Shop) -> Vec<Arc<Pool>> {
    let mut pools = Vec::new();
    for strategy in Strategy::ALL {
        pools.push(shop.pool_under(strategy, CONNECTIONS).await);
    }
    pools
}

/// Each buyer wants one unit, and so do the users whose clicks are gathered in batches.
#[tokio::test(flavor = "multi_thread")]
async fn all_strategies_sell_one_item_exactly() {
    const EACH: usize = 500;
    /// More than others want, and less than all.
    const UNITS: usize = 4 * EACH + EACH / 2;
    let shop = Shop::grouped(&[]).await;
    let item_id = shop.item(UNITS as i64).await;
    let pools = pools(&shop).await;
    let crowds = Strategy::ALL.iter().zip(&pools).map(|(strategy, pool)| {
        let calls = (0..EACH).map(move |n| Call::buy(item_id, format!("{} {n}", strategy.name())));
        tokio::spawn(Crowd::start(pool, calls).all())
    });
    let crowds: Vec<_> = crowds.collect();
    let gathered =
        (0..EACH).map(|n| json!({ "item_id": item_id, "user_id": format!("gathered {n}") }));
    let in_batches = buy_in_batches(&pools[0], gathered.collect(), 40).await;
    let mut done = Vec::new();
    for crowd in crowds {
        done.extend(within(crowd).await.expect("the crowd comes home"));
    }
    assert_eq!(done.len() + in_batches.len(), 5 * EACH);
    let in_batches = in_batches.iter().filter(|answer| answer.success()).count();
    assert_eq!(sold(&done) + in_batches, UNITS);
    for strategy in Strategy::ALL {
        let name = strategy.name();
        let bought = done.iter().filter(|done| {
            let Call::Purchase { user_id, .. } = &done.call else {
                return false;
            };
            user_id.starts_with(name) && answer(done).success()
        });
        assert!(bought.count() > 0, "nobody bought under {name}");
    }
    assert_eq!(shop.inventory(item_id).await, 0);
    shop.assert_sound().await;
}

/// One user clicks everywhere at once, under one key or up to the limit.
#[tokio::test(flavor = "multi_thread")]
async fn keys_and_limits_hold_across_strategies() {
    const USERS: usize = 150;
    let shop = Shop::grouped(&[]).await;
    let keyed = shop.item(1_000).await;
    let create = "SELECT flashsale.create_item(1000, max_per_user => 2)";
    let limited: i64 = shop.value(create, &[]).await;
    let pools = pools(&shop).await;
    let mut crowds = Vec::new();
    for pool in &pools {
        let calls = (0..USERS).flat_map(move |n| {
            let user_id = format!("user {n}");
            [
                Call::buy_once(keyed, &user_id, "my click"),
                Call::buy(limited, &user_id),
            ]
        });
        crowds.push(tokio::spawn(Crowd::start(pool, calls).all()));
    }
    let mut done = Vec::new();
    for crowd in crowds {
        done.extend(within(crowd).await.expect("the crowd comes home"));
    }
    assert!(
        done.iter().all(|done| {
            answer(done).success() || answer(done).reason() == "user_limit_reached"
        })
    );
    assert_eq!(shop.inventory(keyed).await as usize, 1_000 - USERS);
    assert_eq!(shop.inventory(limited).await as usize, 1_000 - 2 * USERS);
    let most = "SELECT max(units)::bigint FROM (SELECT sum(quantity) AS units
         FROM flashsale.orders GROUP BY item_id, user_id) o";
    assert_eq!(shop.value::<i64>(most, &[]).await, 2);
    shop.assert_sound().await;
}

/// Whole visits: purchases, payments, cancels and expiry through every strategy at once.
#[tokio::test(flavor = "multi_thread")]
async fn visits_under_all_strategies_at_once() {
    let shop = Shop::grouped(&[]).await;
    let create = "SELECT flashsale.create_item(200, unit_price => 1999, currency => 'eur')";
    let item_id: i64 = shop.value(create, &[]).await;
    let pools = pools(&shop).await;
    let traces = visitors_through(&shop, &pools, item_id, 0..1_000).await;
    let confirmed = traces
        .iter()
        .filter(|trace| trace.status == "confirmed")
        .count();
    assert!(confirmed > 0);
    assert_eq!(shop.inventory(item_id).await, 200 - confirmed as i64);
    shop.assert_sound().await;
}
