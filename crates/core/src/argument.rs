//! Checks of arguments. Each error names the argument and its value.

use crate::limits::{MAX_EXPIRED, MAX_NUMBER, MAX_SPAN, MAX_TEXT_BYTES};
use crate::time::{Micros, SECOND};
use std::borrow::Cow;
use std::fmt::Display;
use thiserror::Error;

/// How many characters of a long text an error message shows.
const SHOWN_CHARS: usize = 40;

/// An invalid argument.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    #[error("{name} must not be NULL")]
    Null { name: Cow<'static, str> },

    #[error("{name} is {value}: {rule}")]
    Value {
        name: Cow<'static, str>,
        value: String,
        rule: String,
    },

    /// A number that is too large.
    #[error("{name} is {value}: {rule}")]
    OutOfRange {
        name: Cow<'static, str>,
        value: String,
        rule: String,
    },

    /// An id that another server assigns.
    #[error(
        "{within}{what} {id} belongs to node {owner} of {nodes}, and this server is node {node}"
    )]
    Foreign {
        /// The part of an argument in which the id is, with a colon, or nothing.
        within: Cow<'static, str>,
        what: &'static str,
        id: i64,
        owner: i64,
        nodes: i64,
        node: i64,
    },
}

impl Invalid {
    pub fn value(name: &'static str, value: impl ToString, rule: impl Into<String>) -> Self {
        Self::Value {
            name: name.into(),
            value: value.to_string(),
            rule: rule.into(),
        }
    }

    pub fn out_of_range(name: &'static str, value: impl ToString, rule: impl Into<String>) -> Self {
        Self::OutOfRange {
            name: name.into(),
            value: value.to_string(),
            rule: rule.into(),
        }
    }

    /// The same error for a part of the argument `whole`: the name becomes `whole.name`, or just
    /// `whole` if this error has no name of its own.
    #[must_use]
    pub fn within(mut self, whole: &str) -> Self {
        match &mut self {
            Self::Null { name } | Self::Value { name, .. } | Self::OutOfRange { name, .. } => {
                *name = match &**name {
                    "" => Cow::Owned(whole.to_owned()),
                    part => Cow::Owned(format!("{whole}.{part}")),
                };
            }
            Self::Foreign { within, .. } => *within = format!("{whole}: ").into(),
        }
        self
    }
}

/// A value that must not be NULL.
pub fn required<T>(name: &'static str, value: Option<T>) -> Result<T, Invalid> {
    value.ok_or(Invalid::Null { name: name.into() })
}

/// Whether a text has 1 to 255 bytes.
pub fn fits(value: &str) -> bool {
    (1..=MAX_TEXT_BYTES).contains(&value.len())
}

/// A text of 1 to 255 bytes.
pub fn text<'a>(name: &'static str, value: &'a str) -> Result<&'a str, Invalid> {
    match value.len() {
        0 => Err(Invalid::value(name, "''", "it must not be empty")),
        1..=MAX_TEXT_BYTES => Ok(value),
        bytes => {
            let rule = format!("it must be at most {MAX_TEXT_BYTES} bytes long, not {bytes}");
            Err(Invalid::value(name, shown(value), rule))
        }
    }
}

/// A text as error messages show it: in quotes, and truncated if it is long.
pub(crate) fn shown(value: &str) -> String {
    format!("'{}'", truncated(value))
}

/// The beginning of a long text, and a sign that it goes on.
pub(crate) fn truncated(value: &str) -> Cow<'_, str> {
    match value.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}...", &value[..end]).into(),
        None => value.into(),
    }
}

/// A text of 1 to 255 bytes that must not be NULL.
pub fn required_text<'a>(name: &'static str, value: Option<&'a str>) -> Result<&'a str, Invalid> {
    text(name, required(name, value)?)
}

/// A text of 1 to 255 bytes that may be NULL.
pub fn optional_text<'a>(
    name: &'static str,
    value: Option<&'a str>,
) -> Result<Option<&'a str>, Invalid> {
    value.map(|value| text(name, value)).transpose()
}

/// A number with a lower bound.
pub fn at_least<T: Copy + PartialOrd + Display>(
    name: &'static str,
    value: T,
    least: T,
) -> Result<T, Invalid> {
    if value < least {
        return Err(Invalid::value(
            name,
            value,
            format!("it must be at least {least}"),
        ));
    }
    Ok(value)
}

