//! The clicks that wait for a call: first come, first served, and only so many of them.

use std::collections::VecDeque;
use std::mem::take;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use super::{GathererOptions, Outcome};
use crate::error::Error;
use crate::patience::Pauses;
use crate::purchase::Purchase;

/// A purchase, and who waits for its answer.
pub struct Click {
    pub purchase: Purchase,
    answer_to: oneshot::Sender<Outcome>,
    clicked_at: Instant,
    /// Ascends in the queue.
    number: u64,
    /// Between its calls; none before the first.
    pauses: Option<Pauses>,
    /// The most clicks of a call with it.
    pub largest_batch: usize,
    /// Of its last call, if it is to be asked again.
    pub error: Option<Error>,
    /// Whether an earlier call for it, whose answer was lost, may have been made.
    pub is_unknown: bool,
}

impl Click {
    pub fn new(purchase: Purchase, answer_to: oneshot::Sender<Outcome>) -> Self {
        Self {
            purchase,
            answer_to,
            clicked_at: Instant::now(),
            number: 0,
            pauses: None,
            largest_batch: usize::MAX,
            error: None,
            is_unknown: false,
        }
    }

    /// Whether nobody waits for the answer any more.
    pub fn has_left(&self) -> bool {
        self.answer_to.is_closed()
    }

    /// It is about to be asked: the first time, its patience begins.
    pub fn begin(&mut self, patience: Duration) {
        let begin = || Pauses::until(Instant::now() + patience);
        self.pauses.get_or_insert_with(begin);
    }

    /// Whether its patience has ended.
    pub fn is_late(&self) -> bool {
        self.pauses.as_ref().is_some_and(Pauses::have_ended)
    }

    /// How long it rests before it is asked again; `None` if its patience has ended by then.
    pub fn next_pause(&mut self, at_least: Duration) -> Option<Duration> {
        self.pauses.as_mut()?.next(at_least)
    }

    pub fn answer(self, outcome: Outcome) {
        let _ = self.answer_to.send(outcome); // the caller may have left
    }

    /// With the error, unless this call or an earlier one may have been made.
    pub fn fail(self, error: &Error) {
        let error = error.clone();
        let error = if self.is_unknown || error.is_outcome_unknown() {
            error.into_unknown()
        } else {
            error
        };
        self.answer(Err(error));
    }

    /// Its patience has ended, in the queue or at rest.
    pub fn give_up(mut self) {
        let error = self.error.take().unwrap_or(Error::Overloaded);
        self.fail(&error);
    }
}

/// Who is next.
enum First {
    /// Clicks that are asked again.
    Again(Vec<Click>),
    /// Since when.
    Waits(Instant),
    /// Until when.
    Rests(Instant),
    Nobody,
}

pub struct Queue {
    state: Mutex<State>,
    /// The queue was empty, or is closed, or has a whole batch, or clicks have come to rest.
    changed: Notify,
    /// One connection gathers at a time, so that two do not share the clicks of a moment.
    turn: tokio::sync::Mutex<()>,
    size: usize,
    largest_batch: usize,
    longest_wait: Duration,
}

struct State {
    /// In the order of their numbers.
    clicks: VecDeque<Click>,
    /// Clicks that are to be asked again, and have rested.
    again: VecDeque<Click>,
    /// Whether the last call was made of those.
    again_was_last: bool,
    /// Clicks that are to be asked again, and when.
    resting: Vec<(Instant, Click)>,
    /// Clicks there have ever been.
    count: u64,
    is_closed: bool,
}

impl State {
    fn end_rests(&mut self) {
        let now = Instant::now();
        let rested = self.resting.extract_if(.., |(until, _)| *until <= now);
        self.again.extend(rested.map(|(_, click)| click));
    }

    /// Those of the next call, and all whose patience has ended.
    fn take_again(&mut self, largest: usize) -> Vec<Click> {
        let (mut batch, again): (Vec<_>, Vec<_>) =
            take(&mut self.again).into_iter().partition(Click::is_late);
        self.again = again.into();
        batch.extend(take_batch(&mut self.again, largest));
        batch
    }

    /// All that wait for a call.
    fn waiting(&self) -> usize {
        self.clicks.len() + self.again.len() + self.resting.len()
    }
}

/// As many of the first clicks as may be in a call with each other.
fn take_batch(clicks: &mut VecDeque<Click>, mut largest: usize) -> Vec<Click> {
    let mut count = 0;
    for click in &*clicks {
        largest = largest.min(click.largest_batch);
        if count >= largest {
            break;
        }
        count += 1;
    }
    clicks.drain(..count).collect()
}

