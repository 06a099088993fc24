//! Random bytes from PostgreSQL's strong source.

use flashsale_core::order_ref::{CODE_LEN, RefCode};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Codes that nobody can guess. An error (XX000) if the source fails.
pub fn ref_codes(count: usize) -> impl Iterator<Item = RefCode> {
    let mut bytes = vec![[0; CODE_LEN]; count];
    // SAFETY: writes as many bytes as the array has.
    if !unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), count * CODE_LEN) } {
        error!("could not generate random bytes for an order's ref");
    }
    bytes.into_iter().map(RefCode::new)
}
