//! Strategy `nowait`: takes the item's row if nobody holds it, else answers busy at once.

use super::fit::Request;
use super::{Outcome, serve};
use crate::attempt::{Verdict, attempt_or_busy};
use crate::backoff::jittered_delay;
use crate::error::Fault;
use crate::settings;
use crate::store::items;
use pgrx::pg_sys;
use pgrx::spi::SpiClient;

/// Holds no lock between its tries.
pub fn purchase(request: &Request<'_>) -> Result<Outcome, Fault> {
    for _ in 0..settings::nowait_retries() {
        match attempt_or_busy(|client| once(client, request))? {
            None | Some(Outcome::Busy) => pause(),
            Some(outcome) => return Ok(outcome),
        }
    }
    Ok(attempt_or_busy(|client| once(client, request))?.unwrap_or(Outcome::Busy))
}

fn once(client: &SpiClient<'_>, request: &Request<'_>) -> Result<Verdict<Outcome>, Fault> {
    if let Some(replayed) = serve::replay(client, request)? {
        return Ok(Verdict::Undo(replayed));
    }
    match items::lock_sellable(client, request.item_id)? {
        Some(item) => serve::serve(client, &item, request),
        None => serve::refuse_unheld(client, request),
    }
}

/// Sleeps for a jittered `flashsale.retry_delay`; a cancel or shutdown ends it.
fn pause() {
    let micros = jittered_delay();
    // SAFETY: the latch is this backend's own.
    unsafe {
        let wake = (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32;
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            wake,
            (micros / 1_000).max(1),
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}
