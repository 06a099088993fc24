//! Direct table access: rows are read, locked, rewritten and appended without the executor, whose
//! setting up costs a purchase more than all four.
//!
//! Safe to call, which is not to say right: triggers, constraints, defaults, rules, row security
//! and children are the executor's, and nothing here honours them. The caller has compared the
//! table's definition, and remembers that in a [`Remembered`].

use flashsale_core::time::Micros;
use pgrx::itemptr::{item_pointer_to_u64, u64_to_item_pointer};
use pgrx::pg_sys::{
    self, AclResult, Datum, EState, HeapTuple, HeapTupleData, Oid, Relation, ResultRelInfo,
    TM_Result, TupleTableSlot,
};
use pgrx::prelude::*;
use pgrx::{PgTupleDesc, direct_function_call};
use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::thread::panicking;

/// What a table is opened for, which decides on its lock and on the rights to be had.
#[derive(Clone, Copy, PartialEq)]
pub enum Purpose {
    Read,
    /// SELECT FOR UPDATE.
    Lock,
    Update,
    /// INSERT with RETURNING.
    Insert,
}

impl Purpose {
    fn lock(self) -> u32 {
        match self {
            Self::Read => pg_sys::AccessShareLock,
            Self::Lock => pg_sys::RowShareLock,
            Self::Update | Self::Insert => pg_sys::RowExclusiveLock,
        }
    }

    fn rights(self) -> &'static [u32] {
        match self {
            Self::Read => &[pg_sys::ACL_SELECT],
            Self::Lock | Self::Update => &[pg_sys::ACL_SELECT, pg_sys::ACL_UPDATE],
            Self::Insert => &[pg_sys::ACL_SELECT, pg_sys::ACL_INSERT],
        }
    }
}

/// An open table: a plain heap with `N` columns, none of which was dropped. It is closed when
/// dropped, but for an error, whose rollback does that; its lock stays until the transaction ends.
pub struct Table<const N: usize> {
    relation: Relation,
    purpose: Purpose,
}

impl<const N: usize> Table<N> {
    /// `None` if there is no such table, or the current user lacks a right to the whole of it.
    pub fn open(schema: &CStr, name: &CStr, purpose: Purpose) -> Option<Self> {
        // SAFETY: two names; what is not there is INVALID, and opens as null.
        unsafe {
            let schema = pg_sys::get_namespace_oid(schema.as_ptr(), true);
            let oid = pg_sys::get_relname_relid(name.as_ptr(), schema);
            let relation = pg_sys::try_table_open(oid, purpose.lock() as i32);
            if relation.is_null() {
                return None;
            }
            let table = Self { relation, purpose };
            let user = pg_sys::GetUserId();
            let is_allowed = purpose.rights().iter().all(|&right| {
                let right = right as pg_sys::AclMode;
                pg_sys::pg_class_aclcheck(oid, user, right) == AclResult::ACLCHECK_OK
            });
            (is_allowed && table.is_heap()).then_some(table)
        }
    }

    fn is_heap(&self) -> bool {
        // SAFETY: fields of an open relation.
        unsafe {
            let class = (*self.relation).rd_rel;
            let columns = PgTupleDesc::from_pg_unchecked((*self.relation).rd_att);
            (*class).relkind as u8 == pg_sys::RELKIND_RELATION
                && (*class).relam == pg_sys::HEAP_TABLE_AM_OID
                && columns.len() == N
                && columns.iter().all(|column| !column.attisdropped)
        }
    }

    pub fn oid(&self) -> Oid {
        // SAFETY: a field of an open relation.
        unsafe { (*self.relation).rd_id }
    }

    fn type_of(&self, column: usize) -> Oid {
        assert!(column < N);
        // SAFETY: one of the columns of an open relation.
        unsafe {
            let columns = PgTupleDesc::from_pg_unchecked((*self.relation).rd_att);
            columns.get(column).map_or(Oid::INVALID, |at| at.atttypid)
        }
    }

