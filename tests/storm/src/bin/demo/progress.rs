//! What is shown while the sale runs: bars on a terminal, a line a second elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

const BETWEEN_LINES: Duration = Duration::from_secs(1);

pub struct Progress {
    sold: ProgressBar,
    answered: ProgressBar,
    plain: bool,
    next_line_at: Instant,
}

impl Progress {
    pub fn start(units: u64, buyers: u64) -> Self {
        let bars = MultiProgress::new();
        let bar = |length, label: &str| {
            let template = format!("  {label} {{bar:40}} {{human_pos}} of {{human_len}}{{msg}}");
            let style = ProgressStyle::with_template(&template).expect("the template is valid");
            bars.add(ProgressBar::new(length).with_style(style))
        };
        Self {
            sold: bar(units, "units sold     "),
            answered: bar(buyers, "buyers answered"),
            plain: !stderr().is_terminal(),
            next_line_at: Instant::now() + BETWEEN_LINES,
        }
    }

    pub fn show(&mut self, sold: u64, refused: u64, retries: u64) {
        self.sold.set_position(sold);
        self.answered.set_position(sold + refused);
        self.answered
            .set_message(format!("  ({refused} refused, {retries} retries)"));
        if self.plain && Instant::now() >= self.next_line_at {
            self.next_line_at = Instant::now() + BETWEEN_LINES;
            eprintln!("  sold {sold}, refused {refused}, retries {retries}");
        }
    }

    pub fn finish(&self) {
        self.sold.abandon();
        self.answered.abandon();
    }
}
