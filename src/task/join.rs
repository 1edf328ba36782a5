//! Waiting for one task.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    ptr,
    task::{Context, Poll},
};

use super::{AnyTask, Task, TaskRef, look::waits_for_task};
use crate::{
    error::JoinError,
    scheduler::{self, current_scheduler, with_current},
};

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
                task.raw.cancel_with_owner();
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

impl Ended {
    pub(super) fn new(raw: &TaskRef) -> Self {
        Self { raw: raw.clone(), key: None }
    }
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
