//! The version of the extension's objects in this database.

use super::{Statement, aside};
use crate::error::Fault;
use crate::pg::session;
use crate::pg::transaction::{has_one_snapshot, with_latest_snapshot};
use pgrx::spi::{Spi, SpiClient};
use std::cell::Cell;

/// The version of the library. Its SQL objects are those of its first two numbers: a version that
/// differs only in the third changes none.
const LIBRARY: &str = env!("CARGO_PKG_VERSION");

/// Locks nothing. It may run under the caller's search path.
static INSTALLED: Statement = Statement::looking(
    "SELECT extversion FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'flashsale'",
    &[],
);

thread_local! {
    /// The `function_changes` at which the versions were found to agree.
    static AGREED_AT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// 55000 if the objects in this database are of another version than the library: before ALTER
/// EXTENSION UPDATE, or after it in a session that has loaded the earlier library. Reads the catalog
/// once, and again when a function of the database has changed. Locks nothing.
pub fn check_version() -> Result<(), Fault> {
    let changes = session::function_changes();
    if AGREED_AT.get() == Some(changes) {
        return Ok(());
    }
    let check = |client: &SpiClient<'_>| -> Result<(), Fault> {
        with_latest_snapshot(|| check_version_now(client))?;
        // To a snapshot from before an update, a table that the update rewrote is empty.
        if has_one_snapshot() {
            check_version_now(client)?;
        }
        Ok(())
    };
    aside(|| Spi::connect(check))?;
    AGREED_AT.set(Some(changes));
    Ok(())
}

/// Like [`check_version()`], but reads the catalog each time.
pub fn check_version_now(client: &SpiClient<'_>) -> Result<(), Fault> {
    let row = INSTALLED.first(client, &[])?;
    let installed = row.map(|row| row.get::<String>(1)).transpose()?.flatten();
    match installed {
        Some(installed) if numbers(&installed) != numbers(LIBRARY) => Err(Fault::OtherVersion {
            is_older: numbers(&installed) < numbers(LIBRARY),
            installed,
            library: LIBRARY,
        }),
        _ => Ok(()),
    }
}

/// The first two numbers of a version.
fn numbers(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn versions_are_compared_by_their_first_two_numbers() {
        assert!(numbers("0.9.1") < numbers("0.10.0"));
        assert!(numbers("0.10.0") < numbers("1.0.0"));
        assert_eq!(numbers("0.2.0"), numbers("0.2.7"));
    }
}
