//! A loop from inside: lanes, timers, inbox and the turn that goes through them.
//!
//! # One turn
//!
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
//!
//! # Who may touch it
//!
//! `inbox`, `debts`, `platform` and `this` belong to every thread. All the rest belongs to the owner, the thread that made
//! the loop, and is only reached through `EventLoop` and task handles, which are not `Send`, through
//! [`current_scheduler`], which answers on the owner's thread only, or by a waker that has asked it.

use std::{
    any::Any,
    cell::{Cell, OnceCell, RefCell},
    collections::VecDeque,
    future::Future,
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr::{self, NonNull},
    rc::Rc,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
    time::Duration,
};

use selkie_platform::{Next, Platform};

use crate::{
    error::{contain, discard, panic_message},
    event_loop::Owner,
    exception::Handler,
    inbox::{Closed, Inbox, Kind, Link, Taken},
    instrument::{Instrument, TaskInfo},
    loop_local::Locals,
    ready::{Lane, Priority},
    remote::Debts,
    sleep::{Boxed, nanos},
    slow::{SlowPolls, Watch},
    submit::Jobs,
    task::{Arena, HANDLE, Header, Panic, Setup, TaskRef, allocate},
    timers::{self, NEVER, Node, Timers},
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

/// A loop takes so many ids of the process at a time, so that a spawn touches no shared line.
const IDS: u64 = 64;

/// Tasks that start each other eagerly may nest this deep.
const MAX_DEPTH: u32 = 32;

/// In `Scheduler::depth`, above all depths: spawning has more to look at than a plain start would.
const NOT_PLAIN: u32 = !0xffff;
/// Of these: hooks are to be told.
const HOOKED: u32 = 1 << 16;
/// The loop closes.
const CLOSING: u32 = 1 << 17;
/// Some task of the loop has had context variables, which the tasks that it starts may inherit.
const CONTEXTS: u32 = 1 << 18;

/// And may use this much of the stack; WebAssembly has one megabyte in all.
const MAX_STACK: usize = 256 * 1024;

thread_local! {
    /// The loop whose turn runs on this thread.
    static CURRENT: Cell<*const Scheduler> = const { Cell::new(ptr::null()) };
}

#[inline]
pub(crate) fn current_scheduler() -> *const Scheduler {
    CURRENT.with(Cell::get)
}

/// Calls `with` with the loop whose turn runs here.
#[inline]
pub(crate) fn with_current<R>(with: impl FnOnce(&Scheduler) -> R) -> Option<R> {
    // SAFETY: `Entered` keeps the scheduler for as long as it is the current one.
    unsafe { current_scheduler().as_ref() }.map(with)
}

/// Wakes a waker that may be anybody's: one that panics fails nothing but itself.
pub(crate) fn wake(waker: Waker) {
    // SAFETY: as in `with_current`.
    match unsafe { current_scheduler().as_ref() } {
        Some(scheduler) => scheduler.wake(waker),
        None => {
            // The panic hook has shown the message.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                discard(payload);
            }
        }
    }
}

/// The task, or callback, that runs on this thread.
#[inline]
pub(crate) fn running() -> Option<ManuallyDrop<TaskRef>> {
    with_current(|scheduler| scheduler.running.get())
        .flatten()
        // SAFETY: whoever polls the task holds a reference.
        .map(|cell| ManuallyDrop::new(unsafe { TaskRef::from_ptr(cell) }))
}

/// Work that another thread hands over: what it is embedded in knows the rest.
#[repr(C)]
pub(crate) struct Call {
    link: Link,
    run: Runner,
}

/// Takes the call over, and runs it, or drops it where there is no loop.
///
/// # Safety
///
/// The call is that of [`Call::new`], and this is called once.
pub(crate) type Runner = unsafe fn(NonNull<Call>, Option<&Scheduler>);

impl Call {
    pub(crate) fn new(run: Runner) -> Self {
        Self { link: Link::new(), run }
    }

    /// # Safety
    ///
    /// `call` was taken out of an inbox, or refused by one.
    unsafe fn run(call: NonNull<Self>, scheduler: Option<&Scheduler>) {
        // SAFETY: whoever pushed it has given it away.
        unsafe { (call.as_ref().run)(call, scheduler) }
    }
}

