//! Our statements are planned without sequential and bitmap scans, and nothing else is.
//!
//! Plans are kept: one made while a table was small would go on to read it whole when it has
//! grown, under the item's lock, until the next analyze. A trigger of the shop's that runs within
//! our statement is none of our business: its statements are planned under the caller's settings.

use pgrx::pg_sys::submodules::ffi::pg_guard_ffi_boundary;
use pgrx::pg_sys::{self, ParamListInfo, PlannedStmt, Query};
use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicBool, Ordering};

/// What the text of a statement begins with that is to be planned by index alone. Where somebody
/// else's text begins so, it is planned the same way.
pub const BY_INDEX: &str = "/* flashsale: by index */ ";

static HOOKED: AtomicBool = AtomicBool::new(false);
static mut PREVIOUS: pg_sys::planner_hook_type = None;

/// Hooks into the planner. Call it when the library is loaded.
pub fn init() {
    if !HOOKED.swap(true, Ordering::Relaxed) {
        // SAFETY: one thread; PREVIOUS is written here alone, before plan() can run.
        unsafe {
            PREVIOUS = pg_sys::planner_hook;
            pg_sys::planner_hook = Some(plan);
        }
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn plan(
    query: *mut Query,
    text: *const c_char,
    options: i32,
    parameters: ParamListInfo,
) -> *mut PlannedStmt {
    // SAFETY: the planner's arguments are handed on as they came; the text is null or
    // NUL-terminated. A hook is C's, so its error is caught before it crosses our frames.
    unsafe {
        let _scans = is_ours(text).then(ScansOff::begin);
        match PREVIOUS {
            Some(previous) => pg_guard_ffi_boundary(|| previous(query, text, options, parameters)),
            None => pg_sys::standard_planner(query, text, options, parameters),
        }
    }
}

/// # Safety
/// The text must be null or NUL-terminated.
unsafe fn is_ours(text: *const c_char) -> bool {
    // SAFETY: as the caller says.
    !text.is_null()
        && unsafe { CStr::from_ptr(text) }
            .to_bytes()
            .starts_with(BY_INDEX.as_bytes())
}

/// Sequential and bitmap scans are off until this is dropped, while an error unwinds too: only
/// the planner runs meanwhile, and it sets nothing.
struct ScansOff {
    seqscan: bool,
    bitmapscan: bool,
}

impl ScansOff {
    fn begin() -> Self {
        // SAFETY: two settings of this single-threaded process.
        unsafe {
            let before = Self {
                seqscan: pg_sys::enable_seqscan,
                bitmapscan: pg_sys::enable_bitmapscan,
            };
            pg_sys::enable_seqscan = false;
            pg_sys::enable_bitmapscan = false;
            before
        }
    }
}

impl Drop for ScansOff {
    fn drop(&mut self) {
        // SAFETY: as in begin.
        unsafe {
            pg_sys::enable_seqscan = self.seqscan;
            pg_sys::enable_bitmapscan = self.bitmapscan;
        }
    }
}
