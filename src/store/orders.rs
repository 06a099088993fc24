//! Statements on orders.

use super::{Stamp, Statement, cell, some, stamp};
use crate::clock::Micros;
use crate::error::Fault;
use crate::order::machine::Status;
use crate::purchase::fit::{Item, PriorOrder, Request};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::pg_sys::BuiltinOid::{INT4OID, INT8ARRAYOID, INT8OID, TEXTOID, TIMESTAMPTZOID};
use pgrx::spi::{SpiClient, SpiTupleTable};

/// Locks nothing. Runs once before the item's lock and again under it: a twin that
/// just bought the last unit is seen only by a snapshot taken after the wait.
static BY_KEY: Statement = Statement::deciding(
    "SELECT o.order_id, o.quantity, o.status, o.expires_at, o.unit_price, o.currency, i.inventory \
     FROM flashsale.orders o JOIN flashsale.items i USING (item_id) \
     WHERE o.item_id = $1 AND o.user_id = $2 AND o.idempotency_key = $3",
    &[INT8OID, TEXTOID, TEXTOID],
);

/// Locks nothing; exact while the caller holds the item.
static HELD_UNITS: Statement = Statement::deciding(
    "SELECT coalesce(sum(units_held), 0)::bigint FROM flashsale.orders \
     WHERE user_id = $1 AND item_id = $2 AND units_held > 0",
    &[TEXTOID, INT8OID],
);

/// Locks nothing.
static HELD_ORDERS: Statement = Statement::deciding(
    "SELECT order_id FROM flashsale.orders \
     WHERE user_id = $1 AND item_id = $2 AND units_held > 0 ORDER BY order_id DESC LIMIT 20",
    &[TEXTOID, INT8OID],
);

/// Locks the new row alone, which nobody else can see yet.
static INSERT: Statement = Statement::deciding(
    "INSERT INTO flashsale.orders (item_id, user_id, quantity, units_held, unit_price, currency, \
                                   idempotency_key, created_at, expires_at) \
     VALUES ($1, $2, $3, $3, $4, $5, $6, $7, $8) RETURNING order_id",
    &[
        INT8OID,
        TEXTOID,
        INT8OID,
        INT8OID,
        TEXTOID,
        TEXTOID,
        TIMESTAMPTZOID,
        TIMESTAMPTZOID,
    ],
);

/// Waits for the order's lock.
static LOCK: Statement = Statement::deciding(
    "SELECT order_id, item_id, quantity, status, unit_price, currency, payment_deadline \
     FROM flashsale.orders WHERE order_id = $1 FOR UPDATE",
    &[INT8OID],
);

/// Locks nothing.
static EXISTS: Statement = Statement::looking(
    "SELECT order_id FROM flashsale.orders WHERE order_id = $1",
    &[INT8OID],
);

/// Rewrites a row the caller holds.
static BEGIN_PAYMENT: Statement = Statement::deciding(
    "UPDATE flashsale.orders SET status = 'paying', paying_at = $2, payment_deadline = $3 \
     WHERE order_id = $1 RETURNING order_id",
    &[INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID],
);

/// Rewrites a row the caller holds; a reinstated order is open again.
static CONFIRM: Statement = Statement::deciding(
    "UPDATE flashsale.orders SET status = 'confirmed', units_held = quantity, confirmed_at = $2, \
            closed_at = NULL, closed_by = NULL, close_reason = NULL \
     WHERE order_id = $1 RETURNING order_id",
    &[INT8OID, TIMESTAMPTZOID],
);

/// Rewrites a row the caller holds.
static CLOSE: Statement = Statement::deciding(
    "UPDATE flashsale.orders SET status = $2, units_held = 0, closed_at = $3, closed_by = session_user, \
            close_reason = $4 \
     WHERE order_id = $1 RETURNING order_id",
    &[INT8OID, TEXTOID, TIMESTAMPTZOID, TEXTOID],
);

/// Stale reservations but for items and orders to leave out, oldest first.
macro_rules! stale_where {
    ($stale:literal) => {
        concat!(
            "SELECT order_id FROM flashsale.orders WHERE status = 'reserved' AND ",
            $stale,
            " AND item_id <> ALL ($2) AND order_id <> ALL ($3) ORDER BY expires_at LIMIT $4"
        )
    };
}

