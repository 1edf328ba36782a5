//! Running several things at once and waiting for all of them.
//!
//! Every member is a task. What [`gather`] and [`try_gather`] keep of them is one vector or tuple of handles and one
//! count ([`Members`]): an end lowers the count, and only the last one (or an error, for `try_gather`) wakes whoever
//! waits. The results stay in the tasks' cells until then.

#![allow(
    private_interfaces,
    reason = "the hidden methods of the sealed traits are called in this crate only"
)]

use std::{
    cell::Cell,
    fmt,
    future::Future,
    pin::Pin,
    ptr,
    rc::Rc,
    task::{Context, Poll},
};

use futures_core::FusedFuture;

use crate::{
    error::{JoinError, TaskError},
    scheduler::{Scheduler, current_scheduler},
    task::{
        Members, Task, TaskRef, Urgent, detach_reporting, has_no_value, spawn, spawn_lazy, take_failure,
        waits_for_text,
    },
};

/// Runs several tasks or futures at once and waits for all of them; keeps every outcome, in argument order.
///
/// Mirrors [`asyncio.gather`](https://docs.python.org/3/library/asyncio-task.html#asyncio.gather) with
/// `return_exceptions=True`; for the first error, see [`try_gather`]. `members` is one of:
///
/// - an iterator of tasks, or of futures that are all of one type: the output is a `Vec<Result<T, JoinError>>`;
/// - a tuple of 1 to 12 tasks and futures of any types: the output is a tuple of such results;
/// - [`limit(n, iterator)`](limit): at most `n` futures run at once.
///
/// A future is started as a task, in argument order, during the call and [as eagerly as by `spawn`](crate::spawn); a
/// task stays the same task. So members run also while nobody polls the returned future, which takes as long as the
/// slowest. It is ready at once when all members are done, and when there are none. As it is a plain future it may be a
/// member itself: groups nest.
///
/// A member that is cancelled or panics has an `Err` in its place, and the others go on. A task that another loop runs
/// has [`JoinError::is_wrong_loop`] in its place, and is left alone.
///
/// **Difference**: a task cannot be given twice, because a [`Task`] is owned. A member of another loop does not fail
/// the whole call.
///
/// # Cancel safety
///
/// Dropping the future before it is ready asks every unfinished member to end. **Difference**: the members then end
/// after whoever awaited them, not before. [`Gather::cancel`] asks the same and lets you wait for the ends.
///
/// # Panics
///
/// If there are futures to start and no loop runs on this thread, as [`spawn`](crate::spawn) does.
///
/// # Examples
///
/// ```
/// use selkie::{gather, sleep, spawn};
/// use std::time::Duration;
///
/// async fn square(n: u64) -> u64 {
///     sleep(Duration::from_millis(10 - n)).await; // the last one ends first
///     n * n
/// }
///
/// selkie::run(async {
///     let squares = gather((1..=3).map(square)).await;
///     assert_eq!(squares.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [1, 4, 9]);
///
///     let task = spawn(square(4));
///     let (number, text) = gather((task, async { "text" })).await;
///     assert_eq!((number.unwrap(), text.unwrap()), (16, "text"));
/// });
/// ```
#[doc(alias("return_exceptions", "join_all", "Promise.allSettled"))]
#[track_caller]
pub fn gather<K, M: IntoTasks<K>>(members: M) -> Gather<M::Tasks> {
    let joint = Joint::new(if M::Tasks::LISTED { Members::listed() } else { Members::counted() });
    let mut tasks = members.start(&joint, false);
    tasks.advance(&joint, None);
    Gather { joint, tasks: Some(tasks) }
}

