//! Threads by number, so that a wait which could never end is known before it begins.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU32, Ordering},
};

/// A thread that loops belong to, or will. No two have the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadNumber(u32);

/// Where there is one thread only, nobody asks for its number.
const MANY: bool = cfg!(any(not(target_family = "wasm"), target_feature = "atomics"));

thread_local! {
    /// The number of this thread, once it was asked for.
    static NUMBER: Cell<u32> = const { Cell::new(0) };
    /// How many loops and simulations belong to this thread.
    static LOOPS: Cell<usize> = const { Cell::new(0) };
}

impl ThreadNumber {
    /// One that has not begun.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
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

    /// What [`get`](Self::get) has answered. Zero is nobody's, or of the only one.
    pub(crate) fn of(number: u32) -> Option<Self> {
        (number > 0).then_some(Self(number))
    }

    pub(crate) fn get(self) -> u32 {
        self.0
    }

    /// This thread and another one that it waits for, if somebody may wait for this one, as it has loops or simulations.
    pub(crate) fn waits_for(self) -> Option<[u32; 2]> {
        (LOOPS.get() > 0).then(|| [Self::here().0, self.0])
    }

    /// It is this one, and has one loop or simulation more.
    pub(crate) fn enter(self) {
        if MANY {
            NUMBER.set(self.0);
            LOOPS.set(LOOPS.get() + 1);
        }
    }

    /// This one has one less.
    pub(crate) fn leave() {
        if MANY {
            LOOPS.set(LOOPS.get() - 1);
        }
    }
}
