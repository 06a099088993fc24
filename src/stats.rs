//! Counters of the whole server in shared memory, behind the view `stats`.

use crate::answer::Reason;
use crate::error::Fault;
use crate::pg::clock::{self, Micros};
use crate::pg::memory::{InSharedMemory, Shared};
use crate::purchase::outcome::Outcome;
use crate::settings::Strategy;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

pub static STATS: Shared<Stats> = Shared::new(c"flashsale stats");

/// The ways to purchase, as they are counted.
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

/// Every counter; each is an atomic, so the lock is not needed.
pub struct Stats {
    purchases: [[AtomicI64; OUTCOMES]; DOORS.len()],
    gate_hits: AtomicI64,
    gate_shut: AtomicI64,
    batches: AtomicI64,
    requests: AtomicI64,
    largest_batch: AtomicI64,
    queue_wait: AtomicI64,
    longest_queue_wait: AtomicI64,
    seller_errors: AtomicI64,
    runs: AtomicI64,
    expired: AtomicI64,
    run_errors: AtomicI64,
    last_run: AtomicI64,
    backlog: AtomicI64,
    reset_at: AtomicI64,
}

// SAFETY: atomics alone.
unsafe impl InSharedMemory for Stats {
    const NEW: Self = Self {
        purchases: InSharedMemory::NEW,
        gate_hits: AtomicI64::new(0),
        gate_shut: AtomicI64::new(0),
        batches: AtomicI64::new(0),
        requests: AtomicI64::new(0),
        largest_batch: AtomicI64::new(0),
        queue_wait: AtomicI64::new(0),
        longest_queue_wait: AtomicI64::new(0),
        seller_errors: AtomicI64::new(0),
        runs: AtomicI64::new(0),
        expired: AtomicI64::new(0),
        run_errors: AtomicI64::new(0),
        last_run: AtomicI64::new(0),
        backlog: AtomicI64::new(0),
        reset_at: AtomicI64::new(0),
    };
}

fn add(counter: impl Fn(&Stats) -> &AtomicI64, by: i64) {
    if let Some(stats) = STATS.get() {
        counter(stats).fetch_add(by, Relaxed);
    }
}

/// Counts an answer, whether its transaction stands in the end or not.
pub fn answered(door: Door, outcome: &Outcome) {
    let which = match (outcome, outcome.reason()) {
        (Outcome::Reserved { replayed: true, .. }, _) => REPLAYED,
        (_, Some(reason)) => REASONS
            .iter()
            .position(|&one| one == reason)
            .unwrap_or(RESERVED),
        (_, None) => RESERVED,
    };
    add(|stats| &stats.purchases[door as usize][which], 1);
}

pub fn gate_hit() {
    add(|stats| &stats.gate_hits, 1);
}

pub fn gate_shut() {
    add(|stats| &stats.gate_shut, 1);
}

/// Counts a batch of requests that were queued at these times.
pub fn seller_took(queued_at: impl ExactSizeIterator<Item = Micros>) {
    let Some(stats) = STATS.get() else { return };
    let size = queued_at.len() as i64;
    if size == 0 {
        return;
    }
    let now = clock::now();
    stats.batches.fetch_add(1, Relaxed);
    stats.requests.fetch_add(size, Relaxed);
    stats.largest_batch.fetch_max(size, Relaxed);
    for at in queued_at {
        stats.queue_wait.fetch_add(now - at, Relaxed);
        stats.longest_queue_wait.fetch_max(now - at, Relaxed);
    }
}

/// Counts a transaction of the seller's that failed for another reason than a lock.
pub fn seller_failed() {
    add(|stats| &stats.seller_errors, 1);
}

/// Counts what the reconciler expired, and notes what others kept it from.
pub fn expired(expired: i64, backlog: i64) {
    let Some(stats) = STATS.get() else { return };
    stats.expired.fetch_add(expired, Relaxed);
    stats.backlog.store(backlog, Relaxed);
}

/// Counts a run of the reconciler.
pub fn reconciled() {
    let Some(stats) = STATS.get() else { return };
    stats.runs.fetch_add(1, Relaxed);
    stats.last_run.store(clock::now(), Relaxed);
}

pub fn reconciler_failed() {
    add(|stats| &stats.run_errors, 1);
}

/// One line of the view: what it is about, the strategy if it is a purchase, name and value.
pub type Line = (&'static str, Option<&'static str>, &'static str, f64);

/// What the view shows. 55000 without preload.
pub fn lines() -> Result<Vec<Line>, Fault> {
    let stats = STATS.get().ok_or(Fault::NotPreloaded("flashsale.stats"))?;
    let mut lines = Vec::new();
    for (door, strategy) in DOORS {
        for which in 0..OUTCOMES {
            let name = match which {
                RESERVED => "reserved",
                REPLAYED => "replayed",
                which => REASONS[which].code(),
            };
            let count = stats.purchases[door as usize][which].load(Relaxed);
            lines.push(("purchases", Some(strategy), name, count as f64));
        }
    }
    let value = |counter: &AtomicI64| counter.load(Relaxed) as f64;
    let seconds = |counter: &AtomicI64| value(counter) / 1e6;
    let waiting = crate::group::queue::QUEUE
        .get()
        .map_or(0, crate::group::queue::backlog);
    lines.extend([
        ("gate", None, "hits", value(&stats.gate_hits)),
        ("gate", None, "shut", value(&stats.gate_shut)),
        ("seller", None, "batches", value(&stats.batches)),
        ("seller", None, "requests", value(&stats.requests)),
        ("seller", None, "largest_batch", value(&stats.largest_batch)),
        (
            "seller",
            None,
            "queue_wait_seconds",
            seconds(&stats.queue_wait),
        ),
        (
            "seller",
            None,
            "longest_queue_wait_seconds",
            seconds(&stats.longest_queue_wait),
        ),
        ("seller", None, "waiting", waiting as f64),
        ("seller", None, "errors", value(&stats.seller_errors)),
        ("reconciler", None, "runs", value(&stats.runs)),
        ("reconciler", None, "expired", value(&stats.expired)),
        ("reconciler", None, "errors", value(&stats.run_errors)),
        ("reconciler", None, "backlog", value(&stats.backlog)),
        (
            "reconciler",
            None,
            "last_run",
            unix_seconds(&stats.last_run),
        ),
        ("stats", None, "reset", unix_seconds(&stats.reset_at)),
    ]);
    Ok(lines)
}

/// A time as seconds since 1970, 0 if it never was.
fn unix_seconds(counter: &AtomicI64) -> f64 {
    const UNIX_EPOCH_TO_POSTGRES: f64 = 946_684_800.0;
    match counter.load(Relaxed) {
        0 => 0.0,
        at => at as f64 / 1e6 + UNIX_EPOCH_TO_POSTGRES,
    }
}

/// Sets every counter to zero; the reconciler's backlog and last run stay.
pub fn reset() -> Result<(), Fault> {
    let stats = STATS
        .get()
        .ok_or(Fault::NotPreloaded("flashsale.stats_reset"))?;
    let singles = [
        &stats.gate_hits,
        &stats.gate_shut,
        &stats.batches,
        &stats.requests,
        &stats.largest_batch,
        &stats.queue_wait,
        &stats.longest_queue_wait,
        &stats.seller_errors,
        &stats.runs,
        &stats.expired,
        &stats.run_errors,
    ];
    for counter in stats.purchases.iter().flatten().chain(singles) {
        counter.store(0, Relaxed);
    }
    stats.reset_at.store(clock::now(), Relaxed);
    Ok(())
}
