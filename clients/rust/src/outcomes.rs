//! What successful calls answer. Times are texts in ISO 8601; money is counted in minor units.

use serde::Deserialize;

use crate::names::{ItemState, OrderStatus, PaymentStatus};

/// Units reserved for a user, or the earlier order of the same key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Reservation {
    pub order_id: i64,
    /// The order's name outside the database.
    pub order_ref: String,
    pub item_id: i64,
    pub quantity: i64,
    pub status: OrderStatus,
    /// Units that were left after this purchase.
    pub remaining_inventory: i64,
    /// `None` once the order is no longer reserved.
    pub expires_at: Option<String>,
    pub unit_price: Option<i64>,
    pub currency: Option<String>,
    /// Whether an earlier call with the same key made the order.
    pub replayed: bool,
}

/// A payment may be made now; the order does not expire by itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct PaymentBegun {
    pub order_id: i64,
    /// `None` if the call named the order by its id.
    pub order_ref: Option<String>,
    pub status: OrderStatus,
    pub payment_deadline: String,
}

/// The charge pays the order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Confirmed {
    pub order_id: i64,
    /// `None` if the call named the order by its id.
    pub order_ref: Option<String>,
    pub status: OrderStatus,
    /// Whether the charge had been reported before.
    pub already_confirmed: bool,
    /// Whether the order had expired and took its units again.
    pub reinstated: bool,
}

/// The order is closed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Cancelled {
    pub order_id: i64,
    /// `None` if the call named the order by its id.
    pub order_ref: Option<String>,
    pub status: OrderStatus,
    /// Units that this call put back on sale.
    pub restored: i64,
    /// Whether the order was closed before this call, which then changed nothing.
    pub already_closed: bool,
}

/// One order with all its charges.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Order {
    pub order_id: i64,
    pub order_ref: String,
    pub item_id: i64,
    pub user_id: String,
    pub quantity: i64,
    pub status: OrderStatus,
    pub unit_price: Option<i64>,
    pub currency: Option<String>,
    /// The price of the whole order.
    pub total: Option<i64>,
    pub idempotency_key: Option<String>,
    pub created_at: String,
    pub expires_at: Option<String>,
    pub paying_at: Option<String>,
    pub payment_deadline: Option<String>,
    pub confirmed_at: Option<String>,
    pub closed_at: Option<String>,
    pub close_reason: Option<String>,
    pub payments: Vec<Payment>,
}

/// One charge of an order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Payment {
    pub payment_ref: Option<String>,
    pub status: PaymentStatus,
    /// Why a refund is or was due.
    pub why: Option<String>,
    pub amount: Option<i64>,
    pub currency: Option<String>,
}

/// The orders of a user, newest first, 100 at most.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct UserOrders {
    pub user_id: String,
    pub orders: Vec<Order>,
}

/// One charge, found by its ref.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct FoundPayment {
    pub payment_ref: String,
    /// `None` if the charge was reported for a ref that names no order.
    pub order_id: Option<i64>,
    pub order_ref: Option<String>,
    pub status: PaymentStatus,
    pub why: Option<String>,
    pub amount: Option<i64>,
    pub currency: Option<String>,
    pub created_at: String,
    pub due_since: Option<String>,
    pub refunded_at: Option<String>,
    pub refund_ref: Option<String>,
}

/// What a shop page shows about an item.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Availability {
    pub item_id: i64,
    pub name: Option<String>,
    /// Whether the state is [`ItemState::OnSale`].
    pub available: bool,
    pub state: ItemState,
    pub remaining_inventory: i64,
    pub unit_price: Option<i64>,
    pub currency: Option<String>,
    pub max_per_user: Option<i64>,
    pub starts_at: Option<String>,
    pub ends_at: Option<String>,
}

/// The stock after units were added or taken away.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Restocked {
    pub item_id: i64,
    pub delta: i64,
    pub stock: i64,
    pub remaining_inventory: i64,
    /// Whether an earlier call with the same key moved the units.
    pub replayed: bool,
}

/// Whether the sale of an item is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Paused {
    pub item_id: i64,
    pub paused: bool,
}

/// What became of stale reservations.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Reconciled {
    /// Orders that this call expired.
    pub expired: i64,
    /// Their units.
    pub restored: i64,
    /// Stale orders that other transactions had locked.
    pub skipped: i64,
    /// Orders in payment past their deadline: ask the gateway about them.
    pub payment_checks: i64,
    /// Whether to call again.
    pub more: bool,
}

/// The order is refunded, and its payment is due for refund.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct OrderRefunded {
    pub order_id: i64,
    /// `None` if the call named the order by its id.
    pub order_ref: Option<String>,
    pub status: OrderStatus,
    /// Units that this call put back on sale.
    pub restored: i64,
    /// Units that this call took out of the stock.
    pub written_off: i64,
    pub already_refunded: bool,
}

/// The refund of a charge is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct PaymentRefunded {
    pub payment_ref: String,
    pub order_id: Option<i64>,
    pub order_ref: Option<String>,
    pub status: PaymentStatus,
    /// The ref of the first report.
    pub refund_ref: Option<String>,
    pub already_refunded: bool,
}

/// An order whose payment is overdue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct PaymentCheck {
    pub order_id: i64,
    /// Under this the gateway knows the charge, if the application passes refs to it.
    pub order_ref: String,
    pub item_id: i64,
    pub user_id: String,
    pub quantity: i64,
    /// What should have been charged.
    pub amount: Option<i64>,
    pub currency: Option<String>,
    pub paying_at: String,
    pub payment_deadline: String,
}

/// A charge that is due for refund.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct RefundDue {
    /// `None` if it has not been reported yet.
    pub payment_ref: Option<String>,
    /// `None` if the charge was reported for a ref that names no order.
    pub order_id: Option<i64>,
    pub order_ref: Option<String>,
    pub user_id: Option<String>,
    pub amount: Option<i64>,
    pub currency: Option<String>,
    pub due_since: String,
    pub why: String,
}
