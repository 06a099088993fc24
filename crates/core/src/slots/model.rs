//! A model check: all interleavings of three callers, a seller that may die, and a publisher, over
//! two slots.
//!
//! The test visits every reachable state, so for this size its assertions are proved, not sampled.

use super::tests::assert_sound;
use super::*;
use std::collections::HashSet;

const SLOTS: usize = 2;
const CALLERS: usize = 3;
/// How many requests all callers make in total. With four, a slot is used again, by the same
/// caller and by another one, while the seller still has the tickets of earlier requests.
const REQUESTS: u8 = 4;

/// The caller, and how many requests it has made. A reply repeats the request that it answers.
type Request = (u8, u8);

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Caller {
    ticket: Option<Ticket>,
    requests: u8,
}

/// The shared memory, and what each process knows.
#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    slots: Slots<Request, Request, SLOTS>,
    words: [u64; SLOTS],
    callers: [Caller; CALLERS],
    /// The requests that the seller has taken and not answered; `None` while there is no seller.
    seller: Option<Vec<(Ticket, Request)>>,
}

impl World {
    fn new() -> Self {
        Self {
            slots: Slots::new(),
            words: [0; SLOTS],
            callers: Default::default(),
            seller: None,
        }
    }

    fn words(&self) -> Words<SLOTS> {
        Words(self.words.map(AtomicU64::new))
    }

    /// The world after a step; `None` if the step is not possible.
    fn after(&self, step: impl FnOnce(&mut World, &Words<SLOTS>) -> Option<()>) -> Option<World> {
        let mut world = self.clone();
        let words = self.words();
        step(&mut world, &words)?;
        world.words = words.0.map(AtomicU64::into_inner);
        Some(world)
    }

    /// All worlds that are one step away.
    fn next(&self) -> Vec<World> {
        let mut next = Vec::new();
        for caller in 0..CALLERS {
            next.extend(self.after(|world, words| world.join(words, caller)));
            next.extend(self.after(|world, words| world.collect(words, caller)));
            next.extend(self.after(|world, words| world.withdraw(words, caller)));
            next.extend(self.after(|world, words| world.leave(words, caller)));
        }
        for most in 1..=SLOTS {
            next.extend(self.after(|world, words| world.take(words, most)));
        }
        for job in 0..self.seller.as_ref().map_or(0, Vec::len) {
            next.extend(self.after(|world, words| world.write(words, job)));
            next.extend(self.after(|world, words| world.publish(words, job)));
            next.extend(self.after(|world, words| world.hand_over(words, job)));
        }
        let committed: Vec<Request> = self
            .slots
            .committed()
            .map(|(&request, _)| request)
            .collect();
        for one in committed {
            next.extend(self.after(|world, words| world.publish_durable(words, one)));
        }
        next.extend(self.after(World::seller_comes_or_goes));
        next
    }

    fn own(&self, caller: usize) -> Request {
        (caller as u8, self.callers[caller].requests)
    }

    fn join(&mut self, words: &Words<SLOTS>, caller: usize) -> Option<()> {
        let requests: u8 = self.callers.iter().map(|it| it.requests).sum();
        let it = &mut self.callers[caller];
        if it.ticket.is_some() || requests == REQUESTS {
            return None;
        }
        it.requests += 1;
        let request = self.own(caller);
        let is_full = self.callers.iter().filter(|it| it.ticket.is_some()).count() == SLOTS;
        let ticket = self.slots.join(words, SLOTS, request);
        assert_eq!(
            ticket.is_none(),
            is_full,
            "a queue is full when all slots are in use"
        );
        self.callers[caller].ticket = ticket;
        Some(())
    }

    fn collect(&mut self, words: &Words<SLOTS>, caller: usize) -> Option<()> {
        let ticket = self.callers[caller].ticket?;
        let is_pending = words.is_pending(ticket);
        let collected = self.slots.collect(words, ticket);
        assert_eq!(
            collected.is_none(),
            is_pending,
            "the word tells whether to wait"
        );
        let (Collected::Answered(reply) | Collected::Orphaned(Some(reply))) = collected? else {
            self.callers[caller].ticket = None;
            return Some(());
        };
        assert_eq!(
            reply,
            self.own(caller),
            "the reply belongs to another request"
        );
        self.callers[caller].ticket = None;
        Some(())
    }

    fn withdraw(&mut self, words: &Words<SLOTS>, caller: usize) -> Option<()> {
        let ticket = self.callers[caller].ticket?;
        if self.slots.withdraw(words, ticket) {
            let taken = self.seller.iter().flatten();
            let is_taken = taken
                .map(|(_, request)| request)
                .any(|&it| it == self.own(caller));
            assert!(!is_taken, "withdrawn after the seller has taken it");
            self.callers[caller].ticket = None;
        }
        Some(())
    }

    fn leave(&mut self, words: &Words<SLOTS>, caller: usize) -> Option<()> {
        let ticket = self.callers[caller].ticket.take()?;
        self.slots.leave(words, ticket);
        Some(())
    }

