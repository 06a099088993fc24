//! The gateway: Stripe's PaymentIntents over plain HTTP.
//!
//! An order has one intent, created with an idempotency key that names the order, so that creating
//! it again within 24 hours returns the same one. Creating it moves no money; confirming it does,
//! and cancelling it rules that out for ever.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::database::Bill;

/// The version of the API that this client was written against.
const API_VERSION: &str = "2024-06-20";
const FIRST_DELAY: Duration = Duration::from_millis(50);

/// The gateway's account, as this shop uses it.
#[derive(Clone)]
pub struct Gateway {
    http: reqwest::Client,
    base: String,
    secret_key: String,
    /// Which charges of the account are this shop's.
    shop_id: String,
    /// Bounds any call with all its requests and tries, and of a charge that has to be ruled out
    /// each of the two.
    timeout: Duration,
}

/// How an intent stands.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Succeeded,
    Canceled,
    /// The card's owner has to say yes elsewhere, which this shop does not offer.
    RequiresAction,
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

/// What we write on an intent, to know it again.
#[derive(Debug, Default, Deserialize)]
pub struct Metadata {
    shop: Option<String>,
    order_ref: Option<String>,
}

/// An intent as good as settled.
#[derive(Debug)]
pub enum Voided {
    Charged(Intent),
    /// Not charged, and it never will be; with whether a bank said no before.
    Never {
        was_declined: bool,
    },
    /// The bank is at work.
    Open,
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
    /// Not charged, and it never will be, because the intent was cancelled.
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
    pub fn new(
        base: &str,
        secret_key: &str,
        shop_id: &str,
        timeout: Duration,
    ) -> reqwest::Result<Self> {
        Ok(Self {
            http: reqwest::Client::builder().timeout(timeout).build()?,
            base: base.trim_end_matches('/').to_owned(),
            secret_key: secret_key.to_owned(),
            shop_id: shop_id.to_owned(),
            timeout,
        })
    }

