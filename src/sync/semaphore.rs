//! So many at a time.

use std::{fmt, sync::Arc, time::Duration};

use super::waiters::{
    Guarded, List, Local, Mode, Now, Request, Shared, WaitStatistics, Waiting, Wakes, block,
};
use crate::WaitError;

/// A number of permits: so many tasks and threads at a time may do something.
///
/// Mirrors [`asyncio.Semaphore`](https://docs.python.org/3/library/asyncio-sync.html#asyncio.Semaphore) and
/// `threading.Semaphore` in one. Fair: first come, first served, also if the first wants many permits and the next few.
/// [`release`](Self::release) may add permits that were never taken; [`BoundedSemaphore`] refuses that.
///
/// A permit gives itself back when it is dropped. asyncio's explicit form is [`Permit::forget`] and `release`.
///
/// **Taking a free permit does not yield.** A task that does nothing else again and again keeps its loop busy:
/// [`yield_now`](crate::yield_now) now and then lets the others run.
///
/// # Examples
///
/// ```
/// use selkie::{Semaphore, gather, yield_now};
/// use std::{cell::Cell, rc::Rc};
///
/// selkie::run(async {
///     let gate = Rc::new(Semaphore::new(2));
///     let inside = Rc::new(Cell::new(0));
///     gather((0..10).map(|_| {
///         let (gate, inside) = (gate.clone(), inside.clone());
///         async move {
///             let _permit = gate.acquire().await;
///             inside.set(inside.get() + 1);
///             assert!(inside.get() <= 2);
///             yield_now().await;
///             inside.set(inside.get() - 1);
///         }
///     }))
///     .await;
/// });
/// ```
pub struct Semaphore<M: Mode = Shared> {
    guarded: Guarded<Permits, M>,
}

struct Permits {
    free: usize,
    /// There are never more free ones.
    bound: usize,
    /// How many permits each wants.
    waiters: List<usize>,
}

impl Permits {
    const fn new(free: usize, bound: usize) -> Self {
        Self { free, bound, waiters: List::new() }
    }

    /// Serves those who wait, in order, as many as there is room to wake; whether there may be more.
    fn serve(&mut self, wakes: &mut Wakes) -> bool {
        while let Some(&wanted) = self.waiters.peek() {
            if wanted > self.free {
                break;
            }
            if wakes.is_full() {
                return true;
            }
            self.free -= wanted;
            self.waiters.grant(0, wakes);
        }
        false
    }
}

impl Semaphore {
    const_fn! {
        /// A semaphore with so many permits.
        pub const fn new(permits: usize) -> Self {
            Self { guarded: Guarded::shared(Permits::new(permits, usize::MAX)) }
        }
    }
}

impl Semaphore<Local> {
    /// A semaphore for tasks of one thread, without atomics.
    pub const fn local(permits: usize) -> Self {
        Self { guarded: Guarded::local(Permits::new(permits, usize::MAX)) }
    }
}

impl<M: Mode> Semaphore<M> {
    /// Waits for a permit. At once, without yielding, if one is free and nobody waits.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue; a permit that was being handed over goes to the next.
    pub async fn acquire(&self) -> Permit<'_, M> {
        self.acquire_many(1).await
    }

    /// Waits for `permits` at once. Those who come later wait behind, even if they want fewer.
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_many(&self, permits: usize) -> Permit<'_, M> {
        Waiting::new(Acquire { guarded: &self.guarded, permits }).await;
        Permit { semaphore: self, permits }
    }

    /// As [`acquire`](Self::acquire), with a permit that keeps the semaphore alive itself and can be moved anywhere.
    pub async fn acquire_owned(self: Arc<Self>) -> OwnedPermit<M> {
        Waiting::new(Acquire { guarded: &self.guarded, permits: 1 }).await;
        OwnedPermit { semaphore: self }
    }

    /// A permit, if one is free and nobody waits.
    pub fn try_acquire(&self) -> Option<Permit<'_, M>> {
        self.guarded
            .look(|state| {
                let free = state.free > 0 && state.waiters.is_empty();
                state.free -= usize::from(free);
                free
            })
            .then(|| Permit { semaphore: self, permits: 1 })
    }

    /// Waits for a permit, blocking this thread for at most `timeout`; `None` waits as long as it takes.
    ///
    /// # Errors
    ///
    /// - [`WaitError::TimedOut`].
    /// - [`WaitError::WouldBlock`] if it would have to wait inside a task or on a page's main thread.
    pub fn acquire_blocking(&self, timeout: Option<Duration>) -> Result<Permit<'_, M>, WaitError> {
        block(Acquire { guarded: &self.guarded, permits: 1 }, timeout)?;
        Ok(Permit { semaphore: self, permits: 1 })
    }

    /// Adds `permits`; those who waited longest get them. Any thread may call it.
    ///
    /// Needed only for permits that were [forgotten](Permit::forget), or to let more in than at first. **Difference**: of 0 it
    /// does nothing, where that of `threading` raises `ValueError`.
    ///
    /// # Panics
    ///
    /// If there would be more than `usize::MAX`.
    #[track_caller]
    pub fn release(&self, permits: usize) {
        let enough = self.guarded.look(|state| {
            let free = state.free.checked_add(permits);
            state.free = free.unwrap_or(state.free);
            free.is_some()
        });
        assert!(enough, "a semaphore counts no further than `usize::MAX`");
        serve(&self.guarded);
    }

    /// Whether a newcomer would have to wait, at this moment.
    #[doc(alias = "locked")]
    pub fn is_locked(&self) -> bool {
        self.guarded.look(|state| state.free == 0 || !state.waiters.is_empty())
    }

    /// How many permits are free, at this moment.
    pub fn available(&self) -> usize {
        self.guarded.look(|state| state.free)
    }

    /// How many wait, and have waited.
    pub fn statistics(&self) -> WaitStatistics {
        self.guarded.look(|state| state.waiters.statistics())
    }
}

