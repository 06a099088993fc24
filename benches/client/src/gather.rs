//! Gathers the clicks of many users for a moment and buys for all of them in one call.
//!
//! One row lock, one statement and one commit then pay for a whole batch, which sells far more
//! of one item than a call for each click, and needs no more than a handful of connections.
//! Under the strategy `atomic`, two batches for one item take turns; otherwise one of them would be
//! answered `busy`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use storm::{Answer, Backoff, Call, Pool};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_postgres::Error;

/// All clicks of a batch get the same error if the call fails.
type Outcome = Result<Answer, Arc<Error>>;

struct Click {
    item_id: i64,
    user_id: String,
    answer_to: oneshot::Sender<Outcome>,
}

/// One for the whole process; clones gather together.
#[derive(Clone)]
pub struct Gatherer(mpsc::Sender<Click>);

impl Gatherer {
    /// Calls as soon as `max_batch` clicks came, or `max_wait` after the first.
    pub fn new(pool: Arc<Pool>, max_batch: usize, max_wait: Duration) -> Self {
        let (sender, clicks) = mpsc::channel(max_batch);
        tokio::spawn(gather(clicks, pool, max_batch, max_wait));
        Self(sender)
    }

    /// Buys one unit; clicks again for the user while the answer is `busy`. An id that is not
    /// 1 to 255 bytes long would fail the whole batch: refuse it before.
    pub async fn purchase(&self, item_id: i64, user_id: &str) -> Outcome {
        let mut backoff = Backoff::default();
        loop {
            let answer = self.click(item_id, user_id).await?;
            if !answer.retryable() {
                return Ok(answer);
            }
            sleep(backoff.next_wait(answer.retry_after_ms())).await;
        }
    }

    async fn click(&self, item_id: i64, user_id: &str) -> Outcome {
        let (answer_to, answer) = oneshot::channel();
        let click = Click {
            item_id,
            user_id: user_id.into(),
            answer_to,
        };
        let sent = self.0.send(click).await;
        sent.expect("it gathers as long as there is a sender");
        answer.await.expect("every click is answered")
    }
}

async fn gather(
    mut clicks: mpsc::Receiver<Click>,
    pool: Arc<Pool>,
    max_batch: usize,
    max_wait: Duration,
) {
    while let Some(first) = clicks.recv().await {
        let mut batch = vec![first];
        let until = Instant::now() + max_wait;
        while batch.len() < max_batch
            && let Ok(Some(click)) = timeout_at(until, clicks.recv()).await
        {
            batch.push(click);
        }
        tokio::spawn(buy(batch, Arc::clone(&pool)));
    }
}

async fn buy(batch: Vec<Click>, pool: Arc<Pool>) {
    let request = |click: &Click| json!({"item_id": click.item_id, "user_id": click.user_id});
    let requests = batch.iter().map(request).collect();
    match pool.call(&Call::Batch { requests }).await {
        Ok(answers) => {
            for (click, answer) in batch.into_iter().zip(answers.each()) {
                // The buyer may have left; then the reservation expires.
                let _ = click.answer_to.send(Ok(answer));
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for click in batch {
                let _ = click.answer_to.send(Err(Arc::clone(&error)));
            }
        }
    }
}
