//! Queues between tasks of any loops, threads and other executors.
//!
//! A getter that waits is promised an item by the put that wakes it: the item stays in its place, but counts as taken. So
//! nobody overtakes a woken getter, and one that is cancelled then gives only its promise back. A putter that waits brings its
//! item along in its node, and whoever makes room moves it into the queue: it is served in its place and needs no turn
//! for it. How waiting works, and what may happen under the lock, is written in `sync/waiters.rs`.
//!
//! A shutdown makes promises void: from then on whoever comes first, woken or not, takes what is there. Getters that wait are
//! told that nothing more comes in, and look once more when they run. So an item whose getter was cancelled is not left behind by
//! others who were told that there is none, and nobody waits for a getter that does not come.

mod store;

use std::{
    error::Error,
    fmt,
    future::Future,
    ops::Deref,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;

use self::store::Store;
pub use self::store::{Fifo, Lifo, QueueKey, QueueOrder, Smallest};
use crate::{
    WaitError,
    sync::{
        Mode, Shared,
        waiters::{Guarded, List, Now, Request, Waiting, Wakes, block, block_on},
    },
};

/// First in, first out. See [`AnyQueue`] for what it does.
pub type Queue<T> = AnyQueue<T, Fifo, Shared>;

/// Last in, first out: a stack. See [`AnyQueue`] for what it does.
///
/// Mirrors [`asyncio.LifoQueue`](https://docs.python.org/3/library/asyncio-queue.html#asyncio.LifoQueue) and `queue.LifoQueue`.
pub type LifoQueue<T> = AnyQueue<T, Lifo, Shared>;

/// Smallest key first; the items are pairs of a key and a value. See [`AnyQueue`] for the rest.
///
/// Equal keys come out in the order in which they went in. Keys are integers, or [`Reverse`](std::cmp::Reverse) of them for greatest
/// first. Mirrors [`asyncio.PriorityQueue`](https://docs.python.org/3/library/asyncio-queue.html#asyncio.PriorityQueue) and
/// `queue.PriorityQueue`. **Difference**: those compare the values of equal keys, and fail half-way if they cannot.
///
/// ```
/// use selkie::PriorityQueue;
///
/// let queue = PriorityQueue::unbounded();
/// for (priority, job) in [(5, "sweep"), (1, "alarm"), (5, "dust")] {
///     queue.try_put((priority, job)).unwrap();
/// }
/// let order: Vec<_> = std::iter::from_fn(|| queue.try_get().ok()).map(|(_, job)| job).collect();
/// assert_eq!(order, ["alarm", "sweep", "dust"]);
/// ```
pub type PriorityQueue<K, T> = AnyQueue<(K, T), Smallest, Shared>;

/// A queue for many producers and consumers: [`Queue`], [`LifoQueue`], [`PriorityQueue`], and the same in [`local`](crate::local).
///
/// Mirrors [`asyncio.Queue`](https://docs.python.org/3/library/asyncio-queue.html) and
/// [`queue.Queue`](https://docs.python.org/3/library/queue.html) in one: **the same queue serves tasks of any number of loops, futures
/// of other executors, and plain threads, in any mix**. A clone is another handle of the same queue.
///
/// - **Fair.** Waiting getters and putters are served first come, first served; nobody overtakes one that was woken
///   (**Difference**: in asyncio `get_nowait` can) until the queue is shut down. Who is cancelled loses no item.
/// - **A put or get that need not wait does not yield.** A consumer of a queue that is never empty keeps its loop busy: let
///   the others run with [`yield_now`](crate::yield_now) now and then.
/// - When every handle but those of waiting getters is gone they wait for ever, as in asyncio: [`shutdown`](Self::shutdown) says
///   that nothing more comes.
///
/// # Examples
///
/// ```
/// use selkie::{Queue, spawn};
///
/// selkie::run(async {
///     let queue = Queue::bounded(2);
///     let jobs = queue.clone();
///     let consumer = spawn(async move {
///         let mut sum = 0;
///         while let Ok(job) = jobs.get().await {
///             sum += job;
///             jobs.task_done();
///         }
///         sum
///     });
///     for job in 1..=10 {
///         queue.put(job).await.unwrap(); // waits while two are queued
///     }
///     queue.join().await; // each was worked off
///     queue.shutdown(false);
///     assert_eq!(consumer.await.unwrap(), 55);
/// });
/// ```
pub struct AnyQueue<T, O: QueueOrder<T>, M: Mode = Shared> {
    inner: Inner<T, O, M>,
}

type Inner<T, O, M> = Arc<Guarded<State<T, O>, M>>;

#[doc(hidden)]
struct State<T, O: QueueOrder<T>> {
    store: O::Store,
    limit: usize,
    /// Items in the store that belong to getters which were woken and have not come yet; none after a shutdown.
    promised: usize,
    /// Nobody is in here while there is an item that is not promised.
    getters: List<()>,
    /// With their items. Nobody is in here while there is room, but for the moment when memory has to be found.
    putters: List<T>,
    joiners: List<()>,
    unfinished: usize,
    /// Nothing comes in; what is there may be had.
    shut: bool,
}

/// The outcome of a getter that was promised an item, or a putter whose item was taken in.
const SERVED: u32 = 0;
const SHUT_DOWN: u32 = 1;

/// Why [`State::admit`] stopped.
enum Admitted {
    All,
    /// Call it again.
    More,
    /// Call it again with such a room put in.
    NeedsRoom(usize),
}

/// An item, and what to see to outside of the lock.
struct Got<T, R> {
    item: T,
    /// To be dropped.
    _used: Option<R>,
    admitted: Admitted,
}

type GotFrom<T, O> = Got<T, <<O as QueueOrder<T>>::Store as Store<T>>::Room>;

impl<T, O: QueueOrder<T>> State<T, O> {
    /// Items that nobody was promised.
    #[inline]
    fn available(&self) -> usize {
        self.store.len() - self.promised
    }

    /// Promises an item that became available to whoever has waited longest.
    #[inline]
    fn promise(&mut self, wakes: &mut Wakes) {
        if self.available() > 0 && self.getters.grant(SERVED, wakes).is_some() {
            self.promised += 1;
        }
    }

    #[inline]
    fn push(&mut self, item: T, wakes: &mut Wakes) {
        self.store.push(item);
        self.unfinished += 1;
        self.promise(wakes);
    }

    /// There is an item.
    #[inline(always)]
    fn pop(&mut self, wakes: &mut Wakes) -> Option<GotFrom<T, O>> {
        let (item, used) = self.store.pop()?;
        Some(Got { item, _used: used, admitted: self.admit(wakes) })
    }

    /// Moves the items of waiting putters in, as long as there is room.
    #[inline(always)]
    fn admit(&mut self, wakes: &mut Wakes) -> Admitted {
        if self.putters.is_empty() { Admitted::All } else { self.admit_some(wakes) }
    }

    #[inline(never)]
    fn admit_some(&mut self, wakes: &mut Wakes) -> Admitted {
        // A shutdown that is under way sends them away.
        while !self.shut && !self.putters.is_empty() && self.store.len() < self.limit {
            if !self.store.has_room() {
                return Admitted::NeedsRoom(self.store.next_room(self.limit));
            }
            if wakes.is_almost_full() {
                return Admitted::More;
            }
            if let Some(item) = self.putters.grant(SERVED, wakes) {
                self.push(item, wakes);
            }
        }
        Admitted::All
    }
}

impl<T, O: QueueOrder<T>, M: Mode> AnyQueue<T, O, M> {
    fn with_limit(limit: usize) -> Self {
        let inner = Guarded::new(State {
            store: O::Store::default(),
            limit,
            promised: 0,
            getters: List::new(),
            putters: List::new(),
            joiners: List::new(),
            unfinished: 0,
            shut: false,
        });
        #[allow(clippy::arc_with_non_send_sync, reason = "one type for both modes; the count is no hot path")]
        Self { inner: Arc::new(inner) }
    }

    /// A queue that holds at most `limit` items; a put to a full one waits.
    ///
    /// # Panics
    ///
    /// If `limit` is 0. **Difference**: asyncio takes 0 for no limit.
    #[track_caller]
    pub fn bounded(limit: usize) -> Self {
        assert!(limit > 0, "a queue has to hold something: for no limit say `unbounded()`");
        Self::with_limit(limit)
    }

    /// A queue without a limit: a put never waits.
    #[doc(alias = "SimpleQueue")]
    pub fn unbounded() -> Self {
        Self::with_limit(usize::MAX)
    }

    /// Puts an item in; waits while the queue is full.
    ///
    /// # Errors
    ///
    /// [`QueueShutDown`] with the item, also if the queue is shut down while this waits.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the item, unless it was taken in just before. [`try_put`](Self::try_put) gives it back.
    pub async fn put(&self, item: T) -> Result<(), QueueShutDown<T>> {
        match self.try_put(item) {
            Ok(()) => Ok(()),
            Err(PutError::Full(item)) => {
                Waiting::after_look(Put::new(&self.inner, item)).await.map_err(QueueShutDown)
            }
            Err(refused) => Err(QueueShutDown(refused.into_item())),
        }
    }

    /// Puts an item in if there is room.
    ///
    /// # Errors
    ///
    /// [`PutError::Full`], [`PutError::ShutDown`], each with the item.
    #[doc(alias = "put_nowait")]
    pub fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        let mut put = Put::new(&self.inner, item);
        loop {
            match self.inner.with(|state, wakes| put.look(state, wakes)) {
                Now::Ready(result) => return result.map_err(PutError::ShutDown),
                Now::Prepare => put.prepare(),
                Now::Wait => return Err(PutError::Full(put.payload())),
            }
        }
    }

    /// Puts an item in, blocking this thread for at most `timeout`; `None` waits as long as it takes.
    ///
    /// # Errors
    ///
    /// Each with the item: [`PutError::Full`] when the time is over, [`PutError::ShutDown`], and [`PutError::WouldBlock`] if it
    /// would have to wait inside a task or on a page's main thread.
    pub fn put_blocking(&self, item: T, timeout: Option<Duration>) -> Result<(), PutError<T>> {
        let mut put = pin!(Waiting::new(Put::new(&self.inner, item)));
        match block_on(&mut put, timeout, || ()) {
            Ok(result) => result.map_err(PutError::ShutDown),
            Err(not_now) => {
                let item = match not_now.payload {
                    Some(item) => item,
                    None => put.as_mut().request().payload(),
                };
                Err(match not_now.error {
                    WaitError::TimedOut => PutError::Full(item),
                    _ => PutError::WouldBlock(item),
                })
            }
        }
    }

    /// Takes the next item out; waits while the queue is empty.
    ///
    /// # Errors
    ///
    /// [`QueueShutDown`] when the queue was shut down and is empty.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no item: the one that it was woken for goes to the next getter.
    pub async fn get(&self) -> Result<T, QueueShutDown> {
        match self.inner.with(look) {
            Now::Ready(Some(got)) => Ok(finish(&self.inner, got)),
            Now::Ready(None) => Err(QueueShutDown(())),
            _ => Waiting::after_look(Get { inner: &self.inner }).await,
        }
    }

    /// The next item, if there is one that no woken getter was promised.
    ///
    /// # Errors
    ///
    /// [`GetError::Empty`], [`GetError::ShutDown`].
    #[doc(alias = "get_nowait")]
    pub fn try_get(&self) -> Result<T, GetError> {
        match self.inner.with(look) {
            Now::Ready(Some(got)) => Ok(finish(&self.inner, got)),
            Now::Ready(None) => Err(GetError::ShutDown),
            _ => Err(GetError::Empty),
        }
    }

    /// Takes the next item out, blocking this thread for at most `timeout`; `None` waits as long as it takes.
    ///
    /// # Errors
    ///
    /// [`GetError::Empty`] when the time is over, [`GetError::ShutDown`], and [`GetError::WouldBlock`] if it would have to wait inside
    /// a task or on a page's main thread.
    pub fn get_blocking(&self, timeout: Option<Duration>) -> Result<T, GetError> {
        match block(Get { inner: &self.inner }, timeout) {
            Ok(result) => result.map_err(|QueueShutDown(())| GetError::ShutDown),
            Err(WaitError::TimedOut) => Err(GetError::Empty),
            Err(_) => Err(GetError::WouldBlock),
        }
    }

    /// The items, as a [`Stream`] that ends when the queue was shut down and is empty.
    ///
    /// Several streams, and getters, share the items.
    ///
    /// # Cancel safety
    ///
    /// Dropping it, or a future that waits for its next item, loses none. But a stream that has waited keeps its place until it is
    /// polled again or dropped, and so does the item that came for it: nobody else gets that meanwhile. Whoever turns to other work
    /// drops the stream, or uses [`get`](Self::get).
    pub fn items(&self) -> Items<T, O, M> {
        Items { waiting: Box::pin(Waiting::new(Get { inner: self.inner.clone() })) }
    }

    /// Says that one item that was taken out has been worked off. Any thread may call it.
    ///
    /// # Panics
    ///
    /// If it is called more often than items were put in, where asyncio raises `ValueError`.
    #[track_caller]
    pub fn task_done(&self) {
        let done = self.inner.look(|state| {
            let left = state.unfinished.checked_sub(1)?;
            state.unfinished = left;
            Some((left, state.joiners.cutoff()))
        });
        let Some((left, cutoff)) = done else {
            panic!("`task_done` called more often than items were put in");
        };
        if left == 0 {
            self.release_joiners(cutoff);
        }
    }

    fn release_joiners(&self, cutoff: u64) {
        while self.inner.with(|state, wakes| state.joiners.refuse_before(cutoff, SERVED, wakes)) {}
    }

    /// Waits until every item that was put in has been worked off: until [`task_done`](Self::task_done) was called for each.
    ///
    /// At once if so. That the queue is empty does not mean that its items were worked off.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn join(&self) {
        Waiting::new(Joins { inner: &self.inner }).await;
    }

    /// As [`join`](Self::join), blocking this thread for at most `timeout`; `None` waits as long as it takes.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`], and [`WaitError::WouldBlock`] inside a task or on a page's main thread.
    pub fn join_blocking(&self, timeout: Option<Duration>) -> Result<(), WaitError> {
        block(Joins { inner: &self.inner }, timeout)
    }

    /// Lets nothing more in. Mirrors [`Queue.shutdown`](https://docs.python.org/3/library/asyncio-queue.html#asyncio.Queue.shutdown).
    ///
    /// Puts fail from now on, also those that wait. What is in the queue may still be taken out, then gets fail too. With
    /// `immediate` what is in the queue is dropped, as if it had been worked off. Can be called again, also with `immediate` after
    /// without.
    pub fn shutdown(&self, immediate: bool) {
        let (dropped, joiners) = self.inner.look(|state| {
            state.shut = true;
            state.promised = 0;
            if !immediate {
                return (None, None);
            }
            let dropped = std::mem::take(&mut state.store);
            let was = state.unfinished;
            state.unfinished = was.saturating_sub(dropped.len());
            let joined = was > 0 && state.unfinished == 0;
            (Some(dropped), joined.then(|| state.joiners.cutoff()))
        });
        // Nobody joins these two lists any more.
        while self.inner.with(|state, wakes| {
            state.getters.refuse_before(u64::MAX, SHUT_DOWN, wakes)
                || state.putters.refuse_before(u64::MAX, SHUT_DOWN, wakes)
        }) {}
        if let Some(cutoff) = joiners {
            self.release_joiners(cutoff);
        }
        // Last, as what items do when they are dropped must keep nobody waiting.
        drop(dropped);
    }

    /// Whether [`shutdown`](Self::shutdown) was called.
    pub fn is_shut_down(&self) -> bool {
        self.inner.look(|state| state.shut)
    }

    /// How many items are in the queue, at this moment.
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        self.inner.look(|state| state.store.len())
    }

    /// Whether no item is in the queue, at this moment.
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a put would wait, at this moment. Never for a queue without a limit.
    #[doc(alias = "full")]
    pub fn is_full(&self) -> bool {
        self.inner.look(|state| state.store.len() >= state.limit)
    }

    /// The most items that the queue holds; `None` without a limit.
    #[doc(alias = "maxsize")]
    pub fn limit(&self) -> Option<usize> {
        Some(self.inner.look(|state| state.limit)).filter(|&limit| limit != usize::MAX)
    }

    /// What is in the queue, and who waits for it. A snapshot, for diagnosis.
    pub fn statistics(&self) -> QueueStatistics {
        self.inner.look(|state| QueueStatistics {
            len: state.store.len(),
            unfinished: state.unfinished,
            getting: state.getters.len() + state.promised,
            putting: state.putters.len(),
            joining: state.joiners.len(),
        })
    }

    /// Whether both are handles of the same queue.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

