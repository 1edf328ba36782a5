//! A callback that other threads hand to a loop, and may take back.
//!
//! One word decides: whoever takes it from `WAITING` has the callback, the loop to run it or a canceller to drop it. Nobody waits
//! for the other: a canceller that comes later is told how far the loop is.

use std::{
    cell::UnsafeCell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use crate::error::discard;

const WAITING: u8 = 0;
const RUNNING: u8 = 1;
const DONE: u8 = 2;
const PREVENTED: u8 = 3;

/// What a [`RemoteHandle::cancel`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CancelOutcome {
    /// It had not begun, and never will.
    Prevented,
    /// It runs at this moment, or just did.
    Running,
    /// It has run.
    Done,
}

struct RemoteCall<F> {
    state: AtomicU8,
    callback: UnsafeCell<Option<F>>,
}

// SAFETY: the callback is touched by the one who has taken the state from `WAITING`, and it may go to any thread.
unsafe impl<F: Send> Sync for RemoteCall<F> {}

impl<F> RemoteCall<F> {
    /// The callback, if nobody had it.
    fn take(&self, next: u8) -> Result<Option<F>, u8> {
        // Acquire on failure as well: who is told that it has run sees what it did.
        self.state.compare_exchange(WAITING, next, Ordering::AcqRel, Ordering::Acquire)?;
        // SAFETY: the exchange lets one through.
        Ok(unsafe { (*self.callback.get()).take() })
    }
}

trait Call: Send + Sync {
    fn cancel(&self) -> CancelOutcome;
    fn state(&self) -> u8;
}

impl<F: Send> Call for RemoteCall<F> {
    fn cancel(&self) -> CancelOutcome {
        match self.take(PREVENTED) {
            Ok(callback) => {
                // What it owns may panic as it goes; the hook has said so, and the canceller is not to blame.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(callback))) {
                    discard(payload);
                }
                CancelOutcome::Prevented
            }
            Err(PREVENTED) => CancelOutcome::Prevented,
            Err(RUNNING) => CancelOutcome::Running,
            Err(_) => CancelOutcome::Done,
        }
    }

    fn state(&self) -> u8 {
        self.state.load(Ordering::Acquire)
    }
}

/// The loop's end of a call.
pub(crate) struct RemoteRun<F>(Arc<RemoteCall<F>>);

impl<F: FnOnce()> RemoteRun<F> {
    pub(crate) fn run(&self) {
        /// Also when the callback panics.
        struct Over<'a>(&'a AtomicU8);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(DONE, Ordering::Release);
            }
        }
        if let Ok(Some(callback)) = self.0.take(RUNNING) {
            let _over = Over(&self.0.state);
            callback();
        }
    }
}

/// A loop that closes drops its calls: no handle may keep what they own.
impl<F> Drop for RemoteRun<F> {
    fn drop(&mut self) {
        drop(self.0.take(PREVENTED));
    }
}

pub(crate) fn remote_call<F: FnOnce() + Send + 'static>(callback: F) -> (RemoteRun<F>, RemoteHandle) {
    let call =
        Arc::new(RemoteCall { state: AtomicU8::new(WAITING), callback: UnsafeCell::new(Some(callback)) });
    (RemoteRun(call.clone()), RemoteHandle(call))
}

/// A callback that was handed to a loop by [`LoopHandle::call_soon_threadsafe`](crate::LoopHandle::call_soon_threadsafe).
/// `Send` and `Sync`.
///
/// Dropping it changes nothing. Clones are handles of the same call.
#[derive(Clone)]
pub struct RemoteHandle(Arc<dyn Call>);

impl RemoteHandle {
    /// Prevents the call if it has not begun, from any thread, and drops the callback there and then; otherwise says how far it is.
    ///
    /// Never waits. After [`CancelOutcome::Done`] all that the callback did is seen here. A call whose loop has closed before it
    /// began is as good as prevented.
    ///
    /// Mirrors `Handle.cancel` of asyncio's thread-safe handles. **Difference**: that blocks while the callback runs.
    ///
    /// # Platform-specific
    ///
    /// - **Web:** a callback that trapped counts as running for ever.
    ///
    /// # Examples
    ///
    /// ```
    /// use selkie::{CancelOutcome, EventLoop};
    ///
    /// let event_loop = EventLoop::new();
    /// let call = event_loop.handle().call_soon_threadsafe(|| println!("never"))?;
    /// assert_eq!(call.cancel(), CancelOutcome::Prevented);
    /// let call = event_loop.handle().call_soon_threadsafe(|| println!("once"))?;
    /// event_loop.run_until_complete(async {})?;
    /// assert_eq!(call.cancel(), CancelOutcome::Done);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel(&self) -> CancelOutcome {
        self.0.cancel()
    }

    /// Whether the call was prevented.
    #[doc(alias = "cancelled")]
    pub fn is_cancelled(&self) -> bool {
        self.0.state() == PREVENTED
    }
}

impl fmt::Debug for RemoteHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.0.state() {
            WAITING => "waiting",
            RUNNING => "running",
            PREVENTED => "prevented",
            _ => "done",
        };
        f.debug_tuple("RemoteHandle").field(&format_args!("{state}")).finish()
    }
}
