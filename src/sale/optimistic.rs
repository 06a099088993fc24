//! Strategy `optimistic`: reads without a lock, then decrements if the version is unchanged.

use super::serve::{self, Obtained, Outcomes};
use crate::error::Fault;
use crate::gate;
use crate::pg::subtransaction::End;
use crate::settings;
use crate::store::items;
use flashsale_core::fit::Request;
use flashsale_core::outcome::Outcome;
use flashsale_core::time::Micros;
use pgrx::spi::SpiClient;

/// The outcomes of requests for one item. The decrement locks its row. If another transaction has
/// changed the item in between, it tries again; after the last attempt the outcome is conflict.
/// Holdings and keys are read after the version. Every transaction that changes them for this item
/// also raises the version, so if that is unchanged, they are too.
pub fn purchase(
    item_id: i64,
    requests: &[Request<'_>],
    retry_until: Micros,
) -> Result<Outcomes, Fault> {
    let conflicts = |all: &Outcomes| all.iter().any(|one| matches!(one, Outcome::Conflict));
    serve::retry_while(
        conflicts,
        settings::optimistic_retries(),
        retry_until,
        || serve::attempt(requests, |client| once(client, item_id, requests)),
    )
}

fn once(
    client: &SpiClient<'_>,
    item_id: i64,
    requests: &[Request<'_>],
) -> Result<End<Outcomes>, Fault> {
    let epoch = gate::epoch(item_id);
    match items::read(client, item_id)? {
        Some(item) => serve::serve(client, &item, requests, Obtained::Read(epoch)),
        None => Ok(End::RollBack(vec![Outcome::NotFound; requests.len()])),
    }
}