/// Locks nothing. Two statements, since an OR of both would read every reservation.
static STALE_EXPIRED: Statement = Statement::deciding(
    stale_where!("expires_at <= $1"),
    &[TIMESTAMPTZOID, INT8ARRAYOID, INT8ARRAYOID, INT4OID],
);
static STALE_CREATED: Statement = Statement::deciding(
    stale_where!("created_at < $1"),
    &[TIMESTAMPTZOID, INT8ARRAYOID, INT8ARRAYOID, INT4OID],
);

/// Locks the rows nobody else holds and that are still stale.
static LOCK_STALE: Statement = Statement::deciding(
    "SELECT order_id, item_id, quantity, status FROM flashsale.orders \
     WHERE order_id = ANY ($1) AND status = 'reserved' ORDER BY order_id FOR UPDATE SKIP LOCKED",
    &[INT8ARRAYOID],
);

/// Rewrites rows the caller holds.
static EXPIRE: Statement = Statement::deciding(
    "UPDATE flashsale.orders SET status = 'expired', units_held = 0, closed_at = $2, \
            closed_by = session_user, close_reason = 'reservation expired' \
     WHERE order_id = ANY ($1) RETURNING order_id",
    &[INT8ARRAYOID, TIMESTAMPTZOID],
);

/// Locks nothing.
static COUNT_PAYMENT_CHECKS: Statement = Statement::deciding(
    "SELECT count(*) FROM flashsale.orders WHERE status = 'paying' AND payment_deadline <= $1",
    &[TIMESTAMPTZOID],
);

/// The order a key already stands for.
pub fn by_key(client: &SpiClient<'_>, request: &Request<'_>) -> Result<Option<PriorOrder>, Fault> {
    let Some(key) = request.idempotency_key else {
        return Ok(None);
    };
    let row = BY_KEY.first(
        client,
        &[request.item_id.into(), request.user_id.into(), key.into()],
    )?;
    row.map(|row| {
        Ok(PriorOrder {
            order_id: some(&row, 1)?,
            quantity: some(&row, 2)?,
            status: status(&row, 3)?,
            expires_at: stamp(&row, 4)?,
            unit_price: row.get(5)?,
            currency: row.get(6)?,
            remaining_inventory: some(&row, 7)?,
        })
    })
    .transpose()
}

/// Units of the item the user holds or has bought.
pub fn held_units(client: &SpiClient<'_>, request: &Request<'_>) -> Result<i64, Fault> {
    let row = HELD_UNITS
        .run(client, &[request.user_id.into(), request.item_id.into()])?
        .first();
    some(&row, 1)
}

/// The orders by which a user holds or has bought units of an item, newest first, 20 at most.
pub fn held_orders(client: &SpiClient<'_>, request: &Request<'_>) -> Result<Vec<i64>, Fault> {
    let rows = HELD_ORDERS.run(client, &[request.user_id.into(), request.item_id.into()])?;
    rows.map(|row| cell(&row, 1)).collect()
}

/// Writes a reserved order and returns its id.
pub fn insert(
    client: &SpiClient<'_>,
    item: &Item,
    request: &Request<'_>,
    created_at: Micros,
    expires_at: Micros,
) -> Result<i64, Fault> {
    let arguments: [DatumWithOid<'_>; 8] = [
        item.item_id.into(),
        request.user_id.into(),
        request.quantity.into(),
        item.unit_price.into(),
        item.currency.as_deref().into(),
        request.idempotency_key.into(),
        Stamp(created_at).into(),
        Stamp(expires_at).into(),
    ];
    let row = INSERT
        .first(client, &arguments)?
        .ok_or(Fault::Broken("an order was not inserted"))?;
    some(&row, 1)
}

/// An order whose row is held.
pub struct Order {
    pub order_id: i64,
    pub item_id: i64,
    pub quantity: i64,
    pub status: Status,
    pub unit_price: Option<i64>,
    pub currency: Option<String>,
    pub payment_deadline: Option<Micros>,
}

/// Holds the order, if there is one.
pub fn lock(client: &SpiClient<'_>, order_id: i64) -> Result<Option<Order>, Fault> {
    let row = LOCK.first(client, &[order_id.into()])?;
    row.map(|row| {
        Ok(Order {
            order_id: some(&row, 1)?,
            item_id: some(&row, 2)?,
            quantity: some(&row, 3)?,
            status: status(&row, 4)?,
            unit_price: row.get(5)?,
            currency: row.get(6)?,
            payment_deadline: stamp(&row, 7)?,
        })
    })
    .transpose()
}

