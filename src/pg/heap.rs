//! Pages of a table.

use pgrx::pg_sys::{self, ForkNumber, Oid};

/// Prunes a page of a table, as a scan that comes by does: row versions that nobody can see any
/// more give way to the next. Does nothing while the page has room enough, nor to a table that is
/// no heap, nor beyond its end. Takes the lock of a SELECT, which stays until the transaction ends.
pub fn prune(table: Oid, block: u32) {
    // SAFETY: the relation is open and its buffer pinned while they are used; pruning takes the
    // buffer's lock itself, if it is free.
    unsafe {
        let table = pg_sys::try_relation_open(table, pg_sys::AccessShareLock as i32);
        let Some(relation) = table.as_ref() else {
            return;
        };
        let class = &*relation.rd_rel;
        let blocks = || pg_sys::RelationGetNumberOfBlocksInFork(table, ForkNumber::MAIN_FORKNUM);
        if class.relkind as u8 == pg_sys::RELKIND_RELATION
            && class.relam == pg_sys::HEAP_TABLE_AM_OID
            && block < blocks()
        {
            let buffer = pg_sys::ReadBuffer(table, block);
            pg_sys::heap_page_prune_opt(table, buffer);
            pg_sys::ReleaseBuffer(buffer);
        }
        pg_sys::relation_close(table, pg_sys::NoLock as i32);
    }
}
