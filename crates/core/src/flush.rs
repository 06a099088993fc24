//! Whether the seller flushes the WAL within its commits, or leaves that to the publisher.

use crate::time::Micros;

/// The disk is quick if a flush takes less than this on average. With 1,000 the seller sells less if
/// it flushes itself, with 250 more.
const QUICK: Micros = 700;
/// What counts at most of one flush, so that a few slow ones do not decide.
const MOST: Micros = 2 * QUICK;
/// The number of flushes over which the mean moves.
const MEMORY: f32 = 16.0;
/// Of so many commits on a slow disk,
const CYCLE: u32 = 1_024;
/// at most so many in a row flush nevertheless, to see whether the disk is quick by now. After the
/// first one the publisher has nothing to flush, and disturbs the measurement no longer. The first slow
/// one ends it, as each delays the requests that wait.
const TRIALS: u32 = 16;

/// What the seller knows about the disk.
///
/// On a quick disk it flushes within its commits, which spares the work of a second process. On a
/// slow one it serves the next group meanwhile.
#[derive(Default)]
pub struct Disk {
    /// The moving mean of the times that flushes took, in microseconds.
    mean: f32,
    commits: u32,
    /// What counted of the last flush.
    last: Micros,
}

impl Disk {
    /// Whether the next commit should flush.
    pub fn should_flush(&mut self) -> bool {
        self.commits = self.commits.wrapping_add(1);
        let trial = self.commits % CYCLE;
        self.mean < QUICK as f32 || trial == 0 || (trial < TRIALS && self.last < MOST)
    }

    /// A flush took so long, without the time for which the process waited for a processor: on a
    /// busy machine that is most of the time.
    pub fn took(&mut self, time: Micros) {
        self.last = time.clamp(0, MOST);
        self.mean += (self.last as f32 - self.mean) / MEMORY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of commits that flush, of 10,000 after the first 10,000, each of which takes what
    /// `time` says.
    fn share_flushed(disk: &mut Disk, time: impl Fn(u32) -> Micros) -> f32 {
        let mut flushed = 0;
        for commit in 0..20_000 {
            let should = disk.should_flush();
            if should {
                disk.took(time(commit));
            }
            flushed += u32::from(should && commit >= 10_000);
        }
        flushed as f32 / 10_000.0
    }

    #[test]
    fn a_quick_disk_is_waited_for_and_a_slow_one_is_not() {
        assert_eq!(share_flushed(&mut Disk::default(), |_| 150), 1.0);
        assert!(share_flushed(&mut Disk::default(), |_| 1_100) < 0.02);
        // A quick disk with some long pauses.
        let pausing = |commit| if commit % 10 == 0 { 50_000 } else { 150 };
        assert!(share_flushed(&mut Disk::default(), pausing) > 0.99);
        // A slow disk, and somebody else who flushes too.
        let shared = |commit| if commit % 4 == 0 { 10 } else { 1_100 };
        assert!(share_flushed(&mut Disk::default(), shared) < 0.02);
    }

    #[test]
    fn a_disk_that_has_changed_is_noticed() {
        let mut disk = Disk::default();
        for (time, flushes) in [(1_100, false), (150, true), (1_100, false)] {
            let share = share_flushed(&mut disk, |_| time);
            assert_eq!(share > 0.99, flushes, "{share} after {time}");
            assert_eq!(share < 0.02, !flushes, "{share} after {time}");
        }
    }
}