/// Runs several tasks or futures at once and ends with all their values, or at the first error.
///
/// Mirrors [`asyncio.gather`](https://docs.python.org/3/library/asyncio-task.html#asyncio.gather) as it is without
/// `return_exceptions`. Takes what [`gather`] takes; every member's output is a `Result`, all with the same error type.
/// The output is `Ok` with a `Vec` or tuple of the values, in argument order, or the first error: the first in the order
/// in which members ended.
///
/// The first error ends the `try_gather`, not the other members: they run on, detached. **Difference**: their own
/// errors, which nobody can look at any more, are reported to the loop's exception handler; asyncio drops them. For
/// siblings that end with the first error use a group.
///
/// A task that has failed before the call decides the outcome before the futures in the same tuple run their first
/// step; they then start at their next turn.
///
/// # Errors
///
/// [`TaskError::Failed`] with the error that a member returned; [`TaskError::Join`] if a member was cancelled,
/// panicked, or belongs to another loop.
///
/// # Cancel safety
///
/// Dropping the future before it is ready asks every unfinished member to end. Errors that members returned
/// meanwhile are reported.
///
/// # Panics
///
/// As [`gather`].
///
/// # Examples
///
/// ```
/// use selkie::{TaskError, sleep, try_gather};
/// use std::time::Duration;
///
/// async fn fetch(page: u32) -> Result<String, &'static str> {
///     sleep(Duration::from_millis(1)).await;
///     if page < 10 { Ok(format!("page {page}")) } else { Err("no such page") }
/// }
///
/// selkie::run(async {
///     let (first, second) = try_gather((fetch(1), fetch(2))).await.unwrap();
///     assert_eq!((&*first, &*second), ("page 1", "page 2"));
///
///     let error = try_gather([fetch(3), fetch(99)]).await.unwrap_err();
///     assert!(matches!(error, TaskError::Failed("no such page")));
/// });
/// ```
#[doc(alias("try_join_all", "Promise.all"))]
#[track_caller]
pub fn try_gather<K, M>(members: M) -> TryGather<M::Tasks>
where
    M: IntoTasks<K>,
    M::Tasks: TryTasks,
{
    let joint = Joint::new(Members::listed());
    // SAFETY: `failed` is made for these members' outputs, which it tells apart by the index that they get below.
    unsafe { joint.members.set_urgent(Some(M::Tasks::failed)) };
    let mut decided = false;
    members.each_task(&mut |index, task| {
        task.index.set(index);
        // SAFETY: as above.
        decided |= task.has_output() && unsafe { M::Tasks::failed(task) };
    });
    let mut tasks = members.start(&joint, decided);
    let failed = tasks.advance(&joint, Some(M::Tasks::failed));
    TryGather { joint, tasks: Some(tasks), failed }
}

/// Lets at most `count` of the futures that `members` gives run at once.
///
/// For [`gather`], [`try_gather`] and [`as_completed`](crate::as_completed). The iterator is asked for a future only
/// when there is room for one more, so it may be long, and may make each future late. The first `count` that have to wait start
/// during the call, with all before them that end at once; a later one starts when a member has ended and whoever awaits the
/// whole has had its turn. An [`as_completed`](crate::as_completed) starts no more than `count` in one go, and
/// none while more than `count` have ended that were not given out.
///
/// Tasks in the iterator run already, so the limit does not hold them back: give futures.
///
/// A `count` of zero counts as one: with none nothing could ever run.
///
/// # Examples
///
/// ```
/// use selkie::{gather, limit, sleep};
/// use std::time::Duration;
///
/// selkie::run(async {
///     let pages = gather(limit(8, (0..100).map(|page| async move {
///         sleep(Duration::from_micros(10)).await;
///         page
///     })))
///     .await;
///     assert_eq!(pages.len(), 100);
/// });
/// ```
#[doc(alias("buffered", "buffer_unordered", "Semaphore"))]
pub fn limit<I: IntoIterator>(count: usize, members: I) -> Limit<I> {
    Limit { count: count.max(1), members }
}

/// The future of [`gather`].
#[must_use = "dropping it asks the unfinished members to end"]
pub struct Gather<S: Tasks> {
    joint: Joint,
    /// `None` once the results were given out.
    tasks: Option<S>,
}

