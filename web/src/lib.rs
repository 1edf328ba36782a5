//! The web backend of selkie: pages, dedicated Workers and Node, on `wasm32-unknown-unknown`.
//!
//! A host of JavaScript cannot be blocked, so a loop is not run but kept: [`Web`] gives it a turn in a microtask when
//! something became ready, in a macrotask when it has more to do than one slice, and by a host timer at its next
//! deadline. `turn.rs` says when a turn may run, `js/host.js` how the host is asked for one. What a host can do is
//! found out in each thread by trying, beside the first turns, never by its name:
//!
//! | seen | timer | macrotask |
//! |---|---|---|
//! | `setImmediate`, no document (Node) | `setTimeout` | `setImmediate` |
//! | `Atomics.waitAsync` keeps time, `scheduler.postTask` | `waitAsync` | a background task, or 8 ms by `waitAsync` |
//! | `Atomics.waitAsync` keeps time | `waitAsync` | `MessageChannel` |
//! | otherwise, and at first | `setTimeout` | `MessageChannel`, or `setTimeout` |
//!
//! A page that draws no frame between many such macrotasks (Firefox) gets an idle millisecond whenever a frame is due.
//!
//! Node lives as long as something pends there. A loop that wants a turn, now or at some time, holds it. One that is
//! idle does not: whatever could still wake it, a request or a socket, holds the process itself, as it does for a
//! JavaScript program.

//!
//! # Threads
//!
//! A build with `+atomics` shares its memory with Workers. Those that it starts itself are in `crew.rs`: they are threads, which
//! park and may block. All others, the page's main thread first of all, are kept as above and woken by `wake.rs`.

#![deny(unsafe_code)]
#![cfg(all(target_family = "wasm", target_os = "unknown"))]
// Unstable, as is the whole target with threads.
#![cfg_attr(target_feature = "atomics", feature(stdarch_wasm_atomic_wait))]

#[cfg(target_feature = "atomics")]
mod crew;

mod host;
#[expect(unsafe_code, reason = "the host keeps a reference")]
pub mod interop;
pub mod isolated;
#[cfg(target_feature = "atomics")]
mod lock;
#[cfg(target_feature = "atomics")]
mod park;
#[cfg(target_feature = "atomics")]
mod pool;
mod turn;
mod wake;

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use selkie_platform::{Driven, Job, Platform, Turn, Unavailable};

#[cfg(target_feature = "atomics")]
#[doc(hidden)]
pub use crate::crew::{census, free_for};
pub use crate::host::guard;
#[cfg(target_feature = "atomics")]
pub use crate::{
    crew::{Risk, at_risk, is_member, keep, owes, poll_up, processors, thread_name},
    lock::lock,
    park::{NoWait, block},
    pool::{Pool, Refused, Run},
};
use crate::{turn::Drive, wake::Wake};

/// Three of them and the drawing fit into a frame of 60 Hz.
const SLICE: Duration = Duration::from_millis(5);

/// A host of JavaScript, as one loop sees it.
///
/// It holds numbers only. The loop, and what the host keeps for it, belong to the thread that drives it.
#[derive(Debug, Default)]
pub struct Web {
    /// The thread that drives the loop, by an address of its own. 0 before the first drive.
    home: AtomicUsize,
    slot: AtomicUsize,
    drive: AtomicU32,
    wake: Wake,
}

impl Web {
    /// A host for one loop. Several may serve loops of the same thread.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Platform for Web {
    fn now(&self) -> Duration {
        host::now()
    }

    fn drive(&self, turn: Rc<dyn Turn>) -> Driven {
        #[cfg(target_feature = "atomics")]
        if crew::parks() {
            park::drive(&turn, &self.wake);
            return Driven::Finished;
        }
        let Drive { slot, name } = turn::drive(turn, &self.wake);
        self.slot.store(slot, Ordering::Relaxed);
        self.drive.store(name, Ordering::Relaxed);
        self.home.store(here(), Ordering::Relaxed);
        Driven::Started
    }

    fn pend(&self) {
        if self.home.load(Ordering::Relaxed) == here() {
            let slot = self.slot.load(Ordering::Relaxed);
            turn::pend(Drive { slot, name: self.drive.load(Ordering::Relaxed) });
        } else {
            // Another thread, or one that parks, or no drive yet: that begins with a turn anyway.
            self.wake.set();
        }
    }

    /// Only on a thread of the crew that parks. Anywhere else a loop lives between the callbacks of the host, and in a thread
    /// that blocks there are none.
    fn can_block(&self) -> bool {
        #[cfg(target_feature = "atomics")]
        return crew::parks();
        #[cfg(not(target_feature = "atomics"))]
        false
    }

    fn run_blocking(&self, job: Job) -> Result<(), Unavailable> {
        #[cfg(target_feature = "atomics")]
        return pool::shared(job);
        #[cfg(not(target_feature = "atomics"))]
        {
            drop(job);
            Err(ONE_THREAD)
        }
    }

    fn guard(&self, f: &mut dyn FnMut()) -> bool {
        host::guard(f)
    }

    fn sibling(&self) -> Arc<dyn Platform> {
        Arc::new(Self::new())
    }

    /// A Worker, in a build with threads. If it does not come up, `main` is dropped later.
    fn spawn_thread(&self, name: &str, main: Job) -> Result<(), Unavailable> {
        #[cfg(target_feature = "atomics")]
        return crew::spawn(name.into(), main);
        #[cfg(not(target_feature = "atomics"))]
        {
            let _ = name;
            drop(main);
            Err(ONE_THREAD)
        }
    }

    fn report(&self, message: &str) {
        host::report(message);
    }

    fn slice(&self) -> Duration {
        SLICE
    }

    /// What a wait in Chromium can tell apart. Elsewhere the host's own grain, a millisecond or more, adds to it.
    fn grain(&self) -> Duration {
        Duration::from_nanos(1 << 15)
    }
}

/// What [`Platform::spawn_thread`] and the pools answer in a build without threads.
pub const ONE_THREAD: Unavailable = Unavailable::new(
    "this build has one thread: use an `IsolatedPool`, or a build with threads (PLATFORM.md says how)",
);

/// Lets the holder of a lock go on, who was perhaps put off: by a moment's wait where this thread may wait.
pub fn relax() {
    #[cfg(target_feature = "atomics")]
    if crew::is_member() {
        return wake::pause();
    }
    std::hint::spin_loop();
}

/// An address that no other living thread has.
pub fn here() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here) as usize)
}
