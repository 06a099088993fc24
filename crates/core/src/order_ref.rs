//! Order refs, the names of orders for the world outside: `ID-CODE`. After a failover, in a restored
//! copy or after a sequence was set back, an id may be assigned again. A code is random, so that
//! nobody can guess it and the ref of one order never names another.

use crate::argument::{Invalid, shown};
use std::borrow::Cow;
use std::fmt;

/// Crockford's base 32, which leaves out I, L, O and U.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The number of characters of a code.
pub const CODE_LEN: usize = 10;

/// The random part of an order's ref: 50 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RefCode([u8; CODE_LEN]);

impl RefCode {
    /// The code that these random bytes make.
    pub const fn new(random: [u8; CODE_LEN]) -> Self {
        let mut code = random;
        let mut at = 0;
        while at < CODE_LEN {
            code[at] = DIGITS[random[at] as usize % DIGITS.len()];
            at += 1;
        }
        Self(code)
    }

    /// Reads a code as people write it: in either case, with O for 0, and I or L for 1.
    pub fn parse(text: &str) -> Option<Self> {
        let mut code = <[u8; CODE_LEN]>::try_from(text.as_bytes()).ok()?;
        for digit in &mut code {
            *digit = match digit.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                other => other,
            };
        }
        let is_valid = code.iter().all(|digit| DIGITS.contains(digit));
        is_valid.then_some(Self(code))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the digits are ASCII")
    }
}

/// The ref of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderRef {
    pub order_id: i64,
    pub code: RefCode,
}

impl fmt::Display for OrderRef {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}-{}", self.order_id, self.code.as_str())
    }
}

/// How a caller names an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderName<'a> {
    Id(i64),
    Ref {
        order_ref: OrderRef,
        /// The ref as the caller wrote it.
        text: &'a str,
    },
    /// A text that cannot be the ref of any order.
    Unknown(&'a str),
}

impl<'a> OrderName<'a> {
    /// Reads a ref, or an order id if the text consists of digits alone. 22003 for an id that is
    /// not a bigint; any other text is a name, if only of no order.
    pub fn parse(text: &'a str) -> Result<Self, Invalid> {
        if is_digits(text) {
            let id = text.parse().map_err(|_| {
                Invalid::out_of_range("order_ref", shown(text), "the id must fit a bigint")
            })?;
            return Ok(Self::Id(id));
        }
        Ok(match order_ref(text) {
            Some(order_ref) => Self::Ref { order_ref, text },
            None => Self::Unknown(text),
        })
    }

    /// The id that the order must have, and the code if the name has one; `None` if no order can
    /// have this name.
    pub fn key(&self) -> Option<(i64, Option<RefCode>)> {
        match *self {
            Self::Id(order_id) => Some((order_id, None)),
            Self::Ref { order_ref, .. } => Some((order_ref.order_id, Some(order_ref.code))),
            Self::Unknown(_) => None,
        }
    }

    /// The text if it is not an id.
    pub fn text(&self) -> Option<&'a str> {
        match *self {
            Self::Id(_) => None,
            Self::Ref { text, .. } | Self::Unknown(text) => Some(text),
        }
    }
}

/// A ref as answers write it, if the text is one, however it is written; else the text.
pub fn as_answered(text: &str) -> Cow<'_, str> {
    match order_ref(text) {
        Some(order_ref) => order_ref.to_string().into(),
        None => text.into(),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn order_ref(text: &str) -> Option<OrderRef> {
    let (id, code) = text.split_once('-')?;
    Some(OrderRef {
        order_id: id.parse().ok().filter(|_| is_digits(id))?,
        code: RefCode::parse(code)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name_of(order_ref: OrderRef, text: &str) -> OrderName<'_> {
        OrderName::Ref { order_ref, text }
    }

    proptest! {
        #[test]
        fn a_ref_is_read_as_it_is_written(order_id in 0..=i64::MAX, random in any::<[u8; CODE_LEN]>()) {
            let order_ref = OrderRef { order_id, code: RefCode::new(random) };
            let text = order_ref.to_string();
            prop_assert_eq!(OrderName::parse(&text).unwrap(), name_of(order_ref, &text));
            let lower = text.to_lowercase();
            let padded = format!("0{lower}");
            prop_assert_eq!(as_answered(&padded), text.as_str());
            prop_assert_eq!(OrderName::parse(&lower).unwrap(), name_of(order_ref, &lower));
        }

        #[test]
        fn a_different_code_is_another_ref(one in any::<[u8; CODE_LEN]>(), other in any::<[u8; CODE_LEN]>()) {
            let same = one.iter().zip(&other).all(|(one, other)| one % 32 == other % 32);
            prop_assert_eq!(RefCode::new(one) == RefCode::new(other), same);
        }

        #[test]
        fn any_text_is_a_name_or_an_id_out_of_range(text in "[0-9A-Za-z -]{1,30}") {
            match OrderName::parse(&text) {
                Ok(name) => prop_assert_eq!(name.text().is_none(), is_digits(&text)),
                Err(_) => prop_assert!(text.parse::<i64>().is_err() && is_digits(&text)),
            }
        }
    }

    #[test]
    fn what_is_no_ref_stays_as_it_is() {
        for text in ["", "17", "017", "basket 7", "1-short", "-1-0000000000"] {
            assert_eq!(as_answered(text), text);
        }
    }

    #[test]
    fn digits_alone_are_an_order_id() {
        assert_eq!(OrderName::parse("17").unwrap(), OrderName::Id(17));
        assert_eq!(OrderName::parse("007").unwrap(), OrderName::Id(7));
        let max = i64::MAX.to_string();
        assert_eq!(OrderName::parse(&max).unwrap(), OrderName::Id(i64::MAX));
        assert!(matches!(
            OrderName::parse("9223372036854775808"),
            Err(Invalid::OutOfRange { .. })
        ));
    }

    #[test]
    fn letters_that_people_confuse_are_the_same() {
        let code = RefCode::parse("01ABCDEFGH").unwrap();
        assert_eq!(code.as_str(), "01ABCDEFGH");
        for written in ["oiabcdefgh", "OLABCDEFGH", "0labcdefgh"] {
            assert_eq!(RefCode::parse(written), Some(code), "{written}");
        }
    }

    #[test]
    fn what_is_not_a_ref_names_no_order() {
        for text in [
            "",
            " 17",
            "17 ",
            "-17",
            "+17",
            "17-",
            "17-0123456789A",
            "17-012345678",
            "17-012345678U",
            "17-01234-6789",
            "17-012345678é",
            "+17-0123456789",
            "-17-0123456789",
            "x-0123456789",
            "-0123456789",
            "99999999999999999999-0123456789",
        ] {
            let name = OrderName::parse(text).unwrap();
            assert_eq!(name, OrderName::Unknown(text));
            assert_eq!((name.key(), name.text()), (None, Some(text)));
        }
    }

    #[test]
    fn every_digit_stands_for_five_bits() {
        for (value, &digit) in DIGITS.iter().enumerate() {
            for high in [0, 32, 64, 224] {
                let code = RefCode::new([value as u8 + high; CODE_LEN]);
                assert!(code.as_str().bytes().all(|byte| byte == digit));
            }
        }
    }
}
