//! Threads for jobs that block, in a build with threads.
//!
//! Each thread of a pool is a [`Turn`] on a thread of the crew: a turn runs jobs, and a thread that finds none waits, in the
//! list of the idle ones, for its idle limit. Whoever submits takes the last one off the list and wakes it. The list
//! decides, not how a wait ended: a thread that is not on it any more has work coming. One whose time is over may find that work before
//! it, and takes itself off: who is on the list is free.
//!
//! # No job is left behind
//!
//! Whoever submits finds an idle thread, or counts one and starts it, or finds as many as there may be, each of which looks at
//! the queue before it goes. But a thread counts until it has gone, and may go without that look: it has decided to end
//! just before the job came, or its Worker has died, or has not come up. So *who uncounts a thread looks at the queue*, under the
//! same lock: if there are jobs, it wakes an idle thread or starts one in its place. It may be one too many, as those that are busy
//! come back too, but they may be busy with waiting for this very job. Only a thread that has not come up is not replaced, as
//! the next would not come up either; if it was the only one, the jobs are dropped, and those who wait for them learn it.
//!
//! `tests/loom/threads.rs` has the model of this.
//!
//! # Far behind
//!
//! A page that is woken for each result, some ten times in a millisecond, is awake all the time: it takes a processor from
//! those who make the results, and they spend longer on waking it than on short jobs. So while a pool has hundreds of jobs queued,
//! pages look only every quarter of a millisecond, as `wake.rs` says. A result that is that much later does not show, with
//! what had to wait for its place in such a queue; and the threads do not run out of jobs meanwhile.

use std::{
    cell::Cell,
    collections::VecDeque,
    fmt,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{
        Arc, Weak,
        atomic::{AtomicI32, Ordering},
    },
    task::Waker,
    time::Duration,
};

use selkie_platform::{Job, Next, Platform, Turn, Unavailable};

use crate::{
    Web, crew, host,
    lock::{Spin, lock},
    park::{NoWait, block},
};

/// Threads that run blocking jobs in the order of submission.
///
/// A thread is started when a job finds none idle, up to a maximum, and ends after it was idle for some time; its Worker stays
/// for others for a while. Dropping the pool is [`shutdown`](Self::shutdown).
pub struct Pool<J: Run = Job> {
    shared: Arc<Shared<J>>,
}

/// What a [`Pool`] runs.
pub trait Run: Send + 'static {
    /// Does the job, on a thread of the pool.
    fn run(self);

    /// Such a thread is one of the pool no more; its Worker may serve others.
    fn ended() {}
}

impl Run for Job {
    fn run(self) {
        self();
    }
}

struct Shared<J> {
    max: usize,
    idle: Duration,
    name: String,
    state: Spin<State<J>>,
}

/// How many pools are far behind: so many jobs are queued that nobody is idle soon.
pub(crate) static BEHIND: AtomicI32 = AtomicI32::new(0);
/// Jobs from which on a pool is far behind. While a loop pauses, its threads run out of jobs only if these take a microsecond.
const MANY: usize = 512;
/// Jobs with which it is so no more.
const FEW: usize = 256;

struct State<J> {
    queue: VecDeque<J>,
    /// Counted in [`BEHIND`].
    behind: bool,
    idle: Vec<Arc<Web>>,
    threads: usize,
    /// How many threads have been named.
    named: usize,
    closed: bool,
    /// Who waits for the end of the threads.
    joining: Vec<Waker>,
}

impl<J> Default for State<J> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            behind: false,
            idle: Vec::new(),
            threads: 0,
            named: 0,
            closed: false,
            joining: Vec::new(),
        }
    }
}

impl<J> State<J> {
    /// Called when the queue has changed.
    fn count(&mut self) {
        let behind = self.queue.len() >= if self.behind { FEW } else { MANY };
        if behind != self.behind {
            self.behind = behind;
            BEHIND.fetch_add(if behind { 1 } else { -1 }, Ordering::Relaxed);
        }
    }

    /// Takes a thread off the list of the idle ones, whose order stays, if it is there.
    fn forget(&mut self, web: &Arc<Web>) {
        self.idle.retain(|idle| !Arc::ptr_eq(idle, web));
    }

    fn take_queue(&mut self) -> VecDeque<J> {
        let queue = std::mem::take(&mut self.queue);
        self.count();
        queue
    }
}

impl<J> Drop for State<J> {
    fn drop(&mut self) {
        self.take_queue();
    }
}

