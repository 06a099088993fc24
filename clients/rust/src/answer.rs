//! What a call answers: a success with its fields, or a refusal with its reason.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::names::Reason;

/// The outcome of a call that the extension understood. A refusal has changed nothing, with the
/// exception of [`confirm_order`](crate::confirm_order), which records a charge that is due for refund.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<T> {
    Success(T),
    Refused(Refusal),
}

impl<T> Answer<T> {
    /// What the call did; a refusal as the error, for `?`.
    pub fn into_result(self) -> Result<T, Refusal> {
        match self {
            Answer::Success(done) => Ok(done),
            Answer::Refused(refusal) => Err(refusal),
        }
    }

    /// What the call did, if it was not refused.
    pub fn success(&self) -> Option<&T> {
        match self {
            Answer::Success(done) => Some(done),
            Answer::Refused(_) => None,
        }
    }

    /// Why the call was refused, if it was.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Answer::Success(_) => None,
            Answer::Refused(refusal) => Some(refusal),
        }
    }
}

impl<T: DeserializeOwned> Answer<T> {
    /// Reads one answer of the extension.
    pub(crate) fn read(answer: &RawValue) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Head {
            success: bool,
        }
        let text = answer.get();
        let head: Head = serde_json::from_str(text)?;
        if head.success {
            serde_json::from_str(text).map(Answer::Success)
        } else {
            let mut refusal: Refusal = serde_json::from_str(text)?;
            refusal.details.remove("success");
            Ok(Answer::Refused(refusal))
        }
    }
}

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Deserialize, thiserror::Error)]
#[error("refused: {reason}")]
#[non_exhaustive]
pub struct Refusal {
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
    /// Whether the same call may succeed a moment later.
    pub retryable: bool,
    /// The fields that belong to the reason, by their names in the documentation of the API.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

impl Refusal {
    /// How long the extension asks to wait before the next try; it is jittered.
    pub fn retry_after(&self) -> Option<Duration> {
        let ms = self.details.get("retry_after_ms")?.as_u64()?;
        Some(Duration::from_millis(ms))
    }

    pub fn item_id(&self) -> Option<i64> {
        self.number("item_id")
    }

    pub fn order_id(&self) -> Option<i64> {
        self.number("order_id")
    }

    pub fn order_ref(&self) -> Option<&str> {
        self.text("order_ref")
    }

    /// The units that are left, if too few are.
    pub fn remaining_inventory(&self) -> Option<i64> {
        self.number("remaining_inventory")
    }

    /// The orders that a user at the limit has, newest first, 20 at most.
    pub fn order_ids(&self) -> Vec<i64> {
        let ids = self.details.get("order_ids").and_then(Value::as_array);
        ids.into_iter()
            .flatten()
            .filter_map(Value::as_i64)
            .collect()
    }

    /// When the sale starts (ISO 8601), if it has not.
    pub fn starts_at(&self) -> Option<&str> {
        self.text("starts_at")
    }

    /// When the sale ended (ISO 8601), if it has.
    pub fn ends_at(&self) -> Option<&str> {
        self.text("ends_at")
    }

    /// Whether the reported charge is listed as due for refund; `false` for other calls.
    pub fn refund_required(&self) -> bool {
        self.details.get("refund_required") == Some(&Value::Bool(true))
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.details.get(name)?.as_i64()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.details.get(name)?.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reservation;

    fn read(text: &str) -> Answer<Reservation> {
        let raw: &RawValue = serde_json::from_str(text).expect("JSON");
        Answer::read(raw).expect("an answer")
    }

    #[test]
    fn a_refusal_keeps_the_fields_of_its_reason() {
        let answer = read(
            r#"{"reason": "busy", "message": "Wait.", "success": false, "retryable": true, "retry_after_ms": 12}"#,
        );
        let refusal = answer.into_result().expect_err("a refusal");
        assert_eq!(refusal.reason, Reason::Busy);
        assert!(refusal.retryable);
        assert_eq!(refusal.retry_after(), Some(Duration::from_millis(12)));
        assert_eq!(refusal.item_id(), None);
    }

    #[test]
    fn fields_of_later_versions_do_no_harm() {
        let answer = read(
            r#"{"success": true, "order_id": 7, "order_ref": "7-3W5N2T8KQ0", "item_id": 1, "quantity": 2,
                "status": "waiting", "remaining_inventory": 3, "expires_at": null, "unit_price": null,
                "currency": null, "replayed": false, "seat": "A1"}"#,
        );
        let order = answer.into_result().expect("a success");
        assert_eq!(order.order_ref, "7-3W5N2T8KQ0");
        assert_eq!(order.status.code(), "waiting");
    }
}
