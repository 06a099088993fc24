//! The seller: serves all buyers who wait for an item in one transaction, then the next item.
//!
//! Cancels come first, all in one transaction, so that the units they return are sold in the
//! same round.

use super::durable;
use super::queue::{self, Ask, Asked, Error, QUEUE, Queue, Reply, Ticket};
use crate::attempt::Verdict;
use crate::clock::{self, Micros};
use crate::error::Fault;
use crate::purchase::fit::Request;
use crate::purchase::outcome::Outcome;
use crate::purchase::serve::{self, Decrement};
use crate::shared::Attached;
use crate::store::items;
use crate::wait;
use crate::worker::{self, Transaction, Worker};
use crate::{order, settings, stats};
use pgrx::pg_sys::{self, XLogRecPtr};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use std::collections::BTreeMap;

/// How long to stay away from an item that somebody else holds.
const LOCKED_RETRY_MS: i64 = 1;
/// How long cancels wait for each other: a transaction costs more than what is in it.
const CANCELS_GATHER_FOR: Micros = 2_000;
/// Answers of a round wait for one flush together, but no longer than this for a slow item.
const PUBLISH_AT_LEAST_EVERY: Micros = 5_000;
/// The latch wakes an idle seller; this only bounds what a lost one could do.
const IDLE_MS: i64 = 10_000;

/// A request that the seller has taken, and where its answer goes.
struct Job {
    ticket: Ticket,
    asked: Asked,
}

