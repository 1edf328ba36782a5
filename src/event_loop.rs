//! The loop as its users see it.

use std::{
    cell::Cell,
    fmt,
    future::{Future, IntoFuture},
    marker::PhantomData,
    pin::Pin,
    ptr,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use selkie_platform::{Driven, Next, Platform, Turn};

use crate::{
    context,
    error::{JoinError, LoopClosed, RunError, text},
    exception::{self, ExceptionContext},
    instrument::Instrument,
    ready::Priority,
    remote_call::{RemoteHandle, remote_call},
    scheduler::{Scheduler, ThreadNumber, current_scheduler, told, with_current},
    sleep::nanos,
    task::{AnyTask, CALLBACK, EndHook, Setup, Task, TaskRef, visible},
    testing,
    timers::NEVER,
};

/// What all `EventLoop` values of one loop share; the last one closes it.
pub(crate) struct Owner {
    scheduler: Arc<Scheduler>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.scheduler.close();
        ThreadNumber::leave();
    }
}

/// An event loop of the calling thread. Mirrors
/// [`asyncio.AbstractEventLoop`](https://docs.python.org/3/library/asyncio-eventloop.html).
///
/// A loop is made stopped and open. It runs in [`run_until_complete`](Self::run_until_complete) and
/// [`run_forever`](Self::run_forever), and may run again after it was stopped. Clones are the same loop; when the last
/// one is dropped the loop closes. It belongs to the thread that made it; [`handle`](Self::handle) gives what may
/// cross threads.
///
/// Most programs need [`run`](crate::run) or `#[selkie::main]` only.
///
/// **Difference**: it has no sockets, files, subprocesses and signals; those of any library work in its tasks, as all they
/// need is a waker. What needs a reactor of its own, as tokio's do, runs beside it: [`guest`](crate::guest()).
#[derive(Clone)]
pub struct EventLoop {
    owner: Rc<Owner>,
    not_send: PhantomData<*const ()>,
}

