//! Faults of the simulator: workers that die, jobs that are slow, wakes that come late, loops that close. What crosses threads
//! survives them: everything that is waited for ends, with what it should or with an error that says why.

use std::{
    cell::RefCell,
    future::Future,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use selkie::{
    Event, EventLoop, JoinError, Lock, LoopClosed, Queue, RemoteTask, Semaphore, Thread, ThreadPool, gather,
    sleep, spawn_lazy,
    testing::{Faults, Sim},
    timeout, to_thread, yield_now,
};

use crate::harness::{HOST_BLOCKS, Reports, seeds, test};

const SEEDS: u64 = if HOST_BLOCKS { 300 } else { 50 };

const MS: Duration = Duration::from_millis(1);

/// Runs `body` with each seed, and the sum of what it gives.
fn sum<F>(faults: Faults, body: impl Fn() -> F) -> u64
where
    F: Future<Output = u64> + 'static,
{
    let mut sum = 0;
    for seed in seeds("SELKIE_FAULTS", SEEDS) {
        let run = std::panic::AssertUnwindSafe(|| Sim::seeded(seed).with_faults(faults).run(body()));
        match std::panic::catch_unwind(run) {
            Ok(one) => sum += one,
            Err(payload) => {
                eprintln!("failed with SELKIE_SEED={seed}");
                std::panic::resume_unwind(payload);
            }
        }
    }
    sum
}

fn count() -> u64 {
    let seeds = seeds("SELKIE_FAULTS", SEEDS);
    seeds.end - seeds.start
}

/// Whether it ended well; otherwise it has to be lost.
fn ended<T>(result: Result<T, JoinError>) -> Option<T> {
    result.map_err(|error| assert!(error.is_lost(), "{error}")).ok()
}

/// Rows: F43, F45, F46, F48. A loop dies at any moment: what it owes is lost, the rest refused, and submits keep their order.
#[test]
fn a_loop_that_dies_leaves_no_one_waiting() {
    let faults = Faults::new().closing_loops(60).delayed_wakes(5, MS).slow_jobs(4, 20 * MS);
    let lost = sum(faults, || async {
        let _quiet = Reports::of_current();
        let workers: Vec<_> = (0..2).map(|n| EventLoop::spawn_thread(format!("{n}")).unwrap()).collect();
        let other = workers[1].handle().clone();
        let next = Arc::new(AtomicUsize::new(0));
        let mut results: Vec<Result<RemoteTask<usize>, LoopClosed>> = Vec::new();
        for k in 0..8 {
            let (next, other) = (next.clone(), other.clone());
            results.push(workers[0].handle().submit(async move || {
                assert_eq!(next.fetch_add(1, Ordering::Relaxed), k, "in the order of the submits");
                let doubled = to_thread(move || 2 * k).await.unwrap();
                // The other loop may be gone, or go.
                match other.submit(async move || {
                    sleep(MS).await;
                    doubled + 1
                }) {
                    Ok(remote) => remote.await.unwrap_or(0),
                    Err(LoopClosed) => 0,
                }
            }));
            if k % 3 == 0 {
                sleep(MS / 2).await;
            }
        }
        let mut lost = 0;
        for (k, result) in results.into_iter().enumerate() {
            match result.map(|remote| async { ended(remote.await) }) {
                Ok(value) => match value.await {
                    Some(value) => assert!(value == 2 * k + 1 || value == 0),
                    None => lost += 1,
                },
                Err(LoopClosed) => lost += 1,
            }
        }
        for worker in workers {
            ended(worker.ended().await);
        }
        u64::from(lost > 0)
    });
    // Else it would be a test of nothing.
    assert!(count() < 20 || (lost > count() / 10 && lost < count()), "{lost}");
}

/// Rows: F37, F42, F43, F48. Wakes that come late are not lost: everything ends as without.
#[test]
fn late_wakes_are_not_lost() {
    let late = sum(Faults::new().delayed_wakes(2, 50 * MS), || async {
        let start = EventLoop::current().unwrap().time();
        let worker = EventLoop::spawn_thread("worker").unwrap();
        let (queue, go, lock) = (Queue::bounded(2), Arc::new(Event::new()), Arc::new(Lock::new(0)));
        let gate = Arc::new(Semaphore::new(0));
        let theirs = (queue.clone(), go.clone(), lock.clone(), gate.clone());
        let remote = worker.handle().submit(async move || {
            let (queue, go, lock, gate) = theirs;
            go.wait().await;
            for n in 0..10 {
                queue.put(n).await.unwrap();
                *lock.lock().await += 1;
                let _permit = gate.acquire().await;
            }
        });
        let job = to_thread(|| 7);
        go.set();
        for n in 0..10 {
            assert_eq!(queue.get().await, Ok(n));
            *lock.lock().await += 1;
            gate.release(1);
        }
        remote.unwrap().await.unwrap();
        assert_eq!(job.await.unwrap(), 7);
        assert_eq!(*lock.lock().await, 20);
        worker.ended().await.unwrap();
        u64::from(EventLoop::current().unwrap().time() - start > 20 * MS)
    });
    assert!(late > count() / 2, "{late}");
}

/// Rows: F39, F72, F75, F76, X34. A pool goes on when its workers die; each job that went with one is lost, and no other.
#[test]
fn a_pool_survives_its_workers() {
    let faults = Faults::new().dying_workers(5).slow_jobs(3, 30 * MS).delayed_wakes(6, MS);
    let lost = sum(faults, || async {
        let pool = ThreadPool::new(2).unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let jobs: Vec<_> = (0..12)
            .map(|n| {
                let ran = ran.clone();
                pool.submit(move || {
                    ran.fetch_add(1, Ordering::Relaxed);
                    n
                })
                .unwrap()
            })
            .collect();
        let mut lost = 0;
        for (n, job) in jobs.into_iter().enumerate() {
            match ended(job.await) {
                Some(value) => assert_eq!(value, n),
                None => lost += 1,
            }
        }
        assert_eq!(ran.load(Ordering::Relaxed) + lost, 12);
        let mut squares = pool.map(0..6u64, |n| n * n);
        let mut n = 0;
        // A job that is lost ends the map at its place.
        while let Some(square) = squares.next().await {
            let Some(square) = ended(square) else { break };
            assert_eq!(square, n * n);
            n += 1;
        }
        drop(squares);
        pool.shutdown().await;
        let thread = Thread::spawn("one", || 1).unwrap();
        lost as u64 + u64::from(ended(thread.await).is_none())
    });
    assert!(count() < 20 || (lost > count() && lost < 6 * count()), "{lost}");
}

/// Rows: U11, U12, F68. Loops that die while they wait at a queue or a lock take nothing along that was not theirs.
#[test]
fn a_loop_that_dies_at_a_queue_loses_no_item_of_others() {
    let died = sum(Faults::new().closing_loops(40).delayed_wakes(4, MS), || async {
        let _quiet = Reports::of_current();
        let queue: Queue<usize> = Queue::bounded(2);
        let lock = Arc::new(Lock::new(()));
        let got = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..3).map(|n| EventLoop::spawn_thread(format!("{n}")).unwrap()).collect();
        let mut consumers = Vec::new();
        for worker in &workers {
            let (queue, lock, got) = (queue.clone(), lock.clone(), got.clone());
            consumers.push(worker.handle().submit(async move || {
                while let Ok(item) = queue.get().await {
                    // Counted in the same step: a loop dies between steps.
                    got.fetch_add(item, Ordering::Relaxed);
                    queue.task_done();
                    let _held = lock.lock().await;
                    yield_now().await;
                }
            }));
        }
        let theirs = queue.clone();
        let producer = selkie::spawn(async move {
            for _ in 0..20 {
                theirs.put(1).await.unwrap();
            }
        });
        let mut left = 0;
        // This loop never dies, and takes what they leave.
        while !producer.is_finished() || !queue.is_empty() {
            if queue.try_get().is_ok() {
                left += 1;
                queue.task_done();
            }
            sleep(MS).await;
        }
        producer.await.unwrap();
        queue.join().await;
        queue.shutdown(false);
        let mut died = 0;
        for consumer in consumers {
            match consumer {
                Ok(consumer) => died += u64::from(ended(consumer.await).is_none()),
                Err(LoopClosed) => died += 1,
            }
        }
        for worker in workers {
            ended(worker.ended().await);
        }
        assert_eq!(got.load(Ordering::Relaxed) + left, 20);
        // A lock that was held by a loop that died is free again.
        assert!(!lock.is_locked());
        let statistics = queue.statistics();
        assert_eq!(
            (statistics.len, statistics.unfinished, statistics.getting, statistics.putting),
            (0, 0, 0, 0)
        );
        died
    });
    assert!(count() < 20 || died > count() / 10, "{died}");
}

