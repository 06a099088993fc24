//! How long to wait before the next try: longer each time, and never in step with the others.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const FIRST_SPREAD_MS: u64 = 10;
const MAX_SPREAD_MS: u64 = 500;

/// One per purchase; a fresh one for every new call.
#[derive(Debug)]
pub struct Backoff {
    spread_ms: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            spread_ms: FIRST_SPREAD_MS,
        }
    }
}

impl Backoff {
    /// At least the server's hint, plus a random share of a spread that doubles up to its limit.
    pub fn next_wait(&mut self, at_least_ms: u64) -> Duration {
        let wait_ms = at_least_ms + random() % self.spread_ms;
        self.spread_ms = (self.spread_ms * 2).min(MAX_SPREAD_MS);
        Duration::from_millis(wait_ms)
    }
}

/// The standard library seeds each of its hashers at random: enough for jitter.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_at_least_the_hint_and_stays_bounded() {
        let mut backoff = Backoff::default();
        for _ in 0..1000 {
            let wait = backoff.next_wait(7);
            assert!(wait >= Duration::from_millis(7));
            assert!(wait < Duration::from_millis(7 + MAX_SPREAD_MS));
        }
    }

    #[test]
    fn two_buyers_do_not_wait_in_step() {
        let waits =
            |mut backoff: Backoff| (0..20).map(|_| backoff.next_wait(0)).collect::<Vec<_>>();
        assert_ne!(waits(Backoff::default()), waits(Backoff::default()));
    }
}
