//! A server's place among several: node `n` of `N` assigns the ids that leave the remainder `n` when
//! they are divided by `N`. So no two of them assign the same id, and an id says which server has
//! assigned it.

use crate::argument::Invalid;
use crate::limits::{MAX_NODES, MAX_NUMBER};

/// A server's number, from 0, and the number of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    node: i64,
    nodes: i64,
}

impl Node {
    /// The only server: its ids are the numbers of the sequences.
    pub const ALONE: Self = Self { node: 0, nodes: 1 };

    pub fn new(node: i32, nodes: i32) -> Result<Self, Invalid> {
        if !(1..=MAX_NODES).contains(&nodes) {
            let rule = format!("it must be from 1 to {MAX_NODES}");
            return Err(Invalid::value("nodes", nodes, rule));
        }
        if !(0..nodes).contains(&node) {
            let rule = format!("it must be from 0 to {}, one less than nodes", nodes - 1);
            return Err(Invalid::value("node", node, rule));
        }
        Ok(Self {
            node: node.into(),
            nodes: nodes.into(),
        })
    }

    /// The id that belongs to a number of a sequence; `None` if JavaScript could not represent it.
    pub fn id(self, number: i64) -> Option<i64> {
        let id = number.checked_mul(self.nodes)?.checked_add(self.node)?;
        (id <= MAX_NUMBER).then_some(id)
    }

    /// The last number of a sequence whose id is not above this one.
    pub fn number(self, id: i64) -> i64 {
        id.saturating_sub(self.node).div_euclid(self.nodes)
    }

    /// An error unless this server assigns such ids. `what` has the id.
    pub fn check(self, what: &'static str, id: i64) -> Result<(), Invalid> {
        let owner = id.rem_euclid(self.nodes);
        if owner == self.node {
            return Ok(());
        }
        Err(Invalid::Foreign {
            within: "".into(),
            what,
            id,
            owner,
            nodes: self.nodes,
            node: self.node,
        })
    }

    /// An error unless the server may take the place `new` instead. If it has items, the new place
    /// must be a part of the old one: then no other server has assigned its ids.
    pub fn check_change(self, new: Self, has_items: bool) -> Result<(), Invalid> {
        let Self { node, nodes } = self;
        if !has_items || (new.nodes % nodes == 0 && new.node % nodes == node) {
            return Ok(());
        }
        if new.nodes % nodes != 0 {
            let rule = format!(
                "there are items on this node {node} of {nodes}, so it must be a multiple of {nodes}"
            );
            return Err(Invalid::value("nodes", new.nodes, rule));
        }
        let rule = format!(
            "there are items on this node {node} of {nodes}, so it must leave the remainder {node} when divided by {nodes}"
        );
        Err(Invalid::value("node", new.node, rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(node: i32, nodes: i32) -> Node {
        Node::new(node, nodes).unwrap()
    }

    fn any_node() -> impl Strategy<Value = Node> {
        (1..=MAX_NODES)
            .prop_flat_map(|nodes| (0..nodes, Just(nodes)))
            .prop_map(|(one, nodes)| node(one, nodes))
    }

    proptest! {
        #[test]
        fn an_id_belongs_to_the_node_that_assigns_it(at in any_node(), number in 1..=MAX_NUMBER) {
            match at.id(number) {
                Some(id) => {
                    prop_assert!((1..=MAX_NUMBER).contains(&id));
                    prop_assert_eq!(at.check("order", id), Ok(()));
                    prop_assert_eq!(at.number(id), number);
                }
                None => prop_assert!(i128::from(number) * i128::from(at.nodes) + i128::from(at.node) > i128::from(MAX_NUMBER)),
            }
        }

        #[test]
        fn any_id_belongs_to_one_node(nodes in 1..=64, id in any::<i64>()) {
            let owners = (0..nodes).filter(|&one| node(one, nodes).check("order", id).is_ok());
            prop_assert_eq!(owners.count(), 1);
        }

        #[test]
        fn the_next_number_gives_an_id_past_any(at in any_node(), id in 0..=MAX_NUMBER / 2) {
            let number = at.number(id);
            prop_assert!(number * at.nodes + at.node <= id);
            prop_assert!((number + 1) * at.nodes + at.node > id);
        }

        /// Servers whose sequences go on from the same number never assign an id again.
        #[test]
        fn ids_after_a_split_are_past_those_before(
            old in any_node(), factor in 1..4, part in 0..4, number in 1..1_000_000_i64
        ) {
            let nodes = old.nodes as i32 * factor;
            prop_assume!(nodes <= MAX_NODES);
            let new = node(old.node as i32 + part % factor * old.nodes as i32, nodes);
            prop_assert_eq!(old.check_change(new, true), Ok(()));
            prop_assert!(new.id(number + 1) > old.id(number));
        }
    }

    #[test]
    fn a_server_alone_has_the_numbers_of_its_sequences() {
        assert_eq!(Node::new(0, 1), Ok(Node::ALONE));
        for id in [1, 7, MAX_NUMBER] {
            assert_eq!(Node::ALONE.id(id), Some(id));
            assert_eq!(Node::ALONE.number(id), id);
        }
        for id in [i64::MIN, -1, 0, i64::MAX] {
            assert_eq!(Node::ALONE.check("item", id), Ok(()));
        }
    }

    #[test]
    fn ids_end_where_javascript_numbers_end() {
        assert_eq!(Node::ALONE.id(MAX_NUMBER + 1), None);
        assert_eq!(node(3, 4).id(MAX_NUMBER / 4), Some(MAX_NUMBER));
        assert_eq!(node(3, 4).id(MAX_NUMBER / 4 + 1), None);
        assert_eq!(node(0, 4).id(i64::MAX), None);
    }

    #[test]
    fn a_foreign_id_names_its_node() {
        assert_eq!(node(1, 4).check("order", 5), Ok(()));
        let error = node(1, 4).check("order", 7).unwrap_err();
        let message = "order 7 belongs to node 3 of 4, and this server is node 1";
        assert_eq!(error.to_string(), message);
        let within = error.within("requests[2]").to_string();
        assert_eq!(within, format!("requests[2]: {message}"));
    }

    #[test]
    fn a_place_is_one_of_a_bounded_number() {
        for (one, nodes) in [(0, 0), (0, -1), (0, MAX_NODES + 1), (-1, 4), (4, 4), (1, 1)] {
            assert!(Node::new(one, nodes).is_err(), "{one} of {nodes}");
        }
        for (one, nodes) in [(0, 1), (3, 4), (MAX_NODES - 1, MAX_NODES)] {
            assert!(Node::new(one, nodes).is_ok(), "{one} of {nodes}");
        }
    }

    #[test]
    fn with_items_a_place_is_only_split() {
        let old = node(1, 4);
        for new in [node(1, 4), node(1, 8), node(5, 8), node(9, 12)] {
            assert_eq!(old.check_change(new, true), Ok(()));
        }
        for new in [node(2, 4), node(2, 8), node(1, 6), node(1, 2), Node::ALONE] {
            assert!(old.check_change(new, true).is_err(), "{new:?}");
            assert_eq!(old.check_change(new, false), Ok(()));
        }
        assert_eq!(Node::ALONE.check_change(node(2, 3), true), Ok(()));
    }
}
