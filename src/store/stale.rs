//! Statements on stale reservations: those that have expired, or are older than an operator wants.

use super::{Stamp, Statement, cell, some, stamp, status};
use crate::error::Fault;
use crate::pg::heap;
use flashsale_core::order::Status;
use flashsale_core::time::Micros;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::BuiltinOid::{self, INT4OID, INT8ARRAYOID, INT8OID, TIMESTAMPTZOID};
use pgrx::spi::{SpiClient, SpiHeapTupleData};

// The indexes by which statements read orders, so that none reads all of a time where those of an
// item are wanted.
const PRIMARY_KEY: &str = "orders_pkey";
const EXPIRY: &str = "orders_expiry";
pub const ITEM_EXPIRY: &str = "orders_item_expiry";

const STALE: &[BuiltinOid] = &[
    TIMESTAMPTZOID,
    INT8ARRAYOID,
    INT8ARRAYOID,
    INT4OID,
    TIMESTAMPTZOID,
];

/// Stale reservations, oldest first, without those of the items in $2 and the orders in $3.
macro_rules! stale_where {
    ($stale:literal) => {
        concat!(
            "SELECT order_id, expires_at FROM flashsale.orders WHERE status = 'reserved' AND ",
            $stale,
            " AND item_id <> ALL ($2) AND order_id <> ALL ($3) ORDER BY expires_at LIMIT $4"
        )
    };
}

/// Locks nothing. There are two statements, because one with OR would read every reservation.
static STALE_EXPIRED: Statement =
    Statement::deciding(stale_where!("expires_at <= $1 AND expires_at >= $5"), STALE).by(EXPIRY);
static STALE_CREATED: Statement =
    Statement::deciding(stale_where!("created_at < $1"), STALE).by(EXPIRY);

/// Locks nothing.
static NEXT_EXPIRY: Statement = Statement::deciding(
    "SELECT expires_at FROM flashsale.orders WHERE item_id = $1 AND status = 'reserved' \
     ORDER BY expires_at LIMIT 1",
    &[INT8OID],
)
.by(ITEM_EXPIRY);

/// Stale reservations of one item, oldest first, without the orders in $3.
macro_rules! stale_of_item {
    () => {
        "SELECT order_id, item_id, quantity, status FROM flashsale.orders \
         WHERE item_id = $1 AND status = 'reserved' AND expires_at <= $2 AND order_id <> ALL ($3) \
         ORDER BY expires_at LIMIT $4"
    };
}

/// Locks nothing.
static STALE_OF_ITEM: Statement = Statement::deciding(
    stale_of_item!(),
    &[INT8OID, TIMESTAMPTZOID, INT8ARRAYOID, INT8OID],
)
.by(ITEM_EXPIRY);

/// Locks the rows, without those that another transaction holds: these do not count for the LIMIT.
static LOCK_STALE_OF_ITEM: Statement = Statement::deciding(
    concat!(stale_of_item!(), " FOR NO KEY UPDATE SKIP LOCKED"),
    &[INT8OID, TIMESTAMPTZOID, INT8ARRAYOID, INT8OID],
)
.by(ITEM_EXPIRY);

/// Locks nothing.
static STALE_UNITS: Statement = Statement::deciding(
    concat!(
        "SELECT coalesce(sum(quantity), 0)::bigint FROM (",
        stale_of_item!(),
        ") AS stale"
    ),
    &[INT8OID, TIMESTAMPTZOID, INT8ARRAYOID, INT8OID],
)
.by(ITEM_EXPIRY);

/// Locks the rows that no other transaction holds, and whose orders are still reserved.
static LOCK_STALE: Statement = Statement::deciding("SELECT order_id, item_id, quantity, status FROM flashsale.orders \
     WHERE order_id = ANY ($1) AND status = 'reserved' ORDER BY order_id FOR NO KEY UPDATE SKIP LOCKED",
    &[INT8ARRAYOID],
).by(PRIMARY_KEY);

/// Updates rows that the caller holds.
static EXPIRE: Statement = Statement::deciding(
    "UPDATE flashsale.orders SET status = 'expired', units_held = 0, closed_at = $2, \
            closed_by = session_user, close_reason = 'reservation expired' \
     WHERE order_id = ANY ($1) RETURNING order_id",
    &[INT8ARRAYOID, TIMESTAMPTZOID],
);

/// Locks nothing.
static IS_EXPIRED: Statement = Statement::deciding(
    "SELECT order_id FROM flashsale.orders WHERE order_id = $1 AND status = 'expired'",
    &[INT8OID],
);

/// Which reserved orders are stale.
#[derive(Clone, Copy)]
pub enum Staleness {
    ExpiredAt(Micros),
    CreatedBefore(Micros),
}

/// Orders to leave out of a search for stale ones.
#[derive(Clone, Default)]
pub struct Excluded {
    /// The orders of these items.
    pub items: Vec<i64>,
    pub orders: Vec<i64>,
    /// With [`Staleness::ExpiredAt`], those that expired before this: a run does not read them again.
    pub expired_before: Option<Micros>,
}

