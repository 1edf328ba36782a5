//! Pools of workers in address spaces of their own, as their users see them.

use std::{
    ffi::OsString,
    fmt,
    future::poll_fn,
    num::NonZeroUsize,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::{FusedStream, Stream};
use selkie_platform::{IsolateOptions, Unavailable};
use serde::de::DeserializeOwned;

use super::{Call, diverts, job, workers::Shared};
use crate::{
    PoolError, PoolShutdown, RemoteTask, WaitError,
    error::JoinError,
    os,
    pool::Ahead,
    scheduler::{ThreadNumber, with_current},
};

/// Child processes, or Web Workers, that run [isolated](macro@crate::isolated) functions.
///
/// Workers start when a job finds none idle, never more than the maximum, and end when they were idle for some time (10
/// seconds unless [set](IsolatedPoolBuilder::idle_limit)). Jobs start first in, first out. Mirrors
/// [`concurrent.futures.ProcessPoolExecutor`](https://docs.python.org/3/library/concurrent.futures.html#processpoolexecutor);
/// the calls are those of [`ThreadPool`](crate::ThreadPool). What a worker is, and what a program has to do for it, says
/// [`isolated`](mod@crate::isolated).
///
/// - **A panic** of a job is its [`JoinError`], with the message as payload, and its worker goes on (but see Web).
/// - **A worker that dies**, killed, crashed or by an exit of its own, fails its job with an error that
///   [is a crash](JoinError::is_crashed). Another worker takes its place. **Difference**: asyncio's pool is broken then.
/// - **[Cancel](RemoteTask::cancel)** ends a job also while it runs: its worker is killed, with the processes that it has
///   started, and replaced. The result is there at once. **Difference**: asyncio cannot.
/// - **This process dies**, even by `kill -9`: its workers are gone within two seconds.
///
/// Cheap to clone; clones are the same pool. Any thread may submit. When the last clone is dropped the pool shuts down as by
/// [`shutdown`](Self::shutdown), and nobody waits. **Difference** to a `ThreadPool`: jobs see no context variables of the caller.
///
/// Made inside a loop of [`testing::Sim`](crate::testing::Sim) the pool belongs to that world: no process is used, and jobs
/// run one at a time on the stack of the simulation, at moments that the seed chooses; what goes in and out is copied as always.
///
/// # Platform-specific
///
/// - **Unix:** standard output and error of a worker are those of the program; standard input is empty. It is in a process
///   group of its own, so Ctrl-C of a terminal does not reach it.
/// - **Windows:** outside of a simulation making a pool is an [`Unavailable`] error.
/// - **Web:** Workers with an instance of the module of their own, to which the compiled module is posted. A panic in a
///   `panic=abort` build ends its Worker as well. Jobs that call JavaScript need
///   `os::web::set_isolated_worker`. Under Node, and on the threads of a build with threads, making a pool is an
///   [`Unavailable`] error; those may use one that the page has made.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// #[selkie::isolated]
/// fn reverse(text: String) -> String {
///     text.chars().rev().collect()
/// }
///
/// #[selkie::isolated]
/// fn for_ever() {
///     loop {}
/// }
///
/// #[selkie::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # if cfg!(not(unix)) { return Ok(()) }
///     let pool = selkie::IsolatedPool::new(2)?;
///     assert_eq!(pool.submit(reverse("tide".to_owned()))?.await?, "edit");
///
///     let job = pool.submit(for_ever())?;
///     selkie::sleep(Duration::from_millis(10)).await;
///     job.cancel();
///     assert!(job.await.unwrap_err().is_cancelled());
///
///     pool.shutdown().await;
///     Ok(())
/// }
/// ```
#[doc(alias = "ProcessPoolExecutor")]
#[derive(Clone)]
pub struct IsolatedPool {
    inner: Arc<Inner>,
}

impl IsolatedPool {
    /// A pool of at most `workers` workers, none of which is started yet.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] where the host cannot do it, in a worker, and in a program that has come by no place where a worker
    /// would have been told what it is; see [`isolated`](mod@crate::isolated).
    ///
    /// # Panics
    ///
    /// If `workers` is zero: such a pool could never run anything.
    #[track_caller]
    pub fn new(workers: usize) -> Result<Self, Unavailable> {
        Self::builder(workers).build()
    }

    /// A pool with a name, limits, or a command line for its workers.
    ///
    /// ```
    /// #[selkie::isolated]
    /// fn who() -> Option<String> {
    ///     selkie::isolated::worker()
    /// }
    ///
    /// # #[cfg(unix)]
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// selkie::isolated::serve();
    /// let pool = selkie::IsolatedPool::builder(4).name("images").build()?;
    /// assert_eq!(pool.submit(who())?.wait(None)??.as_deref(), Some("images-0"));
    /// # Ok(()) }
    /// # #[cfg(unix)]
    /// # example().unwrap();
    /// ```
    ///
    /// # Panics
    ///
    /// If `workers` is zero.
    #[track_caller]
    pub fn builder(workers: usize) -> IsolatedPoolBuilder {
        let Some(workers) = NonZeroUsize::new(workers) else {
            panic!("an `IsolatedPool` of no workers could never run anything: say at least 1");
        };
        let options = IsolateOptions {
            name: "selkie-isolated".to_owned(),
            idle: Duration::from_secs(10),
            start: Duration::from_secs(30),
            arguments: None,
        };
        IsolatedPoolBuilder { workers, options }
    }

    /// Queues `call`, to be made in a worker.
    ///
    /// The task can be awaited on any loop, waited for by a thread, and cancelled, also while the call runs. Dropping the task
    /// detaches. Mirrors
    /// [`Executor.submit`](https://docs.python.org/3/library/concurrent.futures.html#concurrent.futures.Executor.submit).
    ///
    /// The task's error [is a panic](JoinError::is_panic) of the function, [a crash](JoinError::is_crashed) of its worker, or
    /// [bad data](JoinError::is_bad_data) where its result could not be sent.
    ///
    /// # Errors
    ///
    /// [`PoolError::ShutDown`], and [`PoolError::BadData`] if the arguments could not be turned into bytes.
    pub fn submit<R: DeserializeOwned + Send + 'static>(
        &self,
        call: Call<R>,
    ) -> Result<RemoteTask<R>, PoolError> {
        let name = call.name();
        let arguments = call.arguments.map_err(PoolError::BadData)?;
        let Some(request) = job::request(call.job, &arguments) else {
            return Err(PoolError::BadData(format!("`{name}` is not registered").into()));
        };
        drop(arguments);
        self.inner.0.submit(name, request)
    }

    /// Has the call that `f` makes of each item run by the workers, and gives the results in the order of the items.
    ///
    /// Lazy: items are pulled when results are asked for, and only so many are submitted ahead as the
    /// [buffer](IsolatedMap::buffer) holds. Results come as a [`Stream`], by [`IsolatedMap::next`], or by
    /// [`IsolatedMap::wait_next`] without a loop. Mirrors
    /// [`Executor.map`](https://docs.python.org/3/library/concurrent.futures.html#concurrent.futures.Executor.map);
    /// a buffer larger than the number of workers does what its `chunksize` is for.
    ///
    /// ```
    /// #[selkie::isolated]
    /// fn square(n: u64) -> u64 {
    ///     n * n
    /// }
    ///
    /// # #[cfg(unix)]
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// selkie::isolated::serve();
    /// let pool = selkie::IsolatedPool::new(2)?;
    /// let mut squares = pool.map(1..=4, square).buffer(3);
    /// let mut all = Vec::new();
    /// while let Some(square) = squares.wait_next(None)? {
    ///     all.push(square?);
    /// }
    /// assert_eq!(all, [1, 4, 9, 16]);
    /// # Ok(()) }
    /// # #[cfg(unix)]
    /// # example().unwrap();
    /// ```
    pub fn map<I, F, R>(&self, items: I, f: F) -> IsolatedMap<I::IntoIter, F, R>
    where
        I: IntoIterator,
        F: FnMut(I::Item) -> Call<R>,
        R: DeserializeOwned + Send + 'static,
    {
        let buffer = self.max_workers().saturating_mul(2);
        IsolatedMap { pool: self.clone(), f, ahead: Ahead::new(items.into_iter(), buffer) }
    }

    /// Takes no new jobs from here on; what is queued still runs, then the workers end.
    ///
    /// It acts at this call. Awaiting, on any loop, waits until jobs and workers have ended; [`join`](Self::join) blocks. A second
    /// call waits for the same end. Mirrors `Executor.shutdown`.
    pub fn shutdown(&self) -> PoolShutdown {
        self.inner.0.shutdown()
    }

    /// As [`shutdown`](Self::shutdown), but at once: jobs that have not begun never do, and those that run are killed with their
    /// workers. Their error is [lost](JoinError::is_lost).
    ///
    /// Mirrors `shutdown(cancel_futures=True)` and `kill_workers()`. **Difference** to
    /// [`ThreadPool::shutdown_now`](crate::ThreadPool::shutdown_now), which cannot end what runs.
    #[doc(alias("kill_workers", "terminate_workers"))]
    pub fn shutdown_now(&self) -> PoolShutdown {
        self.inner.0.shutdown_now()
    }

    /// Shuts the pool down and blocks this thread until all jobs and workers have ended, at most for `timeout`.
    ///
    /// # Errors
    ///
    /// - [`WaitError::TimedOut`]; the pool goes on ending.
    /// - [`WaitError::WouldDeadlock`] in a simulation while there are jobs or workers, which get on only when the caller waits by
    ///   `shutdown().await`.
    /// - [`WaitError::WouldBlock`] on a thread that must not block.
    pub fn join(&self, timeout: Option<Duration>) -> Result<(), WaitError> {
        let ending = self.shutdown();
        if self.inner.0.simulated.is_some() && !ending.is_over() {
            return Err(WaitError::WouldDeadlock);
        }
        ending.wait(timeout)
    }

    /// The most workers there can be.
    pub fn max_workers(&self) -> usize {
        self.inner.0.max
    }

    /// How many workers there are at this moment: starting, busy, idle, and ending.
    pub fn workers(&self) -> usize {
        self.inner.0.counts().0
    }

    /// The name of the pool, with which the names of its workers begin.
    pub fn name(&self) -> &str {
        &self.inner.0.options.name
    }
}

