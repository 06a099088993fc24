//! Exactly as many units are sold as there are, whatever the shape of the storm.

use storm::Call;

use crate::shop::{CROWD, Shop, answer, refused, sold};
use crate::strategy::{Strategy, under_each_strategy};

under_each_strategy!(
    one_unit,
    a_hundred_units,
    ten_thousand_units,
    more_units_than_buyers,
    quantities_from_one_to_five,
    many_items_at_once,
);

/// Everybody wants one.
async fn sells_exactly(shop: Shop, units: usize, buyers: usize) {
    let item_id = shop.item(units as i64).await;
    let done = shop
        .rush(
            CROWD,
            (0..buyers).map(|n| Call::buy(item_id, format!("user {n}"))),
        )
        .await;
    assert_eq!(sold(&done), units);
    assert_eq!(refused(&done, "out_of_stock"), buyers - units);
    assert_eq!(shop.inventory(item_id).await, 0);
    shop.assert_acknowledged(&done).await;
    shop.assert_sound().await;
}

async fn one_unit(strategy: Strategy) {
    sells_exactly(
        Shop::open_under(strategy, CROWD).await,
        1,
        strategy.share(3_000),
    )
    .await;
}

async fn a_hundred_units(strategy: Strategy) {
    sells_exactly(
        Shop::open_under(strategy, CROWD).await,
        100,
        strategy.share(5_000),
    )
    .await;
}

async fn ten_thousand_units(strategy: Strategy) {
    let shop = Shop::open_under(strategy, CROWD).await;
    // Ten thousand commits one after the other take their time if each waits for the disk.
    shop.run(&format!(
        "ALTER DATABASE {} SET synchronous_commit = off",
        shop.name
    ))
    .await;
    sells_exactly(shop, strategy.share(10_000), strategy.share(10_500)).await;
}

async fn more_units_than_buyers(strategy: Strategy) {
    let shop = Shop::open_under(strategy, CROWD).await;
    let item_id = shop.item(1_000).await;
    let done = shop
        .rush(
            CROWD,
            (0..600).map(|n| Call::buy(item_id, format!("user {n}"))),
        )
        .await;
    assert_eq!(sold(&done), 600);
    assert_eq!(shop.inventory(item_id).await, 400);
    shop.assert_acknowledged(&done).await;
    shop.assert_sound().await;
}

async fn quantities_from_one_to_five(strategy: Strategy) {
    const UNITS: i64 = 2_000;
    let shop = Shop::open_under(strategy, CROWD).await;
    let item_id = shop.item(UNITS).await;
    let buy = |user_id: String, quantity| Call::Purchase {
        item_id,
        user_id,
        quantity,
        key: None,
    };
    // On average 3 each: half as many again as there are.
    let mut done = shop
        .rush(
            CROWD,
            (0..1_000).map(|n| buy(format!("user {n}"), 1 + n % 5)),
        )
        .await;
    let left = shop.inventory(item_id).await;
    let modest = done
        .iter()
        .filter(|done| answer(done).reason() == "out_of_stock")
        .map(quantity)
        .min();
    assert!(
        left < modest.expect("demand exceeds supply"),
        "{left} are left, but {modest:?} were refused"
    );

    // Later buyers get the units that are left.
    done.extend(
        shop.rush(CROWD, (0..10).map(|n| buy(format!("late user {n}"), 1)))
            .await,
    );
    assert_eq!(
        done.iter()
            .filter(|done| answer(done).success())
            .map(quantity)
            .sum::<i64>(),
        UNITS
    );
    assert_eq!(shop.inventory(item_id).await, 0);
    shop.assert_acknowledged(&done).await;
    shop.assert_sound().await;
}

fn quantity(done: &storm::Done) -> i64 {
    let Call::Purchase { quantity, .. } = done.call else {
        panic!("not a purchase")
    };
    quantity
}

async fn many_items_at_once(strategy: Strategy) {
    const ITEMS: usize = 20;
    let shop = Shop::open_under(strategy, CROWD).await;
    let mut items = Vec::new();
    for _ in 0..ITEMS {
        items.push(shop.item(25).await);
    }
    let done = shop
        .rush(
            CROWD,
            (0..2_000).map(|n| Call::buy(items[n % ITEMS], format!("user {n}"))),
        )
        .await;
    assert_eq!(sold(&done), ITEMS * 25);
    for item_id in items {
        assert_eq!(shop.inventory(item_id).await, 0);
    }
    shop.assert_acknowledged(&done).await;
    shop.assert_sound().await;
}
