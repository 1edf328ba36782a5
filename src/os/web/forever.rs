//! `run_forever` for hosts whose threads must not block.

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use crate::{EventLoop, RunError};

/// Gives `event_loop` to the host, which runs it until it is stopped, and returns at once.
///
/// What [`EventLoop::run_forever`] is where a thread may block: the same turns in the same order, and a stopped loop may
/// run again. Several loops of one thread may run side by side. The loop runs whether or not the answer is awaited;
/// awaiting it, in a task of another loop or as a promise, is how one learns that the loop has stopped.
///
/// # Errors
///
/// [`RunError::Closed`], and [`RunError::Nested`] if this loop runs already.
///
/// # Platform-specific
///
/// - **Threads of the program** may block, and give a loop no turns otherwise: there this returns when the loop has stopped, and is
///   [`RunError::Nested`] while another loop runs.
///
/// # Panics
///
/// For a loop that is [driven from outside](EventLoop::guest): its host gives it its turns.
///
/// # Examples
///
/// ```
/// # #[cfg(all(target_family = "wasm", target_os = "unknown"))]
/// # fn example() -> Result<(), selkie::RunError> {
/// let event_loop = selkie::EventLoop::new();
/// let task = event_loop.spawn(async { 42 })?;
/// let running = event_loop.clone();
/// task.on_done(move |_| running.stop());
/// let stopped = selkie::os::web::run_forever(&event_loop)?;
/// selkie::spawn(async move {
///     stopped.await;
///     // The loop is idle again, and may be closed.
/// })
/// .detach();
/// # Ok(())
/// # }
/// ```
pub fn run_forever(event_loop: &EventLoop) -> Result<Stopped, RunError> {
    if event_loop.is_closed() {
        return Err(RunError::Closed);
    }
    if event_loop.is_running() {
        return Err(RunError::Nested);
    }
    if event_loop.scheduler().platform().can_block() {
        // It runs within this call, and another one must not run below it.
        event_loop.check_run()?;
    }
    let state = Rc::new(RefCell::new((false, None::<Waker>)));
    let ended = state.clone();
    let at_end = Box::new(move || {
        let waker = {
            let mut state = ended.borrow_mut();
            state.0 = true;
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    });
    event_loop.drive_then(false, Some(at_end));
    Ok(Stopped { state })
}

/// The future of [`run_forever`]: waits until the loop has stopped. Dropping it stops nothing.
#[must_use = "awaiting it is how one learns that the loop has stopped; dropping it stops nothing"]
pub struct Stopped {
    state: Rc<RefCell<(bool, Option<Waker>)>>,
}

impl Future for Stopped {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Wakers may run code of users: not while the state is borrowed.
        let waker = cx.waker().clone();
        let (stopped, old) = {
            let mut state = self.state.borrow_mut();
            (state.0, state.1.replace(waker))
        };
        drop(old);
        if stopped { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl fmt::Debug for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopped").field("stopped", &self.state.borrow().0).finish()
    }
}
