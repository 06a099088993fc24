//! Statements on items. Nothing else changes inventory and stock, except `direct` for single purchases and
//! returned units.

use super::{Found, Stamp, Statement, direct, some, stamp};
use crate::error::Fault;
use crate::gate;
use crate::pg::heap::{self, Strength};
use flashsale_core::item::{Currency, Item, Movement, Stock};
use flashsale_core::order::Closed;
use pgrx::datum::Interval;
use pgrx::pg_sys::BuiltinOid::{
    BOOLOID, INT4OID, INT8ARRAYOID, INT8OID, INTERVALOID, TEXTOID, TIDOID, TIMESTAMPTZOID,
};
use pgrx::spi::{SpiClient, SpiTupleTable};
use std::collections::{BTreeSet, HashSet};

/// The columns that a purchase needs, in the order in which `read_found` reads them.
macro_rules! item_columns {
    () => {
        "item_id, inventory, version, paused, max_per_user, starts_at, ends_at, \
         unit_price, currency, (extract(epoch FROM reservation_ttl) * 1000000)::bigint, ctid"
    };
}

/// An item that cannot be sold is neither returned nor locked. So a call for a sold-out item costs
/// a plain read: no lock, no transaction id, no WAL.
macro_rules! on_sale {
    () => {
        " AND NOT paused \
         AND (starts_at IS NULL OR starts_at <= clock_timestamp()) \
         AND (ends_at IS NULL OR ends_at > clock_timestamp())"
    };
}

/// A statement that locks items, FOR UPDATE and FOR NO KEY UPDATE.
struct Locking {
    update: Statement,
    no_key_update: Statement,
}

impl Locking {
    /// The statement that locks in the strength that [`heap::strength()`] finds.
    fn in_strength(&self) -> &Statement {
        match heap::strength(c"flashsale", c"items") {
            Strength::Update => &self.update,
            Strength::NoKeyUpdate => &self.no_key_update,
        }
    }
}

/// The two statements that consist of the text, the strength and then `$wait`.
macro_rules! locking {
    ([$($text:tt)*], $wait:literal, $arguments:expr) => {
        Locking {
            update: Statement::deciding(
                concat!($($text)*, " FOR UPDATE", $wait),
                $arguments,
            ),
            no_key_update: Statement::deciding(
                concat!($($text)*, " FOR NO KEY UPDATE", $wait),
                $arguments,
            ),
        }
    };
}

/// Reads an item that fulfils the conditions. Reads the index backwards, for the reason that
/// `Table::find` gives. With `item_id = $1` the planner would ignore the ORDER BY.
macro_rules! select_item {
    ($($and:expr),*) => {
        concat!(
            "SELECT ",
            item_columns!(),
            " FROM flashsale.items WHERE item_id >= $1 AND item_id <= $1",
            $($and,)*
            " ORDER BY item_id DESC LIMIT 1"
        )
    };
}

/// Locks the item's row until the transaction ends; 55P03 at once if another transaction holds it.
static LOCK_ON_SALE: Locking = locking!(
    [select_item!(on_sale!(), " AND inventory >= $2")],
    " NOWAIT",
    &[INT8OID, INT8OID]
);

/// Waits for the row's lock.
static AWAIT_ON_SALE: Locking = locking!(
    [select_item!(on_sale!(), " AND inventory >= $2")],
    "",
    &[INT8OID, INT8OID]
);

/// Waits for the row's lock, then takes the units if that many are free.
static TAKE_ON_SALE: Statement = Statement::deciding(
    concat!(
        "UPDATE flashsale.items SET inventory = inventory - $2, version = version + 1 \
         WHERE item_id = $1",
        on_sale!(),
        " AND inventory >= $2 RETURNING ",
        item_columns!()
    ),
    &[INT8OID, INT8OID],
);

/// Locks nothing.
static READ: Statement = Statement::deciding(select_item!(), &[INT8OID]);

