#![doc = include_str!("../README.md")]

mod answer;
mod buyer;
mod call;
mod error;
mod gather;
mod names;
mod operator;
mod outcomes;
mod patience;
mod purchase;

pub use answer::{Answer, Refusal};
pub use buyer::{
    Charge, begin_payment, cancel_order, confirm_order, find_payment, get_order, item_availability,
    purchase_batch, purchase_item, user_orders,
};
pub use call::{Bounded, ask, call_within};
pub use error::Error;
pub use gather::{Gatherer, GathererOptions};
pub use names::{ItemState, OrderStatus, PaymentStatus, Reason};
pub use operator::{
    BrokenInvariant, NewItem, Problem, audit, create_item, health, pause_item, payment_checks,
    reconcile_stale_reservations, refund_order, refund_payment, refunds_due, restock_item,
    resume_item,
};
pub use outcomes::{
    Availability, Cancelled, Confirmed, FoundPayment, Order, OrderRefunded, Paused, Payment,
    PaymentBegun, PaymentCheck, PaymentRefunded, Reconciled, RefundDue, Reservation, Restocked,
    UserOrders,
};
pub use patience::Patience;
pub use purchase::{Purchase, Strategy};
