//! The launcher: the worker that starts the others while their database is there to be served. It
//! is connected to no database, so it keeps none from being dropped.

use crate::pg::worker::{self, Worker};
use crate::pg::{clock, session, signals};
use crate::{settings, workers};
use flashsale_core::launch::{DatabaseState, LOOK_AGAIN_AFTER, OnceAMinute, Starts};
use flashsale_core::time::{MILLISECOND, Micros};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// The workers that it starts, the most important one first. The seller is the one that finds out
/// whether the database is to be served; the others are started once it is.
const STARTED: [Worker; 3] = [Worker::Seller, Worker::Publisher, Worker::Reconciler];

#[pg_guard]
#[allow(unsafe_code)] // the postmaster looks it up by name
#[unsafe(no_mangle)]
pub extern "C-unwind" fn flashsale_launcher_main(_argument: pg_sys::Datum) {
    work();
}

/// Starts missing workers, as long as the server runs.
fn work() {
    worker::connect(None);
    if !workers::arrive(Worker::Launcher) {
        return;
    }
    session::before_exit(|| workers::leave(Worker::Launcher));
    workers::miss_seller();
    let mut launcher = Launcher::default();
    loop {
        signals::reload_if_requested();
        let wait = launcher.start_missing();
        worker::idle(wait.min(LOOK_AGAIN_AFTER) / MILLISECOND);
    }
}

#[derive(Default)]
struct Launcher {
    starts: [Starts; STARTED.len()],
    /// What was last logged about the database.
    logged: Option<DatabaseState>,
    no_database: OnceAMinute,
    no_process: OnceAMinute,
}

impl Launcher {
    /// Starts the workers that are not at work and should be. Returns how long to wait before
    /// this is to be called again, unless something happens meanwhile.
    fn start_missing(&mut self) -> Micros {
        let mut wait = LOOK_AGAIN_AFTER;
        let mut is_full = false;
        if !workers::is_at_work(Worker::Seller) {
            self.look_for_database();
        }
        self.log_database_state();
        for (worker, starts) in STARTED.into_iter().zip(&mut self.starts) {
            if workers::is_at_work(worker) {
                starts.arrived();
                continue;
            }
            let (state, found_at) = workers::database_state();
            starts.looked(found_at);
            if !is_wanted(worker, state) {
                continue;
            }
            let now = clock::monotonic();
            if starts.wait(now) == 0 {
                is_full |= !worker::start(worker);
                starts.started(now);
            }
            wait = wait.min(starts.wait(now));
        }
        workers::set_full(is_full);
        if is_full && self.no_process.may_pass(clock::monotonic()).is_some() {
            log!("flashsale: no background worker can be started; raise max_worker_processes");
        }
        wait
    }

    /// Notes whether the database exists, because an attempt to connect would be logged.
    fn look_for_database(&self) {
        let changes = workers::changes();
        let is_there = worker::can_connect(&settings::database());
        match workers::database_state() {
            _ if !is_there => workers::set_database_state(DatabaseState::NoDatabase, changes),
            (DatabaseState::NoDatabase, _) => {
                workers::set_database_state(DatabaseState::Unknown, changes)
            }
            _ => {}
        }
    }

    /// Writes to the log what was found: whenever that has changed, and while the database is
    /// missing, once a minute.
    fn log_database_state(&mut self) {
        let (state, _) = workers::database_state();
        let name = settings::database();
        let name = name.to_string_lossy();
        if state == DatabaseState::NoDatabase {
            if self.no_database.may_pass(clock::monotonic()).is_some() {
                log!(
                    "flashsale: the workers cannot connect to database \"{name}\", which \
                     flashsale.database names: it does not exist, or allows no connections"
                );
            }
        } else if state != DatabaseState::Unknown && self.logged != Some(state) {
            match state {
                DatabaseState::NoExtension => log!(
                    "flashsale: the workers wait until the extension is created in database \
                     \"{name}\", which flashsale.database names"
                ),
                DatabaseState::Copy => log!(
                    "flashsale: the workers leave database \"{name}\" alone, because its tables \
                     are the copy of a subscription"
                ),
                _ => log!("flashsale: the workers serve database \"{name}\""),
            }
        }
        if state != DatabaseState::Unknown {
            self.logged = Some(state);
        }
    }
}

/// Whether a worker that is not at work should be.
fn is_wanted(worker: Worker, state: DatabaseState) -> bool {
    match state {
        DatabaseState::Served => true,
        DatabaseState::NoDatabase => false,
        DatabaseState::Unknown => worker == Worker::Seller,
        DatabaseState::NoExtension | DatabaseState::Copy => {
            worker == Worker::Seller && workers::should_look_again()
        }
    }
}
