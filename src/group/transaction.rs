//! One transaction of the seller: cancels, or purchases of one item, from lock to commit.

use super::queue::Queue;
use super::request::{Call, QueuedReply, QueuedRequest, Reply};
use crate::error::Fault;
use crate::pg::clock;
use crate::pg::subtransaction::End;
use crate::pg::transaction;
use crate::pg::wal;
use crate::pg::worker::{self, Bounds};
use crate::sale::numbered::RETRIES;
use crate::sale::order;
use crate::sale::serve::{self, Obtained};
use crate::settings;
use crate::stats;
use crate::store::items::{self, Need};
use crate::store::sequences;
use flashsale_core::fit::Request;
use flashsale_core::flush::Disk;
use flashsale_core::slots::Ticket;
use flashsale_core::time::Micros;
use pgrx::pg_sys::XLogRecPtr;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use std::cell::Cell;

/// A request that the seller has taken, with the ticket of its slot.
pub struct Job {
    pub ticket: Ticket,
    pub request: QueuedRequest,
}

/// A transaction that ended: the WAL position up to which the WAL must be durable before replies
/// that report a change are published, and the replies in the order of the jobs.
pub struct Served {
    pub end: XLogRecPtr,
    pub replies: Vec<Reply>,
}

/// Why a transaction was rolled back and its jobs have no replies.
pub enum Failure {
    /// Another transaction holds the item.
    Locked,
    /// The transaction took longer than the group's share of `flashsale.group_wait`.
    Overrun,
    Error(Box<Fault>),
}

/// Serves jobs that are all cancels, or all purchases of one item, in one transaction. It is
/// cancelled at `until`, by the monotonic clock. Its commit flushes the WAL if `disk` is there and
/// quick.
pub fn run(
    queue: Queue,
    jobs: &[Job],
    until: Micros,
    mut disk: Option<&mut Disk>,
) -> Result<Served, Failure> {
    use PgSqlErrorCode::{ERRCODE_LOCK_NOT_AVAILABLE, ERRCODE_QUERY_CANCELED};
    #[cfg(feature = "null_group")]
    if settings::debug_null_group() {
        return Ok(null_group(queue, jobs));
    }
    let mut retries = 0;
    loop {
        let is_obtained = Cell::new(false);
        let fault = match transact(queue, jobs, until, disk.as_deref_mut(), &is_obtained) {
            Ok(served) => return Ok(served),
            Err(fault) => fault,
        };
        if retries < RETRIES && is_sequence_moved(jobs, until, &fault) {
            retries += 1;
            continue;
        }
        // A trigger can raise the same error because of a single request.
        return Err(match fault.sqlstate() {
            ERRCODE_LOCK_NOT_AVAILABLE if !is_obtained.get() => Failure::Locked,
            ERRCODE_QUERY_CANCELED if clock::monotonic() >= until => Failure::Overrun,
            _ => {
                stats::seller_failed();
                Failure::Error(Box::new(fault))
            }
        });
    }
}

/// Whether the transaction failed because an order's id was taken, which the sequence will not
/// return again: it has been moved past the table, in a transaction of its own.
fn is_sequence_moved(jobs: &[Job], until: Micros, fault: &Fault) -> bool {
    if fault.sqlstate() != PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION {
        return false;
    }
    let message = fault.to_string();
    let body =
        || Spi::connect(|client| sequences::move_past_taken(client, &message)).map(End::Commit);
    match worker::transaction(Some(jobs[0].request.owner), bounds(until), body) {
        Ok((is_moved, _)) => is_moved,
        Err(error) => {
            log!("flashsale: a sequence that may be behind its table could not be moved: {error}");
            false
        }
    }
}

fn bounds(until: Micros) -> Bounds {
    Bounds {
        transaction_ms: (until - clock::monotonic()).max(0) / 1_000 + 1,
        lock_wait_ms: settings::worker_lock_wait_ms(),
    }
}

