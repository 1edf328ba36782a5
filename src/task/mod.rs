//! Tasks: futures that a loop runs, with a name, a state, a result, and a way to end them.

mod arena;
mod cell;
mod join;
mod look;
mod members;
mod remote;
mod run;
mod spawn;
mod state;
mod waker;

use std::{fmt, marker::PhantomData, mem::ManuallyDrop, ptr, sync::Arc};

pub(crate) use arena::Arena;
pub(crate) use cell::{EndHook, Header, Panic, Setup, TaskRef, allocate};
pub use join::{Ended, Join, Joined};
pub use look::{AnyTask, TaskState, all_tasks, current_task};
pub(crate) use look::{visible, waits_for_text};
pub(crate) use members::{Members, Urgent, detach_reporting, has_error, has_no_value, take_failure};
pub use spawn::{Builder, spawn, spawn_lazy};
pub(crate) use spawn::{prepare, spawn_on, with_spawner};
pub(crate) use state::{CALLBACK, HANDLE, OBSERVED};

use crate::{
    context,
    error::{InvalidState, JoinError},
};

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
/// `Task` is [`IntoFuture`](std::future::IntoFuture); where a plain `Future` is asked for, pass `task.into_future()`.
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

    /// The result, without waiting, or the task itself if there is none yet, or its done callbacks have still to run.
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
        AnyTask::new(&self.raw)
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
        look::fmt_task(&self.raw, f)
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
