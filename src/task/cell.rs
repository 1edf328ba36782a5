//! The task cell: one slot that holds a future, then its result, and all that a loop needs to run it.
//!
//! The states and the rules of the reference counts are in [`state`]. What may touch what:
//!
//! - `vtable` and `id` are written before the cell is shared and then only read.
//! - `remote` and `inbox` belong to every thread.
//! - everything else belongs to the owner: the thread of the loop. Wakers, which may be anywhere, first ask
//!   [`is_owner`]: is this cell's loop the one whose turn runs here? It is one comparison with a thread-local,
//!   and it is not a thread id, so that one thread can host a simulated loop inside another.
//! - the future and the result are touched by the owner only, so neither needs to be `Send`.
//!
//! `link` has three uses, one at a time: while a task runs, the task around it on the stack; while it waits,
//! what it waits for, for people to read; when it is done, the next one in a done list.

use std::{
    alloc::Layout,
    any::Any,
    cell::Cell,
    collections::VecDeque,
    future::Future,
    mem::{ManuallyDrop, offset_of},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    ptr::{self, NonNull},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{
    arena::{MAX_ALIGN, give_back_orphan, scheduler_of},
    members::Members,
    remote::{After, Remote},
    state::*,
};
use crate::{
    Priority,
    cancel::Scopes,
    context::Variables,
    error::{JoinError, discard},
    inbox::{Kind, Link},
    places::Borrowers,
    scheduler::{Scheduler, current_scheduler},
    timers::Node,
};

#[repr(C)]
pub(crate) struct Header {
    vtable: &'static Vtable,
    pub(super) remote: Remote,
    /// Position in the set that the task is a member of.
    pub(crate) index: Cell<u32>,
    life: Life,
    pub(crate) id: Cell<u64>,
    pub(crate) next_ready: Cell<Option<NonNull<Header>>>,
    inbox: Link,
    awaiter: Cell<*mut ()>,
    /// Null, the context's variables, or, with [`IS_COLD`], a `Cold` that has the context as well.
    extra: Cell<*mut ()>,
    pub(crate) link: Cell<*const ()>,
    pub(crate) timer: Node,
}

/// The state and the local count, which some steps look at together. Never by one read of both: just after one of them was
/// written, a processor waits for that write to reach its cache.
#[repr(C, align(8))]
pub(super) struct Life {
    state: Cell<u32>,
    refs: Cell<i32>,
}

/// Of a million tasks that sleep, each word is eight megabytes, and reading it takes its time.
#[cfg(all(target_pointer_width = "64", not(selkie_loom)))]
const _: () = assert!(size_of::<Header>() == 96);

const IS_COLD: usize = 1;

/// What few tasks need.
#[derive(Default)]
pub(crate) struct Cold {
    context: Option<Arc<Variables>>,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) callbacks: VecDeque<Box<dyn FnOnce(&TaskRef)>>,
    pub(crate) cancel_message: Option<Arc<str>>,
    /// A cancel was raised again with no scope around: the next turn ends the task.
    pub(crate) resumed: bool,
    /// It was asked to end because its group or its loop does.
    pub(crate) asked: bool,
    /// An instrument has made it, and is told nothing of it.
    pub(crate) untold: bool,
    pub(crate) scopes: Scopes,
    /// Is told of the end at once, before anybody is woken.
    pub(crate) end_hook: Option<Rc<dyn EndHook>>,
    /// Those who wait without owning the task.
    pub(crate) borrowers: Borrowers,
}

/// The group that a task belongs to.
pub(crate) trait EndHook {
    /// The task has just ended, in whatever way. May run code of users, but nothing may unwind out of it.
    fn ended(&self, task: &TaskRef);
}

struct Vtable {
    poll: Poller,
    drop_future: unsafe fn(NonNull<Header>),
    fail: unsafe fn(NonNull<Header>, JoinError),
    drop_output: unsafe fn(NonNull<Header>),
    /// The error of a failed task, for reports.
    error: unsafe fn(NonNull<Header>) -> Option<NonNull<JoinError>>,
    type_name: fn() -> &'static str,
}

