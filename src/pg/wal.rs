//! Whether a commit is on disk, and on the standbys its caller asked for.

use super::{guc, signals};
use pgrx::pg_sys::{self, SyncCommitLevel, XLogRecPtr};
use std::ffi::CStr;

/// Waits until the log up to `end` is as durable as `level` asks. False if the wait for a
/// standby was cut short, so that nobody is told of a success that a failover would undo.
/// For workers, which commit without waiting.
pub fn wait(end: XLogRecPtr, level: i32) -> bool {
    if level <= SyncCommitLevel::SYNCHRONOUS_COMMIT_OFF as i32 {
        return true;
    }
    flush(end);
    !needs_standbys(level) || wait_for_standbys(end, level)
}

/// Whether a commit of this level waits for a standby.
pub fn needs_standbys(level: i32) -> bool {
    level > SyncCommitLevel::SYNCHRONOUS_COMMIT_LOCAL_FLUSH as i32 && standbys_wanted()
}

fn flush(end: XLogRecPtr) {
    // SAFETY: flushes what there is up to a position; beyond the last record it raises an error.
    unsafe { pg_sys::XLogFlush(end) };
}

/// PostgreSQL takes a cancel for leave to stop waiting and does not say so afterwards:
/// cancels are turned away meanwhile, and only a shutdown cuts the wait short.
fn wait_for_standbys(end: XLogRecPtr, level: i32) -> bool {
    set_synchronous_commit(name(level));
    signals::turning_cancels_away(|| {
        // SAFETY: outside a transaction, with interrupts held, as it asks for.
        unsafe { pg_sys::SyncRepWaitForLSN(end, true) };
    });
    set_synchronous_commit(c"off");
    !signals::is_shutdown_asked()
}

fn name(level: i32) -> &'static CStr {
    match level as SyncCommitLevel::Type {
        SyncCommitLevel::SYNCHRONOUS_COMMIT_REMOTE_WRITE => c"remote_write",
        SyncCommitLevel::SYNCHRONOUS_COMMIT_REMOTE_FLUSH => c"on",
        _ => c"remote_apply",
    }
}

/// Sets how a worker's own commits wait.
pub fn set_synchronous_commit(value: &CStr) {
    guc::override_for_process(c"synchronous_commit", value);
}

/// Whether a commit of another process, seen to be over, is as durable as this session
/// asks. Flushes what there is; about a standby nothing can be known from here.
pub fn by_now() -> bool {
    let level = guc::synchronous_commit();
    if level > SyncCommitLevel::SYNCHRONOUS_COMMIT_OFF as i32 {
        flush(written_so_far());
    }
    !needs_standbys(level)
}

/// Where the last record ends.
pub fn written_so_far() -> XLogRecPtr {
    // SAFETY: reads a position, and a number that is the same while the server runs.
    let (next_start, segment_size) =
        unsafe { (pg_sys::GetXLogInsertRecPtr(), pg_sys::wal_segment_size) };
    end_of_record(next_start, segment_size as XLogRecPtr)
}

/// Where the record before a start ends. That is the same but at the start of a page, whose
/// header is not there to be flushed before a record is.
fn end_of_record(next_start: XLogRecPtr, segment_size: XLogRecPtr) -> XLogRecPtr {
    const PAGE: XLogRecPtr = pg_sys::XLOG_BLCKSZ as XLogRecPtr;
    let header = match next_start % segment_size < PAGE {
        true => size_of::<pg_sys::XLogLongPageHeaderData>(),
        false => size_of::<pg_sys::XLogPageHeaderData>(),
    } as XLogRecPtr;
    match next_start % PAGE == header {
        true => next_start - header,
        false => next_start,
    }
}

// What PostgreSQL's headers say, MAXALIGNed: SizeOfXLogShortPHD and SizeOfXLogLongPHD.
const _: () = assert!(size_of::<pg_sys::XLogPageHeaderData>() == 24);
const _: () = assert!(size_of::<pg_sys::XLogLongPageHeaderData>() == 40);

/// Whether the server is to wait for standbys at all.
pub fn standbys_wanted() -> bool {
    // SAFETY: two settings of the server's; the names are null or NUL-terminated.
    unsafe {
        let names = pg_sys::SyncRepStandbyNames;
        pg_sys::max_wal_senders > 0 && !names.is_null() && *names != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: XLogRecPtr = pg_sys::XLOG_BLCKSZ as XLogRecPtr;
    const SEGMENT: XLogRecPtr = 16 << 20;

    #[test]
    fn within_a_page_a_record_ends_where_the_next_begins() {
        for start in [48, PAGE - 8, PAGE + 32, 3 * PAGE + 4_096, SEGMENT + 48] {
            assert_eq!(end_of_record(start, SEGMENT), start);
        }
    }

    #[test]
    fn after_a_full_page_a_record_ends_before_the_header_of_the_next() {
        assert_eq!(end_of_record(5 * PAGE + 24, SEGMENT), 5 * PAGE);
        assert_eq!(
            end_of_record(7 * SEGMENT + PAGE + 24, SEGMENT),
            7 * SEGMENT + PAGE
        );
    }

    #[test]
    fn the_first_page_of_a_segment_has_a_longer_header() {
        assert_eq!(end_of_record(7 * SEGMENT + 40, SEGMENT), 7 * SEGMENT);
        assert_eq!(end_of_record(7 * SEGMENT + 24, SEGMENT), 7 * SEGMENT + 24);
        assert_eq!(end_of_record(5 * PAGE + 40, SEGMENT), 5 * PAGE + 40);
    }

    #[test]
    fn segments_may_be_as_small_as_a_megabyte() {
        let segment = 1 << 20;
        assert_eq!(end_of_record(3 * segment + 40, segment), 3 * segment);
        assert_eq!(end_of_record(3 * segment + 40, SEGMENT), 3 * segment + 40);
    }
}
