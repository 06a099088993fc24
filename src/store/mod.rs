//! All SQL statements. Each is planned once in a backend, and its plan is saved; a comment beside
//! it says what it locks.

pub mod direct;
pub mod grants;
pub mod items;
pub mod lookups;
pub mod node;
pub mod orders;
pub mod payments;
pub mod schema;
pub mod sequences;
pub mod stale;

use crate::error::Fault;
pub use crate::pg::datum::Stamp;
use crate::pg::heap::Ctid;
use crate::pg::planner::by_index;
use crate::pg::session::Kept;
use crate::pg::subtransaction::{self, End};
use flashsale_core::charge::Price;
use flashsale_core::item::Item;
use flashsale_core::order::Status;
use flashsale_core::order_ref::RefCode;
use flashsale_core::time::Micros;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::BuiltinOid;
use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiClient, SpiHeapTupleData, SpiTupleTable};
use std::ops::Deref;

/// The snapshot with which a statement runs.
#[derive(Clone, Copy, PartialEq)]
enum Snapshot {
    /// A new one for each run, under READ COMMITTED. For statements on which a decision rests.
    Fresh,
    /// The caller's, unless the transaction has written something. For look-ups.
    Callers,
}

/// A statement and its saved plan. Its arguments have built-in types only: a plan with a type of an
/// extension would not survive DROP EXTENSION.
pub struct Statement {
    index: &'static str,
    sql: &'static str,
    arguments: &'static [BuiltinOid],
    snapshot: Snapshot,
    plan: Kept<OwnedPreparedStatement>,
}

impl Statement {
    /// On whose result a decision rests.
    const fn deciding(sql: &'static str, arguments: &'static [BuiltinOid]) -> Self {
        Self::new(Snapshot::Fresh, sql, arguments)
    }

    /// Which only reads, for the caller.
    const fn looking(sql: &'static str, arguments: &'static [BuiltinOid]) -> Self {
        Self::new(Snapshot::Callers, sql, arguments)
    }

    const fn new(snapshot: Snapshot, sql: &'static str, arguments: &'static [BuiltinOid]) -> Self {
        Self {
            index: "",
            sql,
            arguments,
            snapshot,
            plan: Kept::new(),
        }
    }

    /// Its table is read by this index and no other.
    const fn by(mut self, index: &'static str) -> Self {
        self.index = index;
        self
    }

    /// Runs it by pgrx's `select`. Its `update` would assign a transaction id even if the statement
    /// finds nothing to write.
    fn run<'conn>(
        &self,
        client: &SpiClient<'conn>,
        arguments: &[DatumWithOid<'_>],
    ) -> Result<SpiTupleTable<'conn>, Fault> {
        let plan = self.plan.get_or_try(|| self.prepare(client))?;
        Ok(client.select(plan, None, arguments)?)
    }

    fn prepare(&self, client: &SpiClient<'_>) -> Result<OwnedPreparedStatement, Fault> {
        let types: Vec<PgOid> = self
            .arguments
            .iter()
            .map(|&oid| PgOid::BuiltIn(oid))
            .collect();
        let sql = by_index(self.index, self.sql);
        let plan = match self.snapshot {
            Snapshot::Fresh => client.prepare_mut(sql.as_str(), &types)?,
            Snapshot::Callers => client.prepare(sql.as_str(), &types)?,
        };
        Ok(plan.keep())
    }

    /// Runs it and returns its first row, if there is one.
    fn first<'conn>(
        &self,
        client: &SpiClient<'conn>,
        arguments: &[DatumWithOid<'_>],
    ) -> Result<Option<SpiTupleTable<'conn>>, Fault> {
        let rows = self.run(client, arguments)?;
        Ok(if rows.is_empty() {
            None
        } else {
            Some(rows.first())
        })
    }

    /// Runs it; an error unless it has written `expected` rows.
    fn write(
        &self,
        client: &SpiClient<'_>,
        arguments: &[DatumWithOid<'_>],
        expected: usize,
    ) -> Result<(), Fault> {
        match self.count(client, arguments)? {
            written if written == expected => Ok(()),
            _ => Err(Fault::Broken("a row that must be there is not")),
        }
    }

    /// Runs it and returns the number of rows that it has written.
    fn count(
        &self,
        client: &SpiClient<'_>,
        arguments: &[DatumWithOid<'_>],
    ) -> Result<usize, Fault> {
        Ok(self.run(client, arguments)?.len())
    }
}

/// Looks something up in a subtransaction that is rolled back, so that the locks of the tables end
/// here: nobody who waits for the seller holds one.
fn aside<T>(look: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    match subtransaction::run(|| End::RollBack(look())) {
        Ok(found) => found,
        Err(error) => error.rethrow(),
    }
}

/// An item as it was read, and the ctid of that version of its row. Whether or not the row is
/// locked, it is changed only if its version is still the one that was read.
#[derive(Clone, Copy)]
pub struct Found {
    pub item: Item,
    ctid: Ctid,
}

impl Deref for Found {
    type Target = Item;

    fn deref(&self) -> &Item {
        &self.item
    }
}

/// An order, read under its lock.
pub struct Order {
    pub order_id: i64,
    pub item_id: i64,
    pub quantity: i64,
    pub status: Status,
    pub unit_price: Option<i64>,
    pub currency: Option<String>,
    pub payment_deadline: Option<Micros>,
    /// Where its row is, if it was read by direct table access.
    ctid: Option<Ctid>,
}

impl Order {
    /// What the order costs.
    pub fn price(&self) -> Price<'_> {
        Price {
            unit_price: self.unit_price,
            quantity: self.quantity,
            currency: self.currency.as_deref(),
        }
    }
}

/// The value of a column that is never NULL.
fn some<T: FromDatum + IntoDatum>(row: &SpiTupleTable<'_>, column: usize) -> Result<T, Fault> {
    row.get(column)?
        .ok_or(Fault::Broken("a column that is NOT NULL was NULL"))
}

/// Like [`some`], for one of several rows.
fn cell<T: FromDatum + IntoDatum>(row: &SpiHeapTupleData<'_>, column: usize) -> Result<T, Fault> {
    row.get(column)?
        .ok_or(Fault::Broken("a column that is NOT NULL was NULL"))
}

fn ref_code(text: &str) -> Result<RefCode, Fault> {
    RefCode::parse(text).ok_or(Fault::Broken("an order's ref code is malformed"))
}

fn status(name: &str) -> Result<Status, Fault> {
    Status::parse(name).ok_or(Fault::Broken("an order has an unknown status"))
}

fn stamp(row: &SpiTupleTable<'_>, column: usize) -> Result<Option<Micros>, Fault> {
    Ok(row.get::<Stamp>(column)?.map(|Stamp(at)| at))
}
