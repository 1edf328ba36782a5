//! W6, W7, W10: what crosses threads.

use std::{
    future::{Future, IntoFuture},
    hint::black_box,
    sync::{Arc, mpsc},
    time::Instant,
};

use futures::{channel::oneshot, executor::block_on};

use crate::{effort::Effort, subject::yield_once};

/// Repeats `round`, of `n` operations, until `effort` is spent, once before that to warm up; nanoseconds each.
fn repeat(n: usize, effort: Effort, mut round: impl FnMut()) -> f64 {
    round();
    let start = Instant::now();
    let mut rounds = 0;
    loop {
        round();
        rounds += 1;
        let elapsed = start.elapsed();
        if effort.is_spent(elapsed, rounds) {
            return elapsed.as_nanos() as f64 / (n * rounds) as f64;
        }
    }
}

/// Keeps this process on one processor. For subjects that are measured in processes of their own.
pub fn on_one_core() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: a set of processors is plain data, for which zeros are a value.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the processor is in range, and the pointer is to a live set of the size that is given.
        let result = unsafe {
            libc::CPU_SET(0, &mut set);
            libc::sched_setaffinity(0, size_of_val(&set), &set)
        };
        assert_eq!(result, 0, "there is a processor 0");
    }
}

// ---- W6: a loop in another thread.

/// A loop in another thread that is given work.
pub trait Remote {
    type Handle;
    type Join<T: Send + 'static>;

    fn with<R>(run: impl FnOnce(&Self::Handle) -> R) -> R;
    fn submit<F>(handle: &Self::Handle, future: F) -> Self::Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static;
    /// Blocks the thread.
    fn wait<T: Send + 'static>(join: Self::Join<T>) -> T;
}

pub struct SelkieLoop;

impl Remote for SelkieLoop {
    type Handle = selkie::LoopHandle;
    type Join<T: Send + 'static> = selkie::RemoteTask<T>;

    fn with<R>(run: impl FnOnce(&Self::Handle) -> R) -> R {
        let thread = selkie::EventLoop::spawn_thread("bench").expect("a thread starts");
        let result = run(thread.handle());
        thread.stop();
        thread.join(None).expect("it stops");
        result
    }

    fn submit<F>(handle: &Self::Handle, future: F) -> Self::Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        handle.submit_future(future).expect("the loop runs")
    }

    fn wait<T: Send + 'static>(mut join: Self::Join<T>) -> T {
        join.wait(None).expect("no loop runs here").expect("nothing cancels it")
    }
}

/// tokio's `current_thread` runtime in a thread.
pub struct TokioThread;

impl Remote for TokioThread {
    type Handle = tokio::runtime::Handle;
    type Join<T: Send + 'static> = tokio::task::JoinHandle<T>;

    fn with<R>(run: impl FnOnce(&Self::Handle) -> R) -> R {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || runtime.block_on(stopped));
        let result = run(&handle);
        drop(stop);
        let _ = thread.join().expect("nothing panics");
        result
    }

    fn submit<F>(handle: &Self::Handle, future: F) -> Self::Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        handle.spawn(future)
    }

    fn wait<T: Send + 'static>(join: Self::Join<T>) -> T {
        block_on(join).expect("nothing cancels it")
    }
}

/// tokio's `multi_thread` runtime with one worker.
pub struct TokioOne;

impl Remote for TokioOne {
    type Handle = tokio::runtime::Runtime;
    type Join<T: Send + 'static> = tokio::task::JoinHandle<T>;

    fn with<R>(run: impl FnOnce(&Self::Handle) -> R) -> R {
        Tokio::with(1, run)
    }

    fn submit<F>(handle: &Self::Handle, future: F) -> Self::Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        handle.spawn(future)
    }

    fn wait<T: Send + 'static>(join: Self::Join<T>) -> T {
        block_on(join).expect("nothing cancels it")
    }
}

/// async-executor's `Executor` in a thread.
pub struct SmolThread;

impl Remote for SmolThread {
    type Handle = Arc<async_executor::Executor<'static>>;
    type Join<T: Send + 'static> = async_executor::Task<T>;

