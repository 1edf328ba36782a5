//! A turn is a slice of time given by the platform. It runs rounds until nothing is ready, somebody stops the loop,
//! or the time is over:
//!
//! 1. What the inbox holds, then the timers that are due, go to the back of their lanes.
//! 2. The urgent and then the normal tasks that are ready *at this moment* are polled; what becomes ready meanwhile
//!    waits for the next round. After every 15 of these polls a background task gets one.
//! 3. Background tasks run until something else is ready.
//!
//! Counts decide what runs, never the clock. The clock is read once when a turn begins, every 32 polls, or every 128
//! of short ones, and before the loop goes to sleep. What the end of a slice cuts off keeps its place.

use std::{
    cell::Cell,
    collections::VecDeque,
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr::NonNull,
    time::Duration,
};

use selkie_platform::Next;

use super::{
    Call, Scheduler, random,
    start::{MAX_STACK, stack_address},
};
use crate::{
    inbox::{Kind, Link},
    ready::Lane,
    sleep::Boxed,
    task::{Header, Panic, TaskRef},
    timers,
};

/// Polls between two looks at the clock, at most.
const POLLS_PER_CLOCK: u32 = 128;

/// So many of these are skipped unless the polls before were [`SHORT`]. A look costs as much as ten polls in a browser,
/// and long polls must not overrun the slice by much: those that follow short ones do it by 128, once.
const SKIPPED_POLLS: u32 = 96;

/// Nanoseconds between two looks at the clock.
const SHORT: u64 = 100_000;

/// Polls of other lanes between two of the background lane.
const POLLS_PER_BACKGROUND: u32 = 15;

impl Scheduler {
    /// One slice.
    pub(crate) fn turn(&self) -> Next {
        if self.in_turn.get() {
            // The host has re-entered: a task is being polled below on this stack. Once more when that is over.
            return Next::Now;
        }
        let entered = self.enter_loop();
        self.stack.set(stack_address().wrapping_sub(MAX_STACK));
        let next = self.rounds();
        drop(entered);
        next
    }

    fn rounds(&self) -> Next {
        self.end_batch();
        self.looked.set(self.time());
        self.since_clock.set(SKIPPED_POLLS);
        let end = self.now.get().saturating_add(self.slice.get());
        loop {
            self.take_inbox();
            self.fire_timers();
            if self.round[0].get() + self.round[1].get() == 0 {
                self.begin_round();
            }
            if self.round(end) {
                return Next::Now;
            }
            if self.stop.replace(false) {
                return Next::Done;
            }
            if self.is_ready() || !self.inbox.is_empty() {
                if self.since_clock.get() >= POLLS_PER_CLOCK && self.clock_is_over(end) {
                    return Next::Now;
                }
                continue;
            }
            self.trim();
            let Some(deadline) = self.timers.next_deadline() else { return Next::Idle };
            if deadline > self.time() {
                return Next::At(Duration::from_nanos(deadline));
            }
        }
    }

    /// One round and no more, for hosts that drive the loop themselves.
    pub(crate) fn turn_once(&self) -> Next {
        let entered = self.enter_loop();
        self.stack.set(stack_address().wrapping_sub(MAX_STACK));
        self.time();
        self.end_batch();
        self.take_inbox();
        self.fire_timers();
        if self.round[0].get() + self.round[1].get() == 0 {
            self.begin_round();
        }
        let end = self.now.get().saturating_add(self.slice.get());
        let over = self.round(end);
        let next = if over {
            Next::Now
        } else if self.stop.replace(false) {
            Next::Done
        } else if self.is_ready() || !self.inbox.is_empty() {
            Next::Now
        } else {
            self.trim();
            match self.timers.next_deadline() {
                None => Next::Idle,
                Some(deadline) if deadline > self.time() => Next::At(Duration::from_nanos(deadline)),
                Some(_) => Next::Now,
            }
        };
        drop(entered);
        next
    }

    fn take_inbox(&self) {
        if self.inbox.is_empty() {
            return;
        }
        // What a panic may have left there.
        self.run_taken();
        self.taken.set(self.inbox.take());
        self.run_taken();
    }

