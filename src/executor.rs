//! Futures on all processors, beside the loop.

use std::{
    fmt,
    future::{Future, poll_fn},
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
};

use atomic_waker::AtomicWaker;
use selkie_platform::Unavailable;

use crate::{
    Context, LoopHandle, PoolError, RemoteTask,
    error::{JoinError, discard},
    os,
    remote::{Producer, channel, gone},
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

struct Inner {
    backend: Backend,
    load: Arc<Load>,
}

enum Backend {
    Workers(os::Workers),
    Simulated(LoopHandle),
}

/// The futures that have not ended.
#[derive(Default)]
struct Load {
    count: AtomicUsize,
    closed: AtomicBool,
    /// The last one wakes the [`Executor::shutdown`].
    waiter: AtomicWaker,
}

struct Loaded(Arc<Load>);

impl Drop for Loaded {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.waiter.wake();
        }
    }
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
        let backend = match here {
            Some(scheduler) => Backend::Simulated(LoopHandle::new(scheduler)),
            None => Backend::Workers(os::Workers::new(threads, "selkie-executor")?),
        };
        Ok(Self { inner: Arc::new(Inner { backend, load: Arc::default() }) })
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
        let load = &self.inner.load;
        load.count.fetch_add(1, Ordering::SeqCst);
        let loaded = Loaded(load.clone());
        if load.closed.load(Ordering::SeqCst) {
            return Err(PoolError::ShutDown);
        }
        let (producer, task) = channel(None);
        let body = body(Box::pin(future), producer, loaded);
        match &self.inner.backend {
            Backend::Workers(workers) => workers.spawn(body),
            Backend::Simulated(handle) => match handle.submit_future(body) {
                Ok(running) => running.detach(),
                Err(_closed) => return Err(PoolError::ShutDown),
            },
        }
        Ok(task)
    }

    /// Takes no new futures from this call on. Awaiting, on any loop, waits until all have ended; one caller at a time.
    pub fn shutdown(&self) -> impl Future<Output = ()> + Send + 'static {
        let load = self.inner.load.clone();
        load.closed.store(true, Ordering::SeqCst);
        poll_fn(move |cx| {
            load.waiter.register(cx.waker());
            if load.count.load(Ordering::SeqCst) == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    /// How many threads there are. None in a simulation.
    pub fn threads(&self) -> usize {
        match &self.inner.backend {
            Backend::Workers(workers) => workers.threads(),
            Backend::Simulated(_) => 0,
        }
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor")
            .field("threads", &self.threads())
            .field("futures", &self.inner.load.count.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

/// What runs on a thread: polls the future in its context, passes a cancel on, and its end.
fn body<F>(
    future: std::pin::Pin<Box<F>>,
    producer: Producer<F::Output>,
    loaded: Loaded,
) -> impl Future<Output = ()> + Send
where
    F: Future + Send,
    F::Output: Send + 'static,
{
    /// Dropped in this order.
    struct Parts<F: Future<Output: Send>> {
        future: Option<std::pin::Pin<Box<F>>>,
        producer: Option<Producer<F::Output>>,
        context: Context,
        loaded: Option<Loaded>,
    }
    let mut parts = Parts {
        future: Some(future),
        producer: Some(producer),
        context: Context::current(),
        loaded: Some(loaded),
    };
    poll_fn(move |cx| {
        // The parts go as one.
        let parts = &mut parts;
        let (Some(future), Some(producer)) = (&mut parts.future, &parts.producer) else {
            return Poll::Ready(());
        };
        // Also while what nobody wants is dropped.
        let risk = os::at_risk(|| {
            let stand_in = producer.stand_in();
            let load = parts.loaded.as_ref().map(|loaded| loaded.0.clone());
            Box::new(move |trapped| {
                stand_in.give(gone(trapped));
                drop(load.map(Loaded));
            })
        });
        let polled = if !producer.begin() || producer.poll_cancelled(cx.waker()) {
            None
        } else {
            let poll = || {
                let polled = future.as_mut().poll(cx);
                (polled, Context::current())
            };
            Some(match catch_unwind(AssertUnwindSafe(|| parts.context.run(poll))) {
                Ok((Poll::Pending, context)) => {
                    parts.context = context;
                    return Poll::Pending;
                }
                Ok((Poll::Ready(output), _)) => Ok(output),
                Err(payload) => Err(JoinError::panicked("a future of an executor".to_owned(), payload)),
            })
        };
        let future = parts.future.take();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
            discard(payload);
        }
        let producer = parts.producer.take();
        // The counter goes last, also when what nobody wants panics as it is dropped.
        let _loaded = parts.loaded.take();
        let settle = || match (producer, polled) {
            (Some(producer), Some(result)) => producer.give(result),
            (producer, _) => drop(producer),
        };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(settle)) {
            discard(payload);
        }
        drop(risk);
        Poll::Ready(())
    })
}
