//! The moves of an order, but for confirm, which belongs to its payment.

pub mod machine;

use crate::answer::{self, Reason};
use crate::attempt::{Verdict, attempt_answer};
use crate::clock::{self, Micros};
use crate::error::Fault;
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
            Step::Reinstate => Err(NEVER_REINSTATES),
        }
    })
}

const NEVER_REINSTATES: Fault = Fault::Broken("only a confirm reinstates");

/// Gives up a reservation; its units come back once.
pub fn cancel(order_id: i64, reason: Option<&str>) -> Result<Value, Fault> {
    let closed = |status: Status, restored: i64| {
        answer::success(json!({
            "order_id": order_id,
            "status": status.name(),
            "restored": restored,
            "already_closed": restored == 0,
        }))
    };
    with_order(order_id, |client, order| {
        match step(order.status, Move::Cancel) {
            Step::To(status) => {
                orders::close(client, order, status, clock::now(), reason)?;
                items::restore(client, order.item_id, order.quantity)?;
                Ok(Verdict::Keep(closed(status, order.quantity)))
            }
            Step::Repeat => Ok(Verdict::Undo(closed(order.status, 0))),
            Step::Refuse(reason) => Ok(refused(order, reason)),
            Step::Reinstate => Err(NEVER_REINSTATES),
        }
    })
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
            Step::Reinstate => Err(NEVER_REINSTATES),
        }
    })
}
