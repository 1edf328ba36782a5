//! Threads that are Workers: what only they can do wrong, and the page that must not wait for them.

#[cfg(target_feature = "atomics")]
use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Wake, Waker},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use selkie::{
    EventLoop, Executor, IsolatedPool, LoopLocal, PoolError, Thread, ThreadPool, current_thread_name,
    os::web::{from_promise, keep_workers},
    sleep, spawn_lazy, timeout, to_thread,
};
#[cfg(target_feature = "atomics")]
use selkie_web::{census, free_for};
use wasm_bindgen::prelude::*;

use crate::harness::{Instant, has_threads, test};

#[wasm_bindgen(module = "/tests/it/workers.js")]
extern "C" {
    /// The one that was made last.
    #[wasm_bindgen(js_name = lastWorker)]
    fn last_worker() -> JsValue;
    fn terminate(worker: &JsValue);
    fn count() -> js_sys::Promise;
    #[wasm_bindgen(js_name = failFrom)]
    fn fail_from(now: bool);
    #[wasm_bindgen(js_name = keepTimers)]
    fn keep_timers(now: bool);
    fn ring();
    #[wasm_bindgen(js_name = hearNothing)]
    fn hear_nothing(now: bool);
    fn withhold();
    fn deliver() -> js_sys::Promise;
    fn paused() -> f64;
    fn isolated() -> bool;
    #[wasm_bindgen(js_name = hasPages)]
    fn has_pages() -> bool;
    #[wasm_bindgen(js_name = ownScript)]
    fn own_script(now: bool);
    #[wasm_bindgen(js_name = lateScript)]
    fn late_script();
    fn say(text: &str);
    #[wasm_bindgen(js_name = noWorker)]
    fn no_worker(promise: bool);
}

// Puts the file beside the others.
#[wasm_bindgen(module = "/tests/it/entry.js")]
extern "C" {
    type NotUsed;
}

#[wasm_bindgen(module = "/tests/it/web.js")]
extern "C" {
    fn passed(ms: f64) -> js_sys::Promise;
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Far more than any of this takes, so that what never ends fails.
const LONG: Duration = Duration::from_secs(30);

/// Works for so many microseconds.
fn pass(micros: u64) {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_micros(micros) {}
}

/// Runs `body` as a task of the page's loop.
async fn on_the_page<F: Future<Output = ()> + 'static>(body: F) {
    if has_threads() {
        spawn_lazy(body).await.unwrap();
    }
}

async fn until(flag: &AtomicBool) {
    comes_true(|| flag.load(Ordering::Acquire)).await;
}

#[cfg(not(target_feature = "atomics"))]
fn free_for(_: Duration) {}

#[cfg(not(target_feature = "atomics"))]
fn census() -> (usize, usize) {
    (0, 0)
}

/// While this lives no Worker is free: each thread has a new one, which is the one that was made last.
struct NoneFree;

impl NoneFree {
    async fn new() -> Self {
        free_for(Duration::ZERO);
        let this = Self;
        comes_true(|| census().0 == 0).await;
        this
    }
}

impl Drop for NoneFree {
    fn drop(&mut self) {
        free_for(Duration::from_secs(5));
    }
}

/// Waits until all Workers have ended, also those that idle threads of pools had.
async fn all_gone() {
    let _none = NoneFree::new().await;
    comes_true(|| census().1 == 0).await;
}

async fn comes_true(is_true: impl Fn() -> bool) {
    let wait = async {
        while !is_true() {
            sleep(ms(1)).await;
        }
    };
    timeout(LONG, wait).await.unwrap();
}

fn trap() {
    core::arch::wasm32::unreachable();
}

/// Has no end, and holds no lock.
fn spin(begun: &AtomicBool) {
    begun.store(true, Ordering::Release);
    loop {
        std::hint::spin_loop();
    }
}

#[test]
async fn there_are_threads_where_memory_is_shared_and_nowhere_else() {
    spawn_lazy(async {
        let refused = [
            EventLoop::spawn_thread("none").err().map(|error| error.to_string()),
            ThreadPool::new(1).err().map(|error| error.to_string()),
            Executor::new().err().map(|error| error.to_string()),
            to_thread(|| ()).await.err().map(|error| error.to_string()),
            keep_workers(0).await.err().map(|error| error.to_string()),
        ];
        for refused in refused {
            assert_eq!(refused.is_none(), isolated());
            assert!(refused.is_none_or(|error| error.contains("`IsolatedPool`")));
        }
    })
    .await
    .unwrap();
}

