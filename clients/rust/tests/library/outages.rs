//! Calls that fail, or get no answer: nobody waits for ever, nobody is told what is not known, and no
//! lock is left behind.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

use flashsale_client::{
    Answer, Error, Gatherer, GathererOptions, Patience, Purchase, purchase_batch, purchase_item,
};
use storm::connect;
use storm::wire::Wire;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::{Client, Config, NoTls};

use crate::gather::{
    Outcome, click, gatherer, in_calls_of, lock_item, one_connection, rush, until_waiting, waiting,
};
use crate::shop::{Shop, done, within};

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
    let gatherer = gatherer(&waiting(&shop), &name, in_calls_of(2)); // both go in one call
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
        patience: Duration::from_secs(3),
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

/// PgBouncer accepts clients even while it has no server for them.
#[tokio::test(flavor = "multi_thread")]
async fn over_a_connection_that_was_never_good_nothing_is_asked() {
    let shop = Shop::open(10).await;
    let (config, tries) = (shop.config.clone(), AtomicUsize::new(0));
    let gatherer = Gatherer::start(one_connection(), move || {
        let (config, is_first) = (config.clone(), tries.fetch_add(1, SeqCst) == 0);
        async move {
            let (client, connection) = config.connect(NoTls).await?;
            let connection = tokio::spawn(connection);
            if is_first {
                connection.abort();
                let _ = connection.await;
            }
            Ok::<_, tokio_postgres::Error>(client)
        }
    });
    let without_a_key = Purchase::new(shop.item_id, "anybody");
    done(within(gatherer.purchase(without_a_key)).await);
}

