//! Groups of tasks that end together.
//!
//! A group is in one of three states: open, *aborting* (a child failed, the group or the parent was cancelled: every
//! child is asked to end, the body is dropped, and nothing starts any more) and over. The parent waits in two phases,
//! for the body and then for the children, each inside a [`catch_cancel`] scope: a cancel of the parent becomes an
//! abort of the group, and goes on when the last child has ended. Children tell of their end through the hook of their
//! cell, at once and however they end, so that a group never waits for one that a trap took away.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    convert::Infallible,
    error::Error,
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use pin_project_lite::pin_project;

use crate::{
    cancel::{Cancelled, Cut, Postponed, catch_cancel},
    error::{JoinError, TaskError, contain, discard},
    scheduler::{self, wake},
    task::{AnyTask, Builder, EndHook, Panic, Task, TaskRef, prepare, waits_for_text, with_spawner},
};

/// Tasks that end together: the scope that made them leaves only when every one has ended.
///
/// Mirrors [`asyncio.TaskGroup`](https://docs.python.org/3/library/asyncio-task.html#asyncio.TaskGroup).
/// [`scope`](Self::scope) makes a group and hands it to its body; clones are the same group, so children can spawn
/// siblings, also when the body has ended.
///
/// - The first child that fails, by `Err` or by a panic, ends the group: the siblings are asked to end, and the body is
///   dropped. All errors are kept.
/// - A child that is cancelled by itself is ignored.
/// - A cancel of the parent asks the children to end, waits for them, and then goes on.
///
/// **Difference**: when the scope's future is dropped (by a timeout, by `select!`) the children are asked to end and not
/// waited for: a drop cannot wait. `wait_for(TaskGroup::scope(..), limit)` does wait.
///
/// **Difference**: the body is dropped where asyncio cancels it, so a [`catch_cancel`](crate::catch_cancel()) in the body
/// sees cancels of the parent but not the group's end. What must clean up with awaits belongs in a child.
///
/// # Examples
///
/// ```
/// use selkie::{TaskGroup, sleep};
/// use std::time::Duration;
///
/// async fn fetch(page: u32) -> Result<u32, std::io::Error> {
///     sleep(Duration::from_millis(1)).await;
///     Ok(page * 10)
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// selkie::run(async {
///     let sum = TaskGroup::scope(async |group| {
///         let a = group.spawn(fetch(1));
///         let b = group.spawn(fetch(2));
///         a.await.unwrap_or(0) + b.await.unwrap_or(0)
///     });
///     assert_eq!(sum.await?, 30);
///     Ok(())
/// })
/// # }
/// ```
pub struct TaskGroup<E = Infallible> {
    inner: Rc<Inner<E>>,
}

struct Inner<E> {
    /// Children that have not ended, by id and so in the order in which they were made.
    children: RefCell<BTreeMap<u64, TaskRef>>,
    /// In the order in which the children failed.
    errors: RefCell<Vec<TaskError<E>>>,
    /// Comes behind these.
    body_error: RefCell<Option<TaskError<E>>>,
    /// No child starts any more, and those that run were asked to end.
    aborting: Cell<bool>,
    over: Cell<bool>,
    /// The body has ended, and the parent waits for the last child.
    body_ended: Cell<bool>,
    parent: RefCell<Option<Waker>>,
}

impl<E> Inner<E> {
    fn wake_parent(&self) {
        let waker = self.parent.borrow_mut().take();
        if let Some(waker) = waker {
            wake(waker);
        }
    }

    fn abort(&self) {
        if self.aborting.replace(true) {
            return;
        }
        let children: Vec<TaskRef> = self.children.borrow().values().cloned().collect();
        for child in children {
            child.cancel_with_owner();
            // Nor by the awaits that go with the body and with siblings.
            child.note_asked(true);
        }
        if !self.body_ended.get() {
            self.wake_parent();
        }
    }

    fn failed(&self, error: TaskError<E>) {
        if self.over.get() {
            // The scope was dropped, so nobody will look at it.
            return report(CHILD, [error]);
        }
        self.errors.borrow_mut().push(error);
        self.abort();
    }

