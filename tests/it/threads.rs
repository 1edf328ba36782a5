//! Loops on other threads, work handed to them, and blocking work handed to threads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use futures::FutureExt;
use selkie::{
    ContextVar, EventLoop, Executor, JoinError, LoopClosed, RemoteSet, RunError, ThreadPool, WaitError,
    catch_cancel, gather, sleep, spawn, testing::Sim, to_thread, yield_now,
};

use crate::harness::test;

/// The simulator has loops "on threads" everywhere; a host may have none.
fn has_threads(t: &crate::harness::T) -> bool {
    t.is_sim() || crate::harness::has_threads()
}

behaviour! {
    /// Rows: F08, F44. What the host cannot do is an error that says so.
    async fn a_loop_on_its_own_thread_runs_what_is_submitted(t) {
        if !has_threads(&t) {
            assert!(EventLoop::spawn_thread("worker").is_err());
            return;
        }
        let worker = EventLoop::spawn_thread("worker").unwrap();
        assert_eq!(worker.name(), "worker");
        // Before the thread has begun: it waits.
        let sum = worker.handle().submit(async || {
            let not_send = std::rc::Rc::new(20);
            yield_now().await;
            *not_send + 1
        });
        worker.started().unwrap().await.unwrap();
        assert_eq!(sum.unwrap().await.unwrap(), 21);
        assert!(!worker.is_finished());
        worker.ended().await.unwrap();
    }
}

behaviour! {
    /// Rows: F43, F44. Submits of one thread start in their order.
    async fn submits_keep_their_order(t) {
        if !has_threads(&t) {
            return;
        }
        let worker = EventLoop::spawn_thread("worker").unwrap();
        let next = Arc::new(AtomicUsize::new(0));
        let mut all = Vec::new();
        for expected in 0..500 {
            let next = next.clone();
            all.push(worker.handle().submit(async move || {
                assert_eq!(next.fetch_add(1, Ordering::Relaxed), expected);
            }).unwrap());
        }
        for one in all {
            one.await.unwrap();
        }
        worker.ended().await.unwrap();
    }
}

behaviour! {
    /// Rows: F45, F46. Cancelling the remote end reaches the task, which may clean up.
    async fn cancelling_a_remote_task_reaches_the_task(t) {
        if !has_threads(&t) {
            return;
        }
        let worker = EventLoop::spawn_thread("worker").unwrap();
        let cleaned = Arc::new(AtomicBool::new(false));
        let seen = cleaned.clone();
        let remote = worker.handle().submit(async move || {
            let cancelled = catch_cancel(sleep(Duration::MAX)).await.unwrap_err();
            yield_now().await;
            seen.store(true, Ordering::Relaxed);
            cancelled.resume().await;
        }).unwrap();
        worker.handle().submit(async || ()).unwrap().await.unwrap();
        assert!(remote.is_started() && !remote.is_finished());
        assert!(remote.cancel());
        assert!(remote.await.unwrap_err().is_cancelled());
        assert!(cleaned.load(Ordering::Relaxed));
        worker.ended().await.unwrap();
    }
}

behaviour! {
    /// Difference: F45. A task cancelled before the loop picked it up never begins.
    async fn a_remote_task_cancelled_before_it_began_never_runs(t) {
        if !has_threads(&t) {
            return;
        }
        let worker = EventLoop::spawn_thread("worker").unwrap();
        let ran = Arc::new(AtomicBool::new(false));
        let seen = ran.clone();
        worker.started().unwrap().await.unwrap();
        // Behind a call that holds the loop up until the cancel is there.
        let go = Arc::new(AtomicBool::new(t.is_sim()));
        let gate = go.clone();
        worker.handle().call_soon_threadsafe(move || {
            while !gate.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
        }).unwrap();
        let remote = worker.handle().submit(async move || seen.store(true, Ordering::Relaxed)).unwrap();
        assert!(remote.cancel());
        go.store(true, Ordering::Release);
        assert!(remote.await.unwrap_err().is_cancelled());
        assert!(!ran.load(Ordering::Relaxed));
        worker.ended().await.unwrap();
    }
}

