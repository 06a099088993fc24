//! Whether a commit is on disk, and on the standbys its callers asked for.

use crate::pg::version::pqsignal;
use crate::pg::worker;
use pgrx::pg_sys::{self, SyncCommitLevel, XLogRecPtr};
use std::ffi::CStr;

/// Waits until the log up to `end` is as durable as `level` asks. False if the wait for a
/// standby was cut short, so that nobody is told of a success that a failover would undo.
pub fn wait(end: XLogRecPtr, level: i32) -> bool {
    if level <= SyncCommitLevel::SYNCHRONOUS_COMMIT_OFF as i32 {
        return true;
    }
    // SAFETY: `end` is the end of a record that was written.
    unsafe { pg_sys::XLogFlush(end) };
    !needs_standbys(level) || wait_for_standbys(end, level)
}

/// Whether a commit of this level waits for a standby.
pub fn needs_standbys(level: i32) -> bool {
    level > SyncCommitLevel::SYNCHRONOUS_COMMIT_LOCAL_FLUSH as i32 && standbys_wanted()
}

/// PostgreSQL takes a cancel for leave to stop waiting and does not say so afterwards:
/// cancels are turned away meanwhile, and only a shutdown cuts the wait short.
fn wait_for_standbys(end: XLogRecPtr, level: i32) -> bool {
    set_synchronous_commit(name(level));
    // SAFETY: handlers of this worker's own, put back at once; no interrupt is served in between.
    unsafe {
        pqsignal(SIGINT, Some(turn_away));
        pg_sys::QueryCancelPending = 0;
        pg_sys::InterruptHoldoffCount += 1;
        pg_sys::SyncRepWaitForLSN(end, true);
        pg_sys::InterruptHoldoffCount -= 1;
        pqsignal(SIGINT, Some(worker::StatementCancelHandler));
    }
    set_synchronous_commit(c"off");
    // SAFETY: reads a flag.
    unsafe { pg_sys::ProcDiePending == 0 }
}

const SIGINT: i32 = 2;

unsafe extern "C-unwind" fn turn_away(_signal: i32) {}

fn name(level: i32) -> &'static CStr {
    match level as SyncCommitLevel::Type {
        SyncCommitLevel::SYNCHRONOUS_COMMIT_REMOTE_WRITE => c"remote_write",
        SyncCommitLevel::SYNCHRONOUS_COMMIT_REMOTE_FLUSH => c"on",
        _ => c"remote_apply",
    }
}

/// Sets how the seller's own commits wait: not at all, since it waits for many at once.
pub fn set_synchronous_commit(value: &CStr) {
    worker::set(c"synchronous_commit", value);
}

/// Whether a commit of another process, seen to be over, is as durable as this session
/// asks. Flushes what there is; about a standby nothing can be known from here.
pub fn by_now() -> bool {
    // SAFETY: a setting of this session; what was written into memory can be flushed.
    unsafe {
        let level = pg_sys::synchronous_commit;
        if level > SyncCommitLevel::SYNCHRONOUS_COMMIT_OFF as i32 {
            pg_sys::XLogFlush(written_so_far());
        }
        !needs_standbys(level)
    }
}

/// Where the last record ends. That is where the next one begins but at the start of a page,
/// whose header is not there to be flushed before a record is.
pub fn written_so_far() -> XLogRecPtr {
    // SAFETY: reads a position.
    let next_start = unsafe { pg_sys::GetXLogInsertRecPtr() };
    let page = XLogRecPtr::from(pg_sys::XLOG_BLCKSZ);
    // SAFETY: a setting of the cluster's.
    let segment = unsafe { pg_sys::wal_segment_size } as XLogRecPtr;
    let header = match next_start % segment < page {
        true => size_of::<pg_sys::XLogLongPageHeaderData>(),
        false => size_of::<pg_sys::XLogPageHeaderData>(),
    };
    match next_start % page == header as XLogRecPtr {
        true => next_start - header as XLogRecPtr,
        false => next_start,
    }
}

/// Whether the server is to wait for standbys at all.
pub fn standbys_wanted() -> bool {
    // SAFETY: reads two settings; the names are null or NUL-terminated.
    unsafe {
        let names = pg_sys::SyncRepStandbyNames;
        pg_sys::max_wal_senders > 0 && !names.is_null() && *names != 0
    }
}
