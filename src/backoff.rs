//! How long to wait before the next attempt at a lock that another transaction holds.

use crate::pg::session;
use crate::pg::wait::{self, WaitFor};
use crate::settings;
use flashsale_core::time::Micros;

/// A random time from half to one and a half times `flashsale.retry_delay`, so that buyers do not
/// all retry at the same moment.
pub fn jittered_delay() -> Micros {
    let mean = Micros::from(settings::retry_delay_ms()) * 1_000;
    mean / 2 + (mean as f64 * session::random()) as Micros
}

/// The field `retry_after_ms` of a `busy` answer.
pub fn retry_after_ms() -> i64 {
    (jittered_delay() / 1_000).max(1)
}

/// Sleeps for a jittered `flashsale.retry_delay`. A cancel or shutdown ends it with an error.
pub fn pause() {
    wait::sleep(WaitFor::Retry, jittered_delay() / 1_000);
}
