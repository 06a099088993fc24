//! Calls of the extension's functions, with one retry loop for all.

use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, NoTls};

use crate::backoff::Backoff;

const WAIT_FOR_A_CONNECTION: Duration = Duration::from_secs(2);
/// How long calls are repeated if a lock is held or the server restarts.
const PATIENCE: Duration = Duration::from_secs(4);
const FIRST_DELAY: Duration = Duration::from_millis(10);
/// Longer than any statement may take: a connection that is silent for so long is given up.
const SILENCE: Duration = Duration::from_secs(7);

/// A pool of connections that all have one role.
#[derive(Clone)]
pub struct Database(Pool);

/// An answer of the extension with `success: false`.
#[derive(Debug, Deserialize)]
pub struct Refusal {
    pub reason: String,
    pub message: String,
    pub retryable: bool,
    /// Set where the answer is about an order.
    pub order_id: Option<i64>,
    /// Whatever else belongs to the reason.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("refused: {}", .0.reason)]
    Refused(Refusal),
    #[error("no connection: {0}")]
    Pool(#[from] PoolError),
    #[error("{}", explain(.0))]
    Database(#[from] tokio_postgres::Error),
    #[error("the database is silent")]
    Silent,
    #[error("an answer that cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl Error {
    /// Whether the same call can succeed a moment later. It is harmless to repeat any of ours:
    /// a purchase has its key, and the other functions are idempotent.
    pub fn is_passing(&self) -> bool {
        match self {
            Error::Refused(refusal) => refusal.retryable,
            Error::Pool(PoolError::Timeout(_)) | Error::Silent => true,
            // No connection; a wrong password or name will not mend itself.
            Error::Pool(PoolError::Backend(error)) => error
                .code()
                .is_none_or(|state| !matches!(&state.code()[..2], "28" | "3D")),
            Error::Pool(_) => false,
            Error::Database(error) => is_passing_error(error),
            Error::Unreadable(_) => false,
        }
    }

    /// Whether the pool is full, which says nothing of the database.
    pub fn is_crowd(&self) -> bool {
        matches!(self, Error::Pool(PoolError::Timeout(TimeoutType::Wait)))
    }

    /// What the extension says about an argument that it does not take.
    pub fn about_arguments(&self) -> Option<&str> {
        let Error::Database(error) = self else {
            return None;
        };
        let error = error.as_db_error()?;
        let is_ours = matches!(error.code().code(), "22003" | "22004" | "22023");
        is_ours.then(|| error.message())
    }
}

/// The error with what the server said about it.
fn explain(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => said.to_string(),
        None => error.to_string(),
    }
}

/// Without a code it is about the connection, or about what we asked for.
fn is_passing_error(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(state) => is_passing(state),
        None => {
            error.is_closed()
                || std::error::Error::source(error)
                    .is_some_and(|cause| cause.is::<std::io::Error>())
        }
    }
}

/// Lost connections, a server that stops or starts, too little of something, deadlocks, and a
/// statement that took too long.
fn is_passing(state: &SqlState) -> bool {
    let code = state.code();
    matches!(&code[..2], "08" | "40" | "53")
        || matches!(code, "55P03" | "57014")
        || code.starts_with("57P")
}

#[derive(Debug, Deserialize)]
pub struct Reservation {
    pub order_id: i64,
    pub status: String,
    pub remaining_inventory: i64,
}

/// A success that has nothing more to say.
#[derive(Debug, Deserialize)]
pub struct Done {}

