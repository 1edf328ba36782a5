//! Handing work to a loop from other threads, and blocking work to other threads.

use std::{
    cell::UnsafeCell,
    fmt,
    future::{Future, poll_fn},
    mem::offset_of,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use atomic_waker::AtomicWaker;
use selkie_platform::Debt;

use crate::{
    LoopClosed, LoopHandle, context,
    error::{JoinError, contain},
    os,
    ready::Priority,
    remote::{Producer, RemoteTask, Shared, StandIn, Work, gone},
    scheduler::{self, Call, Scheduler, with_current},
    sleep::Sleep,
    task::{HANDLE, OBSERVED, Setup, spawn_on},
};

impl LoopHandle {
    /// Makes a future in the loop's thread, from any thread, and runs it there as a task.
    ///
    /// `f` crosses threads; the future it makes does not, so it need not be `Send`. An async closure does:
    /// `handle.submit(async move || ..)`. It starts at a turn of the loop, when the loop runs; what one thread submits starts
    /// in its order. It runs with a copy of the submitter's context variables, and is a task of the loop like any other: it is
    /// among [`all_tasks`](crate::all_tasks), and a [`run`](crate::run) that ends asks it to end and waits for it.
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
        let scheduler = self.scheduler();
        let shared = Arc::new(Shared::new(Some(scheduler.clone()), Submission::new::<Fut>(f)));
        let task = RemoteTask::new(shared.clone());
        scheduler.debts.owe(|| StandIn::new(shared.clone()));
        let call = Submission::into_call(shared);
        // SAFETY: `start` takes it, and nobody else does.
        unsafe { scheduler.push_call(call) }.map_err(|_| LoopClosed)?;
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

/// What a submit hands to the loop, in one allocation with its result.
#[repr(C)]
struct Submission<F> {
    call: Call,
    /// With the submitter's context.
    f: UnsafeCell<Option<(F, Option<Arc<context::Variables>>)>>,
    /// The task that looks whether it is cancelled.
    task: AtomicWaker,
}

// SAFETY: `f` is written before it is shared and taken once, by `start`. The rest is made for several threads.
unsafe impl<F: Send> Sync for Submission<F> {}

impl<F: Send> Work for Submission<F> {
    fn cancel(&self) -> bool {
        self.task.wake();
        false
    }

    fn listen(&self, waker: &Waker) {
        self.task.register(waker);
    }
}

impl<F: Send + 'static> Submission<F> {
    fn new<Fut>(f: F) -> Self
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output: Send> + 'static,
    {
        let f = UnsafeCell::new(Some((f, context::current())));
        Self { call: Call::new(start::<F, Fut>), f, task: AtomicWaker::new() }
    }

    /// The call keeps one reference.
    fn into_call<T: Send>(shared: Arc<Shared<T, Self>>) -> NonNull<Call> {
        let shared = Arc::into_raw(shared).cast_mut();
        // SAFETY: it points into the allocation, which is as large as this type.
        unsafe { NonNull::new_unchecked(&raw mut (*shared).work.call) }
    }
}

/// The submission has come to its loop, or its loop has closed.
///
/// # Safety
///
/// `call` is that of `Submission::<F>::new::<Fut>`, and this is called once.
unsafe fn start<F, Fut>(call: NonNull<Call>, scheduler: Option<&Scheduler>)
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output: Send> + 'static,
{
    let offset = offset_of!(Shared<Fut::Output, Submission<F>>, work) + offset_of!(Submission<F>, call);
    // SAFETY: the pointer that `into_call` has made of an `Arc`, and the reference is given away here.
    let shared: Arc<Shared<Fut::Output, Submission<F>>> =
        unsafe { Arc::from_raw(call.as_ptr().byte_sub(offset).cast()) };
    // SAFETY: nobody else takes it.
    let f = unsafe { (*shared.work.f.get()).take() };
    let producer = Producer::new(shared);
    let Some((f, context)) = f else { return };
    let mut unbegun = Unbegun { f: Some(f), owing: Owing { producer, as_task: false } };
    let Some(scheduler) = scheduler else { return };
    if unbegun.owing.producer.begin() {
        unbegun.owing.as_task = true;
        // A failure is told to whoever has submitted it.
        let setup = Setup { priority: Priority::Normal, flags: HANDLE | OBSERVED, context, name: None };
        spawn_on(scheduler, body(unbegun), setup, true).detach();
    }
}

/// A function and who waits for its result. Dropped, it lets go of the first and then tells the second, whatever the first
/// does as it goes: where that is a trap, nothing would come after it.
struct Unbegun<F, T: Send> {
    f: Option<F>,
    owing: Owing<T>,
}

impl<F, T: Send> Drop for Unbegun<F, T> {
    fn drop(&mut self) {
        if let Some(f) = self.f.take() {
            contain(|| drop(f));
        }
    }
}

/// Owes a result, and leaves the error of a cancel if the task that was to give it ends by one.
struct Owing<T: Send> {
    producer: Producer<T>,
    /// It belongs to a task, and has given nothing.
    as_task: bool,
}

impl<T: Send> Owing<T> {
    fn give(&mut self, result: Result<T, JoinError>) {
        self.as_task = false;
        self.producer.settle(result);
    }
}

impl<T: Send> Drop for Owing<T> {
    fn drop(&mut self) {
        if self.as_task {
            if let Some(error) = scheduler::running().and_then(|task| task.cancel_error()) {
                self.producer.settle(Err(error));
            }
        }
    }
}

/// The task that a submit becomes: it passes on a cancel of the remote end, and its own end to it.
async fn body<F, Fut>(mut unbegun: Unbegun<F, Fut::Output>)
where
    F: FnOnce() -> Fut,
    Fut: Future,
    Fut::Output: Send + 'static,
{
    let Some(f) = unbegun.f.take() else { return };
    let owing = &mut unbegun.owing;
    if let (true, Some(task)) = (os::TRAPS, scheduler::running()) {
        let last = LastWord(owing.producer.stand_in());
        task.add_callback(Box::new(move |_| drop(last)));
    }
    let label = || scheduler::running().map_or_else(String::new, |task| task.label());
    let future = match catch_unwind(AssertUnwindSafe(f)) {
        Ok(future) => future,
        Err(payload) => return owing.give(Err(JoinError::panicked(label(), payload))),
    };
    let mut future = pin!(future);
    let producer = &owing.producer;
    let mut asked = false;
    let result = poll_fn(|cx| {
        let mut look = |is_asked: bool| {
            if is_asked && !std::mem::replace(&mut asked, true) {
                if let Some(task) = scheduler::running() {
                    task.cancel(None);
                }
            }
        };
        look(producer.is_cancelled());
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => {
                look(producer.poll_cancelled(cx.waker()));
                Poll::Pending
            }
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(payload) => Poll::Ready(Err(JoinError::panicked(label(), payload))),
        }
    });
    let result = result.await;
    owing.give(result);
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
    let here = with_current(|scheduler| (scheduler.platform().clone(), Jobs::of(scheduler).begin()));
    let (platform, running) = match here {
        Some((platform, running)) => (platform, Some(running)),
        None => (os::host(), None),
    };
    let (job, task) = Job::new(f, running);
    let refused = platform.run_blocking(Box::new(move || job.run(Ok(()))));
    ToThread { task, refused: refused.err().map(JoinError::unavailable) }
}

