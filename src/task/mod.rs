//! Tasks: futures that a loop runs, with a name, a state, a result, and a way to end them.

mod arena;
mod cell;
mod members;
mod remote;
mod run;
mod state;

use std::{
    fmt,
    future::{Future, IntoFuture},
    hint::black_box,
    marker::PhantomData,
    mem::ManuallyDrop,
    pin::Pin,
    ptr,
    sync::Arc,
    task::{Context, Poll},
};

pub(crate) use arena::Arena;
use cell::start;
pub(crate) use cell::{EndHook, Header, Panic, Setup, TaskRef, allocate};
pub(crate) use members::{Members, Urgent, detach_reporting, has_error, has_no_value, take_failure};
pub(crate) use state::{CALLBACK, HANDLE, OBSERVED};

use crate::{
    context,
    error::{InvalidState, JoinError},
    event_loop::EventLoop,
    ready::Priority,
    scheduler::{self, Scheduler, current_scheduler, with_current},
};

/// Starts `future` as a task of the loop that runs on this thread.
///
/// The task runs at once, up to its first suspension, as a JavaScript async function does: a body that never suspends
/// is done when `spawn` returns. Eager starts may nest 32 deep; beyond that, or with much of the stack in use, the
/// task starts at its next turn. See [`spawn_lazy`] for a task that always does.
///
/// Mirrors [`asyncio.create_task`](https://docs.python.org/3/library/asyncio-task.html#asyncio.create_task) with
/// `eager_start=True`. The loop owns the task: dropping the returned [`Task`] detaches it.
///
/// **Difference**: a future that is neither awaited nor spawned is not reported when it goes; the compiler warns of it
/// (`unused_must_use`). There is no `ensure_future`: what takes futures also takes tasks, which stay what they are.
///
/// # Panics
///
/// If no loop runs on this thread. In a browser the thread's default loop is made instead.
///
/// # Examples
///
/// ```
/// selkie::run(async {
///     let mut log = Vec::new();
///     let task = selkie::spawn(async { 1 });
///     log.push(task.is_finished());
///     assert_eq!(log, [true]);
///     assert_eq!(task.await.unwrap(), 1);
/// });
/// ```
#[doc(alias("create_task", "ensure_future", "spawn_local"))]
#[must_use = "dropping a `Task` detaches it: await it, keep it, or say `detach()`"]
#[track_caller]
#[inline]
pub fn spawn<F>(future: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    // SAFETY: as in `with_current`.
    if let Some(scheduler) = unsafe { current_scheduler().as_ref() } {
        if let Some(running) = scheduler.plain_start() {
            let task = Task::new(start(scheduler, future));
            // SAFETY: made of an `F` right here.
            unsafe { scheduler.start_as::<F>(task.raw(), running) };
            return task;
        }
    }
    // Of a copy, so that above the future need not be in memory: it is written to its cell part by part, as it was made. To
    // read at once what was just written in parts makes a processor wait for all that it has begun.
    spawn_any(black_box(future))
}

/// [`spawn`] where there is more to see to than the start.
#[track_caller]
#[inline(never)]
fn spawn_any<F>(future: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    with_spawner(|scheduler| spawn_on(scheduler, future, scheduler.setup(Priority::Normal), true))
}

/// Starts `future` as a task whose first poll is at its next turn, as `asyncio.create_task` does.
///
/// Otherwise as [`spawn`].
///
/// # Panics
///
/// As [`spawn`].
#[must_use = "dropping a `Task` detaches it: await it, keep it, or say `detach()`"]
#[track_caller]
#[inline]
pub fn spawn_lazy<F>(future: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    with_spawner(|scheduler| spawn_on(scheduler, future, scheduler.setup(Priority::Normal), false))
}

/// Calls `with` with the loop that free functions spawn on.
#[track_caller]
#[inline]
pub(crate) fn with_spawner<R>(with: impl FnOnce(&Scheduler) -> R) -> R {
    // SAFETY: as in `with_current`.
    if let Some(scheduler) = unsafe { current_scheduler().as_ref() } {
        return with(scheduler);
    }
    spawner_outside(with)
}

