//! The slots in which requests wait to be served, each with its place in the lists of those
//! that are free, waiting or committed.
//!
//! [`Slots`] changes only under a lock that its owner holds; every method takes it by `&mut` or
//! `&`. [`Words`] is what a caller reads without that lock, to learn whether it still has to wait.
//! The two are apart, so that no `&mut` ever covers what others read at the same time.
//!
//! ```text
//!   Free ── join ──► Waiting ── take, write, publish ──► Answered ── collect ──► Free
//!                       │  │                                ▲
//!                       │  └── take, write, hand over ──► Committed
//!                       └── take, then the seller is gone ──► Orphaned ── collect ──► Free
//! ```
//! Whatever the phase, its caller may leave, and then the slot is free.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Free = 0,
    /// Asked, and not answered.
    Waiting = 1,
    Answered = 2,
    /// The seller is gone that had taken it. What became of its transaction tells the answer.
    Orphaned = 3,
    /// Its transaction has committed; the answer is due once the commit is durable.
    Committed = 4,
}

impl Phase {
    fn of(word: u64) -> Self {
        match word & PHASE {
            1 => Self::Waiting,
            2 => Self::Answered,
            3 => Self::Orphaned,
            4 => Self::Committed,
            _ => Self::Free,
        }
    }
}

/// The bits of a word that hold the phase; those above count the slot's generations.
const PHASE: u64 = 0b111;
const PHASE_BITS: u32 = PHASE.count_ones();

/// A request's slot, and which of the slot's requests it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    slot: u16,
    generation: u64,
}

impl Ticket {
    /// The number of the slot, below `N`.
    pub fn slot(self) -> usize {
        usize::from(self.slot)
    }

    fn word(self, phase: Phase) -> u64 {
        self.generation << PHASE_BITS | phase as u64
    }
}

/// Generation and phase of each slot in one atomic word, so that what is meant for one request
/// can never be taken for the next one's in the same slot.
pub struct Words<const N: usize>([AtomicU64; N]);

impl<const N: usize> Words<N> {
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }

    /// Whether the request still has to wait for its answer; reads one word, under no lock.
    pub fn is_pending(&self, ticket: Ticket) -> bool {
        self.is(ticket, Phase::Waiting) || self.is(ticket, Phase::Committed)
    }

    fn is(&self, ticket: Ticket, phase: Phase) -> bool {
        self.0[ticket.slot()].load(Ordering::Acquire) == ticket.word(phase)
    }

    /// Whether the ticket is that of the request which the slot holds now.
    fn is_current(&self, ticket: Ticket) -> bool {
        let word = self.0[ticket.slot()].load(Ordering::Acquire);
        word >> PHASE_BITS == ticket.generation && Phase::of(word) != Phase::Free
    }

    /// The ticket of the request which the slot holds now, or held last.
    fn ticket(&self, slot: u16) -> Ticket {
        let word = self.0[usize::from(slot)].load(Ordering::Acquire);
        Ticket {
            slot,
            generation: word >> PHASE_BITS,
        }
    }

    fn phase(&self, slot: u16) -> Phase {
        Phase::of(self.0[usize::from(slot)].load(Ordering::Acquire))
    }

    fn set(&self, ticket: Ticket, phase: Phase) {
        self.0[ticket.slot()].store(ticket.word(phase), Ordering::Release);
    }
}

impl<const N: usize> Default for Words<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// The number of a slot plus one, so that 0 is none.
type Link = u16;

/// A list of slots, linked through them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct List {
    first: Link,
    last: Link,
    len: u16,
}

impl List {
    const EMPTY: Self = Self {
        first: 0,
        last: 0,
        len: 0,
    };
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot<A, R> {
    next: Link,
    previous: Link,
    /// Whether the seller has it. Until then its caller may withdraw it.
    taken: bool,
    request: Option<A>,
    reply: Option<R>,
    /// Where its commit ends in the log, once it is committed.
    end: u64,
}

impl<A, R> Slot<A, R> {
    const UNUSED: Self = Self {
        next: 0,
        previous: 0,
        taken: false,
        request: None,
        reply: None,
        end: 0,
    };
}

/// `N` slots with requests `A` and their replies `R`. Neither may own memory where the slots lie
/// in memory shared between processes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slots<A, R, const N: usize> {
    free: List,
    /// Asked, and not taken by the seller.
    waiting: List,
    /// Answered by commits that may not be durable yet.
    committed: List,
    /// Slots from here on were never used, and are in no list.
    used: u16,
    in_use: u16,
    slots: [Slot<A, R>; N],
}