/// What a loop has given to [`to_thread`] and has not ended, which the end of the loop waits for. A loop has it from its first
/// such job on.
#[derive(Debug)]
pub(crate) struct Jobs {
    count: AtomicUsize,
    /// The task that ends the loop.
    waiter: AtomicWaker,
    /// [`wait_at_end`]. By a pointer: a program that has no jobs has no code to wait for them.
    pub(crate) wait: fn(Arc<Jobs>, Sleep) -> Pin<Box<dyn Future<Output = ()>>>,
}

impl Jobs {
    fn of(scheduler: &Scheduler) -> &Arc<Self> {
        scheduler.jobs.get_or_init(|| {
            Arc::new(Self { count: AtomicUsize::new(0), waiter: AtomicWaker::new(), wait: wait_at_end })
        })
    }

    fn begin(self: &Arc<Self>) -> RunningJob {
        self.count.fetch_add(1, Ordering::Relaxed);
        RunningJob(self.clone())
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }
}

/// Waits for the jobs of the loop that runs here until `over` is, and reports how many are left then.
fn wait_at_end(jobs: Arc<Jobs>, mut over: Sleep) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        let ended = poll_fn(|cx| {
            // The time first: polled at least once, so that the task is woken when it is over.
            let over = Pin::new(&mut over).poll(cx);
            jobs.waiter.register(cx.waker());
            if jobs.count() == 0 { Poll::Ready(()) } else { over }
        });
        ended.await;
        // A waker leads to the loop, which owns the jobs: kept, it would keep both for ever.
        drop(jobs.waiter.take());
        let left = jobs.count();
        if left > 0 {
            let message = format!("{left} blocking jobs of the loop still run as it ends");
            with_current(|scheduler| scheduler.report(&message, None));
        }
    })
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

