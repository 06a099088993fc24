//! No caller gets a success before it is as durable as it requires, and none waits for the
//! durability that another one requires.

use std::time::Duration;

use storm::Call;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls};

use super::{
    CALLERS, DOORS, assert_truthful, buy, buying, close_door, hold, open_door, orders, set, soon,
    storm, terminate, until, until_asked, worker,
};
use crate::shop::{Shop, answer, within};
use crate::sql::{run, sqlstate};

const CANCELLED: &str = "57014";
const OUTCOME_UNKNOWN: &str = "08007";

/// Half of the callers wait for durability, the others do not; each gets a unit.
#[tokio::test(flavor = "multi_thread")]
async fn callers_differ_in_synchronous_commit() {
    let shop = Shop::grouped(&[]).await;
    let item_id = shop.item(4_000).await;
    let mut crowds = Vec::new();
    for (n, level) in ["off", "local", "on", "remote_apply"]
        .into_iter()
        .enumerate()
    {
        let mut config = shop.config.clone();
        config.options(format!(
            "-c flashsale.strategy=grouped -c synchronous_commit={level}"
        ));
        let pool = storm::Pool::open(&config, CALLERS / 4)
            .await
            .expect("connections");
        let names = n * 1_000..(n + 1) * 1_000;
        let calls = names.map(|n| Call::buy(item_id, format!("user {n}")));
        crowds.push(storm(&pool.into(), calls));
    }
    let mut done = Vec::new();
    for crowd in crowds {
        done.extend(within(crowd).await.expect("the crowd comes home"));
    }
    assert!(done.iter().all(|done| answer(done).success()));
    assert_eq!(assert_truthful(&shop, &done).await, 4_000);
    assert_eq!(shop.inventory(item_id).await, 0);
    shop.assert_sound().await;
}

/// A shop with a synchronous standby that does not exist. Its setup does not wait for it.
async fn shop_without_its_standby() -> (Shop, i64) {
    let settings = ["synchronous_commit = local", "flashsale.group_wait = 60s"];
    let shop = Shop::grouped(&settings).await;
    let item_id = shop.item(100).await;
    set(&shop, "synchronous_standby_names", "nobody").await;
    (shop, item_id)
}

async fn careful(shop: &Shop) -> Client {
    let client = shop.connect().await;
    run(&client, "SET synchronous_commit = on").await;
    client
}

