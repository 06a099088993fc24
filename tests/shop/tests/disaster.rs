//! The disaster, which must not be one: 5,000 buyers, 100 units, a gateway that lies, apps killed
//! and the database crashed in the midst of it. Whatever the seed, the ledgers agree to the unit.

use shop::storm::{Outcome, Plan, hold};
use tokio::sync::Mutex;

/// A crash of the database would disturb another sale.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

const UNITS: i64 = 100;

async fn survive(plan: Plan) -> Outcome {
    let _turn = ONE_AT_A_TIME.lock().await;
    eprintln!("{plan:?}");
    let outcome = hold(&plan).await;
    eprintln!("{}", outcome.ledgers);
    assert_eq!(outcome.complaints(&plan), Vec::<String>::new());
    // What the rush left, the late buyers took: exactly all.
    let ledgers = &outcome.ledgers;
    assert_eq!((ledgers.confirmed() as i64, ledgers.free()), (UNITS, 0));
    outcome
}

fn plan(seed: u64, apps: usize) -> Plan {
    Plan {
        buyers: 5_000,
        units: UNITS,
        apps,
        kills: 5,
        crashes: 1,
        faults: true,
        seed,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_app_is_killed_and_killed_again() {
    survive(plan(1, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_apps_share_a_database_and_are_killed_in_turn() {
    survive(plan(2, 3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_nobody_has_tried() {
    let seed = rand::random_range(0..1_000_000_000);
    survive(plan(seed, 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_good_day_all_units_are_sold_at_once() {
    let plan = Plan {
        kills: 0,
        crashes: 0,
        faults: false,
        ..plan(3, 3)
    };
    let outcome = survive(plan).await;
    assert_eq!(outcome.ends()["confirmed"], 100);
    assert_eq!(outcome.ends()["out_of_stock"], 4_900);
}
