//! The contract between the selkie scheduler and the host it runs on.
//!
//! The scheduler (package `selkie`) knows tasks, timers and lanes, and no operating system. A platform
//! knows a clock, how to ask for another turn, how to wait, and threads; it knows no task and no future.
//! There are three: `selkie-native` (OS threads), `selkie-web` (microtasks, host timers, Workers) and the
//! simulator `selkie::testing::Sim`.
//!
//! One value of a platform serves one loop. The loop holds it as `Arc<dyn Platform>`: no type parameter
//! reaches a user. None of the calls is on the poll or wake path: a turn reads the clock at most every 32 polls,
//! making a sleep reads it too, and [`Platform::pend`] is called only when a loop that had nothing to do gets something.
//!
//! # How a loop runs
//!
//! [`Platform::drive`] receives the loop as a [`Turn`]. Each [`Turn::turn`] runs one slice and answers, by a
//! [`Next`], what the loop needs then. A native platform parks the thread between turns; a web platform
//! returns to the host and comes back by a microtask, a macrotask or a timer.
//!
//! # Writing a platform
//!
//! ```
//! use selkie_platform::{Driven, Job, Next, Platform, Turn, Unavailable};
//! use std::{rc::Rc, sync::{Arc, atomic::{AtomicU64, Ordering}}, time::Duration};
//!
//! /// Time passes only when nothing is ready.
//! struct Virtual(AtomicU64);
//!
//! impl Platform for Virtual {
//!     fn now(&self) -> Duration { Duration::from_nanos(self.0.load(Ordering::Relaxed)) }
//!     fn drive(&self, turn: Rc<dyn Turn>) -> Driven {
//!         loop {
//!             match turn.turn() {
//!                 Next::Now => {}
//!                 Next::At(time) => self.0.store(time.as_nanos() as u64, Ordering::Relaxed),
//!                 Next::Idle => panic!("every task waits, and nothing can wake one"),
//!                 Next::Done => return Driven::Finished,
//!             }
//!         }
//!     }
//!     fn pend(&self) {} // `drive` looks again before it gives up.
//!     fn can_block(&self) -> bool { true }
//!     fn run_blocking(&self, job: Job) -> Result<(), Unavailable> { job(); Ok(()) }
//!     fn sibling(&self) -> Arc<dyn Platform> { Arc::new(Virtual(AtomicU64::new(0))) }
//!     fn spawn_thread(&self, _: &str, _: Job) -> Result<(), Unavailable> {
//!         Err(Unavailable::new("virtual time has one thread"))
//!     }
//!     fn report(&self, message: &str) { eprintln!("{message}") }
//! }
//! ```

#![forbid(unsafe_code)]

use std::{error::Error, ffi::OsString, fmt, rc::Rc, sync::Arc, time::Duration};

/// Work for a thread that may block.
pub type Job = Box<dyn FnOnce() + Send>;

/// What a thread owes, where threads may go without a word.
pub trait Debt: Send + Sync {
    /// Called once by whoever notices: the frame that owed it is gone, by a trap if `trapped`, or else with its thread.
    fn lost(self: Arc<Self>, trapped: bool);
}

