//! The seller: serves all buyers who wait for an item in one transaction, then the next item.
//!
//! Cancels come first, all in one transaction, so that the units they return are sold in the
//! same round.

use super::publisher;
use super::queue::{self, Ask, Asked, Error, QUEUE, Queue, Reply, Ticket};
use crate::attempt::Verdict;
use crate::error::Fault;
use crate::pg::clock;
use crate::pg::memory::LwLock;
use crate::pg::wait;
use crate::pg::wal;
use crate::pg::worker::{self, Bounds, Transaction, Worker};
use crate::pg::{session, signals, transaction};
use crate::purchase::serve::{self, Decrement};
use crate::store::items;
use crate::{order, settings, stats};
use flashsale_core::fit::Request;
use flashsale_core::outcome::Outcome;
use flashsale_core::time::Micros;
use pgrx::pg_sys::{self, XLogRecPtr};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use std::cell::Cell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

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
#[allow(unsafe_code)] // the postmaster looks it up by its name
#[unsafe(no_mangle)]
pub extern "C-unwind" fn flashsale_seller_main(_argument: pg_sys::Datum) {
    let Some(queue) = QUEUE.get() else { return };
    worker::connect(Worker::Seller, &settings::database());
    wal::set_synchronous_commit(c"off");
    session::before_exit(close_at_exit);
    queue::open();
    let mut held_up = Vec::new();
    let mut pace = Pace::default();
    loop {
        signals::reload_if_asked();
        // Beside those held up, so that they keep nobody else from being served.
        let taken = queue::take(queue, settings::group_size());
        stats::seller_took(taken.iter().map(|(_, asked)| asked.at));
        let jobs = taken
            .into_iter()
            .map(|(ticket, asked)| Job { ticket, asked });
        held_up.extend(jobs);
        if !queue::has_publisher() && !wal::standbys_wanted() {
            publisher::publish(queue);
        }
        // A caller who left meanwhile needs no order.
        held_up.retain(|job: &Job| queue::is_waiting(job.ticket));
        if held_up.is_empty() {
            worker::report(None);
            if !wait::yielding(|| queue::backlog(queue) > 0) {
                worker::idle(IDLE_MS);
            }
            continue;
        }
        let asked = held_up.len();
        held_up = round(queue, held_up, &mut pace);
        if held_up.len() == asked {
            worker::idle(LOCKED_RETRY_MS);
        }
    }
}

fn close_at_exit() {
    if let Some(queue) = QUEUE.get() {
        queue::close(queue);
    }
}

/// How many jobs of an item go into one transaction: half as many after one that took too
/// long, so that a shop with slow triggers still sells, and one more after one that did not.
/// Items without an entry have not taken too long.
#[derive(Default)]
struct Pace(HashMap<Option<i64>, usize>);

impl Pace {
    fn most(&self, item_id: Option<i64>) -> usize {
        let most = settings::group_size();
        self.0.get(&item_id).map_or(most, |&pace| pace.min(most))
    }

    fn overran(&mut self, item_id: Option<i64>, size: usize) {
        self.0.insert(item_id, (size / 2).max(1));
    }