/// The next item that nobody was promised; `Ready(None)` if none will come.
#[inline]
fn look<T, O: QueueOrder<T>>(state: &mut State<T, O>, wakes: &mut Wakes) -> Now<Option<GotFrom<T, O>>> {
    if state.available() > 0 {
        Now::Ready(state.pop(wakes))
    } else if state.shut {
        Now::Ready(None)
    } else {
        Now::Wait
    }
}

/// What is left to do for an item that was taken out, without the lock.
#[inline]
fn finish<T, O: QueueOrder<T>, M: Mode>(inner: &Guarded<State<T, O>, M>, got: GotFrom<T, O>) -> T {
    if !matches!(got.admitted, Admitted::All) {
        admit(inner, got.admitted);
    }
    got.item
}

#[cold]
fn admit<T, O: QueueOrder<T>, M: Mode>(inner: &Guarded<State<T, O>, M>, mut admitted: Admitted) {
    loop {
        let mut room = match admitted {
            Admitted::All => return,
            Admitted::More => None,
            Admitted::NeedsRoom(size) => Some(O::Store::make_room(size)),
        };
        let mut unused = None;
        admitted = inner.with(|state, wakes| {
            if let Some(room) = room.take() {
                unused = if state.store.has_room() { Some(room) } else { state.store.put_room(room) };
            }
            state.admit(wakes)
        });
        drop(unused);
    }
}

