//! Sleeping and waking, and the wait events that pg_stat_activity shows.
//!
//! A process sleeps on its latch ([`sleep`]) or on a [`Parking`] word. The latter costs less, as
//! waking a process through its latch takes a signal and two more system calls. [`Latches`] holds
//! the latches of processes that have a role, so that other processes can wake them.

use super::memory::InSharedMemory;
use super::version;
use pgrx::pg_sys::{self, Latch};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// What a sleeping process waits for.
#[derive(Clone, Copy)]
pub enum WaitFor {
    /// A caller, for the seller's reply.
    Seller,
    /// A caller, for the end of the transaction of a seller that died.
    SellersTransaction,
    /// A caller, for its next attempt.
    Retry,
    /// A worker, for work.
    Work,
}

/// The numbers of the wait events, looked up once in each process.
static EVENTS: [OnceLock<u32>; 4] = [const { OnceLock::new() }; 4];

impl WaitFor {
    fn event(self) -> u32 {
        let name = match self {
            Self::Seller => c"FlashsaleSeller",
            Self::SellersTransaction => c"FlashsaleSellersTransaction",
            Self::Retry => c"FlashsaleRetry",
            Self::Work => c"FlashsaleWork",
        };
        *EVENTS[self as usize].get_or_init(|| version::wait_event(name))
    }
}

/// Sleeps until the latch is set or the time, 1 ms at least, is over. A cancel or shutdown ends it
/// with an error.
pub fn sleep(what: WaitFor, at_most_ms: i64) {
    wait_latch(what, at_most_ms.max(1));
    pgrx::check_for_interrupts!();
}

