//! Mutual exclusion.

use std::{
    cell::UnsafeCell,
    fmt,
    future::Future,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use super::{
    order::{self, Hold, Mark, Site, Wish},
    waiters::{Guarded, List, Local, Mode, Now, Request, Shared, WaitStatistics, Waiting, Wakes, block},
};
use crate::WaitError;

/// A value that one task or thread at a time may use.
///
/// Mirrors [`asyncio.Lock`](https://docs.python.org/3/library/asyncio-sync.html#asyncio.Lock) and `threading.Lock` in one:
/// tasks of any loops, futures of other executors and plain threads may share it, in any mix (share it by reference, in a
/// `static` or in an [`Arc`]). It holds the value it protects, as Rust's locks do; [`Lock<()>`](#impl-Lock<(),+M>) has
/// asyncio's explicit `acquire` and `release`.
///
/// - **Fair.** First come, first served, and nobody overtakes: a release hands the lock over to who has waited longest.
/// - **Not reentrant.** A task that locks twice waits for itself; see [`RLock`](crate::RLock).
/// - **Taking a free lock does not yield.** A task that does nothing but take a lock again and again keeps its loop busy:
///   [`yield_now`](crate::yield_now) now and then lets the others run.
/// - A panic while it is held just releases it: there is no poisoning.
/// - **Debug builds watch the order** in which locks are taken. The first time that two orders are seen which could make tasks
///   wait for each other, the loop's exception handler is told of the locks, the tasks and the places, even if no deadlock
///   happened. Guards that may be released by somebody else, those of [`lock_owned`](Self::lock_owned) and
///   [`acquire`](Lock::acquire), say nothing of an order, and neither does [`try_lock`](Self::try_lock) of what it takes, as it
///   never waits. A task counts as one, also if it takes locks in several futures at once. [`lock_all`](crate::lock_all) takes several in one order. Release builds pay nothing for this.
///
/// **Difference**: asyncio's belongs to the loop where it was first waited for.
///
/// # Examples
///
/// ```
/// use selkie::{Lock, spawn, yield_now};
/// use std::rc::Rc;
///
/// selkie::run(async {
///     let total = Rc::new(Lock::new(0));
///     let tasks = [1, 2].map(|n| {
///         let total = total.clone();
///         spawn(async move {
///             let mut total = total.lock().await;
///             let seen = *total;
///             yield_now().await; // nobody else gets in here meanwhile
///             *total = seen + n;
///         })
///     });
///     for task in tasks {
///         task.await.unwrap();
///     }
///     assert_eq!(*total.lock().await, 3);
/// });
/// ```
#[doc(alias = "Mutex")]
pub struct Lock<T: ?Sized, M: Mode = Shared> {
    guarded: Guarded<Held, M>,
    name: &'static str,
    value: UnsafeCell<T>,
}

/// The state: the value is somebody's, and who is next.
pub(super) struct Held {
    locked: bool,
    /// Its place in the order of [`lock_all`](super::lock_all()); 0 before it has one.
    place: u32,
    waiters: List<()>,
    mark: Mark,
}

impl Held {
    const NEW: Self = Self { locked: false, place: 0, waiters: List::new(), mark: Mark::NEW };
}

// SAFETY: the value is only reached through guards, of which one exists at a time; a guard may be made and dropped in another
// thread than the last, so the value must be `Send`.
unsafe impl<T: ?Sized + Send, M: Mode + Sync> Sync for Lock<T, M> {}

impl<T> Lock<T> {
    const_fn! {
        /// A lock that nobody holds.
        pub const fn new(value: T) -> Self {
            Self::named("a lock", value)
        }
    }

    const_fn! {
        /// A lock with a name, for `Debug` and errors.
        pub const fn named(name: &'static str, value: T) -> Self {
            Self { guarded: Guarded::shared(Held::NEW), name, value: UnsafeCell::new(value) }
        }
    }
}

impl<T> Lock<T, Local> {
    /// A lock for tasks of one thread, without atomics. [`local::Lock`](crate::local::Lock) is its type.
    pub const fn local(value: T) -> Self {
        Self { guarded: Guarded::local(Held::NEW), name: "a lock", value: UnsafeCell::new(value) }
    }
}

impl<T, M: Mode> Lock<T, M> {
    /// The value; nobody can hold the lock any more.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized, M: Mode> Lock<T, M> {
    /// Waits until the lock is free, and takes it. At once, without yielding, if it is.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue; if the lock was being handed over, the next one gets it.
    #[doc(alias = "acquire")]
    #[track_caller]
    pub fn lock(&self) -> impl Future<Output = LockGuard<'_, T, M>> {
        self.lock_at(Site::here())
    }

    /// As [`lock`](Self::lock), on behalf of code at `site`.
    pub(super) async fn lock_at(&self, site: Site) -> LockGuard<'_, T, M> {
        let wish = Wish::new(|| number(&self.guarded), self.name, site, Hold::Scoped);
        if !take(&self.guarded) {
            Waiting::after_look(Acquire { guarded: &self.guarded }).await;
        }
        wish.taken();
        LockGuard { lock: self, marker: PhantomData }
    }

    /// Takes the lock if it is free.
    #[doc(alias = "acquire_nowait")]
    #[track_caller]
    pub fn try_lock(&self) -> Option<LockGuard<'_, T, M>> {
        if !take(&self.guarded) {
            return None;
        }
        order::taken_at_once(|| number(&self.guarded), self.name, Site::here());
        Some(LockGuard { lock: self, marker: PhantomData })
    }

    /// Takes the lock, blocking this thread for at most `timeout`; `None` waits as long as it takes.
    ///
    /// # Errors
    ///
    /// - [`WaitError::TimedOut`].
    /// - [`WaitError::WouldBlock`] if it would have to wait on a thread that must not block: inside a task, or on a page's
    ///   main thread. Await [`lock`](Self::lock) there.
    #[track_caller]
    pub fn lock_blocking(&self, timeout: Option<Duration>) -> Result<LockGuard<'_, T, M>, WaitError> {
        self.lock_blocking_at(Site::here(), timeout)
    }

    pub(super) fn lock_blocking_at(
        &self,
        site: Site,
        timeout: Option<Duration>,
    ) -> Result<LockGuard<'_, T, M>, WaitError> {
        let wish = Wish::new(|| number(&self.guarded), self.name, site, Hold::Scoped);
        block(Acquire { guarded: &self.guarded }, timeout)?;
        wish.taken();
        Ok(LockGuard { lock: self, marker: PhantomData })
    }

    /// As [`lock`](Self::lock), with a guard that keeps the lock alive itself and can be moved anywhere.
    #[track_caller]
    pub fn lock_owned(self: Arc<Self>) -> impl Future<Output = OwnedLockGuard<T, M>> {
        let site = Site::here();
        async move {
            take_in_turn(&self.guarded, self.name, site, Hold::Loose).await;
            OwnedLockGuard { lock: self, marker: PhantomData }
        }
    }

    /// Whether somebody holds the lock, at this moment.
    #[doc(alias = "locked")]
    pub fn is_locked(&self) -> bool {
        self.guarded.look(|held| held.locked)
    }

    /// The name given to [`named`](Lock::named).
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn raw(&self) -> *const Guarded<Held, M> {
        &self.guarded
    }

    pub(super) fn value_ptr(&self) -> *mut T {
        self.value.get()
    }

    /// The value; the exclusive borrow shows that nobody holds the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// How many wait, and have waited.
    pub fn statistics(&self) -> WaitStatistics {
        self.guarded.look(|held| held.waiters.statistics())
    }
}