    /// The row with this primary key; nothing if the key is not a bigint alone in column 0.
    pub fn find<'s>(&'s self, snapshot: &'s Snapshot, key: i64) -> Option<Seen<'s, N>> {
        if !self.is_found_by_column_0() {
            return None;
        }
        // SAFETY: a scan of the primary key. The tuple is copied before the scan ends.
        unsafe {
            let mut sought = pg_sys::ScanKeyData::default();
            pg_sys::ScanKeyInit(
                &mut sought,
                1,
                pg_sys::BTEqualStrategyNumber as u16,
                pg_sys::F_INT8EQ.into(),
                Datum::from(key),
            );
            let index = (*self.relation).rd_pkindex;
            let active = snapshot.active();
            let scan =
                pg_sys::systable_beginscan(self.relation, index, true, active, 1, &mut sought);
            let tuple = pg_sys::systable_getnext(scan);
            let seen = (!tuple.is_null()).then(|| Seen::copy(self, tuple));
            pg_sys::systable_endscan(scan);
            seen
        }
    }

    fn is_found_by_column_0(&self) -> bool {
        use pg_sys::IndexAttrBitmapKind::INDEX_ATTR_BITMAP_PRIMARY_KEY as PRIMARY_KEY;
        let mut column = 0;
        // SAFETY: a copy of what the relation knows; with it rd_pkindex is known.
        unsafe {
            let columns = pg_sys::RelationGetIndexAttrBitmap(self.relation, PRIMARY_KEY);
            let is_one = pg_sys::bms_get_singleton_member(columns, &mut column);
            pg_sys::bms_free(columns);
            (*self.relation).rd_pkindex != Oid::INVALID
                && is_one
                && column == 1 - pg_sys::FirstLowInvalidHeapAttributeNumber
                && self.type_of(0) == pg_sys::INT8OID
        }
    }

    /// The version of a row at a ctid, if it is visible.
    pub fn at<'s>(&'s self, snapshot: &'s Snapshot, ctid: u64) -> Option<Seen<'s, N>> {
        let mut tuple = tuple_at(ctid);
        let mut buffer = 0;
        // SAFETY: the ctid is within the table, and the tuple copied while its buffer is pinned.
        unsafe {
            let main = pg_sys::ForkNumber::MAIN_FORKNUM;
            let blocks = pg_sys::RelationGetNumberOfBlocksInFork(self.relation, main);
            if (ctid >> 32) >= u64::from(blocks) {
                return None; // the table was rewritten
            }
            let active = snapshot.active();
            if !pg_sys::heap_fetch(self.relation, active, &mut tuple, &mut buffer, false) {
                return None;
            }
            let seen = Seen::copy(self, &mut tuple);
            pg_sys::ReleaseBuffer(buffer);
            Some(seen)
        }
    }

