//! The bounds that several parts of the code must agree on.

use crate::time::{Micros, SECOND};

/// The longest text that a caller can pass.
pub const MAX_TEXT_BYTES: usize = 255;

/// The largest integer that JavaScript represents exactly: 2^53 - 1.
pub const MAX_NUMBER: i64 = 9_007_199_254_740_991;

/// The longest interval that an argument or a setting accepts: a week.
pub const MAX_SPAN_SECONDS: i64 = 7 * 24 * 3600;
pub const MAX_SPAN: Micros = MAX_SPAN_SECONDS * SECOND;

/// The most requests that one `purchase_batch` accepts.
pub const MAX_BATCH: usize = 1_000;

/// The most reservations that one call of `reconcile_stale_reservations` expires.
pub const MAX_EXPIRED: i32 = 100_000;

/// The most servers among which items can be spread.
pub const MAX_NODES: i32 = 1_024;

/// The number of slots in the queue; `flashsale.queue_size` limits how many of them are used.
pub const SLOTS: usize = 1_024;

/// The most order ids that a refusal for the limit per user lists.
pub const MAX_LISTED_ORDERS: usize = 20;
