//! The sale itself: a crowd at one item, and people who shop elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use storm::{Call, Crowd, Pool, Tally, connect, explain};
use tokio::time::interval;
use tokio_postgres::{Client, Config, Error};

use crate::elsewhere::Elsewhere;
use crate::progress::Progress;
use crate::report::Report;
use crate::settings::{OTHER_CONNECTIONS, Settings};

const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

pub async fn hold(settings: &Settings, config: &Config) -> Result<Report, String> {
    let shop = connect(config)
        .await
        .map_err(|error| format!("no server to sell on: {}", explain(&error)))?;
    settings.check_room(&shop).await?;
    sell(settings, config, &shop)
        .await
        .map_err(|error| format!("the sale could not be held: {}", explain(&error)))
}

async fn sell(settings: &Settings, config: &Config, shop: &Client) -> Result<Report, Error> {
    shop.batch_execute("CREATE EXTENSION IF NOT EXISTS flashsale")
        .await?;
    let item_id = create_item(shop, "the hot item", settings.units).await?;
    let rehearsal = create_item(shop, "rehearsal", 1_000_000).await?;
    let pool = open_pool(config, settings.connections, rehearsal).await?;
    let elsewhere = Elsewhere {
        pool: open_pool(config, OTHER_CONNECTIONS, rehearsal).await?,
        items: create_other_items(shop).await?,
    };
    let Settings {
        units,
        buyers,
        connections,
    } = settings;
    println!("{units} units on sale, {buyers} buyers, {connections} connections");

    let started_at = Instant::now();
    let others = elsewhere.start();
    let (hot, sold_out_after) = watch(settings, &pool, item_id).await;
    let answered_after = started_at.elapsed();
    let others = others.stop().await;

    let orders = "SELECT count(*) FROM flashsale.orders WHERE item_id = $1";
    Ok(Report {
        units: settings.units,
        expected: settings.expected_sales(),
        buyers: settings.buyers,
        hot,
        retries: pool.retries(),
        sold_out_after,
        answered_after,
        others,
        orders: shop.query_one_scalar(orders, &[&item_id]).await?,
        audit: audit(shop).await?,
    })
}

async fn audit(shop: &Client) -> Result<Vec<String>, Error> {
    let rows = shop
        .query("SELECT a::text FROM flashsale.audit() a", &[])
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn create_item(shop: &Client, name: &str, units: u64) -> Result<i64, Error> {
    let create =
        "SELECT flashsale.create_item($1, name => $2, unit_price => 4900, currency => 'EUR')";
    shop.query_one_scalar(create, &[&(units as i64), &name])
        .await
}

async fn create_other_items(shop: &Client) -> Result<Vec<i64>, Error> {
    let mut items = Vec::new();
    for n in 1..=OTHER_CONNECTIONS {
        items.push(create_item(shop, &format!("other item {n}"), 1_000_000).await?);
    }
    Ok(items)
}

/// Connections that have been used before, like those of an application when a sale begins.
async fn open_pool(config: &Config, size: usize, rehearsal: i64) -> Result<Arc<Pool>, Error> {
    let mut pool = Pool::open(config, size).await?;
    pool.warm_up(&Call::buy(rehearsal, "rehearsal")).await?;
    Ok(Arc::new(pool))
}

/// Starts the buyers, shows the progress, and notes when the last unit was sold.
async fn watch(settings: &Settings, pool: &Arc<Pool>, item_id: i64) -> (Tally, Duration) {
    let mut progress = Progress::start(settings.expected_sales(), settings.buyers);
    let mut looks = interval(BETWEEN_LOOKS);
    let (mut tally, mut sold_out_after) = (Tally::default(), Duration::ZERO);
    let started_at = Instant::now();
    let buyers = (1..=settings.buyers).map(|n| Call::buy(item_id, format!("buyer {n}")));
    let mut crowd = Crowd::start(pool, buyers);
    loop {
        tokio::select! {
            done = crowd.next() => {
                let Some(done) = done else { break };
                tally.add(&done);
                if done.answer.is_ok_and(|answer| answer.success()) {
                    sold_out_after = started_at.elapsed();
                }
            }
            _ = looks.tick() => progress.show(tally.sold, tally.refused(), pool.retries()),
        }
    }
    progress.show(tally.sold, tally.refused(), pool.retries());
    progress.finish();
    (tally, sold_out_after)
}
