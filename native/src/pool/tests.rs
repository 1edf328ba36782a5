//! The pool with real threads.

use std::{
    collections::HashSet,
    sync::{Barrier, mpsc},
};

use super::*;

const LONG: Duration = Duration::from_secs(60);

fn pool(max: usize, idle: Duration) -> Pool {
    Pool::new(NonZeroUsize::new(max).unwrap(), idle, "test")
}

/// Waits for what another thread is about to bring about, and fails when it takes absurdly long.
#[track_caller]
fn eventually(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < LONG, "it never happened");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Occupies a thread of the pool until the sender is dropped.
fn occupy(pool: &Pool) -> mpsc::Sender<()> {
    let (free, wait) = mpsc::channel::<()>();
    let (started, is_started) = mpsc::channel();
    pool.submit(Box::new(move || {
        started.send(()).unwrap();
        let _ = wait.recv();
    }))
    .unwrap();
    is_started.recv_timeout(LONG).unwrap();
    free
}

#[test]
fn one_thread_runs_jobs_in_the_order_of_submission() {
    let pool = pool(1, LONG);
    let seen = Arc::new(Mutex::new(Vec::new()));
    for i in 0..1000 {
        let seen = seen.clone();
        pool.submit(Box::new(move || seen.lock().unwrap().push(i))).unwrap();
    }
    pool.shutdown();
    pool.join(Some(LONG)).unwrap();
    assert_eq!(*seen.lock().unwrap(), (0..1000).collect::<Vec<_>>());
}

#[test]
fn the_third_job_of_two_threads_starts_when_a_thread_is_free() {
    let pool = pool(2, LONG);
    let first = occupy(&pool);
    let second = occupy(&pool);
    let (done, is_done) = mpsc::channel();
    pool.submit(Box::new(move || done.send(thread::current().name().unwrap().to_owned()).unwrap())).unwrap();
    assert!(is_done.recv_timeout(Duration::from_millis(50)).is_err());
    assert_eq!(pool.counts(), Counts { threads: 2, idle: 0, queued: 1 });
    drop(second);
    assert_eq!(is_done.recv_timeout(LONG).unwrap(), "test-1");
    drop(first);
}

#[test]
fn jobs_that_wait_for_each_other_all_get_a_thread() {
    for round in 0..50 {
        let size = 8;
        let pool = pool(size, LONG);
        if round % 2 == 1 {
            pool.submit(Box::new(|| ())).unwrap();
        }
        let barrier = Arc::new(Barrier::new(size));
        for _ in 0..size {
            let barrier = barrier.clone();
            pool.submit(Box::new(move || _ = barrier.wait())).unwrap();
        }
        pool.shutdown();
        pool.join(Some(LONG)).unwrap();
    }
}

#[test]
fn an_idle_thread_is_reused_and_the_last_idle_one_first() {
    let pool = pool(4, LONG);
    let frees: Vec<_> = (0..3).map(|_| occupy(&pool)).collect();
    for free in frees {
        let idle = pool.counts().idle;
        drop(free);
        eventually(|| pool.counts().idle == idle + 1);
    }
    for _ in 0..20 {
        let (name, is_name) = mpsc::channel();
        pool.submit(Box::new(move || name.send(thread::current().name().unwrap().to_owned()).unwrap()))
            .unwrap();
        assert_eq!(is_name.recv_timeout(LONG).unwrap(), "test-2");
        eventually(|| pool.counts().idle == 3);
    }
    assert_eq!(pool.counts().threads, 3);
}

#[test]
fn never_more_threads_than_the_maximum() {
    let pool = Arc::new(pool(3, Duration::from_millis(1)));
    let names = Arc::new(Mutex::new(HashSet::new()));
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for i in 0..500 {
                    let (names, running, most) = (names.clone(), running.clone(), most.clone());
                    pool.submit(Box::new(move || {
                        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        names.lock().unwrap().insert(thread::current().name().unwrap().to_owned());
                        thread::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                    }))
                    .unwrap();
                    assert!(pool.counts().threads <= 3);
                    if i % 100 == 0 {
                        thread::sleep(Duration::from_millis(3));
                    }
                }
            });
        }
    });
    pool.shutdown();
    pool.join(Some(LONG)).unwrap();
    assert!(most.load(Ordering::SeqCst) <= 3);
    assert!(names.lock().unwrap().iter().all(|name| name.starts_with("test-")));
}

