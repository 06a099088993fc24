//! One buyer: clicks once, and comes back with the same key until there is a final answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use storm::Backoff;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::session;

/// Not a measure of speed: whoever waits longer is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);
const POLL_EVERY_MS: u64 = 200;
const RETRY_AFTER_MS: u64 = 50;
const SESSION_S: i64 = 3600;

/// The way into the shop, shared by all buyers.
pub struct Door {
    http: Client,
    urls: Vec<String>,
    next: AtomicUsize,
    session_secret: String,
    /// Open sockets are files, of which a process may have 1,024 unless told otherwise.
    turns: Semaphore,
}

/// What a buyer does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    Patient,
    /// Closes the connection in the middle of the first request, and comes back.
    GivesUp,
    /// Cancels the order while it is being paid.
    Cancels,
}

pub struct Buyer {
    door: Arc<Door>,
    item_id: i64,
    user: String,
    temper: Temper,
    random: StdRng,
}

/// What became of one buyer.
pub struct Done {
    pub user: String,
    /// A status or a reason; else what came in its place.
    pub answer: Result<String, String>,
    /// From the click to the first answer of the app, whatever it was.
    pub first_after: Duration,
    /// From the click to the final answer, all waiting included.
    pub final_after: Duration,
}

struct Reply {
    status: StatusCode,
    body: Value,
}

impl Door {
    pub fn new(urls: Vec<String>, session_secret: String, connections: usize) -> Self {
        Self {
            http: Client::new(),
            urls,
            next: AtomicUsize::new(0),
            session_secret,
            turns: Semaphore::new(connections),
        }
    }

    /// Asks any of the app's processes once. `None` if that does not end in an answer.
    async fn ask(&self, method: Method, path: &str, cookie: &str, key: &str) -> Option<Reply> {
        let _turn = self.turns.acquire().await.ok()?;
        let url = &self.urls[self.next.fetch_add(1, Relaxed) % self.urls.len()];
        let request = self
            .http
            .request(method, format!("{url}{path}"))
            .header("Cookie", cookie)
            .header("Idempotency-Key", key);
        let response = request.send().await.ok()?;
        let status = response.status();
        let body = response.json().await.ok()?;
        Some(Reply { status, body })
    }
}

impl Buyer {
    /// A buyer whose temper and pauses are drawn from a seed.
    pub fn new(door: &Arc<Door>, item_id: i64, user: String, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let temper = match random.random_range(0..100) {
            0..5 => Temper::GivesUp,
            5..10 => Temper::Cancels,
            _ => Temper::Patient,
        };
        Self {
            door: Arc::clone(door),
            item_id,
            user,
            temper,
            random,
        }
    }

    pub async fn buy(mut self) -> Done {
        let clicked_at = Instant::now();
        let mut first_after = None;
        let cookie = session::cookie(&self.door.session_secret, "session", &self.user, SESSION_S);
        let bought = timeout(
            FORGOTTEN_AFTER,
            self.buy_and_perhaps_cancel(&cookie, clicked_at, &mut first_after),
        );
        let answer = bought
            .await
            .unwrap_or_else(|_| Err("no final answer".into()));
        let final_after = clicked_at.elapsed();
        Done {
            user: self.user,
            answer,
            first_after: first_after.unwrap_or(final_after),
            final_after,
        }
    }

    async fn buy_and_perhaps_cancel(
        &mut self,
        cookie: &str,
        clicked_at: Instant,
        first_after: &mut Option<Duration>,
    ) -> Result<String, String> {
        let gives_up_after = Duration::from_millis(self.random.random_range(5..200));
        let cancels_after = Duration::from_millis(self.random.random_range(20..600));
        let this = &*self;
        let purchase = this.settle(cookie, gives_up_after, clicked_at, first_after);
        if self.temper != Temper::Cancels {
            return purchase.await;
        }
        let (bought, cancelled) =
            tokio::join!(purchase, this.cancel_soon(cookie, cancels_after));
        match (bought, cancelled) {
            (Ok(status), Some(cancelled)) if status == "confirmed" && cancelled != "confirmed" => {
                Err(format!("told confirmed, and {cancelled} after the cancel"))
            }
            (bought, _) => bought,
        }
    }

