//! Signals as the workers take them: PostgreSQL's own handlers, and what their flags ask for.

use super::version::set_handler;
use libc::{SIGHUP, SIGTERM};
use pgrx::pg_sys::{self, GucContext};

// In pgrx's bindings these are Rust functions, which no signal can call.
unsafe extern "C-unwind" {
    fn die(signal: i32);
    fn SignalHandlerForConfigReload(signal: i32);
}

/// Lets a new worker be shut down and told to read the configuration again.
pub fn unblock() {
    // SAFETY: the handlers are PostgreSQL's own, and safe in a background worker.
    unsafe {
        set_handler(SIGTERM, die);
        set_handler(SIGHUP, SignalHandlerForConfigReload);
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// Takes up a changed configuration. Call it outside a transaction.
pub fn reload_if_asked() {
    // SAFETY: a flag of this process that its handler sets; the file is read where PostgreSQL's
    // own workers read it.
    unsafe {
        let asked = &raw mut pg_sys::ConfigReloadPending;
        if asked.read_volatile() != 0 {
            asked.write_volatile(0);
            pg_sys::ProcessConfigFile(GucContext::PGC_SIGHUP);
        }
    }
}

/// A cancel that came where there is nothing to cancel is forgotten.
pub fn forget_cancel() {
    // SAFETY: a flag of this process that its handler sets.
    unsafe { (&raw mut pg_sys::QueryCancelPending).write_volatile(0) };
}
