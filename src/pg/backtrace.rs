//! Keeps Rust's backtraces out of errors that are sent to clients.

use std::backtrace::Backtrace;

/// The environment variable that turns backtraces on or off, and takes precedence over
/// RUST_BACKTRACE.
const VARIABLE: &str = "RUST_LIB_BACKTRACE";

/// Keeps pgrx from adding a stack trace to the DETAIL of every error, which it does if
/// RUST_BACKTRACE is set in the server's environment. The standard library reads the environment
/// only once, for the first backtrace. So the first one is requested here, while the variable that
/// takes precedence turns it off. Call this function when the library is loaded.
pub fn disable() {
    let before = std::env::var_os(VARIABLE);
    // SAFETY: the process has one thread, so no other thread reads the environment meanwhile.
    unsafe { std::env::set_var(VARIABLE, "0") };
    let _ = Backtrace::capture();
    // SAFETY: as above. Child processes find the environment unchanged.
    unsafe {
        match before {
            Some(value) => std::env::set_var(VARIABLE, value),
            None => std::env::remove_var(VARIABLE),
        }
    }
}