/// A page that was woken for each of them would have the processor that they need.
///
/// Rows: F43.
#[test]
async fn a_page_pauses_while_its_pool_is_far_behind() {
    on_the_page(async {
        let pool = ThreadPool::new(2).unwrap();
        let short = || {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_micros(20) {}
            1
        };
        let before = paused();
        for few in (0..100).map(|_| pool.submit(short).unwrap()).collect::<Vec<_>>() {
            timeout(LONG, few).await.unwrap().unwrap();
        }
        assert_eq!(paused(), before);
        // Nothing to look for: it waits to be woken.
        let go_on = Arc::new(AtomicBool::new(false));
        let told = go_on.clone();
        let long = move || {
            while !told.load(Ordering::Acquire) {
                std::thread::sleep(ms(1));
            }
        };
        let held: Vec<_> = (0..2).map(|_| pool.submit(long.clone()).unwrap()).collect();
        let behind: Vec<_> = (0..600).map(|_| pool.submit(|| ()).unwrap()).collect();
        sleep(ms(200)).await;
        assert!(paused() < before + 100.0, "{} since {before}", paused());
        go_on.store(true, Ordering::Release);
        for job in held.into_iter().chain(behind) {
            timeout(LONG, job).await.unwrap().unwrap();
        }

        let before = paused();
        let many: Vec<_> = (0..3000).map(|_| pool.submit(short).unwrap()).collect();
        let mut sum = 0;
        for job in many {
            sum += timeout(LONG, job).await.unwrap().unwrap();
        }
        assert_eq!(sum, 3000);
        let pauses = paused();
        assert!(pauses < 0.0 || pauses > before, "{before} {pauses}");
        timeout(LONG, pool.shutdown()).await.unwrap();
        assert_eq!(timeout(LONG, to_thread(|| 1)).await.unwrap().unwrap(), 1);
        assert_eq!(paused(), pauses, "nobody is behind any more");
    })
    .await;
}

/// Nobody waits for each: what is pushed while the page is awake must not be left behind.
///
/// Rows: F43.
#[test]
async fn calls_that_come_thick_all_come_and_in_order() {
    on_the_page(async {
        const CALLS: u64 = 50_000;
        let page = EventLoop::current().unwrap().handle();
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let page = page.clone();
                let seen = Arc::new(AtomicU64::new(0));
                let count = seen.clone();
                let send = move || {
                    for k in 0..CALLS {
                        let seen = seen.clone();
                        page.call_soon_threadsafe(move || {
                            assert_eq!(seen.fetch_add(1, Ordering::Relaxed), k)
                        })
                        .unwrap();
                    }
                };
                (ThreadPool::new(1).unwrap().submit(send).unwrap(), count)
            })
            .collect();
        for (sender, count) in senders {
            sender.await.unwrap();
            let all = async {
                while count.load(Ordering::Relaxed) < CALLS {
                    sleep(ms(1)).await;
                }
            };
            timeout(LONG, all).await.unwrap();
        }
    })
    .await;
}

/// Rows: F45, F72.
#[test]
async fn a_job_whose_worker_is_terminated_is_lost_and_the_pool_goes_on() {
    on_the_page(async {
        let _none = NoneFree::new().await;
        let pool = ThreadPool::new(1).unwrap();
        let begun = Arc::new(AtomicBool::new(false));
        let there = begun.clone();
        let job = pool.submit(move || spin(&there)).unwrap();
        let behind = pool.submit(|| 7).unwrap();
        until(&begun).await;
        terminate(&last_worker());
        let error = timeout(LONG, job).await.unwrap().unwrap_err();
        assert!(error.is_lost(), "{error}");
        assert_eq!(timeout(LONG, behind).await.unwrap().unwrap(), 7);
        assert_eq!(timeout(LONG, pool.submit(|| 8).unwrap()).await.unwrap().unwrap(), 8);
        assert_eq!(pool.threads(), 1);
        timeout(LONG, pool.shutdown()).await.unwrap();
    })
    .await;
}

