//! The cell of a result that crosses threads.
//!
//! # The protocol
//!
//! One producer, one consumer, and a word of six bits:
//!
//! - [`CLAIMED`]: somebody writes the result, for a few instructions, or has written it.
//! - [`SET`]: the result is there. Everybody may look, nobody may take.
//! - [`DONE`]: the callbacks have run, and the consumer may take.
//! - [`CALLS`]: the consumer has added a callback, or is about to.
//! - [`WAITS`]: the consumer has left a waker.
//! - [`GONE`]: the consumer has gone, and nobody will take.
//!
//! *The producer* claims the word, and writes the result. If there is no callback it sets `SET | DONE` in one step, which fails if `CALLS` comes just
//! then. Otherwise it sets `SET`, closes the list of callbacks and runs them in its thread, and sets `DONE`. The step that sets
//! `DONE` says whether there is somebody to wake.
//!
//! *A callback.* The list is an [`Inbox`]. The consumer sets `CALLS`, and then pushes. If `SET` was there before, or the list
//! refuses the push as it is closed, the callback runs at once, where it is added.
//!
//! *A waiter* leaves its waker, sets `WAITS`, and then looks for `DONE`: so either it sees that, or the producer sees `WAITS`. Once
//! the bit is there it stays, and later wakers go by the rules of [`AtomicWaker`].
//!
//! *A consumer that goes* drops the result if it finds `DONE`. Otherwise it sets `GONE`, and whoever of the two sees the other's bit
//! drops it. So no result is left in a cell that others still refer to, which may be longer than what the result borrows. Nor is
//! its waker: it takes that out if it had left one.
//!
//! So a result that nobody waits for yet costs two atomic steps. A producer that goes without a result leaves an error, so nobody
//! waits for ever.
//!
//! *One allocation* holds the result, and behind it the [`Work`] that makes it, where that can be: a function for a pool, or
//! what a loop makes a task of.
//!
//! *A producer that goes without a word.* A trap takes a frame without its destructors, and a Worker may be terminated. Whoever
//! notices gives an error in its stead, by a [`StandIn`]. Mostly there is nobody left to give anything beside it, but not always:
//! a thread that is lost may run on for a moment, and one that submits to a lost loop drops the producer that it could not
//! hand over while the loop's debts are settled. So both ends claim the word, and who finds it claimed has nothing to give. But
//! who stands in wakes the waiter again where the word is `DONE`: the thread may have gone between that step and the wake.
//!
//! *A thread that goes while it has the word `CLAIMED`*, and not `SET`, leaves the result open, and that cannot be mended: who
//! notices cannot tell it from one that runs on for a moment and is still writing, so nobody else may write. What bounds it is
//! that no code of users runs between the two steps, and nothing waits: it is the move of the result to its place, and one exchange. Traps
//! cannot come there, and selkie ends no Worker that has come up, so it takes somebody else who terminates a Worker
//! just then. The allocator's lock, which is taken for longer and more often, is in the same danger, and is everybody's. A
//! wait with a timeout ends in any case.
//!
//! *Callbacks are code of users*, run with `SET`, which somebody has to end. A panic is caught, with what its payload does as it
//! is dropped, and so is a trap. A thread that is terminated in a callback has noted what is left to do: to set `DONE`. What it
//! had not called yet is not called.
//!
//! *Cancel* is a flag, and then a word to the work, which decides what it means: a task is asked to end, a job that has not
//! begun is withdrawn, in the thread that cancels. Then that thread is the producer.

use std::{
    cell::UnsafeCell,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::{self, NonNull},
    sync::{Arc, Weak},
    task::Waker,
};

use super::RemoteTask;
use crate::{
    error::{JoinError, contain, discard},
    inbox::{Inbox, Kind, Link},
    os,
    scheduler::{Scheduler, ThreadNumber},
    sync::{AtomicBool, AtomicU32, AtomicWaker, Ordering},
};

const SET: u32 = 1 << 0;
const DONE: u32 = 1 << 1;
const CALLS: u32 = 1 << 2;
const WAITS: u32 = 1 << 3;
const GONE: u32 = 1 << 4;
const CLAIMED: u32 = 1 << 5;

