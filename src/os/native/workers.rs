//! The threads of an executor, which take its tasks in any order.
//!
//! # Who owns what
//!
//! The scheduling is that of a [`StaticExecutor`], which keeps no list of its tasks, so that a spawn takes no lock that others
//! want. It lives for ever, and so do the census and the wakers that stand beside it: a task refers to them without a count.
//! Together they are a [`Site`], and sites are used again.
//!
//! What has to be said for it is what becomes of the futures that wait when the executor is dropped:
//!
//! - A future that waits for the first time leaves a waker in its site, in the shard of the thread that polled it, and takes it
//!   out when it ends. Threads that share neither a shard nor a future do not meet there.
//! - One that has woken itself while it was polled does not wait: it is polled again in any case. Yields so cost nothing here. This
//!   is noticed by a waker of its own kind, which no other equals, so one that has waited is polled with its own from then on.
//! - The last of the threads, or the executor if none has come up, marks the site as *gone*, and then wakes every future that is
//!   in a shard, and runs what is due until nobody is counted. A future that is polled in a site that is gone is dropped instead.
//! - A future looks at the mark under the lock of its shard before it puts a waker in. So it is found there, or does not wait.
//! - A cancel is a matter of the task alone: its executor drops the future. So no waker is left for that.
//! - A future is polled and dropped by the threads, or by whoever drops the executor, and by nobody else. They have a *seat* in its site
//!   for that time, so the future needs no reference to the site.
//! - Whoever is told that nobody is counted any more finds all results there. A result is there when its poll has returned, so a
//!   thread uncounts the futures that have ended in it no earlier: together, when they are [`MANY`], and before it sleeps.
//! - A wake of others may be on its way, and what it queues come after all the rest. So the count decides, not the queue.
//!
//! A site is free when nobody has a [`Lease`] of it any more: no thread, no executor, no shutdown that is awaited.
//! By then it keeps nothing of its users: futures have taken their wakers out, and so have those who waited for a shutdown.

#![expect(
    clippy::disallowed_types,
    reason = "threads may wait for these locks, and hold them for a few instructions"
)]

use std::{
    array,
    cell::Cell,
    future::Future,
    mem,
    num::{NonZeroU64, NonZeroUsize},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    ptr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{self, Poll, Waker},
};

use async_executor::{StaticExecutor, Task};
use pin_project_lite::pin_project;
use selkie_platform::Unavailable;
use slab::Slab;

use super::{
    block,
    carried::{Carried, Outcome},
    host, lock, relax,
    spy::Spy,
};
use crate::{
    Context, PoolError, RemoteTask,
    census::{STRIPES, stripe},
    error::{JoinError, discard},
    executor::{Lend, Load, end_in, poll_in},
    remote::{Producer, channel},
};

/// The threads of an [`Executor`](crate::Executor).
pub(crate) struct Workers {
    crew: Arc<Crew>,
    /// A thread ends when its producer is gone.
    _stops: Vec<Producer<()>>,
}

impl Workers {
    /// One thread for each processor, if no number is given.
    #[expect(clippy::disallowed_methods, reason = "natively it answers")]
    pub(crate) fn new(threads: Option<NonZeroUsize>, name: &str) -> Result<Self, Unavailable> {
        let threads =
            threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
        let crew = Arc::new(Crew(Lease::take()));
        let mut stops = Vec::with_capacity(threads);
        for number in 0..threads {
            let (producer, stop) = channel(None);
            let crew = crew.clone();
            host().spawn_thread(&format!("{name}-{number}"), Box::new(move || work(&crew, stop)))?;
            // When a later one cannot start, these go with it.
            stops.push(producer);
        }
        Ok(Self { crew, _stops: stops })
    }

    pub(crate) fn load(&self) -> &Load {
        &self.crew.0.0.load
    }

    /// Keeps the load from being used by others.
    pub(crate) fn lease(&self) -> Arc<Lease> {
        self.crew.0.clone()
    }

    #[inline]
    pub(crate) fn spawn<F>(&self, future: F) -> Result<RemoteTask<F::Output>, PoolError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        // Made where it is wanted: what is moved at once after it was written is waited for.
        match self.start(future) {
            Some(task) => Ok(RemoteTask::carried(Carried::new(task))),
            None => Err(PoolError::ShutDown),
        }
    }

    /// `None` after a shutdown.
    #[inline(never)]
    fn start<F>(&self, future: F) -> Option<Task<Outcome<F::Output>>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let site = self.crew.0.0;
        let mut context = Context::current();
        if site.load.census.enter() {
            Some(site.executor.spawn(Body { future: Some(future), context, place: None }))
        } else {
            end_in(pin!(Some(future)), &mut context);
            site.load.left(1);
            None
        }
    }

    pub(crate) fn threads(&self) -> usize {
        self._stops.len()
    }
}

/// The life of a thread of an executor.
fn work(crew: &Crew, mut stop: RemoteTask<()>) {
    let site = crew.0.0;
    SEAT.set((Some(site), 0));
    let mut round = || {
        let mut run = pin!(site.executor.run(async {
            // The error says that the executor has gone.
            let _ = (&mut stop).await;
        }));
        block(None, None, &mut |waker| {
            let stops = run.as_mut().poll(&mut task::Context::from_waker(waker)).is_ready();
            site.settle();
            stops
        })
    };
    // Tasks catch their panics; this is for wakers of others, and for results that nobody wants.
    while let Err(payload) = catch_unwind(AssertUnwindSafe(&mut round)) {
        discard(payload);
    }
    site.settle();
    SEAT.set((None, 0));
}

/// So many are uncounted by one step, which others see.
const MANY: usize = 32;

