//! Properties of the batch parser: it never panics, keeps valid elements unchanged, and names the
//! element and field that it refuses.

use super::*;
use crate::limits::MAX_TEXT_BYTES;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The item, user, quantity and key of a request.
type Read = (i64, String, i64, Option<String>);

const TTL: Micros = 7;

fn part(value: &Value) -> Part<'_> {
    match value {
        Value::Null => Part::Null,
        Value::Bool(_) => Part::Boolean,
        Value::Number(number) => Part::Number(match number.as_f64() {
            Some(double) if number.is_f64() => format!("{double}").into(), // without an exponent
            _ => number.to_string().into(),
        }),
        Value::String(text) => Part::Text(text),
        Value::Array(_) => Part::Array,
        Value::Object(_) => Part::Object,
    }
}

/// The list as its reader in the server reads it.
fn list_of(value: &Value) -> List<'_> {
    let Value::Array(values) = value else {
        return List::Other(part(value));
    };
    let elements = values.iter().map(|value| match value {
        Value::Object(object) => {
            let mut fields = Fields::default();
            for (name, value) in object {
                fields.add(name.into(), part(value));
            }
            Element::Object(fields)
        }
        other => Element::Other(part(other)),
    });
    List::Array(values.len(), elements.collect())
}

fn read(list: &Value) -> Result<Vec<Read>, Invalid> {
    let list = list_of(list);
    let clicks = clicks(&list)?;
    let read = requests(&clicks, TTL)?.into_iter().map(|request| {
        assert_eq!(request.default_ttl, TTL);
        (
            request.item_id,
            request.user_id.to_owned(),
            request.quantity,
            request.idempotency_key.map(str::to_owned),
        )
    });
    Ok(read.collect())
}

