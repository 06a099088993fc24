//! The queue between buyers and the seller: one slot a waiting purchase, first come first served.

use crate::error::Fault;
use crate::pg::clock;
use crate::pg::memory::{InSharedMemory, LwLock, Shared};
use crate::pg::wait::{Latches, Parking, WaitFor};
use crate::pg::{guc, session};
use crate::settings;
use flashsale_core::cancel::{Cancel, Cancelled};
use flashsale_core::fit::Request;
use flashsale_core::limits::{MAX_TEXT_BYTES, SLOTS};
use flashsale_core::outcome::Outcome;
use flashsale_core::time::Micros;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Oid, TransactionId, XLogRecPtr};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};

pub static QUEUE: Shared<LwLock<Queue>> = Shared::new(c"flashsale queue");
/// Generation and phase of each slot in one word, so that an answer for one generation can
/// never be taken for another's. Readable without the lock.
pub static WORDS: Shared<[AtomicU64; SLOTS]> = Shared::new(c"flashsale queue words");
/// Where the caller of each slot sleeps.
pub static PARKINGS: Shared<[Parking; SLOTS]> = Shared::new(c"flashsale queue parkings");
/// The workers that serve and publish, while they are there.
pub static LATCHES: Shared<Latches<2>> = Shared::new(c"flashsale queue latches");
const SELLER: usize = 0;
const PUBLISHER: usize = 1;

/// Slots, and the lists of those free, not yet taken by the seller, and committed.
pub struct Queue {
    waiting: List,
    /// Answered by a commit that may not be durable yet.
    committed: List,
    free: List,
    /// Slots beyond this one were never used.
    used: usize,
    in_use: usize,
    slots: [Slot; SLOTS],
}

// SAFETY: numbers and arrays of them.
#[allow(unsafe_code)]
unsafe impl InSharedMemory for Queue {
    const NEW: Self = Self {
        waiting: List::NEW,
        committed: List::NEW,
        free: List::NEW,
        used: 0,
        in_use: 0,
        slots: [const { Slot::NEW }; SLOTS],
    };
}

/// A list of slots, linked by number + 1; 0 is none.
struct List {
    first: u16,
    last: u16,
    len: u16,
}

impl List {
    const NEW: Self = Self {
        first: 0,
        last: 0,
        len: 0,
    };
}

struct Slot {
    next: u16,
    previous: u16,
    taken: bool,
    asked: Asked,
    /// The seller's transaction, once the order may be in it.
    xid: TransactionId,
    /// Where its commit ends in the log.
    end: XLogRecPtr,
    reply: MaybeUninit<Reply>,
}

impl Slot {
    const NEW: Self = Self {
        next: 0,
        previous: 0,
        taken: false,
        asked: Asked::NEW,
        xid: pg_sys::InvalidTransactionId,
        end: 0,
        reply: MaybeUninit::uninit(),
    };
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Free = 0,
    /// Asked, and not answered.
    Waiting = 1,
    Answered = 2,
    /// Its transaction has committed; the answer is due once that is durable.
    Committed = 4,
    /// The seller died over it; what became of its transaction tells the answer.
    Orphaned = 3,
}

fn state(generation: u64, phase: Phase) -> u64 {
    generation << 3 | phase as u64
}

fn word(slot: usize) -> &'static AtomicU64 {
    &WORDS.get().expect("made with the queue")[slot]
}

fn parking(slot: usize) -> &'static Parking {
    &PARKINGS.get().expect("made with the queue")[slot]
}

fn latches() -> &'static Latches<2> {
    LATCHES.get().expect("made with the queue")
}

fn generation(slot: usize) -> u64 {
    word(slot).load(Ordering::Relaxed) >> 3
}

/// A text of at most 255 bytes, in place.
#[derive(Clone, Copy)]
struct Text {
    len: u8,
    bytes: [u8; MAX_TEXT_BYTES],
}

impl Text {
    const EMPTY: Self = Self {
        len: 0,
        bytes: [0; MAX_TEXT_BYTES],
    };

    fn set(&mut self, text: &str) {
        let len = text.floor_char_boundary(MAX_TEXT_BYTES);
        self.len = len as u8;
        self.bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
    }

