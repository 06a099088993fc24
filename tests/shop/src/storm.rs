//! A sale with everything going wrong at once, from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until};

use crate::buyer::{Crowd, Story};
use crate::database::{Database, crash_and_restart};
use crate::ledgers::Ledgers;
use crate::stage::{Setup, Stage};
use crate::times::Times;

/// Who does not come in the first moment comes within so long.
const STRAGGLE: Duration = Duration::from_secs(5);

/// What is to happen.
#[derive(clap::Args, Clone, Debug)]
pub struct Plan {
    /// Buyers who want one unit each
    #[arg(long, env, default_value_t = 5_000)]
    pub buyers: usize,

    /// Units on sale
    #[arg(long, env, default_value_t = 100)]
    pub units: i64,

    /// Processes of the app
    #[arg(long, env, default_value_t = 1, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub apps: usize,

    /// How often an app is killed in the midst of it
    #[arg(long, env, default_value_t = 0)]
    pub kills: usize,

    /// How often the database crashes in the midst of it
    #[arg(long, env, default_value_t = 0)]
    pub crashes: usize,

    /// Whether gateway, buyers and operators misbehave; without, the gateway is only slow
    #[arg(long, env, default_value_t = true, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    pub faults: bool,

    /// What all this is drawn from; random if not given
    #[arg(long, env, default_value_t = rand::random_range(0..1_000_000))]
    pub seed: u64,
}

pub struct Outcome {
    pub stories: Vec<Story>,
    pub ledgers: Ledgers,
    /// Orders that operators cancelled, and refunded, behind the app's back.
    pub cancelled: usize,
    pub refunded: usize,
    pub took: Duration,
}

/// How a buyer may end.
const ENDS: [&str; 7] = [
    "confirmed",
    "refunded",
    "cancelled",
    "out_of_stock",
    "card_declined",
    "order_cancelled",
    "order_refunded",
];
/// One of so many buyers comes when all others are done, for what they left.
const LATE: usize = 50;

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
    // Where nothing goes wrong, no payment comes too late either.
    let (ttl, settings) = if plan.faults {
        let settings = [("PAYMENT_WINDOW_S", "3"), ("GATEWAY_TIMEOUT_MS", "1500")];
        let settings = settings.map(|(name, value)| (name, value.to_owned()));
        ("5 s", settings.into())
    } else {
        ("60 s", Vec::new())
    };
    let mut stage = Stage::open(Setup {
        apps: plan.apps,
        faults,
        settings,
        ..Setup::default()
    })
    .await;
    let create = format!(
        "SELECT flashsale.create_item($1, 'Console', 49900, 'EUR', 2, reservation_ttl => '{ttl}')"
    );
    let item_id: i64 = stage.database.value(&create, &[&plan.units]).await;
    let items = stage.database.spread(item_id).await;
    let urls = stage.apps.iter().map(|app| app.url("")).collect();
    let crowd = Crowd::new(
        urls,
        item_id,
        plan.seed,
        if plan.faults { 0.05 } else { 0.0 },
    );

    let begun = Instant::now();
    let buyers = tokio::spawn(rush(crowd.clone(), plan.clone()));
    let operators = tokio::spawn(interfere(
        stage.database.clone(),
        items.clone(),
        plan.faults,
    ));
    break_things(&mut stage, plan).await;
    let mut stories = buyers.await.expect("no buyer gave up");
    let took = begun.elapsed();
    let (cancelled, refunded) = operators.await.expect("operators at work");
    let mut ledgers = Ledgers::settled(&stage, &items).await;
    for n in plan.buyers - plan.late()..plan.buyers {
        stories.push(crowd.buy(n).await);
        if ledgers.free() > 0 {
            ledgers = Ledgers::settled(&stage, &items).await;
        }
    }
    Outcome {
        stories,
        ledgers,
        cancelled,
        refunded,
        took,
    }
}

impl Plan {
    fn late(&self) -> usize {
        self.buyers / LATE
    }
}

