//! The way of an order from the click to its end, in small steps that can all be repeated.
//!
//! reserve -> begin_payment -> charge -> confirm_order or cancel_order. Nothing here holds a
//! database connection, let alone a lock, while the gateway is at work. Whoever dies in between
//! leaves an order in `paying`, which [`settle`] brings to its end.

use axum::http::StatusCode;

use crate::Shop;
use crate::database::{Error, Refusal, Reservation, Unsettled};
use crate::failure::Failure;
use crate::stripe::{Charge, Intent, Status};

const DECLINED: &str = "card_declined";
const NOT_CHARGED: &str = "payment_not_completed";
const NOT_FOR_SALE: &str = "no_price";

/// What a buyer wants.
pub struct Click {
    pub item_id: i64,
    pub user_id: String,
    pub quantity: i64,
    pub payment_method: String,
    /// The same key is the same purchase.
    pub key: String,
}

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

pub async fn buy(shop: &Shop, click: &Click) -> Result<Bought, Failure> {
    let order = reserve(shop, click).await?;
    let bought = |is_confirmed| Bought {
        order_id: order.order_id,
        remaining_inventory: order.remaining_inventory,
        is_confirmed,
    };
    if order.status == "confirmed" {
        return Ok(bought(true)); // a repeat of a purchase that went through
    }
    let bill = bill(shop, &order).await?;
    match shop
        .buyers
        .begin_payment(order.order_id, shop.payment_window_s)
        .await
    {
        Ok(_) => {}
        Err(Error::Refused(refusal)) if refusal.reason == "already_confirmed" => {
            return Ok(bought(true));
        }
        Err(Error::Refused(refusal)) => return Err(of_closed_order(shop, refusal).await),
        Err(error) => return Err(error.into()),
    }
    let charge = shop.gateway.charge(&bill, &click.payment_method).await;
    metrics::counter!("checkout_charges_total", "outcome" => charge.name()).increment(1);
    match charge {
        Charge::Succeeded(intent) => match report(shop, order.order_id, &intent).await {
            Ok(Fate::Confirmed) => Ok(bought(true)),
            Ok(_) => Err(closed_while_paying(order.order_id)),
            // The resolver reports it again.
            Err(error) => {
                tracing::warn!(order.order_id, %error, "a charge could not be reported yet");
                Ok(bought(false))
            }
        },
        Charge::Declined => {
            give_up(shop, order.order_id, DECLINED).await;
            Err(Failure::card_declined(order.order_id))
        }
        Charge::Canceled => {
            give_up(shop, order.order_id, NOT_CHARGED).await;
            Err(closed_while_paying(order.order_id))
        }
        Charge::Unknown => Ok(bought(false)),
    }
}

async fn reserve(shop: &Shop, click: &Click) -> Result<Reservation, Failure> {
    let Click {
        item_id,
        user_id,
        quantity,
        key,
        ..
    } = click;
    match shop
        .buyers
        .purchase_item(*item_id, user_id, *quantity, key)
        .await
    {
        Ok(order) => Ok(order),
        Err(Error::Refused(refusal)) => Err(of_closed_order(shop, refusal).await),
        Err(error) => Err(error.into()),
    }
}

/// What has to be charged. An item without a price cannot be bought here.
async fn bill(shop: &Shop, order: &Reservation) -> Result<Unsettled, Failure> {
    if let (Some(price @ 1..), Some(currency)) = (order.unit_price, &order.currency) {
        return Ok(Unsettled {
            order_id: order.order_id,
            amount: price * order.quantity,
            currency: currency.clone(),
        });
    }
    give_up(shop, order.order_id, NOT_FOR_SALE).await;
    Err(Failure::new(
        StatusCode::CONFLICT,
        "not_for_sale",
        "This item has no price.",
    ))
}

/// The repeat of a purchase whose card was declined is told so again.
async fn of_closed_order(shop: &Shop, refusal: Refusal) -> Failure {
    #[derive(serde::Deserialize)]
    struct Closed {
        close_reason: Option<String>,
    }
    if let ("order_cancelled", Some(order_id)) = (refusal.reason.as_str(), refusal.order_id) {
        match shop.buyers.get_order::<Closed>(order_id).await {
            Ok(order) if order.close_reason.as_deref() == Some(DECLINED) => {
                return Failure::card_declined(order_id);
            }
            Ok(_) => {}
            Err(error) => return error.into(),
        }
    }
    refusal.into()
}

fn closed_while_paying(order_id: i64) -> Failure {
    let message = "The order was cancelled meanwhile. A charge is given back.";
    Failure::new(StatusCode::CONFLICT, "order_cancelled", message).with("orderId", order_id)
}

/// Cancels an order that was not charged. If that fails, the resolver does it.
async fn give_up(shop: &Shop, order_id: i64, reason: &str) {
    if let Err(error) = shop.buyers.cancel_order(order_id, reason).await {
        tracing::warn!(order_id, %error, "an order could not be cancelled yet");
    }
}

/// Tells the database of a charge that went through, as often as we hear of it.
pub async fn report(shop: &Shop, order_id: i64, intent: &Intent) -> Result<Fate, Error> {
    let Intent {
        id,
        amount_received,
        currency,
        ..
    } = intent;
    match shop
        .buyers
        .confirm_order(order_id, id, *amount_received, currency)
        .await
    {
        Ok(_) => Ok(Fate::Confirmed),
        Err(Error::Refused(refusal)) if !refusal.retryable => {
            let Refusal {
                reason,
                refund_required,
                ..
            } = refusal;
            tracing::warn!(
                order_id,
                payment_ref = id,
                reason,
                refund_required,
                "a charge pays no order"
            );
            Ok(Fate::RefundDue)
        }
        Err(error) => Err(error),
    }
}

/// Brings an order in `paying` to its end: confirmed if it was charged, else cancelled, once the
/// gateway has ruled out that it will be.
pub async fn settle(shop: &Shop, order: &Unsettled) -> Result<Fate, SettleError> {
    if shop.operators.is_too_old_to_settle(order.order_id).await? {
        tracing::error!(
            order.order_id,
            "a payment is so old that a person has to look it up"
        );
        return Ok(Fate::Open);
    }
    let intent = shop.gateway.void(order).await?;
    let fate = match intent.status {
        Status::Succeeded => report(shop, order.order_id, &intent).await?,
        Status::Canceled => {
            let reason = if intent.last_payment_error.is_some() {
                DECLINED
            } else {
                NOT_CHARGED
            };
            shop.buyers.cancel_order(order.order_id, reason).await?;
            Fate::Cancelled
        }
        Status::Open => Fate::Open,
    };
    metrics::counter!("checkout_settled_total", "fate" => fate.name()).increment(1);
    Ok(fate)
}

#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    #[error(transparent)]
    Gateway(#[from] crate::stripe::Error),
    #[error(transparent)]
    Database(#[from] Error),
}
