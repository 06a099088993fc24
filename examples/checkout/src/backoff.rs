//! Pauses that grow, and differ, so that those who wait do not come back in step.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::{Instant, sleep};

const LONGEST: Duration = Duration::from_millis(500);

pub struct Backoff {
    delay: Duration,
    deadline: Instant,
}

impl Backoff {
    pub fn new(first: Duration, deadline: Instant) -> Self {
        Self {
            delay: first,
            deadline,
        }
    }

    /// Whether there is time for another pause.
    pub fn has_time(&self) -> bool {
        Instant::now() + self.delay < self.deadline
    }

    pub async fn pause(&mut self) {
        sleep(jittered(self.delay)).await;
        self.delay = (self.delay * 2).min(LONGEST);
    }
}

/// Between half of the delay and all of it.
pub fn jittered(delay: Duration) -> Duration {
    // A fresh RandomState hashes with other keys each time, which is random enough here.
    let random = RandomState::new().hash_one(()) as f64 / u64::MAX as f64;
    delay.mul_f64(0.5 + random / 2.0)
}
