//! Strategy `nowait`: takes the item's row if nobody holds it, else answers busy at once.

use super::fit::Request;
use super::outcome::Outcome;
use super::serve::{self, Decrement, Outcomes};
use crate::attempt::{Verdict, attempt_or_busy};
use crate::backoff;
use crate::error::Fault;
use crate::settings;
use crate::store::items;
use pgrx::spi::SpiClient;

/// Holds no lock between its tries.
pub fn purchase(item_id: i64, requests: &[Request<'_>]) -> Result<Outcomes, Fault> {
    let busy = |outcomes: &Outcomes| outcomes.iter().all(|one| matches!(one, Outcome::Busy));
    for _ in 0..settings::nowait_retries() {
        match attempt_or_busy(|client| once(client, item_id, requests))? {
            Some(outcomes) if !busy(&outcomes) => return Ok(outcomes),
            _ => backoff::pause(),
        }
    }
    Ok(attempt_or_busy(|client| once(client, item_id, requests))?
        .unwrap_or_else(|| vec![Outcome::Busy; requests.len()]))
}

fn once(
    client: &SpiClient<'_>,
    item_id: i64,
    requests: &[Request<'_>],
) -> Result<Verdict<Outcomes>, Fault> {
    if let Some(replayed) = serve::all_replayed(client, requests)? {
        return Ok(Verdict::Undo(replayed));
    }
    match items::lock_sellable(client, item_id)? {
        Some(item) => serve::serve(client, &item, requests, Decrement::Due),
        None => serve::refuse_unheld(client, item_id, requests),
    }
}