    /// Purchases, and asks what became of the order where that was not known at once.
    async fn settle(
        &self,
        cookie: &str,
        gives_up_after: Duration,
        clicked_at: Instant,
        first_after: &mut Option<Duration>,
    ) -> Result<String, String> {
        let reply = self
            .purchase(cookie, gives_up_after, clicked_at, first_after)
            .await;
        let order_id = match reply.status {
            StatusCode::OK => return text(&reply, "status"),
            StatusCode::PAYMENT_REQUIRED | StatusCode::CONFLICT => return text(&reply, "reason"),
            StatusCode::ACCEPTED => reply.body["orderId"]
                .as_i64()
                .ok_or("202 without an orderId")?,
            _ => return Err(unexpected(&reply)),
        };
        loop {
            sleep(Duration::from_millis(POLL_EVERY_MS)).await;
            let order = self
                .until_answered(Method::GET, &format!("/orders/{order_id}"), cookie)
                .await;
            if order.status != StatusCode::OK {
                return Err(unexpected(&order));
            }
            let status = text(&order, "status")?;
            if !matches!(status.as_str(), "reserved" | "paying") {
                return Ok(name_of(status, &order.body));
            }
        }
    }

    async fn purchase(
        &self,
        cookie: &str,
        gives_up_after: Duration,
        clicked_at: Instant,
        first_after: &mut Option<Duration>,
    ) -> Reply {
        let path = format!("/purchase/{}", self.item_id);
        let key = format!("click of {}", self.user);
        let mut patience = (self.temper == Temper::GivesUp).then_some(gives_up_after);
        let mut backoff = Backoff::default();
        loop {
            let asked = self.door.ask(Method::POST, &path, cookie, &key);
            let reply = match patience.take() {
                // A dropped request closes its connection.
                Some(patience) => timeout(patience, asked).await.unwrap_or(None),
                None => asked.await,
            };
            if let Some(reply) = reply {
                first_after.get_or_insert_with(|| clicked_at.elapsed());
                if reply.status != StatusCode::SERVICE_UNAVAILABLE {
                    return reply;
                }
            }
            sleep(backoff.next_wait(RETRY_AFTER_MS)).await;
        }
    }

    /// Cancels the order, if there is one by then. Returns the order's status afterwards.
    async fn cancel_soon(&self, cookie: &str, after: Duration) -> Option<String> {
        sleep(after).await;
        let orders = self.until_answered(Method::GET, "/orders", cookie).await;
        let order_id = orders.body["orders"][0]["orderId"].as_i64()?;
        let cancel = format!("/orders/{order_id}/cancel");
        let reply = self.until_answered(Method::POST, &cancel, cookie).await;
        match reply.status {
            StatusCode::OK => text(&reply, "status").ok(),
            StatusCode::CONFLICT => Some("confirmed".into()),
            _ => Some(unexpected(&reply)),
        }
    }

    async fn until_answered(&self, method: Method, path: &str, cookie: &str) -> Reply {
        let mut backoff = Backoff::default();
        loop {
            match self.door.ask(method.clone(), path, cookie, "").await {
                Some(reply) if reply.status != StatusCode::SERVICE_UNAVAILABLE => return reply,
                _ => sleep(backoff.next_wait(RETRY_AFTER_MS)).await,
            }
        }
    }
}

fn text(reply: &Reply, field: &str) -> Result<String, String> {
    let text = reply.body[field].as_str().map(str::to_owned);
    text.ok_or_else(|| unexpected(reply))
}

fn unexpected(reply: &Reply) -> String {
    format!("unexpected: {} {}", reply.status, reply.body)
}

/// The same word whether the decline was heard of at once or later.
fn name_of(status: String, order: &Value) -> String {
    match (status.as_str(), order["closeReason"].as_str()) {
        ("cancelled", Some("card_declined")) => "card_declined".into(),
        ("confirmed", _) => status,
        _ => format!("order_{status}"),
    }
}
