//! `purchase_batch`: many independent purchases in one call, served item by item.

use super::Obtain;
use crate::attempt::bound_lock_waits_since;
use crate::error::Fault;
use crate::pg::clock;
use crate::settings;
use crate::stats::{self, Door};
use flashsale_core::fit::Request;
use flashsale_core::outcome::Outcome;
use flashsale_core::time::{MILLISECOND, Micros};
use std::collections::BTreeMap;

/// The outcome of each request, in their order. Items are obtained in ascending id, each once for
/// all of its requests. Locks the items of which units were sold. As others may wait for these, it
/// does not wait for `flashsale.lock_wait` at each item, but that long from its beginning; after
/// that it tries each of the others once.
pub fn purchase(requests: &[Request<'_>], obtain: Obtain) -> Result<Vec<Outcome>, Fault> {
    let mut by_item = BTreeMap::<i64, Vec<usize>>::new();
    for (index, request) in requests.iter().enumerate() {
        by_item.entry(request.item_id).or_default().push(index);
    }
    let begun = clock::monotonic();
    let retry_until = begun + Micros::from(settings::lock_wait_ms()) * MILLISECOND;
    let mut outcomes = vec![Outcome::Busy; requests.len()];
    for (item_id, indexes) in by_item {
        bound_lock_waits_since(begun);
        let of_item: Vec<Request<'_>> = indexes.iter().map(|&index| requests[index]).collect();
        let found = super::purchase(item_id, &of_item, obtain, retry_until)?;
        for (index, outcome) in indexes.into_iter().zip(found) {
            stats::answered(Door::Batch, &outcome);
            outcomes[index] = outcome;
        }
    }
    Ok(outcomes)
}
