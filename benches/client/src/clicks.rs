//! `gather`: buyers in a closed loop on one item, their clicks gathered into batches.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use storm::{Call, Pool};

use crate::Problem;
use crate::closed_loop::{self, Buyer, Try};
use crate::gather::Gatherer;
use crate::peer::{self, Peer};
use crate::shop::{OUR_ORDERS, Shop, tried};

#[derive(Args)]
pub struct Options {
    #[arg(long, default_value_t = 2)]
    connections: usize,
    /// The most clicks that are sent in one call
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// How long the first click of a batch waits for others
    #[arg(long, default_value_t = 2)]
    wait_ms: u64,
    /// People who click again as soon as they bought
    #[arg(long, default_value_t = 512)]
    buyers: usize,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Of the sessions: nowait, optimistic, atomic, or grouped, which here is nowait
    #[arg(long, default_value = "atomic", value_parser = peer::strategy)]
    strategy: Peer,
}

struct Person {
    gatherer: Gatherer,
    item_id: i64,
}

impl Buyer for Person {
    async fn buy(&mut self, user_id: &str) -> Result<Try, Problem> {
        tried(&self.gatherer.purchase(self.item_id, user_id).await?)
    }
}

pub async fn run(options: Options) -> Result<Value, Problem> {
    let shop = Shop::with_plenty(options.strategy).await?;
    let rehearsal = Shop::with_plenty(options.strategy).await?;
    let mut pool = Pool::open(&shop.config, options.connections).await?;
    let requests = json!([{"item_id": rehearsal.item_id, "user_id": "rehearsal"}]);
    pool.warm_up(&Call::Batch { requests }).await?;
    let max_wait = Duration::from_millis(options.wait_ms);
    let gatherer = Gatherer::new(Arc::new(pool), options.batch, max_wait);
    let person = |_| Person {
        gatherer: gatherer.clone(),
        item_id: shop.item_id,
    };
    let people = (0..options.buyers).map(person).collect();
    let bought = closed_loop::run(people, Duration::from_secs(options.seconds)).await?;
    shop.check_orders(&bought, OUR_ORDERS).await?;
    let mut result = bought.figures();
    result["command"] = "gather".into();
    result["strategy"] = options.strategy.name().into();
    result["connections"] = options.connections.into();
    result["buyers"] = options.buyers.into();
    Ok(result)
}
