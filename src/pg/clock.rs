//! Time as PostgreSQL counts it: microseconds since 2000-01-01 UTC.

/// A point in time, or a span, in microseconds.
pub type Micros = i64;

/// The wall clock. Decisions read it after they hold the lock they wait for, so
/// that time spent waiting is not taken from the buyer.
pub fn now() -> Micros {
    // SAFETY: reads the clock, nothing else.
    unsafe { pgrx::pg_sys::GetCurrentTimestamp() }
}

/// ISO 8601 in the session's time zone, as `to_jsonb` writes a timestamptz.
pub fn iso(at: Micros) -> String {
    use pgrx::pg_sys;
    // SAFETY: with a null buffer the function palloc's and returns a C string.
    unsafe {
        let text = pg_sys::JsonEncodeDateTime(
            std::ptr::null_mut(),
            pg_sys::Datum::from(at),
            pg_sys::TIMESTAMPTZOID,
            std::ptr::null(),
        );
        std::ffi::CStr::from_ptr(text)
            .to_string_lossy()
            .into_owned()
    }
}
