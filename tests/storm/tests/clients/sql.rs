//! Short words for statements whose failure is a failure of the test.

use storm::{Answer, explain};
use tokio_postgres::Client;
use tokio_postgres::types::{FromSqlOwned, ToSql};

pub async fn run(client: &Client, sql: &str) {
    if let Err(error) = client.batch_execute(sql).await {
        panic!("{sql}: {}", explain(&error));
    }
}

pub async fn value<T: FromSqlOwned>(
    client: &Client,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> T {
    match client.query_one_scalar(sql, parameters).await {
        Ok(value) => value,
        Err(error) => panic!("{sql}: {}", explain(&error)),
    }
}

/// One call of a function that answers jsonb.
pub async fn ask(client: &Client, sql: &str) -> Answer {
    Answer(value(client, sql, &[]).await)
}

/// The SQLSTATE that a statement fails with; "" if it goes through.
pub async fn sqlstate(client: &Client, sql: &str) -> String {
    match client.batch_execute(sql).await {
        Ok(()) => String::new(),
        Err(error) => error
            .code()
            .expect("an error of the server")
            .code()
            .to_owned(),
    }
}

/// One line a broken invariant.
pub async fn audit(client: &Client) -> Vec<String> {
    let rows = client
        .query("SELECT a::text FROM flashsale.audit() a", &[])
        .await
        .expect("audit");
    rows.iter().map(|row| row.get(0)).collect()
}
