//! `seed1`: the whole of solution 1 of the design that docs/architecture.md compares with. It takes
//! a lock in Redis, then makes BEGIN, SELECT … FOR UPDATE NOWAIT, an UPDATE that checks the version,
//! INSERT and COMMIT, each in a round trip, and releases the lock. A buyer that does not get the
//! lock tries again. The payment is left out, as it is with `purchase`.

use std::time::{Duration, SystemTime};

use clap::Args;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, ExistenceCheck, SetExpiry, SetOptions};
use serde_json::Value;
use storm::connect;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Statement};

use crate::Problem;
use crate::closed_loop::{self, Buyer, Try};
use crate::peer::Peer;
use crate::shop::Shop;

const LOCK_TIMEOUT_MS: u64 = 5_000;

const SELECT: &str =
    "SELECT id, inventory, version FROM peer.items WHERE id = $1 FOR UPDATE NOWAIT";
const UPDATE: &str = "UPDATE peer.items SET inventory = inventory - 1, version = version + 1
                      WHERE id = $1 AND inventory > 0 AND version = $2 RETURNING inventory";
const INSERT: &str = "INSERT INTO peer.orders (user_id, item_id, status, created_at)
                      VALUES ($1, $2, 'reserved', now()) RETURNING id";

const ORDERS: &str =
    "SELECT count(*) FROM unnest($2::bigint[], $3::text[]) AS answered (id, user_id)
                      JOIN peer.orders USING (id, user_id) WHERE item_id = $1";

#[derive(Args)]
pub struct Options {
    #[arg(long, default_value_t = 64)]
    clients: usize,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The path of Redis's socket, or a URL
    #[arg(long)]
    redis: String,
}

pub async fn run(options: Options) -> Result<Value, Problem> {
    let shop = Shop::with_plenty(Peer::Update).await?;
    let rehearsal = Shop::with_plenty(Peer::Update).await?;
    let redis = connect_redis(&options.redis).await?;
    let mut clients = Vec::with_capacity(options.clients);
    for number in 0..options.clients {
        let mut client = Customer::new(&rehearsal, redis.clone(), number).await?;
        client.buy("rehearsal").await?; // as a client of ours begins
        client.item_id = shop.item_id;
        clients.push(client);
    }
    let bought = closed_loop::run(clients, Duration::from_secs(options.seconds)).await?;
    shop.check_orders(&bought, ORDERS).await?;
    let mut result = bought.figures();
    result["command"] = "seed1".into();
    result["retries"] = bought.retries.into();
    result["clients"] = options.clients.into();
    Ok(result)
}

/// One connection for all clients, as in that design.
async fn connect_redis(address: &str) -> Result<MultiplexedConnection, Problem> {
    let url = if address.starts_with('/') {
        format!("unix://{address}")
    } else {
        address.into()
    };
    let client = redis::Client::open(url)?;
    Ok(client.get_multiplexed_async_connection().await?)
}

struct Customer {
    redis: MultiplexedConnection,
    client: Client,
    select: Statement,
    update: Statement,
    insert: Statement,
    item_id: i64,
    number: usize,
}

impl Customer {
    async fn new(
        shop: &Shop,
        redis: MultiplexedConnection,
        number: usize,
    ) -> Result<Self, Problem> {
        let client = connect(&shop.config).await?;
        Ok(Self {
            redis,
            select: client.prepare(SELECT).await?,
            update: client.prepare(UPDATE).await?,
            insert: client.prepare(INSERT).await?,
            client,
            item_id: shop.item_id,
            number,
        })
    }
}

impl Buyer for Customer {
    async fn buy(&mut self, user_id: &str) -> Result<Try, Problem> {
        let key = format!("purchase:{}", self.item_id);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let value = format!("{}-{}", since.as_nanos(), self.number);
        let options = SetOptions::default()
            .conditional_set(ExistenceCheck::NX)
            .with_expiration(SetExpiry::PX(LOCK_TIMEOUT_MS));
        if !self.redis.set_options(&key, &value, options).await? {
            return Ok(Try::Refused { retry_after_ms: 0 });
        }
        let tried = self.transact(user_id).await;
        let holder: Option<String> = self.redis.get(&key).await?;
        if holder.as_ref() == Some(&value) {
            let _: () = self.redis.del(&key).await?;
        }
        tried
    }
}

impl Customer {
    async fn transact(&mut self, user_id: &str) -> Result<Try, Problem> {
        let transaction = self.client.transaction().await?;
        let item = match transaction.query_opt(&self.select, &[&self.item_id]).await {
            Ok(item) => item.ok_or("the item is gone")?,
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                transaction.rollback().await?;
                return Ok(Try::Refused { retry_after_ms: 0 });
            }
            Err(error) => return Err(error.into()),
        };
        let version: i64 = item.get("version");
        let update = transaction
            .query_opt(&self.update, &[&self.item_id, &version])
            .await?;
        update.ok_or("out of stock")?;
        let order = transaction
            .query_one(&self.insert, &[&user_id, &self.item_id])
            .await?;
        transaction.commit().await?;
        Ok(Try::Sold {
            order_id: order.get(0),
        })
    }
}