/// Rows: F24, F39. Jobs take the time that was said, on as many threads as there are, and slow ones longer.
#[test]
fn jobs_take_their_time_in_a_simulation() {
    let two = Duration::from_secs(2);
    let sim = Sim::new();
    sim.set_job_time(two..=two);
    let elapsed = sim.elapsed();
    sim.run(async move {
        let now = || EventLoop::current().unwrap().time();
        let start = now();
        gather([to_thread(|| ()), to_thread(|| ()), to_thread(|| ())]).await;
        assert_eq!(now() - start, two);
        // Two workers: the third job starts when the first has ended.
        let pool = ThreadPool::new(2).unwrap();
        let mut ends = Vec::new();
        for job in [0, 1, 2].map(|n| pool.submit(move || n).unwrap()) {
            job.await.unwrap();
            ends.push((now() - start).as_secs());
        }
        assert_eq!(ends, [4, 4, 6]);
    });
    assert_eq!(sim.elapsed() - elapsed, 3 * two);
    for seed in 0..20 {
        let sim = Sim::seeded(seed).with_faults(Faults::new().slow_jobs(2, two));
        sim.set_job_time(two..=2 * two);
        sim.run(async { to_thread(|| ()).await.unwrap() });
        assert!(sim.elapsed() >= two && sim.elapsed() <= 3 * two, "{:?}", sim.elapsed());
    }
}

