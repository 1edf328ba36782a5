//! Threads for jobs that block.
//!
//! # The idea
//!
//! One mutex guards the queue and the list of sleeping workers; a worker sleeps on a [`Parker`] of its own. So a
//! worker that is woken has left the list already, and one whose idle limit is over leaves it itself: no wake is
//! ever spent on a thread that is about to end, and the last one to fall asleep is the first one to be woken,
//! which lets the others run out their limit.
//!
//! At most one worker is *on its way* to the queue (`State::coming`): woken, just started, or looking round for a
//! moment before it sleeps. While one is, a submit only pushes. When it takes a job it sends the next one on its
//! way if the queue holds more, and only then runs the job. So a burst costs the submitter one wake, yet a job
//! never waits behind a blocked one while a thread is free or may be started. The invariant, whenever the mutex
//! is free:
//!
//! > the queue is empty, or a worker is coming, or no worker sleeps and no further one may be started.
//!
//! In the last case each worker that finishes its job looks at the queue by itself.
//!
//! # A shutdown beside submits
//!
//! All of it is decided under the mutex, so a submit comes before the step that sets `State::closed`, or after it:
//!
//! - *After it* the job is refused, and handed back.
//! - *Before it* the job is in the queue. [`Pool::shutdown_now`] takes the whole queue in the step that closes, so each job is either handed
//!   back or was taken by a worker that runs it. [`Pool::shutdown`] leaves the queue, and a worker ends only when it has found, under the
//!   mutex, that the queue is empty and stays so. By the invariant there is such a worker for as long as there is a job.
//!
//! *No worker sleeps through it.* The step that closes takes all sleepers off the list, and they are unparked after it. A worker
//! that was awake looks at `closed` under the mutex before it puts itself on the list. One that looks round without the mutex takes it before
//! it sleeps, and is called by the length, which is not zero from then on.
//!
//! *No joiner sleeps through it.* What it waits for changes in two places, the step that closes and the last step of a worker, both
//! under the mutex; each looks whether it was the last one, and then wakes all. So the one that comes second does.

use std::{
    cell::Cell,
    collections::VecDeque,
    error::Error,
    fmt, hint, io,
    num::NonZeroUsize,
    sync::{Arc, LazyLock, PoisonError},
    time::{Duration, Instant},
};

#[cfg(all(selkie_loom, test))]
use loom::{
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
#[cfg(not(all(selkie_loom, test)))]
use std::{
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use selkie_platform::Job;

use crate::{contain, park::Parker, without_zeros};

/// What a [`Pool`] runs.
pub trait Run: Send + 'static {
    /// What all that is in one pool has in common. The pool keeps it, so that no entry of the queue has to.
    type Owner: Send + Sync + 'static;

    /// Runs it, on a thread of the pool.
    fn run(self, owner: &Self::Owner);
}

impl Run for Job {
    type Owner = ();

    fn run(self, (): &()) {
        self();
    }
}

/// Threads that run blocking jobs in the order of submission.
///
/// Threads are started when a job finds none idle, up to a maximum, and end after they were idle for some time.
/// A panic in a job is reported by the panic hook and otherwise ignored: whoever submits a job has it catch its
/// own panics.
///
/// Dropping the pool is [`shutdown`](Self::shutdown): no new jobs, what is queued still runs, and nobody waits.
pub struct Pool<J: Run = Job> {
    shared: Arc<Shared<J>>,
}

impl Pool {
    /// A pool of at most `max` threads, named `{name}-0`, `{name}-1` and so on, which end after being idle for
    /// `idle`.
    ///
    /// No thread is started yet.
    pub fn new(max: NonZeroUsize, idle: Duration, name: impl Into<String>) -> Self {
        Self::owned_by(max, idle, Duration::ZERO, name, ())
    }

    /// The pool that all loops of this process share: `min(32, cpus + 4)` threads named `selkie-blocking-N`, idle
    /// for 10 seconds at most.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Pool> = LazyLock::new(|| {
            let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
            let max = NonZeroUsize::new((cpus + 4).min(32)).expect("at least four");
            Pool::new(max, Duration::from_secs(10), "selkie-blocking")
        });
        &SHARED
    }
}

