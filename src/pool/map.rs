//! Results in the order of what they were asked for.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    iter::Fuse,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::{FusedStream, Stream};

use super::{PoolError, ThreadPool};
use crate::{RemoteTask, WaitError, error::JoinError};

/// Results in the order of the items; from [`ThreadPool::map`].
///
/// A panic of the function surfaces at its place, and then the stream ends. Dropping it withdraws what has not begun.
#[must_use = "nothing is submitted before a result is asked for"]
pub struct PoolMap<I: Iterator, F, R: Send> {
    pool: ThreadPool,
    f: Arc<F>,
    ahead: Ahead<I, R>,
}

impl<I: Iterator, F, R: Send> Unpin for PoolMap<I, F, R> {}

impl<I, F, R> PoolMap<I, F, R>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    pub(super) fn new(pool: ThreadPool, items: impl IntoIterator<IntoIter = I>, f: F) -> Self {
        let ahead = Ahead::new(items.into_iter(), pool.max_threads().saturating_mul(2));
        Self { pool, f: Arc::new(f), ahead }
    }

    /// How many items are submitted at most before their results were taken; twice the number of threads unless set, and 1 at
    /// least.
    #[doc(alias = "buffersize")]
    pub fn buffer(mut self, size: usize) -> Self {
        self.ahead.set_buffer(size);
        self
    }

    /// The next result, in the order of the items.
    pub async fn next(&mut self) -> Option<Result<R, JoinError>> {
        poll_fn(|cx| self.poll_result(cx)).await
    }

    /// As [`next`](Self::next), blocking this thread for at most `timeout`; `None` waits as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`RemoteTask::wait`]; nothing is lost, the next call waits for the same result.
    pub fn wait_next(
        &mut self,
        timeout: Option<Duration>,
    ) -> Result<Option<Result<R, JoinError>>, WaitError> {
        self.fill();
        self.ahead.wait(timeout)
    }

    fn fill(&mut self) {
        self.ahead.fill(|item| {
            let f = self.f.clone();
            self.pool.submit(move || f(item))
        });
    }

    fn poll_result(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<R, JoinError>>> {
        self.fill();
        self.ahead.poll(cx)
    }
}

impl<I, F, R> Stream for PoolMap<I, F, R>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    type Item = Result<R, JoinError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_result(cx)
    }
}

impl<I, F, R> FusedStream for PoolMap<I, F, R>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    fn is_terminated(&self) -> bool {
        self.ahead.is_over()
    }
}

impl<I: Iterator, F, R: Send> fmt::Debug for PoolMap<I, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolMap")
            .field("pool", &self.pool)
            .field("ahead", &self.ahead)
            .finish_non_exhaustive()
    }
}

/// Items of which some are submitted, and their results in the order of the items. What the maps of all pools have in common.
pub(crate) struct Ahead<I: Iterator, R: Send> {
    items: Fuse<I>,
    buffer: usize,
    submitted: VecDeque<RemoteTask<R>>,
    /// Why there will be no more, behind what was submitted.
    refused: Option<JoinError>,
    over: bool,
}

impl<I: Iterator, R: Send> Ahead<I, R> {
    pub(crate) fn new(items: I, buffer: usize) -> Self {
        Self { items: items.fuse(), buffer, submitted: VecDeque::new(), refused: None, over: false }
    }

    pub(crate) fn set_buffer(&mut self, size: usize) {
        self.buffer = size.max(1);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    pub(crate) fn fill(&mut self, mut submit: impl FnMut(I::Item) -> Result<RemoteTask<R>, PoolError>) {
        while !self.over && self.refused.is_none() && self.submitted.len() < self.buffer {
            let Some(item) = self.items.next() else { return };
            match submit(item) {
                Ok(task) => self.submitted.push_back(task),
                Err(error) => self.refused = Some(error.into()),
            }
        }
    }

    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
    ) -> Result<Option<Result<R, JoinError>>, WaitError> {
        let result = match self.submitted.front_mut() {
            Some(first) => Some(first.wait(timeout)?),
            None => None,
        };
        Ok(self.taken(result))
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<R, JoinError>>> {
        let result = match self.submitted.front_mut() {
            Some(first) => match Pin::new(first).poll(cx) {
                Poll::Ready(result) => Some(result),
                Poll::Pending => return Poll::Pending,
            },
            None => None,
        };
        Poll::Ready(self.taken(result))
    }

    /// `result` is that of the first one that was submitted, if there is one.
    fn taken(&mut self, result: Option<Result<R, JoinError>>) -> Option<Result<R, JoinError>> {
        let result = match result {
            Some(result) => {
                self.submitted.pop_front();
                Some(result)
            }
            None => self.refused.take().map(Err),
        };
        if !matches!(result, Some(Ok(_))) {
            self.over = true;
            self.withdraw();
        }
        result
    }

    fn withdraw(&mut self) {
        for task in self.submitted.drain(..) {
            task.cancel();
        }
    }
}

impl<I: Iterator, R: Send> Drop for Ahead<I, R> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

impl<I: Iterator, R: Send> fmt::Debug for Ahead<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead")
            .field("buffer", &self.buffer)
            .field("submitted", &self.submitted.len())
            .finish_non_exhaustive()
    }
}
