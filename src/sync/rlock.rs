//! Mutual exclusion of tasks, each of which may enter again.

use std::{
    cell::Cell,
    fmt,
    marker::PhantomData,
    ops::Deref,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::waiters::{Guarded, List, Now, Request, Shared, WaitStatistics, Waiting, Wakes, block};
use crate::{WaitError, scheduler};

/// A lock that its owner, a task, may take again.
///
/// Mirrors [`threading.RLock`](https://docs.python.org/3/library/threading.html#rlock-objects) for tasks, which asyncio does not
/// have. The owner is the task that runs; outside of tasks, it is the thread. It is free when as many guards were dropped
/// as were taken. Since the owner may hold several guards at a time they give shared access: put a `Cell` or `RefCell` inside to
/// change the value.
///
/// Fair as [`Lock`](crate::Lock) is; taking it when it is free, or one's own, does not yield.
///
/// **Difference**: only a guard can release, and it cannot leave its thread, so no release by somebody else needs an error.
///
/// # Examples
///
/// ```
/// use selkie::RLock;
/// use std::cell::Cell;
///
/// async fn add(account: &RLock<Cell<i32>>, amount: i32) {
///     let account = account.lock().await;
///     account.set(account.get() + amount);
/// }
///
/// selkie::run(async {
///     let account = RLock::new(Cell::new(0));
///     let guard = account.lock().await;
///     add(&account, 5).await; // takes it again
///     assert_eq!(guard.get(), 5);
/// });
/// ```
#[doc(alias = "ReentrantLock")]
#[doc(alias = "ReentrantMutex")]
pub struct RLock<T: ?Sized> {
    guarded: Guarded<Owned, Shared>,
    value: T,
}

struct Owned {
    /// 0: nobody.
    owner: u64,
    count: usize,
    waiters: List<u64>,
}

// SAFETY: one task at a time, which stays on its thread, gets `&T`; the next may be in another thread, so `T` must be `Send`.
unsafe impl<T: ?Sized + Send> Sync for RLock<T> {}

/// Who asks: the task that runs, or the thread. Never 0.
pub(super) fn me() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static THREAD: Cell<u64> = const { Cell::new(0) };
    }
    if let Some(task) = scheduler::running().filter(|task| task.is_task()) {
        return task.id.get() << 1;
    }
    THREAD.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        (number.get() << 1) | 1
    })
}

impl<T> RLock<T> {
    const_fn! {
        /// A lock that nobody holds.
        pub const fn new(value: T) -> Self {
            Self { guarded: Guarded::shared(Owned { owner: 0, count: 0, waiters: List::new() }), value }
        }
    }

    /// The value; nobody can hold the lock any more.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T: ?Sized> RLock<T> {
    fn guard(&self) -> RLockGuard<'_, T> {
        RLockGuard { lock: self, not_send: PhantomData }
    }

    /// Waits until the lock is free or this task's own, and takes it (once more).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue; if the lock was being handed over, the next one gets it.
    #[doc(alias = "acquire")]
    pub async fn lock(&self) -> RLockGuard<'_, T> {
        Waiting::new(Acquire { guarded: &self.guarded }).await;
        self.guard()
    }

    /// Takes the lock if it is free or this task's own.
    pub fn try_lock(&self) -> Option<RLockGuard<'_, T>> {
        let me = me();
        self.guarded.look(|owned| owned.enter(me)).then(|| self.guard())
    }

    /// Takes the lock, blocking this thread for at most `timeout`; `None` waits as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`Lock::lock_blocking`](crate::Lock::lock_blocking).
    pub fn lock_blocking(&self, timeout: Option<Duration>) -> Result<RLockGuard<'_, T>, WaitError> {
        block(Acquire { guarded: &self.guarded }, timeout)?;
        Ok(self.guard())
    }

    /// Whether somebody holds the lock, at this moment.
    #[doc(alias = "locked")]
    pub fn is_locked(&self) -> bool {
        self.guarded.look(|owned| owned.owner != 0)
    }

    /// Whether the running task, or outside of tasks this thread, holds the lock.
    pub fn is_mine(&self) -> bool {
        let me = me();
        self.guarded.look(|owned| owned.owner == me)
    }

    /// The value; the exclusive borrow shows that nobody holds the lock.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.value
    }

    /// How many wait, and have waited.
    pub fn statistics(&self) -> WaitStatistics {
        self.guarded.look(|owned| owned.waiters.statistics())
    }
}

impl Owned {
    fn enter(&mut self, me: u64) -> bool {
        if self.owner != 0 && self.owner != me {
            return false;
        }
        self.owner = me;
        self.count += 1;
        true
    }
}

fn release(guarded: &Guarded<Owned, Shared>) {
    guarded.with(|owned, wakes| {
        owned.count -= 1;
        if owned.count == 0 {
            match owned.waiters.grant(0, wakes) {
                Some(next) => (owned.owner, owned.count) = (next, 1),
                None => owned.owner = 0,
            }
        }
    });
}

struct Acquire<'a> {
    guarded: &'a Guarded<Owned, Shared>,
}

impl Request for Acquire<'_> {
    type State = Owned;
    type Mode = Shared;
    type Payload = u64;
    type Output = ();
    type Found = ();

    const WAITS_FOR: &'static &'static str = &"a lock";

    fn guarded(&self) -> &Guarded<Owned, Shared> {
        self.guarded
    }

    fn list(owned: &mut Owned) -> &mut List<u64> {
        &mut owned.waiters
    }

    fn look(&mut self, owned: &mut Owned, _: &mut Wakes) -> Now<()> {
        if owned.enter(me()) { Now::Ready(()) } else { Now::Wait }
    }

    fn found(&mut self, (): ()) {}

    fn payload(&mut self) -> u64 {
        me()
    }

    fn granted(&mut self, _: u32, _: Option<u64>) {
        // The future may have moved to another task since it was enqueued.
        let me = me();
        self.guarded.look(|owned| owned.owner = me);
    }

    fn unused(&mut self, _: u32) {
        release(self.guarded);
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("RLock");
        match self.try_lock() {
            Some(guard) => out.field("value", &&*guard),
            None => out.field("value", &format_args!("<locked>")),
        };
        out.field("waiting", &self.statistics().waiting).finish()
    }
}

/// The right to use what an [`RLock`] protects; dropping it gives one hold back. Stays on its thread.
#[must_use = "dropping it releases the lock"]
pub struct RLockGuard<'a, T: ?Sized> {
    lock: &'a RLock<T>,
    not_send: PhantomData<*const ()>,
}

impl<T: ?Sized> Deref for RLockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.lock.value
    }
}

impl<T: ?Sized> Drop for RLockGuard<'_, T> {
    fn drop(&mut self) {
        release(&self.lock.guarded);
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RLockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