    /// Appends rows: many of them take one lock of a page and one record of the log. A duplicate
    /// of a unique key is an error.
    pub fn append(&self, rows: &[[Value<'_>; N]]) {
        assert!(self.purpose == Purpose::Insert);
        // SAFETY: what COPY does for each of its batches, on a state that ends with them.
        unsafe {
            let state = pg_sys::CreateExecutorState();
            let mut target = ResultRelInfo::default();
            pg_sys::InitResultRelInfo(&mut target, self.relation, 0, std::ptr::null_mut(), 0);
            pg_sys::ExecOpenIndices(&mut target, false);
            let mut slots: Vec<_> = rows.iter().map(|row| self.slot(row)).collect();
            let command = pg_sys::GetCurrentCommandId(true);
            let (first, count) = (slots.as_mut_ptr(), slots.len() as i32);
            let no_bulk = std::ptr::null_mut();
            pg_sys::heap_multi_insert(self.relation, first, count, command, 0, no_bulk);
            for slot in slots {
                index(&mut target, slot, state, false);
                pg_sys::ExecDropSingleTupleTableSlot(slot);
            }
            pg_sys::ExecCloseIndices(&mut target);
            pg_sys::FreeExecutorState(state);
            pg_sys::CommandCounterIncrement();
        }
    }

    fn slot(&self, row: &[Value<'_>; N]) -> *mut TupleTableSlot {
        // SAFETY: a slot made for the table has room for a value of each column, and each has
        // its column's type.
        unsafe {
            let kind = pg_sys::table_slot_callbacks(self.relation);
            let slot = pg_sys::MakeSingleTupleTableSlot((*self.relation).rd_att, kind);
            for (column, value) in row.iter().enumerate() {
                assert!(value.is_of(self.type_of(column)), "type of column {column}");
                let datum = value.datum();
                (*slot).tts_isnull.add(column).write(datum.is_none());
                let datum = datum.unwrap_or(Datum::null());
                (*slot).tts_values.add(column).write(datum);
            }
            pg_sys::ExecStoreVirtualTuple(slot)
        }
    }
}

/// Prunes a page of a table, as a scan that comes by does: row versions that nobody can see any
/// more give way to the next. Does nothing while the page has room enough, nor to a table that is
/// no heap, nor beyond its end. Takes the lock of a SELECT, which stays until the transaction ends.
pub fn prune(schema: &CStr, name: &CStr, block: u32) {
    // SAFETY: the relation is open and its buffer pinned while they are used; pruning takes the
    // buffer's lock itself, if it is free.
    unsafe {
        let schema = pg_sys::get_namespace_oid(schema.as_ptr(), true);
        let oid = pg_sys::get_relname_relid(name.as_ptr(), schema);
        let relation = pg_sys::try_relation_open(oid, pg_sys::AccessShareLock as i32);
        if relation.is_null() {
            return;
        }
        let class = &*(*relation).rd_rel;
        let main = pg_sys::ForkNumber::MAIN_FORKNUM;
        if class.relkind as u8 == pg_sys::RELKIND_RELATION
            && class.relam == pg_sys::HEAP_TABLE_AM_OID
            && block < pg_sys::RelationGetNumberOfBlocksInFork(relation, main)
        {
            let buffer = pg_sys::ReadBuffer(relation, block);
            pg_sys::heap_page_prune_opt(relation, buffer);
            pg_sys::ReleaseBuffer(buffer);
        }
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
    }
}

impl<const N: usize> Drop for Table<N> {
    fn drop(&mut self) {
        if !panicking() {
            // SAFETY: open() opened it.
            unsafe { pg_sys::table_close(self.relation, pg_sys::NoLock as i32) };
        }
    }
}

/// A value of a row to be appended.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    Null,
    Int8(i64),
    Time(Micros),
    Text(&'a str),
}

impl Value<'_> {
    fn is_of(&self, column_type: Oid) -> bool {
        match self {
            Self::Null => true,
            Self::Int8(_) => column_type == pg_sys::INT8OID,
            Self::Time(_) => column_type == pg_sys::TIMESTAMPTZOID,
            Self::Text(_) => column_type == pg_sys::TEXTOID,
        }
    }

    fn datum(&self) -> Option<Datum> {
        match *self {
            Self::Null => None,
            Self::Int8(number) | Self::Time(number) => Some(Datum::from(number)),
            Self::Text(text) => text.into_datum(),
        }
    }
}

/// A new snapshot, active until dropped. It sees what the statement around the call did.
pub struct Snapshot(());

impl Snapshot {
    /// `None` in a transaction that is read-only or has one snapshot for all its statements.
    pub fn fresh() -> Option<Self> {
        // SAFETY: this backend's own state.
        unsafe {
            if pg_sys::XactReadOnly || pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 {
                return None;
            }
            pg_sys::CommandCounterIncrement();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            Some(Self(()))
        }
    }

    fn active(&self) -> pg_sys::Snapshot {
        // SAFETY: at least this one is active.
        unsafe { pg_sys::GetActiveSnapshot() }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if !panicking() {
            // SAFETY: fresh() pushed it; an error leaves it to the rollback.
            unsafe { pg_sys::PopActiveSnapshot() };
        }
    }
}

/// A version of a row as a snapshot sees it, copied. A ctid is good for nothing else but to have
/// a snapshot look there again, which is why a row can be locked and rewritten only through this.
pub struct Seen<'s, const N: usize> {
    table: &'s Table<N>,
    tuple: HeapTuple,
    values: [Datum; N],
    nulls: [bool; N],
}

/// What became of a try to lock a row.
#[derive(Clone, Copy, PartialEq)]
pub enum Lock {
    Held,
    /// Somebody has changed it since the snapshot, and is done.
    Changed,
    /// The statement around the call has changed it.
    Unclear,
}

impl<'s, const N: usize> Seen<'s, N> {
    /// # Safety
    /// The tuple must be of the table.
    unsafe fn copy(table: &'s Table<N>, tuple: HeapTuple) -> Self {
        let mut values = [Datum::null(); N];
        let mut nulls = [true; N];
        // SAFETY: room for each of the N columns that open() has counted.
        unsafe {
            let tuple = pg_sys::heap_copytuple(tuple);
            let columns = (*table.relation).rd_att;
            let to = values.as_mut_ptr();
            pg_sys::heap_deform_tuple(tuple, columns, to, nulls.as_mut_ptr());
            Self {
                table,
                tuple,
                values,
                nulls,
            }
        }
    }

