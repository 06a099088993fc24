//! The table at the end, and the checks of its figures.

use std::fmt;
use std::time::Duration;

use storm::Tally;

pub struct Report {
    pub units: u64,
    pub expected: u64,
    pub buyers: u64,
    pub hot: Tally,
    pub retries: u64,
    pub sold_out_after: Duration,
    pub answered_after: Duration,
    pub others: Tally,
    pub orders: i64,
    /// The rows of audit(), as text.
    pub audit: Vec<String>,
}

impl Report {
    /// The failed checks; empty if all is well.
    pub fn complaints(&self) -> Vec<String> {
        let sold_out = self.hot.refused.get("out_of_stock").copied().unwrap_or(0);
        let others = &self.others;
        let numbers = [
            ("units sold", self.hot.sold, self.expected),
            ("orders in the table", self.orders as u64, self.expected),
            ("sold-out answers", sold_out, self.buyers - self.expected),
            ("buyers without a final answer", self.hot.unanswered(), 0),
            ("refused elsewhere", others.refused(), 0),
            ("without a final answer elsewhere", others.unanswered(), 0),
            ("rows of audit()", self.audit.len() as u64, 0),
        ];
        let wrong = numbers.into_iter().filter(|(_, got, wanted)| got != wanted);
        let wrong = wrong.map(|(what, got, wanted)| format!("{what}: {got} instead of {wanted}"));
        let errors = self.hot.unanswered.iter().chain(&others.unanswered);
        let errors = errors.map(|(error, times)| format!("{times} x {error}"));
        wrong
            .chain(errors)
            .chain(self.audit.iter().cloned())
            .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        let mut line = |what: &str, value: String| writeln!(to, "  {what:<38}{value:>12}");
        line("units sold", format!("{} of {}", self.hot.sold, self.units))?;
        line("buyers refused", self.hot.refused().to_string())?;
        line(
            "buyers without a final answer",
            self.hot.unanswered().to_string(),
        )?;
        line("retries after busy", self.retries.to_string())?;
        line("last unit sold after", seconds(self.sold_out_after))?;
        line("last final answer after", seconds(self.answered_after))?;
        line("final answer, p50", seconds(self.hot.percentile(50.0)))?;
        line("final answer, p99", seconds(self.hot.percentile(99.0)))?;
        line("other items bought meanwhile", self.others.sold.to_string())?;
        line(
            "other items, p99",
            milliseconds(self.others.percentile(99.0)),
        )?;
        line(
            "broken invariants (rows of audit())",
            self.audit.len().to_string(),
        )
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