/// One of two threads ends, by its idle limit or with its Worker, while the other waits for what is queued.
///
/// Rows: F71.
#[test]
async fn a_job_that_another_one_waits_for_finds_a_thread_whenever_it_comes() {
    on_the_page(async {
        let pool = ThreadPool::builder(2).idle_limit(ms(1)).build().unwrap();
        for round in 0..100 {
            let begun = Arc::new(AtomicBool::new(false));
            let (there, inner) = (begun.clone(), pool.clone());
            let first = move || {
                while !begun.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
            };
            let waits = move || {
                there.store(true, Ordering::Release);
                // About when the thread that ran the first one ends.
                pass(900 + round * 4);
                inner.submit(|| 7).unwrap().wait(Some(LONG)).unwrap().unwrap()
            };
            let first = pool.submit(first).unwrap();
            pass(300);
            let waits = pool.submit(waits).unwrap();
            assert_eq!(timeout(LONG, waits).await.unwrap().unwrap(), 7);
            timeout(LONG, first).await.unwrap().unwrap();
            // About when both threads have had nothing to do for so long that they end. One that wakes for that may find the first job,
            // for which the other one was woken, and must not be woken for the second.
            pass(700 + round * 4);
        }

        let _none = NoneFree::new().await;
        let pool = ThreadPool::new(2).unwrap();
        let begun = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let (queued, there) = (Arc::new(AtomicBool::new(false)), begun[0].clone());
        let dies = pool.submit(move || spin(&there)).unwrap();
        until(&begun[0]).await;
        let victim = last_worker();
        let (go_on, there) = (queued.clone(), begun[1].clone());
        let waits = move || {
            there.store(true, Ordering::Release);
            while !go_on.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
        };
        let waits = pool.submit(waits).unwrap();
        until(&begun[1]).await;
        let flag = queued.clone();
        let behind = pool.submit(move || flag.store(true, Ordering::Release)).unwrap();
        terminate(&victim);
        assert!(timeout(LONG, dies).await.unwrap().unwrap_err().is_lost());
        timeout(LONG, behind).await.unwrap().unwrap();
        timeout(LONG, waits).await.unwrap().unwrap();
        timeout(LONG, pool.shutdown()).await.unwrap();
    })
    .await;
}

/// Rows: F45, U19.
#[test]
async fn a_loop_whose_worker_is_terminated_leaves_no_one_waiting() {
    on_the_page(async {
        let _none = NoneFree::new().await;
        let worker = EventLoop::spawn_thread("worker").unwrap();
        let begun = Arc::new(AtomicBool::new(false));
        let there = begun.clone();
        let never = worker.handle().submit(async || std::future::pending::<()>().await).unwrap();
        let held_up = worker.handle().submit(async move || spin(&there)).unwrap();
        let behind = worker.handle().submit(async || ()).unwrap();
        until(&begun).await;
        terminate(&last_worker());
        for owed in [never, held_up, behind] {
            assert!(timeout(LONG, owed).await.unwrap().unwrap_err().is_lost());
        }
        assert!(worker.handle().submit(async || ()).is_err());
        assert!(worker.is_finished());
        assert!(timeout(LONG, worker.ended()).await.unwrap().unwrap_err().is_lost());
        assert_eq!(to_thread(|| 1).await.unwrap(), 1);
    })
    .await;
}

/// Rows: F72.
#[test]
async fn work_that_traps_fails_alone() {
    on_the_page(async {
        let pool = ThreadPool::new(1).unwrap();
        let error = timeout(LONG, pool.submit(trap).unwrap()).await.unwrap().unwrap_err();
        assert!(error.is_trap(), "{error}");
        assert_eq!(timeout(LONG, pool.submit(|| 7).unwrap()).await.unwrap().unwrap(), 7);
        assert_eq!(pool.threads(), 1, "the thread is the same");
        timeout(LONG, pool.shutdown()).await.unwrap();
        assert!(timeout(LONG, to_thread(trap)).await.unwrap().unwrap_err().is_trap());

        let worker = EventLoop::spawn_thread("worker").unwrap();
        for here in [EventLoop::current().unwrap().handle(), worker.handle().clone()] {
            let behind = here.submit(async || sleep(ms(1)).await).unwrap();
            let trapped = here.submit(async || trap()).unwrap();
            assert!(timeout(LONG, trapped).await.unwrap().unwrap_err().is_trap());
            timeout(LONG, behind).await.unwrap().unwrap();
        }
        timeout(LONG, worker.ended()).await.unwrap().unwrap();

        let executor = Executor::with_threads(1).unwrap();
        let trapped = executor.spawn(async { trap() }).unwrap();
        assert!(timeout(LONG, trapped).await.unwrap().unwrap_err().is_trap());
        assert_eq!(timeout(LONG, executor.spawn(async { 5 }).unwrap()).await.unwrap().unwrap(), 5);
        timeout(LONG, executor.shutdown()).await.unwrap();
    })
    .await;
}

