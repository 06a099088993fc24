//! The wall clock, the monotonic clock, and the text form of a time.

use flashsale_core::time::Micros;
use pgrx::pg_sys;
use std::cell::OnceCell;
use std::ffi::CStr;
use std::fs::File;
use std::os::unix::fs::FileExt;

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

/// The monotonic clock without the time for which this process has waited for a processor, where the
/// system says that. For what something else than a busy machine takes.
pub fn running_or_asleep() -> Micros {
    monotonic() - waited_for_processor().unwrap_or(0)
}

fn waited_for_processor() -> Option<Micros> {
    thread_local! {
        static FILE: OnceCell<Option<File>> = const { OnceCell::new() };
    }
    let mut text = [0; 64]; // three numbers: nanoseconds of running, of waiting, and how often
    let length = FILE.with(|file| {
        let file = file.get_or_init(|| File::open("/proc/thread-self/schedstat").ok());
        file.as_ref()?.read_at(&mut text, 0).ok()
    })?;
    let text = std::str::from_utf8(&text[..length]).ok()?;
    let nanoseconds: Micros = text.split(' ').nth(1)?.parse().ok()?;
    Some(nanoseconds / 1_000)
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
    use std::sync::atomic::{AtomicBool, Ordering};
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
    fn sleep_is_no_wait_for_a_processor() {
        let before = running_or_asleep();
        std::thread::sleep(Duration::from_millis(300));
        assert!(running_or_asleep() - before >= 200_000);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_wait_for_a_processor_does_not_count() {
        let waited = || waited_for_processor().expect("the system says");
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 * processors {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let began = (waited(), monotonic(), running_or_asleep());
            while waited() - began.0 < 20_000 && monotonic() - began.1 < 60_000_000 {}
            let left_out = (monotonic() - began.1) - (running_or_asleep() - began.2);
            is_over.store(true, Ordering::Relaxed);
            assert!(left_out >= 15_000, "{left_out}");
        });
    }

    #[test]
    fn the_monotonic_clock_counts_microseconds() {
        let before = monotonic();
        std::thread::sleep(Duration::from_millis(3));
        assert!(monotonic() - before >= 3_000);
    }
}