/// The word.
struct Stage(AtomicU32);

impl Stage {
    fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire) & SET != 0
    }

    fn is_done(&self) -> bool {
        self.0.load(Ordering::Acquire) & DONE != 0
    }

    /// Whether the caller is the one who writes the result.
    fn claim(&self) -> bool {
        self.0.fetch_or(CLAIMED, Ordering::Relaxed) & CLAIMED == 0
    }

    /// The result was written. Whether that is all; otherwise the callbacks come, and then [`done`](Self::done).
    fn set(&self) -> Result<Consumer, Callbacks> {
        let mut old = self.0.load(Ordering::Relaxed);
        loop {
            let new = old | if old & CALLS == 0 { SET | DONE } else { SET };
            match self.0.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if old & CALLS == 0 => return Ok(Consumer(old)),
                Ok(_) => return Err(Callbacks),
                Err(now) => old = now,
            }
        }
    }

    /// The callbacks have run.
    fn done(&self) -> Consumer {
        Consumer(self.0.fetch_or(DONE, Ordering::AcqRel))
    }

    /// The consumer goes.
    fn go(&self) -> Consumer {
        let now = self.0.load(Ordering::Acquire);
        Consumer(if now & DONE == 0 { self.0.fetch_or(GONE, Ordering::AcqRel) } else { now })
    }

    /// A waker was left: whether it comes too late, as it is done.
    fn wait(&self) -> bool {
        let now = self.0.load(Ordering::Acquire);
        let now = if now & (DONE | WAITS) == 0 { self.0.fetch_or(WAITS, Ordering::AcqRel) } else { now };
        now & DONE != 0
    }

    fn is_gone(&self) -> bool {
        self.0.load(Ordering::Relaxed) & GONE != 0
    }

    /// A callback is about to be added: whether it comes too late, as the result is there.
    fn call(&self) -> bool {
        self.0.fetch_or(CALLS, Ordering::AcqRel) & SET != 0
    }
}

/// The word as the producer found it when it was done, or the consumer as it went.
struct Consumer(u32);

impl Consumer {
    /// It is to be woken.
    fn waits(&self) -> bool {
        self.0 & WAITS != 0
    }

    /// It was `DONE` before.
    fn is_told(&self) -> bool {
        self.0 & DONE != 0
    }

    /// It has left the result to the producer.
    fn is_gone(&self) -> bool {
        self.0 & GONE != 0
    }
}

/// There are some.
struct Callbacks;

type Callback<T> = Box<dyn FnOnce(&Result<T, JoinError>) + Send>;

#[repr(C)]
struct Entry<T> {
    link: Link,
    callback: Callback<T>,
}

/// What makes a result.
pub(crate) trait Work: Send + Sync {
    /// The consumer asks for an end. If this answers `true` the work never begins, and the caller is the producer: it gives the
    /// result, and then calls [`release`](Self::release).
    fn cancel(&self) -> bool;

    /// See [`cancel`](Self::cancel).
    fn release(&self) {}

    /// Leaves a waker for a cancel.
    fn listen(&self, _: &Waker) {}
}

/// Work that is elsewhere, and looks whether it is cancelled when it is woken.
#[derive(Default)]
pub(crate) struct Elsewhere(AtomicWaker);

impl Work for Elsewhere {
    fn cancel(&self) -> bool {
        self.0.wake();
        false
    }

    fn listen(&self, waker: &Waker) {
        self.0.register(waker);
    }
}

/// Both ends have it.
#[repr(C)]
pub(crate) struct Shared<T, W: ?Sized = dyn Work> {
    stage: Stage,
    cancelled: AtomicBool,
    /// The work has begun.
    started: AtomicBool,
    /// The number of the thread whose simulation owes the result, without one of its loops. Zero if none does.
    simulated: AtomicU32,
    value: UnsafeCell<Option<Result<T, JoinError>>>,
    /// Stands for `value` in the models, which report an access that is not ordered with another.
    #[cfg(selkie_loom)]
    watched: loom::cell::UnsafeCell<()>,
    callbacks: Inbox,
    waiter: AtomicWaker,
    /// The loop that owes the result, if one does.
    debtor: Option<Arc<Scheduler>>,
    pub(crate) work: W,
}

