//! Pools of threads for blocking work, owned by whoever made them.
//!
//! # Two kinds
//!
//! A pool that is made inside a simulated loop belongs to that world: each submit asks the world to run *some* job of the
//! pool at a moment that the world chooses, and that picks one of the first `n` that wait, as `n` threads would. Any other
//! pool has threads of the host.
//!
//! # Who drops a job
//!
//! A job is a [`Slot`](crate::submit::Slot), which the queue, its [`RemoteTask`] and a scope may hold at once; whoever
//! empties it first has the job. What is in a queue is counted until it is gone, by a [`Census`]: that is what a shutdown
//! waits for.

#![expect(
    clippy::disallowed_types,
    reason = "held for a few instructions and never with code of users; taken by `os::lock`, which a page may call"
)]

mod builder;
mod map;
mod scope;

use std::{
    cell::Cell,
    collections::VecDeque,
    error::Error,
    fmt,
    future::Future,
    mem,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use selkie_platform::{Debt, Platform, Unavailable};

use crate::{
    RemoteTask, WaitError,
    census::Census,
    error::{JoinError, discard, panic_message},
    os,
    remote::{Producer, channel},
    scheduler::{ThreadNumber, with_current},
    submit::Job,
    testing,
};

pub use builder::PoolBuilder;
pub(crate) use map::Ahead;
pub use map::PoolMap;
pub use scope::PoolScope;

/// Threads of your own for blocking work, beside the shared ones of [`to_thread`](crate::to_thread).
///
/// Threads start when a job finds none idle, never more than the maximum, and end when they were idle for some time (10
/// seconds unless [set](PoolBuilder::idle_limit)). Jobs start first in, first out. Mirrors
/// [`concurrent.futures.ThreadPoolExecutor`](https://docs.python.org/3/library/concurrent.futures.html#threadpoolexecutor).
///
/// Cheap to clone; clones are the same pool. Any thread may submit. When the last clone is dropped the pool shuts down as by
/// [`shutdown`](Self::shutdown), and nobody waits.
///
/// A job that waits for another job of its own pool waits for ever when all the pool's threads do so.
///
/// Made inside a loop of [`testing::Sim`](crate::testing::Sim) the pool belongs to that world: no thread is used, jobs run
/// one at a time on the stack of the simulation, at moments that the seed chooses.
///
/// # Platform-specific
///
/// - **Web:** in a build with threads, in an isolated page, its threads are Workers, without JavaScript. Elsewhere making a pool
///   is an [`Unavailable`] error, outside of a simulation. A page must not wait: `join` and `scope` are
///   [`WaitError::WouldBlock`] there; await `shutdown()`.
///
/// # Examples
///
/// ```
/// use selkie::ThreadPool;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = ThreadPool::new(2)?;
/// selkie::run({
///     let pool = pool.clone();
///     async move {
///         let sum = pool.submit(|| (1..=1000u64).sum::<u64>()).unwrap();
///         assert_eq!(sum.await.unwrap(), 500_500);
///     }
/// });
/// // Without any loop:
/// let mut answer = pool.submit(|| 42)?;
/// assert_eq!(answer.wait(None)??, 42);
/// pool.join(None)?;
/// # Ok(()) }
/// ```
#[doc(alias = "ThreadPoolExecutor")]
#[derive(Clone)]
pub struct ThreadPool {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Backend,
    shared: Arc<Shared>,
}

enum Backend {
    Threads(os::Pool),
    /// The loop in which the pool was made. Weak, because the world owns what the pool gives it.
    Simulated(Weak<dyn Platform>),
}

/// What jobs hold of their pool. Not the threads: a pool shuts down while jobs wait.
pub(crate) struct Shared {
    id: u64,
    max: usize,
    name: String,
    /// The thread whose simulation it belongs to.
    simulated: Option<ThreadNumber>,
    initializer: Option<Initializer>,
    /// The jobs that were taken and have not gone. Closed by a shutdown.
    census: Census,
    /// There is a reason in `state`.
    is_broken: AtomicBool,
    state: Mutex<State>,
    /// Of a pool with threads, for those who find it broken.
    pool: OnceLock<Weak<Inner>>,
}

type Initializer = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

#[derive(Default)]
struct State {
    /// What the initializer said.
    broken: Option<Arc<str>>,
    /// Who waits for the end of the jobs, after a shutdown.
    waiting: Vec<Producer<()>>,
    /// Jobs of a simulated pool that have not begun, with the keys of their runners.
    queue: VecDeque<(u64, PoolJob)>,
    next_key: u64,
    /// The "threads" of a simulated pool that are busy.
    busy: usize,
    /// A simulated pool has one "thread" that is initialized once. It is, or is about to be.
    initialized: bool,
}

thread_local! {
    /// The pool whose worker this thread is; it is initialized, or about to be.
    static WORKER: Cell<u64> = const { Cell::new(0) };
}

impl ThreadPool {
    /// A pool of at most `threads` threads, none of which is started yet.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] where the host has no threads.
    ///
    /// # Panics
    ///
    /// If `threads` is zero: such a pool could never run anything.
    #[track_caller]
    pub fn new(threads: usize) -> Result<Self, Unavailable> {
        Self::builder(threads).build()
    }

    /// A pool with a name, an idle limit or an initializer.
    ///
    /// ```
    /// use selkie::{ThreadPool, current_thread_name};
    ///
    /// let pool = ThreadPool::builder(4).name("images").build()?;
    /// let mut name = pool.submit(current_thread_name)?;
    /// assert_eq!(name.wait(None)??.as_deref(), Some("images-0"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If `threads` is zero.
    #[track_caller]
    pub fn builder(threads: usize) -> PoolBuilder {
        let Some(threads) = NonZeroUsize::new(threads) else {
            panic!("a `ThreadPool` of no threads could never run anything: say at least 1");
        };
        PoolBuilder::new(threads)
    }

    /// Queues `f`, to be run on a thread of the pool with a copy of the caller's context variables.
    ///
    /// The task can be awaited on any loop, waited for by a thread, and cancelled while `f` has not begun. A panic of `f`
    /// becomes its [`JoinError`]. Dropping the task detaches. Mirrors
    /// [`Executor.submit`](https://docs.python.org/3/library/concurrent.futures.html#concurrent.futures.Executor.submit).
    ///
    /// # Errors
    ///
    /// [`PoolError`]; `f` is dropped.
    pub fn submit<R: Send + 'static>(
        &self,
        f: impl FnOnce() -> R + Send + 'static,
    ) -> Result<RemoteTask<R>, PoolError> {
        let (job, task) = Job::new(f, ());
        self.inner.submit(job)?;
        Ok(match self.inner.shared.simulated {
            Some(by) => task.simulated(by),
            None => task,
        })
    }

    /// Calls `f` with each item on the pool's threads, and gives the results in the order of the items.
    ///
    /// Lazy: items are pulled when results are asked for, and only so many are submitted ahead as the
    /// [buffer](PoolMap::buffer) holds. Results come as a [`Stream`](futures_core::Stream), by [`PoolMap::next`], or by
    /// [`PoolMap::wait_next`] without a loop.
    ///
    /// Mirrors [`Executor.map`](https://docs.python.org/3/library/concurrent.futures.html#concurrent.futures.Executor.map).
    /// **Difference**: that submits everything at once unless it is given a `buffersize`.
    ///
    /// ```
    /// use selkie::ThreadPool;
    ///
    /// let pool = ThreadPool::new(2)?;
    /// let mut squares = pool.map(1..=4, |n| n * n).buffer(3);
    /// let mut all = Vec::new();
    /// while let Some(square) = squares.wait_next(None)? {
    ///     all.push(square?);
    /// }
    /// assert_eq!(all, [1, 4, 9, 16]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn map<I, F, R>(&self, items: I, f: F) -> PoolMap<I::IntoIter, F, R>
    where
        I: IntoIterator,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        I::Item: Send + 'static,
        R: Send + 'static,
    {
        PoolMap::new(self.clone(), items, f)
    }

    /// Runs jobs that borrow from the caller, and blocks until all of them have ended.
    ///
    /// As the standard library's scoped threads, on those of the pool. A panic of a job is in its [`RemoteTask`] only; a panic of `f`
    /// goes on when all jobs have ended. Called by a job of this very pool, or in a simulation, the calling thread runs at the
    /// end of the scope what no other thread has begun, so scopes may nest in a pool of one thread.
    ///
    /// It blocks the loop when it is called in a task; there use [`submit`](Self::submit).
    ///
    /// # Errors
    ///
    /// [`WaitError::WouldBlock`] on a thread that must not block; `f` is not called.
    ///
    /// # Examples
    ///
    /// ```
    /// use selkie::ThreadPool;
    ///
    /// let pool = ThreadPool::new(2)?;
    /// let words = ["one", "two", "three"];
    /// let mut lengths = [0; 3];
    /// pool.scope(|scope| {
    ///     for (word, length) in words.iter().zip(&mut lengths) {
    ///         scope.submit(|| *length = word.len()).unwrap().detach();
    ///     }
    /// })?;
    /// assert_eq!(lengths, [3, 3, 5]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn scope<'env, R>(
        &'env self,
        f: impl for<'scope> FnOnce(&'scope PoolScope<'scope, 'env>) -> R,
    ) -> Result<R, WaitError> {
        if let Backend::Threads(_) = self.inner.backend {
            if !os::may_wait() {
                return Err(WaitError::WouldBlock);
            }
        }
        let scope = PoolScope::new(&self.inner);
        let (mut f, mut result) = (Some(f), None);
        os::guard(&mut || {
            result = f.take().map(|f| catch_unwind(AssertUnwindSafe(|| f(&scope))));
        });
        scope.finish();
        match result {
            Some(Ok(result)) => Ok(result),
            Some(Err(payload)) => resume_unwind(payload),
            // It did not return.
            None => os::trap(),
        }
    }

    /// Takes no new jobs from here on; what is queued still runs, then the threads end.
    ///
    /// It acts at this call. Awaiting, on any loop, waits until all jobs have ended; [`join`](Self::join) blocks until the
    /// threads have ended too. A second call waits for the same end. Mirrors `Executor.shutdown`.
    ///
    /// ```
    /// # use selkie::ThreadPool;
    /// selkie::run(async {
    ///     let pool = ThreadPool::new(2).unwrap();
    ///     let job = pool.submit(|| 1).unwrap();
    ///     pool.shutdown().await;
    ///     assert!(job.is_finished() && pool.submit(|| 2).is_err());
    /// });
    /// ```
    pub fn shutdown(&self) -> PoolShutdown {
        self.inner.shared.census.set_closed(true);
        if let Backend::Threads(threads) = &self.inner.backend {
            threads.shutdown();
        }
        self.inner.shared.ended()
    }

    /// As [`shutdown`](Self::shutdown), but jobs that have not begun never do: their error is
    /// [lost](JoinError::is_lost).
    ///
    /// Mirrors `shutdown(cancel_futures=True)`. **Difference**: that calls the jobs cancelled, which nobody has asked for.
    pub fn shutdown_now(&self) -> PoolShutdown {
        self.inner.shared.census.set_closed(true);
        self.inner.clear(false);
        self.inner.shared.ended()
    }

    /// Shuts the pool down and blocks this thread until all jobs and threads have ended, at most for `timeout`.
    ///
    /// # Errors
    ///
    /// - [`WaitError::TimedOut`]; the pool goes on ending.
    /// - [`WaitError::WouldDeadlock`] in a job or the initializer of this very pool, and in a simulation while jobs are left, which
    ///   can run only when the caller waits by `shutdown().await`.
    /// - [`WaitError::WouldBlock`] on a thread that must not block.
    pub fn join(&self, timeout: Option<Duration>) -> Result<(), WaitError> {
        drop(self.shutdown());
        match &self.inner.backend {
            Backend::Threads(_) if WORKER.get() == self.inner.shared.id => Err(WaitError::WouldDeadlock),
            Backend::Threads(threads) => threads.join(timeout),
            Backend::Simulated(_) if self.inner.shared.census.count() == 0 => Ok(()),
            Backend::Simulated(_) => Err(WaitError::WouldDeadlock),
        }
    }

    /// The most threads there can be.
    pub fn max_threads(&self) -> usize {
        self.inner.shared.max
    }

    /// How many threads there are at this moment, busy and idle. None in a simulation.
    pub fn threads(&self) -> usize {
        match &self.inner.backend {
            Backend::Threads(threads) => threads.threads(),
            Backend::Simulated(_) => 0,
        }
    }

    /// The name of the pool, with which the names of its threads begin.
    pub fn name(&self) -> &str {
        self.inner.shared.name()
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool")
            .field("name", &self.name())
            .field("max_threads", &self.max_threads())
            .field("threads", &self.threads())
            .field("jobs", &self.inner.shared.census.about())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn submit(&self, job: Job) -> Result<(), PoolError> {
        let shared = &self.shared;
        let counted = shared.admit()?;
        match &self.backend {
            Backend::Threads(threads) => {
                match threads.submit(job, counted) {
                    Ok(true) => Ok(()),
                    // It was closed just now, by a shutdown or because it broke.
                    Ok(false) => shared.check().and(Err(PoolError::ShutDown)),
                    Err(error) => Err(PoolError::Unavailable(error)),
                }
            }
            Backend::Simulated(made_in) => {
                let here = with_current(|scheduler| scheduler.platform().clone());
                let here = here.filter(|platform| platform.nests()).or_else(|| made_in.upgrade());
                let Some(platform) = here else {
                    return Err(PoolError::Unavailable(Unavailable::new(
                        "the simulation that the pool belongs to is over: make the pool in the loop that uses it",
                    )));
                };
                mem::forget(counted);
                let job = PoolJob::new(job, shared);
                let mut state = self.shared.lock();
                state.next_key += 1;
                let key = state.next_key;
                state.queue.push_back((key, job));
                if state.busy >= self.shared.max {
                    // Whoever is busy goes on with it.
                    return Ok(());
                }
                state.busy += 1;
                drop(state);
                let world = Arc::downgrade(&platform);
                let runner = Runner { shared: self.shared.clone(), world, key, used: false };
                platform.run_blocking(Box::new(move || runner.run())).map_err(PoolError::Unavailable)
            }
        }
    }

    /// Takes no more jobs. Those that have not begun are lost, or, if they are to run, learn why the pool is broken.
    fn clear(&self, runs: bool) {
        match &self.backend {
            Backend::Threads(threads) => threads.shutdown_now(runs, &self.shared),
            Backend::Simulated(_) => {
                let queue = mem::take(&mut self.shared.lock().queue);
                for (_, job) in queue {
                    if runs {
                        job.run();
                    }
                }
            }
        }
    }
}

