//! The result of a future of an executor: it stays in the memory of the future's task, so that a spawn allocates once.
//!
//! # The protocol
//!
//! The task of `async-executor` gives one result to one who fetches it. That is all that most results are for. But who waits, or has
//! a callback, or cancels what is only borrowed, needs a place that both ends have. So the first of these makes one: a cell as
//! others have from the beginning, and a [`Forward`], which has the task from then on, waits for it as its waker, and gives its
//! result to the cell. That happens in the thread where the task has ended, so callbacks run there.
//!
//! *One polls at a time*, and a wake may come from within the poll. So who wants it polled counts up, and polls if it was zero;
//! it polls again until nobody has counted meanwhile.
//!
//! *The forward and the cell* keep each other until the task has ended. It does: it runs, or is dropped with its executor.
//!
//! *Code of users* that panics within a task of `async-task` ends the process. So that crate never has any: the body of a task
//! catches the future's panics, its waiter is the forward, and an [`Outcome`] that nobody fetches catches what its result does
//! as it goes.

#![expect(
    clippy::disallowed_types,
    reason = "threads may wait for these locks, and hold them for a few instructions"
)]

use std::{
    future::Future,
    mem::{self, ManuallyDrop},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use async_executor::{FallibleTask, Task};

use super::lock;
use crate::{
    error::{JoinError, contain},
    remote::{Elsewhere, Producer, Shared, Work, cell_of},
};

/// What a task comes to.
pub(super) struct Outcome<T>(Option<Result<T, JoinError>>);

impl<T> Outcome<T> {
    pub(super) fn new(result: Result<T, JoinError>) -> Self {
        Self(Some(result))
    }

    /// A task that was dropped has none.
    fn of(ended: Option<Self>) -> Option<Result<T, JoinError>> {
        ManuallyDrop::new(ended?).0.take()
    }
}

impl<T> Drop for Outcome<T> {
    fn drop(&mut self) {
        if let Some(unwanted) = self.0.take() {
            contain(|| drop(unwanted));
        }
    }
}

/// See the module. Dropping it detaches.
pub(crate) struct Carried<T: Send> {
    state: Mutex<State<T>>,
    /// Makes the cell, and what has to be woken for it; here it is not known that `T` may live for ever.
    forward: fn(FallibleTask<Outcome<T>>) -> (Arc<Shared<T>>, Waker),
}

enum State<T: Send> {
    Task(FallibleTask<Outcome<T>>),
    Shared(Arc<Shared<T>>),
    Taken,
}

impl<T: Send + 'static> Carried<T> {
    #[inline]
    pub(super) fn new(task: Task<Outcome<T>>) -> Self {
        Self { state: Mutex::new(State::Task(task.fallible())), forward }
    }
}

/// The result of a task that has ended. Not asked of others, as that leaves a waker.
fn fetch<T>(mut task: FallibleTask<Outcome<T>>) -> Result<T, JoinError> {
    match Pin::new(&mut task).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(ended) => Outcome::of(ended).unwrap_or_else(|| Err(JoinError::LOST)),
        Poll::Pending => Err(JoinError::LOST),
    }
}

