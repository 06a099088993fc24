//! Counts of final answers and the times until they came.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::{Done, explain};

/// Three digits up to an hour, in microseconds.
const LONGEST_US: u64 = 3_600_000_000;

pub struct Tally {
    pub sold: u64,
    pub refused: BTreeMap<String, u64>,
    /// Buyers who got an error instead of an answer, by its message.
    pub unanswered: BTreeMap<String, u64>,
    times_us: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            sold: 0,
            refused: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            times_us: Histogram::new_with_max(LONGEST_US, 3).expect("the bounds are valid"),
        }
    }
}

impl Tally {
    pub fn add(&mut self, done: &Done) {
        match &done.answer {
            Ok(answer) if answer.success() => self.sold += 1,
            Ok(answer) => *self.refused.entry(answer.reason().into()).or_default() += 1,
            Err(error) => {
                *self.unanswered.entry(explain(error)).or_default() += 1;
                return;
            }
        }
        self.times_us
            .saturating_record(done.took.as_micros() as u64);
    }

    pub fn merge(&mut self, other: Self) {
        self.sold += other.sold;
        for (reason, times) in other.refused {
            *self.refused.entry(reason).or_default() += times;
        }
        for (error, times) in other.unanswered {
            *self.unanswered.entry(error).or_default() += times;
        }
        self.times_us.add(other.times_us).expect("the same bounds");
    }

    pub fn refused(&self) -> u64 {
        self.refused.values().sum()
    }

    pub fn unanswered(&self) -> u64 {
        self.unanswered.values().sum()
    }

    /// The time within which this share (0 to 100) of the buyers had their final answer.
    pub fn percentile(&self, percent: f64) -> Duration {
        Duration::from_micros(self.times_us.value_at_percentile(percent))
    }
}
