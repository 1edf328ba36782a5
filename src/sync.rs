//! What tasks of several loops, plain threads and foreign executors share: locks, events, barriers.
//!
//! All of them wait in the one list of [`waiters`], whose protocol is written there.

/// A `const fn`, but under loom, whose atomics cannot be made by one.
macro_rules! const_fn {
    ($(#[$meta:meta])* pub const fn $($rest:tt)*) => {
        #[cfg(not(selkie_loom))]
        $(#[$meta])*
        pub const fn $($rest)*

        #[cfg(selkie_loom)]
        $(#[$meta])*
        #[allow(clippy::new_without_default)]
        pub fn $($rest)*
    };
}

mod barrier;
mod condition;
mod event;
mod lock;
mod lock_all;
#[cfg(all(debug_assertions, not(selkie_loom)))]
pub(crate) mod order;
#[cfg(not(all(debug_assertions, not(selkie_loom))))]
#[path = "sync/order_release.rs"]
pub(crate) mod order;
mod rlock;
mod semaphore;
pub(crate) mod waiters;

pub use barrier::{Barrier, BrokenBarrier};
pub use condition::Condition;
pub use event::Event;
pub use lock::{Lock, LockGuard, NotLocked, OwnedLockGuard};
pub use lock_all::{LockOrderViolation, LockSet, LockedAll, lock_all};
pub(crate) use rlock::owner_of;
pub use rlock::{NotOwned, RLock, RLockGuard};
pub use semaphore::{BoundedSemaphore, OverReleased, OwnedPermit, Permit, Semaphore};
pub use waiters::{Local, Mode, Shared, WaitStatistics};

// The atomics of the crate: the standard ones, or loom's when a protocol is modelled.

#[cfg(not(selkie_loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

#[cfg(not(selkie_loom))]
pub(crate) use atomic_waker::AtomicWaker;

#[cfg(selkie_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// Does what the crate `atomic_waker` promises, which has its own model.
#[cfg(selkie_loom)]
#[derive(Debug, Default)]
pub(crate) struct AtomicWaker(loom::sync::Mutex<Option<std::task::Waker>>);

#[cfg(selkie_loom)]
impl AtomicWaker {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn register(&self, waker: &std::task::Waker) {
        *self.0.lock().expect("nobody panics") = Some(waker.clone());
    }

    pub(crate) fn take(&self) -> Option<std::task::Waker> {
        self.0.lock().expect("nobody panics").take()
    }

    pub(crate) fn wake(&self) {
        let waker = self.take();
        waker.into_iter().for_each(std::task::Waker::wake);
    }
}
