//! Time as PostgreSQL counts it: microseconds since 2000-01-01 UTC.

/// A point in time, or a span, in microseconds.
pub type Micros = i64;

pub const MILLISECOND: Micros = 1_000;
pub const SECOND: Micros = 1_000_000;

/// What is left at `now`, in milliseconds, of a wait that began at `since` and may take `at_most_ms`;
/// 0 or less once it is over.
pub fn left_ms(since: Micros, now: Micros, at_most_ms: i64) -> i64 {
    at_most_ms - (now - since) / MILLISECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINCE: Micros = 5 * SECOND;

    #[test]
    fn a_wait_becomes_shorter_until_it_is_over() {
        let left = |waited| left_ms(SINCE, SINCE + waited, 200);
        assert_eq!(left(0), 200);
        assert_eq!(left(50 * MILLISECOND), 150);
        assert_eq!(left(199 * MILLISECOND + 999), 1);
        assert_eq!(left(200 * MILLISECOND), 0);
        assert_eq!(left(SECOND), -800);
    }

    #[test]
    fn a_wait_of_no_time_is_over_at_once() {
        assert_eq!(left_ms(SINCE, SINCE, 0), 0);
    }

    /// The monotonic clock counts from the start of the machine, which may have been just now.
    #[test]
    fn a_wait_may_begin_at_any_time() {
        for since in [0, 1, SINCE, i64::MAX - SECOND] {
            assert_eq!(left_ms(since, since + 30 * MILLISECOND, 200), 170);
        }
    }
}
