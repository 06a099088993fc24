//! The moves of an order, but for confirm, which belongs to its payment.

use crate::answer;
use crate::attempt::{Verdict, attempt_answer, attempt_or_busy};
use crate::error::Fault;
use crate::pg::clock;
use crate::store::orders::Order;
use crate::store::{items, orders, payments};
use flashsale_core::cancel::{Cancel, Cancelled, cancel as decide};
use flashsale_core::order::{Move, Status, Step, step};
use flashsale_core::reason::Reason;
use flashsale_core::time::Micros;
use pgrx::spi::SpiClient;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};

/// Runs a move on a locked order; answers `order_not_found` and `busy` for all of them.
fn with_order(
    order_id: i64,
    movement: impl FnOnce(&SpiClient<'_>, &Order) -> Result<Verdict<Value>, Fault>,
) -> Result<Value, Fault> {
    attempt_answer(|client| match orders::lock(client, order_id)? {
        Some(order) => movement(client, &order),
        None => Ok(Verdict::Undo(answer::failure(
            Reason::OrderNotFound,
            json!({ "order_id": order_id }),
        ))),
    })
}

/// A refusal gives the order's lock back at once, as a repeat does.
fn refused(order: &Order, reason: Reason) -> Verdict<Value> {
    let about = json!({ "order_id": order.order_id, "status": order.status.name() });
    Verdict::Undo(answer::failure(reason, about))
}

/// From here on the order no longer expires by itself; a repeat never extends the deadline.
pub fn begin_payment(order_id: i64, window: Micros) -> Result<Value, Fault> {
    let paying = |deadline| {
        answer::success(json!({
            "order_id": order_id,
            "status": Status::Paying.name(),
            "payment_deadline": clock::iso(deadline),
        }))
    };
    with_order(order_id, |client, order| {
        match step(order.status, Move::BeginPayment) {
            Step::To(_) => {
                let now = clock::now();
                orders::begin_payment(client, order, now, now + window)?;
                Ok(Verdict::Keep(paying(now + window)))
            }
            Step::Repeat => {
                let deadline = order
                    .payment_deadline
                    .ok_or(Fault::Broken("an order in paying has no deadline"))?;
                Ok(Verdict::Undo(paying(deadline)))
            }
            Step::Refuse(reason) => Ok(refused(order, reason)),
        }
    })
}

/// Gives up a reservation; its units come back once. Locks the order, then its item.
pub fn cancel(cancel: &Cancel<'_>) -> Result<Cancelled, Fault> {
    Ok(attempt_or_busy(|client| cancel_one(client, cancel))?.unwrap_or(Cancelled::Busy))
}

fn cancel_one(client: &SpiClient<'_>, cancel: &Cancel<'_>) -> Result<Verdict<Cancelled>, Fault> {
    let Some(order) = orders::lock(client, cancel.order_id)? else {
        return Ok(Verdict::Undo(Cancelled::NotFound));
    };
    let decision = decide(order.status, order.quantity);
    if !matches!(decision, Cancelled::Closed { restored: 1.., .. }) {
        return Ok(Verdict::Undo(decision));
    }
    let now = clock::now();
    orders::close(client, &order, Status::Cancelled, now, cancel.reason)?;
    items::restore(client, order.item_id, order.quantity)?;
    Ok(Verdict::Keep(decision))
}

/// Cancels many orders and restores their units in sums, item by item. Orders, then items
/// are taken SKIP LOCKED: what somebody else holds is busy.
pub fn cancel_many(
    client: &SpiClient<'_>,
    cancels: &[Cancel<'_>],
) -> Result<Verdict<Vec<Cancelled>>, Fault> {
    let order_ids: Vec<i64> = cancels.iter().map(|cancel| cancel.order_id).collect();
    let mut held = orders::lock_unheld(client, order_ids.clone())?;
    let missing = match held.len() < cancels.len() {
        true => orders::missing(client, order_ids)?,
        false => HashSet::new(),
    };
    let wanted = held.values().map(|order| order.item_id).collect();
    let held_items: HashSet<i64> = items::lock_unheld(client, wanted)?.into_iter().collect();
    let mut closing = Vec::new();
    let mut units = BTreeMap::<i64, i64>::new();
    let mut results = Vec::with_capacity(cancels.len());
    for cancel in cancels {
        let Some(order) = held.get_mut(&cancel.order_id) else {
            results.push(match missing.contains(&cancel.order_id) {
                true => Cancelled::NotFound,
                false => Cancelled::Busy,
            });
            continue;
        };
        let mut decision = decide(order.status, order.quantity);
        if let Cancelled::Closed {
            status,
            restored: 1..,
        } = decision
        {
            if held_items.contains(&order.item_id) {
                order.status = status;
                *units.entry(order.item_id).or_default() += order.quantity;
                closing.push(*cancel);
            } else {
                decision = Cancelled::Busy;
            }
        }
        results.push(decision);
    }
    if closing.is_empty() {
        return Ok(Verdict::Undo(results));
    }
    orders::cancel(client, &closing, clock::now())?;
    items::restore_many(
        client,
        units.keys().copied().collect(),
        units.values().copied().collect(),
    )?;
    Ok(Verdict::Keep(results))
}

/// Takes back a confirmed order: its payment is due, its units are free again or written off.
pub fn refund(order_id: i64, restock: bool) -> Result<Value, Fault> {
    let refunded = |units: i64| {
        answer::success(json!({
            "order_id": order_id,
            "status": Status::Refunded.name(),
            "restored": if restock { units } else { 0 },
            "written_off": if restock { 0 } else { units },
            "already_refunded": units == 0,
        }))
    };
    with_order(order_id, |client, order| {
        match step(order.status, Move::Refund) {
            Step::To(status) => {
                orders::close(client, order, status, clock::now(), None)?;
                payments::mark_due(client, order.order_id)?;
                if restock {
                    items::restore(client, order.item_id, order.quantity)?;
                } else {
                    items::write_off(client, order.item_id, order.quantity, order.order_id)?;
                }
                Ok(Verdict::Keep(refunded(order.quantity)))
            }
            Step::Repeat => Ok(Verdict::Undo(refunded(0))),
            Step::Refuse(reason) => Ok(refused(order, reason)),
        }
    })
}
