//! Limits of time on anything that can be awaited.
//!
//! A timeout needs no cancel and no counter: it owns the future and drops it. So a timeout inside another can never
//! take the other's expiry for its own, and one that fires at the same turn as a cancel hides nothing. Nor does one that
//! fires while a cancel that came before is still in hand: that goes on.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use pin_project_lite::pin_project;

use crate::{
    IntoTask,
    cancel::Cut,
    error::{JoinError, TimedOut},
    scheduler::wake,
    sleep::{Sleep, sleep, sleep_until},
};

/// Gives `future` at most `duration`, then drops it.
///
/// The time counts from this call, in the loop's clock. The future is polled first: one that is ready never times out,
/// and one that completes at the very turn of the expiry wins. A duration of zero fires at the next turn;
/// [`Duration::MAX`] never fires. If the task was cancelled, and the future is still cleaning up at the expiry, the cancel goes
/// on and there is no `TimedOut`.
///
/// Mirrors [`asyncio.timeout`](https://docs.python.org/3/library/asyncio-task.html#asyncio.timeout). **Difference**: an
/// expiry drops the future instead of cancelling the task, so [`catch_cancel`](crate::catch_cancel) inside sees nothing
/// and code inside cannot refuse. To let it clean up with awaits, make it a task: [`wait_for`]. A body that moves its
/// own deadline: [`timeout_scope`].
///
/// | given | at the expiry |
/// |---|---|
/// | a future | dropped |
/// | `task` | asked to end, not waited for |
/// | `&task` | runs on |
///
/// # Errors
///
/// [`TimedOut`].
///
/// # Cancel safety
///
/// Dropping the timeout drops the future.
///
/// # Examples
///
/// ```
/// use selkie::{TimedOut, sleep, timeout};
/// use std::time::Duration;
///
/// selkie::run(async {
///     let slow = timeout(Duration::from_millis(1), sleep(Duration::from_secs(60)));
///     assert_eq!(slow.await, Err(TimedOut));
///     assert_eq!(timeout(Duration::ZERO, async { 1 }).await, Ok(1));
/// });
/// ```
pub fn timeout<F: IntoFuture>(duration: Duration, future: F) -> Timeout<F::IntoFuture> {
    Timeout::new(sleep(duration), future.into_future())
}

/// Gives `future` until `deadline` on the loop's clock ([`EventLoop::time`](crate::EventLoop::time)), then drops it.
///
/// Otherwise as [`timeout`]. Mirrors
/// [`asyncio.timeout_at`](https://docs.python.org/3/library/asyncio-task.html#asyncio.timeout_at).
///
/// # Errors
///
/// [`TimedOut`].
pub fn timeout_at<F: IntoFuture>(deadline: Duration, future: F) -> Timeout<F::IntoFuture> {
    Timeout::new(sleep_until(deadline), future.into_future())
}

pin_project! {
    /// The future of [`timeout`] and [`timeout_at`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Timeout<F> {
        #[pin]
        future: Option<F>,
        sleep: Sleep,
        expired: bool,
        // A cancel that the future had in hand goes on instead of the expiry.
        cancelled: bool,
        // Only with `timeout_scope`: what the body has in its hands.
        shared: Option<Rc<Shared>>,
    }
}

impl<F> Timeout<F> {
    fn new(sleep: Sleep, future: F) -> Self {
        Self { future: Some(future), sleep, expired: false, cancelled: false, shared: None }
    }

    /// When it expires, on the loop's clock; `None` for never. Mirrors `Timeout.when`.
    pub fn when(&self) -> Option<Duration> {
        self.sleep.deadline()
    }

    /// Whether it has expired. Mirrors `Timeout.expired`.
    pub fn expired(&self) -> bool {
        self.expired
    }

