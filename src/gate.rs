//! The gate: items seen sold out are refused from shared memory, without touching a table.
//!
//! The gate can only refuse purchases. A refusal rests on a look at the item that is at most
//! `flashsale.sold_out_ttl` old, that began after the last commit that raised its inventory, and that
//! found no reservation which has expired since.

use crate::pg::clock;
use crate::pg::memory::{LwLock, Shared};
use crate::pg::session;
use crate::pg::transaction::{self, Ended};
use crate::settings;
use crate::stats;
use flashsale_core::gate::{Epoch, Gate, Key};
use flashsale_core::time::Micros;
use std::cell::{Cell, RefCell};

/// Items that share a cell displace each other; with more cells that happens less often.
const CELLS: usize = 4_096;

pub static GATE: Shared<LwLock<Gate<CELLS>>> = Shared::new(c"flashsale gate");

fn key(item_id: i64) -> Key {
    Key {
        database: session::database().to_u32(),
        item_id,
    }
}

/// Whether the transaction may use the gate. It must see what others have committed, and must not
/// have written anything: it may have taken the last unit and roll back, or have returned a unit
/// and want to buy it.
fn may_use_gate() -> bool {
    transaction::id().is_none() && !transaction::has_one_snapshot()
}

/// Whether the item is known to be sold out.
pub fn is_shut(item_id: i64) -> bool {
    let Some(gate) = GATE.get() else { return false };
    let ttl = settings::sold_out_ttl();
    if ttl == 0 || !may_use_gate() {
        return false;
    }
    gate.read().is_shut(key(item_id), clock::monotonic(), ttl)
}

/// The epoch of an item's cell. Call it before the item is looked at.
pub fn epoch(item_id: i64) -> Epoch {
    GATE.get()
        .map_or(Epoch::NONE, |gate| gate.read().epoch(key(item_id)))
}

/// Shuts the gate for an item that was seen sold out, unless its inventory has risen since `epoch`.
/// It opens again in `for_micros`, when the item's next reservation expires, if not before.
pub fn shut(item_id: i64, epoch: Epoch, for_micros: Micros) {
    let Some(gate) = GATE.get() else { return };
    if settings::sold_out_ttl() == 0 || !may_use_gate() {
        return;
    }
    let now = clock::monotonic();
    let until = now.saturating_add(for_micros);
    let is_shut = gate.lock().shut(key(item_id), epoch, now, until);
    if is_shut {
        stats::gate_shut();
    }
}

/// When the next reservation of an item expires, as this session found out.
#[derive(Clone, Copy)]
struct NextExpiry {
    item_id: i64,
    version: i64,
    /// When it found that out, and when the reservation expires, by the monotonic clock.
    found_at: Micros,
    expires_at: Micros,
}

thread_local! {
    /// Without preload there is no gate, and each refusal of a sold-out item would search the index
    /// for stale reservations, which took 17 % of its time.
    static NEXT_EXPIRY: Cell<Option<NextExpiry>> = const { Cell::new(None) };
}

/// Without preload: whether no reservation of an item is stale, as this session found out less than
/// `flashsale.sold_out_ttl` ago. The item must still have the same version, which a new reservation
/// raises.
pub fn is_none_stale(item_id: i64, version: i64) -> bool {
    let now = clock::monotonic();
    NEXT_EXPIRY.get().is_some_and(|next| {
        let is_same = (next.item_id, next.version) == (item_id, version);
        let is_recent = now - next.found_at < settings::sold_out_ttl();
        is_same && is_recent && now < next.expires_at && may_use_gate()
    })
}

/// Remembers in how many microseconds the next reservation of an item of this version expires.
pub fn remember_next_expiry(item_id: i64, version: i64, expires_in: Micros) {
    if GATE.get().is_none() && may_use_gate() {
        let found_at = clock::monotonic();
        NEXT_EXPIRY.set(Some(NextExpiry {
            item_id,
            version,
            found_at,
            expires_at: found_at.saturating_add(expires_in),
        }));
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

/// Called after the commit is visible, so every look that began before it has an older epoch.
fn at_end(end: Ended) {
    let raised = RAISED.take();
    match end {
        // A prepared transaction may commit at any time, in any session. From now on only
        // sold_out_ttl bounds how long the item may be refused.
        Ended::Committed | Ended::Prepared => raised.into_iter().for_each(open),
        Ended::RolledBack => {}
    }
}

fn open(item_id: i64) {
    if let Some(gate) = GATE.get() {
        gate.lock().open(key(item_id));
    }
}
