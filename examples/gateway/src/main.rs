//! Runs the stand-in gateway; `gateway --help` lists its settings.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use gateway::book::Book;
use gateway::faults::Faults;
use gateway::server::Gateway;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// A stand-in for Stripe, with a book on disk, that fails at the rates it is told.
#[derive(Parser)]
#[command(version)]
struct Settings {
    /// Address to listen on
    #[arg(long, env = "GATEWAY_LISTEN", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,

    /// File of the book; made if it is not there
    #[arg(long, env = "GATEWAY_BOOK", default_value = "book.jsonl")]
    book: PathBuf,

    /// The key that the shop must show
    #[arg(long, env = "GATEWAY_SECRET_KEY", hide_env_values = true)]
    secret_key: String,

    /// Where events go; of several, separated by commas, the first that takes them
    #[arg(long, env = "GATEWAY_WEBHOOK_URL", value_delimiter = ',')]
    webhook_url: Vec<String>,

    /// What events are signed with
    #[arg(long, env = "GATEWAY_WEBHOOK_SECRET", hide_env_values = true)]
    webhook_secret: String,

    #[command(flatten)]
    faults: Faults,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Settings {
        listen,
        book,
        secret_key,
        webhook_url,
        webhook_secret,
        faults,
    } = Settings::parse();
    let gateway = Gateway::new(
        Book::open(&book)?,
        secret_key,
        webhook_url,
        webhook_secret,
        faults,
    )?;
    gateway.deliver_left_over();
    let listener = TcpListener::bind(listen).await?;
    eprintln!("gateway: listening on http://{}", listener.local_addr()?);
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    // Clients that wait for an answer do not get one, as with any gateway that goes down.
    tokio::select! {
        served = async { axum::serve(listener, gateway.router()).await } => Ok(served?),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
