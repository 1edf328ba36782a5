//! What may be joined: iterators, tuples, and what is kept of them meanwhile.

#![allow(
    private_interfaces,
    reason = "the hidden methods of the sealed traits are called in this crate only"
)]

use std::{fmt, future::Future, ptr};

use super::Joint;
use crate::{
    error::{JoinError, TaskError},
    scheduler::current_scheduler,
    task::{Task, TaskRef, Urgent, detach_reporting, has_no_value, spawn, spawn_lazy, take_failure},
};

/// What may be a member of a [`gather`](crate::gather()) and its kin: a [`Task`], which stays what it is, or a future, which
/// becomes one.
///
/// Sealed: every `Future + 'static` and every task has it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a task nor a future",
    note = "where something else can be awaited, pass `value.into_future()`"
)]
pub trait IntoTask: sealed::Member {
    /// What the task gives.
    type Output: 'static;

    /// The task. A future is spawned, and runs up to its first suspension. Mirrors
    /// [`asyncio.ensure_future`](https://docs.python.org/3/library/asyncio-future.html#asyncio.ensure_future).
    ///
    /// ```
    /// use selkie::IntoTask;
    ///
    /// selkie::run(async {
    ///     let task = async { 1 }.into_task();
    ///     let id = task.id();
    ///     assert_eq!(task.into_task().id(), id);
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// For a future, as [`spawn`].
    #[doc(alias = "ensure_future")]
    fn into_task(self) -> Task<Self::Output>;

    /// The task. A future is started at its next turn.
    #[doc(hidden)]
    fn into_task_lazily(self) -> Task<Self::Output>;

    /// The task, if it is one already.
    #[doc(hidden)]
    fn as_task(&self) -> Option<&TaskRef>;
}

impl<T: 'static> IntoTask for Task<T> {
    type Output = T;

    #[inline]
    fn into_task(self) -> Task<T> {
        self
    }

    #[inline]
    fn into_task_lazily(self) -> Task<T> {
        self
    }

    fn as_task(&self) -> Option<&TaskRef> {
        Some(self.raw())
    }
}

impl<F> IntoTask for F
where
    F: Future + 'static,
    F::Output: 'static,
{
    type Output = F::Output;

    #[inline]
    #[track_caller]
    fn into_task(self) -> Task<F::Output> {
        spawn(self)
    }

    #[inline]
    #[track_caller]
    fn into_task_lazily(self) -> Task<F::Output> {
        spawn_lazy(self)
    }

    fn as_task(&self) -> Option<&TaskRef> {
        None
    }
}

/// What [`gather`](crate::gather()) and [`try_gather`](crate::try_gather) take: an iterator, a tuple, or a
/// [`limit`](crate::limit)ed iterator of tasks and futures.
///
/// The compiler finds `Kind`, which keeps the three apart. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be gathered",
    label = "neither an iterator nor a tuple of tasks and futures",
    note = "futures of one type go in an array, a `Vec` or any iterator: `gather([a, b])`",
    note = "futures of different types go in a tuple of 1 to 12: `gather((a, b))`, `gather((a,))`"
)]
pub trait IntoTasks<Kind>: sealed::Several<Kind> {
    /// What is kept of the members.
    type Tasks: Tasks;

    /// Shows those that are tasks already and may stand beside futures, with their places.
    #[doc(hidden)]
    fn each_task(&self, _look: &mut dyn FnMut(u32, &TaskRef)) {}

    /// Starts the members in order and joins them.
    #[doc(hidden)]
    fn start(self, joint: &Joint, lazily: bool) -> Self::Tasks;
}

/// The handles of a gather's members. Sealed.
pub trait Tasks: Sized {
    /// The results of all members.
    type Outcomes;

    /// Whether [`advance`](Self::advance) needs to know which member has ended.
    #[doc(hidden)]
    const LISTED: bool = false;

    /// Takes notice of the members that have ended, and starts others if there is room; returns one that `failed`.
    #[doc(hidden)]
    fn advance(&mut self, joint: &Joint, failed: Option<Urgent>) -> Option<TaskRef> {
        let failed = failed?;
        if !joint.members.is_alarmed() {
            return None;
        }
        // SAFETY: the members keep their outputs until the end; whoever gives `failed` gives the one that fits.
        std::iter::from_fn(|| joint.members.pop_done()).find(|task| unsafe { failed(task) })
    }

