//! Handing work to a loop from other threads, and blocking work to other threads.

use std::{
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use crate::{
    LoopClosed, LoopHandle, context,
    error::JoinError,
    ready::Priority,
    remote::{Producer, RemoteTask, channel},
    scheduler::{self, with_current},
    task::{HANDLE, QUIET, Setup, spawn_on},
};

impl LoopHandle {
    /// Makes a future in the loop's thread, from any thread, and runs it there as a task.
    ///
    /// `f` crosses threads; the future it makes does not, so it need not be `Send`. An async closure does:
    /// `handle.submit(async move || ..)`. It starts at a turn of the loop, when the loop runs; what one thread submits starts
    /// in its order. It runs with a copy of the submitter's context variables.
    ///
    /// Mirrors [`asyncio.run_coroutine_threadsafe`](https://docs.python.org/3/library/asyncio-task.html#asyncio.run_coroutine_threadsafe).
    /// **Difference**: a cancelled result comes when the task has ended, not before, and a task cancelled before the loop
    /// picked it up never begins.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`]; `f` is dropped. A loop that closes later leaves a [`JoinError`] that says so.
    #[doc(alias = "run_coroutine_threadsafe")]
    pub fn submit<F, Fut>(&self, f: F) -> Result<RemoteTask<Fut::Output>, LoopClosed>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Send + 'static,
    {
        let (producer, task) = channel(Some(self.scheduler().clone()));
        let context = context::current();
        let start = move |scheduler: &scheduler::Scheduler| {
            if producer.begin() {
                let setup = Setup { priority: Priority::Normal, flags: HANDLE | QUIET, context, name: None };
                spawn_on(scheduler, body(f, producer), setup, true).detach();
            }
        };
        self.scheduler().call_remote(Box::new(start)).map_err(|_| LoopClosed)?;
        Ok(task)
    }

    /// As [`submit`](Self::submit), for a future that can cross threads itself.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`]; the future is dropped.
    pub fn submit_future<F>(&self, future: F) -> Result<RemoteTask<F::Output>, LoopClosed>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.submit(move || future)
    }
}

/// The task that a submit becomes: it passes on a cancel of the remote end, and its own end to it.
async fn body<F, Fut>(f: F, producer: Producer<Fut::Output>)
where
    F: FnOnce() -> Fut,
    Fut: Future,
    Fut::Output: Send,
{
    let label = || scheduler::running().map_or_else(String::new, |task| task.label());
    let future = match catch_unwind(AssertUnwindSafe(f)) {
        Ok(future) => future,
        Err(payload) => return producer.give(Err(JoinError::panicked(label(), payload))),
    };
    let mut future = pin!(future);
    let mut asked = false;
    let result = poll_fn(|cx| {
        if !asked && producer.poll_cancelled(cx.waker()) {
            asked = true;
            if let Some(task) = scheduler::running() {
                task.cancel(None);
            }
        }
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(payload) => Poll::Ready(Err(JoinError::panicked(label(), payload))),
        }
    });
    let result = result.await;
    producer.give(result);
}

/// Runs a function that blocks on a thread for such work, and lets the loop go on meanwhile.
///
/// It starts at this call, with a copy of the context variables. Awaiting gives its result, or a [`JoinError`] if it panicked.
/// Dropping the future before the function has begun withdraws it; afterwards it cannot be stopped, runs on, and its result
/// is dropped.
///
/// The threads are shared by the whole process: at most `min(32, cpus + 4)`, jobs first in, first out. Mirrors
/// [`asyncio.to_thread`](https://docs.python.org/3/library/asyncio-task.html#asyncio.to_thread); **Difference**: that starts when
/// it is awaited.
///
/// # Platform-specific
///
/// - **Web:** the result is a [`JoinError`] with `is_unavailable`, and the function is not run.
///
/// # Examples
///
/// ```
/// selkie::run(async {
///     let sum = selkie::to_thread(|| (1..=1000u64).sum::<u64>()).await;
///     assert_eq!(sum.unwrap(), 500_500);
/// });
/// ```
#[doc(alias = "run_in_executor")]
#[doc(alias = "spawn_blocking")]
pub fn to_thread<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> ToThread<R> {
    let (producer, task) = channel(None);
    let job = job(f, producer);
    let refused = match with_current(|scheduler| scheduler.platform().clone()) {
        Some(platform) => platform.run_blocking(job),
        None => crate::os::host().run_blocking(job),
    };
    ToThread { task, refused: refused.err().map(JoinError::unavailable) }
}

/// A job for a pool: withdrawn if it was cancelled before it began.
pub(crate) fn job<R: Send + 'static>(
    f: impl FnOnce() -> R + Send + 'static,
    producer: Producer<R>,
) -> Box<dyn FnOnce() + Send> {
    let context = context::Context::current();
    Box::new(move || {
        if !producer.begin() {
            return;
        }
        let result = catch_unwind(AssertUnwindSafe(|| context.run(f)));
        producer.give(result.map_err(|payload| JoinError::panicked("a blocking job".to_owned(), payload)));
    })
}

/// The future of [`to_thread`].
#[must_use = "dropping it withdraws the job if it has not begun"]
pub struct ToThread<R: Send> {
    task: RemoteTask<R>,
    refused: Option<JoinError>,
}

impl<R: Send> Future for ToThread<R> {
    type Output = Result<R, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.refused.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut self.task).poll(cx),
        }
    }
}

impl<R: Send> Drop for ToThread<R> {
    fn drop(&mut self) {
        self.task.cancel();
    }
}

impl<R: Send> fmt::Debug for ToThread<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ToThread").field(&self.task).finish()
    }
}
