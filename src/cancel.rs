//! Cancelling a task, and catching it in order to clean up.
//!
//! A cancel is a request. It is delivered when the task gets its next turn, never inside its own poll, so a poll
//! that completes wins. How it is delivered depends on the task's *scopes*, the [`catch_cancel`] futures that are
//! under way in it. They form a tree: a scope's parent is the scope whose poll it was first polled in, and
//! `join!` or `FuturesUnordered` make siblings.
//!
//! - Without a scope the task's future is dropped, unpolled, and the task ends cancelled.
//! - With scopes, every *leaf* (a scope without an unfinished scope inside) is flagged and woken. When it is
//!   polled it drops its inner future and returns `Err(Cancelled)`. The request is spent: the task goes on.
//! - [`Cancelled::resume`] raises it again one scope further out: it flags the nearest scope around, which is
//!   then a leaf; where there is none, it ends the task as above, with the scopes that stand beside it.
//!
//! A scope that is dropped (by `timeout`, `select!`, or a scope around it) leaves the tree and sees nothing.
//!
//! A [`Cancelled`] that is dropped by whoever caught it is refused. One that goes together with the future that holds it, because
//! a timeout is over or a group ends, is still in hand: its holder was cleaning up. Whoever cuts the future off raises it again
//! ([`Cut`]), or the task would never hear of it. What waits inside of this crate and never refuses asks again also if somebody
//! else drops it ([`Postponed`]).
//!
//! A request that no scope has caught when the woken task is polled is delivered again, if that task has another turn coming, or
//! else ends it: the flagged scopes were dropped, or are kept by somebody who does not poll them.
//!
//! # How asyncio's rules map
//!
//! asyncio throws an exception into the coroutine and needs counters to find out whose cancel it was. Here a cancel of
//! the task is delivered to scopes, and everything else that ends a part of a task *drops* that part. So no part can
//! take another's request for its own, and only the rows with "counter" below need one.
//!
//! | row | asyncio | here |
//! |---|---|---|
//! | X01 `cancel` | throws at the next step; what is awaited is cancelled first | flags the leaf scopes at the next turn, or drops the future; what is awaited by value is asked to end by that drop, and ends afterwards |
//! | X01 delivered once | an exception that is caught is gone | a flag that a scope has returned is gone |
//! | X01 before the first step | the body never runs | a lazy task's future is dropped unpolled; an eager one has run |
//! | X02 `CancelledError` | a `BaseException`, so `except Exception` lets it pass | not in the task's output type: no `?` and no `match` on errors meets it |
//! | X02 re-raise | `raise` | [`Cancelled::resume`]: the scope around is flagged, at last the task ends |
//! | X03 `cancelling`, `uncancel` | the counter that `timeout` and `TaskGroup` keep their books in | the counter of requests, for users; here it is only asked whether all were taken back |
//! | X04 group, a child fails | cancels siblings and the parent, then withdraws that with `uncancel` | cancels siblings and drops the body, which is no cancel of the parent: nothing to withdraw |
//! | X04 group, the end | waits in `__aexit__` | the scope's future waits, inside a scope of its own |
//! | X05 outside cancel | recognised by the counter; re-armed if there are errors too | caught by the group's own scope, which cancels the children and waits; then it is resumed, or, with errors, asked for again at the parent's next turn; so is one that the body had in hand when a child failed |
//! | X07 `TaskGroup.cancel` | as a child's failure, without an error | the same |
//! | X08 `timeout` | cancels the task, converts if it was the only new request | drops the future; nested ones own different futures, so the one that fired converts |
//! | X08 an outside cancel that the body still cleans up after | the counter says that it was not the only request: `CancelledError` | the `Cancelled` in the body's hands is raised again, instead of `TimedOut`; one that it has dropped is refused and stays so |
//! | X08 a body that swallows | no `TimeoutError` though `expired()` | cannot swallow: a dropped future runs no code but `Drop` |
//! | X09 `wait_for` | cancels and waits inside `timeout` | cancels the *task* it waits for, which may catch that in scopes of its own, and waits for its end |
//! | X10 `shield` | an outer future that can be cancelled alone | an await that does not own the task |