/// Waits for the row's lock, unless the caller holds it. Finds no row if the version that was read
/// is no longer the current one.
static TAKE_VERSIONED: Statement = Statement::deciding(
    "UPDATE flashsale.items SET inventory = inventory - $2, version = version + 1 \
     WHERE ctid = $4 AND item_id = $1 AND version = $3 AND inventory >= $2 RETURNING version",
    &[INT8OID, INT8OID, INT8OID, TIDOID],
);

/// Waits for the row's lock, then takes the units of an expired order if that many are free.
static TAKE_BACK: Statement = Statement::deciding(
    "UPDATE flashsale.items SET inventory = inventory - $2, expired_units = expired_units - $2, version = version + 1 \
     WHERE item_id = $1 AND inventory >= $2 RETURNING inventory",
    &[INT8OID, INT8OID],
);

/// The counts of closed units after `$units` more have got the status `$status`.
macro_rules! count_closed {
    ($units:literal, $status:literal) => {
        concat!(
            count_closed!(@of "cancelled", $units, $status),
            ", ",
            count_closed!(@of "expired", $units, $status),
            ", ",
            count_closed!(@of "refunded", $units, $status)
        )
    };
    (@of $count:literal, $units:literal, $status:literal) => {
        concat!(
            $count, "_units = ", $count, "_units + CASE ", $status, " WHEN '", $count, "' THEN ", $units, " ELSE 0 END"
        )
    };
}

/// Waits for the row's lock.
static RESTORE: Statement = Statement::deciding(
    concat!(
        "UPDATE flashsale.items SET inventory = inventory + $2, version = version + 1, ",
        count_closed!("$2", "$3"),
        " WHERE item_id = $1 RETURNING inventory"
    ),
    &[INT8OID, INT8OID, TEXTOID],
);

/// Finds the row of the item `$item_id` in a sub-select, as [`READ`] does and for the same reason. Who
/// updates it by its ctid has to compare the id, too: rows of a table that inherits from `items` have
/// ctids of their own.
macro_rules! newest {
    ($columns:literal, $item_id:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM flashsale.items i WHERE i.item_id >= ",
            $item_id,
            " AND i.item_id <= ",
            $item_id,
            " ORDER BY i.item_id DESC LIMIT 1"
        )
    };
}

/// Locks the rows that no other transaction holds, in the order of the argument.
static LOCK_UNHELD: Locking = locking!(
    [
        "SELECT wanted.item_id FROM unnest($1) AS wanted (item_id), LATERAL (",
        newest!("", "wanted.item_id")
    ],
    " SKIP LOCKED) AS held",
    &[INT8ARRAYOID]
);

/// Updates rows that the caller holds.
static RESTORE_MANY: Statement = Statement::deciding(
    concat!(
        "UPDATE flashsale.items i SET inventory = i.inventory + back.units, version = i.version + 1, ",
        count_closed!("back.units", "$3"),
        " FROM unnest($1, $2) AS back (item_id, units), LATERAL (",
        newest!("i.ctid", "back.item_id"),
        ") AS held WHERE i.ctid = held.ctid AND i.item_id = back.item_id RETURNING i.item_id"
    ),
    &[INT8ARRAYOID, INT8ARRAYOID, TEXTOID],
);

/// Waits for the row's lock.
static LOCK_STOCK: Locking = locking!(
    [newest!("i.inventory, i.stock, i.unit_price", "$1")],
    "",
    &[INT8OID]
);