    /// How many members may be pending when there is something to do.
    #[doc(hidden)]
    fn wake_at(&self) -> usize {
        0
    }

    /// Starts no more.
    #[doc(hidden)]
    fn stop(&mut self) {}

    /// Shows every member that may be pending.
    #[doc(hidden)]
    fn each(&self, look: &mut dyn FnMut(&TaskRef));

    /// The results. A member that has not ended could not be waited for.
    #[doc(hidden)]
    fn outcomes(self) -> Self::Outcomes;
}

/// The handles of a [`try_gather`](crate::try_gather)'s members, which all give a `Result` with one error type. Sealed.
pub trait TryTasks: Tasks {
    /// The values of all members.
    type Values;

    /// Their error.
    type Error;

    /// Whether a member ended without a value.
    ///
    /// # Safety
    ///
    /// The task is one of these members, by type and by index, and has its output.
    #[doc(hidden)]
    unsafe fn failed(task: &TaskRef) -> bool;

    /// Takes the error out.
    ///
    /// # Safety
    ///
    /// `failed` said so of the task, and its output was not taken.
    #[doc(hidden)]
    unsafe fn error(task: &TaskRef) -> TaskError<Self::Error>;

    /// The values of members that all have one.
    #[doc(hidden)]
    fn values(self) -> Self::Values;

    /// Lets the members run on, and has their errors reported.
    #[doc(hidden)]
    fn detach(self);
}

pub(super) fn outcome<T>(mut task: Task<T>) -> Result<T, JoinError> {
    task.take().unwrap_or_else(|| {
        let is_here = ptr::eq(task.raw().scheduler(), current_scheduler());
        Err(if is_here { JoinError::AWAITS_ITSELF } else { JoinError::WRONG_LOOP })
    })
}

pub(super) fn value<T, E>(outcome: Result<Result<T, E>, JoinError>) -> T {
    match outcome {
        Ok(Ok(value)) => value,
        _ => unreachable!("a member without a value ends the `try_gather`"),
    }
}

/// Iterators.
#[derive(Debug)]
pub struct Many;

impl<I> IntoTasks<Many> for I
where
    I: IntoIterator,
    I::Item: IntoTask,
{
    type Tasks = Vec<Task<<I::Item as IntoTask>::Output>>;

    #[inline]
    #[track_caller]
    fn start(self, joint: &Joint, lazily: bool) -> Self::Tasks {
        let members = self.into_iter();
        let mut tasks = Vec::with_capacity(members.size_hint().0);
        for member in members {
            let task = if lazily { member.into_task_lazily() } else { member.into_task() };
            joint.add(task.raw(), tasks.len());
            tasks.push(task);
        }
        tasks
    }
}

impl<T: 'static> Tasks for Vec<Task<T>> {
    type Outcomes = Vec<Result<T, JoinError>>;

    fn each(&self, look: &mut dyn FnMut(&TaskRef)) {
        self.iter().for_each(|task| look(task.raw()));
    }

    fn outcomes(self) -> Self::Outcomes {
        self.into_iter().map(outcome).collect()
    }
}

impl<T: 'static, E: fmt::Debug + 'static> TryTasks for Vec<Task<Result<T, E>>> {
    type Values = Vec<T>;
    type Error = E;

    unsafe fn failed(task: &TaskRef) -> bool {
        // SAFETY: all members have this output.
        unsafe { has_no_value::<T, E>(task) }
    }

    unsafe fn error(task: &TaskRef) -> TaskError<E> {
        // SAFETY: as above.
        unsafe { take_failure::<T, E>(task) }
    }

    fn values(self) -> Vec<T> {
        self.into_iter().map(|task| value(outcome(task))).collect()
    }

    fn detach(self) {
        self.into_iter().for_each(detach_reporting);
    }
}

/// Tuples.
#[derive(Debug)]
pub struct Tuple;

