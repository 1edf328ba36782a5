//! The tasks that one future waits for: how gather, wait, as_completed and groups learn of an end in O(1).
//!
//! Each member's cell names the `Members` as its awaiter. A member that ends lowers a count and, where somebody
//! wants to know which one it was, is linked to the done list through its own cell. So an end costs no allocation
//! and no search, and the one who waits is woken only when what it waits for is there.
//!
//! A member has ended when its done callbacks have run as well: until then its result cannot be taken.

use std::{
    cell::Cell,
    fmt,
    mem::ManuallyDrop,
    ptr::{self, NonNull},
    rc::Rc,
    task::Waker,
};

use super::{
    Task,
    cell::{Awaiter, Header, TaskRef},
};
use crate::error::TaskError;

/// Looks at a member that has just ended and says whether whoever waits has to know at once.
///
/// # Safety
///
/// The task has its output, of the type that the function expects.
pub(crate) type Urgent = unsafe fn(&TaskRef) -> bool;

#[cfg(test)]
thread_local! {
    /// Members that were looked at.
    static STEPS: Cell<usize> = const { Cell::new(0) };
}

#[inline]
fn count_step() {
    #[cfg(test)]
    STEPS.set(STEPS.get() + 1);
}

pub(crate) struct Members {
    /// Whether there is a done list.
    listing: bool,
    pending: Cell<usize>,
    /// Members that ended, oldest first, linked by `Header::link`. The list counts a reference to each.
    first_done: Cell<Option<NonNull<Header>>>,
    last_done: Cell<Option<NonNull<Header>>>,
    /// Wake when no more than this many are pending.
    wake_at: Cell<usize>,
    urgent: Cell<Option<Urgent>>,
    /// An urgent member is in the done list.
    alarmed: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Members {
    fn new(listing: bool) -> Rc<Self> {
        Rc::new(Self {
            listing,
            pending: Cell::default(),
            first_done: Cell::default(),
            last_done: Cell::default(),
            wake_at: Cell::default(),
            urgent: Cell::default(),
            alarmed: Cell::default(),
            waker: Cell::default(),
        })
    }

    /// Members that are only counted: for those who wait for all of them.
    pub(crate) fn counted() -> Rc<Self> {
        Self::new(false)
    }

    /// Members that are listed as they end.
    pub(crate) fn listed() -> Rc<Self> {
        Self::new(true)
    }

    /// Adds a task, whose handle the caller owns.
    #[inline]
    pub(crate) fn add(self: &Rc<Self>, task: &TaskRef) {
        count_step();
        if task.is_done() && !task.callbacks_pending() {
            if self.listing {
                self.list(task);
            }
            return;
        }
        self.pending.set(self.pending.get() + 1);
        task.watch(Awaiter::Members(self.clone()));
    }

    /// A member ended.
    pub(super) fn ended(&self, task: &TaskRef) {
        count_step();
        self.pending.set(self.pending.get() - 1);
        if self.listing {
            self.list(task);
        }
        if self.pending.get() <= self.wake_at.get() || self.alarmed.get() {
            if let Some(waker) = self.waker.take() {
                task.scheduler().wake(waker);
            }
        }
    }

    fn list(&self, task: &TaskRef) {
        count_step();
        task.link.set(ptr::null());
        let counted = task.clone().into_ptr();
        match self.last_done.replace(Some(counted)) {
            // SAFETY: the list counts a reference to each cell in it.
            Some(last) => unsafe { last.as_ref() }.link.set(counted.as_ptr().cast_const().cast()),
            None => self.first_done.set(Some(counted)),
        }
        // SAFETY: the task has ended and its handle is with its set, so it has its output; whoever set `urgent`
        // promised that it fits the members.
        if self.urgent.get().is_some_and(|urgent| unsafe { urgent(task) }) {
            self.alarmed.set(true);
        }
    }

    /// Members that have not ended.
    #[inline]
    pub(crate) fn pending(&self) -> usize {
        self.pending.get()
    }

    pub(crate) fn has_done(&self) -> bool {
        self.first_done.get().is_some()
    }

    /// An urgent member is in the done list.
    pub(crate) fn is_alarmed(&self) -> bool {
        self.alarmed.get()
    }

    /// Asks `urgent` about the members in the done list and all that end from now on; `None` asks nobody.
    ///
    /// # Safety
    ///
    /// The output of every member, present and future, is of the type that `urgent` expects.
    pub(crate) unsafe fn set_urgent(&self, urgent: Option<Urgent>) {
        self.urgent.set(urgent);
        self.alarmed.set(false);
        let Some(urgent) = urgent else { return };
        let mut next = self.first_done.get();
        while let Some(cell) = next {
            count_step();
            // SAFETY: the list counts a reference.
            let task = ManuallyDrop::new(unsafe { TaskRef::from_ptr(cell) });
            // SAFETY: as the caller promises; members keep their outputs.
            if unsafe { urgent(&task) } {
                return self.alarmed.set(true);
            }
            next = NonNull::new(task.link.get().cast_mut().cast());
        }
    }

    /// Wakes `waker` when at most `wake_at` members are pending, or an urgent one has ended.
    pub(crate) fn wait(&self, wake_at: usize, waker: &Waker) {
        self.wake_at.set(wake_at);
        match self.waker.take() {
            Some(old) if old.will_wake(waker) => self.waker.set(Some(old)),
            _ => self.waker.set(Some(waker.clone())),
        }
    }

    pub(crate) fn forget_waker(&self) {
        self.waker.take();
    }

    /// The member that ended first, taken out of the done list. It is no member any more.
    pub(crate) fn pop_done(&self) -> Option<TaskRef> {
        count_step();
        let first = self.first_done.get()?;
        // SAFETY: the list's reference is passed on.
        let task = unsafe { TaskRef::from_ptr(first) };
        let next = NonNull::new(task.link.replace(ptr::null()).cast_mut().cast::<Header>());
        self.first_done.set(next);
        if next.is_none() {
            self.last_done.set(None);
        }
        Some(task)
    }

    /// Takes a task out, whether it has ended or not. Looks through the done list if it has.
    pub(crate) fn remove(self: &Rc<Self>, task: &TaskRef) {
        if self.remove_pending(task) {
            return;
        }
        let mut others = Vec::new();
        while let Some(done) = self.pop_done() {
            if done.as_ptr() != task.as_ptr() {
                others.push(done);
            }
        }
        for done in others {
            self.list(&done);
        }
    }

    /// Takes a task out if it has not ended; whether it had not.
    pub(crate) fn remove_pending(self: &Rc<Self>, task: &TaskRef) -> bool {
        count_step();
        if !self.waits_for(task) {
            return false;
        }
        task.unwatch();
        self.pending.set(self.pending.get() - 1);
        true
    }

    /// Whether `task` is a member that has not ended.
    pub(crate) fn waits_for(self: &Rc<Self>, task: &TaskRef) -> bool {
        task.is_watched_by(self)
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        while self.pop_done().is_some() {}
    }
}

/// Whether the task ended by a panic or a trap, or returned `Err`. A cancelled one has no error.
///
/// # Safety
///
/// The task has its output, and it is a `Result<T, E>`.
pub(crate) unsafe fn has_error<T, E>(task: &TaskRef) -> bool {
    // SAFETY: as the caller promises.
    match unsafe { task.output::<Result<T, E>>() } {
        Ok(value) => value.is_err(),
        Err(error) => !error.is_cancelled(),
    }
}

/// As [`has_error`], and a cancelled task counts as well.
///
/// # Safety
///
/// As for [`has_error`].
pub(crate) unsafe fn has_no_value<T, E>(task: &TaskRef) -> bool {
    // SAFETY: as the caller promises.
    !matches!(unsafe { task.output::<Result<T, E>>() }, Ok(Ok(_)))
}

/// Takes the error out of a task that [`has_no_value`].
///
/// # Safety
///
/// As for [`has_error`]; the output is gone afterwards.
pub(crate) unsafe fn take_failure<T, E>(task: &TaskRef) -> TaskError<E> {
    // SAFETY: as the caller promises.
    match unsafe { task.take_output::<Result<T, E>>() } {
        Ok(Err(error)) => TaskError::Failed(error),
        Err(error) => TaskError::Join(error),
        Ok(Ok(_)) => unreachable!("a task with a value has not failed"),
    }
}

/// Lets go of a task whose own error nobody can look at any more: if it has one, or will have, it is reported.
pub(crate) fn detach_reporting<T: 'static, E: fmt::Debug + 'static>(task: Task<Result<T, E>>) {
    fn report<T, E: fmt::Debug>(task: &TaskRef) {
        if !task.has_output() {
            return;
        }
        // SAFETY: it is the task below.
        if let Ok(Err(error)) = unsafe { task.output::<Result<T, E>>() } {
            let message = format!("{} failed, and nobody looked at the error: {error:?}", task.label());
            task.scheduler().report(&message, Some(task));
        }
    }
    let raw = task.raw();
    if raw.is_done() && !raw.callbacks_pending() {
        raw.scheduler().guarded("the `Debug` of an error", || report::<T, E>(raw));
    } else {
        raw.add_callback(Box::new(report::<T, E>));
    }
}

#[cfg(all(test, not(all(target_family = "wasm", target_os = "unknown"))))]
mod tests {
    use std::{
        future::{Future, poll_fn},
        pin::pin,
        task::Poll,
    };