/// No loop runs here: the thread's default one, if it has one.
#[track_caller]
#[cold]
fn spawner_outside<R>(with: impl FnOnce(&Scheduler) -> R) -> R {
    match crate::os::default_loop() {
        Some(event_loop) => with(event_loop.scheduler()),
        None => panic!(
            "no event loop runs on this thread: call it inside `selkie::run`, or use `EventLoop::spawn`"
        ),
    }
}

#[inline]
pub(crate) fn spawn_on<F>(scheduler: &Scheduler, future: F, setup: Setup, eager: bool) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let task = prepare(scheduler, future, setup);
    scheduler.launch(task.raw(), eager);
    task
}

/// Makes a task that nobody has started; [`Scheduler::launch`] does.
pub(crate) fn prepare<F>(scheduler: &Scheduler, future: F, setup: Setup) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    Task::new(scheduler.make(future, setup))
}

/// Sets up a task before it is spawned. It can be cloned and kept, to make tasks alike.
///
/// Mirrors the arguments of `asyncio.create_task`. **Difference**: a loop has no task factory, because the type of a task is
/// fixed when it is compiled: share a builder, and set an [`Instrument`](crate::Instrument) to see every task.
///
/// ```
/// use selkie::{Priority, Task};
///
/// selkie::run(async {
///     let task = Task::builder().name("indexer").priority(Priority::Background).spawn(async { 3 });
///     assert_eq!(&*task.name(), "indexer");
///     assert!(!task.is_finished()); // background tasks are always lazy
///     assert_eq!(task.await.unwrap(), 3);
/// });
/// ```
#[derive(Clone, Debug, Default)]
#[doc(alias = "set_task_factory")]
pub struct Builder {
    name: Option<Arc<str>>,
    priority: Priority,
    context: Option<context::Context>,
    lazy: bool,
}

impl Builder {
    /// Names the task. Without it the name is `Task-` and a number that grows with each task of the process.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Chooses the lane. [`Priority::Background`] implies [`lazy`](Self::lazy).
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Runs the task in a copy of `context` instead of one of the spawner's.
    ///
    /// **Difference**: asyncio uses the given context itself, so that its owner sees what the task sets. Here a context is a
    /// value: [`AnyTask::context`] has what the task has set.
    pub fn context(mut self, context: context::Context) -> Self {
        self.context = Some(context);
        self
    }

    /// Makes the first poll wait for the task's next turn.
    pub fn lazy(mut self) -> Self {
        self.lazy = true;
        self
    }

    /// Starts `future` on the loop that runs on this thread.
    ///
    /// # Panics
    ///
    /// As [`spawn`].
    #[must_use = "dropping a `Task` detaches it: await it, keep it, or say `detach()`"]
    #[track_caller]
    pub fn spawn<F>(self, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        with_spawner(|scheduler| self.spawn_in(scheduler, future))
    }

    pub(crate) fn spawn_in<F>(self, scheduler: &Scheduler, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let (setup, eager) = self.into_setup();
        spawn_on(scheduler, future, setup, eager)
    }

    /// What the cell starts with, and whether the task starts eagerly.
    pub(crate) fn into_setup(self) -> (Setup, bool) {
        let context = self.context.map_or_else(context::current, |context| context.0);
        let eager = !self.lazy && self.priority != Priority::Background;
        (Setup { priority: self.priority, flags: HANDLE, context, name: self.name }, eager)
    }
}

/// A task: the right to its result, and the means to look at it and to end it.
///
/// Mirrors [`asyncio.Task`](https://docs.python.org/3/library/asyncio-task.html#task-object). It belongs to the thread
/// of its loop, so it is not `Send`.
///
/// # Who owns the task
///
/// The loop does. Dropping a `Task` detaches it: it runs on, and its result is dropped. A panic that
/// nobody looks at is reported to the exception handler. **Difference**: an `Err` is not, because to a plain task it is a value
/// like any other; [`TaskGroup`](crate::TaskGroup) and [`try_gather`](crate::try_gather) lose none.
///
/// - `task.await` waits *and owns*: when that await is dropped unfinished (its task is cancelled, a timeout ends),
///   the task is asked to end too.
/// - `(&task).await` waits without owning; then [`result`](Self::result) gives a reference.
///
/// Awaiting gives `Result<T, JoinError>`. A task that awaits itself, or a task of another loop, gets an error.
///
/// # Combinators of other crates
///
/// `Task` is [`IntoFuture`]; where a plain `Future` is asked for, pass `task.into_future()`.
// Not `must_use` itself, because a child of a group may well be left to the group: the functions that spawn are.
#[doc(alias = "JoinHandle")]
pub struct Task<T> {
    raw: TaskRef,
    marker: PhantomData<(T, *const ())>,
}

