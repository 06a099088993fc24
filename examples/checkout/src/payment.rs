//! The way of an order from the click to its end, in small steps that can all be repeated.
//!
//! reserve -> begin_payment -> charge -> confirm_order or cancel_order. Nothing here holds a
//! database connection, let alone a lock, while the gateway is at work. A process that dies in
//! between leaves an order in `paying`, which [`settle`] brings to its end.

use axum::http::StatusCode;
use flashsale_client::{Charge as Charged, OrderStatus, Purchase, Reason, Refusal, Reservation};

use crate::Shop;
use crate::database::Error;
use crate::failure::Failure;
use crate::stripe::{Charge, Intent, Voided};

const DECLINED: &str = "card_declined";
const NOT_CHARGED: &str = "payment_not_completed";
const NOT_FOR_SALE: &str = "not_for_sale";
const UNDER_WAY: &str = "What became of the payment is not known yet. Try again later.";

/// What a buyer has.
pub struct Bought {
    pub order_id: i64,
    pub remaining_inventory: i64,
    /// Otherwise the gateway has to be asked, and the order is `paying` for now.
    pub is_confirmed: bool,
}

/// How an order in `paying` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Confirmed,
    Cancelled,
    /// Charged, but the order was closed: the charge is on the list of refunds due.
    RefundDue,
    /// Not yet: the bank is still at work, or a person has to find out.
    Open,
}

impl Fate {
    pub fn name(self) -> &'static str {
        match self {
            Fate::Confirmed => "confirmed",
            Fate::Cancelled => "cancelled",
            Fate::RefundDue => "refund_due",
            Fate::Open => "open",
        }
    }
}

pub async fn buy(
    shop: &Shop,
    purchase: &Purchase,
    payment_method: &str,
) -> Result<Bought, Failure> {
    let order = reserve(shop, purchase).await?;
    let order_id = order.order_id;
    let is_confirmed = match order.status {
        OrderStatus::Confirmed => true, // a repeat of a purchase that went through
        _ => pay(shop, order_id, payment_method).await?,
    };
    Ok(Bought {
        order_id,
        remaining_inventory: order.remaining_inventory,
        is_confirmed,
    })
}

/// Whether the order is paid now; if not, that is still unknown. An error if it never will be.
pub async fn pay(shop: &Shop, order_id: i64, payment_method: &str) -> Result<bool, Failure> {
    // Read first: what fails before begin_payment leaves a reservation, which expires.
    let bill = shop.buyers.bill(order_id).await?;
    if bill.amount == 0 {
        give_up(shop, order_id, NOT_FOR_SALE).await;
        return Err(not_for_sale());
    }
    match shop
        .buyers
        .begin_payment(order_id, shop.payment_window_s)
        .await
    {
        Ok(_) => {}
        Err(Error::Refused(refusal)) if refusal.reason == Reason::AlreadyConfirmed => {
            return Ok(true);
        }
        Err(Error::Refused(refusal)) => return Err(of_closed_order(shop, refusal).await),
        Err(error) => return Err(error.into()),
    }
    if bill.is_forgotten {
        return Ok(false); // a person has to look up the outcome of the first charge
    }
    let charge = shop.gateway.charge(&bill, payment_method).await;
    metrics::counter!("checkout_charges_total", "outcome" => charge.name()).increment(1);
    match charge {
        Charge::Succeeded(intent) => match report(shop, &bill.order_ref, &intent).await {
            Ok(Fate::Confirmed) => Ok(true),
            Ok(Fate::Open) => Ok(false),
            Ok(Fate::Cancelled | Fate::RefundDue) => Err(closed_while_paying(order_id)),
            // The resolver reports it again.
            Err(error) => {
                tracing::warn!(order_id, %error, "a charge could not be reported yet");
                Ok(false)
            }
        },
        Charge::Declined if give_up(shop, order_id, DECLINED).await => Ok(true),
        Charge::Declined => Err(Failure::card_declined(order_id)),
        Charge::Canceled if give_up(shop, order_id, NOT_CHARGED).await => Ok(true),
        Charge::Canceled => Err(closed_while_paying(order_id)),
        Charge::Unknown => Ok(false),
    }
}

/// The purchase has a key: the same key is the same purchase.
pub async fn reserve(shop: &Shop, purchase: &Purchase) -> Result<Reservation, Failure> {
    match shop.buyers.purchase_item(purchase).await {
        Ok(order) => Ok(order),
        Err(Error::Refused(refusal)) => Err(of_closed_order(shop, refusal).await),
        Err(Error::Failed(error)) if error.is_outcome_unknown() => {
            tracing::warn!(%error, "nobody knows whether a purchase was made");
            Err(Failure::outcome_unknown())
        }
        Err(error) => Err(error.into()),
    }
}

fn not_for_sale() -> Failure {
    Failure::new(
        StatusCode::CONFLICT,
        NOT_FOR_SALE,
        "This item has no price.",
    )
}

/// The repeat of a purchase that failed for its card, or its price, is told so again.
async fn of_closed_order(shop: &Shop, refusal: Refusal) -> Failure {
    let (Reason::OrderCancelled, Some(order_id)) = (&refusal.reason, refusal.order_id()) else {
        return refusal.into();
    };
    match shop.buyers.get_order(order_id).await {
        Ok(order) => match order.close_reason.as_deref() {
            Some(DECLINED) => Failure::card_declined(order_id),
            Some(NOT_FOR_SALE) => not_for_sale(),
            _ => refusal.into(),
        },
        Err(error) => error.into(),
    }
}

