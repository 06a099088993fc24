//! Counts of final answers, and the times until they came.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::buyer::Done;

/// Three digits up to an hour, in microseconds.
const LONGEST_US: u64 = 3_600_000_000;

pub struct Tally {
    /// Buyers by their final answer.
    pub answers: BTreeMap<String, usize>,
    /// Buyers without one, by what they got instead.
    pub unanswered: BTreeMap<String, usize>,
    first_us: Histogram<u64>,
    final_us: Histogram<u64>,
}

impl Tally {
    pub fn of(all: &[Done]) -> Self {
        let times = || Histogram::new_with_max(LONGEST_US, 3).expect("the bounds are valid");
        let mut tally = Self {
            answers: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            first_us: times(),
            final_us: times(),
        };
        all.iter().for_each(|done| tally.add(done));
        tally
    }

    fn add(&mut self, done: &Done) {
        match &done.answer {
            Ok(answer) => *self.answers.entry(answer.clone()).or_default() += 1,
            Err(error) => {
                *self.unanswered.entry(error.clone()).or_default() += 1;
                return;
            }
        }
        let us = |time: Duration| time.as_micros() as u64;
        self.first_us.saturating_record(us(done.first_after));
        self.final_us.saturating_record(us(done.final_after));
    }

    pub fn count(&self, answer: &str) -> usize {
        self.answers.get(answer).copied().unwrap_or(0)
    }

    pub fn answered(&self) -> usize {
        self.answers.values().sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        writeln!(to, "  {:<38}{:>12}", "final answer", "buyers")?;
        for (answer, buyers) in self.answers.iter().chain(&self.unanswered) {
            writeln!(to, "  {answer:<38}{buyers:>12}")?;
        }
        writeln!(to)?;
        writeln!(
            to,
            "  {:<26}{:>12}{:>12}{:>12}",
            "time to", "p50", "p99", "max"
        )?;
        for (what, times) in [
            ("the first answer", &self.first_us),
            ("the final answer", &self.final_us),
        ] {
            let at = |percent| {
                let time = Duration::from_micros(times.value_at_percentile(percent));
                format!("{:.2} s", time.as_secs_f64())
            };
            writeln!(
                to,
                "  {what:<26}{:>12}{:>12}{:>12}",
                at(50.0),
                at(99.0),
                at(100.0)
            )?;
        }
        Ok(())
    }
}