fn serve<M: Mode>(guarded: &Guarded<Permits, M>) {
    // A newcomer in between finds that others wait, and queues behind them.
    while guarded.with(Permits::serve) {}
}

struct Acquire<'a, M> {
    guarded: &'a Guarded<Permits, M>,
    permits: usize,
}

impl<M: Mode> Request for Acquire<'_, M> {
    type State = Permits;
    type Mode = M;
    type Payload = usize;
    type Output = ();
    type Found = ();

    const WAITS_FOR: &'static &'static str = &"a semaphore";

    fn guarded(&self) -> &Guarded<Permits, M> {
        self.guarded
    }

    fn list(state: &mut Permits) -> &mut List<usize> {
        &mut state.waiters
    }

    fn look(&mut self, state: &mut Permits, _: &mut Wakes) -> Now<()> {
        if !state.waiters.is_empty() || state.free < self.permits {
            return Now::Wait;
        }
        state.free -= self.permits;
        Now::Ready(())
    }

    fn found(&mut self, (): ()) {}

    fn payload(&mut self) -> usize {
        self.permits
    }

    fn granted(&mut self, _: u32, _: Option<usize>) {}

    fn unused(&mut self, _: u32) {
        give_back(self.guarded, self.permits);
    }

    /// It may have kept others waiting who want less.
    fn left(&mut self) {
        serve(self.guarded);
    }
}

/// What was taken comes back; never more than the bound, if somebody released it before.
fn give_back<M: Mode>(guarded: &Guarded<Permits, M>, permits: usize) {
    let more = guarded.with(|state, wakes| {
        state.free = state.free.saturating_add(permits).min(state.bound);
        state.serve(wakes)
    });
    if more {
        serve(guarded);
    }
}

impl<M: Mode> fmt::Debug for Semaphore<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available", &self.available())
            .field("waiting", &self.statistics().waiting)
            .finish()
    }
}

/// The right to be one of so many; dropping it gives it back to its [`Semaphore`].
#[must_use = "dropping it gives the permit back; `forget` keeps it taken"]
pub struct Permit<'a, M: Mode = Shared> {
    semaphore: &'a Semaphore<M>,
    permits: usize,
}

impl<M: Mode> Permit<'_, M> {
    /// Keeps the permits taken until somebody calls [`Semaphore::release`].
    pub fn forget(mut self) {
        self.permits = 0;
    }
}

impl<M: Mode> Drop for Permit<'_, M> {
    fn drop(&mut self) {
        if self.permits > 0 {
            give_back(&self.semaphore.guarded, self.permits);
        }
    }
}

impl<M: Mode> fmt::Debug for Permit<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("permits", &self.permits).finish()
    }
}

/// As [`Permit`], keeping the semaphore alive itself; from [`Semaphore::acquire_owned`].
#[must_use = "dropping it gives the permit back"]
pub struct OwnedPermit<M: Mode = Shared> {
    semaphore: Arc<Semaphore<M>>,
}

impl<M: Mode> Drop for OwnedPermit<M> {
    fn drop(&mut self) {
        give_back(&self.semaphore.guarded, 1);
    }
}

impl<M: Mode> fmt::Debug for OwnedPermit<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnedPermit")
    }
}

/// A [`Semaphore`] that never has more permits than at first.
///
/// Mirrors [`asyncio.BoundedSemaphore`](https://docs.python.org/3/library/asyncio-sync.html#asyncio.BoundedSemaphore).
pub struct BoundedSemaphore {
    semaphore: Semaphore,
}

impl BoundedSemaphore {
    const_fn! {
        /// A semaphore with so many permits.
        pub const fn new(permits: usize) -> Self {
            Self { semaphore: Semaphore { guarded: Guarded::shared(Permits::new(permits, permits)) } }
        }
    }

    /// As [`Semaphore::release`].
    ///
    /// # Errors
    ///
    /// [`OverReleased`] if more were given back than were taken; nothing has changed.
    pub fn release(&self, permits: usize) -> Result<(), OverReleased> {
        self.semaphore.guarded.look(|state| {
            if permits > state.bound - state.free {
                return Err(OverReleased);
            }
            state.free += permits;
            Ok(())
        })?;
        serve(&self.semaphore.guarded);
        Ok(())
    }

    /// As [`Semaphore::acquire`].
    pub async fn acquire(&self) -> Permit<'_> {
        self.semaphore.acquire().await
    }

    /// As [`Semaphore::try_acquire`].
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.semaphore.try_acquire()
    }

    /// As [`Semaphore::acquire_blocking`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn acquire_blocking(&self, timeout: Option<Duration>) -> Result<Permit<'_>, WaitError> {
        self.semaphore.acquire_blocking(timeout)
    }

    /// As [`Semaphore::is_locked`].
    #[doc(alias = "locked")]
    pub fn is_locked(&self) -> bool {
        self.semaphore.is_locked()
    }

    /// As [`Semaphore::available`].
    pub fn available(&self) -> usize {
        self.semaphore.available()
    }

    /// How many wait, and have waited.
    pub fn statistics(&self) -> WaitStatistics {
        self.semaphore.statistics()
    }
}

impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedSemaphore")
            .field("available", &self.available())
            .field("bound", &self.semaphore.guarded.look(|state| state.bound))
            .field("waiting", &self.statistics().waiting)
            .finish()
    }
}

/// More permits were given back than were taken. Mirrors `ValueError: BoundedSemaphore released too many times`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverReleased;

impl fmt::Display for OverReleased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more permits were given back than were taken: each `acquire` takes one `release`")
    }
}

impl std::error::Error for OverReleased {}
