//! Hooks that tell of logins, and of changes of databases, extensions and subscriptions.

use pgrx::pg_sys::submodules::ffi::pg_guard_ffi_boundary;
use pgrx::pg_sys::{self, ObjectAccessType, Oid, Port};
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

/// pg_subscription, which pgrx's bindings do not name.
const SUBSCRIPTIONS: Oid = Oid::from_u32(6100);

type Login = unsafe extern "C-unwind" fn(*mut Port, c_int);

// Not in pgrx's bindings.
unsafe extern "C-unwind" {
    static mut ClientAuthentication_hook: Option<Login>;
}

static AT_LOGIN: OnceLock<fn()> = OnceLock::new();
static ON_CHANGE: OnceLock<fn()> = OnceLock::new();
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
/// a subscription, before it commits. It must raise no error. Call this while the library is
/// preloaded.
pub fn on_change(on_change: fn()) {
    if ON_CHANGE.set(on_change).is_ok() {
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
    let classes = [
        pg_sys::DatabaseRelationId,
        pg_sys::ExtensionRelationId,
        SUBSCRIPTIONS,
    ];
    if classes.contains(&class)
        && [OAT_DROP, OAT_POST_ALTER, OAT_POST_CREATE].contains(&access)
        && let Some(on_change) = ON_CHANGE.get()
    {
        on_change();
    }
}