/// A number of units, or an amount in minor units. JavaScript must be able to represent it.
pub fn number(name: &'static str, value: i64, least: i64) -> Result<i64, Invalid> {
    at_most(name, at_least(name, value, least)?)
}

fn at_most(name: &'static str, value: i64) -> Result<i64, Invalid> {
    if value > MAX_NUMBER {
        let rule = format!("it must be at most {MAX_NUMBER}");
        return Err(Invalid::out_of_range(name, value, rule));
    }
    Ok(value)
}

/// A number of units to add to a stock, or, if it is negative, to take from it.
pub fn delta(delta: i64) -> Result<i64, Invalid> {
    match delta {
        0 => Err(Invalid::value("delta", delta, "it must not be 0")),
        _ => at_most("delta", delta),
    }
}

/// The most orders that one call may expire.
pub fn max_orders(max_orders: i32) -> Result<i32, Invalid> {
    if !(1..=MAX_EXPIRED).contains(&max_orders) {
        let rule = format!("it must be from 1 to {MAX_EXPIRED}");
        return Err(Invalid::value("max_orders", max_orders, rule));
    }
    Ok(max_orders)
}

/// Checks that a sale ends after it starts. `iso` writes a time for the error.
pub fn sale_window(
    starts_at: Option<Micros>,
    ends_at: Option<Micros>,
    iso: impl Fn(Micros) -> String,
) -> Result<(), Invalid> {
    match (starts_at, ends_at) {
        (Some(from), Some(to)) if from >= to => {
            let rule = format!("it must be after starts_at, {}", iso(from));
            Err(Invalid::value("ends_at", iso(to), rule))
        }
        _ => Ok(()),
    }
}

/// Checks that JavaScript can represent the price of the whole stock. `name` and `value` are the
/// argument that the error names.
pub fn value_of_stock(
    name: &'static str,
    value: i64,
    unit_price: Option<i64>,
    stock: i64,
) -> Result<(), Invalid> {
    match unit_price.unwrap_or(0).checked_mul(stock) {
        Some(total) if total <= MAX_NUMBER => Ok(()),
        _ => Err(Invalid::out_of_range(
            name,
            value,
            format!("unit_price times stock must be at most {MAX_NUMBER}"),
        )),
    }
}

/// An ISO 4217 code, converted to capitals, since gateways report it in either case.
pub fn currency(value: &str) -> Result<String, Invalid> {
    if value.len() != 3 || !value.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(Invalid::value(
            "currency",
            shown(value),
            "it must be three letters, such as EUR",
        ));
    }
    Ok(value.to_ascii_uppercase())
}

/// An interval between `least` and a week.
pub fn span(name: &'static str, micros: i128, least: Micros) -> Result<Micros, Invalid> {
    if micros < i128::from(least) || micros > i128::from(MAX_SPAN) {
        let seconds = micros as f64 / SECOND as f64;
        let rule = if least == SECOND {
            "it must be from 1 second to 7 days"
        } else {
            "it must be above 0 and at most 7 days"
        };
        return Err(Invalid::value(name, format!("{seconds} s"), rule));
    }
    Ok(micros as Micros)
}