impl Queue {
    pub fn new(options: &GathererOptions) -> Self {
        let state = State {
            clicks: VecDeque::new(),
            again: VecDeque::new(),
            again_was_last: false,
            resting: Vec::new(),
            count: 0,
            is_closed: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
            size: options.queue_size,
            largest_batch: options.largest_batch.clamp(1, 1_000),
            longest_wait: options.longest_wait,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// Returns the click's number.
    pub fn push(&self, mut click: Click) -> Result<u64, Error> {
        let (number, waiting) = {
            let mut state = self.state();
            if state.is_closed {
                return Err(Error::Closed);
            }
            if state.waiting() >= self.size {
                return Err(Error::Overloaded);
            }
            state.count += 1;
            click.number = state.count;
            state.clicks.push_back(click);
            (state.count, state.clicks.len())
        };
        if waiting == 1 || waiting == self.largest_batch {
            self.changed.notify_one();
        }
        Ok(number)
    }

    /// Takes back a click, if it still waits for its first call.
    pub fn withdraw(&self, number: u64) -> bool {
        let clicks = &mut self.state().clicks;
        match clicks.binary_search_by_key(&number, |click| click.number) {
            Ok(place) => clicks.remove(place).is_some(),
            Err(_) => false,
        }
    }

    /// Clicks that are to be asked again after a pause, in which others are served.
    pub fn rest(&self, clicks: Vec<Click>, pause: Duration) {
        let until = Instant::now() + pause;
        let clicks = clicks.into_iter().map(|click| (until, click));
        self.state().resting.extend(clicks);
        self.changed.notify_one();
    }

    pub fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_one();
    }

    /// Closes the queue because nobody serves it any more, and says so to those who wait.
    pub fn abandon(&self) {
        self.close();
        let (waiting, again, resting) = {
            let mut state = self.state();
            (
                take(&mut state.clicks),
                take(&mut state.again),
                take(&mut state.resting),
            )
        };
        let resting = resting.into_iter().map(|(_, click)| click);
        for click in waiting.into_iter().chain(again).chain(resting) {
            click.fail(&Error::Closed);
        }
    }

    /// The next clicks; none, if all of them were taken back meanwhile. `None` once the queue is closed
    /// and empty. Those that are asked again take turns with the others, who so wait for no more than
    /// one call of them.
    pub async fn next_batch(&self) -> Option<Vec<Click>> {
        let _turn = self.turn.lock().await;
        let first_at = loop {
            let rest_ends_at = match self.first() {
                First::Again(batch) => return Some(batch),
                First::Waits(clicked_at) => break clicked_at,
                First::Rests(until) => Some(until),
                First::Nobody if self.state().is_closed => return None,
                First::Nobody => None,
            };
            let changed = self.changed.notified();
            match rest_ends_at {
                Some(until) => drop(timeout_at(until, changed).await),
                None => changed.await,
            }
        };
        let until = first_at + self.longest_wait;
        while !self.has_batch() && timeout_at(until, self.changed.notified()).await.is_ok() {}
        Some(take_batch(&mut self.state().clicks, self.largest_batch))
    }

    fn first(&self) -> First {
        let mut state = self.state();
        state.end_rests();
        let others_turn = state.again_was_last && !state.clicks.is_empty();
        state.again_was_last = !state.again.is_empty() && !others_turn;
        if state.again_was_last {
            return First::Again(state.take_again(self.largest_batch));
        }
        if let Some(click) = state.clicks.front() {
            return First::Waits(click.clicked_at);
        }
        let next = state.resting.iter().map(|(until, _)| *until).min();
        next.map_or(First::Nobody, First::Rests)
    }

    /// Whether there is nothing to wait for.
    fn has_batch(&self) -> bool {
        let state = self.state();
        state.is_closed || state.clicks.len() >= self.largest_batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_click_that_waited_for_a_connection_does_not_wait_for_others_again() {
        let options = GathererOptions {
            longest_wait: Duration::from_secs(1),
            ..GathererOptions::default()
        };
        let queue = Queue::new(&options);
        queue.push(click()).expect("a place");
        tokio::time::advance(Duration::from_millis(700)).await;
        let begun = Instant::now();
        assert_eq!(queue.next_batch().await.map(|batch| batch.len()), Some(1));
        assert_eq!(begun.elapsed(), Duration::from_millis(300));
    }

    fn click() -> Click {
        Click::new(Purchase::new(1, "anybody"), oneshot::channel().0)
    }

    async fn next_size(queue: &Queue) -> Option<usize> {
        queue.next_batch().await.map(|batch| batch.len())
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_are_asked_again_take_turns_with_the_others() {
        let queue = Queue::new(&GathererOptions::default());
        let mut clicks = vec![click(), click(), click(), click()];
        for click in &mut clicks {
            click.largest_batch = 2;
        }
        queue.rest(clicks, Duration::ZERO);
        for _ in 0..3 {
            queue.push(click()).expect("a place");
        }
        let sizes = [
            next_size(&queue).await,
            next_size(&queue).await,
            next_size(&queue).await,
        ];
        assert_eq!(sizes, [Some(2), Some(3), Some(2)]);
        queue.close();
        assert_eq!(next_size(&queue).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn those_whose_patience_has_ended_are_not_kept_for_the_calls_of_others() {
        let queue = Queue::new(&GathererOptions::default());
        let mut clicks: Vec<_> = (0..4).map(|_| click()).collect();
        for click in &mut clicks {
            click.largest_batch = 1;
            click.begin(Duration::from_secs(5));
        }
        queue.rest(clicks, Duration::ZERO);
        assert_eq!(next_size(&queue).await, Some(1));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(next_size(&queue).await, Some(3));
    }

    #[tokio::test(start_paused = true)]
    async fn clicks_that_are_to_be_asked_again_count() {
        let options = GathererOptions {
            queue_size: 2,
            ..GathererOptions::default()
        };
        let queue = Queue::new(&options);
        queue.rest(vec![click()], Duration::ZERO);
        queue.rest(vec![click()], Duration::from_secs(60));
        assert!(matches!(queue.push(click()), Err(Error::Overloaded)));
        assert_eq!(next_size(&queue).await, Some(1));
        queue.push(click()).expect("a place");
    }

    #[test]
    fn what_may_have_been_made_is_unknown_by_one_name() {
        let (answer_to, mut answer) = oneshot::channel();
        let unreadable = serde_json::from_str::<u8>("no number").expect_err("no number");
        Click::new(Purchase::new(1, "anybody"), answer_to).fail(&unreadable.into());
        let outcome = answer.try_recv().expect("an outcome");
        assert!(
            matches!(outcome, Err(Error::OutcomeUnknown(_))),
            "{outcome:?}"
        );
    }
}
