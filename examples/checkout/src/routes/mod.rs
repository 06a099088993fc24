//! What the app answers over HTTP, and to whom.

mod buyers;
mod extract;
mod monitoring;
mod operators;
mod pages;
mod webhook;

use std::convert::Infallible;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::{get, post};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;

pub use monitoring::install as metrics;

use crate::Shop;
use crate::failure::Failure;
use crate::live::Live;

const LARGEST_BODY: usize = 64 * 1024;

pub fn router(shop: Shop) -> Router {
    Router::new()
        .route("/session", post(buyers::start_session))
        .route("/items", get(buyers::items))
        .route("/events", get(buyers::events))
        .route("/purchase/{item_id}", post(buyers::purchase))
        .route("/reserve/{item_id}", post(buyers::reserve))
        .route("/orders", get(buyers::orders))
        .route("/orders/{order_id}", get(buyers::order))
        .route("/orders/{order_id}/pay", post(buyers::pay))
        .route("/orders/{order_id}/cancel", post(buyers::cancel))
        .route("/webhooks/payment", post(webhook::payment))
        .route(
            "/operator/session",
            post(operators::start_session).get(operators::session),
        )
        .route("/operator/events", get(operators::events))
        .route(
            "/operator/items/{item_id}/restock",
            post(operators::restock),
        )
        .route("/operator/items/{item_id}/pause", post(operators::pause))
        .route("/operator/items/{item_id}/resume", post(operators::resume))
        .route("/healthz", get(monitoring::health))
        .route("/metrics", get(monitoring::metrics))
        .merge(pages::router())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(from_fn(monitoring::count))
        .with_state(shop)
}

async fn not_found() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here.")
}

async fn method_not_allowed() -> Failure {
    let message = "This cannot be done here with that method.";
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        message,
    )
}

/// Each new look as an event, from the present one on.
fn events_of(name: &'static str, live: Live) -> impl IntoResponse + use<> {
    let events = WatchStream::new((*live).clone())
        .filter(|look| !look.is_empty())
        .map(move |look| Ok::<_, Infallible>(Event::default().event(name).data(&*look)));
    Sse::new(events).keep_alive(KeepAlive::default())
}