/// Polls; whether the task is done. Then the result has taken the place of the future: also if the future's destructor
/// panics, and the panic goes on. In that case only, OUTPUT is set as well.
pub(super) type Poller = unsafe fn(NonNull<Header>, &mut Context<'_>) -> bool;

/// What a future's poll, or its destructor, panicked with.
pub(crate) type Panic = Box<dyn Any + Send>;

/// `repr(C)`: both fields begin where the stage does, which `output` and `start` rely on.
#[repr(C)]
union Stage<F: Future> {
    future: ManuallyDrop<F>,
    output: ManuallyDrop<Result<F::Output, JoinError>>,
}

/// Where the stage is in every cell: whatever its alignment, it follows the header. So who takes a result need not know
/// of what future. [`Arena::take`](super::arena::Arena::take) places the cell such that the stage is aligned.
pub(super) const STAGE: usize = size_of::<Header>();

/// The cell of a future: its header, and then its stage.
struct TaskCell<F>(std::marker::PhantomData<F>);

impl<F: Future + 'static> TaskCell<F> {
    const STAGE: Layout = Layout::new::<Stage<F>>();

    const VTABLE: Vtable = Vtable {
        poll: poll::<F>,
        drop_future: drop_future::<F>,
        fail: fail::<F>,
        drop_output: drop_output::<F>,
        error: error::<F>,
        type_name: std::any::type_name::<F>,
    };
}

/// # Safety
///
/// For all five: `cell` is a `TaskCell<F>`, the caller is its owner, and nobody else has a reference into the
/// stage. `poll`, `drop_future`, `fail`: see each.
unsafe fn stage<'a, F: Future>(cell: NonNull<Header>) -> &'a mut Stage<F> {
    // SAFETY: as the caller promises.
    unsafe { cell.byte_add(STAGE).cast::<Stage<F>>().as_mut() }
}

/// The stage holds a future.
#[inline]
pub(super) unsafe fn poll<F: Future>(cell: NonNull<Header>, cx: &mut Context<'_>) -> bool {
    /// Keeps the result when the future's destructor panics.
    struct Rescue<F: Future>(NonNull<Header>, ManuallyDrop<F::Output>);
    impl<F: Future> Rescue<F> {
        #[inline]
        fn store(&mut self) {
            // SAFETY: the value is taken once, by `poll` or by `drop`. The future, which was in the stage, is gone.
            unsafe { stage::<F>(self.0).output = ManuallyDrop::new(Ok(ManuallyDrop::take(&mut self.1))) }
        }
    }
    impl<F: Future> Drop for Rescue<F> {
        #[cold]
        fn drop(&mut self) {
            self.store();
            borrowed(self.0).set(OUTPUT);
        }
    }
    // SAFETY: the stage holds a future.
    let future = unsafe { &raw mut stage::<F>(cell).future }.cast::<F>();
    // SAFETY: as above; the future never moves: cells stay where they are.
    let Poll::Ready(value) = unsafe { Pin::new_unchecked(&mut *future) }.poll(cx) else { return false };
    let mut rescue = ManuallyDrop::new(Rescue::<F>(cell, ManuallyDrop::new(value)));
    if std::mem::needs_drop::<F>() {
        let guard = ManuallyDrop::into_inner(rescue);
        // SAFETY: the future is dropped once: the result overwrites it, whether this panics or not.
        unsafe { ptr::drop_in_place(future) };
        rescue = ManuallyDrop::new(guard);
    }
    rescue.store();
    true
}

/// The stage holds a future, and nothing afterwards.
unsafe fn drop_future<F: Future>(cell: NonNull<Header>) {
    // SAFETY: the stage holds a future.
    unsafe { ManuallyDrop::drop(&mut stage::<F>(cell).future) }
}

/// The stage holds nothing, and an error afterwards.
unsafe fn fail<F: Future>(cell: NonNull<Header>, error: JoinError) {
    // SAFETY: as the caller promises.
    unsafe { stage::<F>(cell) }.output = ManuallyDrop::new(Err(error));
}

/// The stage holds a result, and nothing afterwards.
unsafe fn drop_output<F: Future>(cell: NonNull<Header>) {
    // SAFETY: the stage holds a result.
    unsafe { ManuallyDrop::drop(&mut stage::<F>(cell).output) }
}

