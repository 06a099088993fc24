//! What a caller is told when there is no success: a status, a stable reason and a sentence.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flashsale_client::{Reason, Refusal};
use serde_json::{Map, Value, json};

use crate::database::Error;

#[derive(Debug)]
pub struct Failure {
    pub status: StatusCode,
    pub reason: String,
    message: String,
    details: Map<String, Value>,
}

impl Failure {
    pub fn new(status: StatusCode, reason: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
            message: message.into(),
            details: Map::new(),
        }
    }

    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.into(), value.into());
        self
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "Log in first.")
    }

    pub fn order_not_found(order_id: i64) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "order_not_found",
            "There is no such order.",
        )
        .with("orderId", order_id)
    }

    pub fn card_declined(order_id: i64) -> Self {
        let message = "The card was declined. Nothing was charged.";
        Self::new(StatusCode::PAYMENT_REQUIRED, "card_declined", message).with("orderId", order_id)
    }

    /// Of a purchase. Not 503, which says that nothing was done.
    pub fn outcome_unknown() -> Self {
        let message = "It may have been done. Repeat it with the same key to find out.";
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "outcome_unknown",
            message,
        )
    }

    /// With the key of the purchase, if it is to be repeated. A caller who sent none did not know it.
    pub fn of_purchase(self, key: &str) -> Self {
        if self.status.is_server_error() {
            self.with("idempotencyKey", key)
        } else {
            self
        }
    }

    pub fn busy(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    pub fn internal() -> Self {
        let message = "Something went wrong on our side. Try again in a moment.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if error.is_crowd() {
            return Self::busy("Many people want this. Try again in a moment.");
        }
        match error {
            Error::Refused(refusal) => refusal.into(),
            Error::Failed(error) => error.into(),
        }
    }
}

impl From<flashsale_client::Error> for Failure {
    fn from(error: flashsale_client::Error) -> Self {
        if let Some(message) = error.about_arguments() {
            return Self::bad_request(message);
        }
        match error {
            error if error.is_passing() => {
                tracing::warn!(%error, "the database cannot answer now");
                Self::busy("The shop is restarting. Try again in a moment.")
            }
            error => {
                tracing::error!(%error, "a call of the database failed");
                Self::internal()
            }
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.reason {
            Reason::ItemNotFound | Reason::OrderNotFound => StatusCode::NOT_FOUND,
            _ if refusal.retryable => {
                return Self::busy("Many people want this. Try again in a moment.");
            }
            _ => StatusCode::CONFLICT,
        };
        let mut failure = Self::new(status, refusal.reason.code(), refusal.message);
        for (name, value) in refusal.details {
            failure.details.insert(camel_case(&name), value);
        }
        failure
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut body = json!({"success": false, "reason": self.reason, "message": self.message});
        body.as_object_mut()
            .expect("made as an object")
            .extend(self.details);
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// `remaining_inventory` is `remainingInventory` in JavaScript's world.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (head, tail) = word.split_at(word.len().min(1));
        name + &head.to_uppercase() + tail
    })
}

#[cfg(test)]
mod tests {
    use super::camel_case;

    #[test]
    fn names_become_camel_case() {
        assert_eq!(camel_case("remaining_inventory"), "remainingInventory");
        assert_eq!(camel_case("reason"), "reason");
        assert_eq!(camel_case("max_per_user"), "maxPerUser");
    }
}