// Moving the handle moves neither the future nor the result, which lie in the cell.
impl<T> Unpin for Task<T> {}

impl Task<()> {
    /// Sets up a task with a name, a priority, a context or a lazy start.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl<T> Task<T> {
    /// `raw` has a handle flag for this `Task`, and its future's output is `T`.
    fn new(raw: TaskRef) -> Self {
        Self { raw, marker: PhantomData }
    }

    #[inline]
    pub(crate) fn raw(&self) -> &TaskRef {
        &self.raw
    }

    /// The reference, without what the destructor does.
    #[inline]
    fn into_raw(self) -> TaskRef {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so its reference is passed on.
        unsafe { ptr::read(&this.raw) }
    }

    /// A number that no other task of this process has; it grows with each task that one loop makes.
    pub fn id(&self) -> u64 {
        self.raw.id.get()
    }

    /// The given name, or `Task-` and the id.
    #[doc(alias = "get_name")]
    pub fn name(&self) -> Arc<str> {
        self.raw.name()
    }

    /// Gives the task another name.
    pub fn set_name(&self, name: impl Into<Arc<str>>) {
        let name = name.into();
        self.raw.cold(|cold| cold.name = Some(name));
    }

    /// Whether the task has ended: with a result, by a panic, or cancelled.
    #[doc(alias = "done")]
    pub fn is_finished(&self) -> bool {
        self.raw.is_done()
    }

    /// Whether the task ended because it was cancelled.
    #[doc(alias = "cancelled")]
    pub fn is_cancelled(&self) -> bool {
        self.raw.is_cancelled()
    }

    /// The result, without waiting and without taking it.
    ///
    /// Mirrors `Task.result()` and `Task.exception()`. Reading it counts as having looked at the task's failure.
    ///
    /// # Errors
    ///
    /// [`InvalidState::Pending`] while the task has not ended.
    #[doc(alias = "exception")]
    pub fn result(&self) -> Result<Result<&T, &JoinError>, InvalidState> {
        if !self.raw.is_done() {
            return Err(InvalidState::Pending);
        }
        if !self.raw.has_output() {
            return Err(InvalidState::Taken);
        }
        self.raw.mark_observed();
        // SAFETY: the output is `T`; taking it needs the `Task` by value.
        Ok(unsafe { self.raw.output::<T>() }.as_ref())
    }

    /// The result, without waiting, or the task itself if there is none yet.
    pub fn try_into_result(mut self) -> Result<Result<T, JoinError>, Self> {
        self.take().ok_or(self)
    }

