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

/// Which indexes need an entry for the new version of a row.
#[derive(Clone, Copy, PartialEq)]
pub enum Entries {
    /// None: the chain of the row's versions leads to it.
    Unneeded,
    All,
    /// Only those that summarize, as BRIN does: what they say of a page must include its values. From
    /// 16 on.
    #[cfg_attr(feature = "pg15", expect(dead_code))]
    Summarizing,
}

/// heap_update without a crosscheck, waiting for whoever holds the row. What it says of the indexes is
/// true if the row was updated.
///
/// # Safety
/// The relation must be open for writing, a snapshot see the old version, and the new one be a
/// tuple of the relation.
pub unsafe fn heap_update(
    relation: pg_sys::Relation,
    old: &mut pg_sys::ItemPointerData,
    new: &mut pg_sys::HeapTupleData,
    command: pg_sys::CommandId,
) -> (pg_sys::TM_Result::Type, Entries) {
    let mut failure = pg_sys::TM_FailureData::default();
    let mut lock = pg_sys::LockTupleMode::LockTupleExclusive;
    #[cfg(not(feature = "pg15"))]
    let mut indexes = pg_sys::TU_UpdateIndexes::TU_None;
    // SAFETY: as the caller says.
    let result = unsafe {
        pg_sys::heap_update(
            relation,
            old,
            new,
            command,
            std::ptr::null_mut(),
            true,
            &mut failure,
            &mut lock,
            #[cfg(not(feature = "pg15"))]
            &mut indexes,
        )
    };
    #[cfg(not(feature = "pg15"))]
    let entries = match indexes {
        pg_sys::TU_UpdateIndexes::TU_None => Entries::Unneeded,
        pg_sys::TU_UpdateIndexes::TU_Summarizing => Entries::Summarizing,
        _ => Entries::All,
    };
    #[cfg(feature = "pg15")]
    // SAFETY: the function has completed the new tuple's header.
    let entries = match unsafe { (*new.t_data).t_infomask2 } as u32 & pg_sys::HEAP_ONLY_TUPLE {
        0 => Entries::All,
        _ => Entries::Unneeded,
    };
    (result, entries)
}

/// ExecInsertIndexTuples without arbiters, into all indexes or, from 16 on, the summarizing ones.
///
/// # Safety
/// The slot must hold a row and where it lies, and the target's indexes be open.
pub unsafe fn enter_into_indexes(
    target: &mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    state: *mut pg_sys::EState,
    is_update: bool,
    entries: Entries,
) {
    #[cfg(feature = "pg15")]
    let _ = entries;
    // SAFETY: as the caller says.
    unsafe {
        pg_sys::ExecInsertIndexTuples(
            target,
            slot,
            state,
            is_update,
            false,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            #[cfg(not(feature = "pg15"))]
            (entries == Entries::Summarizing),
        );
    }
}