    fn read<T: FromDatum>(&self, column: usize, column_type: Oid) -> Option<T> {
        assert!(self.table.type_of(column) == column_type);
        // SAFETY: a value of its type, in a copy of the tuple.
        unsafe { T::from_datum(self.values[column], self.nulls[column]) }
    }

    pub fn int8(&self, column: usize) -> Option<i64> {
        self.read(column, pg_sys::INT8OID)
    }

    pub fn int4(&self, column: usize) -> Option<i32> {
        self.read(column, pg_sys::INT4OID)
    }

    pub fn flag(&self, column: usize) -> Option<bool> {
        self.read(column, pg_sys::BOOLOID)
    }

    pub fn text(&self, column: usize) -> Option<&str> {
        self.read(column, pg_sys::TEXTOID)
    }

    pub fn time(&self, column: usize) -> Option<Micros> {
        assert!(self.table.type_of(column) == pg_sys::TIMESTAMPTZOID);
        (!self.nulls[column]).then(|| self.values[column].value() as Micros)
    }

    /// As extract(epoch FROM interval) has it: months of 30 days, years of 365.25.
    pub fn span(&self, column: usize) -> Option<Micros> {
        const DAY: i128 = 86_400_000_000;
        assert!(self.table.type_of(column) == pg_sys::INTERVALOID);
        if self.nulls[column] {
            return None;
        }
        // SAFETY: an interval, in a copy of the tuple.
        let interval = unsafe { &*self.values[column].cast_mut_ptr::<pg_sys::Interval>() };
        let (years, months) = (interval.month / 12, interval.month % 12);
        let days = i128::from(months) * 30 + i128::from(interval.day);
        let sum =
            i128::from(interval.time) + days * DAY + i128::from(years) * (365 * DAY + DAY / 4);
        Some(sum as Micros)
    }

    pub fn ctid(&self) -> u64 {
        // SAFETY: our copy.
        item_pointer_to_u64(unsafe { (*self.tuple).t_self })
    }

