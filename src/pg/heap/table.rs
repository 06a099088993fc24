//! Open tables, ctids, pinned buffers and snapshots.

use crate::pg::transaction;
use pgrx::itemptr::{item_pointer_to_u64, u64_to_item_pointer};
use pgrx::pg_sys::{self, AclResult, Datum, HeapTupleData, ItemPointerData, Oid, TupleDesc};
use pgrx::{FromDatum, IntoDatum, PgTupleDesc};
use std::ffi::CStr;
use std::thread::panicking;

/// The ctid of a version of a row. Once no snapshot needs that version, another row may get the
/// same ctid. So it serves only to look there, by [`Table::at()`] or by `WHERE ctid = …`; nothing
/// is locked or updated by its ctid alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ctid(u64);

impl Ctid {
    pub(super) fn of(tuple: &HeapTupleData) -> Self {
        Self(item_pointer_to_u64(tuple.t_self))
    }

    pub(super) fn block(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(super) fn item_pointer(self) -> ItemPointerData {
        let mut pointer = ItemPointerData::default();
        u64_to_item_pointer(self.0, &mut pointer);
        pointer
    }

    /// A tuple that has only its ctid so far.
    pub(super) fn tuple(self) -> HeapTupleData {
        HeapTupleData {
            t_self: self.item_pointer(),
            ..Default::default()
        }
    }
}

impl FromDatum for Ctid {
    unsafe fn from_polymorphic_datum(datum: Datum, is_null: bool, oid: Oid) -> Option<Self> {
        // SAFETY: as the caller says.
        let pointer = unsafe { ItemPointerData::from_polymorphic_datum(datum, is_null, oid) };
        pointer.map(|pointer| Self(item_pointer_to_u64(pointer)))
    }
}

impl IntoDatum for Ctid {
    fn into_datum(self) -> Option<Datum> {
        self.item_pointer().into_datum()
    }

    fn type_oid() -> Oid {
        pg_sys::TIDOID
    }
}

/// The relation of that name; INVALID if there is none.
pub(super) fn oid_of(schema: &CStr, name: &CStr) -> Oid {
    // SAFETY: NUL-terminated names, looked up in a transaction. No relation is in the schema INVALID.
    unsafe {
        let schema = pg_sys::get_namespace_oid(schema.as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    }
}

/// An open relation. Its lock stays until the transaction ends.
pub(super) struct Relation(pub(super) pg_sys::Relation);

impl Relation {
    /// `None` if there is no relation of that name, or if the name had been given to another one by
    /// the time the lock was obtained.
    pub(super) fn open(schema: &CStr, name: &CStr, lock: u32) -> Option<Self> {
        let named = || oid_of(schema, name);
        // SAFETY: if there is none of that name, its oid is INVALID, for which null is returned.
        let relation = unsafe { pg_sys::try_relation_open(named(), lock as i32) };
        let relation = (!relation.is_null()).then(|| Self(relation))?;
        (relation.oid() == named()).then_some(relation)
    }

    pub(super) fn oid(&self) -> Oid {
        // SAFETY: a field of an open relation.
        unsafe { (*self.0).rd_id }
    }

    pub(super) fn descriptor(&self) -> TupleDesc {
        // SAFETY: a field of an open relation.
        unsafe { (*self.0).rd_att }
    }

    pub(super) fn columns(&self) -> PgTupleDesc<'_> {
        // SAFETY: the descriptor stays as long as the relation is open, which is borrowed.
        unsafe { PgTupleDesc::from_pg_unchecked(self.descriptor()) }
    }

    fn is_heap(&self) -> bool {
        // SAFETY: a field of an open relation.
        let class = unsafe { &*(*self.0).rd_rel };
        class.relkind as u8 == pg_sys::RELKIND_RELATION && class.relam == pg_sys::HEAP_TABLE_AM_OID
    }

    /// Whether the block that the ctid names is still part of the table.
    pub(super) fn reaches(&self, ctid: Ctid) -> bool {
        let main = pg_sys::ForkNumber::MAIN_FORKNUM;
        // SAFETY: the relation is open.
        ctid.block() < unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.0, main) }
    }
}

