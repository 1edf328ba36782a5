//! Results in the order in which they come.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::{FusedStream, Stream};

use crate::{
    error::TimedOut,
    gather::{Few, IntoTask, Limit, Many},
    sleep::{Sleep, sleep},
    task::Task,
    wait::{Next, TaskSet, Waits},
};

/// Runs tasks or futures at once and gives the tasks in the order in which they end.
///
/// Mirrors [`asyncio.as_completed`](https://docs.python.org/3/library/asyncio-task.html#asyncio.as_completed) as an
/// asynchronous iterator. `tasks` is an iterator of tasks, or of futures that are all of one type, which are started
/// during the call; or [`limit(n, iterator)`](crate::limit), which starts at most `n` at once, as the stream is polled.
/// The items are the tasks themselves, so names and ids tell them apart; they have ended, so awaiting one does not
/// suspend. Without tasks the stream ends at once.
///
/// **Difference**: a task cannot be given twice, because a [`Task`] is owned.
///
/// Dropping the stream, or leaving a loop over it, cancels nothing: the tasks run on, and the same stream can be gone
/// on with. [`timeout`](AsCompleted::timeout) sets a limit for the whole.
///
/// # Cancel safety
///
/// Dropping a future of `next` or [`next_done`](AsCompleted::next_done) loses no task.
///
/// # Panics
///
/// If there are futures to start and no loop runs on this thread, as [`spawn`](crate::spawn) does.
///
/// # Examples
///
/// ```
/// use selkie::{as_completed, sleep};
/// use std::time::Duration;
///
/// selkie::run(async {
///     let mut ended = Vec::new();
///     let mut jobs = as_completed([20, 0, 10].map(|n| async move {
///         sleep(Duration::from_millis(n)).await;
///         n
///     }));
///     while let Some(task) = jobs.next_done().await {
///         ended.push(task.await.unwrap());
///     }
///     assert_eq!(ended, [0, 10, 20]);
/// });
/// ```
#[track_caller]
pub fn as_completed<K, M: Alike<K>>(tasks: M) -> AsCompleted<M::Source> {
    let (count, source) = tasks.into_source();
    let mut this = AsCompleted { set: TaskSet::new(), count, source: Some(source) };
    this.refill();
    this
}

/// What [`as_completed`] takes: an iterator of tasks or futures, or a [`limit`](crate::limit)ed one.
///
/// The compiler finds `Kind`, which keeps the two apart. Sealed.
pub trait Alike<Kind>: crate::gather::IntoTasks<Kind> {
    /// The iterator.
    type Source: Iterator<Item: IntoTask>;

    #[doc(hidden)]
    fn into_source(self) -> (usize, Self::Source);
}

impl<I: IntoIterator<Item: IntoTask>> Alike<Many> for I {
    type Source = I::IntoIter;

    fn into_source(self) -> (usize, I::IntoIter) {
        (usize::MAX, self.into_iter())
    }
}

impl<I: IntoIterator<Item: IntoTask>> Alike<Few> for Limit<I> {
    type Source = I::IntoIter;

    fn into_source(self) -> (usize, I::IntoIter) {
        (self.count, self.members.into_iter())
    }
}

type Output<I> = <<I as Iterator>::Item as IntoTask>::Output;

/// The stream of [`as_completed`].
#[must_use = "streams do nothing unless polled"]
pub struct AsCompleted<I: Iterator<Item: IntoTask>> {
    set: TaskSet<Output<I>>,
    count: usize,
    /// `None` when there are no more.
    source: Option<I>,
}

impl<I: Iterator<Item: IntoTask>> AsCompleted<I> {
    /// Limits the whole: `limit` after this call the stream gives one `Err(TimedOut)` and ends.
    ///
    /// What has ended by then is given first, and nothing starts any more. Nothing is cancelled;
    /// [`AsCompletedWithin::into_set`] gives the rest.
    pub fn timeout(self, limit: Duration) -> AsCompletedWithin<I> {
        AsCompletedWithin { tasks: self, limit: Some(sleep(limit)) }
    }

    /// Waits for the next task that ends. `None` after the last one.
    #[doc(alias = "next")]
    pub async fn next_done(&mut self) -> Option<Task<Output<I>>> {
        let next = Next(self);
        poll_fn(|cx| next.0.poll_done(cx)).await
    }

    /// The tasks that were not given out. What a [`limit`](crate::limit) has not started never starts.
    pub fn into_set(self) -> TaskSet<Output<I>> {
        self.set
    }