/// What there is for a caller that need not wait any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collected<R> {
    Answered(R),
    /// The seller is gone, and left this reply, if any: it is true if its transaction committed.
    Orphaned(Option<R>),
}

impl<A: Copy, R: Copy, const N: usize> Default for Slots<A, R, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: Copy, R: Copy, const N: usize> Slots<A, R, N> {
    pub const fn new() -> Self {
        const { assert!(N < Link::MAX as usize, "a link must reach every slot") };
        Self {
            free: List::EMPTY,
            waiting: List::EMPTY,
            committed: List::EMPTY,
            used: 0,
            in_use: 0,
            slots: [const { Slot::UNUSED }; N],
        }
    }

    /// Queues a request; `None` if `capacity` slots, or all of them, are in use.
    pub fn join(&mut self, words: &Words<N>, capacity: usize, request: A) -> Option<Ticket> {
        if usize::from(self.in_use) >= capacity {
            return None;
        }
        let slot = self.unused_slot()?;
        let ticket = Ticket {
            slot,
            generation: words.ticket(slot).generation + 1,
        };
        let it = &mut self.slots[ticket.slot()];
        it.taken = false;
        it.request = Some(request);
        it.reply = None;
        self.push(Self::waiting_list, slot);
        self.in_use += 1;
        words.set(ticket, Phase::Waiting);
        Some(ticket)
    }

    fn unused_slot(&mut self) -> Option<u16> {
        if let Some(first) = self.free.first.checked_sub(1) {
            self.remove(Self::free_list, first);
            return Some(first);
        }
        let unused = self.used;
        if usize::from(unused) == N {
            return None;
        }
        self.used += 1;
        Some(unused)
    }

    /// Takes the request back unless the seller has it; false if it has, or if there is none.
    pub fn withdraw(&mut self, words: &Words<N>, ticket: Ticket) -> bool {
        let is_untaken = words.is(ticket, Phase::Waiting) && !self.slots[ticket.slot()].taken;
        if is_untaken {
            self.leave(words, ticket);
        }
        is_untaken
    }

    /// Gives the slot back, whatever phase it is in. Nothing if it is another's by now.
    pub fn leave(&mut self, words: &Words<N>, ticket: Ticket) {
        if !words.is_current(ticket) {
            return;
        }
        match words.phase(ticket.slot) {
            Phase::Waiting if !self.slots[ticket.slot()].taken => {
                self.remove(Self::waiting_list, ticket.slot);
            }
            Phase::Committed => self.remove(Self::committed_list, ticket.slot),
            _ => {}
        }
        words.set(ticket, Phase::Free);
        self.push(Self::free_list, ticket.slot);
        self.in_use -= 1;
    }

    /// What there is for the caller, who has then left its slot; `None` while it has to wait.
    pub fn collect(&mut self, words: &Words<N>, ticket: Ticket) -> Option<Collected<R>> {
        let reply = || self.slots[ticket.slot()].reply;
        let collected = if words.is(ticket, Phase::Answered) {
            Collected::Answered(reply()?)
        } else if words.is(ticket, Phase::Orphaned) {
            Collected::Orphaned(reply())
        } else {
            return None;
        };
        self.leave(words, ticket);
        Some(collected)
    }

    /// Takes up to `most` requests for the seller, oldest first.
    pub fn take(&mut self, words: &Words<N>, most: usize) -> Vec<(Ticket, A)> {
        let mut taken = Vec::with_capacity(most.min(self.waiting()));
        while taken.len() < most {
            let Some(slot) = self.waiting.first.checked_sub(1) else {
                break;
            };
            self.remove(Self::waiting_list, slot);
            let it = &mut self.slots[usize::from(slot)];
            it.taken = true;
            taken.extend(it.request.map(|request| (words.ticket(slot), request)));
        }
        taken
    }

    /// Leaves a reply where its caller finds it once it is published, or if the seller is gone.
    /// Nothing if the caller has left.
    pub fn write(&mut self, words: &Words<N>, ticket: Ticket, reply: R) {
        if self.is_taken(words, ticket) {
            self.slots[ticket.slot()].reply = Some(reply);
        }
    }

