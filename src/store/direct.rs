//! Items and orders by direct table access, without the executor.
//!
//! Each function returns `None` if a statement has to do the work: because the table is not defined
//! as installed, and only a statement respects the difference; because [`Table::open`] refuses; or
//! because `flashsale.direct_access` is off.

use super::{Found, Order, node};
use crate::pg::heap::{
    Ctid, LockResult, Purpose, Remembered, Seen, Snapshot, Table, Updated, Value, Write,
};
use crate::pg::{clock, random, session};
use crate::settings;
use Value::{Int8, Null, Text, Time};
use flashsale_core::fit::Request;
use flashsale_core::item::{Currency, Item, stock_adds_up};
use flashsale_core::order::{Closed, Status};
use flashsale_core::order_ref::OrderRef;
use flashsale_core::time::Micros;
use pgrx::pg_sys::Oid;
use std::cell::Cell;

/// The definition of `items` as `sql/tables.sql` creates it.
const ITEMS_AS_MADE: &str = "\
    item_id bigint NOT NULL flashsale.next_id('flashsale.items_item_id_seq'::regclass), \
    inventory bigint NOT NULL, stock bigint NOT NULL, version bigint NOT NULL 0, \
    paused boolean NOT NULL false, max_per_user integer, starts_at timestamp with time zone, \
    ends_at timestamp with time zone, reservation_ttl interval, unit_price bigint, currency text, \
    name text, created_at timestamp with time zone NOT NULL clock_timestamp(), \
    cancelled_units bigint NOT NULL 0, expired_units bigint NOT NULL 0, \
    refunded_units bigint NOT NULL 0\n\
    flashsale.stock_adds_up(inventory, stock)";

/// The definition of `orders` as `sql/tables.sql` creates it.
const ORDERS_AS_MADE: &str = "\
    order_id bigint NOT NULL flashsale.next_id('flashsale.orders_order_id_seq'::regclass), \
    item_id bigint NOT NULL, quantity bigint NOT NULL, units_held bigint NOT NULL, \
    unit_price bigint, created_at timestamp with time zone NOT NULL, \
    expires_at timestamp with time zone, paying_at timestamp with time zone, \
    payment_deadline timestamp with time zone, confirmed_at timestamp with time zone, \
    closed_at timestamp with time zone, status text NOT NULL 'reserved'::text, \
    user_id text NOT NULL, currency text, idempotency_key text, closed_by text, close_reason text, \
    ref_code text NOT NULL flashsale.new_ref_code()\n\
    flashsale.units_add_up(status, quantity, units_held)";

thread_local! {
    static ARE_ITEMS_AS_MADE: Remembered<bool> = const { Remembered::nothing() };
    /// The sequence of their ids if orders are as made. It is remembered by oid, because renaming
    /// it does not invalidate what is remembered about the table.
    static ORDERS_IF_AS_MADE: Remembered<Option<Oid>> = const { Remembered::nothing() };
    static DO_ORDERS_MOVE_AS_MADE: Remembered<bool> = const { Remembered::nothing() };
}

/// The primary key must be the only index, so that each sale is a HOT update.
fn are_items_as_made(table: &Items) -> bool {
    table.definition() == ITEMS_AS_MADE
        && !table.has_triggers(Write::Update(&CHANGED))
        && table.indexes() == 1
}

/// The sequence of the orders' ids, if orders are as made. An insert enters the row into whatever
/// indexes there are.
fn sequence_if_as_made(table: &Orders) -> Option<Oid> {
    let is_as_made = table.definition() == ORDERS_AS_MADE && !table.has_triggers(Write::Insert);
    is_as_made.then(|| table.sequence(ORDER_ID)).flatten()
}