/// asyncio's own form: no value, no guard, and whoever likes may release.
impl<M: Mode> Lock<(), M> {
    /// Waits until the lock is free, and takes it until [`release`](Self::release).
    #[track_caller]
    pub fn acquire(&self) -> impl Future<Output = ()> {
        take_in_turn(&self.guarded, self.name, Site::here(), Hold::Loose)
    }

    /// Gives the lock up; any task or thread may.
    ///
    /// Mirrors `Lock.release`. A guard of [`lock`](Self::lock) releases by itself: do not do both.
    ///
    /// # Errors
    ///
    /// [`NotLocked`] if nobody holds it.
    pub fn release(&self) -> Result<(), NotLocked> {
        release(&self.guarded)
    }
}

/// As `lock`, without a guard.
pub(super) async fn take_in_turn<M: Mode>(
    guarded: &Guarded<Held, M>,
    name: &'static str,
    site: Site,
    hold: Hold,
) {
    let wish = Wish::new(|| number(guarded), name, site, hold);
    Waiting::new(Acquire { guarded }).await;
    wish.taken();
}

/// What the lock is called in `order`.
fn number<M: Mode>(guarded: &Guarded<Held, M>) -> u64 {
    guarded.look(|held| held.mark.number())
}

/// Where the lock comes in the order of [`lock_all`](super::lock_all()): behind all that were asked for before.
pub(super) fn place(guarded: &Guarded<Held, Shared>) -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    guarded.look(|held| {
        while held.place == 0 {
            held.place = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        held.place
    })
}

/// Undoes [`take_in_turn`].
pub(super) fn untake<M: Mode>(guarded: &Guarded<Held, M>) {
    let _ = release(guarded);
}

