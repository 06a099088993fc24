//! Sleeping on the process's latch, and what pg_stat_activity says it waits for.

use pgrx::pg_sys;

/// What a sleeping process waits for.
#[derive(Clone, Copy)]
pub enum WaitFor {
    /// A buyer, for the seller's answer.
    Seller,
    /// A buyer, for the end of the transaction of a seller that died.
    SellersTransaction,
    /// A buyer, for its next try.
    Retry,
    /// A worker, for something to do.
    Work,
}

/// What the names stand for, asked for once a process: it takes a lock.
#[cfg(any(feature = "pg17", feature = "pg18"))]
static NUMBERS: [std::sync::OnceLock<u32>; 4] = [const { std::sync::OnceLock::new() }; 4];

impl WaitFor {
    /// Up to PostgreSQL 16 all waits of extensions share one name, `Extension`.
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    pub fn event(self) -> u32 {
        pg_sys::PG_WAIT_EXTENSION
    }

    #[cfg(any(feature = "pg17", feature = "pg18"))]
    pub fn event(self) -> u32 {
        let name = match self {
            Self::Seller => c"FlashsaleSeller",
            Self::SellersTransaction => c"FlashsaleSellersTransaction",
            Self::Retry => c"FlashsaleRetry",
            Self::Work => c"FlashsaleWork",
        };
        // SAFETY: a NUL-terminated name; the same name gets the same number each time.
        *NUMBERS[self as usize]
            .get_or_init(|| unsafe { pg_sys::WaitEventExtensionNew(name.as_ptr()) })
    }
}

/// Sleeps until the latch is set or the time is over; a cancel or shutdown ends it with an error.
pub fn sleep(what: WaitFor, at_most_ms: i64) {
    let wake = (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32;
    // SAFETY: the latch is this process's own.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, wake, at_most_ms.max(1), what.event());
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}

/// How often a process lets the others run before it goes to sleep.
const YIELDS: usize = 4;

/// Lets others run for a moment; true as soon as what they were to do is done. On a busy
/// machine that is often all it takes, and then neither has to be put to sleep nor woken:
/// 64 clients on 2 cores bought a quarter to a third more. On an idle one it takes a
/// microsecond or two.
pub fn yielding(is_done: impl Fn() -> bool) -> bool {
    (0..YIELDS).any(|_| {
        is_done() || {
            std::thread::yield_now();
            false
        }
    }) || is_done()
}
