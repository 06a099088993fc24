//! Every bound that more than one place must agree on.

use crate::time::{Micros, SECOND};

/// The longest text that a caller can hand over.
pub const MAX_TEXT_BYTES: usize = 255;

/// The largest number that survives a trip through JavaScript: 2^53 - 1.
pub const MAX_NUMBER: i64 = 9_007_199_254_740_991;

/// The longest span of time that a caller or a setting can name: a week.
pub const MAX_SPAN_SECONDS: i64 = 7 * 24 * 3600;
pub const MAX_SPAN: Micros = MAX_SPAN_SECONDS * SECOND;

/// The most requests that one `purchase_batch` takes.
pub const MAX_BATCH: usize = 1_000;

/// The most reservations that one call expires.
pub const MAX_EXPIRED: i32 = 100_000;

/// The slots of the queue; `flashsale.queue_size` says how many of them are used.
pub const SLOTS: usize = 1_024;

/// The most order ids that a refusal lists.
pub const MAX_LISTED_ORDERS: usize = 20;