struct Get<I> {
    inner: I,
}

/// A queue's state, borrowed or owned.
#[doc(hidden)]
trait Source {
    type Item;
    type Order: QueueOrder<Self::Item>;
    type Mode: Mode;

    fn source(&self) -> &Guarded<State<Self::Item, Self::Order>, Self::Mode>;
}

impl<T, O: QueueOrder<T>, M: Mode> Source for &Inner<T, O, M> {
    type Item = T;
    type Order = O;
    type Mode = M;

    fn source(&self) -> &Guarded<State<T, O>, M> {
        self
    }
}

impl<T, O: QueueOrder<T>, M: Mode> Source for Inner<T, O, M> {
    type Item = T;
    type Order = O;
    type Mode = M;

    fn source(&self) -> &Guarded<State<T, O>, M> {
        self.deref()
    }
}

impl<I: Source> Request for Get<I> {
    type State = State<I::Item, I::Order>;
    type Mode = I::Mode;
    type Payload = ();
    type Output = Result<I::Item, QueueShutDown>;

    const WAITS_FOR: &'static &'static str = &"an item of a queue";

    fn guarded(&self) -> &Guarded<Self::State, Self::Mode> {
        self.inner.source()
    }

    fn list(state: &mut Self::State) -> &mut List<()> {
        &mut state.getters
    }