/// The stage holds a result.
unsafe fn error<F: Future>(cell: NonNull<Header>) -> Option<NonNull<JoinError>> {
    // SAFETY: the stage holds a result.
    unsafe { &*stage::<F>(cell).output }.as_ref().err().map(NonNull::from)
}

/// Whether the cell's loop is the one whose turn runs on this thread.
#[inline]
pub(super) unsafe fn is_owner(cell: NonNull<Header>) -> bool {
    // SAFETY: the caller has a reference to the cell.
    ptr::eq(unsafe { scheduler_of(cell) }, current_scheduler())
}

/// A counted reference to a cell, for the owner's thread.
pub(crate) struct TaskRef(NonNull<Header>);

impl std::ops::Deref for TaskRef {
    type Target = Header;

    #[inline]
    fn deref(&self) -> &Header {
        // SAFETY: counted, so the cell is live. The shared fields are atomics and the rest are `Cell`s of this thread.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for TaskRef {
    #[inline]
    fn clone(&self) -> Self {
        if !self.count_one() {
            self.clone_slow();
        }
        Self(self.0)
    }
}

impl Drop for TaskRef {
    #[inline]
    fn drop(&mut self) {
        if !self.drop_one() {
            // SAFETY: this reference is given up here.
            unsafe { drop_last(self.0) }
        }
    }
}

/// The local count has to fit into the remote one, beside what is there.
const MOST_REFS: i32 = 1 << 25;

/// Drops a reference of the owner's thread that may be its last.
#[inline]
pub(super) unsafe fn drop_last(cell: NonNull<Header>) {
    // SAFETY: the caller's reference keeps the cell until the end of this function.
    let header = unsafe { cell.as_ref() };
    // The usual end: one local reference, so the loop is open (see `TaskRef::count_one`), and no other thread involved.
    if header.life.refs.get() == 1 && header.remote.is_quiet() {
        // SAFETY: nobody refers to the cell.
        return unsafe { free(cell) };
    }
    // SAFETY: the caller's reference is passed on.
    unsafe { drop_shared(cell) }
}

/// As `drop_last`, when other threads had to do with the cell, or the loop has closed.
#[cold]
unsafe fn drop_shared(cell: NonNull<Header>) {
    // SAFETY: the caller's reference keeps the cell until the end of this function.
    let header = unsafe { cell.as_ref() };
    // SAFETY: as above.
    if unsafe { scheduler_of(cell) }.is_orphaned() {
        // SAFETY: the reference is given up.
        return unsafe { after(cell, header.remote.drop_ref()) };
    }
    let refs = header.life.refs.get() - 1;
    header.life.refs.set(refs);
    if refs > 0 {
        return;
    }
    match header.remote.settle(refs) {
        // SAFETY: the counts add up to zero and the cell is not in the inbox.
        After::Free => unsafe { free(cell) },
        _ => header.life.refs.set(0),
    }
}

/// Frees a cell that nobody refers to, while its loop is open.
///
/// Takes no `&Scheduler`: what is dropped last may be what keeps the loop, and an argument has to live until the end.
#[inline]
unsafe fn free(cell: NonNull<Header>) {
    // SAFETY: nobody else refers to the cell.
    unsafe {
        let header = cell.as_ref();
        header.assert_ended();
        if header.extra.get().is_null() {
            scheduler_of(cell).arena.give_back(cell);
        } else {
            free_with_contents(cell);
        }
    }
}

/// # Safety
///
/// As for [`free`].
#[cold]
unsafe fn free_with_contents(cell: NonNull<Header>) {
    // SAFETY: nobody else refers to the cell.
    let contents = unsafe {
        let contents = take_contents(cell);
        scheduler_of(cell).arena.give_back(cell);
        contents
    };
    // Last: destructors of users may list the tasks, or close the loop, and must not find a cell that nobody counts.
    drop(contents);
}

/// What a cell holds apart from its future and result.
pub(crate) struct Contents {
    context: Option<Arc<Variables>>,
    cold: Option<Box<Cold>>,
}

impl Drop for Contents {
    #[inline]
    fn drop(&mut self) {
        let (context, cold) = (self.context.take(), self.cold.take());
        if context.is_some() || cold.is_some() {
            // There may be no loop to report to: the panic hook has shown the message.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop((context, cold)))) {
                discard(payload);
            }
        }
    }
}

