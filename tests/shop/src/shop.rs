//! A whole shop: the database emptied, a gateway with a new book, and the app in any number of
//! processes.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use gateway::faults::Faults;
use rand::RngExt;
use rand::distr::Alphanumeric;
use storm::{config_from_env, connect, explain};
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config};

use crate::buyer::Door;
use crate::programs::{Program, free_port, is_free};
use crate::session;

/// One shop at a time. The gateway's charges are numbered by its book, and the app's resolver
/// sees to all orders of a database: a database belongs to one gateway.
static TURN: Mutex<()> = Mutex::const_new(());

const ROLES: &str = "DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'shop_app') THEN
            CREATE ROLE shop_app LOGIN;
            CREATE ROLE shop_operator LOGIN;
        END IF;
    END $$;
    SELECT flashsale.grant_app('shop_app'), flashsale.grant_operator('shop_operator')";
/// What an earlier gateway's book knew is no use to a new one. Ids go on, so that nobody takes
/// an item for an earlier one.
const EMPTY: &str =
    "TRUNCATE flashsale.orders, flashsale.payments, flashsale.items, flashsale.stock_movements";
const SESSION_S: i64 = 3600;

/// How a shop is to be set up.
#[derive(Clone, Default)]
pub struct Plan {
    pub apps: usize,
    pub faults: Faults,
    /// Environment variables of the app, in place of its usual ones.
    pub app: Vec<(&'static str, String)>,
    /// Ports of the first app and of the gateway; free ones if not said.
    pub ports: Option<(u16, u16)>,
}

pub struct Secrets {
    pub session: String,
    pub operator: String,
    pub webhook: String,
    pub gateway: String,
}

pub struct Shop {
    pub apps: Vec<Program>,
    pub gateway: Program,
    pub secrets: Secrets,
    /// The database as its superuser.
    pub config: Config,
    pub client: Client,
    folder: Folder,
    _turn: MutexGuard<'static, ()>,
}

impl Shop {
    pub async fn open(plan: Plan) -> Result<Self, String> {
        let turn = TURN.lock().await;
        let config = config_from_env()?;
        let client = connect(&config).await.map_err(|error| explain(&error))?;
        for sql in [EMPTY, ROLES] {
            client
                .batch_execute(sql)
                .await
                .map_err(|error| explain(&error))?;
        }
        let folder = Folder::new()?;
        let secrets = Secrets::new();
        let (app_ports, gateway_port) = ports(&plan)?;
        let gateway_settings = gateway_settings(
            &plan.faults,
            &secrets,
            &folder.book(),
            gateway_port,
            &app_ports,
        );
        let gateway = Program::start("gateway", gateway_port, gateway_settings, &folder.0).await?;
        let mut apps = Vec::new();
        for port in app_ports {
            let mut settings = app_settings(&config, &secrets, port, gateway_port);
            settings.extend(
                plan.app
                    .iter()
                    .map(|(name, value)| ((*name).into(), value.clone())),
            );
            apps.push(Program::start("checkout", port, settings, &folder.0).await?);
        }
        Ok(Self {
            apps,
            gateway,
            secrets,
            config,
            client,
            folder,
            _turn: turn,
        })
    }

    /// Puts units on sale for 49.00 EUR each; an abandoned reservation lasts 10 seconds.
    pub async fn item(&self, units: i64) -> Result<i64, String> {
        const CREATE: &str = "SELECT flashsale.create_item($1, 'Console', 4900, 'EUR', reservation_ttl => '10 seconds')";
        let row = self.client.query_one(CREATE, &[&units]).await;
        row.map(|row| row.get(0)).map_err(|error| explain(&error))
    }

    /// Where buyers come in, at most so many connections at once.
    pub fn door(&self, connections: usize) -> Door {
        Door::new(
            self.apps.iter().map(Program::url).collect(),
            self.secrets.session.clone(),
            connections,
        )
    }

    /// A `Cookie` header of this user.
    pub fn session(&self, user: &str) -> String {
        session::cookie(&self.secrets.session, "session", user, SESSION_S)
    }

    /// A `Cookie` header of an operator.
    pub fn operator_session(&self) -> String {
        session::cookie(&self.secrets.session, "operator", "operator", SESSION_S)
    }

    /// Where the gateway keeps its book.
    pub fn book(&self) -> PathBuf {
        self.folder.book()
    }

