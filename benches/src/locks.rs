//! W11: locks and queues.

use std::{
    cell::{Cell, RefCell, UnsafeCell},
    collections::VecDeque,
    future::{Future, IntoFuture, poll_fn},
    hint::black_box,
    ops::DerefMut,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
    time::Instant,
};

use crate::{
    effort::Effort,
    pools::Pool,
    subject::{Subject, yield_once},
};

/// A lock around a number.
pub trait Lock: 'static {
    fn new() -> Self;
    fn lock(&self) -> impl Future<Output = impl DerefMut<Target = usize>>;
}

macro_rules! lock {
    ($($type:ty),+) => {
        $(impl Lock for $type {
            fn new() -> Self {
                Self::new(0)
            }

            #[inline]
            fn lock(&self) -> impl Future<Output = impl DerefMut<Target = usize>> {
                self.lock()
            }
        })+
    };
}

lock!(selkie::Lock<usize>, tokio::sync::Mutex<usize>, async_lock::Mutex<usize>, futures::lock::Mutex<usize>);

impl Lock for selkie::local::Lock<usize> {
    fn new() -> Self {
        Self::local(0)
    }

    #[inline]
    fn lock(&self) -> impl Future<Output = impl DerefMut<Target = usize>> {
        self.lock()
    }
}

/// How little it can cost on one thread: a flag and a queue of wakers. Nobody may stop waiting, and no guard may leave the
/// thread.
#[derive(Default)]
pub struct FloorLock {
    is_held: Cell<bool>,
    waiting: RefCell<VecDeque<Waker>>,
    value: UnsafeCell<usize>,
}

pub struct FloorGuard<'a>(&'a FloorLock);

impl std::ops::Deref for FloorGuard<'_> {
    type Target = usize;

    fn deref(&self) -> &usize {
        // SAFETY: one guard at a time.
        unsafe { &*self.0.value.get() }
    }
}

impl DerefMut for FloorGuard<'_> {
    fn deref_mut(&mut self) -> &mut usize {
        // SAFETY: as above.
        unsafe { &mut *self.0.value.get() }
    }
}

impl Drop for FloorGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        match self.0.waiting.borrow_mut().pop_front() {
            // It is still held: by the one that is woken.
            Some(next) => next.wake(),
            None => self.0.is_held.set(false),
        }
    }
}

impl Lock for FloorLock {
    fn new() -> Self {
        Self::default()
    }

