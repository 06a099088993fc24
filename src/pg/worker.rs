//! What the workers share: registration, connection, waiting, and transactions as the owner.

use crate::error::Fault;
use crate::pg::clock;
use crate::pg::memory::Shared;
use crate::pg::version::pqsignal;
use crate::pg::wait::{self, WaitFor};
use crate::settings;
use pgrx::PgTryBuilder;
use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::pg_sys::{self, GucContext, GucSource, Oid, XLogRecPtr};
use std::ffi::{CStr, CString};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One second is the least PostgreSQL knows.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// How long to stay away from a database that could not be connected to.
const RECONNECT_AFTER_MS: i64 = 2_000;

/// What a worker relies on, whatever is set for its database or role.
const SETTINGS: &[(&CStr, &CStr)] = &[
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    (c"transaction_timeout", c"0"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_deferrable", c"off"),
    (c"statement_timeout", c"0"),
    (c"idle_in_transaction_session_timeout", c"0"),
    (c"session_replication_role", c"origin"),
    (c"enable_seqscan", c"off"),
    (c"enable_bitmapscan", c"off"),
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"jit", c"off"),
];

/// Registers a worker with the postmaster; started once recovery has finished, and
/// again whenever it ends.
pub fn register(name: &str, function: &str) {
    BackgroundWorkerBuilder::new(name)
        .set_type(name)
        .set_library("flashsale")
        .set_function(function)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(RESTART_AFTER))
        .load();
}

/// The workers there are.
#[derive(Clone, Copy)]
pub enum Worker {
    Seller,
    Publisher,
    Reconciler,
}

/// Which workers could not connect, remembered beyond the life of their processes.
pub static CONNECTING: Shared<[AtomicBool; 3]> = Shared::new(c"flashsale workers");

/// Connects to `flashsale.database`; stays away for a while if the last attempt failed,
/// as it does while there is no such database.
pub fn connect(worker: Worker) {
    // SAFETY: the handlers are PostgreSQL's own.
    unsafe {
        pqsignal(SIGTERM, Some(die));
        pqsignal(SIGHUP, Some(SignalHandlerForConfigReload));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
    let connecting = CONNECTING.get().map(|flags| &flags[worker as usize]);
    if connecting.is_some_and(|flag| flag.swap(true, Ordering::Relaxed)) {
        sleep(RECONNECT_AFTER_MS);
    }
    let database = settings::database();
    // SAFETY: connects as the bootstrap superuser; each transaction becomes the owner.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnection(database.as_ptr(), std::ptr::null(), 0);
    }
    if let Some(flag) = connecting {
        flag.store(false, Ordering::Relaxed);
    }
    for &(name, value) in SETTINGS {
        set(name, value);
    }
    set_lock_timeout();
}

/// Sleeps until the time is over, whoever wakes the process meanwhile.
pub fn sleep(milliseconds: i64) {
    let until = clock::now() + milliseconds * 1_000;
    while clock::now() < until {
        nap((until - clock::now()) / 1_000);
    }
}

const SIGHUP: i32 = 1;
const SIGTERM: i32 = 15;

/// Sets a setting of this worker above what the database or the file says.
pub fn set(name: &CStr, value: &CStr) {
    // SAFETY: two NUL-terminated texts.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            GucContext::PGC_SUSET,
            GucSource::PGC_S_OVERRIDE,
        );
    }
}

/// A tenth of the bound on all of it, so that one wait is told from a long day's work.
fn set_lock_timeout() {
    let milliseconds = (settings::group_wait_ms() / 10).max(10);
    let value = CString::new(milliseconds.to_string()).expect("digits hold no NUL");
    set(c"lock_timeout", &value);
}

/// Takes up a changed configuration.
pub fn reload_if_asked() {
    // SAFETY: the flag is set by our signal handler, and the file read outside a transaction.
    unsafe {
        if pg_sys::ConfigReloadPending != 0 {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(GucContext::PGC_SIGHUP);
            set_lock_timeout();
        }
    }
}

/// Sleeps until woken or the time is over, outside a transaction, having reported what
/// autovacuum wants to know.
pub fn idle(at_most_ms: i64) {
    report_statistics();
    nap(at_most_ms);
}

