//! The slots in which requests wait to be served, with linked lists of those that are free,
//! waiting or committed.
//!
//! [`Slots`] lies behind a lock, so its methods take `&mut self` or `&self`. A caller reads
//! [`Words`] without that lock, to learn whether it still has to wait. The two are separate, so
//! that no `&mut` ever covers memory that other processes read at the same time.
//!
//! ```text
//!   Free ── join ──► Waiting ── take, write, publish ──► Answered ── collect ──► Free
//!                       │  │                                ▲
//!                       │  └── take, write, hand over ──► Committed
//!                       └── take, then the seller is gone ──► Orphaned ── collect ──► Free
//! ```
//! In every phase the caller may leave; then the slot is free.

use std::sync::atomic::{AtomicU64, Ordering};

/// The phase of a slot's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Free = 0,
    /// Queued, or taken by the seller, and not answered yet.
    Waiting = 1,
    Answered = 2,
    /// The seller had taken it and has exited. The answer depends on whether the seller's
    /// transaction committed.
    Orphaned = 3,
    /// Its transaction has committed. The answer is published once the commit is durable.
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

/// The bits of a word that hold the phase. The bits above them hold the generation.
const PHASE: u64 = 0b111;
const PHASE_BITS: u32 = PHASE.count_ones();

/// Identifies a request: its slot, and the slot's generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    slot: u16,
    generation: u64,
}

impl Ticket {
    fn slot(self) -> usize {
        usize::from(self.slot)
    }

    fn word(self, phase: Phase) -> u64 {
        self.generation << PHASE_BITS | phase as u64
    }
}

/// The generation and phase of each slot in one atomic word. Each request in a slot has its own
/// generation, so that nothing meant for one request can reach the next request in its slot.
pub struct Words<const N: usize>([AtomicU64; N]);

impl<const N: usize> Words<N> {
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }

    /// Whether the request still has to wait for its answer. Reads one word and takes no lock.
    pub fn is_pending(&self, ticket: Ticket) -> bool {
        self.is(ticket, Phase::Waiting) || self.is(ticket, Phase::Committed)
    }

    fn is(&self, ticket: Ticket, phase: Phase) -> bool {
        self.0[ticket.slot()].load(Ordering::Acquire) == ticket.word(phase)
    }

    /// Whether the slot still holds the ticket's request.
    fn is_current(&self, ticket: Ticket) -> bool {
        let word = self.0[ticket.slot()].load(Ordering::Acquire);
        word >> PHASE_BITS == ticket.generation && Phase::of(word) != Phase::Free
    }

    /// The ticket of the request that the slot holds now, or held last.
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

/// A slot's number plus one; 0 is no slot.
type Link = u16;

/// A doubly linked list of slots, whose links are in the slots.
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
    /// Whether the seller has taken the request. Until then its caller may withdraw it.
    taken: bool,
    request: Option<A>,
    reply: Option<R>,
    /// In phase `Committed`, the WAL position at which its commit ends.
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

/// `N` slots with requests `A` and their replies `R`. If the slots lie in shared memory, neither
/// type may own heap memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slots<A, R, const N: usize> {
    free: List,
    /// Requests that the seller has not taken.
    waiting: List,
    /// Requests whose commits may not be durable yet.
    committed: List,
    /// The slots from this number on were never used, and are in no list.
    used: u16,
    in_use: u16,
    slots: [Slot<A, R>; N],
}

