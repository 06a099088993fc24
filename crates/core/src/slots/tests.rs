use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What holds between any two steps: each slot is in the list of its phase and in no other, lists
/// are linked in both directions, and the counts are right.
pub(super) fn assert_sound<A: Copy, R: Copy, const N: usize>(
    slots: &Slots<A, R, N>,
    words: &Words<N>,
) {
    let mut listed = BTreeMap::<u16, Phase>::new();
    for (list, phase) in [
        (&slots.free, Phase::Free),
        (&slots.waiting, Phase::Waiting),
        (&slots.committed, Phase::Committed),
    ] {
        for slot in members(slots, list) {
            assert!(
                slot < usize::from(slots.used) as u16,
                "{slot} was never used"
            );
            assert_eq!(listed.insert(slot, phase), None, "{slot} is in two lists");
            assert_eq!(words.phase(slot), phase, "{slot} is in the wrong list");
        }
    }
    let mut in_use = 0;
    for slot in 0..N as u16 {
        let phase = words.phase(slot);
        in_use += usize::from(phase != Phase::Free);
        let is_listed = match phase {
            Phase::Free => slot < slots.used,
            Phase::Waiting => !slots.slots[usize::from(slot)].taken,
            Phase::Committed => true,
            Phase::Answered | Phase::Orphaned => false,
        };
        assert_eq!(listed.contains_key(&slot), is_listed, "{slot} is {phase:?}");
    }
    assert_eq!(usize::from(slots.in_use), in_use, "slots in use");
}

/// The slots of a list, after its links were checked in both directions.
fn members<A, R, const N: usize>(slots: &Slots<A, R, N>, list: &List) -> Vec<u16> {
    let mut members = Vec::new();
    let (mut link, mut previous) = (list.first, 0);
    while link != 0 {
        let slot = &slots.slots[usize::from(link) - 1];
        assert_eq!(slot.previous, previous, "the link back from {}", link - 1);
        members.push(link - 1);
        assert!(members.len() <= N, "a list without an end");
        (previous, link) = (link, slot.next);
    }
    assert_eq!(list.last, previous, "the last of a list");
    assert_eq!(usize::from(list.len), members.len(), "the length of a list");
    members
}

type Few = Slots<u32, u32, 4>;

fn few() -> (Few, Words<4>) {
    (Slots::new(), Words::new())
}

#[test]
fn first_come_first_served() {
    let (mut slots, words) = few();
    let tickets: Vec<Ticket> = (0..3)
        .map(|request| slots.join(&words, 4, request).expect("room"))
        .collect();
    assert_eq!(slots.waiting(), 3);
    assert_eq!(slots.take(&words, 2), [(tickets[0], 0), (tickets[1], 1)]);
    assert_eq!(slots.take(&words, 9), [(tickets[2], 2)]);
    assert_eq!(slots.take(&words, 9), []);
    assert_sound(&slots, &words);
}

#[test]
fn no_more_than_the_capacity_and_no_more_than_all_slots() {
    let (mut slots, words) = few();
    let first = slots.join(&words, 1, 0).expect("room");
    assert_eq!(slots.join(&words, 1, 1), None);
    for request in 1..4 {
        assert!(slots.join(&words, 99, request).is_some());
    }
    assert_eq!(slots.join(&words, 99, 4), None);
    slots.leave(&words, first);
    assert!(slots.join(&words, 99, 5).is_some());
    assert_sound(&slots, &words);
}

#[test]
fn all_slots_of_a_large_queue_are_used() {
    let (mut slots, words) = (Box::new(Slots::<u16, (), 1_024>::new()), Words::new());
    for request in 0..1_024 {
        let ticket = slots.join(&words, 1_024, request).expect("room");
        assert_eq!(ticket.slot(), usize::from(request));
    }
    assert_eq!(slots.join(&words, 1_024, 0), None);
    assert_eq!(slots.take(&words, 1_024).len(), 1_024);
    assert_sound(&slots, &words);
}

#[test]
fn an_answer_is_collected_once_and_its_slot_is_free_then() {
    let (mut slots, words) = few();
    let ticket = slots.join(&words, 1, 7).expect("room");
    slots.take(&words, 1);
    assert_eq!(slots.publish(&words, ticket), None, "no reply was written");
    slots.write(&words, ticket, 70);
    assert!(words.is_pending(ticket));
    assert_eq!(slots.collect(&words, ticket), None);
    assert_eq!(slots.publish(&words, ticket), Some(&7));
    assert!(!words.is_pending(ticket));
    assert_eq!(slots.collect(&words, ticket), Some(Collected::Answered(70)));
    assert_eq!(slots.collect(&words, ticket), None);
    slots.leave(&words, ticket);
    assert!(slots.join(&words, 1, 8).is_some());
    assert_sound(&slots, &words);
}