impl EventLoop {
    /// A new loop on this thread's host. Mirrors `asyncio.new_event_loop`.
    #[doc(alias = "new_event_loop")]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let event_loop = Self::with_platform(crate::os::host());
        if std::env::var_os("SELKIE_DEBUG").is_some_and(|value| value == "1") {
            event_loop.report_slow_polls(Some(Duration::from_millis(100)));
        }
        event_loop
    }

    pub(crate) fn with_platform(platform: Arc<dyn Platform>) -> Self {
        Self::adopt(Scheduler::new(platform, ThreadNumber::here()))
    }

    /// Makes this thread the owner of a scheduler that has none yet.
    pub(crate) fn adopt(scheduler: Arc<Scheduler>) -> Self {
        scheduler.thread().enter();
        let owner = Rc::new(Owner { scheduler });
        *owner.scheduler.owner.borrow_mut() = Rc::downgrade(&owner);
        Self { owner, not_send: PhantomData }
    }

    /// The loop whose turn runs on this thread. Mirrors `asyncio.get_running_loop`.
    ///
    /// **Difference**: a thread has no loop that is set but does not run, so there is no `set_event_loop`: pass the loop on.
    #[doc(alias("get_running_loop", "get_event_loop", "set_event_loop"))]
    pub fn current() -> Option<Self> {
        let owner = with_current(|scheduler| scheduler.owner.borrow().upgrade()).flatten()?;
        Some(Self { owner, not_send: PhantomData })
    }

    pub(crate) fn scheduler(&self) -> &Scheduler {
        &self.owner.scheduler
    }

    /// The loop, without keeping it open.
    pub(crate) fn downgrade(&self) -> std::rc::Weak<Owner> {
        Rc::downgrade(&self.owner)
    }

    pub(crate) fn upgrade(owner: &std::rc::Weak<Owner>) -> Option<Self> {
        Some(Self { owner: owner.upgrade()?, not_send: PhantomData })
    }

    /// Runs the loop until `future` is complete, and returns its output.
    ///
    /// The loop stays open, and tasks that have not ended go on with the next run. Mirrors
    /// [`loop.run_until_complete`](https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.loop.run_until_complete).
    ///
    /// # Errors
    ///
    /// - [`RunError::Stopped`] when something stopped the loop first; the task stays pending.
    /// - [`RunError::Closed`], [`RunError::Nested`] without running anything.
    /// - [`RunError::WouldBlock`] in a browser and in Node. **Difference**: nothing may block there; use
    ///   [`start`](crate::start).
    /// - [`RunError::Task`] when the task was cancelled or panicked.
    pub fn run_until_complete<F>(&self, future: F) -> Result<F::Output, RunError>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let main = self.prepare(context::Context::current(), future)?;
        go_on(self.scheduler());
        self.run_task(main)
    }

    /// Spawns `future`, for [`run_task`](Self::run_task), if the loop may run here.
    fn prepare<F>(&self, context: context::Context, future: F) -> Result<Task<F::Output>, RunError>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.check_run()?;
        Ok(self.spawn_with(Task::builder().lazy().context(context), future)?)
    }

    /// Runs the loop until `main`, which nobody else has a handle of, has ended.
    fn run_task<T: 'static>(&self, main: Task<T>) -> Result<T, RunError> {
        let scheduler = self.owner.scheduler.clone();
        main.on_done(move |_| scheduler.stop());
        self.drive(false);
        // Somebody else may have stopped the loop: in the round in which `main` ended, or before. Then the callback
        // is still there, and must not stop a later run.
        main.raw().forget_callbacks();
        match main.try_into_result() {
            Ok(result) => result.map_err(RunError::Task),
            Err(_pending) => Err(RunError::Stopped),
        }
    }

    /// Runs the loop until [`stop`](Self::stop). Mirrors `loop.run_forever`.
    ///
    /// # Errors
    ///
    /// [`RunError::Closed`], [`RunError::Nested`], [`RunError::WouldBlock`], without running anything. **Difference**: the last
    /// one is what a browser and Node answer, where nothing may block; `os::web::run_forever` is the same as a future.
    pub fn run_forever(&self) -> Result<(), RunError> {
        self.check_run()?;
        go_on(self.scheduler());
        self.drive(false);
        Ok(())
    }

    pub(crate) fn check_run(&self) -> Result<(), RunError> {
        let scheduler = self.scheduler();
        if scheduler.is_closed() {
            return Err(RunError::Closed);
        }
        if scheduler.driven.get()
            || scheduler.is_in_turn()
            || !(current_scheduler().is_null() || scheduler.platform().nests())
        {
            return Err(RunError::Nested);
        }
        if !scheduler.platform().can_block() {
            return Err(RunError::WouldBlock);
        }
        Ok(())
    }

    /// Gives the loop to the platform. Closes it when it is done if nobody else will.
    pub(crate) fn drive(&self, close_at_end: bool) -> Driven {
        self.drive_then(close_at_end, None)
    }

    /// As `drive`; `at_end` is called when the platform gives no more turns.
    pub(crate) fn drive_then(&self, close_at_end: bool, at_end: Option<Box<dyn FnOnce()>>) -> Driven {
        self.scheduler().driven.set(true);
        self.scheduler().hosted.set(!self.scheduler().platform().can_block());
        let at_end = Cell::new(at_end);
        let done = Cell::new(false);
        let driver = Rc::new(Driver { event_loop: self.clone(), done, close_at_end, at_end });
        let platform = self.scheduler().platform();
        if platform.nests() {
            testing::driven(self.downgrade());
        }
        platform.drive(driver)
    }

    /// Makes the loop return after its present round: what is ready now still runs, but for background tasks.
    ///
    /// Before a run it makes that run end after one round that does not wait. Mirrors `loop.stop`.
    ///
    /// # Platform-specific
    ///
    /// - **Web:** the thread's default loop, which [`spawn`](crate::spawn) makes, goes on with the next spawn outside of a loop.
    pub fn stop(&self) {
        self.scheduler().stop();
    }

    /// Whether the loop runs, or a host that cannot block gives it turns. One that is [driven from outside](Self::guest) runs in
    /// its turns.
    pub fn is_running(&self) -> bool {
        let scheduler = self.scheduler();
        scheduler.driven.get() || (ptr::eq(current_scheduler(), scheduler) && !scheduler.is_closed())
    }

    /// Ends the loop for good: pending tasks and callbacks are dropped, and reported if they are tasks.
    ///
    /// Idempotent. Mirrors `loop.close`. `run` and `Runner` end the tasks in good order before.
    ///
    /// **Difference**: there is no `shutdown_asyncgens`. Nothing tracks streams: one that is not finished is dropped with the
    /// task that owns it.
    ///
    /// # Errors
    ///
    /// [`RunError::Nested`] while the loop runs: [`stop`](Self::stop) it first.
    #[doc(alias = "shutdown_asyncgens")]
    pub fn close(&self) -> Result<(), RunError> {
        if self.scheduler().driven.get() || self.scheduler().is_in_turn() {
            return Err(RunError::Nested);
        }
        self.scheduler().close();
        Ok(())
    }

    /// Whether the loop was closed.
    pub fn is_closed(&self) -> bool {
        self.scheduler().is_closed()
    }

    /// The time on the loop's clock. Mirrors `loop.time`. Never goes back.
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.scheduler().time())
    }

    /// Calls `callback` at the loop's next turn. Mirrors `loop.call_soon`.
    ///
    /// Callbacks run in the order of the calls, in turn with the tasks that are ready, each with a copy of the context
    /// of the call. One that panics is reported.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`].
    pub fn call_soon(&self, callback: impl FnOnce() + 'static) -> Result<Handle, LoopClosed> {
        self.callback(None, callback)
    }

    /// Calls `callback` after `delay`. Mirrors `loop.call_later`.
    ///
    /// Never early; [`Duration::MAX`] is never. Equal times are called in the order of the calls.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`].
    pub fn call_later(
        &self,
        delay: Duration,
        callback: impl FnOnce() + 'static,
    ) -> Result<Handle, LoopClosed> {
        let deadline = self.scheduler().time().saturating_add(nanos(delay)).min(NEVER);
        self.callback(Some(deadline), callback)
    }

    /// Calls `callback` at `when` on the loop's clock. Mirrors `loop.call_at`.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`].
    pub fn call_at(&self, when: Duration, callback: impl FnOnce() + 'static) -> Result<Handle, LoopClosed> {
        self.callback(Some(nanos(when)), callback)
    }

    fn callback(
        &self,
        deadline: Option<u64>,
        callback: impl FnOnce() + 'static,
    ) -> Result<Handle, LoopClosed> {
        let scheduler = self.scheduler();
        if scheduler.is_closed() {
            return Err(LoopClosed);
        }
        let setup =
            Setup { priority: Priority::Normal, flags: CALLBACK, context: context::current(), name: None };
        let raw = scheduler.make(Call(Some(callback)), setup);
        match deadline {
            // A hook was told of the callback, and has closed the loop.
            _ if raw.is_done() => {}
            // Or has cancelled, and so queued it.
            None => raw.wake(),
            Some(NEVER..) => {}
            Some(deadline) => scheduler.arm_task(&raw, deadline),
        }
        Ok(Handle { raw, when: deadline, not_send: PhantomData })
    }

    /// What other threads may hold of the loop.
    pub fn handle(&self) -> LoopHandle {
        LoopHandle { scheduler: self.owner.scheduler.clone() }
    }

    /// The loop's tasks that have not ended, oldest first.
    pub fn all_tasks(&self) -> Vec<AnyTask> {
        visible(self.scheduler().pending())
    }

    /// Sets what is told of failures that nobody waits for; `None` prints them. Mirrors `set_exception_handler`.
    pub fn set_exception_handler(&self, handler: Option<Rc<dyn Fn(&ExceptionContext)>>) {
        drop(self.scheduler().set_handler(handler.map(exception::handler)));
    }

    /// Reports a failure to the exception handler. Mirrors `call_exception_handler`.
    pub fn call_exception_handler(&self, message: &str) {
        self.scheduler().report(message, None);
    }

    /// Reports polls and callbacks that take `limit` or longer, with the task's name; `None` turns it off again.
    ///
    /// Mirrors `slow_callback_duration` of asyncio's debug mode, where it is 0.1 s. Natively a watchdog thread also
    /// reports a poll while it is still under way. It costs two looks at the clock each, so it is off unless the
    /// environment has `SELKIE_DEBUG=1`, which sets 100 ms.
    ///
    /// **Difference**: the rest of asyncio's debug mode is not needed or not there. A call from a wrong thread does not
    /// compile. Where a task was made is not kept: [`name`](crate::Builder::name) it.
    #[doc(alias = "slow_callback_duration")]
    #[doc(alias = "set_debug")]
    pub fn report_slow_polls(&self, limit: Option<Duration>) {
        self.scheduler().set_slow_polls(limit);
    }

    /// Sets who is told of every step of every task. `None` for nobody.
    pub fn set_instrument(&self, instrument: Option<Rc<dyn Instrument>>) {
        drop(self.scheduler().set_instrument(instrument.map(told)));
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop")
            .field("running", &self.is_running())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// A loop in the hands of its platform.
struct Driver {
    event_loop: EventLoop,
    done: Cell<bool>,
    /// Close the loop when it is done: nobody else will.
    close_at_end: bool,
    at_end: Cell<Option<Box<dyn FnOnce()>>>,
}

impl Turn for Driver {
    fn turn(&self) -> Next {
        let scheduler = self.event_loop.scheduler();
        // It closes itself here only, and has to finish that when a destructor has trapped.
        let next = if scheduler.is_closed() { Next::Done } else { scheduler.turn() };
        if next == Next::Done {
            self.finish();
        }
        next
    }

    fn trapped(&self) {
        self.event_loop.scheduler().trapped();
    }
}

impl Driver {
    fn finish(&self) {
        if !self.done.replace(true) {
            self.event_loop.scheduler().driven.set(false);
            self.event_loop.scheduler().hosted.set(false);
            if self.close_at_end {
                self.event_loop.scheduler().close();
            }
        }
        // The close may have trapped, and been finished since.
        if let Some(at_end) = self.at_end.take() {
            at_end();
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The thread of a loop has died between two turns: nobody is told of a good end.
        let died = self.close_at_end && !self.done.get();
        let at_end = if died { self.at_end.take() } else { None };
        self.finish();
        drop(at_end);
    }
}

/// A future that calls a function once.
struct Call<F>(Option<F>);

// The function is moved out before it is called.
impl<F> Unpin for Call<F> {}

impl<F: FnOnce()> Future for Call<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if let Some(callback) = self.0.take() {
            callback();
        }
        Poll::Ready(())
    }
}