macro_rules! tuples {
    ($($M:ident $T:ident $index:tt),+) => {
        impl<$($M: IntoTask),+> sealed::Several<Tuple> for ($($M,)+) {}

        impl<$($M: IntoTask),+> IntoTasks<Tuple> for ($($M,)+) {
            type Tasks = ($(Task<$M::Output>,)+);

            fn each_task(&self, look: &mut dyn FnMut(u32, &TaskRef)) {
                $(self.$index.as_task().inspect(|task| look($index, task));)+
            }

            #[track_caller]
            fn start(self, joint: &Joint, lazily: bool) -> Self::Tasks {
                let tasks = ($(if lazily { self.$index.into_task_lazily() } else { self.$index.into_task() },)+);
                $(joint.add(tasks.$index.raw(), $index);)+
                tasks
            }
        }

        impl<$($T: 'static),+> Tasks for ($(Task<$T>,)+) {
            type Outcomes = ($(Result<$T, JoinError>,)+);

            fn each(&self, look: &mut dyn FnMut(&TaskRef)) {
                $(look(self.$index.raw());)+
            }

            fn outcomes(self) -> Self::Outcomes {
                ($(outcome(self.$index),)+)
            }
        }

        impl<$($T: 'static,)+ E: fmt::Debug + 'static> TryTasks for ($(Task<Result<$T, E>>,)+) {
            type Values = ($($T,)+);
            type Error = E;

            unsafe fn failed(task: &TaskRef) -> bool {
                match task.index.get() {
                    // SAFETY: the index tells the member's type.
                    $($index => unsafe { has_no_value::<$T, E>(task) },)+
                    _ => unreachable!("no such member"),
                }
            }

            unsafe fn error(task: &TaskRef) -> TaskError<E> {
                match task.index.get() {
                    // SAFETY: the index tells the member's type.
                    $($index => unsafe { take_failure::<$T, E>(task) },)+
                    _ => unreachable!("no such member"),
                }
            }

            fn values(self) -> Self::Values {
                ($(value(outcome(self.$index)),)+)
            }

            fn detach(self) {
                $(detach_reporting(self.$index);)+
            }
        }
    };
}

tuples!(M0 T0 0);
tuples!(M0 T0 0, M1 T1 1);
tuples!(M0 T0 0, M1 T1 1, M2 T2 2);
tuples!(M0 T0 0, M1 T1 1, M2 T2 2, M3 T3 3);
tuples!(M0 T0 0, M1 T1 1, M2 T2 2, M3 T3 3, M4 T4 4);
tuples!(M0 T0 0, M1 T1 1, M2 T2 2, M3 T3 3, M4 T4 4, M5 T5 5);
tuples!(M0 T0 0, M1 T1 1, M2 T2 2, M3 T3 3, M4 T4 4, M5 T5 5, M6 T6 6);
tuples!(M0 T0 0, M1 T1 1, M2 T2 2, M3 T3 3, M4 T4 4, M5 T5 5, M6 T6 6, M7 T7 7);
tuples!(M0 T0 0, M1 T1 1, M2 T2 2, M3 T3 3, M4 T4 4, M5 T5 5, M6 T6 6, M7 T7 7, M8 T8 8);
tuples!(M0 T0 0, M1 T1 1, M2 T2 2, M3 T3 3, M4 T4 4, M5 T5 5, M6 T6 6, M7 T7 7, M8 T8 8, M9 T9 9);
tuples!(M0 T0 0, M1 T1 1, M2 T2 2, M3 T3 3, M4 T4 4, M5 T5 5, M6 T6 6, M7 T7 7, M8 T8 8, M9 T9 9, M10 T10 10);
tuples!(M0 T0 0, M1 T1 1, M2 T2 2, M3 T3 3, M4 T4 4, M5 T5 5, M6 T6 6, M7 T7 7, M8 T8 8, M9 T9 9, M10 T10 10, M11 T11 11);

mod sealed {
    use std::future::Future;

    use super::{
        super::limit::{Few, Limit},
        IntoTask, Many,
    };
    use crate::task::Task;

    pub trait Member: Sized {}

    impl<T> Member for Task<T> {}
    impl<F: Future> Member for F {}

    pub trait Several<Kind>: Sized {}

    impl<I: IntoIterator<Item: IntoTask>> Several<Many> for I {}
    impl<I: IntoIterator<Item: IntoTask>> Several<Few> for Limit<I> {}
}
