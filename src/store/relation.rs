//! Tables that are as the extension made them, and so can be used past the executor.

use pgrx::pg_sys::{self, AclResult, Datum, EState, Oid, Relation, ResultRelInfo, TupleTableSlot};
use pgrx::{IntoDatum, PgTupleDesc, direct_function_call};
use std::ffi::CStr;

/// A table of ours as `sql/tables.sql` makes it.
pub struct Table {
    pub name: &'static CStr,
    /// Types of its columns, in their order.
    pub types: &'static [Oid],
    /// How many of them have a DEFAULT.
    pub defaults: u16,
}

impl Table {
    /// Opens it under a lock that stays until the transaction ends, for who has all the rights;
    /// `None` where the shop has changed something about it, or a right or the table is not
    /// there, which the executor is to deal with.
    pub fn open(&self, lock: u32, rights: &[u32]) -> Option<Relation> {
        let oid = oid(self.name);
        // SAFETY: null, as for an oid that is not there, or open while it is looked at.
        unsafe {
            let table = pg_sys::try_table_open(oid, lock as i32);
            if table.is_null() {
                return None;
            }
            let user = pg_sys::GetUserId();
            let has = |right: u32| {
                let right = right as pg_sys::AclMode;
                pg_sys::pg_class_aclcheck(oid, user, right) == AclResult::ACLCHECK_OK
            };
            if rights.iter().all(|&right| has(right)) && self.is_as_made(table) {
                return Some(table);
            }
            close(table);
        }
        None
    }

    /// Whether it is a plain heap of our columns, without children, rules or row security.
    ///
    /// # Safety
    /// The relation must be open.
    unsafe fn is_as_made(&self, table: Relation) -> bool {
        // SAFETY: fields of an open relation; those that may be null are looked at first.
        unsafe {
            let class = (*table).rd_rel;
            let columns = PgTupleDesc::from_pg_unchecked((*table).rd_att);
            let constraints = (*(*table).rd_att).constr.as_ref();
            columns.len() == self.types.len()
                && columns.iter().zip(self.types).all(|(column, &of_type)| {
                    column.atttypid == of_type
                        && column.atttypmod == -1
                        && !column.attisdropped
                        && column.attgenerated == 0
                })
                && constraints.is_some_and(|constraints| constraints.num_defval == self.defaults)
                && (*class).relkind as u8 == pg_sys::RELKIND_RELATION
                && (*class).relam == pg_sys::HEAP_TABLE_AM_OID
                && !(*class).relhassubclass
                && !(*class).relispartition
                && !(*class).relrowsecurity
                && (*table).rd_rules.is_null()
        }
    }
}

/// Whether a CHECK, known by its name, is the only one of a table. Then who knows that it holds
/// can spare the executor's way, which reads the text of it anew each time.
///
/// # Safety
/// The relation must be open and have constraints.
pub unsafe fn has_no_check_but(table: Relation, name: &CStr) -> bool {
    // SAFETY: as many as it says, with NUL-terminated names.
    unsafe {
        let constraints = (*(*table).rd_att).constr;
        (*constraints).num_check == 1 && CStr::from_ptr((*(*constraints).check).ccname) == name
    }
}

/// Whether a row has NULL where its table takes none.
///
/// # Safety
/// The relation must be open.
pub unsafe fn lacks_value(table: Relation, nulls: &[bool]) -> bool {
    // SAFETY: the columns of an open relation.
    let columns = unsafe { PgTupleDesc::from_pg_unchecked((*table).rd_att) };
    let mut columns = columns.iter().zip(nulls);
    columns.any(|(column, &is_null)| is_null && column.attnotnull)
}

/// Closes a table that `open` returned; its lock stays.
///
/// # Safety
/// The relation must be open.
pub unsafe fn close(table: Relation) {
    // SAFETY: as the caller says.
    unsafe { pg_sys::table_close(table, pg_sys::NoLock as i32) };
}

/// The oid of a relation of ours.
pub fn oid(name: &CStr) -> Oid {
    // SAFETY: looks two names up; what is not there is INVALID.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"flashsale".as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    }
}

/// The next value of a sequence of ours.
pub fn next_value(sequence: Oid) -> i64 {
    // SAFETY: the function behind nextval(regclass).
    unsafe { direct_function_call(pg_sys::nextval_oid, &[sequence.into_datum()]) }
        .expect("a sequence has a next value")
}

/// A slot of the table's with a row that is yet to be written.
///
/// # Safety
/// The table must be open and have as many columns as the row.
pub unsafe fn slot<const COLUMNS: usize>(
    table: Relation,
    row: [Option<Datum>; COLUMNS],
) -> *mut TupleTableSlot {
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

/// Enters a row that was just written into the target's indexes, whose duplicates are errors.
///
/// # Safety
/// The slot must hold the row and its place, and the target's indexes be open. None of them
/// may belong to a deferrable constraint: that would have a trigger, so the table's would not
/// be written like this.
pub unsafe fn index(
    target: &mut ResultRelInfo,
    slot: *mut TupleTableSlot,
    state: *mut EState,
    is_update: bool,
) {
    let no_conflict = std::ptr::null_mut();
    let no_arbiters = std::ptr::null_mut();
    // SAFETY: as the caller says, so that it returns no work for triggers.
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
