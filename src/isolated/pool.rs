//! The pool of workers: one queue, and a state for each worker.
//!
//! # The idea
//!
//! Everything is a change of [`State`] under one lock, followed by [`Shared::pump`], which looks what can be done and does it
//! until there is nothing: hand a job to a worker that is idle, start a worker, let one go, tell who waits for the end. A worker
//! goes `Starting -> Idle <-> Busy`, and from each of them to `Ending`, where it only waits for its end to be told. It counts
//! until then, so there are never more than the maximum.
//!
//! # Races
//!
//! - **Cancel and reply.** Both take the job out of its worker under the lock; the second finds none. A worker whose job was
//!   taken by a cancel is killed, and its reply is not looked at.
//! - **Idle limit and next job.** The worker asks, under the lock, whether it is to end, and gets no more jobs if so.
//! - **Death before delivery.** A worker that died while it was idle says so when it is given a job, and the job goes back to its
//!   place in the queue, once.
//! - **An end before the start has returned.** The worker is gone from the list by then, and what start returns is dropped.
//!
//! # Code of users
//!
//! Types read their values, wakers are woken, callbacks and unwanted results go, and each may panic or trap. What a job or its end
//! does is contained, so that the counts stay right and the worker's thread goes on.
//!
//! # Starts that fail
//!
//! A worker that ends before its first message fails the jobs that wait, if there is no other worker; each failure costs at least
//! one job, so a program that can never start one does not try for ever. If there is another one, no further is started before
//! that has shown some life.

#![expect(
    clippy::disallowed_types,
    reason = "never waited for: `lock` spins, and it is held for a few instructions and never with code of users"
)]

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    future::poll_fn,
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, TryLockError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_core::{FusedStream, Stream};
use selkie_platform::{Isolate, IsolateEnd, IsolateEvents, IsolateOptions, Platform, Unavailable};
use serde::de::DeserializeOwned;

use super::{Call, diverts, job};
use crate::{
    PoolError, PoolShutdown, RemoteTask, WaitError,
    error::{JoinError, contain},
    os,
    pool::Ahead,
    remote::{Producer, channel},
    scheduler::with_current,
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
        let (producer, task) = channel(None);
        let shared = &self.inner.0;
        let mut state = shared.lock();
        if state.closed {
            return Err(PoolError::ShutDown);
        }
        state.next += 1;
        let key = state.next;
        // Nobody has the other end yet, so it is not cancelled.
        producer.poll_cancelled(&Waker::from(Arc::new(Cancel { pool: Arc::downgrade(shared), key })));
        let work = Typed { name, request: Some(request), returned: false, producer };
        state.queue.insert(key, Box::new(work));
        state.jobs += 1;
        drop(state);
        shared.pump();
        Ok(if shared.simulated.is_some() { task.simulated() } else { task })
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
        self.inner.0.lock().closed = true;
        self.inner.0.ending()
    }

    /// As [`shutdown`](Self::shutdown), but at once: jobs that have not begun never do, and those that run are killed with their
    /// workers. Their error is [lost](JoinError::is_lost).
    ///
    /// Mirrors `shutdown(cancel_futures=True)` and `kill_workers()`. **Difference** to
    /// [`ThreadPool::shutdown_now`](crate::ThreadPool::shutdown_now), which cannot end what runs.
    #[doc(alias("kill_workers", "terminate_workers"))]
    pub fn shutdown_now(&self) -> PoolShutdown {
        let shared = &self.inner.0;
        let mut state = shared.lock();
        state.closed = true;
        let mut jobs: Vec<_> = std::mem::take(&mut state.queue).into_values().collect();
        for worker in &mut state.workers {
            jobs.extend(worker.doom());
        }
        drop(state);
        for work in jobs {
            shared.finish(work, Err(JoinError::LOST));
        }
        shared.ending()
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
        self.inner.0.lock().workers.len()
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
            .field("jobs", &self.inner.0.lock().jobs)
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
        let simulated = here.filter(|platform| platform.nests()).map(|world| Arc::downgrade(&world));
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
        let shared = Shared {
            max: self.workers.get(),
            options: self.options,
            simulated,
            home: os::Home::new(),
            hello: job::hello(),
            state: Mutex::default(),
        };
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
        self.0.lock().closed = true;
        self.0.pump();
    }
}

