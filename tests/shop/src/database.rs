//! Databases of the server that the environment names, as their owner.

use std::env;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use storm::{config_from_env, connect, explain};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::types::{FromSqlOwned, ToSql};

/// A server that crashed flushes its whole folder first, which a busy disk can draw out.
const PATIENCE: Duration = Duration::from_secs(120);

/// Under a lock, since several shops may open at once.
const ROLES: &str = "BEGIN; SELECT pg_advisory_xact_lock(5000); \
     DO $$ BEGIN \
         IF to_regrole('shop_app') IS NULL THEN CREATE ROLE shop_app LOGIN; END IF; \
         IF to_regrole('shop_operator') IS NULL THEN CREATE ROLE shop_operator LOGIN; END IF; \
     END $$; COMMIT";
const GRANTS: &str = "BEGIN; SELECT pg_advisory_xact_lock(5000); \
     SELECT flashsale.grant_app('shop_app'), flashsale.grant_operator('shop_operator'); COMMIT";

/// One database of the server that the environment names.
#[derive(Clone)]
pub struct Database(String);

impl Database {
    /// The one that the environment names, for which `grouped` and the reconciler work.
    pub fn main() -> Self {
        Self(env::var("PGDATABASE").unwrap_or_else(|_| "postgres".into()))
    }

    /// A new one with the extension, for a shop that must meet no other shop's orders.
    pub async fn new(name: String) -> Self {
        let create = format!("CREATE DATABASE {name}");
        let main = Self::main().owner().await;
        main.batch_execute(&create).await.expect("a new database");
        let strategy = format!("ALTER DATABASE {name} SET flashsale.strategy = 'atomic'");
        main.batch_execute(&strategy).await.expect("a setting");
        let database = Self(name);
        let owner = database.owner().await;
        owner
            .batch_execute("CREATE EXTENSION flashsale")
            .await
            .expect("the extension");
        database
    }

    /// A connection as the owner; waits while the server starts.
    pub async fn owner(&self) -> Client {
        let mut config = config_from_env().expect("PGHOST and the like");
        config.dbname(&self.0);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match connect(&config).await {
                Ok(client) => return client,
                Err(error) => assert!(
                    Instant::now() < deadline,
                    "no database: {}",
                    explain(&error)
                ),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn make_roles(&self) {
        let main = Self::main().owner().await;
        main.batch_execute(ROLES).await.expect("the shop's roles");
        self.owner()
            .await
            .batch_execute(GRANTS)
            .await
            .expect("their rights");
    }

    /// How a role of the shop reaches it, at an address or where the environment says.
    pub fn url_of(&self, role: &str, at: Option<SocketAddr>) -> String {
        let variable =
            |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.into());
        let (host, port) = match at {
            Some(at) => (at.ip().to_string(), at.port().to_string()),
            None => (
                variable("PGHOST", "/var/run/postgresql"),
                variable("PGPORT", "5432"),
            ),
        };
        format!("host={host} port={port} user={role} dbname={}", self.0)
    }

    /// Has all nodes sell an item, if this is a router. Returns the ids that its units then have.
    pub async fn spread(&self, item_id: i64) -> Vec<i64> {
        if nodes().is_empty() {
            return vec![item_id];
        }
        let _paused: String = self
            .value("SELECT flashsale.pause_item($1)::text", &[&item_id])
            .await;
        let items = self
            .value("SELECT router.split_item($1)", &[&item_id])
            .await;
        let _moved: i64 = self.value("SELECT router.rebalance($1)", &[&item_id]).await;
        let _resumed: String = self
            .value("SELECT flashsale.resume_item($1)::text", &[&item_id])
            .await;
        items
    }

    /// What has to be called from time to time if this is a router.
    pub async fn finish_moves(&self) {
        if !nodes().is_empty() {
            let _moved: i64 = self.value("SELECT router.finish_moves()", &[]).await;
        }
    }

    /// The one value that a statement returns.
    pub async fn value<T: FromSqlOwned>(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> T {
        let row = self.owner().await.query_one(sql, parameters).await;
        row.unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
    }
}

/// Every process of the server ends without a word, as in a power cut, and it starts again.
/// Blocks until it answers. If it is a router, its nodes crash as well, one after the other.
pub fn crash_and_restart() {
    for (folder, data) in nodes() {
        crash(&data, &format!("{folder}/log"));
    }
    crash(&needed("PG_DATA"), &needed("PG_LOG"));
}

fn crash(data: &str, log: &str) {
    pg_ctl(data, &["-m", "immediate", "stop"]);
    pg_ctl(data, &["-l", log, "-w", "start"]);
}

/// The folders of the nodes, each with that of its data, if the server is a router; see
/// scripts/with-router.
fn nodes() -> Vec<(String, String)> {
    let nodes = env::var("NODES").unwrap_or_default();
    let folders = |node: &str| {
        let (folder, data) = node.split_once('=').expect("two folders");
        (folder.to_owned(), data.to_owned())
    };
    nodes.split_whitespace().map(folders).collect()
}

fn pg_ctl(data: &str, arguments: &[&str]) {
    let run_as = env::var("PG_RUN_AS").unwrap_or_default();
    let mut words: Vec<String> = run_as.split_whitespace().map(str::to_owned).collect();
    words.extend([
        format!("{}/pg_ctl", needed("PG_BINDIR")),
        "-D".into(),
        data.into(),
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
