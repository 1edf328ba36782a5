//! The remote word of a task cell: what threads other than the owner do to it. Protocol: [`state`](super::state).

use super::state::{INBOX, ONE, ORPHAN, SETTLED, WAKE, count};
use crate::sync::{AtomicU32, Ordering};

/// What the caller has to do after a step on the remote word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Nothing,
    /// Push the cell into the inbox; on failure call [`Remote::push_failed`].
    Push,
    /// Free the cell; nothing refers to it and its loop has closed.
    Free,
}

#[derive(Debug)]
pub(super) struct Remote(AtomicU32);

impl Remote {
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Whether no other thread has anything to do with the cell. Owner only.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        // Acquire: what other threads did before they dropped their references happened before the cell is freed.
        self.0.load(Ordering::Acquire) == 0
    }

    /// Makes the word of a recycled cell ready. Owner only.
    #[inline]
    pub(super) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Adds a reference. Any thread.
    pub(super) fn clone_ref(&self) {
        let old = self.0.fetch_add(ONE, Ordering::Relaxed);
        if count(old) > 1 << 26 {
            // As `Arc` does: a program that leaks so many wakers must not wrap the count.
            std::process::abort();
        }
    }

    fn step(&self, mut next: impl FnMut(u32) -> (u32, After)) -> After {
        let mut old = self.0.load(Ordering::Relaxed);
        loop {
            let (new, after) = next(old);
            match self.0.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return after,
                Err(now) => old = now,
            }
        }
    }

    fn lowered(old: u32) -> (u32, After) {
        let new = old.wrapping_sub(ONE);
        let left = count(new);
        if old & ORPHAN != 0 {
            let last = left == 0 && new & INBOX == 0;
            (new, if last { After::Free } else { After::Nothing })
        } else if (left < 0 || (left == 0 && old & SETTLED != 0)) && old & INBOX == 0 {
            (new | INBOX, After::Push)
        } else {
            (new, After::Nothing)
        }
    }

    /// Drops a reference. Any thread but the owner during its turn.
    pub(super) fn drop_ref(&self) -> After {
        self.step(Self::lowered)
    }

    /// Asks for a poll. Any thread but the owner during its turn.
    pub(super) fn wake(&self) -> After {
        self.step(|old| {
            if old & ORPHAN != 0 {
                return (old, After::Nothing);
            }
            (old | INBOX | WAKE, if old & INBOX == 0 { After::Push } else { After::Nothing })
        })
    }

    /// [`wake`](Self::wake) and [`drop_ref`](Self::drop_ref) in one step.
    pub(super) fn wake_and_drop(&self) -> After {
        self.step(|old| {
            if old & ORPHAN != 0 {
                return Self::lowered(old);
            }
            let new = old.wrapping_sub(ONE) | INBOX | WAKE;
            (new, if old & INBOX == 0 { After::Push } else { After::Nothing })
        })
    }

    /// The push that [`After::Push`] asked for found the loop closed.
    pub(super) fn push_failed(&self) -> After {
        let old = self.0.fetch_and(!(INBOX | WAKE), Ordering::AcqRel);
        if old & ORPHAN != 0 && count(old) == 0 { After::Free } else { After::Nothing }
    }

    /// The cell was unlinked from the inbox: whether to wake it, and the references to add to the local count.
    /// Owner only.
    pub(super) fn taken(&self) -> (bool, i32) {
        let mut result = (false, 0);
        self.step(|old| {
            let below = count(old).min(0);
            result = (old & WAKE != 0, below);
            (old.wrapping_sub((below as u32).wrapping_mul(ONE)) & !(INBOX | WAKE), After::Nothing)
        });
        result
    }

    /// The local count reached `local <= 0`. On [`After::Nothing`] it has been moved here. Owner only.
    pub(super) fn settle(&self, local: i32) -> After {
        self.step(|old| {
            if local + count(old) == 0 && old & INBOX == 0 {
                return (old, After::Free);
            }
            (old.wrapping_add((local as u32).wrapping_mul(ONE)) | SETTLED, After::Nothing)
        })
    }

    /// The loop has closed: moves the whole local count here. On [`After::Free`] nobody refers to the cell. Owner only.
    pub(super) fn orphan(&self, local: i32) -> After {
        self.step(|old| {
            let new = old.wrapping_add((local as u32).wrapping_mul(ONE)) | ORPHAN;
            let free = count(new) == 0 && old & INBOX == 0;
            (new, if free { After::Free } else { After::Nothing })
        })
    }
}