    fn kept(&mut self, item_id: Option<i64>) {
        if let Entry::Occupied(mut slow) = self.0.entry(item_id) {
            *slow.get_mut() += 1;
            if *slow.get() >= settings::group_size() {
                slow.remove();
            }
        }
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

/// Serves all cancels, then every item, for about `flashsale.group_wait`, and returns the jobs
/// to try again. Each group may take its share of the time that is left, or a quarter of all
/// of it, so that a slow item leaves the others theirs.
fn round(queue: &LwLock<Queue>, jobs: Vec<Job>, pace: &mut Pace) -> Vec<Job> {
    let mut left = Left::default();
    let mut published_at = clock::now();
    let most = settings::group_wait_ms() * 1_000;
    let give_up_at = published_at + most;
    let groups = groups(jobs);
    let mut groups_left = groups.len() as Micros;
    for Group { item_id, mut jobs } in groups {
        let now = clock::now();
        let until = match now < give_up_at {
            true => now + ((give_up_at - now) / groups_left).max(most / 4),
            false => now,
        };
        groups_left -= 1;
        if item_id.is_none() && now - jobs[0].asked.at < CANCELS_GATHER_FOR {
            left.held_up.extend(jobs);
            continue;
        }
        worker::report(Some(&match item_id {
            Some(item_id) => format!("flashsale: {} purchases of item {item_id}", jobs.len()),
            None => format!("flashsale: {} cancels", jobs.len()),
        }));
        let mut is_held = false;
        // Nobody overtakes those who came first.
        while !jobs.is_empty() && clock::now() < until && !is_held {
            let later = jobs.split_off(pace.most(item_id).min(jobs.len()));
            let mut turn = Turn {
                queue,
                item_id,
                until,
                pace,
                left: &mut left,
            };
            is_held = turn.serve(jobs);
            jobs = later;
            if clock::now() - published_at > PUBLISH_AT_LEAST_EVERY {
                publish(queue, std::mem::take(&mut left.unpublished));
                published_at = clock::now();
            }
        }
        // They were not tried, so they get another round.
        left.hold_up(queue, jobs.into_iter(), 2 * most);
    }
    publish(queue, left.unpublished);
    worker::report_statistics();
    left.held_up
}

/// A group's turn in a round.
struct Turn<'a> {
    queue: &'a LwLock<Queue>,
    item_id: Option<i64>,
    until: Micros,
    pace: &'a mut Pace,
    left: &'a mut Left,
}

impl Turn<'_> {
    /// Serves jobs in one transaction. If that fails, halves them until the one that is at
    /// fault stands alone with its error. True if somebody else holds what they need.
    fn serve(&mut self, mut jobs: Vec<Job>) -> bool {
        match transaction(self.queue, &jobs, self.until) {
            Ok(Served { end, replies }) => {
                self.pace.kept(self.item_id);
                let (busy, served): (Vec<_>, Vec<_>) = jobs
                    .into_iter()
                    .zip(replies)
                    .partition(|(_, reply)| reply.is_busy());
                self.left
                    .unpublished
                    .add(served.iter().map(|(job, _)| job), end);
                self.hold_up(busy.into_iter().map(|(job, _)| job));
                return false;
            }
            Err(Failure::Locked) => {
                self.hold_up(jobs.into_iter());
                return true;
            }
            Err(Failure::Error(fault)) if jobs.len() == 1 => {
                let reply = match fault.sqlstate() {
                    PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => Reply::Outcome(Outcome::Busy),
                    _ => Reply::Error(Error::of(*fault)),
                };
                self.refuse(&jobs, reply);
            }
            Err(Failure::Error(_)) if clock::now() < self.until => {
                let later = jobs.split_off(jobs.len() / 2);
                if self.serve(jobs) {
                    self.hold_up(later.into_iter());
                    return true;
                }
                return self.serve(later);
            }
            Err(Failure::Error(_)) => self.refuse(&jobs, Reply::Outcome(Outcome::Busy)),
            Err(Failure::Overrun) => {
                self.pace.overran(self.item_id, jobs.len());
                self.hold_up(jobs.into_iter());
            }
        }
        false
    }

    fn hold_up(&mut self, jobs: impl Iterator<Item = Job>) {
        let patience = settings::group_wait_ms() * 1_000;
        self.left.hold_up(self.queue, jobs, patience);
    }

    fn refuse(&mut self, jobs: &[Job], reply: Reply) {
        self.left.refuse(self.queue, jobs, reply);
    }
}

impl Left {
    /// Keeps jobs for the next round, and answers those busy that have waited long enough.
    fn hold_up(
        &mut self,
        queue: &LwLock<Queue>,
        jobs: impl Iterator<Item = Job>,
        patience: Micros,
    ) {
        let since = clock::now() - patience;
        let (late, patient): (Vec<Job>, Vec<Job>) = jobs.partition(|job| job.asked.at < since);
        self.held_up.extend(patient);
        self.refuse(queue, &late, Reply::Outcome(Outcome::Busy));
    }

    /// Answers jobs with what no commit stands behind.
    fn refuse(&mut self, queue: &LwLock<Queue>, jobs: &[Job], reply: Reply) {
        let tickets = jobs.iter().map(|job| job.ticket);
        let none = pg_sys::InvalidTransactionId;
        queue::write(queue, tickets.zip(std::iter::repeat(&reply)), none);
        self.unpublished.add(jobs.iter(), 0);
    }
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
    /// It took longer than the group's share of `flashsale.group_wait`.
    Overrun,
    Error(Box<Fault>),
}

