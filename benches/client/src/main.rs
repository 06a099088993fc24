//! The async client of the benchmarks. Each sub-command finds the server by libpq's environment
//! variables, creates what it buys, and prints one line of JSON; a wrong count is an error.

mod clicks;
mod closed_loop;
mod peer;
mod purchase;
mod rush;
mod seed1;
mod shop;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use serde_json::Value;

type Problem = Box<dyn Error + Send + Sync>;

#[derive(Parser)]
#[command(about = "The async client of the benchmarks")]
enum Command {
    /// A crowd wants one of few units: the time until the last buyer has a final answer
    Rush(rush::Options),
    /// Clicks gathered into calls of purchase_batch
    Gather(clicks::Options),
    /// A lock in Redis, then a transaction of three statements
    Seed1(seed1::Options),
    /// The loop of seed1, with purchase_item
    Purchase(purchase::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Command::parse()).await {
        Ok(result) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("bench-client: {}", explain(&*problem));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<Value, Problem> {
    match command {
        Command::Rush(options) => rush::run(options).await,
        Command::Gather(options) => clicks::run(options).await,
        Command::Seed1(options) => seed1::run(options).await,
        Command::Purchase(options) => purchase::run(options).await,
    }
}

/// The error with its causes.
fn explain(problem: &dyn Error) -> String {
    let mut text = problem.to_string();
    let mut cause = problem.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
