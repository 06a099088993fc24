//! How many jobs of an item go into one transaction, and whose transactions were slow.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// From this many microseconds on a transaction counts as slow.
pub const SLOW: i64 = 5_000;
/// Most items to remember anything of; with one more all are forgotten, and learnt anew.
const MOST_ITEMS: usize = 10_000;

/// What the seller remembers of items, each known by a key.
///
/// After a transaction that took too long the next has half as many jobs, so that a shop with slow
/// triggers still sells; each one that was in time adds one again.
pub struct Pace<K> {
    /// Those with an entry have taken too long.
    most: HashMap<K, usize>,
    /// Those whose last transaction was not slow.
    quick: HashSet<K>,
}

impl<K> Default for Pace<K> {
    fn default() -> Self {
        Self {
            most: HashMap::new(),
            quick: HashSet::new(),
        }
    }
}

impl<K: Eq + Hash + Copy> Pace<K> {
    /// How many jobs of the item may go into its next transaction, `limit` at most.
    pub fn most(&self, item: K, limit: usize) -> usize {
        self.most.get(&item).map_or(limit, |&most| most.min(limit))
    }

    /// Whether the item's last transaction is known not to have been slow. Nobody's answer may
    /// wait for the transaction of one of which that is not known.
    pub fn is_quick(&self, item: K) -> bool {
        self.quick.contains(&item)
    }

    /// A transaction of the item has ended, well or not, after so many microseconds.
    pub fn took(&mut self, item: K, time: i64) {
        if time >= SLOW {
            self.quick.remove(&item);
        } else {
            if self.quick.len() >= MOST_ITEMS {
                self.quick.clear();
            }
            self.quick.insert(item);
        }
    }

    /// A transaction with so many jobs was cut short because it took too long.
    pub fn overran(&mut self, item: K, jobs: usize) {
        if self.most.len() >= MOST_ITEMS {
            self.most.clear();
        }
        self.most.insert(item, (jobs / 2).max(1));
    }

    /// A transaction was in time.
    pub fn kept(&mut self, item: K, limit: usize) {
        if let Some(most) = self.most.get_mut(&item) {
            *most += 1;
            if *most >= limit {
                self.most.remove(&item);
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
        assert_eq!(pace.most("item", 256), 256);
        pace.overran("item", 256);
        assert_eq!(pace.most("item", 256), 128);
        assert_eq!(pace.most("another", 256), 256);
        assert_eq!(pace.most("item", 100), 100);
        for _ in 0..20 {
            let jobs = pace.most("item", 256);
            pace.overran("item", jobs);
        }
        assert_eq!(pace.most("item", 256), 1, "one is the least");
    }

    #[test]
    fn one_more_after_one_in_time() {
        let mut pace = Pace::default();
        pace.overran(1, 8);
        for most in 5..8 {
            pace.kept(1, 8);
            assert_eq!(pace.most(1, 8), most);
        }
        pace.kept(1, 8);
        assert!(pace.most.is_empty(), "as before it was slow");
        pace.kept(2, 8);
        assert!(pace.most.is_empty());
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
    fn it_does_not_grow_for_ever() {
        let mut pace = Pace::default();
        for item in 0..3 * MOST_ITEMS {
            pace.took(item, 0);
            pace.overran(item, 4);
            assert!(pace.is_quick(item));
            assert_eq!(pace.most(item, 256), 2);
        }
        assert!(pace.quick.len() <= MOST_ITEMS && pace.most.len() <= MOST_ITEMS);
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
                    false => pace.kept(0, limit),
                }
                prop_assert!((1..=limit).contains(&pace.most(0, limit)));
            }
        }
    }
}
