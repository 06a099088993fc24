//! The same idempotency key is the same purchase, also when both clicks arrive at once.

use std::collections::HashMap;

use storm::{Answer, Call, Done};

use crate::shop::{CROWD, Shop, answer};
use crate::strategy::{Strategy, under_each_strategy};

under_each_strategy!(
    twins_share_one_order,
    twins_share_the_last_unit,
    twins_share_an_order_at_the_user_limit,
    a_key_is_not_reused_for_another_quantity,
);

const TWINS: usize = 4;

/// Each user clicks TWINS times under one key; neighbours in the crowd are twins.
fn twins(item_id: i64, users: usize) -> impl Iterator<Item = Call> {
    (0..users * TWINS)
        .map(move |n| Call::buy_once(item_id, format!("user {}", n / TWINS), "my click"))
}

fn answers_by_purchase(done: &[Done]) -> HashMap<(i64, &str), Vec<&Answer>> {
    let mut answers: HashMap<_, Vec<_>> = HashMap::new();
    for done in done {
        let Call::Purchase {
            item_id, user_id, ..
        } = &done.call
        else {
            panic!("not a purchase")
        };
        answers
            .entry((*item_id, user_id.as_str()))
            .or_default()
            .push(answer(done));
    }
    answers
}

/// All twins got the same answer; returns how many of the purchases succeeded.
fn assert_twins_agree(done: &[Done]) -> usize {
    let mut bought = 0;
    for (purchase, answers) in answers_by_purchase(done) {
        assert_eq!(answers.len(), TWINS);
        if answers
            .iter()
            .all(|answer| answer.reason() == "out_of_stock")
        {
            continue;
        }
        bought += 1;
        let order_id = answers[0].order_id();
        assert!(
            order_id.is_some()
                && answers
                    .iter()
                    .all(|answer| answer.success() && answer.order_id() == order_id),
            "{purchase:?} was answered {answers:?}"
        );
        let first = answers
            .iter()
            .filter(|answer| !answer.flag("replayed"))
            .count();
        assert_eq!(first, 1, "{purchase:?} was answered {answers:?}");
    }
    bought
}

async fn twins_share_one_order(strategy: Strategy) {
    const UNITS: usize = 150;
    let shop = Shop::open_under(strategy, CROWD).await;
    let item_id = shop.item(UNITS as i64).await;
    let done = shop.rush(CROWD, twins(item_id, 500)).await;
    assert_eq!(assert_twins_agree(&done), UNITS);
    assert_eq!(shop.inventory(item_id).await, 0);
    shop.assert_acknowledged(&done).await;
    shop.assert_sound().await;
}

/// A look-up before the lock misses the twin that is just buying the last unit.
async fn twins_share_the_last_unit(strategy: Strategy) {
    const ITEMS: usize = 300;
    let shop = Shop::open_under(strategy, CROWD).await;
    let mut items = Vec::new();
    for _ in 0..ITEMS {
        items.push(shop.item(1).await);
    }
    let done = shop
        .rush(CROWD, items.iter().flat_map(|&item_id| twins(item_id, 1)))
        .await;
    assert_eq!(assert_twins_agree(&done), ITEMS);
    shop.assert_acknowledged(&done).await;
    shop.assert_sound().await;
}

/// A user at the limit still gets the answer to an earlier click. Each user buys a separate item, so
/// that only twins compete, at every step.
async fn twins_share_an_order_at_the_user_limit(strategy: Strategy) {
    const ITEMS: usize = 300;
    let shop = Shop::open_under(strategy, CROWD).await;
    let create = "SELECT flashsale.create_item(10, max_per_user => 1)";
    let mut items = Vec::new();
    for _ in 0..ITEMS {
        items.push(shop.value(create, &[]).await);
    }
    let done = shop
        .rush(CROWD, items.iter().flat_map(|&item_id| twins(item_id, 1)))
        .await;
    assert_eq!(assert_twins_agree(&done), ITEMS);
    shop.assert_acknowledged(&done).await;
    shop.assert_sound().await;
}

async fn a_key_is_not_reused_for_another_quantity(strategy: Strategy) {
    let shop = Shop::open_under(strategy, CROWD).await;
    let item_id = shop.item(1_000).await;
    let clicks = (0..400).map(|n| Call::Purchase {
        item_id,
        user_id: format!("user {}", n / 2),
        quantity: 1 + n % 2,
        key: Some("my click".into()),
    });
    let done = shop.rush(CROWD, clicks).await;
    for (purchase, answers) in answers_by_purchase(&done) {
        let mut reasons: Vec<_> = answers.iter().map(|answer| answer.reason()).collect();
        reasons.sort_unstable();
        assert_eq!(reasons, ["", "idempotency_key_reused"], "{purchase:?}");
    }
    shop.assert_acknowledged(&done).await;
    shop.assert_sound().await;
}