    fn with<R>(run: impl FnOnce(&Self::Handle) -> R) -> R {
        Smol::with(1, run)
    }

    fn submit<F>(handle: &Self::Handle, future: F) -> Self::Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        handle.spawn(future)
    }

    fn wait<T: Send + 'static>(join: Self::Join<T>) -> T {
        block_on(join)
    }
}

/// How little it can cost: boxed jobs through the standard library's channel, and a channel for each result.
pub struct Channel;

type Job = Box<dyn FnOnce() + Send>;

impl Remote for Channel {
    type Handle = mpsc::Sender<Job>;
    type Join<T: Send + 'static> = mpsc::Receiver<T>;

    fn with<R>(run: impl FnOnce(&Self::Handle) -> R) -> R {
        let (sender, jobs) = mpsc::channel::<Job>();
        let thread = std::thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        let result = run(&sender);
        drop(sender);
        thread.join().expect("nothing panics");
        result
    }

    fn submit<F>(handle: &Self::Handle, future: F) -> Self::Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (sender, receiver) = mpsc::sync_channel(1);
        let job = Box::new(move || _ = sender.send(block_on(future)));
        handle.send(job).expect("the thread runs");
        receiver
    }

    fn wait<T: Send + 'static>(join: Self::Join<T>) -> T {
        join.recv().expect("the thread runs")
    }
}

/// One after the other: a future that is ready is submitted, and this thread waits for it; nanoseconds for each.
pub fn trip<R: Remote>(n: usize, effort: Effort) -> f64 {
    R::with(|handle| {
        repeat(n, effort, || {
            for index in 0..n {
                assert_eq!(R::wait(R::submit(handle, async move { index })), index);
            }
        })
    })
}

/// The same where all threads share a processor.
pub fn trip_on_one_core<R: Remote>(n: usize, effort: Effort) -> f64 {
    on_one_core();
    trip::<R>(n, effort)
}

/// All at once, and then each is waited for; nanoseconds for each.
pub fn flood<R: Remote>(n: usize, effort: Effort) -> f64 {
    R::with(|handle| {
        let mut joins = Vec::with_capacity(n);
        repeat(n, effort, || {
            joins.extend((0..n).map(|index| R::submit(handle, async move { black_box(index) })));
            joins.drain(..).for_each(|join| _ = R::wait(join));
        })
    })
}

// ---- W7: threads for functions that block.

/// Where functions run that block.
pub trait Blocking: Sized {
    fn run(main: impl AsyncFnOnce(Self) -> f64 + 'static) -> f64;
    fn call(&self) -> impl Future<Output = ()>;
}

/// `selkie::ThreadPool` of two, on a loop of selkie.
pub struct SelkiePool(selkie::ThreadPool);

impl Blocking for SelkiePool {
    fn run(main: impl AsyncFnOnce(Self) -> f64 + 'static) -> f64 {
        let pool = Self(selkie::ThreadPool::new(2).expect("threads start"));
        selkie::EventLoop::new().run_until_complete(main(pool)).expect("nothing stops the loop")
    }

    fn call(&self) -> impl Future<Output = ()> {
        let task = self.0.submit(|| ()).expect("the pool is open");
        async { task.await.expect("nothing cancels it") }
    }
}

/// The same with a thread that looks for jobs for a while before it sleeps.
pub struct SelkieSpin(selkie::ThreadPool);

impl Blocking for SelkieSpin {
    fn run(main: impl AsyncFnOnce(Self) -> f64 + 'static) -> f64 {
        let pool = selkie::ThreadPool::builder(2).spin(std::time::Duration::from_millis(1)).build();
        let pool = Self(pool.expect("threads start"));
        selkie::EventLoop::new().run_until_complete(main(pool)).expect("nothing stops the loop")
    }

    fn call(&self) -> impl Future<Output = ()> {
        let task = self.0.submit(|| ()).expect("the pool is open");
        async { task.await.expect("nothing cancels it") }
    }
}

/// `selkie::to_thread`.
pub struct SelkieToThread;

impl Blocking for SelkieToThread {
    fn run(main: impl AsyncFnOnce(Self) -> f64 + 'static) -> f64 {
        selkie::EventLoop::new().run_until_complete(main(Self)).expect("nothing stops the loop")
    }