fn transaction(queue: &LwLock<Queue>, jobs: &[Job], until: Micros) -> Result<Served, Failure> {
    use PgSqlErrorCode::{ERRCODE_LOCK_NOT_AVAILABLE, ERRCODE_QUERY_CANCELED};
    let is_obtained = Cell::new(false);
    let served = worker::guarded(|| serve(queue, jobs, until, &is_obtained));
    // A trigger can raise the same, for its one buyer.
    served.map_err(|fault| match fault.sqlstate() {
        ERRCODE_LOCK_NOT_AVAILABLE if !is_obtained.get() => Failure::Locked,
        ERRCODE_QUERY_CANCELED if clock::now() >= until => Failure::Overrun,
        _ => {
            stats::seller_failed();
            Failure::Error(Box::new(fault))
        }
    })
}

/// Serves, leaves the answers in the slots, and only then commits: should this process
/// die over it, each caller finds its answer there and what to ask whether it holds.
fn serve(
    queue: &LwLock<Queue>,
    jobs: &[Job],
    until: Micros,
    is_obtained: &Cell<bool>,
) -> Result<Served, Fault> {
    let bounds = Bounds {
        transaction_ms: (until - clock::now()) / 1_000 + 1,
        lock_wait_ms: settings::worker_lock_wait_ms(),
    };
    let transaction = Transaction::begin_as(jobs[0].asked.owner, bounds);
    let (replies, keep) = match Spi::connect(|client| replies(client, jobs, is_obtained))? {
        Verdict::Keep(replies) => (replies, true),
        Verdict::Undo(replies) => (replies, false),
    };
    let xid = match keep {
        true => transaction::id().unwrap_or(pg_sys::InvalidTransactionId),
        false => pg_sys::InvalidTransactionId,
    };
    queue::write(queue, jobs.iter().map(|job| job.ticket).zip(&replies), xid);
    let end = match keep {
        true => transaction.commit(),
        false => {
            worker::abort();
            match replies.iter().any(Reply::is_replay) {
                // What it tells of may be a commit that is not durable yet.
                true => wal::written_so_far(),
                false => 0,
            }
        }
    };
    Ok(Served { end, replies })
}

/// The replies to jobs that are all cancels, or all purchases of one item; `is_obtained` says
/// whether that is held by now.
fn replies(
    client: &SpiClient<'_>,
    jobs: &[Job],
    is_obtained: &Cell<bool>,
) -> Result<Verdict<Vec<Reply>>, Fault> {
    let mut cancels = Vec::new();
    let mut requests = Vec::<Request<'_>>::new();
    for job in jobs {
        match job.asked.ask() {
            Ask::Cancel(cancel) => cancels.push(cancel),
            Ask::Purchase(request) => requests.push(request),
        }
    }
    let Some(first) = requests.first() else {
        is_obtained.set(true); // each order that is not is answered by itself
        let verdict = order::cancel_many(client, &cancels)?;
        return Ok(verdict.map(|all| all.into_iter().map(Reply::Cancelled).collect()));
    };
    let item = items::lock_sellable_again(client, first.item_id)?;
    is_obtained.set(true);
    let verdict = match item {
        Some(item) => serve::serve(client, &item, &requests, Decrement::Due)?,
        None => serve::refuse_unheld(client, first.item_id, &requests)?,
    };
    Ok(verdict.map(|all| all.into_iter().map(Reply::Outcome).collect()))
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
fn publish(queue: &LwLock<Queue>, unpublished: Unpublished) {
    let Unpublished {
        tickets,
        end,
        level,
    } = unpublished;
    if tickets.is_empty() {
        return;
    }
    worker::sleep(settings::debug_publish_delay_ms());
    // Who asks for no standby does not wait behind those who do.
    let leave_it = match wal::standbys_wanted() {
        true => wal::needs_standbys(level),
        false => queue::backlog(queue) > 0 && queue::has_publisher(),
    };
    if end != 0 && leave_it {
        queue::hand_over(queue, tickets.into_iter(), end);
    } else if end == 0 || wal::wait(end, level) {
        queue::publish(queue, tickets.into_iter());
    }
}
