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
//!   out when it ends. Mostly that is the same thread, so these locks are rarely wanted by two.
//! - The last of the threads, or the executor if none has come up, marks the site as *gone*, and then wakes every future that is
//!   in a shard, and runs what is due until nobody is counted. A future that is polled in a site that is gone is dropped instead.
//! - A future looks at the mark under the lock of its shard before it puts a waker in. So it is found there, or does not wait.
//! - A cancel is a matter of the task alone: its executor drops the future. So no waker is left for that.
//! - A wake of others may be on its way, and what it queues come after all the rest. So the count decides, not the queue.
//!
//! A site is free when nobody has a [`Lease`] of it any more: no thread, no executor, no shutdown that is awaited.
//! By then it keeps nothing of its users: futures have taken their wakers out, and so has a shutdown that found the count at zero.

#![expect(
    clippy::disallowed_types,
    reason = "threads may wait for these locks, and hold them for a few instructions"
)]

use std::{
    array,
    future::Future,
    num::{NonZeroU64, NonZeroUsize},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
};

use async_executor::StaticExecutor;
use selkie_platform::Unavailable;
use slab::Slab;

use super::{block, host, lock, relax};
use crate::{
    RemoteTask,
    census::{STRIPES, stripe},
    executor::{Host, Lend, Load},
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

    /// Where its futures run.
    pub(crate) fn host(&self) -> &'static Site {
        self.crew.0.0
    }

    /// Keeps what [`host`](Self::host) gives from being used by others.
    pub(crate) fn lease(&self) -> Arc<Lease> {
        self.crew.0.clone()
    }

    /// Runs a future that was made for the [`host`](Self::host).
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Carrier {
        Carrier(Mutex::new(Some(self.host().executor.spawn(future))))
    }

    pub(crate) fn threads(&self) -> usize {
        self._stops.len()
    }
}

/// The memory in which a future runs.
///
/// Kept by whoever has the future's result, and freed there: that is mostly the thread that allocated it, whose allocator
/// then has nothing to do with other threads.
pub(crate) struct Carrier(Mutex<Option<async_executor::Task<()>>>);

impl Carrier {
    /// Has the future dropped, where it runs and between two polls, unless it has ended.
    pub(crate) fn cancel(&self) {
        let task = lock(&self.0).take();
        drop(task);
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        if let Some(task) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            task.detach();
        }
    }
}

/// The life of a thread of an executor.
fn work(crew: &Crew, mut stop: RemoteTask<()>) {
    let mut round = || {
        let mut run = pin!(crew.0.0.executor.run(async {
            // The error says that the executor has gone.
            let _ = (&mut stop).await;
        }));
        block(None, None, &mut |waker| run.as_mut().poll(&mut Context::from_waker(waker)).is_ready())
    };
    // Tasks catch their panics; this is for wakers of others.
    while catch_unwind(AssertUnwindSafe(&mut round)).is_err() {}
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

impl Host for &'static Site {
    type Place = Option<Place>;

    /// A [`Carrier`] passes it on.
    const LISTENS: bool = false;

    fn load(&self) -> &Load {
        &self.load
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn keep(&self, place: &mut Option<Place>, waker: &Waker) -> bool {
        if place.is_some() {
            return true;
        }
        let shard = stripe();
        let mut wakers = lock(&self.waiting[shard].0);
        if self.gone.load(Ordering::Relaxed) {
            return false;
        }
        *place = Some(Place::new(shard, wakers.insert(waker.clone())));
        true
    }

    fn forget(&self, place: Option<Place>) {
        let Some(place) = place else { return };
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
            let wakers = std::mem::take(&mut *lock(&shard.0));
            wakers.into_iter().for_each(|(_, waker)| waker.wake());
        }
        while site.load.census.count() > 0 {
            if !site.executor.try_tick() {
                // Somebody has woken the last of them, and is about to queue it.
                relax();
            }
        }
    }
}
