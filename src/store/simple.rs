//! Rows written by the functions that PostgreSQL's logical replication writes them by: triggers
//! of rows, constraints, generated columns, indexes and replica identity are theirs.

use super::append;
use crate::clock::Micros;
use crate::purchase::fit::{Item, Request};
use pgrx::FromDatum;
use pgrx::pg_sys::{
    self, Datum, EPQState, EState, LOCKMODE, Relation, ResultRelInfo, TupleTableSlot,
};

/// A table with what the executor wants around it.
pub struct Target {
    table: Relation,
    state: *mut EState,
    target: ResultRelInfo,
}

impl Target {
    /// # Safety
    /// The table must be open under the lock, and a snapshot active.
    pub unsafe fn new(table: Relation, lock: u32, written: &[i32]) -> Box<Self> {
        // SAFETY: as the worker of logical replication does it.
        unsafe {
            let state = pg_sys::CreateExecutorState();
            let entry = pg_sys::palloc0(std::mem::size_of::<pg_sys::RangeTblEntry>())
                .cast::<pg_sys::RangeTblEntry>();
            (*entry).type_ = pg_sys::NodeTag::T_RangeTblEntry;
            (*entry).rtekind = pg_sys::RTEKind::RTE_RELATION;
            (*entry).relid = (*table).rd_id;
            (*entry).relkind = (*(*table).rd_rel).relkind;
            (*entry).rellockmode = lock as LOCKMODE;
            for &column in written {
                (*entry).updatedCols = pg_sys::bms_add_member(
                    (*entry).updatedCols,
                    column - pg_sys::FirstLowInvalidHeapAttributeNumber,
                );
            }
            let cell = pg_sys::ListCell {
                ptr_value: entry.cast(),
            };
            let entries = pg_sys::list_make1_impl(pg_sys::NodeTag::T_List, cell);
            pg_sys::ExecInitRangeTable(state, entries);
            (*state).es_snapshot = pg_sys::GetActiveSnapshot();
            (*state).es_output_cid = pg_sys::GetCurrentCommandId(true);
            let mut this = Box::new(Self {
                table,
                state,
                target: ResultRelInfo::default(),
            });
            this.target.type_ = pg_sys::NodeTag::T_ResultRelInfo;
            pg_sys::InitResultRelInfo(&mut this.target, table, 1, std::ptr::null_mut(), 0);
            pg_sys::AfterTriggerBeginQuery();
            pg_sys::ExecOpenIndices(&mut this.target, false);
            this
        }
    }

    /// # Safety
    /// The slots are of the table's.
    pub unsafe fn update(&mut self, old: *mut TupleTableSlot, new: *mut TupleTableSlot) {
        let mut epq = EPQState::default();
        // SAFETY: the row is locked, so that nobody has changed it.
        unsafe {
            pg_sys::EvalPlanQualInit(
                &mut epq,
                self.state,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                -1,
            );
            pg_sys::ExecSimpleRelationUpdate(&mut self.target, self.state, &mut epq, old, new);
            pg_sys::EvalPlanQualEnd(&mut epq);
        }
    }

    /// # Safety
    /// The slot is of the table's.
    pub unsafe fn insert(&mut self, new: *mut TupleTableSlot) {
        // SAFETY: as the caller says.
        unsafe { pg_sys::ExecSimpleRelationInsert(&mut self.target, self.state, new) };
    }

    /// What columns that are not given get.
    ///
    /// # Safety
    /// The table is open.
    pub unsafe fn defaults(&self, given: &[usize]) -> Vec<(usize, *mut pg_sys::ExprState)> {
        // SAFETY: as slot_fill_defaults of logical replication does it.
        unsafe {
            let columns = (*(*self.table).rd_att).natts as usize;
            (0..columns)
                .filter(|column| !given.contains(column))
                .filter_map(|column| {
                    let tree = pg_sys::build_column_default(self.table, column as i32 + 1);
                    (!tree.is_null())
                        .then(|| (column, pg_sys::ExecPrepareExpr(tree.cast(), self.state)))
                })
                .collect()
        }
    }

    /// # Safety
    /// The expression is of this target.
    pub unsafe fn value(&self, expression: *mut pg_sys::ExprState) -> (Datum, bool) {
        // SAFETY: as above.
        unsafe {
            let context = if (*self.state).es_per_tuple_exprcontext.is_null() {
                pg_sys::MakePerTupleExprContext(self.state)
            } else {
                (*self.state).es_per_tuple_exprcontext
            };
            let mut is_null = false;
            let value = pg_sys::ExecEvalExpr(expression, context, &mut is_null);
            (value, is_null)
        }
    }

    /// Where slots that are to go with it are noted.
    pub fn tuple_table(&mut self) -> *mut *mut pg_sys::List {
        // SAFETY: the state is ours.
        unsafe { &raw mut (*self.state).es_tupleTable }
    }

    /// # Safety
    /// Last of all.
    pub unsafe fn finish(mut self: Box<Self>) {
        // SAFETY: ends what new began.
        unsafe {
            pg_sys::AfterTriggerEndQuery(self.state);
            pg_sys::ExecCloseIndices(&mut self.target);
            pg_sys::ExecResetTupleTable((*self.state).es_tupleTable, false);
            pg_sys::FreeExecutorState(self.state);
        }
    }
}

/// Writes a reserved order for each request and returns their ids.
pub fn insert(item: &Item, requests: &[&Request<'_>], now: Micros) -> Option<Vec<i64>> {
    let table = append::open()?;
    // SAFETY: open, under the lock.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let mut target = Target::new(table, pg_sys::RowExclusiveLock, &[]);
        let defaults = target.defaults(append::GIVEN);
        let mut order_ids = Vec::with_capacity(requests.len());
        let slot = pg_sys::table_slot_create(table, target.tuple_table());
        for request in requests {
            pg_sys::ExecClearTuple(slot);
            let row = append::row(0, item, request, now);
            for (column, value) in row.into_iter().enumerate() {
                (*slot).tts_isnull.add(column).write(value.is_none());
                let value = value.unwrap_or(Datum::null());
                (*slot).tts_values.add(column).write(value);
            }
            for &(column, expression) in &defaults {
                let (value, is_null) = target.value(expression);
                (*slot).tts_isnull.add(column).write(is_null);
                (*slot).tts_values.add(column).write(value);
            }
            pg_sys::ExecStoreVirtualTuple(slot);
            target.insert(slot);
            let order_id = i64::from_datum(*(*slot).tts_values, *(*slot).tts_isnull);
            order_ids.push(order_id.expect("an order has an id"));
        }
        target.finish();
        pg_sys::PopActiveSnapshot();
        super::relation::close(table);
        pg_sys::CommandCounterIncrement();
        Some(order_ids)
    }
}