/// Rows: F51.
#[test]
async fn a_thread_that_traps_or_is_terminated_leaves_no_one_waiting() {
    on_the_page(async {
        let mut thread = Thread::spawn("reader", trap).unwrap();
        assert!(timeout(LONG, &mut thread).await.unwrap().unwrap_err().is_trap());
        assert!(!thread.is_alive());
        // The Worker is free again, and is taken first.
        let name = timeout(LONG, to_thread(current_thread_name)).await.unwrap().unwrap();
        assert!(name.is_some_and(|name| name.starts_with("selkie-blocking-")));

        let _none = NoneFree::new().await;
        let begun = Arc::new(AtomicBool::new(false));
        let there = begun.clone();
        let mut thread = Thread::spawn("spinner", move || spin(&there)).unwrap();
        until(&begun).await;
        terminate(&last_worker());
        assert!(timeout(LONG, &mut thread).await.unwrap().unwrap_err().is_lost());
        assert!(!thread.is_alive());
    })
    .await;
}

#[test]
async fn a_worker_that_finds_no_file_rejects_what_waits_for_it() {
    on_the_page(async {
        let _none = NoneFree::new().await;
        fail_from(true);
        let worker = EventLoop::spawn_thread("worker").unwrap();
        let owed = worker.handle().submit(async || ()).unwrap();
        let pool = ThreadPool::new(2).unwrap();
        let jobs = [pool.submit(|| ()).unwrap(), pool.submit(|| ()).unwrap()];
        assert!(timeout(LONG, owed).await.unwrap().unwrap_err().is_lost());
        assert!(timeout(LONG, worker.ended()).await.unwrap().unwrap_err().is_lost());
        for job in jobs {
            assert!(timeout(LONG, job).await.unwrap().unwrap_err().is_lost());
        }
        timeout(LONG, pool.shutdown()).await.unwrap();
        fail_from(false);
        assert_eq!(timeout(LONG, to_thread(|| 1)).await.unwrap().unwrap(), 1);
    })
    .await;
}

/// From the page, and by a thread whose note the page finds.
#[test]
async fn what_answers_no_worker_rejects_what_waits_for_it() {
    on_the_page(async {
        for promise in [false, true] {
            let _none = NoneFree::new().await;
            let busy = EventLoop::spawn_thread("busy").unwrap();
            timeout(LONG, busy.started().unwrap()).await.unwrap().unwrap();
            no_worker(promise);
            let here = EventLoop::spawn_thread("none").unwrap();
            assert!(timeout(LONG, here.ended()).await.unwrap().unwrap_err().is_lost());
            let there = busy.handle().submit(async || EventLoop::spawn_thread("none").unwrap().ended().await);
            assert!(timeout(LONG, there.unwrap()).await.unwrap().unwrap().unwrap_err().is_lost());
            own_script(false);
            assert_eq!(timeout(LONG, to_thread(|| 1)).await.unwrap().unwrap(), 1);
            timeout(LONG, busy.ended()).await.unwrap().unwrap();
        }
    })
    .await;
}

/// A page that was held up hears the timer that watches a Worker before what that has said.
#[test]
async fn a_worker_that_has_come_up_is_not_given_up() {
    on_the_page(async {
        let _none = NoneFree::new().await;
        let pool = ThreadPool::new(1).unwrap();
        let begun = Arc::new(AtomicBool::new(false));
        let go_on = Arc::new(AtomicBool::new(false));
        let (there, told) = (begun.clone(), go_on.clone());
        keep_timers(true);
        let job = pool.submit(move || {
            there.store(true, Ordering::Release);
            while !told.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
        });
        keep_timers(false);
        until(&begun).await;
        ring();
        go_on.store(true, Ordering::Release);
        timeout(LONG, job.unwrap()).await.unwrap().unwrap();
        timeout(LONG, pool.shutdown()).await.unwrap();
    })
    .await;
}