impl fmt::Debug for IsolatedPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IsolatedPool")
            .field("name", &self.name())
            .field("max_workers", &self.max_workers())
            .field("workers", &self.workers())
            .field("jobs", &self.inner.0.counts().1)
            .finish_non_exhaustive()
    }
}

/// How to make an [`IsolatedPool`]; from [`IsolatedPool::builder`].
#[must_use = "`build` makes the pool"]
#[derive(Debug)]
pub struct IsolatedPoolBuilder {
    workers: NonZeroUsize,
    options: IsolateOptions,
}

impl IsolatedPoolBuilder {
    /// The workers are called `{name}-0`, `{name}-1` and so on; `selkie-isolated` unless set.
    ///
    /// A job learns it by [`isolated::worker`](crate::isolated::worker). A number is used again when its worker has ended.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = name.into();
        self
    }

    /// How long a worker may be idle before it ends; 10 seconds unless set.
    ///
    /// **Difference**: asyncio's processes end with the pool.
    pub fn idle_limit(mut self, limit: Duration) -> Self {
        self.options.idle = limit;
        self
    }

    /// How long a worker may take until it is ready for its first job; 30 seconds unless set.
    ///
    /// One that takes longer is killed, as a program that never comes to [`serve`](crate::isolated::serve) would never be ready.
    pub fn start_limit(mut self, limit: Duration) -> Self {
        self.options.start = limit;
        self
    }

    /// What workers get on their command line; unless set what this process got. Without effect on the web.
    ///
    /// For programs that come to [`serve`](crate::isolated::serve) only with certain arguments, as test binaries do.
    pub fn arguments<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.options.arguments = Some(arguments.into_iter().map(Into::into).collect());
        self
    }

    /// Makes the pool. No worker is started yet.
    ///
    /// # Errors
    ///
    /// As [`IsolatedPool::new`].
    pub fn build(self) -> Result<IsolatedPool, Unavailable> {
        let here = with_current(|scheduler| scheduler.platform().clone());
        let world = here.filter(|platform| platform.nests());
        let simulated = world.map(|world| (Arc::downgrade(&world), ThreadNumber::here()));
        if simulated.is_none() {
            if os::is_isolated_worker() {
                return Err(Unavailable::new(
                    "this is a worker of an isolated pool, which makes no pool of its own: use a `ThreadPool` in it",
                ));
            }
            os::check_isolated()?;
            if !diverts() {
                return Err(Unavailable::new(
                    "a worker is this program, started again: call `selkie::isolated::serve()` at the beginning of main, \
                     or have `#[selkie::main]` or `selkie::run` there",
                ));
            }
        }
        let shared = Shared::new(self.workers, self.options, simulated);
        Ok(IsolatedPool { inner: Arc::new(Inner(Arc::new(shared))) })
    }
}