    /// Locks it FOR UPDATE until the transaction ends; errs at once if somebody else has (55P03).
    pub fn lock(&self) -> Lock {
        assert!(matches!(
            self.table.purpose,
            Purpose::Lock | Purpose::Update
        ));
        let mut tuple = tuple_at(self.ctid());
        let mut buffer = 0;
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: what FOR UPDATE NOWAIT does.
        let result = unsafe {
            let result = pg_sys::heap_lock_tuple(
                self.table.relation,
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
        };
        match result {
            TM_Result::TM_Ok => Lock::Held,
            TM_Result::TM_Updated | TM_Result::TM_Deleted => Lock::Changed,
            _ => Lock::Unclear,
        }
    }

    /// Gives bigint columns other values and returns the new ctid; `None` if somebody else was
    /// first. Waits for the row's lock, if the caller has not got it.
    pub fn update<const M: usize>(&self, changes: [(usize, i64); M]) -> Option<u64> {
        assert!(self.table.purpose == Purpose::Update);
        for (column, _) in changes {
            assert!(self.table.type_of(column) == pg_sys::INT8OID);
        }
        let mut numbers = changes.map(|(column, _)| column as i32 + 1);
        let mut values = changes.map(|(_, value)| Datum::from(value));
        let mut nulls = [false; M];
        let relation = self.table.relation;
        // SAFETY: what UPDATE does with a row that it has found.
        unsafe {
            let new = pg_sys::heap_modify_tuple_by_cols(
                self.tuple,
                (*relation).rd_att,
                M as i32,
                numbers.as_mut_ptr(),
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            pg_sys::CheckCmdReplicaIdentity(relation, pg_sys::CmdType::CMD_UPDATE);
            if !replace(relation, self.ctid(), new) {
                return None;
            }
            if (*(*new).t_data).t_infomask2 as u32 & pg_sys::HEAP_ONLY_TUPLE == 0 {
                enter(relation, new);
            }
            pg_sys::CommandCounterIncrement();
            Some(item_pointer_to_u64((*new).t_self))
        }
    }
}

fn tuple_at(ctid: u64) -> HeapTupleData {
    let mut tuple = HeapTupleData::default();
    u64_to_item_pointer(ctid, &mut tuple.t_self);
    tuple
}

/// False if somebody else was first.
///
/// # Safety
/// The relation must be open for writing, the ctid seen by a snapshot, the tuple of the relation.
unsafe fn replace(relation: Relation, ctid: u64, new: HeapTuple) -> bool {
    let mut old = tuple_at(ctid);
    let mut failure = pg_sys::TM_FailureData::default();
    let mut lock = pg_sys::LockTupleMode::LockTupleExclusive;
    #[cfg(not(feature = "pg15"))]
    let mut indexes = pg_sys::TU_UpdateIndexes::TU_None;
    // SAFETY: waits for who holds the row, as UPDATE does.
    unsafe {
        let command = pg_sys::GetCurrentCommandId(true);
        let no_crosscheck = std::ptr::null_mut();
        let result = pg_sys::heap_update(
            relation,
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

/// Enters a tuple that moved to another page into the table's indexes.
///
/// # Safety
/// The tuple must be of the relation and written.
unsafe fn enter(relation: Relation, tuple: HeapTuple) {
    // SAFETY: what the executor's step is given lives as long as it runs.
    unsafe {
        let state = pg_sys::CreateExecutorState();
        let mut target = ResultRelInfo::default();
        pg_sys::InitResultRelInfo(&mut target, relation, 0, std::ptr::null_mut(), 0);
        let kind = &raw const pg_sys::TTSOpsHeapTuple;
        let slot = pg_sys::MakeSingleTupleTableSlot((*relation).rd_att, kind);
        pg_sys::ExecStoreHeapTuple(tuple, slot, false);
        pg_sys::ExecOpenIndices(&mut target, false);
        index(&mut target, slot, state, true);
        pg_sys::ExecCloseIndices(&mut target);
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        pg_sys::FreeExecutorState(state);
    }
}

/// Enters a row that was just written into the target's indexes, whose duplicates are errors.
/// What an index leaves for later is the work of a trigger, which a plain table has not got.
///
/// # Safety
/// The slot must hold the row and its ctid, and the target's indexes be open.
unsafe fn index(
    target: &mut ResultRelInfo,
    slot: *mut TupleTableSlot,
    state: *mut EState,
    is_update: bool,
) {
    let no_conflict = std::ptr::null_mut();
    let no_arbiters = std::ptr::null_mut();
    // SAFETY: as the caller says.
    unsafe {
        pg_sys::ExecInsertIndexTuples(
            target,
            slot,
            state,
            is_update,
            false,
            no_conflict,
            no_arbiters,
            #[cfg(not(feature = "pg15"))]
            false,
        );
    }
}

/// The next value of a sequence, for who has the right to it.
pub fn next_value(sequence: Oid) -> i64 {
    // SAFETY: the function behind nextval(regclass), which looks at what it is given.
    unsafe { direct_function_call(pg_sys::nextval_oid, &[sequence.into_datum()]) }
        .expect("a sequence has a next value")
}

thread_local! {
    /// Tables about which something is remembered.
    static WATCHED: RefCell<Vec<Oid>> = const { RefCell::new(Vec::new()) };
    /// How often the definition of one of them may have changed.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
}

/// What was found out about a table, until PostgreSQL says that its definition may have changed.
pub struct Remembered<T>(Cell<Option<(Oid, u64, T)>>);

impl<T: Copy> Remembered<T> {
    pub const fn nothing() -> Self {
        Self(Cell::new(None))
    }

    /// What `find_out` says of the table, which it is asked only where that is not known. The
    /// table's lock keeps what is known from changing before it is closed.
    pub fn about<const N: usize, E>(
        &self,
        table: &Table<N>,
        find_out: impl FnOnce(Oid) -> Result<T, E>,
    ) -> Result<T, E> {
        let (oid, changes) = (table.oid(), CHANGES.get());
        if let Some((of, at, known)) = self.0.get()
            && (of, at) == (oid, changes)
        {
            return Ok(known);
        }
        watch(oid);
        let known = find_out(oid)?;
        self.0.set(Some((oid, changes, known)));
        Ok(known)
    }
}

fn watch(oid: Oid) {
    WATCHED.with_borrow_mut(|watched| {
        if watched.is_empty() {
            // SAFETY: the callback lives as long as the library, which is never unloaded.
            unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(forget), Datum::null()) };
        }
        if !watched.contains(&oid) {
            watched.push(oid);
        }
    });
}

#[pg_guard]
unsafe extern "C-unwind" fn forget(_argument: Datum, oid: Oid) {
    if oid == Oid::INVALID || WATCHED.with_borrow(|watched| watched.contains(&oid)) {
        CHANGES.set(CHANGES.get() + 1);
    }
}