/// Updates a row that the caller holds, and records the movement, with a key also what is answered.
static MOVE_STOCK: Statement = Statement::deciding(
    concat!(
        "WITH moved AS ( \
             UPDATE flashsale.items \
             SET stock = stock + $2, inventory = inventory + $3, refunded_units = refunded_units + $7, version = version + 1 \
             WHERE ctid = (",
        newest!("i.ctid", "$1"),
        ") AND item_id = $1 RETURNING item_id, stock, inventory) \
         INSERT INTO flashsale.stock_movements (item_id, delta, order_id, reason, idempotency_key, stock_after, \
                                                inventory_after) \
         SELECT item_id, $2, $4, $5, $6, CASE WHEN $6 IS NOT NULL THEN stock END, \
                CASE WHEN $6 IS NOT NULL THEN inventory END \
         FROM moved RETURNING movement_id"
    ),
    &[
        INT8OID, INT8OID, INT8OID, INT8OID, TEXTOID, TEXTOID, INT8OID,
    ],
);

/// Locks nothing. Runs after the item was locked: if another call with the same key has just
/// committed, only a snapshot taken after the wait sees its movement.
static MOVEMENT_BY_KEY: Statement = Statement::deciding(
    "SELECT delta, stock_after, inventory_after FROM flashsale.stock_movements \
     WHERE item_id = $1 AND idempotency_key = $2",
    &[INT8OID, TEXTOID],
);

/// Waits for a transaction that inserts the same id, and for no other.
static CREATE: Statement = Statement::deciding(
    "WITH created AS ( \
         INSERT INTO flashsale.items (item_id, inventory, stock, name, unit_price, currency, \
                                      max_per_user, starts_at, ends_at, reservation_ttl) \
         VALUES (coalesce($1, flashsale.next_id('flashsale.items_item_id_seq')), $2, $2, $3, $4, $5, $6, $7, $8, $9) \
         ON CONFLICT (item_id) DO NOTHING RETURNING item_id, stock), \
     supplied AS ( \
         INSERT INTO flashsale.stock_movements (item_id, delta, reason) \
         SELECT item_id, stock, 'created' FROM created WHERE stock > 0) \
     SELECT item_id FROM created",
    &[
        INT8OID,
        INT8OID,
        TEXTOID,
        INT8OID,
        TEXTOID,
        INT4OID,
        TIMESTAMPTZOID,
        TIMESTAMPTZOID,
        INTERVALOID,
    ],
);

/// Updates a row that the caller holds.
static SET_PAUSED: Statement = Statement::deciding(
    concat!(
        "UPDATE flashsale.items SET paused = $2 WHERE ctid = (",
        newest!("i.ctid", "$1"),
        ") AND item_id = $1 RETURNING item_id"
    ),
    &[INT8OID, BOOLOID],
);

/// The currency in a column. The trigger `check_item` lets only codes into `items`.
fn currency(row: &SpiTupleTable<'_>, column: usize) -> Result<Option<Currency>, Fault> {
    Ok(row.get::<&str>(column)?.and_then(Currency::parse))
}

fn read_found(row: &SpiTupleTable<'_>) -> Result<Found, Fault> {
    let item = Item {
        item_id: some(row, 1)?,
        inventory: some(row, 2)?,
        version: some(row, 3)?,
        paused: some(row, 4)?,
        max_per_user: row.get::<i32>(5)?.map(i64::from),
        starts_at: stamp(row, 6)?,
        ends_at: stamp(row, 7)?,
        unit_price: row.get(8)?,
        currency: currency(row, 9)?,
        reservation_ttl: row.get(10)?,
    };
    Ok(Found {
        item,
        ctid: some(row, 11)?,
    })
}

/// Whether an item that has no units can be obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It must have at least one.
    Units,
    /// It may have none: units that stale reservations hold will be added.
    Nothing,
}

impl Need {
    fn least(self) -> i64 {
        match self {
            Self::Units => 1,
            Self::Nothing => 0,
        }
    }
}

/// Locks the item until the transaction ends; `None` if it is not on sale, or has not the units that
/// it needs. 55P03 at once if another transaction holds it.
pub fn lock_on_sale(
    client: &SpiClient<'_>,
    item_id: i64,
    need: Need,
) -> Result<Option<Found>, Fault> {
    if let Some(found) = direct::lock_on_sale(item_id, need.least()) {
        return Ok(found);
    }
    LOCK_ON_SALE
        .in_strength()
        .first(client, &[item_id.into(), need.least().into()])?
        .map(|row| read_found(&row))
        .transpose()
}