/// Rows: F38, F45. A job whose result nobody waits for any more keeps neither its simulation nor, by that, itself.
#[test]
fn jobs_that_nobody_waits_for_any_more_go_with_their_simulation() {
    let owned = Arc::new(());
    let sim = Sim::new();
    sim.set_job_time(MS..=MS);
    let kept = owned.clone();
    sim.run(async move {
        let job = ThreadPool::new(1).unwrap().submit(move || drop(kept)).unwrap();
        assert!(timeout(Duration::ZERO, job).await.is_err());
    });
    drop(sim);
    assert_eq!(Arc::strong_count(&owned), 1);
}

/// Rows: F38. A pool is its world's, not its loop's: with threads that die as well.
#[test]
fn a_pool_goes_on_in_the_next_run_of_its_simulation() {
    for (sim, lost) in
        [(Sim::new(), false), (Sim::seeded(1).with_faults(Faults::new().dying_workers(1)), true)]
    {
        let (pool, jobs) = sim.run(async {
            let pool = ThreadPool::new(1).unwrap();
            let jobs: Vec<_> = (0..3).map(|n| pool.submit(move || n).unwrap()).collect();
            (pool, jobs)
        });
        let results = sim.run(async move { gather(jobs).await });
        assert!(results.iter().all(|result| result.as_ref().unwrap().is_err() == lost), "{results:?}");
        assert_eq!(sim.run(async move { pool.submit(|| 3).unwrap().await.is_err() }), lost);
    }
}

/// Rows: F38, F45. Those behind it in the queue go with it, though somebody still has the pool.
#[test]
fn all_jobs_of_a_pool_are_lost_with_its_simulation() {
    let sim = Sim::new();
    let (pool, jobs) = sim.run(async {
        let pool = ThreadPool::new(1).unwrap();
        let jobs = [1, 2, 3].map(|n| pool.submit(move || n).unwrap());
        (pool, jobs)
    });
    drop(sim);
    for mut job in jobs {
        assert!(job.try_take().unwrap().unwrap_err().is_lost());
    }
    drop(pool);
}

/// Rows: F45. Whoever waits for the end of a loop on a thread is told if the thread has died.
#[test]
fn a_loop_that_dies_has_not_ended_well() {
    let sim = Sim::seeded(1).with_faults(Faults::new().closing_loops(1));
    let ended = sim.run(async {
        let worker = EventLoop::spawn_thread("dies").unwrap();
        sleep(MS).await;
        assert!(worker.is_finished());
        worker.ended().await
    });
    assert!(ended.unwrap_err().is_lost());
}

