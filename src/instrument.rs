//! Watching a loop from outside: the one hook that tours and tracing use.

use crate::task::AnyTask;

pub(crate) type TaskInfo = AnyTask;

/// Is told what a loop does with its tasks. Set it by [`EventLoop::set_instrument`](crate::EventLoop::set_instrument).
///
/// The methods run inside the loop, so they should be short. What they spawn is not reported. A loop without an
/// instrument pays one branch a step.
pub trait Instrument {
    /// A task, or a callback, was made.
    fn created(&self, task: &AnyTask) {
        let _ = task;
    }

    /// A poll begins, or the future of a task that ends cancelled is dropped. Eager starts nest: another task's poll may be under way.
    fn poll_start(&self, task: &AnyTask) {
        let _ = task;
    }

    /// That has ended; [`AnyTask::waits_for`] says what the task waits for, if it is not done.
    fn poll_end(&self, task: &AnyTask) {
        let _ = task;
    }

    /// The task has ended.
    fn done(&self, task: &AnyTask) {
        let _ = task;
    }
}
