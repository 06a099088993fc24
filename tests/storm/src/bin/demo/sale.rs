//! The sale itself and its report.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use storm::{Call, Crowd, Done, Pool, Tally, connect, explain};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};
use tokio_postgres::{Client, Config};

use crate::progress::Progress;
use crate::settings::{OTHER_CONNECTIONS, Settings};

const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// How long someone who shops elsewhere looks at the next page.
const BETWEEN_OTHER_PURCHASES: Duration = Duration::from_millis(5);

pub struct Report {
    expected: u64,
    buyers: u64,
    hot: Tally,
    retries: u64,
    sold_out_after: Duration,
    answered_after: Duration,
    others: Tally,
    orders: i64,
    audit_rows: i64,
}

pub async fn hold(settings: &Settings, config: &Config) -> Result<Report, String> {
    let Settings {
        units,
        buyers,
        connections,
    } = *settings;
    let shop = connect(config)
        .await
        .map_err(|error| format!("no server to sell on: {}", explain(&error)))?;
    settings.check_room(&shop).await?;
    sell(settings, config, &shop).await.map_err(|error| {
        format!("the sale of {units} units to {buyers} buyers over {connections} connections failed: {}", explain(&error))
    })
}

async fn sell(
    settings: &Settings,
    config: &Config,
    shop: &Client,
) -> Result<Report, tokio_postgres::Error> {
    shop.batch_execute("CREATE EXTENSION IF NOT EXISTS flashsale")
        .await?;
    let item_id = create_item(shop, "the hot item", settings.units as i64).await?;
    let pool = Arc::new(Pool::open(config, settings.connections).await?);
    let elsewhere = Elsewhere::open(config, shop).await?;
    println!(
        "{} units on sale, {} buyers, {} connections:",
        settings.units, settings.buyers, settings.connections
    );

    let started_at = Instant::now();
    let others = elsewhere.start();
    let (hot, sold_out_after) = watch(settings, &pool, item_id).await;
    let answered_after = started_at.elapsed();
    let others = others.stop().await;

    let orders = "SELECT count(*) FROM flashsale.orders WHERE item_id = $1";
    Ok(Report {
        expected: settings.expected_sales(),
        buyers: settings.buyers,
        hot,
        retries: pool.retries(),
        sold_out_after,
        answered_after,
        others,
        orders: shop.query_one_scalar(orders, &[&item_id]).await?,
        audit_rows: shop
            .query_one_scalar("SELECT count(*) FROM flashsale.audit()", &[])
            .await?,
    })
}

async fn create_item(shop: &Client, name: &str, units: i64) -> Result<i64, tokio_postgres::Error> {
    let create =
        "SELECT flashsale.create_item($1, name => $2, unit_price => 4900, currency => 'EUR')";
    shop.query_one_scalar(create, &[&units, &name]).await
}

/// Lets the buyers in, shows how it goes, and notes when the last unit went.
async fn watch(settings: &Settings, pool: &Arc<Pool>, item_id: i64) -> (Tally, Duration) {
    let mut progress = Progress::start(settings.expected_sales(), settings.buyers);
    let mut looks = interval(BETWEEN_LOOKS);
    let (mut tally, mut sold_out_after) = (Tally::default(), Duration::ZERO);
    let started_at = Instant::now();
    let mut crowd = Crowd::start(
        pool,
        (1..=settings.buyers).map(|n| Call::buy(item_id, format!("buyer {n}"))),
    );
    loop {
        tokio::select! {
            done = crowd.next() => {
                let Some(done) = done else { break };
                let sold = tally.sold;
                tally.add(&done);
                if tally.sold > sold {
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

/// People who shop elsewhere at the same time, each in front of another shelf.
struct Elsewhere {
    pool: Arc<Pool>,
    items: Vec<i64>,
}

impl Elsewhere {
    async fn open(config: &Config, shop: &Client) -> Result<Self, tokio_postgres::Error> {
        let mut items = Vec::new();
        for n in 1..=OTHER_CONNECTIONS {
            items.push(create_item(shop, &format!("other item {n}"), 1_000_000_000).await?);
        }
        Ok(Self {
            pool: Arc::new(Pool::open(config, OTHER_CONNECTIONS).await?),
            items,
        })
    }

    fn start(self) -> Shopping {
        let closing = Arc::new(AtomicBool::new(false));
        let mut shoppers = JoinSet::new();
        for item_id in self.items {
            shoppers.spawn(shop_until(
                Arc::clone(&closing),
                Arc::clone(&self.pool),
                item_id,
            ));
        }
        Shopping { closing, shoppers }
    }
}

async fn shop_until(closing: Arc<AtomicBool>, pool: Arc<Pool>, item_id: i64) -> Vec<Done> {
    let mut bought = Vec::new();
    while !closing.load(Relaxed) {
        let call = Call::buy(item_id, "somebody else");
        let clicked_at = Instant::now();
        let answer = pool.settle(&call).await;
        bought.push(Done {
            call,
            answer,
            took: clicked_at.elapsed(),
        });
        sleep(BETWEEN_OTHER_PURCHASES).await;
    }
    bought
}

struct Shopping {
    closing: Arc<AtomicBool>,
    shoppers: JoinSet<Vec<Done>>,
}

impl Shopping {
    async fn stop(self) -> Tally {
        self.closing.store(true, Relaxed);
        let mut tally = Tally::default();
        self.shoppers
            .join_all()
            .await
            .iter()
            .flatten()
            .for_each(|done| tally.add(done));
        tally
    }
}

impl Report {
    /// What must never be; empty when all is well.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut expect = |what: &str, got: i64, wanted: i64| {
            if got != wanted {
                complaints.push(format!("{what}: {got} instead of {wanted}"));
            }
        };
        expect("units sold", self.hot.sold as i64, self.expected as i64);
        expect("orders in the table", self.orders, self.expected as i64);
        expect(
            "refused because sold out",
            self.sold_out() as i64,
            (self.buyers - self.expected) as i64,
        );
        expect(
            "buyers without a final answer",
            self.hot.unanswered() as i64,
            0,
        );
        expect("refused elsewhere", self.others.refused() as i64, 0);
        expect(
            "without a final answer elsewhere",
            self.others.unanswered() as i64,
            0,
        );
        expect("broken invariants found by audit()", self.audit_rows, 0);
        let errors = self.hot.unanswered.iter().chain(&self.others.unanswered);
        complaints.extend(errors.map(|(error, times)| format!("{times} x {error}")));
        complaints
    }

    fn sold_out(&self) -> u64 {
        self.hot.refused.get("out_of_stock").copied().unwrap_or(0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        let mut line = |what: &str, value: String| writeln!(to, "  {what:<38}{value:>12}");
        line(
            "units sold",
            format!("{} of {}", self.hot.sold, self.expected),
        )?;
        line("buyers refused", self.hot.refused().to_string())?;
        line(
            "buyers without a final answer",
            self.hot.unanswered().to_string(),
        )?;
        line("retries after busy", self.retries.to_string())?;
        line("all units gone after", seconds(self.sold_out_after))?;
        line("last final answer after", seconds(self.answered_after))?;
        line("final answer, p50", seconds(self.hot.percentile(50.0)))?;
        line("final answer, p99", seconds(self.hot.percentile(99.0)))?;
        line("other items bought meanwhile", self.others.sold.to_string())?;
        line(
            "other items, p99",
            milliseconds(self.others.percentile(99.0)),
        )?;
        line(
            "broken invariants (rows of audit())",
            self.audit_rows.to_string(),
        )
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