/// Most come at once, the others as the sale goes on.
async fn rush(crowd: Arc<Crowd>, plan: Plan) -> Vec<Story> {
    let mut buyers = JoinSet::new();
    let begun = Instant::now();
    let mut random = StdRng::seed_from_u64(plan.seed);
    for n in 0..plan.buyers - plan.late() {
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

#[derive(Clone, Copy)]
enum Blow {
    Kill,
    Crash,
}

/// Kills apps and crashes the database, each of them started again at once.
async fn break_things(stage: &mut Stage, plan: &Plan) {
    let mut random = StdRng::seed_from_u64(!plan.seed);
    let kills = plan.kills.div_ceil(2);
    let blows = iter::repeat_n(Blow::Kill, kills)
        .chain(iter::repeat_n(Blow::Crash, plan.crashes))
        .chain(iter::repeat_n(Blow::Kill, plan.kills - kills));
    for blow in blows {
        sleep(Duration::from_millis(random.random_range(150..700))).await;
        match blow {
            Blow::Kill => {
                let victim = random.random_range(0..stage.apps.len());
                stage.apps[victim].kill();
                stage.apps[victim].start_again();
            }
            Blow::Crash => spawn_blocking(crash_and_restart)
                .await
                .expect("the database is back"),
        }
    }
    for app in &mut stage.apps {
        app.until_well().await;
    }
}

/// Operators cancel three orders that are being paid, and refund two paid ones, behind the app's
/// back. Returns how many of each, fewer if there were none for a while.
async fn interfere(database: Database, items: Vec<i64>, wanted: bool) -> (usize, usize) {
    const CANCEL: &str = "SELECT flashsale.cancel_order(order_id, 'by an operator') FROM flashsale.orders \
         WHERE item_id = ANY ($1) AND status = 'paying' LIMIT 1";
    const REFUND: &str = "SELECT flashsale.refund_order(order_id) FROM flashsale.orders \
         WHERE item_id = ANY ($1) AND status = 'confirmed' LIMIT 1";
    let (mut cancelled, mut refunded) = (0, 0);
    if wanted {
        for _ in 0..3 {
            cancelled += usize::from(succeeds(&database, CANCEL, &items).await);
        }
        for _ in 0..2 {
            refunded += usize::from(succeeds(&database, REFUND, &items).await);
        }
    }
    (cancelled, refunded)
}

/// Tries until it has an effect, for ten seconds in which the database is up.
async fn succeeds(database: &Database, sql: &str, items: &[i64]) -> bool {
    sleep(Duration::from_millis(300)).await;
    for _ in 0..500 {
        let row = database.owner().await.query_opt(sql, &[&items]).await;
        if let Ok(Some(row)) = row
            && row.get::<_, Value>(0)["success"] == true
        {
            return true;
        }
        sleep(Duration::from_millis(20)).await;
    }
    false
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
        let odd = self
            .stories
            .iter()
            .filter(|story| !ENDS.contains(&story.end.as_str()));
        complaints.extend(odd.map(|story| format!("{} ended with {}", story.user_id, story.end)));
        let late = &self.stories[self.stories.len() - plan.late()..];
        if self.ledgers.free() > 0 && late.iter().any(|story| story.end == "out_of_stock") {
            complaints.push(format!(
                "{} units are free and buyers went away without",
                self.ledgers.free()
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

    /// From the click to the end, without the late buyers, who come to a finished sale.
    pub fn times(&self, plan: &Plan) -> Times {
        self.in_the_rush(plan).map(|story| story.took).collect()
    }

    /// Of the last answers to clicks, each alone, without the late buyers.
    pub fn answer_times(&self, plan: &Plan) -> Times {
        self.in_the_rush(plan)
            .map(|story| story.answered_in)
            .collect()
    }

    fn in_the_rush(&self, plan: &Plan) -> impl Iterator<Item = &Story> {
        self.stories.iter().take(self.stories.len() - plan.late())
    }
}
