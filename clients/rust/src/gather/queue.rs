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

    /// With the error, unless an earlier call may have been made.
    pub fn fail(self, error: &Error) {
        let error = error.clone();
        let error = if self.is_unknown {
            error.after_unknown()
        } else {
            error
        };
        self.answer(Err(error));
    }
}

/// Who is next.
enum First {
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
    /// Clicks that are to be asked again, and when.
    resting: Vec<(Instant, Click)>,
    /// Clicks there have ever been.
    count: u64,
    is_closed: bool,
}

impl State {
    /// Clicks that have rested wait again, before those that came later.
    fn end_rests(&mut self) {
        let now = Instant::now();
        for (_, click) in self.resting.extract_if(.., |(until, _)| *until <= now) {
            let place = self
                .clicks
                .partition_point(|waiting| waiting.number < click.number);
            self.clicks.insert(place, click);
        }
    }
}

impl Queue {
    pub fn new(options: &GathererOptions) -> Self {
        let state = State {
            clicks: VecDeque::new(),
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
            if state.clicks.len() >= self.size {
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
            Ok(place) if clicks[place].pauses.is_none() => clicks.remove(place).is_some(),
            _ => false,
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
        let (waiting, resting) = {
            let mut state = self.state();
            (take(&mut state.clicks), take(&mut state.resting))
        };
        for click in waiting
            .into_iter()
            .chain(resting.into_iter().map(|rest| rest.1))
        {
            click.fail(&Error::Closed);
        }
    }

    /// The next clicks; none, if all of them were taken back meanwhile. `None` once the queue is closed
    /// and empty.
    pub async fn next_batch(&self) -> Option<Vec<Click>> {
        let _turn = self.turn.lock().await;
        let first_at = loop {
            let rest_ends_at = match self.first() {
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
        let mut state = self.state();
        let count = state.clicks.len().min(self.largest_batch);
        Some(state.clicks.drain(..count).collect())
    }

    fn first(&self) -> First {
        let mut state = self.state();
        state.end_rests();
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
        let click = || Click::new(Purchase::new(1, "anybody"), oneshot::channel().0);
        queue.push(click()).expect("a place");
        tokio::time::advance(Duration::from_millis(700)).await;
        let begun = Instant::now();
        assert_eq!(queue.next_batch().await.map(|batch| batch.len()), Some(1));
        assert_eq!(begun.elapsed(), Duration::from_millis(300));
    }
}
