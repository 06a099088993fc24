//! Delays that differ, so that those who wait do not come back in step.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Between half of the delay and all of it.
pub fn jittered(delay: Duration) -> Duration {
    // A fresh RandomState hashes with other keys each time, which is random enough here.
    let random = RandomState::new().hash_one(()) as f64 / u64::MAX as f64;
    delay.mul_f64(0.5 + random / 2.0)
}
