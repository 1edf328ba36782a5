//! Futures on all processors, beside the loop.

#![expect(
    clippy::disallowed_types,
    reason = "held for a few instructions and never with code of users; taken by `os::lock`, which a page may call"
)]

use std::{
    fmt,
    future::Future,
    mem,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{self, Poll, Waker},
};

use pin_project_lite::pin_project;
use selkie_platform::Unavailable;

use crate::{
    Context, LoopHandle, PoolError, RemoteSet, RemoteTask,
    census::Census,
    context,
    error::{JoinError, contain, discard},
    os,
    remote::{Elsewhere, Producer, Shared, cell_of, gone},
    scheduler::with_current,
};

/// Threads that run `Send` futures, each on whichever is free.
///
/// For computations with awaits in them, and for futures that must not wait for a loop. A future here runs on no loop:
/// [`spawn`](crate::spawn), [`sleep`](crate::sleep) and other things of a loop are not for it; results of loops and pools
/// ([`RemoteTask`]) and channels of other crates are. The scheduling is that of the crate `async-executor`.
///
/// Cheap to clone; clones are the same executor. When the last one is dropped its threads end, and what runs is dropped at its
/// next suspension: its error is [lost](JoinError::is_lost). A future that owns a clone keeps the executor.
///
/// Made inside a loop of [`testing::Sim`](crate::testing::Sim), it runs its futures as tasks of that loop, with no thread.
///
/// # Platform-specific
///
/// - **Web:** in a build with threads, in an isolated page, its threads are Workers, started when futures are due; the queue is
///   selkie's own. Elsewhere making one is an [`Unavailable`] error, outside of a simulation.
///
/// # Examples
///
/// ```
/// use selkie::Executor;
///
/// let executor = Executor::new()?;
/// let halves = [0..500u64, 500..1000].map(|half| executor.spawn(async { half.sum::<u64>() }));
/// let sum = executor.spawn(async {
///     let mut sum = 0;
///     for half in halves {
///         sum += half?.await?;
///     }
///     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(sum)
/// });
/// assert_eq!(sum?.wait(None)??.unwrap(), 499_500);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Executor {
    inner: Arc<Inner>,
}

enum Inner {
    Workers(os::Workers),
    Simulated(Simulated),
}

impl Executor {
    /// One thread for each processor, started at once.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] where the host has no threads, or refuses one.
    pub fn new() -> Result<Self, Unavailable> {
        Self::make(None)
    }

    /// As [`new`](Self::new), with a number of threads.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// # Panics
    ///
    /// If `threads` is zero.
    #[track_caller]
    pub fn with_threads(threads: usize) -> Result<Self, Unavailable> {
        let Some(threads) = NonZeroUsize::new(threads) else {
            panic!("an `Executor` of no threads could never run anything: say at least 1");
        };
        Self::make(Some(threads))
    }

    fn make(threads: Option<NonZeroUsize>) -> Result<Self, Unavailable> {
        let here = with_current(|scheduler| scheduler.platform().nests().then(|| scheduler.this())).flatten();
        Ok(Self {
            inner: Arc::new(match here {
                Some(scheduler) => Inner::Simulated(Simulated {
                    handle: LoopHandle::new(scheduler),
                    load: Arc::default(),
                    tasks: Mutex::default(),
                }),
                None => Inner::Workers(os::Workers::new(threads, "selkie-executor")?),
            }),
        })
    }