    /// Waits until every child has ended.
    fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.children.borrow().is_empty() {
            return Poll::Ready(());
        }
        static CHILDREN: &str = "the children of its group";
        waits_for_text(&CHILDREN);
        drop(self.parent.replace(Some(cx.waker().clone())));
        Poll::Pending
    }
}

impl<E> EndHook for Inner<E> {
    fn ended(&self, task: &TaskRef) {
        let child = self.children.borrow_mut().remove(&task.id.get());
        drop(child);
        // Panics are caught by `Member`; a trap leaves nothing that could.
        if task.is_failed() && !task.is_cancelled() {
            self.failed(TaskError::Join(JoinError::trapped()));
        }
        if self.body_ended.get() && self.children.borrow().is_empty() {
            self.wake_parent();
        }
    }
}

impl<E: 'static> TaskGroup<E> {
    /// Runs `body` with a new group; leaves when the body and every child have ended.
    ///
    /// The errors are those of the children. A body that can fail itself: [`try_scope`](Self::try_scope). A group whose
    /// children cannot fail: [`scope_ok`](TaskGroup::scope_ok).
    ///
    /// A cancel that comes from outside together with an error: the error is returned, and the cancel is delivered at
    /// the parent's next await.
    ///
    /// # Errors
    ///
    /// [`GroupError`] when a child failed, or when the group was cancelled before its body had ended.
    ///
    /// # Panics
    ///
    /// When the body panics: with its payload, after every child has ended. What the children failed with is then
    /// reported to the exception handler. **Difference**: asyncio puts what the body raises among the errors of the group.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future asks the children to end, without waiting.
    pub async fn scope<R>(body: impl AsyncFnOnce(&Self) -> R) -> Result<R, GroupError<E>> {
        Self::run(async |group| Ok(body(group).await)).await
    }

    /// As [`scope`](Self::scope), with a body that can fail as a child can. Its error comes last.
    ///
    /// ```
    /// use selkie::{TaskError, TaskGroup};
    ///
    /// selkie::run(async {
    ///     let error = TaskGroup::try_scope(async |group| {
    ///         group.spawn(async { Ok::<(), _>(()) }).detach();
    ///         Err::<(), _>("no luck")
    ///     });
    ///     let errors = error.await.unwrap_err().into_errors();
    ///     assert!(matches!(errors[..], [TaskError::Failed("no luck")]));
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// As [`scope`](Self::scope), and when the body returns `Err`: it then ends the group as a child's does.
    pub async fn try_scope<R>(body: impl AsyncFnOnce(&Self) -> Result<R, E>) -> Result<R, GroupError<E>> {
        Self::run(body).await
    }

    async fn run<R>(body: impl AsyncFnOnce(&Self) -> Result<R, E>) -> Result<R, GroupError<E>> {
        let inner = Rc::new(Inner {
            children: RefCell::default(),
            errors: RefCell::default(),
            body_error: RefCell::default(),
            aborting: Cell::new(false),
            over: Cell::new(false),
            body_ended: Cell::new(false),
            parent: RefCell::default(),
        });
        let leave = Leave(inner.clone());
        let group = Self { inner: inner.clone() };

        let mut cancelled = Postponed::default();
        let outcome =
            Caught { future: Some(catch_cancel(Body { future: Some(body(&group)), inner: &inner })) }.await;
        inner.body_ended.set(true);
        let mut value = None;
        let mut panic = None;
        match outcome {
            Ok(Ok(Ok(Ok(output)))) => value = Some(output),
            Ok(Ok(Ok(Err(error)))) => {
                *inner.body_error.borrow_mut() = Some(TaskError::Failed(error));
                inner.abort();
            }
            Ok(Ok(Err(in_hand))) => in_hand.into_iter().for_each(|request| cancelled.put(request)),
            Ok(Err(request)) => {
                cancelled.put(request);
                inner.abort();
            }
            Err(payload) => {
                panic = Some(payload);
                inner.abort();
            }
        }

        wait_despite_cancel(|cx| inner.poll_ended(cx), &mut cancelled, || inner.abort()).await;
        let mut errors = std::mem::take(&mut *inner.errors.borrow_mut());
        let body_error = inner.body_error.take();
        drop(leave);

        if let Some(payload) = panic {
            report(CHILD, errors);
            resume_unwind(payload);
        }
        errors.extend(body_error);
        if !errors.is_empty() {
            if let Some(cancelled) = cancelled.take() {
                cancelled.rearm();
            }
            return Err(GroupError { errors });
        }
        if let Some(cancelled) = cancelled.take() {
            cancelled.resume().await;
        }
        value.ok_or(GroupError { errors: Vec::new() })
    }

    /// Starts `future`, which gives a `Result`, as a child, eagerly as [`spawn`](crate::spawn()) does. An `Err` ends the
    /// group. For what cannot fail there is [`spawn_ok`](Self::spawn_ok).
    ///
    /// The returned task gives the value. A child that failed gives its error to the group, and awaiting its task gives
    /// a [`JoinError`] that says cancelled; it ends at its next turn. Dropping the task detaches it from the hand, not from the
    /// group.
    ///
    /// A group that is over or ends starts nothing: the future is dropped unpolled and the task is cancelled.
    /// **Difference**: asyncio raises `RuntimeError`.
    ///
    /// # Panics
    ///
    /// As [`spawn`](crate::spawn()).
    #[doc(alias = "create_task")]
    #[track_caller]
    pub fn spawn<T, F>(&self, future: F) -> Task<T>
    where
        F: Future<Output = Result<T, E>> + 'static,
        T: 'static,
    {
        self.start(Builder::default(), future, |output| output)
    }

    /// As [`spawn`](Self::spawn), with a name, a priority and so on.
    ///
    /// ```
    /// use selkie::{Task, TaskGroup};
    ///
    /// selkie::run(async {
    ///     let group = TaskGroup::scope(async |group| {
    ///         let reader = Task::builder().name("reader");
    ///         group.spawn_with(reader, async { Ok::<_, String>(1) }).await.unwrap()
    ///     });
    ///     assert_eq!(group.await.unwrap(), 1);
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// As [`spawn`](crate::spawn()).
    #[track_caller]
    pub fn spawn_with<T, F>(&self, builder: Builder, future: F) -> Task<T>
    where
        F: Future<Output = Result<T, E>> + 'static,
        T: 'static,
    {
        self.start(builder, future, |output| output)
    }

    /// Starts `future` as a child that cannot fail other than by a panic.
    ///
    /// # Panics
    ///
    /// As [`spawn`](crate::spawn()).
    #[track_caller]
    pub fn spawn_ok<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.start(Builder::default(), future, Ok)
    }

    #[track_caller]
    fn start<T, F>(&self, builder: Builder, future: F, result: fn(F::Output) -> Result<T, E>) -> Task<T>
    where
        F: Future + 'static,
        T: 'static,
    {
        let inner = &self.inner;
        let member = Member { future: Some(future), result, inner: inner.clone() };
        with_spawner(|scheduler| {
            let (setup, eager) = builder.into_setup();
            let task = prepare(scheduler, member, setup);
            let raw = task.raw();
            if inner.over.get() || inner.aborting.get() {
                raw.cold(|cold| cold.cancel_message = Some("its group starts no tasks any more".into()));
                raw.end_cancelled(scheduler);
            } else {
                raw.cold(|cold| cold.end_hook = Some(inner.clone()));
                inner.children.borrow_mut().insert(raw.id.get(), raw.clone());
                scheduler.launch(raw, eager);
            }
            task
        })
    }
}