/// An interval of at least nothing.
pub fn age(name: &'static str, micros: i128) -> Result<Micros, Invalid> {
    if micros < 0 {
        let seconds = micros as f64 / SECOND as f64;
        let rule = "it must not be negative";
        return Err(Invalid::value(name, format!("{seconds} s"), rule));
    }
    Ok(Micros::try_from(micros).unwrap_or(Micros::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_text_is_kept_or_refused_by_its_bytes(value in ".{0,300}") {
            prop_assert_eq!(text("reason", &value).ok(), fits(&value).then_some(&*value));
            if let Err(invalid) = text("reason", &value) {
                prop_assert!(invalid.to_string().chars().count() < 120);
            }
        }

        #[test]
        fn a_number_is_kept_or_refused_by_its_bounds(value in any::<i64>(), least in 0..2i64) {
            let expected = (least..=MAX_NUMBER).contains(&value).then_some(value);
            prop_assert_eq!(number("amount", value, least).ok(), expected);
        }

        #[test]
        fn a_currency_is_any_three_letters(value in ".{0,4}") {
            let letters = value.len() == 3 && value.chars().all(|one| one.is_ascii_alphabetic());
            prop_assert_eq!(currency(&value).ok(), letters.then(|| value.to_uppercase()));
        }

        #[test]
        fn a_span_is_kept_to_the_microsecond(micros in -1..2 * i128::from(MAX_SPAN), least in 1..=SECOND) {
            let expected = (i128::from(least)..=i128::from(MAX_SPAN)).contains(&micros);
            prop_assert_eq!(span("ttl", micros, least).ok(), expected.then_some(micros as Micros));
        }

        #[test]
        fn the_price_of_a_stock_is_exact(price in 0..i64::MAX, stock in 0..i64::MAX) {
            let fits = i128::from(price) * i128::from(stock) <= i128::from(MAX_NUMBER);
            prop_assert_eq!(value_of_stock("delta", 1, Some(price), stock).is_ok(), fits);
        }
    }

    #[test]
    fn texts_are_1_to_255_bytes() {
        assert!(text("user_id", "").is_err());
        assert!(text("user_id", "a").is_ok());
        assert!(text("user_id", &"a".repeat(255)).is_ok());
        assert!(text("user_id", &"é".repeat(128)).is_err());
    }

    #[test]
    fn a_long_value_is_shortened_in_its_message() {
        let message = text("user_id", &"x".repeat(10_000))
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with("user_id is 'xxxx") && message.len() < 200,
            "{message}"
        );
        assert!(message.contains("not 10000"), "{message}");
    }

    #[test]
    fn numbers_stop_at_2_to_the_53() {
        assert!(number("inventory", MAX_NUMBER, 0).is_ok());
        assert!(matches!(
            number("inventory", MAX_NUMBER + 1, 0),
            Err(Invalid::OutOfRange { .. })
        ));
        assert!(matches!(
            number("inventory", -1, 0),
            Err(Invalid::Value { .. })
        ));
    }

    #[test]
    fn a_stock_changes_by_any_number_but_0_that_javascript_can_represent() {
        for fine in [i64::MIN, -1, 1, MAX_NUMBER] {
            assert_eq!(delta(fine), Ok(fine));
        }
        assert!(matches!(delta(0), Err(Invalid::Value { .. })));
        assert!(matches!(
            delta(MAX_NUMBER + 1),
            Err(Invalid::OutOfRange { .. })
        ));
    }

    #[test]
    fn a_call_expires_at_least_one_order_and_at_most_so_many() {
        for fine in [1, MAX_EXPIRED] {
            assert_eq!(max_orders(fine), Ok(fine));
        }
        for bad in [i32::MIN, 0, MAX_EXPIRED + 1] {
            assert!(max_orders(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_sale_ends_after_it_starts() {
        let window = |starts_at, ends_at| sale_window(starts_at, ends_at, |at| at.to_string());
        for fine in [
            (None, None),
            (Some(2), None),
            (None, Some(1)),
            (Some(1), Some(2)),
        ] {
            assert_eq!(window(fine.0, fine.1), Ok(()));
        }
        assert!(window(Some(1), Some(1)).is_err());
        let message = window(Some(2), Some(1)).unwrap_err().to_string();
        assert_eq!(message, "ends_at is 1: it must be after starts_at, 2");
    }

    #[test]
    fn an_age_is_not_negative_and_may_be_longer_than_any_time() {
        assert!(age("older_than", -1).is_err());
        assert_eq!(age("older_than", 0), Ok(0));
        assert_eq!(age("older_than", i128::MAX), Ok(Micros::MAX));
    }

    #[test]
    fn the_price_of_a_stock_cannot_overflow() {
        assert!(value_of_stock("unit_price", 1, Some(MAX_NUMBER), 1).is_ok());
        assert!(value_of_stock("unit_price", 1, Some(MAX_NUMBER), 2).is_err());
        assert!(value_of_stock("unit_price", 1, Some(i64::MAX), i64::MAX).is_err());
        assert!(value_of_stock("unit_price", 1, None, i64::MAX).is_ok());
    }

    #[test]
    fn currencies_are_three_letters_in_capitals() {
        assert_eq!(currency("usd").unwrap(), "USD");
        for bad in ["", "us", "usdx", "u$d", "€"] {
            assert!(currency(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_are_bounded_on_both_sides() {
        assert!(span("payment_window", 1, 1).is_ok());
        assert!(span("payment_window", 0, 1).is_err());
        assert!(span("reservation_ttl", i128::from(SECOND) - 1, SECOND).is_err());
        assert!(span("reservation_ttl", i128::from(MAX_SPAN), SECOND).is_ok());
        assert!(span("reservation_ttl", i128::MAX, SECOND).is_err());
    }
}