    /// The first of what is left of the inbox that was taken out.
    pub(super) fn next_taken(&self) -> Option<(NonNull<Link>, Kind)> {
        let mut taken = self.taken.take();
        let entry = taken.next();
        self.taken.set(taken);
        entry
    }

    /// A call that traps must not take the rest with it, so that is kept outside of the stack.
    pub(super) fn run_taken(&self) {
        while let Some((link, kind)) = self.next_taken() {
            // Counted, so that calls which hand over more calls, or wakes of what has ended, do not stop the clock.
            self.since_clock.set(self.since_clock.get() + 1);
            match kind {
                // SAFETY: taken as a cell, on the owner's thread.
                Kind::Cell => TaskRef::taken_from_inbox(unsafe { TaskRef::of_link(link) }),
                Kind::Call => {
                    // SAFETY: taken as a call.
                    let run = || unsafe { Call::run(link.cast(), Some(self)) };
                    self.guarded("a call from another thread", run);
                }
            }
        }
    }

    #[inline]
    fn fire_timers(&self) {
        if !self.timers.is_empty() {
            self.fire_due();
        }
    }

    #[inline(never)]
    fn fire_due(&self) {
        let mut foreign = self.fired.borrow_mut();
        self.timers.fire(self.now.get(), |node| {
            // SAFETY: a node that fires is live.
            if unsafe { node.as_ref() }.is_boxed() {
                // SAFETY: boxed nodes are the first field of a `Boxed`.
                if let Some(waker) = unsafe { Boxed::fired(node) } {
                    foreign.push_back(waker);
                }
            } else if !foreign.is_empty() {
                // Behind those that fired before, although they have to wait.
                // SAFETY: as below.
                let task = unsafe { TaskRef::of_timer(node) };
                task.set_timer(false);
                foreign.push_back(task.waker());
            } else {
                // SAFETY: other nodes are part of a cell, which was armed by `timer_ptr`.
                let task = unsafe { TaskRef::of_timer(node) };
                task.set_timer(false);
                task.wake();
            }
        });
        drop(foreign);
        self.wake_fired();
    }

    /// These may run code of users. One that traps must not take the rest with it, so that is kept outside of the stack.
    pub(crate) fn wake_fired(&self) {
        loop {
            let waker = self.fired.borrow_mut().pop_front();
            let Some(waker) = waker else { break };
            self.wake(waker);
        }
        let mut fired = self.fired.borrow_mut();
        if fired.capacity() > timers::KEPT {
            *fired = VecDeque::new();
        }
    }

    fn begin_round(&self) {
        if let Some(shuffle) = self.shuffle.get() {
            self.lanes.iter().for_each(shuffle);
        }
        if self.lanes[2].len() == 0 {
            // Nobody has waited so far.
            self.since_background.set(0);
        }
        self.round[0].set(self.lanes[0].len());
        self.round[1].set(self.lanes[1].len());
    }

    pub(super) fn is_ready(&self) -> bool {
        self.lanes.iter().any(|lane| lane.len() > 0)
    }

    fn clock_is_over(&self, end: u64) -> bool {
        let now = self.time();
        let short = now.saturating_sub(self.looked.replace(now)) < SHORT;
        self.since_clock.set(if short { 0 } else { SKIPPED_POLLS });
        now >= end
    }

    /// Runs a round; whether the time was over before its end.
    fn round(&self, end: u64) -> bool {
        let outer = self.running.get();
        loop {
            // Around all of the polls: one around each would cost a sixth of a switch.
            match catch_unwind(AssertUnwindSafe(|| self.round_from(outer, end))) {
                Ok(is_over) => return is_over,
                Err(payload) => self.turn_panicked(outer, payload),
            }
        }
    }

    /// A task's poll was unwound, and the round with it, which goes on with what is left.
    #[cold]
    fn turn_panicked(&self, outer: Option<NonNull<Header>>, payload: Panic) {
        let mut next = self.running.get();
        while let Some(cell) = next.filter(|_| next != outer) {
            // SAFETY: whoever polls the task holds a reference.
            let task = ManuallyDrop::new(unsafe { TaskRef::from_ptr(cell) });
            next = NonNull::new(task.link.get().cast_mut().cast());
            if next == outer {
                return task.poll_panicked(self, outer, payload);
            }
        }
        // No task's: one of our own.
        resume_unwind(payload);
    }