#[test]
fn a_reply_to_one_request_never_reaches_the_next_request_in_its_slot() {
    let (mut slots, words) = few();
    let hasty = slots.join(&words, 1, 1).expect("room");
    slots.take(&words, 1);
    slots.write(&words, hasty, 10);
    slots.leave(&words, hasty);
    let next = slots.join(&words, 1, 2).expect("room");
    assert_eq!(next.slot(), hasty.slot());
    slots.write(&words, hasty, 10);
    assert_eq!(slots.publish(&words, hasty), None);
    assert!(!slots.hand_over(&words, hasty, 1));
    assert!(words.is_pending(next) && !words.is_pending(hasty));
    slots.take(&words, 1);
    assert_eq!(slots.publish(&words, next), None, "no reply for it");
    slots.write(&words, hasty, 10);
    assert_eq!(slots.publish(&words, next), None, "no reply for it");
    slots.leave(&words, hasty);
    assert!(words.is_pending(next), "another request's slot was freed");
    assert_sound(&slots, &words);
}

#[test]
fn a_request_can_be_withdrawn_until_the_seller_takes_it() {
    let (mut slots, words) = few();
    let ticket = slots.join(&words, 4, 1).expect("room");
    assert!(slots.withdraw(&words, ticket));
    assert!(!slots.withdraw(&words, ticket), "it is withdrawn already");
    assert_eq!(slots.take(&words, 4), []);
    let ticket = slots.join(&words, 4, 2).expect("room");
    slots.take(&words, 4);
    assert!(!slots.withdraw(&words, ticket));
    assert!(words.is_pending(ticket));
    assert_sound(&slots, &words);
}

#[test]
fn a_reply_that_is_handed_over_is_published_when_its_commit_is_durable() {
    let (mut slots, words) = few();
    let tickets: Vec<Ticket> = (0..4)
        .map(|request| slots.join(&words, 4, request).expect("room"))
        .collect();
    slots.take(&words, 4);
    for (&ticket, end) in tickets.iter().zip([30, 10, 20, 40]) {
        slots.write(&words, ticket, 9);
        assert!(slots.hand_over(&words, ticket, end));
    }
    let committed: Vec<_> = slots
        .committed()
        .map(|(&request, end)| (request, end))
        .collect();
    assert_eq!(committed, [(0, 30), (1, 10), (2, 20), (3, 40)]);
    slots.leave(&words, tickets[3]);
    let mut woken = Vec::new();
    slots.publish_durable(&words, |_, end| end <= 20, |&request| woken.push(request));
    assert_eq!(woken, [1, 2]);
    assert!(words.is_pending(tickets[0]) && !words.is_pending(tickets[1]));
    assert_sound(&slots, &words);
    slots.publish_durable(&words, |&request, _| request == 0, |&it| woken.push(it));
    assert_eq!(woken, [1, 2, 0]);
    assert_eq!(slots.committed().count(), 0);
    assert_sound(&slots, &words);
}

#[test]
fn requests_taken_by_a_seller_that_died_are_orphaned() {
    let (mut slots, words) = few();
    let tickets: Vec<Ticket> = (0..4)
        .map(|request| slots.join(&words, 4, request).expect("room"))
        .collect();
    slots.take(&words, 3);
    slots.write(&words, tickets[0], 50);
    slots.write(&words, tickets[1], 51);
    slots.hand_over(&words, tickets[1], 1);
    let mut woken = Vec::new();
    slots.orphan(&words, |&request| woken.push(request));
    assert_eq!(woken, [0, 2]);
    let orphaned = |reply| Some(Collected::Orphaned(reply));
    assert_eq!(slots.collect(&words, tickets[0]), orphaned(Some(50)));
    assert_eq!(slots.collect(&words, tickets[2]), orphaned(None));
    assert!(words.is_pending(tickets[1]), "the publisher still answers");
    assert!(
        slots.withdraw(&words, tickets[3]),
        "the next seller takes it"
    );
    assert_sound(&slots, &words);
}

/// A step of a long history. A `usize` picks one of the callers or jobs that there are.
#[derive(Clone, Debug)]
enum Step {
    Join,
    Withdraw(usize),
    Leave(usize),
    Collect(usize),
    Take(usize),
    Write(usize),
    Publish(usize),
    HandOver(usize, u64),
    PublishUpTo(u64),
    SellerGone,
}