impl<S: Tasks> Gather<S> {
    /// Asks every unfinished member to end; whether one was still pending.
    ///
    /// The gather itself goes on until all have ended, with [`JoinError::is_cancelled`] in the places of those that did
    /// not refuse. Mirrors `cancel()` of asyncio's gather with `return_exceptions=True`. What a [`limit`] has not
    /// started never starts, and has no place in the results.
    pub fn cancel(&mut self) -> bool {
        let mut any = false;
        if let Some(tasks) = &mut self.tasks {
            tasks.stop();
            tasks.each(&mut |task| any |= self.joint.members.waits_for(task) && task.cancel(None));
        }
        any
    }
}

impl<S: Tasks> Future for Gather<S> {
    type Output = S::Outcomes;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<S::Outcomes> {
        let Self { joint, tasks } = &mut *self;
        let Some(mut held) = tasks.take() else { panic!("`gather` polled after it has given its results") };
        match joint.misplaced(cx) {
            None => {}
            Some(Misplaced::Member(task)) => _ = joint.members.remove_pending(&task),
            Some(Misplaced::All) => {
                held.stop();
                joint.let_go(&held);
            }
        }
        let held = tasks.insert(held);
        held.advance(joint, None);
        if joint.members.pending() > 0 {
            joint.wait(held.wake_at(), cx);
            return Poll::Pending;
        }
        let Some(ended) = tasks.take() else { unreachable!("it was just put back") };
        Poll::Ready(ended.outcomes())
    }
}

impl<S: Tasks> Drop for Gather<S> {
    fn drop(&mut self) {
        if let Some(tasks) = &self.tasks {
            self.joint.cancel(tasks);
        }
    }
}

/// The future of [`try_gather`].
#[must_use = "dropping it asks the unfinished members to end"]
pub struct TryGather<S: TryTasks> {
    joint: Joint,
    /// `None` once the outcome was given out.
    tasks: Option<S>,
    /// A member that failed during the call.
    failed: Option<TaskRef>,
}

impl<S: TryTasks> TryGather<S> {
    /// Asks every unfinished member to end; whether one was still pending.
    ///
    /// The first one that ends cancelled then ends the `try_gather`, as any cancelled member does.
    pub fn cancel(&mut self) -> bool {
        let mut any = false;
        if let Some(tasks) = &mut self.tasks {
            tasks.stop();
            tasks.each(&mut |task| any |= self.joint.members.waits_for(task) && task.cancel(None));
        }
        any
    }
}

impl<S: TryTasks> Future for TryGather<S> {
    type Output = Result<S::Values, TaskError<S::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { joint, tasks, failed } = &mut *self;
        let Some(held) = tasks else { panic!("`try_gather` polled after it has given its outcome") };
        if failed.is_none() {
            *failed = held.advance(joint, Some(S::failed));
        }
        let error = if let Some(task) = failed.take() {
            // SAFETY: `failed` said so of this member.
            unsafe { S::error(&task) }
        } else if let Some(misplaced) = joint.misplaced(cx) {
            TaskError::Join(misplaced.error())
        } else if joint.has_stranger.get() {
            TaskError::Join(JoinError::WRONG_LOOP)
        } else if joint.members.pending() > 0 {
            joint.wait(held.wake_at(), cx);
            return Poll::Pending;
        } else {
            let Some(ended) = tasks.take() else { unreachable!("looked at above") };
            return Poll::Ready(Ok(ended.values()));
        };
        joint.let_go(held);
        if let Some(rest) = tasks.take() {
            rest.detach();
        }
        Poll::Ready(Err(error))
    }
}

impl<S: TryTasks> Drop for TryGather<S> {
    fn drop(&mut self) {
        if let Some(tasks) = self.tasks.take() {
            self.joint.cancel(&tasks);
            tasks.detach();
        }
    }
}

