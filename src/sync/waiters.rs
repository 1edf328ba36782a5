//! The one wait list of all primitives.
//!
//! A primitive is a [`Guarded`] state: plain data, and one or several [`List`]s of those who wait for it to change. Who waits
//! is a [`Waiting`] future with the list's node inside, so waiting allocates nothing. It does not matter who polls it: a task
//! of any loop, an executor of somebody else, or a thread that blocks.
//!
//! # The protocol
//!
//! **One lock, held for a few instructions.** The state and its lists are behind a spin lock. Under it nothing is allocated,
//! no waker is called, cloned or dropped, no value of a user is dropped and none of their code runs; values are only moved. So it
//! cannot be entered twice by one thread, a page's main thread meets it free or waits for some instructions, and natively
//! a thread that finds its holder descheduled yields.
//!
//! **Direct hand-over.** Whoever makes room (a release, a put, a set) decides *under the lock* who gets it: it unlinks the
//! first node, writes an *outcome* into it, and only then wakes. What was handed over never looks free to anybody else, so a
//! newcomer cannot overtake (no barging), and first in is first out.
//!
//! **The state word of a node** says who may touch it:
//!
//! | word | the node is | its fields belong to |
//! |---|---|---|
//! | `IDLE` | in no list | the future |
//! | `WAITING` | in a list | whoever holds the lock |
//! | `OUTCOME + n` | in no list, outcome `n` was written | the future |
//! | `SPENT` | in no list, the outcome was taken | the future |
//!
//! `IDLE -> WAITING` and `WAITING -> SPENT` (withdrawn) are steps of the future, `WAITING -> OUTCOME` of whoever grants; all
//! three under the lock. `OUTCOME -> SPENT` is the future's and needs none. The granting store is a release and the last
//! touch of the node: the future may see it at once, without the lock, and free the node. Hence the waker is taken out before it,
//! and is called after the lock was given back. What the granting side did before is visible to the granted side by that
//! store, which is what makes a lock a lock.
//!
//! # Scenarios
//!
//! - **Grant, then poll.** The future reads the outcome, without the lock.
//! - **Grant, then drop** (the waiter was cancelled after it was woken and before it ran). Drop finds the outcome and
//!   hands it on: a lock is released to the next, an item counts as available again, a notification goes to somebody else
//!   ([`Request::unused`]). The wake that is still on its way finds a task that has other things to do, or none.
//! - **Grant and drop at once.** Drop sees `WAITING` and takes the lock. Either it is first: it unlinks the node, and the
//!   granting side finds the next one. Or it is second: it finds an outcome under the lock, and hands it on as above. No
//!   outcome is lost and none is given twice.
//! - **Withdrawn while it blocks those behind it** (a semaphore's waiter that wants many permits): [`Request::left`] looks
//!   again whether the next can be served.
//! - **Poll with another waker.** Replaced under the lock; the old one is dropped after it. A waker that a granting side took out before
//!   is the old one: it wakes in vain, but the poll that replaced it finds the outcome under the same lock.
//! - **Wake before sleep.** A waiter looks, finds nothing, clones its waker *without* the lock, and then looks again and
//!   enqueues in one critical section. A grant is before it (the second look finds it) or after it (the node is in the list).
//! - **Waking many.** A wake buffer holds a few wakers; when it is full the lock is given back, they are called, and it goes on.
//!   Nodes have tickets, counted up: those that came after the first round are not part of it.
//! - **A waker that panics** has printed so by the panic hook; the others are still called.

