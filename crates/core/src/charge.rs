//! A charge that the application reports, its comparison with what is recorded, and what became
//! of it.

use crate::fate::{Standing, Why};
use crate::order_ref::OrderName;
use crate::reason::Reason;

/// A charge that the payment gateway made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge<'a> {
    /// The order that it was made for, as the application names it.
    pub order: OrderName<'a>,
    pub payment_ref: Option<&'a str>,
    pub amount: Option<i64>,
    pub currency: Option<String>,
}

/// The price of an order. Unit price and currency are `None` if its item has no price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price<'a> {
    pub unit_price: Option<i64>,
    pub quantity: i64,
    pub currency: Option<&'a str>,
}

/// Whether two reports agree on a value: they are equal, or one of them does not name it.
pub fn agree<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
    one.is_none() || other.is_none() || one == other
}

impl Charge<'_> {
    /// Whether the charge agrees with this amount and currency.
    pub fn agrees(&self, amount: Option<i64>, currency: Option<&str>) -> bool {
        agree(self.amount, amount) && agree(self.currency.as_deref(), currency)
    }

    /// What its payment is recorded for; `is_known` says whether there is such an order.
    pub fn paid_for(&self, is_known: bool) -> PaidFor<'_> {
        match self.order {
            OrderName::Id(order_id) => PaidFor::Order(order_id),
            OrderName::Ref { order_ref, .. } if is_known => PaidFor::Order(order_ref.order_id),
            OrderName::Ref { text, .. } | OrderName::Unknown(text) => PaidFor::UnknownRef(text),
        }
    }

    /// Whether the charge agrees with the price of an order.
    pub fn matches(&self, price: &Price<'_>) -> bool {
        let total = price
            .unit_price
            .map(|unit_price| unit_price.saturating_mul(price.quantity));
        self.agrees(total, price.currency)
    }
}

/// The outcome of the report of a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// The charge now pays its order.
    Paid,
    /// The charge now pays its order, which had expired and has taken its units again.
    Reinstated,
    /// The charge pays its order since an earlier report.
    PaidBefore,
    /// The charge pays no order.
    Refused {
        reason: Reason,
        /// Whether the charge is still due for refund; false for the charge of another order, too.
        refund_required: bool,
    },
    /// Another transaction holds the order, the item or the payment.
    Busy,
}

impl Confirmed {
    /// The answer to a report of a charge that is recorded already.
    pub fn again(standing: Standing) -> Self {
        match standing {
            Standing::Paid => Self::PaidBefore,
            Standing::Due(why) => Self::due(why),
            Standing::Refunded(why) => Self::Refused {
                reason: why.reason(),
                refund_required: false,
            },
        }
    }

    /// The answer to the report of a charge that is due for refund.
    pub fn due(why: Why) -> Self {
        Self::Refused {
            reason: why.reason(),
            refund_required: true,
        }
    }
}

/// What a payment is recorded for: the id of an order, which may not exist; or a ref that names no
/// order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaidFor<'a> {
    Order(i64),
    UnknownRef(&'a str),
}

/// The order that a payment was reported for. Its id is `None` for a ref that names no order, and
/// its ref for an id that is of no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentOrder {
    pub order_id: Option<i64>,
    pub order_ref: Option<String>,
}

/// The outcome of the report that a payment was refunded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentRefunded {
    Done {
        order: PaymentOrder,
        refund_ref: Option<String>,
        /// Whether an earlier report did so; then `refund_ref` is that of the earlier one.
        already_refunded: bool,
    },
    /// The payment pays its order.
    NotDue(PaymentOrder),
    /// There is no such payment.
    NotFound,
    /// Another transaction holds the payment.
    Busy,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charge(amount: Option<i64>, currency: Option<&str>) -> Charge<'static> {
        Charge {
            order: OrderName::Id(1),
            payment_ref: None,
            amount,
            currency: currency.map(str::to_owned),
        }
    }

    #[test]
    fn a_value_that_is_not_named_agrees_with_any() {
        assert!(agree(None, Some(1)) && agree(Some(1), None) && agree::<i64>(None, None));
        assert!(agree(Some(1), Some(1)) && !agree(Some(1), Some(2)));
    }

    #[test]
    fn a_charge_is_compared_with_the_price_of_all_units() {
        let price = Price {
            unit_price: Some(500),
            quantity: 3,
            currency: Some("EUR"),
        };
        assert!(charge(None, None).matches(&price));
        assert!(charge(Some(1_500), Some("EUR")).matches(&price));
        assert!(!charge(Some(500), Some("EUR")).matches(&price));
        assert!(!charge(Some(1_500), Some("USD")).matches(&price));
        let without_price = Price {
            quantity: 3,
            ..Price::default()
        };
        assert!(charge(Some(1), Some("USD")).matches(&without_price));
        let beyond = Price {
            unit_price: Some(i64::MAX),
            ..price
        };
        assert!(!charge(Some(-3), None).matches(&beyond), "no overflow");
    }

    #[test]
    fn a_charge_that_is_known_needs_a_refund_until_it_had_one() {
        assert_eq!(Confirmed::again(Standing::Paid), Confirmed::PaidBefore);
        for why in Why::ALL {
            let refused = |refund_required| Confirmed::Refused {
                reason: why.reason(),
                refund_required,
            };
            assert_eq!(Confirmed::again(Standing::Due(why)), refused(true));
            assert_eq!(Confirmed::again(Standing::Refunded(why)), refused(false));
        }
    }
}