    type Found = Option<GotFrom<I::Item, I::Order>>;

    #[inline]
    fn look(&mut self, state: &mut Self::State, wakes: &mut Wakes) -> Now<Self::Found> {
        look(state, wakes)
    }

    fn found(&mut self, found: Self::Found) -> Self::Output {
        found.map(|got| finish(self.inner.source(), got)).ok_or(QueueShutDown(()))
    }

    fn payload(&mut self) {}

    fn granted(&mut self, _: u32, _: Option<()>) -> Self::Output {
        let got = self.guarded().with(|state, wakes| {
            // After a shutdown there may be one or not, whatever was granted.
            if !state.shut {
                state.promised -= 1;
            }
            state.pop(wakes)
        });
        self.found(got)
    }

    fn unused(&mut self, _: u32) {
        self.guarded().with(|state, wakes| {
            if !state.shut {
                state.promised -= 1;
                state.promise(wakes);
            }
        });
    }
}

struct Put<'a, T, O: QueueOrder<T>, M> {
    inner: &'a Guarded<State<T, O>, M>,
    /// `None` once it is in the queue or in the node.
    item: Option<T>,
    wanted: usize,
    room: Option<<O::Store as Store<T>>::Room>,
}

impl<'a, T, O: QueueOrder<T>, M: Mode> Put<'a, T, O, M> {
    fn new(inner: &'a Guarded<State<T, O>, M>, item: T) -> Self {
        Self { inner, item: Some(item), wanted: 0, room: None }
    }
}

