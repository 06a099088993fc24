//! One connection and its calls.

use std::error::Error as StdError;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use super::GathererOptions;
use super::queue::{Click, Queue};
use crate::answer::Answer;
use crate::buyer::{purchase_batch, purchase_item};
use crate::call::call_within;
use crate::error::Error;
use crate::outcomes::Reservation;
use crate::patience::Spread;

const LONGEST_CONNECT: Duration = Duration::from_secs(2);
/// Texts are 1 to 255 bytes.
const LONGEST_TEXT: usize = 255;

pub struct Worker<Connect> {
    queue: Arc<Queue>,
    options: GathererOptions,
    connect: Arc<Connect>,
    client: Option<Client>,
    /// Between attempts to connect; none after one that succeeded.
    reconnects: Option<Spread>,
    _at_work: AtWork,
}

/// Counts a worker until it ends, however it ends: also by a panic of the application's `connect`, or
/// with its runtime. With the last one the queue ends, so that nobody waits for ever.
struct AtWork {
    count: watch::Sender<usize>,
    queue: Arc<Queue>,
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.count.send_modify(|count| {
            *count -= 1;
            if *count == 0 {
                self.queue.abandon();
            }
        });
    }
}

impl<Connect, Connecting, Cause> Worker<Connect>
where
    Connect: Fn() -> Connecting,
    Connecting: Future<Output = Result<Client, Cause>>,
    Cause: StdError + Send + Sync + 'static,
{
    pub fn new(
        queue: Arc<Queue>,
        options: GathererOptions,
        connect: Arc<Connect>,
        at_work: &watch::Sender<usize>,
    ) -> Self {
        at_work.send_modify(|count| *count += 1);
        let at_work = AtWork {
            count: at_work.clone(),
            queue: Arc::clone(&queue),
        };
        Self {
            queue,
            options,
            connect,
            client: None,
            reconnects: None,
            _at_work: at_work,
        }
    }

    /// Serves until the queue is closed and empty.
    pub async fn run(mut self) {
        while let Some(batch) = self.queue.next_batch().await {
            self.serve(batch).await;
        }
    }

    /// Answers every click of a batch, or lets it rest until it is asked again. Those that could fail
    /// their neighbours are asked alone.
    async fn serve(&mut self, batch: Vec<Click>) {
        let (batch, dubious): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_plausible);
        let mut parts: Vec<Vec<Click>> = dubious.into_iter().map(|click| vec![click]).collect();
        parts.push(batch);
        for click in parts.iter_mut().flatten() {
            click.begin(self.options.patience);
        }
        while let Some(mut part) = parts.pop() {
            part.retain(|click| !click.has_left());
            let (late, mut part): (Vec<_>, Vec<_>) = part.into_iter().partition(Click::is_late);
            late.into_iter().for_each(Click::give_up);
            if part.is_empty() {
                continue;
            }
            let open = match self.ask(&part).await {
                Ok(answers) => answer_each(part, answers),
                Err(error) if part.len() > 1 && can_be_of_one(&error) => {
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                    continue;
                }
                Err(error) => answer_those_not_asked_again(part, error),
            };
            if let Some(open) = open {
                self.rest(open);
            }
        }
    }

    /// Until they are asked again; those that have no time for that fail.
    fn rest(&self, open: Open) {
        let mut pause = Duration::ZERO;
        let mut again = Vec::new();
        for mut click in open.clicks {
            match click.next_pause(open.pause) {
                Some(its) => {
                    pause = pause.max(its);
                    click.error = Some(open.error.clone());
                    again.push(click);
                }
                None => click.fail(&open.error),
            }
        }
        self.queue.rest(again, pause);
    }

    /// Makes one call for all of them, over the connection or a new one.
    async fn ask(&mut self, part: &[Click]) -> Result<Vec<Answer<Reservation>>, Error> {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.connect().await?,
        };
        let calling = call(&client, part, &self.options);
        let call = call_within(&client, self.options.call_timeout, calling).await;
        // A connection whose call has an unknown outcome is given up, too.
        let is_unknown = call.outcome.as_ref().is_err_and(Error::is_outcome_unknown);
        if !call.was_cancelled && !is_unknown {
            self.client = Some(client);
            self.reconnects = None;
        }
        call.outcome
    }

    /// A new connection; after one that failed or was lost, after a pause.
    async fn connect(&mut self) -> Result<Client, Error> {
        match &mut self.reconnects {
            Some(pauses) => sleep(pauses.next(Duration::ZERO)).await,
            None => self.reconnects = Some(Spread::new()),
        }
        let connecting = async {
            let client = (self.connect)().await.map_err(Error::no_connection)?;
            // PgBouncer accepts clients even while it has no server for them.
            let tried = client.simple_query("SELECT 1").await;
            tried.map(|_| client).map_err(Error::no_connection)
        };
        let connected = timeout(LONGEST_CONNECT, connecting).await;
        connected.unwrap_or_else(|elapsed| Err(Error::no_connection(elapsed)))
    }
}

