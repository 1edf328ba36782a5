//! A result that somebody sets by hand.
//!
//! The two sides are two types, so that a result which nobody can set any more is noticed: resolvers hold the shared
//! part weakly and are counted, the waiting side owns it.

use std::{
    cell::{Cell, OnceCell, RefCell},
    convert::Infallible,
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
};

use crate::{
    IntoTask, context,
    error::{InvalidState, JoinError, TaskError},
    event_loop::{EventLoop, Owner},
    places::Borrowers,
    scheduler::{self, with_current},
    task::{AnyTask, spawn, waits_for_text},
};

type Outcome<T, E> = Result<T, TaskError<E>>;

type OnDone<T, E> = Box<dyn FnOnce(&Outcome<T, E>)>;

/// A result that a [`Resolver`] sets: what bridges callbacks and awaits.
///
/// Mirrors [`asyncio.Future`](https://docs.python.org/3/library/asyncio-future.html#asyncio.Future), and JavaScript's
/// `Promise.withResolvers`. Several may wait with `(&deferred).await` and get references; `deferred.await` gets the value.
/// It is bound to a thread, not to a loop.
///
/// **Difference**: there are two sides. asyncio's one object lets everybody wait for ever when whoever was to set it is
/// gone; here the last [`Resolver`] that goes ends the wait with an error that
/// [says so](JoinError::is_abandoned). And a resolver learns that nobody waits: dropping the `Deferred` finishes it.
///
/// An error that was set and that nobody looked at is reported when the `Deferred` is dropped.
///
/// # Examples
///
/// ```
/// use selkie::{Deferred, EventLoop};
/// use std::time::Duration;
///
/// selkie::run(async {
///     let (resolver, answer) = Deferred::<u32>::new();
///     let event_loop = EventLoop::current().unwrap();
///     let _ = event_loop.call_later(Duration::from_millis(1), move || resolver.set_result(42).unwrap());
///     assert_eq!(answer.await.unwrap(), 42);
/// });
/// ```
#[doc(alias("Future", "Promise", "withResolvers", "create_future", "oneshot"))]
#[must_use = "dropping a `Deferred` tells its resolvers that nobody waits"]
pub struct Deferred<T, E = Infallible> {
    shared: Rc<Shared<T, E>>,
    /// The task that will set it, if one does.
    source: Option<Source>,
}

/// Asks the task to end when the result is not wanted any more: once, as to ask again would cut short what it does to end.
struct Source {
    task: AnyTask,
    asked: Cell<bool>,
}

impl Drop for Source {
    fn drop(&mut self) {
        if !self.asked.get() {
            self.task.cancel_with_owner();
        }
    }
}

struct Callback<T, E> {
    call: OnDone<T, E>,
    event_loop: Weak<Owner>,
}

struct Shared<T, E> {
    outcome: OnceCell<Outcome<T, E>>,
    /// Resolvers that are left.
    resolvers: Cell<usize>,
    borrowers: RefCell<Borrowers>,
    callbacks: RefCell<Vec<Callback<T, E>>>,
    /// Callbacks are queued: those who wait go on when these have run.
    calling: Cell<usize>,
    observed: Cell<bool>,
}

impl<T: 'static, E: 'static> Shared<T, E> {
    /// Sets the outcome; gives the wakers of those who wait, or an outcome that comes too late: both run code of users, and that
    /// must be when no reference to `self` is held.
    fn settle(self: &Rc<Self>, outcome: Outcome<T, E>) -> Result<Vec<Waker>, Outcome<T, E>> {
        self.outcome.set(outcome)?;
        let callbacks = std::mem::take(&mut *self.callbacks.borrow_mut());
        if callbacks.is_empty() {
            return Ok(self.take_borrowers());
        }
        // Held here too, so that callbacks that are dropped with their loop do not end the count early.
        let mut first = Calling::new(self);
        for callback in callbacks {
            self.queue(callback);
        }
        Ok(first.end())
    }

    fn queue(self: &Rc<Self>, callback: Callback<T, E>) {
        self.observed.set(true);
        let calling = Calling::new(self);
        let call = move || {
            let shared = calling.0.as_ref().expect("it is there until it is dropped");
            if let Some(outcome) = shared.outcome.get() {
                (callback.call)(outcome);
            }
        };
        if let Some(event_loop) = EventLoop::upgrade(&callback.event_loop) {
            // A closed loop calls nothing any more.
            let _ = event_loop.call_soon(call);
        }
    }
}

