//! What operators see and do.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum_extra::extract::cookie::SignedCookieJar;
use serde::Deserialize;
use serde_json::{Value, json};

use super::events_of;
use super::extract::{Body, Id};
use crate::Shop;
use crate::database::Error;
use crate::failure::Failure;
use crate::secret::is_same;
use crate::session::{self, Operator};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restock {
    delta: i64,
    reason: Option<String>,
}

pub async fn start_session(
    State(shop): State<Shop>,
    jar: SignedCookieJar,
    Body(Login { key }): Body<Login>,
) -> Result<(SignedCookieJar, Json<Value>), Failure> {
    if !is_same(&key, &shop.operator_key) {
        let message = "This is not the operator's key.";
        return Err(Failure::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            message,
        ));
    }
    Ok((
        session::start_as_operator(jar, &key),
        Json(json!({"success": true})),
    ))
}

/// Whether the caller has an operator's session.
pub async fn session(_: Operator) -> Json<Value> {
    Json(json!({"success": true}))
}

pub async fn events(State(shop): State<Shop>, _: Operator) -> impl IntoResponse {
    events_of("shop", shop.whole)
}

pub async fn restock(
    State(shop): State<Shop>,
    _: Operator,
    Id(item_id): Id,
    Body(Restock { delta, reason }): Body<Restock>,
) -> Result<Json<Value>, Failure> {
    let added = shop
        .operators
        .restock_item(item_id, delta, reason.as_deref())
        .await
        .map_err(of_restock)?;
    Ok(Json(
        json!({"success": true, "stock": added.stock, "remainingInventory": added.remaining_inventory}),
    ))
}

/// Restock cannot be repeated, so nothing may advise it where the answer was lost.
fn of_restock(error: Error) -> Failure {
    if !matches!(&error, Error::Failed(error) if error.is_outcome_unknown()) {
        return error.into();
    }
    tracing::error!(%error, "nobody knows whether an item was restocked");
    let message = "It may have been done. Look at the stock before you repeat it.";
    Failure::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "outcome_unknown",
        message,
    )
}

pub async fn pause(
    State(shop): State<Shop>,
    _: Operator,
    Id(item_id): Id,
) -> Result<Json<Value>, Failure> {
    shop.operators.pause_item(item_id).await?;
    Ok(Json(json!({"success": true, "paused": true})))
}

pub async fn resume(
    State(shop): State<Shop>,
    _: Operator,
    Id(item_id): Id,
) -> Result<Json<Value>, Failure> {
    shop.operators.resume_item(item_id).await?;
    Ok(Json(json!({"success": true, "paused": false})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restock_whose_answer_was_lost_is_not_to_be_repeated_blindly() {
        let lost = flashsale_client::Error::OutcomeUnknown("the database is silent".into());
        let failure = of_restock(lost.into());
        let (status, reason) = (failure.status.as_u16(), failure.reason.as_str());
        assert_eq!((status, reason), (500, "outcome_unknown"));
        let full = of_restock(flashsale_client::Error::Overloaded.into());
        assert_eq!(full.status.as_u16(), 503);
    }
}
