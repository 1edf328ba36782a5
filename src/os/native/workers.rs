//! The threads of an executor, which take its tasks in any order.

use std::{
    future::Future,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Context,
};

use selkie_platform::Unavailable;

use super::{block, host};
use crate::{
    RemoteTask,
    remote::{Producer, channel},
};

/// The threads of an [`Executor`](crate::Executor).
pub(crate) struct Workers {
    executor: Arc<async_executor::Executor<'static>>,
    /// A thread ends when its producer is gone.
    _stops: Vec<Producer<()>>,
}

impl Workers {
    /// One thread for each processor, if no number is given.
    #[expect(clippy::disallowed_methods, reason = "natively it answers")]
    pub(crate) fn new(threads: Option<NonZeroUsize>, name: &str) -> Result<Self, Unavailable> {
        let threads =
            threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
        let executor = Arc::new(async_executor::Executor::new());
        let mut stops = Vec::with_capacity(threads);
        for number in 0..threads {
            let (producer, stop) = channel(None);
            let executor = executor.clone();
            host().spawn_thread(&format!("{name}-{number}"), Box::new(move || work(&executor, stop)))?;
            // When a later one cannot start, these go with it.
            stops.push(producer);
        }
        Ok(Self { executor, _stops: stops })
    }

    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.executor.spawn(future).detach();
    }

    pub(crate) fn threads(&self) -> usize {
        self._stops.len()
    }
}

/// The life of a thread of an executor.
fn work(executor: &async_executor::Executor<'static>, mut stop: RemoteTask<()>) {
    let mut round = || {
        let mut run = pin!(executor.run(async {
            // The error says that the executor has gone.
            let _ = (&mut stop).await;
        }));
        block(None, None, &mut |waker| run.as_mut().poll(&mut Context::from_waker(waker)).is_ready())
    };
    // Tasks catch their panics; this is for wakers of others.
    while catch_unwind(AssertUnwindSafe(&mut round)).is_err() {}
}
