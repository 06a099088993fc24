//! A shop on flashsale: sells over HTTP, charges cards, never for nothing.
//!
//! Read [`payment`] first: the way of an order from the click to its end.

mod database;
mod failure;
mod jitter;
mod live;
mod payment;
mod resolver;
mod routes;
mod session;
mod settings;
mod statements;
mod stripe;

use std::error::Error;
use std::io::IsTerminal;
use std::sync::Arc;

use axum::extract::FromRef;
use axum_extra::extract::cookie::Key;
use clap::Parser;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;

use database::Database;
use live::Live;
use settings::Settings;
use stripe::Gateway;

const OPERATOR_CONNECTIONS: usize = 8;

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
    let (listen, resolve_every, stop) = (
        settings.listen,
        settings.resolve_every,
        CancellationToken::new(),
    );
    let shop = open(settings, &stop)?;
    let resolver = tokio::spawn(resolver::run(shop.clone(), resolve_every));
    let listener = TcpListener::bind(listen).await?;
    tracing::info!("listening on http://{}", listener.local_addr()?);

    let payments = shop.payments.clone();
    let asked_to_stop = until_asked_to_stop(stop)?;
    axum::serve(listener, routes::router(shop))
        .with_graceful_shutdown(asked_to_stop)
        .await?;
    payments.close();
    payments.wait().await; // of buyers who went away
    resolver.abort(); // whatever it was at, the next process does again
    Ok(())
}

fn open(settings: Settings, stop: &CancellationToken) -> Result<Shop, Box<dyn Error>> {
    let metrics = routes::metrics()?;
    let operators = Database::open(settings.operator_database_url, OPERATOR_CONNECTIONS)?;
    let (stock_sender, stock) = live::watched();
    let (whole_sender, whole) = live::watched();
    tokio::spawn(live::stock(operators.clone(), stock_sender, stop.clone()));
    tokio::spawn(live::shop(operators.clone(), whole_sender, stop.clone()));
    Ok(Shop {
        buyers: Database::open(settings.database_url, settings.pool_size)?,
        operators,
        gateway: Gateway::new(
            &settings.stripe_api_base,
            &settings.stripe_secret_key,
            settings.gateway_timeout,
        )?,
        payment_window_s: settings.payment_window_s,
        session_key: settings.session_secret,
        operator_key: settings.operator_key.into(),
        webhook_secret: settings.stripe_webhook_secret.into(),
        stock,
        whole,
        payments: TaskTracker::new(),
        metrics,
    })
}

/// Waits for SIGTERM or Ctrl-C, then ends the streams of events, which would go on for ever.
fn until_asked_to_stop(stop: CancellationToken) -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    })
}
