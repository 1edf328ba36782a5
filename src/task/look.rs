//! Looking at tasks of any type: which there are, how they fare, and what they wait for.

use std::{fmt, marker::PhantomData, ptr, sync::Arc};

use super::{TaskRef, join::Ended};
use crate::{
    context,
    scheduler::{self, Scheduler, with_current},
};

pub(super) fn fmt_task(raw: &TaskRef, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

pub(super) fn state_of(raw: &TaskRef) -> TaskState {
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
pub(super) fn waits_for(raw: &TaskRef) -> Option<String> {
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

pub(super) fn waits_for_task(scheduler: &Scheduler, task: &TaskRef) {
    scheduler.set_waits(ptr::without_provenance(((task.id.get() as usize) << 1) | 1));
}

/// A task of any result type: to look at, and to end. Cheap to clone; keeps no task alive.
///
/// From [`Task::any`](crate::Task::any), [`current_task`], [`all_tasks`] and the [`Instrument`](crate::Instrument).
#[derive(Clone)]
pub struct AnyTask {
    pub(crate) raw: TaskRef,
    marker: PhantomData<*const ()>,
}

impl AnyTask {
    pub(crate) fn new(raw: &TaskRef) -> Self {
        Self { raw: raw.clone(), marker: PhantomData }
    }

    /// The task's number; see [`Task::id`](crate::Task::id).
    pub fn id(&self) -> u64 {
        self.raw.id.get()
    }

    /// The task's name; see [`Task::name`](crate::Task::name).
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

    /// Asks the task to end; see [`Task::cancel`](crate::Task::cancel).
    pub fn cancel(&self) -> bool {
        self.raw.cancel(None)
    }

    pub(crate) fn cancel_with_owner(&self) -> bool {
        self.raw.cancel_with_owner()
    }

    /// As [`cancel`](Self::cancel), with a message.
    pub fn cancel_with(&self, message: impl Into<Arc<str>>) -> bool {
        self.raw.cancel(Some(message.into()))
    }

    /// How many requests to end are outstanding; see [`Task::cancelling`](crate::Task::cancelling).
    pub fn cancelling(&self) -> u32 {
        self.raw.cancelling()
    }

    /// Takes one request back; see [`Task::uncancel`](crate::Task::uncancel).
    pub fn uncancel(&self) -> u32 {
        self.raw.uncancel()
    }

    /// A copy of the task's context variables. Mirrors `Task.get_context`.
    pub fn context(&self) -> context::Context {
        context::Context(self.raw.context())
    }

    /// Waits until the task has ended, without its result.
    pub fn ended(&self) -> Ended {
        Ended::new(&self.raw)
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
    let mut visible = Vec::new();
    for raw in tasks {
        if raw.is_task() && !raw.is_quiet() {
            visible.push(AnyTask { raw, marker: PhantomData });
        }
    }
    visible
}
