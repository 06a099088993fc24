//! The ledger of charges: every one that is reported pays its order or is due for refund.

use crate::answer;
use crate::attempt::{Setback, Verdict, attempt, attempt_answer};
use crate::backoff::retry_after_ms;
use crate::error::Fault;
use crate::pg::{clock, transaction};
use crate::store::orders::Order;
use crate::store::{items, orders, payments};
use flashsale_core::argument::Invalid;
use flashsale_core::charge::Charge;
use flashsale_core::fate::{Fate, Standing, Why, fate};
use flashsale_core::order::Status;
use flashsale_core::reason::Reason;
use pgrx::spi::SpiClient;
use serde_json::{Value, json};

/// How often a confirm looks again after somebody else recorded the same ref first.
const CLASH_RETRIES: u32 = 3;

/// Settles a reported charge. Locks the order, then writes the payment, then, only
/// to reinstate an expired order, locks the item.
pub fn confirm(charge: &Charge<'_>) -> Result<Value, Fault> {
    let mut clashes = 0;
    loop {
        match attempt(|client| settle(client, charge))? {
            Ok(answer) => return Ok(answer),
            Err(Setback::Busy) => return Ok(answer::busy(retry_after_ms())),
            Err(Setback::Clash(_)) if transaction::has_one_snapshot() => {
                return Err(Fault::Serialization);
            }
            Err(Setback::Clash(_)) if clashes < CLASH_RETRIES => clashes += 1,
            Err(Setback::Clash(error)) => error.rethrow(),
        }
    }
}

fn settle(client: &SpiClient<'_>, charge: &Charge<'_>) -> Result<Verdict<Value>, Fault> {
    let order = orders::lock(client, charge.order_id)?;
    if order.is_none() {
        // What was committed meanwhile cannot be looked at.
        if transaction::has_one_snapshot() && orders::exists_by_now(client, charge.order_id)? {
            return Err(Fault::Serialization);
        }
        payments::lock_unknown_order(client, charge.order_id)?;
    }
    let ledger = payments::ledger(client, charge)?;
    let matches = order
        .as_ref()
        .is_none_or(|order| charge.matches(&order.price()));
    let status = order.as_ref().map(|order| order.status);
    Ok(
        match (
            fate(status, charge.payment_ref.is_some(), matches, &ledger),
            order,
        ) {
            (Fate::RefInUse, _) => Verdict::Undo(refused(charge, Reason::PaymentRefInUse, false)),
            (Fate::Repeat(standing), _) => Verdict::Undo(repeated(charge, standing)),
            (Fate::Fill(entry), _) => {
                payments::fill_ref(client, entry.payment_id, charge)?;
                Verdict::Keep(repeated(charge, entry.standing))
            }
            (Fate::NeedsRef, _) => {
                let rule =
                    "a different charge was already reported without one, so this one needs it";
                return Err(Invalid::value("payment_ref", "NULL", rule).into());
            }
            (Fate::Due(why), _) => {
                payments::insert(client, charge, Some(why))?;
                Verdict::Keep(refused(charge, why.reason(), true))
            }
            (Fate::Pay, Some(order)) => {
                payments::insert(client, charge, None)?;
                orders::confirm(client, &order, clock::now())?;
                Verdict::Keep(confirmed(charge, false, false))
            }
            (Fate::Reinstate, Some(order)) => Verdict::Keep(reinstate(client, charge, &order)?),
            (Fate::Pay | Fate::Reinstate, None) => {
                return Err(Fault::Broken("an unknown order was to be paid"));
            }
        },
    )
}

/// The payment is recorded before the item is waited for, as due until the units are
/// had: the other way round, two confirms of one ref could each wait for the other.
fn reinstate(client: &SpiClient<'_>, charge: &Charge<'_>, order: &Order) -> Result<Value, Fault> {
    let payment_id = payments::insert(client, charge, Some(Why::OrderExpired))?;
    if !items::take_free(client, order.item_id, order.quantity)? {
        return Ok(refused(charge, Reason::OrderExpired, true));
    }
    payments::mark_paid(client, payment_id)?;
    orders::confirm(client, order, clock::now())?;
    Ok(confirmed(charge, false, true))
}

fn confirmed(charge: &Charge<'_>, already_confirmed: bool, reinstated: bool) -> Value {
    answer::success(json!({
        "order_id": charge.order_id,
        "status": Status::Confirmed.name(),
        "already_confirmed": already_confirmed,
        "reinstated": reinstated,
    }))
}

/// `refund_required` says what remains to be done: false once the refund was reported.
fn refused(charge: &Charge<'_>, reason: Reason, refund_required: bool) -> Value {
    answer::failure(
        reason,
        json!({ "order_id": charge.order_id, "refund_required": refund_required }),
    )
}

fn repeated(charge: &Charge<'_>, standing: Standing) -> Value {
    match standing {
        Standing::Paid => confirmed(charge, true, false),
        Standing::Due(why) => refused(charge, why.reason(), true),
        Standing::Refunded(why) => refused(charge, why.reason(), false),
    }
}

/// Notes that a payment due was given back at the gateway. Locks the payment alone.
pub fn refund(payment_ref: &str, refund_ref: Option<&str>) -> Result<Value, Fault> {
    attempt_answer(|client| {
        let Some(payment) = payments::lock(client, payment_ref)? else {
            let about = json!({ "payment_ref": payment_ref });
            return Ok(Verdict::Undo(answer::failure(
                Reason::PaymentNotFound,
                about,
            )));
        };
        Ok(match payment.standing {
            Standing::Paid => {
                let about = json!({ "payment_ref": payment_ref, "order_id": payment.order_id });
                Verdict::Undo(answer::failure(Reason::PaymentNotDue, about))
            }
            Standing::Refunded(_) => Verdict::Undo(refunded(
                payment_ref,
                payment.order_id,
                payment.refund_ref.as_deref(),
                true,
            )),
            Standing::Due(_) => {
                payments::mark_refunded(client, payment.payment_id, refund_ref)?;
                Verdict::Keep(refunded(payment_ref, payment.order_id, refund_ref, false))
            }
        })
    })
}

fn refunded(
    payment_ref: &str,
    order_id: i64,
    refund_ref: Option<&str>,
    already_refunded: bool,
) -> Value {
    answer::success(json!({
        "payment_ref": payment_ref,
        "order_id": order_id,
        "status": "refunded",
        "refund_ref": refund_ref,
        "already_refunded": already_refunded,
    }))
}