behaviour! {
    /// Rows: F08. Whoever stops it a second time does not cut short what its tasks do to clean up.
    async fn a_loop_that_is_stopped_again_goes_on_ending(t) {
        if !has_threads(&t) {
            return;
        }
        let worker = EventLoop::spawn_thread("worker").unwrap();
        let cleaned = Arc::new(AtomicBool::new(false));
        let seen = cleaned.clone();
        let cleanup = t.secs(1.0);
        let task = worker.handle().submit(async move || {
            let cancelled = catch_cancel(sleep(Duration::MAX)).await.unwrap_err();
            // What began after the first time would be asked by a second one.
            spawn(sleep(cleanup)).await.unwrap();
            seen.store(true, Ordering::Relaxed);
            cancelled.resume().await;
        }).unwrap();
        worker.started().unwrap().await.unwrap();
        worker.stop();
        worker.started().unwrap().await.unwrap();
        worker.ended().await.unwrap();
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(cleaned.load(Ordering::Relaxed));
    }
}

behaviour! {
    /// Rows: F04, F08.
    async fn a_loop_whose_thread_is_dropped_ends_with_its_tasks(t) {
        if !has_threads(&t) {
            return;
        }
        let worker = EventLoop::spawn_thread("worker").unwrap();
        let never = worker.handle().submit(std::future::pending::<()>).unwrap();
        worker.started().unwrap().await.unwrap();
        drop(worker);
        assert!(never.await.unwrap_err().is_cancelled());
    }
}

behaviour! {
    /// Rows: F04, F45. A loop that ends resolves what it owes; afterwards it refuses.
    async fn a_loop_that_ends_leaves_no_one_waiting(t) {
        if !has_threads(&t) {
            return;
        }
        let worker = EventLoop::spawn_thread("worker").unwrap();
        let handle = worker.handle().clone();
        let never = handle.submit(async || std::future::pending::<()>().await).unwrap();
        worker.started().unwrap().await.unwrap();
        // A bare stop ends the loop of a thread at once, without asking the tasks.
        handle.stop().unwrap();
        let error: JoinError = never.await.unwrap_err();
        assert!(error.is_lost(), "{error}");
        worker.ended().await.unwrap();
        assert_eq!(handle.submit(async || ()).unwrap_err(), LoopClosed);
        assert_eq!(handle.call_soon_threadsafe(|| ()).unwrap_err(), LoopClosed);
    }
}

behaviour! {
    /// Rows: F44, F72. A panic reaches whoever awaits, from a task and from a job.
    async fn panics_cross_threads(t) {
        if cfg!(panic = "abort") {
            return;
        }
        if has_threads(&t) {
            let worker = EventLoop::spawn_thread("worker").unwrap();
            let remote = worker.handle().submit(async || {
                yield_now().await;
                if true { panic!("in the loop") }
            }).unwrap();
            let error = remote.await.unwrap_err();
            assert!(error.is_panic() && error.to_string().contains("in the loop"), "{error}");
            worker.ended().await.unwrap();
            let error = to_thread(|| if true { panic!("in a job") }).await.unwrap_err();
            assert!(error.is_panic() && error.to_string().contains("in a job"), "{error}");
        }
    }
}

behaviour! {
    /// Rows: F37, F41. Context variables go along; the caller's are not changed.
    async fn a_blocking_job_starts_at_the_call_with_a_copy_of_the_context(t) {
        static NAME: ContextVar<&str> = ContextVar::new();
        NAME.set("outer");
        let job = to_thread(|| {
            let seen = NAME.get();
            NAME.set("inner");
            seen
        });
        match job.await {
            Ok(seen) => assert_eq!(seen, Some("outer")),
            Err(error) => assert!(error.is_unavailable() && !has_threads(&t), "{error}"),
        }
        assert_eq!(NAME.get(), Some("outer"));
    }
}