    #[inline]
    fn lock(&self) -> impl Future<Output = impl DerefMut<Target = usize>> {
        let mut has_waited = false;
        poll_fn(move |cx| {
            if !has_waited && self.is_held.replace(true) {
                has_waited = true;
                self.waiting.borrow_mut().push_back(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(FloorGuard(self))
        })
    }
}

/// Nobody else wants the lock; nanoseconds for each time that it is taken and given back.
pub fn uncontended<S: Subject, L: Lock>(n: usize, effort: Effort) -> f64 {
    S::run(move |_| async move {
        let lock = L::new();
        let start = Instant::now();
        let mut rounds = 0;
        loop {
            for _ in 0..n {
                *black_box(&lock).lock().await += 1;
            }
            rounds += 1;
            let elapsed = start.elapsed();
            if effort.is_spent(elapsed, rounds) {
                assert_eq!(*lock.lock().await, n * rounds);
                return elapsed.as_nanos() as f64 / (n * rounds) as f64;
            }
        }
    })
}

/// A hundred tasks want it at once, and each holds it while it yields once; nanoseconds for each time.
pub fn contended<S: Subject, L: Lock>(n: usize, effort: Effort) -> f64 {
    const TASKS: usize = 100;
    let each = n / TASKS;
    S::run(move |spawner| async move {
        let lock = Rc::new(L::new());
        let start = Instant::now();
        let mut rounds = 0;
        loop {
            let mut tasks = Vec::with_capacity(TASKS);
            for _ in 0..TASKS {
                let lock = lock.clone();
                tasks.push(S::spawn(&spawner, async move {
                    for _ in 0..each {
                        let mut guard = lock.lock().await;
                        yield_once().await;
                        *guard += 1;
                    }
                }));
            }
            for task in tasks {
                let _ = task.into_future().await;
            }
            rounds += 1;
            let elapsed = start.elapsed();
            if effort.is_spent(elapsed, rounds) {
                assert_eq!(*lock.lock().await, TASKS * each * rounds);
                return elapsed.as_nanos() as f64 / (TASKS * each * rounds) as f64;
            }
        }
    })
}

/// Eight tasks of a pool of two threads want one lock; nanoseconds for each time.
pub fn across<P: Pool, L: SharedLock>(n: usize, effort: Effort) -> f64 {
    const TASKS: usize = 8;
    let each = n / TASKS;
    P::with(2, |pool| {
        let start = Instant::now();
        let mut rounds = 0;
        loop {
            let lock = Arc::new(<L as Lock>::new());
            let tasks: Vec<_> =
                (0..TASKS).map(|_| P::spawn(pool, SharedLock::add(lock.clone(), each))).collect();
            for task in tasks {
                let _ = futures::executor::block_on(task.into_future());
            }
            rounds += 1;
            let elapsed = start.elapsed();
            if effort.is_spent(elapsed, rounds) {
                return elapsed.as_nanos() as f64 / (TASKS * each * rounds) as f64;
            }
        }
    })
}

/// A lock whose futures may cross threads, which [`Lock`] cannot say.
pub trait SharedLock: Lock + Send + Sync {
    fn add(this: Arc<Self>, times: usize) -> impl Future<Output = ()> + Send + 'static;
}

macro_rules! shared_lock {
    ($($type:ty),+) => {
        $(impl SharedLock for $type {
            async fn add(this: Arc<Self>, times: usize) {
                for _ in 0..times {
                    *this.lock().await += 1;
                }
            }
        })+
    };
}

shared_lock!(selkie::Lock<usize>, tokio::sync::Mutex<usize>, async_lock::Mutex<usize>);

/// A queue of numbers. Its ends may be the same thing.
pub trait Queue: 'static {
    type Sender: 'static;
    type Receiver: 'static;

    /// Zero is without a limit.
    fn new(limit: usize) -> (Self::Sender, Self::Receiver);
    fn put(sender: &mut Self::Sender, item: usize) -> impl Future<Output = ()>;
    fn get(receiver: &mut Self::Receiver) -> impl Future<Output = usize>;
}

/// `selkie::local::Queue`.
pub struct SelkieLocal;
/// `selkie::Queue`.
pub struct SelkieShared;
pub struct Flume;
pub struct AsyncChannel;
pub struct TokioMpsc;
pub struct FuturesMpsc;
/// How little it can cost on one thread: a deque, and a waker for each side.
pub struct FloorQueue;

impl Queue for SelkieLocal {
    type Sender = selkie::local::Queue<usize>;
    type Receiver = selkie::local::Queue<usize>;

    fn new(limit: usize) -> (Self::Sender, Self::Receiver) {
        let queue = selkie::local::Queue::bounded(limit);
        (queue.clone(), queue)
    }

    #[inline]
    async fn put(sender: &mut Self::Sender, item: usize) {
        sender.put(item).await.expect("open");
    }

    #[inline]
    async fn get(receiver: &mut Self::Receiver) -> usize {
        receiver.get().await.expect("open")
    }
}

impl Queue for SelkieShared {
    type Sender = selkie::Queue<usize>;
    type Receiver = selkie::Queue<usize>;

    fn new(limit: usize) -> (Self::Sender, Self::Receiver) {
        let queue = if limit == 0 { selkie::Queue::unbounded() } else { selkie::Queue::bounded(limit) };
        (queue.clone(), queue)
    }

    #[inline]
    async fn put(sender: &mut Self::Sender, item: usize) {
        sender.put(item).await.expect("open");
    }

