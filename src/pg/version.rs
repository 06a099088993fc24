//! What differs between PostgreSQL 15 and 18.

use pgrx::pg_sys;
use std::ffi::CStr;

#[cfg(not(feature = "pg18"))]
pub use pg_sys::pqsignal;
/// Sets what a signal calls. 18 tells the server's from that of client programs.
#[cfg(feature = "pg18")]
pub use pg_sys::pqsignal_be as pqsignal;

/// The number of a wait, by the name that pg_stat_activity shows. Asking takes a lock.
#[cfg(any(feature = "pg17", feature = "pg18"))]
pub fn wait_event(name: &'static CStr) -> u32 {
    // SAFETY: NUL-terminated and copied; the same name has the same number each time.
    unsafe { pg_sys::WaitEventExtensionNew(name.as_ptr()) }
}

/// Up to 16 all waits of extensions share one number, shown as `Extension`.
#[cfg(any(feature = "pg15", feature = "pg16"))]
pub fn wait_event(_name: &'static CStr) -> u32 {
    pg_sys::PG_WAIT_EXTENSION
}
