//! Pools of one's own: blocking jobs, maps, scopes, shutdowns, and futures on all processors.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use selkie::{
    ContextVar, Event, EventLoop, Executor, PoolError, Queue, RemoteSet, Thread, ThreadPool, WaitError,
    sleep, spawn, testing::Sim, timeout, to_thread, wait_for, yield_now,
};

use crate::harness::OnDrop;

/// The simulator has pools everywhere; a host without threads says so.
fn pool(t: &crate::harness::T, threads: usize) -> Option<ThreadPool> {
    if t.is_sim() || crate::harness::has_threads() {
        return Some(ThreadPool::new(threads).unwrap());
    }
    assert!(ThreadPool::new(threads).is_err());
    assert!(Executor::with_threads(threads).is_err());
    None
}

behaviour! {
    /// Rows: F38, F72.
    async fn a_job_of_a_pool_is_awaited(t) {
        let Some(pool) = pool(&t, 2) else { return };
        let jobs: Vec<_> = (0..10u64).map(|n| pool.submit(move || n * n).unwrap()).collect();
        for (n, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.await.unwrap(), (n * n) as u64);
        }
        assert!(pool.threads() <= 2);
    }
}

behaviour! {
    /// Rows: F41, F38. Jobs, maps and executors get a copy of the context.
    async fn a_job_sees_a_copy_of_the_context(t) {
        static NAME: ContextVar<&'static str> = ContextVar::new();
        let Some(pool) = pool(&t, 1) else { return };
        NAME.set("somebody");
        let seen = || {
            let seen = NAME.get();
            NAME.set("of the job");
            seen
        };
        assert_eq!(pool.submit(seen).unwrap().await.unwrap(), Some("somebody"));
        assert_eq!(pool.submit(seen).unwrap().await.unwrap(), Some("somebody"));
        assert_eq!(NAME.get(), Some("somebody"));
        let executor = Executor::with_threads(1).unwrap();
        let later = async {
            NAME.set("of the future");
            futures::future::ready(()).await;
            yield_now().await;
            NAME.get()
        };
        assert_eq!(executor.spawn(later).unwrap().await.unwrap(), Some("of the future"));
        assert_eq!(NAME.get(), Some("somebody"));
    }
}

/// Puts the value of [`REQUEST`] that it sees into a queue as it goes.
struct Telltale(Queue<Option<u32>>);

static REQUEST: ContextVar<u32> = ContextVar::new();

impl Drop for Telltale {
    fn drop(&mut self) {
        self.0.try_put(REQUEST.set(0)).unwrap();
    }
}

behaviour! {
    /// Rows: F41. Also a future that is cancelled, and one that goes with its executor.
    async fn a_future_of_an_executor_is_dropped_in_its_context(t) {
        if pool(&t, 1).is_none() {
            return;
        }
        let executor = Executor::with_threads(1).unwrap();
        let seen = Queue::unbounded();
        let wait = |owned: Telltale| async move {
            std::future::pending::<()>().await;
            drop(owned);
        };
        REQUEST.set(1);
        let cancelled = executor.spawn(wait(Telltale(seen.clone()))).unwrap();
        REQUEST.set(2);
        let lost = executor.spawn(wait(Telltale(seen.clone()))).unwrap();
        REQUEST.set(3);
        yield_now().await;
        cancelled.cancel();
        assert_eq!(seen.get().await, Ok(Some(1)));
        drop(executor);
        assert_eq!(seen.get().await, Ok(Some(2)));
        assert!(lost.await.unwrap_err().is_lost());
        assert_eq!(REQUEST.clear(), Some(3));
    }
}

behaviour! {
    /// Rows: F75. Difference: F75. What `shutdown_now` withdraws is lost, not cancelled: nobody asked for a cancel.
    async fn a_shutdown_waits_and_then_refuses(t) {
        let Some(pool) = pool(&t, 2) else { return };
        let jobs: Vec<_> = (0..20).map(|n| pool.submit(move || n).unwrap()).collect();
        let (first, second) = (pool.shutdown(), pool.shutdown());
        assert_eq!(pool.submit(|| ()).unwrap_err(), PoolError::ShutDown);
        first.await;
        assert!(jobs.iter().all(|job| job.is_finished()));
        second.await;
        pool.shutdown_now().await;
        for (n, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.await.unwrap(), n);
        }
        let may_block = t.is_sim() || crate::harness::HOST_BLOCKS;
        assert_eq!(pool.join(None), if may_block { Ok(()) } else { Err(WaitError::WouldBlock) });
    }
}

behaviour! {
    /// Rows: F74, X34. Difference: F74. Lazy also without a buffer size: it holds two jobs for each thread.
    seeds async fn a_map_keeps_the_order_and_pulls_items_as_it_goes(t) {
        let Some(pool) = pool(&t, 2) else { return };
        let pulled = Arc::new(AtomicUsize::new(0));
        let counted = pulled.clone();
        let items = (0..50).inspect(move |_| { counted.fetch_add(1, Ordering::Relaxed); });
        let mut map = pool.map(items, |n| n * 2).buffer(3);
        assert_eq!(pulled.load(Ordering::Relaxed), 0);
        let mut next = 0;
        while let Some(result) = map.next().await {
            assert_eq!(result.unwrap(), next * 2);
            next += 1;
            assert!(pulled.load(Ordering::Relaxed) <= next + 2);
        }
        assert_eq!(next, 50);
        assert!(map.next().await.is_none());
    }
}

#[cfg(panic = "unwind")]
behaviour! {
    /// Rows: F72, F74. The error has its place; then the map ends and withdraws the rest.
    async fn a_panic_in_a_map_comes_at_its_place(t) {
        let Some(pool) = pool(&t, 2) else { return };
        let mut map = pool.map(0..10, |n| if n == 2 { panic!("two") } else { n });
        assert_eq!(map.next().await.unwrap().unwrap(), 0);
        assert_eq!(map.next().await.unwrap().unwrap(), 1);
        assert!(map.next().await.unwrap().unwrap_err().is_panic());
        assert!(map.next().await.is_none());
    }
}

behaviour! {
    /// Rows: X34. Queued jobs and later submits get an error that says why.
    async fn a_failing_initializer_breaks_the_pool(t) {
        if pool(&t, 1).is_none() {
            return;
        }
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let pool = ThreadPool::builder(1).initializer(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>("no licence")
        }).build().unwrap();
        let mut jobs = Vec::new();
        for _ in 0..5 {
            match pool.submit(|| unreachable!()) {
                Ok(job) => jobs.push(job),
                // The thread may be as quick as that.
                Err(error) => assert_eq!(error, PoolError::Broken("no licence".into())),
            }
        }
        assert!(!jobs.is_empty());
        for job in jobs {
            let error: selkie::JoinError = job.await.unwrap_err();
            assert!(error.is_broken() && error.to_string().ends_with("no licence"), "{error}");
        }
        assert_eq!(pool.submit(|| ()).unwrap_err(), PoolError::Broken("no licence".into()));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        pool.shutdown().await;
    }
}

