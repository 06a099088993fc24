//! jsonb results of functions, built directly. pgrx's own conversion through text and `jsonb_in`
//! would take a fifth of the time of a refusal at the gate.

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::pg_sys::JsonbIteratorToken::{
    WJB_BEGIN_ARRAY, WJB_BEGIN_OBJECT, WJB_ELEM, WJB_END_ARRAY, WJB_END_OBJECT, WJB_KEY, WJB_VALUE,
};
use pgrx::pg_sys::{self, Datum, JsonbParseState, JsonbValue, jbvType};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{AnyNumeric, IntoDatum};
use serde_json::{Number, Value};

/// An object or array that is returned to SQL as jsonb.
pub struct Jsonb(pub Value);

impl Jsonb {
    fn datum(&self) -> Datum {
        let mut state = std::ptr::null_mut();
        let top = push(&mut state, None, &self.0);
        // SAFETY: the finished tree; it is copied into one varlena.
        unsafe { Datum::from(pg_sys::JsonbValueToJsonb(top)) }
    }
}

/// Pushes a value as part of the enclosing object or array, and returns the result so far. Texts
/// are not copied, as the value outlives the state.
fn push(state: &mut *mut JsonbParseState, token: Option<u32>, value: &Value) -> *mut JsonbValue {
    match value {
        Value::Object(fields) => {
            mark(state, WJB_BEGIN_OBJECT);
            for (name, value) in fields {
                scalar(state, WJB_KEY, string(name));
                push(state, Some(WJB_VALUE), value);
            }
            mark(state, WJB_END_OBJECT)
        }
        Value::Array(elements) => {
            mark(state, WJB_BEGIN_ARRAY);
            for element in elements {
                push(state, Some(WJB_ELEM), element);
            }
            mark(state, WJB_END_ARRAY)
        }
        Value::Null => scalar(state, within(token), JsonbValue::default()),
        Value::Bool(value) => scalar(state, within(token), boolean(*value)),
        Value::Number(value) => scalar(state, within(token), numeric(value)),
        Value::String(value) => scalar(state, within(token), string(value)),
    }
}

fn within(token: Option<u32>) -> u32 {
    token.expect("an answer is an object or an array")
}

fn mark(state: &mut *mut JsonbParseState, token: u32) -> *mut JsonbValue {
    // SAFETY: a token without a value.
    unsafe { pg_sys::pushJsonbValue(state, token, std::ptr::null_mut()) }
}

fn scalar(state: &mut *mut JsonbParseState, token: u32, mut value: JsonbValue) -> *mut JsonbValue {
    // SAFETY: the value is copied; its texts and numbers are not, and outlive the state.
    unsafe { pg_sys::pushJsonbValue(state, token, &mut value) }
}

fn string(text: &str) -> JsonbValue {
    let mut value = JsonbValue {
        type_: jbvType::jbvString,
        ..JsonbValue::default()
    };
    value.val.string.len = text.len() as i32;
    value.val.string.val = text.as_ptr().cast_mut().cast();
    value
}

fn boolean(truth: bool) -> JsonbValue {
    let mut value = JsonbValue {
        type_: jbvType::jbvBool,
        ..JsonbValue::default()
    };
    value.val.boolean = truth;
    value
}

fn numeric(number: &Number) -> JsonbValue {
    let mut value = JsonbValue {
        type_: jbvType::jbvNumeric,
        ..JsonbValue::default()
    };
    value.val.numeric = match number.as_i64() {
        // SAFETY: palloc's a numeric.
        Some(whole) => unsafe { pg_sys::int64_to_numeric(whole) },
        // With all its digits, as jsonb_in would read them.
        None => AnyNumeric::try_from(number.to_string().as_str())
            .ok()
            .and_then(IntoDatum::into_datum)
            .expect("a JSON number is a numeric")
            .cast_mut_ptr(),
    };
    value
}

// SAFETY: the datum is a jsonb, as the type says.
unsafe impl BoxRet for Jsonb {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: as above.
        unsafe { fcinfo.return_raw_datum(self.datum()) }
    }
}

// SAFETY: names the SQL type that datum() makes.
unsafe impl SqlTranslatable for Jsonb {
    const TYPE_IDENT: &'static str = "jsonb";
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("jsonb"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("jsonb")));
}

#[cfg(feature = "pg_test")]
#[pgrx::pg_schema]
mod tests {
    use super::*;
    use pgrx::prelude::*;
    use serde_json::json;

    /// The text that PostgreSQL prints for a jsonb built here.
    fn read(value: &Value) -> String {
        let datum = Jsonb(value.clone()).datum();
        // SAFETY: a jsonb, as the function's argument is.
        let text = unsafe { pgrx::direct_function_call(pg_sys::jsonb_out, &[Some(datum)]) };
        let text: &std::ffi::CStr = text.expect("jsonb_out returns no NULL");
        text.to_str().expect("jsonb is UTF-8").to_owned()
    }

    /// The text that PostgreSQL prints after it has parsed the same value.
    fn parsed(value: &Value) -> String {
        let parsed =
            Spi::get_one_with_args::<String>("SELECT $1::jsonb::text", &[value.to_string().into()]);
        parsed.unwrap().unwrap()
    }

    #[pg_test]
    fn every_kind_of_value_equals_the_result_of_jsonb_in() {
        let values = [
            json!({}),
            json!([]),
            json!({"a": null, "b": true, "c": false, "d": "", "e": "\"quoted\" \n é 🎟"}),
            json!([0, -1, 42, i64::MAX, i64::MIN, u64::MAX]),
            json!([0.0, 0.5, -1.25, 1e15, 1e-7, 123_456.789, 0.1 + 0.2]),
            json!({"nested": {"list": [{"of": [[], {}, [null]]}], "after": 1}}),
            json!({"bb": 1, "a": 2, "ccc": 3, "é": 4}),
            json!({"long": "x".repeat(70_000), "many": (0..3_000).collect::<Vec<i32>>()}),
        ];
        for value in &values {
            assert_eq!(read(value), parsed(value));
        }
    }
}
