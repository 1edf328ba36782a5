//! How a task starts: at once, on top of whoever spawns it, or queued.

use std::{
    future::Future,
    mem::ManuallyDrop,
    ptr::{self, NonNull},
};

use super::{Scheduler, current_scheduler};
use crate::{
    ready::Priority,
    task::{HANDLE, Header, Setup, TaskRef, allocate},
};

/// Tasks that start each other eagerly may nest this deep.
pub(super) const MAX_DEPTH: u32 = 32;

/// And may use this much of the stack; WebAssembly has one megabyte in all.
pub(super) const MAX_STACK: usize = 256 * 1024;

/// In `Scheduler::depth`, above all depths: spawning has more to look at than a plain start would.
pub(super) const NOT_PLAIN: u32 = !0xffff;
/// Of these: hooks are to be told.
pub(super) const HOOKED: u32 = 1 << 16;
/// The loop closes.
pub(super) const CLOSING: u32 = 1 << 17;
/// Some task of the loop has had context variables, which the tasks that it starts may inherit.
const CONTEXTS: u32 = 1 << 18;

impl Scheduler {
    /// How a task of this loop is started.
    #[inline(always)]
    pub(crate) fn setup(&self, priority: Priority) -> Setup {
        let context = match self.running.get() {
            Some(cell) if ptr::eq(current_scheduler(), self) => {
                // SAFETY: whoever polls the task holds a reference.
                ManuallyDrop::new(unsafe { TaskRef::from_ptr(cell) }).context()
            }
            _ => crate::context::current(),
        };
        Setup { priority, flags: HANDLE, context, name: None }
    }

    /// Makes a task that nobody has queued.
    #[inline]
    pub(crate) fn make<F: Future + 'static>(&self, future: F, setup: Setup) -> TaskRef {
        let task = allocate(self, future, setup);
        if self.hooked.get() {
            self.hook_created(&task);
        }
        task
    }

    /// Starts a task that was just made: here and now if `eager` and possible, else by queueing it.
    #[inline]
    pub(crate) fn launch(&self, task: &TaskRef, eager: bool) {
        if task.is_done() {
            // A hook was told of it, and has closed the loop.
            return;
        }
        if eager && self.start_here(task) {
            return;
        }
        if self.closing.get() {
            task.end_cancelled(self);
        } else {
            // A hook may have cancelled it, and so queued it.
            task.wake();
        }
    }

    #[inline]
    fn start_here(&self, task: &TaskRef) -> bool {
        if self.closing.get() {
            return false;
        }
        if ptr::eq(current_scheduler(), self) {
            if !self.has_room() {
                return false;
            }
            self.nest(|| task.poll(self));
            return true;
        }
        // Between the turns of a started loop, a callback of the host may start tasks as if it were one.
        if !self.hosted.get() || !current_scheduler().is_null() {
            return false;
        }
        let deadline = self.timers.next_deadline();
        // No turn is there to catch a trap.
        let is_whole = self.guard(&mut || {
            let entered = self.enter_loop();
            self.stack.set(stack_address().wrapping_sub(MAX_STACK));
            task.poll(self);
            drop(entered);
        });
        // A turn that would find nothing to do is not asked for: what a task waits for from outside asks for its own.
        let is_idle = !self.is_ready() && self.inbox.is_empty() && !self.stop.get();
        if !(is_whole && is_idle && self.timers.next_deadline() == deadline) {
            self.platform.pend();
        }
        true
    }

    /// The running task, if a new one can start at once on top of it with nothing more to see to: nobody is to be told, and
    /// it inherits no variables. For the current loop.
    #[inline]
    pub(crate) fn plain_start(&self) -> Option<NonNull<Header>> {
        debug_assert!(ptr::eq(current_scheduler(), self));
        if self.depth.get() < MAX_DEPTH && self.has_stack() { self.running.get() } else { None }
    }

    /// Starts a new task inside `running`, which [`plain_start`](Self::plain_start) has said.
    ///
    /// # Safety
    ///
    /// The task was just made of an `F`, and nobody else has seen it.
    #[inline(always)]
    pub(crate) unsafe fn start_as<F: Future + 'static>(&self, task: &TaskRef, running: NonNull<Header>) {
        // SAFETY: as the caller promises.
        self.nest(|| unsafe { task.poll_as::<F>(self, Some(running)) });
    }

    /// Polls a new task inside the one that runs.
    #[inline(always)]
    fn nest(&self, poll: impl FnOnce()) {
        self.depth.set(self.depth.get() + 1);
        let waits = self.waits.get();
        poll();
        self.waits.set(waits);
        // Not what it was before: flags may have changed.
        self.depth.set(self.depth.get() - 1);
    }

    /// Whether there is room for one more task that starts inside another.
    #[inline]
    fn has_room(&self) -> bool {
        self.depth.get() & !NOT_PLAIN < MAX_DEPTH && self.has_stack()
    }

    #[inline]
    fn has_stack(&self) -> bool {
        // Under Miri the addresses of locals say nothing about the depth of the stack.
        cfg!(miri) || stack_address().wrapping_sub(self.stack.get()) <= 2 * MAX_STACK
    }

    /// Whether a task is being polled.
    pub(crate) fn is_running(&self) -> bool {
        self.running.get().is_some()
    }

    /// A task of the loop has context variables.
    pub(crate) fn has_contexts(&self) {
        self.mark(CONTEXTS, true);
    }

    pub(super) fn mark(&self, flag: u32, is_set: bool) {
        let others = self.depth.get() & !flag;
        self.depth.set(others | if is_set { flag } else { 0 });
    }
}

#[inline]
pub(super) fn stack_address() -> usize {
    let here = 0u8;
    ptr::from_ref(&here).addr()
}
