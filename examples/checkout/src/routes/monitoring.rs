//! Whether the app is well, and its counters. Keep both from the public.

use std::time::Duration;

use axum::Json;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::Shop;
use crate::failure::Failure;
use crate::statements::HEALTH;

const PATIENCE: Duration = Duration::from_secs(1);
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
const BUCKETS_S: [f64; 12] = [
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
];

/// Collects what the macros of `metrics` count from here on.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets(&BUCKETS_S)?
        .install_recorder()?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            sleep(UPKEEP_EVERY).await;
            upkeep.run_upkeep(); // else samples pile up while nobody asks for them
        }
    });
    Ok(handle)
}

/// Well is an app that reaches its database and may read the resolver's lists: over the operators'
/// connections, which buyers do not use.
pub async fn health(State(shop): State<Shop>) -> Result<Json<Value>, Failure> {
    match timeout(PATIENCE, shop.operators.value(HEALTH, &[])).await {
        Ok(Ok(_)) => Ok(Json(json!({"success": true}))),
        _ => Err(Failure::busy("The database does not answer.")),
    }
}

pub async fn metrics(State(shop): State<Shop>) -> String {
    shop.metrics.render()
}

/// Counts and times every request, by route and status: nothing that a caller could make up.
pub async fn count(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let route = path.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let begun = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_str().to_owned();
    metrics::histogram!("http_request_seconds", "route" => route.clone()).record(begun.elapsed());
    metrics::counter!("http_requests_total", "route" => route, "status" => status).increment(1);
    response
}
