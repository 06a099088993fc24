//! Rows updated and inserted.

use super::row::Seen;
use super::table::{Purpose, Relation, Table};
use crate::pg::version::{self, Entries};
use flashsale_core::time::Micros;
use pgrx::pg_sys::{
    self, Datum, EState, HeapTupleData, Oid, ResultRelInfo, TM_Result, TupleTableSlot,
    TupleTableSlotOps,
};
use pgrx::{IntoDatum, direct_function_call};
use std::marker::PhantomData;
use std::ptr::null_mut;
use std::thread::panicking;

/// A value to be written.
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

impl<const N: usize> Table<N> {
    /// Inserts rows, many of them under one page lock and in one WAL record. 23505 if a unique key
    /// exists already.
    pub fn append(&self, rows: &[[Value<'_>; N]]) {
        assert!(self.purpose == Purpose::Insert);
        let mut indexes = Indexes::open(&self.relation);
        let slots: Vec<Slot<'_>> = rows.iter().map(|row| self.slot(row)).collect();
        let mut pointers: Vec<_> = slots.iter().map(|slot| slot.pointer).collect();
        // SAFETY: COPY inserts each of its batches in the same way. There are `count` slots, each
        // with a row of the relation, which is open for writing. Each gets the ctid of its row,
        // which the indexes need.
        unsafe {
            let command = pg_sys::GetCurrentCommandId(true);
            let (first, count) = (pointers.as_mut_ptr(), pointers.len() as i32);
            pg_sys::heap_multi_insert(self.relation.0, first, count, command, 0, null_mut());
            for slot in &slots {
                indexes.enter(slot, false, Entries::All);
            }
            pg_sys::CommandCounterIncrement();
        }
    }

    /// A slot with a row that is not inserted yet.
    fn slot(&self, row: &[Value<'_>; N]) -> Slot<'_> {
        // SAFETY: a slot made for the table has room for a value of each of its N columns, and
        // each gets one of its type.
        unsafe {
            let kind = pg_sys::table_slot_callbacks(self.relation.0);
            let slot = Slot::new(&self.relation, kind);
            for (column, value) in row.iter().enumerate() {
                assert!(value.is_of(self.type_of(column)), "type of column {column}");
                let datum = value.datum();
                (*slot.pointer)
                    .tts_isnull
                    .add(column)
                    .write(datum.is_none());
                let datum = datum.unwrap_or(Datum::null());
                (*slot.pointer).tts_values.add(column).write(datum);
            }
            pg_sys::ExecStoreVirtualTuple(slot.pointer);
            slot
        }
    }
}

impl<const N: usize> Seen<'_, N> {
    /// Sets columns. Waits for the row's lock, unless the transaction holds it.
    pub fn update<const M: usize>(self, changes: [(usize, Value<'_>); M]) -> Updated {
        assert!(self.table.purpose == Purpose::Update);
        for (column, value) in changes {
            assert!(value.is_of(self.table.type_of(column)));
        }
        let mut numbers = changes.map(|(column, _)| column as i32 + 1);
        let data = changes.map(|(_, value)| value.datum());
        let mut values = data.map(|datum| datum.unwrap_or(Datum::null()));
        let mut nulls = data.map(|datum| datum.is_none());
        let relation = &self.table.relation;
        // SAFETY: the steps of UPDATE for a row that it has found. The three arrays have M
        // elements; the new tuple is a copy of the old one, except for existing columns whose type
        // was checked.
        unsafe {
            let new = &mut *pg_sys::heap_modify_tuple_by_cols(
                self.tuple,
                relation.descriptor(),
                M as i32,
                numbers.as_mut_ptr(),
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            pg_sys::CheckCmdReplicaIdentity(relation.0, pg_sys::CmdType::CMD_UPDATE);
            let entries = match self.replace_by(new) {
                (TM_Result::TM_Ok, entries) => entries,
                (TM_Result::TM_Updated | TM_Result::TM_Deleted, _) => return Updated::Changed,
                _ => return Updated::Unclear,
            };
            if entries != Entries::Unneeded {
                let slot = Slot::new(relation, &raw const pg_sys::TTSOpsHeapTuple);
                pg_sys::ExecStoreHeapTuple(new, slot.pointer, false);
                let mut indexes = Indexes::open(relation);
                indexes.say_unchanged(&numbers);
                indexes.enter(&slot, true, entries);
            }
            pg_sys::CommandCounterIncrement();
            Updated::Done
        }
    }

    /// Puts the new version in place of the old one, unless the row has changed since the snapshot.
    ///
    /// # Safety
    /// The tuple must be of the table.
    unsafe fn replace_by(&self, new: &mut HeapTupleData) -> (TM_Result::Type, Entries) {
        let mut old = self.ctid().item_pointer();
        // SAFETY: the table is open for writing, the snapshot that sees the old version is still
        // registered, and the new one is of the table, as the caller says.
        unsafe {
            let command = pg_sys::GetCurrentCommandId(true);
            version::heap_update(self.table.relation.0, &mut old, new, command)
        }
    }
}

/// The result of an attempt to update a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updated {
    Done,
    /// Another transaction has changed the row since the snapshot, and has committed.
    Changed,
    /// This transaction has changed it since the snapshot, so a statement has to decide.
    Unclear,
}

/// A slot for a row of an open relation.
struct Slot<'t> {
    pointer: *mut TupleTableSlot,
    relation: PhantomData<&'t Relation>,
}

impl<'t> Slot<'t> {
    /// # Safety
    /// The kind must be one of PostgreSQL's.
    unsafe fn new(relation: &'t Relation, kind: *const TupleTableSlotOps) -> Self {
        // SAFETY: as the caller says.
        let pointer = unsafe { pg_sys::MakeSingleTupleTableSlot(relation.descriptor(), kind) };
        Self {
            pointer,
            relation: PhantomData,
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if !panicking() {
            // SAFETY: new() made it.
            unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.pointer) };
        }
    }
}

/// The indexes of an open relation, opened for inserts.
struct Indexes<'t> {
    target: ResultRelInfo,
    state: *mut EState,
    relation: PhantomData<&'t Relation>,
}

impl<'t> Indexes<'t> {
    fn open(relation: &'t Relation) -> Self {
        let mut target = ResultRelInfo::default();
        // SAFETY: the executor's own steps. 0 is the range table index of a relation that no plan
        // has.
        unsafe {
            let state = pg_sys::CreateExecutorState();
            pg_sys::InitResultRelInfo(&mut target, relation.0, 0, null_mut(), 0);
            pg_sys::ExecOpenIndices(&mut target, false);
            let mut indexes = Self {
                target,
                state,
                relation: PhantomData,
            };
            indexes.prepare_predicates();
            indexes
        }
    }

    /// Prepares the predicates of partial indexes. The executor would do so itself, but plan each of
    /// them first; here they come from the relcache, where they lie planned.
    ///
    /// # Safety
    /// The indexes must be open.
    unsafe fn prepare_predicates(&mut self) {
        for index in 0..self.target.ri_NumIndices as usize {
            // SAFETY: the array has an element for each open index.
            unsafe {
                let info = &mut **self.target.ri_IndexRelationInfo.add(index);
                info.ii_PredicateState = pg_sys::ExecInitQual(info.ii_Predicate, null_mut());
            }
        }
    }

    /// Says which of the indexes contain none of the updated columns, given by their numbers. A B-tree
    /// makes room for the new entries of these by removing old ones first. The executor would find
    /// that out from the plan, and here take all of them for unchanged.
    ///
    /// # Safety
    /// The indexes must be open.
    unsafe fn say_unchanged(&mut self, updated: &[i32]) {
        for index in 0..self.target.ri_NumIndices as usize {
            // SAFETY: the array has an element for each open index, which has that many columns.
            unsafe {
                let info = &mut **self.target.ri_IndexRelationInfo.add(index);
                let columns = &info.ii_IndexAttrNumbers[..info.ii_NumIndexKeyAttrs as usize];
                let is_updated = |column: &i16| updated.contains(&i32::from(*column));
                info.ii_CheckedUnchanged = true;
                info.ii_IndexUnchanged =
                    info.ii_Expressions.is_null() && !columns.iter().any(is_updated);
            }
        }
    }

    /// Inserts the row's entries; 23505 if a unique key exists already. A deferrable key is checked
    /// later by a trigger, so a table that has one must not be accessed directly.
    ///
    /// # Safety
    /// The slot must contain the row and its ctid.
    unsafe fn enter(&mut self, slot: &Slot<'_>, is_update: bool, entries: Entries) {
        let (target, row) = (&mut self.target, slot.pointer);
        // SAFETY: as the caller says; the indexes are open.
        unsafe { version::enter_into_indexes(target, row, self.state, is_update, entries) };
    }
}

impl Drop for Indexes<'_> {
    fn drop(&mut self) {
        if !panicking() {
            // SAFETY: open() opened them and made the state.
            unsafe {
                pg_sys::ExecCloseIndices(&mut self.target);
                pg_sys::FreeExecutorState(self.state);
            }
        }
    }
}

/// The next value of a sequence; 42501 if the current user may not use it.
pub fn next_value(sequence: Oid) -> i64 {
    // SAFETY: the function behind nextval(regclass), with its one argument, which it checks.
    unsafe { direct_function_call(pg_sys::nextval_oid, &[sequence.into_datum()]) }
        .expect("a sequence has a next value")
}
