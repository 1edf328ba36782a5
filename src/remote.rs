//! A result that crosses threads: what `submit` and the pools give back.
//!
//! # The protocol
//!
//! One producer, one consumer, and a word:
//!
//! - `EMPTY`: no result. The consumer may leave callbacks and a waker.
//! - `CLAIMED`: somebody writes the result, for a few instructions. To all others it is as `EMPTY`.
//! - `SET`: the result is there and the callbacks run, in the producer's thread. Everybody may look, nobody may take.
//! - `DONE`: the consumer may take.
//!
//! The producer claims the word, writes the result, sets `SET`, closes the list of callbacks and runs them, sets `DONE`, and wakes. The list
//! of callbacks is an [`Inbox`]: a callback that comes after the close is refused by it and runs at once, where it is added.
//! A producer that goes without a result leaves an error, so nobody waits for ever.
//!
//! *A producer that goes without a word.* A trap takes a frame without its destructors, and a Worker may be terminated. Whoever
//! notices gives an error in its stead, by a [`StandIn`]. Mostly there is nobody left to give anything beside it, but not always:
//! a thread that is lost may run on for a moment, and one that submits to a lost loop drops the producer that it could not
//! hand over while the loop's debts are settled. So both ends claim the word, and who finds it claimed has nothing to give.
//!
//! *Callbacks are code of users*, run with `SET`, which somebody has to end. A panic is caught, with what its payload does as it
//! is dropped, and so is a trap. A thread that is terminated in a callback has noted what is left to do: to set `DONE`. What it
//! had not called yet is not called.
//!
//! *Cancel* is a flag, and a waker of the work that should look at it. The producer decides what it means: a task is asked to
//! end, a job that has not begun is withdrawn.

use std::{
    cell::UnsafeCell,
    collections::BTreeMap,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    ptr::NonNull,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{
    error::{JoinError, WaitError, contain, discard},
    inbox::{Inbox, Kind, Link},
    os,
    scheduler::Scheduler,
    sync::{AtomicBool, AtomicU8, AtomicWaker, Ordering, fence},
};

const EMPTY: u8 = 0;
const CLAIMED: u8 = 1;
const SET: u8 = 2;
const DONE: u8 = 3;

type Callback<T> = Box<dyn FnOnce(&Result<T, JoinError>) + Send>;

#[repr(C)]
struct Entry<T> {
    link: Link,
    callback: Callback<T>,
}

struct Shared<T> {
    state: AtomicU8,
    value: UnsafeCell<Option<Result<T, JoinError>>>,
    /// Stands for `value` in the models, which report an access that is not ordered with another.
    #[cfg(selkie_loom)]
    watched: loom::cell::UnsafeCell<()>,
    callbacks: Inbox,
    waiter: AtomicWaker,
    cancelled: AtomicBool,
    /// The work, which looks at `cancelled` when it is woken.
    worker: AtomicWaker,
    /// The work has begun.
    started: AtomicBool,
    /// The loop that owes the result, if one does.
    debtor: Option<Arc<Scheduler>>,
}

// SAFETY: the value is written once by the producer, then read shared, then taken by the one consumer, in this order by
// `state`. Callbacks see it in the producer's thread, hence `Sync` is not needed: the consumer may only look meanwhile
// through `on_done`, which runs the callback in its own thread while others run in the producer's, so `T` must be `Sync`
// for that; `on_done` asks for it.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        for (link, _) in self.callbacks.close() {
            // SAFETY: `on_done` leaked it.
            drop(unsafe { Box::from_raw(link.cast::<Entry<T>>().as_ptr()) });
        }
    }
}

impl<T: Send> Shared<T> {
    /// # Safety
    ///
    /// The word is `CLAIMED`, by the caller.
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
    unsafe fn take(&self) -> Option<Result<T, JoinError>> {
        #[cfg(selkie_loom)]
        self.watched.with_mut(|_| ());
        // SAFETY: after `DONE` the value is the consumer's alone.
        unsafe { (*self.value.get()).take() }
    }

