//! A closed loop: each client buys, retries after a refusal, and then buys again, until time is up.

use std::future::Future;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use storm::Backoff;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Problem;

/// Three digits up to an hour, in microseconds.
const LONGEST_US: u64 = 3_600_000_000;

/// The result of one attempt.
pub enum Try {
    Sold { order_id: i64 },
    Refused { retry_after_ms: u64 },
}

pub trait Buyer: Send + 'static {
    fn buy(&mut self, user_id: &str) -> impl Future<Output = Result<Try, Problem>> + Send;
}

/// What all clients bought, and how long each purchase took, including its refused attempts.
pub struct Bought {
    span: Duration,
    /// Sold while the time ran; the last purchases end after it.
    in_time: u64,
    /// Attempts that the buyer itself had to repeat.
    pub retries: u64,
    times_us: Histogram<u64>,
    pub order_ids: Vec<i64>,
    pub user_ids: Vec<String>,
}

impl Bought {
    fn nothing(span: Duration) -> Self {
        Self {
            span,
            in_time: 0,
            retries: 0,
            times_us: Histogram::new_with_max(LONGEST_US, 3).expect("the bounds are valid"),
            order_ids: Vec::new(),
            user_ids: Vec::new(),
        }
    }

    fn merge(&mut self, other: Self) {
        self.in_time += other.in_time;
        self.retries += other.retries;
        self.times_us.add(other.times_us).expect("the same bounds");
        self.order_ids.extend(other.order_ids);
        self.user_ids.extend(other.user_ids);
    }

    /// What every command that runs this loop reports.
    pub fn figures(&self) -> Value {
        let ms = |percent| self.times_us.value_at_percentile(percent) as f64 / 1000.0;
        json!({
            "seconds": self.span.as_secs_f64(),
            "sold": self.order_ids.len(),
            "per_second": self.in_time as f64 / self.span.as_secs_f64(),
            "p50_ms": ms(50.0),
            "p99_ms": ms(99.0),
        })
    }
}

pub async fn run<B: Buyer>(buyers: Vec<B>, span: Duration) -> Result<Bought, Problem> {
    let started_at = Instant::now();
    let mut clients = JoinSet::new();
    for (number, buyer) in buyers.into_iter().enumerate() {
        clients.spawn(buy_until(started_at, span, number, buyer));
    }
    let mut all = Bought::nothing(span);
    while let Some(client) = clients.join_next().await {
        all.merge(client.expect("a client neither panics nor is aborted")?);
    }
    Ok(all)
}

async fn buy_until<B: Buyer>(
    started_at: Instant,
    span: Duration,
    number: usize,
    mut buyer: B,
) -> Result<Bought, Problem> {
    let mut bought = Bought::nothing(span);
    while started_at.elapsed() < span {
        let user_id = format!("client {number} buyer {}", bought.order_ids.len());
        let clicked_at = Instant::now();
        let order_id = settle(&mut buyer, &user_id, &mut bought.retries).await?;
        let took_us = clicked_at.elapsed().as_micros() as u64;
        bought.times_us.saturating_record(took_us);
        bought.in_time += u64::from(started_at.elapsed() < span);
        bought.order_ids.push(order_id);
        bought.user_ids.push(user_id);
    }
    Ok(bought)
}

async fn settle<B: Buyer>(buyer: &mut B, user_id: &str, retries: &mut u64) -> Result<i64, Problem> {
    let mut backoff = Backoff::default();
    loop {
        match buyer.buy(user_id).await? {
            Try::Sold { order_id } => return Ok(order_id),
            Try::Refused { retry_after_ms } => {
                *retries += 1;
                sleep(backoff.next_wait(retry_after_ms)).await;
            }
        }
    }
}
