//! A planner hook that plans our statements, and no others, without sequential and bitmap scans.
//!
//! Our plans are saved. A plan made while a table was small would read the whole table after it has
//! grown, under the item's lock, until the next ANALYZE. The statements of a shop's trigger that
//! runs within one of our statements are planned under the caller's settings.

use pgrx::pg_sys::submodules::ffi::pg_guard_ffi_boundary;
use pgrx::pg_sys::{self, ParamListInfo, PlannedStmt, Query};
use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicBool, Ordering};

/// The beginning of the text of each statement to be planned by index alone. Any statement that
/// begins with it is planned in this way.
pub const BY_INDEX: &str = "/* flashsale: by index */ ";

static HOOKED: AtomicBool = AtomicBool::new(false);
static mut PREVIOUS: pg_sys::planner_hook_type = None;

/// Hooks into the planner. Call it when the library is loaded.
pub fn init() {
    if !HOOKED.swap(true, Ordering::Relaxed) {
        // SAFETY: one thread; PREVIOUS is written only here, before plan() can run.
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
    // SAFETY: the planner's arguments are passed on unchanged; the text is null or NUL-terminated.
    // The previous hook is C code, so its error is caught before it crosses our frames.
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
    // SAFETY: by this function's contract.
    !text.is_null()
        && unsafe { CStr::from_ptr(text) }
            .to_bytes()
            .starts_with(BY_INDEX.as_bytes())
}

/// Disables sequential and bitmap scans until it is dropped, also by an error that unwinds. Only
/// the planner runs meanwhile, which changes no settings.
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
        // SAFETY: as in begin().
        unsafe {
            pg_sys::enable_seqscan = self.seqscan;
            pg_sys::enable_bitmapscan = self.bitmapscan;
        }
    }
}
