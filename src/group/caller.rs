//! The caller's side of the queue: it joins the queue, waits, and returns the true outcome of its
//! request, or an error if the outcome cannot be known.

use super::queue::{Queue, queue};
use super::request::{Call, Error, QueuedReply, Reply};
use crate::error::Fault;
use crate::pg::clock;
use crate::pg::wait::{self, WaitFor};
use crate::pg::wal;
use crate::pg::worker::Worker;
use crate::pg::{session, transaction};
use crate::{settings, workers};
use flashsale_core::cancel::{Cancel, Cancelled};
use flashsale_core::fit::Request;
use flashsale_core::order::Moved;
use flashsale_core::outcome::Outcome;
use flashsale_core::slots::{Collected, Ticket};
use flashsale_core::time::{Micros, left_ms};
use pgrx::pg_sys::TransactionId;
use std::cell::{Cell, OnceCell};

/// How long to sleep between checks whether a transaction has ended.
const TRANSACTION_END_POLL_MS: i64 = 1;

/// Raises an error if the seller cannot serve this caller.
pub fn check_caller() -> Result<(), Fault> {
    preloaded()?;
    if !is_sellers_database() {
        return Err(Fault::OtherDatabase);
    }
    if transaction::is_read_only() {
        return Err(Fault::ReadOnly);
    }
    if let Some(why) = unfit_caller() {
        return Err(Fault::NotOnItsOwn(why));
    }
    workers::no_seller().map_or(Ok(()), |why| Err(Fault::NoSeller(why)))
}

fn preloaded() -> Result<Queue, Fault> {
    queue().ok_or(Fault::NotPreloaded("strategy grouped"))
}

/// Passes a purchase to the seller and returns its outcome. Call [`check_caller`] before.
pub fn purchase(request: &Request<'_>) -> Result<Outcome, Fault> {
    let queue = preloaded()?;
    match submit(queue, &Call::Purchase(*request))? {
        Reply::Outcome(outcome) => Ok(outcome),
        _ => Err(Fault::Broken("a purchase was answered as a cancel")),
    }
}

/// Passes a cancel to the seller, which restores the units of many orders at once. `None` if the
/// seller cannot make it, so that it has to be made in the caller's transaction.
pub fn cancel(cancel: &Cancel<'_>) -> Result<Option<Moved<Cancelled>>, Fault> {
    let Some(queue) = queue() else {
        return Ok(None);
    };
    if check_caller().is_err() || !workers::is_at_work(Worker::Seller) {
        return Ok(None);
    }
    match submit(queue, &Call::Cancel(*cancel))? {
        Reply::Cancelled(cancelled) => Ok(Some(cancelled)),
        Reply::Outcome(Outcome::Busy) => Ok(Some(Moved::Busy)),
        _ => Err(Fault::Broken("a cancel was answered as a purchase")),
    }
}

/// Queues the request and waits for its reply. The caller has touched no table and holds no lock
/// meanwhile: otherwise an ALTER TABLE that waits for it, and for which the seller waits, would be
/// a deadlock that PostgreSQL cannot detect.
fn submit(queue: Queue, call: &Call<'_>) -> Result<Reply, Fault> {
    let Some((ticket, room)) = queue.join(call) else {
        return Ok(Reply::BUSY);
    };
    let reply = match HeldSlot::new(queue, ticket, room).wait()? {
        Some(Collected::Answered(answered)) => answered.reply,
        Some(Collected::Orphaned(Some(QueuedReply {
            reply,
            transaction: Some(transaction),
        }))) => orphaned(call, transaction, reply)?,
        // The request was not tried, or its transaction wrote nothing.
        Some(Collected::Orphaned(_)) | None => Reply::BUSY,
    };
    match reply {
        Reply::Error(error) => Err(raised(&error)),
        reply => Ok(reply),
    }
}

thread_local! {
    static IN_SELLERS_DATABASE: OnceCell<bool> = const { OnceCell::new() };
}

