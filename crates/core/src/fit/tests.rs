//! Properties of `fit`: it never exceeds stock or limits, serves first come first served, and
//! gives the first reason that applies.

use super::*;
use crate::order_ref::RefCode;
use proptest::prelude::*;
use std::collections::HashSet;

const NOW: Micros = 1_000;
const USERS: [&str; 3] = ["ann", "bob", "cyd"];
const KEYS: [Option<&str>; 3] = [None, Some("k1"), Some("k2")];

fn on_sale(inventory: i64) -> Item {
    Item {
        item_id: 1,
        inventory,
        ..Item::default()
    }
}

fn request(user_id: &str, quantity: i64) -> Request<'_> {
    Request {
        item_id: 1,
        user_id,
        quantity,
        idempotency_key: None,
        default_ttl: 1,
    }
}

fn requests() -> impl Strategy<Value = Vec<Request<'static>>> {
    let one = (0..USERS.len(), 1..6i64, 0..KEYS.len()).prop_map(|(user, quantity, key)| Request {
        item_id: 1,
        user_id: USERS[user],
        quantity,
        idempotency_key: KEYS[key],
        default_ttl: 1,
    });
    prop::collection::vec(one, 0..40)
}

fn items() -> impl Strategy<Value = Item> {
    let edge = prop::option::of(prop::sample::select(vec![NOW - 1, NOW, NOW + 1]));
    (
        0..30i64,
        prop::option::of(1..8i64),
        edge.clone(),
        edge,
        any::<bool>(),
    )
        .prop_map(
            |(inventory, max_per_user, starts_at, ends_at, paused)| Item {
                inventory,
                max_per_user,
                starts_at,
                ends_at,
                paused,
                ..on_sale(inventory)
            },
        )
}

fn holdings() -> impl Strategy<Value = HashMap<&'static str, i64>> {
    prop::collection::vec(0..5i64, USERS.len())
        .prop_map(|held| USERS.into_iter().zip(held).collect())
}

fn refused(reason: Reason, remaining_inventory: i64) -> Fit {
    Fit::Refused {
        reason,
        remaining_inventory,
    }
}

/// The rules of the contract, for one request at a time.
fn expected(item: &Item, left: i64, held: i64, request: &Request<'_>, twin: Option<usize>) -> Fit {
    let rules = [
        (left == 0, Reason::OutOfStock),
        (
            item.starts_at.is_some_and(|at| NOW < at),
            Reason::SaleNotStarted,
        ),
        (item.ends_at.is_some_and(|at| at <= NOW), Reason::SaleEnded),
        (item.paused, Reason::SalePaused),
        (
            item.max_per_user
                .is_some_and(|most| held + request.quantity > most),
            Reason::UserLimitReached,
        ),
        (left < request.quantity, Reason::OutOfStock),
    ];
    match twin {
        Some(index) => Fit::Repeats(index),
        None => match rules.into_iter().find(|(broken, _)| *broken) {
            Some((_, reason)) => refused(reason, left),
            None => Fit::Reserved {
                remaining_inventory: left - request.quantity,
            },
        },
    }
}

