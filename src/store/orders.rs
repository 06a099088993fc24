//! Statements on orders.

pub use super::Order;
use super::{Stamp, Statement, cell, direct, ref_code, some, stamp, status};
use crate::error::Fault;
use crate::pg::transaction::with_latest_snapshot;
use flashsale_core::cancel::Cancel;
use flashsale_core::fit::{PriorOrder, Request};
use flashsale_core::item::{Currency, Item};
use flashsale_core::order::{Closed, Status};
use flashsale_core::order_ref::{OrderName, OrderRef, RefCode};
use flashsale_core::outcome::OrderIds;
use flashsale_core::time::Micros;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::BuiltinOid::{
    INT8ARRAYOID, INT8OID, OIDARRAYOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZOID,
};
use pgrx::pg_sys::Oid;
use pgrx::spi::{SpiClient, SpiHeapTupleData};
use std::collections::{HashMap, HashSet};

// The indexes by which statements read orders, so that none reads all orders of a user where one is
// wanted.
const KEYS: &str = "orders_idempotency_key";
pub const HOLDINGS: &str = "orders_holdings";
const DEADLINES: &str = "orders_payment_deadline";

/// Locks nothing. Runs before the item is locked and again afterwards: if another call with the
/// same key has just bought the last unit, only a snapshot taken after the wait sees its order.
static BY_KEY: Statement = Statement::deciding("SELECT o.order_id, o.quantity, o.status, o.expires_at, o.unit_price, o.currency, o.ref_code, i.inventory \
     FROM flashsale.orders o JOIN flashsale.items i USING (item_id) \
     WHERE o.item_id = $1 AND o.user_id = $2 AND o.idempotency_key = $3",
    &[INT8OID, TEXTOID, TEXTOID],
).by(KEYS);

/// Like BY_KEY, for many keys. Because of the LIMIT each is looked up in the index, however small
/// the planner believes the table to be.
static BY_KEYS: Statement = Statement::deciding("SELECT o.*, i.inventory, wanted.nth \
     FROM unnest($2, $3) WITH ORDINALITY AS wanted (user_id, idempotency_key, nth), \
     LATERAL (SELECT order_id, quantity, status, expires_at, unit_price, currency, ref_code FROM flashsale.orders \
              WHERE item_id = $1 AND user_id = wanted.user_id \
                AND idempotency_key = wanted.idempotency_key LIMIT 1) o, \
     flashsale.items i WHERE i.item_id = $1",
    &[INT8OID, TEXTARRAYOID, TEXTARRAYOID],
).by(KEYS);

/// Locks nothing. The sum cannot change while the caller holds the item.
static HELD_UNITS: Statement = Statement::deciding(
    "SELECT coalesce(sum(units_held), 0)::bigint FROM flashsale.orders \
     WHERE user_id = $1 AND item_id = $2 AND units_held > 0",
    &[TEXTOID, INT8OID],
)
.by(HOLDINGS);

/// Like HELD_UNITS, for many users, in their order.
static HELD_UNITS_EACH: Statement = Statement::deciding(
    "SELECT (SELECT coalesce(sum(units_held), 0)::bigint FROM flashsale.orders o \
             WHERE o.user_id = wanted.user_id AND o.item_id = $2 AND o.units_held > 0) \
     FROM unnest($1) WITH ORDINALITY AS wanted (user_id, nth) ORDER BY nth",
    &[TEXTARRAYOID, INT8OID],
)
.by(HOLDINGS);

/// Locks nothing.
static HELD_ORDERS: Statement = Statement::deciding(
    "SELECT order_id FROM flashsale.orders \
     WHERE user_id = $1 AND item_id = $2 AND units_held > 0 ORDER BY order_id DESC LIMIT 20",
    &[TEXTOID, INT8OID],
)
.by(HOLDINGS);

