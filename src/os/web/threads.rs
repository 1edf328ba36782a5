//! The web with threads: Workers of this program over shared memory.

use std::{
    collections::BTreeMap,
    future::Future,
    num::NonZeroUsize,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use selkie_platform::Unavailable;
use selkie_web::{NoWait, Refused};
pub(crate) use selkie_web::{is_member as may_wait, keep, poll_up, thread_name};

use crate::{
    PoolError, RemoteTask, WaitError,
    executor::{Body, Load},
    pool::{self, PoolJob},
    submit::Job,
};

/// Whether a thread may go alone: a Worker can be terminated.
pub(crate) const LOSES_THREADS: bool = true;

/// Blocks until `poll` answers `true`. `edge` is this thread and another one that has to do something for it, by their numbers.
pub(crate) fn block(
    edge: Option<[u32; 2]>,
    timeout: Option<Duration>,
    poll: &mut dyn FnMut(&Waker) -> bool,
) -> Result<(), WaitError> {
    selkie_web::block(edge, timeout, poll).map_err(wait_error)
}

fn wait_error(error: NoWait) -> WaitError {
    match error {
        NoWait::TimedOut => WaitError::TimedOut,
        NoWait::WouldDeadlock => WaitError::WouldDeadlock,
        NoWait::WouldBlock => WaitError::WouldBlock,
    }
}

/// A page spins for it: to wait would trap there.
#[expect(clippy::disallowed_types, reason = "never waited for")]
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    selkie_web::lock(mutex)
}

/// The threads of a [`ThreadPool`](crate::ThreadPool).
pub(crate) struct Pool(selkie_web::Pool<PoolJob>);

impl selkie_web::Run for PoolJob {
    fn run(self) {
        PoolJob::run(self);
    }

    fn ended() {
        pool::left();
    }
}

impl Pool {
    pub(crate) fn new(
        max: NonZeroUsize,
        idle: Duration,
        _spin: Duration,
        owner: &Arc<pool::Shared>,
    ) -> Result<Self, Unavailable> {
        Ok(Self(selkie_web::Pool::new(max, idle, owner.name())?))
    }

    /// Whether it took the job, and the count with it; it does not after a shutdown.
    pub(crate) fn submit(&self, job: Job, counted: pool::Uncount<'_>) -> Result<bool, Unavailable> {
        let job = PoolJob::new(job, counted.0);
        // The job's own, also where it is refused and dropped.
        std::mem::forget(counted);
        match self.0.submit(job) {
            Ok(()) => Ok(true),
            Err(Refused::ShutDown) => Ok(false),
            Err(Refused::Unavailable(error)) => Err(error),
        }
    }

    pub(crate) fn shutdown(&self) {
        self.0.shutdown();
    }

    /// Runs those that have not begun, or drops them.
    pub(crate) fn shutdown_now(&self, runs: bool, _: &Arc<pool::Shared>) {
        for job in self.0.shutdown_now() {
            if runs {
                job.run();
            }
        }
    }

    pub(crate) fn join(&self, timeout: Option<Duration>) -> Result<(), WaitError> {
        self.0.join(timeout).map_err(wait_error)
    }

    pub(crate) fn threads(&self) -> usize {
        self.0.threads()
    }
}

/// The threads of an [`Executor`](crate::Executor).
///
/// Each time a future is due is a job of a pool. The tasks are those of `async-task`; the queue is ours, because that of
/// `async-executor` wakes its threads under a lock of the standard library, for which a page must not wait.
pub(crate) struct Workers {
    pool: Arc<selkie_web::Pool<Due>>,
    threads: usize,
    alive: Arc<Alive>,
    load: Arc<Load>,
}

/// The futures that have not ended.
#[derive(Default)]
#[expect(clippy::disallowed_types, reason = "taken by `lock` only")]
struct Alive(std::sync::Mutex<Wakers>);

#[derive(Default)]
struct Wakers {
    last: u64,
    by_number: BTreeMap<u64, Waker>,
    /// The executor is.
    gone: bool,
}

/// A processor is idle when nothing is due; its Worker is free for others after so long.
const IDLE: Duration = Duration::from_secs(2);

impl Workers {
    /// One thread for each processor, if no number is given.
    pub(crate) fn new(threads: Option<NonZeroUsize>, name: &str) -> Result<Self, Unavailable> {
        let processors = selkie_web::processors()?;
        let threads = threads.or(NonZeroUsize::new(processors)).unwrap_or(NonZeroUsize::MIN);
        let pool = Arc::new(selkie_web::Pool::new(threads, IDLE, name)?);
        Ok(Self { pool, threads: threads.get(), alive: Arc::default(), load: Arc::default() })
    }

    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    /// The load, for as long as one likes.
    pub(crate) fn lease(&self) -> Arc<Load> {
        self.load.clone()
    }

    pub(crate) fn spawn<F>(&self, future: F) -> Result<RemoteTask<F::Output>, PoolError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (body, shared) = Body::new(future, self.load.clone()).ok_or(PoolError::ShutDown)?;
        self.run(body);
        Ok(RemoteTask::new(shared))
    }

    fn run(&self, future: impl Future<Output = ()> + Send + 'static) {
        let alive = self.alive.clone();
        let number = {
            let mut alive = lock(&alive.0);
            alive.last += 1;
            alive.last
        };
        let future = Living { future: Box::pin(future), alive, number };
        let pool = Arc::downgrade(&self.pool);
        let schedule = move |runnable: async_task::Runnable| {
            // A pool that is gone, or refuses, drops the future.
            if let Some(pool) = pool.upgrade() {
                let _ = pool.submit(Due(runnable));
            }
        };
        let (runnable, task) = async_task::spawn(future, schedule);
        task.detach();
        let waker = runnable.waker();
        lock(&self.alive.0).by_number.insert(number, waker);
        runnable.schedule();
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        drop(self.pool.shutdown_now());
        let wakers = {
            let mut alive = lock(&self.alive.0);
            alive.gone = true;
            std::mem::take(&mut alive.by_number)
        };
        // Each is scheduled, refused, and so dropped: at once, or after the poll that is under way. One that a thread has taken
        // out of the queue and not begun to poll is scheduled already, and sees the mark.
        wakers.into_values().for_each(Waker::wake);
    }
}

/// A future whose next poll is due.
struct Due(async_task::Runnable);

impl selkie_web::Run for Due {
    fn run(self) {
        self.0.run();
    }
}

/// A future that is in the list until it is gone.
struct Living<F> {
    future: Pin<Box<F>>,
    alive: Arc<Alive>,
    number: u64,
}

impl<F: Future<Output = ()>> Future for Living<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Under the lock: a poll that comes before the mark is under way when the wakers are woken.
        let gone = lock(&self.alive.0).gone;
        if gone { Poll::Ready(()) } else { self.future.as_mut().poll(cx) }
    }
}

impl<F> Drop for Living<F> {
    fn drop(&mut self) {
        let waker = lock(&self.alive.0).by_number.remove(&self.number);
        drop(waker);
    }
}