use std::{
    cell::UnsafeCell,
    fmt,
    future::Future,
    marker::{PhantomData, PhantomPinned},
    mem::{ManuallyDrop, MaybeUninit},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    ptr,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{AtomicU32, Ordering};
use crate::{
    WaitError,
    error::discard,
    scheduler::{current_scheduler, wake_all},
    task::waits_for_text,
    testing,
};

/// How a primitive is shared: [`Shared`] by any threads, or [`Local`] to one. Sealed.
pub trait Mode: Sized + 'static + private::Latch {}

/// The primitive may be used from any thread, in any mix of loops and plain threads. The default.
pub struct Shared {
    locked: AtomicU32,
}

/// The primitive stays on one thread, and pays for no atomics.
#[derive(Debug)]
pub struct Local {
    not_sync: PhantomData<std::cell::Cell<()>>,
}

pub(super) mod private {
    /// The lock of a [`Guarded`](super::Guarded) state.
    pub trait Latch {
        fn new() -> Self;
        fn acquire(&self);
        fn release(&self);
    }
}

use private::Latch;

impl Mode for Shared {}

impl Mode for Local {}

impl Latch for Shared {
    fn new() -> Self {
        Self { locked: AtomicU32::new(0) }
    }

    #[inline]
    fn acquire(&self) {
        if self.locked.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.contend();
        }
    }

    #[inline]
    fn release(&self) {
        self.locked.store(0, Ordering::Release);
    }
}

impl Shared {
    /// Each time it pauses twice as long before it looks again, and only looks. So the holder keeps the line to itself, and who
    /// takes the lock often does so several times in a row, instead of sending the line to and fro for each. A look after the
    /// first instruction would send it at once.
    #[cold]
    fn contend(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            for _ in 0..pause {
                spin();
            }
            if self.locked.load(Ordering::Relaxed) == 0
                && self.locked.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return;
            }
            if pause < LONGEST_PAUSE {
                pause *= 2;
            } else {
                // The holder was descheduled, perhaps in favour of this very thread.
                relax();
            }
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Latch for Local {
    fn new() -> Self {
        Self { not_sync: PhantomData }
    }

    // The type is not `Sync`, and no code of users runs under the latch: there is nobody to keep out.
    #[inline]
    fn acquire(&self) {}

    #[inline]
    fn release(&self) {}
}

/// About as long as a line takes to come back, so that its holder has done something meanwhile. WebAssembly has no instruction
/// to pause with: there it would only be fewer looks.
const FIRST_PAUSE: u32 = if cfg!(any(selkie_loom, target_family = "wasm")) { 1 } else { 8 };

/// Before a thread yields: with all that came before longer than any critical section, shorter than a time slice.
const LONGEST_PAUSE: u32 = if cfg!(selkie_loom) { 1 } else { 64 };

#[cfg(not(selkie_loom))]
use std::hint::spin_loop as spin;

#[cfg(not(selkie_loom))]
use crate::os::relax;

#[cfg(selkie_loom)]
use loom::thread::{yield_now as spin, yield_now as relax};

/// The state of a primitive, behind the lock of its mode.
pub(crate) struct Guarded<S, M> {
    latch: M,
    state: UnsafeCell<S>,
}

// SAFETY: with `Shared` the latch lets one thread at a time have the state. `Local` is not `Sync`, hence neither is this.
unsafe impl<S: Send, M: Sync> Sync for Guarded<S, M> {}

impl<S> Guarded<S, Shared> {
    #[cfg(not(selkie_loom))]
    pub(crate) const fn shared(state: S) -> Self {
        Self { latch: Shared { locked: AtomicU32::new(0) }, state: UnsafeCell::new(state) }
    }

    #[cfg(selkie_loom)]
    pub(crate) fn shared(state: S) -> Self {
        Self::new(state)
    }
}

impl<S> Guarded<S, Local> {
    pub(crate) const fn local(state: S) -> Self {
        Self { latch: Local { not_sync: PhantomData }, state: UnsafeCell::new(state) }
    }
}

struct Unlatch<'a, M: Mode>(&'a M);

impl<M: Mode> Drop for Unlatch<'_, M> {
    #[inline]
    fn drop(&mut self) {
        self.0.release();
    }
}

