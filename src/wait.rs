//! Tasks that are waited for again and again, while some end and others are added.

use std::{
    fmt,
    future::{Future, poll_fn},
    marker::PhantomData,
    mem,
    pin::Pin,
    rc::Rc,
    slice,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use futures_core::{FusedStream, Stream};

use crate::{
    sleep::{Sleep, sleep},
    task::{AnyTask, Members, Task, TaskRef, Urgent, has_error, spawn, waits_for_text},
};

/// Tasks of one result type, to be waited for with [`wait`], or taken out one by one as they end.
///
/// Mirrors the sets of tasks that `asyncio.wait` takes and returns: here one set stays, and what has ended leaves it.
/// Adding a task, an end, and taking an ended one out each take constant time, however many are pending, and an end
/// allocates nothing. Tasks may belong to any loop of this thread. A task cannot be in it twice, because a [`Task`]
/// is owned.
///
/// As a [`Stream`], and by [`next_done`](Self::next_done), it gives the tasks that have ended, in the order in which
/// they did. Those that had ended when they were added come in the order of adding.
///
/// Dropping the set detaches its tasks: they run on. [`cancel_all`](Self::cancel_all) asks them to end.
///
/// # Examples
///
/// ```
/// use selkie::{TaskSet, sleep, spawn};
/// use std::time::Duration;
///
/// selkie::run(async {
///     let mut jobs: TaskSet<u64> = [3, 1, 2]
///         .map(|n| spawn(async move { sleep(Duration::from_millis(10 * n)).await; n }))
///         .into_iter()
///         .collect();
///     let mut ended = Vec::new();
///     while let Some(task) = jobs.next_done().await {
///         ended.push(task.await.unwrap());
///     }
///     assert_eq!(ended, [1, 2, 3]);
/// });
/// ```
#[doc(alias("JoinSet", "FuturesUnordered"))]
pub struct TaskSet<T> {
    members: Rc<Members>,
    /// In no order that lasts. Each task knows its place, in `Header::index`.
    tasks: Vec<Task<T>>,
}

impl<T> TaskSet<T> {
    /// An empty set.
    pub fn new() -> Self {
        Self { members: Members::listed(), tasks: Vec::new() }
    }

    /// Adds a task, which may have ended already.
    pub fn insert(&mut self, task: Task<T>) {
        task.raw().index.set(self.tasks.len() as u32);
        self.members.add(task.raw());
        self.tasks.push(task);
    }

    /// Starts a future as [`spawn`](crate::spawn) does, and adds its task; returns a handle to look at it and to end it.
    ///
    /// # Panics
    ///
    /// As [`spawn`](crate::spawn).
    #[track_caller]
    pub fn spawn<F>(&mut self, future: F) -> AnyTask
    where
        F: Future<Output = T> + 'static,
        T: 'static,
    {
        let task = spawn(future);
        let any = task.any();
        self.insert(task);
        any
    }

    /// How many tasks are in the set, ended or not.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether no task is in the set.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// How many tasks of the set have not ended.
    pub fn pending(&self) -> usize {
        self.members.pending()
    }

    /// The tasks, in no particular order.
    pub fn iter(&self) -> slice::Iter<'_, Task<T>> {
        self.tasks.iter()
    }

    /// Asks every unfinished task to end; whether one was still pending. The tasks stay in the set.
    pub fn cancel_all(&self) -> bool {
        self.tasks.iter().fold(false, |any, task| task.cancel() | any)
    }

    /// Takes the task with the given [`id`](Task::id) out, ended or not. Takes time in proportion to the set.
    pub fn remove(&mut self, id: u64) -> Option<Task<T>> {
        let index = self.tasks.iter().position(|task| task.id() == id)?;
        self.members.remove(self.tasks[index].raw());
        Some(self.take(index))
    }

    /// Takes all tasks out, in no particular order.
    pub fn drain(&mut self) -> vec::IntoIter<Task<T>> {
        self.part();
        mem::take(&mut self.tasks).into_iter()
    }

    /// Waits for the next task that ends, and takes it out of the set. `None` when the set is empty.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    #[doc(alias("join_next", "next"))]
    pub async fn next_done(&mut self) -> Option<Task<T>> {
        let next = Next(self);
        poll_fn(|cx| next.0.poll_next_done(cx)).await
    }

    pub(crate) fn poll_next_done(&mut self, cx: &mut Context<'_>) -> Poll<Option<Task<T>>> {
        if let Some(done) = self.pop_done() {
            return Poll::Ready(Some(done));
        }
        if self.is_empty() {
            return Poll::Ready(None);
        }
        waits_for_text(&TASKS);
        self.members.wait(usize::MAX, cx.waker());
        Poll::Pending
    }

    pub(crate) fn pop_done(&mut self) -> Option<Task<T>> {
        let done = self.members.pop_done()?;
        Some(self.take_done(&done))
    }

    fn take_done(&mut self, done: &TaskRef) -> Task<T> {
        self.take(done.index.get() as usize)
    }

    /// Takes a task, which is no member any more, out of its place.
    fn take(&mut self, index: usize) -> Task<T> {
        let task = self.tasks.swap_remove(index);
        if let Some(moved) = self.tasks.get(index) {
            moved.raw().index.set(index as u32);
        }
        task
    }

    /// No task is a member any more.
    fn part(&mut self) {
        if self.members.pending() > 0 {
            for task in &self.tasks {
                self.members.remove_pending(task.raw());
            }
        }
        while self.members.pop_done().is_some() {}
    }
}

