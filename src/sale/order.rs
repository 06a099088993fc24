//! The moves of an order, except confirm, which is in `payment`.

use crate::error::Fault;
use crate::pg::clock;
use crate::pg::subtransaction::End;
use crate::sale::numbered::attempt_or_busy;
use crate::store::orders::Order;
use crate::store::{items, orders, payments};
use flashsale_core::cancel::{Cancel, Cancelled, cancel as decide};
use flashsale_core::order::{Begun, Closed, Move, Moved, Refunded, Status, Step, step};
use flashsale_core::order_ref::OrderName;
use flashsale_core::reason::Reason;
use flashsale_core::time::Micros;
use pgrx::spi::SpiClient;
use std::collections::{BTreeMap, HashSet};

/// Runs a move on a locked order, in a subtransaction of its own.
fn with_order<T>(
    name: &OrderName<'_>,
    movement: impl Fn(&SpiClient<'_>, &Order) -> Result<End<Moved<T>>, Fault>,
) -> Result<Moved<T>, Fault> {
    let moved = attempt_or_busy(|client| match orders::lock(client, name)? {
        Some(order) => movement(client, &order),
        None => Ok(End::RollBack(Moved::NotFound)),
    })?;
    Ok(moved.unwrap_or(Moved::Busy))
}

/// A refusal releases the order's lock at once, as a repeat does.
fn refused<T>(order: &Order, reason: Reason) -> End<Moved<T>> {
    End::RollBack(Moved::Refused {
        status: order.status,
        reason,
    })
}

/// Changes a reserved order to paying, with a deadline in `window` microseconds: it no longer
/// expires. A repeat returns the deadline of the first call. Locks the order.
pub fn begin_payment(name: &OrderName<'_>, window: Micros) -> Result<Moved<Begun>, Fault> {
    with_order(name, |client, order| {
        match step(order.status, Move::BeginPayment) {
            Step::To(_) => {
                let now = clock::now();
                let payment_deadline = now + window;
                orders::begin_payment(client, order, now, payment_deadline)?;
                Ok(End::Commit(Moved::Done(Begun { payment_deadline })))
            }
            Step::Repeat => {
                let payment_deadline = order
                    .payment_deadline
                    .ok_or(Fault::Broken("an order in paying has no deadline"))?;
                Ok(End::RollBack(Moved::Done(Begun { payment_deadline })))
            }
            Step::Refuse(reason) => Ok(refused(order, reason)),
        }
    })
}

/// Cancels an order and returns its units to the item; a repeat returns none. Locks the order, then
/// its item.
pub fn cancel(name: &OrderName<'_>, reason: Option<&str>) -> Result<Moved<Cancelled>, Fault> {
    with_order(name, |client, order| {
        let moved = decide(order.status, order.quantity);
        if !gives_units_back(&moved) {
            return Ok(End::RollBack(moved));
        }
        let now = clock::now();
        orders::close(client, order, Closed::Cancelled, now, reason)?;
        items::restore(client, order.item_id, order.quantity, Closed::Cancelled)?;
        Ok(End::Commit(moved))
    })
}

fn gives_units_back(moved: &Moved<Cancelled>) -> bool {
    matches!(moved, Moved::Done(Cancelled { restored: 1.., .. }))
}

/// Cancels many orders and restores the units of each item in one sum; returns the result of each
/// cancel, in their order. Locks orders, then items, SKIP LOCKED: a cancel whose order or item
/// another transaction holds is busy. Runs in the transaction of its caller.
pub fn cancel_many(
    client: &SpiClient<'_>,
    cancels: &[Cancel<'_>],
) -> Result<End<Vec<Moved<Cancelled>>>, Fault> {
    let order_ids: Vec<i64> = cancels.iter().map(|cancel| cancel.order_id).collect();
    let mut held = orders::lock_unheld(client, order_ids)?;
    let missing = match held.len() < cancels.len() {
        true => orders::missing(client, cancels)?,
        false => HashSet::new(),
    };
    let wanted = held.values().map(|order| order.item_id).collect();
    let held_items = items::lock_unheld(client, wanted)?;
    let mut closing = Vec::new();
    let mut units = BTreeMap::<i64, i64>::new();
    let mut results = Vec::with_capacity(cancels.len());
    for (index, cancel) in cancels.iter().enumerate() {
        let order = match held.get_mut(&cancel.order_id) {
            Some(order) if cancel.code.is_none_or(|code| code == order.code) => order,
            None if !missing.contains(&index) => {
                results.push(Moved::Busy);
                continue;
            }
            _ => {
                results.push(Moved::NotFound);
                continue;
            }
        };
        let mut moved = decide(order.status, order.quantity);
        if gives_units_back(&moved) {
            if held_items.contains(&order.item_id) {
                // A second cancel of the same order finds it cancelled.
                order.status = Status::Cancelled;
                *units.entry(order.item_id).or_default() += order.quantity;
                closing.push(*cancel);
            } else {
                moved = Moved::Busy;
            }
        }
        results.push(moved);
    }
    if closing.is_empty() {
        return Ok(End::RollBack(results));
    }
    orders::cancel(client, &closing, clock::now())?;
    items::restore_many(
        client,
        units.keys().copied().collect(),
        units.values().copied().collect(),
        Closed::Cancelled,
    )?;
    Ok(End::Commit(results))
}

/// Refunds a confirmed order: its payment becomes due for refund, and its units return to the item
/// (`restock`) or are written off. Locks the order, then its payment, then its item.
pub fn refund(name: &OrderName<'_>, restock: bool) -> Result<Moved<Refunded>, Fault> {
    with_order(name, |client, order| {
        let (order_id, item_id, quantity) = (order.order_id, order.item_id, order.quantity);
        match step(order.status, Move::Refund) {
            Step::To(_) => {
                let refunded = Closed::Refunded;
                orders::close(client, order, refunded, clock::now(), None)?;
                payments::mark_due(client, order_id)?;
                let units = if restock {
                    items::restore(client, item_id, quantity, refunded)?;
                    Refunded {
                        restored: quantity,
                        written_off: 0,
                    }
                } else {
                    items::lock_stock(client, item_id)?;
                    items::write_off(client, item_id, quantity, order_id)?;
                    Refunded {
                        restored: 0,
                        written_off: quantity,
                    }
                };
                Ok(End::Commit(Moved::Done(units)))
            }
            Step::Repeat => Ok(End::RollBack(Moved::Done(Refunded {
                restored: 0,
                written_off: 0,
            }))),
            Step::Refuse(reason) => Ok(refused(order, reason)),
        }
    })
}