impl<S, M: Mode> Guarded<S, M> {
    pub(crate) fn new(state: S) -> Self {
        Self { latch: M::new(), state: UnsafeCell::new(state) }
    }

    /// Runs `f` under the lock. It must not allocate, drop or run anything of users; see the module's documentation.
    #[inline]
    pub(crate) fn look<R>(&self, f: impl FnOnce(&mut S) -> R) -> R {
        self.latch.acquire();
        let _unlatch = Unlatch(&self.latch);
        // SAFETY: the latch is held, and `f` cannot come back here, as nothing of users runs in it.
        f(unsafe { &mut *self.state.get() })
    }

    /// As [`look`](Self::look); wakers that `f` leaves in the buffer are called after the lock was given back.
    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut S, &mut Wakes) -> R) -> R {
        self.with_room(0, f)
    }

    /// As [`with`](Self::with), with a buffer for at least `room` wakers.
    #[inline]
    pub(crate) fn with_room<R>(&self, room: usize, f: impl FnOnce(&mut S, &mut Wakes) -> R) -> R {
        // Declared first, so it is dropped, which wakes, after the lock was given back.
        let mut wakes = Wakes::new(room);
        self.look(|state| f(state, &mut wakes))
    }
}

/// Wakers to be called when the lock was given back: dropping it calls them, in order.
pub(crate) struct Wakes {
    len: usize,
    few: [MaybeUninit<Waker>; FEW],
    /// Never grows under the lock: its capacity was reserved before. Dropped by `wake_all`, so that a look that wakes nobody
    /// pays one comparison.
    many: ManuallyDrop<Vec<Waker>>,
}

const FEW: usize = 4;

impl Wakes {
    #[inline]
    fn new(room: usize) -> Self {
        let many = if room > FEW { Vec::with_capacity(room - FEW) } else { Vec::new() };
        Self { len: 0, few: [const { MaybeUninit::uninit() }; FEW], many: ManuallyDrop::new(many) }
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.len == FEW && self.many.len() == self.many.capacity()
    }

    /// Whether there is room for less than two.
    #[inline]
    pub(crate) fn is_almost_full(&self) -> bool {
        self.len + 1 >= FEW + self.many.capacity() - self.many.len()
    }

    #[inline]
    fn push(&mut self, waker: Waker) {
        if self.len < FEW {
            self.few[self.len].write(waker);
            self.len += 1;
        } else {
            debug_assert!(self.many.len() < self.many.capacity(), "no allocation under the lock");
            self.many.push(waker);
        }
    }
}

impl Drop for Wakes {
    // Most often there is nobody to wake.
    #[inline(always)]
    fn drop(&mut self) {
        if self.len > 0 || self.many.capacity() > 0 {
            self.wake_all();
        }
    }
}

impl Wakes {
    /// What the drop does, once.
    #[inline(never)]
    fn wake_all(&mut self) {
        let mut few = self.few[..self.len].iter();
        // SAFETY: taken once, as this is dropped.
        let mut many = unsafe { ManuallyDrop::take(&mut self.many) }.into_iter();
        let mut next = || match few.next() {
            // SAFETY: the first `len` are written, and each is read once, as nothing below unwinds.
            Some(waker) => Some(unsafe { waker.assume_init_read() }),
            None => many.next(),
        };
        if crate::os::TRAPS {
            return wake_all(&mut next);
        }
        while let Some(waker) = next() {
            wake(waker);
        }
    }
}

#[inline]
fn wake(waker: Waker) {
    // A panic has been printed by the panic hook; the other waiters must still hear of their turn.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        discard(payload);
    }
}

const IDLE: u32 = 0;
const WAITING: u32 = 1;
const SPENT: u32 = 2;
const OUTCOME: u32 = 3;

/// A place in a list.
struct Node<P> {
    word: AtomicU32,
    entry: UnsafeCell<Entry<P>>,
    _pinned: PhantomPinned,
}

