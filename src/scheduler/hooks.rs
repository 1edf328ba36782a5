//! Whom the loop tells: instruments, the watch over slow polls, the exception handler.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    time::Duration,
};

use super::{Scheduler, start::HOOKED};
use crate::{
    error::{discard, panic_message, text},
    exception::Handler,
    instrument::{Instrument, TaskInfo},
    slow::{SlowPolls, Step, Watch},
    task::TaskRef,
};

/// What an instrument is told of.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Moment {
    Created,
    PollStart,
    PollEnd,
    Done,
}

/// Is told of each moment. A loop knows an [`Instrument`] by this only, which users' own is made by [`told`]: a program that sets none
/// has nothing of it.
pub(crate) trait Tell {
    fn tell(self: Rc<Self>, scheduler: &Scheduler, task: &TaskRef, moment: Moment);
}

struct Told(Rc<dyn Instrument>);

pub(crate) fn told(instrument: Rc<dyn Instrument>) -> Rc<dyn Tell> {
    Rc::new(Told(instrument))
}

impl Tell for Told {
    fn tell(self: Rc<Self>, scheduler: &Scheduler, task: &TaskRef, moment: Moment) {
        // Not of itself, nor of what it has made: that would go on for ever.
        if scheduler.telling.get() {
            if moment == Moment::Created {
                task.cold(|cold| cold.untold = true);
            }
            return;
        }
        if task.read_cold(|cold| cold.untold).unwrap_or_default() {
            return;
        }
        scheduler.telling.set(true);
        // Dropped in there as well: it may have removed itself.
        scheduler.guarded("an instrument", move || {
            let info = TaskInfo::new(task);
            match moment {
                Moment::Created => self.0.created(&info),
                Moment::PollStart => self.0.poll_start(&info),
                Moment::PollEnd => self.0.poll_end(&info),
                Moment::Done => self.0.done(&info),
            }
            drop(self);
        });
        scheduler.telling.set(false);
    }
}

impl Scheduler {
    #[inline]
    pub(crate) fn is_hooked(&self) -> bool {
        self.hooked.get()
    }

    #[cold]
    #[inline(never)]
    fn hook(&self, task: &TaskRef, moment: Moment) {
        let instrument = self.instrument.borrow().clone();
        if let Some(instrument) = instrument {
            instrument.tell(self, task, moment);
        }
    }

    fn update_hooked(&self) {
        let hooked = self.instrument.borrow().is_some() || self.slow_polls.borrow().is_some();
        self.mark(HOOKED, hooked);
        self.hooked.set(hooked);
    }

    #[cold]
    pub(super) fn hook_created(&self, task: &TaskRef) {
        self.hook(task, Moment::Created);
    }

    #[cold]
    pub(super) fn hook_enter(&self, task: &TaskRef) {
        self.hook(task, Moment::PollStart);
        self.watch(|slow_polls| slow_polls.enter(Step::Poll(task)));
    }

    #[cold]
    pub(super) fn hook_leave(&self, task: &TaskRef) {
        if let Some(message) = self.watch(|slow_polls| slow_polls.leave(Step::Poll(task))).flatten() {
            self.report(&message, Some(task));
        }
        self.hook(task, Moment::PollEnd);
    }

    #[cold]
    pub(crate) fn hook_done(&self, task: &TaskRef) {
        self.hook(task, Moment::Done);
    }

    pub(crate) fn set_slow_polls(&self, limit: Option<Duration>) {
        if self.closing.get() {
            return;
        }
        let new = limit.map(|limit| Rc::new(SlowPolls::new(limit, &self.platform)) as Rc<dyn Watch>);
        drop(self.slow_polls.replace(new));
        self.update_hooked();
        self.end_batch();
    }

    pub(crate) fn set_instrument(&self, instrument: Option<Rc<dyn Tell>>) -> Option<Rc<dyn Tell>> {
        if self.closing.get() {
            // Whatever is stored now may be dropped in another thread.
            return instrument;
        }
        let old = self.instrument.replace(instrument);
        self.update_hooked();
        self.end_batch();
        old
    }

    pub(crate) fn set_handler(&self, handler: Option<Handler>) -> Option<Handler> {
        if self.closing.get() {
            // As for the instrument.
            return handler;
        }
        self.handler.replace(handler)
    }

    /// Runs code of users whose panic must not reach the loop.
    pub(crate) fn guarded(&self, what: &str, f: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
            self.report_panic(what, payload);
        }
    }

    /// [`guarded`](Self::guarded) for what holds up the loop as a poll does.
    pub(crate) fn watched(&self, what: &str, task: Option<&TaskRef>, f: impl FnOnce()) {
        let is_hooked = self.hooked.get();
        if is_hooked {
            self.watch(|slow_polls| slow_polls.enter(Step::Call(what, task)));
        }
        self.guarded(what, f);
        if is_hooked {
            if let Some(message) = self.watch(|slow_polls| slow_polls.leave(Step::Call(what, task))).flatten()
            {
                self.report(&message, task);
            }
        }
    }

    #[cold]
    fn watch<R>(&self, tell: impl FnOnce(&dyn Watch) -> R) -> Option<R> {
        let slow_polls = self.slow_polls.borrow().clone();
        slow_polls.map(|slow_polls| tell(&*slow_polls))
    }

    #[cold]
    pub(super) fn report_panic(&self, what: &str, payload: Box<dyn Any + Send>) {
        let message = format!("{what} panicked: {}", panic_message(&*payload));
        discard(payload);
        self.report(&message, None);
    }

    #[cold]
    pub(crate) fn report_unobserved(&self, task: &TaskRef) {
        let mut message = task.error_text();
        if task.is_task() {
            message.push_str(", and nobody looked at the result");
        }
        self.report(&message, Some(task));
    }

    #[cold]
    pub(crate) fn report(&self, message: &str, task: Option<&TaskRef>) {
        let handler = self.handler.borrow().clone();
        match handler {
            #[cfg(feature = "tracing")]
            None if crate::tracing::report(&crate::ExceptionContext::new(message, task)) => {}
            None => self.print(message),
            Some(handler) => {
                // The handler is dropped in there as well: it may have removed itself.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(move || handler(message, task))) {
                    self.print(message);
                    let text = format!("the exception handler panicked: {}", panic_message(&*payload));
                    discard(payload);
                    self.platform.report(&text);
                }
            }
        }
    }

    fn print(&self, message: &str) {
        self.platform.report(&text(&["selkie: ", message]));
    }
}