/// It is terminated before it could say that it has.
#[test]
async fn a_worker_that_came_up_and_was_never_heard_of_leaves_no_one_waiting() {
    on_the_page(async {
        if !has_pages() {
            return;
        }
        let _none = NoneFree::new().await;
        let begun = Arc::new(AtomicBool::new(false));
        let there = begun.clone();
        keep_timers(true);
        hear_nothing(true);
        let mut thread = Thread::spawn("spinner", move || spin(&there)).unwrap();
        hear_nothing(false);
        keep_timers(false);
        until(&begun).await;
        terminate(&last_worker());
        ring();
        assert!(timeout(LONG, &mut thread).await.unwrap().unwrap_err().is_lost());
    })
    .await;
}

#[test]
async fn a_worker_that_comes_up_after_it_was_given_up_runs_nothing() {
    on_the_page(async {
        for own in [false, has_pages()] {
            let _none = NoneFree::new().await;
            let pool = ThreadPool::new(1).unwrap();
            let ran = Arc::new(AtomicBool::new(false));
            let runs = ran.clone();
            own_script(own);
            keep_timers(true);
            withhold();
            let job = pool.submit(move || runs.store(true, Ordering::Release)).unwrap();
            keep_timers(false);
            own_script(false);
            ring();
            assert!(timeout(LONG, job).await.unwrap().unwrap_err().is_lost());
            timeout(LONG, from_promise(deliver())).await.unwrap().unwrap();
            assert!(!ran.load(Ordering::Acquire));
            assert_eq!(timeout(LONG, pool.submit(|| 1).unwrap()).await.unwrap().unwrap(), 1);
            timeout(LONG, pool.shutdown()).await.unwrap();
        }
    })
    .await;
}

#[test]
async fn a_job_that_calls_javascript_fails_by_the_name_of_what_is_missing() {
    on_the_page(async {
        let error = timeout(LONG, to_thread(js_sys::Math::random)).await.unwrap().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("random") && text.contains("JavaScript"), "{text}");
        assert_eq!(timeout(LONG, to_thread(|| 1)).await.unwrap().unwrap(), 1);
    })
    .await;
}

/// A loop in a Worker is as a native one: it may block, and it is the only one there.
#[test]
async fn threads_of_the_program_may_block() {
    on_the_page(async {
        let job = to_thread(|| {
            let mut inner = ThreadPool::new(1).unwrap().submit(|| 20).unwrap();
            let waited = inner.wait(None).unwrap().unwrap();
            waited
                + selkie::run(async {
                    sleep(ms(1)).await;
                    1
                })
        });
        assert_eq!(timeout(LONG, job).await.unwrap().unwrap(), 21);
    })
    .await;
}

/// Its Worker is none of the pool's any more.
#[test]
async fn a_worker_that_has_left_its_pool_may_wait_for_it() {
    on_the_page(async {
        all_gone().await;
        let pool = ThreadPool::builder(1).idle_limit(ms(1)).build().unwrap();
        let before = timeout(LONG, pool.submit(address_of_own).unwrap()).await.unwrap().unwrap();
        comes_true(|| pool.threads() == 0).await;
        let waits = move || (address_of_own(), pool.join(None));
        let (after, waited) = timeout(LONG, Thread::spawn("waits", waits).unwrap()).await.unwrap().unwrap();
        assert_eq!(after, before, "it was another Worker");
        assert_eq!(waited, Ok(()));
    })
    .await;
}

