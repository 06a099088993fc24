//! What the functions answer: `jsonb` with `success`, and on failure a `reason`.

use serde_json::Value;

#[derive(Clone, Debug, PartialEq)]
pub struct Answer(pub Value);

impl Answer {
    pub fn success(&self) -> bool {
        self.flag("success")
    }

    /// The stable code of a refusal, `""` on success.
    pub fn reason(&self) -> &str {
        self.text("reason")
    }

    /// Whether the same call may succeed a moment later.
    pub fn retryable(&self) -> bool {
        self.flag("retryable")
    }

    /// The server's hint how long to wait before the next try.
    pub fn retry_after_ms(&self) -> u64 {
        self.0["retry_after_ms"].as_u64().unwrap_or(0)
    }

    pub fn flag(&self, name: &str) -> bool {
        self.0[name].as_bool().unwrap_or(false)
    }

    pub fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or("")
    }

    pub fn number(&self, name: &str) -> Option<i64> {
        self.0[name].as_i64()
    }

    /// The order that a purchase made or found again.
    pub fn order_id(&self) -> Option<i64> {
        self.number("order_id")
    }

    /// The answers of a batch, one for each of its requests.
    pub fn each(self) -> Vec<Answer> {
        match self.0 {
            Value::Array(answers) => answers.into_iter().map(Answer).collect(),
            _ => Vec::new(),
        }
    }
}
