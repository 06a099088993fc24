//! What buyers do: look, buy, and manage their orders.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum_extra::extract::cookie::SignedCookieJar;
use flashsale_client::{self as client, Reason};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::events_of;
use super::extract::{Body, Id};
use crate::Shop;
use crate::database::Error;
use crate::failure::Failure;
use crate::payment::{self, Bought};
use crate::session::{self, Buyer};

/// What is charged if a request names no card; a real page always names one.
const TEST_CARD: &str = "pm_card_visa";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Purchase {
    quantity: i64,
    payment_method: String,
}

impl Default for Purchase {
    fn default() -> Self {
        Self {
            quantity: 1,
            payment_method: TEST_CARD.into(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reserve {
    quantity: i64,
}

impl Default for Reserve {
    fn default() -> Self {
        Self { quantity: 1 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Pay {
    payment_method: String,
}

impl Default for Pay {
    fn default() -> Self {
        Self {
            payment_method: TEST_CARD.into(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    order_id: i64,
    item_id: i64,
    quantity: i64,
    status: String,
    total: Option<i64>,
    currency: Option<String>,
    created_at: String,
    expires_at: Option<String>,
    payment_deadline: Option<String>,
    close_reason: Option<String>,
}

impl From<client::Order> for Order {
    fn from(order: client::Order) -> Self {
        Self {
            order_id: order.order_id,
            item_id: order.item_id,
            quantity: order.quantity,
            status: order.status.code().into(),
            total: order.total,
            currency: order.currency,
            created_at: order.created_at,
            expires_at: order.expires_at,
            payment_deadline: order.payment_deadline,
            close_reason: order.close_reason,
        }
    }
}

/// A guest's session, the one that is there or a new one.
pub async fn start_session(jar: SignedCookieJar) -> (SignedCookieJar, Json<Value>) {
    let (jar, user_id) = match session::buyer(&jar) {
        Some(user_id) => (jar, user_id),
        None => {
            let user_id = format!("guest-{}", Uuid::new_v4());
            (session::start_as_buyer(jar, &user_id), user_id)
        }
    };
    (jar, Json(json!({"success": true, "userId": user_id})))
}

pub async fn items(State(shop): State<Shop>) -> Result<Response, Failure> {
    let look = shop.stock.borrow().clone();
    if look.is_empty() {
        return Err(Failure::busy("The shop is opening. Try again in a moment."));
    }
    Ok((
        [(header::CONTENT_TYPE, "application/json")],
        look.to_string(),
    )
        .into_response())
}

pub async fn events(State(shop): State<Shop>) -> impl IntoResponse {
    events_of("items", shop.stock)
}

/// Reserves, charges and confirms. An answer of 202 means that the gateway did not report the
/// outcome of the charge in time: the order stays `paying` until the resolver or a webhook knows.
pub async fn purchase(
    State(shop): State<Shop>,
    Buyer(user_id): Buyer,
    Id(item_id): Id,
    headers: HeaderMap,
    Body(Purchase {
        quantity,
        payment_method,
    }): Body<Purchase>,
) -> Result<Response, Failure> {
    let begun = Instant::now();
    let key = key_of(&headers)?;
    let purchase = purchase_of(item_id, user_id, quantity, &key);
    // A task of its own: a buyer who closes the browser must not stop it half-way.
    let payments = shop.payments.clone();
    let outcome = payments.spawn(async move {
        let outcome = payment::buy(&shop, &purchase, &payment_method).await;
        count(begun, &outcome);
        outcome
    });
    outcome
        .await
        .unwrap_or_else(|_| Err(Failure::internal()))
        .map(of_bought)
        .map_err(|failure| failure.of_purchase(&key))
}

/// Reserves, and charges nothing: for a page that asks for the card when the unit is safe. The
/// reservation expires unless it is paid before.
pub async fn reserve(
    State(shop): State<Shop>,
    Buyer(user_id): Buyer,
    Id(item_id): Id,
    headers: HeaderMap,
    Body(Reserve { quantity }): Body<Reserve>,
) -> Result<Json<Value>, Failure> {
    let key = key_of(&headers)?;
    let purchase = purchase_of(item_id, user_id, quantity, &key);
    let order = payment::reserve(&shop, &purchase).await;
    let order = order.map_err(|failure| failure.of_purchase(&key))?;
    Ok(Json(json!({
        "success": true,
        "orderId": order.order_id,
        "remainingInventory": order.remaining_inventory,
        "status": order.status.code(),
        "expiresAt": order.expires_at,
    })))
}

/// Charges and confirms an order that is reserved. Answers like [`purchase`].
pub async fn pay(
    State(shop): State<Shop>,
    buyer: Buyer,
    Id(order_id): Id,
    Body(Pay { payment_method }): Body<Pay>,
) -> Result<Response, Failure> {
    own_order(&shop, &buyer, order_id).await?;
    let payments = shop.payments.clone();
    let outcome =
        payments.spawn(async move { payment::pay(&shop, order_id, &payment_method).await });
    let is_confirmed = outcome.await.unwrap_or_else(|_| Err(Failure::internal()))?;
    let body = json!({"success": true, "orderId": order_id, "status": status_of(is_confirmed)});
    Ok((code_of(is_confirmed), Json(body)).into_response())
}

fn count(begun: Instant, outcome: &Result<Bought, Failure>) {
    metrics::histogram!("checkout_purchase_seconds").record(begun.elapsed());
    let name = match outcome {
        Ok(bought) => status_of(bought.is_confirmed).to_owned(),
        Err(failure) => failure.reason.clone(),
    };
    metrics::counter!("checkout_purchases_total", "outcome" => name).increment(1);
}

fn purchase_of(item_id: i64, user_id: String, quantity: i64, key: &str) -> client::Purchase {
    let purchase = client::Purchase::new(item_id, user_id);
    purchase.quantity(quantity).key(key)
}

/// The client's key, or one that covers our own repetitions.
fn key_of(headers: &HeaderMap) -> Result<String, Failure> {
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(Uuid::new_v4().to_string());
    };
    match key.to_str() {
        Ok(key) if (1..=255).contains(&key.len()) => Ok(key.to_owned()),
        _ => Err(Failure::bad_request(
            "Idempotency-Key must be 1 to 255 printable ASCII characters.",
        )),
    }
}

fn status_of(is_confirmed: bool) -> &'static str {
    if is_confirmed { "confirmed" } else { "paying" }
}

fn code_of(is_confirmed: bool) -> StatusCode {
    if is_confirmed {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    }
}

fn of_bought(bought: Bought) -> Response {
    let body = json!({
        "success": true,
        "orderId": bought.order_id,
        "remainingInventory": bought.remaining_inventory,
        "status": status_of(bought.is_confirmed),
    });
    (code_of(bought.is_confirmed), Json(body)).into_response()
}

pub async fn orders(
    State(shop): State<Shop>,
    Buyer(user_id): Buyer,
) -> Result<Json<Value>, Failure> {
    let orders = match shop.buyers.user_orders(&user_id).await {
        Ok(found) => found.orders,
        Err(Error::Refused(refusal)) if refusal.reason == Reason::UserNotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let orders: Vec<Order> = orders.into_iter().map(Order::from).collect();
    Ok(Json(json!({ "orders": orders })))
}

pub async fn order(
    State(shop): State<Shop>,
    buyer: Buyer,
    Id(order_id): Id,
) -> Result<Json<Order>, Failure> {
    own_order(&shop, &buyer, order_id).await.map(Json)
}

/// An order of another buyer is answered like one that does not exist.
async fn own_order(shop: &Shop, Buyer(user_id): &Buyer, order_id: i64) -> Result<Order, Failure> {
    let order = shop.buyers.get_order(order_id).await?;
    if order.user_id == *user_id {
        Ok(order.into())
    } else {
        Err(Failure::order_not_found(order_id))
    }
}

pub async fn cancel(
    State(shop): State<Shop>,
    buyer: Buyer,
    Id(order_id): Id,
) -> Result<Json<Value>, Failure> {
    own_order(&shop, &buyer, order_id).await?;
    let payments = shop.payments.clone();
    let outcome = payments.spawn(async move { payment::cancel(&shop, order_id).await });
    let status = outcome.await.unwrap_or_else(|_| Err(Failure::internal()))?;
    Ok(Json(
        json!({"success": true, "orderId": order_id, "status": status}),
    ))
}
