//! Jobs that borrow from whoever waits for them.

#![expect(
    clippy::disallowed_types,
    reason = "held for a few instructions and never with code of users; taken by `os::lock`, which a page may call"
)]

use std::{
    collections::VecDeque,
    fmt,
    marker::PhantomData,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use atomic_waker::AtomicWaker;

use super::{Inner, PoolError, WORKER};
use crate::{
    RemoteTask,
    error::contain,
    os,
    submit::{Job, Slot},
};

/// Where jobs that borrow are submitted; from [`ThreadPool::scope`](crate::ThreadPool::scope).
///
/// What a job borrows has to live longer than the scope, not than the call that submits it:
///
/// ```compile_fail,E0373
/// let pool = selkie::ThreadPool::new(1).unwrap();
/// pool.scope(|scope| {
///     let local = String::new();
///     scope.submit(|| local.len()).unwrap().detach();
/// });
/// ```
pub struct PoolScope<'scope, 'env: 'scope> {
    pool: &'env Arc<Inner>,
    open: Arc<Open>,
    /// Whether the thread that waits at the end runs jobs itself. Any other would be one more than the pool may have.
    helps: bool,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// The jobs of a scope that have not gone.
struct Open {
    count: AtomicUsize,
    waiter: AtomicWaker,
    /// What a caller that is a worker itself may have to run.
    slots: Mutex<VecDeque<(Arc<dyn Slot>, Option<Job>)>>,
}

struct OpenJob(Arc<Open>);

impl Drop for OpenJob {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.waiter.wake();
        }
    }
}

impl<'scope, 'env> PoolScope<'scope, 'env> {
    pub(super) fn new(pool: &'env Arc<Inner>) -> Self {
        Self {
            pool,
            open: Arc::new(Open {
                count: AtomicUsize::new(0),
                waiter: AtomicWaker::new(),
                slots: Mutex::default(),
            }),
            helps: pool.shared.simulated.is_some() || WORKER.get() == pool.shared.id,
            scope: PhantomData,
            env: PhantomData,
        }
    }

    /// Queues `f`, which may borrow what lives longer than the scope. As [`ThreadPool::submit`](crate::ThreadPool::submit).
    ///
    /// Waiting for the task inside the scope may never end in a job of this very pool, and is refused in a simulation; leaving
    /// the scope ends.
    ///
    /// # Errors
    ///
    /// [`PoolError`]; `f` is dropped.
    pub fn submit<R: Send + 'scope>(
        &'scope self,
        f: impl FnOnce() -> R + Send + 'scope,
    ) -> Result<RemoteTask<R>, PoolError> {
        self.open.count.fetch_add(1, Ordering::Relaxed);
        // SAFETY: `finish` does not return before the guard is gone, and `scope` calls it before what is borrowed ends.
        let (job, task) = unsafe { Job::borrowing(f, OpenJob(self.open.clone())) };
        let shared = &self.pool.shared;
        let slot = job.slot();
        if let Some(by) = shared.simulated {
            shared.check()?;
            self.open.slots().extend(slot.map(|slot| (slot, Some(job))));
            return Ok(task.simulated(by));
        }
        self.pool.submit(job)?;
        // Whichever thread this is: nobody else may be there to run it.
        if self.helps {
            self.open.slots().extend(slot.map(|slot| (slot, None)));
            // They begin in their order, mostly: a scope that goes on for long would only gather those that others have run.
            while let Some(begun) = self.open.pop_begun() {
                drop(begun);
            }
        }
        Ok(task)
    }

    /// Returns when nothing of the jobs is left.
    ///
    /// It has to, for they borrow: so neither a panic nor a trap of what runs here passes by.
    pub(super) fn finish(&self) {
        let next = || if self.helps { self.open.slots().pop_front() } else { None };
        let mut trapped = false;
        while let Some((slot, job)) = next() {
            let returned = contain(|| {
                let verdict = self.pool.shared.verdict();
                slot.run(verdict);
            });
            if !returned && !os::may_wait() {
                // In a simulation: no risk is noted on this thread, so this job counts still.
                trapped = true;
                drop(OpenJob(self.open.clone()));
            }
            drop(job);
        }
        let open = self.open.clone();
        while self.open.count.load(Ordering::Acquire) > 0 {
            // A host that refuses was refused before `f`, so this goes round only for what a canceller is dropping just now.
            let _ = os::block(None, None, &mut |waker| {
                open.waiter.register(waker);
                open.count.load(Ordering::Acquire) == 0
            });
        }
        // A job may have submitted more, which others have run.
        self.open.slots().clear();
        if trapped {
            os::trap();
        }
    }
}

impl Open {
    fn slots(&self) -> MutexGuard<'_, VecDeque<(Arc<dyn Slot>, Option<Job>)>> {
        os::lock(&self.slots)
    }

    /// The first one, if somebody runs or has run it.
    fn pop_begun(&self) -> Option<(Arc<dyn Slot>, Option<Job>)> {
        let mut slots = self.slots();
        if slots.front()?.0.is_taken() { slots.pop_front() } else { None }
    }
}

impl fmt::Debug for PoolScope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolScope")
            .field("pool", &self.pool.shared.name)
            .field("jobs", &self.open.count.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}
