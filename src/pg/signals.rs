//! Signals of the workers: PostgreSQL's own handlers, and the flags that they set.

use super::version::set_handler;
use libc::{SIGHUP, SIGTERM};
use pgrx::pg_sys::{self, GucContext};

// In pgrx's bindings these are Rust functions, which no signal can call.
unsafe extern "C-unwind" {
    fn die(signal: i32);
    fn SignalHandlerForConfigReload(signal: i32);
}

/// Installs the handlers for shutdown and reload in a new worker, and unblocks signals.
pub fn unblock() {
    // SAFETY: the handlers are PostgreSQL's own, and safe in a background worker.
    unsafe {
        set_handler(SIGTERM, die);
        set_handler(SIGHUP, SignalHandlerForConfigReload);
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// Reads the configuration file again if a reload was requested. Call it outside a transaction.
pub fn reload_if_requested() {
    // SAFETY: a flag of this process that its handler sets; PostgreSQL's own workers read the file
    // in their main loops in the same way.
    unsafe {
        let requested = &raw mut pg_sys::ConfigReloadPending;
        if requested.read_volatile() != 0 {
            requested.write_volatile(0);
            pg_sys::ProcessConfigFile(GucContext::PGC_SIGHUP);
        }
    }
}

/// Clears a cancel request that arrived while there was nothing to cancel.
pub fn clear_cancel() {
    // SAFETY: a flag of this process that its handler sets.
    unsafe { (&raw mut pg_sys::QueryCancelPending).write_volatile(0) };
}
