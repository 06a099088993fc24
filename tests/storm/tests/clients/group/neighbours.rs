//! One bad request never fails its neighbours, and neither does work on the tables.

use storm::{Call, Done};

use super::{
    CALLERS, DOORS, assert_truthful, buying, close_door, errors, open_door, soon, storm, until,
    until_asked, user,
};
use crate::shop::{Shop, answer, within};
use crate::sql::{run, sqlstate, value};

const BUYERS: usize = 1_000;

fn is_bad(done: &Done) -> bool {
    user(done).starts_with("bad")
}

/// One buyer in ten is bad; after their purchases the good ones have an order each, and the
/// bad ones an error.
async fn assert_fails_alone(guard: &str, code: &str) {
    let shop = Shop::grouped(&[]).await;
    shop.run(guard).await;
    let item_id = shop.item(2 * BUYERS as i64).await;
    let name = |n| {
        if n % 10 == 3 {
            format!("bad {n}")
        } else {
            format!("user {n}")
        }
    };
    let pool = shop.pool(CALLERS).await;
    let calls = (0..BUYERS).map(|n| Call::buy(item_id, name(n)));
    let done = within(storm(&pool, calls))
        .await
        .expect("the crowd comes home");
    let (bad, good): (Vec<Done>, Vec<Done>) = done.into_iter().partition(is_bad);
    assert_eq!(bad.len(), BUYERS / 10);
    assert_eq!(errors(&bad).into_iter().collect::<Vec<_>>(), [code]);
    assert!(bad.iter().all(|done| done.answer.is_err()));
    assert!(good.iter().all(|done| answer(done).success()));
    assert_eq!(assert_truthful(&shop, &good).await, good.len());
    assert_eq!(
        shop.inventory(item_id).await as usize,
        2 * BUYERS - good.len()
    );
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_trigger_fails_its_buyer_alone() {
    let guard = "
        CREATE FUNCTION no_bad() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.user_id LIKE 'bad %' THEN
                RAISE EXCEPTION 'not %', NEW.user_id USING ERRCODE = 'P0001';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER no_bad BEFORE INSERT ON flashsale.orders
            FOR EACH ROW EXECUTE FUNCTION no_bad()";
    assert_fails_alone(guard, "P0001").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_trigger_fails_its_buyer_alone() {
    let guard = "
        CREATE FUNCTION no_bad() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.user_id LIKE 'bad %' THEN
                RAISE EXCEPTION 'not %', NEW.user_id USING ERRCODE = 'P0001';
            END IF;
            RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER no_bad AFTER INSERT ON flashsale.orders
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION no_bad()";
    assert_fails_alone(guard, "P0001").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_fails_its_buyer_alone() {
    const CHECK_VIOLATION: &str = "23514";
    let guard = "ALTER TABLE flashsale.orders ADD CHECK (user_id NOT LIKE 'bad %')";
    assert_fails_alone(guard, CHECK_VIOLATION).await;
}

/// A trigger that would sleep for ever is cut short; who shares a commit with it is told busy
/// and served without it in the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_trigger_does_not_hold_the_seller() {
    let shop = Shop::grouped(&["flashsale.group_wait = 200ms"]).await;
    shop.run(
        "CREATE FUNCTION sleep_for_bad() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.user_id LIKE 'bad %' THEN PERFORM pg_sleep(600); END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER sleep_for_bad BEFORE INSERT ON flashsale.orders
             FOR EACH ROW EXECUTE FUNCTION sleep_for_bad()",
    )
    .await;
    let item_id = shop.item(1_000).await;
    let pool = shop.pool(CALLERS).await;
    let crowd = storm(
        &pool,
        (0..300).map(|n| Call::buy(item_id, format!("user {n}"))),
    );
    let slow = shop.pool(1).await;
    for n in 0..3 {
        let answer = within(slow.call(&Call::buy(item_id, format!("bad {n}")))).await;
        let answer = answer.expect("an answer");
        assert_eq!(
            (answer.reason(), answer.retryable()),
            ("busy", true),
            "{answer:?}"
        );
    }
    let done = within(crowd).await.expect("the crowd comes home");
    assert!(done.iter().all(|done| answer(done).success()));
    assert_eq!(assert_truthful(&shop, &done).await, 300);
    shop.assert_sound().await;
}

/// Ten stale orders do not expire because their triggers wait for a lock. The search for one that does
/// leaves the group time to sell it.
#[tokio::test(flavor = "multi_thread")]
async fn triggers_that_wait_for_a_lock_leave_time_for_the_sale() {
    let settings = [
        "flashsale.group_wait = 10s",
        "flashsale.lock_wait = 60s",
        "flashsale.reconcile_interval = 0",
    ];
    let shop = Shop::grouped(&settings).await;
    let item_id = shop.item(11).await;
    shop.run(
        "CREATE TABLE held AS SELECT 1 AS n;
         CREATE FUNCTION want_held() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.user_id <> 'user 10' THEN PERFORM FROM public.held FOR UPDATE; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER want_held BEFORE UPDATE ON flashsale.orders
             FOR EACH ROW EXECUTE FUNCTION want_held()",
    )
    .await;
    let pool = shop.pool(1).await;
    let done = within(storm(&pool, super::buyers(item_id, 11)))
        .await
        .expect("the buyers come home");
    assert!(done.iter().all(|done| answer(done).success()));
    shop.run("UPDATE flashsale.orders SET expires_at = clock_timestamp() - interval '1 hour' + order_id * interval '1 s'")
        .await;
    let holder = shop.connect().await;
    run(&holder, "BEGIN; SELECT FROM held FOR UPDATE").await;
    let sold = within(super::buy(&shop.client, item_id, "late")).await;
    assert!(sold.success(), "{sold:?}");
    // Nothing else expires, but not for ever.
    let busy = within(super::buy(&shop.client, item_id, "too late")).await;
    assert_eq!(busy.reason(), "busy");
    run(&holder, "COMMIT").await;
    let sold = within(super::buy(&shop.client, item_id, "in time")).await;
    assert!(sold.success(), "{sold:?}");
    shop.assert_sound().await;
}

/// Each change waits for its lock and then keeps it for a while. Callers hold no lock while
/// they wait, so nobody deadlocks; an error would show.
#[tokio::test(flavor = "multi_thread")]
async fn tables_are_altered_in_mid_storm() {
    const UNITS: i64 = 1_000_000;
    const WAVE: usize = 500;
    let shop = Shop::grouped(&["deadlock_timeout = 50ms"]).await;
    let items = [shop.item(UNITS).await, shop.item(UNITS).await];
    let pool = shop.pool(CALLERS).await;
    let operator = shop.connect().await;
    let changes = tokio::spawn(async move {
        run(&operator, "SET flashsale.protect_data = off").await;
        for change in 0..12 {
            let table = ["orders", "items"][change % 2];
            let sold = format!("SELECT count(*) >= {} FROM flashsale.orders", change * 200);
            until(&operator, &sold).await;
            let alter = format!(
                "ALTER TABLE flashsale.{table} ADD COLUMN extra_{change} text DEFAULT 'x';
                 SELECT pg_sleep(0.1)"
            );
            assert_eq!(sqlstate(&operator, &alter).await, "", "{alter}");
        }
    });
    let mut done = Vec::new();
    while !changes.is_finished() {
        let names = done.len()..done.len() + WAVE;
        let calls = names.map(|n| Call::buy(items[n % 2], format!("user {n}")));
        let wave = within(storm(&pool, calls)).await;
        done.extend(wave.expect("the crowd comes home"));
    }
    within(changes).await.expect("no change fails");
    assert!(done.iter().all(|done| answer(done).success()));
    assert_eq!(assert_truthful(&shop, &done).await, done.len());
    for item_id in items {
        let sold = done.len() as i64 / 2;
        assert_eq!(shop.inventory(item_id).await, UNITS - sold);
    }
    shop.assert_sound().await;
}

/// A caller that held a lock on a table while it waits would deadlock with this, unseen: the
/// seller waits for the ALTER, the ALTER for the caller, the caller for the seller.
#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_caller_holds_no_lock() {
    let shop = Shop::grouped(&["flashsale.group_wait = 60s"]).await;
    let item_id = shop.item(10).await;
    let (client, holder) = (shop.connect().await, shop.connect().await);
    // A known key makes the caller look before it asks, if it looks at all.
    let purchase = format!("SELECT flashsale.purchase_item({item_id}, 'alice', 1, 'a key')");
    run(&holder, "BEGIN; SELECT 1 FROM flashsale.items FOR UPDATE").await;
    let caller = tokio::spawn(async move { sqlstate(&client, &purchase).await });
    super::until_asked(&shop.client, 1).await;
    let locks = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
         WHERE a.query LIKE '%a key%' AND a.pid <> pg_backend_pid() AND l.relation IS NOT NULL";
    assert_eq!(value::<i64>(&shop.client, locks, &[]).await, 0);
    run(&holder, "COMMIT").await;
    assert_eq!(within(caller).await.expect("an answer"), "");
}

/// Answers that are committed are not held back while another item of the same round has its
/// turn, however long that takes.
#[tokio::test(flavor = "multi_thread")]
async fn committed_answers_do_not_wait_for_a_slow_item() {
    let shop = Shop::grouped(&["flashsale.group_wait = 60s"]).await;
    shop.run(DOORS).await;
    let (quick, slow, first) = (
        shop.item(10).await,
        shop.item(10).await,
        shop.item(10).await,
    );
    let doors = shop.connect().await;
    close_door(&doors, 1).await;
    close_door(&doors, 2).await;
    // While the seller is at the first item, the others gather for one round.
    let at_first = buying(shop.connect().await, first, "door 1");
    until_asked(&shop.client, 1).await;
    until(
        &shop.client,
        "SELECT value = 1 FROM flashsale.stats WHERE subject = 'seller' AND name = 'requests'",
    )
    .await;
    let at_quick = buying(shop.connect().await, quick, "alice");
    until_asked(&shop.client, 2).await;
    let at_slow = buying(shop.connect().await, slow, "door 2");
    until_asked(&shop.client, 3).await;
    open_door(&doors, 1).await;
    assert!(within(at_first).await.expect("an answer").success());
    let answer = soon(at_quick, "it waited for the slow item").await;
    assert!(answer.success());
    assert!(!at_slow.is_finished(), "the slow item was not slow");
    open_door(&doors, 2).await;
    assert!(within(at_slow).await.expect("an answer").success());
    shop.assert_sound().await;
}

/// A row that is updated by each sale stays on its page, because earlier versions are pruned, without
/// vacuum, and however the row is found.
async fn assert_stays_on_its_page(change: &str) {
    const SALES: usize = 1_000;
    let shop = Shop::grouped(&["autovacuum = off"]).await;
    shop.run(change).await;
    let item_id = shop.item(SALES as i64).await;
    // One at a time, so that each is a transaction of its own.
    let pool = shop.pool(1).await;
    let done = within(storm(&pool, super::buyers(item_id, SALES)))
        .await
        .expect("the buyers come home");
    assert!(done.iter().all(|done| answer(done).success()));
    let pages = "SELECT pg_relation_size('flashsale.items') / current_setting('block_size')::int";
    let pages = value::<i64>(&shop.client, pages, &[]).await;
    assert!((1..=2).contains(&pages), "{pages} pages");
    shop.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_row_stays_on_its_page() {
    assert_stays_on_its_page("SELECT").await;
}

/// With a column of the shop's, items are changed by statements alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_hot_row_stays_on_its_page_by_sql() {
    assert_stays_on_its_page("ALTER TABLE flashsale.items ADD COLUMN extra text").await;
}
