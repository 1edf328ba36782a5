//! The right to a result that another thread makes: what `submit` and the pools give back.
//!
//! How it comes from there to here is in [`cell`]; what becomes of it when that thread is lost, in [`debts`].

mod cell;
mod debts;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{
    error::{JoinError, WaitError},
    os,
    scheduler::ThreadNumber,
};

pub(crate) use cell::{Elsewhere, Producer, Shared, StandIn, Work, cell_of, channel, gone};
pub(crate) use debts::Debts;

/// Blocks until `poll` answers `true`. `debtor` is the thread that has to do something for it, if it is one.
pub(crate) fn block(
    debtor: Option<ThreadNumber>,
    timeout: Option<Duration>,
    poll: &mut dyn FnMut(&Waker) -> bool,
) -> Result<(), WaitError> {
    if os::may_wait() && debtor == Some(ThreadNumber::here()) {
        return Err(WaitError::WouldDeadlock);
    }
    os::block(debtor.and_then(ThreadNumber::waits_for), timeout, poll)
}

/// Work that another loop or a pool does: the right to its result, from any thread.
///
/// Mirrors [`concurrent.futures.Future`](https://docs.python.org/3/library/concurrent.futures.html#future-objects). It can be
/// awaited in a task of any loop, polled by any executor, waited for by a thread that may block, or asked now and then.
/// Dropping it detaches: the work goes on and its result is dropped. **Difference**: so does a cancel of the task that awaits it, and a
/// [`timeout`](crate::timeout()) around, where `asyncio.wrap_future` passes the cancel on. To have that, lend it, and
/// [`cancel`](Self::cancel) it afterwards:
///
/// ```
/// use selkie::{Event, ThreadPool, timeout};
/// use std::time::Duration;
///
/// static GATE: Event = Event::new();
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = ThreadPool::new(1)?;
/// selkie::run(async move {
///     let first = pool.submit(|| GATE.wait_blocking(None))?;
///     let mut job = pool.submit(|| unreachable!())?;
///     if timeout(Duration::from_millis(1), &mut job).await.is_err() {
///         job.cancel(); // it waits for the pool's only thread, and never begins
///     }
///     GATE.set();
///     first.await??;
///     assert!(job.await.unwrap_err().is_cancelled());
///     Ok(())
/// })
/// # }
/// ```
///
/// A loop that closes, a pool that is shut down, or a worker that dies leaves an error, so a wait always ends.
#[must_use = "dropping it detaches the work: await it, wait for it, or say `detach()`"]
pub struct RemoteTask<T: Send> {
    end: End<T>,
}

enum End<T: Send> {
    Shared(Arc<Shared<T>>),
    /// Of a future on an [`Executor`](crate::Executor), natively.
    Carried(os::Carried<T>),
}

impl<T: Send> RemoteTask<T> {
    /// There is no other of this work.
    pub(crate) fn new(shared: Arc<Shared<T>>) -> Self {
        Self { end: End::Shared(shared) }
    }

    /// The result is where the work is.
    #[cfg_attr(target_family = "wasm", expect(dead_code, reason = "only native executors carry results"))]
    pub(crate) fn carried(carried: os::Carried<T>) -> Self {
        Self { end: End::Carried(carried) }
    }

    /// Whether the work has ended.
    #[doc(alias = "done")]
    pub fn is_finished(&self) -> bool {
        match &self.end {
            End::Shared(shared) => shared.is_finished(),
            End::Carried(carried) => carried.is_finished(),
        }
    }

    /// Whether the work has begun. A future of an [`Executor`](crate::Executor) has from the first: it is dropped by a cancel
    /// whether it was polled or not.
    #[doc(alias = "running")]
    pub fn is_started(&self) -> bool {
        match &self.end {
            End::Shared(shared) => shared.is_started(),
            End::Carried(_) => true,
        }
    }

    /// Asks the work to end; whether it had not ended.
    ///
    /// Work that has not begun never does; a job of a pool is dropped here and now, and its result is the error of a
    /// cancel. A task that runs is asked to end at its next turn and may clean up. A job that runs on a thread cannot be
    /// stopped: it runs on, and its result comes as if nobody had asked. One that runs in a worker of an
    /// [`IsolatedPool`](crate::IsolatedPool) ends at once, with its worker.
    ///
    /// **Difference**: `concurrent.futures` answers whether the work will not run; here ask
    /// [`is_started`](Self::is_started).
    pub fn cancel(&self) -> bool {
        if self.is_finished() {
            return false;
        }
        match &self.end {
            End::Shared(shared) => shared.cancel(),
            End::Carried(carried) => {
                if let Some(shared) = carried.share() {
                    shared.cancel();
                }
            }
        }
        true
    }

