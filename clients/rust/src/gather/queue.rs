//! The clicks that wait for a call: first come, first served, and only so many of them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use super::{GathererOptions, Outcome};
use crate::error::Error;
use crate::purchase::Purchase;

/// A purchase, and who waits for its answer.
pub struct Click {
    pub purchase: Purchase,
    answer_to: oneshot::Sender<Outcome>,
    clicked_at: Instant,
    /// Ascends in the queue.
    number: u64,
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
            is_unknown: false,
        }
    }

    /// Whether nobody waits for the answer any more.
    pub fn has_left(&self) -> bool {
        self.answer_to.is_closed()
    }

    pub fn answer(self, outcome: Outcome) {
        let _ = self.answer_to.send(outcome); // the caller may have left
    }
}

pub struct Queue {
    state: Mutex<State>,
    /// The queue was empty, or is closed, or has a whole batch.
    changed: Notify,
    /// One connection gathers at a time, so that two do not share the clicks of a moment.
    turn: tokio::sync::Mutex<()>,
    size: usize,
    largest_batch: usize,
    longest_wait: Duration,
}

struct State {
    clicks: VecDeque<Click>,
    /// Clicks there have ever been.
    count: u64,
    is_closed: bool,
}

impl Queue {
    pub fn new(options: &GathererOptions) -> Self {
        let state = State {
            clicks: VecDeque::new(),
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

    /// Takes back a click, if it still waits for its call.
    pub fn withdraw(&self, number: u64) -> bool {
        let clicks = &mut self.state().clicks;
        match clicks.binary_search_by_key(&number, |click| click.number) {
            Ok(place) => clicks.remove(place).is_some(),
            Err(_) => false,
        }
    }

    pub fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_one();
    }

    /// Closes the queue because nobody serves it any more, and says so to those who wait.
    pub fn abandon(&self) {
        self.close();
        let clicks = std::mem::take(&mut self.state().clicks);
        for click in clicks {
            click.answer(Err(Error::Closed));
        }
    }

    /// The next clicks; none, if all of them were taken back meanwhile. `None` once the queue is closed
    /// and empty.
    pub async fn next_batch(&self) -> Option<Vec<Click>> {
        let _turn = self.turn.lock().await;
        let first_at = loop {
            if let Some(first_at) = self.first_at() {
                break first_at;
            }
            if self.state().is_closed {
                return None;
            }
            self.changed.notified().await;
        };
        let until = first_at + self.longest_wait;
        while !self.has_batch() && timeout_at(until, self.changed.notified()).await.is_ok() {}
        let mut state = self.state();
        let count = state.clicks.len().min(self.largest_batch);
        Some(state.clicks.drain(..count).collect())
    }

    /// When the first click that waits was made.
    fn first_at(&self) -> Option<Instant> {
        Some(self.state().clicks.front()?.clicked_at)
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
