//! What the workers share: registration, connection, waiting, and transactions as the owner.

use super::subtransaction::End;
use super::wait::{self, WaitFor};
use super::{clock, guc, session, signals, version, wal};
use pgrx::PgTryBuilder;
use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::pg_sys::submodules::utils::name_data_to_str;
use pgrx::pg_sys::{self, Oid, XLogRecPtr};
use std::ffi::{CStr, CString};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// One second is the minimum that PostgreSQL allows.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Settings that a worker relies on. They override those of its database or role.
const SETTINGS: &[(&CStr, &CStr)] = &[
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_deferrable", c"off"),
    (c"statement_timeout", c"0"),
    (c"idle_in_transaction_session_timeout", c"0"),
    (c"session_replication_role", c"origin"),
    (c"search_path", guc::SEARCH_PATH),
    (c"jit", c"off"),
];

/// The workers, in the order in which they are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    Launcher,
    Seller,
    Publisher,
    Reconciler,
}

/// How many workers there are.
pub const WORKERS: usize = 4;

impl Worker {
    /// The name that pg_stat_activity shows, and the function that the process runs.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Launcher => ("flashsale launcher", "flashsale_launcher_main"),
            Self::Seller => ("flashsale seller", "flashsale_seller_main"),
            Self::Publisher => ("flashsale publisher", "flashsale_publisher_main"),
            Self::Reconciler => ("flashsale reconciler", "flashsale_reconciler_main"),
        }
    }

    fn builder(self) -> BackgroundWorkerBuilder {
        let (name, function) = self.names();
        BackgroundWorkerBuilder::new(name)
            .set_type(name)
            .set_library("flashsale")
            .set_function(function)
            .enable_spi_access()
            .set_start_time(BgWorkerStartTime::RecoveryFinished)
    }
}

/// Registers the launcher with the postmaster, which starts it once recovery has finished, and
/// restarts it whenever it exits. Call it while the library is preloaded.
pub fn register_launcher() {
    let launcher = Worker::Launcher.builder();
    launcher.set_restart_time(Some(RESTART_AFTER)).load();
}

/// Starts a worker, once; false if `max_worker_processes` are running already. Nobody restarts it.
pub fn start(worker: Worker) -> bool {
    worker.builder().load_dynamic().is_ok()
}

/// Connects to the database, or, without a name, only to the catalogs that all databases share. A
/// process cannot connect a second time.
pub fn connect(database: Option<&CStr>) {
    signals::unblock();
    // SAFETY: null or a NUL-terminated name. The worker connects as the bootstrap superuser; each
    // transaction acts as the owner.
    unsafe {
        let database = database.map_or(std::ptr::null(), CStr::as_ptr);
        pg_sys::BackgroundWorkerInitializeConnection(database, std::ptr::null(), 0);
    }
    for &(name, value) in SETTINGS.iter().chain(version::WORKER_SETTINGS) {
        guc::override_for_process(name, value);
    }
}

/// Whether a database of this name exists and lets processes connect. Call it outside a transaction.
pub fn can_connect(database: &CStr) -> bool {
    let is_it = |row: &pg_sys::FormData_pg_database| {
        row.datallowconn && name_data_to_str(&row.datname).as_bytes() == database.to_bytes()
    };
    let mut found = false;
    // SAFETY: this process is connected. The table is read without an index, as autovacuum's
    // launcher reads it: right after the server's first start a process without a database knows
    // no index. Its rows begin with the fixed columns.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::GetTransactionSnapshot();
        let lock = pg_sys::AccessShareLock as i32;
        let table = pg_sys::table_open(pg_sys::DatabaseRelationId, lock);
        let scan = pg_sys::table_beginscan_catalog(table, 0, std::ptr::null_mut());
        loop {
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            let tuple = pg_sys::heap_getnext(scan, forward);
            if tuple.is_null() || found {
                break;
            }
            found = is_it(&*pg_sys::GETSTRUCT(tuple).cast());
        }
        pg_sys::table_endscan(scan);
        pg_sys::table_close(table, lock);
        pg_sys::CommitTransactionCommand();
    }
    found
}

/// Memory that this process frees stays with it. Otherwise it is given back to the system after each
/// transaction, and taken again for the next one.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const MOST_KEPT: i32 = 16 << 20;
        // SAFETY: sets numbers of the allocator.
        unsafe {
            libc::mallopt(libc::M_TRIM_THRESHOLD, MOST_KEPT);
            libc::mallopt(libc::M_MMAP_THRESHOLD, MOST_KEPT);
        }
    }
}

/// Sleeps for the whole time, even if the latch is set meanwhile.
pub fn sleep(milliseconds: i64) {
    let until = clock::monotonic() + milliseconds * 1_000;
    while clock::monotonic() < until {
        nap((until - clock::monotonic()) / 1_000);
    }
}

/// Reports statistics, and then sleeps until woken or the time is over. Call it outside a
/// transaction.
pub fn idle(at_most_ms: i64) {
    report_statistics();
    nap(at_most_ms);
}

