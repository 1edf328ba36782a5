//! What a loop does with a task: start, poll, complete, cancel, tell who waits.

use std::{
    future::Future,
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr::NonNull,
    rc::Rc,
    sync::Arc,
    task::{Context, Waker},
};

use super::{
    cell::{Awaiter, Header, Panic, TaskRef, poll},
    members::Members,
    state::*,
};
use crate::{
    context,
    error::{JoinError, discard, panic_message, push_number, text},
    os::TRAPS,
    scheduler::Scheduler,
};

/// Requests to cancel are counted in the upper half of the local word.
const REQUEST: u32 = 1 << 16;

impl TaskRef {
    /// A turn of the task: it came out of its lane. `told` if there are hooks, who are told.
    ///
    /// # Safety
    ///
    /// `cell` was just taken out of its lane. `outer` is the running task. A panic of the future goes on while the task is
    /// still the running one: then the caller has to call [`poll_panicked`](Self::poll_panicked).
    #[inline(always)]
    pub(crate) unsafe fn run(
        cell: NonNull<Header>,
        scheduler: &Scheduler,
        outer: Option<NonNull<Header>>,
        told: bool,
    ) {
        // SAFETY: the loop's reference, or the lane's, keeps the cell.
        let this = ManuallyDrop::new(unsafe { TaskRef::from_ptr(cell) });
        let state = this.bits();
        if state & (DONE | CANCEL) != 0 {
            this.clear(QUEUED);
            return this.run_ended(scheduler);
        }
        this.set_all(state & !QUEUED | RUNNING | STARTED);
        if told {
            scheduler.enter(&this);
        } else {
            scheduler.enter_from(&this, outer);
        }
        let poll = this.poller();
        // SAFETY: the task's own; it is not done, so its future is there.
        this.poll_by(scheduler, outer, told, |cell, cx| unsafe { poll(cell, cx) });
    }

    #[cold]
    fn run_ended(&self, scheduler: &Scheduler) {
        if self.has(DONE) {
            // SAFETY: the lane's reference to a task that has ended is ours now.
            let this = unsafe { TaskRef::from_ptr(self.as_ptr()) };
            if this.has(CALLBACKS) {
                this.run_callbacks(scheduler);
            }
            return;
        }
        self.clear(CANCEL);
        if self.is_resumed() || !self.cancel_scopes() {
            return self.end_cancelled(scheduler);
        }
        // The poll may let go of the task.
        let this = self.clone();
        this.poll(scheduler);
        if this.has(DONE | CANCEL) || this.cold(|cold| cold.scopes.took()) {
            return;
        }
        // The scopes that were flagged are gone, or nobody polls them.
        if this.has(QUEUED) {
            this.set(CANCEL);
        } else {
            this.end_cancelled(scheduler);
        }
    }

    /// Polls the future once, in a lane's turn or as an eager start inside another task.
    pub(crate) fn poll(&self, scheduler: &Scheduler) {
        debug_assert!(!self.has(RUNNING | DONE));
        self.set(RUNNING | STARTED);
        let told = scheduler.is_hooked();
        let outer = scheduler.enter(self);
        let poll = self.poller();
        // SAFETY: the task's own; it is not done, so its future is there.
        self.poll_caught(scheduler, outer, told, |cell, cx| unsafe { poll(cell, cx) });
    }

    /// Polls the future of a task that [`start`](super::cell::start) has just made, without a call through a pointer.
    ///
    /// # Safety
    ///
    /// The task's future is an `F`, and is there; `outer` is the running task.
    #[inline(always)]
    pub(crate) unsafe fn poll_as<F: Future>(&self, scheduler: &Scheduler, outer: Option<NonNull<Header>>) {
        debug_assert!(self.has(RUNNING));
        scheduler.enter_from(self, outer);
        let cell = self.as_ptr();
        // What comes after the poll is in here too, so that whether it is done need not be kept across the catch.
        let caught = catch_unwind(AssertUnwindSafe(move || {
            // SAFETY: `self` keeps the cell, and is not dropped before. A copy needs no place in memory.
            let this = ManuallyDrop::new(unsafe { TaskRef::from_ptr(cell) });
            // SAFETY: as the caller promises.
            if this.with_waker(|cx| unsafe { poll::<F>(cell, cx) }) {
                if scheduler.is_hooked() {
                    return this.polled_told(scheduler, outer, true);
                }
                scheduler.leave_done(&this, outer);
                if !this.complete_start() {
                    this.complete_plain(scheduler);
                }
            } else {
                this.clear(RUNNING);
                scheduler.leave_plain(&this, outer);
            }
        }));
        if let Err(payload) = caught {
            self.poll_panicked(scheduler, outer, payload);
        }
    }

