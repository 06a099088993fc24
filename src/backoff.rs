//! How long to stay away from a lock that somebody else holds.

use crate::pg::session;
use crate::pg::wait::{self, WaitFor};
use crate::settings;
use flashsale_core::time::Micros;

/// `flashsale.retry_delay` give or take half of it, so that buyers do not return in step.
pub fn jittered_delay() -> Micros {
    let mean = Micros::from(settings::retry_delay_ms()) * 1_000;
    mean / 2 + (mean as f64 * session::random()) as Micros
}

/// What a `busy` answer advises.
pub fn retry_after_ms() -> i64 {
    (jittered_delay() / 1_000).max(1)
}

/// Sleeps for a jittered `flashsale.retry_delay`; a cancel or shutdown ends it.
pub fn pause() {
    wait::sleep(WaitFor::Retry, jittered_delay() / 1_000);
}
