//! Random bytes from PostgreSQL's strong source.

use flashsale_core::order_ref::{CODE_LEN, RefCode};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::RefCell;

/// The number of codes for which bytes are fetched at once. A fetch costs about the same for one as
/// for all of them.
const CODES_PER_FETCH: usize = 32;

thread_local! {
    /// Bytes of this session that no code has used yet.
    static UNUSED: RefCell<Vec<[u8; CODE_LEN]>> = const { RefCell::new(Vec::new()) };
}

/// A code that nobody can guess. An error (XX000) if the source fails.
pub fn ref_code() -> RefCode {
    if UNUSED.with_borrow(Vec::is_empty) {
        UNUSED.set(fetch().to_vec());
    }
    let bytes = UNUSED.with_borrow_mut(Vec::pop);
    RefCode::new(bytes.expect("bytes were fetched"))
}

fn fetch() -> [[u8; CODE_LEN]; CODES_PER_FETCH] {
    let mut bytes = [[0; CODE_LEN]; CODES_PER_FETCH];
    // SAFETY: writes as many bytes as the array has.
    if !unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), size_of_val(&bytes)) } {
        error!("could not generate random bytes for an order's ref");
    }
    bytes
}