behaviour! {
    /// Rows: X34. Once for each thread, before its first job.
    async fn an_initializer_comes_before_the_jobs(t) {
        if pool(&t, 1).is_none() {
            return;
        }
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let pool = ThreadPool::builder(1).initializer(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok::<_, String>(())
        }).build().unwrap();
        for _ in 0..3 {
            let seen = calls.clone();
            assert_eq!(pool.submit(move || seen.load(Ordering::Relaxed)).unwrap().await.unwrap(), 1);
        }
    }
}

behaviour! {
    /// Rows: F76. Difference: F76. The empty set is at its end, as in `concurrent.futures`, not an error.
    seeds async fn a_set_gives_results_of_pools_and_loops_as_they_come(t) {
        let mut set = RemoteSet::new();
        assert!(set.next().await.is_none());
        let Some(pool) = pool(&t, 2) else { return };
        let other = ThreadPool::new(1).unwrap();
        let worker = selkie::EventLoop::spawn_thread("worker").unwrap();
        for n in 0..10 {
            set.insert(pool.submit(move || n).unwrap());
            set.insert(other.submit(move || n).unwrap());
            set.insert(worker.handle().submit(async move || n).unwrap());
        }
        let removed = set.remove(3).unwrap();
        assert_eq!(set.len(), 29);
        let mut keys = Vec::new();
        while let Some((key, result)) = set.next().await {
            assert_eq!(result.unwrap(), key / 3);
            keys.push(key);
        }
        assert_eq!(removed.await.unwrap(), 1);
        keys.sort_unstable();
        assert_eq!(keys, (0..30).filter(|&key| key != 3).collect::<Vec<_>>());
        worker.ended().await.unwrap();
    }
}

behaviour! {
    /// Rows: F76, F45. Also where a wait for the others would be refused.
    async fn what_has_ended_is_taken_from_a_set_without_a_wait(_t) {
        let own = EventLoop::current().unwrap().handle();
        let mut set = RemoteSet::new();
        set.extend([1, 2].map(|number| own.submit(async move || number).unwrap()));
        let never = set.insert(own.submit(std::future::pending).unwrap());
        own.submit(async || ()).unwrap().await.unwrap();
        let (key, result) = set.wait_next(None).unwrap().unwrap();
        assert_eq!((key, result.unwrap()), (0, 1));
        let never = set.remove(never).unwrap();
        let ended = set.wait_all(None).unwrap();
        assert_eq!(ended.len(), 1);
        never.cancel();
        assert!(never.await.unwrap_err().is_cancelled());
    }
}

behaviour! {
    /// Rows: X35, F72. What is borrowed is back when the scope ends; scopes nest in jobs of their own pool.
    async fn a_scope_ends_with_its_jobs(t) {
        let Some(pool) = pool(&t, 1) else { return };
        // A page must not wait; a job of another pool does it in its place.
        let may_block = t.is_sim() || crate::harness::HOST_BLOCKS;
        let elsewhere = (!may_block).then(|| ThreadPool::new(1).unwrap());
        let scopes = async |scope: fn(&ThreadPool)| match &elsewhere {
            None => scope(&pool),
            Some(elsewhere) => {
                assert_eq!(pool.scope(|_| ()).unwrap_err(), WaitError::WouldBlock);
                let pool = pool.clone();
                elsewhere.submit(move || scope(&pool)).unwrap().await.unwrap();
            }
        };
        scopes(|pool| {
            let mut numbers = [1, 2, 3];
            let sum = pool.scope(|scope| {
                for number in &mut numbers {
                    scope.submit(|| *number *= 10).unwrap().detach();
                }
                let withdrawn = scope.submit(String::new).unwrap();
                withdrawn.cancel();
                5
            });
            assert_eq!((numbers, sum.unwrap()), ([10, 20, 30], 5));
        }).await;
        let inner = pool.clone();
        let nested = pool.submit(move || {
            let mut answer = 0;
            inner.scope(|scope| scope.submit(|| answer = 42).unwrap().detach()).unwrap();
            answer
        });
        assert_eq!(nested.unwrap().await.unwrap(), 42);
        pool.shutdown().await;
        scopes(|pool| {
            pool.scope(|scope| assert_eq!(scope.submit(|| ()).unwrap_err(), PoolError::ShutDown)).unwrap();
        }).await;
    }
}

behaviour! {
    /// Rows: F72. Futures that wait for each other, cancelled ones, and the end of the executor.
    async fn an_executor_runs_futures_and_ends(t) {
        if pool(&t, 1).is_none() {
            return;
        }
        let executor = Executor::with_threads(2).unwrap();
        let one = executor.spawn(async { 1 }).unwrap();
        let sum = executor.spawn(async move { one.await.unwrap() + 1 }).unwrap();
        assert_eq!(sum.await.unwrap(), 2);
        let never = executor.spawn(std::future::pending::<()>()).unwrap();
        assert!(never.cancel());
        assert!(never.await.unwrap_err().is_cancelled());
        let (sender, receiver) = futures::channel::oneshot::channel::<u8>();
        let waits = executor.spawn(receiver).unwrap();
        let end = spawn(executor.shutdown());
        assert_eq!(executor.spawn(async {}).unwrap_err(), PoolError::ShutDown);
        yield_now().await;
        assert!(!end.is_finished());
        sender.send(7).unwrap();
        assert_eq!(waits.await.unwrap(), Ok(7));
        end.await.unwrap();
    }
}

behaviour! {
    /// Rows: F72. As of a pool; who gives up waiting keeps nobody from it.
    async fn everybody_who_waits_for_the_end_of_an_executor_hears_of_it(t) {
        if pool(&t, 1).is_none() {
            return;
        }
        let executor = Executor::with_threads(1).unwrap();
        let (sender, receiver) = futures::channel::oneshot::channel::<u8>();
        let waits = executor.spawn(receiver).unwrap();
        let ends = [spawn(executor.shutdown()), spawn(executor.clone().shutdown()), spawn(executor.shutdown())];
        assert!(timeout(Duration::from_millis(1), executor.shutdown()).await.is_err());
        assert!(!ends.iter().any(|end| end.is_finished()));
        sender.send(7).unwrap();
        assert_eq!(waits.await.unwrap(), Ok(7));
        for end in ends {
            timeout(Duration::from_secs(30), end).await.unwrap().unwrap();
        }
        executor.shutdown().await;
    }
}