impl<J: Run> Pool<J> {
    /// As [`Pool::new`], with what the jobs have in common. A thread that has run out of jobs looks for the next one for as long as
    /// `spin` before it sleeps; one at a time does.
    pub fn owned_by(
        max: NonZeroUsize,
        idle: Duration,
        spin: Duration,
        name: impl Into<String>,
        owner: J::Owner,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                owner,
                spin,
                max: max.get(),
                idle,
                name: name.into(),
                queued: AtomicUsize::new(0),
                state: Mutex::new(State {
                    queue: VecDeque::new(),
                    idle: Vec::new(),
                    threads: 0,
                    coming: false,
                    closed: false,
                    named: 0,
                }),
                ended: Condvar::new(),
            }),
        }
    }

    /// Queues a job. It starts after all that were submitted before, as soon as a thread is free.
    ///
    /// Callable from any thread, also from a job of this pool. Never waits for a job.
    ///
    /// # Errors
    ///
    /// [`Refused`], with the job, after a shutdown, or when there is no thread and none can be started. A pool
    /// that has a thread keeps the job when the system refuses another one.
    pub fn submit(&self, job: J) -> Result<(), Refused<J>> {
        let mut state = self.shared.lock();
        if state.closed {
            drop(state);
            return Err(Refused::ShutDown(job));
        }
        // Before the push: without any thread a queued job would be stranded when none can be started.
        if state.threads == 0 {
            if let Err(error) = self.shared.start(&mut state) {
                drop(state);
                return Err(Refused::NoThread(job, error));
            }
        }
        state.queue.push_back(job);
        self.shared.queued.store(state.queue.len(), Ordering::Relaxed);
        let woken = self.shared.send(&mut state);
        drop(state);
        if let Some(worker) = woken {
            worker.pend();
        }
        Ok(())
    }

    /// Takes no new jobs from here on. What is queued still runs, then the threads end.
    ///
    /// Returns at once; [`join`](Self::join) waits. A second call does nothing.
    pub fn shutdown(&self) {
        self.shared.close(|_| ());
    }

    /// Takes no new jobs from here on and gives back those that have not started, first one first.
    ///
    /// Returns at once; jobs that run go on, and [`join`](Self::join) waits for them. May follow a
    /// [`shutdown`](Self::shutdown).
    pub fn shutdown_now(&self) -> Vec<J> {
        self.shared.close(|state| std::mem::take(&mut state.queue)).into()
    }

    /// Waits until the pool is shut down and all its threads have ended, at most for `timeout`.
    ///
    /// It waits for the shutdown too if there was none yet.
    ///
    /// # Errors
    ///
    /// [`StillRunning`] when the time is over, and at once when called by a job of this very pool, whose thread
    /// cannot end meanwhile.
    pub fn join(&self, timeout: Option<Duration>) -> Result<(), StillRunning> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.shared.lock();
        while !state.closed || state.threads > 0 {
            let still = StillRunning { threads: state.threads };
            if current() == Arc::as_ptr(&self.shared).addr() {
                return Err(still);
            }
            state = match deadline {
                None => self.shared.ended.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(still);
                    }
                    self.shared.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        Ok(())
    }

    /// How many threads there are and what they do, at this moment.
    pub fn counts(&self) -> Counts {
        let state = self.shared.lock();
        Counts { threads: state.threads, idle: state.idle.len(), queued: state.queue.len() }
    }

    /// The most threads there can be.
    pub fn max_threads(&self) -> usize {
        self.shared.max
    }
}

