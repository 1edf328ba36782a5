//! Handing work to a loop from other threads, and blocking work to other threads.

use std::{
    cell::UnsafeCell,
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use atomic_waker::AtomicWaker;

use crate::{
    LoopClosed, LoopHandle, context,
    error::{JoinError, contain, discard},
    os,
    ready::Priority,
    remote::{Producer, RemoteTask, StandIn, channel, gone},
    scheduler::{self, with_current},
    task::{HANDLE, QUIET, Setup, spawn_on},
};

impl LoopHandle {
    /// Makes a future in the loop's thread, from any thread, and runs it there as a task.
    ///
    /// `f` crosses threads; the future it makes does not, so it need not be `Send`. An async closure does:
    /// `handle.submit(async move || ..)`. It starts at a turn of the loop, when the loop runs; what one thread submits starts
    /// in its order. It runs with a copy of the submitter's context variables.
    ///
    /// Mirrors [`asyncio.run_coroutine_threadsafe`](https://docs.python.org/3/library/asyncio-task.html#asyncio.run_coroutine_threadsafe).
    /// **Difference**: a cancelled result comes when the task has ended, not before, and a task cancelled before the loop
    /// picked it up never begins.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`]; `f` is dropped. A loop that closes later leaves a [`JoinError`] that says so.
    #[doc(alias = "run_coroutine_threadsafe")]
    pub fn submit<F, Fut>(&self, f: F) -> Result<RemoteTask<Fut::Output>, LoopClosed>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Send + 'static,
    {
        let (producer, task) = channel(Some(self.scheduler().clone()));
        self.scheduler().debts.owe(&producer);
        let context = context::current();
        let start = move |scheduler: &scheduler::Scheduler| {
            if producer.begin() {
                let setup = Setup { priority: Priority::Normal, flags: HANDLE | QUIET, context, name: None };
                spawn_on(scheduler, body(f, producer), setup, true).detach();
            }
        };
        self.scheduler().call_remote(Box::new(start)).map_err(|_| LoopClosed)?;
        Ok(task)
    }

    /// As [`submit`](Self::submit), for a future that can cross threads itself.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`]; the future is dropped.
    pub fn submit_future<F>(&self, future: F) -> Result<RemoteTask<F::Output>, LoopClosed>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.submit(move || future)
    }
}

/// The task that a submit becomes: it passes on a cancel of the remote end, and its own end to it.
async fn body<F, Fut>(f: F, producer: Producer<Fut::Output>)
where
    F: FnOnce() -> Fut,
    Fut: Future,
    Fut::Output: Send + 'static,
{
    if let (true, Some(task)) = (os::TRAPS, scheduler::running()) {
        let last = LastWord(producer.stand_in());
        task.add_callback(Box::new(move |_| drop(last)));
    }
    let label = || scheduler::running().map_or_else(String::new, |task| task.label());
    let future = match catch_unwind(AssertUnwindSafe(f)) {
        Ok(future) => future,
        Err(payload) => return producer.give(Err(JoinError::panicked(label(), payload))),
    };
    let mut future = pin!(future);
    let mut asked = false;
    let result = poll_fn(|cx| {
        if !asked && producer.poll_cancelled(cx.waker()) {
            asked = true;
            if let Some(task) = scheduler::running() {
                task.cancel(None);
            }
        }
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(payload) => Poll::Ready(Err(JoinError::panicked(label(), payload))),
        }
    });
    let result = result.await;
    producer.give(result);
}

/// Goes when the task's callbacks do, called or not. The producer has gone before, unless a trap took it.
struct LastWord<T: Send>(StandIn<T>);

impl<T: Send> Drop for LastWord<T> {
    fn drop(&mut self) {
        self.0.give(JoinError::trapped());
    }
}

