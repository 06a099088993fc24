//! `purchase`: a closed loop of purchase_item calls on one item, each client over a connection
//! of its own.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use storm::{Call, Pool};

use crate::Problem;
use crate::closed_loop::{self, Buyer, Try};
use crate::peer::{self, Peer};
use crate::shop::{OUR_ORDERS, Shop, tried};

#[derive(Args)]
pub struct Options {
    #[arg(long, default_value_t = 64)]
    clients: usize,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// nowait, optimistic, atomic or grouped
    #[arg(long, default_value = "grouped", value_parser = peer::strategy)]
    strategy: Peer,
}

struct Client {
    pool: Arc<Pool>,
    item_id: i64,
}

impl Buyer for Client {
    async fn buy(&mut self, user_id: &str) -> Result<Try, Problem> {
        tried(&self.pool.call(&Call::buy(self.item_id, user_id)).await?)
    }
}

pub async fn run(options: Options) -> Result<Value, Problem> {
    let shop = Shop::with_plenty(options.strategy).await?;
    let rehearsal = Shop::with_plenty(options.strategy).await?;
    let mut pool = Pool::open(&shop.config, options.clients).await?;
    pool.warm_up(&Call::buy(rehearsal.item_id, "rehearsal"))
        .await?;
    let pool = Arc::new(pool);
    let client = |_| Client {
        pool: Arc::clone(&pool),
        item_id: shop.item_id,
    };
    let clients = (0..options.clients).map(client).collect();
    let bought = closed_loop::run(clients, Duration::from_secs(options.seconds)).await?;
    shop.check_orders(&bought, OUR_ORDERS).await?;
    let mut result = bought.figures();
    result["command"] = "purchase".into();
    result["retries"] = bought.retries.into();
    result["strategy"] = options.strategy.name().into();
    result["clients"] = options.clients.into();
    Ok(result)
}