behaviour! {
    /// Rows: F24. Blocking work is a member like any other.
    async fn a_gather_mixes_tasks_futures_and_blocking_work(t) {
        let start = t.now();
        let task = spawn(sleep(t.secs(1.0)));
        let (task, future, job) = gather((task, async { 2 }, to_thread(|| 3))).await;
        task.unwrap();
        assert_eq!(future.unwrap(), 2);
        match job.unwrap() {
            Ok(job) => assert_eq!(job, 3),
            Err(error) => assert!(error.is_unavailable() && !has_threads(&t), "{error}"),
        }
        t.assert_elapsed(start, 1.0);
    }
}

behaviour! {
    /// Rows: F48. Two loops in two threads await each other's work.
    async fn two_loops_await_each_others_work(t) {
        if !has_threads(&t) {
            return;
        }
        let ping = EventLoop::spawn_thread("ping").unwrap();
        let pong = EventLoop::spawn_thread("pong").unwrap();
        let other = pong.handle().clone();
        let total = ping.handle().submit(async move || {
            let mut total = 0;
            for n in 0..50 {
                total += other.submit(async move || { yield_now().await; n }).unwrap().await.unwrap();
            }
            total
        }).unwrap();
        assert_eq!(total.await.unwrap(), (0..50).sum::<i32>());
        ping.ended().await.unwrap();
        pong.ended().await.unwrap();
    }
}

behaviour! {
    /// Rows: F43, F44, F48. Loops, their tasks and blocking jobs in every order that a seed chooses: nothing is lost, and
    /// what one loop submits to another starts in its order.
    seeds async fn loops_and_jobs_in_any_order_lose_nothing(t) {
        if !has_threads(&t) {
            return;
        }
        let last = Arc::new(AtomicUsize::new(0));
        let sink = EventLoop::spawn_thread("sink").unwrap();
        let sources: Vec<_> = (0..3).map(|n| EventLoop::spawn_thread(format!("source {n}")).unwrap()).collect();
        let mut totals = Vec::new();
        for (n, source) in sources.iter().enumerate() {
            let (sink, last) = (sink.handle().clone(), last.clone());
            totals.push(source.handle().submit(async move || {
                let started = Arc::new(AtomicUsize::new(0));
                let mut results = Vec::new();
                for k in 0..10 {
                    let (last, started) = (last.clone(), started.clone());
                    results.push(sink.submit(async move || {
                        assert_eq!(started.fetch_add(1, Ordering::Relaxed), k, "in the order of the submits");
                        let doubled = to_thread(move || 2 * k).await.unwrap();
                        sleep(Duration::from_millis(k as u64 % 3)).await;
                        last.fetch_max(10 * n + k, Ordering::Relaxed);
                        doubled
                    }).unwrap());
                    if k % 4 == n {
                        yield_now().await;
                    }
                }
                let mut total = 0;
                for result in results {
                    total += result.await.unwrap();
                }
                total
            }).unwrap());
        }
        for total in totals {
            assert_eq!(total.await.unwrap(), 90);
        }
        assert_eq!(last.load(Ordering::Relaxed), 29);
        for source in sources {
            source.ended().await.unwrap();
        }
        sink.ended().await.unwrap();
    }
}

behaviour! {
    /// Rows: F47. A wait that could never end is refused, at once.
    async fn blocking_on_ones_own_loop_is_refused(t) {
        let mut own = EventLoop::current().unwrap().handle().submit(async || 1).unwrap();
        let expected = if cfg!(all(target_family = "wasm", target_os = "unknown")) {
            WaitError::WouldBlock
        } else {
            WaitError::WouldDeadlock
        };
        assert_eq!(own.wait(Some(Duration::from_secs(60))).unwrap_err(), expected);
        assert_eq!(own.await.unwrap(), 1);
    }
}

