//! How long things took, in percentiles.

use std::fmt::{self, Display};
use std::time::Duration;

use hdrhistogram::Histogram;

/// Times in ms, up to ten minutes.
pub struct Times(Histogram<u64>);

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut histogram = Histogram::new_with_bounds(1, 600_000, 3).expect("right bounds");
        for time in times {
            histogram.saturating_record(time.as_millis() as u64);
        }
        Self(histogram)
    }
}

impl Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |quantile| self.0.value_at_quantile(quantile);
        write!(
            f,
            "p50 {} ms, p99 {} ms, longest {} ms",
            at(0.5),
            at(0.99),
            self.0.max()
        )
    }
}