impl TaskGroup<Infallible> {
    /// As [`scope`](Self::scope), for children that cannot fail other than by a panic: those of
    /// [`spawn_ok`](Self::spawn_ok).
    ///
    /// ```
    /// use selkie::{TaskGroup, sleep};
    /// use std::time::Duration;
    ///
    /// selkie::run(async {
    ///     TaskGroup::scope_ok(async |group| {
    ///         group.spawn_ok(sleep(Duration::from_millis(1)));
    ///         group.spawn_ok(sleep(Duration::from_millis(2)));
    ///     })
    ///     .await
    ///     .unwrap();
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// As [`scope`](Self::scope).
    pub async fn scope_ok<R>(body: impl AsyncFnOnce(&Self) -> R) -> Result<R, GroupError<Infallible>> {
        Self::scope(body).await
    }
}

impl<E> TaskGroup<E> {
    /// Ends the group from inside: asks every child to end, and drops the body at its next suspension.
    ///
    /// The scope returns when every child has ended: with the body's value if the body had ended, otherwise with an error
    /// that [says so](GroupError::is_cancelled). Idempotent; does nothing when the group is over. Mirrors
    /// `TaskGroup.cancel` of Python 3.15. **Difference**: asyncio's block then ends without an exception; here there would
    /// be no value to return.
    ///
    /// ```
    /// use selkie::{TaskGroup, sleep};
    /// use std::time::Duration;
    ///
    /// selkie::run(async {
    ///     let first = TaskGroup::scope_ok(async |group| {
    ///         for delay in [1, 60_000] {
    ///             let all = group.clone();
    ///             group.spawn_ok(async move {
    ///                 sleep(Duration::from_millis(delay)).await;
    ///                 all.cancel();
    ///             });
    ///         }
    ///     });
    ///     assert!(first.await.is_ok());
    /// });
    /// ```
    pub fn cancel(&self) {
        if !self.inner.over.get() {
            self.inner.abort();
        }
    }

