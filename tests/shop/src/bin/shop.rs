//! `make shop`: a crowd against examples/checkout with a gateway that fails, then three ledgers
//! compared. `UP=1` leaves the shop running instead.

use std::net::{SocketAddr, TcpListener};
use std::process::{ExitCode, exit};

use clap::Parser;
use shop::mistake;
use shop::stage::{OPERATOR_KEY, Setup, Stage};
use shop::storm::{Outcome, Plan, hold};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    plan: Plan,

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
    let plan = settings.plan;
    let outcome = hold(&plan).await;
    let complaints = outcome.complaints(&plan);
    print(&plan, &outcome);
    println!(
        "  complaints, rows of audit() among them: {}",
        complaints.len()
    );
    if settings.mistake {
        print_mistake(&plan).await;
    }
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
        "{buyers} buyers over HTTP, {units} units, seed {seed}; processes of the app: {apps}, \
         killed: {kills}; crashes of the database: {crashes}"
    );
    println!(
        "\n  buyers by how it ended, after {:.1} s",
        outcome.took.as_secs_f64()
    );
    for (end, count) in outcome.ends() {
        println!("    {end:<24}{count:>7}");
    }
    println!("  from the click to the end: {}", outcome.times(plan));
    println!(
        "  the last answer to it alone: {}",
        outcome.answer_times(plan)
    );
    println!("\n{}", outcome.ledgers);
}

async fn print_mistake(plan: &Plan) {
    let stage = Stage::open(Setup::slow()).await;
    let (sold, times) = mistake::sell(&stage, plan.buyers, plan.units).await;
    println!("\nthe same crowd with the item's row locked while the card is charged: {sold} sold");
    println!("  from the click to the end: {times}");
}

async fn stay_up() -> ! {
    let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let faults = [("GATEWAY_SLOW", "1"), ("GATEWAY_LOST", "0.05")]
        .map(|(name, rate)| (name, rate.to_owned()));
    let settings = [("PAYMENT_WINDOW_S", "20"), ("GATEWAY_TIMEOUT_MS", "1500")]
        .map(|(name, value)| (name, value.to_owned()));
    let addresses = (address(8080), address(8090));
    for taken in [addresses.0, addresses.1] {
        if let Err(error) = TcpListener::bind(taken) {
            eprintln!("shop: cannot listen on {taken}: {error}");
            exit(1);
        }
    }
    let stage = Stage::open(Setup {
        addresses: Some(addresses),
        faults: faults.into(),
        settings: settings.into(),
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
