//! What a worker that serves a database does about the database: it arrives, looks whether it is
//! still to be served, and leaves if it is not, so that the database can be dropped.

use crate::error::Fault;
use crate::pg::subtransaction::End;
use crate::pg::worker::{self, Bounds, Worker};
use crate::pg::{clock, session};
use crate::store::lookups;
use crate::{settings, workers};
use flashsale_core::launch::{LOOK_AGAIN_AFTER, Place};
use flashsale_core::time::Micros;
use pgrx::spi::Spi;

/// A transaction that only looks takes moments; this bounds its wait for a lock.
const BOUNDS: Bounds = Bounds {
    transaction_ms: 10_000,
    lock_wait_ms: 1_000,
};

/// A worker's knowledge of its database.
pub struct Lookout {
    news: i64,
    looked_at: Micros,
}

impl Lookout {
    /// Connects this process to the workers' database as `worker`, which `leave` ends when it exits.
    /// `None` if the database is not to be served, or if another process is this worker: then it
    /// should exit.
    pub fn arrive(worker: Worker, leave: fn()) -> Option<Self> {
        worker::connect(Some(&settings::database()));
        let mut lookout = Self {
            news: 0,
            looked_at: 0,
        };
        if !lookout.look() || !workers::arrive(worker) {
            return None;
        }
        session::before_exit(leave);
        Some(lookout)
    }

    /// Whether the database is still to be served. Looks only if there is news, or if the last look
    /// is long ago. Call it outside a transaction.
    pub fn is_served(&mut self) -> bool {
        let is_recent = clock::monotonic() - self.looked_at < LOOK_AGAIN_AFTER;
        (is_recent && self.news == workers::news()) || self.look()
    }

    /// Looks and notes what was found. If the look fails, nothing is known to have changed.
    fn look(&mut self) -> bool {
        self.news = workers::news();
        self.looked_at = clock::monotonic();
        let look = || Ok::<_, Fault>(End::Commit(Spi::connect(lookups::place)?));
        match worker::transaction(None, BOUNDS, look) {
            Ok((place, _)) => {
                workers::found(place, self.news);
                place == Place::Served
            }
            Err(_) => true,
        }
    }
}