    /// Whether the group ends: a child failed, or it was cancelled.
    pub fn is_aborting(&self) -> bool {
        self.inner.aborting.get()
    }

    /// How many children have not ended.
    pub fn len(&self) -> usize {
        self.inner.children.borrow().len()
    }

    /// Whether every child has ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The children that have not ended, oldest first.
    pub fn tasks(&self) -> Vec<AnyTask> {
        self.inner.children.borrow().values().map(AnyTask::new).collect()
    }
}

impl<E> Clone for TaskGroup<E> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<E> fmt::Debug for TaskGroup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup")
            .field("children", &self.len())
            .field("aborting", &self.is_aborting())
            .finish_non_exhaustive()
    }
}

/// The parent leaves the group, in good order or because its future is dropped.
struct Leave<E>(Rc<Inner<E>>);

impl<E> Drop for Leave<E> {
    fn drop(&mut self) {
        let waker = self.0.parent.borrow_mut().take();
        drop(waker);
        let has_children = !self.0.children.borrow().is_empty();
        if has_children {
            self.0.abort();
        }
        self.0.over.set(true);
        let errors = std::mem::take(&mut *self.0.errors.borrow_mut());
        report(CHILD, errors);
        let body_error = self.0.body_error.take();
        report(BODY, body_error);
    }
}

const CHILD: &str = "a child";
const BODY: &str = "the body";

/// Tells the exception handler of errors that nobody can be told, and drops them: one by one, as each may panic, and a panic may be
/// under way.
fn report<E>(whose: &str, errors: impl IntoIterator<Item = TaskError<E>>) {
    for error in errors {
        let what = match &error {
            TaskError::Failed(_) => format!("it returned an error ({})", std::any::type_name::<E>()),
            TaskError::Join(error) => error.to_string(),
        };
        let message = format!("{whose} failed in a group whose scope was left: {what}");
        if scheduler::with_current(|scheduler| scheduler.report(&message, None)).is_none() {
            crate::os::report(&message);
        }
        contain(|| drop(error));
    }
}

pin_project! {
    /// The body, until it has ended or the group aborts.
    struct Body<'a, F, E> {
        // `None` once the group aborts.
        #[pin]
        future: Option<F>,
        inner: &'a Inner<E>,
    }
}

impl<F: Future, E> Future for Body<'_, F, E> {
    /// `Err` when the group aborts, with the cancel that the body had in hand.
    type Output = Result<F::Output, Option<Cancelled>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let (false, Some(future)) = (this.inner.aborting.get(), this.future.as_mut().as_pin_mut()) {
            if let Poll::Ready(output) = future.poll(cx) {
                return Poll::Ready(Ok(output));
            }
        }
        if this.inner.aborting.get() {
            let cut = Cut::begin();
            this.future.set(None);
            return Poll::Ready(Err(cut.end()));
        }
        drop(this.inner.parent.replace(Some(cx.waker().clone())));
        Poll::Pending
    }
}

