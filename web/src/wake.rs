//! How other threads wake a loop, in a build with threads. In any other build there are none, and this is nothing.
//!
//! The word is 1 from a call of [`Wake::set`] until the next turn begins. Who sets it notifies the host of the loop's
//! thread, which waits on it with `Atomics.waitAsync` whenever no turn is running.
//!
//! *A wake comes as a turn begins.* The turn clears the word first and looks at what others sent it afterwards. So
//! either it sees what came with the wake, or the word is 1 when the turn is over and the host, which finds it so
//! before it waits, gives another.

#[cfg(target_feature = "atomics")]
pub(crate) use shared::Wake;

#[cfg(target_feature = "atomics")]
mod shared {
    use std::sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    };

    use crate::host;

    #[derive(Clone, Debug, Default)]
    pub(crate) struct Wake(Arc<AtomicI32>);

    impl Wake {
        pub(crate) fn set(&self) {
            if self.0.swap(1, Ordering::SeqCst) == 0 {
                host::notify(self.address());
            }
        }

        pub(crate) fn clear(&self) {
            self.0.store(0, Ordering::SeqCst);
        }

        /// Has the host wait on the word for the loop, until [`host::disarm`].
        pub(crate) fn listen(&self, handle: i32) {
            self.clear();
            host::listen(handle, self.address());
        }

        fn address(&self) -> f64 {
            self.0.as_ptr() as usize as f64
        }
    }
}

#[cfg(not(target_feature = "atomics"))]
#[derive(Clone, Debug, Default)]
pub(crate) struct Wake;

#[cfg(not(target_feature = "atomics"))]
impl Wake {
    pub(crate) fn set(&self) {}

    pub(crate) fn clear(&self) {}

    pub(crate) fn listen(&self, _handle: i32) {}
}