fn step() -> impl Strategy<Value = Step> {
    let any = any::<usize>;
    prop_oneof![
        6 => Just(Step::Join),
        1 => any().prop_map(Step::Withdraw),
        1 => any().prop_map(Step::Leave),
        4 => any().prop_map(Step::Collect),
        3 => (0usize..4).prop_map(Step::Take),
        4 => any().prop_map(Step::Write),
        3 => any().prop_map(Step::Publish),
        3 => (any(), 0..100u64).prop_map(|(nth, end)| Step::HandOver(nth, end)),
        2 => (0..100u64).prop_map(Step::PublishUpTo),
        1 => Just(Step::SellerGone),
    ]
}

/// What callers and seller know, apart from the slots.
#[derive(Default)]
struct History {
    requests: u32,
    callers: Vec<(Ticket, u32)>,
    /// Requests that the seller has not taken, oldest first.
    queue: VecDeque<u32>,
    jobs: Vec<(Ticket, u32)>,
    due: BTreeSet<u32>,
}

fn pick<T>(among: &[T], nth: usize) -> Option<usize> {
    nth.checked_rem(among.len())
}

impl History {
    fn gone(&mut self, caller: usize) -> (Ticket, u32) {
        let (ticket, request) = self.callers.swap_remove(caller);
        self.queue.retain(|&queued| queued != request);
        (ticket, request)
    }

    fn step(&mut self, step: Step, slots: &mut Few, words: &Words<4>) {
        match step {
            Step::Join => {
                let ticket = slots.join(words, 3, self.requests);
                assert_eq!(ticket.is_some(), self.callers.len() < 3);
                if let Some(ticket) = ticket {
                    self.callers.push((ticket, self.requests));
                    self.queue.push_back(self.requests);
                    self.requests += 1;
                }
            }
            Step::Withdraw(nth) => {
                let Some(caller) = pick(&self.callers, nth) else {
                    return;
                };
                let (ticket, request) = self.callers[caller];
                let is_queued = self.queue.contains(&request);
                assert_eq!(slots.withdraw(words, ticket), is_queued);
                if is_queued {
                    self.gone(caller);
                }
            }
            Step::Leave(nth) => {
                let Some(caller) = pick(&self.callers, nth) else {
                    return;
                };
                slots.leave(words, self.gone(caller).0);
            }
            Step::Collect(nth) => {
                let Some(caller) = pick(&self.callers, nth) else {
                    return;
                };
                let (ticket, request) = self.callers[caller];
                let is_pending = words.is_pending(ticket);
                let collected = slots.collect(words, ticket);
                assert_eq!(is_pending, collected.is_none());
                match collected {
                    None => return,
                    Some(Collected::Answered(reply)) => {
                        assert_eq!(reply, request);
                        assert!(self.due.contains(&request), "published too early");
                    }
                    Some(Collected::Orphaned(reply)) => {
                        assert!(reply.is_none_or(|reply| reply == request));
                    }
                }
                self.gone(caller);
            }
            other => self.sellers_step(other, slots, words),
        }
    }

    fn sellers_step(&mut self, step: Step, slots: &mut Few, words: &Words<4>) {
        match step {
            Step::Take(most) => {
                let expected: Vec<u32> = self.queue.drain(..most.min(self.queue.len())).collect();
                let taken = slots.take(words, most);
                assert!(taken.iter().map(|(_, request)| *request).eq(expected));
                self.jobs.extend(taken);
            }
            Step::Write(nth) => {
                if let Some(job) = pick(&self.jobs, nth) {
                    let (ticket, request) = self.jobs[job];
                    slots.write(words, ticket, request);
                }
            }
            Step::Publish(nth) => {
                if let Some(job) = pick(&self.jobs, nth) {
                    let (ticket, request) = self.jobs[job];
                    if slots.publish(words, ticket).is_some() {
                        self.due.insert(request);
                        self.jobs.swap_remove(job);
                    }
                }
            }
            Step::HandOver(nth, end) => {
                if let Some(job) = pick(&self.jobs, nth)
                    && slots.hand_over(words, self.jobs[job].0, end)
                {
                    self.jobs.swap_remove(job);
                }
            }
            Step::PublishUpTo(durable) => {
                let due = slots.committed().filter(|(_, end)| *end <= durable);
                self.due.extend(due.map(|(&request, _)| request));
                slots.publish_durable(words, |_, end| end <= durable, |_| {});
                assert!(slots.committed().all(|(_, end)| end > durable));
            }
            _ => {
                slots.orphan(words, |_| {});
                self.jobs.clear();
            }
        }
    }
}

proptest! {
    #[test]
    fn long_histories_stay_sound(steps in prop::collection::vec(step(), 1..300)) {
        let (mut slots, words) = few();
        let mut history = History::default();
        for step in steps {
            history.step(step, &mut slots, &words);
            assert_sound(&slots, &words);
            prop_assert_eq!(usize::from(slots.in_use), history.callers.len());
            prop_assert_eq!(slots.waiting(), history.queue.len());
        }
    }
}