    use super::STEPS;
    use crate::{Deferred, TaskSet, Until, spawn, testing::Sim, wait};

    /// The members that are looked at when three of a set of `size` end and are waited for.
    fn steps(size: usize) -> usize {
        let run = Sim::new().event_loop().run_until_complete(async move {
            let (gates, ends): (Vec<_>, Vec<_>) = (0..size).map(|_| Deferred::<()>::new()).unzip();
            let mut set: TaskSet<()> = ends.into_iter().map(|end| spawn(async { _ = end.await })).collect();
            let mut steps = 0;
            // The first wait warms up.
            for (index, gate) in gates.iter().enumerate().take(4) {
                let before = STEPS.get();
                let mut waiting = pin!(wait(&mut set, Until::FirstCompleted));
                poll_fn(|cx| {
                    assert!(waiting.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                gate.set_result(()).unwrap();
                assert_eq!(waiting.await.len(), 1);
                if index > 0 {
                    steps += STEPS.get() - before;
                }
            }
            set.cancel_all();
            steps
        });
        run.unwrap()
    }

    #[test]
    fn a_step_of_wait_looks_at_what_has_ended_and_at_nothing_else() {
        let few = steps(4);
        assert!(few >= 3, "each of the three was looked at");
        assert_eq!(steps(if cfg!(miri) { 40 } else { 4000 }), few);
    }
}
