//! Shared memory of all processes of the server, allocated while the library is preloaded.
//!
//! Each part is a static [`Shared`], which gives out a `&T`. There are two kinds:
//!
//! - `Shared<T>` where `T` consists of atomics, which are read and written without a lock;
//! - `Shared<LwLock<T>>`, whose `T` is accessed through [`LwLock::lock`] or [`LwLock::read`].
//!
//! Data that is read without a lock lies in a part of its own, never in the `T` of an `LwLock`: the
//! holder of the lock has a `&mut T`, and no other reference may point into that.
//!
//! ```ignore
//! static WORDS: Shared<[AtomicU64; 8]> = Shared::new(c"flashsale words");
//! static LISTS: Shared<LwLock<Lists>> = Shared::new(c"flashsale lists");
//!
//! pg_shmem_init!(WORDS = ()); // in _PG_init, while preloading
//!
//! if let Some(lists) = LISTS.get() { // None if the library was not preloaded
//!     lists.lock().push(1);
//! }
//! ```

use flashsale_core::cancel::Cancelled;
use flashsale_core::fit::PriorOrder;
use flashsale_core::gate::Gate;
use flashsale_core::item::Currency;
use flashsale_core::order::{Moved, Status};
use flashsale_core::order_ref::{OrderRef, RefCode};
use flashsale_core::outcome::{OrderIds, Outcome};
use flashsale_core::reason::Reason;
use flashsale_core::slots::{Slots, Words};
use pgrx::pg_sys::{self, LWLockMode};
use pgrx::shmem::PgSharedMemoryInitialization;
use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering};

// On Windows every backend would run the startup hook, concurrently with others.
#[cfg(windows)]
compile_error!("flashsale needs processes that are forked");

/// A type whose values can lie in shared memory.
///
/// # Safety
/// A value must not contain pointers to memory that other processes do not have at the same
/// address, such as heap memory, and must not need a destructor: it is never dropped.
pub unsafe trait InSharedMemory: Sync + Sized + 'static {
    /// The value that the server starts with.
    const NEW: Self;

    /// Called once, in the postmaster, on the value at its final address.
    fn start(&self, _name: &'static CStr) {}
}

// SAFETY: numbers that own nothing.
unsafe impl InSharedMemory for AtomicBool {
    const NEW: Self = Self::new(false);
}

// SAFETY: as above.
unsafe impl InSharedMemory for AtomicI64 {
    const NEW: Self = Self::new(0);
}

// SAFETY: as above.
unsafe impl InSharedMemory for AtomicU32 {
    const NEW: Self = Self::new(0);
}

// SAFETY: as above.
unsafe impl InSharedMemory for AtomicU64 {
    const NEW: Self = Self::new(0);
}

// SAFETY: an array of values that may lie in shared memory.
unsafe impl<T: InSharedMemory, const N: usize> InSharedMemory for [T; N] {
    const NEW: Self = [T::NEW; N];
}

// SAFETY: numbers alone.
unsafe impl<const CELLS: usize> InSharedMemory for Gate<CELLS> {
    const NEW: Self = Self::new();
}

// SAFETY: atomics alone.
unsafe impl<const N: usize> InSharedMemory for Words<N> {
    const NEW: Self = Self::new();
}

// SAFETY: numbers, and values that are plain data.
unsafe impl<A: Plain, R: Plain, const N: usize> InSharedMemory for Slots<A, R, N> {
    const NEW: Self = Self::new();
}

/// Plain data: a value means the same in every process, because it holds only numbers and what
/// consists of them: no reference, no pointer, no function, no heap memory.
///
/// # Safety
/// That must be true. [`plain!`] implements this trait for a type, and checks all parts of it.
pub unsafe trait Plain: Copy + Send + Sync + 'static {}

/// Implements [`Plain`] for a type whose parts are all plain. If a part is not plain, or is left
/// out, it does not compile.
///
/// ```ignore
/// plain!(struct Point { x, y });
/// plain!(enum Shape { Dot(point), Circle { center, radius }, Nothing });
/// plain!(enum Color); // without fields
/// ```
macro_rules! plain {
    (struct $name:ident { $($field:ident),* $(,)? }) => {
        $crate::pg::memory::plain!(@of $name [$name { $($field),* } => $($field),*]);
    };
    (enum $name:ident) => {
        // Only an enum without fields can be converted to a number.
        $crate::pg::memory::plain!(@of $name [it => &(*it as isize)]);
    };
    (enum $name:ident {
        $($variant:ident $(($($part:ident),*))? $({ $($field:ident),* $(,)? })?),* $(,)?
    }) => {
        $crate::pg::memory::plain!(@of $name [$(
            $name::$variant $(($($part),*))? $({ $($field),* })? => $($($part),*)? $($($field),*)?
        );*]);
    };
    (@of $name:ident [$($pattern:pat => $($part:expr),*);*]) => {
        const _: () = {
            #[allow(dead_code)]
            fn parts(value: &$name) {
                fn is_plain<T: $crate::pg::memory::Plain>(_: &T) {}
                match value {
                    $($pattern => { $(is_plain(&*$part);)* })*
                }
            }
            // SAFETY: parts() names all parts, and compiles only if each is plain.
            #[allow(unsafe_code)]
            unsafe impl $crate::pg::memory::Plain for $name {}
        };
    };
}
pub(crate) use plain;