impl<T, O: QueueOrder<T>, M: Mode> Request for Put<'_, T, O, M> {
    type State = State<T, O>;
    type Mode = M;
    type Payload = T;
    type Output = Result<(), T>;
    type Found = Result<(), T>;

    const WAITS_FOR: &'static &'static str = &"room in a queue";

    fn guarded(&self) -> &Guarded<State<T, O>, M> {
        self.inner
    }

    fn list(state: &mut State<T, O>) -> &mut List<T> {
        &mut state.putters
    }

    #[inline(always)]
    fn look(&mut self, state: &mut State<T, O>, wakes: &mut Wakes) -> Now<Result<(), T>> {
        if state.shut {
            return Now::Ready(Err(self.payload()));
        }
        if state.store.len() >= state.limit || !state.putters.is_empty() {
            return Now::Wait;
        }
        if !state.store.has_room() {
            if let Some(room) = self.room.take() {
                // What comes back is dropped with the request.
                self.room = state.store.put_room(room);
            }
            if !state.store.has_room() {
                self.wanted = state.store.next_room(state.limit);
                return Now::Prepare;
            }
        }
        let item = self.payload();
        state.push(item, wakes);
        Now::Ready(Ok(()))
    }

    #[cold]
    fn prepare(&mut self) {
        self.room = Some(O::Store::make_room(self.wanted));
    }

    fn found(&mut self, found: Result<(), T>) -> Result<(), T> {
        found
    }

    fn payload(&mut self) -> T {
        self.item.take().expect("an item is put once")
    }

    fn granted(&mut self, _: u32, payload: Option<T>) -> Result<(), T> {
        // A shutdown leaves the item with who put it.
        payload.map_or(Ok(()), Err)
    }

    /// The item is in the queue, or is dropped with the node.
    fn unused(&mut self, _: u32) {}
}

