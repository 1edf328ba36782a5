//! The result of a future of an executor: it stays in the memory of the future's task, so that a spawn allocates once.
//!
//! # The protocol
//!
//! The task of `async-executor` gives one result to one who polls for it. That is most of what a
//! [`RemoteTask`](crate::RemoteTask) does, but callbacks, and a cancel by one that is only borrowed, need a place that both ends
//! have. So the first of these makes one: a cell as others have from the beginning, and a [`Forward`], which has the task from
//! then on, waits for it as its waker, and gives its result to the cell. That happens in the thread where the task has ended, so
//! callbacks run there. Who has left a waker in the task before has it in the cell afterwards.
//!
//! *One polls at a time*, and a wake may come from within the poll. So who wants it polled counts up, and polls if it was zero;
//! it polls again until nobody has counted meanwhile.
//!
//! *The forward and the cell* keep each other until the task has ended. It does: it runs, or is dropped with its executor.

#![expect(
    clippy::disallowed_types,
    reason = "threads may wait for these locks, and hold them for a few instructions"
)]

use std::{
    future::Future,
    mem,
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

type Output<T> = Result<T, JoinError>;

/// The cell, and what begins to wait for the task.
type Share<T> = fn(FallibleTask<Output<T>>, Option<Waker>) -> (Arc<Shared<T>>, Waker);

/// See the module. Dropping it detaches.
pub(crate) struct Carried<T: Send> {
    state: Mutex<State<T>>,
    /// Makes [`State::Shared`], where it is known that `T` may live for ever.
    forward: Share<T>,
}

enum State<T: Send> {
    /// With the waker that the task has.
    Task(FallibleTask<Output<T>>, Option<Waker>),
    Shared(Arc<Shared<T>>),
    /// `None` once it was taken.
    Done(Option<Output<T>>),
}

impl<T: Send + 'static> Carried<T> {
    pub(crate) fn new(task: Task<Output<T>>) -> Self {
        Self { state: Mutex::new(State::Task(task.fallible(), None)), forward }
    }
}

impl<T: Send> Carried<T> {
    fn get(&mut self) -> &mut State<T> {
        self.state.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_finished(&self) -> bool {
        match &*lock(&self.state) {
            State::Task(task, _) => task.is_finished(),
            State::Shared(shared) => shared.is_finished(),
            State::Done(_) => true,
        }
    }

    /// Whether the result may be taken.
    pub(crate) fn is_done(&self) -> bool {
        match &*lock(&self.state) {
            State::Task(task, _) => task.is_finished(),
            State::Shared(shared) => shared.is_done(),
            State::Done(_) => true,
        }
    }

    /// As [`is_done`](Self::is_done). Registers `waker`, instead of any before, for the time when it may.
    pub(crate) fn poll_done(&mut self, waker: &Waker) -> bool {
        let state = self.get();
        match state {
            State::Task(task, left) => match Pin::new(task).poll(&mut Context::from_waker(waker)) {
                Poll::Ready(result) => {
                    *state = State::Done(Some(result.unwrap_or(Err(JoinError::LOST))));
                    true
                }
                Poll::Pending => {
                    match left {
                        Some(left) => left.clone_from(waker),
                        None => *left = Some(waker.clone()),
                    }
                    false
                }
            },
            State::Shared(shared) => shared.poll_done(waker),
            State::Done(_) => true,
        }
    }

    /// The result, if it was not taken, or the cell that it is in. It [is done](Self::is_done).
    pub(crate) fn take(&mut self) -> Result<Option<Output<T>>, &Shared<T>> {
        if let State::Task(..) = self.get() {
            self.poll_done(Waker::noop());
        }
        match self.get() {
            State::Task(..) => Ok(None),
            State::Shared(shared) => Err(shared),
            State::Done(result) => Ok(result.take()),
        }
    }

    /// The cell for callbacks and a cancel; `None` once the result was taken.
    pub(crate) fn share(&self) -> Option<Arc<Shared<T>>> {
        let mut state = lock(&self.state);
        let (shared, begin) = match mem::replace(&mut *state, State::Done(None)) {
            State::Task(task, waker) => {
                let (shared, begin) = (self.forward)(task, waker);
                (shared, Some(begin))
            }
            State::Shared(shared) => (shared, None),
            State::Done(None) => return None,
            State::Done(Some(result)) => {
                let (producer, shared) = cell_of(None, Elsewhere::default());
                producer.give(result);
                (shared, None)
            }
        };
        *state = State::Shared(shared.clone());
        drop(state);
        // Not before, as it may wake others, which may come here.
        if let Some(begin) = begin {
            begin.wake();
        }
        Some(shared)
    }
}

impl<T: Send> Drop for Carried<T> {
    fn drop(&mut self) {
        match mem::replace(self.get(), State::Done(None)) {
            // With the result, if it is there.
            State::Task(task, _) => _ = contain(|| task.detach()),
            State::Shared(shared) => shared.leave(),
            State::Done(result) => _ = contain(|| drop(result)),
        }
    }
}

fn forward<T: Send + 'static>(
    task: FallibleTask<Output<T>>,
    waker: Option<Waker>,
) -> (Arc<Shared<T>>, Waker) {
    let forward = Arc::new(Forward {
        calls: AtomicUsize::new(0),
        cancelled: AtomicBool::new(false),
        open: Mutex::new(None),
    });
    let (producer, shared) = cell_of(None, Asked(forward.clone()));
    if let Some(waker) = waker {
        shared.poll_done(&waker);
    }
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
    Runs(FallibleTask<Output<T>>),
    /// It was asked to: it is dropped, or was at its end.
    Ends(Pin<Box<dyn Future<Output = Option<Output<T>>> + Send>>),
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
            Poll::Ready(result) => {
                drop(open);
                match result {
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