proptest! {
    #[test]
    fn every_request_is_answered_by_the_first_rule_it_breaks(
        item in items(), requests in requests(), held in holdings(),
    ) {
        let (mut left, mut now_held) = (item.inventory, held.clone());
        let mut twins = HashMap::new();
        let fits = fit(&item, NOW, &requests, &held);
        prop_assert_eq!(fits.len(), requests.len());
        for (index, (request, fit)) in requests.iter().zip(fits).enumerate() {
            let key = request.idempotency_key.map(|key| (request.user_id, key));
            let twin = key.and_then(|key| twins.get(&key).copied());
            prop_assert_eq!(fit, expected(&item, left, now_held[request.user_id], request, twin));
            if let Fit::Reserved { .. } = fit {
                left -= request.quantity;
                *now_held.get_mut(request.user_id).unwrap() += request.quantity;
                if let Some(key) = key {
                    twins.insert(key, index);
                }
            }
        }
    }

    #[test]
    fn never_past_stock_nor_past_a_limit(item in items(), requests in requests(), held in holdings()) {
        let fits = fit(&item, NOW, &requests, &held);
        let mut sold = HashMap::<&str, i64>::new();
        for (request, fit) in requests.iter().zip(&fits) {
            if let Fit::Reserved { .. } = fit {
                *sold.entry(request.user_id).or_default() += request.quantity;
            }
        }
        prop_assert!(sold.values().sum::<i64>() <= item.inventory);
        for (user, units) in sold {
            prop_assert!(item.max_per_user.is_none_or(|most| held[user] + units <= most));
        }
    }

    /// With the missing units the requests get as many as if there were plenty, and with one fewer
    /// not as many.
    #[test]
    fn the_missing_units_are_as_many_as_needed(item in items(), requests in requests(), held in holdings()) {
        let missing = missing(&item, NOW, &requests, &held);
        let served = |inventory: i64| {
            let fits = fit(&Item { inventory, ..item }, NOW, &requests, &held);
            let served = requests.iter().zip(fits);
            let served = served.filter(|(_, fit)| matches!(fit, Fit::Reserved { .. }));
            served.map(|(request, _)| request.quantity).sum::<i64>()
        };
        let plenty = served(i64::MAX);
        prop_assert_eq!(served(item.inventory + missing), plenty);
        if missing > 0 && plenty > 0 {
            prop_assert!(served(item.inventory + missing - 1) < plenty);
        }
        prop_assert!(missing > 0 || item.inventory > 0);
    }

    /// Undecided is who is refused and would not be, if there were more units when all who have got
    /// theirs have them; nothing else changes.
    #[test]
    fn undecided_is_who_would_get_units_of_more(
        item in items(), requests in requests(), held in holdings(), more in 0..20i64,
    ) {
        let before = fit(&item, NOW, &requests, &held);
        let mut after = before.clone();
        leave_undecided(&item, NOW, &requests, &held, &mut after, more);
        let mut left = item.inventory - sold(&requests, &before) + more;
        let mut now_held = held.clone();
        for (request, fit) in requests.iter().zip(&before) {
            if let Fit::Reserved { .. } = fit {
                *now_held.get_mut(request.user_id).unwrap() += request.quantity;
            }
        }
        let mut twins = HashSet::new();
        for ((request, before), after) in requests.iter().zip(before).zip(after) {
            let key = request.idempotency_key.map(|key| (request.user_id, key));
            let is_refused = matches!(before, Fit::Refused { .. });
            let is_twin = is_refused && key.is_some_and(|key| twins.contains(&key));
            let holdings = now_held.get_mut(request.user_id).unwrap();
            let would_be = expected(&item, left, *holdings, request, None);
            let is_undecided = is_refused && !matches!(would_be, Fit::Refused { .. });
            if is_undecided && !is_twin {
                left -= request.quantity;
                *holdings += request.quantity;
                twins.extend(key);
            }
            let expected = if is_undecided || is_twin { Fit::Undecided } else { before };
            prop_assert_eq!(after, expected);
        }
    }

    #[test]
    fn a_crowd_of_single_units_sells_exactly_what_there_is(inventory in 0..50i64, crowd in 0..80usize) {
        let fits = fit(&on_sale(inventory), NOW, &vec![request("ann", 1); crowd], &HashMap::new());
        let sold = fits.iter().take_while(|fit| matches!(fit, Fit::Reserved { .. })).count();
        prop_assert_eq!(sold, crowd.min(inventory as usize));
        prop_assert!(fits[sold..].iter().all(|fit| *fit == refused(Reason::OutOfStock, 0)));
    }
}

#[test]
fn one_that_does_not_fit_does_not_block_a_later_one_that_does() {
    let fits = fit(
        &on_sale(2),
        NOW,
        &[request("ann", 3), request("bob", 2)],
        &HashMap::new(),
    );
    assert_eq!(
        fits,
        [
            refused(Reason::OutOfStock, 2),
            Fit::Reserved {
                remaining_inventory: 0
            }
        ]
    );
}

/// Not even with the units that may come back would there be enough for the first.
#[test]
fn units_that_a_later_request_has_got_decide_an_earlier_one() {
    let requests = [request("ann", 4), request("bob", 3), request("eve", 2)];
    let mut fits = fit(&on_sale(3), NOW, &requests, &HashMap::new());
    leave_undecided(&on_sale(3), NOW, &requests, &HashMap::new(), &mut fits, 2);
    assert_eq!(
        fits,
        [
            refused(Reason::OutOfStock, 3),
            Fit::Reserved {
                remaining_inventory: 0
            },
            Fit::Undecided,
        ]
    );
}

#[test]
fn quantities_at_the_limit_of_bigint_do_not_overflow() {
    let item = Item {
        max_per_user: Some(i64::MAX),
        ..on_sale(5)
    };
    let held = HashMap::from([("ann", 3)]);
    assert_eq!(
        fit(&item, NOW, &[request("ann", i64::MAX)], &held),
        [refused(Reason::OutOfStock, 5)]
    );
}

#[test]
fn a_replay_is_the_same_quantity_of_an_order_still_alive() {
    for status in Status::ALL {
        let prior = PriorOrder {
            order_ref: OrderRef {
                order_id: 1,
                code: RefCode::new([0; 10]),
            },
            quantity: 2,
            status,
            expires_at: None,
            unit_price: None,
            currency: None,
            remaining_inventory: 0,
        };
        assert_eq!(replay(&request("ann", 2), &prior), status.dead());
        assert_eq!(
            replay(&request("ann", 1), &prior),
            Some(Reason::IdempotencyKeyReused)
        );
    }
}
