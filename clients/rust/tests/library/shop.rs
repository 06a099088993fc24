//! Items to sell, connections, and what must be true after a test.

use std::env;
use std::future::Future;
use std::time::Duration;

use flashsale_client::{Answer, NewItem, audit, create_item};
use storm::{config_from_env, connect};
use tokio::time::timeout;
use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{Client, Config};

/// Not a measure of speed: only a bound on a test that would otherwise hang for ever.
const HANGS_AFTER: Duration = Duration::from_secs(120);

pub struct Shop {
    /// The server itself.
    pub config: Config,
    pub client: Client,
    pub item_id: i64,
}

impl Shop {
    /// With a new item of so many units, at 5.00 EUR.
    pub async fn open(units: i64) -> Self {
        let config = config_from_env().expect("a server in the environment");
        let client = connect(&config).await.expect("the server answers");
        let item = NewItem {
            inventory: units,
            unit_price: Some(500),
            currency: Some("EUR"),
            ..NewItem::default()
        };
        let item_id = create_item(&client, &item).await.expect("an item");
        Self {
            config,
            client,
            item_id,
        }
    }

    /// The same database through the pooler.
    pub fn pooler(&self) -> Config {
        let variable = |name| env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let mut config = Config::new();
        config
            .host(variable("PGBOUNCER_HOST"))
            .port(variable("PGBOUNCER_PORT").parse().expect("a port"))
            .user("anybody")
            .dbname(self.config.get_dbname().expect("a database"));
        config
    }

    pub async fn value<T: FromSqlOwned>(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> T {
        let value = self.client.query_one_scalar(sql, parameters).await;
        value.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    pub async fn inventory(&self) -> i64 {
        let sql = "SELECT inventory FROM flashsale.items WHERE item_id = $1";
        self.value(sql, &[&self.item_id]).await
    }

    pub async fn orders(&self) -> i64 {
        let sql = "SELECT count(*) FROM flashsale.orders WHERE item_id = $1 AND units_held > 0";
        self.value(sql, &[&self.item_id]).await
    }

    pub async fn assert_sound(&self) {
        assert_eq!(audit(&self.client, None).await.expect("an audit"), []);
    }
}

/// What a call did; a refusal fails the test.
pub fn done<T>(outcome: Result<Answer<T>, flashsale_client::Error>) -> T {
    match outcome {
        Ok(Answer::Success(done)) => done,
        Ok(Answer::Refused(refusal)) => panic!("{refusal:?}"),
        Err(error) => panic!("{error:?}"),
    }
}

/// Why a call was refused; anything else fails the test.
pub fn refused<T>(
    outcome: Result<Answer<T>, flashsale_client::Error>,
) -> flashsale_client::Refusal {
    match outcome.expect("an answer").into_result() {
        Err(refusal) => refusal,
        Ok(_) => panic!("it was not refused"),
    }
}

/// Fails a test that hangs.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(HANGS_AFTER, work)
        .await
        .expect("still not done: something hangs")
}