    /// The result, for owners that drop the handle right after. `None` before the end of the last done callback.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Result<T, JoinError>> {
        // SAFETY: the output is `T`.
        self.raw.can_be_taken().then(|| unsafe { self.raw.take_output::<T>() })
    }

    /// Asks the task to end; whether it was still pending.
    ///
    /// The request is delivered at the task's next turn: its future is dropped, and it ends cancelled, or the body
    /// catches it with [`catch_cancel`](crate::catch_cancel). A task that completes before that keeps its result.
    ///
    /// Mirrors [`Task.cancel`](https://docs.python.org/3/library/asyncio-task.html#asyncio.Task.cancel). What the task
    /// awaits by value is asked to end as well. **Difference**: the awaited task ends after this one, not before; and a cancel
    /// during the poll that completes the task comes too late, where asyncio marks the task cancelled.
    pub fn cancel(&self) -> bool {
        self.raw.cancel(None)
    }

    /// As [`cancel`](Self::cancel), with a message for whoever catches it or awaits the task.
    pub fn cancel_with(&self, message: impl Into<Arc<str>>) -> bool {
        self.raw.cancel(Some(message.into()))
    }

    /// How many requests to end are outstanding. Mirrors `Task.cancelling`.
    pub fn cancelling(&self) -> u32 {
        self.raw.cancelling()
    }

    /// Takes one request back; how many are left. At zero a request that was not delivered is withdrawn.
    ///
    /// Mirrors `Task.uncancel`.
    pub fn uncancel(&self) -> u32 {
        self.raw.uncancel()
    }

    /// Calls `callback` with the result, at a turn of the loop after the task has ended, also if it already has.
    ///
    /// Callbacks run in the order in which they were added, before whoever awaits the task goes on. One that panics is
    /// reported, and the others still run. Each runs with the context of the moment it was added.
    ///
    /// Mirrors `Task.add_done_callback`. **Difference**: to asyncio an await is a callback like the others, which goes on before those
    /// that were added later. **Difference**: there is no `remove_done_callback`, because closures cannot be compared: let the callback
    /// look at a flag.
    #[doc(alias("add_done_callback", "remove_done_callback"))]
    pub fn on_done(&self, callback: impl FnOnce(&Result<T, JoinError>) + 'static)
    where
        T: 'static,
    {
        let context = context::Context::current();
        self.raw.add_callback(Box::new(move |raw| {
            // SAFETY: the output is `T`, and stays until the callbacks have run.
            let output = unsafe { raw.output::<T>() };
            context.run(|| callback(output));
        }));
    }

    /// A handle that can look at the task and end it, but not take its result.
    #[doc(alias = "AbortHandle")]
    pub fn any(&self) -> AnyTask {
        AnyTask { raw: self.raw.clone(), marker: PhantomData }
    }

    /// Lets the task run on by itself. The same as dropping, said aloud.
    pub fn detach(self) {}
}

impl<T> Drop for Task<T> {
    #[inline]
    fn drop(&mut self) {
        self.raw.release_handle();
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_task(&self.raw, f)
    }
}

fn fmt_task(raw: &TaskRef, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut out = f.debug_struct("Task");
    out.field("name", &&*raw.name()).field("state", &state_of(raw));
    if let Some(waits_for) = waits_for(raw) {
        out.field("waits_for", &format_args!("{waits_for}"));
    }
    out.field("future", &format_args!("{}", raw.type_name())).finish()
}

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskState {
    /// It has not been polled yet.
    Created,
    /// It waits, or is ready and waits for its turn.
    Waiting,
    /// It is being polled.
    Running,
    /// It ended with a value.
    Finished,
    /// It ended because it was cancelled.
    Cancelled,
    /// It panicked or trapped.
    Failed,
}

fn state_of(raw: &TaskRef) -> TaskState {
    if raw.is_cancelled() {
        TaskState::Cancelled
    } else if raw.is_failed() {
        TaskState::Failed
    } else if raw.is_done() {
        TaskState::Finished
    } else if raw.is_running() {
        TaskState::Running
    } else if raw.is_started() {
        TaskState::Waiting
    } else {
        TaskState::Created
    }
}

