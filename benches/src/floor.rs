//! How little it can cost: an executor of a hundred lines that gives up everything a library must promise.
//!
//! Its wakers must not leave the thread though nothing stops them, nothing catches a panic, nothing can be cancelled,
//! and a task that never ends leaks. It is a limit to measure against, not a design. `EAGER` polls at spawn, `RECYCLED`
//! keeps freed cells by size.

use std::{
    alloc::{Layout, alloc, dealloc},
    cell::Cell,
    future::Future,
    marker::PhantomData,
    mem::ManuallyDrop,
    pin::Pin,
    ptr,
    task::{Context, Poll, RawWaker, RawWakerVTable, Waker},
};

use crate::subject::Subject;

#[repr(C)]
struct Head {
    poll: unsafe fn(*mut Head),
    free: unsafe fn(*mut Head),
    next: Cell<*mut Head>,
    joiner: Cell<*mut Head>,
    refs: Cell<u32>,
    queued: Cell<bool>,
    done: Cell<bool>,
}

union Stage<F: Future> {
    future: ManuallyDrop<F>,
    output: ManuallyDrop<F::Output>,
}

#[repr(C)]
struct Body<F: Future, const RECYCLED: bool> {
    head: Head,
    stage: Stage<F>,
}

const CLASSES: usize = 64;
const STEP: usize = 16;

/// Room for a task, such that all of one class are interchangeable.
const fn slot<F: Future, const RECYCLED: bool>() -> Layout {
    let layout = Layout::new::<Body<F, RECYCLED>>();
    assert!(layout.align() <= STEP);
    match Layout::from_size_align(layout.size().next_multiple_of(STEP), STEP) {
        Ok(layout) => layout,
        Err(_) => panic!("a task fits into memory"),
    }
}

thread_local! {
    static FIRST: Cell<*mut Head> = const { Cell::new(ptr::null_mut()) };
    static LAST: Cell<*mut Head> = const { Cell::new(ptr::null_mut()) };
    /// Freed cells by size in steps of 16 bytes, linked by their first word.
    static FREED: [Cell<*mut u8>; CLASSES] = const { [const { Cell::new(ptr::null_mut()) }; CLASSES] };
}

// SAFETY of this module, as far as it goes: everything stays on one thread, the reference count keeps a cell from its
// allocation to its last waker, handle and queue entry, and `done` says which half of the stage is there.

unsafe fn push(task: *mut Head) {
    // SAFETY: see above.
    let head = unsafe { &*task };
    if head.queued.replace(true) || head.done.get() {
        return;
    }
    head.refs.set(head.refs.get() + 1);
    head.next.set(ptr::null_mut());
    let last = LAST.replace(task);
    if last.is_null() {
        FIRST.set(task);
    } else {
        // SAFETY: see above.
        unsafe { (*last).next.set(task) };
    }
}

