//! Enums of the extension's codes, each open to codes of later versions.

/// An enum whose variants have codes, and one more for codes that this version does not know.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $code:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
            /// A code that a later version of the extension has.
            Other(Box<str>),
        }

        impl $name {
            /// The code, as the extension writes it.
            pub fn code(&self) -> &str {
                match self {
                    $(Self::$variant => $code,)+
                    Self::Other(code) => code,
                }
            }
        }

        impl From<&str> for $name {
            fn from(code: &str) -> Self {
                match code {
                    $($code => Self::$variant,)+
                    other => Self::Other(other.into()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.code())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let code = std::borrow::Cow::<str>::deserialize(deserializer)?;
                Ok(Self::from(&*code))
            }
        }
    };
}

codes! {
    /// Why a call was refused.
    Reason {
        ItemNotFound = "item_not_found",
        OutOfStock = "out_of_stock",
        /// Somebody else is being served: call again after [`Refusal::retry_after`](crate::Refusal::retry_after).
        Busy = "busy",
        /// The item changed meanwhile: call again.
        Conflict = "conflict",
        SaleNotStarted = "sale_not_started",
        SaleEnded = "sale_ended",
        SalePaused = "sale_paused",
        UserLimitReached = "user_limit_reached",
        /// The key was used with other values: a bug in the application.
        IdempotencyKeyReused = "idempotency_key_reused",
        OrderNotFound = "order_not_found",
        OrderCancelled = "order_cancelled",
        OrderExpired = "order_expired",
        OrderRefunded = "order_refunded",
        OrderNotConfirmed = "order_not_confirmed",
        AlreadyConfirmed = "already_confirmed",
        DuplicatePayment = "duplicate_payment",
        PaymentRefInUse = "payment_ref_in_use",
        AmountMismatch = "amount_mismatch",
        PaymentNotFound = "payment_not_found",
        PaymentNotDue = "payment_not_due",
        UserNotFound = "user_not_found",
        NotEnoughFree = "not_enough_free",
    }
}

codes! {
    /// Where an order stands.
    OrderStatus {
        Reserved = "reserved",
        Paying = "paying",
        Confirmed = "confirmed",
        Cancelled = "cancelled",
        Expired = "expired",
        Refunded = "refunded",
    }
}

codes! {
    /// Where a charge stands.
    PaymentStatus {
        /// It pays a confirmed order.
        Paid = "paid",
        /// It has to be refunded.
        Due = "due",
        Refunded = "refunded",
    }
}

codes! {
    /// Whether an item can be bought.
    ItemState {
        OnSale = "on_sale",
        SoldOut = "sold_out",
        NotStarted = "not_started",
        Ended = "ended",
        Paused = "paused",
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn a_code_of_a_later_version_is_kept() {
        let reason: Reason = serde_json::from_str("\"currency_differs\"").expect("a text");
        assert_eq!(reason, Reason::Other("currency_differs".into()));
        assert_eq!(reason.code(), "currency_differs");
    }

    #[test]
    fn codes_are_read_and_written_alike() {
        let reason: Reason = serde_json::from_str("\"out_of_stock\"").expect("a text");
        assert_eq!(reason, Reason::OutOfStock);
        assert_eq!(reason.to_string(), "out_of_stock");
    }
}