/// A row that moves is entered into whatever indexes there are.
fn do_orders_move_as_made(table: &Orders) -> bool {
    table.definition() == ORDERS_AS_MADE && !table.has_triggers(Write::Update(&MOVED))
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

const CANCELLED_UNITS: usize = column(ITEMS_AS_MADE, "cancelled_units");
const EXPIRED_UNITS: usize = column(ITEMS_AS_MADE, "expired_units");
const REFUNDED_UNITS: usize = column(ITEMS_AS_MADE, "refunded_units");
/// The columns that are changed here.
const CHANGED: [usize; 5] = [
    INVENTORY,
    VERSION,
    CANCELLED_UNITS,
    EXPIRED_UNITS,
    REFUNDED_UNITS,
];

type Items = Table<ITEM_COLUMNS>;

/// Runs `body` with the table `items` and a new snapshot.
fn at_items<T>(purpose: Purpose, body: impl FnOnce(&Items, &Snapshot) -> Option<T>) -> Option<T> {
    if !settings::direct_access() {
        return None;
    }
    let table = Items::open(c"flashsale", c"items", purpose)?;
    let is_as_made = ARE_ITEMS_AS_MADE.with(|known| known.about(&table, are_items_as_made));
    is_as_made
        .then(|| body(&table, &table.snapshot()))
        .flatten()
}

thread_local! {
    /// The item whose row this session saw last, and where.
    static LAST_SEEN: Cell<Option<(i64, Ctid)>> = const { Cell::new(None) };
}

/// The item's row, if there is one and the snapshot sees it.
fn find<'s>(
    table: &'s Items,
    snapshot: &'s Snapshot,
    item_id: i64,
) -> Option<Option<Seen<'s, ITEM_COLUMNS>>> {
    let last = LAST_SEEN.get().filter(|(of, _)| *of == item_id);
    let row = table.find(snapshot, item_id, last.map(|(_, ctid)| ctid));
    let row = row.ok()?;
    LAST_SEEN.set(row.as_ref().map(|row| (item_id, row.ctid())));
    Some(row)
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
pub fn read(item_id: i64) -> Option<Option<Found>> {
    at_items(Purpose::Read, |table, snapshot| {
        let row = find(table, snapshot, item_id)?;
        Some(row.map(|row| Found {
            item: item(&row),
            ctid: row.ctid(),
        }))
    })
}

/// Locks the row until the transaction ends if the item is on sale and has at least `least` units;
/// 55P03 at once if another transaction holds it.
pub fn lock_on_sale(item_id: i64, least: i64) -> Option<Option<Found>> {
    obtain_on_sale(Purpose::Lock, item_id, least, |row| match row.lock() {
        LockResult::Held(row) => Some(Tried::Obtained(row.ctid())),
        LockResult::Changed => Some(Tried::Changed),
        LockResult::Unclear => None,
    })
}

/// Takes units of an item that is on sale and has that many, and returns the item as it was before.
/// Waits for the row's lock.
pub fn take_on_sale(item_id: i64, units: i64) -> Option<Option<Found>> {
    obtain_on_sale(Purpose::Update, item_id, units, |row| {
        let ctid = row.ctid();
        tried(ctid, update(row, units)?)
    })
}

/// Returns the units of an order to its item; the order now has the status `closed`. Waits for the
/// row's lock. `None` also if there is no such item.
pub fn restore(item_id: i64, units: i64, closed: Closed) -> Option<()> {
    let count = match closed {
        Closed::Cancelled => CANCELLED_UNITS,
        Closed::Expired => EXPIRED_UNITS,
        Closed::Refunded => REFUNDED_UNITS,
    };
    let restored = obtain(
        Purpose::Update,
        item_id,
        |_| true,
        |row| return_units(row, units, count),
    )?;
    restored.map(drop)
}

/// Adds units to the inventory and to one of the counts of closed units.
fn return_units(row: Seen<'_, ITEM_COLUMNS>, units: i64, count: usize) -> Option<Tried> {
    let ctid = row.ctid();
    let inventory = row.int8(INVENTORY)?.checked_add(units)?;
    let (counted, version) = (row.int8(count)?.checked_add(units)?, row.int8(VERSION)? + 1);
    if !stock_adds_up(inventory, row.int8(STOCK)?) {
        return None;
    }
    let changes = [(INVENTORY, inventory), (VERSION, version), (count, counted)];
    tried(
        ctid,
        row.update(changes.map(|(column, value)| (column, Int8(value)))),
    )
}

enum Tried {
    /// The row is locked or updated. This is the ctid of the version that was read.
    Obtained(Ctid),
    /// Another transaction has changed the row, and has ended: a new snapshot sees what it did.
    Changed,
}

fn tried(ctid: Ctid, updated: Updated) -> Option<Tried> {
    match updated {
        Updated::Done => Some(Tried::Obtained(ctid)),
        Updated::Changed => Some(Tried::Changed),
        Updated::Unclear => None,
    }
}