pub(crate) struct Scheduler {
    this: Weak<Scheduler>,
    platform: Arc<dyn Platform>,
    pub(crate) inbox: Inbox,
    pub(crate) debts: Debts,

    pub(crate) owner: RefCell<std::rc::Weak<Owner>>,
    pub(crate) arena: Arena,
    /// By priority, and one that nobody uses, so that two bits of a task's state are an index.
    lanes: [Lane; 4],
    /// What is left of this round, of the urgent and the normal lane, without the batch.
    round: [Cell<usize>; 2],
    /// Polls of one lane, counted before they are done, after which it is looked at what comes next. What is left of them.
    batch: Cell<usize>,
    /// Which of the two lanes.
    batch_lane: Cell<usize>,
    since_background: Cell<u32>,
    since_clock: Cell<u32>,
    /// When `since_clock` was last reset. A sleep reads the clock between.
    looked: Cell<u64>,
    now: Cell<u64>,
    slice: Cell<u64>,
    timers: Timers,
    /// Wakers whose timers are due. Room is kept, so that a timer allocates nothing.
    fired: RefCell<VecDeque<Waker>>,
    #[expect(clippy::vec_box, reason = "the wheel points to them")]
    pub(crate) spare_nodes: RefCell<Vec<Box<Boxed>>>,
    running: Cell<Option<NonNull<Header>>>,
    /// What the running task says that it waits for.
    waits: Cell<*const ()>,
    /// How deep eager starts are nested now, and flags: see [`NOT_PLAIN`].
    depth: Cell<u32>,
    /// Half of the addresses that the stack of this turn's tasks may reach are above this one.
    stack: Cell<usize>,
    in_turn: Cell<bool>,
    /// The loop whose turn goes on when this one's is over: the host may run a turn inside another loop's.
    outer: Cell<*const Scheduler>,
    /// Whose done callbacks run.
    calling: Cell<Option<NonNull<Header>>>,
    /// What is left of the inbox that was taken out.
    taken: RefCell<Taken>,
    /// The platform gives turns.
    pub(crate) driven: Cell<bool>,
    /// Turns come from a host whose own callbacks may spawn between them.
    pub(crate) hosted: Cell<bool>,
    stop: Cell<bool>,
    closing: Cell<bool>,
    orphaned: Cell<bool>,
    /// The last one that was given to a task. A multiple of `IDS` is the last of those that were taken.
    id: Cell<u64>,
    keys: Cell<u64>,
    pub(crate) locals: Locals,
    handler: RefCell<Option<Handler>>,
    instrument: RefCell<Option<Rc<dyn Instrument>>>,
    slow_polls: RefCell<Option<Rc<dyn Watch>>>,
    /// There is an instrument, or slow polls are reported.
    hooked: Cell<bool>,
    /// Puts a lane in another order, before each round; for the simulator.
    shuffle: OnceCell<Box<dyn Fn(&Lane)>>,
    /// Shared with the jobs, from the first one on.
    pub(crate) jobs: OnceCell<Arc<Jobs>>,
}

// SAFETY: see "Who may touch it": other threads reach `inbox`, `debts`, `platform` and `this` only, which are `Sync`.
unsafe impl Send for Scheduler {}
// SAFETY: as above.
unsafe impl Sync for Scheduler {}

/// Makes a loop the current one of the thread, until dropped.
pub(crate) struct Entered<'a> {
    scheduler: &'a Scheduler,
    outer: *const Scheduler,
    was_in_turn: bool,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.scheduler.in_turn.set(self.was_in_turn);
        CURRENT.with(|current| current.set(self.outer));
    }
}

/// A loop that cannot close or run, until dropped. Then it closes if its last `EventLoop` has gone meanwhile.
pub(crate) struct Held<'a> {
    scheduler: &'a Scheduler,
    was_in_turn: bool,
    /// Dropped last, after `drop` below.
    _owner: Option<Rc<Owner>>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.scheduler.in_turn.set(self.was_in_turn);
        // What became ready meanwhile did not ask for a turn.
        self.scheduler.pend_outside();
    }
}