/// What waits for the next task that ends.
pub(crate) trait Waits {
    fn forget_waker(&self);
}

impl<T> Waits for TaskSet<T> {
    fn forget_waker(&self) {
        self.members.forget_waker();
    }
}

/// A wait for one task. Given up, it leaves nothing of who waited behind.
pub(crate) struct Next<'a, S: Waits>(pub(crate) &'a mut S);

impl<S: Waits> Drop for Next<'_, S> {
    fn drop(&mut self) {
        self.0.forget_waker();
    }
}

// The tasks are handles; no value of theirs is inside.
impl<T> Unpin for TaskSet<T> {}

static TASKS: &str = "a set of tasks";

impl<T> Drop for TaskSet<T> {
    fn drop(&mut self) {
        // Or a task that ends later would be kept by the list until the last one has ended.
        self.part();
    }
}

impl<T> Default for TaskSet<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Extend<Task<T>> for TaskSet<T> {
    fn extend<I: IntoIterator<Item = Task<T>>>(&mut self, tasks: I) {
        let tasks = tasks.into_iter();
        self.tasks.reserve(tasks.size_hint().0);
        tasks.for_each(|task| self.insert(task));
    }
}

impl<T> FromIterator<Task<T>> for TaskSet<T> {
    fn from_iter<I: IntoIterator<Item = Task<T>>>(tasks: I) -> Self {
        let mut set = Self::new();
        set.extend(tasks);
        set
    }
}

impl<'a, T> IntoIterator for &'a TaskSet<T> {
    type Item = &'a Task<T>;
    type IntoIter = slice::Iter<'a, Task<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> IntoIterator for TaskSet<T> {
    type Item = Task<T>;
    type IntoIter = vec::IntoIter<Task<T>>;

    fn into_iter(mut self) -> Self::IntoIter {
        self.drain()
    }
}

impl<T> Stream for TaskSet<T> {
    type Item = Task<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Task<T>>> {
        self.poll_next_done(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

/// Terminated while it is empty; more tasks may be added.
impl<T> FusedStream for TaskSet<T> {
    fn is_terminated(&self) -> bool {
        self.is_empty()
    }
}

impl<T> fmt::Debug for TaskSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(&self.tasks).finish()
    }
}

/// What a [`wait`] waits for. Mirrors the `return_when` of `asyncio.wait`.
///
/// [`FIRST_ERROR`](Self::FIRST_ERROR) exists where tasks return a `Result`.
#[non_exhaustive]
pub enum Until<T> {
    /// At least one task has ended: with a value, by a panic, or cancelled.
    #[doc(alias = "FIRST_COMPLETED")]
    FirstCompleted,
    /// All tasks have ended.
    #[doc(alias = "ALL_COMPLETED")]
    All,
    #[doc(hidden)]
    First(First<T>),
}

impl<T, E> Until<Result<T, E>> {
    /// A task has returned `Err` or has panicked, or all have ended. A cancelled task does not count.
    #[doc(alias = "FIRST_EXCEPTION")]
    pub const FIRST_ERROR: Self = Self::First(First { urgent: has_error::<T, E>, marker: PhantomData });
}

impl<T> Clone for Until<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Until<T> {}

impl<T> fmt::Debug for Until<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FirstCompleted => "FirstCompleted",
            Self::All => "All",
            Self::First(_) => "FIRST_ERROR",
        })
    }
}

/// How to find the task that is waited for.
pub struct First<T> {
    /// Reads outputs of type `T`.
    urgent: Urgent,
    marker: PhantomData<fn(T)>,
}

impl<T> Clone for First<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for First<T> {}

impl<T> fmt::Debug for First<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("First")
    }
}