fn nap(at_most_ms: i64) {
    wait::wait_latch(WaitFor::Work, at_most_ms.max(1));
    serve_interrupts();
}

/// Serves interrupts outside a transaction: a cancel has no effect, a shutdown ends the process.
pub fn serve_interrupts() {
    signals::clear_cancel();
    pgrx::check_for_interrupts!();
}

/// Reports table statistics, on which autovacuum depends; at most once a second.
pub fn report_statistics() {
    // SAFETY: this process is connected and outside a transaction.
    unsafe { pg_sys::pgstat_report_stat(false) };
}

/// Shows the worker's current activity in pg_stat_activity; `None`: idle.
pub fn report(doing: Option<&str>) {
    let text = doing.and_then(|doing| CString::new(doing).ok());
    let (state, text) = match &text {
        Some(text) => (pg_sys::BackendState::STATE_RUNNING, text.as_ptr()),
        None => (pg_sys::BackendState::STATE_IDLE, std::ptr::null()),
    };
    // SAFETY: null or a NUL-terminated text, which is copied.
    unsafe { pg_sys::pgstat_report_activity(state, text) };
}

// Not in pgrx's bindings. None of them raises an error.
unsafe extern "C-unwind" {
    fn enable_timeout_after(id: i32, delay_ms: i32);
    fn disable_timeout(id: i32, keep_indicator: bool);
    fn disable_all_timeouts(keep_indicators: bool);
}

/// The longest time that a transaction, and each of its lock waits, may take, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub transaction_ms: i64,
    pub lock_wait_ms: i64,
}

/// Runs `body` in a transaction of this worker, as `owner` or, if that is `None`, as the current
/// session user. It ends as `body` determines. An error of any kind, also of the commit, rolls it
/// back and is returned. Returns the value of `body`, and the WAL position up to which the WAL must
/// be durable before that value is published.
pub fn transaction<T, E>(
    owner: Option<Oid>,
    bounds: Bounds,
    body: impl FnOnce() -> Result<End<T>, E>,
) -> Result<(T, XLogRecPtr), E>
where
    E: for<'a> From<&'a CaughtError>,
{
    let run = || {
        let before = begin(owner.unwrap_or_else(session::session_user), bounds);
        Ok(match body()? {
            End::Commit(done) => (done, Some(commit(before))),
            End::RollBack(done) => (done, None),
        })
    };
    let ended = PgTryBuilder::new(AssertUnwindSafe(run))
        .catch_others(|error| Err(E::from(&error)))
        .execute();
    if !matches!(ended, Ok((_, Some(_)))) {
        roll_back();
    }
    // The value may report a commit of another transaction that is not durable yet.
    ended.map(|(done, end)| (done, end.unwrap_or_else(wal::written_so_far)))
}

/// The user that the worker acted as before a transaction.
struct User {
    id: Oid,
    context: i32,
}

/// Begins a transaction in which session user and current user are the owner, and cannot be changed
/// back: the owner's triggers run in it, and the worker is a superuser.
fn begin(owner: Oid, bounds: Bounds) -> User {
    guc::reset_all(); // a trigger may have changed settings in an earlier transaction
    guc::override_lock_timeout(bounds.lock_wait_ms as i32);
    let mut before = User {
        id: Oid::INVALID,
        context: 0,
    };
    // SAFETY: called outside a transaction, in the order in which PostgreSQL's own workers do it.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        enable_timeout_after(version::STATEMENT_TIMEOUT, bounds.transaction_ms as i32);
        if session::session_user() != owner {
            pg_sys::SetSessionAuthorization(owner, pg_sys::superuser_arg(owner));
        }
        pg_sys::GetUserIdAndSecContext(&mut before.id, &mut before.context);
        let context = before.context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32;
        pg_sys::SetUserIdAndSecContext(owner, context);
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
    }
    before
}

/// Commits, running deferred triggers, and returns the WAL position at which the commit ends.
fn commit(before: User) -> XLogRecPtr {
    // SAFETY: ends the transaction that begin() began. Its snapshot is the active one, as those
    // pushed after it have been popped.
    unsafe {
        pg_sys::PopActiveSnapshot();
        pg_sys::CommitTransactionCommand();
        disable_timeout(version::STATEMENT_TIMEOUT, false);
        signals::clear_cancel(); // the timeout may have fired after the commit
        pg_sys::SetUserIdAndSecContext(before.id, before.context);
        pg_sys::XactLastCommitEnd
    }
}

/// Rolls back the current transaction, which restores the user and the snapshots.
fn roll_back() {
    // SAFETY: PostgreSQL's own sequence after an error in a worker.
    unsafe {
        disable_all_timeouts(false);
        signals::clear_cancel();
        pg_sys::InterruptHoldoffCount += 1;
        pg_sys::AbortCurrentTransaction();
        pg_sys::InterruptHoldoffCount -= 1;
    }
}
