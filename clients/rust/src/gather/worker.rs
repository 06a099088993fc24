//! One connection and its calls.

use std::error::Error as StdError;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;

use super::GathererOptions;
use super::queue::{Click, Queue};
use crate::answer::Answer;
use crate::buyer::{purchase_batch, purchase_item};
use crate::error::Error;
use crate::outcomes::Reservation;
use crate::patience::Pauses;

const LONGEST_CONNECT: Duration = Duration::from_secs(2);
/// Texts are 1 to 255 bytes.
const LONGEST_TEXT: usize = 255;

pub struct Worker<Connect> {
    queue: Arc<Queue>,
    options: GathererOptions,
    connect: Arc<Connect>,
    client: Option<Client>,
    _at_work: AtWork,
}

/// Counts a worker until it ends, however it ends.
struct AtWork(watch::Sender<usize>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
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
        Self {
            queue,
            options,
            connect,
            client: None,
            _at_work: AtWork(at_work.clone()),
        }
    }

    /// Serves until the queue is closed and empty.
    pub async fn run(mut self) {
        while let Some(batch) = self.queue.next_batch().await {
            self.serve(batch).await;
        }
    }

    /// Answers every click of a batch. Those that could fail their neighbours are asked alone.
    async fn serve(&mut self, batch: Vec<Click>) {
        let (batch, dubious): (Vec<_>, Vec<_>) =
            self.in_time(batch).into_iter().partition(is_plausible);
        let mut parts: Vec<Vec<Click>> = dubious.into_iter().map(|click| vec![click]).collect();
        parts.push(batch);
        let mut pauses = Pauses::until(Instant::now() + self.options.patience);
        while let Some(mut part) = parts.pop() {
            part.retain(|click| !click.has_left());
            if part.is_empty() {
                continue;
            }
            match self.ask(&part).await {
                Ok(answers) => answer_each(part, answers),
                Err(error) if part.len() > 1 && can_be_of_one(&error) => {
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                }
                Err(error) => {
                    let again = self.asked_again(part, &error);
                    if !again.is_empty() && pauses.pause(Duration::ZERO).await {
                        parts.push(again);
                    } else {
                        fail(again, &error);
                    }
                }
            }
        }
    }

    /// Without those that waited too long in the queue.
    fn in_time(&self, batch: Vec<Click>) -> Vec<Click> {
        let (in_time, late) = batch
            .into_iter()
            .partition(|click| click.waited() < self.options.patience);
        fail(late, &Error::Overloaded);
        in_time
    }

    /// The clicks to ask again after an error; the others are answered.
    fn asked_again(&self, part: Vec<Click>, error: &Error) -> Vec<Click> {
        if !error.is_passing() {
            fail(part, error);
            return Vec::new();
        }
        if !error.is_outcome_unknown() {
            return part;
        }
        let (mut again, unknown): (Vec<_>, Vec<_>) = part
            .into_iter()
            .partition(|click| click.purchase.is_repeatable());
        fail(unknown, &Error::OutcomeUnknown(error.to_string().into()));
        for click in &mut again {
            click.is_unknown = true;
        }
        again
    }

    /// Makes one call for all of them, over the connection or a new one.
    async fn ask(&mut self, part: &[Click]) -> Result<Vec<Answer<Reservation>>, Error> {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => connected((self.connect)()).await?,
        };
        let bound = self.options.call_timeout;
        let outcome = match timeout(bound, call(&client, part, &self.options)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::OutcomeUnknown(
                format!("no answer within {bound:?}").into(),
            )),
        };
        // A connection whose call has an unknown outcome is given up.
        if !outcome.as_ref().is_err_and(Error::is_outcome_unknown) {
            self.client = Some(client);
        }
        outcome
    }
}

async fn connected<Cause: StdError + Send + Sync + 'static>(
    connecting: impl Future<Output = Result<Client, Cause>>,
) -> Result<Client, Error> {
    match timeout(LONGEST_CONNECT, connecting).await {
        Ok(connected) => connected.map_err(Error::no_connection),
        Err(elapsed) => Err(Error::no_connection(elapsed)),
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

fn answer_each(part: Vec<Click>, answers: Vec<Answer<Reservation>>) {
    for (click, answer) in part.into_iter().zip(answers) {
        click.answer(Ok(answer));
    }
}

fn fail(part: Vec<Click>, error: &Error) {
    for click in part {
        let error = error.clone();
        let error = if click.is_unknown {
            error.after_unknown()
        } else {
            error
        };
        click.answer(Err(error));
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
/// about the session, its privileges, or the state of the server.
fn can_be_of_one(error: &Error) -> bool {
    const OF_ALL: [&str; 10] = ["0A", "25", "28", "3D", "3F", "42", "55", "57", "58", "F0"];
    let class = error.sqlstate().map(|sqlstate| &sqlstate[..2]);
    class.is_some_and(|class| !OF_ALL.contains(&class)) && !error.is_passing()
}