    /// Runs what is left of a round. A panic of a task leaves it as the running one.
    fn round_from(&self, outer: Option<NonNull<Header>>, end: u64) -> bool {
        self.end_batch();
        let [urgent, normal, background, _] = &self.lanes;
        loop {
            if self.since_background.get() >= POLLS_PER_BACKGROUND {
                self.since_background.set(0);
                if let Some(cell) = background.pop() {
                    // SAFETY: `round` sees to it.
                    unsafe { self.run_background(cell, outer) };
                    if self.since_clock.get() >= POLLS_PER_CLOCK && self.clock_is_over(end) {
                        return true;
                    }
                }
            }
            let lane = match (self.round[0].get(), self.round[1].get()) {
                (0, 0) => break,
                (0, _) => 1,
                _ => 0,
            };
            self.begin_batch(lane);
            // SAFETY: as above.
            unsafe {
                if self.hooked.get() {
                    self.batch_told(&self.lanes[lane], outer);
                } else {
                    self.batch(&self.lanes[lane], outer);
                }
            }
            if self.since_clock.get() >= POLLS_PER_CLOCK && self.clock_is_over(end) {
                return true;
            }
            if self.round[0].get() + self.round[1].get() == 0 {
                break;
            }
        }
        while urgent.len() + normal.len() == 0 && self.inbox.is_empty() && !self.stop.get() {
            let Some(cell) = background.pop() else { break };
            self.since_background.set(0);
            // SAFETY: as above.
            unsafe { self.run_background(cell, outer) };
            if self.since_clock.get() >= POLLS_PER_CLOCK {
                if self.clock_is_over(end) {
                    return true;
                }
                if self.timers.next_deadline().is_some_and(|deadline| deadline <= self.now.get()) {
                    break;
                }
            }
        }
        false
    }

    /// Counts the polls from now to when something has to be looked at: the end of the lane's part of the round, the
    /// background lane, or the clock.
    fn begin_batch(&self, lane: usize) {
        let round = &self.round[lane];
        let to_clock = POLLS_PER_CLOCK.saturating_sub(self.since_clock.get()).max(1);
        let most = to_clock.min(POLLS_PER_BACKGROUND - self.since_background.get());
        let polls = round.get().min(most as usize);
        round.set(round.get() - polls);
        self.since_background.set(self.since_background.get() + polls as u32);
        self.since_clock.set(self.since_clock.get() + polls as u32);
        self.batch_lane.set(lane);
        self.batch.set(polls);
    }

    /// Gives back what is left of the batch: it was left by a panic or a trap, or is to be left.
    pub(super) fn end_batch(&self) {
        let left = self.batch.replace(0);
        if left > 0 {
            // There are two: the compiler is told, or what says that an index is out of bounds is in every program.
            let round = &self.round[self.batch_lane.get() & 1];
            round.set(round.get() + left);
            self.since_background.set(self.since_background.get() - left as u32);
            self.since_clock.set(self.since_clock.get() - left as u32);
        }
    }

    /// Does the polls of a batch where there are no hooks. A task that sets the first one ends the batch.
    ///
    /// # Safety
    ///
    /// As for [`TaskRef::run`].
    // Alone, so that the registers of the loop around it do not spill in here.
    #[inline(never)]
    unsafe fn batch(&self, lane: &Lane, outer: Option<NonNull<Header>>) {
        while self.batch.get() > 0 {
            self.batch.set(self.batch.get() - 1);
            let Some(cell) = lane.pop() else { continue };
            // SAFETY: as the caller promises.
            unsafe { TaskRef::run(cell, self, outer, false) };
        }
    }

    /// [`batch`](Self::batch) where there are some.
    ///
    /// # Safety
    ///
    /// As for [`TaskRef::run`].
    #[cold]
    unsafe fn batch_told(&self, lane: &Lane, outer: Option<NonNull<Header>>) {
        while self.batch.get() > 0 {
            self.batch.set(self.batch.get() - 1);
            let Some(cell) = lane.pop() else { continue };
            // SAFETY: as the caller promises.
            unsafe { self.run_one(cell, outer) };
        }
    }