    #[track_caller]
    fn refill(&mut self) {
        // Members that end at once take no room, but there may be no end of them, and they must not pile up.
        for _ in 0..self.count {
            let pending = self.set.pending();
            if pending >= self.count || self.set.len() - pending > self.count {
                return;
            }
            let Some(member) = self.source.as_mut().and_then(Iterator::next) else {
                self.source = None;
                return;
            };
            self.set.insert(member.into_task());
        }
    }

    /// Whether nothing runs, and nothing was left to start: if something was, it is dropped.
    fn is_at_end(&mut self) -> bool {
        self.set.is_empty() && self.source.take().is_none_or(|mut source| source.next().is_none())
    }

    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<Option<Task<Output<I>>>> {
        if self.source.is_some() {
            self.refill();
        }
        self.set.poll_next_done(cx)
    }
}

impl<I: Iterator<Item: IntoTask>> Waits for AsCompleted<I> {
    fn forget_waker(&self) {
        self.set.forget_waker();
    }
}

// The set's tasks are handles; no future is inside.
impl<I: Iterator<Item: IntoTask>> Unpin for AsCompleted<I> {}

impl<I: Iterator<Item: IntoTask>> Stream for AsCompleted<I> {
    type Item = Task<Output<I>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_done(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (low, high) = self.source.as_ref().map_or((0, Some(0)), Iterator::size_hint);
        (low.saturating_add(self.set.len()), high.and_then(|high| high.checked_add(self.set.len())))
    }
}

impl<I: Iterator<Item: IntoTask>> FusedStream for AsCompleted<I> {
    fn is_terminated(&self) -> bool {
        self.set.is_empty() && self.source.is_none()
    }
}

impl<I: Iterator<Item: IntoTask>> fmt::Debug for AsCompleted<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted").field("tasks", &self.set).finish_non_exhaustive()
    }
}

/// The stream of [`AsCompleted::timeout`].
#[must_use = "streams do nothing unless polled"]
pub struct AsCompletedWithin<I: Iterator<Item: IntoTask>> {
    tasks: AsCompleted<I>,
    /// `None` when the time was over.
    limit: Option<Sleep>,
}

impl<I: Iterator<Item: IntoTask>> AsCompletedWithin<I> {
    /// Waits for the next task that ends. `None` after the last one, and after an error.
    ///
    /// # Errors
    ///
    /// [`TimedOut`], once, when the time is over and no task has ended that was not given out.
    #[doc(alias = "next")]
    pub async fn next_done(&mut self) -> Option<Result<Task<Output<I>>, TimedOut>> {
        let next = Next(self);
        poll_fn(|cx| next.0.poll_done(cx)).await
    }

    /// The tasks that were not given out, to be waited for again, cancelled, or dropped and so detached.
    ///
    /// What a [`limit`](crate::limit) has not started never starts.
    pub fn into_set(self) -> TaskSet<Output<I>> {
        self.tasks.into_set()
    }

    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Task<Output<I>>, TimedOut>>> {
        let Some(limit) = &mut self.limit else { return Poll::Ready(None) };
        // First, and nothing starts after it: members that end at once could put the end off for ever.
        if Pin::new(limit).poll(cx).is_pending() {
            return self.tasks.poll_done(cx).map(|done| done.map(Ok));
        }
        if let Some(done) = self.tasks.set.pop_done() {
            return Poll::Ready(Some(Ok(done)));
        }
        if self.tasks.is_at_end() {
            return Poll::Ready(None);
        }
        self.limit = None;
        self.tasks.source = None;
        self.tasks.set.forget_waker();
        Poll::Ready(Some(Err(TimedOut)))
    }
}

impl<I: Iterator<Item: IntoTask>> Waits for AsCompletedWithin<I> {
    fn forget_waker(&self) {
        self.tasks.forget_waker();
    }
}

impl<I: Iterator<Item: IntoTask>> Unpin for AsCompletedWithin<I> {}

impl<I: Iterator<Item: IntoTask>> Stream for AsCompletedWithin<I> {
    type Item = Result<Task<Output<I>>, TimedOut>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_done(cx)
    }
}

impl<I: Iterator<Item: IntoTask>> FusedStream for AsCompletedWithin<I> {
    fn is_terminated(&self) -> bool {
        self.limit.is_none() || self.tasks.is_terminated()
    }
}

impl<I: Iterator<Item: IntoTask>> fmt::Debug for AsCompletedWithin<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompletedWithin")
            .field("tasks", &self.tasks.set)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