impl Shared {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        os::lock(&self.state)
    }

    fn broken(&self) -> Option<Arc<str>> {
        if self.is_broken.load(Ordering::Acquire) { self.lock().broken.clone() } else { None }
    }

    fn check(&self) -> Result<(), PoolError> {
        match self.broken() {
            Some(reason) => Err(PoolError::Broken(reason)),
            None if self.census.is_closed() => Err(PoolError::ShutDown),
            None => Ok(()),
        }
    }

    /// Counts a job.
    fn admit(self: &Arc<Self>) -> Result<Uncount<'_>, PoolError> {
        self.census.enter();
        let counted = Uncount(self);
        self.check()?;
        Ok(counted)
    }

    /// A job has gone.
    fn leave(&self) {
        if self.census.leave(1) {
            self.tell();
        }
    }

    /// No job is left, and none will come.
    fn tell(&self) {
        let waiting = mem::take(&mut self.lock().waiting);
        for producer in waiting {
            producer.give(Ok(()));
        }
    }

    fn ended(&self) -> PoolShutdown {
        let (producer, task) = channel(None);
        let gone = wait_as_well(&mut self.lock().waiting, producer);
        drop(gone);
        // Whoever leaves after this look finds it in the list.
        if self.census.count() == 0 {
            self.tell();
        }
        PoolShutdown { task }
    }

    /// Prepares this thread for a job. If that fails, the jobs that wait learn it here and now.
    fn verdict(&self) -> Result<(), JoinError> {
        // First of all: neither the initializer nor what a job drops that is not run can wait for the end of its own thread.
        let initialized = if self.simulated.is_some() {
            mem::replace(&mut self.lock().initialized, true)
        } else {
            WORKER.replace(self.id) == self.id
        };
        if let Some(reason) = self.broken() {
            return Err(JoinError::broken(reason));
        }
        if initialized {
            return Ok(());
        }
        let initialize = || self.initializer.as_ref().map_or(Ok(()), |initializer| initializer());
        let mut initialized = Ok(Err("it trapped".to_owned()));
        os::guard(&mut || initialized = catch_unwind(AssertUnwindSafe(initialize)));
        let reason = match initialized {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(reason)) => reason,
            Err(payload) => {
                let message = panic_message(&*payload);
                discard(payload);
                format!("it panicked: {message}")
            }
        };
        let reason = self.lock().broken.get_or_insert_with(|| reason.into()).clone();
        self.is_broken.store(true, Ordering::Release);
        // Each of them comes here again and finds the pool broken.
        if let Some(pool) = self.pool.get().and_then(Weak::upgrade) {
            pool.clear(true);
        }
        Err(JoinError::broken(reason))
    }
}