unsafe fn release(task: *mut Head) {
    // SAFETY: see above.
    unsafe {
        let refs = (*task).refs.get() - 1;
        (*task).refs.set(refs);
        if refs == 0 {
            ((*task).free)(task);
        }
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(
    |data| {
        // SAFETY: see above.
        let head = unsafe { &*data.cast::<Head>() };
        head.refs.set(head.refs.get() + 1);
        RawWaker::new(data, &VTABLE)
    },
    |data| {
        // SAFETY: see above.
        unsafe {
            push(data.cast_mut().cast());
            release(data.cast_mut().cast());
        }
    },
    // SAFETY: see above.
    |data| unsafe { push(data.cast_mut().cast()) },
    // SAFETY: see above.
    |data| unsafe { release(data.cast_mut().cast()) },
);

unsafe fn poll<F: Future, const RECYCLED: bool>(task: *mut Head) {
    // SAFETY: see above; a cell never moves.
    unsafe {
        let body = task.cast::<Body<F, RECYCLED>>();
        let waker = ManuallyDrop::new(Waker::new(task.cast(), &VTABLE));
        let future = Pin::new_unchecked(&mut *(&raw mut (*body).stage.future).cast::<F>());
        if let Poll::Ready(output) = future.poll(&mut Context::from_waker(&waker)) {
            ManuallyDrop::drop(&mut (*body).stage.future);
            (*body).stage.output = ManuallyDrop::new(output);
            (*task).done.set(true);
            let joiner = (*task).joiner.replace(ptr::null_mut());
            if !joiner.is_null() {
                push(joiner);
                release(joiner);
            }
            release(task);
        }
    }
}

unsafe fn free<F: Future, const RECYCLED: bool>(task: *mut Head) {
    let layout = slot::<F, RECYCLED>();
    let class = layout.size() / STEP;
    // SAFETY: see above.
    unsafe {
        if RECYCLED && class < CLASSES {
            FREED.with(|freed| task.cast::<*mut u8>().write(freed[class].replace(task.cast())));
        } else {
            dealloc(task.cast(), layout);
        }
    }
}

pub struct Floor<const EAGER: bool, const RECYCLED: bool>;

pub struct Join<T> {
    task: *mut Head,
    output: *mut T,
    marker: PhantomData<T>,
}

impl<T> Future for Join<T> {
    type Output = T;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // SAFETY: see above; only tasks of this executor wait for its tasks.
        unsafe {
            let head = &*self.task;
            if head.done.get() {
                return Poll::Ready(self.output.read());
            }
            let me = cx.waker().data().cast_mut().cast::<Head>();
            if head.joiner.replace(me).is_null() {
                (*me).refs.set((*me).refs.get() + 1);
            }
        }
        Poll::Pending
    }
}

impl<T> Drop for Join<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: see above. An output that nobody took leaks.
        unsafe { release(self.task) }
    }
}

impl<const EAGER: bool, const RECYCLED: bool> Subject for Floor<EAGER, RECYCLED> {
    type Spawner = ();
    type Join<T: 'static> = Join<T>;

    fn run<F>(main: impl FnOnce(()) -> F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let main = Self::spawn(&(), main(()));
        // SAFETY: see above.
        unsafe {
            while !(*main.task).done.get() {
                let task = FIRST.get();
                let next = (*task).next.get();
                FIRST.set(next);
                if next.is_null() {
                    LAST.set(ptr::null_mut());
                }
                (*task).queued.set(false);
                if !(*task).done.get() {
                    ((*task).poll)(task);
                }
                release(task);
            }
            main.output.read()
        }
    }

    #[inline]
    fn spawn<F>((): &(), future: F) -> Join<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let layout = slot::<F, RECYCLED>();
        let class = layout.size() / STEP;
        // SAFETY: see above.
        unsafe {
            let mut cell = ptr::null_mut();
            if RECYCLED && class < CLASSES {
                FREED.with(|freed| {
                    cell = freed[class].get();
                    if !cell.is_null() {
                        freed[class].set(cell.cast::<*mut u8>().read());
                    }
                });
            }
            if cell.is_null() {
                cell = alloc(layout);
            }
            let body = cell.cast::<Body<F, RECYCLED>>();
            body.write(Body {
                head: Head {
                    poll: poll::<F, RECYCLED>,
                    free: free::<F, RECYCLED>,
                    next: Cell::new(ptr::null_mut()),
                    joiner: Cell::new(ptr::null_mut()),
                    // The executor's and the handle's.
                    refs: Cell::new(2),
                    queued: Cell::new(false),
                    done: Cell::new(false),
                },
                stage: Stage { future: ManuallyDrop::new(future) },
            });
            let task = body.cast::<Head>();
            if EAGER {
                poll::<F, RECYCLED>(task);
            } else {
                push(task);
            }
            Join { task, output: (&raw mut (*body).stage.output).cast(), marker: PhantomData }
        }
    }
}
