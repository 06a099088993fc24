//! Statements that write both tables.

use super::cells::Cells;
use super::items;
use super::{Stamp, Statement};
use crate::clock::Micros;
use crate::error::Fault;
use crate::purchase::fit::{Currency, Item, Request};
use crate::settings::{self, Access};
use crate::{item_columns, on_sale};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::BuiltinOid::{
    INT8ARRAYOID, INT8OID, TEXTARRAYOID, TEXTOID, TIDOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZOID,
};
use pgrx::spi::SpiClient;

macro_rules! taken {
    () => {
        "WITH taken AS ( \
             UPDATE flashsale.items SET inventory = inventory - $2, version = version + 1 FROM ( \
                 SELECT ctid AS place FROM flashsale.items WHERE "
    };
}
macro_rules! sold {
    () => {
        "INSERT INTO flashsale.orders (item_id, user_id, quantity, units_held, unit_price, currency, created_at, expires_at) \
         SELECT item_id, $3, $2, $2, unit_price, currency, now, now + coalesce(ttl, $4) * interval '1 microsecond' FROM taken "
    };
}

/// Locks the row, or errs at once; takes the units; writes the order.
static BUY: Statement = Statement::deciding(
    concat!(
        taken!(),
        on_sale!(),
        " AND inventory >= $2 AND max_per_user IS NULL FOR UPDATE NOWAIT) held \
         WHERE items.ctid = held.place \
         RETURNING item_id, inventory, unit_price, currency, clock_timestamp() AS now, \
                   (extract(epoch FROM reservation_ttl) * 1000000)::bigint AS ttl, items.ctid AS at) ",
        sold!(),
        "RETURNING order_id, created_at, unit_price, currency, (SELECT inventory FROM taken), (SELECT at FROM taken), (SELECT ttl FROM taken)"
    ),
    &[INT8OID, INT8OID, TEXTOID, INT8OID],
);

/// As BUY, with all of the item that fit looks at.
static BUY_FIT: Statement = Statement::deciding(
    concat!(
        taken!(),
        on_sale!(),
        " AND inventory >= $2 AND max_per_user IS NULL FOR UPDATE NOWAIT) held \
         WHERE items.ctid = held.place RETURNING ",
        "item_id, inventory, version, paused, max_per_user, starts_at, ends_at, unit_price, currency, \
         (extract(epoch FROM reservation_ttl) * 1000000)::bigint AS ttl, items.ctid AS at, clock_timestamp() AS now), \
         sold AS (",
        sold!(),
        "RETURNING order_id) SELECT taken.*, sold.order_id FROM taken, sold"
    ),
    &[INT8OID, INT8OID, TEXTOID, INT8OID],
);

/// A purchase that one statement has made: the item as it was before, the order's id, and when.
pub struct Bought {
    pub item: Item,
    pub order_id: i64,
    pub now: Micros,
}

pub fn buy(client: &SpiClient<'_>, request: &Request<'_>) -> Result<Option<Bought>, Fault> {
    let arguments = [
        request.item_id.into(),
        request.quantity.into(),
        request.user_id.into(),
        request.default_ttl.into(),
    ];
    let with_fit = matches!(settings::access(), Access::OneFit | Access::OneFitLean);
    let lacking = || Fault::Broken("a column that is NOT NULL was NULL");
    let mut bought = None;
    let mut read = |row: &dyn Cells| {
        bought = Some(if with_fit {
            let after = items::item_of(row)?;
            Bought {
                item: Item {
                    inventory: after.inventory + request.quantity,
                    version: after.version - 1,
                    ..after
                },
                order_id: row.int8(13)?.ok_or_else(lacking)?,
                now: row.stamp(12)?.ok_or_else(lacking)?,
            }
        } else {
            Bought {
                item: Item {
                    item_id: request.item_id,
                    inventory: row.int8(5)?.ok_or_else(lacking)? + request.quantity,
                    unit_price: row.int8(3)?,
                    currency: row.currency(4)?,
                    reservation_ttl: row.int8(7)?,
                    place: row.tid(6)?.ok_or_else(lacking)?,
                    ..Item::default()
                },
                order_id: row.int8(1)?.ok_or_else(lacking)?,
                now: row.stamp(2)?.ok_or_else(lacking)?,
            }
        });
        Ok(())
    };
    let statement = if with_fit { &BUY_FIT } else { &BUY };
    statement.each(client, &arguments, &mut read)?;
    Ok(bought)
}

