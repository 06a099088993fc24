//! Conversions from and to SQL of values for which pgrx has no suitable type.

use flashsale_core::time::Micros;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{FromDatum, IntoDatum};

/// A timestamptz, infinities included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(pub Micros);

const _: () = assert!(size_of::<Micros>() == size_of::<pg_sys::TimestampTz>());
const _: () = assert!(size_of::<Datum>() == 8, "a timestamptz is passed by value");

impl FromDatum for Stamp {
    unsafe fn from_polymorphic_datum(datum: Datum, is_null: bool, _type: Oid) -> Option<Self> {
        (!is_null).then(|| Self(datum.value() as Micros))
    }
}

impl IntoDatum for Stamp {
    fn into_datum(self) -> Option<Datum> {
        Some(Datum::from(self.0))
    }

    fn type_oid() -> Oid {
        pg_sys::TIMESTAMPTZOID
    }
}