fn purchase(client: Client, item_id: i64, user_id: &str) -> JoinHandle<String> {
    let purchase = format!("SELECT flashsale.purchase_item({item_id}, '{user_id}')");
    tokio::spawn(async move { sqlstate(&client, &purchase).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_success_before_the_standby_has_it() {
    let (shop, item_id) = shop_without_its_standby().await;
    let client = careful(&shop).await;
    run(&client, "SET statement_timeout = '5s'").await;
    let caller = purchase(client, item_id, "the hasty");
    until(&shop.client, "SELECT count(*) = 1 FROM flashsale.orders").await;
    assert_eq!(within(caller).await.expect("an error"), CANCELLED);

    let client = careful(&shop).await;
    let token = client.cancel_token();
    let caller = purchase(client, item_id, "the cancelled");
    until(&shop.client, "SELECT count(*) = 2 FROM flashsale.orders").await;
    sleep(Duration::from_millis(300)).await;
    assert!(!caller.is_finished(), "a success without the standby");
    token.cancel_query(NoTls).await.expect("a cancel request");
    assert_eq!(within(caller).await.expect("an error"), CANCELLED);

    // Cancelling a worker's wait does not publish the success either.
    let caller = purchase(careful(&shop).await, item_id, "the patient");
    until(&shop.client, "SELECT count(*) = 3 FROM flashsale.orders").await;
    for name in ["seller", "publisher"] {
        let pid = worker(&shop.client, name).await;
        run(&shop.client, &format!("SELECT pg_cancel_backend({pid})")).await;
    }
    sleep(Duration::from_millis(300)).await;
    assert!(!caller.is_finished(), "a success without the standby");

    // No standby is required any more, and callers that still wait get their answers.
    set(&shop, "synchronous_standby_names", "").await;
    let told = within(caller).await.expect("an answer");
    assert_eq!(told, "", "the patient");
    assert!(
        within(buy(&careful(&shop).await, item_id, "the next"))
            .await
            .success()
    );
    assert_eq!(orders(&shop.client).await, 4);
    shop.assert_sound().await;
}

/// Nor does a repeat succeed, though the gate is shut, where the caller finds its order by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_at_the_gate_waits_for_the_standby() {
    let settings = [
        "synchronous_commit = local",
        "flashsale.group_wait = 60s",
        "flashsale.sold_out_ttl = 60s",
    ];
    let shop = Shop::grouped(&settings).await;
    let item_id = shop.item(1).await;
    set(&shop, "synchronous_standby_names", "nobody").await;
    let purchase = format!("SELECT flashsale.purchase_item({item_id}, 'alice', 1, 'click')");
    let client = careful(&shop).await;
    let token = client.cancel_token();
    let first = purchase.clone();
    let caller = tokio::spawn(async move { sqlstate(&client, &first).await });
    until(&shop.client, "SELECT count(*) = 1 FROM flashsale.orders").await;
    token.cancel_query(NoTls).await.expect("a cancel request");
    assert_eq!(within(caller).await.expect("an error"), CANCELLED);
    let refused = within(buy(&shop.client, item_id, "bob")).await;
    assert_eq!(refused.reason(), "out_of_stock", "{refused:?}");
    let is_shut = "SELECT value > 0 FROM flashsale.stats WHERE subject = 'gate' AND name = 'shut'";
    until(&shop.client, is_shut).await;

    let client = careful(&shop).await;
    let again = tokio::spawn(async move { crate::sql::ask(&client, &purchase).await });
    sleep(Duration::from_millis(300)).await;
    assert!(!again.is_finished(), "a success without the standby");
    set(&shop, "synchronous_standby_names", "").await;
    let again = within(again).await.expect("an answer");
    assert!(again.success(), "{again:?}");
    assert_eq!(orders(&shop.client).await, 1);
    shop.assert_sound().await;
}

/// Workers that wait for the standby are shut down: what they waited for is not a success yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_cut_short_is_no_success() {
    let (shop, item_id) = shop_without_its_standby().await;
    let caller = purchase(careful(&shop).await, item_id, "alice");
    until(&shop.client, "SELECT count(*) = 1 FROM flashsale.orders").await;
    for name in ["seller", "publisher"] {
        let pid = worker(&shop.client, name).await;
        terminate(&shop.client, pid).await;
    }
    sleep(Duration::from_millis(300)).await;
    let cut_short = caller.is_finished();
    set(&shop, "synchronous_standby_names", "").await;
    let told = within(caller).await.expect("an answer or an error");
    assert_eq!(told, if cut_short { OUTCOME_UNKNOWN } else { "" });
    let pool = shop.pool(1).await;
    let next = within(pool.settle(&Call::buy(item_id, "bob"))).await;
    assert!(next.expect("an answer").success());
    shop.assert_sound().await;
}

/// One transaction serves four callers: one that waits for a standby that does not exist, two that
/// do not require it, and one that is refused.
#[tokio::test(flavor = "multi_thread")]
async fn each_waits_for_its_own_durability() {
    let shop = Shop::grouped(&["synchronous_commit = local", "flashsale.group_wait = 60s"]).await;
    shop.run(DOORS).await;
    let (item_id, other) = (shop.item(100).await, shop.item(1).await);
    set(&shop, "synchronous_standby_names", "nobody").await;
    let doors = shop.connect().await;
    close_door(&doors, 1).await;
    // The four requests gather while the seller serves another item.
    let at_other = buying(shop.connect().await, other, "door 1");
    until_asked(&shop.client, 1).await;
    until(
        &shop.client,
        "SELECT value = 1 FROM flashsale.stats WHERE subject = 'seller' AND name = 'requests'",
    )
    .await;
    let mut callers = Vec::new();
    for (n, level) in ["remote_apply", "local", "off"].into_iter().enumerate() {
        let client = shop.connect().await;
        run(&client, &format!("SET synchronous_commit = {level}")).await;
        callers.push(buying(client, item_id, level));
        until_asked(&shop.client, n + 2).await;
    }
    let client = shop.connect().await;
    run(&client, "SET synchronous_commit = remote_apply").await;
    let too_many = format!("SELECT flashsale.purchase_item({item_id}, 'greedy', 1000)");
    let refused = tokio::spawn(async move { crate::sql::ask(&client, &too_many).await });
    until_asked(&shop.client, 5).await;
    open_door(&doors, 1).await;

    const WAITED: &str = "it waited for a standby that it does not require";
    assert!(soon(at_other, WAITED).await.success());
    let refused = soon(refused, WAITED).await;
    assert_eq!(refused.reason(), "out_of_stock", "{refused:?}");
    let careful = callers.remove(0);
    for caller in callers {
        assert!(soon(caller, WAITED).await.success());
    }
    assert_eq!(orders(&shop.client).await, 4);
    assert!(!careful.is_finished(), "a success without the standby");
    set(&shop, "synchronous_standby_names", "").await;
    assert!(within(careful).await.expect("an answer").success());
    shop.assert_sound().await;
}

/// Notes how far the WAL was written when `first` was served, and how far it was on disk when `second`
/// was. `bad` fails.
const NOTES: &str = "
    CREATE TABLE noted (user_id text, lsn pg_lsn, transaction xid8 DEFAULT pg_current_xact_id());
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        CASE NEW.user_id
            WHEN 'first' THEN INSERT INTO public.noted VALUES ('first', pg_current_wal_insert_lsn());
            WHEN 'second' THEN INSERT INTO public.noted VALUES ('second', pg_current_wal_flush_lsn());
            ELSE RAISE 'bad';
        END CASE;
        RETURN NEW;
    END $$;
    CREATE TRIGGER note BEFORE INSERT ON flashsale.orders FOR EACH ROW EXECUTE FUNCTION note()";

/// A group that fails is served in halves. Only the commit of the last one may flush, so that no other
/// waits for the disk while it holds the item. Whatever else flushes at times, it does not always.
#[tokio::test(flavor = "multi_thread")]
async fn the_halves_of_a_group_share_one_flush() {
    let shop = Shop::grouped(&["flashsale.group_wait = 60s"]).await;
    shop.run(NOTES).await;
    let item_id = shop.item(10_000).await;
    within(async {
        loop {
            let holder = shop.connect().await;
            hold(&holder, item_id).await;
            let mut buyers = Vec::new();
            for user_id in ["first", "second", "bad"] {
                let purchase = purchase(shop.connect().await, item_id, user_id);
                buyers.push(purchase);
                until_asked(&shop.client, buyers.len()).await;
            }
            run(&holder, "ROLLBACK").await;
            for buyer in buyers {
                buyer.await.expect("an answer or an error");
            }
            let shared = "SELECT EXISTS (
                SELECT FROM noted AS first JOIN noted AS second
                    ON second.transaction > first.transaction AND second.lsn < first.lsn
                WHERE first.user_id = 'first' AND second.user_id = 'second')";
            if shop.value(shared, &[]).await {
                return;
            }
        }
    })
    .await;
    shop.assert_sound().await;
}
