//! Direct table access: rows are read, locked, updated and inserted without the executor. For a
//! purchase, setting up the executor costs more than all four.
//!
//! It is memory-safe, but right only for some tables: triggers, constraints, defaults, rules, row
//! security and children are the executor's work, and nothing here respects them. So the caller
//! must compare the table's definition first; a [`Remembered`] keeps the result.
//!
//! Whatever is opened, pinned or registered is released by `Drop`, except while an error unwinds:
//! then the rollback releases it, and a second release would be an error.

mod definition;
mod remembered;
mod row;
mod strength;
mod table;
mod write;

pub use definition::Write;
pub use remembered::{Remembered, rows_have_changed};
pub use row::{LockResult, Seen};
pub use strength::{Strength, lock_for_update, strength};
pub use table::{Ctid, Purpose, Snapshot, Table, has_rows};
pub use write::{Updated, Value, next_value};
