//! jsonb arguments of functions that are lists of objects, read by PostgreSQL's iterator. Converted
//! through text, numbers that no double can hold, or deep nesting, would be errors of the parser.

use flashsale_core::clicks::{Element, Fields, List, Part};
use pgrx::FromDatum;
use pgrx::callconv::{Arg, ArgAbi};
use pgrx::pg_sys::JsonbIteratorToken::*;
use pgrx::pg_sys::{self, Datum, JsonbIterator, JsonbValue, jbvType};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use std::borrow::Cow;
use std::ffi::CStr;
use std::slice;

/// A jsonb that a function is called with. It exists until the call ends.
pub struct JsonbArgument(*mut pg_sys::Jsonb);

impl JsonbArgument {
    /// The list that this is, with no more than `most` elements.
    pub fn list(&self, most: usize) -> List<'_> {
        let mut tokens = Tokens::over(self);
        match tokens.next(false) {
            (WJB_BEGIN_ARRAY, value) => {
                // SAFETY: the token says that it is an array.
                let array = unsafe { value.val.array };
                if array.rawScalar {
                    let (_, scalar) = tokens.next(true);
                    return List::Other(self.part(&scalar));
                }
                let length = array.nElems as usize;
                let elements = match length <= most {
                    true => self.elements(&mut tokens),
                    false => Vec::new(),
                };
                List::Array(length, elements)
            }
            _ => List::Other(Part::Object),
        }
    }

    fn elements(&self, tokens: &mut Tokens) -> Vec<Element<'_>> {
        let mut elements = Vec::new();
        loop {
            elements.push(match tokens.next(false) {
                (WJB_BEGIN_OBJECT, _) => Element::Object(self.fields(tokens)),
                (WJB_BEGIN_ARRAY, _) => Element::Other(Part::Array),
                (WJB_ELEM, value) => Element::Other(self.part(&value)),
                _ => return elements,
            });
            if let Some(Element::Other(_)) = elements.last() {
                return elements;
            }
        }
    }

    fn fields(&self, tokens: &mut Tokens) -> Fields<'_> {
        let mut fields = Fields::default();
        while let (WJB_KEY, key) = tokens.next(true) {
            let name = String::from_utf8_lossy(self.bytes(&key));
            let (_, value) = tokens.next(true);
            fields.add(name, self.part(&value));
        }
        fields
    }

    fn part(&self, value: &JsonbValue) -> Part<'_> {
        match value.type_ {
            jbvType::jbvNull => Part::Null,
            jbvType::jbvBool => Part::Boolean,
            jbvType::jbvString => {
                str::from_utf8(self.bytes(value)).map_or(Part::NotUtf8, Part::Text)
            }
            // SAFETY: the type says that it is a number.
            jbvType::jbvNumeric => Part::Number(unsafe { decimal(value.val.numeric) }),
            // SAFETY: of what is nested and skipped only the header is read.
            _ => match unsafe { (*value.val.binary.data).header } & pg_sys::JB_FOBJECT {
                0 => Part::Array,
                _ => Part::Object,
            },
        }
    }

    /// The bytes of a string or key, which are part of the argument.
    fn bytes(&self, value: &JsonbValue) -> &[u8] {
        assert_eq!(value.type_, jbvType::jbvString);
        // SAFETY: the iterator's strings point into the jsonb, which lives as long as `self`.
        unsafe {
            let string = value.val.string;
            slice::from_raw_parts(string.val.cast(), string.len as usize)
        }
    }
}

/// Longer numbers are refused anyway, and 1e131071 is a short text with many digits.
const LONGEST_NUMBER: usize = 64;

/// A number without trailing zeros after the point. If it is longer than `LONGEST_NUMBER`, only its
/// beginning and an ellipsis.
///
/// # Safety
/// It must point to a numeric.
unsafe fn decimal(number: pg_sys::Numeric) -> Cow<'static, str> {
    // SAFETY: the result is a NUL-terminated text of its own, which is freed once it is copied.
    unsafe {
        let text = pg_sys::numeric_normalize(number);
        let digits = CStr::from_ptr(text).to_string_lossy();
        let copy = match digits.get(..LONGEST_NUMBER) {
            Some(beginning) if digits.len() > LONGEST_NUMBER => format!("{beginning}…"),
            _ => digits.into_owned(),
        };
        pg_sys::pfree(text.cast());
        copy.into()
    }
}

/// PostgreSQL's iterator over a jsonb.
struct Tokens(*mut JsonbIterator);

impl Tokens {
    fn over(argument: &JsonbArgument) -> Self {
        // SAFETY: a whole jsonb, which is only read.
        Self(unsafe { pg_sys::JsonbIteratorInit(&raw mut (*argument.0).root) })
    }

    /// The next token, and its value if it has one. Of what is nested, only the header is returned
    /// if `skip_nested`.
    fn next(&mut self, skip_nested: bool) -> (pg_sys::JsonbIteratorToken::Type, JsonbValue) {
        let mut value = JsonbValue::default();
        // SAFETY: at the end the iterator becomes null, for which this returns WJB_DONE.
        let token =
            unsafe { pg_sys::JsonbIteratorNext(&raw mut self.0, &raw mut value, skip_nested) };
        (token, value)
    }
}

impl FromDatum for JsonbArgument {
    unsafe fn from_polymorphic_datum(datum: Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        // SAFETY: the caller vouches for a jsonb, which is copied if it is compressed or stored elsewhere.
        (!is_null).then(|| Self(unsafe { pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast() }))
    }
}

// SAFETY: unboxes a jsonb, as the type says.
unsafe impl<'fcx> ArgAbi<'fcx> for JsonbArgument {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as the caller vouches.
        unsafe { arg.unbox_arg_using_from_datum() }.expect("it is not NULL")
    }
}

// SAFETY: names the SQL type of the argument.
unsafe impl SqlTranslatable for JsonbArgument {
    const TYPE_IDENT: &'static str = "jsonb argument";
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("jsonb"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("jsonb")));
}