impl Header {
    /// Tells the processor that the task runs next, so that the wait for its memory, which among a million tasks woken in no order
    /// is most of a turn, falls into the turn before it.
    #[inline]
    pub(crate) fn prefetch(cell: NonNull<Self>) {
        // What a turn reads: the state, and the future. The stable library has it for this processor only.
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let cell = cell.as_ptr().cast::<i8>().cast_const();
            for offset in [offset_of!(Self, life), STAGE] {
                // SAFETY: a hint, which no address makes fault.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(cell.wrapping_add(offset)) };
            }
        }
        _ = cell;
    }

    #[inline]
    fn cold_ptr(&self) -> Option<NonNull<Cold>> {
        let extra = self.extra.get();
        let is_cold = extra.addr() & IS_COLD != 0;
        // SAFETY: with the tag it came from a box, so it is not null.
        is_cold.then(|| unsafe { NonNull::new_unchecked(extra.map_addr(|a| a & !IS_COLD).cast()) })
    }

    #[inline(always)]
    fn assert_ended(&self) {
        let state = self.life.state.get();
        debug_assert!(state & (DONE | QUEUED | TIMER) == DONE, "a pending task is referenced by its loop");
        debug_assert!(state & OUTPUT == 0, "a result without a handle is dropped when the task completes");
    }
}

/// Takes out what a cell holds apart from its future, which is gone.
unsafe fn take_contents(cell: NonNull<Header>) -> Contents {
    // SAFETY: nobody else refers to the cell.
    let header = unsafe { cell.as_ref() };
    header.assert_ended();
    let cold = header.cold_ptr();
    let extra = header.extra.replace(ptr::null_mut());
    Contents {
        // SAFETY: no `Cold`, so it is the context, and the cell owns one count.
        context: (cold.is_none() && !extra.is_null()).then(|| unsafe { Arc::from_raw(extra.cast()) }),
        // SAFETY: leaked from a box by `new_cold`. Of its contents only `Send` ones are left in a done task.
        cold: cold.map(|cold| unsafe { Box::from_raw(cold.as_ptr()) }),
    }
}

/// Does what a step on the remote word asks for. Any thread.
///
/// # Safety
///
/// `after` came from a step on this cell's remote word by the caller.
pub(super) unsafe fn after(cell: NonNull<Header>, after: After) {
    match after {
        After::Nothing => {}
        After::Push => {
            // SAFETY: the INBOX bit keeps the cell until it is taken out again.
            let scheduler = unsafe { scheduler_of(cell) };
            // SAFETY: whoever sets INBOX pushes, so the link is in no inbox.
            let link = unsafe { NonNull::new_unchecked(&raw mut (*cell.as_ptr()).inbox) };
            // The page keeps the scheduler, but after the push the cell may go, and the page with it.
            let platform = &*scheduler.platform().clone();
            // SAFETY: as above; a cell is aligned to a pointer.
            match unsafe { scheduler.inbox.push(link, Kind::Cell) } {
                Ok(true) => platform.pend(),
                Ok(false) => {}
                Err(_) => {
                    // SAFETY: INBOX is still set.
                    let then = unsafe { cell.as_ref() }.remote.push_failed();
                    // SAFETY: `push_failed` never asks for a push.
                    unsafe { self::after(cell, then) }
                }
            }
        }
        After::Free => {
            // SAFETY: nobody refers to the cell, and its loop has closed.
            let contents = unsafe {
                let contents = take_contents(cell);
                give_back_orphan(cell);
                contents
            };
            drop(contents);
        }
    }
}

/// What a new task starts with.
pub(crate) struct Setup {
    pub(crate) priority: Priority,
    pub(crate) flags: u32,
    pub(crate) context: Option<Arc<Variables>>,
    pub(crate) name: Option<Arc<str>>,
}

