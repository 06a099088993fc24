//! What differs between PostgreSQL 15 and 18.

use pgrx::pg_sys;
use std::ffi::CStr;

/// Sets a signal handler. PostgreSQL 18 has two names for the function: one for the server, one for
/// client programs.
///
/// # Safety
/// The handler must be safe to run at any moment.
pub unsafe fn set_handler(signal: i32, handler: unsafe extern "C-unwind" fn(i32)) {
    #[cfg(not(feature = "pg18"))]
    use pg_sys::pqsignal;
    #[cfg(feature = "pg18")]
    use pg_sys::pqsignal_be as pqsignal;
    // SAFETY: as the caller says.
    unsafe { pqsignal(signal, Some(handler)) };
}

/// Settings that a worker overrides, and that not all versions have.
#[cfg(any(feature = "pg17", feature = "pg18"))]
pub const WORKER_SETTINGS: &[(&CStr, &CStr)] = &[(c"transaction_timeout", c"0")];
#[cfg(any(feature = "pg15", feature = "pg16"))]
pub const WORKER_SETTINGS: &[(&CStr, &CStr)] = &[];

/// The id of the timeout that cancels a statement: the fourth in timeout.h of 15 to 18. pgrx's
/// bindings do not have it, so tests check what the server does with it.
pub const STATEMENT_TIMEOUT: i32 = 3;

/// The number of a wait event, by the name that pg_stat_activity shows. Takes a lock.
#[cfg(any(feature = "pg17", feature = "pg18"))]
pub fn wait_event(name: &'static CStr) -> u32 {
    // SAFETY: NUL-terminated and copied; the same name has the same number each time.
    unsafe { pg_sys::WaitEventExtensionNew(name.as_ptr()) }
}

/// Up to 16 all waits of extensions share one event, shown as `Extension`.
#[cfg(any(feature = "pg15", feature = "pg16"))]
pub fn wait_event(_name: &'static CStr) -> u32 {
    pg_sys::PG_WAIT_EXTENSION
}
