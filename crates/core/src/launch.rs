//! When the launcher starts a worker, and why there may be none.

use crate::time::Micros;

/// The database that the workers serve, as it was when one of them last looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseState {
    /// Nobody has looked yet.
    Unknown,
    /// The extension is there, and the workers serve it.
    Served,
    NoDatabase,
    NoExtension,
    /// A subscription writes the tables, so the orders are another server's.
    Copy,
}

impl DatabaseState {
    const ALL: [Self; 5] = [
        Self::Unknown,
        Self::Served,
        Self::NoDatabase,
        Self::NoExtension,
        Self::Copy,
    ];

    /// The state with this number (`state as i64`); an unknown number is `Unknown`.
    pub fn from_number(number: i64) -> Self {
        let numbered = |state: &Self| *state as i64 == number;
        Self::ALL
            .into_iter()
            .find(numbered)
            .unwrap_or(Self::Unknown)
    }
}

/// Why no seller serves a database that it should serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSeller {
    /// No background worker can be started: `max_worker_processes` are running.
    NoProcess,
    /// The tables are a subscription's copy.
    Copy,
    /// It starts and ends again, or has been starting for too long.
    DoesNotStart,
}

/// How long calls are answered `busy` while there is no seller, before they get an error: the time
/// in which a seller starts, also on a busy server.
pub const GRACE: Micros = 5_000_000;

/// Whether the time is over in which a seller that is not there may just be starting. `since` is
/// when it was first missed; `None` if that is now.
pub fn is_overdue(since: Option<Micros>, now: Micros) -> bool {
    since.is_some_and(|since| now - since >= GRACE)
}

/// How soon somebody looks again at a database that was not to be served. What changes that, such
/// as CREATE EXTENSION, is noticed at once, so this is for what is not noticed.
pub const LOOK_AGAIN_AFTER: Micros = 10_000_000;

const FIRST_DELAY: Micros = 1_000_000;
const LONGEST_DELAY: Micros = 60_000_000;

/// The starts of one worker since it last was at work. Times are those of the monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Starts {
    last: Option<Micros>,
    failed: u32,
}

impl Starts {
    /// It is at work.
    pub fn arrived(&mut self) {
        self.failed = 0;
    }

    /// It was started at `now`.
    pub fn started(&mut self, now: Micros) {
        self.last = Some(now);
        self.failed += 1;
    }

    /// It looked at the database at `at` and left by itself, which is no failure.
    pub fn looked(&mut self, at: Micros) {
        if self.last.is_some_and(|last| at >= last) {
            *self = Self::default();
        }
    }

    /// How long to wait before it is started (again): a second, then twice as long after each start
    /// from which it did not get to work. At most a minute, as PostgreSQL logs each.
    pub fn wait(&self, now: Micros) -> Micros {
        let Some(last) = self.last else { return 0 };
        let delay = FIRST_DELAY << self.failed.saturating_sub(1).min(6);
        (last + delay.min(LONGEST_DELAY) - now).max(0)
    }
}

/// Lets a message through once a minute.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnceAMinute {
    last: Option<Micros>,
    held_back: u64,
}

impl OnceAMinute {
    /// `None` if the message must be held back; else how many were held back since the last one.
    pub fn may_pass(&mut self, now: Micros) -> Option<u64> {
        const MINUTE: Micros = 60_000_000;
        if self.last.is_some_and(|last| now - last < MINUTE) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    #[test]
    fn a_database_state_has_a_number() {
        for state in DatabaseState::ALL {
            assert_eq!(DatabaseState::from_number(state as i64), state);
        }
        assert_eq!(DatabaseState::from_number(99), DatabaseState::Unknown);
    }

    #[test]
    fn a_seller_is_overdue_some_seconds_after_it_was_missed() {
        assert!(!is_overdue(None, 7 * SECOND));
        assert!(!is_overdue(Some(7 * SECOND), 7 * SECOND + GRACE - 1));
        assert!(is_overdue(Some(7 * SECOND), 7 * SECOND + GRACE));
    }

    #[test]
    fn each_start_that_fails_doubles_the_wait() {
        let mut starts = Starts::default();
        assert_eq!(starts.wait(0), 0);
        let mut waits = Vec::new();
        for _ in 0..9 {
            starts.started(0);
            waits.push(starts.wait(0) / SECOND);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(starts.wait(59 * SECOND), SECOND);
        assert_eq!(starts.wait(70 * SECOND), 0);
    }

    #[test]
    fn a_worker_that_was_at_work_is_started_a_second_after_its_last_start() {
        let mut starts = Starts::default();
        for _ in 0..5 {
            starts.started(0);
        }
        starts.arrived();
        assert_eq!(starts.wait(0), SECOND);
        starts.started(2 * SECOND);
        assert_eq!(starts.wait(2 * SECOND), SECOND);
    }

    #[test]
    fn a_worker_that_looked_and_left_did_not_fail() {
        let mut starts = Starts::default();
        starts.started(5);
        starts.looked(4); // before it was started
        assert!(starts.wait(5) > 0);
        starts.looked(5);
        assert_eq!(starts.wait(5), 0);
    }

    #[test]
    fn a_message_passes_once_a_minute_and_the_others_are_counted() {
        let mut gate = OnceAMinute::default();
        assert_eq!(gate.may_pass(SECOND), Some(0));
        assert_eq!(gate.may_pass(2 * SECOND), None);
        assert_eq!(gate.may_pass(60 * SECOND), None);
        assert_eq!(gate.may_pass(61 * SECOND), Some(2));
        assert_eq!(gate.may_pass(200 * SECOND), Some(0));
    }
}
