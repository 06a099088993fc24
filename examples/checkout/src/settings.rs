//! What the app is told by its environment; `checkout --help` lists it.
//!
//! Secrets are texts here and are read later, since clap shows what it could not read.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use reqwest::Url;

/// A shop on flashsale: sells over HTTP, charges cards, never for nothing.
#[derive(Parser)]
#[command(version)]
pub struct Settings {
    /// Address to listen on; put a proxy that speaks TLS before it
    #[arg(long, env, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// The database as a role with grant_app: "host=… user=…" or a postgresql:// URL
    #[arg(long, env, hide_env_values = true)]
    pub database_url: String,

    /// The database as a role with grant_operator, for the resolver and the operator page
    #[arg(long, env, hide_env_values = true)]
    pub operator_database_url: String,

    /// Connections for buyers, at most; the operator role has 8 more
    #[arg(long, env, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub pool_size: u16,

    /// Further connections, over which purchases of many buyers are made together; 0 makes each
    /// purchase a call of its own
    #[arg(long, env, default_value_t = 2)]
    pub gather_connections: u16,

    /// The gateway: Stripe, or something that speaks its PaymentIntents API
    #[arg(long, env, default_value = "https://api.stripe.com")]
    pub stripe_api_base: Url,

    /// What tells this shop's charges from all others of the gateway's account; never changed,
    /// and never shared by two databases
    #[arg(long, env, value_parser = NonEmpty::new())]
    pub shop_id: String,

    /// Secret key of the gateway's account
    #[arg(long, env, hide_env_values = true, value_parser = NonEmpty::new())]
    pub stripe_secret_key: String,

    /// What the gateway signs its webhooks with
    #[arg(long, env, hide_env_values = true, value_parser = NonEmpty::new())]
    pub stripe_webhook_secret: String,

    /// What sessions are signed with, 64 bytes or more; the same in all processes
    #[arg(long, env, hide_env_values = true)]
    pub session_secret: String,

    /// What opens the operator page
    #[arg(long, env, hide_env_values = true, value_parser = NonEmpty::new())]
    pub operator_key: String,

    /// How long to wait for the gateway before the outcome of a charge counts as unknown
    #[arg(long = "gateway-timeout-ms", env = "GATEWAY_TIMEOUT_MS", value_name = "MS",
          default_value = "10000", value_parser = milliseconds)]
    pub gateway_timeout: Duration,

    /// How long a payment may take before the resolver asks the gateway about it, 3600 at most
    #[arg(long, env, value_name = "S", default_value_t = 120,
          value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub payment_window_s: u32,

    /// How often the resolver looks for payments to settle and refunds to make
    #[arg(long = "resolve-every-ms", env = "RESOLVE_EVERY_MS", value_name = "MS",
          default_value = "5000", value_parser = milliseconds)]
    pub resolve_every: Duration,
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(ms) => Ok(Duration::from_millis(ms)),
        Err(error) => Err(format!("must be whole milliseconds: {error}")),
    }
}