fn closed_while_paying(order_id: i64) -> Failure {
    let message = "The order was cancelled meanwhile. A charge is given back.";
    Failure::new(StatusCode::CONFLICT, "order_cancelled", message).with("orderId", order_id)
}

/// Cancels an order that was not charged, or returns that it is paid nevertheless. If this fails,
/// the resolver does it.
async fn give_up(shop: &Shop, order_id: i64, reason: &str) -> bool {
    match shop.buyers.cancel_order(order_id, reason).await {
        Ok(_) => false,
        Err(Error::Refused(refusal)) if refusal.reason == Reason::AlreadyConfirmed => true,
        Err(error) => {
            tracing::warn!(order_id, %error, "an order could not be cancelled yet");
            false
        }
    }
}

/// Reports a successful charge to the database, every time that we learn of it. If the ref names no
/// order, since the database is older than the charge, the charge is due for refund.
pub async fn report(shop: &Shop, order_ref: &str, intent: &Intent) -> Result<Fate, Error> {
    let Intent {
        id,
        amount_received,
        currency,
        ..
    } = intent;
    let charge = Charged {
        payment_ref: Some(id),
        amount: Some(*amount_received),
        currency: Some(currency),
    };
    let refusal = match shop.buyers.confirm_order(order_ref, charge).await {
        Ok(_) => return Ok(Fate::Confirmed),
        Err(Error::Refused(refusal)) if !refusal.retryable => refusal,
        Err(error) => return Err(error),
    };
    tracing::warn!(
        order_ref,
        payment_ref = id,
        reason = refusal.reason.code(),
        "a charge does not pay its order"
    );
    Ok(match refusal.reason {
        Reason::DuplicatePayment => Fate::Confirmed, // by another charge; this one is due for refund
        Reason::OrderCancelled
        | Reason::OrderExpired
        | Reason::OrderRefunded
        | Reason::OrderNotFound => Fate::RefundDue,
        _ => Fate::Open, // of another amount, or another order's: for a person
    })
}

/// Brings an order in `paying` to its end: confirmed if it was charged, else cancelled, once the
/// gateway has ruled out that it will be.
pub async fn settle(shop: &Shop, order_id: i64) -> Result<Fate, SettleError> {
    let bill = shop.buyers.bill(order_id).await?;
    if bill.is_forgotten {
        return Ok(Fate::Open); // a person has to look it up
    }
    let (fate, reason) = if bill.amount == 0 {
        (Fate::Cancelled, NOT_FOR_SALE) // nothing is ever charged for it
    } else {
        match shop.gateway.void(&bill).await? {
            Voided::Charged(intent) => (report(shop, &bill.order_ref, &intent).await?, NOT_CHARGED),
            Voided::Never { was_declined: true } => (Fate::Cancelled, DECLINED),
            Voided::Never {
                was_declined: false,
            } => (Fate::Cancelled, NOT_CHARGED),
            Voided::Open => (Fate::Open, NOT_CHARGED),
        }
    };
    if fate == Fate::Cancelled {
        shop.buyers.cancel_order(order_id, reason).await?;
    }
    metrics::counter!("checkout_settled_total", "fate" => fate.name()).increment(1);
    Ok(fate)
}

/// Cancels an order for its buyer, and returns how the order ended. If a charge may be under way,
/// the gateway first has to rule it out, so that no buyer is charged for a cancelled order.
pub async fn cancel(shop: &Shop, order_id: i64) -> Result<&'static str, Failure> {
    match shop
        .buyers
        .begin_payment(order_id, shop.payment_window_s)
        .await
    {
        Ok(_) => {}
        Err(Error::Refused(refusal)) => {
            return match refusal.reason {
                Reason::OrderCancelled => Ok("cancelled"),
                Reason::OrderExpired => Ok("expired"),
                Reason::OrderRefunded => Ok("refunded"),
                _ => Err(refusal.into()),
            };
        }
        Err(error) => return Err(error.into()),
    }
    match settle(shop, order_id).await {
        Ok(Fate::Cancelled | Fate::RefundDue) => Ok("cancelled"),
        Ok(Fate::Confirmed) => {
            let message = "The payment went through already.";
            let failure = Failure::new(StatusCode::CONFLICT, "already_confirmed", message);
            Err(failure.with("orderId", order_id))
        }
        Ok(Fate::Open) => Err(Failure::busy(UNDER_WAY)),
        Err(error) => {
            tracing::warn!(order_id, %error, "an order could not be cancelled yet");
            Err(Failure::busy(UNDER_WAY))
        }
    }
}

/// A charge of this shop's that the gateway told us of.
pub async fn hear(shop: &Shop, intent: &Intent) -> Result<(), Error> {
    if let Some(order_ref) = shop.gateway.order_of(intent) {
        report(shop, order_ref, intent).await?;
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    #[error(transparent)]
    Gateway(#[from] crate::stripe::Error),
    #[error(transparent)]
    Database(#[from] Error),
}
