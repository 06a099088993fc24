//! Clicks gathered into batches: exact, each answered for itself, whatever fails.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use flashsale_client::{
    Answer, Error, Gatherer, GathererOptions, Patience, Purchase, Reason, Reservation,
};
use storm::connect;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, Config};

use crate::shop::{Shop, done, refused, within};

type Outcome = Result<Answer<Reservation>, Error>;

/// A gatherer whose sessions have this name, by which a test finds them.
fn gatherer(config: &Config, name: &str, options: GathererOptions) -> Gatherer {
    let config = config.clone().application_name(name).clone();
    Gatherer::start(options, move || {
        let config = config.clone();
        async move { connect(&config).await }
    })
}

/// Long enough for a test to click several times before the batch goes.
fn one_connection() -> GathererOptions {
    GathererOptions {
        connections: 1,
        longest_wait: Duration::from_millis(100),
        ..GathererOptions::default()
    }
}

/// All at once; the outcomes have the order of the purchases. Who is answered `busy` clicks again,
/// as long as there is patience.
async fn rush_for(
    patience: Patience,
    gatherer: &Gatherer,
    purchases: Vec<Purchase>,
) -> Vec<Outcome> {
    let buy = |purchase: Purchase| {
        let gatherer = gatherer.clone();
        tokio::spawn(async move {
            let call = || gatherer.purchase(purchase.clone());
            patience.purchase(&purchase, call).await
        })
    };
    let buyers: Vec<_> = purchases.into_iter().map(buy).collect();
    let mut outcomes = Vec::new();
    for buyer in buyers {
        outcomes.push(within(buyer).await.expect("no panic"));
    }
    outcomes
}

/// All at once, and once.
async fn rush(gatherer: &Gatherer, purchases: Vec<Purchase>) -> Vec<Outcome> {
    rush_for(Patience::of(Duration::ZERO), gatherer, purchases).await
}

fn sold(outcomes: &[Outcome]) -> usize {
    let is_sold = |outcome: &&Outcome| matches!(outcome, Ok(Answer::Success(_)));
    outcomes.iter().filter(is_sold).count()
}

/// The item's row is locked until the client is told to commit.
async fn lock_item(shop: &Shop) -> Client {
    let client = connect(&shop.config).await.expect("a connection");
    let lock = format!(
        "BEGIN; SELECT FROM flashsale.items WHERE item_id = {} FOR UPDATE",
        shop.item_id
    );
    client.batch_execute(&lock).await.expect("the lock");
    client
}

