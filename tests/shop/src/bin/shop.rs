//! `make shop`: a crowd against examples/checkout with a gateway that fails, then three ledgers
//! compared. `UP=1` leaves the shop running instead.

use std::process::ExitCode;

use clap::Parser;
use shop::mistake;
use shop::stage::{OPERATOR_KEY, Setup, Stage};
use shop::storm::{Outcome, Plan, hold};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
struct Settings {
    /// Buyers who want one unit each
    #[arg(long, env, default_value_t = 5_000)]
    buyers: usize,

    #[arg(long, env, default_value_t = 100)]
    units: i64,

    /// Processes of the app
    #[arg(long, env, default_value_t = 1)]
    apps: usize,

    /// How often an app is killed in the midst of it
    #[arg(long, env, default_value_t = 0)]
    kills: usize,

    /// How often the database crashes in the midst of it
    #[arg(long, env, default_value_t = 0)]
    crashes: usize,

    /// What all faults are drawn from; random if not given
    #[arg(long, env)]
    seed: Option<u64>,

    /// Whether gateway, buyers and operators misbehave; without, the gateway is only slow
    #[arg(long, env, default_value_t = true, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    faults: bool,

    /// Afterwards sell as many the wrong way, with the row locked while the card is charged
    #[arg(long, env, default_value_t = false, value_parser = clap::builder::BoolishValueParser::new())]
    mistake: bool,

    /// Leave the shop running, to click in
    #[arg(long, env, default_value_t = false, value_parser = clap::builder::BoolishValueParser::new())]
    up: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let settings = Settings::parse();
    let mut terminate = signal(SignalKind::terminate()).expect("signals");
    // Whatever ends it, the programs it started end with it.
    tokio::select! {
        code = run(settings) => code,
        _ = terminate.recv() => ExitCode::from(143),
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}

async fn run(settings: Settings) -> ExitCode {
    if settings.up {
        stay_up().await;
    }
    let Settings {
        buyers,
        units,
        apps,
        kills,
        crashes,
        faults,
        ..
    } = settings;
    let seed = settings
        .seed
        .unwrap_or_else(|| rand::random_range(0..1_000_000));
    let plan = Plan {
        buyers,
        units,
        apps,
        kills,
        crashes,
        faults,
        seed,
    };
    let outcome = hold(&plan).await;
    print(&plan, &outcome);
    if settings.mistake {
        print_mistake(&plan).await;
    }
    let complaints = outcome.complaints(&plan);
    for complaint in &complaints {
        eprintln!("shop: {complaint}");
    }
    if complaints.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print(plan: &Plan, outcome: &Outcome) {
    let Plan {
        buyers,
        units,
        apps,
        kills,
        crashes,
        seed,
        ..
    } = plan;
    println!(
        "{buyers} buyers over HTTP, {units} units, {apps} of the app, killed {kills} times, {crashes} crashes of the database, seed {seed}"
    );
    println!(
        "\n  buyers by how it ended, after {:.1} s",
        outcome.took.as_secs_f64()
    );
    for (end, count) in outcome.ends() {
        println!("    {end:<24}{count:>7}");
    }
    for (name, times) in ["until it was known", "answer to a purchase"]
        .iter()
        .zip(outcome.times())
    {
        let at = |quantile| times.value_at_quantile(quantile);
        println!(
            "  {name}: p50 {} ms, p99 {} ms, longest {} ms",
            at(0.5),
            at(0.99),
            times.max()
        );
    }
    println!("\n{}", outcome.ledgers);
    println!(
        "  rows of audit() and other complaints: {}",
        outcome.complaints(plan).len()
    );
}

async fn print_mistake(plan: &Plan) {
    let faults = vec![("GATEWAY_SLOW", "1".to_owned())];
    let stage = Stage::open(Setup {
        faults,
        ..Setup::default()
    })
    .await;
    let (sold, times) = mistake::sell(&stage, plan.buyers, plan.units).await;
    let at = |quantile| times.value_at_quantile(quantile);
    println!("\nthe same crowd with the item's row locked while the card is charged: {sold} sold");
    println!(
        "  answer to a purchase: p50 {} ms, p99 {} ms, longest {} ms",
        at(0.5),
        at(0.99),
        times.max()
    );
}

async fn stay_up() -> ! {
    let address = |port: u16| ([127, 0, 0, 1], port).into();
    let faults = [("GATEWAY_SLOW", "1"), ("GATEWAY_LOST", "0.05")]
        .map(|(name, rate)| (name, rate.to_owned()));
    // A person needs longer than a test.
    let settings = vec![("PAYMENT_WINDOW_S", "20".to_owned())];
    let addresses = Some((address(8080), address(8090)));
    let stage = Stage::open(Setup {
        addresses,
        faults: faults.into(),
        settings,
        ..Setup::default()
    })
    .await;
    for sql in [
        "SELECT flashsale.create_item(100, 'Console', 49900, 'EUR', 2, starts_at => now() + interval '30 s')",
        "SELECT flashsale.create_item(5, 'Headset', 7900, 'EUR', 1)",
    ] {
        stage.database.value::<i64>(sql, &[]).await;
    }
    println!("shop:     {}", stage.url("/"));
    println!("operator: {}   key: {OPERATOR_KEY}", stage.url("/operator"));
    println!("Ctrl-C ends it.");
    std::future::pending().await
}