struct Entry<P> {
    before: *const Node<P>,
    behind: *const Node<P>,
    ticket: u64,
    waker: Option<Waker>,
    /// What the waiter brings along; `None` once it was handed over.
    payload: Option<P>,
}

// SAFETY: the links are only followed under the lock of the list, by whichever thread holds it; see the table above.
unsafe impl<P: Send> Send for Node<P> {}

impl<P> Node<P> {
    fn new() -> Self {
        Self {
            word: AtomicU32::new(IDLE),
            entry: UnsafeCell::new(Entry {
                before: ptr::null(),
                behind: ptr::null(),
                ticket: 0,
                waker: None,
                payload: None,
            }),
            _pinned: PhantomPinned,
        }
    }
}

/// Those who wait, first come first. Part of a [`Guarded`] state.
pub(crate) struct List<P> {
    first: *const Node<P>,
    last: *const Node<P>,
    len: usize,
    tickets: u64,
}

// SAFETY: a list is only touched with its state, under the lock.
unsafe impl<P: Send> Send for List<P> {}

impl<P> List<P> {
    pub(crate) const fn new() -> Self {
        Self { first: ptr::null(), last: ptr::null(), len: 0, tickets: 0 }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Everybody in the list now has a ticket below this.
    pub(crate) fn cutoff(&self) -> u64 {
        self.tickets
    }

    pub(crate) fn statistics(&self) -> WaitStatistics {
        WaitStatistics { waiting: self.len, waited: self.tickets }
    }

    fn first(&mut self) -> Option<&mut Entry<P>> {
        // SAFETY: a node that is in the list lives: its drop takes it out, under the lock that is held. Its entry belongs to
        // whoever holds the lock.
        unsafe { self.first.as_ref().map(|node| &mut *node.entry.get()) }
    }

    /// What the first in the list brings along.
    pub(crate) fn peek(&mut self) -> Option<&P> {
        self.first()?.payload.as_ref()
    }

    /// Hands `outcome` to the first and takes what it brought along. `None` if nobody waits.
    #[inline]
    pub(crate) fn grant(&mut self, outcome: u32, wakes: &mut Wakes) -> Option<P> {
        self.settle(outcome, wakes, true)?
    }

    /// Hands `outcome` to the first and leaves it what it brought along. Whether there was one.
    pub(crate) fn refuse(&mut self, outcome: u32, wakes: &mut Wakes) -> bool {
        self.settle(outcome, wakes, false).is_some()
    }

    /// Whether somebody waits who came before `cutoff`.
    pub(crate) fn first_is_before(&mut self, cutoff: u64) -> bool {
        self.first().is_some_and(|entry| entry.ticket < cutoff)
    }

    /// Refuses those who came before `cutoff`, as many as there is room to wake; whether some are left.
    pub(crate) fn refuse_before(&mut self, cutoff: u64, outcome: u32, wakes: &mut Wakes) -> bool {
        while self.first_is_before(cutoff) {
            if wakes.is_full() {
                return true;
            }
            self.refuse(outcome, wakes);
        }
        false
    }

    #[inline]
    fn settle(&mut self, outcome: u32, wakes: &mut Wakes, take: bool) -> Option<Option<P>> {
        // SAFETY: as in `first`.
        let node = unsafe { self.first.as_ref() }?;
        // SAFETY: it is the first of this list.
        unsafe { self.unlink(node) };
        // SAFETY: as in `first`.
        let entry = unsafe { &mut *node.entry.get() };
        let payload = if take { entry.payload.take() } else { None };
        if let Some(waker) = entry.waker.take() {
            wakes.push(waker);
        }
        // The last touch: from here on the node is its future's.
        node.word.store(OUTCOME + outcome, Ordering::Release);
        Some(payload)
    }

    /// # Safety
    ///
    /// The lock is held; `node` is in no list, is pinned, and is taken out before it goes.
    unsafe fn push(&mut self, node: &Node<P>) {
        // SAFETY: an idle node belongs to its future, which calls this.
        let entry = unsafe { &mut *node.entry.get() };
        entry.before = self.last;
        entry.behind = ptr::null();
        entry.ticket = self.tickets;
        self.tickets += 1;
        // SAFETY: as in `first`.
        match unsafe { self.last.as_ref() } {
            // SAFETY: as in `first`.
            Some(last) => unsafe { (*last.entry.get()).behind = node },
            None => self.first = node,
        }
        self.last = node;
        self.len += 1;
        node.word.store(WAITING, Ordering::Relaxed);
    }

    /// # Safety
    ///
    /// The lock is held and `node` is in this list.
    unsafe fn unlink(&mut self, node: &Node<P>) {
        // SAFETY: as in `first`; neighbours in the list live too.
        unsafe {
            let (before, behind) = {
                let entry = &*node.entry.get();
                (entry.before, entry.behind)
            };
            match before.as_ref() {
                Some(before) => (*before.entry.get()).behind = behind,
                None => self.first = behind,
            }
            match behind.as_ref() {
                Some(behind) => (*behind.entry.get()).before = before,
                None => self.last = before,
            }
        }
        self.len -= 1;
    }
}

/// What a look at the state came to.
pub(crate) enum Now<O> {
    Ready(O),
    /// Nothing to be had: enqueue.
    Wait,
    /// There is something to do first that must not happen under the lock; then look again.
    Prepare,
}

/// One operation of a primitive that may have to wait.
pub(crate) trait Request {
    type State;
    type Mode: Mode;
    /// What the node brings along for whoever grants.
    type Payload;
    /// What a successful look gives.
    type Found;
    type Output;