/// What a waiting task said that it waits for.
fn waits_for(raw: &TaskRef) -> Option<String> {
    if raw.is_done() || raw.is_running() {
        return None;
    }
    let link = raw.link.get();
    if link.is_null() {
        None
    } else if link.addr() & 1 == 1 {
        let id = (link.addr() >> 1) as u64;
        Some(raw.scheduler().name_of(id).map_or_else(|| format!("Task-{id}"), |name| name.to_string()))
    } else {
        // SAFETY: an even word of a waiting task points to a static text.
        Some((*unsafe { &*link.cast::<&'static str>() }).to_owned())
    }
}

/// Says what the running task waits for, for `Debug` and the simulator's deadlock report.
pub(crate) fn waits_for_text(text: &'static &'static str) {
    with_current(|scheduler| scheduler.set_waits(ptr::from_ref(text).cast()));
}

fn waits_for_task(scheduler: &Scheduler, task: &TaskRef) {
    scheduler.set_waits(ptr::without_provenance(((task.id.get() as usize) << 1) | 1));
}

/// A task of any result type: to look at, and to end. Cheap to clone; keeps no task alive.
///
/// From [`Task::any`], [`current_task`], [`all_tasks`] and the [`Instrument`](crate::Instrument).
#[derive(Clone)]
pub struct AnyTask {
    pub(crate) raw: TaskRef,
    marker: PhantomData<*const ()>,
}

impl AnyTask {
    pub(crate) fn new(raw: &TaskRef) -> Self {
        Self { raw: raw.clone(), marker: PhantomData }
    }

    /// The task's number; see [`Task::id`].
    pub fn id(&self) -> u64 {
        self.raw.id.get()
    }

    /// The task's name; see [`Task::name`].
    pub fn name(&self) -> Arc<str> {
        self.raw.name()
    }

    /// Where the task is in its life.
    pub fn state(&self) -> TaskState {
        state_of(&self.raw)
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.raw.is_done()
    }

    /// Whether this is a task, and not a callback of `call_soon` and its kin.
    pub fn is_task(&self) -> bool {
        self.raw.is_task()
    }

    /// What the task waits for, if it waits and has said so: another task's name, or what kind of thing it is.
    ///
    /// **Difference**: stands in for `Task.get_stack`; a suspended future has no stack. The futures of other crates say
    /// nothing.
    #[doc(alias("get_stack", "print_stack"))]
    pub fn waits_for(&self) -> Option<String> {
        waits_for(&self.raw)
    }

    /// The number of the task that this one awaits, as many of its bits as there is room for.
    pub(crate) fn awaits(&self) -> Option<u64> {
        let link = self.raw.link.get();
        let says = !self.raw.is_done() && !self.raw.is_running() && link.addr() & 1 == 1;
        says.then_some((link.addr() >> 1) as u64)
    }

    /// The type of the task's future.
    pub fn type_name(&self) -> &'static str {
        self.raw.type_name()
    }

    /// Asks the task to end; see [`Task::cancel`].
    pub fn cancel(&self) -> bool {
        self.raw.cancel(None)
    }

    /// As [`cancel`](Self::cancel), with a message.
    pub fn cancel_with(&self, message: impl Into<Arc<str>>) -> bool {
        self.raw.cancel(Some(message.into()))
    }

    /// How many requests to end are outstanding; see [`Task::cancelling`].
    pub fn cancelling(&self) -> u32 {
        self.raw.cancelling()
    }

    /// Takes one request back; see [`Task::uncancel`].
    pub fn uncancel(&self) -> u32 {
        self.raw.uncancel()
    }

    /// A copy of the task's context variables. Mirrors `Task.get_context`.
    pub fn context(&self) -> context::Context {
        context::Context(self.raw.context())
    }

    /// Waits until the task has ended, without its result.
    pub fn ended(&self) -> Ended {
        Ended { raw: self.raw.clone(), key: None }
    }
}

impl PartialEq for AnyTask {
    fn eq(&self, other: &Self) -> bool {
        self.raw.as_ptr() == other.raw.as_ptr()
    }
}

impl Eq for AnyTask {}

impl fmt::Debug for AnyTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_task(&self.raw, f)
    }
}

/// The task that runs on this thread; `None` outside of tasks and in callbacks.
///
/// Mirrors `asyncio.current_task`. An eager start makes the started task the current one until it suspends.
pub fn current_task() -> Option<AnyTask> {
    scheduler::running().filter(|task| task.is_task()).map(|task| AnyTask::new(&task))
}

/// The tasks of the running loop that have not ended, oldest first. Empty where no loop runs.
///
/// Mirrors `asyncio.all_tasks`. Takes time in proportion to the loop's tasks.
pub fn all_tasks() -> Vec<AnyTask> {
    with_current(|scheduler| scheduler.pending()).map_or_else(Vec::new, visible)
}

pub(crate) fn visible(tasks: Vec<TaskRef>) -> Vec<AnyTask> {
    tasks.iter().filter(|task| task.is_task() && !task.is_quiet()).map(AnyTask::new).collect()
}