    /// One poll, whether there are hooks or not.
    ///
    /// # Safety
    ///
    /// As for [`TaskRef::run`].
    #[inline(never)]
    unsafe fn run_one(&self, cell: NonNull<Header>, outer: Option<NonNull<Header>>) {
        // SAFETY: as the caller promises.
        unsafe { TaskRef::run(cell, self, outer, self.hooked.get()) };
    }

    /// One poll of a background task.
    ///
    /// # Safety
    ///
    /// As for [`TaskRef::run`].
    unsafe fn run_background(&self, cell: NonNull<Header>, outer: Option<NonNull<Header>>) {
        self.since_clock.set(self.since_clock.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { self.run_one(cell, outer) };
    }

    /// Gives back the memory of cells and nodes that a steady program does not need. For a loop that is about to wait: so what a
    /// burst leaves is there for the next one in the same turns.
    fn trim(&self) {
        self.arena.trim();
        let mut spare = self.spare_nodes.borrow_mut();
        if spare.len() > timers::KEPT {
            *spare = Vec::new();
        }
    }

    /// Has the tasks of each round shuffled. The first call counts.
    pub(crate) fn set_shuffle(&self, seed: u64) {
        let state = Cell::new(seed);
        let random = move |bound: usize| {
            let mut next = state.get();
            let number = random(&mut next) % bound as u64;
            state.set(next);
            number as usize
        };
        self.shuffle.get_or_init(|| Box::new(move |lane| lane.shuffle(&random)));
    }
}

#[cfg(all(test, not(miri), not(all(target_family = "wasm", target_os = "unknown"))))]
mod tests {
    use std::{
        cell::Cell,
        rc::Rc,
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering::Relaxed},
        },
        time::Duration,
    };

    use selkie_platform::{Driven, Job, Next, Platform, Turn, Unavailable};

    use crate::EventLoop;

    /// A clock that goes on only when a task says so.
    #[derive(Default)]
    struct Steps {
        now: AtomicU64,
        looks: AtomicU64,
    }

    impl Platform for Steps {
        fn now(&self) -> Duration {
            self.looks.fetch_add(1, Relaxed);
            Duration::from_nanos(self.now.load(Relaxed))
        }
        fn drive(&self, _: Rc<dyn Turn>) -> Driven {
            Driven::Started
        }
        fn pend(&self) {}
        fn can_block(&self) -> bool {
            true
        }
        fn run_blocking(&self, job: Job) -> Result<(), Unavailable> {
            job();
            Ok(())
        }
        fn sibling(&self) -> Arc<dyn Platform> {
            Arc::new(Self::default())
        }
        fn spawn_thread(&self, _: &str, _: Job) -> Result<(), Unavailable> {
            Err(Unavailable::new("one thread"))
        }
        fn report(&self, _: &str) {}
    }

    /// The polls and the looks at the clock in each of some turns, by the length of a poll in ns.
    fn turns(lengths: &[u64]) -> Vec<(u64, u64)> {
        let steps = Arc::new(Steps::default());
        let event_loop = EventLoop::with_platform(steps.clone());
        let (length, polls) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (clock, every, counted) = (steps.clone(), length.clone(), polls.clone());
        let task = event_loop.spawn(async move {
            loop {
                clock.now.fetch_add(every.get(), Relaxed);
                counted.set(counted.get() + 1);
                crate::yield_now().await;
            }
        });
        let measured = lengths.iter().map(|&nanos| {
            length.set(nanos);
            polls.set(0);
            steps.looks.store(0, Relaxed);
            assert_eq!(event_loop.scheduler().turn(), Next::Now);
            (polls.get(), steps.looks.load(Relaxed))
        });
        let measured = measured.collect();
        task.unwrap().cancel();
        event_loop.scheduler().turn();
        measured
    }

    #[test]
    fn the_clock_is_looked_at_every_128_short_polls_and_every_32_long_ones() {
        // A slice is 10 ms: 20,000 polls of 0.5 us, or 500 of 20 us. A turn begins with a look, and with 32 polls.
        assert_eq!(turns(&[500, 20_000]), [(20_000, 158), (512, 17)]);
    }
}
