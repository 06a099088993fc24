//! The two pages, compiled in, so that one file is the whole app.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};

use crate::Shop;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

pub fn router() -> Router<Shop> {
    Router::new()
        .route("/", page(HTML, include_str!("../../pages/shop.html")))
        .route(
            "/shop.js",
            page(SCRIPT, include_str!("../../pages/shop.js")),
        )
        .route(
            "/common.js",
            page(SCRIPT, include_str!("../../pages/common.js")),
        )
        .route(
            "/operator",
            page(HTML, include_str!("../../pages/operator.html")),
        )
        .route(
            "/operator.js",
            page(SCRIPT, include_str!("../../pages/operator.js")),
        )
        .route(
            "/style.css",
            page(STYLE, include_str!("../../pages/style.css")),
        )
}

fn page(content_type: &'static str, text: &'static str) -> MethodRouter<Shop> {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-cache"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    get(async move || (headers, text).into_response())
}
