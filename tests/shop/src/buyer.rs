//! One buyer: clicks, waits, comes back with the same key, and keeps on until it knows.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use crate::stage::session_of;

const FIRST_DELAY: Duration = Duration::from_millis(20);
const LONGEST_DELAY: Duration = Duration::from_millis(1_000);
/// Longer than anything that can be settled.
const PATIENCE: Duration = Duration::from_secs(180);

/// What all buyers of a crowd share.
pub struct Crowd {
    http: Client,
    /// Addresses of the app, tried in turn.
    urls: Vec<String>,
    /// Requests at once, so that no process runs out of sockets.
    turns: Semaphore,
    item_id: i64,
    seed: u64,
    /// Share of buyers who close the connection in the middle of a request, and of those who
    /// cancel an order that is being paid.
    restless: f64,
}

/// What a buyer knows in the end.
#[derive(Debug)]
pub struct Story {
    /// `confirmed`, `refunded`, or the reason of a refusal.
    pub end: String,
    pub order_id: Option<i64>,
    pub user_id: String,
    /// From the click to the end.
    pub took: Duration,
    /// How long the app took for the last answer to the click, `paying` among them.
    pub answered_in: Duration,
}

impl Crowd {
    pub fn new(urls: Vec<String>, item_id: i64, seed: u64, restless: f64) -> Arc<Self> {
        let http = Client::builder()
            .pool_max_idle_per_host(400)
            .timeout(Duration::from_secs(20));
        let http = http.build().expect("a client");
        Arc::new(Self {
            http,
            urls,
            turns: Semaphore::new(400),
            item_id,
            seed,
            restless,
        })
    }

    /// The whole story of the `n`th buyer.
    pub async fn buy(&self, n: usize) -> Story {
        let random = &mut StdRng::seed_from_u64(self.seed.wrapping_add(n as u64));
        let user_id = format!("buyer-{}-{n}", self.item_id);
        let cookie = session_of(&user_id);
        let begun = Instant::now();
        let (answer, answered_in) = self.until_answered(n, &cookie, random).await;
        let order_id = answer["orderId"].as_i64();
        let end = match (answer["status"].as_str(), order_id) {
            (Some("paying"), Some(order_id)) => {
                self.until_settled(n, &cookie, order_id, random).await
            }
            (Some("confirmed"), _) => "confirmed".into(),
            _ => answer["reason"].as_str().unwrap_or("no reason").to_owned(),
        };
        Story {
            end,
            order_id,
            user_id,
            took: begun.elapsed(),
            answered_in,
        }
    }

    /// The final answer to a click, and how long that one took. A buyer whose reservation ran out
    /// before the app could begin its payment clicks anew, with a new key, as the page tells it to.
    async fn until_answered(
        &self,
        n: usize,
        cookie: &str,
        random: &mut StdRng,
    ) -> (Value, Duration) {
        let path = format!("/purchase/{}", self.item_id);
        let mut leaves_early = random.random_bool(self.restless);
        let mut wait = Wait::new();
        let mut key = format!("click {n}");
        for attempt in n.. {
            let request = self.http.post(self.url(attempt, &path));
            let request = request
                .header("cookie", cookie)
                .header("idempotency-key", &key);
            let (answer, answered_in) = {
                let _turn = self.turns.acquire().await.expect("never closed");
                let begun = Instant::now();
                let stays = if leaves_early {
                    random.random_range(5..200)
                } else {
                    20_000
                };
                leaves_early = false;
                let answer = timeout(Duration::from_millis(stays), final_answer(request)).await;
                (answer, begun.elapsed())
            };
            match answer {
                Ok(Some((_, answer))) if answer["reason"] == "order_expired" => {
                    key = format!("click {n} again at {attempt}");
                }
                Ok(Some((_, answer))) => return (answer, answered_in),
                Ok(None) => {}
                Err(_) if random.random_bool(0.5) => self.cancel_all(n, cookie).await,
                Err(_) => {}
            }
            wait.once(random).await;
        }
        unreachable!("there is always a next attempt")
    }

    /// Cancels whatever is on one's list, perhaps while it is being paid.
    async fn cancel_all(&self, n: usize, cookie: &str) {
        let request = self
            .http
            .get(self.url(n, "/orders"))
            .header("cookie", cookie);
        let Some((_, list)) = final_answer(request).await else {
            return;
        };
        for order in list["orders"].as_array().into_iter().flatten() {
            self.cancel(n, cookie, &order["orderId"]).await;
        }
    }

    async fn cancel(&self, n: usize, cookie: &str, order_id: &Value) {
        let request = self
            .http
            .post(self.url(n, &format!("/orders/{order_id}/cancel")));
        final_answer(request.header("cookie", cookie)).await;
    }

    /// Asks for the order, perhaps after trying to cancel it, until it is neither reserved nor
    /// paying.
    async fn until_settled(
        &self,
        n: usize,
        cookie: &str,
        order_id: i64,
        random: &mut StdRng,
    ) -> String {
        if random.random_bool(self.restless) {
            self.cancel(n, cookie, &order_id.into()).await;
        }
        let mut wait = Wait::new();
        for attempt in n.. {
            let request = self
                .http
                .get(self.url(attempt, &format!("/orders/{order_id}")));
            let answer = {
                let _turn = self.turns.acquire().await.expect("never closed");
                final_answer(request.header("cookie", cookie)).await
            };
            if let Some((StatusCode::OK, order)) = answer {
                match order["status"].as_str().expect("a status") {
                    "reserved" | "paying" => {}
                    status => return status.to_owned(),
                }
            }
            wait.once(random).await;
        }
        unreachable!("there is always a next attempt")
    }

    fn url(&self, attempt: usize, path: &str) -> String {
        format!("{}{path}", self.urls[attempt % self.urls.len()])
    }
}

/// An answer, unless the server is busy or gone, or does not know the outcome.
async fn final_answer(request: RequestBuilder) -> Option<(StatusCode, Value)> {
    let response = request.send().await.ok()?;
    let status = response.status();
    let body: Value = response.json().await.ok()?;
    let is_final = status != StatusCode::SERVICE_UNAVAILABLE && body["reason"] != "outcome_unknown";
    is_final.then_some((status, body))
}

/// Growing pauses, within patience.
struct Wait {
    delay: Duration,
    deadline: Instant,
}

impl Wait {
    fn new() -> Self {
        Self {
            delay: FIRST_DELAY,
            deadline: Instant::now() + PATIENCE,
        }
    }

    async fn once(&mut self, random: &mut StdRng) {
        assert!(
            Instant::now() < self.deadline,
            "no final answer in {PATIENCE:?}"
        );
        sleep(self.delay.mul_f64(random.random_range(0.5..1.0))).await;
        self.delay = (self.delay * 2).min(LONGEST_DELAY);
    }
}
