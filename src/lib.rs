//! asyncio's model, with JavaScript's eager start, as one scheduler for native programs and the browser.
//!
//! An [`EventLoop`] belongs to one thread and runs *tasks*: futures with a name, a state, a result, and a way to end them.
//! [`run`], or `#[selkie::main]`, makes a loop and runs a future on it.
//!
//! ```
//! use selkie::{sleep, spawn};
//! use std::time::Duration;
//!
//! selkie::run(async {
//!     let slow = spawn(async {
//!         sleep(Duration::from_millis(2)).await;
//!         "slow"
//!     });
//!     let quick = spawn(async { "quick" });
//!     assert!(quick.is_finished()); // it never had to wait, so it is done already
//!     assert_eq!(quick.await.unwrap(), "quick");
//!     assert_eq!(slow.await.unwrap(), "slow");
//! });
//! ```
//!
//! # The model
//!
//! - **Eager.** [`spawn`] runs the future at once, up to its first suspension. [`spawn_lazy`] waits for the next turn.
//! - **Owned by the loop.** Dropping a [`Task`] detaches it. `task.await` owns: dropping that await asks the task to end.
//! - **Cancel is a request.** Delivered at the task's next turn; [`catch_cancel`] lets the body clean up.
//! - **Nothing is lost silently.** A panic reaches whoever awaits the task, or else the exception handler. Awaiting what can
//!   never come ends in a typed error where the loop can know it.
//! - **Fair.** Tasks of one [`Priority`] run first in, first out; what becomes ready in a round runs in the next.
//!
//! # From asyncio
//!
//! Search finds each by asyncio's own name; items that differ say so under **Difference**.
//!
//! | asyncio | here |
//! |---|---|
//! | `run`, `Runner` | [`run`], [`try_run`], [`start`], `#[selkie::main]`, [`Runner`] |
//! | loops, `call_soon`, `call_later`, `TimerHandle` | [`EventLoop`], [`LoopHandle`], [`Handle`] |
//! | `create_task`, `eager_start=True` | [`spawn_lazy`], [`spawn`], [`Task::builder`] |
//! | `Task`, `current_task`, `all_tasks` | [`Task`], [`AnyTask`], [`current_task`], [`all_tasks`] |
//! | `CancelledError`, `InvalidStateError`, `TimeoutError` | [`catch_cancel`] and [`Cancelled`], [`InvalidState`], [`TimedOut`] |
//! | `gather`, with `return_exceptions=True` | [`try_gather`], [`gather`]; at most so many at once: [`limit`] |
//! | `wait`, `as_completed` | [`wait`] on a [`TaskSet`], [`as_completed`] |
//! | `TaskGroup`, `ExceptionGroup` | [`TaskGroup`], [`GroupError`] |
//! | `sleep`, `sleep(0)`, `timeout`, `wait_for`, `shield` | [`sleep`], [`yield_now`], [`timeout`], [`timeout_scope`], [`wait_for`], [`shield`] |
//! | `Future`, `create_future` | [`Deferred`], [`Resolver`] |
//! | `to_thread`, `run_coroutine_threadsafe` | [`to_thread`], [`LoopHandle::submit`], [`RemoteTask`] |
//! | `contextvars` | [`ContextVar`], [`Context`]; of a loop or a thread: [`LoopLocal`], [`ThreadLocal`] |
//! | `Queue`, `LifoQueue`, `PriorityQueue`, also those of `queue` | [`Queue`], [`LifoQueue`], [`PriorityQueue`] |
//! | `Lock`, `Event`, `Condition`, `Semaphore`, `Barrier`, also those of `threading` | the same names; [`RLock`], [`lock_all`] |
//! | `threading.Thread` | [`Thread`] |
//! | `ThreadPoolExecutor`, `ProcessPoolExecutor` | [`ThreadPool`], [`IsolatedPool`] with `#[selkie::isolated]` |
//! | debug mode, exception handler | [`EventLoop::report_slow_polls`], [`Instrument`], [`EventLoop::set_exception_handler`] |
//! | inside another loop, as Trio's guest mode | [`guest`], [`EventLoop::guest`] |
//!
//! # Targets
//!
//! Natively [`run`] blocks the thread. In a browser and in Node nothing may block: [`start`] and `#[selkie::main]` return at
//! once and the host gives the loop its turns. Shared code uses the same names on both; what a target cannot do is a typed
//! error there. [`os`] has what only one target has.
//!
//! # Testing
//!
//! [`testing::Sim`] runs the same code in virtual time, in an order that a seed chooses, with [faults](testing::Faults) if you like, and
//! reports deadlocks.
//!
//! # Features
//!
//! None is on by default. `tracing` adds `TaskSpans`, an [`Instrument`] that gives each task a span of the `tracing` crate, whose
//! subscriber then also gets what loops without an exception handler report.

