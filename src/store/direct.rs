//! Items and orders by direct table access, without the executor.
//!
//! Each function returns `None` if a statement has to do the work: because the table is not defined
//! as installed, and only a statement respects the difference; because [`Table::open`] refuses; or
//! because `flashsale.direct_access` is off.

use super::{Found, Statement, some};
use crate::error::Fault;
use crate::pg::clock;
use crate::pg::heap::{self, Attempt, Ctid, Purpose, Remembered, Seen, Snapshot, Table, Value};
use crate::settings;
use flashsale_core::fit::Request;
use flashsale_core::item::{Currency, Item, stock_adds_up};
use flashsale_core::order::Status;
use flashsale_core::time::Micros;
use pgrx::pg_sys::BuiltinOid::OIDOID;
use pgrx::pg_sys::Oid;
use pgrx::spi::SpiClient;

/// The parts of a table's definition that a statement which writes to it respects: columns,
/// defaults, CHECKs, and then one word for each thing that only the executor respects. `$fire`
/// selects the triggers that count.
macro_rules! describe {
    ($fire:literal, $indexes:literal) => {
        concat!(
            "SELECT concat_ws(E'\\n', ( \
                 SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), \
                     CASE WHEN a.attnotnull THEN 'NOT NULL' END, nullif(a.attgenerated, ''), nullif(a.attidentity, ''), \
                     pg_get_expr(d.adbin, d.adrelid)), ', ' ORDER BY a.attnum) \
                 FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
                 WHERE a.attrelid = c.oid AND a.attnum > 0), ( \
                 SELECT string_agg(pg_get_expr(k.conbin, k.conrelid), ', ' ORDER BY k.conname) \
                 FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c'), \
                 CASE WHEN c.relhasrules THEN 'rules' END, \
                 CASE WHEN c.relrowsecurity THEN 'row security' END, \
                 CASE WHEN c.relhassubclass THEN 'children' END, \
                 CASE WHEN c.relispartition THEN 'parent' END, \
                 CASE WHEN EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND ",
            $fire,
            ") THEN 'triggers' END, \
                 CASE WHEN (SELECT count(*) FROM pg_index x WHERE x.indrelid = c.oid) <> ",
            $indexes,
            " THEN 'indexes' END) FROM pg_class c WHERE c.oid = $1"
        )
    };
}

/// An update of inventory and version fires triggers of UPDATE without columns and of these two.
/// The primary key is the only index, so that each sale is a HOT update.
static DESCRIBE_ITEMS: Statement = Statement::deciding(
    describe!(
        "t.tgtype & 16 <> 0 AND (cardinality(t.tgattr::int2[]) = 0 OR EXISTS ( \
             SELECT FROM pg_attribute u WHERE u.attrelid = c.oid AND u.attnum = ANY (t.tgattr::int2[]) \
               AND u.attname IN ('inventory', 'version')))",
        "1"
    ),
    &[OIDOID],
);

/// An insert enters the row into whatever indexes there are.
static DESCRIBE_ORDERS: Statement = Statement::deciding(
    describe!(
        "t.tgtype & 4 <> 0",
        "(SELECT count(*) FROM pg_index x WHERE x.indrelid = c.oid)"
    ),
    &[OIDOID],
);

/// The description of `items` as `sql/tables.sql` creates it.
const ITEMS_AS_MADE: &str = "\
    item_id bigint NOT NULL nextval('flashsale.items_item_id_seq'::regclass), \
    inventory bigint NOT NULL, stock bigint NOT NULL, version bigint NOT NULL 0, \
    paused boolean NOT NULL false, max_per_user integer, starts_at timestamp with time zone, \
    ends_at timestamp with time zone, reservation_ttl interval, unit_price bigint, currency text, \
    name text, created_at timestamp with time zone NOT NULL clock_timestamp()\n\
    flashsale.stock_adds_up(inventory, stock)";

