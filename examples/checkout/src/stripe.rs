//! The gateway: Stripe's PaymentIntents over plain HTTP.
//!
//! An order has one intent, made with the order's id as idempotency key: whoever makes it again
//! gets the same. Making it moves no money; confirming it does, and cancelling it rules out for
//! ever that it will.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use crate::database::Unsettled;
use crate::jitter::jittered;

/// The version of the API that this client was written against.
const API_VERSION: &str = "2024-06-20";
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub struct Gateway {
    http: reqwest::Client,
    base: String,
    secret_key: String,
    /// Bounds a call with all its tries.
    timeout: Duration,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Succeeded,
    Canceled,
    /// Neither is sure yet: it waits for a card or for a person, or the bank is at work.
    #[serde(other)]
    Open,
}

/// A charge that is planned, made or ruled out.
#[derive(Debug, Deserialize)]
pub struct Intent {
    pub id: String,
    pub status: Status,
    #[serde(default)]
    pub amount_received: i64,
    pub currency: String,
    #[serde(default)]
    pub metadata: Metadata,
    /// Why the last try to charge failed.
    pub last_payment_error: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
pub struct Metadata {
    pub order_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Refund {
    id: String,
    status: String,
}

/// What the gateway says of a charge.
#[derive(Debug)]
pub enum Charge {
    Succeeded(Intent),
    /// Not charged: the bank, or the gateway, says no.
    Declined,
    /// Not charged, and it never will be: somebody cancelled the intent.
    Canceled,
    /// Perhaps charged.
    Unknown,
}

impl Charge {
    pub fn name(&self) -> &'static str {
        match self {
            Charge::Succeeded(_) => "succeeded",
            Charge::Declined => "declined",
            Charge::Canceled => "canceled",
            Charge::Unknown => "unknown",
        }
    }
}

/// Why a request to the gateway has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the gateway did not answer in time")]
    Timeout,
    #[error("no answer from the gateway: {0}")]
    Http(#[from] reqwest::Error),
    #[error("the gateway answered {status}: {} ({})", .error.message, .error.code)]
    Refused {
        status: StatusCode,
        error: Box<ApiError>,
    },
    #[error("the refund is {0}")]
    RefundNotMade(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ApiError {
    r#type: String,
    code: String,
    message: String,
    payment_intent: Option<Intent>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ApiError,
}

type Form<'a> = &'a [(&'a str, &'a str)];

impl Gateway {
    pub fn new(base: &str, secret_key: &str, timeout: Duration) -> reqwest::Result<Self> {
        Ok(Self {
            http: reqwest::Client::builder().timeout(timeout).build()?,
            base: base.trim_end_matches('/').to_owned(),
            secret_key: secret_key.to_owned(),
            timeout,
        })
    }

    /// Charges an order to a card, at most once however often it is called.
    pub async fn charge(&self, order: &Unsettled, payment_method: &str) -> Charge {
        let outcome = async {
            let intent = self.intent(order).await?;
            let path = format!("/v1/payment_intents/{}/confirm", intent.id);
            let key = format!("order-{}-confirm", order.order_id);
            self.post::<Intent>(&path, &key, &[("payment_method", payment_method)])
                .await
        };
        match outcome.await {
            Ok(intent) => of_intent(intent),
            Err(Error::Refused { status, error }) => of_refusal(status, *error),
            Err(error) => {
                tracing::warn!(order.order_id, %error, "outcome of the charge unknown");
                Charge::Unknown
            }
        }
    }

    /// Rules out that an order is charged from now on; says so if it has been charged already.
    pub async fn void(&self, order: &Unsettled) -> Result<Intent, Error> {
        let intent = self.intent(order).await?;
        let path = format!("/v1/payment_intents/{}/cancel", intent.id);
        // A new key each time: with an old one the gateway would repeat how things stood then.
        let key = format!("{}-cancel-{}", intent.id, Uuid::new_v4());
        match self.post(&path, &key, &[]).await {
            // It is settled already, or the bank is at work.
            Err(Error::Refused { error, .. }) if error.payment_intent.is_some() => {
                Ok(error.payment_intent.expect("just seen"))
            }
            outcome => outcome,
        }
    }

    /// Gives a whole charge back, once however often it is called. Returns the refund's id, or
    /// nothing if the gateway has refunded the charge before and forgotten our key.
    pub async fn refund(&self, payment_ref: &str) -> Result<Option<String>, Error> {
        let key = format!("refund-{payment_ref}");
        match self
            .post::<Refund>("/v1/refunds", &key, &[("payment_intent", payment_ref)])
            .await
        {
            Ok(refund) if matches!(refund.status.as_str(), "succeeded" | "pending") => {
                Ok(Some(refund.id))
            }
            Ok(refund) => Err(Error::RefundNotMade(refund.status)),
            Err(Error::Refused { error, .. }) if error.code == "charge_already_refunded" => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The intent of an order, new or not. If not, its status is that of its beginning: the
    /// gateway repeats its first answer.
    async fn intent(&self, order: &Unsettled) -> Result<Intent, Error> {
        let (id, amount) = (order.order_id.to_string(), order.amount.to_string());
        let form = [
            ("amount", amount.as_str()),
            ("currency", &order.currency.to_lowercase()),
            ("payment_method_types[]", "card"),
            ("metadata[order_id]", &id),
        ];
        self.post("/v1/payment_intents", &format!("order-{id}"), &form)
            .await
    }

    /// Sends a request again, with the same key, until the gateway has answered it or time is up.
    async fn post<T: for<'a> Deserialize<'a>>(
        &self,
        path: &str,
        key: &str,
        form: Form<'_>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let outcome = timeout_at(deadline, self.post_once(path, key, form)).await;
            match outcome.unwrap_or(Err(Error::Timeout)) {
                Err(error) if error.is_passing() && Instant::now() + BETWEEN_TRIES < deadline => {
                    sleep(jittered(BETWEEN_TRIES)).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn post_once<T: for<'a> Deserialize<'a>>(
        &self,
        path: &str,
        key: &str,
        form: Form<'_>,
    ) -> Result<T, Error> {
        let url = format!("{}{path}", self.base);
        let request = self
            .http
            .request(Method::POST, url)
            .bearer_auth(&self.secret_key);
        let request = request
            .header("Stripe-Version", API_VERSION)
            .header("Idempotency-Key", key);
        let response = request.form(form).send().await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.json().await?);
        }
        // What stands before the gateway may answer with something else than JSON.
        let error = response
            .json()
            .await
            .map(|body: ErrorBody| body.error)
            .unwrap_or_default();
        Err(Error::Refused {
            status,
            error: Box::new(error),
        })
    }
}

impl Error {
    /// Whether the same request can fare better a moment later.
    fn is_passing(&self) -> bool {
        match self {
            Error::Http(error) => !error.is_timeout(),
            Error::Refused { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS
                    )
            }
            Error::Timeout | Error::RefundNotMade(_) => false,
        }
    }
}

fn of_intent(intent: Intent) -> Charge {
    match intent.status {
        Status::Succeeded => Charge::Succeeded(intent),
        Status::Canceled => Charge::Canceled,
        Status::Open => Charge::Unknown,
    }
}

fn of_refusal(status: StatusCode, error: ApiError) -> Charge {
    let ApiError {
        r#type,
        code,
        message,
        payment_intent,
    } = error;
    match (r#type.as_str(), payment_intent) {
        ("card_error", _) => Charge::Declined,
        (_, Some(intent)) => of_intent(intent),
        // No such card, or an amount that it does not take. With a wrong key of ours it is 401.
        ("invalid_request_error", None)
            if matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND) =>
        {
            tracing::error!(%status, code, message, "the gateway does not take a charge");
            Charge::Declined
        }
        _ => {
            tracing::warn!(%status, code, message, "the gateway did not say what became of a charge");
            Charge::Unknown
        }
    }
}
