//! Strategy `atomic`: one conditional decrement, which waits for the row's lock.

use super::serve::{self, Decrement, Outcomes};
use crate::error::Fault;
use crate::pg::subtransaction::End;
use crate::store::items;
use flashsale_core::fit::Request;
use pgrx::spi::SpiClient;

/// The outcomes of requests for one item. Waits for its row `flashsale.lock_wait` at most, and
/// locks it; a refusal found after the decrement rolls that back.
pub fn purchase(item_id: i64, requests: &[Request<'_>]) -> Result<Outcomes, Fault> {
    serve::attempt_unless_replayed(requests, |client| once(client, item_id, requests))
}

fn once(
    client: &SpiClient<'_>,
    item_id: i64,
    requests: &[Request<'_>],
) -> Result<End<Outcomes>, Fault> {
    // How many units several requests get is known only when the row is locked.
    let (item, decrement) = match requests {
        [one] => (
            items::take_on_sale(client, item_id, one.quantity)?,
            Decrement::Done,
        ),
        _ => (items::await_sellable(client, item_id)?, Decrement::Due),
    };
    match item {
        Some(item) => serve::serve(client, &item, requests, decrement),
        None => serve::refuse(client, item_id, requests),
    }
}
