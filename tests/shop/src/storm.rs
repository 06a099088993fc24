//! A sale with everything going wrong at once, from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until};

use crate::buyer::{Crowd, Story};
use crate::database::{Database, crash_and_restart};
use crate::ledgers::Ledgers;
use crate::stage::{Setup, Stage};

/// Who does not come in the first moment comes within so long.
const STRAGGLE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct Plan {
    pub buyers: usize,
    pub units: i64,
    pub apps: usize,
    /// How often an app is killed, and the database crashed, in the midst of it.
    pub kills: usize,
    pub crashes: usize,
    /// Whether the gateway and the buyers misbehave.
    pub faults: bool,
    pub seed: u64,
}

pub struct Outcome {
    pub stories: Vec<Story>,
    pub ledgers: Ledgers,
    pub refunded_by_operators: usize,
    pub took: Duration,
}

/// The faults of a bad day.
pub fn faults(seed: u64) -> Vec<(&'static str, String)> {
    let rates = [
        ("GATEWAY_DECLINES", "0.1"),
        ("GATEWAY_SLOW", "0.5"),
        ("GATEWAY_TIMEOUTS", "0.03"),
        ("GATEWAY_ERRORS", "0.05"),
        ("GATEWAY_LOST", "0.05"),
        ("GATEWAY_DUPLICATES", "0.2"),
        ("GATEWAY_SHUFFLED", "0.3"),
        ("GATEWAY_HOLD_MS", "5000"),
    ];
    let rates = rates.map(|(name, rate)| (name, rate.to_owned()));
    rates
        .into_iter()
        .chain([("GATEWAY_SEED", seed.to_string())])
        .collect()
}

/// Holds a sale and reads the ledgers once everything is settled.
pub async fn hold(plan: &Plan) -> Outcome {
    let faults = if plan.faults {
        faults(plan.seed)
    } else {
        vec![("GATEWAY_SLOW", "1".into())]
    };
    let mut stage = Stage::open(Setup {
        apps: plan.apps,
        faults,
        ..Setup::default()
    })
    .await;
    let create =
        "SELECT flashsale.create_item($1, 'Console', 49900, 'EUR', 2, reservation_ttl => '5 s')";
    let item_id: i64 = stage.database.value(create, &[&plan.units]).await;
    let urls = stage.apps.iter().map(|app| app.url("")).collect();
    let crowd = Crowd::new(
        urls,
        item_id,
        plan.seed,
        if plan.faults { 0.05 } else { 0.0 },
    );

    let begun = Instant::now();
    let buyers = tokio::spawn(rush(crowd, plan.clone()));
    let operators = tokio::spawn(interfere(stage.database.clone(), item_id, plan.faults));
    break_things(&mut stage, plan).await;
    let stories = buyers.await.expect("no buyer gave up");
    let took = begun.elapsed();
    let refunded_by_operators = operators.await.expect("operators at work");
    Outcome {
        stories,
        ledgers: Ledgers::settled(&stage, item_id).await,
        refunded_by_operators,
        took,
    }
}

/// Most come at once, the others as the sale goes on.
async fn rush(crowd: Arc<Crowd>, plan: Plan) -> Vec<Story> {
    let mut buyers = JoinSet::new();
    let begun = Instant::now();
    let mut random = StdRng::seed_from_u64(plan.seed);
    for n in 0..plan.buyers {
        let crowd = crowd.clone();
        let late = plan.faults && random.random_bool(0.4);
        let comes = if late {
            random.random_range(0.0..STRAGGLE.as_secs_f64())
        } else {
            0.0
        };
        buyers.spawn(async move {
            sleep_until(begun + Duration::from_secs_f64(comes)).await;
            crowd.buy(n).await
        });
    }
    buyers.join_all().await
}

/// Kills apps and crashes the database, each of them started again at once.
async fn break_things(stage: &mut Stage, plan: &Plan) {
    let mut random = StdRng::seed_from_u64(!plan.seed);
    let moments = plan.kills + plan.crashes;
    for moment in 0..moments {
        sleep(Duration::from_millis(random.random_range(150..700))).await;
        if moment < plan.kills.div_ceil(2) || moment >= plan.kills.div_ceil(2) + plan.crashes {
            let victim = random.random_range(0..stage.apps.len());
            stage.apps[victim].kill();
            stage.apps[victim].start_again();
        } else {
            spawn_blocking(crash_and_restart)
                .await
                .expect("the database is back");
        }
    }
    for app in &stage.apps {
        app.until_well().await;
    }
}

/// Operators cancel orders that are being paid, and refund paid ones, behind the app's back.
/// Returns how many were refunded.
async fn interfere(database: Database, item_id: i64, wanted: bool) -> usize {
    const CANCEL: &str = "SELECT count(flashsale.cancel_order(order_id, 'by an operator')) FROM (SELECT order_id \
         FROM flashsale.orders WHERE item_id = $1 AND status = 'paying' LIMIT 1) o";
    const REFUND: &str = "SELECT count(*) FROM (SELECT flashsale.refund_order(order_id) AS answer FROM (SELECT order_id \
         FROM flashsale.orders WHERE item_id = $1 AND status = 'confirmed' LIMIT 1) o) a WHERE answer ->> 'success' = 'true'";
    let mut refunded = 0;
    for turn in 0..if wanted { 5 } else { 0 } {
        sleep(Duration::from_millis(600)).await;
        let (sql, weight) = if turn < 3 { (CANCEL, 0) } else { (REFUND, 1) };
        // The database may be down at the moment.
        if let Ok(row) = database.owner().await.query_one(sql, &[&item_id]).await {
            refunded += weight * usize::try_from(row.get::<_, i64>(0)).expect("a count");
        }
    }
    refunded
}

impl Outcome {
    /// Whatever is wrong; empty when all is well.
    pub fn complaints(&self, plan: &Plan) -> Vec<String> {
        let mut complaints = self.ledgers.complaints();
        if self.stories.len() != plan.buyers {
            complaints.push(format!(
                "{} of {} buyers have an answer",
                self.stories.len(),
                plan.buyers
            ));
        }
        // Who was told that it is paid, and who was not.
        let told: BTreeSet<i64> = self
            .stories
            .iter()
            .filter(|story| story.end == "confirmed")
            .filter_map(|story| story.order_id)
            .collect();
        let sold: BTreeSet<i64> = self.ledgers.orders_in("confirmed").collect();
        let refunded: BTreeSet<i64> = self.ledgers.orders_in("refunded").collect();
        complaints.extend(
            sold.difference(&told)
                .map(|id| format!("order {id} is paid and its buyer does not know")),
        );
        let untrue = told
            .iter()
            .filter(|id| !sold.contains(id) && !refunded.contains(id));
        complaints
            .extend(untrue.map(|id| format!("the buyer of order {id} was told that it is paid")));
        complaints
    }

    /// How many buyers ended how.
    pub fn ends(&self) -> BTreeMap<&str, usize> {
        let mut ends = BTreeMap::new();
        for story in &self.stories {
            *ends.entry(story.end.as_str()).or_default() += 1;
        }
        ends
    }

    /// Times from the click to the end, and of the requests that were answered, in ms.
    pub fn times(&self) -> [Histogram<u64>; 2] {
        let of = |time: fn(&Story) -> Duration| {
            let mut histogram =
                Histogram::new_with_bounds(1, 600_000, 3).expect("ten minutes in ms");
            for story in &self.stories {
                histogram.saturating_record(time(story).as_millis() as u64);
            }
            histogram
        };
        [of(|story| story.took), of(|story| story.answered_after)]
    }
}