impl<T, E> Shared<T, E> {
    fn take_borrowers(&self) -> Vec<Waker> {
        self.borrowers.borrow_mut().take().collect()
    }

    fn is_ready(&self) -> bool {
        self.calling.get() == 0 && self.outcome.get().is_some()
    }

    fn poll_ready(&self, key: &mut Option<u64>, cx: &Context<'_>) -> Poll<()> {
        if self.is_ready() {
            return Poll::Ready(());
        }
        static RESOLVER: &str = "a resolver";
        waits_for_text(&RESOLVER);
        let waker = cx.waker().clone();
        let old = self.borrowers.borrow_mut().add(key, waker);
        drop(old);
        Poll::Pending
    }

    fn forget(&self, key: Option<u64>) {
        let Some(key) = key else { return };
        let gone = self.borrowers.borrow_mut().remove(key);
        drop(gone);
    }
}

impl<T, E> Drop for Shared<T, E> {
    fn drop(&mut self) {
        if matches!(self.outcome.get(), Some(Err(TaskError::Failed(_)))) && !self.observed.get() {
            let message = format!(
                "the error of a Deferred was set, and nobody looked at it ({})",
                std::any::type_name::<E>()
            );
            if with_current(|scheduler| scheduler.report(&message, None)).is_none() {
                crate::os::report(&message);
            }
        }
    }
}

/// A callback that is queued; the last one that goes lets those who wait go on.
struct Calling<T, E>(Option<Rc<Shared<T, E>>>);

impl<T, E> Calling<T, E> {
    fn new(shared: &Rc<Shared<T, E>>) -> Self {
        shared.calling.set(shared.calling.get() + 1);
        Self(Some(shared.clone()))
    }

    /// Uncounts it, once; gives the wakers of those who may go on.
    fn end(&mut self) -> Vec<Waker> {
        let Some(shared) = self.0.take() else { return Vec::new() };
        shared.calling.set(shared.calling.get() - 1);
        if shared.calling.get() == 0 { shared.take_borrowers() } else { Vec::new() }
    }
}

impl<T, E> Drop for Calling<T, E> {
    fn drop(&mut self) {
        // It is not held here any more: whoever is woken may be polled at once, and takes the value out of the only reference.
        wake_all(self.end());
    }
}

fn wake_all(wakers: Vec<Waker>) {
    let mut wakers = wakers.into_iter();
    scheduler::wake_all(&mut || wakers.next());
}

impl<T: 'static, E: 'static> Deferred<T, E> {
    /// The two sides of a result that is not there yet. Mirrors `loop.create_future`.
    pub fn new() -> (Resolver<T, E>, Self) {
        let shared = Rc::new(Shared {
            outcome: OnceCell::new(),
            resolvers: Cell::new(1),
            borrowers: RefCell::default(),
            callbacks: RefCell::default(),
            calling: Cell::new(0),
            observed: Cell::new(false),
        });
        (Resolver { shared: Rc::downgrade(&shared) }, Self { shared, source: None })
    }

    /// One whose result a task gives, or a future that is spawned as one.
    ///
    /// Dropping or cancelling it asks the task to end. Where a future is asked for, a `Deferred` is one by
    /// `deferred.into_future()`.
    ///
    /// ```
    /// use selkie::Deferred;
    ///
    /// selkie::run(async {
    ///     let shared = Deferred::from_future(async { Ok::<_, String>(1) });
    ///     assert_eq!((&shared).await.unwrap(), &1);
    ///     assert_eq!((&shared).await.unwrap(), &1);
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// As [`spawn`].
    #[track_caller]
    pub fn from_future(source: impl IntoTask<Output = Result<T, E>>) -> Self {
        let (resolver, mut deferred) = Self::new();
        let result = match source.into_task().try_into_result() {
            Ok(result) => result,
            Err(task) => {
                let source = task.any();
                let driver = spawn(async move {
                    let result = task.await;
                    if resolver.is_finished() {
                        // Nobody waits any more. What the task gives goes, but a panic is not lost.
                        match result {
                            Err(error) if error.is_panic() => {
                                with_current(|scheduler| scheduler.report(&error.to_string(), None));
                            }
                            _ => {}
                        }
                        return;
                    }
                    let _ = resolver.set(flatten(result));
                });
                driver.raw().mark_quiet();
                driver.detach();
                deferred.source = Some(Source { task: source, asked: Cell::new(false) });
                return deferred;
            }
        };
        let _ = resolver.set(flatten(result));
        deferred
    }

