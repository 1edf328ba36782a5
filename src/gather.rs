//! Running several things at once and waiting for all of them.
//!
//! Every member is a task. What [`gather`] and [`try_gather`] keep of them is one vector or tuple of handles and one
//! count ([`Members`]): an end lowers the count, and only the last one (or an error, for `try_gather`) wakes whoever
//! waits. The results stay in the tasks' cells until then.

#![allow(
    private_interfaces,
    reason = "the hidden methods of the sealed traits are called in this crate only"
)]

mod limit;
mod members;

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
    scheduler::{self, Scheduler, current_scheduler},
    task::{Members, TaskRef, waits_for_text},
};

pub(crate) use limit::Few;
pub use limit::{Limit, limit};
pub(crate) use members::Many;
pub use members::{IntoTask, IntoTasks};
use members::{Tasks, TryTasks};

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
/// **Difference**: a task cannot be given twice, because a [`Task`](crate::Task) is owned. A member of another loop does not fail
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
/// in which members ended, and in argument order among tasks that had ended before the call.
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
        let Some(held) = tasks else { panic!("`gather` polled after it has given its results") };
        if joint.is_elsewhere() {
            held.stop();
        }
        held.advance(joint, None);
        // Afterwards: it may be what has just come out of a `limit`.
        match joint.misplaced(cx) {
            None => {}
            Some(Misplaced::Member(task)) => {
                joint.members.remove_pending(&task);
                held.advance(joint, None);
            }
            Some(Misplaced::All) => joint.let_go(held),
        }
        if joint.members.pending() > 0 {
            joint.wait(held.wake_at(), cx);
            return Poll::Pending;
        }
        let Some(ended) = tasks.take() else { unreachable!("looked at above") };
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
        if joint.is_elsewhere() {
            held.stop();
        }
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

    /// Whether another loop polls. What started now would be its own, and not count here.
    fn is_elsewhere(&self) -> bool {
        let (current, home) = (current_scheduler(), self.home.get());
        !current.is_null() && !home.is_null() && !ptr::eq(current, home)
    }

    fn misplaced(&self, cx: &Context<'_>) -> Option<Misplaced> {
        if self.is_elsewhere() {
            return Some(Misplaced::All);
        }
        // Inside a set the waker is the set's.
        let waiter = TaskRef::of_waker(cx.waker()).or_else(scheduler::running)?;
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
                task.cancel_with_owner();
            }
        });
    }
}

impl fmt::Debug for Joint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joint").field("pending", &self.members.pending()).finish_non_exhaustive()
    }
}