/// Whether the running loop may wait for `task`; says what it waits for.
#[inline]
fn check_wait(task: &TaskRef, cx: &Context<'_>) -> Result<(), JoinError> {
    let current = current_scheduler();
    if !current.is_null() && !ptr::eq(current, task.scheduler()) {
        return Err(JoinError::WRONG_LOOP);
    }
    // Asked of the task that runs as well: inside a set the waker is the set's.
    let waiter = TaskRef::of_waker(cx.waker()).or_else(scheduler::running);
    if waiter.is_some_and(|waiter| waiter.as_ptr() == task.as_ptr()) {
        return Err(JoinError::AWAITS_ITSELF);
    }
    with_current(|scheduler| waits_for_task(scheduler, task));
    Ok(())
}

/// The future of `task.await`: waits for the task and owns it.
///
/// Dropping it before the task has ended asks the task to end.
#[must_use = "dropping it asks the task to end"]
pub struct Join<T> {
    /// `None` once the result was given out.
    task: Option<Task<T>>,
}

impl<T> IntoFuture for Task<T> {
    type Output = Result<T, JoinError>;
    type IntoFuture = Join<T>;

    fn into_future(self) -> Join<T> {
        Join { task: Some(self) }
    }
}

impl<T> Join<T> {
    /// The task, as long as it has not given its result.
    pub(crate) fn task(&self) -> Option<&Task<T>> {
        self.task.as_ref()
    }

    /// The task again, which is not owned by an await any more. `None` if it has given its result.
    pub fn into_task(mut self) -> Option<Task<T>> {
        let task = self.task.take()?;
        if !task.is_finished() {
            task.raw.unwatch();
        }
        Some(task)
    }
}

// The future never pins its task.
impl<T> Unpin for Join<T> {}

impl<T> Future for Join<T> {
    type Output = Result<T, JoinError>;

    // What is rare is out of line, and the result is taken right where it is wanted.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(task) = &self.task else { panic!("a task polled after it has given its result") };
        let raw = &task.raw;
        if !raw.can_be_taken() {
            let Some(error) = wait(raw, cx) else { return Poll::Pending };
            self.task = None;
            return Poll::Ready(Err(error));
        }
        let Some(task) = self.task.take() else { unreachable!("it was looked at") };
        // SAFETY: the output is `T`.
        Poll::Ready(unsafe { task.into_raw().into_output::<T>() })
    }
}

/// Has the task wake whoever polls here once it has ended, or says why it cannot be awaited.
#[inline(never)]
fn wait(task: &TaskRef, cx: &mut Context<'_>) -> Option<JoinError> {
    if let Err(error) = check_wait(task, cx) {
        return Some(error);
    }
    task.watch_by(cx.waker());
    None
}

impl<T> futures_core::FusedFuture for Join<T> {
    fn is_terminated(&self) -> bool {
        self.task.is_none()
    }
}

impl<T> Drop for Join<T> {
    #[inline]
    fn drop(&mut self) {
        /// Alone, as most are dropped when they have given their result.
        #[inline(never)]
        fn give_up<T>(task: Task<T>) {
            if !task.is_finished() {
                task.raw.unwatch();
                task.cancel();
            }
        }
        if let Some(task) = self.task.take() {
            give_up(task);
        }
    }
}

impl<T> fmt::Debug for Join<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Join").field(&self.task).finish()
    }
}

/// The future of `(&task).await`: waits until the task has ended, and does not own it.
#[must_use = "futures do nothing unless awaited"]
pub struct Joined<'a, T> {
    task: &'a Task<T>,
    ended: Ended,
}

impl<'a, T> IntoFuture for &'a Task<T> {
    type Output = Result<&'a T, &'a JoinError>;
    type IntoFuture = Joined<'a, T>;

    fn into_future(self) -> Joined<'a, T> {
        Joined { task: self, ended: Ended { raw: self.raw.clone(), key: None } }
    }
}

impl<'a, T> Future for Joined<'a, T> {
    type Output = Result<&'a T, &'a JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.task.is_finished() {
            if let Err(error) = check_wait(&self.task.raw, cx) {
                static WRONG_LOOP: JoinError = JoinError::WRONG_LOOP;
                static AWAITS_ITSELF: JoinError = JoinError::AWAITS_ITSELF;
                return Poll::Ready(Err(if error.is_wrong_loop() { &WRONG_LOOP } else { &AWAITS_ITSELF }));
            }
        }
        match Pin::new(&mut self.ended).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                Poll::Ready(self.task.result().expect("an ended task whose handle is here has a result"))
            }
        }
    }
}