/// Locks only the new row, which no other transaction can see yet.
static INSERT: Statement = Statement::deciding(
    "INSERT INTO flashsale.orders (item_id, user_id, quantity, units_held, unit_price, currency, \
                                   idempotency_key, created_at, expires_at) \
     VALUES ($1, $2, $3, $3, $4, $5, $6, $7, $8) RETURNING order_id, ref_code",
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

/// Like INSERT, for many orders, in the order of the arguments.
static INSERT_EACH: Statement = Statement::deciding(
    "INSERT INTO flashsale.orders (item_id, user_id, quantity, units_held, unit_price, currency, \
                                   idempotency_key, created_at, expires_at) \
     SELECT $1, wanted.user_id, wanted.quantity, wanted.quantity, $4, $5, wanted.idempotency_key, $7, wanted.expires_at \
     FROM unnest($2, $3, $6, $8) WITH ORDINALITY AS wanted (user_id, quantity, idempotency_key, expires_at, nth) \
     ORDER BY nth RETURNING order_id, ref_code",
    &[
        INT8OID,
        TEXTARRAYOID,
        INT8ARRAYOID,
        INT8OID,
        TEXTOID,
        TEXTARRAYOID,
        TIMESTAMPTZOID,
        TIMESTAMPTZARRAYOID,
    ],
);

/// Waits for the order's lock.
static LOCK: Statement = Statement::deciding(
    "SELECT order_id, item_id, quantity, status, unit_price, currency, payment_deadline \
     FROM flashsale.orders WHERE order_id = $1 AND ($2 IS NULL OR ref_code = $2) FOR NO KEY UPDATE",
    &[INT8OID, TEXTOID],
);

/// Locks nothing.
static EXISTS: Statement = Statement::looking(
    "SELECT order_id FROM flashsale.orders WHERE order_id = $1 AND ($2 IS NULL OR ref_code = $2)",
    &[INT8OID, TEXTOID],
);

/// Updates a row that the caller holds.
static BEGIN_PAYMENT: Statement = Statement::deciding(
    "UPDATE flashsale.orders SET status = 'paying', paying_at = $2, payment_deadline = $3 \
     WHERE order_id = $1 RETURNING order_id",
    &[INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID],
);

/// Updates a row that the caller holds. An order that is reinstated is no longer closed.
static CONFIRM: Statement = Statement::deciding(
    "UPDATE flashsale.orders SET status = 'confirmed', units_held = quantity, confirmed_at = $2, \
            closed_at = NULL, closed_by = NULL, close_reason = NULL \
     WHERE order_id = $1 RETURNING order_id",
    &[INT8OID, TIMESTAMPTZOID],
);

/// Updates a row that the caller holds.
static CLOSE: Statement = Statement::deciding(
    "UPDATE flashsale.orders SET status = $2, units_held = 0, closed_at = $3, closed_by = session_user, \
            close_reason = $4 \
     WHERE order_id = $1 RETURNING order_id",
    &[INT8OID, TEXTOID, TIMESTAMPTZOID, TEXTOID],
);

/// Locks the rows that no other transaction holds.
static LOCK_UNHELD: Statement = Statement::deciding(
    "SELECT order_id, item_id, quantity, status, ref_code FROM flashsale.orders \
     WHERE order_id = ANY ($1) ORDER BY order_id FOR NO KEY UPDATE SKIP LOCKED",
    &[INT8ARRAYOID],
);

/// Locks nothing.
static MISSING: Statement = Statement::deciding(
    "SELECT nth - 1 FROM unnest($1, $2) WITH ORDINALITY AS wanted (order_id, ref_code, nth) \
     WHERE NOT EXISTS (SELECT FROM flashsale.orders o WHERE o.order_id = wanted.order_id \
                         AND (wanted.ref_code IS NULL OR o.ref_code = wanted.ref_code))",
    &[INT8ARRAYOID, TEXTARRAYOID],
);

/// Updates rows that the caller holds.
static CANCEL: Statement = Statement::deciding(
    "UPDATE flashsale.orders o SET status = 'cancelled', units_held = 0, closed_at = $4, \
            closed_by = pg_get_userbyid(wanted.by), close_reason = wanted.reason \
     FROM unnest($1, $2, $3) AS wanted (order_id, reason, by) \
     WHERE o.order_id = wanted.order_id RETURNING o.order_id",
    &[INT8ARRAYOID, TEXTARRAYOID, OIDARRAYOID, TIMESTAMPTZOID],
);

/// Locks nothing.
static COUNT_PAYMENT_CHECKS: Statement = Statement::deciding(
    "SELECT count(*) FROM flashsale.orders WHERE status = 'paying' AND payment_deadline <= $1",
    &[TIMESTAMPTZOID],
)
.by(DEADLINES);

/// For each request the order that was made with its key, if there is one. All requests are for one
/// item. Locks nothing.
pub fn by_keys(
    client: &SpiClient<'_>,
    requests: &[Request<'_>],
) -> Result<Vec<Option<PriorOrder>>, Fault> {
    let mut found = vec![None; requests.len()];
    match requests {
        [one] => {
            if let Some(key) = one.idempotency_key {
                let arguments = [one.item_id.into(), one.user_id.into(), key.into()];
                for row in BY_KEY.run(client, &arguments)? {
                    found[0] = Some(prior_order(&row)?);
                }
            }
        }
        _ => {
            let keyed: Vec<usize> = (0..requests.len())
                .filter(|&index| requests[index].idempotency_key.is_some())
                .collect();
            let Some(&first) = keyed.first() else {
                return Ok(found);
            };
            let users: Vec<&str> = keyed.iter().map(|&index| requests[index].user_id).collect();
            let keys: Vec<&str> = keyed
                .iter()
                .filter_map(|&index| requests[index].idempotency_key)
                .collect();
            let arguments = [requests[first].item_id.into(), users.into(), keys.into()];
            for row in BY_KEYS.run(client, &arguments)? {
                let nth: i64 = cell(&row, 9)?;
                found[keyed[nth as usize - 1]] = Some(prior_order(&row)?);
            }
        }
    }
    Ok(found)
}

fn prior_order(row: &SpiHeapTupleData<'_>) -> Result<PriorOrder, Fault> {
    Ok(PriorOrder {
        order_ref: OrderRef {
            order_id: cell(row, 1)?,
            code: ref_code(cell(row, 7)?)?,
        },
        quantity: cell(row, 2)?,
        status: status(cell(row, 3)?)?,
        expires_at: row.get::<Stamp>(4)?.map(|Stamp(at)| at),
        unit_price: row.get(5)?,
        currency: row.get::<&str>(6)?.and_then(Currency::parse),
        remaining_inventory: cell(row, 8)?,
    })
}

/// The units of the item that each user of the requests holds or has bought. Locks nothing.
pub fn held_units<'a>(
    client: &SpiClient<'_>,
    item_id: i64,
    requests: &[Request<'a>],
) -> Result<HashMap<&'a str, i64>, Fault> {
    let mut held: HashMap<&str, i64> = requests
        .iter()
        .map(|request| (request.user_id, 0))
        .collect();
    let users: Vec<&str> = held.keys().copied().collect();
    match users[..] {
        [] => {}
        [user_id] => {
            let row = HELD_UNITS
                .run(client, &[user_id.into(), item_id.into()])?
                .first();
            held.insert(user_id, some(&row, 1)?);
        }
        _ => {
            let rows = HELD_UNITS_EACH.run(client, &[users.clone().into(), item_id.into()])?;
            for (row, user_id) in rows.zip(users) {
                held.insert(user_id, cell(&row, 1)?);
            }
        }
    }
    Ok(held)
}

/// The orders by which a user holds or has bought units of an item, newest first, up to
/// `MAX_LISTED_ORDERS`. Locks nothing.
pub fn held_orders(client: &SpiClient<'_>, request: &Request<'_>) -> Result<OrderIds, Fault> {
    let rows = HELD_ORDERS.run(client, &[request.user_id.into(), request.item_id.into()])?;
    rows.map(|row| cell::<i64>(&row, 1)).collect()
}

/// Writes a reserved order for each request and returns their refs, in their order. Locks the new
/// orders. 23505 where another transaction has the same key; an error if a trigger suppressed one.
pub fn insert(
    client: &SpiClient<'_>,
    item: &Item,
    requests: &[&Request<'_>],
    now: Micros,
) -> Result<Vec<OrderRef>, Fault> {
    if requests.is_empty() {
        return Ok(vec![]);
    }
    match direct::insert(item, requests, now) {
        Some(order_refs) => Ok(order_refs),
        None => insert_by_sql(client, item, requests, now),
    }
}

fn insert_by_sql(
    client: &SpiClient<'_>,
    item: &Item,
    requests: &[&Request<'_>],
    now: Micros,
) -> Result<Vec<OrderRef>, Fault> {
    let expires_at = |request: &Request<'_>| Stamp(now + request.ttl(item));
    let rows = match requests {
        [one] => {
            let arguments: [DatumWithOid<'_>; 8] = [
                item.item_id.into(),
                one.user_id.into(),
                one.quantity.into(),
                item.unit_price.into(),
                item.currency.as_ref().map(Currency::code).into(),
                one.idempotency_key.into(),
                Stamp(now).into(),
                expires_at(one).into(),
            ];
            INSERT.run(client, &arguments)?
        }
        _ => {
            let users: Vec<&str> = requests.iter().map(|one| one.user_id).collect();
            let quantities: Vec<i64> = requests.iter().map(|one| one.quantity).collect();
            let keys: Vec<Option<&str>> = requests.iter().map(|one| one.idempotency_key).collect();
            let expiries: Vec<Stamp> = requests.iter().map(|one| expires_at(one)).collect();
            let arguments: [DatumWithOid<'_>; 8] = [
                item.item_id.into(),
                users.into(),
                quantities.into(),
                item.unit_price.into(),
                item.currency.as_ref().map(Currency::code).into(),
                keys.into(),
                Stamp(now).into(),
                expiries.into(),
            ];
            INSERT_EACH.run(client, &arguments)?
        }
    };
    if rows.len() != requests.len() {
        return Err(Fault::Suppressed("insert"));
    }
    rows.map(|row| {
        Ok(OrderRef {
            order_id: cell(&row, 1)?,
            code: ref_code(cell(&row, 2)?)?,
        })
    })
    .collect()
}

/// The arguments of the statements that find an order by its name; `None` if the name can be of no
/// order.
pub fn key(name: &OrderName<'_>) -> Option<[DatumWithOid<'static>; 2]> {
    let (order_id, code) = name.key()?;
    let code = code.map(|code| code.as_str().to_owned());
    Some([order_id.into(), code.into()])
}

/// Locks the order, for which it waits; `None` if there is none of this name.
pub fn lock(client: &SpiClient<'_>, name: &OrderName<'_>) -> Result<Option<Order>, Fault> {
    let Some((order_id, code)) = name.key() else {
        return Ok(None);
    };
    if let Some(order) = direct::lock_order(order_id, code.as_ref().map(RefCode::as_str)) {
        return Ok(order);
    }
    let code = code.map(|code| code.as_str().to_owned());
    let row = LOCK.first(client, &[order_id.into(), code.into()])?;
    row.map(|row| {
        Ok(Order {
            order_id: some(&row, 1)?,
            item_id: some(&row, 2)?,
            quantity: some(&row, 3)?,
            status: status(some(&row, 4)?)?,
            unit_price: row.get(5)?,
            currency: row.get(6)?,
            payment_deadline: stamp(&row, 7)?,
            ctid: None,
        })
    })
    .transpose()
}

/// Whether an order exists now, even if the transaction's snapshot is too old to see it. Locks
/// nothing.
pub fn exists_by_now(client: &SpiClient<'_>, name: &OrderName<'_>) -> Result<bool, Fault> {
    match key(name) {
        Some(key) => Ok(with_latest_snapshot(|| EXISTS.count(client, &key))? > 0),
        None => Ok(false),
    }
}

/// Changes a locked order to paying.
pub fn begin_payment(
    client: &SpiClient<'_>,
    order: &Order,
    now: Micros,
    deadline: Micros,
) -> Result<(), Fault> {
    if direct::begin_payment(order, now, deadline).is_some() {
        return Ok(());
    }
    let arguments = [
        order.order_id.into(),
        Stamp(now).into(),
        Stamp(deadline).into(),
    ];
    moved(BEGIN_PAYMENT.count(client, &arguments)?, 1)
}

/// Changes a locked order to confirmed.
pub fn confirm(client: &SpiClient<'_>, order: &Order, now: Micros) -> Result<(), Fault> {
    if direct::confirm(order, now).is_some() {
        return Ok(());
    }
    let arguments = [order.order_id.into(), Stamp(now).into()];
    moved(CONFIRM.count(client, &arguments)?, 1)
}

/// Changes a locked order to `closed`. It then holds no units.
pub fn close(
    client: &SpiClient<'_>,
    order: &Order,
    closed: Closed,
    now: Micros,
    reason: Option<&str>,
) -> Result<(), Fault> {
    if direct::close(order, closed, now, reason).is_some() {
        return Ok(());
    }
    let arguments = [
        order.order_id.into(),
        closed.name().into(),
        Stamp(now).into(),
        reason.into(),
    ];
    moved(CLOSE.count(client, &arguments)?, 1)
}

/// What is needed to close an order, read under its lock.
pub struct HeldOrder {
    pub order_id: i64,
    pub item_id: i64,
    pub quantity: i64,
    pub status: Status,
    pub code: RefCode,
}

fn held_order(row: &SpiHeapTupleData<'_>) -> Result<HeldOrder, Fault> {
    Ok(HeldOrder {
        order_id: cell(row, 1)?,
        item_id: cell(row, 2)?,
        quantity: cell(row, 3)?,
        status: status(cell(row, 4)?)?,
        code: ref_code(cell(row, 5)?)?,
    })
}

/// Locks those of the orders that no other transaction holds; returns them by id.
pub fn lock_unheld(
    client: &SpiClient<'_>,
    order_ids: Vec<i64>,
) -> Result<HashMap<i64, HeldOrder>, Fault> {
    let rows = LOCK_UNHELD.run(client, &[order_ids.into()])?;
    rows.map(|row| {
        let order = held_order(&row)?;
        Ok((order.order_id, order))
    })
    .collect()
}

/// The indexes of the cancels whose orders do not exist. Locks nothing.
pub fn missing(client: &SpiClient<'_>, cancels: &[Cancel<'_>]) -> Result<HashSet<usize>, Fault> {
    let order_ids: Vec<i64> = cancels.iter().map(|cancel| cancel.order_id).collect();
    let codes = cancels.iter().map(|cancel| cancel.code.as_ref());
    let codes: Vec<Option<&str>> = codes.map(|code| code.map(RefCode::as_str)).collect();
    let rows = MISSING.run(client, &[order_ids.into(), codes.into()])?;
    rows.map(|row| Ok(cell::<i64>(&row, 1)? as usize)).collect()
}

/// Cancels locked orders.
pub fn cancel(client: &SpiClient<'_>, cancels: &[Cancel<'_>], now: Micros) -> Result<(), Fault> {
    let order_ids: Vec<i64> = cancels.iter().map(|cancel| cancel.order_id).collect();
    let reasons: Vec<Option<&str>> = cancels.iter().map(|cancel| cancel.reason).collect();
    let by: Vec<Oid> = cancels.iter().map(|cancel| cancel.by.into()).collect();
    let arguments = [
        order_ids.into(),
        reasons.into(),
        by.into(),
        Stamp(now).into(),
    ];
    moved(CANCEL.count(client, &arguments)?, cancels.len())
}

/// An error if a trigger suppressed the update of an order that the caller holds.
fn moved(orders: usize, expected: usize) -> Result<(), Fault> {
    match orders == expected {
        true => Ok(()),
        false => Err(Fault::Suppressed("update")),
    }
}

/// The number of orders in paying whose deadline has passed. Locks nothing.
pub fn count_payment_checks(client: &SpiClient<'_>, now: Micros) -> Result<i64, Fault> {
    some(
        &COUNT_PAYMENT_CHECKS
            .run(client, &[Stamp(now).into()])?
            .first(),
        1,
    )
}

#[cfg(test)]
mod tests {
    use super::HELD_ORDERS;
    use flashsale_core::limits::MAX_LISTED_ORDERS;

    #[test]
    fn as_many_orders_are_read_as_are_listed() {
        assert!(
            HELD_ORDERS
                .sql
                .ends_with(&format!(" LIMIT {MAX_LISTED_ORDERS}"))
        );
    }
}
