//! A loop from inside: what it keeps, and how a task enters and leaves it.
//!
//! The files beside this one add what it does: a [`turn`], how a task may [`start`], a [`call`] from another thread, [`hooks`], how
//! it may [`close`], what a [`trap`] leaves, and the [`number`] of its thread.
//!
//! # Who may touch it
//!
//! `inbox`, `debts`, `platform`, `thread` and `this` belong to every thread. All the rest belongs to the owner, the thread that made
//! the loop, and is only reached through `EventLoop` and task handles, which are not `Send`, through
//! [`current_scheduler`], which answers on the owner's thread only, or by a waker that has asked it.

mod call;
mod close;
mod hooks;
mod number;
mod start;
mod trap;
mod turn;

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::VecDeque,
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::{self, NonNull},
    rc::Rc,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
};

use selkie_platform::Platform;

use crate::{
    context::{self, Variables},
    error::discard,
    event_loop::Owner,
    exception::Handler,
    inbox::{Inbox, Taken},
    loop_local::Locals,
    ready::Lane,
    remote::Debts,
    sleep::{Boxed, nanos},
    slow::Watch,
    submit::Jobs,
    task::{Arena, Header, TaskRef},
    timers::{self, NEVER, Node, Timers},
};

pub(crate) use call::Call;
use hooks::Tell;
pub(crate) use hooks::told;
pub(crate) use number::ThreadNumber;
pub(crate) use trap::REPAIRS;

/// A loop takes so many ids of the process at a time, so that a spawn touches no shared line.
const IDS: u64 = 64;

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

