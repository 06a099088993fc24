//! The settings, each with unit, default and range.
//!
//! Any session may change the settings of purchases. Those of the workers, the queue and the gate
//! apply to the whole server.

use crate::pg::{guc, session};
use flashsale_core::limits::{MAX_SPAN_SECONDS, SLOTS};
use flashsale_core::time::Micros;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

use std::ffi::{CStr, CString};
use std::ops::RangeInclusive;

/// How contention on an item's row is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum Strategy {
    #[name = c"nowait"]
    Nowait,
    #[name = c"optimistic"]
    Optimistic,
    #[name = c"atomic"]
    Atomic,
    #[name = c"grouped"]
    Grouped,
}

impl Strategy {
    pub const NAMES: &'static str = "nowait, optimistic, atomic or grouped";

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Nowait, Self::Optimistic, Self::Atomic, Self::Grouped]
            .into_iter()
            .find(|strategy| strategy.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Nowait => "nowait",
            Self::Optimistic => "optimistic",
            Self::Atomic => "atomic",
            Self::Grouped => "grouped",
        }
    }
}

/// The strategy of a purchase whose call does not name one.
static STRATEGY: GucSetting<Strategy> = GucSetting::<Strategy>::new(Strategy::Nowait);
/// 0 to 100, default 0: the caller gets its answer at once and decides when to retry.
static NOWAIT_RETRIES: GucSetting<i32> = GucSetting::<i32>::new(0);
/// 0 to 100, default 3: enough when contention is low.
static OPTIMISTIC_RETRIES: GucSetting<i32> = GucSetting::<i32>::new(3);
/// 1 ms to 1 s, default 10 ms: about the time of a few purchases.
static RETRY_DELAY_MS: GucSetting<i32> = GucSetting::<i32>::new(10);
/// 1 ms to 10 min, default 2 s: after that a buyer has given up.
static LOCK_WAIT_MS: GucSetting<i32> = GucSetting::<i32>::new(2_000);
/// 1 s to 7 days, default 15 min: time enough to enter a card number.
static RESERVATION_TTL_S: GucSetting<i32> = GucSetting::<i32>::new(15 * 60);
/// 1 s to 7 days, default 30 min: gateways keep a checkout open that long.
static PAYMENT_WINDOW_S: GucSetting<i32> = GucSetting::<i32>::new(30 * 60);

/// Default postgres, which every cluster has.
static DATABASE: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"postgres"));
/// 10 ms to 1 min, default 1 s: a buyer who waits longer has left.
static GROUP_WAIT_MS: GucSetting<i32> = GucSetting::<i32>::new(1_000);
/// 1 to 1024, default 256, so that one commit does not write too much.
static GROUP_SIZE: GucSetting<i32> = GucSetting::<i32>::new(256);
/// 1 to 1024, default 1024: when the queue is full, calls are answered `busy`.
static QUEUE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(SLOTS as i32);
/// 0 to 1 min, default 1 s: how old a refusal can be if the gate missed that a unit came back.
static SOLD_OUT_TTL_MS: GucSetting<i32> = GucSetting::<i32>::new(1_000);
/// 0 to 1 day, default 10 s, so that units of abandoned reservations are soon back on sale.
static RECONCILE_INTERVAL_MS: GucSetting<i32> = GucSetting::<i32>::new(10_000);
/// Default on: a fifth to a third more purchases if they are spread over many items.
static DIRECT_ACCESS: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Default on: no DDL statement loses the orders by mistake.
static PROTECT_DATA: GucSetting<bool> = GucSetting::<bool>::new(true);
/// For tests: a pause between a commit of the seller and the publishing of its replies.
static DEBUG_PUBLISH_DELAY_MS: GucSetting<i32> = GucSetting::<i32>::new(0);
#[cfg(feature = "null_group")]
static DEBUG_NULL_GROUP: GucSetting<bool> = GucSetting::<bool>::new(false);

pub fn init() {
    init_of_purchases();
    init_of_times();
    init_of_server();
    init_of_seller();
    init_of_guard();
    guc::reserve_prefix(c"flashsale");
}

