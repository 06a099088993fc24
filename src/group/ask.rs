//! A buyer's side of the queue: joins it, waits, and never guesses at what became of its request.

use super::queue::{self, Ask, Error, Found, QUEUE, Queue, Reply, Ticket};
use crate::error::Fault;
use crate::pg::clock;
use crate::pg::memory::LwLock;
use crate::pg::wait::{self, WaitFor};
use crate::pg::wal;
use crate::pg::{session, transaction};
use crate::settings;
use flashsale_core::cancel::{Cancel, Cancelled};
use flashsale_core::fit::Request;
use flashsale_core::outcome::Outcome;
use flashsale_core::time::Micros;
use pgrx::pg_sys::TransactionId;
use std::cell::{Cell, OnceCell};

/// How long to sleep between looks at a transaction that is about to end.
const TRANSACTION_END_POLL_MS: i64 = 1;

/// Refuses a caller whom the seller cannot serve.
pub fn check_caller() -> Result<(), Fault> {
    QUEUE.get().ok_or(Fault::NotPreloaded("strategy grouped"))?;
    if !is_sellers_database() {
        return Err(Fault::OtherDatabase);
    }
    if transaction::is_read_only() {
        return Err(Fault::ReadOnly);
    }
    unfit_caller().map_or(Ok(()), |why| Err(Fault::NotOnItsOwn(why)))
}

/// Hands a purchase of a caller who was checked to the seller and returns its outcome.
pub fn purchase(request: &Request<'_>) -> Result<Outcome, Fault> {
    let queue = QUEUE.get().ok_or(Fault::NotPreloaded("strategy grouped"))?;
    match hand_over(queue, &Ask::Purchase(*request))? {
        Reply::Outcome(outcome) => Ok(outcome),
        _ => Err(Fault::Broken("a purchase was answered as a cancel")),
    }
}

/// Hands a cancel to the seller, which returns the units of many orders at once; `None`
/// where that is not possible and the caller has to do it itself.
pub fn cancel(cancel: &Cancel<'_>) -> Result<Option<Cancelled>, Fault> {
    let Some(queue) = QUEUE.get() else {
        return Ok(None);
    };
    if check_caller().is_err() || !queue::is_served() {
        return Ok(None);
    }
    match hand_over(queue, &Ask::Cancel(*cancel))? {
        Reply::Cancelled(cancelled) => Ok(Some(cancelled)),
        Reply::Outcome(Outcome::Busy) => Ok(Some(Cancelled::Busy)),
        _ => Err(Fault::Broken("a cancel was answered as a purchase")),
    }
}

/// Queues the request and waits. Holds no lock meanwhile, and has not touched a table: an
/// ALTER TABLE between us and the seller would be a deadlock that nobody can see.
fn hand_over(queue: &LwLock<Queue>, ask: &Ask<'_>) -> Result<Reply, Fault> {
    let Some(ticket) = queue::join(queue, ask) else {
        return Ok(busy());
    };
    let reply = match Place::hold(queue, ticket).answer()? {
        Found::Answered(reply) => reply,
        Found::Orphaned {
            xid,
            reply: Some(reply),
        } => orphaned(ask, xid, reply)?,
        // It was not even tried.
        Found::Orphaned { reply: None, .. } | Found::Waiting => busy(),
    };
    match reply {
        Reply::Error(error) => Err(raised(&error)),
        reply => Ok(reply),
    }
}

fn busy() -> Reply {
    Reply::Outcome(Outcome::Busy)
}

thread_local! {
    static IN_SELLERS_DATABASE: OnceCell<bool> = const { OnceCell::new() };
}

/// Whether this is the database that the seller works for, if there is a seller just now or
/// not. It cannot change under a connected backend.
fn is_sellers_database() -> bool {
    IN_SELLERS_DATABASE
        .with(|known| *known.get_or_init(|| session::database_name() == Some(settings::database())))
}

/// Why what commits on its own cannot be part of the caller's transaction (25001).
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
    /// The place this backend holds, for the exit that no destructor sees.
    static HELD: Cell<Option<Ticket>> = const { Cell::new(None) };
    static EXIT_HOOKED: Cell<bool> = const { Cell::new(false) };
}

/// A place in the queue, left when dropped: on an answer, an error or a cancel.
struct Place<'a> {
    queue: &'a LwLock<Queue>,
    ticket: Ticket,
    since: Micros,
}

impl<'a> Place<'a> {
    fn hold(queue: &'a LwLock<Queue>, ticket: Ticket) -> Self {
        HELD.set(Some(ticket));
        if !EXIT_HOOKED.replace(true) {
            session::before_exit(leave_at_exit);
        }
        Self {
            queue,
            ticket,
            since: clock::now(),
        }
    }

    /// Waits for what there is to find. Still waiting is what it returns where nobody took
    /// the request within `flashsale.group_wait`, and nobody will.
    fn answer(&self) -> Result<Found, Fault> {
        loop {
            if wait::yielding(|| !queue::is_waiting(self.ticket)) {
                match queue::look(self.queue, self.ticket) {
                    Found::Waiting => {}
                    Found::Answered(reply) => {
                        HELD.set(None);
                        return Ok(Found::Answered(reply));
                    }
                    orphaned => return Ok(orphaned),
                }
            }
            let patience = settings::group_wait_ms();
            let waited_ms = (clock::now() - self.since) / 1_000;
            // Once it is taken, only the seller knows.
            if waited_ms >= patience && queue::withdraw(self.queue, self.ticket) {
                HELD.set(None);
                return Ok(Found::Waiting);
            }
            queue::sleep(self.ticket, (patience - waited_ms).max(50));
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        leave_held(self.queue);
    }
}

fn leave_held(queue: &LwLock<Queue>) {
    if let Some(ticket) = HELD.take() {
        queue::leave(queue, ticket);
    }
}

fn leave_at_exit() {
    if let Some(queue) = QUEUE.get() {
        leave_held(queue);
    }
}

/// The seller died over the request: its transaction tells what became of it.
fn orphaned(ask: &Ask<'_>, xid: TransactionId, reply: Reply) -> Result<Reply, Fault> {
    while transaction::is_in_progress(xid) {
        wait::sleep(WaitFor::SellersTransaction, TRANSACTION_END_POLL_MS);
    }
    if !transaction::has_committed(xid) {
        return Ok(busy());
    }
    let changed = match (&reply, ask) {
        (Reply::Outcome(Outcome::Reserved { order, .. }), _) => Some(order.order_id),
        (Reply::Cancelled(Cancelled::Closed { .. }), Ask::Cancel(cancel)) => Some(cancel.order_id),
        _ => None,
    };
    match changed {
        Some(order_id) if !wal::by_now() => Err(Fault::OutcomeUnknown(order_id)),
        _ => Ok(reply),
    }
}