    /// The consumer may take. Nothing changes if it may already.
    fn end(&self) {
        self.state.store(DONE, Ordering::Release);
        // It may be anybody's, and fails nothing but itself.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.waiter.wake())) {
            discard(payload);
        }
        if let Some(debtor) = &self.debtor {
            debtor.debts.paid(std::ptr::from_ref(self).addr());
        }
    }

    /// What is left to do if the thread goes that is about to run the callbacks.
    fn end_elsewhere<'a>(this: &Arc<Self>) -> Box<dyn FnOnce(bool) + Send>
    where
        Self: 'a,
    {
        let this = Arc::downgrade(this);
        let end: Box<dyn FnOnce(bool) + Send + '_> = Box::new(move |_| {
            if let Some(this) = this.upgrade() {
                this.end();
            }
        });
        // SAFETY: only the lifetime changes. The result is not touched, and not dropped either: this has no part in it, and
        // when it is called, the thread that has gone keeps its own for ever.
        unsafe { std::mem::transmute::<Box<dyn FnOnce(bool) + Send + '_>, Box<dyn FnOnce(bool) + Send>>(end) }
    }
}

/// Makes both ends. `debtor` is the loop that will produce the result.
pub(crate) fn channel<T: Send>(debtor: Option<Arc<Scheduler>>) -> (Producer<T>, RemoteTask<T>) {
    let shared = Arc::new(Shared {
        state: AtomicU8::new(EMPTY),
        value: UnsafeCell::new(None),
        #[cfg(selkie_loom)]
        watched: loom::cell::UnsafeCell::new(()),
        callbacks: Inbox::new(),
        waiter: AtomicWaker::new(),
        cancelled: AtomicBool::new(false),
        worker: AtomicWaker::new(),
        started: AtomicBool::new(false),
        debtor,
    });
    (Producer { shared: Some(shared.clone()) }, RemoteTask { shared })
}

/// The end that owes a result.
pub(crate) struct Producer<T: Send> {
    /// `None` once the result was given.
    shared: Option<Arc<Shared<T>>>,
}

impl<T: Send> Producer<T> {
    pub(crate) fn give(mut self, result: Result<T, JoinError>) {
        self.settle(result);
    }

    fn settle(&mut self, result: Result<T, JoinError>) {
        let Some(shared) = self.shared.take() else { return };
        if shared.state.compare_exchange(EMPTY, CLAIMED, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        // SAFETY: claimed just now.
        unsafe { shared.write(result) };
        shared.state.store(SET, Ordering::Release);
        let mut callbacks = shared.callbacks.close().peekable();
        let risk = callbacks.peek().is_some().then(|| os::at_risk(|| Shared::end_elsewhere(&shared)));
        for (link, _) in callbacks {
            // SAFETY: `on_done` leaked it and it was pushed once.
            let entry = unsafe { Box::from_raw(link.cast::<Entry<T>>().as_ptr()) };
            // SAFETY: written above; nobody takes before `DONE`.
            if let Some(value) = unsafe { shared.look() } {
                call(entry.callback, value);
            }
        }
        shared.end();
        drop(risk);
        // What nobody wants any more is dropped here, and may panic.
        if let Some(unwanted) = Arc::into_inner(shared) {
            contain(|| drop(unwanted));
        }
    }

    /// For whoever may have to notice that this end has gone without having been dropped.
    pub(crate) fn stand_in(&self) -> StandIn<T> {
        StandIn { shared: self.shared.as_ref().map(Arc::downgrade).unwrap_or_default() }
    }

    /// Whether the consumer asked for an end. Registers `waker` for the time when it does.
    pub(crate) fn poll_cancelled(&self, waker: &Waker) -> bool {
        let Some(shared) = &self.shared else { return false };
        if !shared.cancelled.load(Ordering::Acquire) {
            shared.worker.register(waker);
        }
        shared.cancelled.load(Ordering::Acquire)
    }

    /// Says that the work begins; whether it still should.
    pub(crate) fn begin(&self) -> bool {
        let Some(shared) = &self.shared else { return false };
        shared.started.store(true, Ordering::Release);
        !shared.cancelled.load(Ordering::Acquire)
    }
}

impl<T: Send> Drop for Producer<T> {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            let asked = shared.cancelled.load(Ordering::Acquire);
            self.settle(Err(if asked { JoinError::cancelled(None) } else { JoinError::LOST }));
        }
    }
}

