//! Catalog rows before and after the change that the current command makes to them, and what kind
//! of command that is.

use super::session;
use flashsale_core::guard::Alteration;
use pgrx::FromDatum;
use pgrx::pg_sys::submodules::utils::name_data_to_str;
use pgrx::pg_sys::{
    self, Datum, FormData_pg_attribute, FormData_pg_class, FormData_pg_namespace, HeapTuple, Oid,
    ScanKeyData, Snapshot, SysCacheIdentifier, TupleDesc,
};
use std::ffi::CStr;

const SCHEMA: &CStr = c"flashsale";
const EXTENSION: &CStr = c"flashsale";

/// Whether the database has the extension.
pub fn is_installed() -> bool {
    extension() != Oid::INVALID
}

/// Whether the current command is the script of the extension, at CREATE or ALTER EXTENSION, or
/// pg_upgrade's.
pub fn is_script_running() -> bool {
    // SAFETY: variables of this process.
    session::is_upgrading()
        || unsafe { pg_sys::creating_extension && pg_sys::CurrentExtensionObject == extension() }
}

fn extension() -> Oid {
    // SAFETY: a NUL-terminated name, looked up in a transaction.
    unsafe { pg_sys::get_extension_oid(EXTENSION.as_ptr(), true) }
}

/// The name of a relation in the schema flashsale, before the current command; `None` for any other.
pub fn name_in_schema(relation: Oid) -> Option<String> {
    let (name, schema) = place_before(relation)?;
    // SAFETY: a NUL-terminated name.
    let flashsale = unsafe { pg_sys::get_namespace_oid(SCHEMA.as_ptr(), true) };
    (schema == flashsale).then_some(name)
}

/// Whether the current command has given a relation another name or schema.
pub fn is_moved(relation: Oid) -> bool {
    // SAFETY: the rows of pg_class.
    let new = unsafe {
        after(
            pg_sys::RelationRelationId,
            pg_sys::ClassOidIndexId,
            &mut [oid_key(1, relation)],
            name_and_schema,
        )
    };
    new.is_some() && place_before(relation) != new
}

fn place_before(relation: Oid) -> Option<(String, Oid)> {
    let key = [Datum::from(relation), Datum::null()];
    // SAFETY: the rows of pg_class.
    unsafe { before(SysCacheIdentifier::RELOID, key, name_and_schema) }
}

/// Whether the current command has given the schema flashsale another name.
pub fn schema_is_renamed(schema: Oid) -> bool {
    let name = |row: &FormData_pg_namespace| name_data_to_str(&row.nspname).to_owned();
    // SAFETY: a NUL-terminated name; the rows of pg_namespace.
    let (flashsale, new) = unsafe {
        let keys = &mut [oid_key(1, schema)];
        let (table, index) = (pg_sys::NamespaceRelationId, pg_sys::NamespaceOidIndexId);
        (
            pg_sys::get_namespace_oid(SCHEMA.as_ptr(), true),
            after(table, index, keys, name),
        )
    };
    schema == flashsale && new.is_some_and(|name| name.as_bytes() != SCHEMA.to_bytes())
}

/// What the current command has done to a column, as far as it has another name or type.
pub fn column_change(relation: Oid, column: i16) -> Option<Alteration> {
    let key = [Datum::from(relation), Datum::from(column)];
    // SAFETY: the rows of pg_attribute.
    let old = unsafe { before(SysCacheIdentifier::ATTNUM, key, name_and_type) }?;
    let keys = &mut [oid_key(1, relation), column_key(column)];
    let (table, index) = (
        pg_sys::AttributeRelationId,
        pg_sys::AttributeRelidNumIndexId,
    );
    // SAFETY: the rows of pg_attribute.
    let new = unsafe { after(table, index, keys, name_and_type) }?;
    if old.0 != new.0 {
        Some(Alteration::ColumnRenamed)
    } else if old != new {
        Some(Alteration::ColumnRetyped)
    } else {
        None
    }
}

fn name_and_schema(row: &FormData_pg_class) -> (String, Oid) {
    let name = name_data_to_str(&row.relname).to_owned();
    (name, row.relnamespace)
}

fn name_and_type(row: &FormData_pg_attribute) -> (String, Oid, i32) {
    let name = name_data_to_str(&row.attname).to_owned();
    (name, row.atttypid, row.atttypmod)
}