impl<J: Run> Drop for Pool<J> {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl<J: Run> fmt::Debug for Pool<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.shared.name)
            .field("max_threads", &self.shared.max)
            .field("counts", &self.counts())
            .finish()
    }
}

/// A [`Pool`] at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Threads that were started and have not ended, never more than the maximum.
    pub threads: usize,
    /// Threads among them that sleep.
    pub idle: usize,
    /// Jobs that have not started.
    pub queued: usize,
}

/// The pool did not take the job, and gives it back.
#[non_exhaustive]
pub enum Refused<J = Job> {
    /// The pool was shut down.
    ShutDown(J),
    /// The pool has no thread, and the system refuses to start one.
    NoThread(J, io::Error),
}

impl<J> Refused<J> {
    /// The job, to be run elsewhere or dropped.
    pub fn into_job(self) -> J {
        match self {
            Self::ShutDown(job) | Self::NoThread(job, _) => job,
        }
    }
}

impl<J> fmt::Debug for Refused<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShutDown(_) => f.write_str("ShutDown(..)"),
            Self::NoThread(_, error) => write!(f, "NoThread(.., {error:?})"),
        }
    }
}

impl<J> fmt::Display for Refused<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShutDown(_) => f.write_str("the pool is shut down"),
            Self::NoThread(_, error) => write!(f, "the system refuses to start a thread: {error}"),
        }
    }
}

/// A [`Pool::join`] ended before the pool's threads did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StillRunning {
    threads: usize,
}

impl StillRunning {
    /// How many threads had not ended.
    pub fn threads(&self) -> usize {
        self.threads
    }
}

impl fmt::Display for StillRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} threads of the pool have not ended", self.threads)
    }
}

impl Error for StillRunning {}

struct Shared<J: Run> {
    owner: J::Owner,
    max: usize,
    idle: Duration,
    spin: Duration,
    name: String,
    /// The length of the queue, for workers that look round without the mutex. A hint only; not zero when the pool has closed.
    queued: AtomicUsize,
    state: Mutex<State<J>>,
    /// The pool was shut down and its last thread has ended.
    ended: Condvar,
}

struct State<J> {
    queue: VecDeque<J>,
    /// Workers that sleep. The last one is woken first.
    idle: Vec<Arc<Parker>>,
    threads: usize,
    /// A worker will look at the queue soon, without being told to.
    coming: bool,
    closed: bool,
    /// How many threads have been named.
    named: usize,
}

impl<J: Run> Shared<J> {
    /// No user code runs under this mutex, so it is never poisoned with the state half changed.
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one more worker to the queue if the invariant asks for it. The caller unparks the one that is
    /// returned, after it has released the mutex, which the woken thread takes at once.
    #[must_use]
    fn send(self: &Arc<Self>, state: &mut State<J>) -> Option<Arc<Parker>> {
        if state.coming || state.queue.is_empty() {
            return None;
        }
        if let Some(worker) = state.idle.pop() {
            state.coming = true;
            return Some(worker);
        }
        if state.threads < self.max {
            // When the system refuses, the threads that are there go on with the queue, and the next submit tries
            // again.
            let _ = self.start(state);
        }
        None
    }

    /// Starts a worker. Under the mutex, so that no other thread counts on a start that fails.
    fn start(self: &Arc<Self>, state: &mut State<J>) -> io::Result<()> {
        let shared = self.clone();
        let name = without_zeros(&format!("{}-{}", self.name, state.named));
        thread::Builder::new().name(name).spawn(move || shared.work())?;
        state.named += 1;
        state.threads += 1;
        state.coming = true;
        Ok(())
    }

