//! Time as PostgreSQL counts it: microseconds since 2000-01-01 UTC.

/// A point in time, or a span, in microseconds.
pub type Micros = i64;

pub const MILLISECOND: Micros = 1_000;
pub const SECOND: Micros = 1_000_000;