/// Rows: F47. Only this thread could run it, so it makes no difference that it does not run now, or another one does.
#[test]
fn blocking_on_ones_own_loop_that_does_not_run_is_refused() {
    if crate::harness::HOST_BLOCKS {
        let event_loop = EventLoop::new();
        let mut task = event_loop.handle().submit(async || 1).unwrap();
        assert_eq!(task.wait(None).unwrap_err(), WaitError::WouldDeadlock);
        let waited = EventLoop::new().run_until_complete(async move { (task.wait(None).unwrap_err(), task) });
        let (refused, task) = waited.unwrap();
        assert_eq!(refused, WaitError::WouldDeadlock);
        assert_eq!(event_loop.run_until_complete(task).unwrap().unwrap(), 1);
    }
}

/// Rows: F47. Of two threads that wait for each other's loops one is refused, also if it waits outside of its loop.
#[test]
fn a_circle_through_a_loop_that_does_not_run_is_refused() {
    if crate::harness::HOST_BLOCKS {
        let event_loop = EventLoop::new();
        let mut own = event_loop.handle().submit(async || 1).unwrap();
        let worker = EventLoop::spawn_thread("worker").unwrap();
        let mut other = worker.handle().submit(async move || own.wait(None)).unwrap();
        match other.wait(None) {
            Ok(refused) => assert_eq!(refused.unwrap().unwrap_err(), WaitError::WouldDeadlock),
            // The worker has come first, and waits.
            Err(refused) => {
                assert_eq!(refused, WaitError::WouldDeadlock);
                assert_eq!(event_loop.run_until_complete(other).unwrap().unwrap().unwrap().unwrap(), 1);
            }
        }
        worker.join(None).unwrap();
    }
}

/// Rows: F47. Nor on another loop of the same simulation: this thread would have to run it.
#[test]
fn blocking_on_a_loop_of_the_same_simulation_is_refused() {
    if crate::harness::HOST_BLOCKS {
        Sim::new().run(async {
            let worker = EventLoop::spawn_thread("worker").unwrap();
            let mut task = worker.handle().submit(async || 1).unwrap();
            assert_eq!(task.wait(None).unwrap_err(), WaitError::WouldDeadlock);
            assert_eq!(task.await.unwrap(), 1);
            let mut own = EventLoop::current().unwrap().handle().submit(async || 2).unwrap();
            assert_eq!(own.wait(None).unwrap_err(), WaitError::WouldDeadlock);
            assert_eq!(own.await.unwrap(), 2);
            assert_eq!(worker.join(None), Err(WaitError::WouldDeadlock));
        });
    }
}

/// Rows: F47, F75. The pools of a simulation have no thread either.
#[test]
fn blocking_on_a_pool_of_the_same_simulation_is_refused() {
    if crate::harness::HOST_BLOCKS {
        Sim::new().run(async {
            let pool = ThreadPool::new(1).unwrap();
            let mut job = pool.submit(|| 1).unwrap();
            assert_eq!(job.wait(None).unwrap_err(), WaitError::WouldDeadlock);
            let mut set = RemoteSet::new();
            set.insert(job);
            assert_eq!(set.wait_next(None).unwrap_err(), WaitError::WouldDeadlock);
            assert_eq!(set.wait_all(None).unwrap_err(), WaitError::WouldDeadlock);
            assert_eq!(set.next().await.unwrap().1.unwrap(), 1);

            let waited = pool.scope(|scope| scope.submit(|| 1).unwrap().wait(None).unwrap_err());
            assert_eq!(waited.unwrap(), WaitError::WouldDeadlock);

            let mut results = pool.map(2..4, |n| n);
            assert_eq!(results.wait_next(None).unwrap_err(), WaitError::WouldDeadlock);
            assert_eq!(results.next().await.unwrap().unwrap(), 2);
            assert_eq!(results.next().await.unwrap().unwrap(), 3);

            let executor = Executor::with_threads(1).unwrap();
            let mut task = executor.spawn(async { 4 }).unwrap();
            assert_eq!(task.wait(None).unwrap_err(), WaitError::WouldDeadlock);
            assert_eq!(task.await.unwrap(), 4);
        });
    }
}

