//! What a table's definition says, as the executor would read it: from the relcache entry of the
//! open table, without a query. Its lock keeps what is read here from changing.

use super::table::{Relation, Table};
use pgrx::pg_sys::{self, AttrDefault, ConstrCheck, FormData_pg_attribute, Oid, Trigger};
use pgrx::{FromDatum, is_a, name_data_to_str};
use std::ffi::{CStr, c_char};
use std::slice;

/// What a statement does to a table.
pub enum Write<'a> {
    Insert,
    /// The columns that it sets.
    Update(&'a [usize]),
}

impl<const N: usize> Table<N> {
    /// The parts of the definition that every write respects: in a line the columns with their
    /// types, constraints and defaults, in the next the CHECKs by their names, and then a line for
    /// each thing that only the executor respects. Types and expressions are written as by
    /// format_type() and pg_get_expr(), under the current search_path.
    pub fn definition(&self) -> String {
        let relation = &self.relation;
        let columns = relation.columns();
        let columns: Vec<_> = columns.iter().map(|at| relation.column(at)).collect();
        let checks = relation.checks().iter();
        let checks: Vec<_> = checks.map(|at| relation.expression(at.ccbin)).collect();
        // SAFETY: a field of an open relation.
        let class = unsafe { &*(*relation.0).rd_rel };
        let lines = [
            (true, columns.join(", ")),
            (!checks.is_empty(), checks.join(", ")),
            (class.relhasrules, "rules".into()),
            (class.relrowsecurity, "row security".into()),
            (class.relhassubclass, "children".into()),
            (class.relispartition, "parent".into()),
        ];
        let lines = lines
            .into_iter()
            .filter_map(|(is_so, line)| is_so.then_some(line));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Whether there are triggers for the write, disabled ones included. The triggers of a foreign key
    /// that refers to the table are counted only if the write is of a column of a unique key: they do
    /// nothing else.
    pub fn has_triggers(&self, write: Write<'_>) -> bool {
        let mut triggers = self.relation.triggers().iter();
        triggers.any(|trigger| {
            let (event, columns) = match write {
                Write::Insert => (pg_sys::TRIGGER_TYPE_INSERT, &[][..]),
                Write::Update(columns) => (pg_sys::TRIGGER_TYPE_UPDATE, columns),
            };
            let of_columns = columns_of(trigger);
            let is_of = |column: &usize| of_columns.contains(&(*column as i16 + 1));
            trigger.tgtype as u32 & event != 0
                && (!is_of_reference(trigger) || self.relation.has_in_key(columns))
                && (of_columns.is_empty() || columns.iter().any(is_of))
        })
    }

    /// The number of its indexes.
    pub fn indexes(&self) -> usize {
        // SAFETY: the relation is open; the list is a copy.
        let indexes = unsafe { pg_sys::RelationGetIndexList(self.relation.0).as_ref() };
        indexes.map_or(0, |list| list.length as usize)
    }

    /// The sequence that the default of the column names, if that is the call of a function with a
    /// sequence as its first argument. The caller knows which function it is from the definition.
    pub fn sequence(&self, column: usize) -> Option<Oid> {
        let mut defaults = self.relation.defaults().iter();
        let default = defaults.find(|default| default.adnum as usize == column + 1)?;
        // SAFETY: the text of an expression. What it says is looked at by its node tags; the list of
        // a call without arguments is null.
        unsafe {
            let node = pg_sys::stringToNode(default.adbin).cast::<pg_sys::Node>();
            let call = is_a(node, pg_sys::NodeTag::T_FuncExpr)
                .then(|| &*node.cast::<pg_sys::FuncExpr>())?;
            if call.args.is_null() {
                return None;
            }
            let argument = pg_sys::list_nth(call.args, 0).cast::<pg_sys::Node>();
            let name = is_a(argument, pg_sys::NodeTag::T_Const)
                .then(|| &*argument.cast::<pg_sys::Const>())?;
            let is_name = name.consttype == pg_sys::REGCLASSOID;
            Oid::from_datum(name.constvalue, name.constisnull).filter(|_| is_name)
        }
    }
}

impl Relation {
    fn column(&self, column: &FormData_pg_attribute) -> String {
        // SAFETY: the function returns a text that ends with NUL.
        let kind = unsafe {
            text(pg_sys::format_type_with_typemod(
                column.atttypid,
                column.atttypmod,
            ))
        };
        let letter = |letter: c_char| match letter as u8 {
            0 => String::new(),
            letter => char::from(letter).into(),
        };
        let not_null = if column.attnotnull { "NOT NULL" } else { "" };
        let mut defaults = self.defaults().iter();
        let default = defaults.find(|default| default.adnum == column.attnum);
        let parts = [
            name_data_to_str(&column.attname).into(),
            kind,
            not_null.into(),
            letter(column.attgenerated),
            letter(column.attidentity),
            default
                .map(|default| self.expression(default.adbin))
                .unwrap_or_default(),
        ];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join(" ")
    }

