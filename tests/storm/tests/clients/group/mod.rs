//! Strategy `grouped`: which callers it refuses, which it serves, and the answers when a caller, the
//! seller or the whole server dies.

mod callers;
mod durable;
mod neighbours;
mod queue;
mod references;
mod refusals;
mod served;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use storm::{Answer, Call, Crowd, Done, Pool};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::shop::{Shop, within};
use crate::sql::{ask, run, value};

/// How many callers run at once, enough for these tests to make them compete.
const CALLERS: usize = 64;

/// Buyers named `user 0`, `user 1` and so on, one unit each.
fn buyers(item_id: i64, buyers: usize) -> impl Iterator<Item = Call> {
    (0..buyers).map(move |n| Call::buy(item_id, format!("user {n}")))
}

fn storm(pool: &Arc<Pool>, calls: impl IntoIterator<Item = Call>) -> JoinHandle<Vec<Done>> {
    tokio::spawn(Crowd::start(pool, calls).all())
}

fn user(done: &Done) -> &str {
    match &done.call {
        Call::Purchase { user_id, .. } => user_id,
        other => panic!("{other:?} is no purchase"),
    }
}

/// Each reported order belongs to its caller, and refused callers have none. Only callers that got
/// an error may have an order that was not reported, and one at most. Returns the number of
/// reported orders.
async fn assert_truthful(shop: &Shop, done: &[Done]) -> usize {
    let orders = "SELECT user_id, array_agg(order_id) FROM flashsale.orders GROUP BY user_id";
    let rows = shop.client.query(orders, &[]).await.expect("orders");
    let mut rows: BTreeMap<String, Vec<i64>> =
        rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut told = 0;
    for done in done {
        let orders = rows.remove(user(done)).unwrap_or_default();
        match &done.answer {
            Ok(answer) if answer.success() => {
                told += 1;
                let order_id = answer.order_id().expect("an order id");
                assert_eq!(orders, [order_id], "{:?}: {answer:?}", done.call);
            }
            Ok(answer) => assert_eq!(orders, [0; 0], "{:?}: {answer:?}", done.call),
            Err(_) => assert!(orders.len() <= 1, "{:?}: {orders:?}", done.call),
        }
    }
    assert!(rows.is_empty(), "orders of nobody: {rows:?}");
    told
}

/// The SQLSTATEs of the callers' errors; "" for a connection that was closed.
fn errors(done: &[Done]) -> BTreeSet<&str> {
    let errors = done.iter().filter_map(|done| done.answer.as_ref().err());
    errors
        .map(|error| error.code().map_or("", SqlState::code))
        .collect()
}

async fn buy(client: &Client, item_id: i64, user_id: &str) -> Answer {
    let purchase = format!("SELECT flashsale.purchase_item({item_id}, '{user_id}')");
    ask(client, &purchase).await
}

/// Waits until a query returns true.
async fn until(client: &Client, query: &str) {
    within(async {
        while !value::<bool>(client, query, &[]).await {
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// The answer of a caller that should not wait for somebody else, who waits for a minute or for ever.
/// Not a measure of speed: far longer than an answer takes.
async fn soon(caller: JoinHandle<Answer>, why_not: &str) -> Answer {
    const PATIENCE: Duration = Duration::from_secs(30);
    let answer = timeout(PATIENCE, caller).await.expect(why_not);
    answer.expect("an answer")
}

/// Waits until this many callers wait for the seller.
async fn until_asked(client: &Client, callers: usize) {
    let asked = format!(
        "SELECT count(*) = {callers} FROM pg_stat_activity
         WHERE query LIKE '%purchase_item%' AND state = 'active' AND wait_event_type = 'Extension'"
    );
    until(client, &asked).await;
}

/// Locks an item's row until the client's transaction ends.
async fn hold(client: &Client, item_id: i64) {
    let hold = "BEGIN; SELECT 1 FROM flashsale.items WHERE item_id =";
    run(client, &format!("{hold} {item_id} FOR UPDATE")).await;
}

/// The buyer `door 7` waits in a trigger while another session holds the advisory lock 7, and so
/// does the seller. lock_timeout does not matter.
const DOORS: &str = "
    CREATE FUNCTION wait_at_the_door() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.user_id LIKE 'door %' THEN
            WHILE NOT pg_try_advisory_xact_lock_shared(substr(NEW.user_id, 6)::bigint) LOOP
                PERFORM pg_sleep(0.002);
            END LOOP;
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER wait_at_the_door BEFORE INSERT ON flashsale.orders
        FOR EACH ROW EXECUTE FUNCTION wait_at_the_door()";

async fn close_door(client: &Client, door: i32) {
    run(client, &format!("SELECT pg_advisory_lock({door})")).await;
}

async fn open_door(client: &Client, door: i32) {
    run(client, &format!("SELECT pg_advisory_unlock({door})")).await;
}

/// A buyer whose purchase runs in a task of its own.
fn buying(client: Client, item_id: i64, user_id: &str) -> JoinHandle<Answer> {
    let user_id = user_id.to_owned();
    tokio::spawn(async move { buy(&client, item_id, &user_id).await })
}

async fn orders(client: &Client) -> i64 {
    value(client, "SELECT count(*) FROM flashsale.orders", &[]).await
}

/// The process of a worker, once there is one.
async fn worker(client: &Client, name: &str) -> i32 {
    let pid = format!(
        "SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE backend_type = 'flashsale {name}'"
    );
    within(async {
        loop {
            match value::<i32>(client, &pid, &[]).await {
                0 => sleep(Duration::from_millis(5)).await,
                pid => return pid,
            }
        }
    })
    .await
}

/// Ends a process, and waits until it is gone.
async fn terminate(client: &Client, pid: i32) {
    run(client, &format!("SELECT pg_terminate_backend({pid})")).await;
    until(
        client,
        &format!("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})"),
    )
    .await;
}

/// Changes a setting of the server's, and waits until its processes have been told. A session that
/// begins then has the new value, and others have it from their next statement on.
async fn set(shop: &Shop, name: &str, to: &str) {
    shop.run(&format!("ALTER SYSTEM SET {name} = '{to}'")).await;
    shop.run("SELECT pg_reload_conf()").await;
    let is_set = format!("SELECT current_setting('{name}') = '{to}'");
    within(async { while !value::<bool>(&shop.connect().await, &is_set, &[]).await {} }).await;
    // No query shows whether a worker has reloaded it, too.
    sleep(Duration::from_millis(100)).await;
}
