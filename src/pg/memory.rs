//! Shared memory: parts that begin as zeroes, each behind one lock of PostgreSQL's.

use crate::error::Fault;
use pgrx::pg_sys::{self, LWLockMode};
use pgrx::shmem::PgSharedMemoryInitialization;
use std::cell::{Cell, UnsafeCell};
use std::ffi::CStr;
use std::ops::{Deref, DerefMut};

/// A type for which all zeroes is a sound initial value, and that owns no memory.
///
/// # Safety
/// Both must hold, and it must be safe to share between processes.
pub unsafe trait Zeroed {}

/// A part of shared memory. It is there only when the library was preloaded.
pub struct Shared<T> {
    name: &'static CStr,
    at: Cell<*mut Part<T>>,
}

// SAFETY: the pointer is set once, before any backend is forked; data is behind its lock.
unsafe impl<T: Zeroed> Sync for Shared<T> {}

#[repr(C)]
struct Part<T> {
    lock: *mut pg_sys::LWLock,
    data: UnsafeCell<T>,
}

impl<T: Zeroed> Shared<T> {
    pub const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            at: Cell::new(std::ptr::null_mut()),
        }
    }

    /// The part, unless the library was not preloaded.
    pub fn get(&self) -> Option<&Attached<T>> {
        // SAFETY: null, or set by on_shmem_startup to memory that outlives every backend.
        unsafe { self.at.get().cast::<Attached<T>>().as_ref() }
    }

    /// The part, or what a caller who needs it is told (55000).
    pub fn require(&self, what: &'static str) -> Result<&Attached<T>, Fault> {
        self.get().ok_or(Fault::NotPreloaded(what))
    }
}

/// A part that is there.
#[repr(transparent)]
pub struct Attached<T>(Part<T>);

impl<T> Attached<T> {
    /// Waits for the lock, which keeps everybody else out.
    pub fn lock(&self) -> Guard<'_, T> {
        // SAFETY: the lock was made with the part.
        unsafe { pg_sys::LWLockAcquire(self.0.lock, LWLockMode::LW_EXCLUSIVE) };
        Guard(&self.0)
    }

    /// Waits for the lock, which keeps writers out.
    pub fn read(&self) -> ReadGuard<'_, T> {
        // SAFETY: as in lock.
        unsafe { pg_sys::LWLockAcquire(self.0.lock, LWLockMode::LW_SHARED) };
        ReadGuard(&self.0)
    }

    /// The data without the lock: for atomics.
    ///
    /// # Safety
    /// Nothing but atomics may be read or written through it.
    pub unsafe fn atomics(&self) -> *const T {
        self.0.data.get()
    }
}

/// Holds a part's lock until dropped.
pub struct Guard<'a, T>(&'a Part<T>);

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the lock is held.
        unsafe { &*self.0.data.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held, alone.
        unsafe { &mut *self.0.data.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        release(self.0.lock);
    }
}

/// Holds a part's lock, beside other readers, until dropped.
pub struct ReadGuard<'a, T>(&'a Part<T>);

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the lock keeps writers out.
        unsafe { &*self.0.data.get() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        release(self.0.lock);
    }
}

fn release(lock: *mut pg_sys::LWLock) {
    // SAFETY: the guard took it. After an error PostgreSQL may have released it already.
    unsafe {
        if pg_sys::LWLockHeldByMe(lock) {
            pg_sys::LWLockRelease(lock);
        }
    }
}

impl<T: Zeroed> PgSharedMemoryInitialization for Shared<T> {
    type Value = ();

    unsafe fn on_shmem_request(&'static self) {
        // SAFETY: called from the hook that is for this.
        unsafe {
            pg_sys::RequestAddinShmemSpace(size_of::<Part<T>>());
            pg_sys::RequestNamedLWLockTranche(self.name.as_ptr(), 1);
        }
    }

    unsafe fn on_shmem_startup(&'static self, _value: ()) {
        /// AddinShmemInitLock, by its place in lwlocknames.
        const INIT_LOCK: usize = 21;
        // SAFETY: called from the hook that is for this; memory found is ours already.
        unsafe {
            let init_lock = &raw mut (*pg_sys::MainLWLockArray.add(INIT_LOCK)).lock;
            pg_sys::LWLockAcquire(init_lock, LWLockMode::LW_EXCLUSIVE);
            let mut found = false;
            let size = size_of::<Part<T>>();
            let memory = pg_sys::ShmemInitStruct(self.name.as_ptr(), size, &mut found);
            let part = memory.cast::<Part<T>>();
            if !found {
                memory.cast::<u8>().write_bytes(0, size);
                (*part).lock = &raw mut (*pg_sys::GetNamedLWLockTranche(self.name.as_ptr())).lock;
            }
            self.at.set(part);
            pg_sys::LWLockRelease(init_lock);
        }
    }
}