/// Serves, leaves the replies in the slots, and only then commits: should this process die before
/// it publishes them, each caller finds its reply there, with the transaction that decides whether
/// it is true.
fn transact(
    queue: Queue,
    jobs: &[Job],
    until: Micros,
    disk: Option<&mut Disk>,
    is_obtained: &Cell<bool>,
) -> Result<Served, Fault> {
    let disk = disk.filter(|_| may_flush(jobs));
    let disk = disk.and_then(|disk| disk.should_flush().then_some(disk));
    let committing = Cell::new(None);
    let body = || -> Result<End<Vec<Reply>>, Fault> {
        let end = Spi::connect(|client| replies(client, jobs, is_obtained))?;
        match &end {
            End::Commit(replies) => {
                write(queue, jobs, replies, transaction::id());
                if disk.is_some() {
                    wal::flush_at_commit(true);
                    committing.set(Some(clock::running_or_asleep()));
                }
            }
            End::RollBack(replies) => write(queue, jobs, replies, None),
        }
        Ok(end)
    };
    let ended = worker::transaction(Some(jobs[0].request.owner), bounds(until), body);
    wal::flush_at_commit(false);
    let (replies, end) = ended?;
    if let (Some(disk), Some(since)) = (disk, committing.get()) {
        disk.took(clock::running_or_asleep() - since);
    }
    Ok(Served { end, replies })
}

/// Whether the WAL may be flushed before the jobs are answered: none of their callers is content
/// with less, and none waits for a standby, so that the commit is all that they wait for.
fn may_flush(jobs: &[Job]) -> bool {
    let mut levels = jobs.iter().map(|job| job.request.synchronous_commit);
    levels.all(|level| wal::is_awaited(level) && !wal::needs_standby(level))
}

fn write(
    queue: Queue,
    jobs: &[Job],
    replies: &[Reply],
    transaction: Option<pg_sys::TransactionId>,
) {
    let replies = jobs.iter().zip(replies);
    queue.write(replies.map(|(job, &reply)| (job.ticket, QueuedReply { reply, transaction })));
}

/// Serves the jobs and returns their replies. Sets `is_obtained` once the row locks that all of
/// them need are held.
fn replies(
    client: &SpiClient<'_>,
    jobs: &[Job],
    is_obtained: &Cell<bool>,
) -> Result<End<Vec<Reply>>, Fault> {
    let mut cancels = Vec::new();
    let mut requests = Vec::<Request<'_>>::new();
    for job in jobs {
        match job.request.call() {
            Call::Cancel(cancel) => cancels.push(cancel),
            Call::Purchase(request) => requests.push(request),
        }
    }
    let Some(first) = requests.first() else {
        is_obtained.set(true); // cancels whose rows are locked are answered busy, one by one
        let end = order::cancel_many(client, &cancels)?;
        return Ok(end.map(|all| all.into_iter().map(Reply::Cancelled).collect()));
    };
    let lock = |need| {
        let item = items::lock_on_sale(client, first.item_id, need)?;
        is_obtained.set(item.is_some());
        Ok(item)
    };
    let end = match lock(Need::Units)? {
        Some(item) => serve::serve(client, &item, &requests, Obtained::Locked)?,
        None => serve::refuse(client, first.item_id, &requests, || lock(Need::Nothing))?,
    };
    Ok(end.map(|all| all.into_iter().map(Reply::Outcome).collect()))
}

/// Answers as if everything had been sold. What this takes is what the queue takes.
#[cfg(feature = "null_group")]
fn null_group(queue: Queue, jobs: &[Job]) -> Served {
    use flashsale_core::fit::PriorOrder;
    use flashsale_core::order::Status;
    use flashsale_core::order_ref::{CODE_LEN, OrderRef, RefCode};
    use flashsale_core::outcome::Outcome;
    let reserved = |job: &Job| match job.request.call() {
        Call::Cancel(_) => Reply::BUSY,
        Call::Purchase(request) => Reply::Outcome(Outcome::Reserved {
            order: PriorOrder {
                order_ref: OrderRef {
                    order_id: request.item_id,
                    code: RefCode::new([0; CODE_LEN]),
                },
                quantity: request.quantity,
                status: Status::Reserved,
                expires_at: Some(1), // as long in an answer as any other time
                unit_price: None,
                currency: None,
                remaining_inventory: request.quantity,
            },
            replayed: false,
        }),
    };
    let replies: Vec<Reply> = jobs.iter().map(reserved).collect();
    write(queue, jobs, &replies, None);
    Served { end: 0, replies }
}
