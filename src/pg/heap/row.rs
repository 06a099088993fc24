//! Versions of rows as a snapshot sees them: found, read and locked.

use super::strength::Strength;
use super::table::{Ctid, Pin, Purpose, Relation, Snapshot, Table};
use flashsale_core::time::Micros;
use pgrx::FromDatum;
use pgrx::pg_sys::{self, Datum, HeapTuple, HeapTupleData, Oid, SysScanDesc, TM_Result};
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::null_mut;
use std::thread::panicking;

impl<const N: usize> Table<N> {
    /// The row with this primary key, if there is one and the snapshot sees it. Looks first at the
    /// ctid where the caller saw it last, and then reads the index backwards. While there is an old
    /// snapshot, the row's earlier versions cannot be removed, and the index leads to all of them,
    /// in the order of their ctids. The last is usually the newest, because the table grows at its
    /// end.
    pub fn find<'s>(
        &'s self,
        snapshot: &'s Snapshot,
        key: i64,
        last: Option<Ctid>,
    ) -> Result<Option<Seen<'s, N>>, OtherKey> {
        if !self.has_key_in_column_0() {
            return Err(OtherKey);
        }
        let row = last.and_then(|ctid| self.at(snapshot, self.latest(snapshot, ctid)?));
        // Another row may have that ctid by now. A snapshot sees at most one version of a row.
        if let Some(row) = row.filter(|row| row.int8(0) == Some(key)) {
            return Ok(Some(row));
        }
        let scan = KeyScan::begin(&self.relation, snapshot, key);
        // SAFETY: the scan is open, and its tuple, which is of the table, is copied before it ends.
        unsafe {
            let backward = pg_sys::ScanDirection::BackwardScanDirection;
            let tuple = pg_sys::systable_getnext_ordered(scan.descriptor, backward).as_ref();
            Ok(tuple.map(|tuple| Seen::copy(self, tuple)))
        }
    }

    /// Where the updates of the version at a ctid lead to, as far as the snapshot sees them. Prunes
    /// the page there, as an index scan would: else nothing would, and the row would soon have to
    /// move to another page.
    fn latest(&self, snapshot: &Snapshot, ctid: Ctid) -> Option<Ctid> {
        if !self.relation.reaches(ctid) {
            return None; // the table has been truncated or rewritten
        }
        let mut tuple = ctid.tuple();
        // SAFETY: the block is within the open relation, a heap. The function checks that each
        // version that it goes to was made by the transaction which replaced the one before. The
        // buffer to be pruned is pinned and not locked.
        unsafe {
            let (no_keys, no_other) = (null_mut(), null_mut());
            let kind = pg_sys::ScanOptions::SO_TYPE_TIDSCAN;
            let relation = self.relation.0;
            let scan = pg_sys::heap_beginscan(relation, snapshot.0, 0, no_keys, no_other, kind);
            pg_sys::heap_get_latest_tid(scan, &mut tuple.t_self);
            pg_sys::heap_endscan(scan);
            let latest = Ctid::of(&tuple);
            let pin = Pin(pg_sys::ReadBuffer(relation, latest.block()));
            pg_sys::heap_page_prune_opt(relation, pin.0);
            Some(latest)
        }
    }

    fn has_key_in_column_0(&self) -> bool {
        use pg_sys::IndexAttrBitmapKind::INDEX_ATTR_BITMAP_PRIMARY_KEY as PRIMARY_KEY;
        let relation = self.relation.0;
        let mut column = 0;
        // SAFETY: the relation is open. The bitmap is a copy, which is freed once. Computing it
        // also sets rd_pkindex.
        unsafe {
            let columns = pg_sys::RelationGetIndexAttrBitmap(relation, PRIMARY_KEY);
            let is_one = pg_sys::bms_get_singleton_member(columns, &mut column);
            pg_sys::bms_free(columns);
            (*relation).rd_pkindex != Oid::INVALID
                && is_one
                && column == 1 - pg_sys::FirstLowInvalidHeapAttributeNumber
                && self.type_of(0) == pg_sys::INT8OID
        }
    }

    /// The version of a row at a ctid, if there is one and the snapshot sees it.
    pub fn at<'s>(&'s self, snapshot: &'s Snapshot, ctid: Ctid) -> Option<Seen<'s, N>> {
        if !self.relation.reaches(ctid) {
            return None; // the table has been truncated or rewritten
        }
        let mut tuple = ctid.tuple();
        let mut buffer = 0;
        // SAFETY: the block is within the open relation. If heap_fetch finds the version, it has
        // pinned the buffer, and the tuple is copied before the pin is released.
        unsafe {
            let relation = self.relation.0;
            if !pg_sys::heap_fetch(relation, snapshot.0, &mut tuple, &mut buffer, false) {
                return None;
            }
            let _pin = Pin(buffer);
            Some(Seen::copy(self, &tuple))
        }
    }
}

/// The table has no primary key, or one that is not a single bigint in column 0.
#[derive(Debug)]
pub struct OtherKey;

/// A scan of a primary key in column 0, in the order of the index.
struct KeyScan<'s> {
    descriptor: SysScanDesc,
    index: pg_sys::Relation,
    relation: PhantomData<(&'s Relation, &'s Snapshot)>,
}