    /// For `Debug` of tasks and the simulator's deadlock report.
    const WAITS_FOR: &'static &'static str;

    fn guarded(&self) -> &Guarded<Self::State, Self::Mode>;

    fn list(state: &mut Self::State) -> &mut List<Self::Payload>;

    /// How many wakers [`look`](Self::look) may leave.
    fn room(&self) -> usize {
        0
    }

    /// Looks whether there is something to be had, under the lock.
    fn look(&mut self, state: &mut Self::State, wakes: &mut Wakes) -> Now<Self::Found>;

    /// Makes the output of what [`look`](Self::look) found; without the lock.
    fn found(&mut self, found: Self::Found) -> Self::Output;

    /// Asked for by [`Now::Prepare`]; without the lock.
    fn prepare(&mut self) {}

    /// What to bring along; called when the node is enqueued, under the lock.
    fn payload(&mut self) -> Self::Payload;

    /// An outcome was granted and is used. Without the lock.
    fn granted(&mut self, outcome: u32, payload: Option<Self::Payload>) -> Self::Output;

    /// An outcome was granted and nobody will use it: hand it on. Without the lock.
    fn unused(&mut self, outcome: u32);

    /// The node was taken out before anything was granted. Without the lock.
    fn left(&mut self) {}
}

/// A request that is under way. `Ready` at once if there is no need to wait.
pub(crate) struct Waiting<R: Request> {
    request: R,
    /// Somebody has just looked and found nothing.
    looked: bool,
    node: Node<R::Payload>,
}

impl<R: Request> Waiting<R> {
    pub(crate) fn new(request: R) -> Self {
        Self { request, looked: false, node: Node::new() }
    }

    /// For a request whose first look, made without the weight of a `Waiting`, found nothing.
    pub(crate) fn after_look(request: R) -> Self {
        Self { request, looked: true, node: Node::new() }
    }

    /// The request for exclusive use, the node for shared: others may hold references to a node.
    fn project(self: Pin<&mut Self>) -> (&mut R, &Node<R::Payload>) {
        // SAFETY: nothing is moved out. The request is never pinned, the node always.
        let this = unsafe { self.get_unchecked_mut() };
        (&mut this.request, &this.node)
    }