/// Like [`lock_on_sale()`], but waits for the lock, for `lock_timeout` at most.
pub fn await_on_sale(
    client: &SpiClient<'_>,
    item_id: i64,
    need: Need,
) -> Result<Option<Found>, Fault> {
    AWAIT_ON_SALE
        .in_strength()
        .first(client, &[item_id.into(), need.least().into()])?
        .map(|row| read_found(&row))
        .transpose()
}

/// Takes the units and returns the item as it was before; `None` if it is not on sale or has too
/// few. Waits for the row's lock.
pub fn take_on_sale(
    client: &SpiClient<'_>,
    item_id: i64,
    units: i64,
) -> Result<Option<Found>, Fault> {
    if let Some(found) = direct::take_on_sale(item_id, units) {
        return Ok(found);
    }
    let row = TAKE_ON_SALE.first(client, &[item_id.into(), units.into()])?;
    row.map(|row| {
        let mut found = read_found(&row)?;
        found.item.inventory += units;
        found.item.version -= 1;
        Ok(found)
    })
    .transpose()
}

/// The item as it was last committed. Locks nothing.
pub fn read(client: &SpiClient<'_>, item_id: i64) -> Result<Option<Found>, Fault> {
    if let Some(found) = direct::read(item_id) {
        return Ok(found);
    }
    READ.first(client, &[item_id.into()])?
        .map(|row| read_found(&row))
        .transpose()
}

/// Takes units of an item; false if its version has changed since it was read. Waits for the row's
/// lock, unless the caller holds it.
pub fn take_versioned(client: &SpiClient<'_>, found: &Found, units: i64) -> Result<bool, Fault> {
    if let Some(is_taken) = direct::take(found, units) {
        return Ok(is_taken);
    }
    let arguments = [
        found.item_id.into(),
        units.into(),
        found.version.into(),
        found.ctid.into(),
    ];
    Ok(TAKE_VERSIONED.count(client, &arguments)? == 1)
}

/// Takes the units of an expired order again; false if too few are free. Waits for the row's lock.
pub fn take_back(client: &SpiClient<'_>, item_id: i64, units: i64) -> Result<bool, Fault> {
    Ok(TAKE_BACK.count(client, &[item_id.into(), units.into()])? == 1)
}

/// Returns the units of an order to its item; the order now has the status `closed`. Waits for the
/// row's lock.
pub fn restore(
    client: &SpiClient<'_>,
    item_id: i64,
    units: i64,
    closed: Closed,
) -> Result<(), Fault> {
    gate::open_at_commit(item_id);
    if direct::restore(item_id, units, closed).is_some() {
        return Ok(());
    }
    RESTORE.write(
        client,
        &[item_id.into(), units.into(), closed.name().into()],
        1,
    )
}

/// Locks those of the items that no other transaction holds, in ascending id, and returns their ids.
pub fn lock_unheld(client: &SpiClient<'_>, item_ids: BTreeSet<i64>) -> Result<HashSet<i64>, Fault> {
    let in_order: Vec<i64> = item_ids.into_iter().collect();
    LOCK_UNHELD
        .in_strength()
        .run(client, &[in_order.into()])?
        .map(|row| super::cell(&row, 1))
        .collect()
}

/// Takes the table lock that [`restore_many()`] needs. Waits for it.
pub fn lock_table_to_restore() {
    heap::lock_for_update(c"flashsale", c"items");
}

