//! Short words for statements whose failure is a failure of the test.

use std::env;

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

/// One line for each broken invariant. With AMCHECK in the environment, also one for each broken
/// page of a table; a broken index fails the test.
pub async fn audit(client: &Client) -> Vec<String> {
    let mut broken = lines(client, "SELECT a::text FROM flashsale.audit() a").await;
    if env::var_os("AMCHECK").is_some() {
        const INDEXES: &str = "
             SELECT bt_index_parent_check(oid, heapallindexed => true, rootdescend => true)
             FROM pg_class WHERE relnamespace = 'flashsale'::regnamespace AND relkind = 'i'";
        const TABLES: &str = "
             SELECT format('%s: %s', oid::regclass, h)
             FROM pg_class, verify_heapam(oid, check_toast => true) h
             WHERE relnamespace = 'flashsale'::regnamespace AND relkind = 'r'";
        run(client, "CREATE EXTENSION IF NOT EXISTS amcheck").await;
        run(client, INDEXES).await;
        broken.extend(lines(client, TABLES).await);
    }
    broken
}

async fn lines(client: &Client, query: &str) -> Vec<String> {
    match client.query(query, &[]).await {
        Ok(rows) => rows.iter().map(|row| row.get(0)).collect(),
        Err(error) => panic!("{query}: {}", explain(&error)),
    }
}
