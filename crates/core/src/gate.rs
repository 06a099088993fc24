//! The cells in which items that were seen sold out are noted.
//!
//! A note can only refuse purchases, so the only possible mistake is to refuse for too long. A
//! transaction that returns a unit raises the epoch of the item's cell. A caller that notes an
//! item presents the epoch that it read before it looked at the item. If a unit came back after
//! that, the epochs differ, and nothing is noted.

use std::hash::{DefaultHasher, Hash, Hasher};

/// An item of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub database: u32,
    pub item_id: i64,
}

/// The epoch of an item's cell, read before the snapshot that looks at the item is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(u64);

impl Epoch {
    /// For a server without a gate.
    pub const NONE: Self = Self(0);
}

/// An item that was seen sold out, when that was, and until when none of its reservations expires,
/// by the monotonic clock.
#[derive(Clone, Copy)]
struct Note {
    key: Key,
    at: i64,
    until: i64,
}

#[derive(Clone, Copy)]
struct Cell {
    /// Raised whenever the inventory of an item of this cell may have risen.
    epoch: u64,
    note: Option<Note>,
}

/// `CELLS` cells. A note displaces the note of another item in the same cell.
pub struct Gate<const CELLS: usize>([Cell; CELLS]);

impl<const CELLS: usize> Default for Gate<CELLS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const CELLS: usize> Gate<CELLS> {
    pub const fn new() -> Self {
        let empty = Cell {
            epoch: 0,
            note: None,
        };
        Self([empty; CELLS])
    }

    fn cell(key: Key) -> usize {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        hasher.finish() as usize % CELLS
    }

    /// Whether the item was noted less than `ttl` microseconds ago, and since then no unit has come
    /// back and no reservation has expired.
    pub fn is_shut(&self, key: Key, now: i64, ttl: i64) -> bool {
        let note = self.0[Self::cell(key)].note;
        note.is_some_and(|note| note.key == key && now - note.at < ttl && now < note.until)
    }

    /// The epoch of the item's cell. Read it before the item is looked at.
    pub fn epoch(&self, key: Key) -> Epoch {
        Epoch(self.0[Self::cell(key)].epoch)
    }

    /// Notes an item that was seen sold out by a look that began at epoch `since`, and whose next
    /// reservation expires at `until`. If a unit may have come back since then, notes nothing and
    /// returns false.
    pub fn shut(&mut self, key: Key, since: Epoch, now: i64, until: i64) -> bool {
        let cell = &mut self.0[Self::cell(key)];
        let holds = cell.epoch == since.0;
        if holds {
            cell.note = Some(Note {
                key,
                at: now,
                until,
            });
        }
        holds
    }

    /// The item's inventory has risen: removes its note and raises the epoch.
    pub fn open(&mut self, key: Key) {
        let cell = &mut self.0[Self::cell(key)];
        cell.epoch += 1;
        cell.note = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TTL: i64 = 100;

    fn key(item_id: i64) -> Key {
        Key {
            database: 1,
            item_id,
        }
    }

    #[test]
    fn a_new_gate_is_open_however_young_the_clock() {
        assert!(!Gate::<4>::new().is_shut(key(0), 0, TTL));
    }

    #[test]
    fn a_note_is_worth_its_time() {
        let mut gate = Gate::<4>::new();
        let epoch = gate.epoch(key(1));
        assert!(gate.shut(key(1), epoch, 1_000, i64::MAX));
        assert!(gate.is_shut(key(1), 1_000, TTL));
        assert!(gate.is_shut(key(1), 1_099, TTL));
        assert!(!gate.is_shut(key(1), 1_100, TTL));
        assert!(!gate.is_shut(key(1), 1_000, 0));
    }

    #[test]
    fn a_note_ends_when_a_reservation_expires() {
        let mut gate = Gate::<4>::new();
        let epoch = gate.epoch(key(1));
        assert!(gate.shut(key(1), epoch, 1_000, 1_010));
        assert!(gate.is_shut(key(1), 1_009, TTL));
        assert!(!gate.is_shut(key(1), 1_010, TTL));
    }

    #[test]
    fn a_look_that_began_before_a_unit_came_back_shuts_nothing() {
        let mut gate = Gate::<4>::new();
        let before = gate.epoch(key(1));
        gate.open(key(1));
        assert!(!gate.shut(key(1), before, 0, i64::MAX));
        assert!(!gate.is_shut(key(1), 0, TTL));
        let after = gate.epoch(key(1));
        assert!(gate.shut(key(1), after, 0, i64::MAX));
        gate.open(key(1));
        assert!(!gate.is_shut(key(1), 0, TTL));
    }

    #[test]
    fn items_of_one_cell_displace_each_other() {
        let mut gate = Gate::<1>::new();
        let epoch = gate.epoch(key(1));
        assert!(gate.shut(key(1), epoch, 0, i64::MAX) && gate.shut(key(2), epoch, 0, i64::MAX));
        assert!(!gate.is_shut(key(1), 0, TTL) && gate.is_shut(key(2), 0, TTL));
        gate.open(key(1));
        assert!(
            !gate.shut(key(2), epoch, 0, i64::MAX),
            "the epoch is the cell's"
        );
    }

    #[test]
    fn an_item_of_another_database_is_another() {
        let mut gate = Gate::<1>::new();
        let epoch = gate.epoch(key(1));
        gate.shut(key(1), epoch, 0, i64::MAX);
        let elsewhere = Key {
            database: 2,
            ..key(1)
        };
        assert!(!gate.is_shut(elsewhere, 0, TTL));
    }

    /// What one of several backends does to one of several items.
    #[derive(Clone, Debug)]
    enum Step {
        BeginLook(usize, i64),
        Shut(usize, i64),
        UnitComesBack(i64),
        Wait(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0usize..4, 0i64..6).prop_map(|(backend, item)| Step::BeginLook(backend, item)),
            (0usize..4, 0i64..150).prop_map(|(backend, expiry)| Step::Shut(backend, expiry)),
            (0i64..6).prop_map(Step::UnitComesBack),
            (0i64..60).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Items share cells, and looks overlap in any way. Every refusal rests on a look that
        /// began after the last unit came back, was noted less than the ttl ago, and saw no
        /// reservation that has expired since.
        #[test]
        fn no_refusal_is_older_than_the_last_unit_the_last_expiry_or_the_ttl(
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let mut gate = Gate::<3>::new();
            let mut now = 0;
            let mut looks: [Option<(i64, Epoch, usize)>; 4] = [None; 4];
            let mut came_back = [0; 6];
            let mut noted: [Option<(usize, i64, i64)>; 6] = [None; 6];
            for (time, step) in steps.into_iter().enumerate() {
                match step {
                    Step::BeginLook(backend, item) => {
                        looks[backend] = Some((item, gate.epoch(key(item)), time));
                    }
                    Step::Shut(backend, expiry) => {
                        if let Some((item, since, began)) = looks[backend]
                            && gate.shut(key(item), since, now, now + expiry)
                        {
                            noted[item as usize] = Some((began, now, now + expiry));
                        }
                    }
                    Step::UnitComesBack(item) => {
                        gate.open(key(item));
                        came_back[item as usize] = time;
                    }
                    Step::Wait(time) => now += time,
                }
                for item in 0..6 {
                    if gate.is_shut(key(item), now, TTL) {
                        let (began, at, until) = noted[item as usize].expect("the item was noted");
                        prop_assert!(came_back[item as usize] == 0 || began > came_back[item as usize]);
                        prop_assert!(now - at < TTL && now < until);
                    }
                }
            }
        }
    }
}
