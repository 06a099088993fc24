//! Attempts to insert rows that get their ids from sequences.

use crate::attempt::{self, Caught};
use crate::error::Fault;
use crate::pg::subtransaction::End;
use crate::store::sequences;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::spi::SpiClient;

/// How often to try again after the sequence was behind its table. Once is enough, unless open
/// transactions have written more ids than the sequence was moved past.
pub const RETRIES: u32 = 3;

/// Like [`attempt::attempt`], but if the id of a new row is taken, its sequence is moved past the
/// table, and `body` runs again.
pub fn attempt<T>(
    body: impl Fn(&SpiClient<'_>) -> Result<End<T>, Fault>,
) -> Result<Result<T, Caught>, Fault> {
    let mut retries = 0;
    loop {
        let tried = attempt::attempt(&body)?;
        let Err(Caught::DuplicateKey(error)) = tried else {
            return Ok(tried);
        };
        if retries == RETRIES || !is_sequence_moved(&error)? {
            return Ok(Err(Caught::DuplicateKey(error)));
        }
        retries += 1;
    }
}

/// Like [`attempt()`]; `None` if a lock was refused, and any other duplicate key is raised.
pub fn attempt_or_busy<T>(
    body: impl Fn(&SpiClient<'_>) -> Result<End<T>, Fault>,
) -> Result<Option<T>, Fault> {
    attempt::answered(attempt(body)?)
}

/// Whether the error says that an id is taken, which the sequence will not return again. False if
/// others are moving a sequence for too long.
fn is_sequence_moved(error: &CaughtError) -> Result<bool, Fault> {
    let message = Fault::from(error).to_string();
    let moved = attempt::attempt_or_busy(|client| {
        sequences::move_past_taken(client, &message).map(End::RollBack)
    })?;
    Ok(moved.unwrap_or_default())
}