    /// Makes it expire at another time on the loop's clock, or never; whether it was still under way.
    ///
    /// Takes effect at the next poll, which an await does. Mirrors `Timeout.reschedule`. **Difference**: after the end
    /// it answers `false`, where asyncio raises `RuntimeError`.
    ///
    /// ```
    /// use selkie::{EventLoop, sleep, timeout};
    /// use std::{pin::pin, time::Duration};
    ///
    /// selkie::run(async {
    ///     let mut limited = pin!(timeout(Duration::ZERO, sleep(Duration::from_millis(2))));
    ///     assert!(limited.as_mut().reschedule(None));
    ///     assert!(limited.await.is_ok());
    /// });
    /// ```
    pub fn reschedule(self: Pin<&mut Self>, when: Option<Duration>) -> bool {
        let this = self.project();
        if this.future.is_none() {
            return false;
        }
        this.sleep.reset(when.unwrap_or(Duration::MAX));
        true
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, TimedOut>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            assert!(*this.cancelled, "a timeout polled after it has completed");
            return Poll::Pending;
        };
        if let Poll::Ready(output) = future.poll(cx) {
            this.future.set(None);
            return Poll::Ready(Ok(output));
        }
        if let Some(shared) = this.shared {
            if shared.moved.take() {
                let when = shared.when.get().unwrap_or(Duration::MAX);
                // From one time that is over to another: or a body that says so at every poll would never expire.
                if !this.sleep.is_over_at(when) {
                    this.sleep.reset(when);
                }
            }
            drop(shared.waker.replace(Some(cx.waker().clone())));
        }
        if Pin::new(this.sleep).poll(cx).is_pending() {
            return Poll::Pending;
        }
        *this.expired = true;
        if let Some(shared) = this.shared {
            shared.expired.set(true);
            shared.over.set(true);
        }
        let cut = Cut::begin();
        this.future.set(None);
        if let Some(cancelled) = cut.end() {
            *this.cancelled = true;
            cancelled.raise();
            return Poll::Pending;
        }
        Poll::Ready(Err(TimedOut))
    }
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout")
            .field("when", &self.when())
            .field("expired", &self.expired)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Shared {
    when: Cell<Option<Duration>>,
    /// `when` was changed and the timer does not know yet.
    moved: Cell<bool>,
    over: Cell<bool>,
    expired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// The limit of a [`timeout_scope`], to be asked and moved from inside. Clones are the same limit.
///
/// Mirrors [`asyncio.Timeout`](https://docs.python.org/3/library/asyncio-task.html#asyncio.Timeout).
#[derive(Clone)]
pub struct Deadline {
    shared: Rc<Shared>,
}

impl Deadline {
    /// When it expires, on the loop's clock; `None` for never.
    pub fn when(&self) -> Option<Duration> {
        self.shared.when.get()
    }

    /// Makes it expire at another time on the loop's clock, or never; whether the scope was still under way.
    ///
    /// A time in the past fires at the next turn. **Difference**: after the end it answers `false`, where asyncio
    /// raises `RuntimeError`.
    pub fn reschedule(&self, when: Option<Duration>) -> bool {
        if self.shared.over.get() {
            return false;
        }
        self.shared.when.set(when);
        self.shared.moved.set(true);
        let waker = self.shared.waker.borrow_mut().take();
        if let Some(waker) = waker {
            wake(waker);
        }
        true
    }

    /// Whether it has expired.
    pub fn expired(&self) -> bool {
        self.shared.expired.get()
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline").field("when", &self.when()).field("expired", &self.expired()).finish()
    }
}

/// Runs `body` with a limit that it can move itself.
///
/// Like `async with asyncio.timeout(..) as limit`. The time counts from the first poll. Otherwise as [`timeout`].
///
/// # Errors
///
/// [`TimedOut`].
///
/// # Examples
///
/// ```
/// use selkie::{EventLoop, sleep, timeout_scope};
/// use std::time::Duration;
///
/// selkie::run(async {
///     let result = timeout_scope(Duration::from_millis(1), async |limit| {
///         limit.reschedule(None); // the peer said that it is alive
///         sleep(Duration::from_millis(3)).await;
///         "patient"
///     });
///     assert_eq!(result.await, Ok("patient"));
/// });
/// ```
pub async fn timeout_scope<R>(
    duration: Duration,
    body: impl AsyncFnOnce(Deadline) -> R,
) -> Result<R, TimedOut> {
    /// Tells the handles that the scope is over, however it ends.
    struct Over(Rc<Shared>);
    impl Drop for Over {
        fn drop(&mut self) {
            self.0.over.set(true);
            self.0.waker.borrow_mut().take();
        }
    }
    let sleep = sleep(duration);
    let shared = Rc::new(Shared { when: Cell::new(sleep.deadline()), ..Shared::default() });
    let over = Over(shared.clone());
    let future = body(Deadline { shared: shared.clone() });
    let result = Timeout { shared: Some(shared), ..Timeout::new(sleep, future) }.await;
    drop(over);
    result
}

/// Why [`wait_for`] gave no value.
#[derive(Debug)]
#[non_exhaustive]
pub enum WaitForError {
    /// The time was over, and the task ended because of that.
    TimedOut,
    /// The task panicked, or somebody else cancelled it.
    Join(JoinError),
}

impl WaitForError {
    /// Whether the time was over.
    pub fn is_timed_out(&self) -> bool {
        matches!(self, Self::TimedOut)
    }
}

impl fmt::Display for WaitForError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => TimedOut.fmt(f),
            Self::Join(error) => error.fmt(f),
        }
    }
}