/// Returns the units of orders to their items, which the caller holds; the orders now have the
/// status `closed`.
pub fn restore_many(
    client: &SpiClient<'_>,
    item_ids: Vec<i64>,
    units: Vec<i64>,
    closed: Closed,
) -> Result<(), Fault> {
    let expected = item_ids.len();
    item_ids.iter().copied().for_each(gate::open_at_commit);
    let arguments = [item_ids.into(), units.into(), closed.name().into()];
    RESTORE_MANY.write(client, &arguments, expected)
}

/// Locks the item, on sale or not, and returns its stock; `None` if there is no such item. Waits
/// for the row's lock.
pub fn lock_stock(client: &SpiClient<'_>, item_id: i64) -> Result<Option<Stock>, Fault> {
    let row = LOCK_STOCK.in_strength().first(client, &[item_id.into()])?;
    row.map(|row| {
        Ok(Stock {
            inventory: some(&row, 1)?,
            stock: some(&row, 2)?,
            unit_price: row.get(3)?,
        })
    })
    .transpose()
}

/// Adds units to stock and inventory, or removes them if `delta` is negative. The caller holds the
/// item.
pub fn move_stock(
    client: &SpiClient<'_>,
    item_id: i64,
    delta: i64,
    reason: Option<&str>,
    key: Option<&str>,
) -> Result<(), Fault> {
    gate::open_at_commit(item_id);
    let arguments = [
        item_id.into(),
        delta.into(),
        delta.into(),
        None::<i64>.into(),
        reason.into(),
        key.into(),
        0i64.into(),
    ];
    MOVE_STOCK.write(client, &arguments, 1)
}

/// The movement of the item that was made with the key; `None` if there is none. Locks nothing.
pub fn movement_by_key(
    client: &SpiClient<'_>,
    item_id: i64,
    key: &str,
) -> Result<Option<Movement>, Fault> {
    let row = MOVEMENT_BY_KEY.first(client, &[item_id.into(), key.into()])?;
    row.map(|row| {
        Ok(Movement {
            delta: some(&row, 1)?,
            stock: some(&row, 2)?,
            inventory: some(&row, 3)?,
        })
    })
    .transpose()
}

/// Removes the units of a refunded order from the stock; the inventory does not contain them. The
/// caller holds the item.
pub fn write_off(
    client: &SpiClient<'_>,
    item_id: i64,
    units: i64,
    order_id: i64,
) -> Result<(), Fault> {
    let why = "refunded, not restocked";
    let arguments = [
        item_id.into(),
        (-units).into(),
        0i64.into(),
        order_id.into(),
        why.into(),
        None::<&str>.into(),
        units.into(),
    ];
    MOVE_STOCK.write(client, &arguments, 1)
}

/// A new item as the operator described it.
pub struct NewItem<'a> {
    pub item_id: Option<i64>,
    pub inventory: i64,
    pub name: Option<&'a str>,
    pub unit_price: Option<i64>,
    pub currency: Option<String>,
    pub max_per_user: Option<i32>,
    pub starts_at: Option<i64>,
    pub ends_at: Option<i64>,
    pub reservation_ttl: Option<Interval>,
}

/// Inserts the item; `None` if its id, given or generated, is taken.
pub fn create(client: &SpiClient<'_>, item: &NewItem<'_>) -> Result<Option<i64>, Fault> {
    let row = CREATE.first(
        client,
        &[
            item.item_id.into(),
            item.inventory.into(),
            item.name.into(),
            item.unit_price.into(),
            item.currency.as_deref().into(),
            item.max_per_user.into(),
            item.starts_at.map(Stamp).into(),
            item.ends_at.map(Stamp).into(),
            item.reservation_ttl.into(),
        ],
    )?;
    let created = row.map(|row| some(&row, 1)).transpose()?;
    created.into_iter().for_each(gate::open_at_commit);
    Ok(created)
}

/// Pauses or resumes an item that the caller holds.
pub fn set_paused(client: &SpiClient<'_>, item_id: i64, paused: bool) -> Result<(), Fault> {
    SET_PAUSED.write(client, &[item_id.into(), paused.into()], 1)
}