    fn get(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

/// What a caller can ask of the seller.
#[derive(Clone, Copy)]
pub enum Ask<'a> {
    Purchase(Request<'a>),
    Cancel(Cancel<'a>),
}

/// A request as it lies in the queue, with what the seller must know of its caller.
#[derive(Clone, Copy)]
pub struct Asked {
    is_cancel: bool,
    /// Of the item to buy, or of the order to cancel.
    id: i64,
    quantity: i64,
    default_ttl: Micros,
    user_id: Text,
    /// The idempotency key, or why the order is cancelled; empty for none.
    text: Text,
    session_user: Oid,
    /// Whose function was called: a security definer's, so the caller acts as the owner.
    pub owner: Oid,
    pub synchronous_commit: i32,
    pub at: Micros,
}

impl Asked {
    const NEW: Self = Self {
        is_cancel: false,
        id: 0,
        quantity: 0,
        default_ttl: 0,
        user_id: Text::EMPTY,
        text: Text::EMPTY,
        session_user: Oid::INVALID,
        owner: Oid::INVALID,
        synchronous_commit: 0,
        at: 0,
    };

    fn set(&mut self, ask: &Ask<'_>) {
        self.is_cancel = matches!(ask, Ask::Cancel(_));
        let text = match *ask {
            Ask::Purchase(request) => {
                self.id = request.item_id;
                self.quantity = request.quantity;
                self.default_ttl = request.default_ttl;
                self.user_id.set(request.user_id);
                request.idempotency_key
            }
            Ask::Cancel(cancel) => {
                self.id = cancel.order_id;
                self.session_user = cancel.by.into();
                cancel.reason
            }
        };
        self.text.set(text.unwrap_or_default());
        self.at = clock::now();
        self.owner = session::current_user();
        self.synchronous_commit = guc::synchronous_commit();
    }

    pub fn ask(&self) -> Ask<'_> {
        let text = Some(self.text.get()).filter(|text| !text.is_empty());
        if self.is_cancel {
            return Ask::Cancel(Cancel {
                order_id: self.id,
                reason: text,
                by: self.session_user.to_u32(),
            });
        }
        Ask::Purchase(Request {
            item_id: self.id,
            user_id: self.user_id.get(),
            quantity: self.quantity,
            idempotency_key: text,
            default_ttl: self.default_ttl,
        })
    }
}

/// What the seller leaves for a caller.
#[derive(Clone, Copy)]
#[allow(clippy::large_enum_variant)] // nothing in shared memory can be boxed
pub enum Reply {
    Outcome(Outcome),
    Cancelled(Cancelled),
    Error(Error),
}

impl Reply {
    /// Whether it tells of what was done before.
    pub fn is_replay(&self) -> bool {
        match self {
            Self::Outcome(outcome) => outcome.is_replay(),
            Self::Cancelled(cancelled) => matches!(cancelled, Cancelled::Closed { .. }),
            Self::Error(_) => false,
        }
    }

    /// Whether nothing was done, and may be done yet.
    pub fn is_busy(&self) -> bool {
        matches!(
            self,
            Self::Outcome(Outcome::Busy) | Self::Cancelled(Cancelled::Busy)
        )
    }
}

/// An error that a purchase met in the seller, for its caller to raise: message, detail
/// and hint, cut where they are long.
#[derive(Clone, Copy)]
pub struct Error {
    pub sqlstate: i32,
    parts: [Text; 3],
}

impl Error {
    pub fn of(fault: Fault) -> Self {
        let part = |text: Option<&str>| {
            let mut part = Text::EMPTY;
            part.set(text.unwrap_or_default());
            part
        };
        let sqlstate = fault.sqlstate() as i32;
        let report = ErrorReport::from(fault);
        Self {
            sqlstate,
            parts: [
                part(Some(report.message())),
                part(report.detail()),
                part(report.hint()),
            ],
        }
    }

    /// Message, detail and hint.
    pub fn texts(&self) -> [&str; 3] {
        [
            self.parts[0].get(),
            self.parts[1].get(),
            self.parts[2].get(),
        ]
    }
}

/// What a caller finds in its slot.
pub enum Found {
    Waiting,
    Answered(Reply),
    Orphaned {
        xid: TransactionId,
        reply: Option<Reply>,
    },
}

/// Where a request stands in the queue, and which of the slot's requests it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    slot: usize,
    generation: u64,
}

impl Queue {
    fn push(&mut self, list: fn(&mut Self) -> &mut List, slot: usize) {
        let link = slot as u16 + 1;
        let last = list(self).last;
        self.slots[slot].previous = last;
        self.slots[slot].next = 0;
        match last {
            0 => list(self).first = link,
            last => self.slots[usize::from(last) - 1].next = link,
        }
        list(self).last = link;
        list(self).len += 1;
    }