impl<'s> KeyScan<'s> {
    fn begin(relation: &'s Relation, snapshot: &'s Snapshot, key: i64) -> Self {
        // SAFETY: the relation is open and the snapshot registered for longer than the scan, which
        // copies the key. has_key_in_column_0() has checked the index and the type of its column.
        unsafe {
            let mut sought = pg_sys::ScanKeyData::default();
            pg_sys::ScanKeyInit(
                &mut sought,
                1,
                pg_sys::BTEqualStrategyNumber as u16,
                pg_sys::F_INT8EQ.into(),
                Datum::from(key),
            );
            let table = relation.0;
            let index = pg_sys::index_open((*table).rd_pkindex, Self::LOCK);
            Self {
                descriptor: pg_sys::systable_beginscan_ordered(
                    table,
                    index,
                    snapshot.0,
                    1,
                    &mut sought,
                ),
                index,
                relation: PhantomData,
            }
        }
    }

    const LOCK: i32 = pg_sys::AccessShareLock as i32;
}

impl Drop for KeyScan<'_> {
    fn drop(&mut self) {
        if !panicking() {
            // SAFETY: begin() began the scan and opened the index, and nothing else ends either.
            unsafe {
                pg_sys::systable_endscan_ordered(self.descriptor);
                pg_sys::index_close(self.index, Self::LOCK);
            }
        }
    }
}

/// A version of a row as a snapshot sees it, copied.
///
/// Only a `Seen` can be locked or updated. While its snapshot is registered, the version keeps its
/// ctid; afterwards that may belong to another row, which would then be locked or overwritten. The
/// lifetime prevents that: a `Seen` outlives neither its snapshot nor its table, and `update()`
/// consumes it. Its [`Ctid`] may be kept longer, but serves only to look again.
pub struct Seen<'s, const N: usize> {
    pub(super) table: &'s Table<N>,
    pub(super) tuple: HeapTuple,
    values: [Datum; N],
    nulls: [bool; N],
}

/// A [`Seen`] whose row is locked until the transaction ends. Only [`Seen`] makes one, so a
/// row that was merely read cannot be mistaken for a locked one.
pub struct Locked<'s, const N: usize>(Seen<'s, N>);

impl<'s, const N: usize> Deref for Locked<'s, N> {
    type Target = Seen<'s, N>;

    fn deref(&self) -> &Seen<'s, N> {
        &self.0
    }
}

/// The result of an attempt to lock a row.
pub enum LockResult<'s, const N: usize> {
    Held(Locked<'s, N>),
    /// Another transaction has changed the row since the snapshot, and has committed.
    Changed,
    /// This transaction has changed it since the snapshot, so a statement has to decide.
    Unclear,
}

impl<'s, const N: usize> Seen<'s, N> {
    /// # Safety
    /// The tuple must be of the table.
    unsafe fn copy(table: &'s Table<N>, tuple: &HeapTupleData) -> Self {
        let mut values = [Datum::null(); N];
        let mut nulls = [true; N];
        let columns = table.relation.descriptor();
        // SAFETY: both arrays have room for the N columns that open() has counted, and the tuple is
        // of the table, so of this descriptor. It is only read.
        unsafe {
            let tuple = pg_sys::heap_copytuple(std::ptr::from_ref(tuple).cast_mut());
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
        // SAFETY: the column has the type that T expects, and its value lies in our copy of the
        // tuple.
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

    /// As extract(epoch FROM interval) computes it: months of 30 days, years of 365.25. Spans that
    /// do not fit are truncated; those of the tables are at most 7 days.
    pub fn span(&self, column: usize) -> Option<Micros> {
        const DAY: i128 = 86_400_000_000;
        assert!(self.table.type_of(column) == pg_sys::INTERVALOID);
        if self.nulls[column] {
            return None;
        }
        // SAFETY: the column is an interval, which is never toasted and lies in our copy of the
        // tuple.
        let interval = unsafe { &*self.values[column].cast_mut_ptr::<pg_sys::Interval>() };
        let (years, months) = (interval.month / 12, interval.month % 12);
        let days = i128::from(months) * 30 + i128::from(interval.day);
        let sum =
            i128::from(interval.time) + days * DAY + i128::from(years) * (365 * DAY + DAY / 4);
        Some(sum as Micros)
    }

    pub fn ctid(&self) -> Ctid {
        // SAFETY: our copy of the tuple, which nothing frees while this exists.
        Ctid::of(unsafe { &*self.tuple })
    }

    /// Locks the row until the transaction ends, in the [`Strength`] of its table; 55P03 at once if
    /// another transaction holds it.
    pub fn lock(self) -> LockResult<'s, N> {
        let strength = self.table.strength();
        self.lock_as(strength, pg_sys::LockWaitPolicy::LockWaitError)
    }

    /// Locks the row FOR NO KEY UPDATE until the transaction ends. Waits for the lock.
    pub fn await_lock(self) -> LockResult<'s, N> {
        self.lock_as(Strength::NoKeyUpdate, pg_sys::LockWaitPolicy::LockWaitBlock)
    }

    fn lock_as(self, strength: Strength, wait: pg_sys::LockWaitPolicy::Type) -> LockResult<'s, N> {
        assert!(matches!(
            self.table.purpose,
            Purpose::Lock | Purpose::Update
        ));
        let mut tuple = self.ctid().tuple();
        let mut buffer = 0;
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: SELECT … FOR … calls it with the same arguments. The snapshot is still
        // registered, so the ctid is that of the version it sees. Unless it raises an error, the
        // buffer is pinned, whatever the result.
        let result = unsafe {
            pg_sys::heap_lock_tuple(
                self.table.relation.0,
                &mut tuple,
                pg_sys::GetCurrentCommandId(false),
                strength.mode(),
                wait,
                true,
                &mut buffer,
                &mut failure,
            )
        };
        drop(Pin(buffer));
        match result {
            TM_Result::TM_Ok => LockResult::Held(Locked(self)),
            TM_Result::TM_Updated | TM_Result::TM_Deleted => LockResult::Changed,
            _ => LockResult::Unclear,
        }
    }
}
