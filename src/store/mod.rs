//! Every SQL statement, planned once a backend and kept; what each locks stands beside it.

pub mod append;
pub mod cells;
pub mod grants;
pub mod items;
pub mod lookups;
pub mod one;
pub mod orders;
pub mod payments;
mod relation;
pub mod row;
pub mod simple;

use crate::clock::Micros;
use crate::error::Fault;
use crate::settings;
use cells::Cells;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::{self, BuiltinOid};
use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiClient, SpiHeapTupleData, SpiTupleTable};
use std::cell::OnceCell;
use std::mem::ManuallyDrop;

/// Whether a statement sees what was committed a moment ago or what its caller sees.
#[derive(Clone, Copy, PartialEq)]
enum Snapshot {
    /// A new snapshot for each run (under READ COMMITTED): decisions rest on it.
    Fresh,
    /// The caller's, until the transaction has written something: for look-ups alone.
    Callers,
}

/// A statement and its plan. Plans take built-in types only: one with a type of an
/// extension would die with that extension.
pub struct Statement {
    sql: &'static str,
    arguments: &'static [BuiltinOid],
    snapshot: Snapshot,
    // Never dropped: at process exit there is no SPI left to free a plan with.
    plan: OnceCell<ManuallyDrop<OwnedPreparedStatement>>,
    lean_plan: OnceCell<pg_sys::SPIPlanPtr>,
}

// SAFETY: a backend runs SQL on one thread only.
unsafe impl Sync for Statement {}

impl Statement {
    const fn deciding(sql: &'static str, arguments: &'static [BuiltinOid]) -> Self {
        Self {
            sql,
            arguments,
            snapshot: Snapshot::Fresh,
            plan: OnceCell::new(),
            lean_plan: OnceCell::new(),
        }
    }

    const fn looking(sql: &'static str, arguments: &'static [BuiltinOid]) -> Self {
        Self {
            sql,
            arguments,
            snapshot: Snapshot::Callers,
            plan: OnceCell::new(),
            lean_plan: OnceCell::new(),
        }
    }

    /// Runs it. `select` rather than `update`, which would assign a transaction id
    /// even to a statement that finds nothing to write.
    fn run<'conn>(
        &self,
        client: &SpiClient<'conn>,
        arguments: &[DatumWithOid<'_>],
    ) -> Result<SpiTupleTable<'conn>, Fault> {
        if self.plan.get().is_none() {
            let types: Vec<PgOid> = self
                .arguments
                .iter()
                .map(|&oid| PgOid::BuiltIn(oid))
                .collect();
            let plan = match self.snapshot {
                Snapshot::Fresh => client.prepare_mut(self.sql, &types)?,
                Snapshot::Callers => client.prepare(self.sql, &types)?,
            };
            let _ = self.plan.set(ManuallyDrop::new(plan.keep()));
        }
        let plan = self
            .plan
            .get()
            .ok_or(Fault::Broken("a plan was not kept"))?;
        Ok(client.select(&**plan, None, arguments)?)
    }

    /// Runs it, with or without SPI's tuple table, and reads each row; says how many there were.
    fn each(
        &self,
        client: &SpiClient<'_>,
        arguments: &[DatumWithOid<'_>],
        read: &mut dyn FnMut(&dyn Cells) -> Result<(), Fault>,
    ) -> Result<usize, Fault> {
        if !settings::access().is_lean() {
            let rows = self.run(client, arguments)?;
            let count = rows.len();
            match count {
                0 => {}
                1 => read(&rows.first())?,
                _ => {
                    for row in rows {
                        read(&row)?;
                    }
                }
            }
            return Ok(count);
        }
        let plan = *self
            .lean_plan
            .get_or_init(|| cells::plan(self.sql, self.arguments));
        // SAFETY: connected to SPI, as `client` shows.
        unsafe { cells::run(plan, arguments, read) }
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

    /// Runs it and insists on how many rows it wrote.
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

    /// Runs it and says how many rows it wrote.
    fn count(
        &self,
        client: &SpiClient<'_>,
        arguments: &[DatumWithOid<'_>],
    ) -> Result<usize, Fault> {
        Ok(self.run(client, arguments)?.len())
    }
}

/// The value of a column that is never NULL.
fn some<T: FromDatum + IntoDatum>(row: &SpiTupleTable<'_>, column: usize) -> Result<T, Fault> {
    row.get(column)?
        .ok_or(Fault::Broken("a column that is NOT NULL was NULL"))
}

/// As [`some`], for a row met while walking over several.
fn cell<T: FromDatum + IntoDatum>(row: &SpiHeapTupleData<'_>, column: usize) -> Result<T, Fault> {
    row.get(column)?
        .ok_or(Fault::Broken("a column that is NOT NULL was NULL"))
}

/// A timestamptz, infinities included.
pub struct Stamp(pub Micros);

impl FromDatum for Stamp {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _type: pg_sys::Oid,
    ) -> Option<Self> {
        (!is_null).then(|| Self(datum.value() as Micros))
    }
}

impl IntoDatum for Stamp {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(pg_sys::Datum::from(self.0))
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TIMESTAMPTZOID
    }
}

fn stamp(row: &SpiTupleTable<'_>, column: usize) -> Result<Option<Micros>, Fault> {
    Ok(row.get::<Stamp>(column)?.map(|Stamp(at)| at))
}
