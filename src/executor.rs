//! Futures on all processors, beside the loop.

use std::{
    fmt,
    future::{Future, poll_fn},
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{self, Poll, Waker},
};

use atomic_waker::AtomicWaker;
use pin_project_lite::pin_project;
use selkie_platform::Unavailable;

use crate::{
    Context, LoopHandle, PoolError, RemoteTask,
    census::Census,
    context,
    error::{JoinError, contain, discard},
    os,
    remote::{Producer, Unheard, channel, channel_of, gone},
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
    Simulated(LoopHandle, Arc<Load>),
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
                Some(scheduler) => Inner::Simulated(LoopHandle::new(scheduler), Arc::default()),
                None => Inner::Workers(os::Workers::new(threads, "selkie-executor")?),
            }),
        })
    }

    /// Runs `future` on the executor's threads, with a copy of the caller's context variables.
    ///
    /// It starts soon, on another thread. A cancelled one is dropped, between two polls. **Difference** to a task of a loop,
    /// which may clean up with awaits.
    ///
    /// # Errors
    ///
    /// [`PoolError::ShutDown`]; the future is dropped.
    pub fn spawn<F>(&self, future: F) -> Result<RemoteTask<F::Output>, PoolError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        match &*self.inner {
            Inner::Workers(workers) => {
                let (body, task) = Body::new(future, workers.host())?;
                Ok(task.carried_by(workers.spawn(body)))
            }
            Inner::Simulated(handle, load) => {
                let (body, task) = Body::new(future, load.clone())?;
                let running = handle.submit_future(body).map_err(|_closed| PoolError::ShutDown)?;
                running.detach();
                Ok(task)
            }
        }
    }

    /// Takes no new futures from this call on. Awaiting, on any loop, waits until all have ended; one caller at a time.
    pub fn shutdown(&self) -> impl Future<Output = ()> + Send + 'static {
        let lease: Arc<dyn Lend> = match &*self.inner {
            Inner::Workers(workers) => workers.lease(),
            Inner::Simulated(_, load) => load.clone(),
        };
        lease.load().census.set_closed(true);
        poll_fn(move |cx| {
            let load = lease.load();
            if load.census.count() > 0 {
                load.waiter.register(cx.waker());
                if load.census.count() > 0 {
                    return Poll::Pending;
                }
                // A load may be used again, and must not keep it.
                drop(load.waiter.take());
            }
            Poll::Ready(())
        })
    }

    /// How many threads there are. None in a simulation.
    pub fn threads(&self) -> usize {
        match &*self.inner {
            Inner::Workers(workers) => workers.threads(),
            Inner::Simulated(..) => 0,
        }
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let futures = match &*self.inner {
            Inner::Workers(workers) => workers.host().load().census.about(),
            Inner::Simulated(_, load) => load.census.about(),
        };
        f.debug_struct("Executor")
            .field("threads", &self.threads())
            .field("futures", &futures)
            .finish_non_exhaustive()
    }
}

/// The futures that have not ended.
#[derive(Default)]
pub(crate) struct Load {
    pub(crate) census: Census,
    /// The last one wakes the [`Executor::shutdown`].
    waiter: AtomicWaker,
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

/// What a future knows of the executor that runs it.
pub(crate) trait Host: Clone + Send + 'static {
    /// Where the host keeps the future's waker.
    type Place: Default + Send;

    /// Whether the future has to leave a waker for a cancel.
    const LISTENS: bool;

    /// Both ends of a result.
    fn channel<T: Send>() -> (Producer<T>, RemoteTask<T>) {
        if Self::LISTENS { channel(None) } else { channel_of(None, Unheard) }
    }

    fn load(&self) -> &Load;

    /// Whether all threads have gone, and whoever polls does so to have the future dropped.
    fn is_gone(&self) -> bool;

    /// The future waits, and may do so if this answers `true`. Then it is polled once more when the threads have gone.
    fn keep(&self, place: &mut Self::Place, waker: &Waker) -> bool;

    /// The future has ended.
    fn forget(&self, place: Self::Place);
}

/// For futures that are kept elsewhere.
impl Host for Arc<Load> {
    type Place = ();

    const LISTENS: bool = true;

    fn load(&self) -> &Load {
        self
    }

    fn is_gone(&self) -> bool {
        false
    }

    fn keep(&self, (): &mut (), _: &Waker) -> bool {
        true
    }

