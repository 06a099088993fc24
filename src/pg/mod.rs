//! PostgreSQL's functions and variables behind a safe interface.

pub mod backtrace;
pub mod catalog;
pub mod clock;
pub mod datum;
pub mod guc;
pub mod heap;
pub mod hooks;
pub mod jsonb;
pub mod memory;
pub mod planner;
pub mod random;
pub mod session;
pub mod signals;
pub mod subtransaction;
pub mod transaction;
pub mod version;
pub mod wait;
pub mod wal;
pub mod worker;