/// Does nothing unless asked; from [`Producer::stand_in`].
///
/// It keeps the memory and not the result, which so is dropped where it was given, not where this is.
pub(crate) struct StandIn<T: Send> {
    shared: Weak<Shared<T>>,
}

impl<T: Send> StandIn<T> {
    /// Gives `error`, unless there is a result already.
    pub(crate) fn give(&self, error: JoinError) {
        Producer { shared: self.shared.upgrade() }.give(Err(error));
    }

    fn key(&self) -> usize {
        self.shared.as_ptr().addr()
    }
}

/// The error of a frame that has gone: by a trap, or with its thread.
pub(crate) fn gone(trapped: bool) -> JoinError {
    if trapped { JoinError::trapped() } else { JoinError::LOST }
}

/// What a loop owes to others, if its thread may go alone.
#[derive(Default)]
pub(crate) struct Debts {
    kept: AtomicBool,
    #[expect(clippy::disallowed_types, reason = "taken by `os::lock` only")]
    list: std::sync::Mutex<BTreeMap<usize, Box<dyn Fn(JoinError) + Send>>>,
}

impl Debts {
    /// From now on debts are noted.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    pub(crate) fn owe<T: Send + 'static>(&self, producer: &Producer<T>) {
        if self.kept.load(Ordering::Relaxed) {
            let stand_in = producer.stand_in();
            let key = stand_in.key();
            let give: Box<dyn Fn(JoinError) + Send> = Box::new(move |error| stand_in.give(error));
            os::lock(&self.list).insert(key, give);
        }
    }

    fn paid(&self, key: usize) {
        if self.kept.load(Ordering::Relaxed) {
            let paid = os::lock(&self.list).remove(&key);
            drop(paid);
        }
    }

    /// The thread has gone: all that is owed is lost.
    pub(crate) fn lose(&self) {
        loop {
            let debt = os::lock(&self.list).pop_first();
            let Some((_, give)) = debt else { return };
            give(JoinError::LOST);
        }
    }
}

fn call<T>(callback: Callback<T>, value: &Result<T, JoinError>) {
    // The others still run.
    contain(|| callback(value));
}

/// Work that another loop or a pool does: the right to its result, from any thread.
///
/// Mirrors [`concurrent.futures.Future`](https://docs.python.org/3/library/concurrent.futures.html#future-objects). It can be
/// awaited in a task of any loop, polled by any executor, waited for by a thread that may block, or asked now and then.
/// Dropping it detaches: the work goes on and its result is dropped.
///
/// A loop that closes, a pool that is shut down, or a worker that dies leaves an error, so a wait always ends.
#[must_use = "dropping it detaches the work: await it, wait for it, or say `detach()`"]
pub struct RemoteTask<T: Send> {
    shared: Arc<Shared<T>>,
}

