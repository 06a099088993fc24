//! The seller: serves all buyers who wait for an item in one transaction, then the next item.
//!
//! Cancels come first, all in one transaction, so that the units they return are sold in the
//! same round.

use super::publisher::{self, STANDBY_POLL_MS, Written};
use super::queue::{Queue, queue};
use super::request::{Call, Error, QueuedReply, Reply};
use super::transaction::{self, Failure, Job, Served};
use crate::pg::clock;
use crate::pg::worker::{self, Worker};
use crate::pg::{session, signals, wait, wal};
use crate::{settings, stats};
use flashsale_core::pace::Pace;
use flashsale_core::time::Micros;
use pgrx::pg_sys::{self, XLogRecPtr};
use pgrx::prelude::*;
use std::collections::BTreeMap;

/// How long to stay away from an item that somebody else holds.
const LOCKED_RETRY_MS: i64 = 1;
/// How long cancels wait for each other: a transaction costs more than what is in it.
const CANCELS_GATHER_FOR: Micros = 2_000;
/// Replies of a round wait for one flush together, but no longer than this.
const PUBLISH_AT_LEAST_EVERY: Micros = 5_000;
/// The latch wakes an idle seller; this only bounds what a lost one could do.
const IDLE_MS: i64 = 10_000;

#[pg_guard]
#[allow(unsafe_code)] // the postmaster looks it up by its name
#[unsafe(no_mangle)]
pub extern "C-unwind" fn flashsale_seller_main(_argument: pg_sys::Datum) {
    let Some(queue) = queue() else { return };
    worker::connect(Worker::Seller, &settings::database());
    wal::set_synchronous_commit(c"off");
    session::before_exit(gone);
    queue.attach_seller();
    let mut held_up = Vec::new();
    let mut pace = Pace::default();
    loop {
        signals::reload_if_asked();
        // Beside those held up, so that they keep nobody else from being served.
        let taken = queue.take(settings::group_size());
        stats::seller_took(taken.iter().map(|(_, request)| request.queued_at));
        let jobs = taken.into_iter();
        held_up.extend(jobs.map(|(ticket, request)| Job { ticket, request }));
        if !queue.has_publisher() {
            publisher::publish_durable(queue);
        }
        // A caller who left meanwhile needs no order.
        held_up.retain(|job: &Job| queue.is_pending(job.ticket));
        if held_up.is_empty() {
            rest(queue);
            continue;
        }
        let before = held_up.len();
        held_up = round(queue, held_up, &mut pace);
        if held_up.len() == before {
            worker::idle(LOCKED_RETRY_MS);
        }
    }
}

/// Waits for the next request.
fn rest(queue: Queue) {
    worker::report(None);
    if wait::yielding(|| queue.backlog() > 0) {
        return;
    }
    let must_publish = !queue.has_publisher() && queue.committed().is_some();
    worker::idle(match must_publish {
        true => STANDBY_POLL_MS,
        false => IDLE_MS,
    });
}

fn gone() {
    if let Some(queue) = queue() {
        queue.detach_seller();
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
        let item_id = match job.request.call() {
            Call::Cancel(_) => None,
            Call::Purchase(request) => Some(request.item_id),
        };
        let key = (item_id, job.request.owner.to_u32());
        groups.entry(key).or_default().push(job);
    }
    let mut groups: Vec<Group> = groups
        .into_iter()
        .map(|((item_id, _), jobs)| Group { item_id, jobs })
        .collect();
    groups.sort_by_key(|group| (group.item_id.is_some(), group.jobs[0].request.queued_at));
    groups
}

/// Serves all cancels, then every item, for about `flashsale.group_wait`, and returns the jobs
/// to try again. Each group may take its share of the time that is left, or a quarter of all
/// of it, so that a slow item leaves the others theirs.
fn round(queue: Queue, jobs: Vec<Job>, pace: &mut Pace<Option<i64>>) -> Vec<Job> {
    let begun_at = clock::monotonic();
    let mut round = Round {
        queue,
        pace,
        unpublished: Vec::new(),
        published_at: begun_at,
        held_up: Vec::new(),
    };
    let most = settings::group_wait_ms() * 1_000;
    let give_up_at = begun_at + most;
    let groups = groups(jobs);
    let mut groups_left = groups.len() as Micros;
    for group in groups {
        let now = clock::monotonic();
        let until = match now < give_up_at {
            true => now + ((give_up_at - now) / groups_left).max(most / 4),
            false => now,
        };
        groups_left -= 1;
        if group.item_id.is_none() && now - group.jobs[0].request.queued_at < CANCELS_GATHER_FOR {
            round.held_up.extend(group.jobs);
            continue;
        }
        round.serve_group(group, until);
    }
    round.publish();
    worker::report_statistics();
    round.held_up
}

