//! The seller: serves all purchases that wait for an item in one transaction, then those of the
//! next item.
//!
//! It serves cancels first, all in one transaction, so that the units they return are sold in the
//! same round.

use super::publisher::{self, STANDBY_POLL_MS, Written};
use super::queue::{Queue, queue};
use super::request::{Call, Error, QueuedReply, Reply};
use super::transaction::{self, Failure, Job, Served};
use crate::database::Database;
use crate::pg::clock;
use crate::pg::worker::{self, Worker};
use crate::pg::{signals, wait, wal};
use crate::{settings, stats, workers};
use flashsale_core::flush::Disk;
use flashsale_core::pace::Pace;
use flashsale_core::time::Micros;
use pgrx::pg_sys::{self, XLogRecPtr};
use pgrx::prelude::*;
use std::collections::BTreeMap;

/// How long to wait before the next attempt if all items are locked.
const LOCKED_RETRY_MS: i64 = 1;
/// How long cancels wait for others to share a transaction, which costs more than a cancel.
const CANCELS_GATHER_FOR: Micros = 2_000;
/// The replies of a round share one flush, but none waits longer than this for it.
const PUBLISH_AT_LEAST_EVERY: Micros = 5_000;
/// How long an idle seller sleeps unless its latch wakes it.
const IDLE_MS: i64 = 10_000;

#[pg_guard]
#[allow(unsafe_code)] // the postmaster looks it up by name
#[unsafe(no_mangle)]
pub extern "C-unwind" fn flashsale_seller_main(_argument: pg_sys::Datum) {
    work();
}

/// Serves requests as long as the database is to be served.
fn work() {
    let Some(queue) = queue() else { return };
    let Some(mut database) = Database::connect(Worker::Seller, leave) else {
        return;
    };
    wal::set_synchronous_commit(c"off");
    worker::keep_freed_memory();
    let mut deferred = Vec::new();
    let mut learnt = Learnt::default();
    while database.is_served() {
        signals::reload_if_requested();
        // In addition to the deferred jobs, so that these do not keep others from being served.
        let taken = queue.take(settings::group_size());
        stats::seller_took(taken.iter().map(|(_, request)| request.queued_at));
        let jobs = taken.into_iter();
        deferred.extend(jobs.map(|(ticket, request)| Job { ticket, request }));
        if !queue.has_publisher() {
            publisher::publish_committed(queue);
        }
        // A caller that has left needs no order.
        deferred.retain(|job: &Job| queue.is_pending(job.ticket));
        if deferred.is_empty() {
            wait_for_requests(queue);
            continue;
        }
        let before = deferred.len();
        deferred = round(queue, deferred, &mut learnt);
        if deferred.len() == before {
            worker::idle(LOCKED_RETRY_MS);
        }
    }
}

fn wait_for_requests(queue: Queue) {
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

fn leave() {
    workers::leave(Worker::Seller);
    if let Some(queue) = queue() {
        queue.detach_seller();
    }
}

/// What the seller learns from its transactions.
#[derive(Default)]
struct Learnt {
    pace: Pace<Option<i64>>,
    disk: Disk,
}

/// Jobs that one transaction may serve: purchases of one item, or cancels (no item). All call
/// functions of the same owner.
struct Group {
    item_id: Option<i64>,
    jobs: Vec<Job>,
}

/// The groups of a round in the order in which they are served: cancels first, then the items by
/// their oldest requests.
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

/// Serves all cancels, then every item, for about `flashsale.group_wait`, and returns the jobs to
/// try again. Each group may take an equal share of the remaining time, or a quarter of the whole
/// if that is longer, so that a slow item leaves time for the others.
fn round(queue: Queue, jobs: Vec<Job>, learnt: &mut Learnt) -> Vec<Job> {
    let begun_at = clock::monotonic();
    let mut round = Round {
        queue,
        learnt,
        unpublished: Vec::new(),
        published_at: begun_at,
        deferred: Vec::new(),
    };
    let whole = settings::group_wait_ms() * 1_000;
    let give_up_at = begun_at + whole;
    let groups = groups(jobs);
    let mut groups_left = groups.len() as Micros;
    for group in groups {
        let now = clock::monotonic();
        let until = match now < give_up_at {
            true => now + ((give_up_at - now) / groups_left).max(whole / 4),
            false => now,
        };
        groups_left -= 1;
        if group.item_id.is_none() && now - group.jobs[0].request.queued_at < CANCELS_GATHER_FOR {
            round.deferred.extend(group.jobs);
            continue;
        }
        round.serve_group(group, until, groups_left == 0);
    }
    round.publish_replies();
    worker::report_statistics();
    round.deferred
}

/// The state of a round.
struct Round<'a> {
    queue: Queue,
    learnt: &'a mut Learnt,
    /// Replies that are written and not published yet.
    unpublished: Vec<Written>,
    published_at: Micros,
    /// Jobs whose item or order was locked, or for which there was no time.
    deferred: Vec<Job>,
}

