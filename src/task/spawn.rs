//! How tasks are made.

use std::{future::Future, hint::black_box, sync::Arc};

use super::{
    Task,
    cell::{Setup, start},
    state::HANDLE,
};
use crate::{
    context,
    event_loop::EventLoop,
    ready::Priority,
    scheduler::{Scheduler, current_scheduler},
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
    /// Names the task. Without it the name is `Task-` and the [`id`](Task::id).
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
    /// value: [`AnyTask::context`](crate::AnyTask::context) has what the task has set.
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
