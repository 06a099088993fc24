//! Repeats calls until their answer is final.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::answer::Answer;
use crate::error::Error;
use crate::outcomes::Reservation;
use crate::purchase::Purchase;

const FIRST_SPREAD: Duration = Duration::from_millis(10);
const LONGEST_SPREAD: Duration = Duration::from_millis(500);

/// How long a call is repeated that is answered `busy` or `conflict`, or that fails for a cause that
/// passes, such as a server that restarts.
///
/// Between two tries it waits as long as the answer says, and a random part of a spread that doubles
/// from 10 ms up to 500 ms. It begins no try after its end, and cuts none short: for that bound the
/// statements of your sessions (`statement_timeout`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    lasts: Duration,
}

impl Default for Patience {
    /// Five seconds.
    fn default() -> Self {
        Self::of(Duration::from_secs(5))
    }
}

impl Patience {
    /// From the first try on.
    pub fn of(lasts: Duration) -> Self {
        Self { lasts }
    }

    /// Makes a purchase with `call`, which takes a connection and calls
    /// [`purchase_item`](crate::purchase_item), or passes it to a [`Gatherer`](crate::Gatherer).
    ///
    /// A purchase with a key is also repeated if its answer was lost: with the same key it is the
    /// same purchase. One without a key is then an [`Error::OutcomeUnknown`].
    ///
    /// If `call` opens the connection itself, pass its failure through [`Error::no_connection`]: by `?`
    /// alone, it counts as a connection lost in mid-call.
    ///
    /// ```no_run
    /// # use flashsale_client::{Answer, Error, Patience, Purchase, Reservation, purchase_item};
    /// # use tokio_postgres::{Config, NoTls};
    /// # async fn buy(config: &Config, purchase: &Purchase) -> Result<Answer<Reservation>, Error> {
    /// let call = async || {
    ///     let connected = config.connect(NoTls).await;
    ///     let (client, connection) = connected.map_err(Error::no_connection)?;
    ///     tokio::spawn(connection);
    ///     purchase_item(&client, purchase).await
    /// };
    /// Patience::default().purchase(purchase, call).await
    /// # }
    /// ```
    pub async fn purchase<Call, Try>(
        self,
        purchase: &Purchase,
        call: Call,
    ) -> Result<Answer<Reservation>, Error>
    where
        Call: FnMut() -> Try,
        Try: Future<Output = Result<Answer<Reservation>, Error>>,
    {
        if purchase.is_repeatable() {
            return self.repeat(call).await;
        }
        match self
            .until_final(call, |error| !error.is_outcome_unknown())
            .await
        {
            Err(error) if error.is_outcome_unknown() => Err(error.into_unknown()),
            outcome => outcome,
        }
    }

    /// Repeats a call that it is harmless to repeat even if its answer was lost: every function of
    /// the extension but a purchase and a restock without a key.
    pub async fn repeat<T, Call, Try>(self, call: Call) -> Result<Answer<T>, Error>
    where
        Call: FnMut() -> Try,
        Try: Future<Output = Result<Answer<T>, Error>>,
    {
        self.until_final(call, |_| true).await
    }

    async fn until_final<T, Call, Try>(
        self,
        mut call: Call,
        may_repeat: fn(&Error) -> bool,
    ) -> Result<Answer<T>, Error>
    where
        Call: FnMut() -> Try,
        Try: Future<Output = Result<Answer<T>, Error>>,
    {
        let mut pauses = Pauses::until(Instant::now() + self.lasts);
        let mut is_unknown = false;
        loop {
            let outcome = call().await;
            let at_least = match &outcome {
                Ok(Answer::Refused(refusal)) if refusal.retryable => {
                    Some(refusal.retry_after().unwrap_or_default())
                }
                Err(error) if error.is_passing() && may_repeat(error) => Some(Duration::ZERO),
                _ => None,
            };
            is_unknown |= matches!(&outcome, Err(error) if error.is_outcome_unknown());
            let is_final = match at_least {
                Some(at_least) => !pauses.pause(at_least).await,
                None => true,
            };
            if is_final {
                return if is_unknown {
                    after_unknown(outcome)
                } else {
                    outcome
                };
            }
        }
    }
}

/// The last outcome of a call that an earlier try may have made. A refusal that may pass says nothing
/// about that try: it may still be running, and be what the item is busy with.
fn after_unknown<T>(outcome: Result<Answer<T>, Error>) -> Result<Answer<T>, Error> {
    match outcome {
        Ok(Answer::Refused(refusal)) if refusal.retryable => {
            Err(Error::OutcomeUnknown(refusal.message.into()))
        }
        Ok(answer) => Ok(answer),
        Err(error) => Err(error.into_unknown()),
    }
}

/// Pauses that grow, and differ, so that those who wait do not come back in step.
pub(crate) struct Spread(Duration);

impl Spread {
    pub(crate) fn new() -> Self {
        Self(FIRST_SPREAD)
    }