/// A callback that was scheduled. Mirrors `asyncio.Handle` and `asyncio.TimerHandle`.
///
/// Dropping it changes nothing.
#[must_use = "keep it to cancel the callback, or drop it with `drop(..)` or `let _ =`"]
#[doc(alias("TimerHandle", "clearTimeout"))]
pub struct Handle {
    raw: TaskRef,
    when: Option<u64>,
    not_send: PhantomData<*const ()>,
}

impl Handle {
    /// Prevents the call and drops the callback, at once; whether it was still to come.
    pub fn cancel(&self) -> bool {
        self.raw.cancel_callback()
    }

    /// Whether the call was prevented.
    #[doc(alias = "cancelled")]
    pub fn is_cancelled(&self) -> bool {
        self.raw.is_cancelled()
    }

    /// When the call is due, on the loop's clock; `None` for `call_soon` and for never.
    pub fn when(&self) -> Option<Duration> {
        self.when.filter(|&when| when < NEVER).map(Duration::from_nanos)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("when", &self.when())
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

/// What may cross threads of a loop: `Send`, `Sync`, cheap to clone. Keeps the loop's memory, not the loop.
#[derive(Clone)]
pub struct LoopHandle {
    scheduler: Arc<Scheduler>,
}

impl LoopHandle {
    pub(crate) fn new(scheduler: Arc<Scheduler>) -> Self {
        Self { scheduler }
    }

    pub(crate) fn scheduler(&self) -> &Arc<Scheduler> {
        &self.scheduler
    }

    /// Calls `callback` at a turn of the loop, from any thread.
    ///
    /// Never waits. The calls of one thread run in their order, each with a copy of the caller's context variables. Mirrors
    /// [`loop.call_soon_threadsafe`](https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.loop.call_soon_threadsafe).
    ///
    /// # Errors
    ///
    /// [`LoopClosed`]; the callback is dropped.
    pub fn call_soon_threadsafe(
        &self,
        callback: impl FnOnce() + Send + 'static,
    ) -> Result<RemoteHandle, LoopClosed> {
        let (call, handle) = remote_call(callback);
        let context = context::Context::current();
        let run = move |scheduler: &Scheduler| {
            // What is reported of it is, too.
            context.run(|| scheduler.watched("a call from another thread", None, || call.run()));
        };
        self.scheduler.call_remote(run).map_err(|_| LoopClosed)?;
        Ok(handle)
    }

    /// Stops the loop, from any thread; see [`EventLoop::stop`].
    ///
    /// # Errors
    ///
    /// [`LoopClosed`].
    pub fn stop(&self) -> Result<(), LoopClosed> {
        self.scheduler.call_remote(Scheduler::stop).map_err(|_| LoopClosed)
    }
}

impl fmt::Debug for LoopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoopHandle")
    }
}