    fn call(&self) -> impl Future<Output = ()> {
        let task = selkie::to_thread(|| ());
        async { task.await.expect("nothing cancels it") }
    }
}

/// tokio's `spawn_blocking`.
pub struct TokioBlocking;

impl Blocking for TokioBlocking {
    fn run(main: impl AsyncFnOnce(Self) -> f64 + 'static) -> f64 {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
        runtime.block_on(main(Self))
    }

    fn call(&self) -> impl Future<Output = ()> {
        let task = tokio::task::spawn_blocking(|| ());
        async { task.await.expect("nothing cancels it") }
    }
}

/// The crate `blocking`, which smol uses.
pub struct BlockingCrate;

impl Blocking for BlockingCrate {
    fn run(main: impl AsyncFnOnce(Self) -> f64 + 'static) -> f64 {
        async_io::block_on(main(Self))
    }

    fn call(&self) -> impl Future<Output = ()> {
        blocking::unblock(|| ())
    }
}

/// rayon's pool of two, with a channel for each result.
pub struct Rayon(rayon::ThreadPool);

impl Blocking for Rayon {
    fn run(main: impl AsyncFnOnce(Self) -> f64 + 'static) -> f64 {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads start");
        block_on(main(Self(pool)))
    }

    fn call(&self) -> impl Future<Output = ()> {
        let (sender, receiver) = oneshot::channel();
        self.0.spawn(|| _ = sender.send(()));
        async { receiver.await.expect("it runs") }
    }
}

/// One function that does nothing after the other; nanoseconds for each.
pub fn call<B: Blocking>(n: usize, effort: Effort) -> f64 {
    B::run(async move |pool: B| {
        pool.call().await;
        let start = Instant::now();
        let mut rounds = 0;
        loop {
            for _ in 0..n {
                pool.call().await;
            }
            rounds += 1;
            let elapsed = start.elapsed();
            if effort.is_spent(elapsed, rounds) {
                return elapsed.as_nanos() as f64 / (n * rounds) as f64;
            }
        }
    })
}

/// The same where all threads share a processor.
pub fn call_on_one_core<B: Blocking>(n: usize, effort: Effort) -> f64 {
    on_one_core();
    call::<B>(n, effort)
}

/// `n` functions at once, then each is waited for; nanoseconds for each.
pub fn burst<B: Blocking>(n: usize, effort: Effort) -> f64 {
    B::run(async move |pool: B| {
        pool.call().await;
        let start = Instant::now();
        let mut rounds = 0;
        loop {
            let calls: Vec<_> = (0..n).map(|_| pool.call()).collect();
            for call in calls {
                call.await;
            }
            rounds += 1;
            let elapsed = start.elapsed();
            if effort.is_spent(elapsed, rounds) {
                return elapsed.as_nanos() as f64 / (n * rounds) as f64;
            }
        }
    })
}

// ---- W10: futures that may move between threads.

/// Threads that share the tasks they are given.
pub trait Pool {
    type Handle: 'static;
    type Join<T: Send + 'static>: IntoFuture<IntoFuture: Send> + Send + 'static;

    fn with<R>(threads: usize, run: impl FnOnce(&Self::Handle) -> R) -> R;
    /// What a task of the pool can spawn by.
    fn shared(handle: &Self::Handle) -> impl Fn() -> Self::Join<()> + Send + 'static;
    fn spawn<F>(handle: &Self::Handle, future: F) -> Self::Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static;
}

/// `selkie::Executor`.
pub struct Selkie;

impl Pool for Selkie {
    type Handle = selkie::Executor;
    type Join<T: Send + 'static> = selkie::RemoteTask<T>;

    fn with<R>(threads: usize, run: impl FnOnce(&Self::Handle) -> R) -> R {
        run(&selkie::Executor::with_threads(threads).expect("threads start"))
    }

