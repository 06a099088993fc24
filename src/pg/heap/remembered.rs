//! What was found out about a table, kept until its definition may have changed.

use super::table::{Table, oid_of};
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::ffi::CStr;

thread_local! {
    /// Tables about which something is remembered.
    static WATCHED: RefCell<Vec<Oid>> = const { RefCell::new(Vec::new()) };
    /// How often one of their definitions may have changed.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
}

/// What was found out about a table, until PostgreSQL says that its definition may have changed.
pub struct Remembered<T>(Cell<Option<(Oid, u64, T)>>);

impl<T: Copy> Remembered<T> {
    pub const fn nothing() -> Self {
        Self(Cell::new(None))
    }

    /// The result of `find_out` for the table, which is called only if that is not remembered. When
    /// the table was locked, all earlier invalidations were processed, and the lock prevents the
    /// changes that would matter.
    pub fn about<const N: usize>(
        &self,
        table: &Table<N>,
        find_out: impl FnOnce(&Table<N>) -> T,
    ) -> T {
        let (oid, changes) = (table.oid(), CHANGES.get());
        if let Some((of, at, known)) = self.0.get()
            && (of, at) == (oid, changes)
        {
            return known;
        }
        watch(oid);
        let known = find_out(table);
        self.0.set(Some((oid, changes, known)));
        known
    }

    /// The result of `find_out`, which reads rows of the table of that name; called only if it is not
    /// remembered. Who changes these rows calls [`rows_have_changed()`]. A session learns of that when
    /// it begins a transaction, or obtains a lock.
    pub fn about_rows<E>(
        &self,
        schema: &CStr,
        name: &CStr,
        find_out: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let changes = CHANGES.get();
        if let Some((_, at, known)) = self.0.get()
            && at == changes
        {
            return Ok(known);
        }
        let oid = oid_of(schema, name);
        watch(oid);
        let changes = CHANGES.get();
        let known = find_out()?;
        self.0.set(Some((oid, changes, known)));
        Ok(known)
    }
}

/// Says that what sessions remember about the rows of a table may have changed: to this one at the end
/// of the command, to others when the transaction commits.
pub fn rows_have_changed(schema: &CStr, name: &CStr) {
    // SAFETY: in a transaction. If there is no such table, there is nothing to say.
    unsafe {
        let oid = oid_of(schema, name);
        if oid != Oid::INVALID {
            pg_sys::CacheInvalidateRelcacheByRelid(oid);
        }
    }
}

fn watch(oid: Oid) {
    WATCHED.with_borrow_mut(|watched| {
        if watched.is_empty() {
            // SAFETY: the callback lives as long as the library, which is never unloaded. It
            // borrows WATCHED, which is borrowed mutably only here, where no invalidation is
            // processed.
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