behaviour! {
    /// Rows: F45, F72. Callbacks are called in their order, before anybody who waits goes on, whether who waits came first or not.
    async fn a_future_of_an_executor_calls_back(t) {
        if pool(&t, 1).is_none() {
            return;
        }
        let executor = Executor::with_threads(2).unwrap();
        for waits_first in [false, true] {
            let (sender, receiver) = futures::channel::oneshot::channel::<u8>();
            let mut task = executor.spawn(receiver).unwrap();
            if waits_first {
                assert!(futures::poll!(&mut task).is_pending());
            }
            let (log, mut said) = futures::channel::mpsc::unbounded();
            for name in ["first", "second"] {
                let log = log.clone();
                task.on_done(move |result| {
                    log.unbounded_send((name, result.as_ref().unwrap().unwrap())).unwrap();
                });
            }
            assert!(task.is_started() && !task.is_finished());
            sender.send(7).unwrap();
            assert_eq!((&mut task).await.unwrap(), Ok(7));
            assert_eq!([said.try_recv().unwrap(), said.try_recv().unwrap()], [("first", 7), ("second", 7)]);
            assert!(task.is_finished() && !task.cancel() && task.try_take().is_none());
            task.on_done(|_| panic!("the result was taken"));
        }
        // Here and now.
        let mut ended = executor.spawn(async { 5 }).unwrap();
        while !ended.is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
        let called = Arc::new(AtomicUsize::new(0));
        let calls = called.clone();
        ended.on_done(move |result| _ = calls.fetch_add(*result.as_ref().unwrap(), Ordering::Relaxed));
        assert_eq!(called.load(Ordering::Relaxed), 5);
        assert_eq!(ended.try_take().unwrap().unwrap(), 5);
        executor.shutdown().await;
    }
}

behaviour! {
    /// Rows: F42, F72, F76. Who waits already hears of the cancel.
    async fn futures_of_an_executor_are_cancelled_in_a_set(t) {
        if pool(&t, 1).is_none() {
            return;
        }
        let executor = Executor::with_threads(2).unwrap();
        let owned = Arc::new(());
        let mut set: RemoteSet<_> = (0..10).map(|_| {
            let owned = owned.clone();
            executor.spawn(async move {
                std::future::pending::<()>().await;
                drop(owned);
            }).unwrap()
        }).collect();
        assert!(timeout(Duration::from_millis(5), set.next()).await.is_err());
        set.cancel_all();
        set.cancel_all();
        while let Some((_, result)) = set.next().await {
            assert!(result.unwrap_err().is_cancelled());
        }
        assert_eq!(Arc::strong_count(&owned), 1);
        executor.shutdown().await;
    }
}

behaviour! {
    /// Rows: F39, F45. When its last clone goes, what waits is dropped, and its result is lost.
    async fn an_executor_that_goes_loses_what_waits(t) {
        if pool(&t, 1).is_none() {
            return;
        }
        let executor = Executor::with_threads(1).unwrap();
        let owned = Arc::new(());
        let kept = owned.clone();
        let task = executor.spawn(async move {
            std::future::pending::<()>().await;
            drop(kept);
        }).unwrap();
        let shutdown = executor.shutdown();
        drop(executor);
        assert!(task.await.unwrap_err().is_lost());
        assert_eq!(Arc::strong_count(&owned), 1);
        shutdown.await;
    }
}

behaviour! {
    /// Rows: F42, F73. A job that has not begun goes at once, with what it owns, and its result is the error of a cancel.
    async fn a_withdrawn_job_goes_at_once(t) {
        let Some(pool) = pool(&t, 1) else { return };
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        // In a simulation nothing begins before this task waits.
        let blocked = (!t.is_sim()).then(|| pool.submit(move || receiver.recv()).unwrap());
        let owned = Arc::new(());
        let kept = owned.clone();
        let job = pool.submit(move || drop(kept)).unwrap();
        assert_eq!(Arc::strong_count(&owned), 2);
        assert!(job.cancel());
        assert_eq!(Arc::strong_count(&owned), 1);
        assert!(job.is_finished() && !job.is_started() && !job.cancel());
        assert!(job.await.unwrap_err().is_cancelled());
        drop(sender);
        drop(blocked);
        pool.shutdown().await;
    }
}

/// A job that is done by hand: what it reads and where the result goes.
type Order = (u64, Queue<u64>);

behaviour! {
    /// Rows: F77. Difference: F77. The article's workers never say that an item is done, so its join never returns.
    async fn a_pool_made_by_hand_of_loops_over_one_queue_is_joined(t) {
        if pool(&t, 1).is_none() {
            return;
        }
        let orders: Queue<Order> = Queue::bounded(4);
        let done = Queue::unbounded();
        let loops: Vec<_> = (0..3).map(|n| EventLoop::spawn_thread(format!("worker {n}")).unwrap()).collect();
        let workers: Vec<_> = loops.iter().map(|one| {
            let orders = orders.clone();
            one.handle().submit(async move || {
                let mut count = 0;
                while let Ok((n, done)) = orders.get().await {
                    yield_now().await;
                    done.try_put(n * n).unwrap();
                    orders.task_done();
                    count += 1;
                }
                count
            }).unwrap()
        }).collect();
        for n in 0..30 {
            orders.put((n, done.clone())).await.unwrap();
        }
        orders.join().await;
        assert_eq!(done.len(), 30);
        let mut squares: Vec<u64> = std::iter::from_fn(|| done.try_get().ok()).collect();
        squares.sort_unstable();
        assert_eq!(squares, (0..30).map(|n| n * n).collect::<Vec<_>>());
        orders.shutdown(false);
        let mut counts = 0;
        for worker in workers {
            counts += worker.await.unwrap();
        }
        assert_eq!(counts, 30);
        for one in loops {
            one.ended().await.unwrap();
        }
    }
}

