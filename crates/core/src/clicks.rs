//! Parses the list that `purchase_batch` takes. The whole list is checked before any purchase.

use crate::argument::{
    Invalid, at_least, optional_text, required, required_text, shown, truncated,
};
use crate::fit::Request;
use crate::limits::MAX_BATCH;
use crate::time::Micros;
use std::borrow::Cow;

const FIELDS: [&str; 4] = ["item_id", "user_id", "quantity", "idempotency_key"];

/// The argument, read as far as it matters here.
pub enum List<'a> {
    /// An array of this length. Of an array that is too long no element is read, and none after one
    /// that is no object.
    Array(usize, Vec<Element<'a>>),
    Other(Part<'a>),
}

pub enum Element<'a> {
    Object(Fields<'a>),
    Other(Part<'a>),
}

/// A JSON value.
pub enum Part<'a> {
    Null,
    Boolean,
    /// In decimal notation, without an exponent.
    Number(Cow<'a, str>),
    Text(&'a str),
    /// A string in a database whose encoding allows any bytes.
    NotUtf8,
    Array,
    Object,
}

/// The fields of an object.
#[derive(Default)]
pub struct Fields<'a> {
    known: [Option<Part<'a>>; FIELDS.len()],
    /// The first of the others by name.
    unknown: Option<Cow<'a, str>>,
}

impl<'a> Fields<'a> {
    pub fn add(&mut self, name: Cow<'a, str>, value: Part<'a>) {
        if let Some(at) = FIELDS.iter().position(|field| *field == name) {
            self.known[at] = Some(value);
        } else if self.unknown.as_ref().is_none_or(|first| name < *first) {
            self.unknown = Some(name);
        }
    }
}

/// One element of the list, whose types have been checked.
pub struct Click<'a> {
    item_id: Option<i64>,
    user_id: Option<Cow<'a, str>>,
    quantity: Option<i64>,
    idempotency_key: Option<&'a str>,
}

/// Checks the types of all elements of the list.
pub fn clicks<'a>(list: &'a List<'_>) -> Result<Vec<Click<'a>>, Invalid> {
    let (length, elements) = match list {
        List::Array(length, elements) => (*length, elements),
        List::Other(part) => {
            let rule = "it must be an array of objects";
            return Err(Invalid::value("requests", kind(part), rule));
        }
    };
    if length > MAX_BATCH {
        let value = format!("{length} elements long");
        let rule = format!("it must have at most {MAX_BATCH}");
        return Err(Invalid::value("requests", value, rule));
    }
    each(elements, click)
}

/// Checks the values of the elements and returns the requests. Their reservations last
/// `default_ttl` if the item does not set a time.
pub fn requests<'a>(
    clicks: &'a [Click<'_>],
    default_ttl: Micros,
) -> Result<Vec<Request<'a>>, Invalid> {
    each(clicks, |click| {
        Ok(Request {
            item_id: required("item_id", click.item_id)?,
            user_id: required_text("user_id", click.user_id.as_deref())?,
            quantity: at_least("quantity", required("quantity", click.quantity)?, 1)?,
            idempotency_key: optional_text("idempotency_key", click.idempotency_key)?,
            default_ttl,
        })
    })
}

fn each<'a, T, U>(
    elements: &'a [T],
    check: impl Fn(&'a T) -> Result<U, Invalid>,
) -> Result<Vec<U>, Invalid> {
    let checked = elements.iter().enumerate();
    checked
        .map(|(at, element)| {
            check(element).map_err(|invalid| invalid.within(&format!("requests[{at}]")))
        })
        .collect()
}

fn click<'a>(element: &'a Element<'_>) -> Result<Click<'a>, Invalid> {
    let fields = match element {
        Element::Object(fields) => fields,
        Element::Other(part) => {
            return Err(Invalid::value("", kind(part), "it must be an object"));
        }
    };
    // If unknown fields were ignored, a misspelt quantity would silently buy one unit.
    if let Some(name) = &fields.unknown {
        let rule = format!("the fields are {}", FIELDS.join(", "));
        return Err(Invalid::value("field", shown(name), rule));
    }
    let [item_id, user_id, quantity, idempotency_key] = &fields.known;
    Ok(Click {
        item_id: integer("item_id", item_id.as_ref())?,
        user_id: match user_id {
            Some(number @ Part::Number(_)) => {
                integer("user_id", Some(number))?.map(|id| id.to_string().into())
            }
            value => string(
                "user_id",
                value.as_ref(),
                "it must be a string or a whole number",
            )?
            .map(Cow::Borrowed),
        },
        quantity: match quantity {
            None => Some(1),
            value => integer("quantity", value.as_ref())?,
        },
        idempotency_key: string(
            "idempotency_key",
            idempotency_key.as_ref(),
            "it must be a string",
        )?,
    })
}

fn integer(name: &'static str, value: Option<&Part<'_>>) -> Result<Option<i64>, Invalid> {
    match value {
        None | Some(Part::Null) => Ok(None),
        Some(Part::Number(number)) => {
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            if fraction.bytes().any(|digit| digit != b'0') {
                let rule = "it must be a whole number";
                return Err(Invalid::value(name, truncated(number), rule));
            }
            let whole = whole.parse().map_err(|_| {
                Invalid::out_of_range(name, truncated(number), "it must fit a bigint")
            })?;
            Ok(Some(whole))
        }
        Some(other) => Err(Invalid::value(
            name,
            kind(other),
            "it must be a whole number",
        )),
    }
}

fn string<'a>(
    name: &'static str,
    value: Option<&'a Part<'_>>,
    rule: &str,
) -> Result<Option<&'a str>, Invalid> {
    match value {
        None | Some(Part::Null) => Ok(None),
        Some(Part::Text(text)) => Ok(Some(text)),
        Some(other) => Err(Invalid::value(name, kind(other), rule)),
    }
}

/// The type of a value, for an error message.
fn kind(value: &Part<'_>) -> &'static str {
    match value {
        Part::Null => "null",
        Part::Boolean => "a boolean",
        Part::Number(_) => "a number",
        Part::Text(_) => "a string",
        Part::NotUtf8 => "a string that is not UTF-8",
        Part::Array => "an array",
        Part::Object => "an object",
    }
}

#[cfg(test)]
mod tests;