    fn shared(handle: &Self::Handle) -> impl Fn() -> Self::Join<()> + Send + 'static {
        let handle = handle.clone();
        move || Self::spawn(&handle, yield_once())
    }

    fn spawn<F>(handle: &Self::Handle, future: F) -> Self::Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        handle.spawn(future).expect("it is open")
    }
}

/// tokio's `multi_thread` runtime.
pub struct Tokio;

impl Pool for Tokio {
    type Handle = tokio::runtime::Runtime;
    type Join<T: Send + 'static> = tokio::task::JoinHandle<T>;

    fn with<R>(threads: usize, run: impl FnOnce(&Self::Handle) -> R) -> R {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).build();
        run(&runtime.expect("a runtime starts"))
    }

    fn shared(_: &Self::Handle) -> impl Fn() -> Self::Join<()> + Send + 'static {
        || tokio::spawn(yield_once())
    }

    fn spawn<F>(handle: &Self::Handle, future: F) -> Self::Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        handle.spawn(future)
    }
}

/// async-executor's `Executor`, run by threads.
pub struct Smol;

impl Pool for Smol {
    type Handle = Arc<async_executor::Executor<'static>>;
    type Join<T: Send + 'static> = async_executor::Task<T>;

    fn with<R>(threads: usize, run: impl FnOnce(&Self::Handle) -> R) -> R {
        let executor = Arc::new(async_executor::Executor::new());
        std::thread::scope(|scope| {
            let stops: Vec<_> = (0..threads)
                .map(|_| {
                    let (stop, stopped) = oneshot::channel::<()>();
                    let executor = executor.clone();
                    scope.spawn(move || block_on(executor.run(stopped)));
                    stop
                })
                .collect();
            let result = run(&executor);
            drop(stops);
            result
        })
    }

    fn shared(handle: &Self::Handle) -> impl Fn() -> Self::Join<()> + Send + 'static {
        let handle = handle.clone();
        move || handle.spawn(yield_once())
    }

    fn spawn<F>(handle: &Self::Handle, future: F) -> Self::Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        handle.spawn(future)
    }
}

/// async-executor's `StaticExecutor`, run by threads. Leaks it, as it is made to.
pub struct SmolStatic;

impl Pool for SmolStatic {
    type Handle = &'static async_executor::StaticExecutor;
    type Join<T: Send + 'static> = async_executor::Task<T>;

    fn with<R>(threads: usize, run: impl FnOnce(&Self::Handle) -> R) -> R {
        let executor: Self::Handle = async_executor::Executor::new().leak();
        std::thread::scope(|scope| {
            let stops: Vec<_> = (0..threads)
                .map(|_| {
                    let (stop, stopped) = oneshot::channel::<()>();
                    scope.spawn(move || block_on(executor.run(stopped)));
                    stop
                })
                .collect();
            let result = run(&executor);
            drop(stops);
            result
        })
    }

    fn shared(handle: &Self::Handle) -> impl Fn() -> Self::Join<()> + Send + 'static {
        let handle = *handle;
        move || handle.spawn(yield_once())
    }

    fn spawn<F>(handle: &Self::Handle, future: F) -> Self::Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        handle.spawn(future)
    }
}

/// `n` tasks that yield once are spawned from a thread that is none of the two, and then waited for; nanoseconds each.
pub fn outside<P: Pool>(n: usize, effort: Effort) -> f64 {
    P::with(2, |pool| {
        let mut joins = Vec::with_capacity(n);
        repeat(n, effort, || {
            joins.extend((0..n).map(|_| P::spawn(pool, yield_once())));
            joins.drain(..).for_each(|join| _ = block_on(join.into_future()));
        })
    })
}

/// The same by a task of the pool.
pub fn inside<P: Pool>(n: usize, effort: Effort) -> f64 {
    P::with(2, |pool| {
        repeat(n, effort, || {
            let spawn = P::shared(pool);
            let parent = P::spawn(pool, async move {
                let joins: Vec<_> = (0..n).map(|_| spawn()).collect();
                for join in joins {
                    let _ = join.into_future().await;
                }
            });
            let _ = block_on(parent.into_future());
        })
    })
}