    /// Waits for the result, blocking this thread for at most `timeout`; `None` waits as long as it takes.
    ///
    /// A wait that is over changes nothing: call it again, or cancel.
    ///
    /// # Errors
    ///
    /// - [`WaitError::TimedOut`].
    /// - [`WaitError::WouldDeadlock`] when the loop that owes the result is one of this thread, whether it runs or not, as are
    ///   all loops and pools of a simulation, or of a thread that waits for a loop of this one.
    /// - [`WaitError::WouldBlock`] on a thread that must not block, as a page's main thread: await instead.
    /// - [`WaitError::Taken`] when the result was taken before.
    #[doc(alias = "result")]
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Result<T, JoinError>, WaitError> {
        if !self.is_done() {
            block(self.debtor(), timeout, &mut |waker: &Waker| self.poll_done(waker))?;
        }
        self.take().ok_or(WaitError::Taken)
    }

    /// Whether the result may be taken. Registers `waker`, instead of any before, for the time when it may.
    #[inline]
    pub(crate) fn poll_done(&mut self, waker: &Waker) -> bool {
        match &mut self.end {
            End::Shared(shared) => shared.poll_done(waker),
            End::Carried(carried) => carried.poll_done(waker),
        }
    }

    /// Whether the result may be taken.
    pub(crate) fn is_done(&self) -> bool {
        match &self.end {
            End::Shared(shared) => shared.is_done(),
            End::Carried(carried) => carried.is_done(),
        }
    }

    /// Says that a simulation of that thread owes the result, without one of its loops.
    pub(crate) fn simulated(self, by: ThreadNumber) -> Self {
        if let End::Shared(shared) = &self.end {
            shared.set_simulated(by);
        }
        self
    }

    /// The thread that owes the result, if it can be no other.
    pub(crate) fn debtor(&self) -> Option<ThreadNumber> {
        match &self.end {
            End::Shared(shared) => shared.debtor(),
            End::Carried(_) => None,
        }
    }

    /// The result, if it is there and was not taken.
    pub fn try_take(&mut self) -> Option<Result<T, JoinError>> {
        if self.is_done() { self.take() } else { None }
    }

    /// It [is done](Self::is_done).
    #[inline]
    fn take(&mut self) -> Option<Result<T, JoinError>> {
        match &mut self.end {
            // SAFETY: there is one consumer, borrowed exclusively, and its callers have seen `DONE`.
            End::Shared(shared) => unsafe { shared.take() },
            // SAFETY: as above.
            End::Carried(carried) => carried.take().unwrap_or_else(|shared| unsafe { shared.take() }),
        }
    }

    /// Calls `callback` with the result: in the thread that produces it, before anybody who waits goes on, or here and now
    /// if it is there already.
    ///
    /// In the order in which they were added. One that panics does not keep the others from running. Callbacks should be
    /// short: they hold up the thread that finished the work. **Difference** to [`Task::on_done`](crate::Task::on_done),
    /// as between asyncio's and `concurrent.futures`' callbacks. Not called once the result was taken.
    #[doc(alias = "add_done_callback")]
    pub fn on_done(&self, callback: impl FnOnce(&Result<T, JoinError>) + Send + 'static)
    where
        T: Sync + 'static,
    {
        match &self.end {
            End::Shared(shared) => shared.on_done(Box::new(callback)),
            End::Carried(carried) => {
                if let Some(shared) = carried.share() {
                    shared.on_done(Box::new(callback));
                }
            }
        }
    }

    /// Lets the work go on by itself. The same as dropping, said aloud.
    pub fn detach(self) {}
}

/// A result is never pinned.
impl<T: Send> Unpin for RemoteTask<T> {}

impl<T: Send> Drop for RemoteTask<T> {
    fn drop(&mut self) {
        match &self.end {
            End::Shared(shared) => shared.leave(),
            // It knows itself.
            End::Carried(_) => {}
        }
    }
}

impl<T: Send> Future for RemoteTask<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    ///
    /// If the result was taken before.
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.poll_done(cx.waker()) {
            static REMOTE: &str = "work of another thread";
            crate::task::waits_for_text(&REMOTE);
            return Poll::Pending;
        }
        match self.take() {
            Some(result) => Poll::Ready(result),
            None => panic!("a remote task polled after its result was taken"),
        }
    }
}

impl<T: Send> fmt::Debug for RemoteTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteTask")
            .field("started", &self.is_started())
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}