/// Ends a loop's tasks in good order: asks all to end, waits for at most `limit`, and names those that did not. Then waits
/// for its blocking jobs, in what is left of the limit.
pub(crate) async fn shut_down(scheduler: Arc<Scheduler>, limit: Duration) {
    // The task that runs this is quiet, and so is not among them.
    let tasks = visible(scheduler.pending());
    if !scheduler.ending.replace(true) {
        // What groups have asked of their children is another matter.
        tasks.iter().for_each(|task| task.raw.note_asked(false));
    }
    for task in &tasks {
        task.cancel_with_owner();
    }
    let mut over = crate::sleep(limit);
    for task in &tasks {
        let mut ended = task.ended();
        let in_time = std::future::poll_fn(|cx| {
            if Pin::new(&mut ended).poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            Pin::new(&mut over).poll(cx).map(|()| false)
        });
        if !in_time.await {
            break;
        }
    }
    if let Some(jobs) = scheduler.jobs.get() {
        (jobs.wait)(jobs.clone(), over).await;
    }
}

/// Of a main task: the tasks that it has asked to end with it are not asked again when the loop ends, a moment later.
struct MainEnd;

impl EndHook for MainEnd {
    fn ended(&self, main: &TaskRef) {
        let scheduler = main.scheduler();
        scheduler.ending.set(true);
        for task in scheduler.pending() {
            task.note_asked(task.is_asked());
        }
    }
}

