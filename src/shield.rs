//! Waiting for a task that must not be ended by whoever waits.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    task::{Context, Poll},
};

use crate::{
    IntoTask,
    error::JoinError,
    event_loop::EventLoop,
    task::{Join, Task},
};

/// Waits for `task` without owning it: when the await is dropped or cancelled, the task runs on.
///
/// A future is spawned as a task by this call. A cancel of the task itself ends the await with a [`JoinError`] that says
/// cancelled. A panic that comes after the await was dropped is reported to the exception handler, once; see
/// [`reporting`](Shield::reporting) for `Err`. The task still ends with its loop.
///
/// Mirrors [`asyncio.shield`](https://docs.python.org/3/library/asyncio-task.html#asyncio.shield). **Difference**: the
/// loop owns the task, so no reference has to be kept. With a [`Task`] that is needed later, `(&task).await` does the
/// same and keeps it.
///
/// # Examples
///
/// ```
/// use selkie::{shield, sleep, timeout};
/// use std::{cell::Cell, rc::Rc, time::Duration};
///
/// selkie::run(async {
///     let saved = Rc::new(Cell::new(false));
///     let flag = saved.clone();
///     let save = async move {
///         sleep(Duration::from_millis(5)).await;
///         flag.set(true);
///     };
///     assert!(timeout(Duration::from_millis(1), shield(save)).await.is_err());
///     sleep(Duration::from_millis(30)).await;
///     assert!(saved.get());
/// });
/// ```
///
/// # Panics
///
/// For a future, as [`spawn`](crate::spawn).
#[track_caller]
pub fn shield<A: IntoTask>(task: A) -> Shield<A::Output> {
    Shield { join: Some(task.into_task().into_future()), left_behind: None }
}

/// The future of [`shield`]. Dropping it leaves the task alone.
#[must_use = "futures do nothing unless awaited"]
pub struct Shield<T> {
    /// `Some` until dropped.
    join: Option<Join<T>>,
    left_behind: Option<fn(&Task<T>)>,
}

impl<T, E: fmt::Display> Shield<Result<T, E>>
where
    T: 'static,
    E: 'static,
{
    /// Reports also an `Err` that comes after the await was dropped.
    ///
    /// **Difference**: in Rust an error is a value, and a generic task cannot know that its value is one, so this has to
    /// be asked for.
    pub fn reporting(mut self) -> Self {
        self.left_behind = Some(|task| {
            let name = task.name();
            task.on_done(move |result| {
                if let (Ok(Err(error)), Some(event_loop)) = (result, EventLoop::current()) {
                    let message = format!("task {name:?} failed behind its shield: {error}");
                    event_loop.call_exception_handler(&message);
                }
            });
        });
        self
    }
}

impl<T> Future for Shield<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let join = self.join.as_mut().expect("`Shield` has its task until it is dropped");
        Pin::new(join).poll(cx)
    }
}

impl<T> Drop for Shield<T> {
    fn drop(&mut self) {
        // Without this, the join would ask the task to end.
        let Some(task) = self.join.take().and_then(Join::into_task) else { return };
        if let Some(left_behind) = self.left_behind {
            left_behind(&task);
        }
    }
}

impl<T> fmt::Debug for Shield<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shield").field(&self.join).finish()
    }
}
