//! What a worker that serves a database does about the database: it arrives, looks whether it is
//! still to be served, and leaves if it is not, so that the database can be dropped.

use crate::error::Fault;
use crate::pg::subtransaction::End;
use crate::pg::worker::{self, Bounds, Worker};
use crate::pg::{clock, session};
use crate::store::lookups;
use crate::{settings, workers};
use flashsale_core::launch::{DatabaseState, LOOK_AGAIN_AFTER, OnceAMinute};
use flashsale_core::time::Micros;
use pgrx::log;
use pgrx::spi::Spi;

/// A transaction that only looks takes moments; this bounds its wait for a lock.
const BOUNDS: Bounds = Bounds {
    transaction_ms: 10_000,
    lock_wait_ms: 1_000,
};

/// The database that this worker serves, as it last saw it.
#[derive(Default)]
pub struct Database {
    is_served: bool,
    changes: i64,
    looked_at: Micros,
    log: OnceAMinute,
}

impl Database {
    /// Connects this process to the workers' database as `worker`, which `leave` ends when it exits.
    /// `None` if the database is not to be served, or cannot be looked at, or if another process is
    /// this worker: then it should exit.
    pub fn connect(worker: Worker, leave: fn()) -> Option<Self> {
        worker::connect(Some(&settings::database()));
        let mut database = Self::default();
        if !database.look() || !workers::arrive(worker) {
            return None;
        }
        session::before_exit(leave);
        Some(database)
    }

    /// Whether the database is still to be served. Looks only if something has changed, or if the
    /// last look is long ago. Call it outside a transaction.
    pub fn is_served(&mut self) -> bool {
        let is_recent = clock::monotonic() - self.looked_at < LOOK_AGAIN_AFTER;
        (is_recent && self.changes == workers::changes()) || self.look()
    }

    /// Looks and notes what was found. If the look fails, nothing is known to have changed; the log
    /// says so.
    fn look(&mut self) -> bool {
        self.changes = workers::changes();
        self.looked_at = clock::monotonic();
        let look = || Ok::<_, Fault>(End::Commit(Spi::connect(lookups::database_state)?));
        match worker::transaction(None, BOUNDS, look) {
            Ok((state, _)) => {
                workers::set_database_state(state, self.changes);
                self.is_served = state == DatabaseState::Served;
            }
            Err(fault) if self.log.may_pass(self.looked_at).is_some() => {
                log!("flashsale: cannot find out whether the database is to be served: {fault}");
            }
            Err(_) => {}
        }
        self.is_served
    }
}