/// What the two futures have in common.
macro_rules! future_traits {
    ($name:ident, $bound:ident) => {
        // The tasks are handles; no future is inside.
        impl<S: $bound> Unpin for $name<S> {}

        impl<S: $bound> FusedFuture for $name<S> {
            fn is_terminated(&self) -> bool {
                self.tasks.is_none()
            }
        }

        impl<S: $bound> fmt::Debug for $name<S> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("pending", &self.joint.members.pending())
                    .finish_non_exhaustive()
            }
        }
    };
}

future_traits!(Gather, Tasks);
future_traits!(TryGather, TryTasks);

/// The members of one gather, as their cells see it.
pub struct Joint {
    members: Rc<Members>,
    /// The loop of the members; null before the first.
    home: Cell<*const Scheduler>,
    /// An unfinished task of another loop was given. It is not waited for.
    has_stranger: Cell<bool>,
}

/// Why a member cannot be waited for by whoever polls.
enum Misplaced {
    /// It is the member itself that polls.
    Member(TaskRef),
    /// Another loop polls.
    All,
}

impl Misplaced {
    fn error(&self) -> JoinError {
        match self {
            Self::Member(_) => JoinError::AWAITS_ITSELF,
            Self::All => JoinError::WRONG_LOOP,
        }
    }
}

impl Joint {
    fn new(members: Rc<Members>) -> Self {
        Self { members, home: Cell::new(ptr::null()), has_stranger: Cell::new(false) }
    }

    #[inline]
    fn add(&self, task: &TaskRef, index: usize) {
        task.index.set(index as u32);
        let of = ptr::from_ref(task.scheduler());
        if self.home.get().is_null() {
            let current = current_scheduler();
            self.home.set(if current.is_null() { of } else { current });
        }
        if ptr::eq(of, self.home.get()) || task.is_done() {
            self.members.add(task);
        } else {
            self.has_stranger.set(true);
        }
    }

    fn misplaced(&self, cx: &Context<'_>) -> Option<Misplaced> {
        let (current, home) = (current_scheduler(), self.home.get());
        if !current.is_null() && !home.is_null() && !ptr::eq(current, home) {
            return Some(Misplaced::All);
        }
        let waiter = TaskRef::of_waker(cx.waker())?;
        self.members.waits_for(&waiter).then(|| Misplaced::Member(TaskRef::clone(&waiter)))
    }

    fn wait(&self, wake_at: usize, cx: &Context<'_>) {
        static GATHER: &str = "the members of a gather";
        waits_for_text(&GATHER);
        self.members.wait(wake_at, cx.waker());
    }

    /// Takes all unfinished members out.
    fn let_go(&self, tasks: &impl Tasks) {
        tasks.each(&mut |task| _ = self.members.remove_pending(task));
    }

    /// Takes all unfinished members out, and asks them to end.
    fn cancel(&self, tasks: &impl Tasks) {
        tasks.each(&mut |task| {
            if self.members.remove_pending(task) {
                task.cancel(None);
            }
        });
    }
}

/// What may be a member of a [`gather`] and its kin: a [`Task`], which stays what it is, or a future, which becomes one.
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

/// What [`gather`] and [`try_gather`] take: an iterator, a tuple, or a [`limit`]ed iterator of tasks and futures.
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

/// The handles of a [`try_gather`]'s members, which all give a `Result` with one error type. Sealed.
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

fn outcome<T>(mut task: Task<T>) -> Result<T, JoinError> {
    task.take().unwrap_or_else(|| {
        let is_here = ptr::eq(task.raw().scheduler(), current_scheduler());
        Err(if is_here { JoinError::AWAITS_ITSELF } else { JoinError::WRONG_LOOP })
    })
}