#[derive(Debug, Deserialize)]
pub struct Restocked {
    pub stock: i64,
    pub remaining_inventory: i64,
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

impl Database {
    pub fn open(
        mut config: Config,
        connections: usize,
    ) -> Result<Self, deadpool_postgres::BuildError> {
        if config.get_options().is_none() {
            config.options("-c statement_timeout=5s");
        }
        config.connect_timeout(WAIT_FOR_A_CONNECTION);
        config.keepalives_idle(SILENCE);
        let recycling_method = RecyclingMethod::Fast;
        let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method });
        Pool::builder(manager)
            .max_size(connections)
            .wait_timeout(Some(WAIT_FOR_A_CONNECTION))
            .create_timeout(Some(WAIT_FOR_A_CONNECTION))
            .runtime(Runtime::Tokio1)
            .build()
            .map(Self)
    }

    /// The one value that a statement returns.
    pub async fn value(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Value, Error> {
        let client = self.0.get().await?;
        let answer = async {
            let statement = client.prepare_cached(sql).await?;
            client.query_one(&statement, parameters).await
        };
        match timeout(SILENCE, answer).await {
            Ok(row) => Ok(row?.get(0)),
            Err(_) => {
                drop(Object::take(client)); // nobody is to get it again
                Err(Error::Silent)
            }
        }
    }

    async fn call_once<T: DeserializeOwned>(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<T, Error> {
        let answer = self.value(sql, parameters).await?;
        if answer["success"] == Value::Bool(true) {
            Ok(serde_json::from_value(answer)?)
        } else {
            Err(Error::Refused(serde_json::from_value(answer)?))
        }
    }

    /// Calls a function of the extension until its answer is final or patience has ended.
    async fn call<T: DeserializeOwned>(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<T, Error> {
        let mut backoff = Backoff::new(FIRST_DELAY, Instant::now() + PATIENCE);
        loop {
            match self.call_once(sql, parameters).await {
                Err(error) if error.is_passing() && backoff.has_time() => backoff.pause().await,
                outcome => return outcome,
            }
        }
    }

    pub async fn purchase_item(
        &self,
        item_id: i64,
        user_id: &str,
        quantity: i64,
        key: &str,
    ) -> Result<Reservation, Error> {
        let sql = "SELECT flashsale.purchase_item($1, $2::text, $3, $4)";
        self.call(sql, &[&item_id, &user_id, &quantity, &key]).await
    }

    pub async fn begin_payment(&self, order_id: i64, window_s: u32) -> Result<Done, Error> {
        let sql = "SELECT flashsale.begin_payment($1::bigint, make_interval(secs => $2))";
        self.call(sql, &[&order_id, &f64::from(window_s)]).await
    }

    pub async fn confirm_order(
        &self,
        order_ref: &str,
        payment_ref: &str,
        amount: i64,
        currency: &str,
    ) -> Result<Done, Error> {
        let sql = "SELECT flashsale.confirm_order($1::text, $2, $3, $4)";
        self.call(sql, &[&order_ref, &payment_ref, &amount, &currency])
            .await
    }

    pub async fn cancel_order(&self, order_id: i64, reason: &str) -> Result<Done, Error> {
        let sql = "SELECT flashsale.cancel_order($1::bigint, $2)";
        self.call(sql, &[&order_id, &reason]).await
    }

    /// The bill of an order. One without a price has an amount of 0.
    pub async fn bill(&self, order_id: i64) -> Result<Bill, Error> {
        let sql = "SELECT o || jsonb_build_object( \
             'amount', CASE WHEN o ->> 'currency' IS NULL THEN 0 ELSE coalesce((o ->> 'total')::bigint, 0) END, \
             'currency', coalesce(o ->> 'currency', ''), \
             'is_forgotten', coalesce((o ->> 'paying_at')::timestamptz <= now() - interval '20 hours', false)) \
             FROM flashsale.get_order($1::bigint) o";
        self.call(sql, &[&order_id]).await
    }

    pub async fn get_order<T: DeserializeOwned>(&self, order_id: i64) -> Result<T, Error> {
        self.call("SELECT flashsale.get_order($1::bigint)", &[&order_id])
            .await
    }

    pub async fn user_orders<T: DeserializeOwned>(&self, user_id: &str) -> Result<T, Error> {
        self.call("SELECT flashsale.user_orders($1)", &[&user_id])
            .await
    }

    /// Not repeated: it is not idempotent.
    pub async fn restock_item(
        &self,
        item_id: i64,
        delta: i64,
        reason: Option<&str>,
    ) -> Result<Restocked, Error> {
        let sql = "SELECT flashsale.restock_item($1, $2, $3)";
        self.call_once(sql, &[&item_id, &delta, &reason]).await
    }

    pub async fn pause_item(&self, item_id: i64) -> Result<Done, Error> {
        self.call("SELECT flashsale.pause_item($1)", &[&item_id])
            .await
    }

    pub async fn resume_item(&self, item_id: i64) -> Result<Done, Error> {
        self.call("SELECT flashsale.resume_item($1)", &[&item_id])
            .await
    }

    pub async fn refund_payment(
        &self,
        payment_ref: &str,
        refund_ref: Option<&str>,
    ) -> Result<Done, Error> {
        let sql = "SELECT flashsale.refund_payment($1, $2)";
        self.call(sql, &[&payment_ref, &refund_ref]).await
    }
}
