//! A loop inside somebody else's: driven by turns, or as a future of another executor.

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use atomic_waker::AtomicWaker;
use selkie_platform::{Driven, Job, Next, Platform, Turn, Unavailable};

use crate::{
    error::{JoinError, RunError},
    event_loop::{self, EventLoop},
    testing::ManualClock,
};

/// The clock and the threads of the host, but turns from somebody else.
struct GuestPlatform<P> {
    host: Arc<dyn Platform>,
    /// Instead of the host's.
    clock: Option<ManualClock>,
    pend: P,
}

impl<P: Fn() + Send + Sync + 'static> Platform for GuestPlatform<P> {
    fn now(&self) -> Duration {
        self.clock.as_ref().map_or_else(|| self.host.now(), ManualClock::now)
    }

    fn drive(&self, _: Rc<dyn Turn>) -> Driven {
        panic!("a guest gets its turns from its own host: call `EventLoop::turn` there")
    }

    fn pend(&self) {
        (self.pend)();
    }

    fn can_block(&self) -> bool {
        false
    }

    fn run_blocking(&self, job: Job) -> Result<(), Unavailable> {
        self.host.run_blocking(job)
    }

    fn guard(&self, f: &mut dyn FnMut()) -> bool {
        self.host.guard(f)
    }

    fn sibling(&self) -> Arc<dyn Platform> {
        self.host.sibling()
    }

    fn spawn_thread(&self, name: &str, main: Job) -> Result<(), Unavailable> {
        self.host.spawn_thread(name, main)
    }

    fn report(&self, message: &str) {
        self.host.report(message);
    }

    fn slice(&self) -> Duration {
        self.host.slice()
    }

    fn grain(&self) -> Duration {
        if self.clock.is_some() { Duration::ZERO } else { self.host.grain() }
    }

    fn watch(&self, interval: Duration, check: Box<dyn FnMut() -> bool + Send>) -> bool {
        self.host.watch(interval, check)
    }
}

impl EventLoop {
    /// A loop that a host of your own drives: a window system, a game, another event loop.
    ///
    /// The host calls [`turn`](Self::turn) whenever `pend` was called, and when the time that the last turn named has
    /// come. `pend` asks for a turn soon; it is called from any thread, must not call `turn` itself, and may be called
    /// more often than needed. `run_until_complete` and `run_forever` answer [`RunError::WouldBlock`].
    ///
    /// ```
    /// use selkie::{EventLoop, Next};
    /// use std::{sync::mpsc, time::Duration};
    ///
    /// let (events, host) = mpsc::channel();
    /// let guest = EventLoop::guest(move || drop(events.send("turn")));
    /// let task = guest.spawn(async { selkie::sleep(Duration::from_millis(1)).await })?;
    /// let mut next = Next::Now;
    /// while !task.is_finished() {
    ///     match next {
    ///         Next::At(time) => drop(host.recv_timeout(time.saturating_sub(guest.time()))),
    ///         Next::Idle => drop(host.recv()),
    ///         _ => {}
    ///     }
    ///     next = guest.turn()?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn guest(pend: impl Fn() + Send + Sync + 'static) -> Self {
        Self::guest_with(None, pend)
    }

    pub(crate) fn guest_with(clock: Option<ManualClock>, pend: impl Fn() + Send + Sync + 'static) -> Self {
        let platform = GuestPlatform { host: crate::os::host(), clock, pend };
        let event_loop = Self::with_platform(Arc::new(platform));
        event_loop.scheduler().hosted.set(true);
        event_loop
    }

    /// Runs what is ready now, once, and says what the loop needs next; never waits.
    ///
    /// Mirrors one iteration of asyncio's loop. Takes at most about the host's slice of time (10 ms natively, 5 ms in a
    /// page) plus one poll. [`Next::Done`] after a [`stop`](Self::stop).
    ///
    /// # Errors
    ///
    /// [`RunError::Closed`]; [`RunError::Nested`] inside a turn of this loop, or while it runs otherwise.
    pub fn turn(&self) -> Result<Next, RunError> {
        let scheduler = self.scheduler();
        if scheduler.is_closed() {
            return Err(RunError::Closed);
        }
        if scheduler.driven.get() || scheduler.is_in_turn() {
            return Err(RunError::Nested);
        }
        let mut next = Next::Now;
        scheduler.guard(&mut || next = scheduler.turn_once());
        Ok(next)
    }
}

