//! Direct table access: rows are read, locked, rewritten and appended without the executor, whose
//! setup costs a purchase more than all four.
//!
//! Safe to call, but that alone does not make it right: triggers, constraints, defaults, rules, row
//! security and children are the executor's work, and nothing here honours them. The caller must
//! have compared the table's definition, and keeps the result in a [`Remembered`].
//!
//! What is opened, pinned or registered here is a value that gives it back when dropped, except
//! while an error unwinds: then the rollback does, and giving back twice would be an error itself.

mod remembered;
mod row;
mod table;
mod write;

pub use remembered::Remembered;
pub use row::{Attempt, Seen};
pub use table::{Ctid, Purpose, Snapshot, Table, prune};
pub use write::{Value, next_value};
