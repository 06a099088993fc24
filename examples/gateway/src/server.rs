//! The API over HTTP: keys, faults, and the book kept before each answer.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Form, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::time::sleep;

use crate::book::{Answer, Book, Fact, Intent, id_of};
use crate::faults::{Faults, Mishap};
use crate::money::{self, Form as Fields, Outcome};
use crate::webhooks;

#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    secret_key: String,
    webhook_urls: Vec<String>,
    webhook_secret: String,
    faults: Faults,
    http: reqwest::Client,
    desk: Mutex<Desk>,
}

/// What one request at a time works on.
struct Desk {
    book: Book,
    /// Keys of requests that are being worked on.
    in_flight: HashSet<String>,
    /// How often each request has come.
    attempts: HashMap<String, u32>,
}

/// What is asked of the gateway.
enum Request {
    Create,
    Confirm(String),
    Cancel(String),
    Refund,
}

impl Request {
    fn path(&self) -> String {
        match self {
            Request::Create => "/v1/payment_intents".into(),
            Request::Confirm(id) => format!("/v1/payment_intents/{id}/confirm"),
            Request::Cancel(id) => format!("/v1/payment_intents/{id}/cancel"),
            Request::Refund => "/v1/refunds".into(),
        }
    }

    /// The refusal of a form that no intent could be served with. As at Stripe, it is not kept for
    /// the key; here it also comes before the key is looked at.
    fn refusal(&self, form: &Fields) -> Option<Outcome> {
        match self {
            Request::Create => money::refuse_amount(form),
            Request::Confirm(_) => money::refuse_unknown_card(form),
            Request::Refund => money::refuse_part(form),
            Request::Cancel(_) => None,
        }
    }

    /// What faults are drawn by: the order's number, since refs, ids and keys are others in another
    /// run.
    fn name(&self, book: &Book, form: &Fields) -> String {
        let of_intent = |id: &String| book.intent(id).and_then(Intent::order_id);
        let (verb, order_id) = match self {
            Request::Create => {
                let noted = form.get("metadata[order_ref]");
                ("create", noted.and_then(|order_ref| id_of(order_ref)))
            }
            Request::Confirm(id) => ("confirm", of_intent(id)),
            Request::Cancel(id) => ("cancel", of_intent(id)),
            Request::Refund => ("refund", form.get("payment_intent").and_then(of_intent)),
        };
        order_id.map_or_else(|| self.path(), |order_id: i64| format!("{verb} {order_id}"))
    }
}