/// Runs a function that blocks on a thread for such work, and lets the loop go on meanwhile.
///
/// It starts at this call, with a copy of the context variables. Awaiting gives its result, or a [`JoinError`] if it panicked.
/// Dropping the future before the function has begun withdraws it; afterwards it cannot be stopped, runs on, and its result
/// is dropped. [`run`](crate::run) and [`Runner::close`](crate::Runner::close) wait for the functions that their loop has
/// started, within the limit that they have for tasks.
///
/// The threads are shared by the whole process: at most `min(32, cpus + 4)`, jobs first in, first out. Mirrors
/// [`asyncio.to_thread`](https://docs.python.org/3/library/asyncio-task.html#asyncio.to_thread); **Difference**: that starts when
/// it is awaited.
///
/// # Platform-specific
///
/// - **Web:** in a build with threads, in an isolated page, on Workers; a function that calls JavaScript panics there, with the
///   name of what is missing. Elsewhere the result is a [`JoinError`] with `is_unavailable`, which names what to use instead, and
///   the function is not run.
///
/// # Examples
///
/// ```
/// selkie::run(async {
///     let sum = selkie::to_thread(|| (1..=1000u64).sum::<u64>()).await;
///     assert_eq!(sum.unwrap(), 500_500);
/// });
/// ```
#[doc(alias = "run_in_executor")]
#[doc(alias = "spawn_blocking")]
pub fn to_thread<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> ToThread<R> {
    let (producer, task) = channel(None);
    let here = with_current(|scheduler| (scheduler.platform().clone(), scheduler.jobs.begin()));
    let (platform, running) = match here {
        Some((platform, running)) => (platform, Some(running)),
        None => (os::host(), None),
    };
    let job = Job::new(f, producer, running);
    let refused = platform.run_blocking(Box::new(move || job.run(Ok(()))));
    ToThread { task, refused: refused.err().map(JoinError::unavailable) }
}

/// What a loop has given to [`to_thread`] and has not ended, which the end of the loop waits for.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    count: AtomicUsize,
    /// The task that ends the loop.
    waiter: AtomicWaker,
}

impl Jobs {
    fn begin(self: &Arc<Self>) -> RunningJob {
        self.count.fetch_add(1, Ordering::Relaxed);
        RunningJob(self.clone())
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    pub(crate) fn poll_ended(&self, waker: &Waker) -> bool {
        self.waiter.register(waker);
        self.count() == 0
    }
}

/// A job that was neither withdrawn nor has ended.
struct RunningJob(Arc<Jobs>);

impl Drop for RunningJob {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.waiter.wake();
        }
    }
}

impl Kept for Option<RunningJob> {
    fn release(&self) -> Release {
        let jobs = self.as_ref().map(|job| job.0.clone());
        Box::new(move || drop(jobs.map(RunningJob)))
    }
}

/// What goes when nothing of a job is left.
pub(crate) trait Kept: Send {
    /// Does what dropping this does, should it have gone without having been dropped.
    fn release(&self) -> Release;
}

/// From [`Kept::release`].
pub(crate) type Release = Box<dyn FnOnce() + Send>;

impl Kept for () {
    fn release(&self) -> Release {
        Box::new(|| ())
    }
}

/// A job that was not run. It is called once, also to go: with the reason why not, or with nothing if it was withdrawn.
type Work = Box<dyn FnOnce(Option<Result<(), JoinError>>) + Send>;

/// The place of a job in a queue. A cancel empties it, where it is, in the thread that cancels.
pub(crate) struct Slot {
    taken: AtomicBool,
    work: UnsafeCell<Option<Work>>,
}

// SAFETY: `work` is written before the slot is shared, and afterwards touched by the one who has set `taken`. It is `Send`.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

impl Slot {
    fn take(&self) -> Option<Work> {
        if self.taken.swap(true, Ordering::AcqRel) {
            return None;
        }
        // SAFETY: the swap lets one through.
        unsafe { (*self.work.get()).take() }
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire)
    }

    /// Runs the job, or gives it the reason why not. Does nothing if it has begun or was withdrawn.
    pub(crate) fn run(&self, verdict: Result<(), JoinError>) {
        if let Some(work) = self.take() {
            work(Some(verdict));
        }
    }

    fn withdraw(&self) {
        if let Some(work) = self.take() {
            work(None);
        }
    }
}

/// The waker that a cancel wakes.
impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        // The values of the context may panic as they go, and the canceller is not to blame.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.withdraw())) {
            discard(payload);
        }
    }
}

