//! Sleeping and waking, and what pg_stat_activity says a process waits for.

use pgrx::pg_sys;
use std::sync::atomic::{AtomicU32, Ordering, fence};

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
    sleep_up_to(what, at_most_ms.max(1));
}

fn sleep_up_to(what: WaitFor, at_most_ms: i64) {
    let wake = (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32;
    // SAFETY: the latch is this process's own.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, wake, at_most_ms, what.event());
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}

/// Where a process sleeps until another wakes it, for less than on a latch, which takes a signal.
pub struct Bed(AtomicU32);

const UP: u32 = 0;
const ASLEEP: u32 = 1;
/// A signal between the look for interrupts and the sleep does not end the sleep.
const LONGEST_SLEEP_MS: i64 = 100;

impl Bed {
    /// Sleeps until woken, unless what it waits for is done, for a while at most; a cancel or
    /// shutdown ends it with an error.
    pub fn sleep(&self, what: WaitFor, at_most_ms: i64, is_done: impl Fn() -> bool) {
        self.0.store(ASLEEP, Ordering::SeqCst);
        fence(Ordering::SeqCst); // with that of wake: one of us sees what the other wrote
        // SAFETY: words of this process's own.
        unsafe {
            if !is_done() && pg_sys::InterruptPending == 0 {
                *pg_sys::my_wait_event_info = what.event();
                futex::wait(&self.0, ASLEEP, at_most_ms.clamp(1, LONGEST_SLEEP_MS));
                *pg_sys::my_wait_event_info = 0;
            }
        }
        self.0.store(UP, Ordering::SeqCst);
        if !is_done() {
            // For interrupts, and the death of the postmaster.
            sleep_up_to(what, 0);
        }
    }

    /// Wakes who sleeps, after what they wait for was done.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.0.swap(UP, Ordering::SeqCst) == ASLEEP {
            futex::wake(&self.0);
        }
    }
}

#[cfg(target_os = "linux")]
mod futex {
    use std::sync::atomic::AtomicU32;

    /// Sleeps while the word has a value, until woken, signalled or the time is over.
    pub fn wait(word: &AtomicU32, value: u32, milliseconds: i64) {
        let timeout = libc::timespec {
            tv_sec: milliseconds / 1_000,
            tv_nsec: milliseconds % 1_000 * 1_000_000,
        };
        let word = word.as_ptr();
        // SAFETY: the kernel reads a word and a time that are there.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word,
                libc::FUTEX_WAIT,
                value,
                &raw const timeout,
            )
        };
    }

    /// Wakes one who waits.
    pub fn wake(word: &AtomicU32) {
        // SAFETY: the kernel takes the address of a word.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
    }
}

/// Where there are none it looks again each millisecond.
#[cfg(not(target_os = "linux"))]
mod futex {
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    pub fn wait(_word: &AtomicU32, _value: u32, _milliseconds: i64) {
        std::thread::sleep(Duration::from_millis(1));
    }

    pub fn wake(_word: &AtomicU32) {}
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