fn note_end_of(main: &TaskRef) {
    main.cold(|cold| cold.end_hook = Some(Rc::new(MainEnd)));
}

/// A main task has ended before, but not the loop: it runs again.
fn go_on(scheduler: &Scheduler) {
    if scheduler.ending.replace(false) {
        for task in scheduler.pending() {
            task.note_asked(false);
        }
    }
}

/// Runs several futures on one loop, one after another, and ends it in good order.
///
/// Mirrors [`asyncio.Runner`](https://docs.python.org/3/library/asyncio-runner.html#asyncio.Runner). The loop is made
/// by the first run; context variables set by one run are seen by the next.
pub struct Runner {
    event_loop: Option<EventLoop>,
    context: context::Context,
    closed: bool,
    limit: Duration,
}

/// How long [`Runner::close`] waits for tasks that were asked to end.
pub(crate) const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// What a main task is told of Ctrl-C.
pub(crate) const INTERRUPTED: &str = "interrupted by Ctrl-C";

impl Default for Runner {
    fn default() -> Self {
        Self::new()
    }
}

impl Runner {
    /// A runner without a loop yet.
    pub fn new() -> Self {
        Self { event_loop: None, context: context::Context::current(), closed: false, limit: SHUTDOWN_LIMIT }
    }

    /// A runner that uses `event_loop`, and closes it.
    pub fn with_loop(event_loop: EventLoop) -> Self {
        let mut runner = Self::new();
        runner.event_loop = Some(event_loop);
        runner
    }