#[test]
fn a_panicking_job_does_not_cost_a_thread() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped what was thrown (expected by a test)");
        }
    }
    let pool = pool(1, LONG);
    pool.submit(Box::new(|| panic!("a job panics (expected by a test)"))).unwrap();
    pool.submit(Box::new(|| std::panic::panic_any(Bomb))).unwrap();
    let (name, is_name) = mpsc::channel();
    pool.submit(Box::new(move || name.send(thread::current().name().unwrap().to_owned()).unwrap())).unwrap();
    assert_eq!(is_name.recv_timeout(LONG).unwrap(), "test-0");
}

#[test]
fn no_thread_is_left_after_the_idle_limit() {
    let pool = pool(6, Duration::from_millis(200));
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..100_000 {
        let ran = ran.clone();
        pool.submit(Box::new(move || _ = ran.fetch_add(1, Ordering::Relaxed))).unwrap();
    }
    eventually(|| ran.load(Ordering::Relaxed) == 100_000);
    let burst_over = Instant::now();
    eventually(|| pool.counts().threads == 0);
    assert!(burst_over.elapsed() < Duration::from_secs(2), "{:?}", burst_over.elapsed());
    // The pool is as good as new.
    drop(occupy(&pool));
    assert!(pool.counts().threads <= 1);
}

#[test]
fn an_idle_thread_does_not_end_before_its_limit() {
    let pool = pool(1, Duration::from_millis(100));
    let busy = occupy(&pool);
    // The job ends after this, however long after.
    let start = Instant::now();
    drop(busy);
    eventually(|| pool.counts().threads == 0);
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
}

#[test]
fn no_job_is_lost_when_threads_end_all_the_time() {
    let pool = Arc::new(pool(4, Duration::from_micros(50)));
    let ran = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (pool, ran) = (&pool, &ran);
            scope.spawn(move || {
                for i in 0..5000_u64 {
                    let ran = ran.clone();
                    pool.submit(Box::new(move || _ = ran.fetch_add(1, Ordering::Relaxed))).unwrap();
                    if (i + thread) % 64 == 0 {
                        thread::sleep(Duration::from_micros(40 + i % 90));
                    }
                }
            });
        }
    });
    eventually(|| ran.load(Ordering::Relaxed) == 20_000);
    eventually(|| pool.counts() == Counts { threads: 0, idle: 0, queued: 0 });
}

#[test]
fn shutdown_runs_what_is_queued_and_refuses_new_jobs() {
    let pool = pool(1, LONG);
    let free = occupy(&pool);
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..10 {
        let ran = ran.clone();
        pool.submit(Box::new(move || _ = ran.fetch_add(1, Ordering::Relaxed))).unwrap();
    }
    pool.shutdown();
    pool.shutdown();
    let refused = {
        let ran = ran.clone();
        pool.submit(Box::new(move || _ = ran.fetch_add(100, Ordering::Relaxed))).unwrap_err()
    };
    assert!(matches!(refused, Refused::ShutDown(_)));
    let still = pool.join(Some(Duration::from_millis(20))).unwrap_err();
    assert_eq!(still.threads(), 1);
    assert_eq!(ran.load(Ordering::Relaxed), 0);
    drop(free);
    pool.join(None).unwrap();
    assert_eq!(ran.load(Ordering::Relaxed), 10);
    refused.into_job()();
    assert_eq!(ran.load(Ordering::Relaxed), 110);
    assert_eq!(pool.counts(), Counts { threads: 0, idle: 0, queued: 0 });
}

#[test]
fn shutdown_keeps_starting_threads_for_what_is_queued() {
    let pool = pool(4, LONG);
    let barrier = Arc::new(Barrier::new(4));
    for _ in 0..4 {
        let barrier = barrier.clone();
        pool.submit(Box::new(move || _ = barrier.wait())).unwrap();
    }
    pool.shutdown();
    pool.join(Some(LONG)).unwrap();
}

#[test]
fn shutdown_now_gives_back_what_has_not_started() {
    let pool = pool(1, LONG);
    let free = occupy(&pool);
    let seen = Arc::new(Mutex::new(Vec::new()));
    for i in 0..10 {
        let seen = seen.clone();
        pool.submit(Box::new(move || seen.lock().unwrap().push(i))).unwrap();
    }
    pool.shutdown();
    let jobs = pool.shutdown_now();
    assert_eq!(jobs.len(), 10);
    drop(free);
    pool.join(Some(LONG)).unwrap();
    assert!(seen.lock().unwrap().is_empty());
    jobs.into_iter().for_each(|job| job());
    assert_eq!(*seen.lock().unwrap(), (0..10).collect::<Vec<_>>());
    assert!(pool.shutdown_now().is_empty());
}