    /// How long the next pause is.
    pub(crate) fn next(&mut self, at_least: Duration) -> Duration {
        let pause = at_least + self.0.mul_f64(random());
        self.0 = (self.0 * 2).min(LONGEST_SPREAD);
        pause
    }
}

/// Such pauses up to an end.
pub(crate) struct Pauses {
    spread: Spread,
    end: Instant,
}

impl Pauses {
    pub(crate) fn until(end: Instant) -> Self {
        Self {
            spread: Spread::new(),
            end,
        }
    }

    /// Whether it is too late for anything else.
    pub(crate) fn have_ended(&self) -> bool {
        Instant::now() >= self.end
    }

    /// How long the next pause is; `None` if it would last past the end.
    pub(crate) fn next(&mut self, at_least: Duration) -> Option<Duration> {
        let pause = self.spread.next(at_least);
        (Instant::now() + pause < self.end).then_some(pause)
    }

    /// Waits; or returns `false` at once, if the pause would last past the end.
    async fn pause(&mut self, at_least: Duration) -> bool {
        let Some(pause) = self.next(at_least) else {
            return false;
        };
        sleep(pause).await;
        true
    }
}

/// Between 0 and 1. The standard library seeds each of its hashers at random: enough for jitter.
fn random() -> f64 {
    RandomState::new().hash_one(()) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::{Reason, Refusal};

    fn busy() -> Answer<Reservation> {
        Answer::Refused(Refusal {
            reason: Reason::Busy,
            message: "The item is busy.".into(),
            retryable: true,
            details: serde_json::Map::new(),
        })
    }

    fn lost() -> Error {
        Error::OutcomeUnknown("the connection was lost".into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_purchase_without_a_key_is_not_repeated_if_its_answer_was_lost() {
        let tries = Cell::new(0);
        let call = || {
            tries.set(tries.get() + 1);
            async { Err(lost()) }
        };
        let purchase = Purchase::new(1, "alice");
        let outcome = Patience::default().purchase(&purchase, call).await;
        assert!(matches!(outcome, Err(Error::OutcomeUnknown(_))));
        assert_eq!(tries.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_purchase_with_a_key_is_repeated_until_patience_ends() {
        let begun = Instant::now();
        let tries = Cell::new(0);
        let call = || {
            tries.set(tries.get() + 1);
            async { Err(lost()) }
        };
        let purchase = Purchase::new(1, "alice").key("basket 1");
        let outcome = Patience::default().purchase(&purchase, call).await;
        assert!(matches!(outcome, Err(Error::OutcomeUnknown(_))));
        assert!(tries.get() > 5, "{} tries", tries.get());
        assert!(begun.elapsed() <= Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_may_have_been_made_stays_unknown() {
        let mut tries = 0;
        let call = || {
            tries += 1;
            let error = if tries == 1 {
                lost()
            } else {
                Error::Overloaded
            };
            async move { Err::<Answer<Reservation>, _>(error) }
        };
        let outcome = Patience::default().repeat(call).await;
        assert!(matches!(outcome, Err(Error::OutcomeUnknown(_))));
    }

    /// The first try may still be running, and be what the item is busy with.
    #[tokio::test(start_paused = true)]
    async fn a_purchase_that_is_only_busy_after_a_lost_answer_stays_unknown() {
        let mut tries = 0;
        let call = || {
            tries += 1;
            let outcome = if tries == 1 { Err(lost()) } else { Ok(busy()) };
            async move { outcome }
        };
        let purchase = Purchase::new(1, "alice").key("basket 1");
        let outcome = Patience::default().purchase(&purchase, call).await;
        assert!(
            matches!(outcome, Err(Error::OutcomeUnknown(_))),
            "{outcome:?}"
        );
        let outcome = Patience::default()
            .purchase(&purchase, || async { Ok(busy()) })
            .await;
        assert!(
            matches!(outcome, Ok(Answer::Refused(_))),
            "all its tries are known: {outcome:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_pass_is_final() {
        let tries = Cell::new(0);
        let call = || {
            tries.set(tries.get() + 1);
            async { Err::<Answer<Reservation>, _>(Error::Overloaded) }
        };
        let outcome = Patience::default().repeat(call).await;
        assert!(matches!(outcome, Err(Error::Overloaded)));
        assert_eq!(tries.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_differ_and_are_as_long_as_the_answer_says() {
        let end = Instant::now() + Duration::from_secs(60);
        let (mut one, mut other) = (Pauses::until(end), Pauses::until(end));
        let mut lasted = Vec::new();
        for pauses in [&mut one, &mut other] {
            for _ in 0..10 {
                let begun = Instant::now();
                assert!(pauses.pause(Duration::from_millis(7)).await);
                lasted.push(begun.elapsed());
            }
        }
        assert!(
            lasted
                .iter()
                .all(|pause| *pause >= Duration::from_millis(7))
        );
        assert_ne!(lasted[..10], lasted[10..]);
    }
}
