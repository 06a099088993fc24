//! Buyers of other items at the same time, each of a different one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use storm::{Call, Done, Pool, Tally};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How long a buyer looks at a page.
const BETWEEN_PURCHASES: Duration = Duration::from_millis(5);

pub struct Elsewhere {
    pub pool: Arc<Pool>,
    pub items: Vec<i64>,
}

impl Elsewhere {
    pub fn start(self) -> Shopping {
        let closing = Arc::new(AtomicBool::new(false));
        let mut shoppers = JoinSet::new();
        for item_id in self.items {
            shoppers.spawn(shop(Arc::clone(&closing), Arc::clone(&self.pool), item_id));
        }
        Shopping { closing, shoppers }
    }
}

async fn shop(closing: Arc<AtomicBool>, pool: Arc<Pool>, item_id: i64) -> Tally {
    let mut tally = Tally::default();
    while !closing.load(Relaxed) {
        let call = Call::buy(item_id, "somebody else");
        let clicked_at = Instant::now();
        let answer = pool.settle(&call).await;
        tally.add(&Done {
            call,
            answer,
            took: clicked_at.elapsed(),
        });
        sleep(BETWEEN_PURCHASES).await;
    }
    tally
}

pub struct Shopping {
    closing: Arc<AtomicBool>,
    shoppers: JoinSet<Tally>,
}

impl Shopping {
    pub async fn stop(self) -> Tally {
        self.closing.store(true, Relaxed);
        let mut all = Tally::default();
        self.shoppers
            .join_all()
            .await
            .into_iter()
            .for_each(|tally| all.merge(tally));
        all
    }
}