/// The ids of up to `limit` stale orders, oldest first, and when each expires. Locks nothing.
pub fn oldest(
    client: &SpiClient<'_>,
    staleness: Staleness,
    excluded: &Excluded,
    limit: i32,
) -> Result<Vec<(i64, Option<Micros>)>, Fault> {
    let (statement, at) = match staleness {
        Staleness::ExpiredAt(at) => (&STALE_EXPIRED, at),
        Staleness::CreatedBefore(at) => (&STALE_CREATED, at),
    };
    let arguments = [
        Stamp(at).into(),
        excluded.items.clone().into(),
        excluded.orders.clone().into(),
        limit.into(),
        Stamp(excluded.expired_before.unwrap_or(Micros::MIN)).into(),
    ];
    let rows = statement.run(client, &arguments)?;
    rows.map(|row| {
        let expires_at = row.get::<Stamp>(2)?;
        Ok((cell(&row, 1)?, expires_at.map(|Stamp(at)| at)))
    })
    .collect()
}

/// When the next reservation of an item expires, or the oldest stale one has expired; `None` if it
/// has no reservations. Locks nothing.
pub fn next_expiry(client: &SpiClient<'_>, item_id: i64) -> Result<Option<Micros>, Fault> {
    match NEXT_EXPIRY.first(client, &[item_id.into()])? {
        Some(row) => stamp(&row, 1),
        None => Ok(None),
    }
}

/// The stale reservations of an item at a time, without some orders.
pub struct StaleOfItem {
    pub item_id: i64,
    pub now: Micros,
    pub excluded: Vec<i64>,
}

impl StaleOfItem {
    pub fn of(item_id: i64, now: Micros) -> Self {
        Self {
            item_id,
            now,
            excluded: Vec::new(),
        }
    }

    /// The units of the oldest `limit` of them. Locks nothing.
    pub fn units(&self, client: &SpiClient<'_>, limit: i64) -> Result<i64, Fault> {
        some(&STALE_UNITS.run(client, &self.arguments(limit))?.first(), 1)
    }

    /// The quantities of the oldest `limit` of them. Locks nothing.
    pub fn quantities(&self, client: &SpiClient<'_>, limit: i64) -> Result<Vec<i64>, Fault> {
        let rows = STALE_OF_ITEM.run(client, &self.arguments(limit))?;
        rows.map(|row| cell(&row, 3)).collect()
    }

    /// Locks the oldest `limit` of those that no other transaction holds.
    pub fn lock(&self, client: &SpiClient<'_>, limit: i64) -> Result<Vec<StaleOrder>, Fault> {
        let rows = LOCK_STALE_OF_ITEM.run(client, &self.arguments(limit))?;
        rows.map(|row| stale_order(&row)).collect()
    }

    fn arguments(&self, limit: i64) -> [DatumWithOid<'_>; 4] {
        [
            self.item_id.into(),
            Stamp(self.now).into(),
            self.excluded.clone().into(),
            limit.into(),
        ]
    }
}

/// What is needed to expire an order, read under its lock.
pub struct StaleOrder {
    pub order_id: i64,
    pub item_id: i64,
    pub quantity: i64,
    pub status: Status,
}

fn stale_order(row: &SpiHeapTupleData<'_>) -> Result<StaleOrder, Fault> {
    Ok(StaleOrder {
        order_id: cell(row, 1)?,
        item_id: cell(row, 2)?,
        quantity: cell(row, 3)?,
        status: status(cell(row, 4)?)?,
    })
}

/// Locks those of the orders that no other transaction holds and that are still reserved.
pub fn lock(client: &SpiClient<'_>, order_ids: Vec<i64>) -> Result<Vec<StaleOrder>, Fault> {
    let rows = LOCK_STALE.run(client, &[order_ids.into()])?;
    rows.map(|row| stale_order(&row)).collect()
}

/// Takes the table lock that [`expire()`] needs, so that a lock which is refused there is one that a
/// trigger wants. Waits for it.
pub fn lock_table_to_expire() {
    heap::lock_for_update(c"flashsale", c"orders");
}

/// Expires locked orders; an error if a trigger suppressed one.
pub fn expire(client: &SpiClient<'_>, order_ids: Vec<i64>, now: Micros) -> Result<(), Fault> {
    let expected = order_ids.len();
    match EXPIRE.count(client, &[order_ids.into(), Stamp(now).into()])? {
        expired if expired == expected => Ok(()),
        _ => Err(Fault::Suppressed("expiry")),
    }
}

/// Whether an order is expired. Locks nothing.
pub fn is_expired(client: &SpiClient<'_>, order_id: i64) -> Result<bool, Fault> {
    Ok(IS_EXPIRED.count(client, &[order_id.into()])? == 1)
}
