//! Orders written past the executor: many rows take one page lock and one log record.

use super::Stamp;
use crate::clock::Micros;
use crate::order::machine::Status;
use crate::purchase::fit::{Currency, Item, Request};
use pgrx::pg_sys::{self, Datum, EState, Oid, Relation, ResultRelInfo, TupleTableSlot};
use pgrx::{IntoDatum, PgTupleDesc, direct_function_call};

/// Types of the columns of `orders`, in the order of `sql/tables.sql`.
const TYPES: [Oid; COLUMNS] = {
    use pg_sys::{INT8OID as INT8, TEXTOID as TEXT, TIMESTAMPTZOID as TIME};
    [
        INT8, INT8, INT8, INT8, INT8, TIME, TIME, TIME, TIME, TIME, TIME, TEXT, TEXT, TEXT, TEXT,
        TEXT, TEXT,
    ]
};
const COLUMNS: usize = 17;
/// Columns with a DEFAULT: order_id and status.
const DEFAULTS: u16 = 2;
const ORDER_ID: usize = 0;
const ITEM_ID: usize = 1;
const QUANTITY: usize = 2;
const UNITS_HELD: usize = 3;
const UNIT_PRICE: usize = 4;
const CREATED_AT: usize = 5;
const EXPIRES_AT: usize = 6;
const STATUS: usize = 11;
const USER_ID: usize = 12;
const CURRENCY: usize = 13;
const IDEMPOTENCY_KEY: usize = 14;