/// Of what each Worker has one.
fn address_of_own() -> usize {
    thread_local! {
        static HERE: u8 = const { 0 };
    }
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// They have no events of the host, by which an isolated Worker says that it is done.
#[test]
async fn a_thread_of_the_program_is_told_that_it_has_no_isolated_workers() {
    on_the_page(async {
        let job = to_thread(|| IsolatedPool::new(1).map(drop));
        let refused = timeout(LONG, job).await.unwrap().unwrap().unwrap_err();
        assert!(refused.to_string().contains("the page's loop"), "{refused}");
    })
    .await;
}

/// Their stacks are used again: eight of them would be 128 pages of the memory.
#[test]
async fn workers_that_retire_give_their_stacks_back() {
    on_the_page(async {
        let eight = async || {
            let pool = ThreadPool::builder(8).idle_limit(ms(1)).build().unwrap();
            let barrier = Arc::new(std::sync::Barrier::new(8));
            let jobs: Vec<_> = (0..8)
                .map(|_| {
                    let barrier = barrier.clone();
                    pool.submit(move || drop(barrier.wait())).unwrap()
                })
                .collect();
            for job in jobs {
                timeout(LONG, job).await.unwrap().unwrap();
            }
            core::arch::wasm32::memory_size(0)
        };
        let before = eight().await;
        all_gone().await;
        let after = eight().await;
        assert!(after < before + 64, "{before} pages grew to {after}");
    })
    .await;
}

/// How many Workers there are.
async fn workers() -> f64 {
    from_promise(count()).await.unwrap().as_f64().unwrap()
}

/// Waits until there are so many.
async fn come_down_to(wanted: f64) {
    let down = async {
        while workers().await > wanted {
            sleep(ms(5)).await;
        }
    };
    timeout(LONG, down).await.unwrap();
    assert_eq!(workers().await, wanted);
}

/// Both kinds: those that park, and those that have JavaScript.
#[test]
async fn workers_that_are_kept_are_there_and_do_not_retire() {
    on_the_page(async {
        if !has_pages() {
            timeout(LONG, keep_workers(2)).await.unwrap().unwrap();
            drop(keep_workers(0));
            return;
        }
        for own in [false, true] {
            all_gone().await;
            come_down_to(0.0).await;
            own_script(own);
            timeout(LONG, keep_workers(3)).await.unwrap().unwrap();
            assert_eq!(workers().await, 3.0);
            // They are those that threads run in, and when they are too few, another one comes and goes.
            let pool = ThreadPool::builder(4).idle_limit(ms(1)).build().unwrap();
            let barrier = Arc::new(std::sync::Barrier::new(4));
            let jobs: Vec<_> = (0..4)
                .map(|_| {
                    let barrier = barrier.clone();
                    pool.submit(move || drop(barrier.wait())).unwrap()
                })
                .collect();
            for job in jobs {
                timeout(LONG, job).await.unwrap().unwrap();
            }
            assert_eq!(workers().await, 4.0);
            come_down_to(3.0).await;
            // Longer than a free one lives: the three have had their time.
            sleep(ms(1000)).await;
            assert_eq!(workers().await, 3.0);
            timeout(LONG, keep_workers(1)).await.unwrap().unwrap();
            come_down_to(1.0).await;
            drop(keep_workers(0));
            come_down_to(0.0).await;
        }
        own_script(false);
    })
    .await;
}

/// However often it looks.
#[cfg(target_feature = "atomics")]
#[test]
async fn who_waits_for_workers_to_come_up_is_known_once() {
    struct Nobody;
    impl Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }
    on_the_page(async {
        let nobody = Arc::new(Nobody);
        let waker = Waker::from(nobody.clone());
        let mut up = pin!(keep_workers(census().1 + 1));
        for _ in 0..10 {
            let polled = up.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(!matches!(polled, Poll::Ready(Err(_))));
        }
        let known = Arc::strong_count(&nobody) - 2;
        drop(keep_workers(0));
        assert!(known <= 1, "{known} times");
    })
    .await;
}

#[test]
async fn workers_that_cannot_be_kept_are_told() {
    on_the_page(async {
        let many = keep_workers(129).await.unwrap_err();
        assert!(many.to_string().contains("128"), "{many}");
        if has_pages() {
            all_gone().await;
            fail_from(true);
            let failed = timeout(LONG, keep_workers(2)).await.unwrap().unwrap_err();
            fail_from(false);
            assert!(failed.to_string().contains("come up"), "{failed}");
            timeout(LONG, keep_workers(2)).await.unwrap().unwrap();
        }
        drop(keep_workers(0));
    })
    .await;
}

