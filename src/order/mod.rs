//! The moves of an order, but for confirm, which belongs to its payment.

pub mod machine;

use crate::answer::{self, Reason};
use crate::attempt::{Verdict, attempt_or_busy};
use crate::clock::{self, Micros};
use crate::error::Fault;
use crate::purchase::retry_after_ms;
use crate::store::orders::Order;
use crate::store::{items, orders, payments};
use machine::{Move, Status, Step, step};
use pgrx::spi::SpiClient;
use serde_json::{Value, json};

/// Runs a move on a locked order; answers `order_not_found` and `busy` for all of them.
fn with_order(
    order_id: i64,
    movement: impl FnOnce(&SpiClient<'_>, &Order) -> Result<Verdict<Value>, Fault>,
) -> Result<Value, Fault> {
    let answer = attempt_or_busy(|client| match orders::lock(client, order_id)? {
        Some(order) => movement(client, &order),
        None => Ok(Verdict::Undo(answer::failure(
            Reason::OrderNotFound,
            json!({ "order_id": order_id }),
        ))),
    })?;
    Ok(answer.unwrap_or_else(|| answer::busy(retry_after_ms())))
}

/// A refusal gives the order's lock back at once.
fn refused(order: &Order, reason: Reason) -> Verdict<Value> {
    let about = json!({ "order_id": order.order_id, "status": order.status.name() });
    Verdict::Undo(answer::failure(reason, about))
}

/// From here on the order no longer expires by itself; a repeat never extends the deadline.
pub fn begin_payment(order_id: i64, window: Micros) -> Result<Value, Fault> {
    with_order(order_id, |client, order| {
        let now = clock::now();
        let deadline = match step(order.status, Move::BeginPayment) {
            Step::Refuse(reason) => return Ok(refused(order, reason)),
            Step::Repeat | Step::Reinstate => order
                .payment_deadline
                .ok_or(Fault::Broken("an order in paying has no deadline"))?,
            Step::To(_) => {
                orders::begin_payment(client, order, now, now + window)?;
                now + window
            }
        };
        Ok(Verdict::Keep(answer::success(json!({
            "order_id": order.order_id,
            "status": Status::Paying.name(),
            "payment_deadline": clock::iso(deadline),
        }))))
    })
}

/// Gives up a reservation; its units come back once.
pub fn cancel(order_id: i64, reason: Option<&str>) -> Result<Value, Fault> {
    with_order(order_id, |client, order| {
        let (status, restored) = match step(order.status, Move::Cancel) {
            Step::Refuse(reason) => return Ok(refused(order, reason)),
            Step::Repeat | Step::Reinstate => (order.status, 0),
            Step::To(status) => {
                orders::close(client, order, status, clock::now(), reason)?;
                items::restore(client, order.item_id, order.quantity)?;
                (status, order.quantity)
            }
        };
        Ok(Verdict::Keep(answer::success(json!({
            "order_id": order.order_id,
            "status": status.name(),
            "restored": restored,
            "already_closed": restored == 0,
        }))))
    })
}

/// Takes back a confirmed order: its payment is due, its units are free again or written off.
pub fn refund(order_id: i64, restock: bool) -> Result<Value, Fault> {
    with_order(order_id, |client, order| {
        let moved = match step(order.status, Move::Refund) {
            Step::Refuse(reason) => return Ok(refused(order, reason)),
            Step::Repeat | Step::Reinstate => 0,
            Step::To(status) => {
                payments::mark_due(client, order.order_id)?;
                orders::close(client, order, status, clock::now(), None)?;
                if restock {
                    items::restore(client, order.item_id, order.quantity)?;
                } else {
                    items::write_off(client, order.item_id, order.quantity, order.order_id)?;
                }
                order.quantity
            }
        };
        Ok(Verdict::Keep(answer::success(json!({
            "order_id": order.order_id,
            "status": Status::Refunded.name(),
            "restored": if restock { moved } else { 0 },
            "written_off": if restock { 0 } else { moved },
            "already_refunded": moved == 0,
        }))))
    })
}