    fn remove(&mut self, list: fn(&mut Self) -> &mut List, slot: usize) {
        let Slot { next, previous, .. } = self.slots[slot];
        match previous {
            0 => list(self).first = next,
            previous => self.slots[usize::from(previous) - 1].next = next,
        }
        match next {
            0 => list(self).last = previous,
            next => self.slots[usize::from(next) - 1].previous = previous,
        }
        list(self).len -= 1;
    }

    fn waiting(&mut self) -> &mut List {
        &mut self.waiting
    }

    fn committed(&mut self) -> &mut List {
        &mut self.committed
    }

    fn free(&mut self) -> &mut List {
        &mut self.free
    }

    fn unused_slot(&mut self) -> Option<usize> {
        if self.in_use >= settings::queue_size() {
            return None;
        }
        match self.free.first {
            0 => {
                self.used += 1;
                Some(self.used - 1)
            }
            first => {
                let slot = usize::from(first) - 1;
                self.remove(Self::free, slot);
                Some(slot)
            }
        }
    }

    fn is(&self, ticket: Ticket, phase: Phase) -> bool {
        word(ticket.slot).load(Ordering::Relaxed) == state(ticket.generation, phase)
    }

    fn set(&mut self, ticket: Ticket, phase: Phase) {
        word(ticket.slot).store(state(ticket.generation, phase), Ordering::Release);
    }
}

/// Queues a request and wakes the seller; `None` if the queue is full.
pub fn join(queue: &LwLock<Queue>, ask: &Ask<'_>) -> Option<Ticket> {
    let mut queue = queue.lock();
    let slot = queue.unused_slot()?;
    queue.in_use += 1;
    let ticket = Ticket {
        slot,
        generation: generation(slot) + 1,
    };
    queue.set(ticket, Phase::Waiting);
    let it = &mut queue.slots[slot];
    it.taken = false;
    it.xid = pg_sys::InvalidTransactionId;
    it.asked.set(ask);
    queue.push(Queue::waiting, slot);
    drop(queue);
    latches().wake(SELLER);
    Some(ticket)
}

/// Whether there is a seller.
pub fn is_served() -> bool {
    latches().is_taken(SELLER)
}

/// What there is for the caller, who has left the queue once it is an answer.
#[allow(unsafe_code)]
pub fn look(queue: &LwLock<Queue>, ticket: Ticket) -> Found {
    let mut queue = queue.lock();
    let it = &queue.slots[ticket.slot];
    // SAFETY: written before the phase, or the transaction, that says so.
    let reply = || unsafe { it.reply.assume_init() };
    if queue.is(ticket, Phase::Answered) {
        let reply = reply();
        free(&mut queue, ticket);
        return Found::Answered(reply);
    }
    if queue.is(ticket, Phase::Orphaned) {
        let reply = (it.xid != pg_sys::InvalidTransactionId).then(reply);
        return Found::Orphaned { xid: it.xid, reply };
    }
    Found::Waiting
}

/// Whether anything is left to wait for; takes no lock.
pub fn is_waiting(ticket: Ticket) -> bool {
    let word = word(ticket.slot).load(Ordering::Acquire);
    word == state(ticket.generation, Phase::Waiting)
        || word == state(ticket.generation, Phase::Committed)
}

/// Leaves the queue, answered or not: the slot is free for the next.
pub fn leave(queue: &LwLock<Queue>, ticket: Ticket) {
    free(&mut queue.lock(), ticket);
}

/// Leaves the queue unless the seller has taken the request; false if it has.
pub fn withdraw(queue: &LwLock<Queue>, ticket: Ticket) -> bool {
    let mut queue = queue.lock();
    let untaken = queue.is(ticket, Phase::Waiting) && !queue.slots[ticket.slot].taken;
    if untaken {
        free(&mut queue, ticket);
    }
    untaken
}

fn free(queue: &mut Queue, ticket: Ticket) {
    if queue.is(ticket, Phase::Waiting) && !queue.slots[ticket.slot].taken {
        queue.remove(Queue::waiting, ticket.slot);
    } else if queue.is(ticket, Phase::Committed) {
        queue.remove(Queue::committed, ticket.slot);
    }
    queue.set(ticket, Phase::Free);
    queue.in_use -= 1;
    queue.push(Queue::free, ticket.slot);
}

/// Says who serves the queue from now on.
pub fn open() {
    latches().take(SELLER);
}

/// The seller is gone: those it had taken learn what became of them by its transaction,
/// the others wait for the next seller.
pub fn close(queue: &LwLock<Queue>) {
    latches().leave(SELLER);
    let mut queue = queue.lock();
    let mut orphaned = Vec::new();
    for slot in 0..queue.used {
        let ticket = Ticket {
            slot,
            generation: generation(slot),
        };
        if queue.is(ticket, Phase::Waiting) && queue.slots[slot].taken {
            queue.set(ticket, Phase::Orphaned);
            orphaned.push(slot);
        }
    }
    drop(queue);
    wake_callers(orphaned);
}

/// Takes up to `most` requests, oldest first.
pub fn take(queue: &LwLock<Queue>, most: usize) -> Vec<(Ticket, Asked)> {
    let mut queue = queue.lock();
    let mut taken = Vec::with_capacity(most.min(usize::from(queue.waiting.len)));
    while taken.len() < most && queue.waiting.first != 0 {
        let slot = usize::from(queue.waiting.first) - 1;
        queue.remove(Queue::waiting, slot);
        queue.slots[slot].taken = true;
        let ticket = Ticket {
            slot,
            generation: generation(slot),
        };
        taken.push((ticket, queue.slots[slot].asked));
    }
    taken
}

/// Requests not yet taken.
pub fn backlog(queue: &LwLock<Queue>) -> usize {
    usize::from(queue.read().waiting.len)
}

/// Leaves replies where callers find them once they are published, or once the seller
/// died and its transaction committed.
pub fn write<'a>(
    queue: &LwLock<Queue>,
    replies: impl Iterator<Item = (Ticket, &'a Reply)>,
    xid: TransactionId,
) {
    let mut queue = queue.lock();
    for (ticket, reply) in replies {
        // Its caller may have left, and the slot belong to another by now.
        if queue.is(ticket, Phase::Waiting) {
            let it = &mut queue.slots[ticket.slot];
            it.reply.write(*reply);
            it.xid = xid;
        }
    }
}

/// Hands written replies to their callers, and wakes them all.
pub fn publish(queue: &LwLock<Queue>, tickets: impl Iterator<Item = Ticket>) {
    let mut answered = Vec::new();
    let mut guard = queue.lock();
    for ticket in tickets {
        if guard.is(ticket, Phase::Waiting) {
            guard.set(ticket, Phase::Answered);
            answered.push(ticket.slot);
        }
    }
    drop(guard);
    wake_callers(answered);
}

/// Whether there is a publisher.
pub fn has_publisher() -> bool {
    latches().is_taken(PUBLISHER)
}

/// Leaves committed answers to the publisher.
pub fn hand_over(queue: &LwLock<Queue>, tickets: impl Iterator<Item = Ticket>, end: XLogRecPtr) {
    let mut guard = queue.lock();
    for ticket in tickets {
        if guard.is(ticket, Phase::Waiting) {
            guard.set(ticket, Phase::Committed);
            guard.slots[ticket.slot].end = end;
            guard.push(Queue::committed, ticket.slot);
        }
    }
    drop(guard);
    latches().wake(PUBLISHER);
}

/// This worker publishes from now on.
pub fn open_publisher() {
    latches().take(PUBLISHER);
    latches().wake(SELLER);
}

/// Nobody publishes from now on, so the seller has to.
pub fn close_publisher() {
    latches().leave(PUBLISHER);
    latches().wake(SELLER);
}

/// Up to where the log must be durable for the answers handed over, and how.
pub fn committed(queue: &LwLock<Queue>) -> Option<(XLogRecPtr, i32)> {
    let queue = queue.read();
    let mut wanted = None;
    let mut link = queue.committed.first;
    while link != 0 {
        let it = &queue.slots[usize::from(link) - 1];
        let (end, level) = wanted.unwrap_or_default();
        wanted = Some((it.end.max(end), it.asked.synchronous_commit.max(level)));
        link = it.next;
    }
    wanted
}

/// Publishes what was handed over and is durable up to `end`.
pub fn publish_committed(queue: &LwLock<Queue>, end: XLogRecPtr) {
    let mut answered = Vec::new();
    let mut guard = queue.lock();
    let mut link = guard.committed.first;
    while link != 0 {
        let slot = usize::from(link) - 1;
        link = guard.slots[slot].next;
        if guard.slots[slot].end <= end {
            guard.remove(Queue::committed, slot);
            let ticket = Ticket {
                slot,
                generation: generation(slot),
            };
            guard.set(ticket, Phase::Answered);
            answered.push(slot);
        }
    }
    drop(guard);
    wake_callers(answered);
}

/// Sleeps until there may be something to find.
pub fn sleep(ticket: Ticket, at_most_ms: i64) {
    parking(ticket.slot).park(WaitFor::Seller, at_most_ms, || !is_waiting(ticket));
}

fn wake_callers(slots: Vec<usize>) {
    for slot in slots {
        parking(slot).unpark();
    }
}