use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use crate::{places::Places, scheduler, task::TaskRef};

/// The scopes that are under way in one task, innermost last, and the one being polled.
#[derive(Default)]
pub(crate) struct Scopes {
    live: Places<Rc<Scope>>,
    current: Option<Rc<Scope>>,
    took: bool,
    /// A future of the task is being cut off.
    cutting: bool,
    /// What it had in hand.
    in_hand: Option<Cancelled>,
    /// The task ends, and what its future has in hand goes with it.
    ending: bool,
    /// [`cancel_leaves`], from the first scope on. By a pointer: a program that has none has nothing of it.
    cancel: Option<fn(&TaskRef) -> bool>,
}

impl Scopes {
    /// Whether a scope has caught the last request.
    pub(crate) fn took(&self) -> bool {
        self.took
    }

    pub(crate) fn end(&mut self) {
        self.ending = true;
    }
}

struct Scope {
    /// Its place among those of its task.
    key: Cell<u64>,
    parent: Option<Rc<Scope>>,
    /// Unfinished scopes directly inside.
    children: Cell<usize>,
    cancelled: Cell<bool>,
    message: RefCell<Option<Arc<str>>>,
    waker: RefCell<Option<Waker>>,
}

impl Scope {
    fn flag(&self, task: &TaskRef, message: Option<Arc<str>>) {
        self.cancelled.set(true);
        *self.message.borrow_mut() = message;
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            task.scheduler().wake(waker);
        }
    }
}

impl TaskRef {
    /// Hands a cancel to the task's leaf scopes; whether there was one.
    pub(crate) fn cancel_scopes(&self) -> bool {
        let cancel = self.read_cold(|cold| cold.scopes.cancel).flatten();
        cancel.is_some_and(|cancel| cancel(self))
    }
}

fn cancel_leaves(task: &TaskRef) -> bool {
    let leaves: Vec<_> = task
        .read_cold(|cold| cold.scopes.live.iter().filter(|s| s.children.get() == 0).cloned().collect())
        .unwrap_or_default();
    if leaves.is_empty() {
        return false;
    }
    task.cold(|cold| cold.scopes.took = false);
    let message = task.read_cold(|cold| cold.cancel_message.clone()).flatten();
    for leaf in &leaves {
        leaf.flag(task, message.clone());
    }
    true
}

/// The task was asked to end. Mirrors `asyncio.CancelledError`.
///
/// Whoever got one and has cleaned up passes it on with [`resume`](Self::resume), or drops it, goes on and so refuses. While it is
/// kept it is not refused: when a [`timeout`](crate::timeout()) around is over, or the [`TaskGroup`](crate::TaskGroup) whose body this
/// is ends, it goes on from there.
#[derive(Clone, Debug)]
#[doc(alias = "CancelledError")]
pub struct Cancelled {
    message: Option<Arc<str>>,
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        let Some(task) = scheduler::running() else { return };
        let is_cut = task.read_cold(|cold| cold.scopes.cutting && cold.scopes.in_hand.is_none());
        // A request that was taken back is none any more.
        if is_cut == Some(true) && task.cancelling() > 0 {
            let message = self.message.take();
            task.cold(|cold| cold.scopes.in_hand = Some(Self { message }));
        }
    }
}

/// While this lives, a future of the running task is dropped before its end, by somebody who goes on.
pub(crate) struct Cut {
    task: Option<TaskRef>,
}

impl Cut {
    pub(crate) fn begin() -> Self {
        let task = scheduler::running().filter(|task| {
            // Without a scope nothing was ever caught.
            task.read_cold(|cold| cold.scopes.cancel.is_some()) == Some(true)
        });
        if let Some(task) = &task {
            task.cold(|cold| cold.scopes.cutting = true);
        }
        Self { task: task.map(|task| TaskRef::clone(&task)) }
    }

