//! Strategy `nowait`: takes the item's row if nobody holds it, else answers busy at once.

use super::fit::Request;
use super::outcome::Outcome;
use super::serve::{self, Decrement, Outcomes};
use crate::attempt::Verdict;
use crate::backoff;
use crate::error::Fault;
use crate::settings;
use crate::store::items;
use pgrx::spi::SpiClient;

/// Holds no lock between its tries.
pub fn purchase(item_id: i64, requests: &[Request<'_>]) -> Result<Outcomes, Fault> {
    let mut tries_left = settings::nowait_retries();
    loop {
        let outcomes =
            serve::attempt_unless_replayed(requests, |client| once(client, item_id, requests))?;
        let is_busy = outcomes.iter().all(|one| matches!(one, Outcome::Busy));
        if !is_busy || tries_left == 0 {
            return Ok(outcomes);
        }
        tries_left -= 1;
        backoff::pause();
    }
}

fn once(
    client: &SpiClient<'_>,
    item_id: i64,
    requests: &[Request<'_>],
) -> Result<Verdict<Outcomes>, Fault> {
    match items::lock_sellable(client, item_id)? {
        Some(item) => serve::serve(client, &item, requests, Decrement::Due),
        None => serve::refuse_unheld(client, item_id, requests),
    }
}