    /// `poll` is the task's [`Poller`](super::cell::Poller). The RUNNING bit keeps everybody else out.
    #[inline(always)]
    fn poll_by(
        &self,
        scheduler: &Scheduler,
        outer: Option<NonNull<Header>>,
        told: bool,
        poll: impl FnOnce(NonNull<Header>, &mut Context<'_>) -> bool,
    ) {
        let done = self.with_waker(|cx| poll(self.as_ptr(), cx));
        if told {
            self.polled_told(scheduler, outer, done);
        } else if done {
            if scheduler.is_hooked() {
                // Since this poll: who is told hears of its end.
                return self.polled_told(scheduler, outer, true);
            }
            scheduler.leave_done(self, outer);
            self.complete_plain(scheduler);
        } else {
            self.clear(RUNNING);
            scheduler.leave_plain(self, outer);
        }
    }

    /// [`poll_by`](Self::poll_by), and nothing unwinds out of it.
    #[inline(always)]
    fn poll_caught(
        &self,
        scheduler: &Scheduler,
        outer: Option<NonNull<Header>>,
        told: bool,
        poll: impl FnOnce(NonNull<Header>, &mut Context<'_>) -> bool,
    ) {
        let cell = self.as_ptr();
        // What comes after the poll is in here too, so that whether it is done need not be kept across the catch.
        let caught = catch_unwind(AssertUnwindSafe(move || {
            // SAFETY: `self` keeps the cell, and is not dropped before. A copy needs no place in memory.
            let this = ManuallyDrop::new(unsafe { TaskRef::from_ptr(cell) });
            this.poll_by(scheduler, outer, told, poll);
        }));
        if let Err(payload) = caught {
            self.poll_panicked(scheduler, outer, payload);
        }
    }

    #[cold]
    fn polled_told(&self, scheduler: &Scheduler, outer: Option<NonNull<Header>>, done: bool) {
        if !done {
            // Before the instrument is told, which may ask what the task waits for.
            self.clear(RUNNING);
        }
        scheduler.leave(self, outer);
        if done {
            self.complete(scheduler, 0);
        }
    }

    /// A poll of the task, which ran inside `outer`, was unwound.
    #[cold]
    pub(crate) fn poll_panicked(
        &self,
        scheduler: &Scheduler,
        outer: Option<NonNull<Header>>,
        payload: Panic,
    ) {
        if !self.has(RUNNING) {
            // Not a future's panic: one of our own.
            resume_unwind(payload);
        }
        // In the task, whose context and cancel scopes what is left of its future belongs to.
        let dropped = if self.has(OUTPUT) { Ok(()) } else { self.drop_future() };
        scheduler.leave(self, outer);
        self.end_panicked(scheduler, payload, dropped);
    }

    #[cold]
    fn end_panicked(&self, scheduler: &Scheduler, payload: Panic, dropped: Result<(), Panic>) {
        // What is left to do comes after the loop has let go of the task.
        let this = self.clone();
        if self.has(OUTPUT) {
            // It was done, and then its destructor panicked: the result counts.
            this.complete(scheduler, 0);
            return this.report_drop_panic(scheduler, payload);
        }
        this.fail(JoinError::panicked(this.label(), payload));
        this.complete(scheduler, FAILED);
        if let Err(payload) = dropped {
            this.report_drop_panic(scheduler, payload);
        }
    }

    /// Ends a pending task without polling it.
    pub(crate) fn end_cancelled(&self, scheduler: &Scheduler) {
        debug_assert!(!self.has(DONE | RUNNING));
        self.set(RUNNING);
        let outer = scheduler.enter(self);
        if self.cold_if_any().is_some() {
            self.cold(|cold| cold.scopes.end());
        }
        let dropped = self.drop_future();
        scheduler.leave(self, outer);
        // As above. Not before: a trap in the destructor would leak it.
        let this = self.clone();
        let message = this.read_cold(|cold| cold.cancel_message.clone()).flatten();
        this.fail(JoinError::cancelled(message));
        this.complete(scheduler, FAILED | CANCELLED);
        if let Err(payload) = dropped {
            this.report_drop_panic(scheduler, payload);
        }
    }

    /// The task was running when a trap unwound the host's stack. Its future is in an unknown state and is leaked.
    ///
    /// Without a handle when it was being spawned: whoever was to get the handle is gone with the stack.
    pub(crate) fn end_trapped(&self, scheduler: &Scheduler, without_handle: bool) {
        if without_handle {
            self.clear(HANDLE);
        }
        if !self.has(DONE) {
            self.fail(JoinError::trapped());
            self.complete(scheduler, FAILED);
        }
    }

    /// The stage holds a result: tells everybody.
    fn complete(&self, scheduler: &Scheduler, failed: u32) {
        let state = self.bits();
        self.set_all(state & !(RUNNING | CANCEL) | DONE | OUTPUT | failed);
        self.tell_end(scheduler);
        self.release_pending(state);
    }

    /// Gives back what the loop owns of a pending task, whose state was `state` when it ended.
    #[inline]
    fn release_pending(&self, state: u32) {
        // In a lane, it is the lane's from now on.
        if state & QUEUED == 0 {
            self.release_from_loop();
        }
    }

    /// [`complete`](Self::complete), short for a task of which nobody has to know yet.
    #[inline(always)]
    fn complete_plain(&self, scheduler: &Scheduler) {
        if self.awaiter_word().is_null() && self.complete_start() {
            return;
        }
        let state = self.bits() & !(RUNNING | CANCEL) | DONE | OUTPUT;
        self.set_all(state);
        let is_known = self.cold_if_any().is_some() || !self.awaiter_word().is_null();
        if state & (TIMER | HANDLE) != HANDLE || is_known {
            self.tell_end(scheduler);
        }
        self.release_pending(state);
    }

    /// [`complete`](Self::complete) of a task that nobody has woken in its last poll, looked at, or begun to wait for.
    /// Does nothing and says no if it is another one.
    #[inline(always)]
    fn complete_start(&self) -> bool {
        // Running, with a reference of the loop and one of the handle.
        let is_plain = self.is_life(START, 2) && self.has_no_extra();
        if is_plain {
            debug_assert!(self.awaiter_word().is_null(), "nobody waits");
            self.set_life(START & !RUNNING | DONE | OUTPUT, 1);
        }
        is_plain
    }

    #[inline(never)]
    fn tell_end(&self, scheduler: &Scheduler) {
        if self.has(TIMER) {
            scheduler.disarm_task(self);
        }
        if self.cold_if_any().is_some() {
            self.complete_cold(scheduler);
        }
        if !self.awaiter_word().is_null() {
            self.notify(scheduler);
        }
        if scheduler.is_hooked() {
            scheduler.hook_done(self);
        }
        // Wakers and hooks run code of users, who may have taken or dropped the result already.
        self.release_unwanted(scheduler);
    }

    #[cold]
    fn complete_cold(&self, scheduler: &Scheduler) {
        let (scopes, end_hook, has_callbacks) = self.cold(|cold| {
            (std::mem::take(&mut cold.scopes), cold.end_hook.take(), !cold.callbacks.is_empty())
        });
        if has_callbacks {
            // Before all that is below, which runs code of users: until the callbacks have run nobody may take the result.
            // Queued before anybody is woken, so they run first.
            self.set(CALLBACKS);
            if !self.has(QUEUED) {
                scheduler.push_ready(self);
            }
        }
        scheduler.guarded("dropping a waker", || drop(scopes));
        if let Some(end_hook) = end_hook {
            end_hook.ended(self);
        }
        self.wake_waiting(scheduler);
    }

    fn notify(&self, scheduler: &Scheduler) {
        match self.take_awaiter() {
            Awaiter::None => {}
            Awaiter::Task(task) => {
                if !task.has(QUEUED | DONE) {
                    let scheduler = task.scheduler() as *const Scheduler;
                    // SAFETY: the scheduler outlives its tasks' cells.
                    unsafe { &*scheduler }.push_ready(&task);
                }
            }
            // Told again when the callbacks have run: only then can the result be taken.
            Awaiter::Members(members) if self.has(CALLBACKS) => self.set_awaiter(Awaiter::Members(members)),
            Awaiter::Members(members) => members.ended(self),
            Awaiter::Waker(waker) => scheduler.wake(*waker),
        }
    }

    /// Tells whoever owns the task and awaits it, and then those who borrow it.
    fn wake_waiting(&self, scheduler: &Scheduler) {
        let borrowers = self.cold(|cold| cold.borrowers.take());
        if TRAPS {
            // A trap takes with it what is on the stack.
            borrowers.for_each(|waker| scheduler.wake_later(waker));
            self.notify(scheduler);
            return scheduler.wake_fired();
        }
        self.notify(scheduler);
        borrowers.for_each(|waker| scheduler.wake(waker));
    }

    fn run_callbacks(&self, scheduler: &Scheduler) {
        // One by one, as a trap takes with it what is on the stack.
        for _ in 0..self.cold(|cold| cold.callbacks.len()) {
            let Some(callback) = self.cold(|cold| cold.callbacks.pop_front()) else { break };
            scheduler.set_calling(Some(self));
            scheduler.watched("a done callback", Some(self), || callback(self));
            scheduler.set_calling(None);
        }
        if self.cold(|cold| !cold.callbacks.is_empty()) {
            // Added by those that ran: at the next turn, so that a chain of them does not keep others waiting.
            if !self.has(QUEUED) {
                scheduler.push_ready(self);
            }
            return;
        }
        self.clear(CALLBACKS);
        // Whoever awaits the task and was polled before the callbacks had run was told to wait.
        self.wake_waiting(scheduler);
        self.release_unwanted(scheduler);
    }

    /// The loop closes: the task came out of its lane and gets no turn. Its callbacks are dropped.
    pub(crate) fn abandon(&self) {
        self.clear(QUEUED);
        if self.has(DONE) {
            self.forget_callbacks();
        }
    }

    /// Drops the done callbacks that have not run, and lets those go on who wait for them.
    pub(crate) fn forget_callbacks(&self) {
        let scheduler = self.scheduler();
        let callbacks = self.cold(|cold| std::mem::take(&mut cold.callbacks));
        for callback in callbacks {
            scheduler.guarded("dropping a done callback", || drop(callback));
        }
        if self.has(CALLBACKS) {
            self.run_callbacks(scheduler);
        }
    }

    /// Drops the result, if it is there and nobody can take it or look at it any more.
    #[inline]
    fn release_unwanted(&self, scheduler: &Scheduler) {
        if self.bits() & (OUTPUT | HANDLE | CALLBACKS) == OUTPUT {
            self.release_output(scheduler);
        }
    }

    /// Nobody can take the result any more.
    #[cold]
    fn release_output(&self, scheduler: &Scheduler) {
        let bits = self.bits();
        if bits & (FAILED | CANCELLED | OBSERVED | QUIET) == FAILED {
            scheduler.report_unobserved(self);
        }
        // Where no task runs its destructor must not leave variables behind.
        let outside = context::outside();
        if let Err(payload) = self.drop_output() {
            self.report_drop_panic(scheduler, payload);
        }
        drop(context::put_outside(outside));
    }

    #[cold]
    pub(crate) fn report_drop_panic(&self, scheduler: &Scheduler, payload: Panic) {
        let message = format!("{} panicked while it was dropped: {}", self.label(), panic_message(&*payload));
        discard(payload);
        scheduler.report(&message, Some(self));
    }

    /// The `Task` goes.
    #[inline]
    pub(crate) fn release_handle(&self) {
        self.clear(HANDLE);
        if self.has(OUTPUT) {
            let scheduler = self.scheduler() as *const Scheduler;
            // SAFETY: our reference keeps the cell, and the cell its scheduler.
            self.release_unwanted(unsafe { &*scheduler });
        }
    }

    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.has(DONE)
    }

    pub(crate) fn is_task(&self) -> bool {
        !self.has(CALLBACK)
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.has(QUIET)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.has(RUNNING)
    }

    pub(crate) fn is_started(&self) -> bool {
        self.has(STARTED)
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.has(FAILED)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.has(CANCELLED)
    }

    #[inline]
    pub(crate) fn has_output(&self) -> bool {
        self.has(OUTPUT)
    }

    /// Whether the result is there and may be taken.
    #[inline]
    pub(crate) fn can_be_taken(&self) -> bool {
        self.bits() & (OUTPUT | CALLBACKS) == OUTPUT
    }

    #[inline]
    pub(crate) fn callbacks_pending(&self) -> bool {
        self.has(CALLBACKS)
    }

    pub(crate) fn mark_observed(&self) {
        self.set(OBSERVED);
    }

    pub(crate) fn mark_quiet(&self) {
        self.set(QUIET);
    }

    pub(crate) fn has_timer(&self) -> bool {
        self.has(TIMER)
    }

    pub(crate) fn set_timer(&self, armed: bool) {
        if armed { self.set(TIMER) } else { self.clear(TIMER) }
    }

    #[inline]
    pub(crate) fn lane(&self) -> usize {
        ((self.bits() & LANE) >> LANE_SHIFT) as usize
    }

    /// Marks the cell as queued; whether it was not.
    #[inline]
    pub(crate) fn mark_queued(&self) {
        debug_assert!(!self.has(QUEUED));
        self.set(QUEUED);
    }

    #[inline]
    pub(crate) fn wake(&self) {
        self.wake_in(self.scheduler());
    }

    /// [`wake`](Self::wake) when the loop is at hand.
    #[inline]
    pub(super) fn wake_in(&self, scheduler: &Scheduler) {
        if self.has(QUEUED | DONE) {
            return;
        }
        if !scheduler.is_in_turn() {
            return self.wake_slow(scheduler);
        }
        self.wake_owned(scheduler);
    }

    /// [`wake`](Self::wake) for a task of the current loop, which is in a turn for that reason.
    #[inline]
    pub(super) fn wake_owned(&self, scheduler: &Scheduler) {
        debug_assert!(scheduler.is_in_turn());
        if self.has(QUEUED | DONE) {
            return;
        }
        self.mark_queued();
        // SAFETY: it was not queued, and it is pending, so the loop keeps it.
        unsafe { scheduler.lane(self.lane()).push(self.as_ptr()) };
    }

    #[cold]
    fn wake_slow(&self, scheduler: &Scheduler) {
        scheduler.push_ready(self);
    }

    /// Asks the task to end. Whether it was still pending.
    pub(crate) fn cancel(&self, message: Option<Arc<str>>) -> bool {
        if self.has(DONE) {
            return false;
        }
        if self.bits() >> 16 < 0xffff {
            self.set_all(self.bits() + REQUEST);
        }
        self.request_end(message);
        true
    }

    /// Asks the task to end because whoever awaits it, its group, its race or its loop does, or has no more use for it. As the group or
    /// the loop ends that is done once: a second request would cut short what the task does to end.
    pub(crate) fn cancel_with_owner(&self) -> bool {
        // Without anything cold it has no scopes, and ends at the first request.
        if self.cold_if_any().is_some() {
            let is_last = self.scheduler().ending.get();
            let asked = self.cold(|cold| {
                let asked = cold.asked;
                cold.asked |= is_last;
                asked
            });
            if asked {
                return false;
            }
        }
        self.cancel(None)
    }

    /// Whether a request is under way that was not delivered.
    pub(crate) fn is_asked(&self) -> bool {
        self.has(CANCEL)
    }

    /// Whether what it was asked counts as asked because its group or its loop ends.
    pub(crate) fn note_asked(&self, is_asked: bool) {
        if self.cold_if_any().is_some() {
            self.cold(|cold| cold.asked = is_asked);
        }
    }

    /// Makes a cancel the next thing that the task sees.
    pub(crate) fn request_end(&self, message: Option<Arc<str>>) {
        // The first message of those that were not delivered counts, and none is left from an earlier cancel.
        if !self.has(CANCEL) && (message.is_some() || self.cold_if_any().is_some()) {
            self.cold(|cold| cold.cancel_message = message);
        }
        self.set(CANCEL);
        self.wake();
    }

    /// Ends the task at its next turn, whatever scopes there are elsewhere in it.
    pub(crate) fn resume_end(&self, message: Option<Arc<str>>) {
        self.cold(|cold| cold.resumed = true);
        self.request_end(message);
    }

    fn is_resumed(&self) -> bool {
        self.read_cold(|cold| cold.resumed).unwrap_or(false)
    }

    pub(crate) fn cancelling(&self) -> u32 {
        self.bits() >> 16
    }

    /// What the task ends with if it ends now and was asked to.
    pub(crate) fn cancel_error(&self) -> Option<JoinError> {
        let message = || self.read_cold(|cold| cold.cancel_message.clone()).flatten();
        (self.cancelling() > 0 || self.is_resumed()).then(|| JoinError::cancelled(message()))
    }

    /// Withdraws a request. At zero, one that was not delivered is not delivered any more.
    pub(crate) fn uncancel(&self) -> u32 {
        if self.cancelling() > 0 {
            self.set_all(self.bits() - REQUEST);
        }
        // What was raised again is under way, and no request any more.
        if self.cancelling() == 0 && !self.is_resumed() {
            self.clear(CANCEL);
        }
        self.cancelling()
    }

    /// Drops the future of a callback that has not begun.
    pub(crate) fn cancel_callback(&self) -> bool {
        if self.has(DONE | RUNNING) {
            return false;
        }
        let scheduler = self.scheduler();
        // What the callback holds may be the last `EventLoop`, which then closes the loop after the callback has ended.
        let held = scheduler.hold();
        // Within a task that runs, a trap leaks a reference of what runs.
        let this = scheduler.is_running().then(|| self.clone());
        if held.was_in_turn() {
            self.end_cancelled(scheduler);
        } else {
            // No turn is there to catch a trap.
            scheduler.guard(&mut || self.end_cancelled(scheduler));
        }
        drop(this);
        drop(held);
        true
    }

    /// Sets the one awaiter of a task whose handle the caller owns.
    pub(crate) fn watch(&self, awaiter: Awaiter) {
        self.set_awaiter(awaiter);
    }

    pub(crate) fn unwatch(&self) {
        self.set_awaiter(Awaiter::None);
    }

    /// Whether the task's end will be told to `members`.
    pub(crate) fn is_watched_by(&self, members: &Rc<Members>) -> bool {
        Awaiter::is_members(self.awaiter_word(), members)
    }

    /// Makes `waker` the one that is told, for the owner of the handle.
    #[inline]
    pub(crate) fn watch_by(&self, waker: &Waker) {
        if let Some(task) = TaskRef::of_waker(waker) {
            if self.awaiter_word() != task.as_ptr().as_ptr().cast() {
                self.set_awaiter(Awaiter::Task(TaskRef::clone(&task)));
            }
            return;
        }
        self.set_awaiter(Awaiter::Waker(Box::new(waker.clone())));
    }

    pub(crate) fn add_callback(&self, callback: Box<dyn FnOnce(&TaskRef)>) {
        if self.has(DONE) && self.scheduler().is_closed() {
            // There is no turn any more in which it could run.
            return;
        }
        self.cold(|cold| cold.callbacks.push_back(callback));
        if self.has(DONE) && !self.has(CALLBACKS) {
            self.set(CALLBACKS);
            if !self.has(QUEUED) {
                self.scheduler().push_ready(self);
            }
        }
    }

    /// Adds `waker` to those that are told, for those who borrow the task. The key is theirs from now on.
    pub(crate) fn watch_shared(&self, key: &mut Option<u64>, waker: &Waker) {
        let waker = waker.clone();
        drop(self.cold(|cold| cold.borrowers.add(key, waker)));
    }

    pub(crate) fn unwatch_shared(&self, key: u64) {
        drop(self.cold(|cold| cold.borrowers.remove(key)));
    }

    /// The name, or `Task-` and the id.
    pub(crate) fn name(&self) -> Arc<str> {
        self.given_name().unwrap_or_else(|| self.number().into())
    }

    fn given_name(&self) -> Option<Arc<str>> {
        self.read_cold(|cold| cold.name.clone()).flatten()
    }

    fn number(&self) -> String {
        let mut number = "Task-".to_owned();
        push_number(&mut number, self.id.get());
        number
    }

    /// For messages: `task "name"`.
    pub(crate) fn label(&self) -> String {
        if self.has(CALLBACK) {
            return text(&["a callback (", self.type_name(), ")"]);
        }
        // Not by `Debug` of a text, which brings the tables of Unicode and 4 KB (compressed) into every program.
        let named = |name: &str| text(&["task \"", name, "\""]);
        match self.given_name() {
            Some(name) => named(&name),
            None => named(&self.number()),
        }
    }
}
