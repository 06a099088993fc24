//! Hooks that report logins, changes of databases, extensions and subscriptions, and
//! alterations of the extension and of what lies in its schema.

use super::catalog;
use flashsale_core::guard::{Alteration, Object};
use pgrx::pg_sys::submodules::ffi::pg_guard_ffi_boundary;
use pgrx::pg_sys::{self, ObjectAccessType, Oid, Port};
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// pg_subscription, which pgrx's bindings do not name.
const SUBSCRIPTIONS: Oid = Oid::from_u32(6100);

type Login = unsafe extern "C-unwind" fn(*mut Port, c_int);

// Not in pgrx's bindings.
unsafe extern "C-unwind" {
    static mut ClientAuthentication_hook: Option<Login>;
}

static AT_LOGIN: OnceLock<fn()> = OnceLock::new();
static ON_CHANGE: OnceLock<fn()> = OnceLock::new();
static ON_ALTERATION: OnceLock<fn(Object<'_>, Alteration)> = OnceLock::new();
static HOOKED: AtomicBool = AtomicBool::new(false);
static mut PREVIOUS_LOGIN: Option<Login> = None;
static mut PREVIOUS_ACCESS: pg_sys::object_access_hook_type = None;

/// Calls `at_login` whenever a client has connected and identified itself, outside a transaction. It
/// must raise no error. Call this while the library is preloaded.
pub fn at_login(at_login: fn()) {
    if AT_LOGIN.set(at_login).is_ok() {
        // SAFETY: one thread; written only here, before login() can run.
        unsafe {
            PREVIOUS_LOGIN = ClientAuthentication_hook;
            ClientAuthentication_hook = Some(login);
        }
    }
}

/// Calls `on_change` in each transaction that creates, changes or drops a database, an extension or
/// a subscription, before it commits. It must raise no error.
pub fn on_change(on_change: fn()) {
    if ON_CHANGE.set(on_change).is_ok() {
        hook_access();
    }
}

/// Calls `on_alteration` whenever a statement alters the schema flashsale or what lies in it, or adds
/// objects to the extension or removes some, before a drop and after anything else. An error that it raises is the statement's.
pub fn on_alteration(on_alteration: fn(Object<'_>, Alteration)) {
    if ON_ALTERATION.set(on_alteration).is_ok() {
        hook_access();
    }
}

fn hook_access() {
    if !HOOKED.swap(true, Ordering::Relaxed) {
        // SAFETY: one thread; written only here, before access() can run.
        unsafe {
            PREVIOUS_ACCESS = pg_sys::object_access_hook;
            pg_sys::object_access_hook = Some(access);
        }
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn login(port: *mut Port, status: c_int) {
    // SAFETY: the arguments are passed on unchanged. The previous hook is C code, so its error is
    // caught before it crosses our frames.
    unsafe {
        if let Some(previous) = PREVIOUS_LOGIN {
            pg_guard_ffi_boundary(|| previous(port, status));
        }
    }
    if let Some(at_login) = AT_LOGIN.get() {
        at_login();
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn access(
    access: ObjectAccessType::Type,
    class: Oid,
    object: Oid,
    column: c_int,
    argument: *mut c_void,
) {
    // SAFETY: as in login().
    unsafe {
        if let Some(previous) = PREVIOUS_ACCESS {
            pg_guard_ffi_boundary(|| previous(access, class, object, column, argument));
        }
    }
    use ObjectAccessType::{OAT_DROP, OAT_POST_ALTER, OAT_POST_CREATE};
    if ![OAT_DROP, OAT_POST_ALTER, OAT_POST_CREATE].contains(&access) {
        return;
    }
    match class {
        pg_sys::DatabaseRelationId | pg_sys::ExtensionRelationId | SUBSCRIPTIONS => {
            if let Some(on_change) = ON_CHANGE.get() {
                on_change();
            }
            if class == pg_sys::ExtensionRelationId
                && access == OAT_POST_ALTER
                && catalog::has_extension_changed(object)
            {
                report(Object::Extension, Alteration::MembersChanged);
            }
        }
        pg_sys::RelationRelationId => relation_altered(access, object, column),
        pg_sys::NamespaceRelationId
            if access == OAT_POST_ALTER && catalog::schema_is_renamed(object) =>
        {
            report(Object::Schema, Alteration::Moved);
        }
        _ => {}
    }
}

fn relation_altered(access: ObjectAccessType::Type, relation: Oid, column: c_int) {
    use ObjectAccessType::{OAT_DROP, OAT_POST_ALTER, OAT_POST_CREATE};
    let Some(name) = catalog::name_in_schema(relation) else {
        return;
    };
    let alteration = match (access, column) {
        (OAT_DROP, 0) => Some(Alteration::Dropped),
        (OAT_DROP, _) => Some(Alteration::ColumnDropped),
        (OAT_POST_CREATE, 1..) => Some(Alteration::ColumnAdded),
        (OAT_POST_ALTER, 0) => catalog::is_moved(relation).then_some(Alteration::Moved),
        (OAT_POST_ALTER, 1..) => catalog::column_change(relation, column as i16),
        _ => None,
    };
    if let Some(alteration) = alteration {
        report(Object::Relation(&name), alteration);
    }
}

fn report(object: Object<'_>, alteration: Alteration) {
    if let Some(on_alteration) = ON_ALTERATION.get() {
        on_alteration(object, alteration);
    }
}
