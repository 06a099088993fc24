//! Through PgBouncer in transaction mode, each call may run on another server connection.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use storm::{Call, Pool, connect};
use tokio::time::sleep;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::cluster::{Folder, as_server_user};
use crate::shop::{Shop, answer, refused, rush, sold, within};

const PROGRAMS: [&str; 2] = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"];
const PORT: u16 = 6432;
const CLIENTS: usize = 50;
pub const SERVER_CONNECTIONS: i64 = 5;

pub struct Bouncer {
    process: Child,
    folder: Folder,
}

impl Bouncer {
    /// Where it is installed; says so if it is not.
    pub fn program() -> Option<&'static str> {
        let program = PROGRAMS
            .into_iter()
            .find(|program| Path::new(program).exists());
        if program.is_none() {
            // Straight to the terminal: what a passing test prints is not shown.
            writeln!(
                io::stderr(),
                "SKIPPED: no {PROGRAMS:?}, so nothing is shown about poolers"
            )
            .ok();
        }
        program
    }

    pub fn start(program: &str, server: &Config) -> Self {
        let folder = Folder::new();
        let file = folder.0.join("pgbouncer.ini");
        fs::write(&file, settings(server, folder.path())).expect("a settings file");
        let process = as_server_user(Command::new(program))
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .expect(program);
        Self { process, folder }
    }

    /// The database of this name, reached through the pooler.
    pub async fn database(&self, name: &str) -> Config {
        let mut config = Config::new();
        config
            .host(self.folder.path())
            .port(PORT)
            .user("anybody")
            .dbname(name);
        while connect(&config).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        config
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn settings(server: &Config, folder: &str) -> String {
    let [Host::Unix(host)] = server.get_hosts() else {
        panic!("PGHOST must be the folder of a socket")
    };
    let (host, port, user) = (
        host.display(),
        server.get_ports()[0],
        server.get_user().expect("a user"),
    );
    format!(
        "[databases]\n\
         * = host={host} port={port} user={user}\n\
         [pgbouncer]\n\
         listen_addr =\n\
         listen_port = {PORT}\n\
         unix_socket_dir = {folder}\n\
         auth_type = any\n\
         pool_mode = transaction\n\
         default_pool_size = {SERVER_CONNECTIONS}\n\
         max_client_conn = 100\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_through_a_pooler_in_transaction_mode() {
    let Some(program) = Bouncer::program() else {
        return;
    };
    const UNITS: usize = 200;
    let shop = Shop::open(SERVER_CONNECTIONS as usize + 1).await;
    let create = "SELECT flashsale.create_item($1, unit_price => 500, currency => 'EUR')";
    let item_id: i64 = shop.value(create, &[&(UNITS as i64)]).await;
    let bouncer = Bouncer::start(program, &shop.config);
    let config = within(bouncer.database(&shop.name)).await;
    let pool = Pool::open(&config, CLIENTS)
        .await
        .expect("connections")
        .without_prepared_statements();
    let pool = Arc::new(pool);

    let buyers = (0..1_000).map(|n| Call::buy_once(item_id, format!("user {}", n / 2), "my click"));
    let done = rush(&pool, buyers).await;
    assert_eq!(sold(&done), 2 * UNITS);
    assert_eq!(refused(&done, "out_of_stock"), 1_000 - 2 * UNITS);
    assert_eq!(shop.inventory(item_id).await, 0);
    shop.assert_acknowledged(&done).await;

    // The same charge is reported by both clicks.
    let paid = done.iter().filter_map(|done| answer(done).order_id());
    let confirm = |order_id| Call::Confirm {
        order_id,
        payment_ref: Some(format!("charge {order_id}")),
    };
    let confirmed = rush(&pool, paid.map(confirm)).await;
    assert_eq!(sold(&confirmed), 2 * UNITS);
    let payments: i64 = shop
        .value(
            "SELECT count(*) FROM flashsale.payments WHERE status = 'paid'",
            &[],
        )
        .await;
    assert_eq!(payments as usize, UNITS);

    let connections = "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND backend_type = 'client backend'
           AND pid <> pg_backend_pid()";
    let connections: i64 = shop.value(connections, &[]).await;
    assert!(
        (1..=SERVER_CONNECTIONS).contains(&connections),
        "{connections} server connections"
    );
    shop.assert_sound().await;
}
