//! Waiting until what a lock protects has changed.

use std::{fmt, future::Future, pin::pin, time::Duration};

use super::{
    lock::LockGuard,
    order::Site,
    waiters::{Guarded, List, Local, Mode, Now, Request, Shared, WaitStatistics, Waiting, Wakes, block_on},
};
use crate::WaitError;

/// Lets tasks and threads that hold a [`Lock`](crate::Lock) wait for a change of what it protects.
///
/// Mirrors [`asyncio.Condition`](https://docs.python.org/3/library/asyncio-sync.html#asyncio.Condition) and
/// `threading.Condition` in one, in the shape of [`std::sync::Condvar`]: several conditions may share a lock.
///
/// - A notification is not kept: if nobody waits it is lost. So look at the value first, or use [`wait_for`](Self::wait_for).
/// - [`wait`](Self::wait) takes the guard and gives it back. **Difference**: waiting without the lock is not an error at run
///   time, it does not compile; and a wait that was cancelled has given the lock up, which the types know as well, so there
///   is nothing to take it again for.
/// - A waiter that is cancelled after it was notified hands the notification to another, so a waiter may be woken for
///   nothing.
/// - **Difference**: [`notify`](Self::notify) is allowed without the lock.
///
/// # Examples
///
/// ```
/// use selkie::{Condition, Lock, spawn};
/// use std::rc::Rc;
///
/// selkie::run(async {
///     let shared = Rc::new((Lock::new(false), Condition::new()));
///     let seeker = shared.clone();
///     let seeker = spawn(async move {
///         let (hidden, changed) = &*seeker;
///         let _hidden = changed.wait_for(hidden.lock().await, |hidden| *hidden).await;
///         "found you"
///     });
///     let (hidden, changed) = &*shared;
///     *hidden.lock().await = true;
///     changed.notify(1);
///     assert_eq!(seeker.await.unwrap(), "found you");
/// });
/// ```
#[doc(alias = "Condvar")]
pub struct Condition<M: Mode = Shared> {
    guarded: Guarded<List<()>, M>,
}

/// One of those whom `notify` meant: hands it on when it cannot use it.
const ONE: u32 = 0;
/// One of all.
const ALL: u32 = 1;

impl Condition {
    const_fn! {
        /// A condition that nobody waits for.
        pub const fn new() -> Self {
            Self { guarded: Guarded::shared(List::new()) }
        }
    }
}

impl Condition<Local> {
    /// A condition for tasks of one thread, without atomics.
    pub const fn local() -> Self {
        Self { guarded: Guarded::local(List::new()) }
    }
}