    #[inline]
    async fn get(receiver: &mut Self::Receiver) -> usize {
        receiver.get().await.expect("open")
    }
}

impl Queue for Flume {
    type Sender = flume::Sender<usize>;
    type Receiver = flume::Receiver<usize>;

    fn new(limit: usize) -> (Self::Sender, Self::Receiver) {
        if limit == 0 { flume::unbounded() } else { flume::bounded(limit) }
    }

    #[inline]
    async fn put(sender: &mut Self::Sender, item: usize) {
        sender.send_async(item).await.expect("open");
    }

    #[inline]
    async fn get(receiver: &mut Self::Receiver) -> usize {
        receiver.recv_async().await.expect("open")
    }
}

impl Queue for AsyncChannel {
    type Sender = async_channel::Sender<usize>;
    type Receiver = async_channel::Receiver<usize>;

    fn new(limit: usize) -> (Self::Sender, Self::Receiver) {
        if limit == 0 { async_channel::unbounded() } else { async_channel::bounded(limit) }
    }

    #[inline]
    async fn put(sender: &mut Self::Sender, item: usize) {
        sender.send(item).await.expect("open");
    }

    #[inline]
    async fn get(receiver: &mut Self::Receiver) -> usize {
        receiver.recv().await.expect("open")
    }
}

/// The two kinds are two types.
pub enum TokioSender {
    Bounded(tokio::sync::mpsc::Sender<usize>),
    Unbounded(tokio::sync::mpsc::UnboundedSender<usize>),
}

pub enum TokioReceiver {
    Bounded(tokio::sync::mpsc::Receiver<usize>),
    Unbounded(tokio::sync::mpsc::UnboundedReceiver<usize>),
}

impl Queue for TokioMpsc {
    type Sender = TokioSender;
    type Receiver = TokioReceiver;

    fn new(limit: usize) -> (Self::Sender, Self::Receiver) {
        if limit == 0 {
            let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
            (TokioSender::Unbounded(sender), TokioReceiver::Unbounded(receiver))
        } else {
            let (sender, receiver) = tokio::sync::mpsc::channel(limit);
            (TokioSender::Bounded(sender), TokioReceiver::Bounded(receiver))
        }
    }

    #[inline]
    async fn put(sender: &mut Self::Sender, item: usize) {
        match sender {
            TokioSender::Bounded(sender) => sender.send(item).await.expect("open"),
            TokioSender::Unbounded(sender) => sender.send(item).expect("open"),
        }
    }

    #[inline]
    async fn get(receiver: &mut Self::Receiver) -> usize {
        match receiver {
            TokioReceiver::Bounded(receiver) => receiver.recv().await.expect("open"),
            TokioReceiver::Unbounded(receiver) => receiver.recv().await.expect("open"),
        }
    }
}

pub enum FuturesSender {
    Bounded(futures::channel::mpsc::Sender<usize>),
    Unbounded(futures::channel::mpsc::UnboundedSender<usize>),
}

pub enum FuturesReceiver {
    Bounded(futures::channel::mpsc::Receiver<usize>),
    Unbounded(futures::channel::mpsc::UnboundedReceiver<usize>),
}

impl Queue for FuturesMpsc {
    type Sender = FuturesSender;
    type Receiver = FuturesReceiver;

    fn new(limit: usize) -> (Self::Sender, Self::Receiver) {
        if limit == 0 {
            let (sender, receiver) = futures::channel::mpsc::unbounded();
            (FuturesSender::Unbounded(sender), FuturesReceiver::Unbounded(receiver))
        } else {
            let (sender, receiver) = futures::channel::mpsc::channel(limit);
            (FuturesSender::Bounded(sender), FuturesReceiver::Bounded(receiver))
        }
    }

    #[inline]
    async fn put(sender: &mut Self::Sender, item: usize) {
        use futures::SinkExt;
        match sender {
            FuturesSender::Bounded(sender) => sender.send(item).await.expect("open"),
            FuturesSender::Unbounded(sender) => sender.unbounded_send(item).expect("open"),
        }
    }

