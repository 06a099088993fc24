//! The gate: items seen sold out are refused from shared memory, without touching a table.
//!
//! It can only refuse. A refusal is at most `flashsale.sold_out_ttl` old, and none is
//! older than the last commit that raised the item's inventory.

use crate::pg::clock;
use crate::pg::memory::{LwLock, Shared};
use crate::pg::session;
use crate::pg::transaction::{self, Ended};
use crate::settings;
use crate::stats;
use flashsale_core::gate::{Epoch, Gate, Key};
use std::cell::{Cell, RefCell};

/// Items that share a cell displace each other; more cells make that rarer.
const CELLS: usize = 4_096;

pub static GATE: Shared<LwLock<Gate<CELLS>>> = Shared::new(c"flashsale gate");

fn key(item_id: i64) -> Key {
    Key {
        database: session::database().to_u32(),
        item_id,
    }
}

/// Whether the transaction may look through the gate and set it: one that sees what
/// others have committed, and that has not changed anything itself. It may have taken
/// the last unit, and roll back; or have returned one, and buy it.
fn is_bystander() -> bool {
    transaction::id().is_none() && !transaction::has_one_snapshot()
}

/// Whether the item is known to be sold out.
pub fn is_shut(item_id: i64) -> bool {
    let Some(gate) = GATE.get() else { return false };
    let ttl = settings::sold_out_ttl();
    if ttl == 0 || !is_bystander() {
        return false;
    }
    gate.read().is_shut(key(item_id), clock::monotonic(), ttl)
}

/// The epoch of an item that is about to be looked at.
pub fn epoch(item_id: i64) -> Epoch {
    GATE.get()
        .map_or(Epoch::NONE, |gate| gate.read().epoch(key(item_id)))
}

/// Shuts the gate for an item seen sold out, unless its inventory rose since `epoch`.
pub fn shut(item_id: i64, epoch: Epoch) {
    let Some(gate) = GATE.get() else { return };
    if settings::sold_out_ttl() == 0 || !is_bystander() {
        return;
    }
    let is_shut = gate.lock().shut(key(item_id), epoch, clock::monotonic());
    if is_shut {
        stats::gate_shut();
    }
}

thread_local! {
    /// Items whose inventory this transaction raises.
    static RAISED: RefCell<Vec<i64>> = const { RefCell::new(Vec::new()) };
    static HOOKED: Cell<bool> = const { Cell::new(false) };
}

/// Opens the gate for an item when this transaction commits.
pub fn open_at_commit(item_id: i64) {
    if GATE.get().is_none() {
        return;
    }
    RAISED.with_borrow_mut(|raised| {
        if raised.last() != Some(&item_id) {
            raised.push(item_id);
        }
    });
    if !HOOKED.replace(true) {
        transaction::at_end(at_end);
    }
}

/// After the commit is visible: whoever looked before it has an older epoch.
fn at_end(end: Ended) {
    let raised = RAISED.take();
    match end {
        // What is prepared may commit at any time, in any session: look again until then,
        // and from then on sold_out_ttl is the bound.
        Ended::Committed | Ended::Prepared => raised.into_iter().for_each(open),
        Ended::RolledBack => {}
    }
}

fn open(item_id: i64) {
    if let Some(gate) = GATE.get() {
        gate.lock().open(key(item_id));
    }
}