/// In such Workers promises go on between the turns of a loop, and jobs may call what they like.
#[test]
async fn a_script_of_ones_own_brings_javascript_along() {
    on_the_page(async {
        if !has_pages() {
            return;
        }
        all_gone().await;
        own_script(true);
        let number = timeout(LONG, to_thread(js_sys::Math::random)).await.unwrap().unwrap();
        assert!((0.0..1.0).contains(&number));

        let worker = EventLoop::spawn_thread("worker").unwrap();
        let promise = worker.handle().submit(async || {
            let both = selkie::gather([
                spawn_lazy(async { from_promise(passed(5.0)).await.is_ok() }),
                spawn_lazy(async {
                    sleep(ms(5)).await;
                    true
                }),
            ]);
            both.await.into_iter().all(|one| one.unwrap())
        });
        assert!(timeout(LONG, promise.unwrap()).await.unwrap().unwrap());
        let trapped = worker.handle().submit(async || trap()).unwrap();
        assert!(timeout(LONG, trapped).await.unwrap().unwrap_err().is_trap());

        let pool = ThreadPool::new(2).unwrap();
        let inner = pool.clone();
        let outer =
            pool.submit(move || inner.submit(|| 20).unwrap().wait(None).unwrap().unwrap() + 1).unwrap();
        assert_eq!(timeout(LONG, outer).await.unwrap().unwrap(), 21);
        let jobs: Vec<_> = (0..1000).map(|n| pool.submit(move || n).unwrap()).collect();
        for (n, job) in jobs.into_iter().enumerate() {
            assert_eq!(timeout(LONG, job).await.unwrap().unwrap(), n);
        }
        timeout(LONG, pool.shutdown()).await.unwrap();

        // The Worker that a loop has left serves the next one.
        timeout(LONG, worker.ended()).await.unwrap().unwrap();
        let next = EventLoop::spawn_thread("next").unwrap();
        timeout(LONG, next.started().unwrap()).await.unwrap().unwrap();
        timeout(LONG, next.ended()).await.unwrap().unwrap();

        let _none = NoneFree::new().await;
        let begun = Arc::new(AtomicBool::new(false));
        let there = begun.clone();
        let mut thread = Thread::spawn("spinner", move || spin(&there)).unwrap();
        until(&begun).await;
        terminate(&last_worker());
        assert!(timeout(LONG, &mut thread).await.unwrap().unwrap_err().is_lost());
        own_script(false);
        // Jobs of other tests run by `to_thread`, in threads that it keeps for some seconds.
        all_gone().await;
        assert_eq!(timeout(LONG, to_thread(|| 1)).await.unwrap().unwrap(), 1);
    })
    .await;
}

/// What it says to the page, by the words that the crew uses among themselves too, is not for the crew.
#[test]
async fn a_script_of_ones_own_may_say_what_it_likes() {
    on_the_page(async {
        if !has_pages() {
            return;
        }
        all_gone().await;
        own_script(true);
        let pool = ThreadPool::new(1).unwrap();
        for text in ["something", "up", "retired"] {
            let job = pool.submit(move || {
                say(text);
                std::thread::sleep(ms(100));
            });
            timeout(LONG, job.unwrap()).await.unwrap().expect(text);
        }
        own_script(false);
        timeout(LONG, pool.shutdown()).await.unwrap();
        all_gone().await;
    })
    .await;
}

/// It has begun with the program, so it is not ended, but it must not keep others waiting for ever.
#[test]
async fn a_script_of_ones_own_that_does_not_come_up_is_given_up() {
    on_the_page(async {
        if !has_pages() {
            return;
        }
        all_gone().await;
        come_down_to(0.0).await;
        let pool = ThreadPool::new(1).unwrap();
        let ran = Arc::new(AtomicBool::new(false));
        let runs = ran.clone();
        late_script();
        keep_timers(true);
        let job = pool.submit(move || runs.store(true, Ordering::Release)).unwrap();
        keep_timers(false);
        own_script(false);
        while workers().await == 0.0 {
            sleep(ms(1)).await;
        }
        sleep(ms(50)).await;
        ring();
        assert!(timeout(LONG, job).await.unwrap().unwrap_err().is_lost());
        assert_eq!(timeout(LONG, pool.submit(|| 1).unwrap()).await.unwrap().unwrap(), 1);
        timeout(LONG, pool.shutdown()).await.unwrap();
        all_gone().await;
        come_down_to(0.0).await;
        assert!(!ran.load(Ordering::Acquire));
    })
    .await;
}

/// One with JavaScript, too: its Workers would belong to a thread that others cannot reach.
#[test]
async fn threads_of_the_program_use_the_isolated_pools_of_the_page() {
    on_the_page(async {
        selkie::isolated::serve();
        let Ok(pool) = IsolatedPool::new(1) else { return };
        let theirs = pool.clone();
        let job = to_thread(move || theirs.submit(crate::isolated::square(3)).unwrap().wait(None).unwrap());
        assert_eq!(timeout(LONG, job).await.unwrap().unwrap().unwrap(), 9);
        timeout(LONG, pool.shutdown()).await.unwrap();

        let _none = NoneFree::new().await;
        own_script(true);
        let pool = ThreadPool::new(1).unwrap();
        let refused = timeout(LONG, pool.submit(|| IsolatedPool::new(1).map(drop)).unwrap()).await.unwrap();
        own_script(false);
        timeout(LONG, pool.shutdown()).await.unwrap();
        let refused = refused.unwrap().unwrap_err();
        assert!(refused.to_string().contains("the page's loop"), "{refused}");
    })
    .await;
}