    /// The request that the future had in hand, or has raised again in this poll.
    pub(crate) fn end(self) -> Option<Cancelled> {
        self.finish().or_else(|| {
            let task = self.task.as_ref()?;
            let message = task.read_cold(|cold| match &cold.scopes.current {
                Some(around) if around.cancelled.get() => Some(around.message.borrow().clone()),
                _ => cold.resumed.then(|| cold.cancel_message.clone()),
            });
            message.flatten().map(|message| Cancelled { message })
        })
    }

    fn finish(&self) -> Option<Cancelled> {
        self.task.as_ref()?.cold(|cold| {
            cold.scopes.cutting = false;
            cold.scopes.in_hand.take()
        })
    }
}

impl Drop for Cut {
    /// Also when the future's destructor panics.
    fn drop(&mut self) {
        drop(self.finish());
    }
}

/// A request that is kept until what a group, or a race, waits for has ended. If its wait is dropped before, it is asked for again.
#[derive(Default)]
pub(crate) struct Postponed(Option<(TaskRef, Cancelled)>);

impl Postponed {
    /// The first one counts, as with requests that come in one turn.
    pub(crate) fn put(&mut self, request: Cancelled) {
        if let (None, Some(task)) = (&self.0, scheduler::running()) {
            self.0 = Some((TaskRef::clone(&task), request));
        }
    }

    pub(crate) fn take(&mut self) -> Option<Cancelled> {
        self.0.take().map(|(_, request)| request)
    }
}

impl Drop for Postponed {
    fn drop(&mut self) {
        let Some((task, request)) = self.0.take() else { return };
        let is_here = scheduler::running().is_some_and(|running| running.as_ptr() == task.as_ptr());
        let is_told = task.read_cold(|cold| cold.scopes.cutting || cold.scopes.ending) == Some(true);
        if is_here && !is_told && task.cancelling() > 0 {
            request.rearm();
        }
    }
}

impl Cancelled {
    /// The message that was given to [`Task::cancel_with`](crate::Task::cancel_with).
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// Goes on being cancelled: never returns, and ends the nearest [`catch_cancel`] around, or at last the task.
    ///
    /// Like `raise` at the end of `except CancelledError`. To be awaited in the task that was cancelled.
    pub async fn resume(self) -> std::convert::Infallible {
        self.raise();
        std::future::pending().await
    }

    /// [`resume`](Self::resume), without the wait for what it does.
    pub(crate) fn raise(mut self) {
        let message = self.message.take();
        if let Some(task) = scheduler::running() {
            match task.read_cold(|cold| cold.scopes.current.clone()).flatten() {
                Some(scope) => scope.flag(&task, message),
                // The same request as before, so it is not counted again.
                None => task.resume_end(message),
            }
        }
    }

    /// Goes on being cancelled at the next await of the running task, whatever that is.
    pub(crate) fn rearm(mut self) {
        let message = self.message.take();
        if let Some(task) = scheduler::running() {
            task.request_end(message);
        }
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            None => f.write_str("cancelled"),
            Some(message) => write!(f, "cancelled: {message}"),
        }
    }
}

impl Error for Cancelled {}

/// Runs `future`; a cancel of the task drops it and gives `Err(Cancelled)`, so that the task can clean up.
///
/// Like `try: .. except CancelledError:` around an await. The cancel is then spent: the task goes on until it is
/// cancelled again or calls [`Cancelled::resume`]. Scopes may be nested and may stand side by side; a cancel
/// reaches all innermost ones. One that is kept and not polled catches nothing: the cancel then ends the task. Outside of a task
/// of a loop nothing is ever cancelled.
///
/// **Difference**: to refuse takes no `uncancel`. asyncio's `timeout` and `TaskGroup` raise a cancel again that was caught inside of
/// them and not taken back.
///
/// ```
/// use selkie::{catch_cancel, sleep, spawn};
/// use std::time::Duration;
///
/// selkie::run(async {
///     let task = spawn(async {
///         if let Err(cancelled) = catch_cancel(sleep(Duration::from_secs(60))).await {
///             sleep(Duration::from_millis(1)).await; // cleaning up may await
///             cancelled.resume().await;
///         }
///     });
///     task.cancel();
///     assert!(task.await.unwrap_err().is_cancelled());
/// });
/// ```
pub fn catch_cancel<F: Future>(future: F) -> CatchCancel<F> {
    CatchCancel { future: Some(future), scope: None }
}