impl Setup {
    /// The state and the rarely used part of the cell.
    #[inline]
    fn words(self, scheduler: &Scheduler) -> (u32, *mut ()) {
        if self.context.is_some() {
            scheduler.has_contexts();
        }
        let extra = match self.name {
            None => self.context.map_or(ptr::null_mut(), context_word),
            name => cold_word(new_cold(self.context, name)),
        };
        (self.flags | (self.priority as u32) << LANE_SHIFT, extra)
    }
}

/// Makes a cell that holds `future`. It begins with two references: the loop's, and the one that the caller gets.
#[inline]
pub(crate) fn allocate<F: Future + 'static>(scheduler: &Scheduler, future: F, setup: Setup) -> TaskRef {
    let (state, extra) = setup.words(scheduler);
    let task = make(scheduler, future, state, extra);
    task.link.set(ptr::null());
    task
}

/// [`allocate`] for a task that has nothing but its future and is about to be polled. The caller enters it.
#[inline(always)]
pub(super) fn start<F: Future + 'static>(scheduler: &Scheduler, future: F) -> TaskRef {
    make(scheduler, future, START, ptr::null_mut())
}

/// All but `link`.
#[inline(always)]
fn make<F: Future + 'static>(scheduler: &Scheduler, future: F, state: u32, extra: *mut ()) -> TaskRef {
    const { assert!(align_of::<Stage<F>>() <= MAX_ALIGN, "box a future or result of this alignment") };
    // Nobody drops it on the way, so that it need not be in memory yet. Nothing here panics.
    let future = ManuallyDrop::new(future);
    let cell = scheduler.arena.take(scheduler, TaskCell::<F>::STAGE);
    // SAFETY: the slot is ours alone and large enough.
    unsafe {
        cell.byte_add(STAGE).cast::<F>().write(ManuallyDrop::into_inner(future));
        begin(cell, scheduler, &TaskCell::<F>::VTABLE, state, extra)
    }
}

/// Makes a cell of a slot in which the future lies.
///
/// # Safety
///
/// The slot is the caller's alone, and `vtable` that of its future.
// Apart from `make`, so that a build for size has it once for all kinds of futures.
#[inline]
unsafe fn begin(
    cell: NonNull<Header>,
    scheduler: &Scheduler,
    vtable: &'static Vtable,
    state: u32,
    extra: *mut (),
) -> TaskRef {
    // SAFETY: as the caller promises. The header is zeroed or that of a cell, so the fields that are only assigned here,
    // through `Cell`s and atomics, are valid.
    unsafe {
        (&raw mut (*cell.as_ptr()).vtable).write(vtable);
        let header = cell.as_ref();
        header.remote.reset();
        header.life.state.set(state);
        header.life.refs.set(2);
        header.id.set(scheduler.next_id());
        header.awaiter.set(ptr::null_mut());
        header.extra.set(extra);
    }
    TaskRef(cell)
}

#[inline]
fn context_word(context: Arc<Variables>) -> *mut () {
    Arc::into_raw(context).cast_mut().cast()
}

#[cold]
#[inline(never)]
fn new_cold(context: Option<Arc<Variables>>, name: Option<Arc<str>>) -> NonNull<Cold> {
    NonNull::from(Box::leak(Box::new(Cold { context, name, ..Cold::default() })))
}

fn cold_word(cold: NonNull<Cold>) -> *mut () {
    cold.as_ptr().cast::<()>().map_addr(|a| a | IS_COLD)
}

/// Who is told when a task ends.
pub(crate) enum Awaiter {
    None,
    Task(TaskRef),
    Members(Rc<Members>),
    Waker(Box<Waker>),
}

const AWAITER_TAG: usize = 0b11;

impl Awaiter {
    fn into_word(self) -> *mut () {
        match self {
            Self::None => ptr::null_mut(),
            Self::Task(task) => ManuallyDrop::new(task).0.as_ptr().cast(),
            Self::Members(members) => Rc::into_raw(members).cast_mut().cast::<()>().map_addr(|a| a | 1),
            Self::Waker(waker) => Box::into_raw(waker).cast::<()>().map_addr(|a| a | 2),
        }
    }