    fn forget(&self, (): ()) {}
}

/// A future that the executor has not done with.
struct Loaded<H: Host> {
    host: H,
    place: H::Place,
}

impl<H: Host> Loaded<H> {
    fn new(host: H) -> Result<Self, PoolError> {
        // Uncounted by `drop` where it is refused.
        let is_open = host.load().census.enter();
        let loaded = Self { host, place: H::Place::default() };
        if is_open { Ok(loaded) } else { Err(PoolError::ShutDown) }
    }
}

impl<H: Host> Drop for Loaded<H> {
    fn drop(&mut self) {
        self.host.forget(std::mem::take(&mut self.place));
        let load = self.host.load();
        if load.census.leave() {
            // It may be anybody's, and fails nothing but itself.
            contain(|| load.waiter.wake());
        }
    }
}

pin_project! {
    /// What runs on a thread: polls the future in its context, passes a cancel on, and its end.
    ///
    /// Dropped in this order.
    struct Body<F, H>
    where
        F: Future,
        F::Output: Send,
        H: Host,
    {
        #[pin]
        future: Option<F>,
        producer: Option<Producer<F::Output>>,
        context: Context,
        started: bool,
        loaded: Option<Loaded<H>>,
    }

    impl<F, H> PinnedDrop for Body<F, H>
    where
        F: Future,
        F::Output: Send,
        H: Host,
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
fn end<F, H>(
    mut future: Pin<&mut Option<F>>,
    producer: &mut Option<Producer<F::Output>>,
    context: &mut Context,
    loaded: &mut Option<Loaded<H>>,
    polled: Option<Result<F::Output, JoinError>>,
) -> Option<Loaded<H>>
where
    F: Future,
    F::Output: Send,
    H: Host,
{
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| future.set(None))) {
        discard(payload);
    }
    let producer = producer.take();
    let settle = || match (producer, polled) {
        (Some(producer), Some(result)) => producer.give(result),
        (producer, _) => drop(producer),
    };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(settle)) {
        discard(payload);
    }
    let context = std::mem::take(context);
    contain(|| drop(context));
    loaded.take()
}

impl<F, H> Body<F, H>
where
    F: Future + Send,
    F::Output: Send,
    H: Host,
{
    fn new(future: F, host: H) -> Result<(Self, RemoteTask<F::Output>), PoolError> {
        let loaded = Loaded::new(host)?;
        let (producer, task) = H::channel();
        let body = Self {
            future: Some(future),
            producer: Some(producer),
            context: Context::current(),
            started: false,
            loaded: Some(loaded),
        };
        Ok((body, task))
    }
}

impl<F, H> Future for Body<F, H>
where
    F: Future + Send,
    F::Output: Send + 'static,
    H: Host,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let (Some(producer), Some(loaded)) = (&*this.producer, &mut *this.loaded) else {
            return Poll::Ready(());
        };
        // Also while what nobody wants is dropped.
        let risk = os::at_risk(|| {
            let stand_in = producer.stand_in();
            let host = loaded.host.clone();
            Box::new(move |trapped| {
                stand_in.give(gone(trapped));
                // Uncounted here only.
                drop(Loaded { host, place: H::Place::default() });
            })
        });
        let goes_on =
            if *this.started { !producer.is_cancelled() } else { producer.begin() } && !loaded.host.is_gone();
        *this.started = true;
        let mut polled = None;
        if let (true, Some(future)) = (goes_on, this.future.as_mut().as_pin_mut()) {
            let context = &mut *this.context;
            polled = match catch_unwind(AssertUnwindSafe(|| context::exchange(context, || future.poll(cx)))) {
                Ok(Poll::Pending) => {
                    let asked = if H::LISTENS {
                        producer.poll_cancelled(cx.waker())
                    } else {
                        producer.is_cancelled()
                    };
                    if !asked && loaded.host.keep(&mut loaded.place, cx.waker()) {
                        return Poll::Pending;
                    }
                    None
                }
                Ok(Poll::Ready(output)) => Some(Ok(output)),
                Err(payload) => Some(Err(JoinError::panicked("a future of an executor".to_owned(), payload))),
            };
        }
        let loaded = end(this.future, this.producer, this.context, this.loaded, polled);
        // Before the count, which a trap would otherwise take twice.
        drop(risk);
        drop(loaded);
        Poll::Ready(())
    }
}