// SAFETY: the value is written once by the producer, then read shared, then taken by the one consumer, in this order by
// `stage`. Callbacks see it in the producer's thread, hence `Sync` is not needed: the consumer may only look meanwhile
// through `on_done`, which runs the callback in its own thread while others run in the producer's, so `T` must be `Sync`
// for that; `on_done` asks for it.
unsafe impl<T: Send, W: Send + ?Sized> Send for Shared<T, W> {}
// SAFETY: as above.
unsafe impl<T: Send, W: Sync + ?Sized> Sync for Shared<T, W> {}

impl<T, W: ?Sized> Drop for Shared<T, W> {
    fn drop(&mut self) {
        if self.stage.0.load(Ordering::Relaxed) & CALLS == 0 {
            return;
        }
        for (link, _) in self.callbacks.close() {
            // SAFETY: `on_done` leaked it.
            drop(unsafe { Box::from_raw(link.cast::<Entry<T>>().as_ptr()) });
        }
    }
}

impl<T: Send, W> Shared<T, W> {
    pub(crate) fn new(debtor: Option<Arc<Scheduler>>, work: W) -> Self {
        Self {
            stage: Stage::new(),
            cancelled: AtomicBool::new(false),
            started: AtomicBool::new(false),
            simulated: AtomicU32::new(0),
            value: UnsafeCell::new(None),
            #[cfg(selkie_loom)]
            watched: loom::cell::UnsafeCell::new(()),
            callbacks: Inbox::new(),
            waiter: AtomicWaker::new(),
            debtor,
            work,
        }
    }
}

impl<T: Send, W: Send + Sync + ?Sized> Shared<T, W> {
    /// # Safety
    ///
    /// The word is `CLAIMED`, by the caller, and not yet `SET`.
    unsafe fn write(&self, result: Result<T, JoinError>) {
        #[cfg(selkie_loom)]
        self.watched.with_mut(|_| ());
        // SAFETY: one claims, once; nobody looks before `SET`.
        unsafe { *self.value.get() = Some(result) };
    }

    /// # Safety
    ///
    /// The caller has seen what comes after the write, and keeps the consumer from taking meanwhile.
    unsafe fn look(&self) -> Option<&Result<T, JoinError>> {
        #[cfg(selkie_loom)]
        self.watched.with(|_| ());
        // SAFETY: it was written, and nobody writes.
        unsafe { &*self.value.get() }.as_ref()
    }

    /// # Safety
    ///
    /// The caller is the consumer, and has seen `DONE`.
    pub(super) unsafe fn take(&self) -> Option<Result<T, JoinError>> {
        #[cfg(selkie_loom)]
        self.watched.with_mut(|_| ());
        // SAFETY: after `DONE` the value is the consumer's alone.
        unsafe { (*self.value.get()).take() }
    }

    /// Gives the error of a producer that has gone without a word, unless there is a result already.
    pub(crate) fn lost(this: &Arc<Self>, error: JoinError) {
        Self::settle(this, Err(error));
        // Whoever gave it may have gone before it told. Otherwise nobody is left to be woken.
        if this.stage.is_done() {
            this.wake();
        }
    }

    /// The producer's last step. Does nothing if another has given a result. A panic of what is called or dropped is contained.
    pub(crate) fn settle(this: &Arc<Self>, result: Result<T, JoinError>) {
        if !this.stage.claim() {
            return;
        }
        // SAFETY: claimed just now.
        unsafe { this.write(result) };
        let consumer = match this.stage.set() {
            Ok(consumer) => {
                this.tell(&consumer);
                consumer
            }
            Err(Callbacks) => {
                let _risk = os::at_risk(|| Self::end_elsewhere(this));
                for (link, _) in this.callbacks.close() {
                    // SAFETY: `on_done` leaked it and it was pushed once.
                    let entry = unsafe { Box::from_raw(link.cast::<Entry<T>>().as_ptr()) };
                    // SAFETY: written above; nobody takes before `DONE`.
                    if let Some(value) = unsafe { this.look() } {
                        call(entry.callback, value);
                    }
                }
                let consumer = this.stage.done();
                this.tell(&consumer);
                consumer
            }
        };
        if consumer.is_gone() && !consumer.is_told() {
            // SAFETY: the consumer has left it, so it is ours alone.
            let unwanted = unsafe { this.take() };
            contain(|| drop(unwanted));
        }
    }

