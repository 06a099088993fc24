//! `purchase_batch`: many independent purchases in one call, served item by item.

use super::obtain;
use crate::error::Fault;
use crate::settings::Strategy;
use crate::stats::{self, Door};
use flashsale_core::fit::Request;
use flashsale_core::outcome::Outcome;
use std::collections::BTreeMap;

/// The outcome of each request, in their order. Items are taken in ascending id, each once,
/// for all of its requests; under `grouped` as `nowait` takes them.
pub fn purchase(requests: &[Request<'_>], strategy: Strategy) -> Result<Vec<Outcome>, Fault> {
    let mut places = BTreeMap::<i64, Vec<usize>>::new();
    for (place, request) in requests.iter().enumerate() {
        places.entry(request.item_id).or_default().push(place);
    }
    let mut outcomes = vec![Outcome::Busy; requests.len()];
    for (item_id, places) in places {
        let of_item: Vec<Request<'_>> = places.iter().map(|&place| requests[place]).collect();
        for (place, outcome) in places.into_iter().zip(obtain(item_id, &of_item, strategy)?) {
            stats::answered(Door::Batch, &outcome);
            outcomes[place] = outcome;
        }
    }
    Ok(outcomes)
}