/// Any JSON, some of it with the names of known fields.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        "a{250,260}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 40, 6, |inner| {
        let name = prop_oneof![
            prop::sample::select(&FIELDS[..]).prop_map(str::to_owned),
            ".{0,4}"
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A valid element.
fn sound() -> impl Strategy<Value = Read> {
    let key = prop::option::of("[^\0]{1,60}");
    (any::<i64>(), "[^\0]{1,60}", 1..=i64::MAX, key)
}

fn name(invalid: &Invalid) -> &str {
    match invalid {
        Invalid::Null { name } | Invalid::Value { name, .. } | Invalid::OutOfRange { name, .. } => {
            name
        }
        Invalid::Foreign { within, .. } => within,
    }
}

proptest! {
    #[test]
    fn whatever_is_handed_over_is_read_or_refused_by_name(list in anything()) {
        if let Err(invalid) = read(&list) {
            let name = name(&invalid);
            prop_assert!(name == "requests" || name.starts_with("requests["), "{name}");
        }
    }

    #[test]
    fn what_makes_sense_is_kept(elements in prop::collection::vec(sound(), 0..20)) {
        let list = elements.iter().map(|(item_id, user_id, quantity, key)| json!({
            "item_id": item_id, "user_id": user_id, "quantity": quantity, "idempotency_key": key,
        }));
        prop_assert_eq!(read(&Value::Array(list.collect())), Ok(elements));
    }

    #[test]
    fn an_error_names_its_element_and_its_field(
        before in prop::collection::vec(sound(), 0..5), after in prop::collection::vec(sound(), 0..5),
        (field, value) in prop::sample::select(vec![
            ("item_id", json!(null)), ("item_id", json!("1")), ("item_id", json!(1.5)), ("item_id", json!(1e300)),
            ("user_id", json!("")), ("user_id", json!(true)), ("user_id", json!("x".repeat(MAX_TEXT_BYTES + 1))),
            ("quantity", json!(0)), ("quantity", json!(null)), ("quantity", json!([])),
            ("idempotency_key", json!("")), ("idempotency_key", json!(3)),
        ]),
    ) {
        let element = |(item_id, user_id, ..): &Read| {
            json!({ "item_id": item_id, "user_id": user_id })
        };
        let mut bad = json!({ "item_id": 1, "user_id": "ann" });
        bad[field] = value;
        let mut list: Vec<Value> = before.iter().map(element).collect();
        list.push(bad);
        list.extend(after.iter().map(element));
        let invalid = read(&Value::Array(list)).unwrap_err();
        prop_assert_eq!(name(&invalid), format!("requests[{}].{field}", before.len()));
    }
}

#[test]
fn the_name_of_an_unknown_field_is_truncated_if_it_is_long() {
    let name = "y".repeat(1_000);
    let list = json!([{ "item_id": 1, "user_id": "a", &name: 1 }]);
    let message = read(&list).unwrap_err().to_string();
    assert!(message.len() < 200, "{message}");
}

#[test]
fn what_is_not_utf8_is_no_string() {
    let mut fields = Fields::default();
    fields.add("item_id".into(), Part::Number("1".into()));
    fields.add("user_id".into(), Part::NotUtf8);
    let list = List::Array(1, vec![Element::Object(fields)]);
    assert_eq!(
        clicks(&list).err().unwrap().to_string(),
        "requests[0].user_id is a string that is not UTF-8: it must be a string or a whole number"
    );
}

#[test]
fn a_misspelt_field_is_refused_before_anything_else_of_its_element() {
    let list = json!([{ "item_id": "x", "quantty": 2 }]);
    assert_eq!(
        read(&list).unwrap_err().to_string(),
        "requests[0].field is 'quantty': the fields are item_id, user_id, quantity, idempotency_key"
    );
}

#[test]
fn all_types_are_checked_before_any_value() {
    let list = json!([{ "item_id": 1, "user_id": "" }, { "item_id": "x" }]);
    assert_eq!(name(&read(&list).unwrap_err()), "requests[1].item_id");
    let list = json!([{ "item_id": 1, "user_id": "", "quantity": 0 }]);
    assert_eq!(name(&read(&list).unwrap_err()), "requests[0].user_id");
}

#[test]
fn numbers_are_whole_however_they_are_written() {
    let list = json!([{ "item_id": 2.0, "user_id": 7 }]);
    assert_eq!(read(&list), Ok(vec![(2, "7".into(), 1, None)]));
    let id = |number: &'static str| {
        let mut fields = Fields::default();
        fields.add("item_id".into(), Part::Number(number.into()));
        fields.add("user_id".into(), Part::Text("a"));
        let list = List::Array(1, vec![Element::Object(fields)]);
        let clicks = clicks(&list)?;
        let ids = requests(&clicks, TTL)?;
        Ok::<_, Invalid>(ids[0].item_id)
    };
    // Beyond 2^53, where not every integer is a double.
    assert_eq!(id("9007199254740993.00"), Ok(9_007_199_254_740_993));
    assert_eq!(id("-9223372036854775808"), Ok(i64::MIN));
    for (number, error) in [
        ("9223372036854775808", "it must fit a bigint"),
        ("9223372036854775807.5", "it must be a whole number"),
        ("0.000000000000000000001", "it must be a whole number"),
    ] {
        let message = id(number).unwrap_err().to_string();
        assert_eq!(message, format!("requests[0].item_id is {number}: {error}"));
    }
    let long = Box::leak("9".repeat(1_000).into_boxed_str());
    let invalid = id(long).unwrap_err();
    assert!(matches!(invalid, Invalid::OutOfRange { .. }));
    assert!(invalid.to_string().len() < 200, "{invalid}");
}

#[test]
fn a_batch_has_at_most_so_many_requests() {
    let list = |len| Value::Array(vec![json!({ "item_id": 1, "user_id": "ann" }); len]);
    assert_eq!(read(&list(MAX_BATCH)).unwrap().len(), MAX_BATCH);
    assert_eq!(
        read(&list(MAX_BATCH + 1)).unwrap_err().to_string(),
        "requests is 1001 elements long: it must have at most 1000"
    );
}