    /// The ref of the order that an intent is for; `None` for an intent of another shop.
    pub fn order_of<'a>(&self, intent: &'a Intent) -> Option<&'a str> {
        let Metadata { shop, order_ref } = &intent.metadata;
        let order_ref = order_ref.as_deref().filter(|name| !name.is_empty())?;
        (shop.as_ref() == Some(&self.shop_id)).then_some(order_ref)
    }

    /// Charges an order to a card, at most once however often it is called within 24 hours.
    pub async fn charge(&self, bill: &Bill, payment_method: &str) -> Charge {
        let deadline = self.deadline();
        let outcome = async {
            let intent = self.intent(bill, deadline).await?;
            let path = format!("/v1/payment_intents/{}/confirm", intent.id);
            let key = format!("{}-confirm", self.key(bill));
            self.post::<Intent>(&path, &key, &[("payment_method", payment_method)], deadline)
                .await
        };
        match outcome.await {
            // No unit is held for a card that wants its owner's word.
            Ok(intent) if intent.status == Status::RequiresAction => self.rule_out(bill).await,
            Ok(intent) => of_intent(intent),
            // No such card, or an amount that it does not take. That says nothing of another
            // request for this order that may be under way.
            Err(Error::Refused { status, error }) if is_final(status, &error) => {
                tracing::error!(bill.order_id, %status, error.code, error.message, "the gateway did not take a charge");
                self.rule_out(bill).await
            }
            Err(Error::Refused { status, error }) => of_refusal(status, *error),
            Err(error) => {
                tracing::warn!(bill.order_id, %error, "outcome of the charge unknown");
                Charge::Unknown
            }
        }
    }

    /// Ends a payment that got no money, unless another request for the order did.
    async fn rule_out(&self, bill: &Bill) -> Charge {
        match self.void(bill).await {
            Ok(Voided::Never { .. }) => Charge::Declined,
            Ok(Voided::Charged(intent)) => Charge::Succeeded(intent),
            Ok(Voided::Open) => Charge::Unknown,
            Err(error) => {
                tracing::warn!(bill.order_id, %error, "a charge could not be ruled out yet");
                Charge::Unknown
            }
        }
    }

    /// Rules out that an order is charged from now on, or returns that it has been charged already.
    pub async fn void(&self, bill: &Bill) -> Result<Voided, Error> {
        let deadline = self.deadline();
        let intent = match self.intent(bill, deadline).await {
            // It takes no intent for this order, for which it is asked the same each time.
            Err(Error::Refused { status, error })
                if is_final(status, &error) && status == StatusCode::BAD_REQUEST =>
            {
                return Ok(Voided::Never {
                    was_declined: false,
                });
            }
            intent => intent?,
        };
        let path = format!("/v1/payment_intents/{}/cancel", intent.id);
        // A new key each time: with an old one the gateway would repeat how things stood then.
        let key = format!("{}-cancel-{}", intent.id, Uuid::new_v4());
        let intent = match self.post(&path, &key, &[], deadline).await {
            Ok(intent) => intent,
            Err(Error::Refused { status, mut error }) => match error.payment_intent.take() {
                Some(intent) => intent, // it is settled already, or the bank is at work
                None => return Err(Error::Refused { status, error }),
            },
            Err(error) => return Err(error),
        };
        Ok(match intent.status {
            Status::Succeeded => Voided::Charged(intent),
            Status::Canceled => Voided::Never {
                was_declined: intent.last_payment_error.is_some(),
            },
            Status::RequiresAction | Status::Open => Voided::Open,
        })
    }

    /// Gives a whole charge back, once however often it is called. Returns the refund's id, or
    /// nothing if the gateway has refunded the charge before and forgotten our key.
    pub async fn refund(&self, payment_ref: &str) -> Result<Option<String>, Error> {
        let key = format!("refund-{payment_ref}");
        let form = [("payment_intent", payment_ref)];
        match self
            .post::<Refund>("/v1/refunds", &key, &form, self.deadline())
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

    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Names an order, and no other in any database.
    fn key(&self, bill: &Bill) -> String {
        format!("{}-order-{}", self.shop_id, bill.order_ref)
    }

    /// The intent of an order, new or not. If not, its status is that of its beginning: the
    /// gateway repeats its first answer.
    async fn intent(&self, bill: &Bill, deadline: Instant) -> Result<Intent, Error> {
        let form = [
            ("amount", bill.amount.to_string()),
            ("currency", bill.currency.to_lowercase()),
            ("payment_method_types[]", "card".to_owned()),
            ("metadata[shop]", self.shop_id.clone()),
            ("metadata[order_ref]", bill.order_ref.clone()),
        ];
        let form: Vec<_> = form
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        self.post("/v1/payment_intents", &self.key(bill), &form, deadline)
            .await
    }

    /// Sends a request again, with the same key, until the gateway has answered it or time is up.
    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        form: Form<'_>,
        deadline: Instant,
    ) -> Result<T, Error> {
        let mut backoff = Backoff::new(FIRST_DELAY, deadline);
        loop {
            let outcome = timeout_at(deadline, self.post_once(path, key, form)).await;
            match outcome.unwrap_or(Err(Error::Timeout)) {
                Err(error) if error.is_passing() && backoff.has_time() => backoff.pause().await,
                outcome => return outcome,
            }
        }
    }

    async fn post_once<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        form: Form<'_>,
    ) -> Result<T, Error> {
        let response = self
            .http
            .post(format!("{}{path}", self.base))
            .bearer_auth(&self.secret_key)
            .header("Stripe-Version", API_VERSION)
            .header("Idempotency-Key", key)
            .form(form)
            .send()
            .await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.json().await?);
        }
        // What stands before the gateway may answer with something else than JSON.
        let body = response.json::<ErrorBody>().await;
        let error = Box::new(body.map(|body| body.error).unwrap_or_default());
        Err(Error::Refused { status, error })
    }
}

impl Error {
    /// Whether the same request may succeed a moment later.
    fn is_passing(&self) -> bool {
        match self {
            Error::Http(error) => !(error.is_timeout() || error.is_decode() || error.is_builder()),
            Error::Refused { status, .. } => {
                let has_to_wait = matches!(
                    *status,
                    StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS
                );
                status.is_server_error() || has_to_wait
            }
            Error::Timeout | Error::RefundNotMade(_) => false,
        }
    }
}

/// Whether the gateway does not take a request, and will not take it either when it is repeated.
/// With a wrong secret key of ours it is 401, and says nothing of the order.
fn is_final(status: StatusCode, error: &ApiError) -> bool {
    error.r#type == "invalid_request_error"
        && error.payment_intent.is_none()
        && matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND)
}

fn of_intent(intent: Intent) -> Charge {
    match intent.status {
        Status::Succeeded => Charge::Succeeded(intent),
        Status::Canceled => Charge::Canceled,
        Status::RequiresAction | Status::Open => Charge::Unknown,
    }
}

fn of_refusal(status: StatusCode, error: ApiError) -> Charge {
    if error.r#type == "card_error" {
        return Charge::Declined;
    }
    tracing::error!(%status, error.code, error.message, "outcome of the charge unknown");
    error.payment_intent.map_or(Charge::Unknown, of_intent)
}
