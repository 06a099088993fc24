//! Signals as the workers take them: PostgreSQL's own handlers, and what their flags ask for.

use super::version::set_handler;
use pgrx::pg_sys::{self, GucContext};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

// In pgrx's bindings these are Rust functions, which no signal can call.
unsafe extern "C-unwind" {
    fn die(signal: i32);
    fn SignalHandlerForConfigReload(signal: i32);
    fn StatementCancelHandler(signal: i32);
}

unsafe extern "C-unwind" fn turn_away(_signal: i32) {}

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

/// Whether this process has been told to end.
pub fn is_shutdown_asked() -> bool {
    // SAFETY: a flag of this process that its handler sets.
    unsafe { (&raw const pg_sys::ProcDiePending).read_volatile() != 0 }
}

/// Runs `body` so that no cancel ends it. It must not raise an error.
pub fn turning_cancels_away(body: impl FnOnce()) {
    // SAFETY: this worker's handler, put back at once. Interrupts are held meanwhile, so that
    // none is served in between and the count is as it was afterwards.
    unsafe {
        set_handler(SIGINT, turn_away);
        forget_cancel();
        pg_sys::InterruptHoldoffCount += 1;
        body();
        pg_sys::InterruptHoldoffCount -= 1;
        set_handler(SIGINT, StatementCancelHandler);
    }
}