/// Whether the current command has added objects to the extension flashsale or removed some, or
/// given it another schema. Of all other commands that alter an extension an update, which its script
/// makes, gives it another version, and REASSIGN OWNED another owner.
pub fn has_extension_changed(extension_altered: Oid) -> bool {
    let version_and_owner = |snapshot| {
        let keys = &mut [oid_key(1, extension_altered)];
        let (table, index) = (pg_sys::ExtensionRelationId, pg_sys::ExtensionOidIndexId);
        // SAFETY: the rows of pg_extension, in which extversion is a text and never NULL.
        unsafe {
            scan(table, index, keys, snapshot, |row, columns| {
                let column = pg_sys::Anum_pg_extension_extversion as i32;
                let mut is_null = false;
                let value = pg_sys::heap_getattr(row, column, columns, &mut is_null);
                let owner =
                    (*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_extension>()).extowner;
                String::from_datum(value, is_null).map(|version| (version, owner))
            })
        }
    };
    extension_altered == extension()
        && version_and_owner(std::ptr::null_mut())
            == version_and_owner(&raw mut pg_sys::SnapshotSelfData)
}

/// What `read` finds in the row of a system cache, which does not see the current command.
///
/// # Safety
/// The fixed columns of the cache's rows must be an `F`, and the key have its types.
unsafe fn before<F, T>(
    cache: SysCacheIdentifier::Type,
    key: [Datum; 2],
    read: impl FnOnce(&F) -> T,
) -> Option<T> {
    // SAFETY: in a transaction; the row is an F, as the caller says, and is released after it was read.
    unsafe {
        let tuple =
            pg_sys::SearchSysCache(cache as i32, key[0], key[1], Datum::null(), Datum::null());
        if tuple.is_null() {
            return None;
        }
        let found = read(row(tuple));
        pg_sys::ReleaseSysCache(tuple);
        Some(found)
    }
}

/// What `read` finds in the row of a catalog, as the current command has left it.
///
/// # Safety
/// The fixed columns of the catalog's rows must be an `F`, and the keys be of its index.
unsafe fn after<F, T>(
    catalog: Oid,
    index: u32,
    keys: &mut [ScanKeyData],
    read: impl FnOnce(&F) -> T,
) -> Option<T> {
    let snapshot = &raw mut pg_sys::SnapshotSelfData;
    // SAFETY: by this function's contract.
    unsafe { scan(catalog, index, keys, snapshot, |tuple, _| read(row(tuple))) }
}

/// What `read` finds in the row of a catalog under a snapshot; null is the latest one without what
/// the current command has changed.
///
/// # Safety
/// The keys must be of the catalog's index.
unsafe fn scan<T>(
    catalog: Oid,
    index: u32,
    keys: &mut [ScanKeyData],
    snapshot: Snapshot,
    read: impl FnOnce(HeapTuple, TupleDesc) -> T,
) -> Option<T> {
    // SAFETY: in a transaction; the scan ends after the row was read.
    unsafe {
        let relation = pg_sys::table_open(catalog, pg_sys::AccessShareLock as i32);
        let scan = pg_sys::systable_beginscan(
            relation,
            Oid::from_u32(index),
            true,
            snapshot,
            keys.len() as i32,
            keys.as_mut_ptr(),
        );
        let tuple = pg_sys::systable_getnext(scan);
        let found = (!tuple.is_null()).then(|| read(tuple, (*relation).rd_att));
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        found
    }
}

/// # Safety
/// The tuple must be a row of a catalog whose fixed columns are an `F`, and outlive the reference.
unsafe fn row<'a, F>(tuple: HeapTuple) -> &'a F {
    // SAFETY: by this function's contract.
    unsafe { &*pg_sys::GETSTRUCT(tuple).cast::<F>() }
}

fn oid_key(column: i16, oid: Oid) -> ScanKeyData {
    key(column, pg_sys::F_OIDEQ, Datum::from(oid))
}

fn column_key(column: i16) -> ScanKeyData {
    let number = pg_sys::Anum_pg_attribute_attnum as i16;
    key(number, pg_sys::F_INT2EQ, Datum::from(column))
}

fn key(column: i16, equals: u32, value: Datum) -> ScanKeyData {
    let mut key = ScanKeyData::default();
    let strategy = pg_sys::BTEqualStrategyNumber as u16;
    // SAFETY: fills in the key, for a built-in function.
    unsafe { pg_sys::ScanKeyInit(&mut key, column, strategy, Oid::from_u32(equals), value) };
    key
}