    fn take(&mut self, words: &Words<SLOTS>, most: usize) -> Option<()> {
        let jobs = self.seller.as_mut()?;
        let taken = self.slots.take(words, most);
        assert!(taken.len() <= most);
        jobs.extend(taken);
        Some(())
    }

    fn write(&mut self, words: &Words<SLOTS>, job: usize) -> Option<()> {
        let (ticket, request) = self.seller.as_ref()?[job];
        self.slots.write(words, ticket, request);
        Some(())
    }

    /// Without a written reply nothing is published, and the seller keeps the job. With one the
    /// seller is done with the job, whether its caller has left or not.
    fn publish(&mut self, words: &Words<SLOTS>, job: usize) -> Option<()> {
        let (ticket, _) = self.seller.as_ref()?[job];
        let waiting = self.pending(words);
        let published = self.slots.publish(words, ticket).copied();
        self.assert_woken(words, &waiting, published.as_slice());
        self.done_with(words, job, published.is_some())
    }

    fn hand_over(&mut self, words: &Words<SLOTS>, job: usize) -> Option<()> {
        let (ticket, _) = self.seller.as_ref()?[job];
        let is_handed_over = self.slots.hand_over(words, ticket, 1);
        self.done_with(words, job, is_handed_over)
    }

    fn done_with(&mut self, words: &Words<SLOTS>, job: usize, is_answered: bool) -> Option<()> {
        let jobs = self.seller.as_mut()?;
        let has_left = !words.is_current(jobs[job].0);
        if is_answered || has_left {
            jobs.remove(job);
        }
        Some(())
    }

    fn publish_durable(&mut self, words: &Words<SLOTS>, one: Request) -> Option<()> {
        let waiting = self.pending(words);
        let mut woken = Vec::new();
        self.slots.publish_durable(
            words,
            |&request, _| request == one,
            |&request| woken.push(request),
        );
        assert_eq!(woken, [one]);
        self.assert_woken(words, &waiting, &woken);
        Some(())
    }

    /// The requests whose callers have to wait.
    fn pending(&self, words: &Words<SLOTS>) -> Vec<Request> {
        let is_pending = |&caller: &usize| {
            let ticket = self.callers[caller].ticket;
            ticket.is_some_and(|ticket| words.is_pending(ticket))
        };
        let callers = (0..CALLERS).filter(is_pending);
        callers.map(|caller| self.own(caller)).collect()
    }

    /// Exactly those are woken who have to wait no longer. `waiting` are those who had to before.
    fn assert_woken(&self, words: &Words<SLOTS>, waiting: &[Request], woken: &[Request]) {
        let still = self.pending(words);
        let done = waiting.iter().filter(|it| !still.contains(it));
        let done: HashSet<&Request> = done.collect();
        assert_eq!(done, woken.iter().collect(), "who is woken");
    }

    fn seller_comes_or_goes(&mut self, words: &Words<SLOTS>) -> Option<()> {
        self.seller = match self.seller {
            None => Some(Vec::new()),
            Some(_) => {
                let waiting = self.pending(words);
                let mut woken = Vec::new();
                self.slots.orphan(words, |&request| woken.push(request));
                self.assert_woken(words, &waiting, &woken);
                None
            }
        };
        Some(())
    }

    fn assert_holds(&self) {
        let words = self.words();
        assert_sound(&self.slots, &words);
        let holders = self.callers.iter().filter(|it| it.ticket.is_some());
        assert_eq!(
            usize::from(self.slots.in_use),
            holders.count(),
            "a slot is lost"
        );
        for (caller, it) in self.callers.iter().enumerate() {
            let Some(ticket) = it.ticket else { continue };
            assert!(
                words.is_current(ticket),
                "the slot holds another caller's request"
            );
            let slot = &self.slots.slots[ticket.slot()];
            let own = self.own(caller);
            assert_eq!(slot.request, Some(own));
            assert!(
                slot.reply.is_none_or(|reply| reply == own),
                "the reply belongs to another request"
            );
            match words.phase(ticket.slot) {
                Phase::Answered | Phase::Committed => assert!(slot.reply.is_some()),
                Phase::Waiting if slot.taken => {
                    // Otherwise its caller would wait for ever.
                    let seller = self
                        .seller
                        .as_ref()
                        .expect("taken by a seller that is gone, and not orphaned");
                    assert!(
                        seller.contains(&(ticket, own)),
                        "the seller has forgotten it"
                    );
                }
                _ => {}
            }
        }
    }
}

#[test]
fn no_interleaving_breaks_a_rule() {
    let mut seen = HashSet::from([World::new()]);
    let mut open = vec![World::new()];
    while let Some(world) = open.pop() {
        for next in world.next() {
            if seen.insert(next.clone()) {
                next.assert_holds();
                open.push(next);
            }
        }
    }
    eprintln!("{} states", seen.len());
    assert!(seen.len() > 10_000, "{} states only", seen.len());
}