/// The future of [`catch_cancel`].
#[must_use = "futures do nothing unless awaited"]
pub struct CatchCancel<F> {
    future: Option<F>,
    scope: Option<(TaskRef, Rc<Scope>)>,
}

impl<F> fmt::Debug for CatchCancel<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CatchCancel")
    }
}

/// Makes the outer scope the current one again, also when the inner future panics.
struct Restore<'a> {
    outer: Option<Rc<Scope>>,
    task: &'a TaskRef,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        let inner = self.task.cold(|cold| std::mem::replace(&mut cold.scopes.current, self.outer.take()));
        drop(inner);
    }
}

/// Takes the scope out of its task's tree.
fn leave(task: &TaskRef, scope: &Rc<Scope>) {
    if let Some(parent) = &scope.parent {
        parent.children.set(parent.children.get() - 1);
    }
    let gone = task.cold(|cold| cold.scopes.live.remove(scope.key.get()));
    drop(gone);
}

impl<F: Future> Future for CatchCancel<F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: `future` is pinned with `self` and only ever dropped in place; `scope` is not pinned.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        let mut future = unsafe { Pin::new_unchecked(&mut this.future) };
        let Some(running) = future.as_mut().as_pin_mut() else {
            panic!("`catch_cancel` polled after it has completed")
        };
        let Some(task) = scheduler::running() else { return running.poll(cx).map(Ok) };
        let scope = match &this.scope {
            // A future that moved to another task is caught there.
            Some((of, scope)) if of.as_ptr() == task.as_ptr() => scope.clone(),
            _ => {
                if let Some((of, scope)) = this.scope.take() {
                    leave(&of, &scope);
                }
                let parent = task.cold(|cold| cold.scopes.current.clone());
                if let Some(parent) = &parent {
                    parent.children.set(parent.children.get() + 1);
                }
                let scope = Rc::new(Scope {
                    key: Cell::new(0),
                    parent,
                    children: Cell::new(0),
                    cancelled: Cell::new(false),
                    message: RefCell::default(),
                    waker: RefCell::default(),
                });
                task.cold(|cold| {
                    scope.key.set(cold.scopes.live.insert(scope.clone()));
                    cold.scopes.cancel = Some(cancel_leaves);
                });
                this.scope = Some((TaskRef::clone(&task), scope.clone()));
                scope
            }
        };
        if scope.cancelled.get() {
            task.cold(|cold| cold.scopes.took = true);
            // What is in hand inside is given up for this one.
            let cut = Cut::begin();
            future.set(None);
            drop(cut);
            leave(&task, &scope);
            this.scope = None;
            let message = scope.message.borrow_mut().take();
            return Poll::Ready(Err(Cancelled { message }));
        }
        let restore =
            Restore { outer: task.cold(|cold| cold.scopes.current.replace(scope.clone())), task: &task };
        let polled = running.poll(cx);
        drop(restore);
        match polled {
            Poll::Ready(value) => {
                leave(&task, &scope);
                this.scope = None;
                future.set(None);
                if scope.cancelled.get() {
                    // Raised again inside, beside what has completed.
                    Cancelled { message: scope.message.take() }.rearm();
                }
                Poll::Ready(Ok(value))
            }
            Poll::Pending => {
                // The old waker is dropped outside of the borrow: its destructor may cancel the task.
                let waker = cx.waker().clone();
                drop(scope.waker.replace(Some(waker)));
                if scope.cancelled.get() {
                    // Flagged from inside, by a `resume`.
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }
}

impl<F> Drop for CatchCancel<F> {
    fn drop(&mut self) {
        if let Some((task, scope)) = self.scope.take() {
            leave(&task, &scope);
            if scope.cancelled.get() {
                // Raised again inside, and not caught here yet.
                drop(Cancelled { message: scope.message.take() });
            }
        }
    }
}
