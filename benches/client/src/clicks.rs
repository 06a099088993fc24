//! `gather`: buyers in a closed loop on one item, their clicks gathered into batches.

use std::time::Duration;

use clap::Args;
use flashsale_client::{Answer, Gatherer, GathererOptions, Patience, Purchase};
use serde_json::Value;
use storm::connect;

use crate::Problem;
use crate::closed_loop::{self, Buyer, Try};
use crate::peer::Peer;
use crate::shop::{OUR_ORDERS, Shop};

#[derive(Args)]
pub struct Options {
    #[arg(long, default_value_t = 2)]
    connections: usize,
    /// The most clicks that are sent in one call
    #[arg(long, default_value_t = 256)]
    batch: usize,
    /// How long the first click of a batch waits for others
    #[arg(long, default_value_t = 1)]
    wait_ms: u64,
    /// People who click again as soon as they bought
    #[arg(long, default_value_t = 512)]
    buyers: usize,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

struct Person {
    gatherer: Gatherer,
    item_id: i64,
}

impl Buyer for Person {
    async fn buy(&mut self, user_id: &str) -> Result<Try, Problem> {
        match self
            .gatherer
            .purchase(Purchase::new(self.item_id, user_id))
            .await?
        {
            Answer::Success(order) => Ok(Try::Sold {
                order_id: order.order_id,
            }),
            Answer::Refused(refusal) if refusal.retryable => Ok(Try::Refused {
                retry_after_ms: refusal.retry_after().unwrap_or_default().as_millis() as u64,
            }),
            Answer::Refused(refusal) => Err(refusal.into()),
        }
    }
}

pub async fn run(options: Options) -> Result<Value, Problem> {
    let shop = Shop::with_plenty(Peer::Grouped).await?;
    let rehearsal = Shop::with_plenty(Peer::Grouped).await?;
    let config = shop.config.clone();
    let gathering = GathererOptions {
        connections: options.connections,
        largest_batch: options.batch,
        longest_wait: Duration::from_millis(options.wait_ms),
        ..GathererOptions::default()
    };
    let gatherer = Gatherer::start(gathering, move || {
        let config = config.clone();
        async move { connect(&config).await }
    });
    rehearse(&gatherer, rehearsal.item_id, options.connections).await?;
    let person = |_| Person {
        gatherer: gatherer.clone(),
        item_id: shop.item_id,
    };
    let people = (0..options.buyers).map(person).collect();
    let bought = closed_loop::run(people, Duration::from_secs(options.seconds)).await?;
    gatherer.drain().await;
    shop.check_orders(&bought, OUR_ORDERS).await?;
    let mut result = bought.figures();
    result["command"] = "gather".into();
    result["connections"] = options.connections.into();
    result["buyers"] = options.buyers.into();
    result["retries"] = bought.retries.into();
    Ok(result)
}

/// Opens all connections, which take turns, and makes the first calls, which plan the statements.
async fn rehearse(gatherer: &Gatherer, item_id: i64, connections: usize) -> Result<(), Problem> {
    for _ in 0..2 * connections {
        let purchase = Purchase::new(item_id, "rehearsal");
        let call = || gatherer.purchase(purchase.clone());
        Patience::default()
            .purchase(&purchase, call)
            .await?
            .into_result()?;
    }
    Ok(())
}
