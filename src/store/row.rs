//! An item's row read, locked and rewritten past the executor, whose setting up costs more
//! than all three.
//!
//! Each function returns `None` where a statement has to do it: in a transaction that is read-only
//! or has one snapshot for all its statements, and where the shop has changed something about the
//! table that only a statement honours.

use super::relation::{self, Table};
use super::simple::Target;
use crate::clock::{self, Micros};
use crate::purchase::fit::{self, Currency, Item};
use pgrx::FromDatum;
use pgrx::itemptr::{item_pointer_to_u64, u64_to_item_pointer};
use pgrx::pg_sys::{
    self, Datum, EState, HeapTuple, HeapTupleData, Relation, ResultRelInfo, TM_Result,
    TupleTableSlot,
};

static ITEMS: Table = Table {
    name: c"items",
    types: {
        use pg_sys::{
            BOOLOID as BOOL, INT4OID as INT4, INT8OID as INT8, INTERVALOID as SPAN,
            TEXTOID as TEXT, TIMESTAMPTZOID as TIME,
        };
        const TYPES: [pg_sys::Oid; COLUMNS] = [
            INT8, INT8, INT8, INT8, BOOL, INT4, TIME, TIME, SPAN, INT8, TEXT, TEXT, TIME,
        ];
        &TYPES
    },
    // item_id, version, paused and created_at
    defaults: 4,
};
/// Rights that FOR UPDATE and UPDATE ask for.
const CHANGE: &[u32] = &[pg_sys::ACL_SELECT, pg_sys::ACL_UPDATE];
const COLUMNS: usize = 13;
const ITEM_ID: usize = 0;
const INVENTORY: usize = 1;
const STOCK: usize = 2;
const VERSION: usize = 3;
const PAUSED: usize = 4;
const MAX_PER_USER: usize = 5;
const STARTS_AT: usize = 6;
const ENDS_AT: usize = 7;
const RESERVATION_TTL: usize = 8;
const UNIT_PRICE: usize = 9;
const CURRENCY: usize = 10;

/// The item as it was last committed. Locks nothing.
pub fn read(item_id: i64) -> Option<Option<Item>> {
    at(pg_sys::AccessShareLock, &[pg_sys::ACL_SELECT], |table| {
        // SAFETY: the table is open and the snapshot active.
        unsafe { find(table, item_id) }
    })
}

/// Holds the row until the transaction ends if the item is on sale; errs at once if somebody
/// else does (55P03). It is looked for at its last place first, if that is known: while somebody
/// holds an old snapshot no earlier version of the row can be cleaned away, and the index leads
/// to all of them.
pub fn lock_sellable(item_id: i64, last_place: Option<u64>) -> Option<Option<Item>> {
    loop {
        // SAFETY: the table is open and the snapshot active.
        let attempt = at(pg_sys::RowShareLock, CHANGE, |table| unsafe {
            let item = last_place
                .and_then(|place| find_at(table, item_id, place))
                .or_else(|| find(table, item_id));
            // What cannot be sold is not locked, so a sold-out item costs its crowd a plain
            // read: no lock, no transaction id, no WAL.
            match item.filter(|item| fit::closed(item, clock::now()).is_none()) {
                Some(item) => (lock(table, &item), Some(item)),
                None => (TM_Result::TM_Ok, None),
            }
        })?;
        match attempt {
            (TM_Result::TM_Ok, item) => return Some(item),
            // Somebody changed it after our snapshot, and is done.
            (TM_Result::TM_Updated | TM_Result::TM_Deleted, _) => {
                pgrx::check_for_interrupts!();
            }
            _ => return None,
        }
    }
}

/// Takes units off an item as it was read, and returns where its row lies now; nothing if its
/// version is not that any more. Waits for the row's lock, if the caller has not got it.
pub fn take(item: &Item, units: i64) -> Option<Option<u64>> {
    at(pg_sys::RowExclusiveLock, CHANGE, |table| {
        // SAFETY: the table is open and the snapshot active.
        unsafe { is_updated_plainly(table).then(|| rewrite(table, item, units)) }
    })?
}