thread_local! {
    /// The site that this thread works for, and how many of its futures have ended here and are counted yet.
    static SEAT: Cell<(Option<&'static Site>, usize)> = const { Cell::new((None, 0)) };
}

pin_project! {
    /// What runs on a thread: the future, in its context.
    struct Body<F>
    where
        F: Future,
    {
        #[pin]
        future: Option<F>,
        context: Context,
        place: Option<Place>,
    }

    impl<F> PinnedDrop for Body<F>
    where
        F: Future,
    {
        fn drop(this: Pin<&mut Self>) {
            // It was cancelled. Otherwise `poll` has done it already.
            if this.future.is_some() {
                end(this);
            }
        }
    }
}

/// The end of a body. Nothing of it panics.
#[inline]
fn end<F: Future>(body: Pin<&mut Body<F>>) {
    let this = body.project();
    end_in(this.future, this.context);
    let (Some(site), count) = SEAT.get() else {
        // Its shutdown would wait for ever.
        debug_assert!(false, "a future of an executor ends in a seat");
        return;
    };
    if let Some(place) = this.place.take() {
        site.forget(place);
    }
    // Its result is not there before its poll has returned. The polls of all before it have.
    if count < MANY {
        SEAT.set((Some(site), count + 1));
    } else {
        SEAT.set((Some(site), 1));
        site.load.left(count);
    }
}

impl<F: Future> Future for Body<F> {
    type Output = Outcome<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.as_mut().project();
        let spy = Spy::new(cx.waker());
        let site = SEAT.get().0.filter(|site| !site.is_gone());
        let polled = match (this.future.as_pin_mut(), site) {
            // Who has waited once is lent its own waker, of which it may have a clone.
            (Some(future), Some(_)) => {
                spy.watch(this.place.is_none(), |cx| poll_in(future, this.context, cx))
            }
            _ => Poll::Ready(Err(JoinError::LOST)),
        };
        let result = match polled {
            // It does not wait.
            Poll::Pending if spy.was_woken() => return Poll::Pending,
            Poll::Pending if site.is_some_and(|site| site.keep(this.place, cx.waker())) => {
                return Poll::Pending;
            }
            Poll::Pending => Err(JoinError::LOST),
            Poll::Ready(result) => result,
        };
        end(self);
        Poll::Ready(Outcome::new(result))
    }
}

/// What the futures of one executor have in common.
pub(crate) struct Site {
    executor: StaticExecutor,
    load: Load,
    /// No thread is left.
    gone: AtomicBool,
    /// The wakers of the futures that have waited and have not ended.
    waiting: [Shard; STRIPES],
}

#[derive(Default)]
#[repr(align(128))]
struct Shard(Mutex<Slab<Waker>>);

/// Which shard, and where in it: in few bytes, as each future has one.
#[derive(Clone, Copy)]
pub(crate) struct Place(NonZeroU64);

impl Place {
    fn new(shard: usize, key: usize) -> Self {
        Self(NonZeroU64::MIN.saturating_add((key * STRIPES + shard) as u64))
    }

    fn shard(self) -> usize {
        (self.0.get() - 1) as usize % STRIPES
    }

    fn key(self) -> usize {
        (self.0.get() - 1) as usize / STRIPES
    }
}

impl Site {
    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Uncounts those that have ended in this thread. No future of the site is being polled in it.
    fn settle(&self) {
        let (site, count) = SEAT.get();
        if count > 0 && site.is_some_and(|site| ptr::eq(site, self)) {
            SEAT.set((site, 0));
            self.load.left(count);
        }
    }

    /// The future waits, and may do so if this answers `true`. Then it is polled once more when the threads have gone.
    fn keep(&self, place: &mut Option<Place>, waker: &Waker) -> bool {
        if place.is_some() {
            return true;
        }
        let shard = stripe();
        let mut wakers = lock(&self.waiting[shard].0);
        if self.is_gone() {
            return false;
        }
        *place = Some(Place::new(shard, wakers.insert(waker.clone())));
        true
    }

    /// The future has ended.
    fn forget(&self, place: Place) {
        // After `Crew::drop` it is not there any more.
        let waker = lock(&self.waiting[place.shard()].0).try_remove(place.key());
        drop(waker);
    }
}

/// The right to a site.
pub(crate) struct Lease(&'static Site);

/// Sites that nobody has a lease of.
static FREE: Mutex<Vec<&'static Site>> = Mutex::new(Vec::new());

impl Lease {
    fn take() -> Arc<Self> {
        let free = lock(&FREE).pop();
        let site = free.unwrap_or_else(|| {
            Box::leak(Box::new(Site {
                executor: StaticExecutor::new(),
                load: Load::default(),
                gone: AtomicBool::new(false),
                waiting: array::from_fn(|_| Shard::default()),
            }))
        });
        site.gone.store(false, Ordering::Relaxed);
        site.load.census.set_closed(false);
        Arc::new(Self(site))
    }
}

impl Lend for Lease {
    fn load(&self) -> &Load {
        &self.0.load
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&FREE).push(self.0);
    }
}

/// The threads, and the executor that gives them work.
struct Crew(Arc<Lease>);

impl Drop for Crew {
    fn drop(&mut self) {
        let site = self.0.0;
        site.gone.store(true, Ordering::Relaxed);
        for shard in &site.waiting {
            let wakers = mem::take(&mut *lock(&shard.0));
            wakers.into_iter().for_each(|(_, waker)| waker.wake());
        }
        let seat = SEAT.replace((Some(site), 0));
        while site.load.census.count() > 0 {
            if !site.executor.try_tick() {
                // Somebody has woken the last of them, and is about to queue it.
                relax();
            }
            site.settle();
        }
        SEAT.set(seat);
    }
}