struct Shared {
    max: usize,
    options: IsolateOptions,
    /// The loop in which a simulated pool was made. Weak, because the world owns what the pool gives it.
    simulated: Option<Weak<dyn Platform>>,
    /// The thread that workers belong to.
    home: os::Home,
    hello: Vec<u8>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    next: u64,
    /// Jobs that have not begun, first one first.
    queue: BTreeMap<u64, Box<dyn Work>>,
    workers: Vec<Worker>,
    /// Jobs that were taken and have not gone.
    jobs: usize,
    /// Start no further worker before another has shown some life.
    hold: bool,
    /// Who waits for the end of jobs and workers, after a shutdown.
    waiting: Vec<Producer<()>>,
}

struct Worker {
    id: u64,
    /// The smallest that was free, for its name.
    number: usize,
    /// `None` while it is made and when it was let go.
    isolate: Option<Arc<dyn Isolate>>,
    phase: Phase,
}

enum Phase {
    Starting,
    Idle,
    Busy(u64, Box<dyn Work>),
    Ending {
        /// It is still to be killed.
        doomed: bool,
    },
}

/// A job, whatever its result.
trait Work: Send {
    /// Says that it begins; `None` if it should not.
    fn begin(&mut self) -> Option<Vec<u8>>;
    /// Prepares for a second `begin` with the same request; `false` if it had one.
    fn again(&mut self, request: Vec<u8>) -> bool;
    fn end(self: Box<Self>, reply: Result<Vec<u8>, JoinError>);
    fn name(&self) -> &'static str;
}

struct Typed<R: Send> {
    name: &'static str,
    request: Option<Vec<u8>>,
    returned: bool,
    producer: Producer<R>,
}

impl<R: DeserializeOwned + Send> Work for Typed<R> {
    fn begin(&mut self) -> Option<Vec<u8>> {
        if self.producer.begin() { self.request.take() } else { None }
    }

    fn again(&mut self, request: Vec<u8>) -> bool {
        self.request = Some(request);
        !std::mem::replace(&mut self.returned, true)
    }

    fn end(self: Box<Self>, reply: Result<Vec<u8>, JoinError>) {
        let Self { name, producer, .. } = *self;
        let stand_in = producer.stand_in();
        // The result's type reads the reply.
        contain(|| {
            let result = reply.and_then(|reply| job::result(name, &reply));
            producer.give(result);
        });
        // Nothing, unless a trap took it.
        stand_in.give(JoinError::trapped());
    }

    fn name(&self) -> &'static str {
        self.name
    }
}

/// The waker that a cancel wakes.
struct Cancel {
    pool: Weak<Shared>,
    key: u64,
}

impl Wake for Cancel {
    fn wake(self: Arc<Self>) {
        if let Some(pool) = self.pool.upgrade() {
            pool.cancel(self.key);
        }
    }
}