macro_rules! write_taken {
    () => {
        "WITH taken AS ( \
             UPDATE flashsale.items SET inventory = inventory - $9, version = version + 1 \
             WHERE ctid = $10 AND item_id = $1 AND version = $11 AND inventory >= $9 RETURNING ctid AS at) \
         INSERT INTO flashsale.orders (item_id, user_id, quantity, units_held, unit_price, currency, \
                                       idempotency_key, created_at, expires_at) "
    };
}

static WRITE: Statement = Statement::deciding(
    concat!(
        write_taken!(),
        "SELECT $1, $2, $3, $3, $4, $5, $6, $7, $8 FROM taken RETURNING order_id, (SELECT at FROM taken)"
    ),
    &[
        INT8OID,
        TEXTOID,
        INT8OID,
        INT8OID,
        TEXTOID,
        TEXTOID,
        TIMESTAMPTZOID,
        TIMESTAMPTZOID,
        INT8OID,
        TIDOID,
        INT8OID,
    ],
);

static WRITE_EACH: Statement = Statement::deciding(
    concat!(
        write_taken!(),
        "SELECT $1, wanted.user_id, wanted.quantity, wanted.quantity, $4, $5, wanted.idempotency_key, $7, wanted.expires_at \
         FROM taken, unnest($2, $3, $6, $8) WITH ORDINALITY AS wanted (user_id, quantity, idempotency_key, expires_at, nth) \
         ORDER BY nth RETURNING order_id, (SELECT at FROM taken)"
    ),
    &[
        INT8OID,
        TEXTARRAYOID,
        INT8ARRAYOID,
        INT8OID,
        TEXTOID,
        TEXTARRAYOID,
        TIMESTAMPTZOID,
        TIMESTAMPTZARRAYOID,
        INT8OID,
        TIDOID,
        INT8OID,
    ],
);

/// Takes the units of an item that is held and writes its orders.
pub fn write(
    client: &SpiClient<'_>,
    item: &Item,
    units: i64,
    requests: &[&Request<'_>],
    now: Micros,
) -> Result<Vec<i64>, Fault> {
    let expires_at = |request: &Request<'_>| Stamp(now + item.ttl_for(request));
    let mut order_ids = Vec::with_capacity(requests.len());
    let mut place = None;
    let mut read = |row: &dyn Cells| {
        order_ids.extend(row.int8(1)?);
        place = row.tid(2)?;
        Ok(())
    };
    match requests {
        [one] => {
            let arguments: [DatumWithOid<'_>; 11] = [
                item.item_id.into(),
                one.user_id.into(),
                one.quantity.into(),
                item.unit_price.into(),
                item.currency.as_ref().map(Currency::code).into(),
                one.idempotency_key.into(),
                Stamp(now).into(),
                expires_at(one).into(),
                units.into(),
                items::tid(item.place).into(),
                item.version.into(),
            ];
            WRITE.each(client, &arguments, &mut read)?
        }
        _ => {
            let users: Vec<&str> = requests.iter().map(|one| one.user_id).collect();
            let quantities: Vec<i64> = requests.iter().map(|one| one.quantity).collect();
            let keys: Vec<Option<&str>> = requests.iter().map(|one| one.idempotency_key).collect();
            let expiries: Vec<Stamp> = requests.iter().map(|one| expires_at(one)).collect();
            let arguments: [DatumWithOid<'_>; 11] = [
                item.item_id.into(),
                users.into(),
                quantities.into(),
                item.unit_price.into(),
                item.currency.as_ref().map(Currency::code).into(),
                keys.into(),
                Stamp(now).into(),
                expiries.into(),
                units.into(),
                items::tid(item.place).into(),
                item.version.into(),
            ];
            WRITE_EACH.each(client, &arguments, &mut read)?
        }
    };
    if order_ids.len() != requests.len() {
        return Err(Fault::Suppressed);
    }
    if let Some(place) = place {
        items::sold_at(item.item_id, place);
    }
    Ok(order_ids)
}
