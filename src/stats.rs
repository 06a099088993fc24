//! Counters of the whole server in shared memory, shown by the view `stats`.

use crate::error::Fault;
use crate::pg::clock;
use crate::pg::memory::Shared;
use crate::settings::Strategy;
use flashsale_core::outcome::Outcome;
use flashsale_core::reason::Reason;
use flashsale_core::time::Micros;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// All counters, which are updated without a lock.
pub static STATS: Shared<[AtomicI64; COUNTERS]> = Shared::new(c"flashsale stats");

/// How a purchase was made: under one of the strategies, or in a batch.
#[derive(Clone, Copy)]
pub enum Door {
    Nowait,
    Optimistic,
    Atomic,
    Grouped,
    Batch,
}

const DOORS: [(Door, &str); 5] = [
    (Door::Nowait, "nowait"),
    (Door::Optimistic, "optimistic"),
    (Door::Atomic, "atomic"),
    (Door::Grouped, "grouped"),
    (Door::Batch, "batch"),
];

impl From<Strategy> for Door {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Nowait => Self::Nowait,
            Strategy::Optimistic => Self::Optimistic,
            Strategy::Atomic => Self::Atomic,
            Strategy::Grouped => Self::Grouped,
        }
    }
}

const REASONS: [Reason; 12] = [
    Reason::ItemNotFound,
    Reason::OutOfStock,
    Reason::Busy,
    Reason::Conflict,
    Reason::SaleNotStarted,
    Reason::SaleEnded,
    Reason::SalePaused,
    Reason::UserLimitReached,
    Reason::IdempotencyKeyReused,
    Reason::OrderCancelled,
    Reason::OrderExpired,
    Reason::OrderRefunded,
];
const RESERVED: usize = REASONS.len();
const REPLAYED: usize = RESERVED + 1;
const OUTCOMES: usize = REPLAYED + 1;

/// The counters other than those of purchases.
#[derive(Clone, Copy)]
enum Counter {
    GateHits,
    GateShut,
    Batches,
    Requests,
    LargestBatch,
    QueueWait,
    LongestQueueWait,
    SellerErrors,
    Runs,
    Expired,
    RunErrors,
    LastRun,
    Backlog,
    ResetAt,
}

const SINGLES: usize = Counter::ResetAt as usize + 1;
const COUNTERS: usize = SINGLES + DOORS.len() * OUTCOMES;

impl Counter {
    fn of(self, counters: &[AtomicI64; COUNTERS]) -> &AtomicI64 {
        &counters[self as usize]
    }

    fn add(self, by: i64) {
        if let Some(counters) = STATS.get() {
            self.of(counters).fetch_add(by, Relaxed);
        }
    }
}

/// The index of the counter of purchases made through a door, with an outcome.
fn purchases(door: Door, which: usize) -> usize {
    SINGLES + door as usize * OUTCOMES + which
}

/// The number of an outcome among the counters of a door. Purchases are refused only for the
/// reasons above; a refusal for another reason would not be counted.
fn which(outcome: &Outcome) -> Option<usize> {
    match (outcome, outcome.reason()) {
        (Outcome::Reserved { replayed: true, .. }, _) => Some(REPLAYED),
        (_, Some(reason)) => REASONS.iter().position(|&one| one == reason),
        (_, None) => Some(RESERVED),
    }
}

/// Counts an answer, whether or not its transaction commits.
pub fn answered(door: Door, outcome: &Outcome) {
    if let (Some(counters), Some(which)) = (STATS.get(), which(outcome)) {
        counters[purchases(door, which)].fetch_add(1, Relaxed);
    }
}

pub fn gate_hit() {
    Counter::GateHits.add(1);
}

pub fn gate_shut() {
    Counter::GateShut.add(1);
}

/// Counts a batch of requests that were queued at these times of the monotonic clock.
pub fn seller_took(queued_at: impl ExactSizeIterator<Item = Micros>) {
    let Some(counters) = STATS.get() else { return };
    let size = queued_at.len() as i64;
    if size == 0 {
        return;
    }
    let now = clock::monotonic();
    Counter::Batches.of(counters).fetch_add(1, Relaxed);
    Counter::Requests.of(counters).fetch_add(size, Relaxed);
    Counter::LargestBatch.of(counters).fetch_max(size, Relaxed);
    for at in queued_at {
        Counter::QueueWait.of(counters).fetch_add(now - at, Relaxed);
        Counter::LongestQueueWait
            .of(counters)
            .fetch_max(now - at, Relaxed);
    }
}

/// Counts a transaction of the seller that failed for a reason other than a lock.
pub fn seller_failed() {
    Counter::SellerErrors.add(1);
}