/// What a pump does outside of the lock.
enum Step {
    Nothing,
    Start {
        id: u64,
        number: usize,
    },
    Post(Arc<dyn Isolate>, Vec<u8>),
    /// Let it go, perhaps by a kill.
    Release(Arc<dyn Isolate>, bool),
    Tell(Vec<Producer<()>>),
    /// The job was cancelled just as it was to begin.
    Withdrawn(Box<dyn Work>),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        loop {
            match self.state.try_lock() {
                Ok(state) => return state,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => os::relax(),
            }
        }
    }

    /// Does all that can be done, on the thread that the workers belong to.
    fn pump(self: &Arc<Self>) {
        let this = self.clone();
        self.home.run(move || {
            loop {
                let step = this.step(&mut this.lock());
                match step {
                    Step::Nothing => return,
                    Step::Start { id, number } => this.start(id, number),
                    Step::Post(isolate, request) => isolate.post(request),
                    Step::Release(isolate, doomed) => {
                        if doomed {
                            isolate.kill();
                        }
                    }
                    Step::Tell(waiting) => waiting.into_iter().for_each(|producer| {
                        contain(|| producer.give(Ok(())));
                    }),
                    Step::Withdrawn(work) => this.withdraw(work),
                }
            }
        });
    }

    fn step(&self, state: &mut State) -> Step {
        for worker in &mut state.workers {
            if let Phase::Ending { doomed } = &worker.phase {
                if let Some(isolate) = worker.isolate.take() {
                    return Step::Release(isolate, *doomed);
                }
            }
        }
        // The one that was started first: the others run out their limit.
        let free = state.workers.iter_mut().find_map(|worker| match (&worker.phase, &worker.isolate) {
            (Phase::Idle, Some(isolate)) => Some((isolate.clone(), &mut worker.phase)),
            _ => None,
        });
        if let Some((isolate, phase)) = free {
            if let Some((key, mut work)) = state.queue.pop_first() {
                let Some(request) = work.begin() else { return Step::Withdrawn(work) };
                *phase = Phase::Busy(key, work);
                return Step::Post(isolate, request);
            }
        }
        let starting = state.workers.iter().filter(|worker| matches!(worker.phase, Phase::Starting)).count();
        let may_start = state.workers.len() < self.max && (state.workers.is_empty() || !state.hold);
        if state.queue.len() > starting && may_start {
            state.next += 1;
            let id = state.next;
            let mut numbers = 0..self.max;
            let number = numbers.find(|&number| state.workers.iter().all(|worker| worker.number != number));
            let number = number.unwrap_or(self.max);
            state.workers.push(Worker { id, number, isolate: None, phase: Phase::Starting });
            return Step::Start { id, number };
        }
        if state.closed && state.queue.is_empty() {
            for worker in &mut state.workers {
                // One that starts has nothing of a job, and may hang: it is not waited for.
                let doomed = match worker.phase {
                    Phase::Starting => true,
                    Phase::Idle => false,
                    _ => continue,
                };
                if let Some(isolate) = worker.isolate.take() {
                    worker.phase = Phase::Ending { doomed };
                    return Step::Release(isolate, doomed);
                }
            }
            if state.jobs == 0 && state.workers.is_empty() && !state.waiting.is_empty() {
                return Step::Tell(std::mem::take(&mut state.waiting));
            }
        }
        Step::Nothing
    }

    fn start(self: &Arc<Self>, id: u64, number: usize) {
        let mut options = self.options.clone();
        options.name = format!("{}-{number}", options.name);
        let events = Arc::new(Events { pool: self.clone(), id });
        let started = match &self.simulated {
            None => os::spawn_isolate(options, events),
            Some(made_in) => match self::simulated::world(made_in) {
                Some(world) => Ok(simulated::spawn(&world, &options.name, &self.hello, events)),
                None => Err(simulated::OVER),
            },
        };
        match started {
            Ok(isolate) => {
                let mut state = self.lock();
                match state.workers.iter_mut().find(|worker| worker.id == id) {
                    Some(worker) => worker.isolate = Some(isolate.into()),
                    // It has ended meanwhile.
                    None => {
                        drop(state);
                        drop(isolate);
                    }
                }
            }
            Err(error) => self.ended(id, IsolateEnd::Unavailable(error)),
        }
    }

    /// A job has its result, and nothing of it is left.
    fn finish(&self, work: Box<dyn Work>, reply: Result<Vec<u8>, JoinError>) {
        contain(|| work.end(reply));
        self.lock().jobs -= 1;
    }

    /// As `finish`, of one whose producer sees that somebody asked for its end.
    fn withdraw(&self, work: Box<dyn Work>) {
        contain(|| drop(work));
        self.lock().jobs -= 1;
    }

    fn message(self: &Arc<Self>, id: u64, message: Vec<u8>) {
        let mut state = self.lock();
        state.hold = false;
        let Some(worker) = state.workers.iter_mut().find(|worker| worker.id == id) else { return };
        match std::mem::replace(&mut worker.phase, Phase::Idle) {
            Phase::Starting if message == self.hello => drop(state),
            Phase::Starting => {
                worker.phase = Phase::Ending { doomed: true };
                let reason = "runs another program: its file was replaced while this one ran";
                let failed = self.start_failed(&mut state);
                drop(state);
                self.fail(failed, &IsolateEnd::Died(reason.to_owned()));
            }
            Phase::Busy(_, work) => {
                drop(state);
                // The worker has its next job before the result of this one is looked at.
                self.pump();
                self.finish(work, Ok(message));
            }
            other => {
                worker.phase = other;
                drop(state);
            }
        }
        self.pump();
    }

    fn idle(&self, id: u64) -> bool {
        let mut state = self.lock();
        let Some(worker) = state.workers.iter_mut().find(|worker| worker.id == id) else { return true };
        match worker.phase {
            Phase::Idle => {
                worker.phase = Phase::Ending { doomed: false };
                let isolate = worker.isolate.take();
                drop(state);
                drop(isolate);
                true
            }
            Phase::Ending { .. } => true,
            _ => false,
        }
    }

    fn ended(self: &Arc<Self>, id: u64, end: IsolateEnd) {
        let mut state = self.lock();
        let Some(place) = state.workers.iter().position(|worker| worker.id == id) else { return };
        let worker = state.workers.remove(place);
        match worker.phase {
            Phase::Starting => {
                let failed = self.start_failed(&mut state);
                drop(state);
                self.fail(failed, &end);
            }
            Phase::Busy(key, mut work) => match end {
                IsolateEnd::Undelivered(how, message) => {
                    if work.again(message) {
                        state.queue.insert(key, work);
                        drop(state);
                    } else {
                        drop(state);
                        self.fail(vec![work], &IsolateEnd::Died(how));
                    }
                }
                end => {
                    drop(state);
                    self.fail(vec![work], &end);
                }
            },
            Phase::Idle | Phase::Ending { .. } => drop(state),
        }
        drop(worker.isolate);
        self.pump();
    }

    /// The jobs that this fails: all that wait, if no other worker can take them.
    fn start_failed(&self, state: &mut State) -> Vec<Box<dyn Work>> {
        state.hold = true;
        let others = state.workers.iter().any(|worker| !matches!(worker.phase, Phase::Ending { .. }));
        if others { Vec::new() } else { std::mem::take(&mut state.queue).into_values().collect() }
    }

    fn fail(self: &Arc<Self>, jobs: Vec<Box<dyn Work>>, end: &IsolateEnd) {
        for work in jobs {
            let error = match end {
                IsolateEnd::Panicked(message) => job::panic(work.name(), message.clone()),
                IsolateEnd::Unavailable(error) => JoinError::unavailable(error.clone()),
                IsolateEnd::Died(how) | IsolateEnd::Undelivered(how, _) => {
                    JoinError::crashed(format!("the worker of `{}` {how}", work.name()).into())
                }
                _ => JoinError::LOST,
            };
            self.finish(work, Err(error));
        }
    }

    fn cancel(self: &Arc<Self>, key: u64) {
        let mut state = self.lock();
        let work = match state.queue.remove(&key) {
            Some(work) => Some(work),
            None => {
                let busy = |worker: &&mut Worker| matches!(&worker.phase, Phase::Busy(of, _) if *of == key);
                state.workers.iter_mut().find(busy).and_then(Worker::doom)
            }
        };
        drop(state);
        if let Some(work) = work {
            self.withdraw(work);
        }
        self.pump();
    }

    fn ending(self: &Arc<Self>) -> PoolShutdown {
        let (producer, task) = channel(None);
        self.lock().waiting.push(producer);
        self.pump();
        PoolShutdown::new(task)
    }
}