    /// How long tasks and the jobs of [`to_thread`](crate::to_thread) may take to end when the runner closes; 10 seconds
    /// unless set. Then tasks are dropped and named. Jobs run on, and their number is reported.
    ///
    /// **Difference**: asyncio waits 300 seconds for the jobs alone.
    pub fn shutdown_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The loop, made now if there is none.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`] after [`close`](Self::close).
    pub fn event_loop(&mut self) -> Result<EventLoop, LoopClosed> {
        if self.closed {
            return Err(LoopClosed);
        }
        Ok(self.event_loop.get_or_insert_with(EventLoop::new).clone())
    }

    /// Runs `future` to its end.
    ///
    /// Natively, the first Ctrl-C cancels the future's task, which may clean up; a second one ends the process with
    /// status 130.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::run_until_complete`].
    pub fn run<F>(&mut self, future: F) -> Result<F::Output, RunError>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        crate::isolated::serve();
        let event_loop = self.event_loop()?;
        let main = event_loop.prepare(self.context.clone(), future)?;
        let (handle, id, raw) = (event_loop.handle(), main.id(), main.raw().clone());
        go_on(raw.scheduler());
        note_end_of(&raw);
        // Held until the run has ended.
        let _interrupt = event_loop.scheduler().platform().on_interrupt(Box::new(move || {
            // A closed loop has no task to cancel.
            let _ = handle.scheduler.call_remote(move |scheduler| {
                if let Some(main) = scheduler.pending().into_iter().find(|task| task.id.get() == id) {
                    main.cancel(Some(INTERRUPTED.into()));
                }
            });
        }));
        let result = event_loop.run_task(main);
        // If somebody else has stopped the loop, its end is not that of a later run.
        raw.cold(|cold| cold.end_hook = None);
        self.context = context::Context(raw.context());
        result
    }

    /// Ends what still runs, and the loop. Idempotent; also done by dropping the runner.
    ///
    /// All tasks are asked to end, each once: not again those that the last run's future has asked as it ended, nor those whose
    /// awaits are given up meanwhile. Those that have not ended after the limit are dropped and reported by name. Functions that the
    /// loop gave to [`to_thread`](crate::to_thread) are waited for within the same limit, as
    /// `loop.shutdown_default_executor` does; a [`ThreadPool`](crate::ThreadPool) is its owner's to shut down. Then the loop
    /// closes.
    pub fn close(&mut self) {
        self.closed = true;
        let Some(event_loop) = self.event_loop.take() else { return };
        let has_jobs = event_loop.scheduler().jobs.get().is_some_and(|jobs| jobs.count() > 0);
        if has_jobs || !event_loop.all_tasks().is_empty() {
            let scheduler = event_loop.owner.scheduler.clone();
            // An error means that the loop cannot run here; then closing it drops the tasks.
            if let Ok(rest) = event_loop.prepare(self.context.clone(), shut_down(scheduler, self.limit)) {
                rest.raw().mark_quiet();
                let _ = event_loop.run_task(rest);
            }
        }
        let _ = event_loop.close();
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("event_loop", &self.event_loop).field("closed", &self.closed).finish()
    }
}