/// The pool did not take a job; it is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It was shut down.
    ShutDown,
    /// It has no thread, and none can be started.
    Unavailable(Unavailable),
}

impl<J: Run> Pool<J> {
    /// A pool of at most `max` threads, named `{name}-0`, `{name}-1` and so on, which end after being idle for `idle`. None is
    /// started yet.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] where there can be none.
    pub fn new(max: NonZeroUsize, idle: Duration, name: &str) -> Result<Self, Unavailable> {
        crew::processors()?;
        let shared = Shared { max: max.get(), idle, name: name.to_owned(), state: Spin::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Queues a job. Never waits.
    ///
    /// # Errors
    ///
    /// [`Refused`]; the job is dropped.
    pub fn submit(&self, job: J) -> Result<(), Refused> {
        let mut state = lock(&self.shared.state);
        if state.closed {
            drop(state);
            drop(job);
            return Err(Refused::ShutDown);
        }
        state.queue.push_back(job);
        state.count();
        if let Some(idle) = state.idle.pop() {
            drop(state);
            idle.pend();
            return Ok(());
        }
        if state.threads == self.shared.max {
            return Ok(());
        }
        state.threads += 1;
        drop(state);
        match Thread::start(&self.shared) {
            // With no other thread, all that was queued was dropped just now. Otherwise one will come to it.
            Err(error) if self.threads() == 0 => Err(Refused::Unavailable(error)),
            _ => Ok(()),
        }
    }

    /// Takes no new jobs from here on. What is queued still runs, then the threads end.
    pub fn shutdown(&self) {
        self.shared.close(|_| ());
    }

    /// Takes no new jobs from here on and gives back those that have not started, first one first.
    pub fn shutdown_now(&self) -> Vec<J> {
        self.shared.close(State::take_queue).into()
    }

    /// Waits until the pool is shut down and all its threads have ended, at most for `timeout`.
    ///
    /// # Errors
    ///
    /// As [`block`].
    pub fn join(&self, timeout: Option<Duration>) -> Result<(), NoWait> {
        let mut mine: Option<Waker> = None;
        let ended = block(None, timeout, &mut |waker| {
            let new = mine.is_none().then(|| waker.clone());
            let mut state = lock(&self.shared.state);
            if state.closed && state.threads == 0 {
                drop(state);
                return true;
            }
            if let Some(new) = new {
                // It is woken once, at the end.
                mine = Some(new.clone());
                state.joining.push(new);
            }
            false
        });
        if let (Err(_), Some(mine)) = (&ended, &mine) {
            // Whoever waits with a limit again and again would only gather them.
            lock(&self.shared.state).joining.retain(|waker| !waker.will_wake(mine));
        }
        ended
    }

    /// How many threads there are, busy and idle.
    pub fn threads(&self) -> usize {
        lock(&self.shared.state).threads
    }
}

impl<J: Run> Drop for Pool<J> {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl<J: Run> fmt::Debug for Pool<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.shared.state);
        let (threads, queued) = (state.threads, state.queue.len());
        drop(state);
        f.debug_struct("Pool").field("threads", &threads).field("queued", &queued).finish()
    }
}

/// The pool of [`Platform::run_blocking`]: `min(32, processors + 4)` threads for all loops.
#[cfg(not(selkie_loom))]
pub(crate) fn shared(job: Job) -> Result<(), Unavailable> {
    static SHARED: Spin<Option<Arc<Pool>>> = Spin::new(None);
    let max = NonZeroUsize::new((crew::processors()? + 4).min(32)).unwrap_or(NonZeroUsize::MIN);
    // Made outside of the lock, though it may be for nothing.
    let made = Arc::new(Pool::new(max, Duration::from_secs(2), "selkie-blocking")?);
    let pool = lock(&SHARED).get_or_insert_with(|| made.clone()).clone();
    pool.submit(job).map_err(|refused| match refused {
        Refused::Unavailable(error) => error,
        Refused::ShutDown => Unavailable::new("the shared pool is shut down"),
    })
}

impl<J: Run> Shared<J> {
    fn close<R>(&self, also: impl FnOnce(&mut State<J>) -> R) -> R {
        let mut state = lock(&self.state);
        state.closed = true;
        let result = also(&mut state);
        let idle = std::mem::take(&mut state.idle);
        let joining = if state.threads == 0 { std::mem::take(&mut state.joining) } else { Vec::new() };
        drop(state);
        idle.iter().for_each(|idle| idle.pend());
        joining.into_iter().for_each(Waker::wake);
        result
    }

