//! This process: its database, its users, its exit.

use pgrx::pg_sys::{self, Datum, Oid};
use std::cell::{Cell, OnceCell};
use std::ffi::{CStr, CString};

/// Whether the postmaster is loading the library, before it has any children.
pub fn is_preloading() -> bool {
    // SAFETY: a flag of the process.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// Whether pg_upgrade has started the server.
pub fn is_upgrading() -> bool {
    // SAFETY: a flag of the process.
    unsafe { pg_sys::IsBinaryUpgrade }
}

/// The database that this process is connected to.
pub fn database() -> Oid {
    // SAFETY: set when the process connected, and never again.
    unsafe { pg_sys::MyDatabaseId }
}

/// The name of this process's database; `None` if it has been dropped. Call it within a transaction.
pub fn database_name() -> Option<CString> {
    // SAFETY: reads a catalog, and returns null or a palloc'ed NUL-terminated name.
    unsafe {
        let name = pg_sys::get_database_name(database());
        (!name.is_null()).then(|| CStr::from_ptr(name).to_owned())
    }
}

/// The current user, whose privileges apply: in a SECURITY DEFINER function its owner.
pub fn current_user() -> Oid {
    // SAFETY: reads this process's own state.
    unsafe { pg_sys::GetUserId() }
}

/// The user who logged in, or whom SET SESSION AUTHORIZATION has set.
pub fn session_user() -> Oid {
    // SAFETY: reads this process's own state.
    unsafe { pg_sys::GetSessionUserId() }
}

/// A role's name; an unknown role is an error (42704). Call it within a transaction.
pub fn role_name(role: Oid) -> String {
    // SAFETY: with false it raises for an unknown role, else returns a palloc'ed C string.
    let name = unsafe { CStr::from_ptr(pg_sys::GetUserNameFromId(role, false)) };
    name.to_string_lossy().into_owned()
}

thread_local! {
    /// How often a function of this database may have changed; `None` while nobody asks.
    static FUNCTION_CHANGES: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A number that grows when a function may have been created, replaced or dropped, by whomever: so
/// it does with every update of the extension. Costs nothing but to read it. It is up to date as of
/// the beginning of the transaction at least.
pub fn function_changes() -> u64 {
    FUNCTION_CHANGES.get().unwrap_or_else(|| {
        let id = pg_sys::SysCacheIdentifier::PROCOID as i32;
        // SAFETY: the callback lives as long as the library, which is never unloaded.
        unsafe { pg_sys::CacheRegisterSyscacheCallback(id, Some(function_changed), Datum::null()) };
        FUNCTION_CHANGES.set(Some(0));
        0
    })
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn function_changed(_argument: Datum, _cache: i32, _hash: u32) {
    FUNCTION_CHANGES.set(FUNCTION_CHANGES.get().map(|changes| changes + 1));
}

/// A random number, at least 0 and below 1.
pub fn random() -> f64 {
    // SAFETY: the process's own random state, which exists from its start.
    unsafe { pg_sys::pg_prng_double(&raw mut pg_sys::pg_global_prng_state) }
}

/// Runs `callback` when this process exits normally, while shared memory is still attached.
pub fn before_exit(callback: fn()) {
    // SAFETY: call() lives as long as the library, which is never unloaded; it gets the function
    // that is passed here.
    unsafe { pg_sys::before_shmem_exit(Some(call), Datum::from(callback as usize)) };
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn call(_code: i32, argument: Datum) {
    // SAFETY: before_exit() alone registers this callback, always with a `fn()`.
    let callback = unsafe { std::mem::transmute::<usize, fn()>(argument.value()) };
    callback();
}

/// A value that this process creates once and never drops. When the process exits, PostgreSQL's
/// memory that it refers to may be gone already.
pub struct Kept<T>(OnceCell<std::mem::ManuallyDrop<T>>);

// SAFETY: only the thread that may call PostgreSQL can get the value.
unsafe impl<T> Sync for Kept<T> {}

impl<T> Kept<T> {
    pub const fn new() -> Self {
        Self(OnceCell::new())
    }

    /// The value, which `make` creates at the first call.
    pub fn get_or_try<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        pg_sys::submodules::thread_check::check_active_thread();
        if self.0.get().is_none() {
            let _ = self.0.set(std::mem::ManuallyDrop::new(make()?));
        }
        Ok(self.0.get().expect("it was set above"))
    }
}