/// A function for a thread, in one allocation with its result. Whoever takes it first has the job: a thread that runs it, the
/// queue as it is dropped, or a cancel, where it is, in the thread that cancels. That one is the producer.
struct JobWork<F, G> {
    taken: AtomicBool,
    parts: UnsafeCell<Option<Parts<F, G>>>,
    /// Whether there is a guard. A thread that is lost may run on for a moment, beside the one that has noticed.
    guarded: AtomicBool,
    /// Of a job that was taken, until its result was given.
    guard: UnsafeCell<Option<G>>,
}

/// Dropped in this order.
struct Parts<F, G> {
    f: F,
    context: context::Context,
    guard: G,
}

// SAFETY: the parts are written before they are shared, and afterwards touched by the one who has set `taken`; so is the guard.
unsafe impl<F: Send, G: Send> Sync for JobWork<F, G> {}

impl<F, G> JobWork<F, G> {
    fn take(&self) -> Option<Parts<F, G>> {
        if self.taken.swap(true, Ordering::AcqRel) {
            return None;
        }
        // SAFETY: the swap lets one through.
        unsafe { (*self.parts.get()).take() }
    }

    /// Called once, by who has taken the parts.
    fn keep(&self, guard: G) {
        // SAFETY: nobody else touches it before the store.
        unsafe { *self.guard.get() = Some(guard) };
        self.guarded.store(true, Ordering::Release);
    }

    fn let_go(&self) -> Option<G> {
        // Without the swap where there is no other thread.
        if !self.guarded.load(Ordering::Relaxed)
            || (os::LOSES_THREADS && !self.guarded.swap(false, Ordering::AcqRel))
        {
            return None;
        }
        // SAFETY: the swap lets one through, after `keep`; or there is one, which comes after itself.
        unsafe { (*self.guard.get()).take() }
    }
}

impl<F: Send, G: Send> Work for JobWork<F, G> {
    fn cancel(&self) -> bool {
        let Some(Parts { f, context, guard }) = self.take() else { return false };
        self.keep(guard);
        contain(|| drop((f, context)));
        true
    }

    fn release(&self) {
        drop(self.let_go());
    }
}

/// A job of whatever type.
pub(crate) trait Slot: Send + Sync {
    /// Runs the job, or gives it the reason why not. Does nothing if it has begun or was withdrawn.
    fn run(self: Arc<Self>, verdict: Result<(), JoinError>);

    /// Gives the error of a lost result, unless the job has begun or was withdrawn.
    fn lose(self: Arc<Self>);

    fn is_taken(&self) -> bool;
}

