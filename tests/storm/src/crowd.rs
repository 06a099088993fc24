//! Many buyers at the same moment, each a task of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_postgres::Error;

use crate::{Answer, Call, Pool};

/// The result of one buyer.
#[derive(Debug)]
pub struct Done {
    pub call: Call,
    pub answer: Result<Answer, Error>,
    /// From the click to the final answer, waiting for a connection included.
    pub took: Duration,
}

pub struct Crowd(JoinSet<Done>);

impl Crowd {
    pub fn start(pool: &Arc<Pool>, calls: impl IntoIterator<Item = Call>) -> Self {
        let mut buyers = JoinSet::new();
        for call in calls {
            let pool = Arc::clone(pool);
            buyers.spawn(async move {
                let clicked_at = Instant::now();
                let answer = pool.settle(&call).await;
                Done {
                    call,
                    answer,
                    took: clicked_at.elapsed(),
                }
            });
        }
        Self(buyers)
    }

    /// The next buyer that is done; `None` when all are.
    pub async fn next(&mut self) -> Option<Done> {
        let done = self.0.join_next().await?;
        Some(done.expect("a buyer neither panics nor is aborted"))
    }

    pub async fn all(mut self) -> Vec<Done> {
        let mut all = Vec::with_capacity(self.0.len());
        while let Some(done) = self.next().await {
            all.push(done);
        }
        all
    }
}