/// Rows: F38, F45. Nor does one that keeps it by a handle: it is lost, as nothing will run it.
#[test]
fn a_job_that_owns_a_handle_goes_with_its_simulation() {
    let owned = Arc::new(());
    let kept = owned.clone();
    let sim = Sim::new();
    sim.set_job_time(MS..=MS);
    let (mut job,) = sim.run(async move {
        let handle = EventLoop::current().unwrap().handle();
        (ThreadPool::new(1).unwrap().submit(move || drop((handle, kept))).unwrap(),)
    });
    drop(sim);
    assert_eq!(Arc::strong_count(&owned), 1);
    assert!(job.is_finished() && job.try_take().unwrap().unwrap_err().is_lost());
}

/// Rows: F38, F45. Or with the last loop of it, if that comes after: in a run, or behind it.
#[test]
fn a_job_that_owns_a_handle_goes_with_the_last_loop_of_a_simulation_that_has_gone() {
    for early in [true, false] {
        let owned = Arc::new(());
        let kept = owned.clone();
        let sim = Sim::new();
        sim.set_job_time(MS..=MS);
        let event_loop = sim.event_loop();
        let mut sim = Some(sim);
        drop(if early { sim.take() } else { None });
        let (mut job, pool, handle) = event_loop
            .run_until_complete(async move {
                drop(sim);
                let handle = EventLoop::current().unwrap().handle();
                let pool = ThreadPool::new(1).unwrap();
                let own = handle.clone();
                (pool.submit(move || drop((own, kept))).unwrap(), pool, handle)
            })
            .unwrap();
        assert!(!job.is_finished(), "the loop may run again, and the job in it");
        drop(event_loop);
        assert_eq!(Arc::strong_count(&owned), 1);
        assert!(job.is_finished() && job.try_take().unwrap().unwrap_err().is_lost());
        // Nor will anybody run what comes now.
        let mut late = pool.submit(|| ()).unwrap();
        assert!(late.is_finished() && late.try_take().unwrap().unwrap_err().is_lost());
        drop(handle);
        assert!(pool.submit(|| ()).is_err());
    }
}

/// Rows: F45. Loops on threads close with their simulation, or with the run that it did not outlive.
#[test]
fn loops_on_threads_close_with_the_run_of_a_simulation_that_has_gone() {
    for early in [true, false] {
        let owned = Arc::new(());
        let kept = owned.clone();
        let sim = Sim::new();
        let event_loop = sim.event_loop();
        let mut sim = Some(sim);
        drop(if early { sim.take() } else { None });
        let ran = event_loop.run_until_complete(async move {
            let worker = EventLoop::spawn_thread("worker").unwrap();
            let waits = async move || {
                let _kept = kept;
                std::future::pending::<()>().await;
            };
            worker.handle().submit(waits).unwrap().detach();
            worker.started().unwrap().await.unwrap();
            drop(sim);
            std::mem::forget(worker);
        });
        ran.unwrap();
        assert_eq!(Arc::strong_count(&owned), 1);
    }
}

thread_local! {
    /// For what crosses threads, which in a simulation are one.
    static SIM: RefCell<Option<Rc<Sim>>> = const { RefCell::new(None) };
}

/// Rows: F02, F03. Not with what else goes on in its world: here a loop on a thread that ticks for a century.
#[test]
fn a_run_ends_with_its_future_though_a_run_inside_of_another_has_given_the_last_turn() {
    let second = Duration::from_secs(1);
    let nested = || {
        let sim = SIM.with_borrow(Clone::clone).unwrap();
        sim.run(async { sleep(Duration::from_secs(10)).await });
    };
    for (in_a_job, stops) in [(false, false), (true, false), (false, true), (true, true)] {
        let sim = Rc::new(Sim::new());
        SIM.set(Some(sim.clone()));
        let ran = sim.try_run(async move {
            let worker = EventLoop::spawn_thread("worker").unwrap();
            let works = async move || {
                spawn_lazy(async {
                    for _ in 0..50_000 {
                        sleep(Duration::from_secs(65_536)).await;
                    }
                })
                .detach();
                sleep(MS).await;
                if !in_a_job {
                    nested();
                }
            };
            worker.handle().submit(works).unwrap().detach();
            if in_a_job {
                spawn_lazy(async move { to_thread(nested).await.unwrap() }).detach();
            }
            std::mem::forget(worker);
            EventLoop::current().unwrap().set_exception_handler(Some(Rc::new(|_| {})));
            sleep(second).await;
            if stops {
                EventLoop::current().unwrap().stop();
                std::future::pending::<()>().await;
            }
        });
        SIM.set(None);
        assert_eq!(ran.unwrap().is_err(), stops, "a stop is no deadlock");
        assert_eq!(sim.elapsed(), 10 * second + if in_a_job { Duration::ZERO } else { MS });
    }
}