impl<R, F, G> Shared<R, JobWork<F, G>>
where
    R: Send,
    F: FnOnce() -> R + Send,
    G: Send,
{
    /// Runs the job, gives it the reason why not, or lets it go. Does nothing if somebody has done so.
    fn go(self: Arc<Self>, verdict: Option<Result<(), JoinError>>) {
        // What may panic below is contained.
        let Some(Parts { guard, context, f }) = self.work.take() else { return };
        let shared = self;
        shared.work.keep(guard);
        let risk = os::owes(|| {
            let debt: Arc<dyn Debt + '_> = shared.clone();
            // SAFETY: only the lifetime changes. While the risk lives, the guard does, or nothing is left but memory.
            unsafe { std::mem::transmute::<Arc<dyn Debt + '_>, Arc<dyn Debt>>(debt) }
        });
        let result = match verdict {
            Some(Ok(())) if shared.begin() => catch_unwind(AssertUnwindSafe(|| context.run(f)))
                .map_err(|payload| JoinError::panicked("a blocking job".to_owned(), payload)),
            Some(Ok(())) | None => {
                contain(|| drop(f));
                Err(shared.missing())
            }
            Some(Err(error)) => {
                contain(|| drop(f));
                Err(error)
            }
        };
        Shared::settle(&shared, result);
        contain(|| drop(context));
        let guard = shared.work.let_go();
        // Of what may be borrowed nothing is left behind the guard.
        drop((shared, risk));
        drop(guard);
    }
}

/// The frame of [`go`](Shared::go) has gone.
impl<R, F, G> Debt for Shared<R, JobWork<F, G>>
where
    R: Send,
    F: Send,
    G: Send,
{
    fn lost(self: Arc<Self>, trapped: bool) {
        Shared::lost(&self, gone(trapped));
        let guard = self.work.let_go();
        drop(self);
        drop(guard);
    }
}

impl<R, F, G> Slot for Shared<R, JobWork<F, G>>
where
    R: Send,
    F: FnOnce() -> R + Send,
    G: Send,
{
    fn run(self: Arc<Self>, verdict: Result<(), JoinError>) {
        self.go(Some(verdict));
    }

    fn lose(self: Arc<Self>) {
        self.go(None);
    }

    fn is_taken(&self) -> bool {
        self.work.taken.load(Ordering::Acquire)
    }
}

/// Forgets how long what a job borrows lives.
///
/// # Safety
///
/// The work is gone and the result is too, or left to a `RemoteTask` of the right lifetime, when that ends.
unsafe fn forever<'a, R: Send + 'a>(shared: Arc<Shared<R, dyn Work + 'a>>) -> Arc<Shared<R>> {
    // SAFETY: only the lifetime changes.
    unsafe { std::mem::transmute::<Arc<Shared<R, dyn Work + 'a>>, Arc<Shared<R, dyn Work>>>(shared) }
}

/// A job in a queue. Dropped, it leaves the error of a lost result.
pub(crate) struct Job(Option<Arc<dyn Slot>>);

impl Job {
    /// `guard` is dropped when nothing of the job is left, whether it was run or not.
    pub(crate) fn new<R: Send + 'static>(
        f: impl FnOnce() -> R + Send + 'static,
        guard: impl Send + 'static,
    ) -> (Self, RemoteTask<R>) {
        // SAFETY: nothing of it is borrowed.
        unsafe { Self::borrowing(f, guard) }
    }

    /// As [`new`](Self::new), for a closure and a result that borrow.
    ///
    /// # Safety
    ///
    /// What they borrow lives until `guard` is dropped.
    pub(crate) unsafe fn borrowing<'a, R: Send + 'a>(
        f: impl FnOnce() -> R + Send + 'a,
        guard: impl Send + 'a,
    ) -> (Self, RemoteTask<R>) {
        let parts = Parts { f, context: context::Context::current(), guard };
        let work = JobWork {
            taken: AtomicBool::new(false),
            parts: UnsafeCell::new(Some(parts)),
            guarded: AtomicBool::new(false),
            guard: UnsafeCell::new(None),
        };
        let shared = Arc::new(Shared::new(None, work));
        // SAFETY: the function is taken, and the result given, before the guard is dropped. A result is then the task's, whose type
        // says how long it lives, or was dropped as there was no task any more. What is left in the queue is memory.
        let task = RemoteTask::new(unsafe { forever(shared.clone()) });
        let slot: Arc<dyn Slot + 'a> = shared;
        // SAFETY: only the lifetime changes; as above.
        let slot = unsafe { std::mem::transmute::<Arc<dyn Slot + 'a>, Arc<dyn Slot>>(slot) };
        (Self(Some(slot)), task)
    }

    /// For somebody else who may run it.
    pub(crate) fn slot(&self) -> Option<Arc<dyn Slot>> {
        self.0.clone()
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.0.as_ref().is_none_or(|slot| slot.is_taken())
    }

    pub(crate) fn run(mut self, verdict: Result<(), JoinError>) {
        if let Some(slot) = self.0.take() {
            slot.run(verdict);
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.lose();
        }
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