/// Like [`sleep`], but leaves cancels and shutdowns to the caller. If the postmaster dies, the
/// process exits.
pub fn wait_latch(what: WaitFor, at_most_ms: i64) {
    let wake = (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32;
    // SAFETY: MyLatch belongs to this process from its start to its end.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, wake, at_most_ms, what.event());
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
}

/// A word in shared memory on which processes sleep until another one wakes them all.
///
/// A sleeper calls [`park`](Self::park) with the condition that it waits for; the process that makes
/// the condition true calls [`unpark`](Self::unpark) afterwards. No wake-up is lost: the word counts
/// them, and a process that has seen the last one also sees what became true before it.
pub struct Parking(AtomicU32);

// SAFETY: an atomic number.
unsafe impl InSharedMemory for Parking {
    const NEW: Self = Self(AtomicU32::new(0));
}

/// The longest single sleep, because a signal that arrives between the check for interrupts and the
/// sleep does not end the sleep.
const LONGEST_SLEEP_MS: i64 = 100;

impl Parking {
    /// Unless `is_done`, sleeps until woken, for `at_most_ms` and 100 ms at most. May end early, as
    /// others who sleep here are woken too; so call it in a loop. A cancel or shutdown ends it with
    /// an error.
    pub fn park(&self, what: WaitFor, at_most_ms: i64, is_done: impl Fn() -> bool) {
        let wake_ups = self.0.load(Ordering::Acquire);
        if !is_done() && !is_interrupted() {
            show(what.event());
            futex::wait(&self.0, wake_ups, at_most_ms.clamp(1, LONGEST_SLEEP_MS));
            show(0);
        }
        if !is_done() {
            if self.0.load(Ordering::Relaxed) == wake_ups {
                wait_latch(what, 0); // notices the death of the postmaster
            }
            pgrx::check_for_interrupts!();
        }
    }

    /// Wakes all processes that are parked here. Call it after their condition has become true.
    pub fn unpark(&self) {
        self.0.fetch_add(1, Ordering::Release);
        futex::wake_all(&self.0);
    }
}

fn is_interrupted() -> bool {
    // SAFETY: a flag of this process that its signal handlers set; a volatile read, as in C.
    unsafe { (&raw const pg_sys::InterruptPending).read_volatile() != 0 }
}

/// Shows a wait event in pg_stat_activity; 0 is none.
fn show(event: u32) {
    // SAFETY: points to a word that belongs to this process from its start to its end.
    unsafe { pg_sys::my_wait_event_info.write_volatile(event) };
}

/// The latches of the processes that have a role, indexed by role. Lies in shared memory.
pub struct Latches<const ROLES: usize>([AtomicPtr<Latch>; ROLES]);

// SAFETY: latches lie in shared memory too, at the same address in all processes.
unsafe impl<const ROLES: usize> InSharedMemory for Latches<ROLES> {
    const NEW: Self = Self([const { AtomicPtr::new(std::ptr::null_mut()) }; ROLES]);
}

impl<const ROLES: usize> Latches<ROLES> {
    /// Gives this process the role, until it [leaves](Self::leave) it; false if another process
    /// has it.
    pub fn take(&self, role: usize) -> bool {
        let nobody = std::ptr::null_mut();
        // SAFETY: set when the process started.
        let mine = unsafe { pg_sys::MyLatch };
        self.0[role]
            .compare_exchange(nobody, mine, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Gives the role up: no process has it then.
    pub fn leave(&self, role: usize) {
        self.0[role].store(std::ptr::null_mut(), Ordering::Release);
    }

    pub fn is_taken(&self, role: usize) -> bool {
        !self.0[role].load(Ordering::Acquire).is_null()
    }

    /// Wakes the process that has the role, if there is one.
    pub fn wake(&self, role: usize) {
        let latch = self.0[role].load(Ordering::Acquire);
        if !latch.is_null() {
            // SAFETY: the latch belongs to a PGPROC, which is never freed. If the process has
            // exited, the next process with its PGPROC is woken without need.
            unsafe { pg_sys::SetLatch(latch) };
        }
    }
}

#[cfg(target_os = "linux")]
mod futex {
    use std::sync::atomic::AtomicU32;

    pub fn timeout(milliseconds: i64) -> libc::timespec {
        libc::timespec {
            tv_sec: milliseconds / 1_000,
            tv_nsec: milliseconds % 1_000 * 1_000_000,
        }
    }

    /// Sleeps while the word has this value, until woken, signalled, or the time is over.
    pub fn wait(word: &AtomicU32, value: u32, milliseconds: i64) {
        let timeout = timeout(milliseconds);
        // SAFETY: word and timeout outlive the call; the kernel reads them and writes neither.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT,
                value,
                &raw const timeout,
            )
        };
    }

    /// Wakes all processes that wait.
    pub fn wake_all(word: &AtomicU32) {
        // SAFETY: the kernel uses only the address of the word.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
    }
}

/// Without futexes, a sleeper polls every millisecond.
#[cfg(not(target_os = "linux"))]
mod futex {
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    pub fn wait(_word: &AtomicU32, _value: u32, _milliseconds: i64) {
        std::thread::sleep(Duration::from_millis(1));
    }

    pub fn wake_all(_word: &AtomicU32) {}
}

/// How many times a worker yields the processor before it sleeps.
const YIELDS: usize = 4;

/// Yields the processor a few times; true as soon as `is_done`. For workers, which are often called
/// again at once; of a caller's four yields none ever saved a sleep.
pub fn yielding(is_done: impl Fn() -> bool) -> bool {
    (0..YIELDS).any(|_| {
        is_done() || {
            std::thread::yield_now();
            false
        }
    }) || is_done()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_timeout_is_split_into_seconds_and_the_rest() {
        let parts = |milliseconds| {
            let timeout = futex::timeout(milliseconds);
            (timeout.tv_sec, timeout.tv_nsec)
        };
        assert_eq!(parts(1), (0, 1_000_000));
        assert_eq!(parts(999), (0, 999_000_000));
        assert_eq!(parts(1_000), (1, 0));
        assert_eq!(parts(60_001), (60, 1_000_000));
    }

    #[test]
    fn a_futex_sleeps_only_while_the_word_has_the_value() {
        futex::wait(&AtomicU32::new(1), 0, 60_000); // would not end in time
        let before = Instant::now();
        futex::wait(&AtomicU32::new(1), 1, 5);
        assert!(before.elapsed() >= Duration::from_millis(5));
    }

    #[test]
    fn unparking_wakes_all_sleepers() {
        let word = Parking::NEW;
        let before = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| futex::wait(&word.0, 0, 60_000));
            }
            std::thread::sleep(Duration::from_millis(300)); // so that they sleep
            word.unpark();
        });
        assert!(before.elapsed() < Duration::from_secs(30), "one slept on");
    }
}