struct Joins<'a, T, O: QueueOrder<T>, M> {
    inner: &'a Guarded<State<T, O>, M>,
}

impl<T, O: QueueOrder<T>, M: Mode> Request for Joins<'_, T, O, M> {
    type State = State<T, O>;
    type Mode = M;
    type Payload = ();
    type Output = ();
    type Found = ();

    const WAITS_FOR: &'static &'static str = &"the end of a queue's work";

    fn guarded(&self) -> &Guarded<State<T, O>, M> {
        self.inner
    }

    fn list(state: &mut State<T, O>) -> &mut List<()> {
        &mut state.joiners
    }

    fn look(&mut self, state: &mut State<T, O>, _: &mut Wakes) -> Now<()> {
        if state.unfinished == 0 { Now::Ready(()) } else { Now::Wait }
    }

    fn found(&mut self, (): ()) {}

    fn payload(&mut self) {}

    fn granted(&mut self, _: u32, _: Option<()>) {}

    fn unused(&mut self, _: u32) {}
}

impl<T, O: QueueOrder<T>, M: Mode> Clone for AnyQueue<T, O, M> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<T, O: QueueOrder<T>, M: Mode> Default for AnyQueue<T, O, M> {
    fn default() -> Self {
        Self::unbounded()
    }
}

