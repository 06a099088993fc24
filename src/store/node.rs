//! Statements on this server's place among several, and the ids that it has.

use super::{Statement, aside, some};
use crate::error::Fault;
use crate::pg::heap::{self, Remembered};
use crate::pg::transaction::with_latest_snapshot;
use flashsale_core::argument::Invalid;
use flashsale_core::node::Node;
use pgrx::pg_sys::BuiltinOid::{INT4OID, INT8OID};
use pgrx::pg_sys::Oid;
use pgrx::spi::{Spi, SpiClient};
use std::cell::Cell;

/// Locks nothing. The first three may run under the caller's search path.
static READ: Statement = Statement::looking("SELECT node, nodes FROM flashsale.node", &[]);

/// Locks nothing.
static ITEM: Statement = Statement::looking(
    "SELECT item_id FROM flashsale.items WHERE item_id OPERATOR(pg_catalog.=) $1",
    &[INT8OID],
);

/// Locks nothing.
static ORDER: Statement = Statement::looking(
    "SELECT order_id FROM flashsale.orders WHERE order_id OPERATOR(pg_catalog.=) $1",
    &[INT8OID],
);

/// Waits for all transactions that have written to a table with ids of this server, and keeps others
/// from it until this one ends. Whoever then obtains the table's lock knows the new place.
static LOCK: Statement = Statement::deciding(
    "LOCK TABLE flashsale.items, flashsale.orders, flashsale.payments, flashsale.stock_movements \
     IN SHARE ROW EXCLUSIVE MODE",
    &[],
);

/// Locks the row.
static SET: Statement = Statement::deciding(
    "INSERT INTO flashsale.node (node, nodes) VALUES ($1, $2) \
     ON CONFLICT (is_only) DO UPDATE SET node = excluded.node, nodes = excluded.nodes RETURNING node",
    &[INT4OID, INT4OID],
);

thread_local! {
    static HERE: Remembered<Node> = const { Remembered::nothing() };
    /// What this session found last that has the id of another server. While a hot item of that kind
    /// is sold, it is not looked up for each purchase; if it is deleted, it is not found.
    static LAST_FOUND: Cell<Option<(&'static str, i64)>> = const { Cell::new(None) };
}

/// This server's place. It is read once, and again when it may have changed.
pub fn here() -> Result<Node, Fault> {
    // A session that has run no statement yet would need milliseconds to prepare its first one.
    let find_out = || {
        if heap::has_rows(c"flashsale", c"node") {
            Spi::connect(read)
        } else {
            Ok(Node::ALONE)
        }
    };
    HERE.with(|known| known.about_rows(c"flashsale", c"node", || aside(find_out)))
}

/// This server's place, read each time.
pub fn read(client: &SpiClient<'_>) -> Result<Node, Fault> {
    let row = with_latest_snapshot(|| READ.first(client, &[]))?;
    let Some(row) = row else {
        return Ok(Node::ALONE);
    };
    Ok(Node::new(some(&row, 1)?, some(&row, 2)?)?)
}

/// Takes the locks that [`set()`] needs.
pub fn lock(client: &SpiClient<'_>) -> Result<(), Fault> {
    LOCK.run(client, &[]).map(drop)
}

/// Gives this server another place.
pub fn set(client: &SpiClient<'_>, node: i32, nodes: i32) -> Result<(), Fault> {
    SET.write(client, &[node.into(), nodes.into()], 1)
}

/// Says to all sessions, when this transaction commits, that the place may have changed.
pub fn has_changed() {
    heap::rows_have_changed(c"flashsale", c"node");
}

/// The next id from a sequence. The table that gets it must be locked for writing.
pub fn next_id(sequence: Oid) -> Result<i64, Fault> {
    let node = here()?;
    let number = heap::next_value(sequence);
    node.id(number).ok_or(Fault::NoMoreIds)
}

/// An error if another server has the item.
pub fn check_item(item_id: i64) -> Result<(), Fault> {
    check("item", &ITEM, item_id)
}

/// An error if another server has the order.
pub fn check_order(order_id: i64) -> Result<(), Fault> {
    check("order", &ORDER, order_id)
}

/// An error if the id belongs to another server, unless there is a row of this id: one from before
/// a split, or that was moved here.
fn check(what: &'static str, row: &Statement, id: i64) -> Result<(), Fault> {
    let Err(foreign) = here()?.check(what, id) else {
        return Ok(());
    };
    if LAST_FOUND.get() == Some((what, id)) {
        return Ok(());
    }
    let is_here = aside(|| {
        Spi::connect(|client| {
            let found = with_latest_snapshot(|| row.first(client, &[id.into()]))?;
            Ok(found.is_some())
        })
    })?;
    if !is_here {
        return Err(foreign.into());
    }
    LAST_FOUND.set(Some((what, id)));
    Ok(())
}

/// Like [`check_item()`], for the elements of the argument `requests`.
pub fn check_items(item_ids: impl Iterator<Item = i64>) -> Result<(), Fault> {
    for (at, item_id) in item_ids.enumerate() {
        check_item(item_id).map_err(|fault| within(fault, at))?;
    }
    Ok(())
}

fn within(fault: Fault, at: usize) -> Fault {
    match fault {
        Fault::Argument(invalid @ Invalid::Foreign { .. }) => {
            invalid.within(&format!("requests[{at}]")).into()
        }
        other => other,
    }
}