    /// `DONE` was set. It may be told twice, where a thread has gone as it told.
    fn tell(&self, consumer: &Consumer) {
        if consumer.waits() {
            self.wake();
        }
        // Last: until then whoever settles the debts of a lost thread wakes as well.
        if let Some(debtor) = &self.debtor {
            debtor.debts.paid(ptr::from_ref(self).addr());
        }
    }

    fn wake(&self) {
        // It may be anybody's, and fails nothing but itself.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.waiter.wake())) {
            discard(payload);
        }
    }

    /// What is left to do if the thread goes that is about to run the callbacks.
    fn end_elsewhere<'a>(this: &Arc<Self>) -> Box<dyn FnOnce(bool) + Send>
    where
        Self: 'a,
    {
        let this = Arc::downgrade(this);
        let end: Box<dyn FnOnce(bool) + Send + 'a> = Box::new(move |_| {
            if let Some(this) = this.upgrade() {
                this.tell(&this.stage.done());
            }
        });
        // SAFETY: only the lifetime changes. The result is not touched, and not dropped either: this has no part in it, and
        // when it is called, the thread that has gone keeps its own for ever.
        unsafe { std::mem::transmute::<Box<dyn FnOnce(bool) + Send + 'a>, Box<dyn FnOnce(bool) + Send>>(end) }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Says that the work begins; whether it still should.
    pub(crate) fn begin(&self) -> bool {
        self.started.store(true, Ordering::Release);
        !self.is_cancelled()
    }

    /// The error of work that goes without a result.
    pub(crate) fn missing(&self) -> JoinError {
        if self.is_cancelled() { JoinError::cancelled(None) } else { JoinError::LOST }
    }
}

/// What the consumer does.
impl<T: Send> Shared<T> {
    pub(super) fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.stage.is_set()
    }

    /// See [`RemoteTask::simulated`].
    pub(super) fn set_simulated(&self, by: ThreadNumber) {
        self.simulated.store(by.get(), Ordering::Relaxed);
    }

    /// See [`RemoteTask::debtor`].
    pub(super) fn debtor(&self) -> Option<ThreadNumber> {
        let simulated = || ThreadNumber::of(self.simulated.load(Ordering::Relaxed));
        self.debtor.as_ref().map(|debtor| debtor.thread()).or_else(simulated)
    }

    /// See [`RemoteTask::is_done`].
    pub(crate) fn is_done(&self) -> bool {
        self.stage.is_done()
    }

    /// See [`RemoteTask::poll_done`].
    pub(crate) fn poll_done(&self, waker: &Waker) -> bool {
        if self.is_done() {
            return true;
        }
        self.waiter.register(waker);
        self.stage.wait()
    }

    /// See [`RemoteTask::cancel`].
    pub(crate) fn cancel(self: &Arc<Self>) {
        self.cancelled.store(true, Ordering::Release);
        if self.work.cancel() {
            Self::settle(self, Err(self.missing()));
            self.work.release();
        }
    }

    /// See [`RemoteTask::on_done`].
    pub(super) fn on_done(&self, callback: Callback<T>) {
        let entry = Entry { link: Link::new(), callback };
        let entry = if self.stage.call() {
            entry
        } else {
            let entry = NonNull::from(Box::leak(Box::new(entry)));
            // SAFETY: leaked until it is taken out; the link is its first field.
            if unsafe { self.callbacks.push(entry.cast(), Kind::Cell) }.is_ok() {
                return;
            }
            // The list was closed after the value was written, which whoever is refused sees.
            // SAFETY: the push failed, so it is still ours.
            *unsafe { Box::<Entry<T>>::from_raw(entry.as_ptr()) }
        };
        // SAFETY: the value is there, and taking needs the `RemoteTask` exclusively, so until then everybody only looks.
        if let Some(value) = unsafe { self.look() } {
            call(entry.callback, value);
        }
    }

    /// The consumer goes.
    pub(crate) fn leave(&self) {
        let consumer = self.stage.go();
        if consumer.is_told() {
            // SAFETY: it is done, and nobody else is there to take.
            let unwanted = unsafe { self.take() };
            contain(|| drop(unwanted));
        } else if consumer.waits() {
            // It leads to whoever waited, who may own the work: left behind, it could keep both for ever.
            let waker = self.waiter.take();
            contain(|| drop(waker));
        }
    }
}