    /// Whether `word` stands for `members`.
    pub(super) fn is_members(word: *mut (), members: &Rc<Members>) -> bool {
        word.addr() == Rc::as_ptr(members).addr() | 1
    }

    /// # Safety
    ///
    /// `word` came from `into_word` and is used once.
    unsafe fn from_word(word: *mut ()) -> Self {
        let pointer = word.map_addr(|address| address & !AWAITER_TAG);
        // SAFETY: the tag says which of the conversions above made the word.
        unsafe {
            match word.addr() & AWAITER_TAG {
                _ if word.is_null() => Self::None,
                0 => Self::Task(TaskRef(NonNull::new_unchecked(pointer.cast()))),
                1 => Self::Members(Rc::from_raw(pointer.cast())),
                _ => Self::Waker(Box::from_raw(pointer.cast())),
            }
        }
    }
}

/// A reference that somebody else counts.
#[inline]
pub(super) fn borrowed(cell: NonNull<Header>) -> ManuallyDrop<TaskRef> {
    ManuallyDrop::new(TaskRef(cell))
}

impl TaskRef {
    /// Counts a reference if that is as simple as it nearly always is; else says no.
    #[inline]
    fn count_one(&self) -> bool {
        let refs = self.life.refs.get();
        // A loop that closes leaves zero in all its cells, so a count above that needs no look at the loop.
        let is_simple = (1..MOST_REFS).contains(&refs);
        if is_simple {
            self.life.refs.set(refs + 1);
        }
        is_simple
    }

    /// Counts one reference less if another one is left; else says no.
    #[inline]
    pub(super) fn drop_one(&self) -> bool {
        let refs = self.life.refs.get();
        // As in `count_one`.
        let is_simple = refs > 1;
        if is_simple {
            self.life.refs.set(refs - 1);
        }
        is_simple
    }

