//! PostgreSQL's own settings, in this process.

use pgrx::pg_sys::{self, GucAction, GucContext, GucSource};
use std::ffi::{CStr, CString};

/// The search path under which our SQL runs, instead of the caller's. Our SQL qualifies every
/// object with its schema, but not operators.
pub const SEARCH_PATH: &CStr = c"pg_catalog, pg_temp";

/// Sets `lock_timeout` until the innermost subtransaction ends, or function with a SET clause, unless a
/// shorter one is set.
pub fn bound_lock_timeout(milliseconds: i32) {
    let current = lock_timeout();
    if current == 0 || current > milliseconds {
        set_for_subtransaction(c"lock_timeout", &text(milliseconds));
    }
}

/// This process's `lock_timeout`, in milliseconds; 0 for none.
pub fn lock_timeout() -> i32 {
    // SAFETY: a number of this single-threaded process.
    unsafe { pg_sys::LockTimeout }
}

/// Sets the search path to [`SEARCH_PATH`] until the innermost subtransaction ends. Nearly all
/// functions have a SET clause for it. `purchase_item` does not: a SET clause costs as much as
/// everything else in an answer that needs no SQL, which are most answers of a sale.
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

/// Like a function's SET clause: PostgreSQL restores the value when the innermost (sub)transaction
/// ends, whether it commits or not. As with a SET clause, a plain SET in between (one that is not LOCAL
/// and has no SET clause around it) is what the session keeps.
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

/// Overrides a setting of this worker, whatever the database, a role or the configuration file sets.
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

/// Like [`override_for_process`], for `lock_timeout`; does nothing if it has that value already.
pub fn override_lock_timeout(milliseconds: i32) {
    if lock_timeout() != milliseconds {
        override_for_process(c"lock_timeout", &text(milliseconds));
    }
}

/// Resets all settings to the values with which the process started, or that override them.
pub fn reset_all() {
    // SAFETY: does what RESET ALL does; allowed outside a transaction or in one.
    unsafe { pg_sys::ResetAllOptions() };
}

/// This process's `synchronous_commit`, a `SyncCommitLevel`.
pub fn synchronous_commit() -> i32 {
    // SAFETY: a number of this single-threaded process.
    unsafe { pg_sys::synchronous_commit }
}

/// Makes it an error to set an unknown setting with this prefix.
pub fn reserve_prefix(prefix: &CStr) {
    // SAFETY: a NUL-terminated text, which is copied.
    unsafe { pg_sys::MarkGUCPrefixReserved(prefix.as_ptr()) };
}

fn text(number: i32) -> CString {
    CString::new(number.to_string()).expect("digits hold no NUL")
}