/// Adds the orders that the reconciler expired, and sets its backlog, the orders that it skipped.
pub fn expired(expired: i64, backlog: i64) {
    let Some(counters) = STATS.get() else { return };
    Counter::Expired.of(counters).fetch_add(expired, Relaxed);
    Counter::Backlog.of(counters).store(backlog, Relaxed);
}

/// Counts a run of the reconciler.
pub fn reconciled() {
    let Some(counters) = STATS.get() else { return };
    Counter::Runs.of(counters).fetch_add(1, Relaxed);
    Counter::LastRun.of(counters).store(clock::now(), Relaxed);
}

pub fn reconciler_failed() {
    Counter::RunErrors.add(1);
}

/// One row of the view: subject, strategy (for purchases), name and value.
pub type Line = (&'static str, Option<&'static str>, &'static str, f64);

/// The rows of the view; `waiting` is the number of requests that wait for the seller, and
/// `oldest_since` when the oldest of them was queued, by the monotonic clock. Raises 55000 without
/// preload.
pub fn lines(waiting: usize, oldest_since: Option<Micros>) -> Result<Vec<Line>, Fault> {
    let counters = STATS.get().ok_or(Fault::NotPreloaded("flashsale.stats"))?;
    let oldest_wait = oldest_since.map_or(0.0, |at| (clock::monotonic() - at) as f64 / 1e6);
    let mut lines = Vec::new();
    for (door, strategy) in DOORS {
        for which in 0..OUTCOMES {
            let name = match which {
                RESERVED => "reserved",
                REPLAYED => "replayed",
                which => REASONS[which].code(),
            };
            let count = counters[purchases(door, which)].load(Relaxed);
            lines.push(("purchases", Some(strategy), name, count as f64));
        }
    }
    let value = |counter: Counter| counter.of(counters).load(Relaxed) as f64;
    let seconds = |counter: Counter| value(counter) / 1e6;
    let mut line = |subject, name, value| lines.push((subject, None, name, value));
    line("gate", "hits", value(Counter::GateHits));
    line("gate", "shut", value(Counter::GateShut));
    line("seller", "batches", value(Counter::Batches));
    line("seller", "requests", value(Counter::Requests));
    line("seller", "largest_batch", value(Counter::LargestBatch));
    line("seller", "queue_wait_seconds", seconds(Counter::QueueWait));
    line(
        "seller",
        "longest_queue_wait_seconds",
        seconds(Counter::LongestQueueWait),
    );
    line("seller", "waiting", waiting as f64);
    line("seller", "oldest_wait_seconds", oldest_wait);
    line("seller", "errors", value(Counter::SellerErrors));
    line("reconciler", "runs", value(Counter::Runs));
    line("reconciler", "expired", value(Counter::Expired));
    line("reconciler", "errors", value(Counter::RunErrors));
    line("reconciler", "backlog", value(Counter::Backlog));
    line(
        "reconciler",
        "last_run",
        unix_seconds(Counter::LastRun.of(counters)),
    );
    line(
        "stats",
        "reset",
        unix_seconds(Counter::ResetAt.of(counters)),
    );
    Ok(lines)
}

/// A time in seconds since 1970; 0 if the counter was never set.
fn unix_seconds(counter: &AtomicI64) -> f64 {
    match counter.load(Relaxed) {
        0 => 0.0,
        at => at as f64 / 1e6 + clock::UNIX_EPOCH_TO_POSTGRES_SECONDS,
    }
}

/// Sets every counter to zero, except the reconciler's backlog and last run.
pub fn reset() -> Result<(), Fault> {
    let counters = STATS
        .get()
        .ok_or(Fault::NotPreloaded("flashsale.stats_reset"))?;
    for (nth, counter) in counters.iter().enumerate() {
        if ![Counter::Backlog as usize, Counter::LastRun as usize].contains(&nth) {
            counter.store(0, Relaxed);
        }
    }
    Counter::ResetAt.of(counters).store(clock::now(), Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flashsale_core::item::Item;

    fn refused(reason: Reason) -> Outcome {
        Outcome::unavailable(reason, &Item::default())
    }

    #[test]
    fn a_refusal_is_never_counted_as_a_sale() {
        for (nth, reason) in REASONS.into_iter().enumerate() {
            assert_eq!(which(&refused(reason)), Some(nth), "{reason:?}");
        }
        for reason in [
            Reason::OrderNotFound,
            Reason::AmountMismatch,
            Reason::UserNotFound,
        ] {
            assert_eq!(which(&refused(reason)), None, "{reason:?}");
        }
    }

    #[test]
    fn no_two_counters_share_an_index() {
        let indexes = DOORS.map(|(door, _)| [0, OUTCOMES - 1].map(|which| purchases(door, which)));
        assert_eq!(indexes[0][0], SINGLES);
        assert!(indexes.windows(2).all(|pair| pair[0][1] + 1 == pair[1][0]));
        assert_eq!(indexes[DOORS.len() - 1][1], COUNTERS - 1);
    }
}
