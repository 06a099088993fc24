//! How many jobs of an item go into one transaction, and which items had slow transactions.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// A transaction that takes this many microseconds or more is slow.
pub const SLOW: i64 = 5_000;
/// The most items to remember. When the map is full it is cleared, and the items are learnt again.
const MAX_ITEMS: usize = 10_000;

/// What the seller remembers about items, by their keys `K`.
///
/// After a transaction that took too long the item's next one has half as many jobs, so that a
/// shop with slow triggers still sells. Each transaction in time adds one job again.
pub struct Pace<K> {
    /// The limit on jobs of each item whose transaction took too long.
    limits: HashMap<K, usize>,
    /// The items whose last transaction was not slow.
    quick: HashSet<K>,
}

impl<K> Default for Pace<K> {
    fn default() -> Self {
        Self {
            limits: HashMap::new(),
            quick: HashSet::new(),
        }
    }
}

impl<K: Eq + Hash + Copy> Pace<K> {
    /// How many jobs of the item may go into its next transaction; `limit` at most.
    pub fn limit(&self, item: K, limit: usize) -> usize {
        self.limits.get(&item).map_or(limit, |&own| own.min(limit))
    }

    /// Whether the item's last transaction is known and was not slow. If not, no answer may wait
    /// for the item's next transaction.
    pub fn is_quick(&self, item: K) -> bool {
        self.quick.contains(&item)
    }

    /// A transaction of the item ended, committed or not, after `time` microseconds.
    pub fn took(&mut self, item: K, time: i64) {
        if time >= SLOW {
            self.quick.remove(&item);
        } else {
            if self.quick.len() >= MAX_ITEMS {
                self.quick.clear();
            }
            self.quick.insert(item);
        }
    }

    /// A transaction with this many jobs was cut short because it took too long.
    pub fn overran(&mut self, item: K, jobs: usize) {
        if self.limits.len() >= MAX_ITEMS {
            self.limits.clear();
        }
        self.limits.insert(item, (jobs / 2).max(1));
    }

    /// A transaction of the item ended in time.
    pub fn in_time(&mut self, item: K, limit: usize) {
        if let Some(own) = self.limits.get_mut(&item) {
            *own += 1;
            if *own >= limit {
                self.limits.remove(&item);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn half_as_many_after_one_that_took_too_long() {
        let mut pace = Pace::default();
        assert_eq!(pace.limit("item", 256), 256);
        pace.overran("item", 256);
        assert_eq!(pace.limit("item", 256), 128);
        assert_eq!(pace.limit("another", 256), 256);
        assert_eq!(pace.limit("item", 100), 100);
        for _ in 0..20 {
            let jobs = pace.limit("item", 256);
            pace.overran("item", jobs);
        }
        assert_eq!(pace.limit("item", 256), 1, "one is the least");
    }

    #[test]
    fn one_more_after_one_in_time() {
        let mut pace = Pace::default();
        pace.overran(1, 8);
        for jobs in 5..8 {
            pace.in_time(1, 8);
            assert_eq!(pace.limit(1, 8), jobs);
        }
        pace.in_time(1, 8);
        assert!(pace.limits.is_empty(), "the limit is gone");
        pace.in_time(2, 8);
        assert!(pace.limits.is_empty());
    }

    #[test]
    fn an_item_is_quick_once_its_last_transaction_was() {
        let mut pace = Pace::default();
        assert!(!pace.is_quick(1), "it is not known");
        pace.took(1, SLOW - 1);
        assert!(pace.is_quick(1) && !pace.is_quick(2));
        pace.took(1, SLOW);
        assert!(!pace.is_quick(1));
    }

    #[test]
    fn it_does_not_grow_without_bound() {
        let mut pace = Pace::default();
        for item in 0..3 * MAX_ITEMS {
            pace.took(item, 0);
            pace.overran(item, 4);
            assert!(pace.is_quick(item));
            assert_eq!(pace.limit(item, 256), 2);
        }
        assert!(pace.quick.len() <= MAX_ITEMS && pace.limits.len() <= MAX_ITEMS);
    }

    proptest! {
        #[test]
        fn at_least_one_and_no_more_than_the_limit(
            steps in prop::collection::vec((any::<bool>(), 1usize..2_000), 0..100),
            limit in 1usize..1_024,
        ) {
            let mut pace = Pace::default();
            for (is_late, jobs) in steps {
                match is_late {
                    true => pace.overran(0, jobs),
                    false => pace.in_time(0, limit),
                }
                prop_assert!((1..=limit).contains(&pace.limit(0, limit)));
            }
        }
    }
}