impl<T: Send> RemoteTask<T> {
    /// Whether the work has ended.
    #[doc(alias = "done")]
    pub fn is_finished(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) >= SET
    }

    /// Whether the work has begun.
    #[doc(alias = "running")]
    pub fn is_started(&self) -> bool {
        self.shared.started.load(Ordering::Acquire)
    }

    /// Asks the work to end; whether it had not ended.
    ///
    /// Work that has not begun never does; a job of a pool is dropped here and now, and its result is the error of a
    /// cancel. A task that runs is asked to end at its next turn and may clean up. A job that runs on a thread cannot be
    /// stopped: it runs on, and its result comes as if nobody had asked. One that runs in a worker of an
    /// [`IsolatedPool`](crate::IsolatedPool) ends at once, with its worker.
    ///
    /// **Difference**: `concurrent.futures` answers whether the work will not run; here ask
    /// [`is_started`](Self::is_started).
    pub fn cancel(&self) -> bool {
        if self.is_finished() {
            return false;
        }
        self.shared.cancelled.store(true, Ordering::Release);
        self.shared.worker.wake();
        true
    }

    /// Waits for the result, blocking this thread for at most `timeout`; `None` waits as long as it takes.
    ///
    /// A wait that is over changes nothing: call it again, or cancel.
    ///
    /// # Errors
    ///
    /// - [`WaitError::TimedOut`].
    /// - [`WaitError::WouldDeadlock`] when this thread runs the loop that owes the result, or one that this loop waits for.
    /// - [`WaitError::WouldBlock`] on a thread that must not block, as a page's main thread: await instead.
    /// - [`WaitError::Taken`] when the result was taken before.
    #[doc(alias = "result")]
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Result<T, JoinError>, WaitError> {
        if self.shared.state.load(Ordering::Acquire) != DONE {
            let shared = self.shared.clone();
            let mut poll = |waker: &Waker| {
                shared.waiter.register(waker);
                shared.state.load(Ordering::Acquire) == DONE
            };
            os::block(self.shared.debtor.as_ref(), timeout, &mut poll)?;
        }
        self.take().ok_or(WaitError::Taken)
    }

    /// Whether the result may be taken. Registers `waker`, instead of any before, for the time when it may.
    pub(crate) fn poll_done(&self, waker: &Waker) -> bool {
        if self.shared.state.load(Ordering::Acquire) == DONE {
            return true;
        }
        self.shared.waiter.register(waker);
        self.shared.state.load(Ordering::Acquire) == DONE
    }

    /// Whether the result may be taken.
    pub(crate) fn is_done(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) == DONE
    }

    /// The loop that owes the result, if one does.
    pub(crate) fn debtor(&self) -> Option<&Arc<Scheduler>> {
        self.shared.debtor.as_ref()
    }

    /// The result, if it is there and was not taken.
    pub fn try_take(&mut self) -> Option<Result<T, JoinError>> {
        if self.shared.state.load(Ordering::Acquire) == DONE { self.take() } else { None }
    }

    /// The state is `DONE`.
    fn take(&mut self) -> Option<Result<T, JoinError>> {
        // SAFETY: there is one consumer, borrowed exclusively, and its callers have seen `DONE`.
        unsafe { self.shared.take() }
    }

    /// Calls `callback` with the result: in the thread that produces it, before anybody who waits goes on, or here and now
    /// if it is there already.
    ///
    /// In the order in which they were added. One that panics does not keep the others from running. Callbacks should be
    /// short: they hold up the thread that finished the work. **Difference** to [`Task::on_done`](crate::Task::on_done),
    /// as between asyncio's and `concurrent.futures`' callbacks. Not called once the result was taken.
    #[doc(alias = "add_done_callback")]
    pub fn on_done(&self, callback: impl FnOnce(&Result<T, JoinError>) + Send + 'static)
    where
        T: Sync + 'static,
    {
        let entry =
            NonNull::from(Box::leak(Box::new(Entry { link: Link::new(), callback: Box::new(callback) })));
        // SAFETY: leaked until it is taken out; the link is its first field.
        if unsafe { self.shared.callbacks.push(entry.cast(), Kind::Cell) }.is_err() {
            // SAFETY: the push failed, so it is still ours.
            let entry: Box<Entry<T>> = unsafe { Box::from_raw(entry.as_ptr()) };
            // The list was closed after the value was written.
            fence(Ordering::Acquire);
            // SAFETY: taking needs the `RemoteTask` exclusively, so until then everybody only looks.
            if let Some(value) = unsafe { self.shared.look() } {
                call(entry.callback, value);
            }
        }
    }

    /// Lets the work go on by itself. The same as dropping, said aloud.
    pub fn detach(self) {}
}

impl<T: Send> Future for RemoteTask<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    ///
    /// If the result was taken before.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.shared.state.load(Ordering::Acquire) != DONE {
            self.shared.waiter.register(cx.waker());
            if self.shared.state.load(Ordering::Acquire) != DONE {
                static REMOTE: &str = "work of another thread";
                crate::task::waits_for_text(&REMOTE);
                return Poll::Pending;
            }
        }
        match self.take() {
            Some(result) => Poll::Ready(result),
            None => panic!("a remote task polled after its result was taken"),
        }
    }
}

impl<T: Send> fmt::Debug for RemoteTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteTask")
            .field("started", &self.is_started())
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

#[cfg(all(selkie_loom, test))]
#[path = "remote/loom.rs"]
mod loom_models;
