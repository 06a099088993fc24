//! Rust's backtraces, which are not for clients.

use std::backtrace::Backtrace;

/// Whether std::backtrace makes any, in order of precedence.
const VARIABLE: &str = "RUST_LIB_BACKTRACE";

/// Keeps pgrx from adding the frames of a stack to the DETAIL of every error, as it does where
/// RUST_BACKTRACE stands in the server's environment. The standard library looks at the
/// environment once, for the first backtrace; so that one is asked for here, while a variable
/// that comes before RUST_BACKTRACE says no. Call it when the library is loaded.
pub fn disable() {
    let before = std::env::var_os(VARIABLE);
    // SAFETY: the process has one thread; nobody reads the environment meanwhile.
    unsafe { std::env::set_var(VARIABLE, "0") };
    let _ = Backtrace::capture();
    // SAFETY: as above. What the process starts finds the environment as it was.
    unsafe {
        match before {
            Some(value) => std::env::set_var(VARIABLE, value),
            None => std::env::remove_var(VARIABLE),
        }
    }
}
