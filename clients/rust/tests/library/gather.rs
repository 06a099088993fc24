//! Clicks gathered into batches: exact, each answered for itself, whatever fails.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use flashsale_client::{
    Answer, Error, Gatherer, GathererOptions, Patience, Purchase, Reason, Reservation,
};
use storm::connect;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tokio_postgres::{Client, Config};

use crate::shop::{Shop, done, refused, within};

pub type Outcome = Result<Answer<Reservation>, Error>;

/// A gatherer whose sessions have this name, by which a test finds them.
pub fn gatherer(config: &Config, name: &str, options: GathererOptions) -> Gatherer {
    let config = config.clone().application_name(name).clone();
    Gatherer::start(options, move || {
        let config = config.clone();
        async move { connect(&config).await }
    })
}

/// One call at a time. Nothing is given up because the machine is slow, or because a test takes its
/// time.
pub fn one_connection() -> GathererOptions {
    GathererOptions {
        connections: 1,
        patience: Duration::from_secs(60),
        call_timeout: Duration::from_secs(60),
        ..GathererOptions::default()
    }
}

/// Clicks go in calls of so many, however slow the machine is.
pub fn in_calls_of(count: usize) -> GathererOptions {
    GathererOptions {
        largest_batch: count,
        longest_wait: Duration::from_secs(60),
        ..one_connection()
    }
}

/// Begins it in a task of its own: a click is in the queue when this returns.
pub async fn begin<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let (began, has_begun) = oneshot::channel();
    let task = tokio::spawn(async move {
        let mut work = pin!(work);
        let first = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
        began.send(()).ok();
        match first {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => work.await,
        }
    });
    has_begun.await.expect("no panic");
    task
}