    /// The database as a role of the app, as the app wants to be told.
    pub fn database_url(&self, role: &str) -> String {
        database_url(&self.config, role)
    }
}

impl Secrets {
    fn new() -> Self {
        Self {
            session: secret(64),
            operator: secret(16),
            webhook: secret(32),
            gateway: secret(32),
        }
    }
}

fn secret(length: usize) -> String {
    let random = rand::rng().sample_iter(Alphanumeric);
    random.take(length).map(char::from).collect()
}

fn ports(plan: &Plan) -> Result<(Vec<u16>, u16), String> {
    let Some((app, gateway)) = plan.ports else {
        let apps: Result<Vec<_>, _> = (0..plan.apps).map(|_| free_port()).collect();
        return Ok((apps?, free_port()?));
    };
    match [app, gateway].into_iter().find(|port| !is_free(*port)) {
        Some(port) => Err(format!("port {port} of 127.0.0.1 is taken")),
        None => Ok((vec![app], gateway)),
    }
}

fn database_url(config: &Config, role: &str) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        Some(Host::Unix(folder)) => folder.display().to_string(),
        None => "/var/run/postgresql".into(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let database = config.get_dbname().unwrap_or("postgres");
    format!("host={host} port={port} user={role} dbname={database}")
}

fn app_settings(
    config: &Config,
    secrets: &Secrets,
    port: u16,
    gateway_port: u16,
) -> Vec<(String, String)> {
    owned([
        ("LISTEN", format!("127.0.0.1:{port}")),
        ("DATABASE_URL", database_url(config, "shop_app")),
        (
            "OPERATOR_DATABASE_URL",
            database_url(config, "shop_operator"),
        ),
        (
            "STRIPE_API_BASE",
            format!("http://127.0.0.1:{gateway_port}"),
        ),
        ("STRIPE_SECRET_KEY", secrets.gateway.clone()),
        ("STRIPE_WEBHOOK_SECRET", secrets.webhook.clone()),
        ("SESSION_SECRET", secrets.session.clone()),
        ("OPERATOR_KEY", secrets.operator.clone()),
        ("GATEWAY_TIMEOUT_MS", "1500".into()),
        ("PAYMENT_WINDOW_S", "3".into()),
        ("RESOLVE_EVERY_MS", "500".into()),
    ])
}

fn gateway_settings(
    faults: &Faults,
    secrets: &Secrets,
    book: &Path,
    port: u16,
    app_ports: &[u16],
) -> Vec<(String, String)> {
    let webhooks: Vec<_> = app_ports
        .iter()
        .map(|port| format!("http://127.0.0.1:{port}/webhooks/payment"))
        .collect();
    owned([
        ("GATEWAY_LISTEN", format!("127.0.0.1:{port}")),
        ("GATEWAY_BOOK", book.display().to_string()),
        ("GATEWAY_SECRET_KEY", secrets.gateway.clone()),
        ("GATEWAY_WEBHOOK_URL", webhooks.join(",")),
        ("GATEWAY_WEBHOOK_SECRET", secrets.webhook.clone()),
        ("GATEWAY_DECLINES", faults.declines.to_string()),
        ("GATEWAY_SLOW", faults.slow.to_string()),
        ("GATEWAY_TIMEOUTS", faults.timeouts.to_string()),
        ("GATEWAY_ERRORS", faults.errors.to_string()),
        ("GATEWAY_LOST", faults.lost.to_string()),
        ("GATEWAY_DUPLICATES", faults.duplicates.to_string()),
        ("GATEWAY_SHUFFLED", faults.shuffled.to_string()),
        ("GATEWAY_HOLD_MS", faults.hold_ms.to_string()),
        ("GATEWAY_SEED", faults.seed.to_string()),
    ])
}

fn owned<const N: usize>(settings: [(&str, String); N]) -> Vec<(String, String)> {
    settings
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect()
}

/// Logs and the book, under /var/tmp: on a disk, as those of a real shop are.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, String> {
        let name = format!("shop-{}-{}", process::id(), secret(6));
        let path = Path::new("/var/tmp").join(name);
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }

    fn book(&self) -> PathBuf {
        self.0.join("book.jsonl")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if env::var_os("KEEP").is_none() {
            fs::remove_dir_all(&self.0).ok();
        } else {
            eprintln!("kept {}", self.0.display());
        }
    }
}