impl<M: Mode> Condition<M> {
    /// Releases the lock, waits for a notification, and takes the lock again.
    ///
    /// The lock is released when the future is first polled, in one step with the start of the wait: no notification is
    /// missed in between. Several waiters get the lock back one after the other, in the order of their turns: those of one loop and
    /// one [`Priority`](crate::Priority) in the order in which they were notified.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the lock released, and hands a notification that had come to another waiter.
    #[track_caller]
    pub fn wait<'a, T: ?Sized, N: Mode>(
        &self,
        guard: LockGuard<'a, T, N>,
    ) -> impl Future<Output = LockGuard<'a, T, N>> {
        self.wait_at(Site::here(), guard)
    }

    async fn wait_at<'a, T: ?Sized, N: Mode>(
        &self,
        site: Site,
        guard: LockGuard<'a, T, N>,
    ) -> LockGuard<'a, T, N> {
        let lock = LockGuard::of(&guard);
        let mut notified = pin!(Waiting::new(Notified { guarded: &self.guarded }));
        let mut guard = Some(guard);
        let outcome = std::future::poll_fn(|cx| {
            let polled = notified.as_mut().poll(cx);
            // In the list since the first poll: from now on a notification is seen.
            drop(guard.take());
            polled
        })
        .await;
        let mut unused = Unused { guarded: &self.guarded, armed: outcome == ONE };
        let guard = lock.lock_at(site).await;
        unused.armed = false;
        guard
    }

    /// Waits until `predicate` answers `true`: asked at once, and after every notification, with the lock held.
    ///
    /// # Cancel safety
    ///
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn wait_for<'a, T: ?Sized, N: Mode>(
        &self,
        mut guard: LockGuard<'a, T, N>,
        mut predicate: impl FnMut(&mut T) -> bool,
    ) -> impl Future<Output = LockGuard<'a, T, N>> {
        let site = Site::here();
        async move {
            while !predicate(&mut guard) {
                guard = self.wait_at(site, guard).await;
            }
            guard
        }
    }

    /// As [`wait`](Self::wait), blocking this thread for at most `timeout` and for as long as it takes to get the lock back.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`], or [`WaitError::WouldBlock`] inside a task or on a page's main thread. Either comes with the
    /// guard; in the second case the lock was not released.
    #[track_caller]
    pub fn wait_blocking<'a, T: ?Sized, N: Mode>(
        &self,
        guard: LockGuard<'a, T, N>,
        timeout: Option<Duration>,
    ) -> (LockGuard<'a, T, N>, Result<(), WaitError>) {
        let site = Site::here();
        let lock = LockGuard::of(&guard);
        let mut guard = Some(guard);
        let mut notified = pin!(Waiting::new(Notified { guarded: &self.guarded }));
        let result = block_on(&mut notified, timeout, || drop(guard.take()));
        let guard = guard.unwrap_or_else(|| {
            lock.lock_blocking_at(site, None).expect("a thread that has just been blocked may block")
        });
        (guard, result.map(drop).map_err(|not_now| not_now.error))
    }

    /// Wakes at most `n` of those who wait, in the order in which they came. Any thread may call it, also without the lock.
    pub fn notify(&self, n: usize) {
        let mut left = n;
        let mut cutoff = None;
        while self.guarded.with(|waiters, wakes| {
            let cutoff = *cutoff.get_or_insert(waiters.cutoff());
            while left > 0 && waiters.first_is_before(cutoff) {
                if wakes.is_full() {
                    return true;
                }
                waiters.grant(ONE, wakes);
                left -= 1;
            }
            false
        }) {}
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) {
        let mut cutoff = None;
        while self.guarded.with(|waiters, wakes| {
            let cutoff = *cutoff.get_or_insert(waiters.cutoff());
            waiters.refuse_before(cutoff, ALL, wakes)
        }) {}
    }

    /// How many wait, and have waited.
    pub fn statistics(&self) -> WaitStatistics {
        self.guarded.look(|waiters| waiters.statistics())
    }
}

struct Notified<'a, M> {
    guarded: &'a Guarded<List<()>, M>,
}

impl<M: Mode> Request for Notified<'_, M> {
    type State = List<()>;
    type Mode = M;
    type Payload = ();
    type Output = u32;
    type Found = u32;

    const WAITS_FOR: &'static &'static str = &"a condition";

    fn guarded(&self) -> &Guarded<List<()>, M> {
        self.guarded
    }

    fn list(waiters: &mut List<()>) -> &mut List<()> {
        waiters
    }

    fn look(&mut self, _: &mut List<()>, _: &mut Wakes) -> Now<u32> {
        Now::Wait
    }

    fn found(&mut self, found: u32) -> u32 {
        found
    }

    fn payload(&mut self) {}

    fn granted(&mut self, outcome: u32, _: Option<()>) -> u32 {
        outcome
    }

    fn unused(&mut self, outcome: u32) {
        if outcome == ONE {
            pass_on(self.guarded);
        }
    }
}

/// A notification whose waiter was dropped goes to the next.
fn pass_on<M: Mode>(guarded: &Guarded<List<()>, M>) {
    guarded.with(|waiters, wakes| waiters.grant(ONE, wakes));
}

/// A notified waiter that is dropped while it waits for the lock.
struct Unused<'a, M: Mode> {
    guarded: &'a Guarded<List<()>, M>,
    armed: bool,
}

impl<M: Mode> Drop for Unused<'_, M> {
    fn drop(&mut self) {
        if self.armed {
            pass_on(self.guarded);
        }
    }
}

impl Default for Condition {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Mode> fmt::Debug for Condition<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").field("waiting", &self.statistics().waiting).finish()
    }
}
