//! A separate database for each test, with the extension in it, and the checks of its tables.

use std::collections::BTreeSet;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use storm::{Answer, Call, Crowd, Done, Pool, config_from_env, connect, explain};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::block_in_place;
use tokio::time::{sleep, timeout};
use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{Client, Config, Error};

use crate::cluster::Cluster;
use crate::room::{room_for, room_for_a_cluster, room_size};
use crate::sql::{audit, run, value};
use crate::strategy::Strategy;

/// What a crowd of the size the server is built for needs.
pub const CROWD: usize = 200;
/// Not a measure of speed: only a bound on a test that would otherwise hang for ever.
pub const HANGS_AFTER: Duration = Duration::from_secs(300);
/// Each shop talks over one connection of its own, and connects once more to drop itself.
const OWN_CONNECTIONS: usize = 2;

pub struct Shop {
    pub config: Config,
    pub client: Client,
    pub name: String,
    /// Its server, where that is not the one that all share.
    pub cluster: Option<Cluster>,
    server: Config,
    roles: Vec<String>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Shop {
    /// A new database with the extension, for a test that needs this many connections.
    pub async fn open(connections: usize) -> Self {
        let shop = Self::empty(connections).await;
        shop.run("CREATE EXTENSION flashsale").await;
        shop
    }

    /// A shop whose sessions purchase by this strategy.
    pub async fn open_under(strategy: Strategy, connections: usize) -> Self {
        if strategy == Strategy::Grouped {
            // As where the other strategies purchase: no reconciler works there, and waits are short.
            let settings = [
                "flashsale.reconcile_interval = 0",
                "flashsale.group_wait = 1s",
                "flashsale.lock_wait = 2s",
            ];
            return Self::grouped(&settings).await;
        }
        let mut shop = Self::open(connections).await;
        shop.config = strategy.of(&shop.config);
        shop.client = shop.connect().await;
        shop
    }

    /// A shop whose sessions purchase by strategy `grouped`. The seller works for one database
    /// of a server alone, so the shop has a server of its own, with these settings.
    pub async fn grouped(settings: &[&str]) -> Self {
        let room = room_for_a_cluster().await;
        let cluster = block_in_place(|| Cluster::start(settings));
        let config = Strategy::Grouped.of(&cluster.config);
        let client = connect(&config).await.expect("the server answers");
        run(&client, "CREATE EXTENSION flashsale").await;
        if !settings
            .iter()
            .any(|set| set.contains("max_worker_processes"))
        {
            workers_are_there(&client).await;
        }
        Self {
            client,
            name: "postgres".into(),
            server: cluster.config.clone(),
            config,
            cluster: Some(cluster),
            roles: Vec::new(),
            _room: Some(room),
        }
    }

    /// A new database without the extension.
    pub async fn empty(connections: usize) -> Self {
        let room = room_for(connections + OWN_CONNECTIONS).await;
        Self::create(Some(room)).await
    }

    /// A second database, without the extension, for a test that asked for the connections
    /// of both at once: asking twice, two tests could wait for each other.
    pub async fn sibling(&self) -> Self {
        Self::create(None).await
    }

    async fn create(room: Option<OwnedSemaphorePermit>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = config_from_env().expect("a server in the environment");
        let name = format!("storm_{}_{}", process::id(), NUMBER.fetch_add(1, Relaxed));
        let admin = connect(&server).await.expect("the server answers");
        run(
            &admin,
            &format!("CREATE DATABASE {name} TEMPLATE template0"),
        )
        .await;
        let config = Config::clone(server.clone().dbname(&name));
        let client = connect(&config).await.expect("the new database answers");
        Self {
            config,
            client,
            name,
            cluster: None,
            server,
            roles: Vec::new(),
            _room: room,
        }
    }

    /// No other shop is open meanwhile: for tests that look at the whole cluster.
    pub async fn alone() -> Self {
        Self::open(room_size().await - OWN_CONNECTIONS).await
    }

    pub async fn connect(&self) -> Client {
        connect(&self.config).await.expect("a connection")
    }

    pub async fn pool(&self, connections: usize) -> Arc<Pool> {
        Arc::new(
            Pool::open(&self.config, connections)
                .await
                .expect("connections"),
        )
    }

    /// Connections that purchase by this strategy, whatever the shop's is.
    pub async fn pool_under(&self, strategy: Strategy, connections: usize) -> Arc<Pool> {
        let config = strategy.of(&self.config);
        Arc::new(Pool::open(&config, connections).await.expect("connections"))
    }

    /// A role that may log in; it goes when the shop goes.
    pub async fn role(&mut self, suffix: &str) -> String {
        let role = format!("{}_{suffix}", self.name);
        self.run(&format!("CREATE ROLE {role} LOGIN")).await;
        self.roles.push(role.clone());
        role
    }

    pub async fn connect_as(&self, role: &str) -> Client {
        connect(self.config.clone().user(role))
            .await
            .expect("a connection")
    }

    pub async fn run(&self, sql: &str) {
        run(&self.client, sql).await;
    }

    /// The one value that a query answers.
    pub async fn value<T: FromSqlOwned>(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> T {
        value(&self.client, sql, parameters).await
    }

    /// Units on sale, without a price.
    pub async fn item(&self, units: i64) -> i64 {
        self.value("SELECT flashsale.create_item($1)", &[&units])
            .await
    }

    pub async fn inventory(&self, item_id: i64) -> i64 {
        self.value(
            "SELECT inventory FROM flashsale.items WHERE item_id = $1",
            &[&item_id],
        )
        .await
    }

    /// All buyers at once; each must get a final answer.
    pub async fn rush(
        &self,
        connections: usize,
        calls: impl IntoIterator<Item = Call>,
    ) -> Vec<Done> {
        rush(&self.pool(connections).await, calls).await
    }

    /// Every acknowledged order is a row, and every row was acknowledged.
    pub async fn assert_acknowledged(&self, done: &[Done]) {
        let orders = "SELECT order_id, item_id, user_id, quantity FROM flashsale.orders";
        let rows = self.client.query(orders, &[]).await.expect("orders");
        let rows: BTreeSet<Order> = rows
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
            .collect();
        let acknowledged: BTreeSet<Order> = done.iter().filter_map(acknowledged).collect();
        let lost: Vec<_> = acknowledged.difference(&rows).collect();
        let unknown: Vec<_> = rows.difference(&acknowledged).collect();
        assert!(lost.is_empty(), "acknowledged, but no such row: {lost:?}");
        assert!(
            unknown.is_empty(),
            "a row that nobody was told of: {unknown:?}"
        );
    }

    /// Units and money add up: by audit(), and by sums that share nothing with it.
    pub async fn assert_sound(&self) {
        assert_eq!(
            audit(&self.client).await,
            Vec::<String>::new(),
            "audit() found something"
        );
        const UNITS: &str = "
             SELECT format('item %s: stock %s, supplied %s, inventory %s, claimed %s',
                    i.item_id, i.stock, supplied, i.inventory, claimed)
             FROM flashsale.items i,
                  LATERAL (SELECT coalesce(sum(delta), 0) AS supplied
                           FROM flashsale.stock_movements m WHERE m.item_id = i.item_id) s,
                  LATERAL (SELECT coalesce(sum(quantity), 0) AS claimed FROM flashsale.orders o
                           WHERE o.item_id = i.item_id
                             AND o.status IN ('reserved', 'paying', 'confirmed')) c
             WHERE i.inventory < 0 OR i.stock <> supplied OR i.inventory + claimed <> i.stock";
        const MONEY: &str =
            "SELECT format('order %s: %s, paid %s times', o.order_id, o.status, paid)
             FROM flashsale.orders o,
                  LATERAL (SELECT count(*) AS paid FROM flashsale.payments p
                           WHERE p.order_id = o.order_id AND p.status = 'paid') p
             WHERE paid > (o.status = 'confirmed')::int
                OR (o.status = 'confirmed' AND o.unit_price IS NOT NULL AND paid = 0)";
        for sums in [UNITS, MONEY] {
            let wrong = self.client.query(sums, &[]).await.expect("sums");
            let wrong: Vec<String> = wrong.iter().map(|row| row.get(0)).collect();
            assert_eq!(wrong, Vec::<String>::new());
        }
    }
}

impl Drop for Shop {
    /// Also after a failure; a thread, because a destructor cannot await.
    fn drop(&mut self) {
        if self.cluster.is_some() {
            return; // it goes with its cluster
        }
        let server = self.server.clone();
        let mut statements = vec![format!("DROP DATABASE {} WITH (FORCE)", self.name)];
        statements.extend(self.roles.iter().map(|role| format!("DROP ROLE {role}")));
        let drop_all = async move {
            let admin = connect(&server).await?;
            for statement in &statements {
                admin.batch_execute(statement).await?;
            }
            Ok::<(), Error>(())
        };
        let runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
        };
        let dropped =
            thread::spawn(move || runtime().expect("a runtime").block_on(drop_all)).join();
        if let Ok(Err(error)) = dropped {
            eprintln!(
                "database {} was not dropped: {}",
                self.name,
                explain(&error)
            );
        }
    }
}

type Order = (i64, i64, String, i64);

fn acknowledged(done: &Done) -> Option<Order> {
    let Call::Purchase {
        item_id,
        user_id,
        quantity,
        ..
    } = &done.call
    else {
        return None;
    };
    let answer = answer(done);
    answer.success().then(|| {
        (
            answer.order_id().expect("an order id"),
            *item_id,
            user_id.clone(),
            *quantity,
        )
    })
}

/// The final answer of a buyer; an error is none.
pub fn answer(done: &Done) -> &Answer {
    match &done.answer {
        Ok(answer) => answer,
        Err(error) => panic!("{:?} has no final answer: {}", done.call, explain(error)),
    }
}

pub fn sold(done: &[Done]) -> usize {
    done.iter().filter(|done| answer(done).success()).count()
}

pub fn refused(done: &[Done], reason: &str) -> usize {
    done.iter()
        .filter(|done| answer(done).reason() == reason)
        .count()
}

pub async fn rush(pool: &Arc<Pool>, calls: impl IntoIterator<Item = Call>) -> Vec<Done> {
    within(Crowd::start(pool, calls).all()).await
}

/// Waits for the workers that CREATE EXTENSION has started: until they are there, a purchase can be
/// answered `busy`.
async fn workers_are_there(client: &Client) {
    const MISSING: &str =
        "SELECT count(*) > 0 FROM flashsale.health() WHERE problem = 'worker_missing'";
    within(async {
        while value::<bool>(client, MISSING, &[]).await {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Fails a test that hangs.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(HANGS_AFTER, work)
        .await
        .expect("still not done: something hangs")
}