impl Scheduler {
    pub(crate) fn new(platform: Arc<dyn Platform>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            inbox: Inbox::new(),
            debts: Debts::default(),
            owner: RefCell::default(),
            arena: Arena::new(),
            lanes: Default::default(),
            round: Default::default(),
            batch: Cell::new(0),
            batch_lane: Cell::new(0),
            since_background: Cell::new(0),
            since_clock: Cell::new(0),
            looked: Cell::new(0),
            now: Cell::new(nanos(platform.now())),
            slice: Cell::new(nanos(platform.slice())),
            timers: Timers::new(nanos(platform.grain())),
            fired: RefCell::default(),
            spare_nodes: RefCell::default(),
            running: Cell::new(None),
            waits: Cell::new(ptr::null()),
            depth: Cell::new(0),
            stack: Cell::new(0),
            in_turn: Cell::new(false),
            outer: Cell::new(ptr::null()),
            calling: Cell::new(None),
            taken: RefCell::default(),
            driven: Cell::new(false),
            hosted: Cell::new(false),
            stop: Cell::new(false),
            closing: Cell::new(false),
            orphaned: Cell::new(false),
            id: Cell::new(0),
            keys: Cell::new(0),
            locals: Locals::new(),
            handler: RefCell::default(),
            instrument: RefCell::default(),
            slow_polls: RefCell::default(),
            hooked: Cell::new(false),
            shuffle: OnceCell::new(),
            jobs: OnceCell::new(),
            platform,
        })
    }

    pub(crate) fn this(&self) -> Arc<Self> {
        self.this.upgrade().expect("a scheduler lives in an `Arc`")
    }

    #[inline]
    pub(crate) fn platform(&self) -> &Arc<dyn Platform> {
        &self.platform
    }

    #[inline]
    pub(crate) fn next_id(&self) -> u64 {
        if self.id.get() % IDS == 0 {
            self.take_ids();
        }
        self.id.set(self.id.get() + 1);
        self.id.get()
    }

    #[cold]
    fn take_ids(&self) {
        /// Ids of a process.
        static TAKEN: AtomicU64 = AtomicU64::new(0);
        self.id.set(TAKEN.fetch_add(IDS, Ordering::Relaxed));
    }

    pub(crate) fn next_key(&self) -> u64 {
        self.keys.set(self.keys.get() + 1);
        self.keys.get()
    }

    // ---- time

    /// Reads the clock.
    pub(crate) fn time(&self) -> u64 {
        // What is never does not come, whatever a clock says.
        let now = nanos(self.platform.now()).min(NEVER - 1);
        self.now.set(now);
        now
    }

    /// The time when the clock was last read, which is not after the real one.
    #[inline]
    pub(crate) fn cached_time(&self) -> u64 {
        self.now.get()
    }

    pub(crate) fn arm_task(&self, task: &TaskRef, deadline: u64) {
        debug_assert!(!task.has_timer());
        task.set_timer(true);
        // SAFETY: the cell takes its node out when it completes, before it can go.
        unsafe { self.timers.insert(task.timer_ptr(), deadline, false) };
        self.pend_outside();
    }

    pub(crate) fn disarm_task(&self, task: &TaskRef) {
        task.set_timer(false);
        // SAFETY: the TIMER bit says that the node is in the wheel.
        unsafe { self.timers.remove(task.timer_ptr()) };
    }

    /// # Safety
    ///
    /// `node` is live, in no wheel, part of a [`Boxed`], and is disarmed or fires before it goes.
    pub(crate) unsafe fn arm_boxed(&self, node: NonNull<Node>, deadline: u64) {
        // SAFETY: as the caller promises.
        unsafe { self.timers.insert(node, deadline, true) };
        self.pend_outside();
    }

    /// # Safety
    ///
    /// `node` was armed and has not fired.
    pub(crate) unsafe fn disarm_boxed(&self, node: NonNull<Node>) {
        // SAFETY: as the caller promises.
        unsafe { self.timers.remove(node) };
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
                foreign.extend(unsafe { Boxed::fired(node) });
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
    fn wake_fired(&self) {
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

    /// Keeps a node of a sleep outside of a task for the next one.
    pub(crate) fn spare(&self, node: Box<Boxed>) {
        self.spare_nodes.borrow_mut().push(node);
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

    /// Wakes a waker that may be anybody's: one that panics fails nothing but itself.
    pub(crate) fn wake(&self, waker: Waker) {
        if TaskRef::of_waker(&waker).is_some() {
            waker.wake();
        } else {
            self.guarded("a waker", || waker.wake());
        }
    }

    // ---- ready

    /// Queues a task that is in no lane.
    #[inline]
    pub(crate) fn push_ready(&self, task: &TaskRef) {
        if task.is_done() {
            // The lane's; of a pending task what the loop owns does.
            task.clone().into_ptr();
        }
        task.mark_queued();
        // SAFETY: it is in no lane, and is kept as said above.
        unsafe { self.lane(task.lane()).push(task.as_ptr()) };
        self.pend_outside();
    }

    /// `index` has two bits.
    #[inline]
    pub(crate) fn lane(&self, index: usize) -> &Lane {
        &self.lanes[index & 3]
    }

    /// Outside of a turn nobody looks at the lanes and timers unless asked.
    #[inline]
    fn pend_outside(&self) {
        if !self.in_turn.get() {
            self.platform.pend();
        }
    }

    /// Queues `run` from any thread.
    pub(crate) fn call_remote<F: FnOnce(&Scheduler) + Send + 'static>(&self, run: F) -> Result<(), Closed> {
        #[repr(C)]
        struct Boxed<F> {
            call: Call,
            run: F,
        }
        unsafe fn unbox<F: FnOnce(&Scheduler)>(call: NonNull<Call>, scheduler: Option<&Scheduler>) {
            // SAFETY: made below, with the call as its first field.
            let boxed = unsafe { Box::from_raw(call.cast::<Boxed<F>>().as_ptr()) };
            if let Some(scheduler) = scheduler {
                (boxed.run)(scheduler);
            }
        }
        let boxed = Box::into_raw(Box::new(Boxed { call: Call::new(unbox::<F>), run }));
        // SAFETY: not null, as it comes from a box. It stays until `unbox` takes it, once.
        unsafe { self.push_call(NonNull::new_unchecked(boxed.cast())) }
    }

    /// Queues a call from any thread. If the loop has closed it is dropped here and now.
    ///
    /// # Safety
    ///
    /// The call stays where it is until it is run, and nobody else has it run.
    pub(crate) unsafe fn push_call(&self, call: NonNull<Call>) -> Result<(), Closed> {
        // SAFETY: the link is the first field of a call, which was in no inbox before, and is aligned to a pointer.
        match unsafe { self.inbox.push(call.cast(), Kind::Call) } {
            Ok(was_empty) => {
                if was_empty {
                    self.platform.pend();
                }
                Ok(())
            }
            Err(closed) => {
                // SAFETY: the push failed, so it is still ours.
                unsafe { Call::run(call, None) };
                Err(closed)
            }
        }
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

    fn take_inbox(&self) {
        if self.inbox.is_empty() {
            return;
        }
        // What a panic may have left there.
        self.run_taken();
        self.taken.replace(self.inbox.take());
        self.run_taken();
    }

    /// A call that traps must not take the rest with it, so that is kept outside of the stack.
    fn run_taken(&self) {
        loop {
            let entry = self.taken.borrow_mut().next();
            let Some((link, kind)) = entry else { break };
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

    // ---- tasks

    /// Makes the loop the current one of this thread.
    pub(crate) fn enter_loop(&self) -> Entered<'_> {
        let outer = CURRENT.with(|current| current.replace(self));
        let was_in_turn = self.in_turn.replace(true);
        if !was_in_turn {
            self.outer.set(outer);
            self.depth.set(self.depth.get() & NOT_PLAIN);
        }
        Entered { scheduler: self, outer, was_in_turn }
    }

    /// Keeps the loop from being closed or run while it is not in a turn and a task is in an unsettled state.
    pub(crate) fn hold(&self) -> Held<'_> {
        let owner = self.owner.borrow().upgrade();
        Held { scheduler: self, was_in_turn: self.in_turn.replace(true), _owner: owner }
    }

    /// `task` begins to run inside the one that is returned. [`leave`](Self::leave) or one of its short forms follows.
    #[inline]
    pub(crate) fn enter(&self, task: &TaskRef) -> Option<NonNull<Header>> {
        if self.hooked.get() {
            self.hook_enter(task);
        }
        let outer = self.running.get();
        self.enter_from(task, outer);
        outer
    }

    /// [`enter`](Self::enter) when nobody is to be told, and it is known that `outer` runs.
    #[inline]
    pub(crate) fn enter_from(&self, task: &TaskRef, outer: Option<NonNull<Header>>) {
        debug_assert!(self.running.get() == outer);
        self.running.set(Some(task.as_ptr()));
        task.link.set(outer.map_or(ptr::null(), |outer| outer.as_ptr().cast_const().cast()));
        self.waits.set(ptr::null());
    }

    pub(crate) fn leave(&self, task: &TaskRef, outer: Option<NonNull<Header>>) {
        self.leave_plain(task, outer);
        if self.hooked.get() {
            self.hook_leave(task);
        }
    }

    /// [`leave`](Self::leave) when nobody is to be told.
    #[inline]
    pub(crate) fn leave_plain(&self, task: &TaskRef, outer: Option<NonNull<Header>>) {
        task.link.set(self.waits.get());
        self.leave_done(task, outer);
    }

    /// [`leave_plain`](Self::leave_plain) for a task that waits for nothing more.
    #[inline]
    pub(crate) fn leave_done(&self, task: &TaskRef, outer: Option<NonNull<Header>>) {
        let inner = self.running.replace(outer);
        if crate::os::TRAPS && inner != Some(task.as_ptr()) {
            self.trapped_within(inner, task);
        }
    }

    /// Whose done callbacks run, if any: they get another turn after a trap.
    pub(crate) fn set_calling(&self, task: Option<&TaskRef>) {
        self.calling.set(task.map(TaskRef::as_ptr));
    }

    /// The running task says what it waits for.
    #[inline]
    pub(crate) fn set_waits(&self, waits: *const ()) {
        self.waits.set(waits);
    }

    /// Makes a task that nobody has queued.
    #[inline]
    pub(crate) fn make<F: Future + 'static>(&self, future: F, setup: Setup) -> TaskRef {
        let task = allocate(self, future, setup);
        if self.hooked.get() {
            self.hook(&task, <dyn Instrument>::created);
        }
        task
    }

    /// The running task, if a new one can start at once on top of it with nothing more to see to: nobody is to be told, and
    /// it inherits no variables. For the current loop.
    #[inline]
    pub(crate) fn plain_start(&self) -> Option<NonNull<Header>> {
        debug_assert!(ptr::eq(current_scheduler(), self));
        if self.depth.get() < MAX_DEPTH && self.has_stack() { self.running.get() } else { None }
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

    fn mark(&self, flag: u32, is_set: bool) {
        let others = self.depth.get() & !flag;
        self.depth.set(others | if is_set { flag } else { 0 });
    }

    /// A task of the loop has context variables.
    pub(crate) fn has_contexts(&self) {
        self.mark(CONTEXTS, true);
    }

    /// Whether a task is being polled.
    pub(crate) fn is_running(&self) -> bool {
        self.running.get().is_some()
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

    /// Starts a new task inside `running`, which [`plain_start`](Self::plain_start) has said.
    ///
    /// # Safety
    ///
    /// The task was just made of an `F` by [`start`](crate::task::start).
    #[inline(always)]
    pub(crate) unsafe fn start_as<F: Future + 'static>(&self, task: &TaskRef, running: NonNull<Header>) {
        // SAFETY: as the caller promises.
        self.nest(|| unsafe { task.poll_as::<F>(self, Some(running)) });
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
        // No turn is there to catch a trap.
        self.guard(&mut || {
            let entered = self.enter_loop();
            self.stack.set(stack_address().wrapping_sub(MAX_STACK));
            task.poll(self);
            drop(entered);
        });
        self.platform.pend();
        true
    }

    /// Runs `f`, which polls tasks, where a trap would not come to the platform's notice.
    pub(crate) fn guard(&self, f: &mut dyn FnMut()) {
        let mut repairs = 0;
        if !self.platform.guard(f) {
            // To tell those who wait may trap as well, for each of the tasks that were starting each other.
            while !self.platform.guard(&mut || self.trapped()) && repairs < MAX_DEPTH + 2 {
                repairs += 1;
            }
        }
    }

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

    fn is_ready(&self) -> bool {
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
                    unsafe { self.run_one(cell, outer) };
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
                    self.batch::<true>(&self.lanes[lane], outer);
                } else {
                    self.batch::<false>(&self.lanes[lane], outer);
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
            unsafe { self.run_one(cell, outer) };
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
    fn end_batch(&self) {
        let left = self.batch.replace(0);
        if left > 0 {
            let round = &self.round[self.batch_lane.get()];
            round.set(round.get() + left);
            self.since_background.set(self.since_background.get() - left as u32);
            self.since_clock.set(self.since_clock.get() - left as u32);
        }
    }

    /// Does the polls of a batch. `TOLD` if there are hooks: then a task that takes the last one away, or sets the first,
    /// ends the batch.
    ///
    /// # Safety
    ///
    /// As for [`TaskRef::run`].
    // Alone, so that the registers of the loop around it do not spill in here.
    #[inline(never)]
    unsafe fn batch<const TOLD: bool>(&self, lane: &Lane, outer: Option<NonNull<Header>>) {
        while self.batch.get() > 0 {
            self.batch.set(self.batch.get() - 1);
            let Some(cell) = lane.pop() else { continue };
            // SAFETY: as the caller promises.
            unsafe { TaskRef::run::<TOLD>(cell, self, outer) };
        }
    }

    /// One poll of a background task.
    ///
    /// # Safety
    ///
    /// As for [`TaskRef::run`].
    #[inline(never)]
    unsafe fn run_one(&self, cell: NonNull<Header>, outer: Option<NonNull<Header>>) {
        self.since_clock.set(self.since_clock.get() + 1);
        // SAFETY: as the caller promises.
        unsafe {
            if self.hooked.get() {
                TaskRef::run::<true>(cell, self, outer);
            } else {
                TaskRef::run::<false>(cell, self, outer);
            }
        }
    }

    /// The last turn was unwound by a trap, with everything that was on the stack.
    ///
    /// To tell those who wait may run code of users and trap as well. So what was told is taken off first, and another
    /// call goes on with the rest.
    pub(crate) fn trapped(&self) {
        if self.in_turn.replace(false) {
            CURRENT.with(|current| current.set(self.outer.get()));
        }
        let entered = self.enter_loop();
        self.trapped_chain(None);
        if let Some(cell) = self.calling.take() {
            // SAFETY: whoever ran the callbacks held a reference, which leaked with the stack and is ours now.
            let task = unsafe { TaskRef::from_ptr(cell) };
            // The rest of them, and then who waits for the task, get another turn.
            self.push_ready(&task);
        }
        self.run_taken();
        self.wake_fired();
        if self.closing.get() && !self.orphaned.get() {
            self.finish_close();
        }
        drop(entered);
    }

    /// Ends the running task, and those it was started by, up to `end`.
    fn trapped_chain(&self, end: Option<NonNull<Header>>) {
        while let Some(running) = self.running.get().filter(|running| Some(*running) != end) {
            // SAFETY: its loop keeps a task that runs.
            let task = ManuallyDrop::new(unsafe { TaskRef::from_ptr(running) });
            let outer = NonNull::new(task.link.get().cast_mut().cast());
            self.running.set(outer);
            // Whoever started it inside another task held a reference, which leaked with the stack and is ours now.
            let task = if outer.is_some() { ManuallyDrop::into_inner(task) } else { TaskRef::clone(&task) };
            // Within another task it was being spawned.
            task.end_trapped(self, outer.is_some());
        }
    }

    /// `task`, whose poll is over, had called JavaScript, which called back, and caught the trap of the tasks that this
    /// started: from `inner` on.
    #[cold]
    fn trapped_within(&self, inner: Option<NonNull<Header>>, task: &TaskRef) {
        let outer = self.running.replace(inner);
        self.trapped_chain(Some(task.as_ptr()));
        self.running.set(outer);
    }

    pub(crate) fn stop(&self) {
        self.stop.set(true);
        self.pend_outside();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closing.get()
    }

    /// Whether the references of all cells are counted remotely.
    #[inline]
    pub(crate) fn is_orphaned(&self) -> bool {
        self.orphaned.get()
    }

    #[inline]
    pub(crate) fn is_in_turn(&self) -> bool {
        self.in_turn.get()
    }

    /// Tasks and callbacks that have not ended, oldest first.
    pub(crate) fn pending(&self) -> Vec<TaskRef> {
        let mut pending = Vec::new();
        self.arena.each(|cell| {
            let task = TaskRef::listed(cell);
            if !task.is_done() {
                pending.push((task.id.get(), task.into_ptr().cast()));
            }
        });
        timers::sort(&mut pending, &mut Vec::new());
        // SAFETY: the references that were counted above.
        pending.into_iter().map(|(_, cell)| unsafe { TaskRef::from_ptr(cell.cast()) }).collect()
    }

    /// The name of a task that may have gone meanwhile. Looks at every task, so it is for people only.
    pub(crate) fn name_of(&self, id: u64) -> Option<Arc<str>> {
        let mut name = None;
        self.arena.each(|cell| {
            let task = TaskRef::listed(cell);
            // As many bits as the word of whoever waits has for it.
            if task.id.get() as usize & (usize::MAX >> 1) == id as usize {
                name = Some(task.name());
            }
        });
        name
    }

    /// Ends everything: pending tasks are dropped and reported, what other threads hold is orphaned.
    pub(crate) fn close(&self) {
        if !self.closing.replace(true) {
            self.mark(CLOSING, true);
            self.finish_close();
        }
    }

    fn finish_close(&self) {
        // No step in here may unwind: what comes after it keeps memory from being used after it was freed.
        let entered = self.enter_loop();
        loop {
            // A destructor may spawn; such tasks end at once, but they may leave callbacks.
            let pending = self.pending();
            if pending.is_empty() {
                // No task is left that could use them, but they may leave callbacks too.
                let Some(locals) = self.locals.close() else { break };
                for value in locals {
                    self.guarded("dropping a value of the loop", || drop(value));
                }
            }
            for task in pending {
                if task.is_done() {
                    continue;
                }
                if task.is_task() && !task.is_quiet() {
                    let message = format!("{} was destroyed while it was pending", task.label());
                    self.report(&message, Some(&task));
                }
                task.end_cancelled(self);
            }
        }
        for (link, kind) in self.inbox.close() {
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
        let mut foreign = Vec::new();
        let fired = self.fired.take();
        self.guarded("dropping a waker", || drop(fired));
        // SAFETY: cells took theirs out when they ended, so only boxed ones are left; no sleep is armed any more.
        self.timers.clear(|node| foreign.extend(unsafe { Boxed::fired(node) }));
        self.guarded("dropping a waker", || drop(foreign));
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

    // ---- hooks and reports

    #[inline]
    pub(crate) fn is_hooked(&self) -> bool {
        self.hooked.get()
    }

    /// Calls one of the instrument's methods. A pointer to it, so that all four share this code.
    #[cold]
    #[inline(never)]
    fn hook(&self, task: &TaskRef, tell: fn(&(dyn Instrument + 'static), &TaskInfo)) {
        let instrument = self.instrument.borrow().clone();
        if let Some(instrument) = instrument {
            // Not seen by itself.
            self.hooked.set(false);
            self.mark(HOOKED, false);
            // Dropped in there as well: it may have removed itself.
            self.guarded("an instrument", move || tell(&*instrument, &TaskInfo::new(task)));
            self.update_hooked();
        }
    }

    fn update_hooked(&self) {
        let hooked = self.instrument.borrow().is_some() || self.slow_polls.borrow().is_some();
        self.mark(HOOKED, hooked);
        self.hooked.set(hooked);
    }

    #[cold]
    fn hook_enter(&self, task: &TaskRef) {
        self.hook(task, <dyn Instrument>::poll_start);
        let slow_polls = self.slow_polls.borrow().clone();
        if let Some(slow_polls) = slow_polls {
            slow_polls.enter(task);
        }
    }

    #[cold]
    fn hook_leave(&self, task: &TaskRef) {
        let slow_polls = self.slow_polls.borrow().clone();
        if let Some(message) = slow_polls.and_then(|slow_polls| slow_polls.leave(task)) {
            self.report(&message, Some(task));
        }
        self.hook(task, <dyn Instrument>::poll_end);
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

    #[cold]
    pub(crate) fn hook_done(&self, task: &TaskRef) {
        self.hook(task, <dyn Instrument>::done);
    }

    pub(crate) fn set_instrument(
        &self,
        instrument: Option<Rc<dyn Instrument>>,
    ) -> Option<Rc<dyn Instrument>> {
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

    #[cold]
    fn report_panic(&self, what: &str, payload: Box<dyn Any + Send>) {
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
        self.platform.report(&format!("selkie: {message}"));
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

/// SplitMix64: enough to order a lane, and the same on every target.
pub(crate) fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[inline]
fn stack_address() -> usize {
    let here = 0u8;
    ptr::from_ref(&here).addr()
}

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
}

// A trap leaves the stack where it was; a thread that never goes on does the same, for as long as the test runs.
#[cfg(all(test, not(miri), not(all(target_family = "wasm", target_os = "unknown"))))]
mod tests {
    use std::{
        cell::Cell,
        rc::Rc,
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering::Relaxed},
            mpsc,
        },
        time::Duration,
    };

    use selkie_platform::{Driven, Job, Next, Platform, Turn, Unavailable};

    use crate::{EventLoop, Thread, spawn, spawn_lazy, testing::Sim};

    /// What a trap does to the stack that it is called on.
    fn trap() -> ! {
        let (_kept, never) = mpsc::channel::<()>();
        let _ = never.recv();
        unreachable!("nobody sends")
    }

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

    #[test]
    fn a_trap_in_an_eager_start_leaves_nothing_but_the_callers_behind() {
        let (sender, receiver) = mpsc::channel();
        let thread = Thread::spawn("trap", move || {
            let event_loop = Sim::new().event_loop();
            let run = event_loop.run_until_complete(async move {
                spawn_lazy(async {}).detach();
                spawn(async move {
                    let event_loop = EventLoop::current().unwrap();
                    sender.send(event_loop.scheduler().this()).unwrap();
                    trap();
                })
                .detach();
            });
            drop(run);
        });
        thread.unwrap().detach();
        let scheduler = receiver.recv().unwrap();
        assert_eq!(scheduler.arena.live(), 3);
        assert_eq!(scheduler.turn(), Next::Now, "no turn inside a turn");
        scheduler.trapped();
        assert_eq!(scheduler.arena.live(), 2, "the main task's handle is on the other stack");
        assert!(scheduler.running.get().is_none());
        // The task behind still runs, then the main task's end stops the loop.
        assert_eq!(scheduler.turn(), Next::Done);
        assert_eq!(scheduler.arena.live(), 1);
    }

    #[test]
    fn a_waker_that_traps_when_its_timer_fires_leaves_those_behind_it_to_be_woken() {
        use std::{
            future::Future,
            pin::pin,
            task::{Context, Wake, Waker},
        };

        struct Trap(mpsc::Sender<()>);
        impl Wake for Trap {
            fn wake(self: Arc<Self>) {
                let _ = self.0.send(());
                trap();
            }
        }
        struct Count(AtomicU64);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Relaxed);
            }
        }

        let woken = Arc::new(Count(AtomicU64::new(0)));
        let behind = Waker::from(woken.clone());
        let (sender, trapped) = mpsc::channel();
        let (loops, scheduler) = mpsc::channel();
        let thread = Thread::spawn("trap", move || {
            let run = Sim::new().event_loop().run_until_complete(async move {
                loops.send(EventLoop::current().unwrap().scheduler().this()).unwrap();
                let (mut first, mut second) =
                    (pin!(crate::sleep(Duration::from_secs(1))), pin!(crate::sleep(Duration::from_secs(1))));
                let trap = Waker::from(Arc::new(Trap(sender)));
                assert!(first.as_mut().poll(&mut Context::from_waker(&trap)).is_pending());
                assert!(second.as_mut().poll(&mut Context::from_waker(&behind)).is_pending());
                std::future::pending::<()>().await;
            });
            drop(run);
        });
        thread.unwrap().detach();
        let scheduler = scheduler.recv().unwrap();
        trapped.recv().unwrap();
        assert_eq!(woken.0.load(Relaxed), 0);
        scheduler.trapped();
        assert_eq!(woken.0.load(Relaxed), 1);
    }
}