/// A job in a queue. Dropped, it leaves the error of a lost result.
pub(crate) struct Job(Arc<Slot>);

impl Job {
    /// `guard` is dropped when nothing of the job is left, whether it was run or not.
    pub(crate) fn new<R: Send + 'static>(
        f: impl FnOnce() -> R + Send + 'static,
        producer: Producer<R>,
        guard: impl Kept + 'static,
    ) -> Self {
        // SAFETY: nothing of it is borrowed.
        unsafe { Self::borrowing(f, producer, guard) }
    }

    /// As [`new`](Self::new), for a closure and a result that borrow.
    ///
    /// # Safety
    ///
    /// What they borrow lives until `guard` is dropped.
    pub(crate) unsafe fn borrowing<'a, R: Send + 'a>(
        f: impl FnOnce() -> R + Send + 'a,
        producer: Producer<R>,
        guard: impl Kept + 'a,
    ) -> Self {
        /// Dropped in this order.
        struct Parts<F, R: Send, G> {
            f: F,
            producer: Producer<R>,
            context: context::Context,
            guard: G,
        }
        let slot = Arc::new(Slot { taken: AtomicBool::new(false), work: UnsafeCell::new(None) });
        // Nobody has the other end yet, so it is not cancelled.
        producer.poll_cancelled(&Waker::from(slot.clone()));
        let parts = Parts { f, producer, context: context::Context::current(), guard };
        let work = move |verdict| {
            let parts = parts;
            // Bindings go in the reverse order, also by a panic.
            let Parts { guard, context, producer, f } = parts;
            let risk = os::at_risk(|| {
                let (stand_in, release) = (producer.stand_in(), guard.release());
                let handler: Box<dyn FnOnce(bool) + Send + 'a> = Box::new(move |trapped| {
                    stand_in.give(gone(trapped));
                    release();
                });
                // SAFETY: only the lifetime changes. While the risk lives, so does `guard`, or nobody has dropped it; and
                // what is called or dropped later has let go of the result by then.
                unsafe {
                    std::mem::transmute::<
                        Box<dyn FnOnce(bool) + Send + 'a>,
                        Box<dyn FnOnce(bool) + Send + 'static>,
                    >(handler)
                }
            });
            match verdict {
                Some(Ok(())) if producer.begin() => {
                    let result = catch_unwind(AssertUnwindSafe(|| context.run(f)));
                    let panicked = |payload| JoinError::panicked("a blocking job".to_owned(), payload);
                    producer.give(result.map_err(panicked));
                }
                Some(Err(error)) => {
                    contain(|| drop(f));
                    producer.give(Err(error));
                }
                Some(Ok(())) | None => {
                    contain(|| drop(f));
                    drop(producer);
                }
            }
            drop(context);
            drop(risk);
            drop(guard);
        };
        let work: Box<dyn FnOnce(Option<Result<(), JoinError>>) + Send + 'a> = Box::new(work);
        // SAFETY: only the lifetime changes. All that borrows is dropped before `guard` is, and the caller keeps it alive
        // until then.
        let work = unsafe {
            std::mem::transmute::<Box<dyn FnOnce(Option<Result<(), JoinError>>) + Send + 'a>, Work>(work)
        };
        // SAFETY: nobody touches the slot before the job is queued or cancelled, for which this call has to end.
        unsafe { *slot.work.get() = Some(work) };
        Self(slot)
    }

    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.0
    }

    pub(crate) fn run(self, verdict: Result<(), JoinError>) {
        self.0.run(verdict);
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.0.withdraw();
    }
}

/// The future of [`to_thread`].
#[must_use = "dropping it withdraws the job if it has not begun"]
pub struct ToThread<R: Send> {
    task: RemoteTask<R>,
    refused: Option<JoinError>,
}

impl<R: Send> Future for ToThread<R> {
    type Output = Result<R, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.refused.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut self.task).poll(cx),
        }
    }
}

impl<R: Send> Drop for ToThread<R> {
    fn drop(&mut self) {
        self.task.cancel();
    }
}

impl<R: Send> fmt::Debug for ToThread<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ToThread").field(&self.task).finish()
    }
}