/// The description of `orders` as `sql/tables.sql` creates it.
const ORDERS_AS_MADE: &str = "\
    order_id bigint NOT NULL nextval('flashsale.orders_order_id_seq'::regclass), \
    item_id bigint NOT NULL, quantity bigint NOT NULL, units_held bigint NOT NULL, \
    unit_price bigint, created_at timestamp with time zone NOT NULL, \
    expires_at timestamp with time zone, paying_at timestamp with time zone, \
    payment_deadline timestamp with time zone, confirmed_at timestamp with time zone, \
    closed_at timestamp with time zone, status text NOT NULL 'reserved'::text, \
    user_id text NOT NULL, currency text, idempotency_key text, closed_by text, close_reason text\n\
    flashsale.units_add_up(status, quantity, units_held)";

/// The sequence of the default of `order_id`. It is remembered by oid, because renaming it does not
/// invalidate what is remembered about the table.
static ORDER_IDS: Statement = Statement::deciding(
    "SELECT d.refobjid FROM pg_depend d JOIN pg_attrdef a ON a.oid = d.objid \
     WHERE d.classid = 'pg_attrdef'::regclass AND a.adrelid = $1 AND a.adnum = 1 \
       AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> $1 AND d.refobjsubid = 0",
    &[OIDOID],
);

thread_local! {
    static ARE_ITEMS_AS_MADE: Remembered<bool> = const { Remembered::nothing() };
    /// The sequence of their ids if orders are as made.
    static ORDERS_IF_AS_MADE: Remembered<Option<Oid>> = const { Remembered::nothing() };
}

fn describes(
    client: &SpiClient<'_>,
    statement: &Statement,
    table: Oid,
    as_made: &str,
) -> Result<bool, Fault> {
    let row = statement.run(client, &[table.into()])?.first();
    Ok(row.get::<&str>(1)? == Some(as_made))
}

/// The number of columns before the column `named`, and true; or the number of all columns, and
/// false. So the constants below cannot disagree with the descriptions.
const fn columns_before(definition: &str, named: &str) -> (usize, bool) {
    let (text, name) = (definition.as_bytes(), named.as_bytes());
    let (mut at, mut count, mut is_start) = (0, 0, true);
    while at < text.len() && text[at] != b'\n' {
        if is_start {
            let mut same = 0;
            while same < name.len() && text[at + same] == name[same] {
                same += 1;
            }
            if same == name.len() && text[at + same] == b' ' {
                return (count, true);
            }
            count += 1;
        }
        is_start = at > 0 && text[at - 1] == b',' && text[at] == b' ';
        at += 1;
    }
    (count, false)
}

const fn columns(definition: &str) -> usize {
    columns_before(definition, "").0
}

const fn column(definition: &str, named: &str) -> usize {
    let (column, is_there) = columns_before(definition, named);
    assert!(is_there, "no column of that name");
    column
}

const ITEM_COLUMNS: usize = columns(ITEMS_AS_MADE);
const ITEM_ID: usize = column(ITEMS_AS_MADE, "item_id");
const INVENTORY: usize = column(ITEMS_AS_MADE, "inventory");
const STOCK: usize = column(ITEMS_AS_MADE, "stock");
const VERSION: usize = column(ITEMS_AS_MADE, "version");
const PAUSED: usize = column(ITEMS_AS_MADE, "paused");
const MAX_PER_USER: usize = column(ITEMS_AS_MADE, "max_per_user");
const STARTS_AT: usize = column(ITEMS_AS_MADE, "starts_at");
const ENDS_AT: usize = column(ITEMS_AS_MADE, "ends_at");
const RESERVATION_TTL: usize = column(ITEMS_AS_MADE, "reservation_ttl");
const UNIT_PRICE: usize = column(ITEMS_AS_MADE, "unit_price");
const CURRENCY: usize = column(ITEMS_AS_MADE, "currency");

type Items = Table<ITEM_COLUMNS>;