/// Rows: F47, F75. Nor between two of its runs.
#[test]
fn blocking_on_a_simulation_that_does_not_run_is_refused() {
    if crate::harness::HOST_BLOCKS {
        let sim = Sim::new();
        let (mut task, mut job, worker, pool) = sim.run(async {
            let worker = EventLoop::spawn_thread("worker").unwrap();
            let pool = ThreadPool::new(1).unwrap();
            (worker.handle().submit(async || 1).unwrap(), pool.submit(|| 2).unwrap(), worker, pool)
        });
        assert_eq!(task.wait(None).unwrap_err(), WaitError::WouldDeadlock);
        assert_eq!(job.wait(None).unwrap_err(), WaitError::WouldDeadlock);
        let mut set = RemoteSet::from_iter([task, job]);
        assert_eq!(set.wait_next(None).unwrap_err(), WaitError::WouldDeadlock);
        let mut results =
            sim.run(async move { [set.next().await, set.next().await].map(|next| next.unwrap().1.unwrap()) });
        results.sort();
        assert_eq!(results, [1, 2]);
        drop((worker, pool));
    }
}

/// Rows: F47, F75. Nor when it was dropped, and a loop of it would run the job.
#[test]
fn blocking_on_what_a_simulation_has_left_is_refused() {
    if crate::harness::HOST_BLOCKS {
        let sim = Sim::new();
        let event_loop = sim.event_loop();
        let submitted = event_loop.run_until_complete(async {
            let pool = ThreadPool::new(1).unwrap();
            (pool.submit(|| 2).unwrap(), pool)
        });
        let (mut job, pool) = submitted.unwrap();
        drop(sim);
        assert_eq!(job.wait(Some(Duration::from_millis(50))).unwrap_err(), WaitError::WouldDeadlock);
        assert_eq!(event_loop.run_until_complete(job).unwrap().unwrap(), 2);
        drop(pool);
    }
}

/// Rows: F47, F75. Another thread runs it, also if this one has a simulation of its own.
#[test]
fn a_job_of_another_threads_simulation_may_be_waited_for() {
    if crate::harness::HOST_BLOCKS {
        let (give, taken) = mpsc::channel();
        let (go, went) = mpsc::channel();
        let threads = ThreadPool::new(1).unwrap();
        let mut runs = threads
            .submit(move || {
                let sim = Sim::new();
                let pool = sim.run(async move {
                    let pool = ThreadPool::new(1).unwrap();
                    give.send(pool.submit(|| 2).unwrap()).unwrap();
                    pool
                });
                went.recv().unwrap();
                sim.run(sleep(Duration::from_secs(1)));
                drop(pool);
            })
            .unwrap();
        let _own = Sim::new();
        let mut job = taken.recv().unwrap();
        assert_eq!(job.wait(Some(Duration::from_millis(1))).unwrap_err(), WaitError::TimedOut);
        go.send(()).unwrap();
        assert_eq!(job.wait(None).unwrap().unwrap(), 2);
        runs.wait(None).unwrap().unwrap();
    }
}

/// Rows: F47, F75. One waits for a job of the other's simulation, and the other, which has no loop just then, for it.
#[test]
fn a_circle_through_a_simulation_is_refused() {
    if crate::harness::HOST_BLOCKS {
        let sim = Sim::new();
        let (mut job, pool) = sim.run(async {
            let pool = ThreadPool::new(1).unwrap();
            (pool.submit(|| 2).unwrap(), pool)
        });
        let limit = Some(Duration::from_secs(5));
        let worker = EventLoop::spawn_thread("worker").unwrap();
        let mut other = worker.handle().submit(async move || job.wait(limit)).unwrap();
        match other.wait(limit) {
            Ok(refused) => assert_eq!(refused.unwrap().unwrap_err(), WaitError::WouldDeadlock),
            // The worker has come first, and waits.
            Err(refused) => {
                assert_eq!(refused, WaitError::WouldDeadlock);
                sim.run(sleep(Duration::from_secs(1)));
                assert_eq!(other.wait(None).unwrap().unwrap().unwrap().unwrap(), 2);
            }
        }
        worker.join(None).unwrap();
        drop(pool);
    }
}

