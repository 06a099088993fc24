//! A shop with its gateway, ready for a crowd.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use cookie::{Cookie, CookieJar, Key};
use gateway::webhooks::now_s;

use crate::database::Database;
use crate::programs::{Program, free_address};

/// Connections of an app for its buyers.
pub const POOL_SIZE: usize = 16;
pub const SECRET_KEY: &str = "sk_test_stage";
pub const WEBHOOK_SECRET: &str = "whsec_stage";
pub const OPERATOR_KEY: &str = "let me in";
pub const SESSION_SECRET: &str =
    "sixty-four bytes or more that nobody outside of this test run knows.";

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// How a shop is set up.
pub struct Setup {
    /// Whether the shop gets a database of its own, or shares the one of `grouped`.
    pub own_database: bool,
    /// Processes of the app.
    pub apps: usize,
    /// Where they and the gateway listen; wherever it is free if not told.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// Where the app reaches the database's server, if not at its own address.
    pub database_at: Option<SocketAddr>,
    /// What the gateway does wrong: GATEWAY_… variables.
    pub faults: Vec<(&'static str, String)>,
    /// Further settings of the app, which come last and so win.
    pub settings: Vec<(&'static str, String)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            own_database: false,
            apps: 1,
            addresses: None,
            database_at: None,
            faults: Vec::new(),
            settings: Vec::new(),
        }
    }
}

impl Setup {
    /// With a gateway that takes 100 to 500 ms for each request, and does nothing wrong.
    pub fn slow() -> Self {
        Self {
            faults: vec![("GATEWAY_SLOW", "1".to_owned())],
            ..Self::default()
        }
    }
}

/// A shop that runs.
pub struct Stage {
    pub database: Database,
    pub apps: Vec<Program>,
    pub gateway: Program,
    /// Goes last, when nobody writes to it any more.
    folder: Folder,
}

/// A folder that goes with its owner.
struct Folder(PathBuf);

impl Stage {
    pub async fn open(setup: Setup) -> Self {
        let name = format!("shop_{}_{}", process::id(), NUMBER.fetch_add(1, Relaxed));
        let folder = new_folder(&name);
        let database = if setup.own_database {
            Database::new(name).await
        } else {
            Database::main()
        };
        database.make_roles().await;
        let (first_app, gateway) = setup
            .addresses
            .unwrap_or_else(|| (free_address(), free_address()));
        let more = (1..setup.apps).map(|_| free_address());
        let addresses: Vec<SocketAddr> = [first_app].into_iter().chain(more).collect();
        let webhooks: Vec<String> = addresses
            .iter()
            .map(|at| format!("http://{at}/webhooks/payment"))
            .collect();

        let mut environment = vec![
            ("GATEWAY_LISTEN", gateway.to_string()),
            (
                "GATEWAY_BOOK",
                folder.0.join("book.jsonl").display().to_string(),
            ),
            ("GATEWAY_SECRET_KEY", SECRET_KEY.into()),
            ("GATEWAY_WEBHOOK_URL", webhooks.join(",")),
            ("GATEWAY_WEBHOOK_SECRET", WEBHOOK_SECRET.into()),
        ];
        environment.extend(setup.faults);
        let gateway = Program::start("gateway", gateway, environment, &folder.0).await;
        let mut apps = Vec::new();
        for address in addresses {
            let mut environment = settings_of(address, &gateway);
            for (name, role) in [
                ("DATABASE_URL", "shop_app"),
                ("OPERATOR_DATABASE_URL", "shop_operator"),
            ] {
                environment.push((name, database.url_of(role, setup.database_at)));
            }
            environment.extend(setup.settings.clone());
            apps.push(Program::start("checkout", address, environment, &folder.0).await);
        }
        Self {
            database,
            apps,
            gateway,
            folder,
        }
    }

    /// The gateway's book, as it is on disk now.
    pub fn book(&self) -> gateway::book::Book {
        gateway::book::Book::read(&self.folder.0.join("book.jsonl")).expect("the book")
    }

    pub fn url(&self, path: &str) -> String {
        self.apps[0].url(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// On a machine that is slow, or stands still for a moment, no outcome is unknown and no payment late.
fn settings_of(address: SocketAddr, gateway: &Program) -> Vec<(&'static str, String)> {
    vec![
        ("LISTEN", address.to_string()),
        ("POOL_SIZE", POOL_SIZE.to_string()),
        ("SHOP_ID", "stage".into()),
        ("STRIPE_API_BASE", gateway.url("")),
        ("STRIPE_SECRET_KEY", SECRET_KEY.into()),
        ("STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET.into()),
        ("SESSION_SECRET", SESSION_SECRET.into()),
        ("OPERATOR_KEY", OPERATOR_KEY.into()),
        ("GATEWAY_TIMEOUT_MS", "30000".into()),
        ("PAYMENT_WINDOW_S", "60".into()),
        ("RESOLVE_EVERY_MS", "500".into()),
    ]
}

fn new_folder(name: &str) -> Folder {
    let folder = PathBuf::from("/var/tmp").join(format!("flashsale-{name}"));
    fs::create_dir(&folder).expect("a new folder");
    Folder(folder)
}

/// The Cookie header of a user with a session for an hour, as the app signs it.
pub fn session_of(user_id: &str) -> String {
    session_until(user_id, now_s() + 3_600)
}

/// As session_of, to another end.
pub fn session_until(user_id: &str, ends_s: u64) -> String {
    signed_by(
        SESSION_SECRET,
        "session",
        &format!("session|{user_id}|{ends_s}"),
    )
}

/// A Cookie header with one cookie.
pub fn signed_by(secret: &str, name: &str, value: &str) -> String {
    let mut jar = CookieJar::new();
    let cookie = Cookie::new(name.to_owned(), value.to_owned());
    jar.signed_mut(&Key::derive_from(secret.as_bytes()))
        .add(cookie);
    jar.get(name)
        .expect("just added")
        .encoded()
        .stripped()
        .to_string()
}
