//! The database: a pool of connections for each role, and one policy of retries for all calls.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType,
};
use flashsale_client::{
    Answer, Charge, Gatherer, GathererOptions, Order, Patience, Purchase, Refusal, Reservation,
    Restocked, UserOrders, ask, call_within,
};
use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls};

use crate::statements::BILL;

const WAIT_FOR_A_CONNECTION: Duration = Duration::from_secs(2);
/// How long calls are repeated if a lock is held or the server restarts.
const PATIENCE: Duration = Duration::from_secs(4);
/// Longer than any statement may take: a call that is silent for so long is cancelled.
const SILENCE: Duration = Duration::from_secs(7);

/// Connections that all have one role.
#[derive(Clone)]
pub struct Database {
    pool: Pool,
    /// Makes the purchases; without one, each is a call of its own.
    gatherer: Option<Gatherer>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Failed(#[from] flashsale_client::Error),
}

impl Error {
    /// Whether many people came at once, which says nothing of the database.
    pub fn is_crowd(&self) -> bool {
        match self {
            Error::Failed(flashsale_client::Error::Overloaded) => true,
            Error::Failed(flashsale_client::Error::NoConnection(cause)) => matches!(
                cause.downcast_ref(),
                Some(PoolError::Timeout(TimeoutType::Wait))
            ),
            _ => false,
        }
    }
}

/// What there is to charge for an order.
#[derive(Debug, Deserialize)]
pub struct Bill {
    pub order_id: i64,
    /// The order's name at the gateway. It is of no other order, not even of one that has the same
    /// number in another database, or in this one before it was restored.
    pub order_ref: String,
    pub amount: i64,
    pub currency: String,
    /// Whether the payment began so long ago that the gateway may have forgotten its keys, which
    /// it keeps for 24 hours.
    pub is_forgotten: bool,
}

fn patience() -> Patience {
    Patience::of(PATIENCE)
}

impl Database {
    /// Opens at most so many connections, and others for purchases that are gathered; none of those
    /// if each purchase is to be a call of its own.
    pub fn open(
        mut config: Config,
        connections: usize,
        gathering: usize,
    ) -> Result<Self, deadpool_postgres::BuildError> {
        if config.get_options().is_none() {
            config.options("-c statement_timeout=5s");
        }
        config.connect_timeout(WAIT_FOR_A_CONNECTION);
        config.keepalives_idle(SILENCE);
        let gatherer = (gathering > 0).then(|| gather(config.clone(), gathering));
        let recycling_method = RecyclingMethod::Fast;
        let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method });
        let pool = Pool::builder(manager)
            .max_size(connections)
            .wait_timeout(Some(WAIT_FOR_A_CONNECTION))
            .create_timeout(Some(WAIT_FOR_A_CONNECTION))
            .runtime(Runtime::Tokio1)
            .build()?;
        Ok(Self { pool, gatherer })
    }

    /// Makes one call over a connection of the pool. A call without an answer is cancelled, and its
    /// connection given up.
    async fn lend<T, Call, Asked>(&self, call: Call) -> Result<T, flashsale_client::Error>
    where
        Call: FnOnce(Arc<Object>) -> Asked,
        Asked: Future<Output = Result<T, flashsale_client::Error>>,
    {
        let lent = self.pool.get().await;
        let client = Arc::new(lent.map_err(flashsale_client::Error::no_connection)?);
        let call = call_within(of(&client), SILENCE, call(Arc::clone(&client))).await;
        if call.was_cancelled {
            // Nobody is to get it again.
            drop(Arc::into_inner(client).map(Object::take));
        }
        call.outcome
    }

    /// Gathers no more purchases, and waits until those are answered that were.
    pub async fn drain(&self) {
        if let Some(gatherer) = &self.gatherer {
            gatherer.drain().await;
        }
    }

    /// Repeats a call that it is harmless to repeat until its answer is final or patience has ended.
    async fn repeat<T, Call, Asked>(&self, call: Call) -> Result<T, Error>
    where
        Call: Fn(Arc<Object>) -> Asked,
        Asked: Future<Output = Result<Answer<T>, flashsale_client::Error>>,
    {
        let answer = patience().repeat(|| self.lend(&call)).await?;
        Ok(answer.into_result()?)
    }

    /// The one value that a statement returns.
    pub async fn value(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Value, Error> {
        let asked = self.lend(|client| async move {
            let statement = client.prepare_cached(sql).await?;
            Ok(client.query_one(&statement, parameters).await?.get(0))
        });
        Ok(asked.await?)
    }

    pub async fn purchase_item(&self, purchase: &Purchase) -> Result<Reservation, Error> {
        let answer = match &self.gatherer {
            Some(gatherer) => {
                let call = || gatherer.purchase(purchase.clone());
                patience().purchase(purchase, call).await?
            }
            None => {
                let call = |client: Arc<Object>| async move {
                    flashsale_client::purchase_item(of(&client), purchase).await
                };
                patience().purchase(purchase, || self.lend(call)).await?
            }
        };
        Ok(answer.into_result()?)
    }

    pub async fn begin_payment(&self, order_id: i64, window_s: u32) -> Result<(), Error> {
        let order = order_id.to_string();
        let order = order.as_str();
        let window = Some(Duration::from_secs(window_s.into()));
        let call = |client: Arc<Object>| async move {
            flashsale_client::begin_payment(of(&client), order, window).await
        };
        self.repeat(call).await.map(drop)
    }

    pub async fn confirm_order(&self, order_ref: &str, charge: Charge<'_>) -> Result<(), Error> {
        let call = |client: Arc<Object>| async move {
            flashsale_client::confirm_order(of(&client), order_ref, charge).await
        };
        self.repeat(call).await.map(drop)
    }

    pub async fn cancel_order(&self, order_id: i64, reason: &str) -> Result<(), Error> {
        let order = order_id.to_string();
        let order = order.as_str();
        let call = |client: Arc<Object>| async move {
            flashsale_client::cancel_order(of(&client), order, Some(reason)).await
        };
        self.repeat(call).await.map(drop)
    }

    /// The bill of an order. One without a price has an amount of 0.
    pub async fn bill(&self, order_id: i64) -> Result<Bill, Error> {
        let call = |client: Arc<Object>| async move {
            ask(of(&client), BILL, &[(&order_id, Type::INT8)]).await
        };
        self.repeat(call).await
    }

    pub async fn get_order(&self, order_id: i64) -> Result<Order, Error> {
        let order = order_id.to_string();
        let order = order.as_str();
        let call = |client: Arc<Object>| async move {
            flashsale_client::get_order(of(&client), order).await
        };
        self.repeat(call).await
    }

    pub async fn user_orders(&self, user_id: &str) -> Result<UserOrders, Error> {
        let call = |client: Arc<Object>| async move {
            flashsale_client::user_orders(of(&client), user_id).await
        };
        self.repeat(call).await
    }

    /// Not repeated: without a key it is not idempotent.
    pub async fn restock_item(
        &self,
        item_id: i64,
        delta: i64,
        reason: Option<&str>,
    ) -> Result<Restocked, Error> {
        let call = |client: Arc<Object>| async move {
            flashsale_client::restock_item(of(&client), item_id, delta, reason, None).await
        };
        Ok(self.lend(call).await?.into_result()?)
    }

    pub async fn pause_item(&self, item_id: i64) -> Result<(), Error> {
        let call = |client: Arc<Object>| async move {
            flashsale_client::pause_item(of(&client), item_id).await
        };
        self.repeat(call).await.map(drop)
    }

    pub async fn resume_item(&self, item_id: i64) -> Result<(), Error> {
        let call = |client: Arc<Object>| async move {
            flashsale_client::resume_item(of(&client), item_id).await
        };
        self.repeat(call).await.map(drop)
    }

    pub async fn refund_payment(
        &self,
        payment_ref: &str,
        refund_ref: Option<&str>,
    ) -> Result<(), Error> {
        let call = |client: Arc<Object>| async move {
            flashsale_client::refund_payment(of(&client), payment_ref, refund_ref).await
        };
        self.repeat(call).await.map(drop)
    }
}

/// The connection that was lent.
fn of(client: &Object) -> &Client {
    client
}

fn gather(config: Config, connections: usize) -> Gatherer {
    let options = GathererOptions {
        connections,
        patience: PATIENCE,
        call_timeout: SILENCE,
        ..GathererOptions::default()
    };
    Gatherer::start(options, move || {
        let config = config.clone();
        async move {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(connection);
            Ok::<_, tokio_postgres::Error>(client)
        }
    })
}
