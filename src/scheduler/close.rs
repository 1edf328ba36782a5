//! How a loop ends: closed by its owner, lost with its thread, or never run.

use super::{Call, Scheduler, start::CLOSING};
use crate::{
    error::{contain, text},
    inbox::Kind,
    ready::Lane,
    sleep::Boxed,
    task::TaskRef,
};

impl Scheduler {
    /// Ends everything: pending tasks are dropped and reported, what other threads hold is orphaned.
    pub(crate) fn close(&self) {
        if !self.closing.replace(true) {
            self.mark(CLOSING, true);
            // Also in a turn of another loop, or in none, where nobody else would go on with it after a trap.
            self.guard(&mut || self.finish_close());
        }
    }

    pub(super) fn finish_close(&self) {
        // No step in here may unwind: what comes after it keeps memory from being used after it was freed.
        let entered = self.enter_loop();
        loop {
            // A destructor may spawn; such tasks end at once, but they may leave callbacks.
            let pending = self.pending();
            if pending.is_empty() {
                // No task is left that could use them, but they may leave callbacks too.
                let Some(locals) = self.locals.close() else { break };
                for (_, value) in locals {
                    self.guarded("dropping a value of the loop", || drop(value));
                }
            }
            for task in pending {
                if task.is_done() {
                    continue;
                }
                task.end_cancelled(self);
                // Behind that: who hears of it may trap, and must not hear of the same task each time.
                if task.is_task() && !task.is_quiet() {
                    let message = text(&[&task.label(), " was destroyed while it was pending"]);
                    self.report(&message, Some(&task));
                }
            }
        }
        // Kept outside of the stack, as each may trap.
        while let Some((link, kind)) = self.next_taken().or_else(|| {
            self.taken.set(self.inbox.close());
            self.next_taken()
        }) {
            match kind {
                // SAFETY: taken as a cell, on the owner's thread.
                Kind::Cell => TaskRef::taken_from_inbox(unsafe { TaskRef::of_link(link) }),
                Kind::Call => {
                    // SAFETY: taken as a call.
                    let drop = || unsafe { Call::run(link.cast(), None) };
                    self.guarded("dropping a call from another thread", drop);
                }
            }
        }
        self.timers.clear(|node| {
            // SAFETY: cells took theirs out when they ended, so only boxed ones are left; no sleep is armed any more.
            if let Some(waker) = unsafe { Boxed::fired(node) } {
                self.fired.borrow_mut().push_back(waker);
            }
        });
        // As with those that are due, one that traps must not take the rest with it.
        loop {
            let waker = self.fired.borrow_mut().pop_front();
            let Some(waker) = waker else { break };
            self.guarded("dropping a waker", || drop(waker));
        }
        self.fired.take();
        // Destructors may queue tasks of a lane that was emptied before.
        while let Some(cell) = self.lanes.iter().find_map(Lane::pop) {
            // SAFETY: all tasks have ended, so the lane has a reference.
            let task = unsafe { TaskRef::from_ptr(cell) };
            debug_assert!(task.is_done());
            task.abandon();
        }
        self.spare_nodes.borrow_mut().clear();
        // From here to the end of `entered` no code of users runs, so nothing comes back into the loop.
        self.orphaned.set(true);
        let mut contents = Vec::new();
        self.arena.orphan(|cell| TaskRef::orphan(cell, &mut contents));
        // These are bound to the thread, and another one may be the last to refer to the scheduler.
        drop(self.owner.take());
        drop(self.slow_polls.take());
        let (instrument, handler) = (self.instrument.take(), self.handler.take());
        drop(entered);
        drop(contents);
        self.guarded("dropping an instrument", || drop(instrument));
        self.guarded("dropping an exception handler", || drop(handler));
    }

    /// The thread of the loop has gone, or has not come up, and nobody owns the loop: it refuses whatever comes, and all that
    /// it owes is lost. Its tasks are leaked, as their futures belong to that thread.
    ///
    /// By whichever thread notices, which the caller knows to be the only one that is left to do so.
    pub(crate) fn lose(&self) {
        for (link, kind) in self.inbox.close() {
            // A cell is what a waker has sent: it stays with the task.
            if kind == Kind::Call {
                // SAFETY: pushed as a call, and the owner, who has gone, did not take it out.
                contain(|| unsafe { Call::run(link.cast(), None) });
            }
        }
        self.debts.lose();
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        // Calls to a loop that never ran. Cells keep their scheduler, so none is left.
        for (link, kind) in self.inbox.close() {
            debug_assert_eq!(kind, Kind::Call);
            // SAFETY: taken as a call.
            unsafe { Call::run(link.cast(), None) };
        }
    }
}