/// Runs `body` with the table `items` and a new snapshot.
fn at_items<T>(
    client: &SpiClient<'_>,
    purpose: Purpose,
    body: impl FnOnce(&Items, &Snapshot) -> Option<T>,
) -> Result<Option<T>, Fault> {
    if !settings::direct_access() {
        return Ok(None);
    }
    let Some(table) = Items::open(c"flashsale", c"items", purpose) else {
        return Ok(None);
    };
    let is_as_made = ARE_ITEMS_AS_MADE.with(|remembered| {
        remembered.about(&table, |oid| {
            describes(client, &DESCRIBE_ITEMS, oid, ITEMS_AS_MADE)
        })
    })?;
    if !is_as_made {
        return Ok(None);
    }
    Ok(body(&table, &table.snapshot()))
}

fn item(row: &Seen<'_, ITEM_COLUMNS>) -> Item {
    Item {
        item_id: row.int8(ITEM_ID).unwrap_or_default(),
        inventory: row.int8(INVENTORY).unwrap_or_default(),
        version: row.int8(VERSION).unwrap_or_default(),
        paused: row.flag(PAUSED).unwrap_or_default(),
        max_per_user: row.int4(MAX_PER_USER).map(i64::from),
        starts_at: row.time(STARTS_AT),
        ends_at: row.time(ENDS_AT),
        unit_price: row.int8(UNIT_PRICE),
        currency: row.text(CURRENCY).and_then(Currency::parse),
        reservation_ttl: row.span(RESERVATION_TTL),
    }
}

/// The item as it was last committed. Locks nothing.
pub fn read(client: &SpiClient<'_>, item_id: i64) -> Result<Option<Option<Found>>, Fault> {
    at_items(client, Purpose::Read, |table, snapshot| {
        let row = table.find(snapshot, item_id).ok()?;
        Some(row.map(|row| Found {
            item: item(&row),
            ctid: row.ctid(),
        }))
    })
}

/// Locks the row until the transaction ends if the item is on sale; 55P03 at once if another
/// transaction holds it. Looks first at the row's last ctid, if that is known: while there is an
/// old snapshot, earlier versions of the row cannot be pruned, and the index leads to all of them.
pub fn lock_sellable(
    client: &SpiClient<'_>,
    item_id: i64,
    last: Option<Ctid>,
) -> Result<Option<Option<Found>>, Fault> {
    loop {
        let tried = at_items(client, Purpose::Lock, |table, snapshot| {
            let seen = last
                .and_then(|ctid| table.at(snapshot, ctid))
                .filter(|row| row.int8(ITEM_ID) == Some(item_id));
            let seen = match seen {
                None => table.find(snapshot, item_id).ok()?,
                seen => seen,
            };
            let Some(row) = seen else {
                return Some(Tried::Done(None));
            };
            let item = item(&row);
            // As in the statements: what cannot be sold is not locked.
            if item.not_on_sale(clock::now()).is_some() {
                return Some(Tried::Done(None));
            }
            match row.lock() {
                Attempt::Held(row) => Some(Tried::Done(Some(Found {
                    item,
                    ctid: row.ctid(),
                }))),
                Attempt::Changed => Some(Tried::Changed),
                Attempt::Unclear => None,
            }
        })?;
        match tried {
            Some(Tried::Done(found)) => return Ok(Some(found)),
            Some(Tried::Changed) => {
                pgrx::check_for_interrupts!();
            }
            None => return Ok(None),
        }
    }
}

enum Tried {
    /// The item is locked; or `None`, because it is not on sale.
    Done(Option<Found>),
    /// Another transaction has changed the row, and has ended: a new snapshot sees what it did.
    Changed,
}

/// Takes units of an item and returns its row's new ctid; `None` if the version has changed since
/// the item was read. Waits for the row's lock, unless the caller holds it.
pub fn take(
    client: &SpiClient<'_>,
    found: &Found,
    units: i64,
) -> Result<Option<Option<Ctid>>, Fault> {
    let item = &found.item;
    at_items(client, Purpose::Update, |table, snapshot| {
        let Some(row) = table.at(snapshot, found.ctid) else {
            return Some(None);
        };
        let (Some(inventory), Some(stock)) = (row.int8(INVENTORY), row.int8(STOCK)) else {
            return None;
        };
        let is_same =
            row.int8(ITEM_ID) == Some(item.item_id) && row.int8(VERSION) == Some(item.version);
        let left = inventory - units;
        if !is_same || left < 0 {
            return Some(None);
        }
        // The CHECK fails, so a statement has to raise its error.
        if !stock_adds_up(left, stock) {
            return None;
        }
        Some(row.update([(INVENTORY, left), (VERSION, item.version + 1)]))
    })
}

