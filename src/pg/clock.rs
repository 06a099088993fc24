//! The wall clock, and how a time is written.

use flashsale_core::time::Micros;
use pgrx::pg_sys;
use std::ffi::CStr;

/// The wall clock, for what is stored or shown. Decisions read it after they hold the lock they
/// wait for, so that time spent waiting is not taken from the buyer.
pub fn now() -> Micros {
    // SAFETY: reads the clock, nothing else.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// From the beginning of 1970 to that of PostgreSQL's timestamps.
pub const UNIX_EPOCH_TO_POSTGRES_SECONDS: f64 =
    ((pg_sys::POSTGRES_EPOCH_JDATE - pg_sys::UNIX_EPOCH_JDATE) * pg_sys::SECS_PER_DAY) as f64;

/// A clock for waits, which nobody can set. All processes of the server read the same one; what
/// it counts from is of no meaning.
pub fn monotonic() -> Micros {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes the time into the place it is given. Every system we build on has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as Micros * 1_000_000 + time.tv_nsec as Micros / 1_000
}

/// ISO 8601 in the session's time zone, as `to_jsonb` writes a timestamptz.
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
    use super::monotonic;
    use std::time::Duration;

    #[test]
    fn the_monotonic_clock_counts_microseconds() {
        let before = monotonic();
        std::thread::sleep(Duration::from_millis(3));
        assert!(monotonic() - before >= 3_000);
    }
}
