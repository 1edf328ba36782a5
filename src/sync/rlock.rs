//! Mutual exclusion of tasks, each of which may enter again.

use std::{
    cell::Cell,
    fmt,
    future::Future,
    marker::PhantomData,
    ops::Deref,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{
    order::{self, Hold, Mark, Site, Wish},
    waiters::{Guarded, List, Now, Request, Shared, WaitStatistics, Waiting, Wakes, block},
};
use crate::{WaitError, scheduler};

/// A lock that its owner, a task, may take again.
///
/// Mirrors [`threading.RLock`](https://docs.python.org/3/library/threading.html#rlock-objects) for tasks, which asyncio does not
/// have. The owner is the task that runs; outside of tasks, it is the thread. It is free when as many guards were dropped
/// as were taken. Since the owner may hold several guards at a time they give shared access: put a `Cell` or `RefCell` inside to
/// change the value.
///
/// Fair as [`Lock`](crate::Lock) is, and watched in debug builds as that is. Taking it when it is free, or one's own, does not
/// yield: [`yield_now`](crate::yield_now) now and then lets others run.
///
/// Who waits is served in its turn, even if its task got the lock by another future meanwhile. So a task that locks in several
/// futures at once must not keep the one guard until it has the other: it would wait for itself, if it had to wait at all.
///
/// **Difference**: a guard cannot leave its thread, so no release by somebody else needs an error. [`RLock<()>`](#impl-RLock<()>)
/// has Python's explicit `acquire` and `release`, which does.
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
    name: &'static str,
    value: T,
}

struct Owned {
    /// 0: nobody.
    owner: u64,
    count: usize,
    waiters: List<()>,
    mark: Mark,
}

// SAFETY: one task at a time, which stays on its thread, gets `&T`; the next may be in another thread, so `T` must be `Send`.
unsafe impl<T: ?Sized + Send> Sync for RLock<T> {}

/// The owner of a lock that was handed to a future which has not been polled since. Nobody can enter until then: whoever polls it
/// owns the lock, and that need not be who enqueued it.
const HANDED: u64 = u64::MAX;

/// Who asks: the task that runs, or the thread. Never 0, nor [`HANDED`].
pub(super) fn me() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static THREAD: Cell<u64> = const { Cell::new(0) };
    }
    if let Some(task) = scheduler::running().filter(|task| task.is_task()) {
        return owner_of(task.id.get());
    }
    THREAD.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        (number.get() << 1) | 1
    })
}

/// How [`me`] numbers a task.
pub(crate) fn owner_of(task: u64) -> u64 {
    task << 1
}

impl<T> RLock<T> {
    const_fn! {
        /// A lock that nobody holds.
        pub const fn new(value: T) -> Self {
            Self::named("a reentrant lock", value)
        }
    }

    const_fn! {
        /// A lock with a name, for `Debug` and errors.
        pub const fn named(name: &'static str, value: T) -> Self {
            let owned = Owned { owner: 0, count: 0, waiters: List::new(), mark: Mark::NEW };
            Self { guarded: Guarded::shared(owned), name, value }
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
    #[track_caller]
    pub fn lock(&self) -> impl Future<Output = RLockGuard<'_, T>> {
        let site = Site::here();
        async move {
            self.enter(site, Hold::Scoped).await;
            self.guard()
        }
    }

    async fn enter(&self, site: Site, hold: Hold) {
        let wish = Wish::new(|| wanted(&self.guarded), self.name, site, hold);
        Waiting::new(Acquire { guarded: &self.guarded }).await;
        wish.taken();
    }

    /// Takes the lock if it is free or this task's own.
    #[doc(alias = "acquire_nowait")]
    #[track_caller]
    pub fn try_lock(&self) -> Option<RLockGuard<'_, T>> {
        let me = me();
        let count = self.guarded.look(|owned| owned.enter(me).then_some(owned.count))?;
        // One's own is held since it was taken first.
        if count == 1 {
            order::taken_at_once(|| number(&self.guarded), self.name, Site::here());
        }
        Some(self.guard())
    }

