//! The loops that are measured, behind one trait, so that all of them run the same source.
//!
//! The measuring future is itself a spawned task: what it awaits is woken as tasks are, not as the thread that blocks
//! on the loop. Where that is the slower form for a peer, the peer gets the other.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// A loop of one thread.
pub trait Subject: 'static {
    /// What tasks are spawned by.
    type Spawner: Clone + 'static;
    /// What waits for a task. Its output is the task's, or a `Result` of it.
    type Join<T: 'static>: IntoFuture;

    /// Makes a loop, runs `main` on it as a task, and ends the loop.
    fn run<F>(main: impl FnOnce(Self::Spawner) -> F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static;

    /// Starts a task.
    fn spawn<F>(spawner: &Self::Spawner, future: F) -> Self::Join<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static;
}

/// A loop with timers of its own.
pub trait Timers: Subject {
    fn sleep(length: Duration) -> impl Future<Output = ()> + 'static;
}

/// Wakes its own task once. The same for every subject, so that no runtime's own yield does less or more.
pub struct Yield(pub bool);

impl Future for Yield {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[inline]
pub fn yield_once() -> Yield {
    Yield(false)
}

pub struct Selkie;

impl Subject for Selkie {
    type Spawner = ();
    type Join<T: 'static> = selkie::Task<T>;

    fn run<F>(main: impl FnOnce(()) -> F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        selkie::EventLoop::new().run_until_complete(main(())).expect("nothing stops the loop")
    }

    #[inline]
    fn spawn<F>((): &(), future: F) -> selkie::Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        selkie::spawn(future)
    }
}

impl Timers for Selkie {
    fn sleep(length: Duration) -> impl Future<Output = ()> + 'static {
        selkie::sleep(length)
    }
}

/// tokio's `LocalSet` on a `current_thread` runtime.
pub struct TokioSet;

fn tokio_builder() -> tokio::runtime::Builder {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time();
    builder
}

impl Subject for TokioSet {
    type Spawner = ();
    type Join<T: 'static> = tokio::task::JoinHandle<T>;

    fn run<F>(main: impl FnOnce(()) -> F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let runtime = tokio_builder().build().expect("a runtime starts");
        let set = tokio::task::LocalSet::new();
        let main = set.spawn_local(main(()));
        set.block_on(&runtime, main).expect("nothing cancels it")
    }

    #[inline]
    fn spawn<F>((): &(), future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        tokio::task::spawn_local(future)
    }
}

impl Timers for TokioSet {
    fn sleep(length: Duration) -> impl Future<Output = ()> + 'static {
        tokio::time::sleep(length)
    }
}

/// tokio's `LocalRuntime`.
pub struct TokioLocal;

impl Subject for TokioLocal {
    type Spawner = ();
    type Join<T: 'static> = tokio::task::JoinHandle<T>;

    fn run<F>(main: impl FnOnce(()) -> F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let runtime = tokio_builder().build_local(Default::default()).expect("a runtime starts");
        let main = runtime.spawn_local(main(()));
        runtime.block_on(main).expect("nothing cancels it")
    }

    #[inline]
    fn spawn<F>((): &(), future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        tokio::task::spawn_local(future)
    }
}

impl Timers for TokioLocal {
    fn sleep(length: Duration) -> impl Future<Output = ()> + 'static {
        tokio::time::sleep(length)
    }
}

async fn smol_sleep(length: Duration) {
    async_io::Timer::after(length).await;
}

/// async-executor's `LocalExecutor`, driven by async-io, as smol does.
pub struct LocalExecutor;

impl Subject for LocalExecutor {
    type Spawner = std::rc::Rc<async_executor::LocalExecutor<'static>>;
    type Join<T: 'static> = async_executor::Task<T>;

    fn run<F>(main: impl FnOnce(Self::Spawner) -> F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let executor = std::rc::Rc::new(async_executor::LocalExecutor::new());
        let main = executor.spawn(main(executor.clone()));
        async_io::block_on(executor.run(main))
    }

    #[inline]
    fn spawn<F>(spawner: &Self::Spawner, future: F) -> async_executor::Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        spawner.spawn(future)
    }
}

impl Timers for LocalExecutor {
    fn sleep(length: Duration) -> impl Future<Output = ()> + 'static {
        smol_sleep(length)
    }
}

/// async-executor's `StaticLocalExecutor`. Leaks its executor, as it is made to.
pub struct StaticExecutor;

impl Subject for StaticExecutor {
    type Spawner = &'static async_executor::StaticLocalExecutor;
    type Join<T: 'static> = async_executor::Task<T>;

    fn run<F>(main: impl FnOnce(Self::Spawner) -> F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let executor = async_executor::LocalExecutor::new().leak();
        let main = executor.spawn(main(executor));
        async_io::block_on(executor.run(main))
    }

    #[inline]
    fn spawn<F>(spawner: &Self::Spawner, future: F) -> async_executor::Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        spawner.spawn(future)
    }
}

impl Timers for StaticExecutor {
    fn sleep(length: Duration) -> impl Future<Output = ()> + 'static {
        smol_sleep(length)
    }
}

/// futures' `LocalPool`.
pub struct LocalPool;

impl Subject for LocalPool {
    type Spawner = futures::executor::LocalSpawner;
    type Join<T: 'static> = futures::future::RemoteHandle<T>;

    fn run<F>(main: impl FnOnce(Self::Spawner) -> F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let mut pool = futures::executor::LocalPool::new();
        let spawner = pool.spawner();
        let main = Self::spawn(&spawner, main(spawner.clone()));
        pool.run_until(main)
    }

    #[inline]
    fn spawn<F>(spawner: &Self::Spawner, future: F) -> futures::future::RemoteHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        use futures::task::LocalSpawnExt;
        spawner.spawn_local_with_handle(future).expect("the pool runs")
    }
}

/// monoio on its epoll driver.
pub struct Monoio;

impl Subject for Monoio {
    type Spawner = ();
    type Join<T: 'static> = monoio::task::JoinHandle<T>;

    fn run<F>(main: impl FnOnce(()) -> F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let mut runtime = monoio::RuntimeBuilder::<monoio::LegacyDriver>::new()
            .enable_timer()
            .build()
            .expect("a runtime starts");
        let main = main(());
        runtime.block_on(async { monoio::spawn(main).await })
    }

    #[inline]
    fn spawn<F>((): &(), future: F) -> monoio::task::JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        monoio::spawn(future)
    }
}

impl Timers for Monoio {
    fn sleep(length: Duration) -> impl Future<Output = ()> + 'static {
        monoio::time::sleep(length)
    }
}

/// compio on the driver that it picks. Its main future is not a task: as one it takes three times as long in W1 and W2.
pub struct Compio;

impl Subject for Compio {
    type Spawner = ();
    type Join<T: 'static> = compio::runtime::JoinHandle<T>;

    fn run<F>(main: impl FnOnce(()) -> F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let runtime = compio::runtime::Runtime::new().expect("a runtime starts");
        let main = main(());
        runtime.block_on(main)
    }

    #[inline]
    fn spawn<F>((): &(), future: F) -> compio::runtime::JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        compio::runtime::spawn(future)
    }
}

impl Timers for Compio {
    fn sleep(length: Duration) -> impl Future<Output = ()> + 'static {
        compio::runtime::time::sleep(length)
    }
}
