//! Gathers the clicks of many users for a moment, and buys for all of them in one call.

mod queue;
mod worker;

use std::error::Error as StdError;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_postgres::Client;

use self::queue::{Click, Queue};
use self::worker::Worker;
use crate::answer::Answer;
use crate::error::Error;
use crate::outcomes::Reservation;
use crate::purchase::{Purchase, Strategy};

/// How a [`Gatherer`] gathers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GathererOptions {
    /// Connections that it opens, at least 1, each with one call under way at most. Default: 2.
    pub connections: usize,
    /// The most purchases in one call, 1 to 1,000. Default: 256.
    pub largest_batch: usize,
    /// How long the first click of a batch waits for others. Default: 1 ms.
    pub longest_wait: Duration,
    /// The most clicks that wait for a connection; further ones are [`Error::Overloaded`]. Default: 4,096.
    pub queue_size: usize,
    /// How long a click may wait for its call, and how long a call is repeated that fails for a cause
    /// that passes. Default: 5 s.
    pub patience: Duration,
    /// How long a call may take before it is cancelled. If that brings no answer within two seconds, its
    /// connection is given up. Less than `patience`, or it is not repeated. Default: 3 s.
    pub call_timeout: Duration,
    /// Of all purchases; `None` is that of the sessions. Default: [`Strategy::Grouped`], under which
    /// calls for the same item take turns. Gather all purchases of an item, or none: while a batch
    /// holds its row, the seller cannot serve those that are made one by one.
    pub strategy: Option<Strategy>,
}

impl Default for GathererOptions {
    fn default() -> Self {
        Self {
            connections: 2,
            largest_batch: 256,
            longest_wait: Duration::from_millis(1),
            queue_size: 4_096,
            patience: Duration::from_secs(5),
            call_timeout: Duration::from_secs(3),
            strategy: Some(Strategy::Grouped),
        }
    }
}

/// What a click is answered.
type Outcome = Result<Answer<Reservation>, Error>;

/// Joins the purchases of its users into calls of `purchase_batch`; one for the whole process.
///
/// One statement and one commit pay for a whole batch, which sells far more of a hot item than a call
/// for each click, over a handful of connections. Clones share everything. When the last clone is
/// dropped, its connections close as soon as the calls that are under way have ended.
///
/// - Each caller gets the answer, or the error, of its own purchase. A purchase with an argument that
///   the extension does not take, or that a trigger of yours refuses, fails nobody else.
/// - `busy` and `conflict` are answers: repeat them with [`Patience::purchase`](crate::Patience::purchase).
/// - A caller may leave, such as by a time-out: drop the future. If its purchase is still in the
///   queue, it is not made. If it is under way, it may be made: ask again with the same key, or let
///   the reservation expire.
/// - If the connection is lost in mid-call, purchases with a key are asked again until they are
///   answered or `patience` has ended; the others are [`Error::OutcomeUnknown`].
#[derive(Clone)]
pub struct Gatherer(Arc<Door>);

/// What all clones share; closes the queue when the last of them goes.
struct Door {
    queue: Arc<Queue>,
    workers: watch::Receiver<usize>,
    patience: Duration,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Gatherer {
    /// Starts the tasks that make the calls, within a runtime of tokio. `connect` opens a connection
    /// and drives it; it is called when a connection is first needed, and after one was lost.
    ///
    /// ```no_run
    /// # use flashsale_client::{Gatherer, GathererOptions};
    /// use tokio_postgres::{Config, NoTls};
    ///
    /// # fn start(config: Config) -> Gatherer {
    /// let connect = move || {
    ///     let config = config.clone();
    ///     async move {
    ///         let (client, connection) = config.connect(NoTls).await?;
    ///         tokio::spawn(connection);
    ///         Ok::<_, tokio_postgres::Error>(client)
    ///     }
    /// };
    /// Gatherer::start(GathererOptions::default(), connect)
    /// # }
    /// ```
    pub fn start<Connect, Connecting, Cause>(options: GathererOptions, connect: Connect) -> Self
    where
        Connect: Fn() -> Connecting + Send + Sync + 'static,
        Connecting: Future<Output = Result<Client, Cause>> + Send + 'static,
        Cause: StdError + Send + Sync + 'static,
    {
        let queue = Arc::new(Queue::new(&options));
        let connect = Arc::new(connect);
        let (at_work, workers) = watch::channel(0);
        for _ in 0..options.connections.max(1) {
            let worker = Worker::new(Arc::clone(&queue), options, Arc::clone(&connect), &at_work);
            tokio::spawn(worker.run());
        }
        Self(Arc::new(Door {
            queue,
            workers,
            patience: options.patience,
        }))
    }

    /// Makes a purchase together with those of others, by the gatherer's strategy.
    pub async fn purchase(&self, purchase: Purchase) -> Result<Answer<Reservation>, Error> {
        let (answer_to, mut answer) = oneshot::channel();
        let number = self.0.queue.push(Click::new(purchase, answer_to))?;
        let outcome = match timeout(self.0.patience, &mut answer).await {
            Ok(outcome) => outcome,
            Err(_) if self.0.queue.withdraw(number) => return Err(Error::Overloaded),
            Err(_) => answer.await, // it was asked, and its worker knows what became of that
        };
        outcome.unwrap_or_else(|_| {
            Err(Error::OutcomeUnknown(
                "the gatherer's task has ended".into(),
            ))
        })
    }

    /// Accepts no more purchases, and waits until all that were accepted are answered.
    pub async fn drain(&self) {
        self.0.queue.close();
        let mut workers = self.0.workers.clone();
        // An error says that the last worker has gone, too.
        let _ = workers.wait_for(|at_work| *at_work == 0).await;
    }
}