// The modules that may are named below, each with `#[allow(unsafe_code)]`.
#![deny(unsafe_code)]

mod as_completed;
#[allow(unsafe_code)]
mod cancel;
mod census;
mod context;
mod deferred;
#[allow(unsafe_code)]
mod error;
mod event_loop;
mod exception;
mod executor;
#[allow(unsafe_code)]
mod gather;
mod generator;
mod guest;
#[allow(unsafe_code)]
mod inbox;
mod instrument;
mod interval;
pub mod isolated;
pub mod local;
mod loop_local;
mod loop_thread;
pub mod os;
mod places;
#[allow(unsafe_code)]
mod pool;
mod queue;
#[allow(unsafe_code)]
mod ready;
#[allow(unsafe_code)]
mod remote;
#[allow(unsafe_code)]
mod remote_call;
#[allow(unsafe_code)]
mod remote_set;
#[allow(unsafe_code)]
mod scheduler;
mod shield;
#[allow(unsafe_code)]
mod sleep;
mod slow;
mod staggered;
#[allow(unsafe_code)]
mod submit;
#[allow(unsafe_code)]
mod sync;
#[allow(unsafe_code)]
mod task;
mod task_group;
pub mod testing;
mod thread;
mod thread_local;
mod timeout;
#[allow(unsafe_code)]
mod timers;
#[cfg(feature = "tracing")]
mod tracing;
#[allow(unsafe_code)]
mod wait;

pub use as_completed::{AsCompleted, AsCompletedWithin, as_completed};
pub use cancel::{Cancelled, CatchCancel, catch_cancel};
pub use context::{Context, ContextScope, ContextVar};
pub use deferred::{Deferred, Resolver, Settled, SettledRef};
pub use error::{InvalidState, JoinError, LoopClosed, RunError, TaskError, TimedOut, WaitError};
pub use event_loop::{EventLoop, Handle, LoopHandle, Runner, run, start, try_run};
pub use exception::ExceptionContext;
pub use executor::Executor;
pub use gather::{Gather, IntoTask, IntoTasks, Limit, TryGather, gather, limit, try_gather};
pub use generator::{Generator, GeneratorStream, Step, Yielder, generator};
pub use guest::{Guest, guest};
pub use instrument::Instrument;
pub use interval::{Interval, MissedTicks, Tick, interval, interval_at};
pub use isolated::pool::{IsolatedMap, IsolatedPool, IsolatedPoolBuilder};
pub use loop_local::{LoopLocal, LoopScope};
pub use loop_thread::LoopThread;
pub use pool::{PoolBuilder, PoolError, PoolMap, PoolScope, PoolShutdown, ThreadPool};
pub use queue::{
    AnyQueue, Fifo, GetError, Items, Lifo, LifoQueue, PriorityQueue, PutError, Queue, QueueKey, QueueOrder,
    QueueShutDown, QueueStatistics, Smallest,
};
pub use ready::Priority;
pub use remote::RemoteTask;
pub use remote_call::{CancelOutcome, RemoteHandle};
pub use remote_set::RemoteSet;
pub use selkie_macros::{isolated, main, test};
pub use selkie_platform::{Next, Unavailable};
pub use shield::{Shield, shield};
pub use sleep::{Sleep, YieldNow, sleep, sleep_until, yield_now};
pub use staggered::{Staggered, staggered_race};
pub use submit::{ToThread, to_thread};
pub use sync::{
    Barrier, BoundedSemaphore, BrokenBarrier, Condition, Event, Lock, LockGuard, LockOrderViolation, LockSet,
    LockedAll, NotLocked, NotOwned, OverReleased, OwnedLockGuard, OwnedPermit, Permit, RLock, RLockGuard,
    Semaphore, Shared, WaitStatistics, lock_all,
};
pub use task::{
    AnyTask, Builder, Ended, Join, Joined, Task, TaskState, all_tasks, current_task, spawn, spawn_lazy,
};
pub use task_group::{GroupError, TaskGroup};
pub use thread::{Thread, ThreadBuilder, ThreadPanic, current_thread_name};
pub use thread_local::{AlreadySet, ThreadLocal, ThreadScope};
pub use timeout::{Deadline, Timeout, WaitForError, timeout, timeout_at, timeout_scope, wait_for};
#[cfg(feature = "tracing")]
pub use tracing::TaskSpans;
pub use wait::{TaskSet, Until, Wait, wait};

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

/// The example of the front page is one of the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