/// A round under way.
struct Round<'a> {
    queue: Queue,
    pace: &'a mut Pace<Option<i64>>,
    /// Replies that their callers have not been told yet.
    unpublished: Vec<Written>,
    published_at: Micros,
    /// Jobs whose item or order somebody else holds, or for which there was no time.
    held_up: Vec<Job>,
}

impl Round<'_> {
    /// Serves a group in transactions of as many jobs as its item's pace allows.
    fn serve_group(&mut self, Group { item_id, mut jobs }: Group, until: Micros) {
        worker::report(Some(&match item_id {
            Some(item_id) => format!("flashsale: {} purchases of item {item_id}", jobs.len()),
            None => format!("flashsale: {} cancels", jobs.len()),
        }));
        let mut is_held = false;
        // Nobody overtakes those who came first.
        while !jobs.is_empty() && clock::monotonic() < until && !is_held {
            let most = self.pace.limit(item_id, settings::group_size());
            let later = jobs.split_off(most.min(jobs.len()));
            is_held = self.serve_jobs(item_id, jobs, until);
            jobs = later;
        }
        // They were not tried, so they get another round.
        self.hold_up(jobs, 2 * settings::group_wait_ms() * 1_000);
    }

    /// Serves jobs in one transaction. If that fails, halves them until the one that is at
    /// fault stands alone with its error. True if somebody else holds what they need.
    fn serve_jobs(&mut self, item_id: Option<i64>, mut jobs: Vec<Job>, until: Micros) -> bool {
        self.publish_before(item_id);
        let patience = settings::group_wait_ms() * 1_000;
        let begun_at = clock::monotonic();
        let served = transaction::run(self.queue, &jobs, until);
        self.pace.took(item_id, clock::monotonic() - begun_at);
        match served {
            Ok(served) => {
                self.pace.in_time(item_id, settings::group_size());
                let busy = self.keep(jobs, served);
                self.hold_up(busy, patience);
            }
            Err(Failure::Locked) => {
                self.hold_up(jobs, patience);
                return true;
            }
            Err(Failure::Error(fault)) if jobs.len() == 1 => {
                let reply = match fault.sqlstate() {
                    PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => Reply::BUSY,
                    _ => Reply::Error(Error::of(*fault)),
                };
                self.refuse(&jobs, reply);
            }
            Err(Failure::Error(_)) if clock::monotonic() < until => {
                let later = jobs.split_off(jobs.len() / 2);
                if self.serve_jobs(item_id, jobs, until) {
                    self.hold_up(later, patience);
                    return true;
                }
                return self.serve_jobs(item_id, later, until);
            }
            Err(Failure::Error(_)) => self.refuse(&jobs, Reply::BUSY),
            Err(Failure::Overrun) => {
                self.pace.overran(item_id, jobs.len());
                self.hold_up(jobs, patience);
            }
        }
        false
    }

    /// Nobody who is served waits for the transaction of an item that may be slow, nor for long
    /// for others to be served.
    fn publish_before(&mut self, item_id: Option<i64>) {
        let waited = clock::monotonic() - self.published_at;
        if waited > PUBLISH_AT_LEAST_EVERY || !self.pace.is_quick(item_id) {
            self.publish();
        }
    }

    fn publish(&mut self) {
        publisher::publish(self.queue, std::mem::take(&mut self.unpublished));
        self.published_at = clock::monotonic();
    }

    /// Keeps replies to be published, and returns the jobs that are to be tried again.
    fn keep(&mut self, jobs: Vec<Job>, Served { end, replies }: Served) -> Vec<Job> {
        let mut busy = Vec::new();
        for (job, reply) in jobs.into_iter().zip(replies) {
            match reply.is_busy() {
                true => busy.push(job),
                false => self.await_durable(&job, reply.is_promise().then_some(end)),
            }
        }
        busy
    }

    fn await_durable(&mut self, job: &Job, end: Option<XLogRecPtr>) {
        self.unpublished.push(Written {
            ticket: job.ticket,
            end,
            level: job.request.synchronous_commit,
        });
    }

    /// Keeps jobs for the next round, and answers those busy that have waited long enough.
    fn hold_up(&mut self, jobs: Vec<Job>, patience: Micros) {
        let since = clock::monotonic() - patience;
        let (late, patient): (Vec<Job>, Vec<Job>) = jobs
            .into_iter()
            .partition(|job| job.request.queued_at < since);
        self.held_up.extend(patient);
        self.refuse(&late, Reply::BUSY);
    }

    /// Answers jobs with what no commit stands behind.
    fn refuse(&mut self, jobs: &[Job], reply: Reply) {
        let reply = QueuedReply {
            reply,
            transaction: None,
        };
        self.queue.write(jobs.iter().map(|job| (job.ticket, reply)));
        for job in jobs {
            self.await_durable(job, None);
        }
    }
}