/// Sessions that wait for a lock, until there are so many.
async fn until_waiting(shop: &Shop, name: &str, count: i64) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'";
    within(async {
        while shop.value::<i64>(sql, &[&name]).await < count {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Batches wait for the item, as long as a test holds it.
fn waiting(shop: &Shop) -> Config {
    let mut config = shop.config.clone();
    config.options("-c flashsale.strategy=atomic -c flashsale.lock_wait=60s");
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_gets_every_unit_and_every_answer() {
    crowd_buys(|shop| shop.config.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_gets_every_unit_through_a_pooler() {
    crowd_buys(|shop| shop.pooler()).await;
}

async fn crowd_buys(config: fn(&Shop) -> Config) {
    const UNITS: usize = 100;
    let shop = Shop::open(UNITS as i64).await;
    let gatherer = gatherer(&config(&shop), "crowd", GathererOptions::default());
    let purchase = |n| Purchase::new(shop.item_id, format!("user {n}")).key("my click");
    let patience = Patience::of(Duration::from_secs(60));
    let outcomes = rush_for(patience, &gatherer, (0..2_000).map(purchase).collect()).await;
    assert_eq!(sold(&outcomes), UNITS);
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match outcome.expect("an answer") {
            Answer::Success(order) => {
                let sql = "SELECT user_id FROM flashsale.orders WHERE order_id = $1";
                let user: String = shop.value(sql, &[&order.order_id]).await;
                assert_eq!(user, format!("user {n}"), "an order of somebody else");
            }
            Answer::Refused(refusal) => assert_eq!(refusal.reason, Reason::OutOfStock),
        }
    }
    assert_eq!(
        (shop.inventory().await, shop.orders().await),
        (0, UNITS as i64)
    );
    within(gatherer.drain()).await;
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_argument_fails_nobody_else() {
    let shop = Shop::open(100).await;
    let gatherer = gatherer(&shop.config, "bad", one_connection());
    let of = |user: &str| Purchase::new(shop.item_id, user);
    let outcomes = rush(
        &gatherer,
        vec![
            of("alice"),
            of("bob").quantity(0),
            of(""),
            of(&"x".repeat(256)),
            of("car\0l").key("k"),
            of("dave").key(""),
            of("erin"),
        ],
    )
    .await;
    assert_eq!(sold(&outcomes), 2);
    for outcome in &outcomes[1..6] {
        let error = outcome.as_ref().expect_err("an error of the server");
        assert!(
            error
                .sqlstate()
                .is_some_and(|state| state.starts_with("22")),
            "{error}"
        );
    }
    let error = outcomes[1].as_ref().expect_err("an error");
    assert_eq!(
        error.about_arguments(),
        Some("quantity is 0: it must be at least 1")
    );
}

/// What cannot be seen before: the shop's own trigger refuses one user.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_one_purchase_is_found_by_halving_the_batch() {
    let shop = Shop::open(100).await;
    let trigger = format!(
        "CREATE FUNCTION no_{0}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF NEW.user_id = 'mallory of {0}' THEN RAISE 'not to you' USING ERRCODE = 'P0001'; END IF;
           RETURN NEW; END $$;
         CREATE TRIGGER no_{0} BEFORE INSERT ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION no_{0}()",
        shop.item_id
    );
    shop.client
        .batch_execute(&trigger)
        .await
        .expect("a trigger");
    let gatherer = gatherer(&shop.config, "halves", one_connection());
    let of = |user: String| Purchase::new(shop.item_id, user);
    let mut purchases: Vec<_> = (0..50).map(|n| of(format!("user {n}"))).collect();
    purchases.push(of(format!("mallory of {}", shop.item_id)));
    let outcomes = rush(&gatherer, purchases).await;
    let drop = format!("DROP FUNCTION no_{} CASCADE", shop.item_id);
    shop.client.batch_execute(&drop).await.expect("no trigger");
    assert_eq!(sold(&outcomes), 50);
    let error = outcomes[50].as_ref().expect_err("an error");
    assert_eq!(error.sqlstate(), Some("P0001"));
    shop.assert_sound().await;
}

/// While a call is under way, two callers leave: one whose click is in it, and one who waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_leaves_harms_nobody() {
    let shop = Shop::open(100).await;
    let gatherer = gatherer(
        &waiting(&shop),
        &format!("leave {}", shop.item_id),
        one_connection(),
    );
    let name = format!("leave {}", shop.item_id);
    let lock = lock_item(&shop).await;
    let click = |user: &str| {
        let (gatherer, purchase) = (gatherer.clone(), Purchase::new(shop.item_id, user).key("k"));
        tokio::spawn(async move { gatherer.purchase(purchase).await })
    };
    let (gone, stays) = (click("gone"), click("stays"));
    until_waiting(&shop, &name, 1).await;
    gone.abort();
    let (never, later) = (click("never"), click("later"));
    sleep(Duration::from_millis(20)).await; // both are in the queue, which nobody can see
    never.abort();
    lock.batch_execute("COMMIT").await.expect("a commit");
    done(within(stays).await.expect("no panic"));
    done(within(later).await.expect("no panic"));
    within(gatherer.drain()).await;
    let sql = "SELECT coalesce(string_agg(user_id, ' ' ORDER BY user_id), '') FROM flashsale.orders WHERE item_id = $1";
    assert_eq!(
        shop.value::<String>(sql, &[&shop.item_id]).await,
        "gone later stays"
    );
    let again = Purchase::new(shop.item_id, "gone").key("k");
    let found = done(flashsale_client::purchase_item(&shop.client, &again).await);
    assert!(found.replayed, "the key finds what became of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_database_makes_a_full_queue_and_no_more() {
    let shop = Shop::open(1_000).await;
    let name = format!("slow {}", shop.item_id);
    let options = GathererOptions {
        largest_batch: 10,
        queue_size: 20,
        patience: Duration::from_secs(60),
        call_timeout: Duration::from_secs(60),
        ..one_connection()
    };
    let gatherer = gatherer(&waiting(&shop), &name, options);
    let lock = lock_item(&shop).await;
    let mut buyers = JoinSet::new();
    let mut buy = |users: std::ops::Range<usize>| {
        for n in users {
            let (gatherer, item_id) = (gatherer.clone(), shop.item_id);
            buyers.spawn(async move {
                gatherer
                    .purchase(Purchase::new(item_id, format!("user {n}")))
                    .await
            });
        }
    };
    buy(0..10); // a whole batch, which is under way
    until_waiting(&shop, &name, 1).await;
    buy(10..100);
    let mut overloaded = 0;
    while overloaded < 70 {
        let outcome = within(buyers.join_next())
            .await
            .expect("a buyer")
            .expect("no panic");
        assert!(matches!(outcome, Err(Error::Overloaded)), "{outcome:?}");
        overloaded += 1;
    }
    lock.batch_execute("COMMIT").await.expect("a commit");
    let served = within(buyers.join_all()).await;
    assert_eq!(sold(&served), 30);
    assert_eq!(shop.orders().await, 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_answers_what_was_accepted_and_accepts_no_more() {
    let shop = Shop::open(1_000).await;
    let name = format!("drain {}", shop.item_id);
    let options = GathererOptions {
        largest_batch: 10,
        ..one_connection()
    };
    let gatherer = gatherer(&waiting(&shop), &name, options);
    let lock = lock_item(&shop).await;
    let mut buyers = JoinSet::new();
    for n in 0..50 {
        let (gatherer, item_id) = (gatherer.clone(), shop.item_id);
        buyers.spawn(async move {
            gatherer
                .purchase(Purchase::new(item_id, format!("user {n}")))
                .await
        });
    }
    until_waiting(&shop, &name, 1).await;
    let drained = Arc::new(AtomicBool::new(false));
    let draining = tokio::spawn({
        let (gatherer, drained) = (gatherer.clone(), Arc::clone(&drained));
        async move {
            gatherer.drain().await;
            drained.store(true, SeqCst);
        }
    });
    sleep(Duration::from_millis(50)).await;
    assert!(!drained.load(SeqCst), "it waits for the answers");
    let late = gatherer.purchase(Purchase::new(shop.item_id, "late")).await;
    assert!(matches!(late, Err(Error::Closed)));
    lock.batch_execute("COMMIT").await.expect("a commit");
    within(draining).await.expect("no panic");
    assert_eq!(sold(&within(buyers.join_all()).await), 50);
    assert_eq!(shop.orders().await, 50);
}

/// Ends the gatherer's session, and waits until it has ended.
async fn end_session(shop: &Shop, name: &str) {
    let sql = "WITH found AS MATERIALIZED
           (SELECT pid FROM pg_stat_activity WHERE application_name = $1)
         SELECT count(*) FROM found WHERE pg_terminate_backend(pid, 60000)";
    assert_eq!(shop.value::<i64>(sql, &[&name]).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_call_is_asked_again_for_those_with_a_key() {
    let shop = Shop::open(10).await;
    let name = format!("lost {}", shop.item_id);
    let gatherer = gatherer(&waiting(&shop), &name, one_connection());
    let lock = lock_item(&shop).await;
    let buying = tokio::spawn({
        let (gatherer, item_id) = (gatherer.clone(), shop.item_id);
        async move {
            let purchases = vec![
                Purchase::new(item_id, "with a key").key("k"),
                Purchase::new(item_id, "without"),
            ];
            rush(&gatherer, purchases).await
        }
    });
    until_waiting(&shop, &name, 1).await;
    end_session(&shop, &name).await;
    until_waiting(&shop, &name, 1).await; // over a new connection
    lock.batch_execute("COMMIT").await.expect("a commit");
    let outcomes = within(buying).await.expect("no panic");
    let [with_a_key, without] = outcomes.try_into().expect("two outcomes");
    assert!(!done(with_a_key).replayed);
    let error = without.expect_err("an error");
    assert!(
        matches!(error, Error::OutcomeUnknown(_)) && error.is_outcome_unknown(),
        "{error:?}"
    );
    assert_eq!(shop.orders().await, 1);
    shop.assert_sound().await;
}

/// Nobody may be told that nothing was asked, once something was.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_call_that_cannot_be_asked_again_stays_unknown() {
    let shop = Shop::open(10).await;
    let name = format!("unknown {}", shop.item_id);
    let config = waiting(&shop).application_name(&name).clone();
    let is_down = Arc::new(AtomicBool::new(false));
    let options = GathererOptions {
        patience: Duration::from_millis(300),
        ..one_connection()
    };
    let gatherer = Gatherer::start(options, {
        let is_down = Arc::clone(&is_down);
        move || {
            let (config, is_down) = (config.clone(), is_down.load(SeqCst));
            async move {
                if is_down {
                    return Err(io::Error::other("no server"));
                }
                connect(&config).await.map_err(io::Error::other)
            }
        }
    });
    let lock = lock_item(&shop).await;
    let purchase = Purchase::new(shop.item_id, "anybody").key("k");
    let buying = tokio::spawn(async move { gatherer.purchase(purchase).await });
    until_waiting(&shop, &name, 1).await;
    is_down.store(true, SeqCst);
    end_session(&shop, &name).await;
    let outcome = within(buying).await.expect("no panic");
    assert!(
        matches!(outcome, Err(Error::OutcomeUnknown(_))),
        "{outcome:?}"
    );
    lock.batch_execute("COMMIT").await.expect("a commit");
}

/// The session ends between two calls: nothing was asked, so nobody notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_between_calls_is_opened_again() {
    let shop = Shop::open(10).await;
    let name = format!("idle {}", shop.item_id);
    let gatherer = gatherer(&shop.config, &name, one_connection());
    done(
        gatherer
            .purchase(Purchase::new(shop.item_id, "first"))
            .await,
    );
    end_session(&shop, &name).await;
    done(
        gatherer
            .purchase(Purchase::new(shop.item_id, "second").key("k"))
            .await,
    );
}

/// No server: callers are told so, within patience, and those who had to wait for that in the queue
/// are not kept for longer.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_connection_everybody_is_answered() {
    let tries = Arc::new(AtomicUsize::new(0));
    let options = GathererOptions {
        largest_batch: 2,
        patience: Duration::from_millis(300),
        ..one_connection()
    };
    let gatherer = Gatherer::start(options, {
        let tries = Arc::clone(&tries);
        move || {
            tries.fetch_add(1, SeqCst);
            async { Err::<Client, _>(io::Error::other("no server")) }
        }
    });
    let purchases = (0..10)
        .map(|n| Purchase::new(1, format!("user {n}")))
        .collect();
    let outcomes = rush(&gatherer, purchases).await;
    let count = |is: fn(&Error) -> bool| {
        let errors = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
        errors.filter(|error| is(error)).count()
    };
    let without = count(|error| matches!(error, Error::NoConnection(_)));
    let too_late = count(|error| matches!(error, Error::Overloaded));
    assert_eq!(without + too_late, 10, "{outcomes:?}");
    assert!(without >= 2, "{outcomes:?}");
    assert!(tries.load(SeqCst) > 1, "it tries again");
}

/// The answer does not come: the call is given up, and its connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_takes_too_long_is_given_up() {
    let shop = Shop::open(10).await;
    let name = format!("hangs {}", shop.item_id);
    let options = GathererOptions {
        call_timeout: Duration::from_millis(200),
        patience: Duration::from_millis(500),
        ..one_connection()
    };
    let gatherer = gatherer(&waiting(&shop), &name, options);
    let lock = lock_item(&shop).await;
    let click = gatherer.purchase(Purchase::new(shop.item_id, "anybody"));
    let outcome = timeout(Duration::from_secs(60), click)
        .await
        .expect("an answer");
    assert!(
        matches!(outcome, Err(Error::OutcomeUnknown(_))),
        "{outcome:?}"
    );
    lock.batch_execute("COMMIT").await.expect("a commit");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_for_those_who_got_them() {
    let shop = Shop::open(3).await;
    let gatherer = gatherer(&shop.config, "refusals", one_connection());
    let of = |user: &str| Purchase::new(shop.item_id, user);
    let outcomes = rush(
        &gatherer,
        vec![of("one").quantity(5), of("two").quantity(3), of("three")],
    )
    .await;
    let [one, two, three] = outcomes.try_into().expect("three outcomes");
    assert_eq!(refused(one).reason, Reason::OutOfStock);
    let outcomes: [Outcome; 2] = [two, three];
    let units: i64 = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().ok()?.success())
        .map(|order| order.quantity)
        .sum();
    assert_eq!(shop.inventory().await, 3 - units);
}