#[test]
fn shutdown_of_a_pool_without_threads_and_of_one_that_sleeps() {
    let fresh = pool(2, LONG);
    assert!(fresh.join(Some(Duration::ZERO)).is_err(), "not shut down yet");
    fresh.shutdown();
    fresh.join(Some(Duration::ZERO)).unwrap();

    let asleep = pool(2, LONG);
    drop((occupy(&asleep), occupy(&asleep)));
    eventually(|| asleep.counts().idle == 2);
    asleep.shutdown();
    asleep.join(Some(LONG)).unwrap();
}

#[test]
fn join_waits_for_a_shutdown_by_another_thread() {
    let pool = pool(1, LONG);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| pool.join(Some(LONG)));
        thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        let start = Instant::now();
        pool.shutdown();
        waiting.join().unwrap().unwrap();
        assert!(start.elapsed() < LONG / 2, "it was not told");
    });
}

#[test]
fn a_job_that_joins_its_own_pool_gets_an_error() {
    let pool = Arc::new(pool(2, LONG));
    let (answer, is_answer) = mpsc::channel();
    let inner = pool.clone();
    pool.submit(Box::new(move || {
        inner.shutdown();
        answer.send(inner.join(None)).unwrap();
    }))
    .unwrap();
    assert_eq!(is_answer.recv_timeout(LONG).unwrap().unwrap_err().threads(), 1);
    pool.join(Some(LONG)).unwrap();
}

#[test]
fn dropping_a_pool_runs_what_is_queued_without_waiting() {
    let pool = pool(1, LONG);
    let free = occupy(&pool);
    let (ran, is_ran) = mpsc::channel();
    pool.submit(Box::new(move || ran.send(()).unwrap())).unwrap();
    drop(pool);
    assert!(is_ran.try_recv().is_err());
    drop(free);
    is_ran.recv_timeout(LONG).unwrap();
}

#[test]
fn shutdown_in_the_middle_of_submits_runs_exactly_what_was_taken() {
    for round in 0..200 {
        let pool = pool(3, Duration::from_micros(20));
        let (taken, ran) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let mut given_back = 0;
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let ran = ran.clone();
                        let job = Box::new(move || _ = ran.fetch_add(1, Ordering::Relaxed));
                        taken.fetch_add(usize::from(pool.submit(job).is_ok()), Ordering::Relaxed);
                    }
                });
            }
            thread::sleep(Duration::from_micros(round));
            if round % 2 == 0 {
                pool.shutdown();
            } else {
                given_back = pool.shutdown_now().len();
            }
        });
        pool.join(Some(LONG)).unwrap();
        assert_eq!(taken.into_inner(), ran.load(Ordering::Relaxed) + given_back);
    }
}

#[test]
fn a_thread_that_spins_takes_jobs_and_ends_with_the_pool() {
    let pool = Pool::<Job>::owned_by(NonZeroUsize::MIN, LONG, LONG, "test", ());
    for _ in 0..100 {
        let (done, is_done) = mpsc::channel();
        pool.submit(Box::new(move || done.send(()).unwrap())).unwrap();
        is_done.recv_timeout(LONG).unwrap();
    }
    eventually(|| pool.shared.lock().coming);
    thread::sleep(Duration::from_millis(20));
    assert_eq!(pool.counts(), Counts { threads: 1, idle: 0, queued: 0 });
    pool.shutdown();
    pool.join(Some(LONG / 2)).unwrap();
}

#[test]
fn one_thread_spins_and_the_others_sleep() {
    let pool = Pool::<Job>::owned_by(NonZeroUsize::new(3).unwrap(), LONG, LONG, "test", ());
    drop([(); 3].map(|()| occupy(&pool)));
    eventually(|| pool.counts() == Counts { threads: 3, idle: 2, queued: 0 });
    pool.shutdown();
    pool.join(Some(LONG / 2)).unwrap();
}

#[test]
fn the_queue_of_a_burst_is_given_back() {
    let pool = pool(1, LONG);
    let free = occupy(&pool);
    for _ in 0..10 * KEPT_CAPACITY {
        pool.submit(Box::new(|| ())).unwrap();
    }
    drop(free);
    eventually(|| pool.counts().idle == 1);
    assert!(pool.shared.lock().queue.capacity() <= KEPT_CAPACITY);
}

#[test]
fn handles_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<Pool>();
}