impl<T, O: QueueOrder<T>, M: Mode> fmt::Debug for AnyQueue<T, O, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statistics = self.statistics();
        f.debug_struct(O::NAME)
            .field("len", &statistics.len)
            .field("limit", &self.limit())
            .field("unfinished", &statistics.unfinished)
            .field("getting", &statistics.getting)
            .field("putting", &statistics.putting)
            .field("joining", &statistics.joining)
            .field("shut_down", &self.is_shut_down())
            .finish()
    }
}

type NextItem<T, O, M> = Waiting<Get<Inner<T, O, M>>>;

/// The items of a queue as they come; from [`AnyQueue::items`].
#[must_use = "streams do nothing unless polled"]
pub struct Items<T, O: QueueOrder<T>, M: Mode = Shared> {
    /// One box for the stream's whole life.
    waiting: Pin<Box<NextItem<T, O, M>>>,
}

impl<T, O: QueueOrder<T>, M: Mode> Stream for Items<T, O, M> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let item = ready!(self.waiting.as_mut().poll(cx));
        let inner = self.waiting.as_mut().request().inner.clone();
        self.waiting.set(Waiting::new(Get { inner }));
        Poll::Ready(item.ok())
    }
}

impl<T, O: QueueOrder<T>, M: Mode> fmt::Debug for Items<T, O, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Items")
    }
}

/// Counts of a queue; from [`AnyQueue::statistics`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStatistics {
    /// Items in the queue.
    pub len: usize,
    /// Items that were put in and not yet worked off.
    pub unfinished: usize,
    /// Getters that wait, or were woken and have not come yet.
    pub getting: usize,
    /// Putters that wait.
    pub putting: usize,
    /// Those who wait for all work to be done.
    pub joining: usize,
}

/// The queue was shut down: nothing more goes in, or comes out. Mirrors `asyncio.QueueShutDown`.
///
/// Has the item that could not be put in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct QueueShutDown<T = ()>(pub T);

impl<T> fmt::Debug for QueueShutDown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueueShutDown")
    }
}

const SHUT_DOWN_TEXT: &str = "the queue was shut down";

impl<T> fmt::Display for QueueShutDown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHUT_DOWN_TEXT)
    }
}

impl<T> Error for QueueShutDown<T> {}

/// Why an item was not put in; it is given back.
#[doc(alias = "QueueFull")]
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutError<T> {
    /// There was no room, or none in time. Mirrors `asyncio.QueueFull`.
    Full(T),
    /// The queue was shut down.
    ShutDown(T),
    /// It would have to wait, and this thread must not block: await `put`.
    WouldBlock(T),
}

impl<T> PutError<T> {
    /// The item.
    pub fn into_item(self) -> T {
        match self {
            Self::Full(item) | Self::ShutDown(item) | Self::WouldBlock(item) => item,
        }
    }

    fn text(&self) -> &'static str {
        match self {
            Self::Full(_) => "the queue is full",
            Self::ShutDown(_) => SHUT_DOWN_TEXT,
            Self::WouldBlock(_) => "the queue is full and this thread must not block: await `put`",
        }
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PutError({})", self.text())
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl<T> Error for PutError<T> {}

/// Why no item was taken out.
#[doc(alias = "QueueEmpty")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GetError {
    /// There was no item, or none in time. Mirrors `asyncio.QueueEmpty`.
    Empty,
    /// The queue was shut down and is empty.
    ShutDown,
    /// It would have to wait, and this thread must not block: await `get`.
    WouldBlock,
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the queue is empty",
            Self::ShutDown => SHUT_DOWN_TEXT,
            Self::WouldBlock => "the queue is empty and this thread must not block: await `get`",
        })
    }
}

impl Error for GetError {}

#[cfg(all(selkie_loom, test))]
#[path = "queue/loom.rs"]
mod loom_models;