/// What a host offers to one loop.
pub trait Platform: Send + Sync + 'static {
    /// Time since a fixed origin of this process, page or Worker.
    ///
    /// Never goes back and never fails. Several platforms of one thread share the origin. Any thread may ask.
    fn now(&self) -> Duration;

    /// Runs turns of the loop on the calling thread, as [`Turn::turn`] asks for them.
    ///
    /// A host that can block returns [`Driven::Finished`] after the turn that answered [`Next::Done`]. A host
    /// that cannot keeps `turn`, returns [`Driven::Started`] at once and drops `turn` after [`Next::Done`].
    /// A turn never runs inside another turn of the same loop, also when the host re-enters.
    ///
    /// Called from one thread only, and again only after the last drive has ended.
    fn drive(&self, turn: Rc<dyn Turn>) -> Driven;

    /// Asks for another turn soon.
    ///
    /// Any thread may call it, at any time, also before [`drive`](Platform::drive) and after it has ended: a
    /// request made while no drive is under way makes the next one start with a turn. Several requests may
    /// become one turn; no request is lost. Never runs a turn itself, never blocks, takes no lock that another
    /// thread can hold for long.
    fn pend(&self);

    /// Whether the calling thread may block, as a page's main thread may not.
    fn can_block(&self) -> bool;

    /// Whether [`drive`](Platform::drive) may be called while another loop's turn runs on this thread.
    ///
    /// Only a platform that never waits may say so: the simulator.
    fn nests(&self) -> bool {
        false
    }

    /// Runs `job` on a thread that may block.
    ///
    /// The job is kept in a queue while all threads are busy; jobs start in the order of the calls.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] where there is no such thread. The job is dropped, not run.
    fn run_blocking(&self, job: Job) -> Result<(), Unavailable>;

    /// A platform for another loop, of the same kind and with the same clock.
    fn sibling(&self) -> Arc<dyn Platform>;

    /// Runs `main` on a thread of its own, where it may block, and may drive one loop: a thread, a Worker, or this thread
    /// where [`drive`](Platform::drive) of a second loop returns at once. The thread ends when `main` has returned and no
    /// loop is driven there any more.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] where there is none; `main` is dropped.
    fn spawn_thread(&self, name: &str, main: Job) -> Result<(), Unavailable>;

    /// Shows a message to the developer: standard error, or the console.
    fn report(&self, message: &str);

    /// How long one slice may run before timers, other threads and the host get a say.
    ///
    /// In a page this is what keeps frames.
    fn slice(&self) -> Duration {
        Duration::from_millis(10)
    }

    /// The grain of timers: deadlines within one grain may fire together, up to one grain late and never early.
    ///
    /// Rounded up to a power of two of nanoseconds. [`Duration::ZERO`] makes every deadline exact.
    fn grain(&self) -> Duration {
        Duration::from_millis(1)
    }

    /// Runs `f` on the spot; whether it returned.
    ///
    /// `false` where a panic cannot unwind and `f` ended by a trap, which the platform has reported. All that was on
    /// the stack is leaked. The loop asks for it where code of users runs outside of [`Turn::turn`].
    fn guard(&self, f: &mut dyn FnMut()) -> bool {
        f();
        true
    }

    /// Calls `check` about once every `interval`, from a thread that is not the loop's, until it answers `false`.
    ///
    /// It is how a loop that is stuck in one poll is noticed while it is stuck. Where there is no other thread
    /// nothing happens, and `false` is returned.
    fn watch(&self, interval: Duration, check: Box<dyn FnMut() -> bool + Send>) -> bool {
        let _ = (interval, check);
        false
    }

    /// Calls `handler` when the user asks the program to stop (Ctrl-C), from any thread.
    ///
    /// The returned guard unregisters it. `None` where the host has no such notion.
    fn on_interrupt(&self, handler: Box<dyn Fn() + Send + Sync>) -> Option<Box<dyn Send + Sync>> {
        let _ = handler;
        None
    }
}

/// What runs work in another address space: a child process, or a Web Worker with an instance of its own.
///
/// A backend makes one by a function of its own, not by [`Platform`]: so a module for the web that starts none has nothing of
/// it. It answers one message with one message, after a first one that it sends by itself. Dropping it lets it end in good
/// order. Where it belongs to a thread, as a Web Worker does, all of its methods are called on that thread.
pub trait Isolate: Send + Sync {
    /// Hands over `message`. Never blocks. Without effect once it has ended.
    fn post(&self, message: Vec<u8>);

    /// Ends it at once, whatever it is doing. Never blocks.
    fn kill(&self);
}

/// What a backend tells of an [`Isolate`], one after another and never within a call of its methods.
pub trait IsolateEvents: Send + Sync {
    /// It has sent this.
    fn message(&self, message: Vec<u8>);

    /// It has had nothing to do for as long as it may; whether it is to end.
    fn idle(&self) -> bool;

    /// It has ended, and nothing of it is left. The last call.
    fn ended(&self, end: IsolateEnd);
}

/// Why an [`Isolate`] has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IsolateEnd {
    /// It was let go, killed, or died by itself: how, for a message.
    Died(String),
    /// As `Died`, before it could get the last message, which comes back.
    Undelivered(String, Vec<u8>),
    /// By a panic that could not be caught there, with this message.
    Panicked(String),
    /// It was never there.
    Unavailable(Unavailable),
}

/// How an [`Isolate`] is made.
#[derive(Clone, Debug)]
pub struct IsolateOptions {
    /// For threads and tools.
    pub name: String,
    /// How long it may have nothing to do.
    pub idle: Duration,
    /// How long it may take to send its first message.
    pub start: Duration,
    /// What a child process gets on its command line, if not what this process got.
    pub arguments: Option<Vec<OsString>>,
}

/// A loop, as a platform sees it.
pub trait Turn {
    /// Runs one slice and says what the loop needs next.
    fn turn(&self) -> Next;

    /// Tells the loop that the last turn ended by a trap and never returned.
    ///
    /// Only hosts where a panic cannot unwind need it. The loop fails the task that ran, with all that it was
    /// starting, and is ready for another turn, which the platform gives it soon. It may end by a trap as well, of
    /// code that was to be told; each call gets further than the last.
    fn trapped(&self);
}

/// What a loop needs after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another turn, after the host had a chance to run its own work.
    Now,
    /// A turn at this time of [`Platform::now`], or earlier when [`Platform::pend`] is called. Never before either.
    At(Duration),
    /// A turn only after [`Platform::pend`].
    Idle,
    /// No further turn.
    Done,
}

/// How [`Platform::drive`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driven {
    /// The loop answered [`Next::Done`].
    Finished,
    /// The host will give the loop its turns after the caller has returned to it.
    Started,
}

/// The host has no means to do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    reason: &'static str,
}

impl Unavailable {
    /// `reason` says what is missing and what to use instead: lowercase, no full stop.
    pub const fn new(reason: &'static str) -> Self {
        Self { reason }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)
    }
}

impl Error for Unavailable {}