    /// Hands the reply that was written to its caller, who is to be woken then; false if it has
    /// left, or if no reply was written.
    pub fn publish(&mut self, words: &Words<N>, ticket: Ticket) -> bool {
        let is_due = self.is_replied(words, ticket);
        if is_due {
            words.set(ticket, Phase::Answered);
        }
        is_due
    }

    /// Puts a reply that was written among those that are due once their commits, which end in
    /// the log at `end`, are durable. False if its caller has left, or if no reply was written.
    pub fn hand_over(&mut self, words: &Words<N>, ticket: Ticket, end: u64) -> bool {
        let is_due = self.is_replied(words, ticket);
        if is_due {
            words.set(ticket, Phase::Committed);
            self.slots[ticket.slot()].end = end;
            self.push(Self::committed_list, ticket.slot);
        }
        is_due
    }

    /// Publishes what was handed over and is durable by the judgement of `is_durable`, which gets
    /// the request and the end of its commit. Returns the slots whose callers are to be woken.
    pub fn publish_durable(
        &mut self,
        words: &Words<N>,
        is_durable: impl Fn(&A, u64) -> bool,
    ) -> Vec<usize> {
        let mut published = Vec::new();
        let mut link = self.committed.first;
        while let Some(slot) = link.checked_sub(1) {
            let it = &self.slots[usize::from(slot)];
            link = it.next;
            if it
                .request
                .as_ref()
                .is_some_and(|request| is_durable(request, it.end))
            {
                self.remove(Self::committed_list, slot);
                words.set(words.ticket(slot), Phase::Answered);
                published.push(usize::from(slot));
            }
        }
        published
    }

    /// The seller is gone. Those it had taken are told so, and the numbers of their slots are
    /// returned, so that their callers can be woken. The others wait for the next seller, and
    /// what was handed over stays handed over.
    pub fn orphan(&mut self, words: &Words<N>) -> Vec<usize> {
        let mut orphaned = Vec::new();
        for slot in 0..self.used {
            let ticket = words.ticket(slot);
            if self.is_taken(words, ticket) {
                words.set(ticket, Phase::Orphaned);
                orphaned.push(usize::from(slot));
            }
        }
        orphaned
    }

    /// How many requests the seller has not taken yet.
    pub fn waiting(&self) -> usize {
        usize::from(self.waiting.len)
    }

    /// The requests whose replies were handed over, oldest first, with the ends of their commits.
    pub fn committed(&self) -> impl Iterator<Item = (&A, u64)> {
        let first = self.committed.first;
        let slots = std::iter::successors(self.at(first), |slot| self.at(slot.next));
        slots.filter_map(|slot| Some((slot.request.as_ref()?, slot.end)))
    }

    fn at(&self, link: Link) -> Option<&Slot<A, R>> {
        Some(&self.slots[usize::from(link.checked_sub(1)?)])
    }

    fn is_taken(&self, words: &Words<N>, ticket: Ticket) -> bool {
        words.is(ticket, Phase::Waiting) && self.slots[ticket.slot()].taken
    }

    fn is_replied(&self, words: &Words<N>, ticket: Ticket) -> bool {
        self.is_taken(words, ticket) && self.slots[ticket.slot()].reply.is_some()
    }

    fn push(&mut self, list: fn(&mut Self) -> &mut List, slot: u16) {
        let link = slot + 1;
        let last = list(self).last;
        let it = &mut self.slots[usize::from(slot)];
        it.previous = last;
        it.next = 0;
        match last.checked_sub(1) {
            None => list(self).first = link,
            Some(last) => self.slots[usize::from(last)].next = link,
        }
        list(self).last = link;
        list(self).len += 1;
    }

    fn remove(&mut self, list: fn(&mut Self) -> &mut List, slot: u16) {
        let Slot { next, previous, .. } = self.slots[usize::from(slot)];
        match previous.checked_sub(1) {
            None => list(self).first = next,
            Some(previous) => self.slots[usize::from(previous)].next = next,
        }
        match next.checked_sub(1) {
            None => list(self).last = previous,
            Some(next) => self.slots[usize::from(next)].previous = previous,
        }
        list(self).len -= 1;
    }

    fn free_list(&mut self) -> &mut List {
        &mut self.free
    }

    fn waiting_list(&mut self) -> &mut List {
        &mut self.waiting
    }

    fn committed_list(&mut self) -> &mut List {
        &mut self.committed
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
