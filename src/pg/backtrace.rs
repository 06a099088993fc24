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

#[cfg(feature = "pg_test")]
#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    #[pg_extern]
    fn panics() {
        panic!("a panic of a test");
    }

    #[pg_test]
    fn a_client_sees_the_message_of_a_panic_and_no_frames() {
        // SAFETY: the process has one thread, so no other thread reads the environment meanwhile.
        unsafe { std::env::set_var("RUST_BACKTRACE", "full") };
        let caught = "
            CREATE FUNCTION caught(OUT message text, OUT more text) LANGUAGE plpgsql AS $$
            BEGIN
                PERFORM tests.panics();
            EXCEPTION WHEN OTHERS THEN
                GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, more = PG_EXCEPTION_DETAIL;
            END $$";
        Spi::run(caught).unwrap();
        let (message, more) =
            Spi::get_two::<String, String>("SELECT message, more FROM caught()").unwrap();
        assert_eq!(message.as_deref(), Some("a panic of a test"));
        assert_eq!(more.as_deref(), Some(""));
    }
}
