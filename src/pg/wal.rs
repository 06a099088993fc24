//! WAL positions: whether a commit is on disk, and on the standbys that its caller requires.

use super::guc;
use pgrx::pg_sys::{self, SyncCommitLevel, XLogRecPtr};
use std::ffi::CStr;

/// Whether a caller with this `synchronous_commit` waits for its commit to be durable.
pub fn is_awaited(level: i32) -> bool {
    level > SyncCommitLevel::SYNCHRONOUS_COMMIT_OFF as i32
}

/// Whether a caller with this `synchronous_commit` waits for a standby.
pub fn needs_standby(level: i32) -> bool {
    level > SyncCommitLevel::SYNCHRONOUS_COMMIT_LOCAL_FLUSH as i32 && standbys_configured()
}

/// Determines whether this process's next commits flush the WAL. They do not wait for standbys.
pub fn flush_at_commit(flush: bool) {
    let level = if flush {
        SyncCommitLevel::SYNCHRONOUS_COMMIT_LOCAL_FLUSH
    } else {
        SyncCommitLevel::SYNCHRONOUS_COMMIT_OFF
    };
    // SAFETY: the variable behind the setting, a number of this single-threaded process, which each
    // commit reads.
    unsafe { pg_sys::synchronous_commit = level as i32 };
}

/// Waits until the WAL up to `end` is on this server's disk.
pub fn flush(end: XLogRecPtr) {
    // SAFETY: flushes the WAL up to a position; raises an error if that is beyond the last record.
    unsafe { pg_sys::XLogFlush(end) };
}

// The levels are ordered: each requires at least what those below it require. And the positions of
// the standbys are in the order in which walsenders write them.
const _: () = {
    use SyncCommitLevel::*;
    assert!(SYNCHRONOUS_COMMIT_OFF < SYNCHRONOUS_COMMIT_LOCAL_FLUSH);
    assert!(SYNCHRONOUS_COMMIT_LOCAL_FLUSH < SYNCHRONOUS_COMMIT_REMOTE_WRITE);
    assert!(SYNCHRONOUS_COMMIT_REMOTE_WRITE < SYNCHRONOUS_COMMIT_REMOTE_FLUSH);
    assert!(SYNCHRONOUS_COMMIT_REMOTE_FLUSH < SYNCHRONOUS_COMMIT_REMOTE_APPLY);
    assert!(pg_sys::SYNC_REP_WAIT_WRITE == 0 && pg_sys::SYNC_REP_WAIT_FLUSH == 1);
    assert!(pg_sys::SYNC_REP_WAIT_APPLY == 2 && pg_sys::NUM_SYNC_REP_WAIT_MODE == 3);
};

/// How far the WAL is durable at a certain moment.
#[derive(Clone, Copy)]
pub struct Durable {
    /// The position up to which it is on this server's disk.
    flushed: XLogRecPtr,
    /// The positions that the standbys have written, flushed and applied; `None` if no synchronous
    /// standby is configured.
    standbys: Option<[XLogRecPtr; 3]>,
}

impl Durable {
    /// The current state.
    pub fn now() -> Self {
        // SAFETY: reads a position; outside recovery the timeline is not asked for.
        Self::flushed(unsafe { pg_sys::GetFlushRecPtr(std::ptr::null_mut()) })
    }

    /// The current state, after the caller has flushed the WAL up to a position.
    pub fn flushed(flushed: XLogRecPtr) -> Self {
        let positions = || {
            // SAFETY: this structure exists as long as the server's shared memory. The walsenders
            // may write these positions at any time; each is one word, which only rises.
            unsafe { (&raw const (*pg_sys::WalSndCtl).lsn).read_volatile() }
        };
        Self {
            flushed,
            standbys: standbys_configured().then(positions),
        }
    }

    /// Whether a commit that ends at `end` is as durable as `level` requires.
    pub fn covers(self, end: XLogRecPtr, level: i32) -> bool {
        use SyncCommitLevel::{
            SYNCHRONOUS_COMMIT_LOCAL_FLUSH as LOCAL, SYNCHRONOUS_COMMIT_REMOTE_FLUSH as FLUSH,
            SYNCHRONOUS_COMMIT_REMOTE_WRITE as WRITE,
        };
        if !is_awaited(level) {
            return true;
        }
        let has_standby = self.standbys.is_none_or(|[written, flushed, applied]| {
            let position = match level as SyncCommitLevel::Type {
                LOCAL => return true,
                WRITE => written,
                FLUSH => flushed,
                _ => applied,
            };
            end <= position
        });
        end <= self.flushed && has_standby
    }
}

/// Sets a worker's own `synchronous_commit`.
pub fn set_synchronous_commit(value: &CStr) {
    guc::override_for_process(c"synchronous_commit", value);
}

/// Makes commits of other processes that this session has seen as durable as its own
/// `synchronous_commit` requires, by flushing the WAL. False if that requires a standby, because
/// this process cannot know what a standby has.
pub fn make_seen_commits_durable() -> bool {
    let level = guc::synchronous_commit();
    if level > SyncCommitLevel::SYNCHRONOUS_COMMIT_OFF as i32 {
        flush(written_so_far());
    }
    !needs_standby(level)
}

/// The position at which the last WAL record ends.
pub fn written_so_far() -> XLogRecPtr {
    // SAFETY: reads a position, and a number that is constant while the server runs.
    let (next_start, segment_size) =
        unsafe { (pg_sys::GetXLogInsertRecPtr(), pg_sys::wal_segment_size) };
    end_of_record(next_start, segment_size as XLogRecPtr)
}

/// The end of the record before the position at which the next one starts. The two differ only at
/// the start of a page, whose header cannot be flushed before its first record is written.
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

// SizeOfXLogShortPHD and SizeOfXLogLongPHD in PostgreSQL's headers, which are MAXALIGNed.
const _: () = assert!(size_of::<pg_sys::XLogPageHeaderData>() == 24);
const _: () = assert!(size_of::<pg_sys::XLogLongPageHeaderData>() == 40);

/// Whether synchronous standbys are configured.
pub fn standbys_configured() -> bool {
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

    /// The levels of synchronous_commit: off, local, remote_write, on and remote_apply.
    const LEVELS: [i32; 5] = {
        use SyncCommitLevel::*;
        [
            SYNCHRONOUS_COMMIT_OFF as i32,
            SYNCHRONOUS_COMMIT_LOCAL_FLUSH as i32,
            SYNCHRONOUS_COMMIT_REMOTE_WRITE as i32,
            SYNCHRONOUS_COMMIT_REMOTE_FLUSH as i32,
            SYNCHRONOUS_COMMIT_REMOTE_APPLY as i32,
        ]
    };

    #[test]
    fn each_level_waits_for_its_own_position_alone() {
        let covered = |standbys, end| {
            let durable = Durable {
                flushed: 50,
                standbys,
            };
            LEVELS.map(|level| durable.covers(end, level))
        };
        assert_eq!(covered(None, 50), [true; 5]);
        assert_eq!(covered(None, 51), [true, false, false, false, false]);
        let behind = Some([40, 30, 20]);
        assert_eq!(covered(behind, 20), [true; 5]);
        assert_eq!(covered(behind, 30), [true, true, true, true, false]);
        assert_eq!(covered(behind, 40), [true, true, true, false, false]);
        assert_eq!(covered(behind, 41), [true, true, false, false, false]);
        assert_eq!(
            covered(Some([90, 90, 90]), 51),
            [true, false, false, false, false]
        );
    }
}