/// One answer for each click.
async fn call(
    client: &Client,
    part: &[Click],
    options: &GathererOptions,
) -> Result<Vec<Answer<Reservation>>, Error> {
    if let [click] = part
        && !is_plausible(click)
    {
        // Its error names the argument without an index.
        return Ok(vec![purchase_item(client, &click.purchase).await?]);
    }
    let purchases = part.iter().map(|click| &click.purchase);
    let answers = purchase_batch(client, purchases, options.strategy).await?;
    if answers.len() != part.len() {
        let text = "another number of answers than of purchases";
        return Err(<serde_json::Error as serde::de::Error>::custom(text).into());
    }
    Ok(answers)
}

/// Clicks that are to be asked again, after a pause at least as long as this; and their answer, if
/// there is no time for that.
struct Open {
    clicks: Vec<Click>,
    pause: Duration,
    error: Error,
}

/// Passes the answers on. Left open are clicks whose earlier call may have been made: it may still be
/// running, and be what their item is busy with.
fn answer_each(part: Vec<Click>, answers: Vec<Answer<Reservation>>) -> Option<Open> {
    let mut open: Option<Open> = None;
    for (click, answer) in part.into_iter().zip(answers) {
        match answer {
            Answer::Refused(refusal) if click.is_unknown && refusal.retryable => {
                let open = open.get_or_insert_with(|| Open {
                    clicks: Vec::new(),
                    pause: Duration::ZERO,
                    error: Error::OutcomeUnknown(refusal.message.as_str().into()),
                });
                open.pause = open.pause.max(refusal.retry_after().unwrap_or_default());
                open.clicks.push(click);
            }
            answer => click.answer(Ok(answer)),
        }
    }
    open
}

/// After an error. Left open are clicks that may be asked again.
fn answer_those_not_asked_again(mut part: Vec<Click>, error: Error) -> Option<Open> {
    if !error.is_passing() {
        fail(part, &error);
        return None;
    }
    if error.is_outcome_unknown() {
        let (repeatable, lost): (Vec<_>, Vec<_>) = part
            .into_iter()
            .partition(|click| click.purchase.is_repeatable());
        fail(lost, &error);
        part = repeatable;
        for click in &mut part {
            click.is_unknown = true;
        }
    }
    if !matches!(error, Error::NoConnection(_)) {
        // In case one of them is the cause.
        let largest_batch = (part.len() / 2).max(1);
        for click in &mut part {
            click.largest_batch = largest_batch;
        }
    }
    (!part.is_empty()).then_some(Open {
        clicks: part,
        pause: Duration::ZERO,
        error,
    })
}

fn fail(part: Vec<Click>, error: &Error) {
    for click in part {
        click.fail(error);
    }
}

/// Whether the extension will take the arguments, as far as that can be seen here. The server says
/// what is wrong with the others.
fn is_plausible(click: &Click) -> bool {
    let is_text = |text: &str| (1..=LONGEST_TEXT).contains(&text.len()) && !text.contains('\0');
    let purchase = &click.purchase;
    purchase.quantity >= 1
        && is_text(&purchase.user_id)
        && purchase.key.as_deref().is_none_or(is_text)
}

/// Whether one purchase can be the cause of an error that all of its batch got: not those that are
/// about the session, its privileges, or the state or the limits of the server. XX000 can be: as that
/// arrives a SQLSTATE of the shop's own.
fn can_be_of_one(error: &Error) -> bool {
    const OF_ALL: [&str; 13] = [
        "0A", "25", "28", "3D", "3F", "42", "54", "55", "57", "58", "F0", "XX001", "XX002",
    ];
    let is_of_all = |state: &str| OF_ALL.iter().any(|begin| state.starts_with(begin));
    error.sqlstate().is_some_and(|state| !is_of_all(state)) && !error.is_passing()
}
