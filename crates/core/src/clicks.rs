//! Parses the list that `purchase_batch` takes. The whole list is checked before any purchase.

use crate::argument::{Invalid, at_least, optional_text, required, required_text, shown};
use crate::fit::Request;
use crate::limits::MAX_BATCH;
use crate::time::Micros;
use serde_json::Value;
use std::borrow::Cow;

/// Below 2^53 a double represents every integer exactly.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;
const FIELDS: [&str; 4] = ["item_id", "user_id", "quantity", "idempotency_key"];

/// One element of the list, whose types have been checked.
pub struct Click<'a> {
    item_id: Option<i64>,
    user_id: Option<Cow<'a, str>>,
    quantity: Option<i64>,
    idempotency_key: Option<&'a str>,
}

/// Parses the list and checks the types of all its elements.
pub fn clicks(list: &Value) -> Result<Vec<Click<'_>>, Invalid> {
    let Value::Array(elements) = list else {
        return Err(Invalid::value(
            "requests",
            kind(list),
            "it must be an array of objects",
        ));
    };
    if elements.len() > MAX_BATCH {
        let value = format!("{} elements long", elements.len());
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

fn click(element: &Value) -> Result<Click<'_>, Invalid> {
    let Value::Object(fields) = element else {
        return Err(Invalid::value("", kind(element), "it must be an object"));
    };
    // If unknown fields were ignored, a misspelt quantity would silently buy one unit.
    if let Some(name) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        let rule = format!("the fields are {}", FIELDS.join(", "));
        return Err(Invalid::value("field", shown(name), rule));
    }
    Ok(Click {
        item_id: integer("item_id", fields.get("item_id"))?,
        user_id: match fields.get("user_id") {
            Some(number @ Value::Number(_)) => {
                integer("user_id", Some(number))?.map(|id| id.to_string().into())
            }
            value => string("user_id", value, "it must be a string or a whole number")?
                .map(Cow::Borrowed),
        },
        quantity: match fields.get("quantity") {
            None => Some(1),
            value => integer("quantity", value)?,
        },
        idempotency_key: string(
            "idempotency_key",
            fields.get("idempotency_key"),
            "it must be a string",
        )?,
    })
}

fn integer(name: &'static str, value: Option<&Value>) -> Result<Option<i64>, Invalid> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Ok(Some(whole)),
            (None, Some(whole)) if whole.fract() == 0.0 && whole.abs() < EXACT_BELOW => {
                Ok(Some(whole as i64))
            }
            (None, Some(large)) if large.fract() == 0.0 => {
                Err(Invalid::out_of_range(name, number, "it must fit a bigint"))
            }
            _ => Err(Invalid::value(name, number, "it must be a whole number")),
        },
        Some(other) => Err(Invalid::value(
            name,
            kind(other),
            "it must be a whole number",
        )),
    }
}

fn string<'a>(
    name: &'static str,
    value: Option<&'a Value>,
    rule: &str,
) -> Result<Option<&'a str>, Invalid> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(Invalid::value(name, kind(other), rule)),
    }
}

/// The type of a value, for an error message.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