    /// Runs `future` on the executor's threads, with a copy of the caller's context variables.
    ///
    /// It starts soon, on another thread. A cancelled one is dropped, between two polls, and so is what a poll comes to that was
    /// under way. **Difference** to a task of a loop, which may clean up with awaits.
    ///
    /// # Errors
    ///
    /// [`PoolError::ShutDown`]; the future is dropped.
    #[inline]
    pub fn spawn<F>(&self, future: F) -> Result<RemoteTask<F::Output>, PoolError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        match &*self.inner {
            Inner::Workers(workers) => workers.spawn(future),
            Inner::Simulated(simulated) => {
                let shared = simulated.spawn(future).ok_or(PoolError::ShutDown)?;
                Ok(RemoteTask::new(shared).simulated(simulated.handle.scheduler().thread()))
            }
        }
    }

    /// Takes no new futures from this call on. Awaiting, on any loop, waits until all have ended. A second call waits for the same end.
    pub fn shutdown(&self) -> impl Future<Output = ()> + Send + 'static {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let lease: Arc<dyn Lend> = match &*self.inner {
            Inner::Workers(workers) => workers.lease(),
            Inner::Simulated(simulated) => simulated.load.clone(),
        };
        lease.load().census.set_closed(true);
        Ended { lease, key: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// How many threads there are. None in a simulation.
    pub fn threads(&self) -> usize {
        match &*self.inner {
            Inner::Workers(workers) => workers.threads(),
            Inner::Simulated(_) => 0,
        }
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let futures = match &*self.inner {
            Inner::Workers(workers) => workers.load().census.about(),
            Inner::Simulated(simulated) => simulated.load.census.about(),
        };
        f.debug_struct("Executor")
            .field("threads", &self.threads())
            .field("futures", &futures)
            .finish_non_exhaustive()
    }
}

/// An executor of a simulated loop. When it goes, so do its futures.
struct Simulated {
    handle: LoopHandle,
    load: Arc<Load>,
    /// What runs the futures that have not ended, and perhaps some that have.
    tasks: Mutex<RemoteSet<()>>,
}

impl Simulated {
    /// `None` after a shutdown.
    #[cold]
    fn spawn<F>(&self, future: F) -> Option<Arc<Shared<F::Output>>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (body, shared) = Body::new(future, self.load.clone())?;
        let task = self.handle.submit_future(body).ok()?;
        let mut tasks = os::lock(&self.tasks);
        while tasks.try_next().is_some() {}
        tasks.insert(task);
        Some(shared)
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        // Their results are lost: nobody has cancelled these.
        os::lock(&self.tasks).cancel_all();
    }
}

/// The futures that have not ended.
#[derive(Default)]
pub(crate) struct Load {
    pub(crate) census: Census,
    /// Who waits for a shutdown, by key. All that they are told is to look again: the load may serve others by then.
    waiting: Mutex<Vec<(u64, Waker)>>,
}

impl Load {
    /// So many futures have ended.
    #[inline]
    pub(crate) fn left(&self, count: usize) {
        if self.census.leave(count) {
            let waiting = mem::take(&mut *os::lock(&self.waiting));
            for (_, waker) in waiting {
                // It may be anybody's, and fails nothing but itself.
                contain(|| waker.wake());
            }
        }
    }
}

/// The end of a shutdown.
struct Ended {
    lease: Arc<dyn Lend>,
    key: u64,
}

impl Ended {
    /// What it may have left in the load, which may be used again and must not keep it.
    fn forget(&self) -> Option<Waker> {
        let mut waiting = os::lock(&self.lease.load().waiting);
        let place = waiting.iter().position(|(key, _)| *key == self.key)?;
        Some(waiting.remove(place).1)
    }
}

impl Future for Ended {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let load = self.lease.load();
        if load.census.count() > 0 {
            let new = (self.key, cx.waker().clone());
            let old = self.forget();
            os::lock(&load.waiting).push(new);
            drop(old);
            // Whoever leaves after this look finds it there.
            if load.census.count() > 0 {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.forget());
    }
}

/// Keeps a load from being used for other futures.
pub(crate) trait Lend: Send + Sync {
    fn load(&self) -> &Load;
}

impl Lend for Load {
    fn load(&self) -> &Load {
        self
    }
}

/// Polls `future` in `context`. A panic is an outcome.
#[inline(always)]
pub(crate) fn poll_in<F: Future>(
    future: Pin<&mut F>,
    context: &mut Context,
    cx: &mut task::Context<'_>,
) -> Poll<Result<F::Output, JoinError>> {
    context::exchange(context);
    let polled = catch_unwind(AssertUnwindSafe(|| future.poll(cx)));
    context::exchange(context);
    match polled {
        Ok(polled) => polled.map(Ok),
        Err(payload) => Poll::Ready(Err(JoinError::panicked("a future of an executor".to_owned(), payload))),
    }
}