/// Rows: F04, F45. Loops on threads of a simulation that is over close, with what they own.
#[test]
fn a_simulation_that_goes_closes_the_loops_of_its_threads() {
    let owned = Arc::new(());
    let kept = owned.clone();
    let sim = Sim::new();
    let (handle, never) = sim.run(async move {
        let worker = EventLoop::spawn_thread("worker").unwrap();
        let handle = worker.handle().clone();
        let never = handle.submit(move || async move {
            std::future::pending::<()>().await;
            drop(kept);
        });
        worker.started().unwrap().await.unwrap();
        (handle, never.unwrap())
    });
    assert!(!never.is_finished());
    drop(sim);
    assert!(never.now_or_never().unwrap().unwrap_err().is_lost());
    assert_eq!(Arc::strong_count(&owned), 1);
    assert_eq!(handle.submit(async || ()).unwrap_err(), LoopClosed);
}

behaviour! {
    /// Rows: F46. Dropping a remote task lets the work go on.
    async fn dropping_a_remote_task_detaches_it(t) {
        if !has_threads(&t) {
            return;
        }
        let worker = EventLoop::spawn_thread("worker").unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let seen = done.clone();
        drop(worker.handle().submit(async move || {
            yield_now().await;
            seen.store(true, Ordering::Release);
        }).unwrap());
        while !done.load(Ordering::Acquire) {
            worker.handle().submit(async || ()).unwrap().await.unwrap();
        }
        worker.ended().await.unwrap();
        spawn(async {}).await.unwrap();
    }
}

behaviour! {
    /// Rows: F50. `auto_traits.rs` pins at compile time what cannot leave the thread of its loop; `submit`, `call_soon_threadsafe`,
    /// wakers and remote results are the ways across. Whichever is taken, all of a task runs in the thread of its loop.
    async fn a_task_never_leaves_the_thread_of_its_loop(t) {
        if !has_threads(&t) {
            return;
        }
        let here = std::thread::current().id();
        let own = EventLoop::current().unwrap().handle();
        let workers: Vec<_> = (0..2).map(|n| EventLoop::spawn_thread(format!("worker {n}")).unwrap()).collect();
        let (sender, receiver) = futures::channel::oneshot::channel();
        let other = workers[1].handle().clone();
        let is_sim = t.is_sim();
        let tied = workers[0].handle().submit(async move || {
            // Neither this nor the tasks may cross threads, and they need not.
            let there = std::rc::Rc::new(std::thread::current().id());
            assert!(is_sim || *there != here);
            let task = spawn({
                let there = there.clone();
                async move {
                    let calls = std::rc::Rc::new(std::cell::Cell::new(0));
                    let count = calls.clone();
                    let _handle = EventLoop::current().unwrap().call_soon(move || count.set(count.get() + 1)).unwrap();
                    // Woken by a loop of a third thread, by one of this thread's own, and by a timer.
                    let elsewhere = other.submit(async || std::thread::current().id()).unwrap().await.unwrap();
                    assert_eq!(std::thread::current().id(), *there);
                    yield_now().await;
                    assert_eq!(std::thread::current().id(), *there);
                    sleep(Duration::from_millis(1)).await;
                    assert_eq!((std::thread::current().id(), calls.get()), (*there, 1));
                    elsewhere
                }
            });
            let elsewhere = task.await.unwrap();
            assert!(is_sim || elsewhere != *there && elsewhere != here);
            own.call_soon_threadsafe(move || sender.send(std::thread::current().id()).unwrap()).unwrap();
            *there
        }).unwrap();
        assert_eq!(receiver.await.unwrap(), here);
        let there = tied.await.unwrap();
        assert_eq!(std::thread::current().id(), here);
        let next = workers[0].handle().submit_future(async { std::thread::current().id() }).unwrap();
        assert_eq!(next.await.unwrap(), there);
        for worker in workers {
            worker.ended().await.unwrap();
        }
    }
}