    /// Counts a reference when the local count alone does not tell how.
    #[cold]
    fn clone_slow(&self) {
        if self.scheduler().is_orphaned() {
            return self.remote.clone_ref();
        }
        let refs = self.life.refs.get();
        if refs >= MOST_REFS {
            // As `Rc` does: a program that leaks so many wakers must not wrap the count.
            std::process::abort();
        }
        self.life.refs.set(refs + 1);
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> NonNull<Header> {
        self.0
    }

    /// Gives the reference up without lowering the count.
    #[inline]
    pub(crate) fn into_ptr(self) -> NonNull<Header> {
        ManuallyDrop::new(self).0
    }

    /// # Safety
    ///
    /// The caller passes on one reference of the owner's thread.
    #[inline]
    pub(crate) unsafe fn from_ptr(cell: NonNull<Header>) -> Self {
        Self(cell)
    }

    /// The cell that holds `timer` as its timer node.
    ///
    /// # Safety
    ///
    /// `timer` is the node of a live cell, with provenance for the cell's page, and this is its owner's thread.
    pub(crate) unsafe fn of_timer(timer: NonNull<Node>) -> ManuallyDrop<Self> {
        // SAFETY: as the caller promises.
        borrowed(unsafe { timer.byte_sub(offset_of!(Header, timer)).cast() })
    }

    /// The cell of an inbox link.
    ///
    /// # Safety
    ///
    /// `link` was taken from the inbox as a cell, and this is its owner's thread.
    pub(crate) unsafe fn of_link(link: NonNull<Link>) -> ManuallyDrop<Self> {
        // SAFETY: as the caller promises.
        borrowed(unsafe { link.byte_sub(offset_of!(Header, inbox)).cast() })
    }

    pub(crate) fn timer_ptr(&self) -> NonNull<Node> {
        // SAFETY: the offset stays within the cell.
        unsafe { self.0.byte_add(offset_of!(Header, timer)).cast() }
    }

    #[inline]
    pub(crate) fn scheduler(&self) -> &Scheduler {
        // SAFETY: the cell is live.
        unsafe { scheduler_of(self.0) }
    }

    #[inline]
    pub(super) fn has(&self, bits: u32) -> bool {
        self.life.state.get() & bits != 0
    }

    #[inline]
    pub(super) fn set(&self, bits: u32) {
        self.life.state.set(self.life.state.get() | bits);
    }

    #[inline]
    pub(super) fn clear(&self, bits: u32) {
        self.life.state.set(self.life.state.get() & !bits);
    }

    #[inline]
    pub(super) fn bits(&self) -> u32 {
        self.life.state.get()
    }

    #[inline]
    pub(super) fn set_all(&self, bits: u32) {
        self.life.state.set(bits);
    }

    #[inline]
    pub(super) fn is_life(&self, state: u32, refs: i32) -> bool {
        self.life.state.get() == state && self.life.refs.get() == refs
    }

    #[inline]
    pub(super) fn set_life(&self, state: u32, refs: i32) {
        self.life.state.set(state);
        self.life.refs.set(refs);
    }

    /// Whether there is neither a context nor a rarely used part.
    #[inline]
    pub(super) fn has_no_extra(&self) -> bool {
        self.extra.get().is_null()
    }

    /// What polls the task's future.
    #[inline]
    pub(super) fn poller(&self) -> Poller {
        self.vtable.poll
    }

    /// Drops the future; the stage is empty afterwards.
    pub(super) fn drop_future(&self) -> Result<(), Panic> {
        debug_assert!(!self.has(DONE));
        // SAFETY: a task that is not done holds a future; callers mark it done right after.
        catch_unwind(AssertUnwindSafe(|| unsafe { (self.vtable.drop_future)(self.0) }))
    }

    /// Fills the empty stage.
    pub(super) fn fail(&self, error: JoinError) {
        // SAFETY: the caller has emptied the stage, or given up what was in it.
        unsafe { (self.vtable.fail)(self.0, error) }
    }

    pub(super) fn drop_output(&self) -> Result<(), Panic> {
        debug_assert!(self.has(OUTPUT));
        self.clear(OUTPUT);
        // SAFETY: the stage held a result, and the bit that says so is cleared.
        catch_unwind(AssertUnwindSafe(|| unsafe { (self.vtable.drop_output)(self.0) }))
    }

    pub(crate) fn error_text(&self) -> String {
        debug_assert!(self.has(OUTPUT));
        // SAFETY: the stage holds a result, which stays there meanwhile.
        unsafe { (self.vtable.error)(self.0).map_or_else(String::new, |error| error.as_ref().text()) }
    }

    /// The result.
    ///
    /// # Safety
    ///
    /// The task's future has output `T`, the state has OUTPUT, and nobody takes the result meanwhile.
    #[inline]
    pub(crate) unsafe fn output<T>(&self) -> &Result<T, JoinError> {
        // SAFETY: as the caller promises.
        unsafe { self.0.byte_add(STAGE).cast::<Result<T, JoinError>>().as_ref() }
    }

    /// Moves the result out.
    ///
    /// # Safety
    ///
    /// The task's future has output `T`, and the state has OUTPUT.
    #[inline]
    pub(super) unsafe fn take_output<T>(&self) -> Result<T, JoinError> {
        self.set_all(self.bits() & !OUTPUT | OBSERVED);
        // SAFETY: as the caller promises; the bit that says so is cleared.
        unsafe { self.0.byte_add(STAGE).cast::<Result<T, JoinError>>().read() }
    }

    /// [`take_output`](Self::take_output) for the owner of the handle, who gives the handle up.
    ///
    /// # Safety
    ///
    /// As for [`take_output`](Self::take_output). The `Task` is forgotten.
    #[inline]
    pub(super) unsafe fn into_output<T>(self) -> Result<T, JoinError> {
        self.set_all(self.bits() & !(OUTPUT | HANDLE) | OBSERVED);
        // SAFETY: as the caller promises; the bit that says so is cleared.
        unsafe { self.0.byte_add(STAGE).cast::<Result<T, JoinError>>().read() }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        (self.vtable.type_name)()
    }

    #[inline]
    pub(super) fn awaiter_word(&self) -> *mut () {
        self.awaiter.get()
    }

    pub(super) fn take_awaiter(&self) -> Awaiter {
        // SAFETY: `set_awaiter` stored it, and it is replaced here.
        unsafe { Awaiter::from_word(self.awaiter.replace(ptr::null_mut())) }
    }

    pub(super) fn set_awaiter(&self, awaiter: Awaiter) {
        let old = self.awaiter.replace(awaiter.into_word());
        // SAFETY: stored here, and replaced. Dropped last, as it may run code of users.
        drop(unsafe { Awaiter::from_word(old) });
    }

    /// The rarely used part, if there is one.
    #[inline]
    pub(crate) fn cold_if_any(&self) -> Option<NonNull<Cold>> {
        self.cold_ptr()
    }

    /// Runs `with` on the rarely used part. `with` may not run code of users.
    pub(crate) fn cold<R>(&self, with: impl FnOnce(&mut Cold) -> R) -> R {
        let cold = self.cold_ptr().unwrap_or_else(|| self.make_cold());
        // SAFETY: made here or at allocation; only reached here, by the owner's thread, and never re-entered.
        with(unsafe { &mut *cold.as_ptr() })
    }

    #[cold]
    fn make_cold(&self) -> NonNull<Cold> {
        let context = self.extra.replace(ptr::null_mut());
        // SAFETY: there is no `Cold` yet, so it is the context, and the cell owned one count.
        let context = (!context.is_null()).then(|| unsafe { Arc::from_raw(context.cast()) });
        let cold = new_cold(context, None);
        self.extra.set(cold_word(cold));
        cold
    }

    pub(crate) fn read_cold<R>(&self, with: impl FnOnce(&Cold) -> R) -> Option<R> {
        // SAFETY: as in `cold`.
        self.cold_if_any().map(|cold| with(unsafe { cold.as_ref() }))
    }

    #[inline]
    pub(crate) fn context(&self) -> Option<Arc<Variables>> {
        if let Some(cold) = self.cold_ptr() {
            // SAFETY: as in `cold`.
            return unsafe { cold.as_ref() }.context.clone();
        }
        if self.extra.get().is_null() {
            return None;
        }
        let context = self.extra.get().cast_const().cast::<Variables>();
        // SAFETY: no `Cold`, so it is the context, of which the cell owns one count.
        unsafe {
            Arc::increment_strong_count(context);
            Some(Arc::from_raw(context))
        }
    }

    pub(crate) fn set_context(&self, context: Option<Arc<Variables>>) {
        if context.is_some() {
            self.scheduler().has_contexts();
        }
        let old = if self.cold_ptr().is_some() {
            self.cold(|cold| std::mem::replace(&mut cold.context, context))
        } else {
            let old = self.extra.replace(context.map_or(ptr::null_mut(), context_word));
            // SAFETY: no `Cold`, so it was the context, of which the cell owned one count.
            (!old.is_null()).then(|| unsafe { Arc::from_raw(old.cast_const().cast::<Variables>()) })
        };
        // Last, as it may run code of users.
        drop(old);
    }

    /// The cell came out of the inbox: takes over what other threads did, and says whether to poll.
    pub(crate) fn taken_from_inbox(this: ManuallyDrop<Self>) {
        let (woken, moved) = this.remote.taken();
        this.life.refs.set(this.life.refs.get() + moved);
        if woken {
            this.wake();
        }
        if this.life.refs.get() <= 0 {
            // One reference for `drop_last` to take away.
            this.life.refs.set(this.life.refs.get() + 1);
            drop(ManuallyDrop::into_inner(this));
        }
    }

    /// Moves all of the owner's references to the remote word; says whether somebody still refers to the cell.
    ///
    /// What the caller has to drop, later and in this thread, is added to `contents`.
    pub(crate) fn orphan(cell: NonNull<Header>, contents: &mut Vec<Contents>) -> bool {
        let this = borrowed(cell);
        match this.remote.orphan(this.life.refs.replace(0)) {
            After::Free => {
                // SAFETY: nobody refers to the cell.
                contents.push(unsafe { take_contents(cell) });
                false
            }
            _ => true,
        }
    }

    /// Counts a cell that the arena lists.
    pub(crate) fn listed(cell: NonNull<Header>) -> Self {
        TaskRef::clone(&borrowed(cell))
    }

    /// Gives back the loop's own reference.
    #[inline]
    pub(super) fn release_from_loop(&self) {
        drop(TaskRef(self.0));
    }
}