/// Calls `take` with the row if the item is on sale and has at least `least` units. As in the
/// statements, what cannot be sold is not locked.
fn obtain_on_sale(
    purpose: Purpose,
    item_id: i64,
    least: i64,
    take: impl Fn(Seen<'_, ITEM_COLUMNS>) -> Option<Tried>,
) -> Option<Option<Found>> {
    let is_on_sale = |item: &Item| item.inventory >= least && item.not_open(clock::now()).is_none();
    obtain(purpose, item_id, is_on_sale, take)
}

/// Calls `take` with the row if the item is wanted, and again if it has changed meanwhile.
fn obtain(
    purpose: Purpose,
    item_id: i64,
    is_wanted: impl Fn(&Item) -> bool,
    take: impl Fn(Seen<'_, ITEM_COLUMNS>) -> Option<Tried>,
) -> Option<Option<Found>> {
    loop {
        let tried = at_items(purpose, |table, snapshot| {
            let Some(row) = find(table, snapshot, item_id)? else {
                return Some(None);
            };
            let item = item(&row);
            if !is_wanted(&item) {
                return Some(None);
            }
            Some(Some((item, take(row)?)))
        });
        match tried? {
            None => return Some(None),
            Some((item, Tried::Obtained(ctid))) => return Some(Some(Found { item, ctid })),
            Some((_, Tried::Changed)) => {
                pgrx::check_for_interrupts!();
            }
        }
    }
}

/// Takes units of an item; false if its version has changed since it was read. Waits for the row's
/// lock, unless the caller holds it.
pub fn take(found: &Found, units: i64) -> Option<bool> {
    let item = &found.item;
    at_items(Purpose::Update, |table, snapshot| {
        let Some(row) = table.at(snapshot, found.ctid) else {
            return Some(false);
        };
        let is_same =
            row.int8(ITEM_ID) == Some(item.item_id) && row.int8(VERSION) == Some(item.version);
        if !is_same || row.int8(INVENTORY)? < units {
            return Some(false);
        }
        Some(update(row, units)? == Updated::Done)
    })
}

/// Takes units of an item that has that many. `None` if a statement has to raise the error that the
/// CHECK fails.
fn update(row: Seen<'_, ITEM_COLUMNS>, units: i64) -> Option<Updated> {
    let (left, version) = (row.int8(INVENTORY)? - units, row.int8(VERSION)? + 1);
    stock_adds_up(left, row.int8(STOCK)?)
        .then(|| row.update([(INVENTORY, Int8(left)), (VERSION, Int8(version))]))
}

const ORDER_COLUMNS: usize = columns(ORDERS_AS_MADE);
const ORDER_ID: usize = column(ORDERS_AS_MADE, "order_id");
const ORDERED_ITEM_ID: usize = column(ORDERS_AS_MADE, "item_id");
const QUANTITY: usize = column(ORDERS_AS_MADE, "quantity");
const UNITS_HELD: usize = column(ORDERS_AS_MADE, "units_held");
const PRICE: usize = column(ORDERS_AS_MADE, "unit_price");
const CREATED_AT: usize = column(ORDERS_AS_MADE, "created_at");
const EXPIRES_AT: usize = column(ORDERS_AS_MADE, "expires_at");
const PAYING_AT: usize = column(ORDERS_AS_MADE, "paying_at");
const PAYMENT_DEADLINE: usize = column(ORDERS_AS_MADE, "payment_deadline");
const CONFIRMED_AT: usize = column(ORDERS_AS_MADE, "confirmed_at");
const CLOSED_AT: usize = column(ORDERS_AS_MADE, "closed_at");
const CLOSED_BY: usize = column(ORDERS_AS_MADE, "closed_by");
const CLOSE_REASON: usize = column(ORDERS_AS_MADE, "close_reason");
const STATUS: usize = column(ORDERS_AS_MADE, "status");
const USER_ID: usize = column(ORDERS_AS_MADE, "user_id");
const PRICE_CURRENCY: usize = column(ORDERS_AS_MADE, "currency");
const IDEMPOTENCY_KEY: usize = column(ORDERS_AS_MADE, "idempotency_key");
const REF_CODE: usize = column(ORDERS_AS_MADE, "ref_code");

/// The columns that moves change.
const MOVED: [usize; 8] = [
    STATUS,
    UNITS_HELD,
    PAYING_AT,
    PAYMENT_DEADLINE,
    CONFIRMED_AT,
    CLOSED_AT,
    CLOSED_BY,
    CLOSE_REASON,
];

type Orders = Table<ORDER_COLUMNS>;

/// Runs `body` with the table `orders` and a new snapshot.
fn at_orders<T>(purpose: Purpose, body: impl FnOnce(&Orders, &Snapshot) -> Option<T>) -> Option<T> {
    if !settings::direct_access() {
        return None;
    }
    let table = Orders::open(c"flashsale", c"orders", purpose)?;
    let is_as_made =
        DO_ORDERS_MOVE_AS_MADE.with(|known| known.about(&table, do_orders_move_as_made));
    is_as_made
        .then(|| body(&table, &table.snapshot()))
        .flatten()
}

/// Locks the order with that id and, if given, that code; waits for the lock.
pub fn lock_order(order_id: i64, code: Option<&str>) -> Option<Option<Order>> {
    loop {
        let tried = at_orders(Purpose::Lock, |table, snapshot| {
            let row = table.find(snapshot, order_id, None).ok()?;
            let is_named =
                |row: &Seen<'_, _>| code.is_none_or(|code| row.text(REF_CODE) == Some(code));
            let Some(row) = row.filter(is_named) else {
                return Some(Some(None));
            };
            let order = locked_order(&row)?;
            match row.await_lock() {
                LockResult::Held(_) => Some(Some(Some(order))),
                LockResult::Changed => Some(None),
                LockResult::Unclear => None,
            }
        });
        if let Some(order) = tried? {
            return Some(order);
        }
        pgrx::check_for_interrupts!();
    }
}

fn locked_order(row: &Seen<'_, ORDER_COLUMNS>) -> Option<Order> {
    Some(Order {
        order_id: row.int8(ORDER_ID)?,
        item_id: row.int8(ORDERED_ITEM_ID)?,
        quantity: row.int8(QUANTITY)?,
        status: Status::parse(row.text(STATUS)?)?,
        unit_price: row.int8(PRICE),
        currency: row.text(PRICE_CURRENCY).map(str::to_owned),
        payment_deadline: row.time(PAYMENT_DEADLINE),
        ctid: Some(row.ctid()),
    })
}

/// Changes a locked order to paying.
pub fn begin_payment(order: &Order, now: Micros, deadline: Micros) -> Option<()> {
    let changes = [
        (STATUS, Text(Status::Paying.name())),
        (PAYING_AT, Time(now)),
        (PAYMENT_DEADLINE, Time(deadline)),
    ];
    move_order(order, changes)
}

/// Changes a locked order to confirmed. An order that is reinstated is no longer closed.
pub fn confirm(order: &Order, now: Micros) -> Option<()> {
    let changes = [
        (STATUS, Text(Status::Confirmed.name())),
        (UNITS_HELD, Int8(order.quantity)),
        (CONFIRMED_AT, Time(now)),
        (CLOSED_AT, Null),
        (CLOSED_BY, Null),
        (CLOSE_REASON, Null),
    ];
    move_order(order, changes)
}

/// Changes a locked order to `closed`.
pub fn close(order: &Order, closed: Closed, now: Micros, reason: Option<&str>) -> Option<()> {
    let by = session::role_name(session::session_user());
    let changes = [
        (STATUS, Text(closed.name())),
        (UNITS_HELD, Int8(0)),
        (CLOSED_AT, Time(now)),
        (CLOSED_BY, Text(&by)),
        (CLOSE_REASON, reason.map_or(Null, Text)),
    ];
    move_order(order, changes)
}

/// The CHECK is not evaluated: it holds after every move. `None` also if the order was read by a
/// statement, or has been changed since.
fn move_order<const M: usize>(order: &Order, changes: [(usize, Value<'_>); M]) -> Option<()> {
    let ctid = order.ctid?;
    at_orders(Purpose::Update, |table, snapshot| {
        let row = table.at(snapshot, ctid)?;
        let is_same = row.int8(ORDER_ID) == Some(order.order_id);
        (is_same && row.update(changes) == Updated::Done).then_some(())
    })
}

/// Inserts a reserved order for each request and returns their refs. The CHECK is not evaluated: it
/// holds for every reserved order. Locks only the new rows. `None` also if no id is left.
pub fn insert(item: &Item, requests: &[&Request<'_>], now: Micros) -> Option<Vec<OrderRef>> {
    if !settings::direct_access() {
        return None;
    }
    let table = Orders::open(c"flashsale", c"orders", Purpose::Insert)?;
    let sequence = ORDERS_IF_AS_MADE.with(|known| known.about(&table, sequence_if_as_made))?;
    let order_refs = requests.iter().map(|_| {
        Some(OrderRef {
            order_id: node::next_id(sequence).ok()?,
            code: random::ref_code(),
        })
    });
    let order_refs = order_refs.collect::<Option<Vec<_>>>()?;
    let rows: Vec<_> = order_refs
        .iter()
        .zip(requests)
        .map(|(order_ref, request)| order(order_ref, item, request, now))
        .collect();
    table.append(&rows);
    Some(order_refs)
}

fn order<'a>(
    order_ref: &'a OrderRef,
    item: &'a Item,
    request: &Request<'a>,
    now: Micros,
) -> [Value<'a>; ORDER_COLUMNS] {
    let mut row = [Null; ORDER_COLUMNS];
    row[ORDER_ID] = Int8(order_ref.order_id);
    row[ORDERED_ITEM_ID] = Int8(item.item_id);
    row[QUANTITY] = Int8(request.quantity);
    row[UNITS_HELD] = Int8(request.quantity);
    row[PRICE] = item.unit_price.map_or(Null, Int8);
    row[CREATED_AT] = Time(now);
    row[EXPIRES_AT] = Time(now + request.ttl(item));
    row[STATUS] = Text(Status::Reserved.name());
    row[USER_ID] = Text(request.user_id);
    row[PRICE_CURRENCY] = item
        .currency
        .as_ref()
        .map_or(Null, |currency| Text(currency.code()));
    row[IDEMPOTENCY_KEY] = request.idempotency_key.map_or(Null, Text);
    row[REF_CODE] = Text(order_ref.code.as_str());
    row
}