fn value<T, E>(outcome: Result<Result<T, E>, JoinError>) -> T {
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

/// An iterator of futures of which only some may run at once; from [`limit`].
#[derive(Clone, Debug)]
#[must_use = "give it to `gather`, `try_gather` or `as_completed`"]
pub struct Limit<I> {
    pub(crate) count: usize,
    pub(crate) members: I,
}

/// Limited iterators.
#[derive(Debug)]
pub struct Few;

impl<I> IntoTasks<Few> for Limit<I>
where
    I: IntoIterator,
    I::Item: IntoTask,
{
    type Tasks = Limited<I::IntoIter>;

    fn start(self, _joint: &Joint, _lazily: bool) -> Self::Tasks {
        Limited { count: self.count, source: Some(self.members.into_iter()), slots: Vec::new() }
    }
}

/// The handles of the running members of a limited gather, and the results of the others.
pub struct Limited<I: Iterator<Item: IntoTask>> {
    count: usize,
    /// `None` when there are no more.
    source: Option<I>,
    slots: Vec<Slot<<I::Item as IntoTask>::Output>>,
}

enum Slot<T> {
    Running(Task<T>),
    Ended(Result<T, JoinError>),
}

impl<T> Slot<T> {
    fn outcome(self) -> Result<T, JoinError> {
        match self {
            Self::Running(task) => outcome(task),
            Self::Ended(outcome) => outcome,
        }
    }
}

impl<I: Iterator<Item: IntoTask>> Tasks for Limited<I> {
    type Outcomes = Vec<Result<<I::Item as IntoTask>::Output, JoinError>>;

    const LISTED: bool = true;

    #[track_caller]
    fn advance(&mut self, joint: &Joint, failed: Option<Urgent>) -> Option<TaskRef> {
        loop {
            while let Some(task) = joint.members.pop_done() {
                // SAFETY: whoever gives `failed` gives the one that fits.
                if failed.is_some_and(|failed| unsafe { failed(&task) }) {
                    self.source = None;
                    return Some(task);
                }
                // The cell is free for the next member.
                let slot = &mut self.slots[task.index.get() as usize];
                if let Slot::Running(ended) = slot {
                    if let Some(outcome) = ended.take() {
                        *slot = Slot::Ended(outcome);
                    }
                }
            }
            if joint.members.pending() >= self.count {
                return None;
            }
            let Some(member) = self.source.as_mut().and_then(Iterator::next) else {
                self.source = None;
                return None;
            };
            let task = member.into_task();
            joint.add(task.raw(), self.slots.len());
            self.slots.push(Slot::Running(task));
        }
    }

    fn wake_at(&self) -> usize {
        if self.source.is_some() { self.count - 1 } else { 0 }
    }

    fn stop(&mut self) {
        self.source = None;
    }

    fn each(&self, look: &mut dyn FnMut(&TaskRef)) {
        for slot in &self.slots {
            if let Slot::Running(task) = slot {
                look(task.raw());
            }
        }
    }

    fn outcomes(self) -> Self::Outcomes {
        self.slots.into_iter().map(Slot::outcome).collect()
    }
}

impl<I, T, E> TryTasks for Limited<I>
where
    I: Iterator<Item: IntoTask<Output = Result<T, E>>>,
    T: 'static,
    E: fmt::Debug + 'static,
{
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
        self.slots.into_iter().map(|slot| value(slot.outcome())).collect()
    }

    fn detach(self) {
        for slot in self.slots {
            if let Slot::Running(task) = slot {
                detach_reporting(task);
            }
        }
    }
}

impl<I: Iterator<Item: IntoTask>> fmt::Debug for Limited<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limited").field("count", &self.count).finish_non_exhaustive()
    }
}

impl fmt::Debug for Joint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joint").field("pending", &self.members.pending()).finish_non_exhaustive()
    }
}

mod sealed {
    use std::future::Future;

    use super::{Few, IntoTask, Limit, Many};
    use crate::task::Task;

    pub trait Member: Sized {}

    impl<T> Member for Task<T> {}
    impl<F: Future> Member for F {}

    pub trait Several<Kind>: Sized {}

    impl<I: IntoIterator<Item: IntoTask>> Several<Many> for I {}
    impl<I: IntoIterator<Item: IntoTask>> Several<Few> for Limit<I> {}
}
