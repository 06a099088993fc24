//! A shop on flashsale: it sells over HTTP and charges cards, never for nothing.
//!
//! Read [`payment`] first: the way of an order from the click to its end.

mod backoff;
mod database;
mod failure;
mod live;
mod payment;
mod resolver;
mod routes;
mod secret;
mod session;
mod settings;
mod statements;
mod stripe;

use std::error::Error;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRef;
use axum_extra::extract::cookie::Key;
use clap::Parser;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;

use database::Database;
use live::Live;
use settings::Settings;
use stripe::Gateway;

const OPERATOR_CONNECTIONS: usize = 8;
/// For requests that are under way when the app is told to stop; longer than a purchase takes.
const GRACE: Duration = Duration::from_secs(30);

/// What every request may need. Cheap to clone.
#[derive(Clone)]
pub struct Shop {
    buyers: Database,
    operators: Database,
    gateway: Gateway,
    payment_window_s: u32,
    session_key: Key,
    operator_key: Arc<str>,
    webhook_secret: Arc<str>,
    /// The items on sale, for buyers.
    stock: Live,
    /// Everything, for operators.
    whole: Live,
    /// Purchases under way.
    payments: TaskTracker,
    metrics: PrometheusHandle,
}

impl FromRef<Shop> for Key {
    fn from_ref(shop: &Shop) -> Self {
        shop.session_key.clone()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    run(Settings::parse()).await
}

async fn run(settings: Settings) -> Result<(), Box<dyn Error>> {
    let listen = settings.listen;
    let resolve_every = settings.resolve_every;
    let stop = CancellationToken::new();
    let shop = open(settings, &stop)?;
    let listener = TcpListener::bind(listen).await?;
    tracing::info!("listening on http://{}", listener.local_addr()?);

    let (payments, buyers) = (shop.payments.clone(), shop.buyers.clone());
    let mut resolver = tokio::spawn(resolver::run(shop.clone(), resolve_every));
    let asked_to_stop = until_asked_to_stop(stop.clone())?;
    let server = axum::serve(listener, routes::router(shop)).with_graceful_shutdown(asked_to_stop);
    tokio::select! {
        served = server.into_future() => served?,
        // A client may have sent half of a request, and wait.
        () = async { stop.cancelled().await; sleep(GRACE).await } => {}
        ended = &mut resolver => return Err(format!("the resolver has ended: {ended:?}").into()),
    }
    payments.close();
    payments.wait().await; // of buyers who went away
    buyers.drain().await;
    resolver.abort(); // the next process repeats the step that is interrupted
    Ok(())
}

fn open(settings: Settings, stop: &CancellationToken) -> Result<Shop, Box<dyn Error>> {
    let metrics = routes::metrics()?;
    let buyers = database(
        "DATABASE_URL",
        &settings.database_url,
        settings.pool_size.into(),
        settings.gather_connections.into(),
    )?;
    let url = &settings.operator_database_url;
    let operators = database("OPERATOR_DATABASE_URL", url, OPERATOR_CONNECTIONS, 0)?;
    if settings.session_secret.len() < 64 {
        return Err("SESSION_SECRET must have at least 64 bytes".into());
    }
    let (stock_sender, stock) = live::watched();
    let (whole_sender, whole) = live::watched();
    tokio::spawn(live::stock(operators.clone(), stock_sender, stop.clone()));
    let (audit_sender, audits) = watch::channel(None);
    tokio::spawn(live::audit(
        operators.clone(),
        whole_sender.clone(),
        audit_sender,
        stop.clone(),
    ));
    tokio::spawn(live::shop(
        operators.clone(),
        whole_sender,
        audits,
        stop.clone(),
    ));
    Ok(Shop {
        buyers,
        operators,
        gateway: Gateway::new(
            settings.stripe_api_base.as_str(),
            &settings.stripe_secret_key,
            &settings.shop_id,
            settings.gateway_timeout,
        )?,
        payment_window_s: settings.payment_window_s,
        session_key: Key::derive_from(settings.session_secret.as_bytes()),
        operator_key: settings.operator_key.into(),
        webhook_secret: settings.stripe_webhook_secret.into(),
        stock,
        whole,
        payments: TaskTracker::new(),
        metrics,
    })
}

/// The error names the setting and what is wrong, without the value: it may hold a password.
fn database(
    setting: &str,
    url: &str,
    connections: usize,
    gathering: usize,
) -> Result<Database, Box<dyn Error>> {
    let config = url.parse().map_err(|error| format!("{setting}: {error}"))?;
    Ok(Database::open(config, connections, gathering)?)
}

/// Waits for SIGTERM or Ctrl-C, then ends the streams of events, which would go on for ever.
fn until_asked_to_stop(stop: CancellationToken) -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    })
}
