//! A lane: the FIFO of tasks that are ready, of one priority.
//!
//! Linked through the cells, so a wake allocates nothing. A pending task is kept by its loop, so its place in a lane
//! needs no count; the lane owns one reference to each task that has ended, for its done callbacks or meanwhile.

use std::{cell::Cell, ptr::NonNull};

use crate::task::Header;

/// How urgent a task's turns are.
///
/// A loop has three lanes, each first in, first out. In every round it runs the urgent tasks that are ready, then
/// the normal ones; background tasks get what is left of the time, and at least every 16th poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Priority {
    /// In front of all others in each round. For few, short polls.
    Urgent = 0,
    /// What `spawn` gives.
    #[default]
    Normal = 1,
    /// After the others, and always started lazily.
    Background = 2,
}

#[derive(Default)]
pub(crate) struct Lane {
    head: Cell<Option<NonNull<Header>>>,
    tail: Cell<Option<NonNull<Header>>>,
    len: Cell<usize>,
}

impl Lane {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    /// # Safety
    ///
    /// The cell is in no lane, and lives until it has been taken out of this one.
    #[inline]
    pub(crate) unsafe fn push(&self, cell: NonNull<Header>) {
        // SAFETY: as the caller promises.
        unsafe { cell.as_ref() }.next_ready.set(None);
        match self.tail.replace(Some(cell)) {
            // SAFETY: cells in the lane are live.
            Some(tail) => unsafe { tail.as_ref() }.next_ready.set(Some(cell)),
            None => self.head.set(Some(cell)),
        }
        self.len.set(self.len.get() + 1);
    }

    #[inline]
    pub(crate) fn pop(&self) -> Option<NonNull<Header>> {
        let cell = self.head.get()?;
        // SAFETY: cells in the lane are live.
        let next = unsafe { cell.as_ref() }.next_ready.get();
        self.head.set(next);
        match next {
            Some(next) => Header::prefetch(next),
            None => self.tail.set(None),
        }
        self.len.set(self.len.get() - 1);
        Some(cell)
    }

    /// Puts the tasks in another order; for the simulator.
    pub(crate) fn shuffle(&self, random: impl Fn(usize) -> usize) {
        let mut tasks: Vec<_> = std::iter::from_fn(|| self.pop()).collect();
        for index in (1..tasks.len()).rev() {
            tasks.swap(index, random(index + 1));
        }
        // SAFETY: they were in here just now.
        tasks.into_iter().for_each(|task| unsafe { self.push(task) });
    }
}
