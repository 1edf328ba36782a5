//! The web without threads.

use std::{
    future::Future,
    num::NonZeroUsize,
    sync::{Arc, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use selkie_platform::Unavailable;
use selkie_web::ONE_THREAD;

use crate::{PoolError, RemoteTask, WaitError, executor::Load, pool, submit::Job};

/// Whether this thread may wait.
pub(crate) fn may_wait() -> bool {
    false
}

/// Nothing here may block.
pub(crate) fn block(
    _: Option<[u32; 2]>,
    _: Option<Duration>,
    _: &mut dyn FnMut(&Waker) -> bool,
) -> Result<(), WaitError> {
    Err(WaitError::WouldBlock)
}

/// Nobody contends.
#[expect(clippy::disallowed_types, reason = "there is no other thread")]
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has so many Workers kept: there are none.
pub(crate) fn keep(_: usize) -> Result<(), Unavailable> {
    Err(ONE_THREAD)
}

/// Ready when so many have come up.
pub(crate) fn poll_up(_: usize, _: &Waker) -> Poll<Result<(), Unavailable>> {
    Poll::Ready(Ok(()))
}

/// Whether a thread may go alone.
pub(crate) const LOSES_THREADS: bool = false;

/// The threads of a [`ThreadPool`](crate::ThreadPool): there are none.
pub(crate) enum Pool {}

impl Pool {
    pub(crate) fn new(
        _: NonZeroUsize,
        _: Duration,
        _: Duration,
        _: &Arc<pool::Shared>,
    ) -> Result<Self, Unavailable> {
        Err(ONE_THREAD)
    }

    pub(crate) fn submit(&self, _: Job, _: pool::Uncount<'_>) -> Result<bool, Unavailable> {
        match *self {}
    }

    pub(crate) fn shutdown(&self) {
        match *self {}
    }

    pub(crate) fn shutdown_now(&self, _: bool, _: &Arc<pool::Shared>) {
        match *self {}
    }

    pub(crate) fn join(&self, _: Option<Duration>) -> Result<(), WaitError> {
        match *self {}
    }

    pub(crate) fn threads(&self) -> usize {
        match *self {}
    }
}

/// The threads of an [`Executor`](crate::Executor): there are none.
pub(crate) enum Workers {}

impl Workers {
    pub(crate) fn new(_: Option<NonZeroUsize>, _: &str) -> Result<Self, Unavailable> {
        Err(ONE_THREAD)
    }

    pub(crate) fn load(&self) -> &Load {
        match *self {}
    }

    pub(crate) fn lease(&self) -> Arc<Load> {
        match *self {}
    }

    pub(crate) fn spawn<F>(&self, _: F) -> Result<RemoteTask<F::Output>, PoolError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        match *self {}
    }

    pub(crate) fn threads(&self) -> usize {
        match *self {}
    }
}

/// A page and a Worker have no name of their own.
pub(crate) fn thread_name() -> Option<Arc<str>> {
    None
}