/// This thread is one of its pool no more, and goes on.
#[cfg(all(target_family = "wasm", target_feature = "atomics"))]
pub(crate) fn left() {
    WORKER.set(0);
}

/// Runs a job on a thread of the pool. Who calls it uncounts it.
pub(crate) fn run(shared: &Shared, job: Job) {
    // A withdrawn one is no reason to prepare the thread.
    if !job.is_taken() {
        job.run(shared.verdict());
    }
}

/// Uncounts a job when dropped.
pub(crate) struct Uncount<'a>(pub(crate) &'a Arc<Shared>);

impl Drop for Uncount<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// The queue's entry of a job; run or dropped once.
pub(crate) struct PoolJob {
    /// Dropped first: when the pool has ended nothing of its jobs is left.
    job: Job,
    counted: Counted,
}

impl PoolJob {
    /// A job that was counted.
    pub(crate) fn new(job: Job, shared: &Arc<Shared>) -> Self {
        Self { job, counted: Counted(shared.clone()) }
    }

    pub(crate) fn run(self) {
        let Self { job, counted } = self;
        let risk = os::owes(|| counted.0.clone());
        run(&counted.0, job);
        drop(risk);
        drop(counted);
    }
}

/// A job that the pool has not done with.
struct Counted(Arc<Shared>);

