//! What goes by another name, or takes other arguments, in one of PostgreSQL 15 to 18.

#[cfg(not(feature = "pg18"))]
pub use pgrx::pg_sys::pqsignal;
/// Sets what a signal calls. 18 tells the server's from that of client programs.
#[cfg(feature = "pg18")]
pub use pgrx::pg_sys::pqsignal_be as pqsignal;