    /// A thread has ended, by itself or not.
    fn left(self: &Arc<Self>, web: &Arc<Web>, came_up: bool) {
        let mut state = lock(&self.state);
        state.threads -= 1;
        state.forget(web);
        let waiting = !state.queue.is_empty();
        let woken = if waiting { state.idle.pop() } else { None };
        let replaced = waiting && woken.is_none() && came_up;
        state.threads += usize::from(replaced);
        let none = state.threads == 0;
        let lost = if none { state.take_queue() } else { VecDeque::new() };
        let joining = if state.closed && none { std::mem::take(&mut state.joining) } else { Vec::new() };
        drop(state);
        woken.into_iter().for_each(|idle| idle.pend());
        joining.into_iter().for_each(Waker::wake);
        if replaced {
            // If it cannot start, that comes here again.
            let _ = Thread::start(self);
        }
        drop(lost);
    }
}

/// A thread of a pool.
struct Thread<J: Run> {
    shared: Arc<Shared<J>>,
    web: Arc<Web>,
    /// When it found nothing to do.
    since: Cell<Option<Duration>>,
    /// Dropped before `counted`, which does what it would do.
    _risk: crew::Risk,
    /// Dropped last, when nothing of the pool is left here.
    _counted: Counted<J>,
}

/// Counts a thread until it is dropped, on whichever thread.
struct Counted<J: Run> {
    shared: Weak<Shared<J>>,
    web: Arc<Web>,
    came_up: bool,
}

impl<J: Run> Drop for Counted<J> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.left(&self.web, self.came_up);
        }
    }
}

impl<J: Run> Drop for Thread<J> {
    fn drop(&mut self) {
        J::ended();
    }
}

impl<J: Run> Thread<J> {
    /// Counted already.
    fn start(shared: &Arc<Shared<J>>) -> Result<(), Unavailable> {
        let web = Arc::new(Web::new());
        let mut counted = Counted { shared: Arc::downgrade(shared), web: web.clone(), came_up: false };
        let shared = shared.clone();
        let number = {
            let mut state = lock(&shared.state);
            state.named += 1;
            state.named - 1
        };
        let name = format!("{}-{number}", shared.name).into();
        crew::spawn(
            name,
            Box::new(move || {
                counted.came_up = true;
                let again = (Arc::downgrade(&shared), web.clone());
                let risk = crew::at_risk(|| {
                    Box::new(move |_| {
                        if let Some(shared) = again.0.upgrade() {
                            shared.left(&again.1, true);
                        }
                    })
                });
                let since = Cell::new(None);
                let thread = Self { shared, web: web.clone(), since, _risk: risk, _counted: counted };
                web.drive(Rc::new(thread));
            }),
        )
    }
}

impl<J: Run> Turn for Thread<J> {
    fn turn(&self) -> Next {
        // Where the host gives turns it has to get some between jobs.
        let over = (!crew::parks()).then(|| host::now() + crate::SLICE);
        loop {
            if over.is_some_and(|over| host::now() > over) {
                return Next::Now;
            }
            let mut state = lock(&self.shared.state);
            if let Some(job) = state.queue.pop_front() {
                state.count();
                if self.since.take().is_some() {
                    // It may have come by itself, for what another one was woken for.
                    state.forget(&self.web);
                }
                drop(state);
                run(job);
                continue;
            }
            if state.closed {
                return Next::Done;
            }
            let since = match self.since.get() {
                Some(since) => since,
                None => {
                    let now = host::now();
                    self.since.set(Some(now));
                    now
                }
            };
            let Some(limit) = since.checked_add(self.shared.idle) else {
                self.wait(&mut state);
                return Next::Idle;
            };
            if host::now() < limit {
                self.wait(&mut state);
                return Next::At(limit);
            }
            // If it is not there a wake is on its way, perhaps for a job that another thread has taken meanwhile.
            state.forget(&self.web);
            return Next::Done;
        }
    }

    fn trapped(&self) {}
}

impl<J: Run> Thread<J> {
    /// Puts itself on the list, if it is not there.
    fn wait(&self, state: &mut State<J>) {
        if !state.idle.iter().any(|idle| Arc::ptr_eq(idle, &self.web)) {
            state.idle.push(self.web.clone());
        }
    }
}

/// Runs a job. Neither its panic nor one in the drop of what it threw reaches the thread.
fn run(job: impl Run) {
    if let Err(thrown) = catch_unwind(AssertUnwindSafe(|| job.run())) {
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(thrown))) {
            std::mem::forget(again);
        }
    }
}