impl Drop for Relation {
    fn drop(&mut self) {
        if !panicking() {
            // SAFETY: open() opened it, and nothing else closes it.
            unsafe { pg_sys::relation_close(self.0, pg_sys::NoLock as i32) };
        }
    }
}

/// A pinned buffer.
pub(super) struct Pin(pub(super) pg_sys::Buffer);

impl Drop for Pin {
    fn drop(&mut self) {
        if !panicking() {
            // SAFETY: where this value was made, the buffer was pinned for it.
            unsafe { pg_sys::ReleaseBuffer(self.0) };
        }
    }
}

/// Whether a table has a row now; false if there is none of that name, or if it is not a heap. Takes
/// the table lock of a SELECT, which stays until the transaction ends. Reads up to the first row, so
/// it may be called while the table is about to be dropped.
pub fn has_rows(schema: &CStr, name: &CStr) -> bool {
    let Some(relation) = Relation::open(schema, name, pg_sys::AccessShareLock) else {
        return false;
    };
    if !relation.is_heap() {
        return false;
    }
    // SAFETY: the relation is an open heap, and the scan ends before its snapshot. An error leaves both to
    // the rollback.
    unsafe {
        let snapshot = Snapshot(pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot()));
        let scan = pg_sys::table_beginscan(relation.0, snapshot.0, 0, std::ptr::null_mut());
        let first = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
        pg_sys::table_endscan(scan);
        !first.is_null()
    }
}

/// A registered snapshot.
pub struct Snapshot(pub(super) pg_sys::Snapshot);

impl Drop for Snapshot {
    fn drop(&mut self) {
        if !panicking() {
            // SAFETY: where this value was made, the snapshot was registered for it.
            unsafe { pg_sys::UnregisterSnapshot(self.0) };
        }
    }
}

/// What a table is opened for. Determines its lock and the privileges that are checked.
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

/// An open table: a plain heap with `N` columns, none of which was dropped.
pub struct Table<const N: usize> {
    pub(super) relation: Relation,
    pub(super) purpose: Purpose,
}

impl<const N: usize> Table<N> {
    /// `None` if there is no such table, if the current user lacks a privilege on the whole of it,
    /// or in a transaction that is read-only or has one snapshot for all its statements.
    pub fn open(schema: &CStr, name: &CStr, purpose: Purpose) -> Option<Self> {
        if transaction::is_read_only() || transaction::has_one_snapshot() {
            return None;
        }
        let relation = Relation::open(schema, name, purpose.lock())?;
        let table = Self { relation, purpose };
        (table.is_plain() && table.is_allowed()).then_some(table)
    }

    fn is_plain(&self) -> bool {
        let columns = self.relation.columns();
        self.relation.is_heap()
            && columns.len() == N
            && columns.iter().all(|column| !column.attisdropped)
    }

    fn is_allowed(&self) -> bool {
        // SAFETY: reads catalogs, in a transaction, as the table is open.
        let has = |right: u32| unsafe {
            pg_sys::pg_class_aclcheck(self.oid(), pg_sys::GetUserId(), right as pg_sys::AclMode)
        };
        let mut rights = self.purpose.rights().iter();
        rights.all(|&right| has(right) == AclResult::ACLCHECK_OK)
    }

    pub(super) fn oid(&self) -> Oid {
        self.relation.oid()
    }

    /// A new snapshot. It is taken after the table's lock, so it sees what those committed for whom
    /// the lock had to wait; and it sees what the statement around the call has done.
    pub fn snapshot(&self) -> Snapshot {
        // SAFETY: in a transaction, as the table is open. Registering copies the snapshot, and the
        // copy stays until it is unregistered.
        unsafe {
            pg_sys::CommandCounterIncrement();
            Snapshot(pg_sys::RegisterSnapshot(pg_sys::GetTransactionSnapshot()))
        }
    }

    pub(super) fn type_of(&self, column: usize) -> Oid {
        let columns = self.relation.columns();
        columns.get(column).expect("a column").atttypid
    }
}