/// Runs `future` on a new loop of this thread and returns its output; then ends what is left in good order.
///
/// When `future` is complete all other tasks are asked to end, once each as by [`Runner::close`], and what runs by
/// [`to_thread`](crate::to_thread) is waited for. Tasks that have not ended after 10 seconds are dropped, and reported by name.
/// Mirrors [`asyncio.run`](https://docs.python.org/3/library/asyncio-runner.html#asyncio.run).
///
/// A `future` that ends cancelled, by Ctrl-C or by the program itself, gives no output to return: the process then ends with status
/// 130, and [`try_run`] gives an error.
///
/// # Panics
///
/// - If `future` panics, with its payload.
/// - If a loop runs on this thread, or the thread must not block; [`try_run`] gives an error instead.
///
/// # Examples
///
/// ```
/// let answer = selkie::run(async { 42 });
/// assert_eq!(answer, 42);
/// ```
#[doc(alias = "block_on")]
#[track_caller]
pub fn run<F>(future: F) -> F::Output
where
    F: Future + 'static,
    F::Output: 'static,
{
    match try_run(future) {
        Ok(output) => output,
        Err(RunError::Task(error)) => match error.try_into_panic() {
            Ok(payload) => std::panic::resume_unwind(payload),
            Err(error) => crate::os::cancelled_main(&error),
        },
        Err(error) => panic!("`selkie::run`: {error}"),
    }
}

/// As [`run`], with an error instead of a panic.
///
/// # Errors
///
/// As [`EventLoop::run_until_complete`].
pub fn try_run<F>(future: F) -> Result<F::Output, RunError>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let mut runner = Runner::new();
    let result = runner.run(future);
    runner.close();
    result
}

/// Makes `future` the main task of a loop that is open: when it is complete `done` gets its result, all other tasks are asked to end,
/// and the loop stops.
pub(crate) fn set_main<F>(
    event_loop: &EventLoop,
    future: F,
    done: impl FnOnce(Result<F::Output, JoinError>) + 'static,
) where
    F: Future + 'static,
    F::Output: 'static,
{
    let scheduler = event_loop.owner.scheduler.clone();
    let main = Task::builder().lazy().spawn_in(&scheduler, future);
    main.raw().mark_quiet();
    note_end_of(main.raw());
    let main = main.into_future();
    let stop = scheduler.clone();
    let rest = async move {
        done(main.await);
        shut_down(stop.clone(), SHUTDOWN_LIMIT).await;
        stop.stop();
    };
    let rest = Task::builder().lazy().spawn_in(&scheduler, rest);
    rest.raw().mark_quiet();
    rest.detach();
}

/// Starts `future` on a new loop of this thread and returns; for code that runs on every target.
///
/// In a browser or Node the host gives the loop its turns after the caller has returned to it. Natively there is no such
/// host, so it runs the loop and returns when it is done, as [`run`] does. Either way, when `future` is complete all
/// other tasks are asked to end and the loop closes.
///
/// # Errors
///
/// [`RunError::Nested`] natively, if a loop runs on this thread. [`RunError::Task`] natively, if `future` panicked or was
/// cancelled; on the web that is reported to the console.
pub fn start<F>(future: F) -> Result<(), RunError>
where
    F: Future<Output = ()> + 'static,
{
    if crate::isolated::divert() {
        return Ok(());
    }
    let event_loop = EventLoop::new();
    // The first half is a constant where nothing may block, so that a small program for the web has nothing of a `Runner`.
    if crate::os::may_wait() && event_loop.scheduler().platform().can_block() {
        return Runner::with_loop(event_loop).run(future);
    }
    let reporter = event_loop.owner.scheduler.platform().clone();
    set_main(&event_loop, future, move |result| {
        if let Err(error) = result {
            reporter.report(&text(&["selkie: ", &error.text()]));
        }
    });
    event_loop.drive(true);
    Ok(())
}