pin_project! {
    /// Gives a panic of a future as a value, also one of its destructor: the children are to be waited for.
    struct Caught<F> {
        // `None` once it has panicked.
        #[pin]
        future: Option<F>,
    }
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, Panic>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            unreachable!("it is polled until it is ready")
        };
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(payload) => {
                // What is left of it may panic once more.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| this.future.set(None))) {
                    discard(payload);
                }
                Poll::Ready(Err(payload))
            }
        }
    }
}

/// Waits until `ended` is ready. A cancel of the running task is remembered, and told to `on_cancel`.
pub(crate) async fn wait_despite_cancel(
    mut ended: impl FnMut(&mut Context<'_>) -> Poll<()>,
    cancelled: &mut Postponed,
    mut on_cancel: impl FnMut(),
) {
    while let Err(request) = catch_cancel(poll_fn(&mut ended)).await {
        cancelled.put(request);
        on_cancel();
    }
}

pin_project! {
    /// The future of a child.
    struct Member<F: Future, T, E> {
        // `None` once it has failed.
        #[pin]
        future: Option<F>,
        result: fn(F::Output) -> Result<T, E>,
        inner: Rc<Inner<E>>,
    }
}

impl<F: Future, T, E> Future for Member<F, T, E> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut this = self.project();
        let task = scheduler::running().expect("a child is polled as its task");
        if let Some(future) = this.future.as_mut().as_pin_mut() {
            let error = match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(output)) => match (this.result)(output) {
                    Ok(value) => return Poll::Ready(value),
                    Err(error) => TaskError::Failed(error),
                },
                Err(payload) => TaskError::Join(JoinError::panicked(task.label(), payload)),
            };
            // No member of those that the group asks to end, so that it ends with this message.
            this.inner.children.borrow_mut().remove(&task.id.get());
            this.inner.failed(error);
            this.inner.children.borrow_mut().insert(task.id.get(), TaskRef::clone(&task));
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| this.future.set(None))) {
                task.report_drop_panic(task.scheduler(), payload);
            }
        }
        // The error is the group's and there is no value, so the task ends at its next turn as if it was cancelled.
        task.request_end(Some("it failed, and its group has the error".into()));
        Poll::Pending
    }
}

/// The errors of a group: at least one, or the group was cancelled before its body had ended.
///
/// Mirrors `ExceptionGroup`.
#[doc(alias = "ExceptionGroup")]
pub struct GroupError<E> {
    errors: Vec<TaskError<E>>,
}

impl<E> GroupError<E> {
    /// Whether there is no error: [`TaskGroup::cancel`] ended the body, so there is no value either.
    pub fn is_cancelled(&self) -> bool {
        self.errors.is_empty()
    }

    /// The errors, in the order in which the children failed; the body's comes last.
    pub fn errors(&self) -> &[TaskError<E>] {
        &self.errors
    }

    /// The errors, by value.
    pub fn into_errors(self) -> Vec<TaskError<E>> {
        self.errors
    }

    /// Makes a group that was cancelled no error, as in asyncio: `.or_else(GroupError::unless_cancelled)?`.
    ///
    /// # Errors
    ///
    /// Itself, if it holds any error.
    pub fn unless_cancelled(self) -> Result<(), Self> {
        if self.is_cancelled() { Ok(()) } else { Err(self) }
    }
}

impl<E: fmt::Display> fmt::Display for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = match self.errors.len() {
            0 => return f.write_str("the task group was cancelled before its body had ended"),
            1 => "1 error",
            more => &format!("{more} errors"),
        };
        write!(f, "{count} in a task group: ")?;
        for (index, error) in self.errors.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl<E: fmt::Debug> fmt::Debug for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GroupError").field(&self.errors).finish()
    }
}

// Without a source, as `TaskError`: it says itself what it holds.
impl<E: fmt::Debug + fmt::Display> Error for GroupError<E> {}
