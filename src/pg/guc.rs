//! Settings of this process that others define.

use pgrx::pg_sys::{self, GucAction, GucContext, GucSource};
use std::ffi::{CStr, CString};

/// The search path our SQL runs under, whatever the caller's is: it names every object with its
/// schema, but no operator.
pub const SEARCH_PATH: &CStr = c"pg_catalog, pg_temp";

/// Bounds lock waits, unless a shorter bound holds, until the innermost subtransaction ends.
pub fn bound_lock_timeout(milliseconds: i32) {
    // SAFETY: a number of this single-threaded process.
    let current = unsafe { pg_sys::LockTimeout };
    if current == 0 || current > milliseconds {
        set_for_subtransaction(c"lock_timeout", &text(milliseconds));
    }
}

/// Sets the search path to [`SEARCH_PATH`] until the innermost subtransaction ends. Nearly all
/// functions have the path among their own settings. `purchase_item` has not: setting it costs
/// as much as the rest of an answer that needs no SQL, and most answers of a sale do not.
pub fn pin_search_path() {
    // SAFETY: the value of a setting, NUL-terminated or null.
    let is_pinned = unsafe {
        let path = pg_sys::namespace_search_path;
        !path.is_null() && CStr::from_ptr(path) == SEARCH_PATH
    };
    if !is_pinned {
        set_for_subtransaction(c"search_path", SEARCH_PATH);
    }
}

/// As a function's SET clause does it: PostgreSQL puts the value back when the innermost
/// (sub)transaction ends, whichever way, and whatever else has set it meanwhile.
fn set_for_subtransaction(name: &CStr, value: &CStr) {
    // SAFETY: two NUL-terminated texts, which are copied.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            GucContext::PGC_USERSET,
            GucSource::PGC_S_SESSION,
            GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}

/// Sets a setting of this worker above what the database, a role or the file says.
pub fn override_for_process(name: &CStr, value: &CStr) {
    // SAFETY: two NUL-terminated texts, which are copied.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            GucContext::PGC_SUSET,
            GucSource::PGC_S_OVERRIDE,
        );
    }
}

/// As [`override_for_process`], for the bound of lock waits; does nothing if it is that already.
pub fn override_lock_timeout(milliseconds: i32) {
    // SAFETY: a number of this single-threaded process.
    if unsafe { pg_sys::LockTimeout } != milliseconds {
        override_for_process(c"lock_timeout", &text(milliseconds));
    }
}

/// Settings back to what the process began with, or was overridden with since.
pub fn reset_all() {
    // SAFETY: what RESET ALL does; called outside a transaction or in one.
    unsafe { pg_sys::ResetAllOptions() };
}

/// How commits of this process wait, as `SyncCommitLevel`.
pub fn synchronous_commit() -> i32 {
    // SAFETY: a number of this single-threaded process.
    unsafe { pg_sys::synchronous_commit }
}

/// Makes a misspelt setting with this prefix an error.
pub fn reserve_prefix(prefix: &CStr) {
    // SAFETY: a NUL-terminated text, which is copied.
    unsafe { pg_sys::MarkGUCPrefixReserved(prefix.as_ptr()) };
}

fn text(number: i32) -> CString {
    CString::new(number.to_string()).expect("digits hold no NUL")
}