/// Rows: F45. What a thread owns that dies with it takes nobody along.
#[cfg(panic = "unwind")]
#[test]
fn a_destructor_that_panics_with_its_worker_is_contained() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("in a destructor (expected by a test)");
        }
    }
    let owned = Panics;
    let error = Sim::seeded(1).with_faults(Faults::new().dying_workers(1)).run(async move {
        let thread = Thread::spawn("dies", move || {
            let _owned = &owned;
        });
        thread.unwrap().await.unwrap_err()
    });
    assert!(error.is_lost());
}

/// Rows: F38. A `usize` of nanoseconds is four seconds on the web.
#[test]
fn jobs_take_the_same_time_on_every_target() {
    let longest = (0..8).map(|seed| {
        let sim = Sim::seeded(seed);
        sim.set_job_time(Duration::ZERO..=Duration::from_secs(100));
        sim.run(async { to_thread(|| ()).await.unwrap() });
        sim.elapsed()
    });
    assert!(longest.max().unwrap() > Duration::from_secs(10));
}

/// Rows: F38. What overflows the clock is never, and time that passes stops at its end.
#[test]
fn a_job_may_take_for_ever() {
    let sim = Rc::new(Sim::new());
    sim.set_job_time(Duration::MAX..=Duration::MAX);
    sim.run(async {
        sleep(MS).await;
        assert!(timeout(MS, to_thread(|| ())).await.is_err());
    });
    assert_eq!(sim.elapsed(), 2 * MS);
    let deadlock = sim.try_run(async { to_thread(|| ()).await }).unwrap_err();
    assert_eq!(deadlock.waiting().len(), 1);
    let clock = sim.clone();
    sim.run(async move { (0..2).for_each(|_| clock.advance(Duration::MAX)) });
    assert_eq!(sim.elapsed(), Duration::MAX);
}

/// Rows: X24. A task that blocks: time passes for all, and what was due fires late.
#[test]
fn time_passes_while_a_task_holds_up_its_loop() {
    let sim = Rc::new(Sim::new());
    let inner = sim.clone();
    let late = sim.run(async move {
        let timer = selkie::spawn(async {
            let start = EventLoop::current().unwrap().time();
            sleep(MS).await;
            EventLoop::current().unwrap().time() - start
        });
        inner.advance(5 * MS);
        timer.await.unwrap()
    });
    assert_eq!(late, 5 * MS);
}

/// Rows: X24. The loops of threads have their rounds shuffled as any other.
#[test]
fn a_seed_chooses_the_orders_of_a_loop_on_a_thread_too() {
    let order = |sim: Sim| {
        sim.run(async {
            let worker = EventLoop::spawn_thread("worker").unwrap();
            let order = worker.handle().submit(async || {
                let order = Rc::new(RefCell::new(Vec::new()));
                let push = |n| {
                    let order = order.clone();
                    spawn_lazy(async move { order.borrow_mut().push(n) })
                };
                gather((0..4).map(push)).await;
                order.take()
            });
            let order = order.unwrap().await.unwrap();
            worker.ended().await.unwrap();
            order
        })
    };
    assert_eq!(order(Sim::new()), [0, 1, 2, 3]);
    assert_eq!(order(Sim::seeded(3)), order(Sim::seeded(3)));
    assert!((0..8).any(|seed| order(Sim::seeded(seed)) != [0, 1, 2, 3]), "some seed gives another order");
}

/// What would choose the moments?
#[test]
fn faults_need_a_seed() {
    if cfg!(panic = "unwind") {
        assert!(std::panic::catch_unwind(|| Sim::new().with_faults(Faults::new())).is_err());
    }
}