/// Wakes those that `next` gives. One that traps takes no wake from those behind it.
pub(crate) fn wake_all(next: &mut dyn FnMut() -> Option<Waker>) {
    // SAFETY: as in `with_current`.
    let current = unsafe { current_scheduler().as_ref() };
    let mut kept = None;
    while let Some(waker) = next() {
        // From the first that may trap, outside of the stack.
        kept = kept.or(current.filter(|_| crate::os::TRAPS && TaskRef::of_waker(&waker).is_none()));
        match kept {
            Some(scheduler) => scheduler.wake_later(waker),
            None => wake(waker),
        }
    }
    if let Some(scheduler) = kept {
        scheduler.wake_fired();
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

pub(crate) struct Scheduler {
    this: Weak<Scheduler>,
    platform: Arc<dyn Platform>,
    /// The owner.
    thread: ThreadNumber,
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
    /// Wakers whose timers are due, and others that a trap must not take along. Room is kept, so that a timer allocates nothing.
    fired: RefCell<VecDeque<Waker>>,
    #[expect(clippy::vec_box, reason = "the wheel points to them")]
    pub(crate) spare_nodes: RefCell<Vec<Box<Boxed>>>,
    running: Cell<Option<NonNull<Header>>>,
    /// What the running task says that it waits for.
    waits: Cell<*const ()>,
    /// How deep eager starts are nested now, and flags: see [`start`].
    depth: Cell<u32>,
    /// Half of the addresses that the stack of this turn's tasks may reach are above this one.
    stack: Cell<usize>,
    in_turn: Cell<bool>,
    /// The loop whose turn goes on when this one's is over: the host may run a turn inside another loop's.
    outer: Cell<*const Scheduler>,
    /// Whose done callbacks run.
    calling: Cell<Option<NonNull<Header>>>,
    /// The variables outside of tasks meanwhile.
    outside: RefCell<Option<Arc<Variables>>>,
    /// What is left of the inbox that was taken out.
    taken: Cell<Taken>,
    /// The platform gives turns.
    pub(crate) driven: Cell<bool>,
    /// The main task has ended, or the loop ends: nobody is asked to end more than once for that.
    pub(crate) ending: Cell<bool>,
    /// Turns come from a host whose own callbacks may spawn between them.
    pub(crate) hosted: Cell<bool>,
    pub(crate) stop: Cell<bool>,
    closing: Cell<bool>,
    orphaned: Cell<bool>,
    /// The last one that was given to a task. A multiple of `IDS` is the last of those that were taken.
    id: Cell<u64>,
    pub(crate) locals: Locals,
    handler: RefCell<Option<Handler>>,
    instrument: RefCell<Option<Rc<dyn Tell>>>,
    /// It is being told something.
    telling: Cell<bool>,
    slow_polls: RefCell<Option<Rc<dyn Watch>>>,
    /// There is an instrument, or slow polls are reported.
    hooked: Cell<bool>,
    /// Puts a lane in another order, before each round; for the simulator.
    shuffle: OnceCell<Box<dyn Fn(&Lane)>>,
    /// Shared with the jobs, from the first one on.
    pub(crate) jobs: OnceCell<Arc<Jobs>>,
}

// SAFETY: see "Who may touch it": other threads reach `inbox`, `debts`, `platform`, `thread` and `this` only, which are `Sync`.
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

impl Held<'_> {
    /// Whether the loop was in a turn before.
    pub(crate) fn was_in_turn(&self) -> bool {
        self.was_in_turn
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.scheduler.in_turn.set(self.was_in_turn);
        // What became ready meanwhile did not ask for a turn.
        self.scheduler.pend_outside();
    }
}

impl Scheduler {
    pub(crate) fn new(platform: Arc<dyn Platform>, thread: ThreadNumber) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            thread,
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
            now: Cell::new(nanos(platform.now()).min(NEVER - 1)),
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
            outside: RefCell::default(),
            taken: Cell::default(),
            driven: Cell::new(false),
            ending: Cell::new(false),
            hosted: Cell::new(false),
            stop: Cell::new(false),
            closing: Cell::new(false),
            orphaned: Cell::new(false),
            id: Cell::new(0),
            locals: Locals::new(),
            handler: RefCell::default(),
            instrument: RefCell::default(),
            telling: Cell::new(false),
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

    /// The thread that runs it, whether it does now or not.
    pub(crate) fn thread(&self) -> ThreadNumber {
        self.thread
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

    /// Keeps a node of a sleep outside of a task for the next one.
    pub(crate) fn spare(&self, node: Box<Boxed>) {
        self.spare_nodes.borrow_mut().push(node);
    }

    /// Wakes a waker that may be anybody's: one that panics fails nothing but itself.
    pub(crate) fn wake(&self, waker: Waker) {
        if TaskRef::of_waker(&waker).is_some() {
            waker.wake();
        } else {
            self.guarded("a waker", || waker.wake());
        }
    }

    /// Has it woken by [`wake_fired`](Self::wake_fired), which the caller comes to, or else what a trap leaves.
    pub(crate) fn wake_later(&self, waker: Waker) {
        self.fired.borrow_mut().push_back(waker);
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

    // ---- tasks

    /// Makes the loop the current one of this thread.
    pub(crate) fn enter_loop(&self) -> Entered<'_> {
        let outer = CURRENT.with(|current| current.replace(self));
        let was_in_turn = self.in_turn.replace(true);
        if !was_in_turn {
            self.outer.set(outer);
            self.depth.set(self.depth.get() & start::NOT_PLAIN);
        }
        Entered { scheduler: self, outer, was_in_turn }
    }

    /// Keeps the loop from being closed or run while it is not in a turn and a task is in an unsettled state.
    pub(crate) fn hold(&self) -> Held<'_> {
        let owner = self.owner.borrow().upgrade();
        let was_in_turn = self.in_turn.replace(true);
        if !was_in_turn {
            // Where a trap leads back to.
            self.outer.set(current_scheduler());
        }
        Held { scheduler: self, was_in_turn, _owner: owner }
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
        if crate::os::TRAPS {
            // It runs with variables of its own, and a trap would leave them there.
            self.outside.replace(task.and_then(|_| context::outside()));
        }
    }

    /// The running task says what it waits for.
    #[inline]
    pub(crate) fn set_waits(&self, waits: *const ()) {
        self.waits.set(waits);
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
        pending.iter().map(|(_, cell)| unsafe { TaskRef::from_ptr(cell.cast()) }).collect()
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
}

/// SplitMix64: enough to order a lane, and the same on every target.
pub(crate) fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