impl Gateway {
    /// `webhook_urls` may be empty; events then wait in the book.
    pub fn new(
        book: Book,
        secret_key: String,
        webhook_urls: Vec<String>,
        webhook_secret: String,
        faults: Faults,
    ) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .build()?;
        let desk = Mutex::new(Desk {
            book,
            in_flight: HashSet::new(),
            attempts: HashMap::new(),
        });
        Ok(Self(Arc::new(Inner {
            secret_key,
            webhook_urls,
            webhook_secret,
            faults,
            http,
            desk,
        })))
    }

    /// Delivers what an earlier run left undelivered.
    pub fn deliver_left_over(&self) {
        let left: Vec<_> = self.desk().book.undelivered().cloned().collect();
        left.iter().for_each(|event| webhooks::send(self, event));
    }

    pub fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(async || "ok"))
            .route("/v1/payment_intents", post(create))
            .route("/v1/payment_intents/{id}", get(retrieve))
            .route("/v1/payment_intents/{id}/confirm", post(confirm))
            .route("/v1/payment_intents/{id}/cancel", post(cancel))
            .route("/v1/refunds", post(refund))
            .fallback(async || respond(Outcome::unknown_url(), false))
            .method_not_allowed_fallback(async || respond(Outcome::unknown_url(), false))
            .with_state(self)
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.0.faults
    }

    pub(crate) fn webhook_urls(&self) -> &[String] {
        &self.0.webhook_urls
    }

    pub(crate) fn webhook_secret(&self) -> &str {
        &self.0.webhook_secret
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.0.http
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes facts down. A gateway that cannot keep its book must not go on.
    pub(crate) fn note(&self, facts: Vec<Fact>) {
        write(&mut self.desk().book, facts);
    }

    /// Answers a request; it is carried out even if nobody waits for the answer.
    async fn answer(self, headers: HeaderMap, request: Request, form: Fields) -> Response {
        let task = tokio::spawn(async move { self.serve(&headers, request, form).await });
        task.await
            .unwrap_or_else(|_| respond(Outcome::internal(), false))
    }

    async fn serve(&self, headers: &HeaderMap, request: Request, form: Fields) -> Response {
        if !self.is_known(headers) {
            return respond(Outcome::unauthorized(), false);
        }
        if let Some(refused) = request.refusal(&form) {
            return respond(refused, false);
        }
        let key = headers
            .get("idempotency-key")
            .and_then(|key| key.to_str().ok());
        let (delay, mishap) = self.fault(&request, &form);
        if mishap == Mishap::Error {
            sleep(delay).await;
            return respond(Outcome::internal(), false);
        }
        let response = match key {
            Some(key) => self.once(key, request, &form, delay).await,
            None => {
                sleep(delay).await;
                respond(self.carry_out(None, request, &form), false)
            }
        };
        match mishap {
            Mishap::Lost => respond(Outcome::internal(), false),
            Mishap::Timeout => {
                sleep(Duration::from_millis(self.0.faults.hold_ms)).await;
                response
            }
            Mishap::None | Mishap::Error => response,
        }
    }

    fn is_known(&self, headers: &HeaderMap) -> bool {
        let given = headers
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        given.and_then(|given| given.strip_prefix("Bearer ")) == Some(&self.0.secret_key)
    }

    fn fault(&self, request: &Request, form: &Fields) -> (Duration, Mishap) {
        let mut desk = self.desk();
        let name = request.name(&desk.book, form);
        let attempt = desk.attempts.entry(name.clone()).or_default();
        *attempt += 1;
        self.0.faults.of_request(&name, *attempt)
    }

    /// Carries a request out unless it was already; then its answer is repeated.
    async fn once(&self, key: &str, request: Request, form: &Fields, delay: Duration) -> Response {
        let asked = format!("{} {}", request.path(), serde_json::json!(form));
        {
            let mut desk = self.desk();
            match desk.book.answer(key) {
                Some(answer) if answer.request != asked => {
                    let message = "This key was used for another request.";
                    return respond(
                        Outcome::about_key(400, "idempotency_key_reused", message),
                        false,
                    );
                }
                Some(answer) => return repeat(answer),
                None => {}
            }
            if !desk.in_flight.insert(key.to_owned()) {
                let message = "A request with this key is being worked on.";
                return respond(
                    Outcome::about_key(409, "idempotency_key_in_use", message),
                    false,
                );
            }
        }
        sleep(delay).await;
        respond(self.carry_out(Some((key, asked)), request, form), false)
    }

    fn carry_out(&self, key: Option<(&str, String)>, request: Request, form: &Fields) -> Outcome {
        let mut desk = self.desk();
        let book = &desk.book;
        let mut outcome = match &request {
            Request::Create => money::create(form),
            Request::Confirm(id) => {
                let is_declined = self.0.faults.declines(&request.name(book, form));
                money::confirm(book, id, form, is_declined)
            }
            Request::Cancel(id) => money::cancel(book, id),
            Request::Refund => money::refund(book, form),
        };
        if let Some((key, request)) = key {
            desk.in_flight.remove(key);
            let (status, body) = (outcome.status, outcome.body.clone());
            outcome.facts.push(Fact::Answer(Answer {
                key: key.to_owned(),
                request,
                status,
                body,
            }));
        }
        write(&mut desk.book, outcome.facts.clone());
        drop(desk);
        for fact in &outcome.facts {
            if let Fact::Event(event) = fact {
                webhooks::send(self, event);
            }
        }
        outcome
    }
}

fn write(book: &mut Book, facts: Vec<Fact>) {
    if let Err(error) = book.write(facts) {
        eprintln!("gateway: the book cannot be written: {error}");
        std::process::exit(1);
    }
}

fn repeat(answer: &Answer) -> Response {
    let (status, body) = (answer.status, answer.body.clone());
    respond(
        Outcome {
            status,
            body,
            facts: Vec::new(),
        },
        true,
    )
}

fn respond(outcome: Outcome, is_repeated: bool) -> Response {
    let status = StatusCode::from_u16(outcome.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let replayed = [(
        "idempotent-replayed",
        if is_repeated { "true" } else { "false" },
    )];
    (status, replayed, Json(outcome.body)).into_response()
}

async fn create(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Form(form): Form<Fields>,
) -> Response {
    gateway.answer(headers, Request::Create, form).await
}

async fn confirm(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Form(form): Form<Fields>,
) -> Response {
    gateway.answer(headers, Request::Confirm(id), form).await
}

/// Takes no fields, and needs no form.
async fn cancel(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    gateway
        .answer(headers, Request::Cancel(id), Fields::new())
        .await
}

async fn refund(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Form(form): Form<Fields>,
) -> Response {
    gateway.answer(headers, Request::Refund, form).await
}

async fn retrieve(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    if !gateway.is_known(&headers) {
        return respond(Outcome::unauthorized(), false);
    }
    respond(money::retrieve(&gateway.desk().book, &id), false)
}