/// Drops what a future leaves, in `context`. Nothing of it panics.
#[inline]
pub(crate) fn end_in<F>(mut future: Pin<&mut Option<F>>, context: &mut Context) {
    context::exchange(context);
    let dropped = catch_unwind(AssertUnwindSafe(|| future.set(None)));
    context::exchange(context);
    if let Err(payload) = dropped {
        discard(payload);
    }
    if context.0.is_some() {
        let context = std::mem::take(context);
        contain(|| drop(context));
    }
}

/// A future that the executor has not done with.
struct Loaded(Arc<Load>);

impl Loaded {
    fn new(load: Arc<Load>) -> Option<Self> {
        // Uncounted by `drop` where it is refused.
        let is_open = load.census.enter();
        let loaded = Self(load);
        is_open.then_some(loaded)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.0.left(1);
    }
}

pin_project! {
    /// What runs where a future is not kept by its result: polls it in its context, passes a cancel on, and its end.
    ///
    /// Dropped in this order.
    pub(crate) struct Body<F>
    where
        F: Future,
        F::Output: Send,
    {
        #[pin]
        future: Option<F>,
        producer: Option<Producer<F::Output>>,
        context: Context,
        loaded: Option<Loaded>,
    }

    impl<F> PinnedDrop for Body<F>
    where
        F: Future,
        F::Output: Send,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // `poll` has done it already, mostly.
            if this.loaded.is_some() {
                drop(end(this.future, this.producer, this.context, this.loaded, None));
            }
        }
    }
}

/// The end of a body, with what its future has come to. Nothing of it panics. The count goes last, so the caller gets it.
fn end<F>(
    future: Pin<&mut Option<F>>,
    producer: &mut Option<Producer<F::Output>>,
    context: &mut Context,
    loaded: &mut Option<Loaded>,
    polled: Option<Result<F::Output, JoinError>>,
) -> Option<Loaded>
where
    F: Future,
    F::Output: Send,
{
    end_in(future, context);
    let producer = producer.take();
    let settle = || match (producer, polled) {
        (Some(producer), Some(result)) => producer.give(result),
        (producer, _) => drop(producer),
    };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(settle)) {
        discard(payload);
    }
    loaded.take()
}

impl<F> Body<F>
where
    F: Future + Send,
    F::Output: Send,
{
    pub(crate) fn new(future: F, load: Arc<Load>) -> Option<(Self, Arc<Shared<F::Output>>)> {
        let loaded = Loaded::new(load)?;
        let (producer, shared) = cell_of(None, Elsewhere::default());
        producer.begin();
        let body = Self {
            future: Some(future),
            producer: Some(producer),
            context: Context::current(),
            loaded: Some(loaded),
        };
        Some((body, shared))
    }
}

impl<F> Future for Body<F>
where
    F: Future + Send,
    F::Output: Send + 'static,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let (Some(producer), Some(loaded)) = (&*this.producer, &*this.loaded) else {
            return Poll::Ready(());
        };
        // Also while what nobody wants is dropped.
        let risk = os::at_risk(|| {
            let stand_in = producer.stand_in();
            let load = loaded.0.clone();
            Box::new(move |trapped| {
                stand_in.give(gone(trapped));
                // Uncounted here only.
                load.left(1);
            })
        });
        let mut polled = None;
        if let (false, Some(future)) = (producer.is_cancelled(), this.future.as_mut().as_pin_mut()) {
            polled = match poll_in(future, this.context, cx) {
                Poll::Pending if !producer.poll_cancelled(cx.waker()) => return Poll::Pending,
                // A cancel in the last poll is still one.
                Poll::Ready(result) if producer.is_cancelled() => {
                    contain(|| drop(result));
                    None
                }
                Poll::Pending => None,
                Poll::Ready(result) => Some(result),
            };
        }
        let loaded = end(this.future, this.producer, this.context, this.loaded, polled);
        // Before the count, which a trap would otherwise take twice.
        drop(risk);
        drop(loaded);
        Poll::Ready(())
    }
}
