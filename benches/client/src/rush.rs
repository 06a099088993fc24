//! `rush`: many buyers want one of few units at the same moment. The clock runs from the first
//! connection to the last final answer.

use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};
use storm::{Crowd, Pool, Tally};

use crate::Problem;
use crate::peer::Peer;
use crate::shop::Shop;

#[derive(Args)]
pub struct Options {
    #[arg(long)]
    peer: Peer,
    #[arg(long, default_value_t = 5_000)]
    buyers: u64,
    #[arg(long, default_value_t = 100)]
    units: u64,
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Where neveroversell is installed
    #[arg(long, default_value = "nos")]
    nos_database: String,
}

pub async fn run(options: Options) -> Result<Value, Problem> {
    let (peer, units) = (options.peer, options.units as i64);
    let shop = Shop::open(peer, &options.nos_database, units).await?;
    let buyers = (1..=options.buyers).map(|n| peer.call(shop.item_id, format!("buyer {n}")));

    let started_at = Instant::now();
    let pool = Arc::new(Pool::unopened(&shop.config, options.connections));
    let mut crowd = Crowd::start(&pool, buyers);
    let mut tally = Tally::default();
    let mut sold_out_after = started_at.elapsed();
    while let Some(done) = crowd.next().await {
        tally.add(&done);
        if done.answer.is_ok_and(|answer| answer.success()) {
            sold_out_after = started_at.elapsed();
        }
    }
    let answered_after = started_at.elapsed();

    check(&options, &tally)?;
    shop.check_sold(units.min(options.buyers as i64)).await?;
    Ok(json!({
        "command": "rush",
        "peer": peer.name(),
        "buyers": options.buyers,
        "units": options.units,
        "connections": options.connections,
        "seconds": answered_after.as_secs_f64(),
        "sold_out_after_s": sold_out_after.as_secs_f64(),
        "sold": tally.sold,
        "refused": tally.refused(),
        "retries": pool.retries(),
        "p50_ms": tally.percentile(50.0).as_secs_f64() * 1000.0,
        "p99_ms": tally.percentile(99.0).as_secs_f64() * 1000.0,
    }))
}

/// Checks that every buyer has a final answer: a unit, or that there are none.
fn check(options: &Options, tally: &Tally) -> Result<(), Problem> {
    let empty = options.peer == Peer::Empty;
    let sold = if empty {
        options.buyers
    } else {
        options.units.min(options.buyers)
    };
    let out_of_stock = ["out_of_stock", "insufficient"]
        .iter()
        .filter_map(|reason| tally.refused.get(*reason))
        .sum::<u64>();
    if (tally.sold, out_of_stock) == (sold, options.buyers - sold) {
        return Ok(());
    }
    let (refused, unanswered) = (&tally.refused, &tally.unanswered);
    Err(format!(
        "{} sold, refused {refused:?}, unanswered {unanswered:?}",
        tally.sold
    )
    .into())
}
