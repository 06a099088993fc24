//! The ledger of charges: every one that is reported pays its order or is due for refund.

use super::expiry::{ForSale, Freed};
use crate::attempt::{Caught, attempt_or_busy};
use crate::error::Fault;
use crate::pg::subtransaction::End;
use crate::pg::{clock, transaction};
use crate::sale::numbered::attempt;
use crate::store::orders::Order;
use crate::store::stale::StaleOfItem;
use crate::store::{items, orders, payments};
use flashsale_core::argument::Invalid;
use flashsale_core::charge::{Charge, Confirmed, PaidFor, PaymentRefunded};
use flashsale_core::fate::{Fate, Standing, Why, fate};
use flashsale_core::reason::Reason;
use pgrx::spi::SpiClient;

/// How often a confirm tries again after another transaction has recorded the same ref.
const DUPLICATE_RETRIES: u32 = 3;

/// Settles a reported charge. Locks the order, then writes the payment, and then locks the item,
/// but only to reinstate an expired order. 22023 for a second charge without a ref; 40001 if this
/// transaction has one snapshot and that cannot see what another one has committed.
pub fn confirm(charge: &Charge<'_>) -> Result<Confirmed, Fault> {
    let mut duplicates = 0;
    loop {
        match attempt(|client| settle(client, charge))? {
            Ok(confirmed) => return Ok(confirmed),
            Err(Caught::LockRefused) => return Ok(Confirmed::Busy),
            Err(Caught::DuplicateKey(_)) if transaction::has_one_snapshot() => {
                return Err(Fault::Serialization);
            }
            Err(Caught::DuplicateKey(_)) if duplicates < DUPLICATE_RETRIES => duplicates += 1,
            Err(Caught::DuplicateKey(error)) => error.rethrow(),
        }
    }
}

fn settle(client: &SpiClient<'_>, charge: &Charge<'_>) -> Result<End<Confirmed>, Fault> {
    let order = orders::lock(client, &charge.order)?;
    let paid_for = charge.paid_for(order.is_some());
    if order.is_none() {
        // The order was committed after this transaction's only snapshot, which cannot see it.
        if transaction::has_one_snapshot() && orders::exists_by_now(client, &charge.order)? {
            return Err(Fault::Serialization);
        }
        payments::lock_unknown_order(client, paid_for)?;
    }
    let ledger = payments::ledger(client, charge, paid_for)?;
    let matches = order
        .as_ref()
        .is_none_or(|order| charge.matches(&order.price()));
    let status = order.as_ref().map(|order| order.status);
    let fate = fate(status, charge.payment_ref.is_some(), matches, &ledger);
    Ok(match (fate, order) {
        (Fate::RefInUse, _) => End::RollBack(Confirmed::Refused {
            reason: Reason::PaymentRefInUse,
            refund_required: false,
        }),
        (Fate::Repeat(standing), _) => End::RollBack(Confirmed::again(standing)),
        (Fate::Fill(entry), _) => {
            payments::fill_ref(client, entry.payment_id, charge)?;
            End::Commit(Confirmed::again(entry.standing))
        }
        (Fate::NeedsRef, _) => {
            let rule = "a different charge was already reported without one, so this one needs it";
            return Err(Invalid::value("payment_ref", "NULL", rule).into());
        }
        (Fate::Due(why), _) => {
            payments::insert(client, charge, paid_for, Some(why))?;
            End::Commit(Confirmed::due(why))
        }
        (Fate::Pay, Some(order)) => {
            payments::insert(client, charge, paid_for, None)?;
            orders::confirm(client, &order, clock::now())?;
            End::Commit(Confirmed::Paid)
        }
        (Fate::Reinstate, Some(order)) => reinstate(client, charge, &order)?,
        (Fate::Pay | Fate::Reinstate, None) => {
            return Err(Fault::Broken("an unknown order was to be paid"));
        }
    })
}

/// Records the payment before it waits for the item, as due until the order has its units again. In
/// the opposite order two confirms of one ref could wait for each other.
fn reinstate(
    client: &SpiClient<'_>,
    charge: &Charge<'_>,
    order: &Order,
) -> Result<End<Confirmed>, Fault> {
    let paid_for = PaidFor::Order(order.order_id);
    let payment_id = payments::insert(client, charge, paid_for, Some(Why::OrderExpired))?;
    Ok(match take_units(client, order)? {
        Units::Taken => {
            payments::mark_paid(client, payment_id)?;
            orders::confirm(client, order, clock::now())?;
            End::Commit(Confirmed::Reinstated)
        }
        Units::Sold => End::Commit(Confirmed::due(Why::OrderExpired)),
        Units::Undecided => End::RollBack(Confirmed::Busy),
    })
}

/// What has become of the units of an expired order.
enum Units {
    /// The order has them again.
    Taken,
    Sold,
    /// Other transactions hold stale reservations, and may free their units or not.
    Undecided,
}

/// Takes the order's units from its item again; if too few are free, expires stale reservations of
/// the item first, provided that these have enough.
fn take_units(client: &SpiClient<'_>, order: &Order) -> Result<Units, Fault> {
    let (item_id, quantity) = (order.item_id, order.quantity);
    if items::take_back(client, item_id, quantity)? {
        return Ok(Units::Taken);
    }
    let now = clock::now();
    let stale = StaleOfItem::of(item_id, now).units(client, quantity)?;
    // Only now: others may have expired them.
    let free = items::read(client, item_id)?.map_or(0, |item| item.inventory);
    if free.saturating_add(stale) < quantity {
        return Ok(Units::Sold);
    }
    let Some(stock) = items::lock_stock(client, item_id)? else {
        return Ok(Units::Sold);
    };
    let missing = quantity - stock.inventory;
    let mut for_sale = ForSale::of(item_id, now);
    Ok(match for_sale.free(client, missing)? {
        Freed::Enough(_) if items::take_back(client, item_id, quantity)? => Units::Taken,
        Freed::Only(_) if for_sale.left(client, missing)? >= missing => Units::Undecided,
        _ => Units::Sold,
    })
}

/// Records that the gateway has refunded a payment that was due. Locks only the payment.
pub fn refund(payment_ref: &str, refund_ref: Option<&str>) -> Result<PaymentRefunded, Fault> {
    let refunded = attempt_or_busy(|client| {
        let Some(payment) = payments::lock(client, payment_ref)? else {
            return Ok(End::RollBack(PaymentRefunded::NotFound));
        };
        let order = payment.order;
        Ok(match payment.standing {
            Standing::Paid => End::RollBack(PaymentRefunded::NotDue(order)),
            Standing::Refunded(_) => End::RollBack(PaymentRefunded::Done {
                order,
                refund_ref: payment.refund_ref,
                already_refunded: true,
            }),
            Standing::Due(_) => {
                payments::mark_refunded(client, payment.payment_id, refund_ref)?;
                End::Commit(PaymentRefunded::Done {
                    order,
                    refund_ref: refund_ref.map(str::to_owned),
                    already_refunded: false,
                })
            }
        })
    })?;
    Ok(refunded.unwrap_or(PaymentRefunded::Busy))
}