/// Implements [`Plain`] for numbers and for types with private parts that are numbers.
macro_rules! numbers {
    ($($name:ty),* $(,)?) => { $(
        // SAFETY: a number, or an inline array of numbers.
        unsafe impl Plain for $name {}
    )* };
}

numbers!(bool, u8, i32, u32, i64, isize, usize);
numbers!(
    pg_sys::Oid,
    pg_sys::TransactionId,
    Currency,
    OrderIds,
    RefCode
);

// SAFETY: an inline array of plain values.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

// SAFETY: an inline plain value, or none.
unsafe impl<T: Plain> Plain for Option<T> {}

plain!(enum Reason);
plain!(enum Status);
plain!(struct OrderRef { order_id, code });
plain!(struct PriorOrder {
    order_ref, quantity, status, expires_at, unit_price, currency, remaining_inventory
});
plain!(enum Outcome {
    Reserved { order, replayed },
    DeadReplay { order_ref, reason },
    Unavailable { reason, inventory, starts_at, ends_at },
    LimitReached { max_per_user, orders },
    NotFound,
    Busy,
    Conflict,
});
plain!(struct Cancelled { status, restored });
type CancelMoved = Moved<Cancelled>;
plain!(enum CancelMoved {
    Done(cancelled),
    Refused { status, reason },
    NotFound,
    Busy,
});

/// A part of shared memory.
pub struct Shared<T> {
    name: &'static CStr,
    /// Null, or the memory that the startup hook has allocated, which outlives every process but
    /// the postmaster.
    at: AtomicPtr<T>,
}

impl<T: InSharedMemory> Shared<T> {
    /// `name` identifies the part, and in pg_stat_activity the waits for its lock.
    pub const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            at: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// The part; `None` if the library was not preloaded.
    pub fn get(&self) -> Option<&'static T> {
        let at = NonNull::new(self.at.load(Ordering::Relaxed))?;
        // SAFETY: on_shmem_startup has written a value there. There is no `&mut` to it, and the
        // memory outlives this process.
        Some(unsafe { at.as_ref() })
    }
}

impl<T: InSharedMemory> PgSharedMemoryInitialization for Shared<T> {
    type Value = ();

    unsafe fn on_shmem_request(&'static self) {
        const { assert!(align_of::<T>() <= pg_sys::PG_CACHE_LINE_SIZE as usize) };
        // SAFETY: called from shmem_request_hook, where this is allowed.
        unsafe { pg_sys::RequestAddinShmemSpace(size_of::<T>()) };
    }

    /// Takes no lock, because the postmaster has no children yet.
    unsafe fn on_shmem_startup(&'static self, _value: ()) {
        let mut found = false;
        // SAFETY: called from shmem_startup_hook, once each time the server creates its shared
        // memory; so the memory is new, aligned to a cache line, and large enough.
        let part = unsafe {
            let at = pg_sys::ShmemInitStruct(self.name.as_ptr(), size_of::<T>(), &mut found);
            let at = at.cast::<T>();
            assert!(!found && at.is_aligned(), "{:?} is there twice", self.name);
            at.write(T::NEW);
            &*at
        };
        part.start(self.name);
        self.at
            .store(std::ptr::from_ref(part).cast_mut(), Ordering::Relaxed);
    }
}

/// A value in shared memory behind a lightweight lock of PostgreSQL.
///
/// While the lock is held no interrupts are served, so it must be held only for moments.
pub struct LwLock<T> {
    lock: UnsafeCell<pg_sys::LWLock>,
    value: UnsafeCell<T>,
}

// SAFETY: several processes may have a `&T` at once, but only one at a time has a `&mut T`.
unsafe impl<T: Send + Sync> Sync for LwLock<T> {}

// SAFETY: PostgreSQL's lock is designed for shared memory; it refers to processes by number.
unsafe impl<T: InSharedMemory + Send> InSharedMemory for LwLock<T> {
    const NEW: Self = Self {
        // SAFETY: consists of numbers, for which zero is valid; start() initialises the lock.
        lock: UnsafeCell::new(unsafe { std::mem::zeroed() }),
        value: UnsafeCell::new(T::NEW),
    };

