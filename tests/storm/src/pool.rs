//! A fixed number of connections shared by any number of buyers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, Row, Statement};

use crate::{Answer, Backoff, Call, connect};

const RECONNECT_AFTER_MS: u64 = 20;

pub struct Pool {
    config: Config,
    prepare: bool,
    turns: Semaphore,
    idle: Mutex<Vec<Lane>>,
    retries: AtomicU64,
    reconnects: AtomicU64,
}

impl Pool {
    /// Opens all connections at once, so that a server without room for them fails now.
    pub async fn open(config: &Config, connections: usize) -> Result<Self, Error> {
        let mut pool = Self::unopened(config, connections);
        let idle = pool.idle.get_mut().expect("no panic while held");
        for _ in 0..connections {
            idle.push(Lane::open(config).await?);
        }
        Ok(pool)
    }

    /// Opens each connection when a buyer first needs it.
    pub fn unopened(config: &Config, connections: usize) -> Self {
        Self {
            config: config.clone(),
            prepare: true,
            turns: Semaphore::new(connections),
            idle: Mutex::new(Vec::with_capacity(connections)),
            retries: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
        }
    }

    /// For a pooler that may run each transaction on another server connection.
    pub fn without_prepared_statements(mut self) -> Self {
        self.prepare = false;
        self
    }

    /// Makes this call once on every connection, because the first call of a session loads the
    /// library and plans the statements.
    pub async fn warm_up(&mut self, call: &Call) -> Result<(), Error> {
        for lane in self.idle.get_mut().expect("no panic while held") {
            lane.call(call, self.prepare).await?;
        }
        Ok(())
    }

    /// Calls until there is a final answer: again after `busy`, and over a new connection if the
    /// old one was lost and a repeat does no harm.
    pub async fn settle(&self, call: &Call) -> Result<Answer, Error> {
        let mut backoff = Backoff::default();
        loop {
            let wait_ms = match self.call(call).await {
                Ok(answer) if answer.retryable() => answer.retry_after_ms(),
                Err(error) if call.repeatable() && connection_was_lost(&error) => {
                    self.reconnects.fetch_add(1, Relaxed);
                    RECONNECT_AFTER_MS
                }
                settled => return settled,
            };
            self.retries.fetch_add(1, Relaxed);
            sleep(backoff.next_wait(wait_ms)).await;
        }
    }

    /// Calls once, as soon as a connection is free.
    pub async fn call(&self, call: &Call) -> Result<Answer, Error> {
        let _turn = self
            .turns
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let idle = self.idle.lock().expect("no panic while held").pop();
        let mut lane = match idle {
            Some(lane) => lane,
            None => Lane::open(&self.config).await?,
        };
        // A connection that failed is dropped; the next caller opens a new one.
        let row = lane.call(call, self.prepare).await?;
        self.idle.lock().expect("no panic while held").push(lane);
        Ok(Answer(row.try_get::<_, Value>(0)?))
    }

    /// How often a buyer had to call again.
    pub fn retries(&self) -> u64 {
        self.retries.load(Relaxed)
    }

    /// How many of those because the connection was lost.
    pub fn reconnects(&self) -> u64 {
        self.reconnects.load(Relaxed)
    }
}

/// One connection and the statements prepared on it.
struct Lane {
    client: Client,
    statements: HashMap<&'static str, Statement>,
}

impl Lane {
    async fn open(config: &Config) -> Result<Self, Error> {
        Ok(Self {
            client: connect(config).await?,
            statements: HashMap::new(),
        })
    }

    async fn call(&mut self, call: &Call, prepare: bool) -> Result<Row, Error> {
        let parameters = call.parameters();
        if !prepare {
            return self.client.query_typed_one(call.sql(), &parameters).await;
        }
        let (values, types): (Vec<_>, Vec<_>) = parameters.into_iter().unzip();
        let statement = match self.statements.entry(call.sql()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(self.client.prepare_typed(call.sql(), &types).await?),
        };
        self.client.query_one(&*statement, &values).await
    }
}

/// The connection was lost, so the outcome of the call is unknown; or the server accepts none yet.
fn connection_was_lost(error: &Error) -> bool {
    match error.code() {
        Some(code) => [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::TOO_MANY_CONNECTIONS,
        ]
        .contains(code),
        // No SQLSTATE: the connection broke, or was refused.
        None => error.is_closed() || has_io_cause(error),
    }
}

fn has_io_cause(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.is::<std::io::Error>())
}
