//! selkie
#![deny(unsafe_op_in_unsafe_fn)]

mod cancel;
mod context;
mod error;
mod event_loop;
mod exception;
mod guest;
mod inbox;
mod instrument;
pub mod os;
mod ready;
mod scheduler;
mod sleep;
mod slow;
mod sync;
mod task;
pub mod testing;
mod timers;

pub use cancel::{Cancelled, CatchCancel, catch_cancel};
pub use context::{Context, ContextScope, ContextVar};
pub use error::{InvalidState, JoinError, LoopClosed, RunError, TaskError, TimedOut};
pub use event_loop::{EventLoop, Handle, LoopHandle, Runner, run, start, try_run};
pub use exception::ExceptionContext;
pub use guest::{Guest, guest};
pub use instrument::Instrument;
pub use ready::Priority;
pub use selkie_macros::{main, test};
pub use selkie_platform::Next;
pub use sleep::{Sleep, YieldNow, sleep, sleep_until, yield_now};
pub use task::{
    AnyTask, Builder, Ended, Join, Joined, Task, TaskState, all_tasks, current_task, spawn, spawn_lazy,
};

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