    /// Whether there is a result: set, cancelled, or abandoned.
    #[doc(alias = "done")]
    pub fn is_finished(&self) -> bool {
        self.shared.outcome.get().is_some()
    }

    /// Whether it was cancelled.
    #[doc(alias = "cancelled")]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.shared.outcome.get(), Some(Err(TaskError::Join(error))) if error.is_cancelled())
    }

    /// The result, without waiting. Looking at an error counts as having been told.
    ///
    /// # Errors
    ///
    /// [`InvalidState::Pending`] while there is none.
    #[doc(alias = "exception")]
    pub fn result(&self) -> Result<Result<&T, &TaskError<E>>, InvalidState> {
        let outcome = self.shared.outcome.get().ok_or(InvalidState::Pending)?;
        self.shared.observed.set(true);
        Ok(outcome.as_ref())
    }

    /// Finishes it with an error that says cancelled; whether it was still pending. Mirrors `Future.cancel`.
    pub fn cancel(&self) -> bool {
        let settled = self.shared.settle(Err(TaskError::Join(JoinError::cancelled(None))));
        let Ok(wakers) = settled else { return false };
        if let Some(source) = &self.source {
            source.asked.set(true);
            source.task.cancel();
        }
        wake_all(wakers);
        true
    }

    /// Calls `callback` with the result, at a turn of the loop that runs now, also if it is there already.
    ///
    /// As [`Task::on_done`](crate::Task::on_done): in the order in which they were added, before whoever waits goes on,
    /// with the context of this moment, and each despite a panic of another. A loop that has closed calls nothing.
    ///
    /// # Panics
    ///
    /// If no loop runs on this thread.
    #[doc(alias = "add_done_callback")]
    #[track_caller]
    pub fn on_done(&self, callback: impl FnOnce(&Result<T, TaskError<E>>) + 'static) {
        let Some(event_loop) = EventLoop::current().or_else(crate::os::default_loop) else {
            panic!("no event loop runs on this thread: add the callback inside `selkie::run`")
        };
        let context = context::Context::current();
        let call = Box::new(move |outcome: &Outcome<T, E>| context.run(|| callback(outcome)));
        let callback = Callback { call, event_loop: event_loop.downgrade() };
        if self.is_finished() {
            self.shared.queue(callback);
        } else {
            self.shared.callbacks.borrow_mut().push(callback);
        }
    }
}

fn flatten<T, E>(result: Result<Result<T, E>, JoinError>) -> Outcome<T, E> {
    match result {
        Ok(result) => result.map_err(TaskError::Failed),
        Err(error) => Err(TaskError::Join(error)),
    }
}

impl<T, E> fmt::Debug for Deferred<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.shared.outcome.get() {
            None => "pending",
            Some(Ok(_)) => "finished",
            Some(Err(TaskError::Failed(_))) => "failed",
            Some(Err(TaskError::Join(error))) if error.is_cancelled() => "cancelled",
            Some(Err(TaskError::Join(error))) if error.is_abandoned() => "abandoned",
            Some(Err(TaskError::Join(_))) => "failed",
        };
        f.debug_struct("Deferred").field("state", &format_args!("{state}")).finish_non_exhaustive()
    }
}

/// The side of a [`Deferred`] that sets the result. Clones set the same result: the first one wins.
///
/// When the last one is dropped with no result set, those who wait get an error.
#[must_use = "dropping the last resolver ends the wait with an error"]
pub struct Resolver<T: 'static, E: 'static = Infallible> {
    shared: Weak<Shared<T, E>>,
}

impl<T, E> Resolver<T, E> {
    fn set(&self, outcome: Outcome<T, E>) -> Result<(), InvalidState> {
        let Some(shared) = self.shared.upgrade() else { return Err(InvalidState::Set) };
        let settled = shared.settle(outcome);
        // Whoever is woken may be polled at once, and takes the value out of the only reference.
        drop(shared);
        let wakers = settled.map_err(|_refused| InvalidState::Set)?;
        wake_all(wakers);
        Ok(())
    }