/// Whether an order exists that the caller's own snapshot is too old to see.
pub fn exists_by_now(client: &SpiClient<'_>, order_id: i64) -> Result<bool, Fault> {
    // SAFETY: pushed and popped here; if the statement fails, the try's rollback pops it.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
    let found = EXISTS.count(client, &[order_id.into()])?;
    // SAFETY: the snapshot pushed above is the active one.
    unsafe { pg_sys::PopActiveSnapshot() };
    Ok(found > 0)
}

/// Moves an order that is held to paying.
pub fn begin_payment(
    client: &SpiClient<'_>,
    order: &Order,
    now: Micros,
    deadline: Micros,
) -> Result<(), Fault> {
    let arguments = [
        order.order_id.into(),
        Stamp(now).into(),
        Stamp(deadline).into(),
    ];
    BEGIN_PAYMENT.write(client, &arguments, 1)
}

/// Moves an order that is held to confirmed.
pub fn confirm(client: &SpiClient<'_>, order: &Order, now: Micros) -> Result<(), Fault> {
    CONFIRM.write(client, &[order.order_id.into(), Stamp(now).into()], 1)
}

/// Cancels or refunds an order: it holds no units from here on.
pub fn close(
    client: &SpiClient<'_>,
    order: &Order,
    status: Status,
    now: Micros,
    reason: Option<&str>,
) -> Result<(), Fault> {
    let arguments = [
        order.order_id.into(),
        status.name().into(),
        Stamp(now).into(),
        reason.into(),
    ];
    CLOSE.write(client, &arguments, 1)
}

/// Which reserved orders count as stale.
#[derive(Clone, Copy)]
pub enum Staleness {
    ExpiredAt(Micros),
    CreatedBefore(Micros),
}

/// Ids of stale orders, oldest first, but for those to leave out.
pub fn stale(
    client: &SpiClient<'_>,
    staleness: Staleness,
    but_items: &[i64],
    but_orders: &[i64],
    limit: i32,
) -> Result<Vec<i64>, Fault> {
    let (statement, at) = match staleness {
        Staleness::ExpiredAt(at) => (&STALE_EXPIRED, at),
        Staleness::CreatedBefore(at) => (&STALE_CREATED, at),
    };
    let arguments = [
        Stamp(at).into(),
        but_items.to_vec().into(),
        but_orders.to_vec().into(),
        limit.into(),
    ];
    let rows = statement.run(client, &arguments)?;
    rows.map(|row| cell(&row, 1)).collect()
}

/// A stale order whose row is held.
pub struct StaleOrder {
    pub order_id: i64,
    pub item_id: i64,
    pub quantity: i64,
    pub status: Status,
}

/// Holds those of the orders that nobody else does and that are still reserved.
pub fn lock_stale(client: &SpiClient<'_>, order_ids: Vec<i64>) -> Result<Vec<StaleOrder>, Fault> {
    let rows = LOCK_STALE.run(client, &[order_ids.into()])?;
    rows.map(|row| {
        Ok(StaleOrder {
            order_id: cell(&row, 1)?,
            item_id: cell(&row, 2)?,
            quantity: cell(&row, 3)?,
            status: parse(&cell::<String>(&row, 4)?)?,
        })
    })
    .collect()
}

/// Expires orders that are held.
pub fn expire(client: &SpiClient<'_>, order_ids: Vec<i64>, now: Micros) -> Result<(), Fault> {
    let expected = order_ids.len();
    EXPIRE.write(client, &[order_ids.into(), Stamp(now).into()], expected)
}

/// How many orders in paying are past their deadline.
pub fn count_payment_checks(client: &SpiClient<'_>, now: Micros) -> Result<i64, Fault> {
    some(
        &COUNT_PAYMENT_CHECKS
            .run(client, &[Stamp(now).into()])?
            .first(),
        1,
    )
}

fn status(row: &SpiTupleTable<'_>, column: usize) -> Result<Status, Fault> {
    parse(&some::<String>(row, column)?)
}

fn parse(name: &str) -> Result<Status, Fault> {
    Status::parse(name).ok_or(Fault::Broken("an order has an unknown status"))
}