    /// An expression about the table's columns, as pg_get_expr() writes it.
    fn expression(&self, stored: *const c_char) -> String {
        // SAFETY: the texts in a relcache entry are those of expressions, and the table's name ends
        // with NUL.
        unsafe {
            let name = &raw const (*(*self.0).rd_rel).relname.data;
            let context = pg_sys::deparse_context_for(name.cast(), self.oid());
            let expression = pg_sys::stringToNode(stored).cast();
            text(pg_sys::deparse_expression(
                expression, context, false, false,
            ))
        }
    }

    fn defaults(&self) -> &[AttrDefault] {
        // SAFETY: the array and its length belong together.
        unsafe {
            let constraints = (*self.descriptor()).constr.as_ref();
            constraints.map_or(&[], |of| array(of.defval, of.num_defval.into()))
        }
    }

    fn checks(&self) -> &[ConstrCheck] {
        // SAFETY: the array and its length belong together.
        unsafe {
            let constraints = (*self.descriptor()).constr.as_ref();
            constraints.map_or(&[], |of| array(of.check, of.num_check.into()))
        }
    }

    /// Whether one of the columns is part of a unique key that a foreign key can refer to.
    fn has_in_key(&self, columns: &[usize]) -> bool {
        let kind = pg_sys::IndexAttrBitmapKind::INDEX_ATTR_BITMAP_KEY;
        // SAFETY: the relation is open, and the set is a copy.
        unsafe {
            let keys = pg_sys::RelationGetIndexAttrBitmap(self.0, kind);
            columns.iter().any(|column| {
                let number = *column as i32 + 1;
                pg_sys::bms_is_member(number - pg_sys::FirstLowInvalidHeapAttributeNumber, keys)
            })
        }
    }

    /// Whether a foreign key refers to the table.
    pub(super) fn is_referred_to(&self) -> bool {
        self.triggers().iter().any(is_of_reference)
    }

    fn triggers(&self) -> &[Trigger] {
        // SAFETY: the array and its length belong together.
        unsafe {
            let triggers = (*self.0).trigdesc.as_ref();
            triggers.map_or(&[], |of| array(of.triggers, of.numtriggers))
        }
    }
}

/// Whether it is a trigger of a foreign key that refers to its table.
fn is_of_reference(trigger: &Trigger) -> bool {
    // SAFETY: compares the oid with those of known functions.
    unsafe { pg_sys::RI_FKey_trigger_type(trigger.tgfoid) == pg_sys::RI_TRIGGER_PK as i32 }
}

fn columns_of(trigger: &Trigger) -> &[i16] {
    // SAFETY: the array and its length belong together.
    unsafe { array(trigger.tgattr, trigger.tgnattr.into()) }
}

/// # Safety
/// The array must have that length, and live as long as what it is borrowed from.
unsafe fn array<'a, T>(first: *const T, length: i32) -> &'a [T] {
    if length == 0 {
        return &[];
    }
    // SAFETY: as the caller says.
    unsafe { slice::from_raw_parts(first, length as usize) }
}

/// # Safety
/// It must end with NUL.
unsafe fn text(pointer: *const c_char) -> String {
    // SAFETY: as the caller says.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_string_lossy().into_owned()
}
