//! A row's values, and a statement run without SPI's tuple table.

use crate::error::Fault;
use crate::purchase::fit::Currency;
use pgrx::datum::DatumWithOid;
use pgrx::itemptr::item_pointer_to_u64;
use pgrx::pg_sys::{self, BuiltinOid, DestReceiver, PgOid, SPIPlanPtr, TupleTableSlot};
use pgrx::prelude::*;
use pgrx::spi::{SpiHeapTupleData, SpiTupleTable};
use std::ffi::CString;

pub trait Cells {
    fn int8(&self, column: usize) -> Result<Option<i64>, Fault>;
    fn int4(&self, column: usize) -> Result<Option<i32>, Fault>;
    fn flag(&self, column: usize) -> Result<Option<bool>, Fault>;
    fn stamp(&self, column: usize) -> Result<Option<i64>, Fault>;
    fn currency(&self, column: usize) -> Result<Option<Currency>, Fault>;
    fn tid(&self, column: usize) -> Result<Option<u64>, Fault>;
}

impl Cells for SpiHeapTupleData<'_> {
    fn int8(&self, column: usize) -> Result<Option<i64>, Fault> {
        Ok(self.get(column)?)
    }
    fn int4(&self, column: usize) -> Result<Option<i32>, Fault> {
        Ok(self.get(column)?)
    }
    fn flag(&self, column: usize) -> Result<Option<bool>, Fault> {
        Ok(self.get(column)?)
    }
    fn stamp(&self, column: usize) -> Result<Option<i64>, Fault> {
        Ok(self.get::<super::Stamp>(column)?.map(|at| at.0))
    }
    fn currency(&self, column: usize) -> Result<Option<Currency>, Fault> {
        Ok(self.get::<&str>(column)?.and_then(Currency::parse))
    }
    fn tid(&self, column: usize) -> Result<Option<u64>, Fault> {
        Ok(self
            .get::<pg_sys::ItemPointerData>(column)?
            .map(item_pointer_to_u64))
    }
}

impl Cells for SpiTupleTable<'_> {
    fn int8(&self, column: usize) -> Result<Option<i64>, Fault> {
        Ok(self.get(column)?)
    }
    fn int4(&self, column: usize) -> Result<Option<i32>, Fault> {
        Ok(self.get(column)?)
    }
    fn flag(&self, column: usize) -> Result<Option<bool>, Fault> {
        Ok(self.get(column)?)
    }
    fn stamp(&self, column: usize) -> Result<Option<i64>, Fault> {
        Ok(self.get::<super::Stamp>(column)?.map(|at| at.0))
    }
    fn currency(&self, column: usize) -> Result<Option<Currency>, Fault> {
        Ok(self.get::<&str>(column)?.and_then(Currency::parse))
    }
    fn tid(&self, column: usize) -> Result<Option<u64>, Fault> {
        Ok(self
            .get::<pg_sys::ItemPointerData>(column)?
            .map(item_pointer_to_u64))
    }
}

struct Slot(*mut TupleTableSlot);

impl Slot {
    fn datum(&self, column: usize) -> (pg_sys::Datum, bool) {
        // SAFETY: deformed, and as many columns as the statement has.
        unsafe {
            let nth = column - 1;
            (
                *(*self.0).tts_values.add(nth),
                *(*self.0).tts_isnull.add(nth),
            )
        }
    }

    fn read<T: FromDatum>(&self, column: usize) -> Option<T> {
        let (value, is_null) = self.datum(column);
        // SAFETY: a type of the statement's.
        unsafe { T::from_datum(value, is_null) }
    }
}

impl Cells for Slot {
    fn int8(&self, column: usize) -> Result<Option<i64>, Fault> {
        Ok(self.read(column))
    }
    fn int4(&self, column: usize) -> Result<Option<i32>, Fault> {
        Ok(self.read(column))
    }
    fn flag(&self, column: usize) -> Result<Option<bool>, Fault> {
        Ok(self.read(column))
    }
    fn stamp(&self, column: usize) -> Result<Option<i64>, Fault> {
        Ok(self.read::<super::Stamp>(column).map(|at| at.0))
    }
    fn currency(&self, column: usize) -> Result<Option<Currency>, Fault> {
        Ok(self.read::<&str>(column).and_then(Currency::parse))
    }
    fn tid(&self, column: usize) -> Result<Option<u64>, Fault> {
        Ok(self
            .read::<pg_sys::ItemPointerData>(column)
            .map(item_pointer_to_u64))
    }
}

