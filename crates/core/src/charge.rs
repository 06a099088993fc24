//! A charge that the application reports, and its comparison with what is recorded.

/// A charge that the payment gateway made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge<'a> {
    pub order_id: i64,
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

    /// Whether the charge agrees with the price of an order.
    pub fn matches(&self, price: &Price<'_>) -> bool {
        let total = price
            .unit_price
            .map(|unit_price| unit_price.saturating_mul(price.quantity));
        self.agrees(total, price.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charge(amount: Option<i64>, currency: Option<&str>) -> Charge<'static> {
        Charge {
            order_id: 1,
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
}
