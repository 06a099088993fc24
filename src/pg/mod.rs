//! PostgreSQL's own functions and variables, behind names that are safe to use.

pub mod clock;
pub mod guc;
pub mod jsonb;
pub mod memory;
pub mod version;
pub mod wait;
pub mod wal;
pub mod worker;
