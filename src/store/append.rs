//! Orders written past the executor: many rows take one page lock and one log record.

use super::Stamp;
use super::relation::{self, Table};
use crate::clock::Micros;
use crate::order::machine::Status;
use crate::purchase::fit::{Currency, Item, Request};
use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum, Relation, ResultRelInfo, TupleTableSlot};

static ORDERS: Table = Table {
    name: c"orders",
    types: {
        use pg_sys::{INT8OID as INT8, TEXTOID as TEXT, TIMESTAMPTZOID as TIME};
        const TYPES: [pg_sys::Oid; COLUMNS] = [
            INT8, INT8, INT8, INT8, INT8, TIME, TIME, TIME, TIME, TIME, TIME, TEXT, TEXT, TEXT,
            TEXT, TEXT, TEXT,
        ];
        &TYPES
    },
    // order_id and status
    defaults: 2,
};
const COLUMNS: usize = 17;
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

/// Columns that a purchase gives.
pub const GIVEN: &[usize] = &[
    ITEM_ID,
    QUANTITY,
    UNITS_HELD,
    UNIT_PRICE,
    CREATED_AT,
    EXPIRES_AT,
    USER_ID,
    CURRENCY,
    IDEMPOTENCY_KEY,
];

/// For `simple`, which honours triggers of rows.
pub fn open() -> Option<Relation> {
    let table = ORDERS.open(
        pg_sys::RowExclusiveLock,
        &[pg_sys::ACL_INSERT, pg_sys::ACL_SELECT],
    )?;
    // SAFETY: open.
    unsafe {
        let has_statement_triggers = (*table)
            .trigdesc
            .as_ref()
            .is_some_and(|on| on.trig_insert_before_statement || on.trig_insert_after_statement);
        if has_statement_triggers {
            relation::close(table);
            return None;
        }
    }
    Some(table)
}

/// Writes a reserved order for each request and returns their ids; `None` where the shop has
/// added something to the table that only an INSERT honours. Locks as an INSERT does.
pub fn insert(item: &Item, requests: &[&Request<'_>], now: Micros) -> Option<Vec<i64>> {
    let table = ORDERS.open(
        pg_sys::RowExclusiveLock,
        &[pg_sys::ACL_INSERT, pg_sys::ACL_SELECT],
    )?;
    // SAFETY: what COPY does for each of its batches. An error leaves everything to the
    // rollback, as it does in COPY.
    unsafe {
        if has_insert_triggers(table) {
            relation::close(table);
            return None;
        }
        let sequence = relation::oid(c"orders_order_id_seq");
        let next_id = |_| relation::next_value(sequence);
        let order_ids: Vec<i64> = requests.iter().map(next_id).collect();
        let rows = order_ids.iter().zip(requests);
        let rows = rows.map(|(&order_id, request)| row(order_id, item, request, now));
        write(table, rows);
        relation::close(table);
        pg_sys::CommandCounterIncrement();
        Some(order_ids)
    }
}

/// # Safety
/// The relation must be open.
unsafe fn has_insert_triggers(table: Relation) -> bool {
    // SAFETY: null or the triggers of an open relation.
    unsafe { (*table).trigdesc.as_ref() }.is_some_and(|on| {
        on.trig_insert_before_row
            || on.trig_insert_after_row
            || on.trig_insert_before_statement
            || on.trig_insert_after_statement
    })
}

pub type Row = [Option<Datum>; COLUMNS];

pub fn row(order_id: i64, item: &Item, request: &Request<'_>, now: Micros) -> Row {
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
        let mut slots: Vec<*mut TupleTableSlot> =
            rows.map(|row| relation::slot(table, row)).collect();
        // A reserved order's units add up.
        let has_more_checks = !relation::has_no_check_but(table, c"orders_units_held");
        for &slot in &slots {
            if has_more_checks || relation::lacks_value(table, nulls(slot)) {
                pg_sys::ExecConstraints(&mut target, slot, state);
            }
        }
        let command = pg_sys::GetCurrentCommandId(true);
        let (first, count) = (slots.as_mut_ptr(), slots.len() as i32);
        pg_sys::heap_multi_insert(table, first, count, command, 0, std::ptr::null_mut());
        for slot in slots {
            relation::index(&mut target, slot, state, false);
            pg_sys::ExecDropSingleTupleTableSlot(slot);
        }
        pg_sys::ExecCloseIndices(&mut target);
        pg_sys::FreeExecutorState(state);
    }
}

/// # Safety
/// The slot must hold a row of `COLUMNS` columns.
unsafe fn nulls<'a>(slot: *mut TupleTableSlot) -> &'a [bool] {
    // SAFETY: as the caller says.
    unsafe { std::slice::from_raw_parts((*slot).tts_isnull, COLUMNS) }
}