/// Waits until the first task of `tasks`, or all, have ended; takes those out that have and returns them.
///
/// Mirrors [`asyncio.wait`](https://docs.python.org/3/library/asyncio-task.html#asyncio.wait). What has ended comes in
/// the order in which it did: all that has when the waiter gets its turn, so that there may be several also for
/// [`Until::FirstCompleted`]. The rest stays in the set, runs on, and can be waited for again. Nothing is cancelled and
/// no task's error is raised: look at [`Task::result`] or await the tasks, which do not suspend any more.
///
/// [`timeout`](Wait::timeout) sets a limit, after which the wait gives what has ended, which may be nothing.
///
/// A wait in a loop costs each time what has ended, not what is pending.
///
/// **Difference**: one set stays and what has ended leaves it; asyncio returns two new sets, without an order.
/// **Difference**: if the condition holds already it is ready at once; asyncio always lets others run once.
/// **Difference**: waiting for an empty set gives an empty vector at once; asyncio raises `ValueError`, which a
/// `while !tasks.is_empty()` never meets. asyncio takes no future that is no task, and here none compiles.
///
/// # Cancel safety
///
/// Dropping the future changes nothing: the tasks run on, and those that have ended are still in the set.
///
/// # Examples
///
/// ```
/// use selkie::{TaskSet, Until, spawn, wait, yield_now};
/// use std::time::Duration;
///
/// async fn work(n: u64) -> Result<u64, &'static str> {
///     for _ in 0..10 * n {
///         yield_now().await;
///     }
///     if n == 2 { Err("two") } else { Ok(n) }
/// }
///
/// selkie::run(async {
///     let mut jobs: TaskSet<_> = (0..4).map(|n| spawn(work(n))).collect();
///
///     let done = wait(&mut jobs, Until::FIRST_ERROR).await;
///     assert_eq!(done.len(), 3); // 0, 1, and the error of 2
///     assert_eq!(done[2].result().unwrap().unwrap(), &Err("two"));
///
///     let done = wait(&mut jobs, Until::All).timeout(Duration::ZERO).await;
///     assert!(done.is_empty());
///     while !jobs.is_empty() {
///         for task in wait(&mut jobs, Until::FirstCompleted).await {
///             assert_eq!(task.await.unwrap(), Ok(3));
///         }
///     }
/// });
/// ```
pub fn wait<T>(tasks: &mut TaskSet<T>, until: Until<T>) -> Wait<'_, T> {
    Wait { tasks, until, is_begun: false, limit: None }
}

/// The future of [`wait`].
#[must_use = "futures do nothing unless awaited"]
pub struct Wait<'a, T> {
    tasks: &'a mut TaskSet<T>,
    until: Until<T>,
    is_begun: bool,
    limit: Option<Sleep>,
}

impl<T> Wait<'_, T> {
    /// Ends the wait after `limit`, counted from this call, with what has ended by then.
    ///
    /// Running out of time is no error and cancels nothing. Zero lets everything that is ready run once.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(sleep(limit));
        self
    }
}

// Neither the set nor the timer is ever pinned.
impl<T> Unpin for Wait<'_, T> {}

impl<T> Future for Wait<'_, T> {
    type Output = Vec<Task<T>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Vec<Task<T>>> {
        let this = &mut *self;
        let members = &this.tasks.members;
        if let (false, Until::First(first)) = (this.is_begun, this.until) {
            // SAFETY: the output of each task in the set is `T`, as `first` expects.
            unsafe { members.set_urgent(Some(first.urgent)) };
            this.is_begun = true;
        }
        let (is_over, wake_at) = match this.until {
            Until::FirstCompleted => (members.has_done(), usize::MAX),
            Until::All => (false, 0),
            Until::First(_) => (members.is_alarmed(), 0),
        };
        if !is_over && members.pending() > 0 {
            members.wait(wake_at, cx.waker());
            let in_time = this.limit.as_mut().is_none_or(|limit| Pin::new(limit).poll(cx).is_pending());
            waits_for_text(&TASKS);
            if in_time {
                return Poll::Pending;
            }
        }
        let mut done = Vec::with_capacity(this.tasks.len() - members.pending());
        done.extend(std::iter::from_fn(|| this.tasks.pop_done()));
        Poll::Ready(done)
    }
}

impl<T> Drop for Wait<'_, T> {
    fn drop(&mut self) {
        self.tasks.forget_waker();
        if self.is_begun {
            // SAFETY: it asks nobody.
            unsafe { self.tasks.members.set_urgent(None) };
        }
    }
}

impl<T> fmt::Debug for Wait<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("tasks", &self.tasks)
            .field("until", &self.until)
            .field("limit", &self.limit)
            .finish()
    }
}