/// Results in the order of the items; from [`IsolatedPool::map`].
///
/// An error surfaces at its place, and then the stream ends. Dropping it withdraws what has not begun and kills what runs.
#[must_use = "nothing is submitted before a result is asked for"]
pub struct IsolatedMap<I: Iterator, F, R: Send> {
    pool: IsolatedPool,
    f: F,
    ahead: Ahead<I, R>,
}

impl<I: Iterator, F, R: Send> Unpin for IsolatedMap<I, F, R> {}

impl<I, F, R> IsolatedMap<I, F, R>
where
    I: Iterator,
    F: FnMut(I::Item) -> Call<R>,
    R: DeserializeOwned + Send + 'static,
{
    /// How many items are submitted at most before their results were taken; twice the number of workers unless set, and 1 at
    /// least.
    #[doc(alias("buffersize", "chunksize"))]
    pub fn buffer(mut self, size: usize) -> Self {
        self.ahead.set_buffer(size);
        self
    }

    /// The next result, in the order of the items.
    pub async fn next(&mut self) -> Option<Result<R, JoinError>> {
        poll_fn(|cx| self.poll_result(cx)).await
    }

    /// As [`next`](Self::next), blocking this thread for at most `timeout`; `None` waits as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`RemoteTask::wait`]; nothing is lost, the next call waits for the same result.
    pub fn wait_next(
        &mut self,
        timeout: Option<Duration>,
    ) -> Result<Option<Result<R, JoinError>>, WaitError> {
        self.fill();
        self.ahead.wait(timeout)
    }

    fn fill(&mut self) {
        self.ahead.fill(|item| self.pool.submit((self.f)(item)));
    }

    fn poll_result(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<R, JoinError>>> {
        self.fill();
        self.ahead.poll(cx)
    }
}

impl<I, F, R> Stream for IsolatedMap<I, F, R>
where
    I: Iterator,
    F: FnMut(I::Item) -> Call<R>,
    R: DeserializeOwned + Send + 'static,
{
    type Item = Result<R, JoinError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_result(cx)
    }
}

impl<I, F, R> FusedStream for IsolatedMap<I, F, R>
where
    I: Iterator,
    F: FnMut(I::Item) -> Call<R>,
    R: DeserializeOwned + Send + 'static,
{
    fn is_terminated(&self) -> bool {
        self.ahead.is_over()
    }
}

impl<I: Iterator, F, R: Send> fmt::Debug for IsolatedMap<I, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IsolatedMap")
            .field("pool", &self.pool)
            .field("ahead", &self.ahead)
            .finish_non_exhaustive()
    }
}

/// Shuts the pool down when the last clone goes.
struct Inner(Arc<Shared>);

impl Drop for Inner {
    fn drop(&mut self) {
        self.0.close();
    }
}