    /// Sets the value.
    ///
    /// # Errors
    ///
    /// [`InvalidState::Set`] if there is a result already, or nobody waits any more: the value is dropped.
    pub fn set_result(&self, value: T) -> Result<(), InvalidState> {
        self.set(Ok(value))
    }

    /// Sets an error.
    ///
    /// # Errors
    ///
    /// [`InvalidState::Set`] if there is a result already, or nobody waits any more: the error is dropped.
    pub fn set_exception(&self, error: E) -> Result<(), InvalidState> {
        self.set(Err(TaskError::Failed(error)))
    }

    /// Finishes it with an error that says cancelled; whether it was still pending.
    pub fn cancel(&self) -> bool {
        self.set(Err(TaskError::Join(JoinError::cancelled(None)))).is_ok()
    }

    /// Whether a result is set, or nobody waits any more.
    pub fn is_finished(&self) -> bool {
        self.shared.upgrade().is_none_or(|shared| shared.outcome.get().is_some())
    }
}

impl<T, E> Clone for Resolver<T, E> {
    fn clone(&self) -> Self {
        if let Some(shared) = self.shared.upgrade() {
            shared.resolvers.set(shared.resolvers.get() + 1);
        }
        Self { shared: self.shared.clone() }
    }
}

impl<T: 'static, E: 'static> Drop for Resolver<T, E> {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        shared.resolvers.set(shared.resolvers.get() - 1);
        let last = shared.resolvers.get() == 0;
        drop(shared);
        if last {
            // Fails if a result is set, and then nobody has to be told.
            let _ = self.set(Err(TaskError::Join(JoinError::ABANDONED)));
        }
    }
}

impl<T, E> fmt::Debug for Resolver<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}

/// The future of `deferred.await`. Dropping it drops the [`Deferred`].
#[must_use = "futures do nothing unless awaited"]
pub struct Settled<T, E = Infallible> {
    /// `None` once the value was given out.
    deferred: Option<Deferred<T, E>>,
    key: Option<u64>,
}

impl<T, E> IntoFuture for Deferred<T, E> {
    type Output = Result<T, TaskError<E>>;
    type IntoFuture = Settled<T, E>;

    fn into_future(self) -> Settled<T, E> {
        Settled { deferred: Some(self), key: None }
    }
}

// The value is never pinned.
impl<T, E> Unpin for Settled<T, E> {}

impl<T, E> Future for Settled<T, E> {
    type Output = Result<T, TaskError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(deferred) = &this.deferred else {
            panic!("a deferred polled after it has given its result")
        };
        if deferred.shared.poll_ready(&mut this.key, cx).is_pending() {
            return Poll::Pending;
        }
        let deferred = this.deferred.take().expect("it was there above");
        let mut shared = Rc::into_inner(deferred.shared).expect("nobody else holds it between calls");
        Poll::Ready(shared.outcome.take().expect("it is ready"))
    }
}

impl<T, E> fmt::Debug for Settled<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Settled").field(&self.deferred).finish()
    }
}

/// The future of `(&deferred).await`.
#[must_use = "futures do nothing unless awaited"]
pub struct SettledRef<'a, T, E = Infallible> {
    deferred: &'a Deferred<T, E>,
    key: Option<u64>,
}

impl<'a, T, E> IntoFuture for &'a Deferred<T, E> {
    type Output = Result<&'a T, &'a TaskError<E>>;
    type IntoFuture = SettledRef<'a, T, E>;

    fn into_future(self) -> SettledRef<'a, T, E> {
        SettledRef { deferred: self, key: None }
    }
}

impl<'a, T, E> Future for SettledRef<'a, T, E> {
    type Output = Result<&'a T, &'a TaskError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let deferred = self.deferred;
        if deferred.shared.poll_ready(&mut self.key, cx).is_pending() {
            return Poll::Pending;
        }
        deferred.shared.observed.set(true);
        Poll::Ready(deferred.shared.outcome.get().expect("it is ready").as_ref())
    }
}

impl<T, E> Drop for SettledRef<'_, T, E> {
    fn drop(&mut self) {
        self.deferred.shared.forget(self.key);
    }
}

impl<T, E> fmt::Debug for SettledRef<'_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SettledRef").field(&self.deferred).finish()
    }
}
