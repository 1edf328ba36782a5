//! Work that other threads hand in.

use std::ptr::NonNull;

use super::Scheduler;
use crate::inbox::{Closed, Kind, Link};

/// Work that another thread hands over: what it is embedded in knows the rest.
#[repr(C)]
pub(crate) struct Call {
    link: Link,
    run: Runner,
}

/// Takes the call over, and runs it, or drops it where there is no loop.
///
/// # Safety
///
/// The call is that of [`Call::new`], and this is called once.
type Runner = unsafe fn(NonNull<Call>, Option<&Scheduler>);

impl Call {
    pub(crate) fn new(run: Runner) -> Self {
        Self { link: Link::new(), run }
    }

    /// # Safety
    ///
    /// `call` was taken out of an inbox, or refused by one.
    pub(super) unsafe fn run(call: NonNull<Self>, scheduler: Option<&Scheduler>) {
        // SAFETY: whoever pushed it has given it away.
        unsafe { (call.as_ref().run)(call, scheduler) }
    }
}

impl Scheduler {
    /// Queues `run` from any thread.
    pub(crate) fn call_remote<F: FnOnce(&Scheduler) + Send + 'static>(&self, run: F) -> Result<(), Closed> {
        #[repr(C)]
        struct Boxed<F> {
            call: Call,
            run: F,
        }
        unsafe fn unbox<F: FnOnce(&Scheduler)>(call: NonNull<Call>, scheduler: Option<&Scheduler>) {
            // SAFETY: made below, with the call as its first field.
            let boxed = unsafe { Box::from_raw(call.cast::<Boxed<F>>().as_ptr()) };
            if let Some(scheduler) = scheduler {
                (boxed.run)(scheduler);
            }
        }
        let boxed = Box::into_raw(Box::new(Boxed { call: Call::new(unbox::<F>), run }));
        // SAFETY: not null, as it comes from a box. It stays until `unbox` takes it, once.
        unsafe { self.push_call(NonNull::new_unchecked(boxed.cast())) }
    }

    /// Queues a call from any thread. If the loop has closed it is dropped here and now.
    ///
    /// # Safety
    ///
    /// The call stays where it is until it is run, and nobody else has it run.
    pub(crate) unsafe fn push_call(&self, call: NonNull<Call>) -> Result<(), Closed> {
        // SAFETY: the link is the first field of a call, which was in no inbox before, and is aligned to a pointer.
        match unsafe { self.inbox.push(call.cast(), Kind::Call) } {
            Ok(was_empty) => {
                if was_empty {
                    self.platform.pend();
                }
                Ok(())
            }
            Err(closed) => {
                // SAFETY: the push failed, so it is still ours.
                unsafe { Call::run(call, None) };
                Err(closed)
            }
        }
    }
}