behaviour! {
    /// Rows: F50. What is tied to a loop and reached from another one of the same thread, where no type can help, is refused.
    async fn a_loop_does_not_wait_for_a_task_of_another_loop_of_its_thread(t) {
        let other = EventLoop::new();
        assert!(matches!(other.run_until_complete(async {}), Err(RunError::Nested | RunError::WouldBlock)));
        let strange = other.spawn(async {}).unwrap();
        assert!(strange.await.unwrap_err().is_wrong_loop());
        other.close().unwrap();
    }
}

behaviour! {
    /// Rows: X27. Each loop has a thread, and they share no lock: one that is held up within a turn keeps no other from making,
    /// running, waking and ending tasks, nor from calling it.
    async fn a_loop_that_is_held_up_holds_up_no_other(t) {
        if t.is_sim() || !has_threads(&t) {
            return;
        }
        let loops: Vec<_> = (0..3).map(|n| EventLoop::spawn_thread(format!("loop {n}")).unwrap()).collect();
        let (begun, go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (there, gate) = (begun.clone(), go.clone());
        // Held up within a poll, and that within an eager start.
        let held = loops[0].handle().submit(async move || {
            spawn(async move {
                there.store(true, Ordering::Release);
                while !gate.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
            }).await.unwrap();
        }).unwrap();
        while !begun.load(Ordering::Acquire) {
            sleep(Duration::from_millis(1)).await;
        }
        let blocked = loops[0].handle().clone();
        let work: Vec<_> = loops[1..].iter().map(|one| {
            let blocked = blocked.clone();
            one.handle().submit(async move || {
                let calls: Vec<_> = (0..100).map(|n| blocked.submit(async move || n).unwrap()).collect();
                let mut sum = 0;
                for n in 0..2000u64 {
                    sum += spawn(async move { yield_now().await; n }).await.unwrap();
                    if n % 500 == 0 {
                        sleep(Duration::from_millis(1)).await;
                    }
                }
                let own = selkie::spawn_lazy(async {});
                assert_eq!(selkie::all_tasks().len(), 2, "each loop has a list of its own");
                own.await.unwrap();
                (sum, calls)
            }).unwrap()
        }).collect();
        let mut calls = Vec::new();
        for work in work {
            let (sum, more) = work.await.unwrap();
            assert_eq!(sum, (0..2000).sum::<u64>());
            calls.extend(more);
        }
        assert!(!held.is_finished() && calls.iter().all(|call| !call.is_finished()));
        go.store(true, Ordering::Release);
        held.await.unwrap();
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap(), n % 100);
        }
        for one in loops {
            one.ended().await.unwrap();
        }
    }
}

behaviour! {
    /// Difference: X27. The list of a loop's tasks belongs to its thread: another one asks the loop for what it wants to know.
    async fn the_tasks_of_a_loop_are_listed_by_asking_it(t) {
        if !has_threads(&t) {
            return;
        }
        let worker = EventLoop::spawn_thread("worker").unwrap();
        let queue: selkie::Queue<u8> = selkie::Queue::unbounded();
        let items = queue.clone();
        worker.handle().submit(async move || {
            for n in 0..3 {
                let items = items.clone();
                selkie::Task::builder().name(format!("getter {n}")).spawn(async move { items.get().await.ok() }).detach();
            }
        }).unwrap().await.unwrap();
        let names = || worker.handle().submit(async || {
            yield_now().await;
            let all = selkie::all_tasks().into_iter().map(|task| task.name().to_string());
            let mut getters: Vec<_> = all.filter(|name| name.starts_with("getter")).collect();
            getters.sort();
            getters
        }).unwrap();
        assert_eq!(names().await.unwrap(), ["getter 0", "getter 1", "getter 2"]);
        queue.try_put(7).unwrap();
        assert_eq!(names().await.unwrap(), ["getter 1", "getter 2"]);
        queue.shutdown(false);
        assert!(names().await.unwrap().is_empty());
        worker.ended().await.unwrap();
    }
}

#[cfg(any(not(all(target_family = "wasm", target_os = "unknown")), target_feature = "atomics"))]
mod blocking {
    use super::*;
    use crate::harness::thread;

