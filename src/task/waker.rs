//! Wakers: each is a reference to a cell, of any thread, that asks first whether it is on the owner's.

use std::{
    mem::ManuallyDrop,
    ptr::{self, NonNull},
    task::{Context, RawWaker, RawWakerVTable, Waker},
};

use super::arena::scheduler_of;
use super::cell::{Header, TaskRef, after, borrowed, drop_last, is_owner};

static WAKER_VTABLE: RawWakerVTable =
    RawWakerVTable::new(waker_clone, waker_wake, waker_wake_by_ref, waker_drop);

unsafe fn waker_clone(data: *const ()) -> RawWaker {
    // SAFETY: a waker's data is a live cell.
    let cell = unsafe { NonNull::new_unchecked(data.cast_mut().cast::<Header>()) };
    // SAFETY: the waker is a reference.
    unsafe {
        if is_owner(cell) {
            // Not just the local count: a destructor may get here while its loop closes.
            TaskRef::clone(&borrowed(cell)).into_ptr();
        } else {
            cell.as_ref().remote.clone_ref();
        }
    }
    RawWaker::new(data, &WAKER_VTABLE)
}

unsafe fn waker_wake(data: *const ()) {
    // SAFETY: a waker's data is a live cell.
    let cell = unsafe { NonNull::new_unchecked(data.cast_mut().cast::<Header>()) };
    // SAFETY: the waker is a reference, and is given up.
    unsafe {
        if is_owner(cell) {
            let task = borrowed(cell);
            task.wake_owned(scheduler_of(cell));
            if !task.drop_one() {
                drop_last_waker(cell);
            }
        } else {
            wake_and_drop_foreign(cell);
        }
    }
}

unsafe fn waker_wake_by_ref(data: *const ()) {
    // SAFETY: a waker's data is a live cell.
    let cell = unsafe { NonNull::new_unchecked(data.cast_mut().cast::<Header>()) };
    // SAFETY: the waker is a reference.
    unsafe {
        if is_owner(cell) {
            borrowed(cell).wake_owned(scheduler_of(cell));
        } else {
            wake_foreign(cell);
        }
    }
}

/// # Safety
///
/// The caller has a reference to the cell, which it keeps.
#[inline(never)]
unsafe fn wake_foreign(cell: NonNull<Header>) {
    // SAFETY: as the caller promises.
    unsafe { after(cell, cell.as_ref().remote.wake()) }
}

/// [`drop_last`], out of the way of what wakes.
///
/// # Safety
///
/// As for [`drop_last`].
#[cold]
#[inline(never)]
unsafe fn drop_last_waker(cell: NonNull<Header>) {
    // SAFETY: as the caller promises.
    unsafe { drop_last(cell) }
}

/// # Safety
///
/// The caller has a reference to the cell, and gives it up.
#[inline(never)]
unsafe fn wake_and_drop_foreign(cell: NonNull<Header>) {
    // SAFETY: as the caller promises.
    unsafe { after(cell, cell.as_ref().remote.wake_and_drop()) }
}

unsafe fn waker_drop(data: *const ()) {
    // SAFETY: a waker's data is a live cell.
    let cell = unsafe { NonNull::new_unchecked(data.cast_mut().cast::<Header>()) };
    // SAFETY: the waker is a reference, and is given up.
    unsafe {
        if is_owner(cell) {
            drop(TaskRef::from_ptr(cell));
        } else {
            after(cell, cell.as_ref().remote.drop_ref());
        }
    }
}

impl TaskRef {
    /// Calls `with` with the cell's own waker.
    #[inline(always)]
    pub(super) fn with_waker<R>(&self, with: impl FnOnce(&mut Context<'_>) -> R) -> R {
        // SAFETY: the waker is not dropped, and lives shorter than our reference.
        let waker = ManuallyDrop::new(unsafe { Waker::new(self.as_ptr().as_ptr().cast(), &WAKER_VTABLE) });
        with(&mut Context::from_waker(&waker))
    }

    /// The task of this loop that `waker` wakes, if it is one.
    #[inline]
    pub(crate) fn of_waker(waker: &Waker) -> Option<ManuallyDrop<Self>> {
        if !ptr::eq(waker.vtable(), &WAKER_VTABLE) {
            return None;
        }
        // SAFETY: a waker with our vtable has a live cell as its data.
        let cell = unsafe { NonNull::new_unchecked(waker.data().cast_mut().cast::<Header>()) };
        // SAFETY: as above.
        unsafe { is_owner(cell) }.then(|| borrowed(cell))
    }

    pub(crate) fn waker(&self) -> Waker {
        // SAFETY: the clone's reference becomes the waker's.
        unsafe { Waker::new(self.clone().into_ptr().as_ptr().cast(), &WAKER_VTABLE) }
    }
}