/// A kept plan.
pub fn plan(sql: &str, arguments: &[BuiltinOid]) -> SPIPlanPtr {
    let text = CString::new(sql).expect("a statement holds no NUL");
    let mut types: Vec<pg_sys::Oid> = arguments
        .iter()
        .map(|&oid| PgOid::BuiltIn(oid).value())
        .collect();
    // SAFETY: connected to SPI.
    unsafe {
        let plan = pg_sys::SPI_prepare(text.as_ptr(), types.len() as i32, types.as_mut_ptr());
        assert!(!plan.is_null());
        pg_sys::SPI_keepplan(plan);
        plan
    }
}

type Read<'a> = dyn FnMut(&dyn Cells) -> Result<(), Fault> + 'a;

#[repr(C)]
struct Receiver<'a> {
    base: DestReceiver,
    read: &'a mut Read<'a>,
    done: Result<usize, Fault>,
}

#[pg_guard]
unsafe extern "C-unwind" fn receive(
    slot: *mut TupleTableSlot,
    receiver: *mut DestReceiver,
) -> bool {
    // SAFETY: the receiver is ours.
    unsafe {
        let receiver = &mut *receiver.cast::<Receiver<'_>>();
        if i32::from((*slot).tts_nvalid) < (*(*slot).tts_tupleDescriptor).natts {
            pg_sys::slot_getsomeattrs_int(slot, (*(*slot).tts_tupleDescriptor).natts);
        }
        let read = (receiver.read)(&Slot(slot));
        match (&mut receiver.done, read) {
            (Ok(count), Ok(())) => {
                *count += 1;
                true
            }
            (_, Err(fault)) => {
                receiver.done = Err(fault);
                false
            }
            _ => false,
        }
    }
}

unsafe extern "C-unwind" fn start(_: *mut DestReceiver, _: i32, _: pg_sys::TupleDesc) {}
unsafe extern "C-unwind" fn end(_: *mut DestReceiver) {}

/// # Safety
/// Connected to SPI.
pub unsafe fn run<'a>(
    plan: SPIPlanPtr,
    arguments: &[DatumWithOid<'_>],
    read: &'a mut Read<'a>,
) -> Result<usize, Fault> {
    // SAFETY: what SPI does for a plan of one statement.
    unsafe {
        let owner = pg_sys::CurrentResourceOwner;
        let cached = pg_sys::SPI_plan_get_cached_plan(plan);
        assert!(!cached.is_null());
        let statement = (*(*(*cached).stmt_list).elements)
            .ptr_value
            .cast::<pg_sys::PlannedStmt>();
        let params = pg_sys::makeParamList(arguments.len() as i32);
        let to = (*params).params.as_mut_ptr();
        for (nth, argument) in arguments.iter().enumerate() {
            let to = &mut *to.add(nth);
            let datum = argument.datum();
            to.isnull = datum.is_none();
            to.value = datum.map_or(pg_sys::Datum::null(), |datum| datum.sans_lifetime());
            to.pflags = pg_sys::PARAM_FLAG_CONST as u16;
            to.ptype = argument.oid();
        }
        let mut receiver = Receiver {
            base: DestReceiver {
                receiveSlot: Some(receive),
                rStartup: Some(start),
                rShutdown: Some(end),
                rDestroy: Some(end),
                mydest: pg_sys::CommandDest::DestNone,
            },
            read,
            done: Ok(0),
        };
        pg_sys::CommandCounterIncrement();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let query = pg_sys::CreateQueryDesc(
            statement,
            c"flashsale".as_ptr(),
            pg_sys::GetActiveSnapshot(),
            std::ptr::null_mut(),
            (&raw mut receiver).cast(),
            params,
            std::ptr::null_mut(),
            0,
        );
        pg_sys::ExecutorStart(query, 0);
        pg_sys::ExecutorRun(
            query,
            pg_sys::ScanDirection::ForwardScanDirection,
            0,
            #[cfg(not(feature = "pg18"))]
            true,
        );
        pg_sys::ExecutorFinish(query);
        pg_sys::ExecutorEnd(query);
        pg_sys::FreeQueryDesc(query);
        pg_sys::PopActiveSnapshot();
        pg_sys::ReleaseCachedPlan(cached, owner);
        pg_sys::CommandCounterIncrement();
        receiver.done
    }
}