/// What is needed to publish: answers written, and how durable their commits must be.
#[derive(Default)]
struct Unpublished {
    tickets: Vec<Ticket>,
    end: XLogRecPtr,
    level: i32,
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn flashsale_seller_main(_argument: pg_sys::Datum) {
    let Some(queue) = QUEUE.get() else { return };
    worker::connect(Worker::Seller);
    durable::set_synchronous_commit(c"off");
    // SAFETY: the hook lives as long as the library, which is never unloaded.
    unsafe { pg_sys::before_shmem_exit(Some(close_at_exit), pg_sys::Datum::null()) };
    queue::open(queue);
    let mut held_up = Vec::new();
    let mut pace = Pace::default();
    loop {
        worker::reload_if_asked();
        // Beside those held up, so that they keep nobody else from being served.
        let taken = queue::take(queue, settings::group_size());
        stats::seller_took(taken.iter().map(|(_, asked)| asked.at));
        let jobs = taken
            .into_iter()
            .map(|(ticket, asked)| Job { ticket, asked });
        held_up.extend(jobs);
        // A caller who left meanwhile needs no order.
        held_up.retain(|job: &Job| queue::is_waiting(queue, job.ticket));
        if held_up.is_empty() {
            worker::report(None);
            if !wait::yielding(|| queue::backlog(queue) > 0) {
                worker::wait(IDLE_MS);
            }
            continue;
        }
        let asked = held_up.len();
        held_up = round(queue, held_up, &mut pace);
        if held_up.len() == asked {
            worker::wait(LOCKED_RETRY_MS);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn close_at_exit(_code: i32, _argument: pg_sys::Datum) {
    if let Some(queue) = QUEUE.get() {
        queue::close(queue);
    }
}

/// How many jobs go into one transaction: half as many after one that took too long, so that
/// a shop with slow triggers still sells, and twice as many after one that did not.
struct Pace(usize);

impl Default for Pace {
    fn default() -> Self {
        Self(usize::MAX)
    }
}

impl Pace {
    fn most(&self) -> usize {
        self.0.min(settings::group_size())
    }

    fn overran(&mut self, size: usize) {
        self.0 = (size / 2).max(1);
    }

    fn kept(&mut self) {
        self.0 = self.0.saturating_mul(2);
    }
}

/// Jobs that one transaction may serve: purchases of one item, or cancels (no item), of one owner's.
struct Group {
    item_id: Option<i64>,
    jobs: Vec<Job>,
}

/// The groups of a round: cancels first, then the item whose buyers have waited longest.
fn groups(jobs: Vec<Job>) -> Vec<Group> {
    let mut groups = BTreeMap::<(Option<i64>, u32), Vec<Job>>::new();
    for job in jobs {
        let item_id = match job.asked.ask() {
            Ask::Cancel(_) => None,
            Ask::Purchase(request) => Some(request.item_id),
        };
        let key = (item_id, job.asked.owner.to_u32());
        groups.entry(key).or_default().push(job);
    }
    let mut groups: Vec<Group> = groups
        .into_iter()
        .map(|((item_id, _), jobs)| Group { item_id, jobs })
        .collect();
    groups.sort_by_key(|group| (group.item_id.is_some(), group.jobs[0].asked.at));
    groups
}

/// What a round leaves behind.
#[derive(Default)]
struct Left {
    unpublished: Unpublished,
    /// Jobs whose item or order somebody else holds, or for which there was no time.
    held_up: Vec<Job>,
}

/// Serves all cancels, then every item, for `flashsale.group_wait` at most, and returns the
/// jobs to try again.
fn round(queue: &Attached<Queue>, jobs: Vec<Job>, pace: &mut Pace) -> Vec<Job> {
    let mut left = Left::default();
    let mut published_at = clock::now();
    let give_up_at = published_at + settings::group_wait_ms() * 1_000;
    for Group { item_id, mut jobs } in groups(jobs) {
        if item_id.is_none() && clock::now() - jobs[0].asked.at < CANCELS_GATHER_FOR {
            left.held_up.extend(jobs);
            continue;
        }
        worker::report(Some(&match item_id {
            Some(item_id) => format!("flashsale: {} purchases of item {item_id}", jobs.len()),
            None => format!("flashsale: {} cancels", jobs.len()),
        }));
        while !jobs.is_empty() && clock::now() < give_up_at {
            let later = jobs.split_off(pace.most().min(jobs.len()));
            let is_held = serve_group(queue, jobs, give_up_at, pace, &mut left);
            jobs = later;
            if is_held {
                break; // nobody overtakes those who came first
            }
        }
        hold_up(queue, jobs.into_iter(), &mut left);
        if clock::now() - published_at > PUBLISH_AT_LEAST_EVERY {
            publish(queue, std::mem::take(&mut left.unpublished));
            published_at = clock::now();
        }
    }
    publish(queue, left.unpublished);
    left.held_up
}

/// Serves jobs in one transaction. If that fails, halves them until the one that is at
/// fault stands alone with its error. True if somebody else holds what they need.
fn serve_group(
    queue: &Attached<Queue>,
    mut jobs: Vec<Job>,
    give_up_at: Micros,
    pace: &mut Pace,
    left: &mut Left,
) -> bool {
    match transaction(queue, &jobs) {
        Ok(Served { end, replies }) => {
            pace.kept();
            let (busy, served): (Vec<_>, Vec<_>) = jobs
                .into_iter()
                .zip(replies)
                .partition(|(_, reply)| reply.is_busy());
            left.unpublished.add(served.iter().map(|(job, _)| job), end);
            hold_up(queue, busy.into_iter().map(|(job, _)| job), left);
        }
        Err(Failure::Locked) => {
            hold_up(queue, jobs.into_iter(), left);
            return true;
        }
        Err(Failure::Error(error)) if jobs.len() == 1 => {
            refuse(queue, &jobs, Reply::Error(*error), left);
        }
        Err(Failure::Error(_)) if clock::now() < give_up_at => {
            let later = jobs.split_off(jobs.len() / 2);
            if serve_group(queue, jobs, give_up_at, pace, left) {
                hold_up(queue, later.into_iter(), left);
                return true;
            }
            return serve_group(queue, later, give_up_at, pace, left);
        }
        Err(Failure::Error(_)) => refuse(queue, &jobs, Reply::Outcome(Outcome::Busy), left),
        Err(Failure::Overrun) => {
            pace.overran(jobs.len());
            refuse(queue, &jobs, Reply::Outcome(Outcome::Busy), left);
        }
    }
    false
}

/// Keeps jobs for the next round, and answers those busy that have waited long enough.
fn hold_up(queue: &Attached<Queue>, jobs: impl Iterator<Item = Job>, left: &mut Left) {
    let since = clock::now() - settings::group_wait_ms() * 1_000;
    let (late, patient): (Vec<Job>, Vec<Job>) = jobs.partition(|job| job.asked.at < since);
    left.held_up.extend(patient);
    refuse(queue, &late, Reply::Outcome(Outcome::Busy), left);
}

/// What a transaction came to: where its commit ends in the log, 0 if it wrote nothing,
/// and the replies in the order of the jobs.
struct Served {
    end: XLogRecPtr,
    replies: Vec<Reply>,
}

/// Why a transaction came to nothing.
enum Failure {
    /// Somebody else holds the item.
    Locked,
    /// It took longer than `flashsale.group_wait`.
    Overrun,
    Error(Box<Error>),
}

fn transaction(queue: &Attached<Queue>, jobs: &[Job]) -> Result<Served, Failure> {
    worker::guarded(|| serve(queue, jobs)).map_err(|fault| match fault.sqlstate() {
        PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => Failure::Locked,
        PgSqlErrorCode::ERRCODE_QUERY_CANCELED => Failure::Overrun,
        _ => {
            stats::seller_failed();
            Failure::Error(Box::new(Error::of(fault)))
        }
    })
}

/// Serves, leaves the answers in the slots, and only then commits: should this process
/// die over it, each caller finds its answer there and what to ask whether it holds.
fn serve(queue: &Attached<Queue>, jobs: &[Job]) -> Result<Served, Fault> {
    let transaction = Transaction::begin_as(jobs[0].asked.owner, settings::group_wait_ms());
    let (replies, keep) = match Spi::connect(|client| replies(client, jobs))? {
        Verdict::Keep(replies) => (replies, true),
        Verdict::Undo(replies) => (replies, false),
    };
    // SAFETY: reads this process's own transaction state.
    let xid = match keep {
        true => unsafe { pg_sys::GetTopTransactionIdIfAny() },
        false => pg_sys::InvalidTransactionId,
    };
    queue::write(queue, jobs.iter().map(|job| job.ticket).zip(&replies), xid);
    let end = match keep {
        true => transaction.commit(),
        false => {
            worker::abort();
            0
        }
    };
    Ok(Served { end, replies })
}

/// The replies to jobs that are all cancels, or all purchases of one item.
fn replies(client: &SpiClient<'_>, jobs: &[Job]) -> Result<Verdict<Vec<Reply>>, Fault> {
    let mut cancels = Vec::new();
    let mut requests = Vec::<Request<'_>>::new();
    for job in jobs {
        match job.asked.ask() {
            Ask::Cancel(cancel) => cancels.push(cancel),
            Ask::Purchase(request) => requests.push(request),
        }
    }
    let Some(first) = requests.first() else {
        let verdict = order::cancel_many(client, &cancels)?;
        return Ok(verdict.map(|all| all.into_iter().map(Reply::Cancelled).collect()));
    };
    let verdict = match items::lock_sellable_again(client, first.item_id)? {
        Some(item) => serve::serve(client, &item, &requests, Decrement::Due)?,
        None => serve::refuse_unheld(client, first.item_id, &requests)?,
    };
    Ok(verdict.map(|all| all.into_iter().map(Reply::Outcome).collect()))
}

/// Answers jobs with what no commit stands behind.
fn refuse(queue: &Attached<Queue>, jobs: &[Job], reply: Reply, left: &mut Left) {
    let tickets = jobs.iter().map(|job| job.ticket);
    let none = pg_sys::InvalidTransactionId;
    queue::write(queue, tickets.zip(std::iter::repeat(&reply)), none);
    left.unpublished.add(jobs.iter(), 0);
}

impl Unpublished {
    fn add<'a>(&mut self, jobs: impl Iterator<Item = &'a Job>, end: XLogRecPtr) {
        for job in jobs {
            self.tickets.push(job.ticket);
            if end != 0 {
                self.end = self.end.max(end);
                self.level = self.level.max(job.asked.synchronous_commit);
            }
        }
    }
}

/// Answers once the commits are as durable as their strictest caller asks. While others
/// wait to be served, and where a standby has a say, that is left to the publisher; else
/// nobody gains by another process.
fn publish(queue: &Attached<Queue>, unpublished: Unpublished) {
    let Unpublished {
        tickets,
        end,
        level,
    } = unpublished;
    if tickets.is_empty() {
        return;
    }
    worker::sleep(settings::debug_publish_delay_ms());
    if end != 0 && (queue::backlog(queue) > 0 || durable::needs_standbys(level)) {
        queue::hand_over(queue, tickets.into_iter(), end);
    } else if end == 0 || durable::wait(end, level) {
        queue::publish(queue, tickets.into_iter());
    }
}