    pub(crate) fn request(self: Pin<&mut Self>) -> &mut R {
        self.project().0
    }

    /// The outcome, if one was granted.
    fn take_outcome(request: &mut R, node: &Node<R::Payload>) -> Option<R::Output> {
        // Acquire: what the granting side did is visible from here on.
        let word = node.word.load(Ordering::Acquire);
        if word < OUTCOME {
            return None;
        }
        // SAFETY: with an outcome the node is the future's.
        let payload = unsafe { (*node.entry.get()).payload.take() };
        node.word.store(SPENT, Ordering::Relaxed);
        Some(request.granted(word - OUTCOME, payload))
    }

    /// Looks without waiting. To be called first, if at all.
    pub(crate) fn try_now(self: Pin<&mut Self>) -> Option<R::Output> {
        let (request, node) = self.project();
        debug_assert_eq!(node.word.load(Ordering::Relaxed), IDLE);
        Self::enter(request, node, None, None)
    }

    /// Looks, and enqueues if there is nothing and `cx` says whom to wake; at once if that is known.
    #[inline]
    fn enter(
        request: &mut R,
        node: &Node<R::Payload>,
        cx: Option<&mut Context<'_>>,
        mut waker: Option<Waker>,
    ) -> Option<R::Output> {
        loop {
            let room = request.room();
            // The state outlives the closure that borrows it, while the request is needed too.
            let guarded = ptr::from_ref(request.guarded());
            // SAFETY: the request keeps what it refers to alive and does not change which one it is.
            let guarded = unsafe { &*guarded };
            let now = guarded.with_room(room, |state, wakes| {
                let now = request.look(state, wakes);
                // A waker that is not needed after all stays outside, to be dropped there.
                let sleeper = if matches!(now, Now::Wait) { waker.take() } else { None };
                if let Some(waker) = sleeper {
                    // SAFETY: an idle node is ours.
                    let entry = unsafe { &mut *node.entry.get() };
                    entry.waker = Some(waker);
                    entry.payload = Some(request.payload());
                    // SAFETY: the lock is held; the node is pinned, and its drop takes it out.
                    unsafe { R::list(state).push(node) };
                    return None;
                }
                Some(now)
            });
            match now {
                Some(Now::Ready(found)) => {
                    node.word.store(SPENT, Ordering::Relaxed);
                    return Some(request.found(found));
                }
                Some(Now::Prepare) => request.prepare(),
                Some(Now::Wait) => waker = Some(cx.as_ref()?.waker().clone()),
                None => return None,
            }
        }
    }

    /// Gives up. `Ok` if an outcome was granted already, else what the node brought along, if it was enqueued.
    pub(crate) fn withdraw(self: Pin<&mut Self>) -> Result<R::Output, Option<R::Payload>> {
        let (request, node) = self.project();
        if Self::unlink(request, node) {
            // SAFETY: withdrawn, so it is ours.
            let payload = unsafe { (*node.entry.get()).payload.take() };
            request.left();
            return Err(payload);
        }
        Self::take_outcome(request, node).ok_or(None)
    }

