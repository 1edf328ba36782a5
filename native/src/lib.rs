//! The native backend of selkie: OS threads, the monotonic clock, Ctrl-C.
//!
//! It knows no task and no future, only the contract of [`selkie_platform`]. Applications depend on the crate
//! `selkie`, which picks this backend by target.

#![deny(unsafe_code)]

mod block;
mod interrupt;
pub mod isolate;
mod park;
mod pool;
mod watch;

use std::{
    fmt,
    io::{self, Write},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use selkie_platform::{Driven, Job, Next, Platform, Turn, Unavailable};

pub use block::{NoWait, block};
use park::{Parker, Patience};
pub use pool::{Counts, Pool, Refused, Run, StillRunning};

/// A loop's thread of the operating system.
///
/// The thread that drives the loop sleeps in the kernel while the loop has nothing to do. Blocking jobs of
/// all loops share one pool, [`Pool::shared`]; the watchdog and Ctrl-C are shared too.
pub struct Native {
    parker: Parker,
}

impl Native {
    /// One more loop's platform. Cheap: threads start when they are first needed.
    pub fn new() -> Self {
        LazyLock::force(&ORIGIN);
        Self { parker: Parker::new() }
    }
}

impl Platform for Native {
    fn now(&self) -> Duration {
        ORIGIN.elapsed()
    }

    fn drive(&self, turn: Rc<dyn Turn>) -> Driven {
        self.parker.bind();
        let mut patience = Patience::new();
        loop {
            self.parker.take();
            match turn.turn() {
                Next::Now => {}
                Next::At(time) => {
                    let left = || time.checked_sub(self.now()).filter(|left| !left.is_zero());
                    self.parker.wait(&mut patience, left);
                }
                Next::Idle => self.parker.wait(&mut patience, || Some(Duration::MAX)),
                Next::Done => return Driven::Finished,
            }
        }
    }

    fn pend(&self) {
        self.parker.pend();
    }

    fn can_block(&self) -> bool {
        true
    }

    /// # Errors
    ///
    /// [`Unavailable`] when the pool has no thread and the system refuses to start one.
    fn run_blocking(&self, job: Job) -> Result<(), Unavailable> {
        Pool::shared().submit(job).map_err(|refused| match refused {
            Refused::NoThread(..) => {
                Unavailable::new("the system refuses to start a thread; try again when fewer are running")
            }
            Refused::ShutDown(_) => Unavailable::new("the shared pool is shut down; use a pool of your own"),
        })
    }

    fn sibling(&self) -> Arc<dyn Platform> {
        Arc::new(Self::new())
    }

    /// A thread of the operating system, which the process does not wait for when it ends.
    fn spawn_thread(&self, name: &str, main: Job) -> Result<(), Unavailable> {
        let spawned = thread::Builder::new().name(without_zeros(name)).spawn(main);
        spawned.map(drop).map_err(|_| {
            Unavailable::new("the system refuses to start a thread; try again when fewer are running")
        })
    }

    /// Writes one line to standard error; a closed standard error is not an error.
    fn report(&self, message: &str) {
        // One write, so that lines of several threads do not mix. `eprintln!` would panic on a closed pipe.
        let _ = io::stderr().write_all(format!("{message}\n").as_bytes());
    }

    fn watch(&self, interval: Duration, check: Box<dyn FnMut() -> bool + Send>) -> bool {
        watch::SHARED.watch(interval, check)
    }

    /// Registers `handler` for the first Ctrl-C; the second ends the process with status 130 at once.
    ///
    /// Every registered handler is called, on a thread of its own, so that one which hangs cannot hold up the
    /// second Ctrl-C. When the last handler is gone the count starts again, and a Ctrl-C that finds no handler
    /// ends the process with status 130. A call that is under way when the guard is dropped may end later.
    ///
    /// `None` when something else in the process already handles SIGINT, or when it was ignored at the start
    /// (`nohup`): both are left as they are.
    fn on_interrupt(&self, handler: Box<dyn Fn() + Send + Sync>) -> Option<Box<dyn Send + Sync>> {
        // Miri knows no signals.
        if cfg!(miri) {
            return None;
        }
        interrupt::register(handler)
    }
}

/// A name as the system takes it. Those of users may come from data.
pub(crate) fn without_zeros(name: &str) -> String {
    name.replace('\0', "\u{fffd}")
}

/// Runs what may be anybody's. Neither its panic nor one in the drop of what it threw reaches the caller.
pub(crate) fn contain<R>(f: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => Some(result),
        Err(thrown) => {
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(thrown))) {
                mem::forget(again);
            }
            None
        }
    }
}

impl Default for Native {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Native").finish_non_exhaustive()
    }
}

/// One origin for the whole process, so that times of different loops can be compared.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