/// Reports what autovacuum wants to know; does nothing more than once a second.
pub fn report_statistics() {
    // SAFETY: this process is connected and outside a transaction.
    unsafe { pg_sys::pgstat_report_stat(false) };
}

/// A cancel has nothing to cancel outside a transaction; a shutdown ends the process.
pub fn serve_interrupts() {
    // SAFETY: a flag of this process's own.
    unsafe { pg_sys::QueryCancelPending = 0 };
    pgrx::check_for_interrupts!();
}

fn nap(at_most_ms: i64) {
    wait::wait_latch(WaitFor::Work, at_most_ms.max(1));
    serve_interrupts();
}

/// Shows in pg_stat_activity what the worker does.
pub fn report(doing: Option<&str>) {
    let text = doing.and_then(|doing| CString::new(doing).ok());
    let (state, text) = match &text {
        Some(text) => (pg_sys::BackendState::STATE_RUNNING, text.as_ptr()),
        None => (pg_sys::BackendState::STATE_IDLE, std::ptr::null()),
    };
    // SAFETY: the text is copied.
    unsafe { pg_sys::pgstat_report_activity(state, text) };
}

/// A transaction of a worker's, as the owner of the functions and with a bound on its time.
pub struct Transaction {
    user: Oid,
    context: i32,
}

// Not in pgrx's bindings, or there as Rust functions that no signal can call.
unsafe extern "C-unwind" {
    fn die(signal: i32);
    fn SignalHandlerForConfigReload(signal: i32);
    pub fn StatementCancelHandler(signal: i32);
    fn enable_timeout_after(id: i32, delay_ms: i32);
    fn disable_timeout(id: i32, keep_indicator: bool);
    fn disable_all_timeouts(keep_indicators: bool);
}

/// The same in 15 to 18.
const STATEMENT_TIMEOUT: i32 = 3;

impl Transaction {
    /// Begins one as whoever the worker was last, to look at catalogs.
    pub fn begin(at_most_ms: i64) -> Self {
        // SAFETY: reads this process's own state.
        Self::begin_as(unsafe { pg_sys::GetSessionUserId() }, at_most_ms)
    }

    /// Begins one. Session user and current user are the owner, and neither can be
    /// changed back: triggers of the owner's run in here, and the worker is a superuser.
    pub fn begin_as(owner: Oid, at_most_ms: i64) -> Self {
        let mut this = Self {
            user: Oid::INVALID,
            context: 0,
        };
        // SAFETY: called outside a transaction, as PostgreSQL's own workers do it.
        unsafe {
            // What a trigger of the shop's left set in an earlier one.
            pg_sys::ResetAllOptions();
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            enable_timeout_after(STATEMENT_TIMEOUT, at_most_ms as i32);
            if pg_sys::GetSessionUserId() != owner {
                pg_sys::SetSessionAuthorization(owner, pg_sys::superuser_arg(owner));
            }
            pg_sys::GetUserIdAndSecContext(&mut this.user, &mut this.context);
            let context = this.context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32;
            pg_sys::SetUserIdAndSecContext(owner, context);
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        this
    }

    /// Commits, deferred triggers included, and returns where the commit ends in the log.
    pub fn commit(self) -> XLogRecPtr {
        // SAFETY: ends what begin_as began. A timeout that came too late is forgotten.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
            disable_timeout(STATEMENT_TIMEOUT, false);
            pg_sys::QueryCancelPending = 0;
            pg_sys::SetUserIdAndSecContext(self.user, self.context);
            pg_sys::XactLastCommitEnd
        }
    }
}

/// Runs what may fail; an error of any kind rolls back and is returned.
pub fn guarded<T>(body: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    let done = PgTryBuilder::new(AssertUnwindSafe(body))
        .catch_others(|error| Err(Fault::from(&error)))
        .execute();
    if done.is_err() {
        abort();
    }
    done
}

/// Rolls back whatever is under way; user and snapshots are put back with it.
pub fn abort() {
    // SAFETY: PostgreSQL's own sequence after an error in a worker.
    unsafe {
        disable_all_timeouts(false);
        pg_sys::QueryCancelPending = 0;
        pg_sys::InterruptHoldoffCount += 1;
        pg_sys::AbortCurrentTransaction();
        pg_sys::InterruptHoldoffCount -= 1;
    }
}