impl Worker {
    /// Takes its job, and has it killed.
    fn doom(&mut self) -> Option<Box<dyn Work>> {
        match std::mem::replace(&mut self.phase, Phase::Ending { doomed: true }) {
            Phase::Busy(_, work) => Some(work),
            _ => None,
        }
    }
}

struct Events {
    pool: Arc<Shared>,
    id: u64,
}

impl IsolateEvents for Events {
    fn message(&self, message: Vec<u8>) {
        self.pool.message(self.id, message);
    }

    fn idle(&self) -> bool {
        self.pool.idle(self.id)
    }

    fn ended(&self, end: IsolateEnd) {
        self.pool.ended(self.id, end);
    }
}

/// Workers of a simulated world: they live in its queue of jobs, and run on its stack.
mod simulated {
    use super::*;

    pub(super) const OVER: Unavailable = Unavailable::new(
        "the simulation that the pool belongs to is over: make the pool in the loop that uses it",
    );

    pub(super) fn world(made_in: &Weak<dyn Platform>) -> Option<Arc<dyn Platform>> {
        let here = with_current(|scheduler| scheduler.platform().clone());
        let here = here.filter(|platform| platform.nests()).or_else(|| made_in.upgrade());
        // The loop may have gone, and another one of its world run.
        here.or_else(crate::testing::works)
    }