    on_threads! {
    #[test]
    /// Rows: F45. A thread without a loop waits, with and without an end.
    fn a_thread_waits_for_a_remote_task() {
        let worker = EventLoop::spawn_thread("worker").unwrap();
        let mut slow = worker.handle().submit(async || sleep(Duration::from_millis(60)).await).unwrap();
        assert_eq!(slow.wait(Some(Duration::from_millis(5))).unwrap_err(), WaitError::TimedOut);
        assert!(slow.try_take().is_none());
        slow.wait(None).unwrap().unwrap();
        assert_eq!(slow.wait(None).unwrap_err(), WaitError::Taken);
        worker.join(None).unwrap();
    }

    #[test]
    /// Rows: F47, U19. Loops that would wait for each other in a circle: one of them is refused, and both end.
    fn loops_that_block_on_each_other_are_refused() {
        let a = EventLoop::spawn_thread("a").unwrap();
        let b = EventLoop::spawn_thread("b").unwrap();
        let cross = |to: selkie::LoopHandle| {
            move || async move {
                match to.submit(async || ()).unwrap().wait(None) {
                    Ok(result) => result.map(|()| true).unwrap(),
                    Err(error) => {
                        assert_eq!(error, WaitError::WouldDeadlock);
                        false
                    }
                }
            }
        };
        for _ in 0..50 {
            let mut first = a.handle().submit(cross(b.handle().clone())).unwrap();
            let mut second = b.handle().submit(cross(a.handle().clone())).unwrap();
            let ended = [first.wait(None).unwrap().unwrap(), second.wait(None).unwrap().unwrap()];
            assert!(ended[0] || ended[1], "not both are refused");
        }
        a.join(None).unwrap();
        b.join(None).unwrap();
    }

    #[test]
    /// Rows: F73. Callbacks run where the work ends, in order, or at once when it has ended.
    fn callbacks_of_a_remote_task_run_in_the_thread_that_ends_it() {
        let worker = EventLoop::spawn_thread("worker").unwrap();
        let here = thread::current().id();
        let (log, seen) = std::sync::mpsc::channel();
        let mut remote = worker
            .handle()
            .submit(async || {
                sleep(Duration::from_millis(20)).await;
                7
            })
            .unwrap();
        for n in 0..3 {
            let log = log.clone();
            remote.on_done(move |result| {
                assert_ne!(thread::current().id(), here);
                log.send((n, *result.as_ref().unwrap())).unwrap();
            });
        }
        let all: Vec<_> = seen.iter().take(3).collect();
        assert_eq!(all, [(0, 7), (1, 7), (2, 7)]);
        remote.on_done(move |_| assert_eq!(thread::current().id(), here));
        assert_eq!(remote.wait(None).unwrap().unwrap(), 7);
        worker.join(None).unwrap();
    }

    #[test]
    /// Rows: F42. A job that has not begun is withdrawn by dropping its future.
    fn a_job_that_has_not_begun_is_withdrawn() {
        let ran = Arc::new(AtomicUsize::new(0));
        let started = Arc::new(AtomicUsize::new(0));
        let release = Arc::new(AtomicBool::new(false));
        let (count, begun, gate) = (ran.clone(), started.clone(), release.clone());
        selkie::run(async move {
            let mut jobs = Vec::new();
            for _ in 0..200 {
                let (count, begun, gate) = (count.clone(), begun.clone(), gate.clone());
                jobs.push(to_thread(move || {
                    begun.fetch_add(1, Ordering::Relaxed);
                    while !gate.load(Ordering::Acquire) {
                        thread::yield_now();
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                }));
            }
            // More jobs than threads: the rest waits.
            drop(jobs.split_off(100));
            gate.store(true, Ordering::Release);
            for job in jobs {
                job.await.unwrap();
            }
            assert!(begun.load(Ordering::Relaxed) <= 136, "{}", begun.load(Ordering::Relaxed));
        });
        assert!(ran.load(Ordering::Relaxed) >= 100);
    }
    }
}