/// A click that is in the queue.
pub async fn click(gatherer: &Gatherer, purchase: Purchase) -> JoinHandle<Outcome> {
    let gatherer = gatherer.clone();
    begin(async move { gatherer.purchase(purchase).await }).await
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
pub async fn rush(gatherer: &Gatherer, purchases: Vec<Purchase>) -> Vec<Outcome> {
    rush_for(Patience::of(Duration::ZERO), gatherer, purchases).await
}

fn sold(outcomes: &[Outcome]) -> usize {
    let is_sold = |outcome: &&Outcome| matches!(outcome, Ok(Answer::Success(_)));
    outcomes.iter().filter(is_sold).count()
}

/// The item's row is locked until the client is told to commit.
pub async fn lock_item(shop: &Shop) -> Client {
    let client = connect(&shop.config).await.expect("a connection");
    let lock = format!(
        "BEGIN; SELECT FROM flashsale.items WHERE item_id = {} FOR UPDATE",
        shop.item_id
    );
    client.batch_execute(&lock).await.expect("the lock");
    client
}

/// Sessions that wait for a lock, until there are so many.
pub async fn until_waiting(shop: &Shop, name: &str, count: i64) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'";
    within(async {
        while shop.value::<i64>(sql, &[&name]).await < count {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Batches wait for the item, as long as a test holds it.
pub fn waiting(shop: &Shop) -> Config {
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
    let options = GathererOptions {
        connections: 2,
        ..one_connection()
    };
    let gatherer = gatherer(&config(&shop), "crowd", options);
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

/// 51 clicks, of which the shop's own trigger refuses the last one by an error with this SQLSTATE.
async fn rush_with_a_trigger(shop: &Shop, sqlstate: &str) -> Vec<Outcome> {
    let refuses = format!("RAISE 'not to you' USING ERRCODE = '{sqlstate}'");
    rush_with(shop, &shop.config, &refuses).await
}

/// 51 clicks; for the last one the shop's own trigger does this.
async fn rush_with(shop: &Shop, config: &Config, what: &str) -> Vec<Outcome> {
    let trigger = format!(
        "CREATE FUNCTION no_{0}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF NEW.user_id = 'mallory of {0}' THEN {what}; END IF;
           RETURN NEW; END $$;
         CREATE TRIGGER no_{0} BEFORE INSERT ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION no_{0}()",
        shop.item_id
    );
    shop.client
        .batch_execute(&trigger)
        .await
        .expect("a trigger");
    let of = |user: String| Purchase::new(shop.item_id, user);
    let mut purchases: Vec<_> = (0..50).map(|n| of(format!("user {n}"))).collect();
    purchases.push(of(format!("mallory of {}", shop.item_id)));
    // All go in one call.
    let options = GathererOptions {
        patience: Duration::from_secs(10),
        ..in_calls_of(purchases.len())
    };
    let gatherer = gatherer(config, "halves", options);
    let outcomes = rush(&gatherer, purchases).await;
    let drop = format!("DROP FUNCTION no_{} CASCADE", shop.item_id);
    shop.client.batch_execute(&drop).await.expect("no trigger");
    outcomes
}

/// What cannot be seen before it is asked; also by a code that PostgreSQL does not know.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_one_purchase_is_found_by_halving_the_batch() {
    let shop = Shop::open(1_000).await;
    for (raised, arrives) in [("P0001", "P0001"), ("SHOP1", "XX000")] {
        let outcomes = rush_with_a_trigger(&shop, raised).await;
        assert_eq!(sold(&outcomes), 50);
        let error = outcomes[50].as_ref().expect_err("an error");
        assert_eq!(error.sqlstate(), Some(arrives));
    }
    shop.assert_sound().await;
}

/// One of them takes longer than a statement may.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_purchase_is_found_by_halving_the_batch() {
    let shop = Shop::open(100).await;
    let mut config = shop.config.clone();
    config.options("-c statement_timeout=200ms");
    let outcomes = rush_with(&shop, &config, "PERFORM pg_sleep(60)").await;
    assert_eq!(sold(&outcomes), 50);
    assert!(matches!(outcomes[50], Err(Error::RolledBack(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_server_is_everybodys() {
    let shop = Shop::open(100).await;
    for sqlstate in ["XX001", "54001"] {
        for outcome in rush_with_a_trigger(&shop, sqlstate).await {
            let error = outcome.expect_err("an error");
            assert_eq!(error.sqlstate(), Some(sqlstate), "{error}");
        }
    }
}

/// While a call is under way, two callers leave: one whose click is in it, and one who waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_leaves_harms_nobody() {
    let shop = Shop::open(100).await;
    let name = format!("leave {}", shop.item_id);
    let gatherer = gatherer(&waiting(&shop), &name, in_calls_of(2));
    let lock = lock_item(&shop).await;
    let click = |user: &str| click(&gatherer, Purchase::new(shop.item_id, user).key("k"));
    let (gone, stays) = (click("gone").await, click("stays").await);
    until_waiting(&shop, &name, 1).await;
    gone.abort();
    let (never, later) = (click("never").await, click("later").await);
    never.abort();
    assert!(never.await.is_err_and(|error| error.is_cancelled()));
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
        queue_size: 20,
        ..in_calls_of(10)
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
    let gatherer = gatherer(&waiting(&shop), &name, in_calls_of(10));
    let lock = lock_item(&shop).await;
    let mut buyers = Vec::new();
    for n in 0..50 {
        let purchase = Purchase::new(shop.item_id, format!("user {n}"));
        buyers.push(click(&gatherer, purchase).await);
    }
    until_waiting(&shop, &name, 1).await;
    let draining = begin({
        let gatherer = gatherer.clone();
        async move { gatherer.drain().await }
    })
    .await;
    sleep(Duration::from_millis(50)).await;
    assert!(!draining.is_finished(), "it waits for the answers");
    let late = gatherer.purchase(Purchase::new(shop.item_id, "late")).await;
    assert!(matches!(late, Err(Error::Closed)));
    lock.batch_execute("COMMIT").await.expect("a commit");
    within(draining).await.expect("no panic");
    let mut outcomes = Vec::new();
    for buyer in buyers {
        outcomes.push(within(buyer).await.expect("no panic"));
    }
    assert_eq!(sold(&outcomes), 50);
    assert_eq!(shop.orders().await, 50);
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
