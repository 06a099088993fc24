//! The database that the environment names, as its owner.

use std::env;
use std::process::{Command, Stdio};
use std::time::Duration;

use storm::{config_from_env, connect};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::types::{FromSqlOwned, ToSql};

/// How the shop's roles come to be. Under a lock, since several shops may open at once.
const ROLES: &str = "BEGIN; SELECT pg_advisory_xact_lock(5000); \
     DO $$ BEGIN \
         IF to_regrole('shop_app') IS NULL THEN CREATE ROLE shop_app LOGIN; END IF; \
         IF to_regrole('shop_operator') IS NULL THEN CREATE ROLE shop_operator LOGIN; END IF; \
     END $$; \
     SELECT flashsale.grant_app('shop_app'), flashsale.grant_operator('shop_operator'); COMMIT";

/// A connection as the owner; waits while the server starts.
pub async fn owner() -> Client {
    let config = config_from_env().expect("PGHOST and the like");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match connect(&config).await {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < deadline, "no database: {error}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

pub async fn make_roles() {
    owner()
        .await
        .batch_execute(ROLES)
        .await
        .expect("the shop's roles");
}

/// How a role of the shop reaches the database.
pub fn url_of(role: &str) -> String {
    let variable = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.into());
    let (host, port) = (
        variable("PGHOST", "/var/run/postgresql"),
        variable("PGPORT", "5432"),
    );
    let user = variable("PGUSER", "postgres");
    format!(
        "host={host} port={port} user={role} dbname={}",
        variable("PGDATABASE", &user)
    )
}

/// The one value that a statement returns.
pub async fn value<T: FromSqlOwned>(sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> T {
    let row = owner().await.query_one(sql, parameters).await;
    row.unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

/// Every process of the server ends without a word, as in a power cut, and it starts again.
/// Blocks until it answers.
pub fn crash_and_restart() {
    pg_ctl(&["-m", "immediate", "stop"]);
    pg_ctl(&["-l", &needed("PG_LOG"), "-w", "start"]);
}

fn pg_ctl(arguments: &[&str]) {
    let run_as = env::var("PG_RUN_AS").unwrap_or_default();
    let mut words: Vec<String> = run_as.split_whitespace().map(str::to_owned).collect();
    words.extend([
        format!("{}/pg_ctl", needed("PG_BINDIR")),
        "-D".into(),
        needed("PG_DATA"),
    ]);
    words.extend(arguments.iter().map(|word| (*word).to_owned()));
    let mut command = Command::new(&words[0]);
    let status = command
        .args(&words[1..])
        .current_dir("/")
        .stdout(Stdio::null())
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?}");
}

fn needed(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this by scripts/with-server"))
}