impl<T> fmt::Debug for Joined<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Joined").field(&self.task).finish()
    }
}

/// The future of [`AnyTask::ended`].
#[must_use = "futures do nothing unless awaited"]
pub struct Ended {
    raw: TaskRef,
    key: Option<u64>,
}

impl Future for Ended {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.raw.is_done() && !this.raw.callbacks_pending() {
            return Poll::Ready(());
        }
        with_current(|scheduler| waits_for_task(scheduler, &this.raw));
        this.raw.watch_shared(&mut this.key, cx.waker());
        Poll::Pending
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.raw.unwatch_shared(key);
        }
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ended").field(&AnyTask::new(&self.raw)).finish()
    }
}

impl EventLoop {
    /// Starts `future` as a task of this loop: at the loop's first turn, or at once if it runs already, or is
    /// [driven from outside](EventLoop::guest).
    ///
    /// # Errors
    ///
    /// [`LoopClosed`](crate::LoopClosed); the future is dropped.
    pub fn spawn<F>(&self, future: F) -> Result<Task<F::Output>, crate::LoopClosed>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.spawn_with(Builder::default(), future)
    }

    /// As [`spawn`](Self::spawn), with a name, a priority and so on.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`](crate::LoopClosed); the future is dropped.
    pub fn spawn_with<F>(&self, builder: Builder, future: F) -> Result<Task<F::Output>, crate::LoopClosed>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        if self.is_closed() {
            return Err(crate::LoopClosed);
        }
        Ok(builder.spawn_in(self.scheduler(), future))
    }
}

/// For libraries that spawn on whatever they are given. The task is detached; its panic is reported.
impl futures_task::LocalSpawn for EventLoop {
    fn spawn_local_obj(
        &self,
        future: futures_task::LocalFutureObj<'static, ()>,
    ) -> Result<(), futures_task::SpawnError> {
        match self.spawn(future) {
            Ok(task) => {
                task.detach();
                Ok(())
            }
            Err(crate::LoopClosed) => Err(futures_task::SpawnError::shutdown()),
        }
    }

    fn status_local(&self) -> Result<(), futures_task::SpawnError> {
        if self.is_closed() { Err(futures_task::SpawnError::shutdown()) } else { Ok(()) }
    }
}

/// As [`LocalSpawn`](futures_task::LocalSpawn): the task runs on this loop's thread.
impl futures_task::Spawn for EventLoop {
    fn spawn_obj(
        &self,
        future: futures_task::FutureObj<'static, ()>,
    ) -> Result<(), futures_task::SpawnError> {
        futures_task::LocalSpawn::spawn_local_obj(self, future.into())
    }

    fn status(&self) -> Result<(), futures_task::SpawnError> {
        futures_task::LocalSpawn::status_local(self)
    }
}

/// What is handed to a loop from anywhere may cross threads. Which types may is in `tests/it/auto_traits.rs`.
///
/// ```compile_fail,E0277
/// let here = std::rc::Rc::new(1);
/// let event_loop = selkie::EventLoop::new();
/// event_loop.handle().call_soon_threadsafe(move || drop(here));
/// ```
///
/// A reference to a result does not outlive its task, and a task borrows nothing from where it is spawned.
///
/// ```compile_fail,E0505
/// fn keep(task: selkie::Task<String>) {
///     let text = task.result().unwrap().unwrap();
///     drop(task);
///     println!("{text}");
/// }
/// ```
///
/// ```compile_fail,E0373
/// selkie::run(async {
///     let text = String::new();
///     selkie::spawn(async { text.len() }).await.unwrap();
/// });
/// ```
///
/// The same with what they need compiles.
///
/// ```
/// let event_loop = selkie::EventLoop::new();
/// let shared = std::sync::Arc::new(1);
/// event_loop.handle().call_soon_threadsafe(move || drop(shared)).unwrap();
/// let task = event_loop.spawn(async { String::new() }).unwrap();
/// event_loop.run_until_complete(async {}).ok();
/// let _ = task.result().map(|text| text.map(String::len));
/// drop(task);
/// ```
#[cfg(doctest)]
mod compile_fail {}