    #[inline]
    async fn get(receiver: &mut Self::Receiver) -> usize {
        use futures::StreamExt;
        match receiver {
            FuturesReceiver::Bounded(receiver) => receiver.next().await.expect("open"),
            FuturesReceiver::Unbounded(receiver) => receiver.next().await.expect("open"),
        }
    }
}

#[derive(Default)]
pub struct FloorState {
    items: RefCell<VecDeque<usize>>,
    limit: usize,
    sender: Cell<Option<Waker>>,
    receiver: Cell<Option<Waker>>,
}

impl Queue for FloorQueue {
    type Sender = Rc<FloorState>;
    type Receiver = Rc<FloorState>;

    fn new(limit: usize) -> (Self::Sender, Self::Receiver) {
        let queue = Rc::new(FloorState { limit, ..FloorState::default() });
        (queue.clone(), queue)
    }

    #[inline]
    fn put(sender: &mut Self::Sender, item: usize) -> impl Future<Output = ()> {
        poll_fn(move |cx| {
            let mut items = sender.items.borrow_mut();
            if items.len() == sender.limit {
                sender.sender.set(Some(cx.waker().clone()));
                return Poll::Pending;
            }
            items.push_back(item);
            if let Some(receiver) = sender.receiver.take() {
                receiver.wake();
            }
            Poll::Ready(())
        })
    }

    #[inline]
    fn get(receiver: &mut Self::Receiver) -> impl Future<Output = usize> {
        poll_fn(move |cx| match receiver.items.borrow_mut().pop_front() {
            None => {
                receiver.receiver.set(Some(cx.waker().clone()));
                Poll::Pending
            }
            Some(item) => {
                if let Some(sender) = receiver.sender.take() {
                    sender.wake();
                }
                Poll::Ready(item)
            }
        })
    }
}

/// One task puts, and another gets, with room for 64; nanoseconds for each item.
pub fn queue<S: Subject, Q: Queue>(n: usize, effort: Effort) -> f64 {
    S::run(move |spawner| async move {
        let start = Instant::now();
        let mut rounds = 0;
        loop {
            let (mut sender, mut receiver) = Q::new(64);
            let getter = S::spawn(&spawner, async move {
                for item in 0..n {
                    assert_eq!(Q::get(&mut receiver).await, item);
                }
            });
            for item in 0..n {
                Q::put(&mut sender, item).await;
            }
            let _ = getter.into_future().await;
            rounds += 1;
            let elapsed = start.elapsed();
            if effort.is_spent(elapsed, rounds) {
                return elapsed.as_nanos() as f64 / (n * rounds) as f64;
            }
        }
    })
}

/// As [`queue`], without a limit, and the two tasks are those of loops in two threads.
pub fn loops<S: Subject, Q: Queue>(n: usize, effort: Effort) -> f64
where
    Q::Sender: Send,
    Q::Receiver: Send,
{
    let mut elapsed = 0;
    let mut rounds = 0;
    let began = Instant::now();
    loop {
        let (mut sender, mut receiver) = Q::new(0);
        // Both loops run before the clock does.
        let gate = Arc::new(std::sync::Barrier::new(2));
        let other = gate.clone();
        let putter = std::thread::spawn(move || {
            S::run(move |_| async move {
                other.wait();
                for item in 0..n {
                    Q::put(&mut sender, item).await;
                }
                sender
            })
        });
        elapsed += S::run(move |_| async move {
            gate.wait();
            let start = Instant::now();
            for item in 0..n {
                assert_eq!(Q::get(&mut receiver).await, item);
            }
            start.elapsed().as_nanos()
        });
        drop(putter.join().expect("nothing panics"));
        rounds += 1;
        if effort.is_spent(began.elapsed(), rounds) {
            return elapsed as f64 / (n * rounds) as f64;
        }
    }
}