/// As [`take`] for an item that is held, by ExecSimpleRelationUpdate.
pub fn take_simply(item: &Item, units: i64) -> Option<Option<u64>> {
    at(pg_sys::RowExclusiveLock, CHANGE, |table| {
        // SAFETY: the table is open and the snapshot active.
        unsafe {
            let has_statement_triggers = (*table).trigdesc.as_ref().is_some_and(|on| {
                on.trig_update_before_statement || on.trig_update_after_statement
            });
            if has_statement_triggers {
                return None;
            }
            let Some((new, _)) =
                fetch(table, item.place, |old| changed(table, old, item, units)).flatten()
            else {
                return Some(None);
            };
            let mut target = Target::new(
                table,
                pg_sys::RowExclusiveLock,
                &[INVENTORY as i32 + 1, VERSION as i32 + 1],
            );
            let slots = target.tuple_table();
            let old_slot = pg_sys::table_slot_create(table, slots);
            let new_slot = pg_sys::table_slot_create(table, slots);
            // ExecSimpleRelationUpdate looks at its place alone, and triggers at the rest.
            let mut old = tuple_at(item.place);
            let mut buffer = 0;
            let snapshot = pg_sys::GetActiveSnapshot();
            pg_sys::heap_fetch(table, snapshot, &mut old, &mut buffer, false);
            pg_sys::ExecStorePinnedBufferHeapTuple(&mut old, old_slot, buffer);
            pg_sys::ExecForceStoreHeapTuple(new, new_slot, false);
            target.update(old_slot, new_slot);
            let place = item_pointer_to_u64((*new_slot).tts_tid);
            target.finish();
            pg_sys::CommandCounterIncrement();
            Some(Some(place))
        }
    })?
}

/// Runs `body` on the table with a new snapshot, which sees what the statement around us did.
fn at<T>(lock: u32, rights: &[u32], body: impl FnOnce(Relation) -> T) -> Option<T> {
    // SAFETY: this backend's own state. An error leaves everything to the rollback.
    unsafe {
        if pg_sys::XactReadOnly || pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 {
            return None;
        }
        let table = ITEMS.open(lock, rights)?;
        if !is_found_by_its_key(table) {
            relation::close(table);
            return None;
        }
        pg_sys::CommandCounterIncrement();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let done = body(table);
        pg_sys::PopActiveSnapshot();
        relation::close(table);
        Some(done)
    }
}

/// # Safety
/// The table must be open and a snapshot active.
unsafe fn find(table: Relation, item_id: i64) -> Option<Item> {
    // SAFETY: a scan of the primary key. The tuple is read before the scan ends.
    unsafe {
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &mut key,
            ITEM_ID as i16 + 1,
            pg_sys::BTEqualStrategyNumber as u16,
            pg_sys::F_INT8EQ.into(),
            Datum::from(item_id),
        );
        let (index, snapshot) = ((*table).rd_pkindex, pg_sys::GetActiveSnapshot());
        let scan = pg_sys::systable_beginscan(table, index, true, snapshot, 1, &mut key);
        let tuple = pg_sys::systable_getnext(scan);
        let item = (!tuple.is_null()).then(|| item(table, tuple));
        pg_sys::systable_endscan(scan);
        item
    }
}

/// Whether item_id alone is the primary key.
///
/// # Safety
/// The table must be open.
unsafe fn is_found_by_its_key(table: Relation) -> bool {
    use pg_sys::IndexAttrBitmapKind::INDEX_ATTR_BITMAP_PRIMARY_KEY as PRIMARY_KEY;
    let mut column = 0;
    // SAFETY: a copy of what the relation knows; with it rd_pkindex is known.
    unsafe {
        let columns = pg_sys::RelationGetIndexAttrBitmap(table, PRIMARY_KEY);
        let is_one = pg_sys::bms_get_singleton_member(columns, &mut column);
        pg_sys::bms_free(columns);
        (*table).rd_pkindex != pg_sys::Oid::INVALID
            && is_one
            && column == ITEM_ID as i32 + 1 - pg_sys::FirstLowInvalidHeapAttributeNumber
    }
}

/// # Safety
/// As for find.
unsafe fn find_at(table: Relation, item_id: i64, place: u64) -> Option<Item> {
    // SAFETY: the place is within the table.
    unsafe {
        let blocks =
            pg_sys::RelationGetNumberOfBlocksInFork(table, pg_sys::ForkNumber::MAIN_FORKNUM);
        if (place >> 32) >= u64::from(blocks) {
            return None; // the table was rewritten
        }
        let found = fetch(table, place, |tuple| item(table, tuple))?;
        (found.item_id == item_id).then_some(found)
    }
}

/// Reads the version of a row at a place, if it is visible.
///
/// # Safety
/// As for find; the place must be within the table, which one read in this transaction is.
unsafe fn fetch<T>(table: Relation, place: u64, read: impl FnOnce(HeapTuple) -> T) -> Option<T> {
    let mut tuple = tuple_at(place);
    let mut buffer = 0;
    // SAFETY: the tuple is read while its buffer is pinned.
    unsafe {
        let snapshot = pg_sys::GetActiveSnapshot();
        if !pg_sys::heap_fetch(table, snapshot, &mut tuple, &mut buffer, false) {
            return None;
        }
        let done = read(&mut tuple);
        pg_sys::ReleaseBuffer(buffer);
        Some(done)
    }
}