/// What a caller finds in its slot when it no longer has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collected<R> {
    Answered(R),
    /// The seller exited after it had taken the request. Its reply, if it wrote one, is valid if
    /// its transaction committed.
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

    /// Queues a request. `None` if `capacity` slots, or all `N`, are in use.
    pub fn join(&mut self, words: &Words<N>, capacity: usize, request: A) -> Option<Ticket> {
        if usize::from(self.in_use) >= capacity {
            return None;
        }
        let slot = self.unused_slot()?;
        let ticket = Ticket {
            slot,
            generation: words.ticket(slot).generation + 1,
        };
        let entry = &mut self.slots[ticket.slot()];
        entry.taken = false;
        entry.request = Some(request);
        entry.reply = None;
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

    /// Frees the slot if the seller has not taken the request. False if the seller has taken it,
    /// or if the slot no longer holds it.
    pub fn withdraw(&mut self, words: &Words<N>, ticket: Ticket) -> bool {
        let is_untaken = words.is(ticket, Phase::Waiting) && !self.slots[ticket.slot()].taken;
        if is_untaken {
            self.leave(words, ticket);
        }
        is_untaken
    }

    /// Frees the slot, whatever its phase. Does nothing if the slot no longer holds the request.
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

    /// Returns the caller's reply and frees the slot; `None` while the caller has to wait.
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

    /// Takes up to `most` waiting requests for the seller, oldest first.
    pub fn take(&mut self, words: &Words<N>, most: usize) -> Vec<(Ticket, A)> {
        let mut taken = Vec::with_capacity(most.min(self.waiting()));
        while taken.len() < most {
            let Some(slot) = self.waiting.first.checked_sub(1) else {
                break;
            };
            self.remove(Self::waiting_list, slot);
            let entry = &mut self.slots[usize::from(slot)];
            entry.taken = true;
            taken.extend(entry.request.map(|request| (words.ticket(slot), request)));
        }
        taken
    }

    /// Writes a reply into its slot. The caller collects it once it is published, or once the
    /// seller has exited. Does nothing if the caller has left.
    pub fn write(&mut self, words: &Words<N>, ticket: Ticket, reply: R) {
        if self.is_taken(words, ticket) {
            self.slots[ticket.slot()].reply = Some(reply);
        }
    }

    /// Publishes the written reply. Returns the request, whose caller must then be woken; `None` if
    /// the caller has left, or if no reply was written.
    pub fn publish(&mut self, words: &Words<N>, ticket: Ticket) -> Option<&A> {
        if !self.is_replied(words, ticket) {
            return None;
        }
        words.set(ticket, Phase::Answered);
        self.slots[ticket.slot()].request.as_ref()
    }

    /// Moves a request with a written reply to the committed list, until its commit, which ends
    /// at WAL position `end`, is durable. False if the caller has left, or if no reply was written.
    pub fn hand_over(&mut self, words: &Words<N>, ticket: Ticket, end: u64) -> bool {
        let is_due = self.is_replied(words, ticket);
        if is_due {
            words.set(ticket, Phase::Committed);
            self.slots[ticket.slot()].end = end;
            self.push(Self::committed_list, ticket.slot);
        }
        is_due
    }

    /// Publishes the replies on the committed list for which `is_durable`, called with the
    /// request and the end of its commit, is true. Calls `published` with each of the requests,
    /// whose callers must then be woken.
    pub fn publish_durable(
        &mut self,
        words: &Words<N>,
        is_durable: impl Fn(&A, u64) -> bool,
        mut published: impl FnMut(&A),
    ) {
        let mut link = self.committed.first;
        while let Some(slot) = link.checked_sub(1) {
            let entry = &self.slots[usize::from(slot)];
            link = entry.next;
            let end = entry.end;
            if let Some(request) = entry.request.as_ref()
                && is_durable(request, end)
            {
                published(request);
                self.remove(Self::committed_list, slot);
                words.set(words.ticket(slot), Phase::Answered);
            }
        }
    }

    /// To be called when the seller exits. Marks the requests that it had taken as orphaned, and
    /// calls `orphaned` with each of them, whose callers must then be woken. Requests not taken wait
    /// for the next seller, and those on the committed list stay there.
    pub fn orphan(&mut self, words: &Words<N>, mut orphaned: impl FnMut(&A)) {
        for slot in 0..self.used {
            let ticket = words.ticket(slot);
            if self.is_taken(words, ticket) {
                words.set(ticket, Phase::Orphaned);
                self.slots[usize::from(slot)]
                    .request
                    .iter()
                    .for_each(&mut orphaned);
            }
        }
    }

    /// The number of requests that the seller has not taken yet.
    pub fn waiting(&self) -> usize {
        usize::from(self.waiting.len)
    }

    /// The oldest request that the seller has not taken yet.
    pub fn oldest_waiting(&self) -> Option<&A> {
        self.at(self.waiting.first)?.request.as_ref()
    }

    /// The requests on the committed list, oldest first, with the WAL positions of their commits.
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
        let entry = &mut self.slots[usize::from(slot)];
        entry.previous = last;
        entry.next = 0;
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
