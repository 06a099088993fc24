//! The wall clock, the monotonic clock, and the text form of a time.

use flashsale_core::time::Micros;
use pgrx::pg_sys;
use std::ffi::CStr;

/// The wall clock, for times that are stored or shown. Decisions read it after the lock is held, so
/// that the time spent waiting for the lock is not taken from the buyer.
pub fn now() -> Micros {
    // SAFETY: only reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// The time from 1970, the Unix epoch, to 2000, PostgreSQL's epoch.
pub const UNIX_EPOCH_TO_POSTGRES_SECONDS: f64 =
    ((pg_sys::POSTGRES_EPOCH_JDATE - pg_sys::UNIX_EPOCH_JDATE) * pg_sys::SECS_PER_DAY) as f64;

/// The monotonic clock, for waits. It is the same in all processes of the server, and cannot be
/// set; its origin is arbitrary.
pub fn monotonic() -> Micros {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes the time to the given address. Every supported system has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as Micros * 1_000_000 + time.tv_nsec as Micros / 1_000
}

/// A time in ISO 8601 in the session's time zone, as `to_jsonb` writes a timestamptz.
pub fn iso(at: Micros) -> String {
    // SAFETY: with a null buffer the function returns a palloc'ed C string.
    unsafe {
        let text = pg_sys::JsonEncodeDateTime(
            std::ptr::null_mut(),
            pg_sys::Datum::from(at),
            pg_sys::TIMESTAMPTZOID,
            std::ptr::null(),
        );
        CStr::from_ptr(text).to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// CLOCK_MONOTONIC in microseconds.
    fn since_boot() -> Micros {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: writes the time to the given address.
        let status = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
        assert_eq!(status, 0);
        time.tv_sec as Micros * 1_000_000 + time.tv_nsec as Micros / 1_000
    }

    #[test]
    fn waits_are_measured_by_the_monotonic_clock() {
        let before = since_boot();
        let now = monotonic();
        assert!((before..=since_boot()).contains(&now));
    }

    #[test]
    fn the_monotonic_clock_counts_microseconds() {
        let before = monotonic();
        std::thread::sleep(Duration::from_millis(3));
        assert!(monotonic() - before >= 3_000);
    }
}