fn tuple_at(place: u64) -> HeapTupleData {
    let mut tuple = HeapTupleData::default();
    u64_to_item_pointer(place, &mut tuple.t_self);
    tuple
}

/// # Safety
/// The tuple must be of the table.
unsafe fn deform(table: Relation, tuple: HeapTuple) -> ([Datum; COLUMNS], [bool; COLUMNS]) {
    let mut values = [Datum::null(); COLUMNS];
    let mut nulls = [true; COLUMNS];
    let (to_values, to_nulls) = (values.as_mut_ptr(), nulls.as_mut_ptr());
    // SAFETY: room for each column.
    unsafe { pg_sys::heap_deform_tuple(tuple, (*table).rd_att, to_values, to_nulls) };
    (values, nulls)
}

/// # Safety
/// The tuple must be of the table.
unsafe fn item(table: Relation, tuple: HeapTuple) -> Item {
    // SAFETY: values of the types that `open` has checked.
    unsafe {
        let (values, nulls) = deform(table, tuple);
        let int8 = |column: usize| i64::from_datum(values[column], nulls[column]);
        let currency = <&str>::from_datum(values[CURRENCY], nulls[CURRENCY]);
        let ttl = (!nulls[RESERVATION_TTL])
            .then(|| span(&*values[RESERVATION_TTL].cast_mut_ptr::<pg_sys::Interval>()));
        Item {
            item_id: int8(ITEM_ID).unwrap_or_default(),
            inventory: int8(INVENTORY).unwrap_or_default(),
            version: int8(VERSION).unwrap_or_default(),
            paused: values[PAUSED].value() != 0,
            max_per_user: i32::from_datum(values[MAX_PER_USER], nulls[MAX_PER_USER]).map(i64::from),
            starts_at: int8(STARTS_AT),
            ends_at: int8(ENDS_AT),
            unit_price: int8(UNIT_PRICE),
            currency: currency.and_then(Currency::parse),
            reservation_ttl: ttl,
            place: item_pointer_to_u64((*tuple).t_self),
        }
    }
}

/// As extract(epoch FROM interval) has it: months of 30 days, years of 365.25. Parts may be
/// longer than the sum, which a trigger keeps within a week.
fn span(interval: &pg_sys::Interval) -> Micros {
    const DAY: i128 = 86_400_000_000;
    let (years, months) = (interval.month / 12, interval.month % 12);
    let days = i128::from(months) * 30 + i128::from(interval.day);
    let sum = i128::from(interval.time) + days * DAY + i128::from(years) * (365 * DAY + DAY / 4);
    sum as Micros
}

/// Locks the version of the row that was found, unless there is a newer one.
///
/// # Safety
/// As for find; the item must have been found by the active snapshot.
unsafe fn lock(table: Relation, item: &Item) -> TM_Result::Type {
    let mut tuple = tuple_at(item.place);
    let mut buffer = 0;
    let mut failure = pg_sys::TM_FailureData::default();
    // SAFETY: what FOR UPDATE NOWAIT does.
    unsafe {
        let result = pg_sys::heap_lock_tuple(
            table,
            &mut tuple,
            pg_sys::GetCurrentCommandId(false),
            pg_sys::LockTupleMode::LockTupleExclusive,
            pg_sys::LockWaitPolicy::LockWaitError,
            true,
            &mut buffer,
            &mut failure,
        );
        pg_sys::ReleaseBuffer(buffer);
        result
    }
}

/// Whether nothing but constraints and the primary key has a say in an update of inventory
/// and version.
///
/// # Safety
/// The relation must be open.
unsafe fn is_updated_plainly(table: Relation) -> bool {
    // SAFETY: lists of an open relation, with as many members as they say.
    unsafe {
        let indexes = pg_sys::RelationGetIndexList(table);
        let index_count = pg_sys::list_length(indexes);
        pg_sys::list_free(indexes);
        index_count == 1
            && (*table).trigdesc.as_ref().is_none_or(|on| {
                (0..on.numtriggers as usize).all(|nth| !is_fired(&*on.triggers.add(nth)))
            })
    }
}

/// # Safety
/// The trigger must be one of an open relation.
unsafe fn is_fired(trigger: &pg_sys::Trigger) -> bool {
    let is_on_update = trigger.tgtype as u32 & pg_sys::TRIGGER_TYPE_UPDATE != 0;
    // SAFETY: as many columns as it says; none stands for all.
    let column = |nth: i16| unsafe { *trigger.tgattr.add(nth as usize) } as usize - 1;
    is_on_update
        && (trigger.tgnattr == 0
            || (0..trigger.tgnattr).any(|nth| matches!(column(nth), INVENTORY | VERSION)))
}