    /// Takes the node out of its list; whether it was in it.
    fn unlink(request: &R, node: &Node<R::Payload>) -> bool {
        node.word.load(Ordering::Acquire) == WAITING
            && request.guarded().look(|state| {
                // Relaxed: a grant was made under this lock.
                if node.word.load(Ordering::Relaxed) != WAITING {
                    return false;
                }
                // SAFETY: the lock is held, and a node that waits is in its list.
                unsafe { R::list(state).unlink(node) };
                node.word.store(SPENT, Ordering::Relaxed);
                true
            })
    }
}

impl<R: Request> Future for Waiting<R> {
    type Output = R::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R::Output> {
        let looked = self.looked;
        let (request, node) = self.project();
        match node.word.load(Ordering::Acquire) {
            IDLE => {
                let waker = looked.then(|| cx.waker().clone());
                if let Some(output) = Self::enter(request, node, Some(cx), waker) {
                    return Poll::Ready(output);
                }
            }
            WAITING => {
                let swap = |new: Option<Waker>| {
                    request.guarded().look(|_| {
                        if node.word.load(Ordering::Relaxed) != WAITING {
                            return (true, new);
                        }
                        // SAFETY: the lock is held and the node waits.
                        let kept = unsafe { &mut (*node.entry.get()).waker };
                        match new {
                            None => (kept.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())), None),
                            // The old one is dropped by the caller, outside of the lock.
                            Some(new) => (true, kept.replace(new)),
                        }
                    })
                };
                if !swap(None).0 {
                    let new = cx.waker().clone();
                    drop(swap(Some(new)));
                }
                if let Some(output) = Self::take_outcome(request, node) {
                    return Poll::Ready(output);
                }
            }
            SPENT => panic!("a future polled after it has completed"),
            _ => {
                if let Some(output) = Self::take_outcome(request, node) {
                    return Poll::Ready(output);
                }
            }
        }
        waits_for_text(R::WAITS_FOR);
        Poll::Pending
    }
}

impl<R: Request> Drop for Waiting<R> {
    fn drop(&mut self) {
        let (request, node) = (&mut self.request, &self.node);
        let word = node.word.load(Ordering::Acquire);
        if word == IDLE || word == SPENT {
            return;
        }
        if Self::unlink(request, node) {
            request.left();
        } else {
            let outcome = node.word.load(Ordering::Acquire) - OUTCOME;
            request.unused(outcome);
        }
    }
}

/// Why [`block_on`] has no outcome, and what was to be brought along if it was enqueued.
pub(crate) struct NotNow<P> {
    pub(crate) error: WaitError,
    pub(crate) payload: Option<P>,
}

/// Waits with a blocked thread for at most `timeout`. `enqueued` is called when the wait has begun, and perhaps again.
pub(crate) fn block_on<R: Request>(
    request: &mut Pin<&mut Waiting<R>>,
    timeout: Option<Duration>,
    mut enqueued: impl FnMut(),
) -> Result<R::Output, NotNow<R::Payload>> {
    if let Some(output) = request.as_mut().try_now() {
        return Ok(output);
    }
    if !current_scheduler().is_null() || testing::works().is_some() {
        // What this thread would wait for may be a task of the loop, or of the simulation, that it would hold up.
        return Err(NotNow { error: WaitError::WouldBlock, payload: None });
    }
    let mut output = None;
    let waited = crate::os::block(None, timeout, &mut |waker| {
        match request.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Ready(ready) => output = Some(ready),
            Poll::Pending => {
                enqueued();
                return false;
            }
        }
        true
    });
    match (output, waited) {
        (Some(output), _) => Ok(output),
        // What was granted at the last moment is not lost.
        (None, waited) => request
            .as_mut()
            .withdraw()
            .map_err(|payload| NotNow { error: waited.err().unwrap_or(WaitError::TimedOut), payload }),
    }
}

/// [`block_on`] for requests that bring nothing along.
pub(crate) fn block<R: Request>(request: R, timeout: Option<Duration>) -> Result<R::Output, WaitError> {
    let mut waiting = pin!(Waiting::new(request));
    block_on(&mut waiting, timeout, || ()).map_err(|not_now| not_now.error)
}

/// How many wait for a primitive, and how many have waited. A snapshot, for diagnosis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitStatistics {
    /// How many wait at this moment.
    #[doc(alias = "tasks_waiting")]
    pub waiting: usize,
    /// How often somebody had to wait, since the primitive was made.
    pub waited: u64,
}

#[cfg(all(selkie_loom, test))]
#[path = "loom.rs"]
mod loom_models;