struct Traps;

impl Drop for Traps {
    fn drop(&mut self) {
        trap();
    }
}

/// Traps in a job that the caller of the scope runs itself, in its result, and in the function of the scope.
///
/// Rows: F71, F72.
#[test]
async fn a_scope_ends_after_its_jobs_whatever_traps_in_it() {
    on_the_page(async {
        for place in 0..3 {
            let pool = ThreadPool::new(2).unwrap();
            let own = pool.clone();
            let ended = Arc::new(AtomicBool::new(false));
            let (theirs, seen) = (ended.clone(), Arc::new(AtomicBool::new(false)));
            let saw = seen.clone();
            let outer = move || {
                let begun = AtomicBool::new(false);
                own.scope(|scope| {
                    let slow = || {
                        begun.store(true, Ordering::Release);
                        std::thread::sleep(ms(50));
                        theirs.store(true, Ordering::Release);
                    };
                    scope.submit(slow).unwrap().detach();
                    while !begun.load(Ordering::Acquire) {
                        std::hint::spin_loop();
                    }
                    match place {
                        0 => scope.submit(trap).unwrap().detach(),
                        1 => scope.submit(|| Traps).unwrap().detach(),
                        _ => trap(),
                    }
                })
                .unwrap();
                saw.store(theirs.load(Ordering::Acquire), Ordering::Release);
            };
            let result = timeout(LONG, pool.submit(outer).unwrap()).await.unwrap();
            assert!(ended.load(Ordering::Acquire));
            match place {
                2 => assert!(result.unwrap_err().is_trap()),
                _ => assert!(result.is_ok() && seen.load(Ordering::Acquire)),
            }
            timeout(LONG, pool.shutdown()).await.unwrap();
        }
    })
    .await;
}

/// Rows: F72.
#[test]
async fn what_traps_as_it_goes_leaves_no_one_waiting() {
    static LOCAL: LoopLocal<Traps> = LoopLocal::new();
    on_the_page(async {
        let executor = Executor::with_threads(1).unwrap();
        let traps = Traps;
        let ends = executor.spawn(std::future::poll_fn(move |_| {
            let _owned = &traps;
            std::task::Poll::Ready(())
        }));
        assert!(timeout(LONG, ends.unwrap()).await.unwrap().unwrap_err().is_trap());
        timeout(LONG, executor.shutdown()).await.unwrap();

        let worker = EventLoop::spawn_thread("worker").unwrap();
        let set = worker.handle().submit(async || drop(LOCAL.get_or_init(|| Traps)));
        timeout(LONG, set.unwrap()).await.unwrap().unwrap();
        timeout(LONG, worker.ended()).await.unwrap().unwrap();

        let pool = ThreadPool::builder(1)
            .initializer(|| -> Result<(), String> {
                trap();
                Ok(())
            })
            .build()
            .unwrap();
        assert!(timeout(LONG, pool.submit(|| ()).unwrap()).await.unwrap().unwrap_err().is_broken());
        timeout(LONG, pool.shutdown()).await.unwrap();
    })
    .await;
}

/// A program has no more than 128 Workers. A browser takes a minute for so many, and much of its memory.
#[test]
async fn a_job_that_finds_no_worker_is_refused_and_not_counted() {
    on_the_page(async {
        if has_pages() {
            return;
        }
        let before = census().1;
        let go = Arc::new(AtomicBool::new(false));
        let all = ThreadPool::new(128).unwrap();
        for _ in 0..128 {
            let go = go.clone();
            let wait = move || {
                while !go.load(Ordering::Relaxed) {
                    std::thread::sleep(ms(5));
                }
            };
            all.submit(wait).unwrap().detach();
        }
        let pool = ThreadPool::new(1).unwrap();
        let refused = pool.submit(|| ());
        let ended = timeout(ms(2000), pool.shutdown()).await;
        go.store(true, Ordering::Relaxed);
        timeout(LONG, all.shutdown()).await.unwrap();
        assert!(matches!(refused, Err(PoolError::Unavailable(_))), "all Workers are in use");
        ended.expect("the shutdown ends");
        // Gone, and not only retired: the next test needs one.
        let _none = NoneFree::new().await;
        comes_true(|| census().1 <= before).await;
    })
    .await;
}