/// Rows: F38, F75. As on a thread: it counts as initialized from the begin of its initializer.
#[crate::harness::test]
fn an_initializer_may_use_its_pool_in_a_simulation_too() {
    let (own, calls) = (Arc::new(OnceLock::<ThreadPool>::new()), Arc::new(AtomicUsize::new(0)));
    let (theirs, called) = (own.clone(), calls.clone());
    let initializer = move || {
        if called.fetch_add(1, Ordering::Relaxed) > 0 {
            return Err("a second time");
        }
        let pool = theirs.get().unwrap();
        let mut ran = false;
        pool.scope(|scope| scope.submit(|| ran = true).unwrap().detach()).unwrap();
        if ran && pool.join(None) == Err(WaitError::WouldDeadlock) { Ok(()) } else { Err("it waits") }
    };
    Sim::new().run(async move {
        let pool = ThreadPool::builder(1).initializer(initializer).build().unwrap();
        assert!(own.set(pool.clone()).is_ok());
        assert_eq!(pool.submit(|| 1).unwrap().await.unwrap(), 1);
    });
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

/// Rows: F74. Nobody will ask for it.
#[crate::harness::test]
fn a_map_that_goes_withdraws_what_has_not_begun() {
    Sim::new().run(async {
        let pool = ThreadPool::new(1).unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let mut map = pool.map(0..10, move |_| counted.fetch_add(1, Ordering::Relaxed)).buffer(0);
        assert!(map.next().now_or_never().is_none());
        drop(map);
        pool.shutdown().await;
        assert_eq!(calls.load(Ordering::Relaxed), 0);
    });
}

/// Rows: X34. There is nothing to prepare it for.
#[crate::harness::test]
fn a_withdrawn_job_calls_no_initializer() {
    Sim::new().run(async {
        let initializer = || Err::<(), _>("it was called");
        let pool = ThreadPool::builder(1).initializer(initializer).build().unwrap();
        let job = pool.submit(|| ()).unwrap();
        job.cancel();
        sleep(Duration::from_secs(1)).await;
        assert!(job.await.unwrap_err().is_cancelled());
        pool.submit(|| ()).unwrap().cancel();
        pool.shutdown().await;
    });
}

#[crate::harness::test]
#[should_panic(expected = "no threads")]
#[cfg(panic = "unwind")]
fn a_pool_of_no_threads_is_a_misuse() {
    let _ = ThreadPool::new(0);
}

#[cfg(any(not(all(target_family = "wasm", target_os = "unknown")), target_feature = "atomics"))]
#[allow(clippy::disallowed_types, reason = "these tests block threads")]
mod threads {
    use std::{
        sync::{Barrier, Mutex, mpsc},
        task::{Context, Poll, Wake, Waker},
    };

    use selkie::Runner;

    use super::*;
    use crate::harness::{Instant, thread};

    /// Wakes by the waker that it is polled with, or by a clone.
    #[expect(clippy::waker_clone_wake, reason = "the clone is the point")]
    async fn yield_by_waker(clones: bool) {
        let mut was_polled = false;
        std::future::poll_fn(move |cx| {
            if std::mem::replace(&mut was_polled, true) {
                return Poll::Ready(());
            }
            if clones {
                cx.waker().clone().wake()
            } else {
                cx.waker().wake_by_ref()
            }
            Poll::Pending
        })
        .await;
    }

    on_threads! {
    /// Rows: F05, X32. Also when nobody waits for the job any more.
    #[test]
    fn run_waits_for_the_jobs_that_its_loop_began() {
        let ended = Arc::new(AtomicUsize::new(0));
        let counted = ended.clone();
        selkie::run(async move {
            let (began, begin) = futures::channel::oneshot::channel();
            let job = to_thread(move || {
                began.send(()).unwrap();
                thread::sleep(Duration::from_millis(100));
                counted.fetch_add(1, Ordering::SeqCst);
            });
            begin.await.unwrap();
            drop(job);
        });
        assert_eq!(ended.load(Ordering::SeqCst), 1);
    }

    /// Rows: F77. `n` threads over one queue, and the thread that feeds them waits until all is worked off.
    #[test]
    fn a_pool_made_by_hand_of_threads_over_one_queue_is_joined() {
        let orders: Queue<Order> = Queue::bounded(8);
        let done = Queue::unbounded();
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let orders = orders.clone();
                let work = move || {
                    let mut count = 0;
                    while let Ok((n, done)) = orders.get_blocking(None) {
                        done.try_put(n * n).unwrap();
                        orders.task_done();
                        count += 1;
                    }
                    count
                };
                Thread::spawn(format!("worker {n}"), work).unwrap()
            })
            .collect();
        for n in 0..1000 {
            orders.put_blocking((n, done.clone()), None).unwrap();
        }
        orders.join_blocking(None).unwrap();
        assert_eq!(done.len(), 1000);
        assert_eq!(std::iter::from_fn(|| done.try_get().ok()).sum::<u64>(), (0..1000).map(|n| n * n).sum::<u64>());
        assert!(threads.iter().all(Thread::is_alive), "they wait for more");
        orders.shutdown(false);
        let counts = threads.into_iter().map(|mut thread| thread.join(None).unwrap().unwrap());
        assert_eq!(counts.sum::<u64>(), 1000);
    }

    /// Rows: U18. Work that fills the threads of everybody starves no pool of one's own.
    #[test]
    fn a_pool_of_ones_own_is_not_held_up_by_the_common_one() {
        let gate = Arc::new(Event::new());
        let (begun, common) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let jobs: Vec<_> = (0..200)
            .map(|_| {
                let (gate, begun, common) = (gate.clone(), begun.clone(), common.clone());
                to_thread(move || {
                    begun.fetch_add(1, Ordering::Relaxed);
                    gate.wait_blocking(None).unwrap();
                    common.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        while begun.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        let pool = ThreadPool::new(1).unwrap();
        for n in 0..100 {
            assert_eq!(pool.submit(move || n).unwrap().wait(None).unwrap().unwrap(), n);
        }
        assert_eq!(common.load(Ordering::Relaxed), 0);
        assert!(begun.load(Ordering::Relaxed) < 200, "the common threads are all taken");
        gate.set();
        selkie::run(async move {
            for job in jobs {
                job.await.unwrap();
            }
        });
        assert_eq!(common.load(Ordering::Relaxed), 200);
    }

    /// Rows: X32, U17. The number of those that have not ended is reported.
    #[test]
    fn a_runner_waits_for_jobs_no_longer_than_its_limit() {
        let (sender, receiver) = mpsc::channel::<()>();
        let mut runner = Runner::new().shutdown_limit(Duration::from_millis(30));
        let reports = crate::harness::Reports::of(&runner.event_loop().unwrap());
        let job = runner.run(async move { spawn(to_thread(move || receiver.recv().is_err())).detach() });
        job.unwrap();
        // The task is cancelled, and the job runs on if it has begun; wait until it has.
        let job = runner.run(async move {
            let (began, begin) = futures::channel::oneshot::channel();
            let (sender, receiver) = mpsc::channel::<()>();
            let job = to_thread(move || {
                began.send(()).unwrap();
                let _ = receiver.recv();
            });
            begin.await.unwrap();
            drop(job);
            sender
        });
        let start = Instant::now();
        runner.close();
        assert!(start.elapsed() >= Duration::from_millis(30) && start.elapsed() < Duration::from_secs(5));
        let reported = reports.take();
        assert!(
            reported.iter().any(|line| line.contains("blocking jobs of the loop still run")),
            "{reported:?}"
        );
        drop((sender, job));
    }

    /// Rows: F39, F71. Three jobs, two threads: the third begins when one is free, on its thread.
    #[test]
    fn a_saturated_pool_hands_out_in_order_and_uses_its_threads_again() {
        let pool = ThreadPool::builder(2).name("two").build().unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let jobs: Vec<_> = (0..6)
            .map(|n| {
                let (order, running, most) = (order.clone(), running.clone(), most.clone());
                pool.submit(move || {
                    order.lock().unwrap().push(n);
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(20));
                    running.fetch_sub(1, Ordering::SeqCst);
                    thread::current().name().unwrap_or("two-0").to_owned()
                })
                .unwrap()
            })
            .collect();
        let mut set: RemoteSet<_> = jobs.into_iter().collect();
        let names = set.wait_all(None).unwrap();
        assert_eq!(names.len(), 6);
        assert!(names.iter().all(|(_, name)| ["two-0", "two-1"].contains(&name.as_deref().unwrap())));
        assert_eq!(most.load(Ordering::SeqCst), 2);
        let order = order.lock().unwrap();
        // Two threads may swap what they took at nearly the same time.
        assert!(
            order.iter().enumerate().all(|(place, n): (usize, &usize)| place.abs_diff(*n) <= 1),
            "{order:?}"
        );
        pool.join(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(pool.threads(), 0);
    }

    /// Rows: F76. Also one whose thread has only just said so, and has not come to wake who waits.
    #[test]
    fn all_that_has_ended_is_given_by_a_wait_for_all() {
        let pool = ThreadPool::builder(2).spin(Duration::from_millis(1)).build().unwrap();
        for round in 0..5_000 {
            let mut set: RemoteSet<_> = (0..2).map(|n| pool.submit(move || n).unwrap()).collect();
            assert_eq!(set.wait_all(None).unwrap().len(), 2, "round {round}");
            assert!(set.is_empty());
        }
        pool.join(Some(Duration::from_secs(5))).unwrap();
    }

    /// Rows: F39, F71. A burst leaves no thread behind, and never more than the maximum.
    #[test]
    fn a_burst_of_jobs_leaves_no_thread() {
        let pool = ThreadPool::builder(4).idle_limit(Duration::from_millis(200)).build().unwrap();
        let (ran, running, most) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..100_000 {
            let (ran, running, most) = (ran.clone(), running.clone(), most.clone());
            let job = pool.submit(move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                ran.fetch_add(1, Ordering::SeqCst);
                running.fetch_sub(1, Ordering::SeqCst);
            });
            job.unwrap().detach();
        }
        pool.submit(|| ()).unwrap().wait(None).unwrap().unwrap();
        let limit = Instant::now() + Duration::from_secs(2);
        while pool.threads() > 0 && Instant::now() < limit {
            assert!(pool.threads() <= 4);
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(pool.threads(), 0);
        assert_eq!(ran.load(Ordering::SeqCst), 100_000);
        assert!(most.load(Ordering::SeqCst) <= 4);
        // It starts again.
        assert_eq!(pool.submit(|| 1).unwrap().wait(None).unwrap().unwrap(), 1);
    }

    /// Rows: F42, F73. Each job runs or is cancelled, never both, and nothing of it is left.
    #[test]
    fn a_storm_of_cancels_loses_nothing() {
        let (pool, helper) = (ThreadPool::new(3).unwrap(), ThreadPool::new(1).unwrap());
        let owned = Arc::new(());
        let ran = Arc::new(AtomicUsize::new(0));
        let mut cancelled = 0;
        let mut finished = 0;
        for round in 0..200 {
            let jobs: Vec<_> = (0..50)
                .map(|_| {
                    let (owned, ran) = (owned.clone(), ran.clone());
                    pool.submit(move || {
                        ran.fetch_add(1, Ordering::SeqCst);
                        owned
                    })
                    .unwrap()
                })
                .collect();
            helper
                .scope(|scope| {
                let half = scope.submit(|| {
                    for job in jobs.iter().step_by(2) {
                        job.cancel();
                    }
                });
                half.unwrap().detach();
                for job in jobs.iter().skip(round % 3).step_by(3) {
                    job.cancel();
                }
            }).unwrap();
            for mut job in jobs {
                match job.wait(None).unwrap() {
                    Ok(_) => finished += 1,
                    Err(error) => {
                        assert!(error.is_cancelled(), "{error}");
                        cancelled += 1;
                    }
                }
            }
        }
        pool.join(None).unwrap();
        assert_eq!(finished + cancelled, 10_000);
        assert_eq!(ran.load(Ordering::SeqCst), finished);
        assert_eq!(Arc::strong_count(&owned), 1);
    }

    /// Rows: F75. Every handle dropped in every state; what has begun ends, what has not is lost.
    #[test]
    fn a_pool_can_be_dropped_or_shut_down_in_every_state() {
        let owned = Arc::new(());
        for how in 0..6 {
            let pool = ThreadPool::new(1).unwrap();
            let (sender, receiver) = mpsc::channel::<()>();
            let (began, begin) = mpsc::channel();
            let kept = owned.clone();
            let mut first = pool
                .submit(move || {
                    began.send(()).unwrap();
                    let _ = receiver.recv();
                    drop(kept);
                })
                .unwrap();
            begin.recv().unwrap();
            let kept = owned.clone();
            let mut second = pool.submit(move || drop(kept)).unwrap();
            assert!(first.is_started() && !second.is_started());
            match how {
                0 => drop(pool),
                1 => drop(pool.shutdown()),
                2 => {
                    let end = pool.shutdown_now();
                    assert!(second.wait(Some(Duration::ZERO)).unwrap().unwrap_err().is_lost());
                    assert_eq!(pool.join(Some(Duration::from_millis(10))), Err(WaitError::TimedOut));
                    sender.send(()).unwrap();
                    selkie::run(end);
                    first.wait(None).unwrap().unwrap();
                    continue;
                }
                3 => {
                    drop((first, second));
                    sender.send(()).unwrap();
                    pool.join(None).unwrap();
                    continue;
                }
                4 => {
                    drop(pool.shutdown_now());
                    drop(pool);
                    sender.send(()).unwrap();
                    first.wait(None).unwrap().unwrap();
                    assert!(second.wait(None).unwrap().unwrap_err().is_lost());
                    continue;
                }
                _ => {
                    second.cancel();
                    sender.send(()).unwrap();
                    first.wait(None).unwrap().unwrap();
                    assert!(second.wait(None).unwrap().unwrap_err().is_cancelled());
                    pool.join(None).unwrap();
                    continue;
                }
            }
            sender.send(()).unwrap();
            first.wait(None).unwrap().unwrap();
            second.wait(None).unwrap().unwrap();
        }
        assert_eq!(Arc::strong_count(&owned), 1);
    }

    /// Rows: F72. Panics of jobs, of destructors and of callbacks leave the threads as they were.
    #[test]
    fn panics_do_not_harm_a_pool() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                if !thread::panicking() {
                    panic!("in a destructor");
                }
            }
        }
        let pool = ThreadPool::new(2).unwrap();
        for _ in 0..20 {
            let error = pool
                .submit(|| {
                    if true {
                        panic!("in a job")
                    }
                })
                .unwrap()
                .wait(None)
                .unwrap()
                .unwrap_err();
            assert!(error.is_panic());
            let bomb = pool.submit(|| Bomb).unwrap();
            // Whoever lets go last drops it.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| bomb.detach()));
            let bomb = Bomb;
            let withdrawn = pool.submit(move || std::mem::forget(bomb)).unwrap();
            withdrawn.cancel();
            let watched = pool.submit(|| 1).unwrap();
            watched.on_done(|_| panic!("in a callback"));
        }
        let mut set: RemoteSet<_> = (0..10).map(|n| pool.submit(move || n).unwrap()).collect();
        assert_eq!(set.wait_all(None).unwrap().len(), 10);
        pool.join(Some(Duration::from_secs(5))).unwrap();
    }

    /// The payload of its panic cannot be dropped either.
    ///
    /// Rows: F73.
    #[test]
    #[cfg(panic = "unwind")]
    fn a_callback_that_throws_holds_up_neither_the_others_nor_who_waits() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in the drop of what was thrown");
            }
        }
        let pool = ThreadPool::new(1).unwrap();
        let (sender, receiver) = mpsc::channel::<()>();
        let called = Arc::new(AtomicUsize::new(0));
        let count = called.clone();
        let mut job = pool.submit(move || receiver.recv().is_err()).unwrap();
        job.on_done(|_| std::panic::panic_any(Bomb));
        job.on_done(move |_| _ = count.fetch_add(1, Ordering::Relaxed));
        drop(sender);
        assert!(job.wait(Some(Duration::from_secs(10))).unwrap().unwrap());
        assert_eq!(called.load(Ordering::Relaxed), 1);
    }

    /// The caller of a scope runs one of its jobs, whose result nobody wants, while another thread runs another.
    ///
    /// Rows: F71.
    #[test]
    #[cfg(panic = "unwind")]
    fn a_result_that_panics_as_it_is_dropped_does_not_end_a_scope_before_its_jobs() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in the drop of a result");
            }
        }
        let pool = ThreadPool::new(2).unwrap();
        let own = pool.clone();
        let mut outer = pool
            .submit(move || {
                let (begin, begun) = mpsc::channel();
                let ended = Arc::new(AtomicUsize::new(0));
                let theirs = ended.clone();
                own.scope(|scope| {
                    let slow = move || {
                        begin.send(()).unwrap();
                        thread::sleep(Duration::from_millis(50));
                        theirs.fetch_add(1, Ordering::Relaxed);
                    };
                    scope.submit(slow).unwrap().detach();
                    begun.recv().unwrap();
                    scope.submit(|| Bomb).unwrap().detach();
                })
                .unwrap();
                ended.load(Ordering::Relaxed)
            })
            .unwrap();
        assert_eq!(outer.wait(Some(Duration::from_secs(10))).unwrap().unwrap(), 1);
    }

    /// All that were withdrawn panic as they go, of which one must not keep the next from going.
    ///
    /// Rows: F75.
    #[test]
    #[cfg(panic = "unwind")]
    fn jobs_that_panic_as_they_are_withdrawn_end_the_pool_all_the_same() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in the drop of a job");
            }
        }
        let pool = ThreadPool::new(1).unwrap();
        let (sender, receiver) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel();
        let mut first = pool.submit(move || begin.send(()).is_ok() && receiver.recv().is_err()).unwrap();
        begun.recv().unwrap();
        let withdrawn: Vec<_> = [Bomb, Bomb]
            .into_iter()
            .map(|bomb| pool.submit(move || std::mem::forget(bomb)).unwrap())
            .collect();
        drop(pool.shutdown_now());
        for mut job in withdrawn {
            assert!(job.wait(Some(Duration::from_secs(10))).unwrap().unwrap_err().is_lost());
        }
        drop(sender);
        assert!(first.wait(None).unwrap().unwrap());
        pool.join(Some(Duration::from_secs(10))).unwrap();
    }

    /// Thread-locals tell: nowhere but natively are they dropped.
    ///
    /// Rows: F71.
    #[test]
    #[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
    fn the_idle_threads_of_a_pool_that_is_dropped_end_though_a_job_still_runs() {
        struct Tells(mpsc::Sender<()>);
        impl Drop for Tells {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        thread_local!(static TELLS: std::cell::RefCell<Option<Tells>> = const { std::cell::RefCell::new(None) });
        let pool = ThreadPool::new(2).unwrap();
        let (sender, receiver) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel();
        let busy = pool.submit(move || begin.send(()).is_ok() && receiver.recv().is_err()).unwrap();
        begun.recv().unwrap();
        let (end, ended) = mpsc::channel();
        pool.submit(move || TELLS.set(Some(Tells(end)))).unwrap().wait(None).unwrap().unwrap();
        drop(pool);
        ended.recv_timeout(Duration::from_secs(5)).expect("the other thread has nothing to wait for");
        assert!(!busy.is_finished());
        drop(sender);
    }

    /// Rows: F71. As many at once as there are threads.
    #[test]
    fn threads_of_pools_and_executors_run_at_the_same_time() {
        const N: usize = 4;
        let barrier = Arc::new(Barrier::new(N));
        let pool = ThreadPool::new(N).unwrap();
        let mut set: RemoteSet<_> = (0..N)
            .map(|_| {
                let barrier = barrier.clone();
                pool.submit(move || barrier.wait().is_leader()).unwrap()
            })
            .collect();
        assert_eq!(set.wait_all(Some(Duration::from_secs(10))).unwrap().len(), N);
        let executor = Executor::with_threads(N).unwrap();
        assert_eq!(executor.threads(), N);
        let mut set: RemoteSet<_> = (0..N)
            .map(|_| {
                let barrier = barrier.clone();
                executor.spawn(async move { barrier.wait().is_leader() }).unwrap()
            })
            .collect();
        assert_eq!(set.wait_all(Some(Duration::from_secs(10))).unwrap().len(), N);
    }

    /// Rows: F76, F45. Waits that run out of time take nothing, and a wait for one's own loop is refused.
    #[test]
    fn a_set_is_waited_for_without_a_loop() {
        let pool = ThreadPool::new(2).unwrap();
        let (sender, receiver) = mpsc::channel::<()>();
        let mut set = RemoteSet::new();
        assert!(set.wait_next(None).unwrap().is_none() && set.wait_all(None).unwrap().is_empty());
        set.insert(pool.submit(move || receiver.recv().is_ok()).unwrap());
        let quick = pool.submit(|| true).unwrap();
        while !quick.is_finished() {
            thread::yield_now();
        }
        set.insert(quick);
        let done = set.wait_all(Some(Duration::from_millis(50))).unwrap();
        assert_eq!(done.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [1]);
        assert!(matches!(set.wait_next(Some(Duration::from_millis(5))), Err(WaitError::TimedOut)));
        sender.send(()).unwrap();
        let (key, result) = set.wait_next(None).unwrap().unwrap();
        assert!(key == 0 && result.unwrap() && set.is_empty());
        selkie::run(async {
            let own = selkie::EventLoop::current().unwrap().handle();
            let mut set = RemoteSet::new();
            set.insert(own.submit(async || 1).unwrap());
            assert_eq!(set.wait_all(None).unwrap_err(), WaitError::WouldDeadlock);
            assert_eq!(set.wait_next(None).unwrap_err(), WaitError::WouldDeadlock);
            assert_eq!(set.next().await.unwrap().1.unwrap(), 1);
        });
    }

    /// Rows: F76, F45. The loop of the caller owes only one of them.
    #[test]
    fn a_set_is_waited_for_if_one_of_its_members_can_end() {
        let pool = ThreadPool::new(1).unwrap();
        selkie::run(async move {
            let own = selkie::EventLoop::current().unwrap().handle();
            let mut set = RemoteSet::new();
            set.insert(own.submit(async || 1).unwrap());
            let slow = || {
                thread::sleep(Duration::from_millis(20));
                2
            };
            set.insert(pool.submit(slow).unwrap());
            assert_eq!(set.wait_next(None).unwrap().unwrap().1.unwrap(), 2);
            assert_eq!(set.next().await.unwrap().1.unwrap(), 1);
        });
    }

    /// Rows: F76. The limit is one for all, not for each of those that end one after another.
    #[test]
    fn a_wait_for_all_ends_in_time() {
        let pool = ThreadPool::new(1).unwrap();
        let jobs = (0..1000).map(|_| pool.submit(|| thread::sleep(Duration::from_millis(10))).unwrap());
        let mut set: RemoteSet<_> = jobs.collect();
        set.wait_all(Some(Duration::from_millis(100))).unwrap();
        assert!(!set.is_empty());
        set.cancel_all();
        pool.join(None).unwrap();
    }

    /// Rows: F74. Of a map that goes nothing begins any more.
    #[test]
    fn a_map_that_goes_leaves_its_jobs_to_no_thread() {
        let pool = ThreadPool::new(1).unwrap();
        let (sender, receiver) = mpsc::channel::<()>();
        pool.submit(move || receiver.recv()).unwrap().detach();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let mut map = pool.map(0..10, move |_| counted.fetch_add(1, Ordering::Relaxed));
        assert_eq!(map.wait_next(Some(Duration::ZERO)).unwrap_err(), WaitError::TimedOut);
        drop(map);
        drop(sender);
        pool.join(None).unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 0);
    }

    /// Rows: F75. In a job of the pool the wait could never end.
    #[test]
    fn a_job_cannot_join_its_own_pool() {
        let pool = ThreadPool::new(1).unwrap();
        let own = pool.clone();
        let mut job = pool.submit(move || own.join(None)).unwrap();
        assert_eq!(job.wait(None).unwrap().unwrap(), Err(WaitError::WouldDeadlock));
    }

    /// Rows: F75. Nor can its initializer, and no more wait for others of the only thread than a job can.
    #[test]
    fn an_initializer_waits_for_its_own_pool_as_a_job_does() {
        let own = Arc::new(std::sync::OnceLock::<ThreadPool>::new());
        let (theirs, (sender, told)) = (own.clone(), mpsc::channel());
        let initializer = move || {
            let pool = theirs.get().unwrap();
            let mut ran = false;
            pool.scope(|scope| scope.submit(|| ran = true).unwrap().detach()).unwrap();
            sender.send((pool.join(None), ran)).map_err(|error| error.to_string())
        };
        let pool = ThreadPool::builder(1).initializer(initializer).build().unwrap();
        assert!(own.set(pool.clone()).is_ok());
        let mut job = pool.submit(|| 1).unwrap();
        assert_eq!(job.wait(None).unwrap().unwrap(), 1);
        assert_eq!(told.recv().unwrap(), (Err(WaitError::WouldDeadlock), true));
    }

    /// Rows: F75. Nor can what goes with a job that is not run, as its pool is broken.
    #[test]
    fn what_a_job_of_a_broken_pool_drops_cannot_join_it() {
        let submitted = Arc::new(Barrier::new(2));
        let wait = submitted.clone();
        let initializer = move || {
            wait.wait();
            Err::<(), _>("it is closed")
        };
        let pool = ThreadPool::builder(1).initializer(initializer).build().unwrap();
        let (sender, told) = mpsc::channel();
        let jobs = [(); 2].map(|()| {
            let (own, sender) = (pool.clone(), sender.clone());
            let joins = OnDrop(move || sender.send(own.join(None)).unwrap());
            pool.submit(move || drop(joins)).unwrap()
        });
        submitted.wait();
        for mut job in jobs {
            assert!(job.wait(None).unwrap().unwrap_err().is_broken());
            assert_eq!(told.recv().unwrap(), Err(WaitError::WouldDeadlock));
        }
    }

    /// Rows: F71, X35. It would be one thread more than the pool may have.
    #[test]
    fn who_opens_a_scope_from_outside_runs_none_of_its_jobs() {
        let pool = ThreadPool::builder(1).name("alone").build().unwrap();
        let names = || {
            thread::sleep(Duration::from_millis(5));
            selkie::current_thread_name()
        };
        let jobs = pool.scope(|scope| [(); 5].map(|()| scope.submit(names).unwrap())).unwrap();
        for mut job in jobs {
            assert_eq!(job.try_take().unwrap().unwrap().as_deref(), Some("alone-0"));
        }
    }

    /// Rows: F71. The thread of the scope is the only one that could run the job, whoever has submitted it.
    #[test]
    fn a_scope_of_a_full_pool_ends_also_with_jobs_that_other_threads_submit() {
        let (pool, beside) = (ThreadPool::new(1).unwrap(), ThreadPool::new(1).unwrap());
        let inner = pool.clone();
        let mut job = pool
            .submit(move || {
                let mut ran = false;
                let scope = inner.scope(|scope| {
                    let beside = beside.scope(|others| {
                        others.submit(|| scope.submit(|| ran = true).unwrap().detach()).unwrap().detach();
                    });
                    beside.unwrap();
                });
                scope.unwrap();
                ran
            })
            .unwrap();
        assert!(job.wait(Some(Duration::from_secs(10))).unwrap().unwrap());
    }

    /// Scopes on every thread of a full pool, each of which needs its own jobs to end; panics pass when all have ended.
    ///
    /// Rows: F71.
    #[test]
    fn nested_scopes_of_a_full_pool_end() {
        let pool = ThreadPool::new(2).unwrap();
        for _ in 0..50 {
            let total = AtomicUsize::new(0);
            pool.scope(|scope| {
                for _ in 0..4 {
                    scope
                        .submit(|| {
                            pool.scope(|inner| {
                                for _ in 0..4 {
                                    inner.submit(|| total.fetch_add(1, Ordering::Relaxed)).unwrap().detach();
                                }
                            })
                            .unwrap();
                        })
                        .unwrap()
                        .detach();
                }
            })
            .unwrap();
            assert_eq!(total.load(Ordering::Relaxed), 16);
        }
        let ended = AtomicUsize::new(0);
        let thrown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.scope(|scope| {
                scope
                    .submit(|| {
                        thread::sleep(Duration::from_millis(30));
                        ended.fetch_add(1, Ordering::SeqCst);
                    })
                    .unwrap()
                    .detach();
                panic!("in a scope");
            })
        }));
        assert!(thrown.is_err() && ended.load(Ordering::SeqCst) == 1);
    }

    /// Rows: F72. Dropped with futures in every state: nothing of them is left, and their results are lost.
    #[test]
    fn an_executor_that_goes_drops_its_futures() {
        let owned = Arc::new(());
        for _ in 0..20 {
            let executor = Executor::with_threads(2).unwrap();
            let mut tasks: Vec<_> = (0..20)
                .map(|n| {
                    let owned = owned.clone();
                    executor
                        .spawn(async move {
                            if n % 2 == 0 {
                                std::future::pending::<()>().await;
                            }
                            drop(owned);
                        })
                        .unwrap()
                })
                .collect();
            drop(executor);
            for (n, task) in tasks.iter_mut().enumerate() {
                match task.wait(Some(Duration::from_secs(10))).unwrap() {
                    Ok(()) => assert_eq!(n % 2, 1),
                    Err(error) => assert!(error.is_lost(), "{error}"),
                }
            }
        }
        let limit = Instant::now() + Duration::from_secs(5);
        while Arc::strong_count(&owned) > 1 && Instant::now() < limit {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(Arc::strong_count(&owned), 1);
    }

    /// Rows: F45. A callback and a cancel from two threads, and the end in a third: one outcome, told once to each.
    #[test]
    fn a_future_of_an_executor_ends_once_whatever_comes_together() {
        let executor = Executor::with_threads(2).unwrap();
        let mut cancelled = 0;
        for round in 0..if cfg!(miri) { 5 } else { 500 } {
            let (sender, receiver) = futures::channel::oneshot::channel();
            let mut task = executor.spawn(receiver).unwrap();
            if round % 3 == 0 {
                assert!(task.wait(Some(Duration::ZERO)).is_err());
            }
            let called = Arc::new(AtomicUsize::new(0));
            let calls = called.clone();
            let shared = Arc::new(task);
            let (cancels, calls_back) = (shared.clone(), shared.clone());
            let others = [
                thread::spawn(move || _ = cancels.cancel()),
                thread::spawn(move || calls_back.on_done(move |_| _ = calls.fetch_add(1, Ordering::Relaxed))),
            ];
            // There is nobody if it was cancelled.
            _ = sender.send(round);
            others.into_iter().for_each(|other| other.join().unwrap());
            let mut task = Arc::try_unwrap(shared).unwrap();
            match task.wait(Some(Duration::from_secs(10))).unwrap() {
                Ok(received) => assert_eq!(received, Ok(round)),
                Err(error) => {
                    assert!(error.is_cancelled(), "{error}");
                    cancelled += 1;
                }
            }
            assert_eq!(called.load(Ordering::Relaxed), 1);
        }
        assert!(cancelled > 0);
    }

    /// Rows: F72. Those that have just ended are counted until their results are there.
    #[test]
    fn when_a_shutdown_of_an_executor_has_ended_all_results_are_there() {
        for _ in 0..if cfg!(miri) { 3 } else { 300 } {
            let executor = Executor::with_threads(2).unwrap();
            let mut tasks: Vec<_> = (0..10)
                .map(|n| {
                    executor
                        .spawn(async move {
                            yield_by_waker(n % 2 == 0).await;
                            n
                        })
                        .unwrap()
                })
                .collect();
            selkie::run(executor.shutdown());
            for (n, task) in tasks.iter_mut().enumerate() {
                assert_eq!(task.try_take().unwrap().unwrap(), n);
            }
        }
    }

    /// Rows: F72. Also those that are lost with the executor.
    #[test]
    fn when_an_executor_goes_its_shutdown_ends_with_all_results_there() {
        // The first ones go before their threads are up, where that takes long; for all of them it would take a page minutes.
        for round in 0..if cfg!(miri) { 3 } else { 300 } {
            let executor = Executor::with_threads(2).unwrap();
            if round > 20 {
                executor.spawn(async {}).unwrap().wait(None).unwrap().unwrap();
            }
            let mut tasks: Vec<_> =
                (0..4).map(|_| executor.spawn(std::future::pending::<()>()).unwrap()).collect();
            let end = executor.shutdown();
            drop(executor);
            selkie::run(end);
            for task in &mut tasks {
                assert!(task.try_take().unwrap().unwrap_err().is_lost());
            }
        }
    }

    /// Those who compare wakers would wake the last one at each poll.
    #[test]
    fn a_future_of_an_executor_that_has_waited_is_polled_with_an_equal_waker() {
        let executor = Executor::with_threads(1).unwrap();
        let (polled, polls) = mpsc::channel();
        let mut last: Option<Waker> = None;
        let mut count = 0;
        let future = std::future::poll_fn(move |cx| {
            let is_equal = last.as_ref().is_some_and(|last| last.will_wake(cx.waker()));
            last = Some(cx.waker().clone());
            count += 1;
            polled.send((is_equal, cx.waker().clone())).unwrap();
            if count == 5 { Poll::Ready(()) } else { Poll::Pending }
        });
        let mut task = executor.spawn(future).unwrap();
        for poll in 0..5 {
            let (is_equal, waker) = polls.recv().unwrap();
            assert!(is_equal || poll < 2, "poll {poll}");
            waker.wake();
        }
        task.wait(None).unwrap().unwrap();
    }

    /// Rows: F72. What a future leaves is dropped where it ends, and neither that nor a waker takes the thread, or the process.
    #[test]
    #[cfg(panic = "unwind")]
    fn what_belongs_to_a_future_of_an_executor_may_panic_as_it_goes() {
        struct Panics;
        impl Drop for Panics {
            fn drop(&mut self) {
                panic!("as it goes");
            }
        }
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("as it wakes");
            }
        }
        let executor = Executor::with_threads(1).unwrap();
        executor.spawn(async { Panics }).unwrap().detach();
        executor.spawn(async { std::panic::panic_any(Panics) }).unwrap().detach();

        let (begin, begun) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let task = executor
            .spawn(async move {
                begin.send(()).unwrap();
                ended.recv().unwrap();
                Panics
            })
            .unwrap();
        begun.recv().unwrap();
        assert!(task.cancel());
        end.send(()).unwrap();
        let mut task = task;
        let ended: Result<Panics, _> = task.wait(None).unwrap();
        assert!(ended.is_err_and(|error| error.is_cancelled()));

        let (sender, receiver) = futures::channel::oneshot::channel();
        let mut task = executor.spawn(receiver).unwrap();
        let waker = std::mem::ManuallyDrop::new(Waker::from(Arc::new(Panics)));
        assert!(std::pin::Pin::new(&mut task).poll(&mut Context::from_waker(&waker)).is_pending());
        sender.send(7).unwrap();
        while !task.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(task.try_take().unwrap().unwrap(), Ok(7));
        assert_eq!(executor.spawn(async { 1 }).unwrap().wait(None).unwrap().unwrap(), 1);
    }

    /// Rows: F72. One that wakes itself again and again goes with its executor, by whichever waker it does.
    #[test]
    fn an_executor_that_goes_drops_futures_that_never_sleep() {
        for clones in [false, true] {
            let executor = Executor::with_threads(1).unwrap();
            let mut task = executor
                .spawn(async move {
                    loop {
                        yield_by_waker(clones).await;
                    }
                })
                .unwrap();
            let wait: Result<Result<(), _>, _> = task.wait(Some(Duration::from_millis(5)));
            assert!(wait.is_err());
            drop(executor);
            assert!(task.wait(Some(Duration::from_secs(10))).unwrap().unwrap_err().is_lost());
        }
    }

    /// Rows: F42. A wait that is over withdraws what has not begun; a pool's job is detached.
    #[test]
    fn a_timeout_leaves_a_job_of_a_pool_running() {
        selkie::run(async {
            let pool = ThreadPool::new(1).unwrap();
            let (sender, receiver) = mpsc::channel::<()>();
            let job = pool.submit(move || receiver.recv()).unwrap();
            assert!(wait_for(job, Duration::from_millis(5)).await.is_err());
            sleep(Duration::from_millis(5)).await;
            sender.send(()).unwrap();
            pool.shutdown().await;
        });
    }
    }
}
