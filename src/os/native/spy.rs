//! Whether a future wakes itself while it is polled.

#![allow(unsafe_code, reason = "a waker that is lent, and so counts nothing")]

use std::{
    mem::ManuallyDrop,
    ptr,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, RawWaker, RawWakerVTable, Waker},
};

/// Stands before a waker for the time of one poll.
///
/// Whoever clones it gets the waker itself, whose wakes are not seen. So it sees yields, which wake where they are.
pub(super) struct Spy<'a> {
    waker: &'a Waker,
    woken: AtomicBool,
}

/// The data of a waker with this table is a [`Spy`], which lives for as long as the waker is borrowed.
static TABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, |_| ());

impl<'a> Spy<'a> {
    pub(super) fn new(waker: &'a Waker) -> Self {
        Self { waker, woken: AtomicBool::new(false) }
    }

    /// Calls `poll` with the waker, or with the one that it stands before.
    #[inline]
    pub(super) fn watch<R>(&self, watches: bool, poll: impl FnOnce(&mut Context<'_>) -> R) -> R {
        // SAFETY: the functions of the table take the data for the `Spy` that it is. It is only borrowed by `poll`, which has no
        // way to keep it: what can be had of it is a clone, and that is the other waker.
        let waker = ManuallyDrop::new(unsafe { Waker::new(ptr::from_ref(self).cast(), &TABLE) });
        poll(&mut Context::from_waker(if watches { &waker } else { self.waker }))
    }

    /// Whether the future was woken by the waker that it was lent.
    pub(super) fn was_woken(&self) -> bool {
        self.woken.load(Ordering::Relaxed)
    }
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: see `watch`. The lifetime is not longer than this call.
    let spy = unsafe { &*data.cast::<Spy<'_>>() };
    // Who gets the parts drops them.
    let waker = ManuallyDrop::new(spy.waker.clone());
    RawWaker::new(waker.data(), waker.vtable())
}

unsafe fn wake(data: *const ()) {
    // SAFETY: as in `clone`.
    let spy = unsafe { &*data.cast::<Spy<'_>>() };
    spy.woken.store(true, Ordering::Relaxed);
    spy.waker.wake_by_ref();
}
