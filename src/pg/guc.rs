//! The search path our SQL runs under, whatever the caller's is.

use pgrx::pg_sys;
use pgrx::pg_sys::{GucAction, GucContext, GucSource};
use std::ffi::CStr;

const PINNED: &CStr = c"pg_catalog, pg_temp";

/// Runs SQL that names every object with its schema, but no operator. Nearly all functions
/// have the path among their own settings. `purchase_item` has not: setting it costs as
/// much as the rest of an answer that needs no SQL, and most answers of a sale do not.
/// An error leaves it to the end of the (sub)transaction to put the path back.
pub fn pinned<T>(body: impl FnOnce() -> T) -> T {
    // SAFETY: the value of a setting, NUL-terminated or null.
    let is_pinned = unsafe {
        let path = pg_sys::namespace_search_path;
        !path.is_null() && CStr::from_ptr(path) == PINNED
    };
    if is_pinned {
        return body();
    }
    // SAFETY: as PostgreSQL runs a function with settings of its own.
    let nest = unsafe {
        let nest = pg_sys::NewGUCNestLevel();
        pg_sys::set_config_option(
            c"search_path".as_ptr(),
            PINNED.as_ptr(),
            GucContext::PGC_USERSET,
            GucSource::PGC_S_SESSION,
            GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
        nest
    };
    let result = body();
    // SAFETY: ends the nest level begun above.
    unsafe { pg_sys::AtEOXact_GUC(true, nest) };
    result
}