/// No server: callers are told so, within patience, and those who had to wait for that in the queue
/// are not kept for longer.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_connection_everybody_is_answered() {
    let tries = Arc::new(AtomicUsize::new(0));
    let options = GathererOptions {
        largest_batch: 2,
        patience: Duration::from_secs(3),
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

/// A call that waits for a lock: its backend, and when it began.
type Waiting = (i32, SystemTime);

/// Waits for a call that waits, and began after this one.
async fn until_asked_after(shop: &Shop, name: &str, before: Option<Waiting>) -> Waiting {
    let sql = "SELECT pid, query_start FROM pg_stat_activity
         WHERE application_name = $1 AND wait_event_type = 'Lock' AND query_start > $2
         ORDER BY query_start DESC LIMIT 1";
    let since = before.map_or(SystemTime::UNIX_EPOCH, |(_, began)| began);
    within(async {
        loop {
            let row = shop.client.query_opt(sql, &[&name, &since]).await;
            if let Some(row) = row.expect("sessions") {
                return (row.get(0), row.get(1));
            }
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

async fn until_nobody_waits(shop: &Shop, name: &str) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'";
    within(async {
        while shop.value::<i64>(sql, &[&name]).await > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Until the server has answered a call that began later.
async fn until_answered(shop: &Shop, name: &str) {
    let now: SystemTime = shop.value("SELECT clock_timestamp()", &[]).await;
    let sql = "SELECT count(*) FROM pg_stat_activity
         WHERE application_name = $1 AND state = 'idle' AND query_start > $2
           AND query LIKE 'SELECT flashsale.purchase%'";
    within(async {
        while shop.value::<i64>(sql, &[&name, &now]).await == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Sessions that wait for the item longer than any test lasts.
fn waiting_for_good(shop: &Shop) -> Config {
    let mut config = shop.config.clone();
    config.options("-c flashsale.strategy=atomic -c flashsale.lock_wait=10min");
    config
}

/// A batch that is cancelled is rolled back, so that clicks without a key can be asked again, too. That
/// goes over another connection, in case that the request to cancel arrives late.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_takes_too_long_is_cancelled_and_asked_again() {
    let shop = Shop::open(10).await;
    let name = format!("slow {}", shop.item_id);
    let options = GathererOptions {
        call_timeout: Duration::from_millis(300),
        patience: Duration::from_secs(60),
        ..one_connection()
    };
    let gatherer = gatherer(&waiting_for_good(&shop), &name, options);
    let lock = lock_item(&shop).await;
    let buying = click(&gatherer, Purchase::new(shop.item_id, "anybody")).await;
    let first = until_asked_after(&shop, &name, None).await;
    let second = until_asked_after(&shop, &name, Some(first)).await;
    assert_ne!(second.0, first.0);
    lock.batch_execute("COMMIT").await.expect("a commit");
    done(within(buying).await.expect("no panic"));
    assert_eq!(shop.orders().await, 1);
    shop.assert_sound().await;
}

/// The same if the server cancels it.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_the_server_cancels_is_asked_again() {
    let shop = Shop::open(10).await;
    let name = format!("cancelled {}", shop.item_id);
    let mut config = waiting_for_good(&shop);
    config.options(
        "-c flashsale.strategy=atomic -c flashsale.lock_wait=10min -c statement_timeout=300ms",
    );
    let options = GathererOptions {
        patience: Duration::from_secs(60),
        ..one_connection()
    };
    let gatherer = gatherer(&config, &name, options);
    let lock = lock_item(&shop).await;
    let buying = click(&gatherer, Purchase::new(shop.item_id, "anybody")).await;
    let first = until_asked_after(&shop, &name, None).await;
    until_asked_after(&shop, &name, Some(first)).await;
    lock.batch_execute("COMMIT").await.expect("a commit");
    done(within(buying).await.expect("no panic"));
    assert_eq!(shop.orders().await, 1);
}

/// Clicks for an item that is locked, and their calls ended: another item is sold all the same.
#[tokio::test(flavor = "multi_thread")]
async fn others_are_served_before_a_call_is_repeated_for_a_second_time() {
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = $1";
    let kill = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE pid = $1";
    for (how, end) in [("cancelled", cancel), ("lost", kill)] {
        let (shop, other) = (Shop::open(10).await, Shop::open(10).await);
        let name = format!("{how} {}", shop.item_id);
        let gatherer = gatherer(&waiting_for_good(&shop), &name, in_calls_of(4));
        let lock = lock_item(&shop).await;
        let mut buying = Vec::new();
        for n in 0..4 {
            let purchase = Purchase::new(shop.item_id, format!("user {n}")).key("k");
            buying.push(click(&gatherer, purchase).await);
        }
        let first = until_asked_after(&shop, &name, None).await;
        assert!(shop.value::<bool>(end, &[&first.0]).await);
        let second = until_asked_after(&shop, &name, Some(first)).await;
        let mut others = Vec::new();
        for n in 0..4 {
            let purchase = Purchase::new(other.item_id, format!("user {n}"));
            others.push(click(&gatherer, purchase).await);
        }
        assert!(shop.value::<bool>(end, &[&second.0]).await);
        for other in others {
            done(within(other).await.expect("no panic"));
        }
        lock.batch_execute("COMMIT").await.expect("a commit");
        for buying in buying {
            done(within(buying).await.expect("no panic"));
        }
        assert_eq!(shop.orders().await, 4);
    }
}

/// A single purchase may be the seller's, who commits it.
#[tokio::test(flavor = "multi_thread")]
async fn only_of_a_batch_is_it_known_that_a_time_out_undid_it() {
    let shop = Shop::open(10).await;
    let mut config = waiting_for_good(&shop);
    config.options(
        "-c flashsale.strategy=atomic -c flashsale.lock_wait=10min -c statement_timeout=100ms",
    );
    let client = connect(&config).await.expect("a connection");
    let lock = lock_item(&shop).await;
    let purchase = Purchase::new(shop.item_id, "anybody");
    let batch = within(purchase_batch(&client, [&purchase], None)).await;
    let single = within(purchase_item(&client, &purchase)).await;
    lock.batch_execute("COMMIT").await.expect("a commit");
    let (batch, single) = (batch.expect_err("an error"), single.expect_err("an error"));
    for (error, is_unknown) in [(batch, false), (single, true)] {
        assert_eq!(error.sqlstate(), Some("57014"), "{error}");
        assert!(error.is_passing(), "{error}");
        assert_eq!(error.is_outcome_unknown(), is_unknown, "{error}");
    }
}

/// The answer never comes: the outcome is unknown, but no session waits for the item for nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_stays_without_an_answer_is_given_up_and_cancelled() {
    let shop = Shop::open(10).await;
    let name = format!("silent {}", shop.item_id);
    let wire = Wire::open().await;
    let mut config = Config::new();
    config
        .host(wire.address.ip().to_string())
        .port(wire.address.port())
        .user(shop.config.get_user().expect("a user"))
        .dbname(shop.config.get_dbname().expect("a database"))
        .options("-c flashsale.strategy=atomic -c flashsale.lock_wait=10min");
    let options = GathererOptions {
        call_timeout: Duration::from_secs(5),
        ..one_connection()
    };
    let gatherer = gatherer(&config, &name, options);
    let lock = lock_item(&shop).await;
    let buying = click(&gatherer, Purchase::new(shop.item_id, "anybody")).await;
    until_waiting(&shop, &name, 1).await;
    wire.fall_silent();
    let outcome = within(buying).await.expect("no panic");
    assert!(
        matches!(outcome, Err(Error::OutcomeUnknown(_))),
        "{outcome:?}"
    );
    until_nobody_waits(&shop, &name).await;
    lock.batch_execute("COMMIT").await.expect("a commit");
}

/// The first session waits for the item; later ones answer `busy` at once.
fn impatient_later(shop: &Shop, name: &str, options: GathererOptions) -> Gatherer {
    let first = waiting(shop).application_name(name).clone();
    let mut later = first.clone();
    later.options("-c flashsale.strategy=atomic -c flashsale.lock_wait=10ms");
    let connections = AtomicUsize::new(0);
    Gatherer::start(options, move || {
        let is_first = connections.fetch_add(1, SeqCst) == 0;
        let config = if is_first {
            first.clone()
        } else {
            later.clone()
        };
        async move { connect(&config).await }
    })
}

/// A click whose call was lost while another session holds the item, so that its repeats are busy.
async fn lost_and_busy(
    shop: &Shop,
    gatherer: &Gatherer,
    name: &str,
) -> (Client, JoinHandle<Outcome>) {
    let lock = lock_item(shop).await;
    let buying = click(gatherer, Purchase::new(shop.item_id, name).key("k")).await;
    until_waiting(shop, name, 1).await;
    end_session(shop, name).await;
    (lock, buying)
}

/// `busy` says that nothing has changed, which nobody knows as long as the lost call may be running.
#[tokio::test(flavor = "multi_thread")]
async fn busy_is_no_answer_to_a_click_whose_first_call_may_have_been_made() {
    let shop = Shop::open(10).await;
    for (patience_s, is_sold) in [(60, true), (3, false)] {
        let name = format!("busy {} {patience_s}", shop.item_id);
        let options = GathererOptions {
            patience: Duration::from_secs(patience_s),
            ..one_connection()
        };
        let gatherer = impatient_later(&shop, &name, options);
        let (lock, buying) = lost_and_busy(&shop, &gatherer, &name).await;
        if is_sold {
            for _ in 0..2 {
                until_answered(&shop, &name).await; // the second time proves that the first was no answer
            }
            lock.batch_execute("COMMIT").await.expect("a commit");
        }
        let outcome = within(buying).await.expect("no panic");
        match outcome {
            Ok(Answer::Success(_)) if is_sold => {}
            Err(Error::OutcomeUnknown(_)) if !is_sold => {}
            outcome => panic!("{patience_s} s: {outcome:?}"),
        }
        drop(lock);
    }
    assert_eq!(shop.orders().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_served_while_a_click_is_asked_again_and_again() {
    let (shop, other) = (Shop::open(10).await, Shop::open(10).await);
    let name = format!("others {}", shop.item_id);
    let gatherer = impatient_later(&shop, &name, one_connection());
    let (lock, buying) = lost_and_busy(&shop, &gatherer, &name).await;
    until_answered(&shop, &name).await; // it is busy
    let purchase = Purchase::new(other.item_id, &*name);
    let call = || gatherer.purchase(purchase.clone());
    let patience = Patience::of(Duration::from_secs(60)); // another test may lock a table
    done(within(patience.purchase(&purchase, call)).await);
    assert!(!buying.is_finished());
    lock.batch_execute("COMMIT").await.expect("a commit");
    done(within(buying).await.expect("no panic"));
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_answers_those_that_rest() {
    let shop = Shop::open(10).await;
    let name = format!("rests {}", shop.item_id);
    let gatherer = impatient_later(&shop, &name, one_connection());
    let (lock, buying) = lost_and_busy(&shop, &gatherer, &name).await;
    until_answered(&shop, &name).await; // it is busy
    let draining = tokio::spawn(async move { gatherer.drain().await });
    lock.batch_execute("COMMIT").await.expect("a commit");
    within(draining).await.expect("no panic");
    done(within(buying).await.expect("no panic"));
}

/// Also while the only connection is at work.
#[tokio::test(flavor = "multi_thread")]
async fn a_click_waits_in_the_queue_no_longer_than_patience() {
    let shop = Shop::open(10).await;
    let name = format!("patience {}", shop.item_id);
    let options = GathererOptions {
        patience: Duration::from_secs(3),
        call_timeout: Duration::from_secs(600),
        ..one_connection()
    };
    let gatherer = gatherer(&waiting_for_good(&shop), &name, options);
    let lock = lock_item(&shop).await;
    let first = click(&gatherer, Purchase::new(shop.item_id, "first")).await;
    until_waiting(&shop, &name, 1).await;
    let second = within(gatherer.purchase(Purchase::new(shop.item_id, "second"))).await;
    assert!(matches!(second, Err(Error::Overloaded)), "{second:?}");
    lock.batch_execute("COMMIT").await.expect("a commit");
    done(within(first).await.expect("no panic"));
    within(gatherer.drain()).await;
    assert_eq!(shop.orders().await, 1);
}

/// Each click with an odd argument is asked alone, which may cost a time-out each.
#[tokio::test(flavor = "multi_thread")]
async fn the_clicks_of_a_batch_are_not_tried_one_by_one_for_longer_than_patience() {
    let tries = Arc::new(AtomicUsize::new(0));
    let options = GathererOptions {
        patience: Duration::from_millis(500),
        ..one_connection()
    };
    let gatherer = Gatherer::start(options, {
        let tries = Arc::clone(&tries);
        move || {
            tries.fetch_add(1, SeqCst);
            pending::<Result<Client, Infallible>>()
        }
    });
    let purchases = (0..10).map(|n| Purchase::new(1, format!("user {n}")).quantity(0));
    let outcomes = rush(&gatherer, purchases.collect()).await;
    let is_failed =
        |outcome: &Outcome| matches!(outcome, Err(Error::NoConnection(_) | Error::Overloaded));
    assert!(outcomes.iter().all(is_failed), "{outcomes:?}");
    let tries = tries.load(SeqCst);
    assert!(tries < 10, "{tries} tries");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_one_connection_is_opened() {
    let shop = Shop::open(10).await;
    let options = GathererOptions {
        connections: 0,
        ..one_connection()
    };
    let gatherer = gatherer(&shop.config, "none", options);
    done(within(gatherer.purchase(Purchase::new(shop.item_id, "anybody"))).await);
}

async fn panics() -> Result<Client, Infallible> {
    sleep(Duration::from_millis(200)).await; // the others wait in the queue
    panic!("a fault of the application's");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_gatherer_whose_connector_panicked() {
    let options = GathererOptions {
        largest_batch: 1,
        ..one_connection()
    };
    let gatherer = Gatherer::start(options, panics);
    let purchases = (0..5).map(|n| Purchase::new(1, format!("user {n}")));
    let outcomes = rush(&gatherer, purchases.collect()).await;
    let closed = |outcome: &&Outcome| matches!(outcome, Err(Error::Closed));
    assert_eq!(outcomes.iter().filter(closed).count(), 4, "{outcomes:?}");
    let later = within(gatherer.purchase(Purchase::new(1, "later"))).await;
    assert!(matches!(later, Err(Error::Closed)), "{later:?}");
    within(gatherer.drain()).await;
}

#[test]
fn nobody_waits_for_a_gatherer_whose_runtime_was_shut_down() {
    let (its, ours) = (
        Runtime::new().expect("a runtime"),
        Runtime::new().expect("a runtime"),
    );
    let gatherer = its.block_on(async {
        Gatherer::start(
            GathererOptions::default(),
            pending::<Result<Client, Infallible>>,
        )
    });
    let clicks: Vec<_> = (0..3)
        .map(|n| {
            let (gatherer, purchase) = (gatherer.clone(), Purchase::new(1, format!("user {n}")));
            ours.spawn(async move { gatherer.purchase(purchase).await })
        })
        .collect();
    its.shutdown_timeout(Duration::from_secs(60));
    ours.block_on(async {
        for click in clicks {
            let outcome = within(click).await.expect("no panic");
            assert!(outcome.is_err(), "{outcome:?}");
        }
        let later = within(gatherer.purchase(Purchase::new(1, "later"))).await;
        assert!(matches!(later, Err(Error::Closed)), "{later:?}");
    });
}