    /// The life of a worker, which begins as the one that is coming.
    fn work(self: Arc<Self>) {
        CURRENT.with(|current| current.set(Arc::as_ptr(&self).addr()));
        let parker = Arc::new(Parker::new());
        parker.bind();
        let mut state = self.lock();
        state.coming = false;
        loop {
            while let Some(job) = state.queue.pop_front() {
                self.queued.store(state.queue.len().max(usize::from(state.closed)), Ordering::Relaxed);
                let woken = self.send(&mut state);
                drop(state);
                if let Some(worker) = woken {
                    worker.pend();
                }
                contain(|| job.run(&self.owner));
                state = self.lock();
            }
            if state.closed {
                break;
            }
            // One worker at a time looks round a little before it sleeps: in a stream of short jobs this saves a
            // system call on both sides of nearly every job.
            if !state.coming {
                state.coming = true;
                drop(state);
                self.look_round();
                state = self.lock();
                state.coming = false;
                if !state.queue.is_empty() || state.closed {
                    continue;
                }
            }
            if state.queue.capacity() > KEPT_CAPACITY {
                state.queue = VecDeque::new();
            }
            state.idle.push(parker.clone());
            drop(state);
            let deadline = Instant::now().checked_add(self.idle);
            let left = || match deadline {
                None => Some(Duration::MAX),
                Some(deadline) => {
                    deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
                }
            };
            state = loop {
                parker.park(left);
                let mut state = self.lock();
                // The list decides, not how `park` ended: whoever takes a worker off the list unparks it a little
                // later, perhaps when it has noticed by itself and even sleeps again.
                let Some(place) = state.idle.iter().position(|idle| Arc::ptr_eq(idle, &parker)) else {
                    break state;
                };
                if left().is_none() {
                    // `remove`, as the order is the point.
                    state.idle.remove(place);
                    self.end(state);
                    return;
                }
            };
            // A shutdown wakes workers too. If another worker is coming, the worst of clearing its mark is that a
            // further one is sent.
            state.coming = false;
        }
        self.end(state);
    }

    /// The last step of a worker.
    fn end(&self, mut state: MutexGuard<'_, State<J>>) {
        state.threads -= 1;
        if state.closed && state.threads == 0 {
            self.ended.notify_all();
        }
    }

    /// Lets other threads run for a moment, and then waits for as long as is set, until there is something in the queue.
    fn look_round(&self) {
        let is_due = || self.queued.load(Ordering::Relaxed) > 0;
        for _ in 0..LOOKS {
            if is_due() {
                return;
            }
            thread::yield_now();
        }
        if self.spin.is_zero() {
            return;
        }
        let start = Instant::now();
        while start.elapsed() < self.spin {
            for _ in 0..SPINS {
                if is_due() {
                    return;
                }
                hint::spin_loop();
            }
            // Who shares the processor is not held up.
            thread::yield_now();
        }
    }

    fn close<R>(&self, also: impl FnOnce(&mut State<J>) -> R) -> R {
        let mut state = self.lock();
        state.closed = true;
        let result = also(&mut state);
        // For one that looks round.
        self.queued.fetch_max(1, Ordering::Relaxed);
        let sleeping = std::mem::take(&mut state.idle);
        if state.threads == 0 {
            self.ended.notify_all();
        }
        drop(state);
        for worker in sleeping {
            worker.pend();
        }
        result
    }
}

#[cfg(not(all(selkie_loom, test)))]
thread_local! {
    /// The address of the pool whose worker this thread is.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

#[cfg(all(selkie_loom, test))]
loom::thread_local! {
    static CURRENT: Cell<usize> = Cell::new(0);
}

fn current() -> usize {
    CURRENT.with(Cell::get)
}

/// How often a worker yields before it sleeps.
const LOOKS: usize = if cfg!(selkie_loom) { 1 } else { 32 };

/// Between two yields of one that waits for longer.
const SPINS: usize = 4;

/// A burst's queue is given back to the allocator when it has grown beyond this many jobs.
const KEPT_CAPACITY: usize = 1024;

#[cfg(all(selkie_loom, test))]
#[path = "pool/loom.rs"]
mod models;

#[cfg(all(test, not(selkie_loom)))]
mod tests;