impl<T: Send> Carried<T> {
    fn get(&mut self) -> &mut State<T> {
        self.state.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_finished(&self) -> bool {
        match &*lock(&self.state) {
            State::Task(task) => task.is_finished(),
            State::Shared(shared) => shared.is_finished(),
            State::Taken => true,
        }
    }

    /// Whether the result may be taken.
    pub(crate) fn is_done(&self) -> bool {
        match &*lock(&self.state) {
            State::Task(task) => task.is_finished(),
            State::Shared(shared) => shared.is_done(),
            State::Taken => true,
        }
    }

    /// As [`is_done`](Self::is_done). Registers `waker`, instead of any before, for the time when it may.
    #[inline]
    pub(crate) fn poll_done(&mut self, waker: &Waker) -> bool {
        match self.get() {
            State::Task(task) if task.is_finished() => true,
            State::Task(_) => self.share().is_none_or(|shared| shared.poll_done(waker)),
            State::Shared(shared) => shared.poll_done(waker),
            State::Taken => true,
        }
    }

    /// The result, if it was not taken, or the cell that it is in. It [is done](Self::is_done).
    #[inline]
    pub(crate) fn take(&mut self) -> Result<Option<Result<T, JoinError>>, &Shared<T>> {
        let state = self.get();
        if let State::Shared(shared) = state {
            return Err(shared);
        }
        match mem::replace(state, State::Taken) {
            State::Task(task) => Ok(Some(fetch(task))),
            _ => Ok(None),
        }
    }

    /// The cell, for one who waits, a callback or a cancel; `None` once the result was taken.
    #[cold]
    pub(crate) fn share(&self) -> Option<Arc<Shared<T>>> {
        let mut state = lock(&self.state);
        let (shared, begin) = match mem::replace(&mut *state, State::Taken) {
            // What has ended is so in the cell from the first.
            State::Task(task) if task.is_finished() => {
                let (producer, shared) = cell_of(None, Elsewhere::default());
                producer.give(fetch(task));
                (shared, None)
            }
            State::Task(task) => {
                let (shared, begin) = (self.forward)(task);
                (shared, Some(begin))
            }
            State::Shared(shared) => (shared, None),
            State::Taken => return None,
        };
        *state = State::Shared(shared.clone());
        drop(state);
        // Not before, as it may come to callbacks, which may come here.
        if let Some(begin) = begin {
            begin.wake();
        }
        Some(shared)
    }
}

impl<T: Send> Drop for Carried<T> {
    fn drop(&mut self) {
        match mem::replace(self.get(), State::Taken) {
            State::Task(task) => task.detach(),
            State::Shared(shared) => shared.leave(),
            State::Taken => {}
        }
    }
}

fn forward<T: Send + 'static>(task: FallibleTask<Outcome<T>>) -> (Arc<Shared<T>>, Waker) {
    let forward = Arc::new(Forward {
        calls: AtomicUsize::new(0),
        cancelled: AtomicBool::new(false),
        open: Mutex::new(None),
    });
    let (producer, shared) = cell_of(None, Asked(forward.clone()));
    *lock(&forward.open) = Some((Step::Runs(task), producer));
    (shared, Waker::from(forward))
}

/// See the module.
struct Forward<T: Send> {
    /// How often somebody has wanted it polled since it was not.
    calls: AtomicUsize,
    cancelled: AtomicBool,
    /// Until the task has ended. Its lock is never waited for.
    open: Mutex<Option<(Step<T>, Producer<T>)>>,
}

enum Step<T> {
    Runs(FallibleTask<Outcome<T>>),
    /// It was asked to: it is dropped, or was at its end.
    Ends(Pin<Box<dyn Future<Output = Option<Outcome<T>>> + Send>>),
}

impl<T: Send + 'static> Forward<T> {
    fn drive(self: &Arc<Self>) {
        if self.calls.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        loop {
            let calls = self.calls.load(Ordering::Acquire);
            contain(|| self.poll());
            if self.calls.compare_exchange(calls, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return;
            }
        }
    }

    fn poll(self: &Arc<Self>) {
        let mut open = lock(&self.open);
        let Some((mut step, producer)) = open.take() else { return };
        if self.cancelled.load(Ordering::Acquire) {
            step = match step {
                Step::Runs(task) => Step::Ends(Box::pin(task.cancel())),
                ends @ Step::Ends(_) => ends,
            };
        }
        let waker = Waker::from(self.clone());
        let mut cx = Context::from_waker(&waker);
        let polled = match &mut step {
            Step::Runs(task) => Pin::new(task).poll(&mut cx),
            Step::Ends(end) => end.as_mut().poll(&mut cx),
        };
        match polled {
            Poll::Pending => *open = Some((step, producer)),
            Poll::Ready(ended) => {
                drop(open);
                match Outcome::of(ended) {
                    Some(result) => producer.give(result),
                    // It says whether that was a cancel.
                    None => drop(producer),
                }
            }
        }
    }
}

impl<T: Send + 'static> Wake for Forward<T> {
    fn wake(self: Arc<Self>) {
        self.drive();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.drive();
    }
}

struct Asked<T: Send>(Arc<Forward<T>>);

impl<T: Send + 'static> Work for Asked<T> {
    fn cancel(&self) -> bool {
        self.0.cancelled.store(true, Ordering::Release);
        self.0.drive();
        false
    }
}
