//! Strategy `nowait`: locks the item's row if no other transaction holds it, else answers busy at
//! once.

use super::serve::{self, Obtained, Outcomes};
use crate::error::Fault;
use crate::pg::subtransaction::End;
use crate::settings;
use crate::store::items::{self, Need};
use flashsale_core::fit::Request;
use flashsale_core::outcome::Outcome;
use flashsale_core::time::Micros;
use pgrx::spi::SpiClient;

/// The outcomes of requests for one item. Locks its row if units were sold. Holds no lock between
/// attempts.
pub fn purchase(
    item_id: i64,
    requests: &[Request<'_>],
    retry_until: Micros,
) -> Result<Outcomes, Fault> {
    let is_busy = |outcomes: &Outcomes| outcomes.iter().all(|one| matches!(one, Outcome::Busy));
    serve::retry_while(is_busy, settings::nowait_retries(), retry_until, || {
        serve::attempt_unless_replayed(requests, |client| once(client, item_id, requests))
    })
}

fn once(
    client: &SpiClient<'_>,
    item_id: i64,
    requests: &[Request<'_>],
) -> Result<End<Outcomes>, Fault> {
    match items::lock_on_sale(client, item_id, Need::Units)? {
        Some(item) => serve::serve(client, &item, requests, Obtained::Locked),
        None => {
            let lock = || items::lock_on_sale(client, item_id, Need::Nothing);
            serve::refuse(client, item_id, requests, lock)
        }
    }
}
