//! The reasons for refusals.

/// Why a call was refused. The codes are stable, since applications match on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    ItemNotFound,
    OutOfStock,
    Busy,
    Conflict,
    SaleNotStarted,
    SaleEnded,
    SalePaused,
    UserLimitReached,
    IdempotencyKeyReused,
    OrderNotFound,
    OrderCancelled,
    OrderExpired,
    OrderRefunded,
    OrderNotConfirmed,
    AlreadyConfirmed,
    DuplicatePayment,
    PaymentRefInUse,
    AmountMismatch,
    PaymentNotFound,
    PaymentNotDue,
    UserNotFound,
    NotEnoughFree,
}

impl Reason {
    /// The stable name that applications match on.
    pub fn code(self) -> &'static str {
        self.wording().0
    }

    /// A sentence for humans.
    pub fn message(self) -> &'static str {
        self.wording().1
    }

    /// Whether the same call may succeed if it is repeated a moment later.
    pub fn retryable(self) -> bool {
        matches!(self, Self::Busy | Self::Conflict)
    }

    fn wording(self) -> (&'static str, &'static str) {
        match self {
            Self::ItemNotFound => ("item_not_found", "There is no such item."),
            Self::OutOfStock => ("out_of_stock", "Not enough units are left."),
            Self::Busy => (
                "busy",
                "Somebody else is being served; try again in a moment.",
            ),
            Self::Conflict => ("conflict", "The item changed in the meantime; try again."),
            Self::SaleNotStarted => ("sale_not_started", "The sale has not started yet."),
            Self::SaleEnded => ("sale_ended", "The sale has ended."),
            Self::SalePaused => ("sale_paused", "The sale is paused."),
            Self::UserLimitReached => ("user_limit_reached", "This would pass the limit per user."),
            Self::IdempotencyKeyReused => (
                "idempotency_key_reused",
                "This idempotency key was used with other values.",
            ),
            Self::OrderNotFound => ("order_not_found", "There is no such order."),
            Self::OrderCancelled => ("order_cancelled", "The order was cancelled."),
            Self::OrderExpired => ("order_expired", "The reservation expired."),
            Self::OrderRefunded => ("order_refunded", "The order was refunded."),
            Self::OrderNotConfirmed => (
                "order_not_confirmed",
                "Only a confirmed order can be refunded.",
            ),
            Self::AlreadyConfirmed => ("already_confirmed", "The order is already confirmed."),
            Self::DuplicatePayment => (
                "duplicate_payment",
                "The order is already paid by another payment.",
            ),
            Self::PaymentRefInUse => (
                "payment_ref_in_use",
                "This payment belongs to another order.",
            ),
            Self::AmountMismatch => (
                "amount_mismatch",
                "The payment differs from the order's price.",
            ),
            Self::PaymentNotFound => ("payment_not_found", "There is no such payment."),
            Self::PaymentNotDue => (
                "payment_not_due",
                "The payment pays a confirmed order and is not due for refund.",
            ),
            Self::UserNotFound => ("user_not_found", "This user has no orders."),
            Self::NotEnoughFree => ("not_enough_free", "Fewer units than that are free."),
        }
    }
}