/// Makes both ends. `debtor` is the loop that will produce the result.
pub(crate) fn channel<T: Send>(debtor: Option<Arc<Scheduler>>) -> (Producer<T>, RemoteTask<T>) {
    let (producer, shared) = cell_of(debtor, Elsewhere::default());
    (producer, RemoteTask::new(shared))
}

/// As [`channel`], with what `work` makes of a cancel, and without the consumer's handle.
pub(crate) fn cell_of<T: Send>(
    debtor: Option<Arc<Scheduler>>,
    work: impl Work + 'static,
) -> (Producer<T>, Arc<Shared<T>>) {
    let shared: Arc<Shared<T>> = Arc::new(Shared::new(debtor, work));
    (Producer::new(shared.clone()), shared)
}

/// The end that owes a result.
pub(crate) struct Producer<T: Send> {
    /// `None` once the result was given.
    shared: Option<Arc<Shared<T>>>,
}

impl<T: Send> Producer<T> {
    /// There is no other.
    pub(crate) fn new(shared: Arc<Shared<T>>) -> Self {
        Self { shared: Some(shared) }
    }

    pub(crate) fn give(mut self, result: Result<T, JoinError>) {
        self.settle(result);
    }

    /// As [`give`](Self::give). Does nothing the second time.
    pub(crate) fn settle(&mut self, result: Result<T, JoinError>) {
        if let Some(shared) = self.shared.take() {
            Shared::settle(&shared, result);
        }
    }

    /// For whoever may have to notice that this end has gone without having been dropped.
    pub(crate) fn stand_in(&self) -> StandIn<T> {
        StandIn { shared: self.shared.as_ref().map(Arc::downgrade) }
    }

    /// Whether the consumer has gone.
    pub(crate) fn is_unwanted(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.stage.is_gone())
    }

    /// Whether the consumer asked for an end.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.is_cancelled())
    }

    /// Whether the consumer asked for an end. Registers `waker` for the time when it does.
    pub(crate) fn poll_cancelled(&self, waker: &Waker) -> bool {
        let Some(shared) = &self.shared else { return false };
        if !shared.is_cancelled() {
            shared.work.listen(waker);
        }
        shared.is_cancelled()
    }

    /// Says that the work begins; whether it still should.
    pub(crate) fn begin(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.begin())
    }
}

impl<T: Send> Drop for Producer<T> {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            let missing = shared.missing();
            self.settle(Err(missing));
        }
    }
}

/// Does nothing unless asked; from [`Producer::stand_in`].
///
/// It keeps the memory and not the result, which so is dropped where it was given, not where this is.
pub(crate) struct StandIn<T: Send> {
    shared: Option<Weak<Shared<T>>>,
}

impl<T: Send> StandIn<T> {
    pub(crate) fn new(shared: Arc<Shared<T>>) -> Self {
        Self { shared: Some(Arc::downgrade(&shared)) }
    }

    /// Gives `error`, unless there is a result already.
    pub(crate) fn give(&self, error: JoinError) {
        if let Some(shared) = self.shared.as_ref().and_then(Weak::upgrade) {
            Shared::lost(&shared, error);
        }
    }

    pub(super) fn key(&self) -> usize {
        self.shared.as_ref().map_or(0, |shared| shared.as_ptr().addr())
    }
}

/// The error of a frame that has gone: by a trap, or with its thread.
pub(crate) fn gone(trapped: bool) -> JoinError {
    if trapped { JoinError::trapped() } else { JoinError::LOST }
}

fn call<T>(callback: Callback<T>, value: &Result<T, JoinError>) {
    // The others still run.
    contain(|| callback(value));
}

#[cfg(all(selkie_loom, test))]
#[path = "loom.rs"]
mod loom_models;