/// Settings of how a purchase obtains its item.
fn init_of_purchases() {
    GucRegistry::define_enum_guc(
        c"flashsale.strategy",
        c"How a purchase handles contention on an item's row.",
        c"nowait answers busy at once if the row is locked, optimistic retries if the item has changed, atomic waits for the lock, grouped passes the purchase to the seller.",
        &STRATEGY,
        GucContext::Userset,
        GucFlags::default(),
    );
    int(
        c"flashsale.nowait_retries",
        c"How often a nowait purchase that finds the row locked tries again before it answers busy.",
        c"0 to 100, default 0.",
        &NOWAIT_RETRIES,
        0..=100,
        GucContext::Userset,
        GucFlags::default(),
    );
    int(
        c"flashsale.optimistic_retries",
        c"How often an optimistic purchase whose item has changed meanwhile tries again before it answers conflict.",
        c"0 to 100, default 3.",
        &OPTIMISTIC_RETRIES,
        0..=100,
        GucContext::Userset,
        GucFlags::default(),
    );
    int(
        c"flashsale.retry_delay",
        c"Mean pause between attempts, and mean of retry_after_ms; each is jittered by half.",
        c"1 ms to 1 s, default 10 ms.",
        &RETRY_DELAY_MS,
        1..=1_000,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_bool_guc(
        c"flashsale.direct_access",
        c"Whether items and orders are read and written without the executor if they are defined as installed.",
        c"Default on.",
        &DIRECT_ACCESS,
        GucContext::Userset,
        GucFlags::default(),
    );
}

/// Settings of times, which each session may set for itself.
fn init_of_times() {
    int(
        c"flashsale.lock_wait",
        c"Longest wait for a lock before a function answers busy.",
        c"1 ms to 10 min, default 2 s. A shorter lock_timeout of the session takes precedence.",
        &LOCK_WAIT_MS,
        1..=600_000,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    int(
        c"flashsale.reservation_ttl",
        c"How long a reservation lasts if its item does not set a time.",
        c"1 s to 7 days, default 15 min.",
        &RESERVATION_TTL_S,
        1..=MAX_SPAN_SECONDS as i32,
        GucContext::Userset,
        GucFlags::UNIT_S,
    );
    int(
        c"flashsale.payment_window",
        c"How long after begin_payment an order is listed in payment_checks, if the call does not set a time.",
        c"1 s to 7 days, default 30 min.",
        &PAYMENT_WINDOW_S,
        1..=MAX_SPAN_SECONDS as i32,
        GucContext::Userset,
        GucFlags::UNIT_S,
    );
}

/// Settings of what exists once for the whole server, set in postgresql.conf or by ALTER SYSTEM.
fn init_of_server() {
    GucRegistry::define_string_guc(
        c"flashsale.database",
        c"The database in which the workers run.",
        c"Needs a restart.",
        &DATABASE,
        // Without preload there are no workers, and no setting may be defined as Postmaster.
        if session::is_preloading() {
            GucContext::Postmaster
        } else {
            GucContext::Sighup
        },
        GucFlags::default(),
    );
    int(
        c"flashsale.sold_out_ttl",
        c"How long purchases of an item seen sold out are refused from shared memory.",
        c"0 (off) to 1 min, default 1 s.",
        &SOLD_OUT_TTL_MS,
        0..=60_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    int(
        c"flashsale.reconcile_interval",
        c"Time between two runs of the reconciler.",
        c"0 (off) to 1 day, default 10 s.",
        &RECONCILE_INTERVAL_MS,
        0..=86_400_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
}

/// Settings of the queue and the seller, set in postgresql.conf or by ALTER SYSTEM.
fn init_of_seller() {
    int(
        c"flashsale.group_wait",
        c"How long a grouped purchase waits, and a round of the seller lasts, before the answer is busy.",
        c"10 ms to 1 min, default 1 s.",
        &GROUP_WAIT_MS,
        10..=60_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    int(
        c"flashsale.group_size",
        c"Most requests that the seller takes from the queue at once, and serves in one transaction.",
        c"1 to 1024, default 256.",
        &GROUP_SIZE,
        1..=SLOTS as i32,
        GucContext::Sighup,
        GucFlags::default(),
    );
    int(
        c"flashsale.queue_size",
        c"Most requests that may be in the seller's queue; further ones are answered busy.",
        c"1 to 1024, default 1024.",
        &QUEUE_SIZE,
        1..=SLOTS as i32,
        GucContext::Sighup,
        GucFlags::default(),
    );
    int(
        c"flashsale.debug_publish_delay",
        c"For tests: how long the seller pauses between a commit and its answers.",
        c"0 (off) to 10 s, default 0.",
        &DEBUG_PUBLISH_DELAY_MS,
        0..=10_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS | GucFlags::NO_SHOW_ALL,
    );
    #[cfg(feature = "null_group")]
    GucRegistry::define_bool_guc(
        c"flashsale.debug_null_group",
        c"For benchmarks: the seller answers as if it had sold, and touches no table.",
        c"Default off.",
        &DEBUG_NULL_GROUP,
        GucContext::Sighup,
        GucFlags::NO_SHOW_ALL,
    );
}

/// The setting of what only a superuser may allow.
fn init_of_guard() {
    GucRegistry::define_bool_guc(
        c"flashsale.protect_data",
        c"Whether DDL is refused that would lose orders, or make dumps that cannot be restored.",
        c"Default on.",
        &PROTECT_DATA,
        GucContext::Suset,
        GucFlags::default(),
    );
}

fn int(
    name: &'static CStr,
    short: &'static CStr,
    long: &'static CStr,
    setting: &'static GucSetting<i32>,
    range: RangeInclusive<i32>,
    context: GucContext,
    flags: GucFlags,
) {
    let (least, most) = range.into_inner();
    GucRegistry::define_int_guc(name, short, long, setting, least, most, context, flags);
}

pub fn strategy() -> Strategy {
    STRATEGY.get()
}

pub fn direct_access() -> bool {
    DIRECT_ACCESS.get()
}

pub fn protect_data() -> bool {
    PROTECT_DATA.get()
}

pub fn nowait_retries() -> i32 {
    NOWAIT_RETRIES.get()
}

pub fn optimistic_retries() -> i32 {
    OPTIMISTIC_RETRIES.get()
}

pub fn retry_delay_ms() -> i32 {
    RETRY_DELAY_MS.get()
}

pub fn lock_wait_ms() -> i32 {
    LOCK_WAIT_MS.get()
}

pub fn reservation_ttl() -> Micros {
    Micros::from(RESERVATION_TTL_S.get()) * 1_000_000
}

pub fn payment_window() -> Micros {
    Micros::from(PAYMENT_WINDOW_S.get()) * 1_000_000
}

pub fn database() -> CString {
    DATABASE.get().unwrap_or_default()
}

pub fn group_wait_ms() -> i64 {
    i64::from(GROUP_WAIT_MS.get())
}

/// The longest lock wait of a worker: a tenth of the time of a round, so that a refused lock can
/// be distinguished from a transaction that takes too long.
pub fn worker_lock_wait_ms() -> i64 {
    (group_wait_ms() / 10).max(10)
}

pub fn group_size() -> usize {
    GROUP_SIZE.get() as usize
}

pub fn queue_size() -> usize {
    QUEUE_SIZE.get() as usize
}

pub fn sold_out_ttl() -> Micros {
    Micros::from(SOLD_OUT_TTL_MS.get()) * 1_000
}

pub fn reconcile_interval_ms() -> i64 {
    i64::from(RECONCILE_INTERVAL_MS.get())
}

pub fn debug_publish_delay_ms() -> i64 {
    i64::from(DEBUG_PUBLISH_DELAY_MS.get())
}

#[cfg(feature = "null_group")]
pub fn debug_null_group() -> bool {
    DEBUG_NULL_GROUP.get()
}