/// Writes a reserved order for each request and returns their ids; `None` where the shop has
/// added something to the table that only an INSERT honours. Locks as an INSERT does.
pub fn insert(item: &Item, requests: &[&Request<'_>], now: Micros) -> Option<Vec<i64>> {
    let (orders, sequence) = (relation(c"orders"), relation(c"orders_order_id_seq"));
    // SAFETY: what COPY does for each of its batches. An error leaves everything to the
    // rollback, as it does in COPY.
    unsafe {
        let table = pg_sys::table_open(orders, pg_sys::RowExclusiveLock as i32);
        if !is_as_installed(table) {
            pg_sys::table_close(table, pg_sys::NoLock as i32);
            return None;
        }
        let order_ids: Vec<i64> = requests.iter().map(|_| next_id(sequence)).collect();
        let rows = order_ids.iter().zip(requests);
        let rows = rows.map(|(&order_id, request)| row(order_id, item, request, now));
        write(table, rows);
        pg_sys::table_close(table, pg_sys::NoLock as i32);
        pg_sys::CommandCounterIncrement();
        Some(order_ids)
    }
}

fn relation(name: &std::ffi::CStr) -> Oid {
    // SAFETY: looks names up; a relation that is not there is refused when it is opened.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"flashsale".as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    }
}

fn next_id(sequence: Oid) -> i64 {
    // SAFETY: the function behind nextval(regclass).
    unsafe { direct_function_call(pg_sys::nextval_oid, &[sequence.into_datum()]) }
        .expect("a sequence has a next value")
}

/// Whether nothing but constraints and indexes has a say in an insert.
///
/// # Safety
/// The relation must be open.
unsafe fn is_as_installed(table: Relation) -> bool {
    // SAFETY: fields of an open relation; those that may be null are looked at first.
    unsafe {
        let class = (*table).rd_rel;
        let triggers = (*table).trigdesc.as_ref();
        let columns = PgTupleDesc::from_pg_unchecked((*table).rd_att);
        let constraints = (*(*table).rd_att).constr.as_ref();
        columns.len() == COLUMNS
            && columns.iter().zip(TYPES).all(|(column, of_type)| {
                column.atttypid == of_type
                    && column.atttypmod == -1
                    && !column.attisdropped
                    && column.attgenerated == 0
            })
            && constraints.is_some_and(|constraints| constraints.num_defval == DEFAULTS)
            && (*class).relam == pg_sys::HEAP_TABLE_AM_OID
            && !(*class).relispartition
            && !(*class).relrowsecurity
            && (*table).rd_rules.is_null()
            && !triggers.is_some_and(|on| {
                on.trig_insert_before_row
                    || on.trig_insert_after_row
                    || on.trig_insert_before_statement
                    || on.trig_insert_after_statement
            })
    }
}

type Row = [Option<Datum>; COLUMNS];

fn row(order_id: i64, item: &Item, request: &Request<'_>, now: Micros) -> Row {
    let mut row = [None; COLUMNS];
    row[ORDER_ID] = order_id.into_datum();
    row[ITEM_ID] = item.item_id.into_datum();
    row[QUANTITY] = request.quantity.into_datum();
    row[UNITS_HELD] = request.quantity.into_datum();
    row[UNIT_PRICE] = item.unit_price.into_datum();
    row[CREATED_AT] = Stamp(now).into_datum();
    row[EXPIRES_AT] = Stamp(now + item.ttl_for(request)).into_datum();
    row[STATUS] = Status::Reserved.name().into_datum();
    row[USER_ID] = request.user_id.into_datum();
    row[CURRENCY] = item.currency.as_ref().map(Currency::code).into_datum();
    row[IDEMPOTENCY_KEY] = request.idempotency_key.into_datum();
    row
}

/// # Safety
/// The table must be open for writing and have `COLUMNS` columns.
unsafe fn write(table: Relation, rows: impl Iterator<Item = Row>) {
    // SAFETY: the executor's own steps, on a state that ends with them.
    unsafe {
        let state = pg_sys::CreateExecutorState();
        let mut target = ResultRelInfo::default();
        pg_sys::InitResultRelInfo(&mut target, table, 0, std::ptr::null_mut(), 0);
        pg_sys::ExecOpenIndices(&mut target, false);
        let mut slots: Vec<*mut TupleTableSlot> = rows.map(|row| slot(table, row)).collect();
        for &slot in &slots {
            pg_sys::ExecConstraints(&mut target, slot, state);
        }
        let command = pg_sys::GetCurrentCommandId(true);
        let (first, count) = (slots.as_mut_ptr(), slots.len() as i32);
        pg_sys::heap_multi_insert(table, first, count, command, 0, std::ptr::null_mut());
        for slot in slots {
            index(&mut target, slot, state);
            pg_sys::ExecDropSingleTupleTableSlot(slot);
        }
        pg_sys::ExecCloseIndices(&mut target);
        pg_sys::FreeExecutorState(state);
    }
}

/// # Safety
/// The table must be open and have `COLUMNS` columns.
unsafe fn slot(table: Relation, row: Row) -> *mut TupleTableSlot {
    // SAFETY: a slot made for the table has room for a value of each column.
    unsafe {
        let kind = pg_sys::table_slot_callbacks(table);
        let slot = pg_sys::MakeSingleTupleTableSlot((*table).rd_att, kind);
        for (column, value) in row.into_iter().enumerate() {
            (*slot).tts_isnull.add(column).write(value.is_none());
            let value = value.unwrap_or(Datum::null());
            (*slot).tts_values.add(column).write(value);
        }
        pg_sys::ExecStoreVirtualTuple(slot)
    }
}

/// # Safety
/// The slot must hold a row that was just written to the target.
unsafe fn index(target: &mut ResultRelInfo, slot: *mut TupleTableSlot, state: *mut EState) {
    let no_conflict = std::ptr::null_mut();
    let no_arbiters = std::ptr::null_mut();
    // SAFETY: an insert, whose duplicates are errors. What it returns is work for triggers
    // of deferrable constraints, of which `is_as_installed` has found none.
    unsafe {
        pg_sys::ExecInsertIndexTuples(
            target,
            slot,
            state,
            false,
            false,
            no_conflict,
            no_arbiters,
            #[cfg(not(feature = "pg15"))]
            false,
        );
    }
}