/// Runs `future` on a new loop, as a future of whatever executor polls it.
///
/// Tasks and I/O of the host executor then share one thread with the loop's tasks, and each can await the other's. A
/// poll runs one slice; what is left is done in the next poll, so the host's own tasks get their turns. When `future` is
/// complete the other tasks are asked to end, as [`run`](crate::run) does.
///
/// `sleep` is the host's timer, for instance `tokio::time::sleep`: the loop uses one at a time for all of its timers.
/// Never early, whatever the host's timer does.
///
/// Dropping it closes the loop. asyncio has no such thing; the model is Trio's guest mode.
///
/// # Errors
///
/// The output is a [`JoinError`] if `future` panicked or was cancelled, or if its loop was closed by another hand.
///
/// # Examples
///
/// ```
/// # fn host_sleep(_: std::time::Duration) -> std::future::Ready<()> { std::future::ready(()) }
/// let guest = selkie::guest(host_sleep, async {
///     selkie::spawn(async { 20 }).await.unwrap() + 1
/// });
/// assert_eq!(futures::executor::block_on(guest).unwrap(), 21);
/// ```
pub fn guest<F, S>(sleep: impl Fn(Duration) -> S + 'static, future: F) -> Guest<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
    S: Future<Output = ()> + 'static,
{
    let waker = Arc::new(AtomicWaker::new());
    let pended = waker.clone();
    let event_loop = EventLoop::guest(move || pended.wake());
    let output = Rc::new(RefCell::new(None));
    let slot = output.clone();
    event_loop::set_main(&event_loop, future, move |result| *slot.borrow_mut() = Some(result));
    Guest {
        event_loop,
        output,
        waker,
        sleep: Box::new(move |duration| Box::pin(sleep(duration))),
        armed: None,
        over: false,
    }
}

type HostSleep = Pin<Box<dyn Future<Output = ()>>>;

/// The future of [`guest`].
#[must_use = "futures do nothing unless awaited"]
pub struct Guest<T> {
    event_loop: EventLoop,
    output: Rc<RefCell<Option<Result<T, JoinError>>>>,
    waker: Arc<AtomicWaker>,
    sleep: Box<dyn Fn(Duration) -> HostSleep>,
    /// The host's timer that is under way, and the deadline it is for.
    armed: Option<(Duration, HostSleep)>,
    /// It has completed.
    over: bool,
}

impl<T> Unpin for Guest<T> {}

impl<T> Drop for Guest<T> {
    fn drop(&mut self) {
        // Its tasks may hold the loop.
        let _ = self.event_loop.close();
        // It leads to the host's task, which may own a handle of the loop: left behind, it could keep both for ever.
        drop(self.waker.take());
    }
}

impl<T> Future for Guest<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        assert!(!this.over, "a guest polled after it has completed");
        this.waker.register(cx.waker());
        match this.event_loop.turn() {
            Ok(Next::Done) | Err(_) => {
                let output = this.output.borrow_mut().take();
                // Somebody who has got hold of the loop may have closed it.
                let closed = || this.event_loop.is_closed().then_some(Err(JoinError::LOST));
                match output.or_else(closed) {
                    Some(output) => {
                        this.over = true;
                        Poll::Ready(output)
                    }
                    // Stopped by a task: a guest goes on at its next poll, as it has no one to return to.
                    None => {
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                }
            }
            Ok(Next::Now) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Ok(Next::Idle) => {
                this.armed = None;
                Poll::Pending
            }
            Ok(Next::At(deadline)) => {
                if this.armed.as_ref().is_none_or(|(armed, _)| *armed != deadline) {
                    let left = deadline.saturating_sub(this.event_loop.time());
                    this.armed = Some((deadline, (this.sleep)(left)));
                }
                if let Some((_, timer)) = &mut this.armed {
                    if timer.as_mut().poll(cx).is_ready() {
                        // Due, or early by the host's grain: the next poll looks again.
                        this.armed = None;
                        cx.waker().wake_by_ref();
                    }
                }
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for Guest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("event_loop", &self.event_loop).finish_non_exhaustive()
    }
}