/// As [`Counted`] is dropped.
impl Debt for Shared {
    fn lost(self: Arc<Self>, _trapped: bool) {
        self.leave();
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// What a simulated world runs: a busy thread of the pool, made for one job and good for any.
struct Runner {
    shared: Arc<Shared>,
    /// The loop that made it. Weak, because the world owns this.
    world: Weak<dyn Platform>,
    key: u64,
    used: bool,
}

impl Runner {
    fn pick(&self) -> Option<PoolJob> {
        let mut state = self.shared.lock();
        let place = state.queue.iter().position(|(key, _)| *key == self.key);
        // Its own job, unless that would overtake one that each of the threads has to begin before.
        let place = place.filter(|&place| place < self.shared.max).unwrap_or(0);
        state.queue.remove(place).map(|(_, job)| job)
    }

    fn run(mut self) {
        self.used = true;
        let _risk = os::at_risk(|| {
            let (shared, world, key) = (self.shared.clone(), self.world.clone(), self.key);
            // The thread goes on.
            Box::new(move |_| drop(Self { shared, world, key, used: true }))
        });
        if let Some(job) = self.pick() {
            job.run();
        }
    }
}

impl Drop for Runner {
    /// The thread goes on with the next job, or one that takes the place of a thread that has died, with its job.
    fn drop(&mut self) {
        if !self.used {
            drop(self.pick());
        }
        let mut state = self.shared.lock();
        // The others have runners of their own.
        let next = state.queue.get(state.busy - 1).map(|(key, _)| *key);
        // The loop may have gone, and another one of its world run.
        let world = self.world.upgrade().or_else(testing::works);
        if let (Some(key), Some(world)) = (next, world) {
            drop(state);
            let runner = Self { shared: self.shared.clone(), world: self.world.clone(), key, used: false };
            let _ = world.run_blocking(Box::new(move || runner.run()));
            return;
        }
        state.busy -= 1;
        // A world that is gone runs nothing any more.
        let rest =
            if next.is_some() && state.busy == 0 { mem::take(&mut state.queue) } else { VecDeque::new() };
        drop(state);
        drop(rest);
    }
}

/// The end of a pool's jobs; from [`ThreadPool::shutdown`] and [`IsolatedPool::shutdown`](crate::IsolatedPool::shutdown).
/// Dropping it changes nothing.
#[derive(Debug)]
pub struct PoolShutdown {
    task: RemoteTask<()>,
}

impl PoolShutdown {
    pub(crate) fn new(task: RemoteTask<()>) -> Self {
        Self { task }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    pub(crate) fn wait(mut self, timeout: Option<Duration>) -> Result<(), WaitError> {
        self.task.wait(timeout).map(drop)
    }
}

impl Future for PoolShutdown {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // An error would mean that the pool is gone, with all its jobs.
        Pin::new(&mut self.task).poll(cx).map(drop)
    }
}

/// Adds one who waits for the end of a pool, and takes out those who have gone, to be dropped without a lock: who waits with a limit
/// again and again would only gather them.
pub(crate) fn wait_as_well(waiting: &mut Vec<Producer<()>>, producer: Producer<()>) -> Vec<Producer<()>> {
    let (gone, mut left): (Vec<_>, Vec<_>) = mem::take(waiting).into_iter().partition(Producer::is_unwanted);
    left.push(producer);
    *waiting = left;
    gone
}

/// Why a pool or an executor did not take work.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolError {
    /// It was shut down.
    ShutDown,
    /// Its initializer failed, and said this.
    #[doc(alias = "BrokenThreadPool")]
    Broken(Arc<str>),
    /// The host has no thread for it at present.
    Unavailable(Unavailable),
    /// Arguments for an [`IsolatedPool`](crate::IsolatedPool) could not be turned into bytes; this is why.
    BadData(Arc<str>),
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShutDown => f.write_str("the pool is shut down: make a new one"),
            Self::Broken(reason) => write!(f, "the pool is broken, as its initializer failed: {reason}"),
            Self::Unavailable(error) => error.fmt(f),
            Self::BadData(reason) => f.write_str(reason),
        }
    }
}

impl Error for PoolError {}

impl From<PoolError> for JoinError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::ShutDown => Self::LOST,
            PoolError::Broken(reason) => Self::broken(reason),
            PoolError::Unavailable(error) => Self::unavailable(error),
            PoolError::BadData(reason) => Self::bad_data(reason),
        }
    }
}
