//! Planner hooks that plan our statements, and no others, by the indexes that they name.
//!
//! Our plans are saved. A plan made while a table was small would read the whole table after it has
//! grown, under the item's lock, until the next ANALYZE. So none has sequential and bitmap scans, and
//! a statement can name the only index by which its table may be read: of several that fit, the
//! planner takes the smallest for the cheapest, even if that leads to all orders of a user and the
//! other to one. The statements of a shop's trigger that runs within one of our statements are
//! planned under the caller's settings, by any index.

use pgrx::pg_sys::submodules::ffi::pg_guard_ffi_boundary;
use pgrx::pg_sys::{self, Oid, ParamListInfo, PlannedStmt, PlannerInfo, Query, RelOptInfo};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::sync::atomic::{AtomicBool, Ordering};

/// The beginning of the text of each statement to be planned by index alone, up to the name of the
/// index, which may be empty: `/* flashsale: by index orders_holdings */ SELECT`. Any statement that
/// begins with it is planned in this way.
const BY_INDEX: &str = "/* flashsale: by index ";
const END: &str = "*/ ";

/// The text of a statement that is to be planned by index alone. If `only` is not empty, the table
/// that has an index of this name is read by no other.
pub fn by_index(only: &str, statement: &str) -> String {
    format!("{BY_INDEX}{only} {END}{statement}")
}

static HOOKED: AtomicBool = AtomicBool::new(false);
static mut PREVIOUS: pg_sys::planner_hook_type = None;
static mut PREVIOUS_INFO: pg_sys::get_relation_info_hook_type = None;

thread_local! {
    /// The name of the index that the statement names which is being planned.
    static ONLY: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// Hooks into the planner. Call it when the library is loaded.
pub fn init() {
    if !HOOKED.swap(true, Ordering::Relaxed) {
        // SAFETY: one thread; both are written only here, before the hooks can run.
        unsafe {
            PREVIOUS = pg_sys::planner_hook;
            pg_sys::planner_hook = Some(plan);
            PREVIOUS_INFO = pg_sys::get_relation_info_hook;
            pg_sys::get_relation_info_hook = Some(leave_only_named_index);
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
        let _planning = ours(text).map(ByIndex::begin);
        match PREVIOUS {
            Some(previous) => pg_guard_ffi_boundary(|| previous(query, text, options, parameters)),
            None => pg_sys::standard_planner(query, text, options, parameters),
        }
    }
}

/// The name of the only index, which may be empty, if the statement is ours.
///
/// # Safety
/// The text must be null or NUL-terminated.
unsafe fn ours(text: *const c_char) -> Option<CString> {
    if text.is_null() {
        return None;
    }
    // SAFETY: by this function's contract.
    let text = unsafe { CStr::from_ptr(text) }.to_bytes();
    let rest = text.strip_prefix(BY_INDEX.as_bytes())?;
    let length = rest.iter().position(|&byte| byte == b' ')?;
    CString::new(&rest[..length]).ok()
}

/// Called by the planner for each table, after it has listed the table's indexes.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn leave_only_named_index(
    root: *mut PlannerInfo,
    table: Oid,
    inherits: bool,
    relation: *mut RelOptInfo,
) {
    // SAFETY: as in plan(); the list consists of IndexOptInfo.
    unsafe {
        if let Some(previous) = PREVIOUS_INFO {
            pg_guard_ffi_boundary(|| previous(root, table, inherits, relation));
        }
        let named = ONLY.with_borrow(|only| named_index((*relation).indexlist, only.as_deref()?));
        if let Some(index) = named {
            (*relation).indexlist = pg_sys::lappend(std::ptr::null_mut(), index.cast());
        }
    }
}

/// The index of this name.
///
/// # Safety
/// The list must be null or one of IndexOptInfo.
unsafe fn named_index(
    indexes: *mut pg_sys::List,
    name: &CStr,
) -> Option<*mut pg_sys::IndexOptInfo> {
    // SAFETY: by this function's contract; a name is null or NUL-terminated.
    unsafe {
        let indexes = indexes.as_ref()?;
        let cells = std::slice::from_raw_parts(indexes.elements, indexes.length as usize);
        let mut indexes = cells
            .iter()
            .map(|cell| cell.ptr_value.cast::<pg_sys::IndexOptInfo>());
        indexes.find(|&index| {
            let found = pg_sys::get_rel_name((*index).indexoid);
            !found.is_null() && CStr::from_ptr(found) == name
        })
    }
}

/// Until it is dropped, also by an error that unwinds, statements are planned without sequential and
/// bitmap scans, and by the named index. Only the planner runs meanwhile, which changes no settings.
struct ByIndex {
    seqscan: bool,
    bitmapscan: bool,
    only: Option<CString>,
}

impl ByIndex {
    fn begin(only: CString) -> Self {
        // SAFETY: two settings of this single-threaded process.
        unsafe {
            let before = Self {
                seqscan: pg_sys::enable_seqscan,
                bitmapscan: pg_sys::enable_bitmapscan,
                only: ONLY.replace(Some(only).filter(|only| !only.is_empty())),
            };
            pg_sys::enable_seqscan = false;
            pg_sys::enable_bitmapscan = false;
            before
        }
    }
}

impl Drop for ByIndex {
    fn drop(&mut self) {
        ONLY.set(self.only.take());
        // SAFETY: as in begin().
        unsafe {
            pg_sys::enable_seqscan = self.seqscan;
            pg_sys::enable_bitmapscan = self.bitmapscan;
        }
    }
}
