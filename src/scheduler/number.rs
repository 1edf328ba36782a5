//! Threads by number, so that a wait which could never end is known before it begins.

use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering},
};

/// A thread that loops belong to, or will. No two have the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadNumber(usize);

/// Where there is one thread only, nobody asks for its number.
const MANY: bool = cfg!(any(not(target_family = "wasm"), target_feature = "atomics"));

thread_local! {
    /// The number of this thread, once it was asked for.
    static NUMBER: Cell<usize> = const { Cell::new(0) };
    /// How many loops belong to this thread.
    static LOOPS: Cell<usize> = const { Cell::new(0) };
}

impl ThreadNumber {
    /// One that has not begun.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// This one.
    pub(crate) fn here() -> Self {
        match NUMBER.get() {
            _ if !MANY => Self(0),
            0 => {
                let here = Self::new();
                NUMBER.set(here.0);
                here
            }
            number => Self(number),
        }
    }

    /// This thread and another one that it waits for, if somebody may wait for this one, as it has loops.
    pub(crate) fn waits_for(self) -> Option<[usize; 2]> {
        (LOOPS.get() > 0).then(|| [Self::here().0, self.0])
    }

    /// It is this one, and has one loop more.
    pub(crate) fn enter(self) {
        if MANY {
            NUMBER.set(self.0);
            LOOPS.set(LOOPS.get() + 1);
        }
    }

    /// This one has one loop less.
    pub(crate) fn leave() {
        if MANY {
            LOOPS.set(LOOPS.get() - 1);
        }
    }
}
