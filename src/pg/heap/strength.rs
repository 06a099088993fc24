//! How strongly a row is locked.

use super::table::{Relation, Table};
use pgrx::pg_sys::{self, LockTupleMode};
use std::ffi::CStr;

/// How strongly a row is locked. Both exclude every other lock of a row, with one exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// FOR UPDATE.
    Update,
    /// FOR NO KEY UPDATE, which goes together with FOR KEY SHARE. An insert into a table that
    /// refers to the row takes that.
    NoKeyUpdate,
}

impl Strength {
    pub(super) fn mode(self) -> LockTupleMode::Type {
        match self {
            Self::Update => LockTupleMode::LockTupleExclusive,
            Self::NoKeyUpdate => LockTupleMode::LockTupleNoKeyExclusive,
        }
    }
}

impl Relation {
    /// The strength in which rows of this table are locked: FOR UPDATE, but FOR NO KEY UPDATE if a
    /// foreign key refers to the table. FOR UPDATE would be refused for the sake of every open
    /// insert of a referring row, and hold up such inserts. Reads no catalog: the foreign key's
    /// triggers on the table are part of the relcache entry, which its addition or removal
    /// invalidates.
    pub(super) fn strength(&self) -> Strength {
        match self.is_referred_to() {
            true => Strength::NoKeyUpdate,
            false => Strength::Update,
        }
    }
}

impl<const N: usize> Table<N> {
    pub(super) fn strength(&self) -> Strength {
        self.relation.strength()
    }
}

/// The strength in which a statement must lock rows of a table. Takes the table lock of a SELECT
/// FOR UPDATE, which stays until the transaction ends.
pub fn strength(schema: &CStr, name: &CStr) -> Strength {
    match Relation::open(schema, name, pg_sys::RowShareLock) {
        Some(relation) => relation.strength(),
        // The statement raises an error.
        None => Strength::Update,
    }
}

/// Takes the table lock of an UPDATE, which stays until the transaction ends. Waits for it.
pub fn lock_for_update(schema: &CStr, name: &CStr) {
    drop(Relation::open(schema, name, pg_sys::RowExclusiveLock));
}