fn take<M: Mode>(guarded: &Guarded<Held, M>) -> bool {
    guarded.look(|held| !std::mem::replace(&mut held.locked, true))
}

/// Hands the lock to the next, or frees it. It stays locked while it is handed over, so nobody can overtake.
#[inline]
fn release<M: Mode>(guarded: &Guarded<Held, M>) -> Result<(), NotLocked> {
    order::released(|| number(guarded));
    guarded.with(|held, wakes| {
        if !held.locked {
            return Err(NotLocked);
        }
        if held.waiters.grant(0, wakes).is_none() {
            held.locked = false;
        }
        Ok(())
    })
}

struct Acquire<'a, M> {
    guarded: &'a Guarded<Held, M>,
}

impl<M: Mode> Request for Acquire<'_, M> {
    type State = Held;
    type Mode = M;
    type Payload = ();
    type Output = ();
    type Found = ();

    const WAITS_FOR: &'static &'static str = &"a lock";

    fn guarded(&self) -> &Guarded<Held, M> {
        self.guarded
    }

    fn list(held: &mut Held) -> &mut List<()> {
        &mut held.waiters
    }

    #[inline]
    fn look(&mut self, held: &mut Held, _: &mut Wakes) -> Now<()> {
        if std::mem::replace(&mut held.locked, true) { Now::Wait } else { Now::Ready(()) }
    }

    fn found(&mut self, (): ()) {}

    fn payload(&mut self) {}

    fn granted(&mut self, _: u32, _: Option<()>) {}

    fn unused(&mut self, _: u32) {
        // It was handed over, so it is locked, unless somebody released what was not theirs.
        let _ = release(self.guarded);
    }
}

impl<T: ?Sized + fmt::Debug, M: Mode> fmt::Debug for Lock<T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Lock");
        out.field("name", &self.name);
        match self.try_lock() {
            Some(guard) => out.field("value", &&*guard),
            None => out.field("value", &format_args!("<locked>")),
        };
        out.field("waiting", &self.statistics().waiting).finish()
    }
}

impl<T: Default> Default for Lock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// The right to use what a [`Lock`] protects; dropping it releases the lock.
#[must_use = "dropping it releases the lock"]
pub struct LockGuard<'a, T: ?Sized, M: Mode = Shared> {
    lock: &'a Lock<T, M>,
    marker: PhantomData<&'a mut T>,
}

impl<'a, T: ?Sized, M: Mode> LockGuard<'a, T, M> {
    /// The lock that this is a guard of.
    pub fn of(guard: &Self) -> &'a Lock<T, M> {
        guard.lock
    }
}

impl<T: ?Sized, M: Mode> Deref for LockGuard<'_, T, M> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: one guard exists at a time. (`release` of a `Lock<()>` can make two, but of no value.)
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized, M: Mode> DerefMut for LockGuard<'_, T, M> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized, M: Mode> Drop for LockGuard<'_, T, M> {
    #[inline]
    fn drop(&mut self) {
        // Only a `Lock<()>` that somebody released can be free here.
        let _ = release(&self.lock.guarded);
    }
}

impl<T: ?Sized + fmt::Debug, M: Mode> fmt::Debug for LockGuard<'_, T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// As [`LockGuard`], keeping the lock alive itself; from [`Lock::lock_owned`].
#[must_use = "dropping it releases the lock"]
pub struct OwnedLockGuard<T: ?Sized, M: Mode = Shared> {
    lock: Arc<Lock<T, M>>,
    marker: PhantomData<*const T>,
}

// SAFETY: it is a guard and an `Arc` of the lock, both of which cross threads if the value does; the marker keeps it from being
// shared with values that must not be.
unsafe impl<T: ?Sized + Send, M: Mode + Send + Sync> Send for OwnedLockGuard<T, M> {}
// SAFETY: a shared guard gives out `&T` only.
unsafe impl<T: ?Sized + Send + Sync, M: Mode + Send + Sync> Sync for OwnedLockGuard<T, M> {}

impl<T: ?Sized, M: Mode> Deref for OwnedLockGuard<T, M> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: as in `LockGuard`.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized, M: Mode> DerefMut for OwnedLockGuard<T, M> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `LockGuard`.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized, M: Mode> Drop for OwnedLockGuard<T, M> {
    fn drop(&mut self) {
        let _ = release(&self.lock.guarded);
    }
}

impl<T: ?Sized + fmt::Debug, M: Mode> fmt::Debug for OwnedLockGuard<T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// A lock that nobody holds cannot be released. Mirrors `RuntimeError: Lock is not acquired`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLocked;

impl fmt::Display for NotLocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody holds the lock: each `acquire` takes one `release`")
    }
}

impl std::error::Error for NotLocked {}
