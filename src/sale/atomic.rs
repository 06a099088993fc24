//! Strategy `atomic`: one conditional decrement, which waits for the row's lock.

use super::serve::{self, Obtained, Outcomes};
use crate::error::Fault;
use crate::pg::subtransaction::End;
use crate::store::items::{self, Need};
use flashsale_core::fit::Request;
use flashsale_core::time::Micros;
use pgrx::spi::SpiClient;

/// The outcomes of requests for one item. Waits for its row `flashsale.lock_wait` at most, and
/// locks it; a refusal found after the decrement rolls that back.
pub fn purchase(item_id: i64, requests: &[Request<'_>], _: Micros) -> Result<Outcomes, Fault> {
    serve::attempt_unless_replayed(requests, |client| once(client, item_id, requests))
}

fn once(
    client: &SpiClient<'_>,
    item_id: i64,
    requests: &[Request<'_>],
) -> Result<End<Outcomes>, Fault> {
    // How many units several requests get is known only when the row is locked.
    let (item, obtained) = match requests {
        [one] => (
            items::take_on_sale(client, item_id, one.quantity)?,
            Obtained::Taken,
        ),
        _ => (
            items::await_on_sale(client, item_id, Need::Units)?,
            Obtained::Locked,
        ),
    };
    match item {
        Some(item) => serve::serve(client, &item, requests, obtained),
        None => {
            let lock = || items::await_on_sale(client, item_id, Need::Nothing);
            serve::refuse(client, item_id, requests, lock)
        }
    }
}