impl Error for WaitForError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::TimedOut => None,
            Self::Join(error) => Some(error),
        }
    }
}

/// Waits at most `duration` for `task`; then asks it to end, and waits until it has.
///
/// So it may take longer than `duration`: as long as the task takes to clean up. A task that refuses and returns a value
/// has its value returned. A future is spawned as a task at the first poll. The time counts from there.
/// [`Duration::MAX`] waits for ever; zero asks the task to end at the next turn, if it did not complete at once.
///
/// Mirrors [`asyncio.wait_for`](https://docs.python.org/3/library/asyncio-task.html#asyncio.wait_for).
/// **Difference**: a coroutine given with a time of zero is never started there; here its first part runs.
/// **Difference**: when the value is there and the waiter is cancelled at the same turn, the waiter ends and the value is
/// dropped, as in 3.12; `(&task).await` keeps it.
///
/// # Errors
///
/// - [`WaitForError::TimedOut`] when the time was over and the task ended cancelled.
/// - [`WaitForError::Join`] when the task panicked, also while it cleaned up, or was cancelled by others.
///
/// # Cancel safety
///
/// Dropping the future asks the task to end.
///
/// # Examples
///
/// ```
/// use selkie::{catch_cancel, sleep, wait_for};
/// use std::time::Duration;
///
/// selkie::run(async {
///     let polite = async {
///         match catch_cancel(sleep(Duration::from_secs(60))).await {
///             Ok(()) => "all",
///             Err(_cancelled) => "what I have so far",
///         }
///     };
///     assert_eq!(wait_for(polite, Duration::from_millis(1)).await.unwrap(), "what I have so far");
/// });
/// ```
pub async fn wait_for<A: IntoTask>(task: A, duration: Duration) -> Result<A::Output, WaitForError> {
    let mut over = sleep(duration);
    let mut join = task.into_task().into_future();
    let in_time = std::future::poll_fn(|cx| {
        if let Poll::Ready(result) = Pin::new(&mut join).poll(cx) {
            return Poll::Ready(Some(result));
        }
        Pin::new(&mut over).poll(cx).map(|()| None)
    })
    .await;
    if let Some(result) = in_time {
        return result.map_err(WaitForError::Join);
    }
    if let Some(task) = join.task() {
        task.cancel();
    }
    join.await.map_err(
        |error| {
            if error.is_cancelled() { WaitForError::TimedOut } else { WaitForError::Join(error) }
        },
    )
}
