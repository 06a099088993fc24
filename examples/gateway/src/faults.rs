//! What goes wrong, decided by a seed: the same seed does the same to the same request.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use clap::Args;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Shares of requests, 0 to 1, that go wrong in a way.
#[derive(Args, Clone, Debug, Default)]
pub struct Faults {
    /// Cards that are declined
    #[arg(long, env = "GATEWAY_DECLINES", default_value_t = 0.0, value_parser = share)]
    pub declines: f64,

    /// Requests that take 100 to 500 ms
    #[arg(long, env = "GATEWAY_SLOW", default_value_t = 0.0, value_parser = share)]
    pub slow: f64,

    /// Requests that are carried out, but whose answer is held back
    #[arg(long, env = "GATEWAY_TIMEOUTS", default_value_t = 0.0, value_parser = share)]
    pub timeouts: f64,

    /// Requests that fail with status 500, and nothing done
    #[arg(long, env = "GATEWAY_ERRORS", default_value_t = 0.0, value_parser = share)]
    pub errors: f64,

    /// Requests that are carried out, but answered with status 500
    #[arg(long, env = "GATEWAY_LOST", default_value_t = 0.0, value_parser = share)]
    pub lost: f64,

    /// Webhooks that are delivered twice
    #[arg(long, env = "GATEWAY_DUPLICATES", default_value_t = 0.0, value_parser = share)]
    pub duplicates: f64,

    /// Webhooks that arrive up to 2 s late, after others
    #[arg(long, env = "GATEWAY_SHUFFLED", default_value_t = 0.0, value_parser = share)]
    pub shuffled: f64,

    /// How long an answer is held back, in ms
    #[arg(long, env = "GATEWAY_HOLD_MS", default_value_t = 30_000)]
    pub hold_ms: u64,

    /// What the faults are drawn from
    #[arg(long, env = "GATEWAY_SEED", default_value_t = 0)]
    pub seed: u64,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("must be a share from 0 to 1".into()),
    }
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    None,
    /// Nothing done.
    Error,
    /// Done, but the answer says otherwise.
    Lost,
    /// Done, but the answer comes when nobody waits for it any more.
    Timeout,
}

impl Faults {
    fn draw(&self, what: impl Hash) -> StdRng {
        let mut hasher = DefaultHasher::new();
        (self.seed, what).hash(&mut hasher);
        StdRng::seed_from_u64(hasher.finish())
    }

    /// How long the `attempt`th request with a name takes, and what goes wrong with it.
    pub fn of_request(&self, name: &str, attempt: u32) -> (Duration, Mishap) {
        let mut random = self.draw(("request", name, attempt));
        let delay_ms = if random.random_bool(self.slow) {
            random.random_range(100..=500)
        } else {
            0
        };
        let mishap = match random.random::<f64>() {
            at if at < self.errors => Mishap::Error,
            at if at < self.errors + self.lost => Mishap::Lost,
            at if at < self.errors + self.lost + self.timeouts => Mishap::Timeout,
            _ => Mishap::None,
        };
        (Duration::from_millis(delay_ms), mishap)
    }

    /// Whether the card of a confirmation with a name is declined.
    pub fn declines(&self, name: &str) -> bool {
        self.draw(("decline", name)).random_bool(self.declines)
    }

    /// After which delays the event with a name is delivered, once or twice.
    pub fn of_event(&self, name: &str) -> Vec<Duration> {
        let mut random = self.draw(("event", name));
        let times = if random.random_bool(self.duplicates) {
            2
        } else {
            1
        };
        let mut delay = || {
            if random.random_bool(self.shuffled) {
                random.random_range(0..=2_000)
            } else {
                0
            }
        };
        (0..times).map(|_| Duration::from_millis(delay())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults() -> Faults {
        Faults {
            declines: 0.2,
            slow: 0.5,
            errors: 0.1,
            lost: 0.1,
            timeouts: 0.1,
            seed: 7,
            ..Faults::default()
        }
    }

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let drawn = |faults: &Faults| -> Vec<_> {
            (0..100)
                .map(|n| {
                    (
                        faults.of_request("order-1", n),
                        faults.declines(&format!("pi_{n}")),
                    )
                })
                .collect()
        };
        assert_eq!(drawn(&faults()), drawn(&faults()));
        assert_ne!(
            drawn(&faults()),
            drawn(&Faults {
                seed: 8,
                ..faults()
            })
        );
    }

    #[test]
    fn a_share_is_no_percentage() {
        assert_eq!(share("0.25"), Ok(0.25));
        for text in ["10", "-0.1", "NaN", ""] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_kept() {
        let faults = faults();
        let count = |mishap| {
            (0..10_000)
                .filter(|n| faults.of_request("key", *n).1 == mishap)
                .count()
        };
        for mishap in [Mishap::Error, Mishap::Lost, Mishap::Timeout] {
            assert!(
                (900..1_100).contains(&count(mishap)),
                "{mishap:?}: {}",
                count(mishap)
            );
        }
        let declined = (0..10_000)
            .filter(|n| faults.declines(&n.to_string()))
            .count();
        assert!((1_850..2_150).contains(&declined), "{declined}");
    }
}
