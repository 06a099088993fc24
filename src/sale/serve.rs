//! What every strategy shares: replays of keys, and serving requests once their item is obtained.

use crate::attempt::{Verdict, attempt_or_busy};
use crate::backoff;
use crate::error::Fault;
use crate::gate;
use crate::pg::clock;
use crate::store::{items, orders};
use flashsale_core::fit::{self, Fit, PriorOrder, Request};
use flashsale_core::item::Item;
use flashsale_core::order::Status;
use flashsale_core::outcome::Outcome;
use flashsale_core::reason::Reason;
use flashsale_core::time::Micros;
use pgrx::spi::SpiClient;
use std::collections::HashMap;

/// Whether the units of the requests are off the item's inventory already.
#[derive(Clone, Copy, PartialEq)]
pub enum Decrement {
    Due,
    Done,
}

/// The outcomes of requests for one item, each at the place of its request.
pub type Outcomes = Vec<Outcome>;

/// Outcomes of those requests whose key is known already.
pub fn replays(
    client: &SpiClient<'_>,
    requests: &[Request<'_>],
) -> Result<Vec<Option<Outcome>>, Fault> {
    let known = orders::by_keys(client, requests)?;
    let known = requests.iter().zip(known);
    Ok(known
        .map(|(request, prior)| prior.map(|order| again(request, order)))
        .collect())
}

/// The outcome of a request whose key stands for an order already.
fn again(request: &Request<'_>, order: PriorOrder) -> Outcome {
    match fit::replay(request, &order) {
        None => Outcome::Reserved {
            order,
            replayed: true,
        },
        Some(reason) => Outcome::DeadReplay {
            order_id: order.order_id,
            reason,
        },
    }
}

/// Tries, and while that comes to nothing tries again, with a pause before each of the retries.
pub fn again_while(
    came_to_nothing: impl Fn(&Outcomes) -> bool,
    retries: i32,
    try_once: impl Fn() -> Result<Outcomes, Fault>,
) -> Result<Outcomes, Fault> {
    let mut outcomes = try_once()?;
    for _ in 0..retries {
        if !came_to_nothing(&outcomes) {
            break;
        }
        backoff::pause();
        outcomes = try_once()?;
    }
    Ok(outcomes)
}

/// Tries `body` once, bounded; all are busy if a lock was refused.
pub fn attempt(
    requests: &[Request<'_>],
    body: impl FnOnce(&SpiClient<'_>) -> Result<Verdict<Outcomes>, Fault>,
) -> Result<Outcomes, Fault> {
    Ok(attempt_or_busy(body)?.unwrap_or_else(|| vec![Outcome::Busy; requests.len()]))
}

/// As [`attempt`], where requests that are all replays need no lock.
pub fn attempt_unless_replayed(
    requests: &[Request<'_>],
    body: impl FnOnce(&SpiClient<'_>) -> Result<Verdict<Outcomes>, Fault>,
) -> Result<Outcomes, Fault> {
    attempt(requests, |client| match all_replayed(client, requests)? {
        Some(replayed) => Ok(Verdict::Undo(replayed)),
        None => body(client),
    })
}

/// The outcomes if every request is a replay.
fn all_replayed(
    client: &SpiClient<'_>,
    requests: &[Request<'_>],
) -> Result<Option<Outcomes>, Fault> {
    if requests
        .iter()
        .any(|request| request.idempotency_key.is_none())
    {
        return Ok(None);
    }
    Ok(replays(client, requests)?.into_iter().collect())
}

/// Serves requests for an item that is held, or whose version will tell (see
/// `optimistic`): holdings, keys again, fit, store.
pub fn serve(
    client: &SpiClient<'_>,
    item: &Item,
    requests: &[Request<'_>],
    decrement: Decrement,
) -> Result<Verdict<Outcomes>, Fault> {
    let held = holdings(client, item, requests)?;
    // Again, now that the item is obtained: a twin may have bought while we got here.
    let mut outcomes = replays(client, requests)?;
    if decrement == Decrement::Done {
        // They saw the item without the units that are about to be put back.
        for outcome in outcomes.iter_mut().flatten() {
            if let Outcome::Reserved { order, .. } = outcome {
                order.remaining_inventory = item.inventory;
            }
        }
    }
    let fresh = still_open(&outcomes, requests);
    let now = clock::now();
    let fits = fit::fit(item, now, &fresh, held);
    let reserved: Vec<&Request<'_>> = fresh
        .iter()
        .zip(&fits)
        .filter(|(_, fit)| matches!(fit, Fit::Reserved { .. }))
        .map(|(request, _)| request)
        .collect();
    let units: i64 = reserved.iter().map(|request| request.quantity).sum();
    if units > 0 && decrement == Decrement::Due && !items::take_versioned(client, item, units)? {
        let conflict = |outcome: Option<Outcome>| outcome.unwrap_or(Outcome::Conflict);
        return Ok(Verdict::Undo(outcomes.into_iter().map(conflict).collect()));
    }
    let order_ids = orders::insert(client, item, &reserved, now)?;
    let served = word(client, item, &fresh, &fits, &order_ids, now)?;
    fill(&mut outcomes, served);
    let outcomes: Outcomes = outcomes.into_iter().flatten().collect();
    Ok(if order_ids.is_empty() {
        Verdict::Undo(outcomes)
    } else {
        Verdict::Keep(outcomes)
    })
}

/// Reads an item without a lock, and shuts the gate if it is sold out.
pub fn look(client: &SpiClient<'_>, item_id: i64) -> Result<Option<Item>, Fault> {
    let epoch = gate::epoch(item_id);
    let item = items::read(client, item_id)?;
    if item.is_some_and(|item| item.inventory == 0) {
        gate::shut(item_id, epoch);
    }
    Ok(item)
}

/// Answers requests for an item that could not be obtained because it is not on sale,
/// from a plain read: the crowd at a sold-out item takes no lock.
pub fn refuse_unheld(
    client: &SpiClient<'_>,
    item_id: i64,
    requests: &[Request<'_>],
) -> Result<Verdict<Outcomes>, Fault> {
    let Some(item) = look(client, item_id)? else {
        return Ok(Verdict::Undo(vec![Outcome::NotFound; requests.len()]));
    };
    let held = holdings(client, &item, requests)?;
    let mut outcomes = replays(client, requests)?;
    let fresh = still_open(&outcomes, requests);
    let fits = fit::fit(&item, clock::now(), &fresh, held);
    // It came on sale between the two statements: worth another try, by everybody.
    let is_on_sale = fits.iter().any(|fit| matches!(fit, Fit::Reserved { .. }));
    let mut refused = Vec::with_capacity(fits.len());
    for (request, fit) in fresh.iter().zip(&fits) {
        refused.push(match fit {
            Fit::Refused { reason, .. } if !is_on_sale => refusal(client, &item, request, *reason)?,
            _ => Outcome::Busy,
        });
    }
    fill(&mut outcomes, refused);
    Ok(Verdict::Undo(outcomes.into_iter().flatten().collect()))
}

/// The requests that have no outcome yet.
fn still_open<'a>(outcomes: &[Option<Outcome>], requests: &[Request<'a>]) -> Vec<Request<'a>> {
    requests
        .iter()
        .zip(outcomes)
        .filter(|(_, outcome)| outcome.is_none())
        .map(|(request, _)| *request)
        .collect()
}

/// Puts outcomes at the places that have none yet.
fn fill(outcomes: &mut [Option<Outcome>], found: Vec<Outcome>) {
    let open = outcomes.iter_mut().filter(|outcome| outcome.is_none());
    for (place, outcome) in open.zip(found) {
        *place = Some(outcome);
    }
}

/// Units that each user holds or has bought; not read where there is no limit. Read before
/// the keys: where nobody holds the item, a twin's order that counts here is found there.
fn holdings<'a>(
    client: &SpiClient<'_>,
    item: &Item,
    requests: &[Request<'a>],
) -> Result<HashMap<&'a str, i64>, Fault> {
    match item.max_per_user {
        Some(_) => orders::held_units(client, item.item_id, requests),
        None => Ok(HashMap::new()),
    }
}

/// Turns fits into outcomes; `order_ids` are those of the reserved ones, in their order.
fn word(
    client: &SpiClient<'_>,
    item: &Item,
    requests: &[Request<'_>],
    fits: &[Fit],
    order_ids: &[i64],
    now: Micros,
) -> Result<Outcomes, Fault> {
    let mut order_ids = order_ids.iter();
    let mut outcomes = Outcomes::with_capacity(fits.len());
    for (request, fit) in requests.iter().zip(fits) {
        outcomes.push(match *fit {
            Fit::Reserved {
                remaining_inventory,
            } => Outcome::Reserved {
                order: PriorOrder {
                    order_id: *order_ids
                        .next()
                        .ok_or(Fault::Broken("an order was not inserted"))?,
                    quantity: request.quantity,
                    status: Status::Reserved,
                    expires_at: Some(now + request.ttl(item)),
                    unit_price: item.unit_price,
                    currency: item.currency,
                    remaining_inventory,
                },
                replayed: false,
            },
            Fit::Repeats(earlier) => match outcomes[earlier] {
                Outcome::Reserved { order, .. } => again(request, order),
                other => other,
            },
            Fit::Refused {
                reason,
                remaining_inventory,
            } => {
                let left = Item {
                    inventory: remaining_inventory,
                    ..*item
                };
                refusal(client, &left, request, reason)?
            }
        });
    }
    Ok(outcomes)
}

fn refusal(
    client: &SpiClient<'_>,
    item: &Item,
    request: &Request<'_>,
    reason: Reason,
) -> Result<Outcome, Fault> {
    Ok(match reason {
        Reason::UserLimitReached => Outcome::LimitReached {
            max_per_user: item.max_per_user,
            orders: orders::held_orders(client, request)?,
        },
        reason => Outcome::unavailable(reason, item),
    })
}
