//! How a pool is made.

#![expect(
    clippy::disallowed_types,
    reason = "held for a few instructions and never with code of users; taken by `os::lock`, which a page may call"
)]

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use selkie_platform::Unavailable;

use super::{Backend, Initializer, Inner, Shared, ThreadPool};
use crate::{
    census::Census,
    os,
    scheduler::{ThreadNumber, with_current},
};

/// How long a thread may be idle, unless said otherwise.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// How to make a [`ThreadPool`]; from [`ThreadPool::builder`].
#[must_use = "`build` makes the pool"]
pub struct PoolBuilder {
    threads: NonZeroUsize,
    name: String,
    idle: Duration,
    spin: Duration,
    initializer: Option<Initializer>,
}

impl PoolBuilder {
    pub(super) fn new(threads: NonZeroUsize) -> Self {
        Self {
            threads,
            name: "selkie-pool".to_owned(),
            idle: IDLE_LIMIT,
            spin: Duration::ZERO,
            initializer: None,
        }
    }

    /// The threads are called `{name}-0`, `{name}-1` and so on; `selkie-pool` unless set.
    #[doc(alias = "thread_name_prefix")]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How long a thread may be idle before it ends; 10 seconds unless set.
    ///
    /// **Difference**: asyncio's threads end with the pool.
    pub fn idle_limit(mut self, limit: Duration) -> Self {
        self.idle = limit;
        self
    }

    /// How long a thread that has run out of jobs looks for the next one before it sleeps; not at all unless set.
    ///
    /// To wake a thread that sleeps takes some tens of microseconds, where processors are put to rest meanwhile. For streams of
    /// short jobs with gaps that are shorter than `length` this saves that. **It costs a processor**: after each burst of jobs one
    /// thread of the pool is busy for as long as `length`, and other threads of the pool sleep. It gives way to
    /// whatever else wants to run.
    ///
    /// # Platform-specific
    ///
    /// - **Web:** without effect.
    ///
    /// ```
    /// use std::time::Duration;
    /// use selkie::ThreadPool;
    ///
    /// let pool = ThreadPool::builder(2).spin(Duration::from_micros(100)).build()?;
    /// assert_eq!(pool.submit(|| 1)?.wait(None)??, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spin(mut self, length: Duration) -> Self {
        self.spin = length;
        self
    }

    /// Calls `f` on each thread before its first job; in a simulation once.
    ///
    /// An `Err`, or a panic, breaks the pool: the jobs that have not begun end with an error that
    /// [is broken](crate::JoinError::is_broken), and later submits with [`PoolError::Broken`](crate::PoolError::Broken).
    ///
    /// ```
    /// use selkie::{PoolError, ThreadPool};
    ///
    /// let pool = ThreadPool::builder(1).initializer(|| Err::<(), _>("no licence")).build()?;
    /// let error = pool.submit(|| 1)?.wait(None)?.unwrap_err();
    /// assert!(error.is_broken());
    /// assert!(matches!(pool.submit(|| 2), Err(PoolError::Broken(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn initializer<E: fmt::Display>(
        mut self,
        f: impl Fn() -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        self.initializer = Some(Box::new(move || f().map_err(|error| error.to_string())));
        self
    }

    /// Makes the pool. No thread is started yet.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] where the host has no threads.
    pub fn build(self) -> Result<ThreadPool, Unavailable> {
        /// Zero is no pool.
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let here = with_current(|scheduler| scheduler.platform().clone());
        let world = here.filter(|platform| platform.nests());
        let shared = Arc::new(Shared {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            max: self.threads.get(),
            name: self.name,
            simulated: world.is_some().then(ThreadNumber::here),
            initializer: self.initializer,
            census: Census::default(),
            is_broken: AtomicBool::new(false),
            state: Mutex::default(),
            pool: OnceLock::new(),
        });
        let backend = match world {
            Some(world) => Backend::Simulated(Arc::downgrade(&world)),
            None => Backend::Threads(os::Pool::new(self.threads, self.idle, self.spin, &shared)?),
        };
        let inner = Arc::new(Inner { backend, shared });
        let _ = inner.shared.pool.set(Arc::downgrade(&inner));
        Ok(ThreadPool { inner })
    }
}

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("threads", &self.threads)
            .field("name", &self.name)
            .field("idle_limit", &self.idle)
            .field("spin", &self.spin)
            .finish_non_exhaustive()
    }
}