/// # Safety
/// As for find; the update must be plain.
unsafe fn rewrite(table: Relation, item: &Item, units: i64) -> Option<u64> {
    // SAFETY: the executor's own steps, without it where there is nothing for it to do.
    unsafe {
        let (new, holds) = fetch(table, item.place, |old| changed(table, old, item, units))??;
        if !(holds && relation::has_no_check_but(table, c"items_inventory_range")) {
            executing(table, new, |target, slot, state| {
                pg_sys::ExecConstraints(target, slot, state);
            });
        }
        pg_sys::CheckCmdReplicaIdentity(table, pg_sys::CmdType::CMD_UPDATE);
        if !update(table, item, new) {
            return None;
        }
        if (*(*new).t_data).t_infomask2 as u32 & pg_sys::HEAP_ONLY_TUPLE == 0 {
            executing(table, new, |target, slot, state| {
                pg_sys::ExecOpenIndices(target, false);
                relation::index(target, slot, state, true);
                pg_sys::ExecCloseIndices(target);
            });
        }
        pg_sys::CommandCounterIncrement();
        Some(item_pointer_to_u64((*new).t_self))
    }
}

/// Runs a step of the executor's on a tuple.
///
/// # Safety
/// The tuple must be of the table, which must be open.
unsafe fn executing(
    table: Relation,
    tuple: HeapTuple,
    step: impl FnOnce(&mut ResultRelInfo, *mut TupleTableSlot, *mut EState),
) {
    // SAFETY: what the step is given lives as long as it runs.
    unsafe {
        let state = pg_sys::CreateExecutorState();
        let mut target = ResultRelInfo::default();
        pg_sys::InitResultRelInfo(&mut target, table, 0, std::ptr::null_mut(), 0);
        let slot =
            pg_sys::MakeSingleTupleTableSlot((*table).rd_att, &raw const pg_sys::TTSOpsHeapTuple);
        pg_sys::ExecStoreHeapTuple(tuple, slot, false);
        step(&mut target, slot, state);
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        pg_sys::FreeExecutorState(state);
    }
}

/// The row without the units, if it is the version that was read and has as many, and whether
/// it holds what our constraints ask for.
///
/// # Safety
/// The tuple must be of the table.
unsafe fn changed(
    table: Relation,
    old: HeapTuple,
    item: &Item,
    units: i64,
) -> Option<(HeapTuple, bool)> {
    // SAFETY: a copy of a tuple of the table, with two columns that are never NULL replaced.
    unsafe {
        let (values, nulls) = deform(table, old);
        let [item_id, inventory, stock, version] =
            [ITEM_ID, INVENTORY, STOCK, VERSION].map(|column| values[column].value() as i64);
        let left = inventory - units;
        if item_id != item.item_id || version != item.version || left < 0 {
            return None;
        }
        let mut numbers = [INVENTORY as i32 + 1, VERSION as i32 + 1];
        let mut new_values = [left, version + 1].map(Datum::from);
        let mut new_nulls = [false; 2];
        let new = pg_sys::heap_modify_tuple_by_cols(
            old,
            (*table).rd_att,
            2,
            numbers.as_mut_ptr(),
            new_values.as_mut_ptr(),
            new_nulls.as_mut_ptr(),
        );
        let holds = fit::stock_adds_up(left, stock) && !relation::lacks_value(table, &nulls);
        Some((new, holds))
    }
}

/// False if somebody else was first.
///
/// # Safety
/// The new tuple must be of the table.
unsafe fn update(table: Relation, item: &Item, new: HeapTuple) -> bool {
    let mut old = tuple_at(item.place);
    let mut failure = pg_sys::TM_FailureData::default();
    let mut lock = pg_sys::LockTupleMode::LockTupleExclusive;
    #[cfg(not(feature = "pg15"))]
    let mut indexes = pg_sys::TU_UpdateIndexes::TU_None;
    // SAFETY: waits for who holds the row, as UPDATE does.
    unsafe {
        let command = pg_sys::GetCurrentCommandId(true);
        let no_crosscheck = std::ptr::null_mut();
        let result = pg_sys::heap_update(
            table,
            &mut old.t_self,
            new,
            command,
            no_crosscheck,
            true,
            &mut failure,
            &mut lock,
            #[cfg(not(feature = "pg15"))]
            &mut indexes,
        );
        result == TM_Result::TM_Ok
    }
}