    fn start(&self, name: &'static CStr) {
        // SAFETY: in the postmaster, before any process can take the lock. The name is static, and
        // processes forked from the postmaster have it at the same address.
        unsafe {
            let tranche = pg_sys::LWLockNewTrancheId();
            pg_sys::LWLockRegisterTranche(tranche, name.as_ptr());
            pg_sys::LWLockInitialize(self.lock.get(), tranche);
        }
    }
}

impl<T> LwLock<T> {
    /// Waits for the lock in exclusive mode.
    pub fn lock(&self) -> Guard<'_, T> {
        Guard {
            _held: Held::acquire(&self.lock, LWLockMode::LW_EXCLUSIVE),
            value: &self.value,
        }
    }

    /// Waits for the lock in shared mode.
    pub fn read(&self) -> ReadGuard<'_, T> {
        ReadGuard {
            _held: Held::acquire(&self.lock, LWLockMode::LW_SHARED),
            value: &self.value,
        }
    }
}

/// A lock that is held until this is dropped.
struct Held<'a>(&'a UnsafeCell<pg_sys::LWLock>);

impl<'a> Held<'a> {
    fn acquire(lock: &'a UnsafeCell<pg_sys::LWLock>, mode: LWLockMode::Type) -> Self {
        // SAFETY: start() has initialised it.
        unsafe { pg_sys::LWLockAcquire(lock.get(), mode) };
        Self(lock)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: acquire() took the lock. An error that unwinds has not released it yet, but has
        // set the holdoff count to 0. Releasing decrements the count, so it would wrap, and this
        // process would never serve a cancel again. So the count is raised first, as
        // LWLockReleaseAll does.
        unsafe {
            if pg_sys::InterruptHoldoffCount == 0 {
                pg_sys::InterruptHoldoffCount = 1;
            }
            pg_sys::LWLockRelease(self.0.get());
        }
    }
}

/// Holds a lock in exclusive mode until dropped.
pub struct Guard<'a, T> {
    value: &'a UnsafeCell<T>,
    _held: Held<'a>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the lock is held exclusively, and this guard is borrowed.
        unsafe { &*self.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held exclusively, and this guard is borrowed mutably.
        unsafe { &mut *self.value.get() }
    }
}

/// Holds a lock in shared mode until dropped.
pub struct ReadGuard<'a, T> {
    value: &'a UnsafeCell<T>,
    _held: Held<'a>,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the lock keeps writers out while this guard lives.
        unsafe { &*self.value.get() }
    }
}

#[cfg(feature = "pg_test")]
#[pgrx::pg_schema]
mod tests {
    use super::*;
    use crate::pg::subtransaction::{self, End};
    use pgrx::prelude::*;

    fn lock() -> &'static LwLock<AtomicU64> {
        let lock = Box::leak(Box::new(LwLock::<AtomicU64>::NEW));
        lock.start(c"flashsale test");
        lock
    }

    /// The count of reasons not to serve interrupts.
    fn holdoffs() -> u32 {
        // SAFETY: a number of this process.
        unsafe { pg_sys::InterruptHoldoffCount }
    }

    fn cancelled_within(statement: &str) -> bool {
        let caught = subtransaction::run(|| End::RollBack(Spi::run(statement)));
        format!("{caught:?}").contains("canceling statement due to user request")
    }

    const CANCEL: &str = "SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(30)";

    #[pg_test]
    fn an_error_under_a_lock_leaves_the_lock_free_and_cancels_served() {
        let lock = lock();
        let caught = subtransaction::run(|| {
            let (_outer, _inner) = (lock.read(), lock.read());
            End::Commit(Spi::run("SELECT 1 / 0"))
        });
        assert!(caught.is_err());
        assert_eq!(holdoffs(), 0);
        drop(lock.lock());
        assert_eq!(holdoffs(), 0);
        assert!(cancelled_within(CANCEL));
    }

    #[pg_test]
    fn a_panic_under_a_lock_leaves_the_lock_free_and_cancels_served() {
        let lock = lock();
        let caught = subtransaction::run(|| {
            let _guard = lock.lock();
            panic!("a test");
            #[allow(unreachable_code)]
            End::Commit(())
        });
        assert!(caught.is_err());
        assert_eq!(holdoffs(), 0);
        drop(lock.lock());
        assert!(cancelled_within(CANCEL));
    }

    #[pg_test]
    fn a_destructor_that_an_error_runs_may_take_a_lock() {
        struct Leaves(&'static LwLock<AtomicU64>);
        impl Drop for Leaves {
            fn drop(&mut self) {
                self.0.lock().store(7, Ordering::Relaxed);
            }
        }
        let lock = lock();
        let caught = subtransaction::run(|| {
            let _leaves = Leaves(lock);
            End::Commit(Spi::run("SELECT 1 / 0"))
        });
        assert!(caught.is_err());
        assert_eq!(holdoffs(), 0);
        assert_eq!(lock.read().load(Ordering::Relaxed), 7);
    }
}
