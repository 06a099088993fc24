//! The settings, each with unit, default and range; anyone may set them, a session at a time.

use crate::argument::MAX_SPAN_SECONDS;
use crate::clock::Micros;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum, pg_sys};

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

/// What a purchase does when its call names no strategy.
static STRATEGY: GucSetting<Strategy> = GucSetting::<Strategy>::new(Strategy::Nowait);
/// 0 to 100, default 0: the caller is told at once and paces itself.
static NOWAIT_RETRIES: GucSetting<i32> = GucSetting::<i32>::new(0);
/// 1 ms to 1 s, default 10 ms: a few purchases' worth of waiting.
static RETRY_DELAY_MS: GucSetting<i32> = GucSetting::<i32>::new(10);
/// 1 ms to 10 min, default 2 s: past that a person has given up.
static LOCK_WAIT_MS: GucSetting<i32> = GucSetting::<i32>::new(2_000);
/// 1 s to 7 days, default 15 min: time to type a card number.
static RESERVATION_TTL_S: GucSetting<i32> = GucSetting::<i32>::new(15 * 60);
/// 1 s to 7 days, default 30 min: gateways keep a checkout open that long.
static PAYMENT_WINDOW_S: GucSetting<i32> = GucSetting::<i32>::new(30 * 60);

pub fn init() {
    GucRegistry::define_enum_guc(
        c"flashsale.strategy",
        c"How a purchase handles contention on an item's row.",
        c"nowait answers busy at once when the row is locked.",
        &STRATEGY,
        GucContext::Userset,
        GucFlags::default(),
    );
    int(
        c"flashsale.nowait_retries",
        c"How often a nowait purchase that met a locked row tries again before it answers busy.",
        c"0 to 100, default 0.",
        &NOWAIT_RETRIES,
        0,
        100,
        GucFlags::default(),
    );
    int(
        c"flashsale.retry_delay",
        c"Pause between tries, jittered by half, and the mean of retry_after_ms.",
        c"1 ms to 1 s, default 10 ms.",
        &RETRY_DELAY_MS,
        1,
        1_000,
        GucFlags::UNIT_MS,
    );
    int(
        c"flashsale.lock_wait",
        c"Longest wait for a lock before a function answers busy.",
        c"1 ms to 10 min, default 2 s. A shorter lock_timeout of the session holds.",
        &LOCK_WAIT_MS,
        1,
        600_000,
        GucFlags::UNIT_MS,
    );
    int(
        c"flashsale.reservation_ttl",
        c"How long a reservation lasts where its item does not say.",
        c"1 s to 7 days, default 15 min.",
        &RESERVATION_TTL_S,
        1,
        MAX_SPAN_SECONDS as i32,
        GucFlags::UNIT_S,
    );
    int(c"flashsale.payment_window", c"How long after begin_payment an order is listed in payment_checks, where the call does not say.", c"1 s to 7 days, default 30 min.", &PAYMENT_WINDOW_S, 1, MAX_SPAN_SECONDS as i32, GucFlags::UNIT_S);
    // SAFETY: reserves our own prefix, so that a misspelt setting is an error.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"flashsale".as_ptr()) };
}

fn int(
    name: &'static std::ffi::CStr,
    short: &'static std::ffi::CStr,
    long: &'static std::ffi::CStr,
    setting: &'static GucSetting<i32>,
    least: i32,
    most: i32,
    unit: GucFlags,
) {
    GucRegistry::define_int_guc(
        name,
        short,
        long,
        setting,
        least,
        most,
        GucContext::Userset,
        unit,
    );
}

pub fn strategy() -> Strategy {
    STRATEGY.get()
}

pub fn nowait_retries() -> i32 {
    NOWAIT_RETRIES.get()
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
