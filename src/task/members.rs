//! The tasks that one future waits for: how gather, wait, as_completed and groups learn of an end in O(1).
//!
//! Each member's cell names the `Members` as its awaiter. A member that ends is linked to the done list through
//! its own cell, so an end costs no allocation and no search, and the one who waits is woken only when what it
//! waits for is there.

use std::{
    cell::Cell,
    ptr::{self, NonNull},
    rc::Rc,
    task::Waker,
};

use super::cell::{Awaiter, Header, TaskRef};

/// Looks at a member that has just ended and says whether whoever waits has to know at once.
pub(crate) type Urgent = fn(&TaskRef) -> bool;

#[derive(Default)]
pub(crate) struct Members {
    pending: Cell<usize>,
    /// Members that ended, oldest first, linked by `Header::link`. Each is kept by its `Task` in the set.
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
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self::default())
    }

    /// Adds a task. The caller keeps the task's handle as long as it is a member.
    pub(crate) fn add(self: &Rc<Self>, task: &TaskRef) {
        self.pending.set(self.pending.get() + 1);
        if task.is_done() {
            self.ended(task);
        } else {
            task.watch(Awaiter::Members(self.clone()));
        }
    }

    /// A member ended.
    pub(super) fn ended(&self, task: &TaskRef) {
        self.pending.set(self.pending.get() - 1);
        task.link.set(ptr::null());
        match self.last_done.replace(Some(task.as_ptr())) {
            // SAFETY: cells in the done list are kept by their handles until they are taken out.
            Some(last) => unsafe { last.as_ref() }.link.set(task.as_ptr().as_ptr().cast()),
            None => self.first_done.set(Some(task.as_ptr())),
        }
        if self.urgent.get().is_some_and(|urgent| urgent(task)) {
            self.alarmed.set(true);
        }
        if self.pending.get() <= self.wake_at.get() || self.alarmed.get() {
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.get()
    }

    pub(crate) fn has_done(&self) -> bool {
        self.first_done.get().is_some()
    }

    /// An urgent member ended since the last [`wait`](Self::wait).
    pub(crate) fn is_alarmed(&self) -> bool {
        self.alarmed.get()
    }

    /// Wakes `waker` when at most `wake_at` members are pending, or an urgent one has ended.
    pub(crate) fn wait(&self, wake_at: usize, urgent: Option<Urgent>, waker: &Waker) {
        self.wake_at.set(wake_at);
        self.urgent.set(urgent);
        match self.waker.take() {
            Some(old) if old.will_wake(waker) => self.waker.set(Some(old)),
            _ => self.waker.set(Some(waker.clone())),
        }
    }

    /// Marks the members done so far as looked at: `urgent` is asked for those that end from now on.
    pub(crate) fn calm(&self) {
        self.alarmed.set(false);
    }

    pub(crate) fn forget_waker(&self) {
        self.waker.take();
    }

    /// The member that ended first, taken out of the done list. It is no member any more.
    pub(crate) fn pop_done(&self) -> Option<TaskRef> {
        let first = self.first_done.get()?;
        // SAFETY: kept by its handle.
        let header = unsafe { first.as_ref() };
        let next = NonNull::new(header.link.replace(ptr::null()).cast_mut().cast::<Header>());
        self.first_done.set(next);
        if next.is_none() {
            self.last_done.set(None);
        }
        Some(TaskRef::listed(first))
    }

    /// Takes a pending task out.
    pub(crate) fn remove_pending(&self, task: &TaskRef) {
        debug_assert!(!task.is_done());
        task.unwatch();
        self.pending.set(self.pending.get() - 1);
    }
}