/// Whether this session's database is the one that the seller serves, whether or not a seller runs
/// now. That cannot change while the session lasts.
fn is_sellers_database() -> bool {
    IN_SELLERS_DATABASE
        .with(|known| *known.get_or_init(|| session::database_name() == Some(settings::database())))
}

/// Why the seller, which commits on its own, cannot serve the caller's transaction (25001).
fn unfit_caller() -> Option<&'static str> {
    if transaction::is_in_block() {
        Some("in a transaction block or subtransaction")
    } else if transaction::id().is_some() {
        Some("after the transaction has written")
    } else if transaction::has_one_snapshot() {
        Some("under REPEATABLE READ or SERIALIZABLE")
    } else {
        None
    }
}

fn raised(error: &Error) -> Fault {
    let [message, detail, hint] = error.texts().map(str::to_owned);
    Fault::Raised {
        sqlstate: error.sqlstate.into(),
        message,
        detail,
        hint,
    }
}

thread_local! {
    /// The slot that this backend holds, for an exit that runs no destructors.
    static HELD: Cell<Option<Ticket>> = const { Cell::new(None) };
    static EXIT_HOOKED: Cell<bool> = const { Cell::new(false) };
}

/// A slot of the queue, left when dropped: on a reply, an error or a cancel.
struct HeldSlot {
    queue: Queue,
    ticket: Ticket,
    room: u32,
    since: Micros,
}

impl HeldSlot {
    fn new(queue: Queue, ticket: Ticket, room: u32) -> Self {
        HELD.set(Some(ticket));
        if !EXIT_HOOKED.replace(true) {
            session::before_exit(leave_held);
        }
        Self {
            queue,
            ticket,
            room,
            since: clock::monotonic(),
        }
    }

    /// Waits for the reply. `None` if the seller did not take the request within
    /// `flashsale.group_wait`; then the request is withdrawn. An error if there is no seller.
    fn wait(&self) -> Result<Option<Collected<QueuedReply>>, Fault> {
        loop {
            if !self.queue.is_pending(self.ticket)
                && let Some(collected) = self.queue.collect(self.ticket)
            {
                HELD.set(None);
                return Ok(Some(collected));
            }
            let left_ms = left_ms(self.since, clock::monotonic(), settings::group_wait_ms());
            // Once the seller has taken the request, only the seller knows its outcome.
            let no_seller = workers::no_seller();
            if (left_ms <= 0 || no_seller.is_some()) && self.queue.withdraw(self.ticket) {
                HELD.set(None);
                return no_seller.map_or(Ok(None), |why| Err(Fault::NoSeller(why)));
            }
            self.queue.park(self.ticket, self.room, left_ms.max(50));
        }
    }
}

impl Drop for HeldSlot {
    fn drop(&mut self) {
        leave_held();
    }
}

fn leave_held() {
    if let Some(ticket) = HELD.take()
        && let Some(queue) = queue()
    {
        queue.leave(ticket);
    }
}

/// The reply to a request whose seller died: it depends on whether the seller's transaction
/// committed.
fn orphaned(call: &Call<'_>, id: TransactionId, reply: Reply) -> Result<Reply, Fault> {
    while transaction::is_in_progress(id) {
        wait::sleep(WaitFor::SellersTransaction, TRANSACTION_END_POLL_MS);
    }
    if !transaction::has_committed(id) {
        return Ok(Reply::BUSY);
    }
    let changed = match (&reply, call) {
        (Reply::Outcome(Outcome::Reserved { order, .. }), _) => Some(order.order_ref.order_id),
        (Reply::Cancelled(Moved::Done(_)), Call::Cancel(cancel)) => Some(cancel.order_id),
        _ => None,
    };
    match changed {
        Some(order_id) if !wal::make_seen_commits_durable() => Err(Fault::OutcomeUnknown(order_id)),
        _ => Ok(reply),
    }
}