const ORDER_COLUMNS: usize = columns(ORDERS_AS_MADE);
const ORDER_ID: usize = column(ORDERS_AS_MADE, "order_id");
const ORDERED_ITEM_ID: usize = column(ORDERS_AS_MADE, "item_id");
const QUANTITY: usize = column(ORDERS_AS_MADE, "quantity");
const UNITS_HELD: usize = column(ORDERS_AS_MADE, "units_held");
const PRICE: usize = column(ORDERS_AS_MADE, "unit_price");
const CREATED_AT: usize = column(ORDERS_AS_MADE, "created_at");
const EXPIRES_AT: usize = column(ORDERS_AS_MADE, "expires_at");
const STATUS: usize = column(ORDERS_AS_MADE, "status");
const USER_ID: usize = column(ORDERS_AS_MADE, "user_id");
const PRICE_CURRENCY: usize = column(ORDERS_AS_MADE, "currency");
const IDEMPOTENCY_KEY: usize = column(ORDERS_AS_MADE, "idempotency_key");

/// Inserts a reserved order for each request and returns their ids. The CHECK is not evaluated: it
/// holds for every reserved order. Locks only the new rows.
pub fn insert(
    client: &SpiClient<'_>,
    item: &Item,
    requests: &[&Request<'_>],
    now: Micros,
) -> Result<Option<Vec<i64>>, Fault> {
    if !settings::direct_access() {
        return Ok(None);
    }
    let Some(table) = Table::open(c"flashsale", c"orders", Purpose::Insert) else {
        return Ok(None);
    };
    let sequence = ORDERS_IF_AS_MADE.with(|remembered| {
        remembered.about(&table, |oid| {
            if !describes(client, &DESCRIBE_ORDERS, oid, ORDERS_AS_MADE)? {
                return Ok(None);
            }
            let row = ORDER_IDS.run(client, &[oid.into()])?.first();
            some::<Oid>(&row, 1).map(Some)
        })
    })?;
    let Some(sequence) = sequence else {
        return Ok(None);
    };
    let order_ids: Vec<i64> = requests
        .iter()
        .map(|_| heap::next_value(sequence))
        .collect();
    let rows: Vec<_> = order_ids
        .iter()
        .zip(requests)
        .map(|(&order_id, request)| order(order_id, item, request, now))
        .collect();
    table.append(&rows);
    Ok(Some(order_ids))
}

fn order<'a>(
    order_id: i64,
    item: &'a Item,
    request: &Request<'a>,
    now: Micros,
) -> [Value<'a>; ORDER_COLUMNS] {
    let mut row = [Value::Null; ORDER_COLUMNS];
    row[ORDER_ID] = Value::Int8(order_id);
    row[ORDERED_ITEM_ID] = Value::Int8(item.item_id);
    row[QUANTITY] = Value::Int8(request.quantity);
    row[UNITS_HELD] = Value::Int8(request.quantity);
    row[PRICE] = item.unit_price.map_or(Value::Null, Value::Int8);
    row[CREATED_AT] = Value::Time(now);
    row[EXPIRES_AT] = Value::Time(now + request.ttl(item));
    row[STATUS] = Value::Text(Status::Reserved.name());
    row[USER_ID] = Value::Text(request.user_id);
    row[PRICE_CURRENCY] = item
        .currency
        .as_ref()
        .map_or(Value::Null, |currency| Value::Text(currency.code()));
    row[IDEMPOTENCY_KEY] = request.idempotency_key.map_or(Value::Null, Value::Text);
    row
}