    struct Simulated {
        name: Arc<str>,
        world: Weak<dyn Platform>,
        life: Arc<Life>,
    }

    struct Life {
        events: Arc<Events>,
        killed: AtomicBool,
        over: AtomicBool,
    }

    impl Life {
        fn end(&self, how: &str) {
            if !self.over.swap(true, Ordering::Relaxed) {
                self.events.ended(IsolateEnd::Died(how.to_owned()));
            }
        }
    }

    pub(super) fn spawn(
        world: &Arc<dyn Platform>,
        name: &str,
        hello: &[u8],
        events: Arc<Events>,
    ) -> Box<dyn Isolate> {
        let life = Arc::new(Life { events, killed: AtomicBool::new(false), over: AtomicBool::new(false) });
        let simulated = Simulated { name: name.into(), world: Arc::downgrade(world), life };
        let hello = hello.to_vec();
        simulated.later(move |life| life.events.message(hello));
        Box::new(simulated)
    }

    /// What the world is to do; if it ends before, so does the worker.
    struct Later<F: FnOnce(&Life)> {
        f: Option<F>,
        life: Arc<Life>,
    }

    impl<F: FnOnce(&Life)> Drop for Later<F> {
        fn drop(&mut self) {
            if self.f.is_some() {
                self.life.end("ended with its simulation");
            }
        }
    }

    impl Simulated {
        fn later(&self, f: impl FnOnce(&Life) + Send + 'static) {
            let mut later = Later { f: Some(f), life: self.life.clone() };
            let run = move || {
                if let Some(f) = later.f.take() {
                    f(&later.life);
                }
            };
            // A world takes all jobs. Where there is none any more the closure is dropped, which tells the end.
            if let Some(world) = world(&self.world) {
                let _ = world.run_blocking(Box::new(run));
            }
        }
    }

    impl Isolate for Simulated {
        fn post(&self, message: Vec<u8>) {
            let name = self.name.clone();
            self.later(move |life| {
                if !life.killed.load(Ordering::Relaxed) {
                    life.events.message(job::answer(&name, &message));
                }
            });
        }

        fn kill(&self) {
            self.life.killed.store(true, Ordering::Relaxed);
        }
    }

    impl Drop for Simulated {
        fn drop(&mut self) {
            self.later(|life| life.end("was let go"));
        }
    }
}