    /// Takes the lock, blocking this thread for at most `timeout`; `None` waits as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`Lock::lock_blocking`](crate::Lock::lock_blocking).
    #[track_caller]
    pub fn lock_blocking(&self, timeout: Option<Duration>) -> Result<RLockGuard<'_, T>, WaitError> {
        let wish = Wish::new(|| wanted(&self.guarded), self.name, Site::here(), Hold::Scoped);
        block(Acquire { guarded: &self.guarded }, timeout)?;
        wish.taken();
        Ok(self.guard())
    }

    /// Whether somebody holds the lock, at this moment.
    #[doc(alias = "locked")]
    pub fn is_locked(&self) -> bool {
        self.guarded.look(|owned| owned.owner != 0)
    }

    /// The name given to [`named`](RLock::named).
    pub fn name(&self) -> &'static str {
        self.name
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

/// The explicit form: no value and no guard. A task gives back what it has taken.
impl RLock<()> {
    /// Waits until the lock is free or this task's own, and takes it (once more) until [`release`](Self::release).
    ///
    /// The future stays on its thread, as a guard does: to a future that moves between threads, the lock would be that of
    /// whichever thread has polled it, and so of all others there.
    #[track_caller]
    pub fn acquire(&self) -> impl Future<Output = ()> {
        let site = Site::here();
        async move {
            let here = Here(PhantomData);
            self.enter(site, Hold::Scoped).await;
            here.end();
        }
    }

    /// Gives one hold back. A guard of [`lock`](Self::lock) does so by itself: do not do both.
    ///
    /// Mirrors `RLock.release`.
    ///
    /// # Errors
    ///
    /// [`NotOwned`] if the running task, or outside of tasks this thread, does not hold the lock.
    pub fn release(&self) -> Result<(), NotOwned> {
        if !self.is_mine() {
            return Err(NotOwned);
        }
        release(&self.guarded);
        Ok(())
    }
}

/// A future that has it while it waits is not `Send`.
struct Here(PhantomData<*const ()>);

impl Here {
    fn end(self) {}
}

/// What the lock is called in `order`.
fn number(guarded: &Guarded<Owned, Shared>) -> u64 {
    guarded.look(|owned| owned.mark.number())
}

/// As [`number`], and 0 where the lock is taken again: who has it never waits for it.
fn wanted(guarded: &Guarded<Owned, Shared>) -> u64 {
    let me = me();
    guarded.look(|owned| if owned.owner == me { 0 } else { owned.mark.number() })
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
    // 0 is no lock.
    order::released(|| guarded.look(|owned| if owned.count == 1 { owned.mark.number() } else { 0 }));
    guarded.with(|owned, wakes| {
        // Only an `RLock<()>` that was released once too often can be free here.
        owned.count = owned.count.saturating_sub(1);
        if owned.count == 0 {
            match owned.waiters.grant(0, wakes) {
                Some(()) => (owned.owner, owned.count) = (HANDED, 1),
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
    type Payload = ();
    type Output = ();
    type Found = ();

    const WAITS_FOR: &'static &'static str = &"a lock";

    fn guarded(&self) -> &Guarded<Owned, Shared> {
        self.guarded
    }

    fn list(owned: &mut Owned) -> &mut List<()> {
        &mut owned.waiters
    }

    fn look(&mut self, owned: &mut Owned, _: &mut Wakes) -> Now<()> {
        if owned.enter(me()) { Now::Ready(()) } else { Now::Wait }
    }

    fn found(&mut self, (): ()) {}

    fn payload(&mut self) {}

    fn granted(&mut self, _: u32, _: Option<()>) {
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
        out.field("name", &self.name);
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

/// Only who holds a reentrant lock can release it. Mirrors `RuntimeError: cannot release un-acquired lock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOwned;

impl fmt::Display for NotOwned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the lock is not held by who releases it: each `acquire` takes one `release`, by the same task",
        )
    }
}

impl std::error::Error for NotOwned {}
