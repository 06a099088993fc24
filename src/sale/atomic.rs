//! Strategy `atomic`: one conditional decrement, which waits its turn for the row.

use super::serve::{self, Decrement, Outcomes};
use crate::attempt::Verdict;
use crate::error::Fault;
use crate::store::items;
use flashsale_core::fit::Request;
use pgrx::spi::SpiClient;

/// Waits `flashsale.lock_wait` at most; a refusal found after the decrement undoes it.
pub fn purchase(item_id: i64, requests: &[Request<'_>]) -> Result<Outcomes, Fault> {
    serve::attempt_unless_replayed(requests, |client| once(client, item_id, requests))
}

fn once(
    client: &SpiClient<'_>,
    item_id: i64,
    requests: &[Request<'_>],
) -> Result<Verdict<Outcomes>, Fault> {
    // How much several can have is known only once the row is held.
    let (item, decrement) = match requests {
        [one] => (
            items::take_on_sale(client, item_id, one.quantity)?,
            Decrement::Done,
        ),
        _ => (items::await_sellable(client, item_id)?, Decrement::Due),
    };
    match item {
        Some(item) => serve::serve(client, &item, requests, decrement),
        None => serve::refuse_unheld(client, item_id, requests),
    }
}
