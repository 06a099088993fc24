//! Keyed hashes, and the clock that goes with them.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac};
use sha2::Sha256;

pub fn mac(key: &str) -> Hmac<Sha256> {
    Hmac::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length")
}

/// Stands for a key without showing it.
pub fn fingerprint(key: &str) -> String {
    hex::encode(mac(key).finalize().into_bytes())
}

/// Compares in the same time whatever the texts, so that a key cannot be found byte by byte.
pub fn is_same(given: &str, expected: &str) -> bool {
    mac(given)
        .verify_slice(&mac(expected).finalize().into_bytes())
        .is_ok()
}

pub fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_secs())
}