impl Round<'_> {
    /// Serves a group in transactions of as many jobs as its item's pace allows. `is_last`: no
    /// transaction follows in this round.
    fn serve_group(&mut self, group: Group, until: Micros, is_last: bool) {
        let Group { item_id, mut jobs } = group;
        worker::report(Some(&match item_id {
            Some(item_id) => format!("flashsale: {} purchases of item {item_id}", jobs.len()),
            None => format!("flashsale: {} cancels", jobs.len()),
        }));
        let mut is_held = false;
        // If the item is locked, later jobs wait too, so that they do not overtake earlier ones.
        while !jobs.is_empty() && clock::monotonic() < until && !is_held {
            let limit = self.learnt.pace.limit(item_id, settings::group_size());
            let later = jobs.split_off(limit.min(jobs.len()));
            is_held = self.serve_jobs(item_id, jobs, until, is_last && later.is_empty());
            jobs = later;
        }
        // These jobs were not tried, so they get another round.
        self.defer(jobs, 2 * settings::group_wait_ms() * 1_000);
    }

    /// Serves jobs in one transaction. If it fails, serves each half of them in a transaction of
    /// its own, until the job at fault is alone and gets the error. True if a row that they need
    /// is locked. Only the last transaction of a round may flush the WAL, so that all share one flush.
    fn serve_jobs(
        &mut self,
        item_id: Option<i64>,
        mut jobs: Vec<Job>,
        until: Micros,
        is_last: bool,
    ) -> bool {
        self.publish_before(item_id);
        let max_wait = settings::group_wait_ms() * 1_000;
        let begun_at = clock::monotonic();
        let disk = is_last.then_some(&mut self.learnt.disk);
        let served = transaction::run(self.queue, &jobs, until, disk);
        self.learnt
            .pace
            .took(item_id, clock::monotonic() - begun_at);
        match served {
            Ok(served) => {
                self.learnt.pace.in_time(item_id, settings::group_size());
                let busy = self.keep(jobs, served);
                self.defer(busy, max_wait);
            }
            Err(Failure::Locked) => {
                self.defer(jobs, max_wait);
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
                if self.serve_jobs(item_id, jobs, until, false) {
                    self.defer(later, max_wait);
                    return true;
                }
                return self.serve_jobs(item_id, later, until, is_last);
            }
            Err(Failure::Error(_)) => self.refuse(&jobs, Reply::BUSY),
            Err(Failure::Overrun) => {
                self.learnt.pace.overran(item_id, jobs.len());
                self.defer(jobs, max_wait);
            }
        }
        false
    }

    /// Publishes finished replies before the transaction of an item that may be slow, and if the
    /// last time is too long ago.
    fn publish_before(&mut self, item_id: Option<i64>) {
        let waited = clock::monotonic() - self.published_at;
        if waited > PUBLISH_AT_LEAST_EVERY || !self.learnt.pace.is_quick(item_id) {
            self.publish_replies();
        }
    }

    fn publish_replies(&mut self) {
        publisher::publish_or_hand_over(self.queue, std::mem::take(&mut self.unpublished));
        self.published_at = clock::monotonic();
    }

    /// Keeps the replies until they are published, and returns the jobs to try again.
    fn keep(&mut self, jobs: Vec<Job>, Served { end, replies }: Served) -> Vec<Job> {
        let mut busy = Vec::new();
        for (job, reply) in jobs.into_iter().zip(replies) {
            match reply.is_busy() {
                true => busy.push(job),
                false => self.add_reply(&job, reply.is_promise().then_some(end)),
            }
        }
        busy
    }

    fn add_reply(&mut self, job: &Job, end: Option<XLogRecPtr>) {
        self.unpublished.push(Written {
            ticket: job.ticket,
            end,
            level: job.request.synchronous_commit,
        });
    }

    /// Defers jobs to the next round. Those that have waited longer than `max_wait` microseconds
    /// are answered busy instead.
    fn defer(&mut self, jobs: Vec<Job>, max_wait: Micros) {
        let since = clock::monotonic() - max_wait;
        let (late, in_time): (Vec<Job>, Vec<Job>) = jobs
            .into_iter()
            .partition(|job| job.request.queued_at < since);
        self.deferred.extend(in_time);
        self.refuse(&late, Reply::BUSY);
    }

    /// Answers jobs with a reply that does not depend on a commit.
    fn refuse(&mut self, jobs: &[Job], reply: Reply) {
        let reply = QueuedReply {
            reply,
            transaction: None,
        };
        self.queue.write(jobs.iter().map(|job| (job.ticket, reply)));
        for job in jobs {
            self.add_reply(job, None);
        }
    }
}
