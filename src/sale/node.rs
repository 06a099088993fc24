//! This server's place among several.

use crate::attempt::attempt_or_busy;
use crate::error::Fault;
use crate::pg::heap;
use crate::pg::subtransaction::End;
use crate::store::node;
use flashsale_core::node::Node;

/// Gives this server a place. Waits for all transactions that write to the tables, and keeps others
/// from it. 22023 if there are items and the place is no part of the old one, 55P03 if a lock was
/// refused.
pub fn set(number: i32, nodes: i32) -> Result<(), Fault> {
    let new = Node::new(number, nodes)?;
    let set = attempt_or_busy(|client| {
        node::lock(client)?;
        let has_items = heap::has_rows(c"flashsale", c"items");
        node::read(client)?.check_change(new, has_items)?;
        node::set(client, number, nodes)?;
        Ok(End::Commit(()))
    })?;
    set.ok_or(Fault::Locked("set_node"))
}
