//! What all commands need: connections, an item with enough units, and a final count.

use storm::{Answer, config_from_env, connect};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config};

use crate::Problem;
use crate::closed_loop::{Bought, Try};
use crate::peer::Peer;

/// More than any run sells.
const PLENTY: i64 = 1_000_000_000;

/// The orders of ours that `check_orders` counts.
pub const OUR_ORDERS: &str = "SELECT count(*)
    FROM unnest($2::bigint[], $3::text[]) AS answered (order_id, user_id)
    JOIN flashsale.orders USING (order_id, user_id) WHERE item_id = $1";

pub struct Shop {
    pub config: Config,
    pub item_id: i64,
    peer: Peer,
    units: i64,
    client: Client,
}

impl Shop {
    /// With a new item of so many units.
    pub async fn open(
        peer: Peer,
        neveroversell_database: &str,
        units: i64,
    ) -> Result<Self, Problem> {
        let config = peer.config(&config_from_env()?, neveroversell_database);
        let client = connect(&config).await?;
        let item_id = client.query_one_scalar(peer.create(), &[&units]).await?;
        Ok(Self {
            config,
            item_id,
            peer,
            units,
            client,
        })
    }

    /// With a new item that will not sell out.
    pub async fn with_plenty(peer: Peer) -> Result<Self, Problem> {
        Self::open(peer, "", PLENTY).await
    }

    /// Checks that orders and stock agree on this number, and that the audit finds nothing.
    pub async fn check_sold(&self, expected: i64) -> Result<(), Problem> {
        let parameters: &[&(dyn ToSql + Sync)] = &[&self.item_id, &self.units];
        let row = self.client.query_one(self.peer.sold(), parameters).await?;
        let (orders, stock): (i64, i64) = (row.get(0), row.get(1));
        if (orders, stock) != (expected, expected) {
            let text = format!("{expected} sold, but {orders} orders and {stock} units gone");
            return Err(text.into());
        }
        if self.peer.is_ours() {
            let audit = "SELECT count(*) FROM flashsale.audit()";
            let broken: i64 = self.client.query_one_scalar(audit, &[]).await?;
            if broken != 0 {
                return Err(format!("audit() has {broken} rows").into());
            }
        }
        Ok(())
    }

    /// Checks that every answered order exists and belongs to its user, and that there are no others.
    /// The statement counts those of the item `$1` with the ids `$2` and the users `$3`.
    pub async fn check_orders(&self, bought: &Bought, count: &str) -> Result<(), Problem> {
        let (order_ids, user_ids) = (&bought.order_ids, &bought.user_ids);
        let parameters: &[&(dyn ToSql + Sync)] = &[&self.item_id, order_ids, user_ids];
        let found: i64 = self.client.query_one_scalar(count, parameters).await?;
        if found as usize != order_ids.len() {
            let answered = order_ids.len();
            return Err(format!("{answered} orders answered, {found} of them right").into());
        }
        self.check_sold(found).await
    }
}

/// An answer of ours as the closed loop takes it.
pub fn tried(answer: &Answer) -> Result<Try, Problem> {
    match answer.order_id() {
        Some(order_id) if answer.success() => Ok(Try::Sold { order_id }),
        _ if answer.retryable() => Ok(Try::Refused {
            retry_after_ms: answer.retry_after_ms(),
        }),
        _ => Err(format!("refused: {}", answer.0).into()),
    }
}
