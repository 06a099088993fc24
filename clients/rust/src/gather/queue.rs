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
    /// Whether an earlier call for it, whose answer was lost, may have been made.
    pub is_unknown: bool,
}

impl Click {
    pub fn new(purchase: Purchase, answer_to: oneshot::Sender<Outcome>) -> Self {
        Self {
            purchase,
            answer_to,
            clicked_at: Instant::now(),
            is_unknown: false,
        }
    }

    /// Whether nobody waits for the answer any more.
    pub fn has_left(&self) -> bool {
        self.answer_to.is_closed()
    }

    pub fn waited(&self) -> Duration {
        self.clicked_at.elapsed()
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
    is_closed: bool,
}

impl Queue {
    pub fn new(options: &GathererOptions) -> Self {
        let state = State {
            clicks: VecDeque::new(),
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

    pub fn push(&self, click: Click) -> Result<(), Error> {
        let waiting = {
            let mut state = self.state();
            if state.is_closed {
                return Err(Error::Closed);
            }
            if state.clicks.len() >= self.size {
                return Err(Error::Overloaded);
            }
            state.clicks.push_back(click);
            state.clicks.len()
        };
        if waiting == 1 || waiting == self.largest_batch {
            self.changed.notify_one();
        }
        Ok(())
    }

    pub fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_one();
    }

    /// The next clicks, at least one; `None` once the queue is closed and empty.
    pub async fn next_batch(&self) -> Option<Vec<Click>> {
        let _turn = self.turn.lock().await;
        while self.state().clicks.is_empty() {
            if self.state().is_closed {
                return None;
            }
            self.changed.notified().await;
        }
        let until = Instant::now() + self.longest_wait;
        while !self.has_batch() && timeout_at(until, self.changed.notified()).await.is_ok() {}
        let mut state = self.state();
        let count = state.clicks.len().min(self.largest_batch);
        Some(state.clicks.drain(..count).collect())
    }

    /// Whether there is nothing to wait for.
    fn has_batch(&self) -> bool {
        let state = self.state();
        state.is_closed || state.clicks.len() >= self.largest_batch
    }
}
