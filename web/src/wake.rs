//! How other threads wake a loop, in a build with threads. In any other build there are none, and this is nothing.
//! `tests/loom/main.rs` has the models.
//!
//! The word is 1 from a call of [`Wake::set`] until the next turn begins. Who sets it notifies everybody who waits on it:
//! the host of the loop's thread, by `Atomics.waitAsync` whenever no turn is running, or the thread itself, which is parked
//! in [`Wake::wait`] where nothing of JavaScript can be pending.
//!
//! *A wake comes as a turn begins.* The turn clears the word first and looks at what others sent it afterwards. So
//! either it sees what came with the wake, or the word is 1 when the turn is over, and both ways to wait find it so
//! before they wait.
//!
//! *A wake comes as the wait's time is over.* The turn that follows clears the word and looks, as any turn does.
//!
//! *An earlier deadline comes up while the thread is parked.* It can only come by a turn, for which somebody has to wake
//! it. The host's own wait has no time limit; the timer beside it is superseded, as `js/host.js` says.
//!
//! *Threads are far behind with jobs*, as `pool.rs` says, and a page that is woken for each result would take a
//! processor from those who make the results. After a turn it then pauses for a quarter of a millisecond, in which it does not wait on
//! the word. If that is 1 when the pause is over a turn comes, as by a wake; otherwise it waits, as after any turn.
//!
//! *A wait that nobody needs any more* is left behind on the word when a drive ends: hence all are notified, never one. Each
//! drive has an ear of its own in `js/wake.js`, and a wait of an earlier one does nothing when it ends.

#[cfg(selkie_loom)]
pub(crate) use shared::Wake;
#[cfg(all(target_feature = "atomics", not(selkie_loom)))]
pub(crate) use shared::{Wake, pause};

#[cfg(any(target_feature = "atomics", selkie_loom))]
mod shared {
    use std::{
        sync::{Arc, atomic::Ordering},
        time::Duration,
    };

    #[cfg(not(selkie_loom))]
    use super::instructions::{AtomicI32, notify_all, wait};
    #[cfg(selkie_loom)]
    use crate::instructions::{AtomicI32, notify_all, wait};

    #[derive(Clone, Debug, Default)]
    pub(crate) struct Wake(Arc<AtomicI32>);

    impl Wake {
        pub(crate) fn set(&self) {
            if self.0.swap(1, Ordering::SeqCst) == 0 {
                notify_all(&self.0);
            }
        }

        pub(crate) fn clear(&self) {
            // A swap: only by reading what the last one wrote who set it is what they did before seen afterwards.
            self.0.swap(0, Ordering::SeqCst);
        }

        /// Has the host wait on the word for the loop, until [`disarm`](crate::host::disarm).
        #[cfg(not(selkie_loom))]
        pub(crate) fn listen(&self, handle: i32) {
            self.clear();
            let address = |word: &AtomicI32| word.as_ptr() as usize as f64;
            crate::host::listen(handle, address(&self.0), address(&crate::pool::BEHIND));
        }

        /// Parks this thread until the word is set, at most for `timeout`. It may come back early.
        pub(crate) fn wait(&self, timeout: Option<Duration>) {
            wait(&self.0, timeout);
        }
    }

    /// Lets another thread have the processor for a moment.
    #[cfg(not(selkie_loom))]
    pub(crate) fn pause() {
        wait(&AtomicI32::new(0), Some(Duration::from_micros(50)));
    }
}

#[cfg(all(target_feature = "atomics", not(selkie_loom)))]
#[expect(unsafe_code, reason = "the instructions take addresses")]
mod instructions {
    pub(super) use std::sync::atomic::AtomicI32;
    use std::{
        arch::wasm32::{memory_atomic_notify, memory_atomic_wait32},
        time::Duration,
    };

    pub(super) fn notify_all(word: &AtomicI32) {
        // SAFETY: the word is alive and aligned.
        unsafe { memory_atomic_notify(word.as_ptr(), u32::MAX) };
    }

    /// Waits if the word is 0. The thread has to be one that may wait: in a page this traps.
    pub(super) fn wait(word: &AtomicI32, timeout: Option<Duration>) {
        let nanos = timeout.map_or(-1, |timeout| i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX));
        // SAFETY: the word is alive and aligned.
        unsafe { memory_atomic_wait32(word.as_ptr(), 0, nanos) };
    }
}

#[cfg(not(any(target_feature = "atomics", selkie_loom)))]
#[derive(Clone, Debug, Default)]
pub(crate) struct Wake;

#[cfg(not(any(target_feature = "atomics", selkie_loom)))]
impl Wake {
    pub(crate) fn set(&self) {}

    pub(crate) fn clear(&self) {}

    pub(crate) fn listen(&self, _handle: i32) {}
}
