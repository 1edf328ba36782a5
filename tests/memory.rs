//! A program that goes on for ever needs no more memory than in its first minute, whatever it does again and again.
//!
//! Each operation is done some thousand times, and what the process then has of memory compared with what it had before.

#![cfg(not(all(target_family = "wasm", target_os = "unknown")))]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "threads are the matter here")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::{Cell, RefCell},
    convert::Infallible,
    future::{Future, pending, poll_fn},
    panic::resume_unwind,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicIsize, Ordering},
        mpsc,
    },
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use futures::FutureExt;
use selkie::{
    AnyTask, Barrier, BoundedSemaphore, Condition, Context, ContextVar, Deferred, Event, EventLoop, Executor,
    Instrument, LifoQueue, Lock, LoopLocal, Next, Priority, PriorityQueue, Queue, RLock, RemoteSet, Resolver,
    Runner, Semaphore, Task, TaskGroup, TaskSet, Thread, ThreadLocal, ThreadPool, Until, Yielder, all_tasks,
    as_completed, catch_cancel, current_task, gather, generator, interval, limit, local, lock_all, run,
    shield, sleep, spawn, spawn_lazy, staggered_race,
    testing::{ManualClock, Sim},
    timeout, timeout_scope, to_thread, try_gather, wait, wait_for, yield_now,
};

struct Counting;

static BYTES: AtomicIsize = AtomicIsize::new(0);

// SAFETY: all is passed on to the system's allocator; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What all operations of one kind may leave together, a few bytes each. A loop keeps some pages for the next tasks, and how many it
/// had at a time depends on the machine.
const MOST: isize = 64 * 1024;

const MILLISECOND: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(1000);

/// The bytes are the process's, so one test runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run_alone(program: impl Future<Output = ()> + 'static) {
    let _alone = alone();
    run(program);
}

fn here(what: &str, count: usize, mut operation: impl FnMut()) {
    steady(what, count, async || operation()).now_or_never().expect("it never waits");
}

/// Does the operation `count` times, after it was done often enough to fill what is kept for later, and looks at what that has left.
async fn steady(what: &str, count: usize, mut operation: impl AsyncFnMut()) {
    for _ in 0..count / 4 {
        operation().await;
    }
    // Other threads may have something to clear away yet.
    let (mut before, mut same) = (BYTES.load(Ordering::Relaxed), 0);
    let start = Instant::now();
    while same < 3 && start.elapsed() < Duration::from_secs(1) {
        pause().await;
        let now = BYTES.load(Ordering::Relaxed);
        same = if now == before { same + 1 } else { 0 };
        before = now;
    }
    for _ in 0..count {
        operation().await;
    }
    let start = Instant::now();
    loop {
        let growth = BYTES.load(Ordering::Relaxed) - before;
        if growth <= MOST {
            return;
        }
        let waited = start.elapsed() > Duration::from_secs(10);
        assert!(!waited, "{what}: {count} of them leave {growth} bytes");
        pause().await;
    }
}

/// Time for other threads, and for a loop to find that it has nothing to do.
async fn pause() {
    match EventLoop::current() {
        Some(_) => sleep(MILLISECOND).await,
        None => thread::sleep(MILLISECOND),
    }
}

async fn yields(count: usize) {
    for _ in 0..count {
        yield_now().await;
    }
}

/// Polls once and drops the future.
async fn once(future: impl IntoFuture) {
    let mut future = pin!(future.into_future());
    poll_fn(|cx| {
        let _ = future.as_mut().poll(cx).is_ready();
        Poll::Ready(())
    })
    .await;
}

/// Fails, without a word of the panic hook.
fn fail() -> ! {
    resume_unwind(Box::new("expected"))
}

fn quiet() {
    EventLoop::current().unwrap().set_exception_handler(Some(Rc::new(|_| ())));
}

#[test]
fn tasks() {
    run_alone(async {
        quiet();
        steady("a task that ends at once", 20_000, async || assert_eq!(spawn(async { 7 }).await.unwrap(), 7))
            .await;
        steady("a task that waits", 20_000, async || spawn(yields(2)).await.unwrap()).await;
        steady("a lazy task", 20_000, async || spawn_lazy(async {}).await.unwrap()).await;
        steady("a detached task", 20_000, async || {
            spawn(yields(1)).detach();
            spawn_lazy(async {}).detach();
            yields(2).await;
        })
        .await;
        steady("a large task", 2_000, async || {
            let large = spawn(async {
                let bytes = [1u8; 10_000];
                yields(1).await;
                bytes.len()
            });
            large.await.unwrap();
        })
        .await;
        steady("a handle that is dropped after the end", 20_000, async || {
            let task = spawn(async { vec![0u8; 100] });
            let any = task.any();
            drop(task);
            yields(1).await;
            drop(any);
        })
        .await;
        steady("a failure", 2_000, async || assert!(spawn(async { fail() }).await.is_err())).await;
        steady("a failure that nobody sees", 2_000, async || {
            spawn_lazy(async { fail() }).detach();
            yields(2).await;
        })
        .await;
        steady("a destructor that fails", 2_000, async || {
            struct Fails;
            impl Drop for Fails {
                fn drop(&mut self) {
                    resume_unwind(Box::new("expected"));
                }
            }
            let task = spawn(async {
                let _fails = Fails;
                pending::<()>().await;
            });
            task.cancel();
            assert!(task.await.is_err());
        })
        .await;
        steady("a task of a builder", 20_000, async || {
            let builder = Task::builder().name("named").priority(Priority::Background);
            let task = builder.context(Context::current()).lazy().spawn(yields(1));
            task.set_name(String::from("renamed"));
            task.await.unwrap();
        })
        .await;
        steady("a callback", 20_000, async || {
            let task = spawn(yields(1));
            task.on_done(|_| ());
            task.on_done(|_| ());
            task.await.unwrap();
        })
        .await;
        steady("a look at all tasks", 5_000, async || {
            drop((all_tasks(), current_task().unwrap().name(), current_task().unwrap().context()));
        })
        .await;

        let forever = spawn(pending::<()>());
        steady("a wait for a task that goes on", 20_000, async || {
            once(&forever).await;
            once(forever.any().ended()).await;
            assert!(timeout(Duration::ZERO, &forever).await.is_err());
        })
        .await;
        steady("a task within the context of another", 20_000, async || {
            let context = forever.any().context();
            Task::builder().context(context).spawn(async {}).await.unwrap();
        })
        .await;
    });
}

#[test]
fn cancelled_tasks() {
    run_alone(async {
        quiet();
        steady("before the start", 10_000, async || {
            let task = spawn_lazy(pending::<()>());
            task.cancel();
            assert!(task.await.unwrap_err().is_cancelled());
        })
        .await;
        steady("while it waits", 10_000, async || {
            let task = spawn(pending::<()>());
            task.cancel_with(String::from("enough"));
            assert!(task.await.unwrap_err().is_cancelled());
        })
        .await;
        steady("while it sleeps, and detached", 10_000, async || {
            let task = spawn(sleep(LONG));
            task.cancel();
            drop(task);
            yields(2).await;
        })
        .await;
        steady("an owner that goes", 10_000, async || {
            once(spawn(sleep(LONG))).await;
            yields(2).await;
        })
        .await;
        steady("caught", 10_000, async || {
            let task = spawn(async { catch_cancel(pending::<()>()).await.is_err() });
            task.cancel_with("caught");
            assert!(task.await.unwrap());
        })
        .await;
        steady("caught and raised again", 10_000, async || {
            let task = spawn(async {
                if let Err(cancelled) = catch_cancel(pending::<()>()).await {
                    cancelled.resume().await;
                }
            });
            task.cancel();
            assert!(task.await.unwrap_err().is_cancelled());
        })
        .await;
        steady("taken back", 10_000, async || {
            let task = spawn(yields(2));
            task.cancel_with(String::from("no"));
            task.uncancel();
            task.await.unwrap();
        })
        .await;
        let over = Rc::new(Cell::new(false));
        let forever = spawn({
            let over = over.clone();
            async move {
                while !over.get() {
                    let _ = catch_cancel(pending::<()>()).await;
                }
            }
        });
        steady("again and again", 10_000, async || {
            forever.cancel_with(String::from("again"));
            yields(1).await;
        })
        .await;
        over.set(true);
        forever.cancel();
    });
}

#[test]
fn results_that_somebody_sets() {
    run_alone(async {
        steady("set", 10_000, async || {
            let (resolver, deferred) = Deferred::<_>::new();
            deferred.on_done(|_| ());
            spawn_lazy(async move { resolver.set_result(vec![0u8; 100]).unwrap() }).detach();
            deferred.await.unwrap();
        })
        .await;
        steady("failed", 10_000, async || {
            let (resolver, deferred): (Resolver<(), u32>, _) = Deferred::new();
            resolver.set_exception(7).unwrap();
            assert!(deferred.await.is_err());
        })
        .await;
        steady("cancelled", 10_000, async || {
            let (resolver, deferred) = Deferred::<()>::new();
            once(&deferred).await;
            deferred.cancel();
            assert!(resolver.is_finished());
            assert!(deferred.await.is_err());
        })
        .await;
        steady("dropped", 10_000, async || {
            let (resolver, deferred) = Deferred::<()>::new();
            deferred.on_done(|_| ());
            drop(resolver);
            assert!(deferred.await.is_err());
            let (resolver, deferred) = Deferred::<()>::new();
            deferred.on_done(|_| ());
            drop(deferred);
            drop(resolver);
        })
        .await;
        steady("from a future", 10_000, async || {
            Deferred::<_>::from_future(async { Ok(7) }).await.unwrap();
            drop(Deferred::<(), Infallible>::from_future(pending()));
            yields(2).await;
        })
        .await;
        let (_resolver, never) = Deferred::<()>::new();
        steady("waited for in vain", 10_000, async || {
            once(&never).await;
            assert!(timeout(Duration::ZERO, &never).await.is_err());
        })
        .await;
    });
}

#[test]
fn many_at_once() {
    run_alone(async {
        quiet();
        let some = || (0..5).map(|number| async move { yields(number).await });
        let never = || (0..5).map(|_| pending::<()>());
        steady("gather", 4_000, async || {
            assert_eq!(gather(some()).await.len(), 5);
            let _ = gather((async { 1 }, yields(1))).await;
            assert_eq!(gather(limit(2, some())).await.len(), 5);
        })
        .await;
        steady("gather that is dropped", 4_000, async || {
            once(gather(never())).await;
            once(gather(limit(2, never()))).await;
            drop(gather(never()));
            yields(2).await;
        })
        .await;
        steady("gather that is cancelled", 4_000, async || {
            let mut all = gather(never());
            all.cancel();
            assert_eq!(all.await.len(), 5);
        })
        .await;
        steady("try_gather", 4_000, async || {
            let one = |fails: bool| async move {
                yields(1).await;
                if fails { Err("no") } else { Ok(()) }
            };
            assert!(try_gather((0..5).map(|n| one(n == 7))).await.is_ok());
            assert!(try_gather((0..5).map(|n| one(n == 2))).await.is_err());
            assert!(try_gather(limit(2, (0..5).map(|n| one(n == 2)))).await.is_err());
        })
        .await;
        steady("wait", 4_000, async || {
            let mut tasks: TaskSet<()> = some().map(spawn).collect();
            wait(&mut tasks, Until::FirstCompleted).await;
            wait(&mut tasks, Until::All).timeout(Duration::ZERO).await;
            once(wait(&mut tasks, Until::All)).await;
            tasks.cancel_all();
            wait(&mut tasks, Until::All).await;
        })
        .await;
        let mut tasks = TaskSet::new();
        tasks.spawn(pending::<()>());
        steady("a set that goes on", 4_000, async || {
            let id = tasks.spawn(yields(1)).id();
            once(tasks.next_done()).await;
            tasks.spawn(yields(1));
            tasks.next_done().await.unwrap();
            let ended = tasks.next_done().await.unwrap();
            assert!(ended.is_finished() && tasks.remove(id).is_none());
            let id = tasks.spawn(async {}).id();
            assert!(tasks.remove(id).is_some());
        })
        .await;
        steady("as_completed", 4_000, async || {
            let mut all = as_completed(some());
            while all.next_done().await.is_some() {}
            let mut half = as_completed(some());
            for _ in 0..2 {
                half.next_done().await.unwrap();
            }
            drop(half);
            let mut late = as_completed(never()).timeout(Duration::ZERO);
            while let Some(Ok(_)) = late.next_done().await {}
            late.into_set().cancel_all();
            yields(2).await;
        })
        .await;
        steady("staggered_race", 2_000, async || {
            let quick = || async { Ok::<_, u32>(1) };
            assert!(staggered_race([quick, quick], LONG).await.winner.is_some());
            let slow =
                |first: bool| move || async move { if first { pending().await } else { Ok::<_, u32>(2) } };
            assert!(staggered_race([slow(true), slow(false)], Duration::ZERO).await.winner.is_some());
            once(staggered_race([slow(true), slow(true)], Duration::ZERO)).await;
            yields(3).await;
        })
        .await;
    });
}

#[test]
fn groups() {
    run_alone(async {
        quiet();
        steady("that end", 5_000, async || {
            TaskGroup::scope_ok(async |group| {
                group.spawn_ok(yields(1)).detach();
                group.spawn_ok(yields(2)).await.unwrap();
            })
            .await
            .unwrap();
        })
        .await;
        steady("that fail", 5_000, async || {
            let failed = TaskGroup::scope(async |group| {
                group.spawn(pending::<Result<(), _>>()).detach();
                group.spawn(async { Err::<(), _>(String::from("no")) }).detach();
                yields(2).await;
            });
            assert!(failed.await.is_err());
        })
        .await;
        steady("that are cancelled", 5_000, async || {
            let cancelled = TaskGroup::scope_ok(async |group| {
                group.spawn_ok(pending::<()>()).detach();
                group.cancel();
                yields(2).await;
            });
            assert!(cancelled.await.unwrap_err().is_cancelled());
        })
        .await;
        steady("that are dropped", 5_000, async || {
            once(TaskGroup::scope_ok(async |group| {
                group.spawn_ok(pending::<()>()).detach();
                pending::<()>().await;
            }))
            .await;
            yields(2).await;
        })
        .await;
        TaskGroup::scope_ok(async |group| {
            steady("children of one that goes on", 10_000, async || {
                group.spawn_ok(yields(1)).detach();
                let task = group.spawn_ok(pending::<()>());
                task.cancel();
                assert!(task.await.is_err());
                group.spawn_ok(async { fail() }).detach();
            })
            .await;
        })
        .await
        .ok();
    });
}

#[test]
fn a_burst_of_sleeps_leaves_its_memory_to_the_next_one_until_the_loop_waits() {
    const COUNT: usize = 50_000;
    run_alone(async {
        let bytes = || BYTES.load(Ordering::Relaxed);
        let burst = || {
            poll_fn(|cx| {
                let mut sleeps: Vec<_> = (0..COUNT).map(|_| sleep(LONG)).collect();
                assert!(sleeps.iter_mut().all(|sleep| Pin::new(sleep).poll(cx).is_pending()));
                Poll::Ready(())
            })
        };
        let before = bytes();
        burst().await;
        let first = bytes();
        assert!(first - before > 40 * COUNT as isize, "the nodes are kept");
        burst().await;
        assert!(bytes() - first < MOST, "and used again");
        pause().await;
        assert!(bytes() - before < 10 * COUNT as isize, "{} bytes are left", bytes() - before);
    });
}

#[test]
fn timers() {
    run_alone(async {
        quiet();
        steady("a sleep that is dropped", 20_000, async || {
            drop(sleep(LONG));
            once(sleep(LONG)).await;
            let mut first = sleep(LONG);
            let mut second = pin!(sleep(LONG));
            once(&mut first).await;
            once(second.as_mut()).await;
            first.reset(LONG * 2);
            once(&mut first).await;
        })
        .await;
        let mut later = sleep(LONG);
        steady("a sleep that is set again", 20_000, async || {
            later.reset(later.deadline().unwrap() + MILLISECOND);
            once(&mut later).await;
        })
        .await;
        steady("a sleep that fires", 300, async || sleep(Duration::from_micros(10)).await).await;
        steady("tasks that sleep", 50, async || {
            let tasks: Vec<_> =
                (0..100).map(|micros| spawn(sleep(Duration::from_micros(micros * 20)))).collect();
            gather(tasks).await;
        })
        .await;
        steady("a timeout", 10_000, async || {
            timeout(LONG, yields(1)).await.unwrap();
            assert!(timeout(Duration::ZERO, pending::<()>()).await.is_err());
            once(timeout(LONG, pending::<()>())).await;
        })
        .await;
        steady("a scope with a timeout", 10_000, async || {
            let moved = timeout_scope(LONG, async |limit| {
                limit.reschedule(None);
                yields(1).await;
                limit
            });
            drop(moved.await.unwrap());
            let over = timeout_scope(LONG, async |limit| {
                limit.reschedule(Some(Duration::ZERO));
                pending::<()>().await;
            });
            assert!(over.await.is_err());
        })
        .await;
        steady("wait_for", 10_000, async || {
            wait_for(yields(1), LONG).await.unwrap();
            assert!(wait_for(pending::<()>(), Duration::ZERO).await.is_err());
            once(wait_for(pending::<()>(), LONG)).await;
            yields(2).await;
        })
        .await;
        steady("an interval", 200, async || {
            let mut ticks = interval(Duration::from_micros(10));
            for _ in 0..3 {
                ticks.tick().await;
            }
            let mut slow = interval(LONG);
            once(slow.tick()).await;
        })
        .await;
        let event_loop = EventLoop::current().unwrap();
        steady("callbacks", 200, async || {
            let (fires, fired) = Deferred::<()>::new();
            drop(event_loop.call_soon(|| ()).unwrap());
            drop(event_loop.call_at(Duration::ZERO, || ()).unwrap());
            drop(event_loop.call_later(Duration::ZERO, move || fires.set_result(()).unwrap()).unwrap());
            event_loop.handle().call_soon_threadsafe(|| ()).unwrap();
            fired.await.unwrap();
            yields(1).await;
        })
        .await;
        steady("callbacks that are cancelled", 10_000, async || {
            event_loop.call_soon(|| ()).unwrap().cancel();
            event_loop.call_later(LONG, || ()).unwrap().cancel();
            event_loop.handle().call_soon_threadsafe(|| ()).unwrap().cancel();
            yields(2).await;
        })
        .await;
        steady("callbacks that fail", 1_000, async || {
            drop(event_loop.call_soon(|| fail()).unwrap());
            yields(2).await;
        })
        .await;
    });
}

#[test]
fn scopes_and_values() {
    static NUMBER: ContextVar<u64> = ContextVar::new();
    static CACHE: LoopLocal<Vec<u8>> = LoopLocal::new();
    run_alone(async {
        quiet();
        steady("shield", 10_000, async || {
            shield(yields(1)).await.unwrap();
            once(shield(yields(1))).await;
            yields(2).await;
            let outer = spawn(async { shield(yields(3)).await });
            outer.cancel();
            assert!(outer.await.is_err());
            yields(3).await;
        })
        .await;
        steady("catch_cancel", 10_000, async || {
            catch_cancel(yields(1)).await.unwrap();
            once(catch_cancel(pending::<()>())).await;
        })
        .await;
        steady("a variable of the context", 10_000, async || {
            NUMBER.set(1);
            let _inner = NUMBER.scope(2);
            assert_eq!(spawn(async { NUMBER.set(3) }).await.unwrap(), Some(2));
            let context = Context::current();
            spawn(async move { context.run(|| NUMBER.get()) }).await.unwrap();
            let own = ContextVar::new();
            let _scope = own.scope(String::from("dropped with its scope"));
        })
        .await;
        steady("a value of the loop", 10_000, async || {
            CACHE.get_or_init(|| vec![0; 100]);
            CACHE.set(vec![0; 100]);
            CACHE.clear();
            drop(CACHE.scope(|| vec![0; 100]).unwrap());
        })
        .await;
        steady("a value of a thread", 10_000, async || {
            let local = ThreadLocal::new();
            drop(local.scope(|| vec![0; 100]).unwrap());
            local.get_or_init(|| vec![0; 100]);
            local.clear();
        })
        .await;
        steady("a generator", 10_000, async || {
            let mut steps = generator(async |outside: Yielder<u32>| {
                for number in 0.. {
                    outside.give(number).await;
                }
            });
            assert_eq!(steps.by_ref().take(3).count(), 3);
            steps.close();
            let mut short = generator(async |outside: Yielder<u32, u32>| {
                yields(1).await;
                outside.give(1).await
            });
            short.prime_async().await;
            assert_eq!(short.send_async(5).await.returned(), Some(5));
        })
        .await;
    });
}

macro_rules! queue {
    ($name:literal, $queue:ty, $item:expr) => {
        let queue = <$queue>::bounded(2);
        steady(concat!("items of ", $name), 5_000, async || {
            let getter = spawn({
                let queue = queue.clone();
                async move {
                    for _ in 0..4 {
                        queue.get().await.unwrap();
                        queue.task_done();
                    }
                }
            });
            for _ in 0..4 {
                queue.put($item).await.unwrap();
            }
            queue.join().await;
            getter.await.unwrap();
        })
        .await;
        steady(concat!("those who wait in vain at ", $name), 5_000, async || {
            once(queue.get()).await;
            assert!(timeout(Duration::ZERO, queue.get()).await.is_err());
            let getter = spawn({
                let queue = queue.clone();
                async move { drop(queue.get().await) }
            });
            yields(1).await;
            getter.cancel();
            assert!(getter.await.is_err());
            queue.try_put($item).unwrap();
            queue.try_put($item).unwrap();
            once(queue.put($item)).await;
            assert!(queue.try_put($item).is_err());
            once(queue.join()).await;
            for _ in 0..2 {
                queue.try_get().unwrap();
                queue.task_done();
            }
        })
        .await;
        steady(concat!("made and dropped: ", $name), 2_000, async || {
            let queue = <$queue>::bounded(3);
            let waiting = spawn({
                let queue = queue.clone();
                async move { queue.get().await.is_ok() }
            });
            queue.shutdown(true);
            assert!(!waiting.await.unwrap());
            let queue = <$queue>::bounded(3);
            for _ in 0..3 {
                queue.put($item).await.unwrap();
            }
        })
        .await;
    };
}

#[test]
fn queues() {
    run_alone(async {
        queue!("Queue", Queue<Vec<u8>>, vec![0u8; 10]);
        queue!("LifoQueue", LifoQueue<Vec<u8>>, vec![0u8; 10]);
        queue!("PriorityQueue", PriorityQueue<u8, Vec<u8>>, (1, vec![0u8; 10]));
        queue!("local::Queue", local::Queue<Vec<u8>>, vec![0u8; 10]);
        macro_rules! long {
            ($queue:expr, $item:expr) => {
                let queue = $queue;
                steady("a queue that is long now and then", 50, async || {
                    for number in 0..300u64 {
                        queue.try_put($item(number)).unwrap();
                    }
                    for _ in 0..300 {
                        queue.try_get().unwrap();
                    }
                })
                .await;
            };
        }
        long!(Queue::unbounded(), |number| number);
        long!(LifoQueue::unbounded(), |number| number);
        long!(PriorityQueue::unbounded(), |number| (number * 7 % 300, number));
    });
}

#[test]
fn locks() {
    run_alone(async {
        let lock = Arc::new(Lock::new(0));
        steady("a lock", 5_000, async || {
            let mut guard = lock.lock().await;
            *guard += 1;
            let waiter = spawn({
                let lock = lock.clone();
                async move { *lock.lock().await += 1 }
            });
            once(lock.lock()).await;
            assert!(timeout(Duration::ZERO, lock.lock()).await.is_err());
            assert!(lock.try_lock().is_none());
            drop(guard);
            waiter.await.unwrap();
            drop(lock.clone().lock_owned().await);
        })
        .await;
        let plain = Lock::new(());
        steady("a lock that is released by hand", 5_000, async || {
            plain.acquire().await;
            once(plain.acquire()).await;
            plain.release().unwrap();
        })
        .await;
        steady("locks that are made and dropped, one within the other", 5_000, async || {
            let locks = [Lock::new(1), Lock::new(2)];
            let first = locks[0].lock().await;
            let _outer = lock.lock().await;
            let _second = locks[1].lock().await;
            drop(first);
            let local = Lock::local(1);
            drop(local.lock().await);
        })
        .await;
        let reentrant = Arc::new(RLock::new(0));
        steady("an RLock", 5_000, async || {
            let outer = reentrant.lock().await;
            let inner = reentrant.lock().await;
            let waiter = spawn({
                let reentrant = reentrant.clone();
                async move { drop(reentrant.lock().await) }
            });
            drop(inner);
            waiter.cancel();
            drop(outer);
            let _ = waiter.await;
            drop(RLock::new(1).lock().await);
        })
        .await;
        let pair = Rc::new([Lock::new(1), Lock::new(2)]);
        let both = |pair: &Rc<[Lock<i32>; 2]>| {
            let pair = pair.clone();
            spawn(async move {
                let [a, b] = &*pair;
                drop(lock_all([a, b]).await);
            })
        };
        steady("lock_all", 5_000, async || {
            let [a, b] = &*pair;
            let held = lock_all([a, b]).await.unwrap();
            assert!(lock_all([b, a]).await.is_err());
            let (waiter, given_up) = (both(&pair), both(&pair));
            yields(1).await;
            given_up.cancel();
            drop(held);
            waiter.await.unwrap();
            assert!(given_up.await.is_err());
            both(&Rc::new([Lock::new(1), Lock::new(2)])).await.unwrap();
        })
        .await;
        let semaphore = Arc::new(Semaphore::new(2));
        let bounded = BoundedSemaphore::new(1);
        steady("a semaphore", 5_000, async || {
            let both = semaphore.acquire_many(2).await;
            once(semaphore.acquire()).await;
            let waiter = spawn(semaphore.clone().acquire_owned());
            drop(both);
            drop(waiter.await.unwrap());
            let _one = bounded.acquire().await;
            once(bounded.acquire()).await;
            drop(Semaphore::local(1).acquire().await);
        })
        .await;
        let condition = Arc::new(Condition::new());
        steady("a condition", 5_000, async || {
            let waiter = spawn({
                let (condition, lock) = (condition.clone(), lock.clone());
                async move { drop(condition.wait(lock.lock().await).await) }
            });
            let given_up = spawn({
                let (condition, lock) = (condition.clone(), lock.clone());
                async move { drop(condition.wait_for(lock.lock().await, |_| false).await) }
            });
            yields(2).await;
            condition.notify_all();
            waiter.await.unwrap();
            given_up.cancel();
            assert!(given_up.await.is_err());
        })
        .await;
        let event = Arc::new(Event::new());
        steady("an event", 5_000, async || {
            event.clear();
            once(event.wait()).await;
            let waiter = spawn({
                let event = event.clone();
                async move { event.wait().await }
            });
            event.set();
            waiter.await.unwrap();
        })
        .await;
        let barrier = Arc::new(Barrier::new(2));
        steady("a barrier", 5_000, async || {
            let other = spawn({
                let barrier = barrier.clone();
                async move { barrier.wait().await.is_ok() }
            });
            barrier.wait().await.unwrap();
            assert!(other.await.unwrap());
            once(barrier.wait()).await;
            barrier.reset();
        })
        .await;
    });
}

#[test]
fn threads_that_wait() {
    let _alone = alone();
    let short = Some(Duration::from_micros(5));
    let queue = Queue::bounded(1);
    here("for a queue", 1_000, || {
        assert!(queue.get_blocking(short).is_err());
        queue.put_blocking(1, short).unwrap();
        assert!(queue.put_blocking(2, short).is_err() && queue.join_blocking(short).is_err());
        assert_eq!(queue.get_blocking(None).unwrap(), 1);
        queue.task_done();
    });
    let (lock, reentrant, condition) = (Lock::new(1), RLock::new(1), Condition::new());
    here("for a lock", 1_000, || {
        let guard = lock.lock_blocking(None).unwrap();
        assert!(lock.lock_blocking(short).is_err());
        let (guard, notified) = condition.wait_blocking(guard, short);
        assert!(notified.is_err());
        drop(guard);
        let _outer = reentrant.lock_blocking(None).unwrap();
        let _inner = reentrant.lock_blocking(short).unwrap();
    });
    let (semaphore, event, barrier) = (Semaphore::new(1), Event::new(), Barrier::new(2));
    here("for anything else", 1_000, || {
        let _permit = semaphore.acquire_blocking(short).unwrap();
        assert!(semaphore.acquire_blocking(short).is_err() && event.wait_blocking(short).is_err());
        assert!(barrier.wait_blocking(short).is_err());
        barrier.reset();
    });
    let (thread, executor) = (EventLoop::spawn_thread("owes").unwrap(), Executor::with_threads(1).unwrap());
    let of_loop = thread.handle().submit(async || pending::<()>().await).unwrap();
    for mut task in [of_loop, executor.spawn(pending::<()>()).unwrap()] {
        here("for what goes on", 1_000, || {
            assert!(task.wait(short).is_err());
            assert!((&mut task).now_or_never().is_none());
        });
        task.cancel();
    }
    thread.join(None).unwrap();
}

#[test]
fn work_of_another_loop() {
    let _alone = alone();
    let thread = EventLoop::spawn_thread("other").unwrap();
    let handle = thread.handle().clone();
    handle.submit(async || quiet()).unwrap().wait(None).unwrap().unwrap();
    let same = || handle.submit(async || ()).unwrap().wait(None).unwrap().unwrap();
    here("read", 5_000, || {
        assert_eq!(handle.submit(async || 7).unwrap().wait(None).unwrap().unwrap(), 7);
        let mut task = handle.submit_future(async { yields(2).await }).unwrap();
        task.on_done(|_| ());
        task.wait(None).unwrap().unwrap();
    });
    here("never read", 5_000, || {
        let task = handle.submit(async || vec![0u8; 100]).unwrap();
        handle.submit(async || vec![0u8; 100]).unwrap().detach();
        same();
        drop(task);
    });
    here("cancelled", 5_000, || {
        let tasks = [(); 2].map(|()| handle.submit(async || pending::<()>().await).unwrap());
        tasks[0].cancel();
        same();
        tasks[1].cancel();
        for mut task in tasks {
            assert!(task.wait(None).unwrap().is_err());
        }
        let task = handle.submit(async || pending::<()>().await).unwrap();
        task.cancel();
        drop(task);
        same();
    });
    here("failed", 1_000, || {
        assert!(handle.submit(async || fail()).unwrap().wait(None).unwrap().is_err());
        handle.submit(async || fail()).unwrap().detach();
        same();
    });
    here("waited for in vain", 200, || {
        let mut task = handle.submit(async || pending::<()>().await).unwrap();
        assert!(task.wait(Some(Duration::from_micros(10))).is_err());
        task.cancel();
    });
    here("callbacks", 5_000, || {
        handle.call_soon_threadsafe(|| ()).unwrap();
        handle.call_soon_threadsafe(|| ()).unwrap().cancel();
        same();
    });
    let queue = Arc::new(Queue::bounded(1));
    let event = Arc::new(Event::new());
    here("a queue and an event between them", 3_000, || {
        let (sender, signal) = (queue.clone(), event.clone());
        event.clear();
        let task = handle.submit(async move || {
            for _ in 0..3 {
                sender.put(1).await.unwrap();
            }
            signal.set();
        });
        for _ in 0..3 {
            queue.get_blocking(None).unwrap();
        }
        event.wait_blocking(None).unwrap();
        task.unwrap().wait(None).unwrap().unwrap();
    });
    let other = handle.clone();
    run(async move {
        steady("awaited", 3_000, async || {
            other.submit(async || 7).unwrap().await.unwrap();
            once(other.submit(async || 7).unwrap()).await;
            let task = other.submit(async || pending::<()>().await).unwrap();
            task.cancel();
            assert!(task.await.is_err());
            let mut never = other.submit(async || pending::<()>().await).unwrap();
            once(&mut never).await;
            never.cancel();
            assert!(never.await.is_err());
            yields(1).await;
        })
        .await;
        // A waker of this loop that lives on the other one, when the task has ended long ago.
        steady("wakers that come late", 3_000, async || {
            let (waker, wakers) = mpsc::channel();
            spawn(poll_fn(move |cx| {
                waker.send(cx.waker().clone()).unwrap();
                Poll::Ready(())
            }))
            .await
            .unwrap();
            let wakers: Vec<_> = wakers.iter().collect();
            other
                .submit(async move || wakers.into_iter().for_each(|waker| waker.wake()))
                .unwrap()
                .await
                .unwrap();
            // Such a cell comes back at a turn, and the result may have been there at once.
            yields(1).await;
        })
        .await;
    });
    thread.join(None).unwrap();
}

#[test]
fn work_of_threads() {
    let _alone = alone();
    run(async {
        steady("to_thread", 2_000, async || {
            assert_eq!(to_thread(|| 7).await.unwrap(), 7);
            once(to_thread(|| vec![0u8; 100])).await;
            drop(to_thread(|| vec![0u8; 100]));
        })
        .await;
        steady("to_thread that fails", 500, async || assert!(to_thread(|| fail()).await.is_err())).await;
    });
    let pool = ThreadPool::new(2).unwrap();
    here("jobs", 3_000, || {
        assert_eq!(pool.submit(|| 7).unwrap().wait(None).unwrap().unwrap(), 7);
        pool.submit(|| vec![0u8; 100]).unwrap().detach();
        let task = pool.submit(|| vec![0u8; 100]).unwrap();
        task.on_done(|_| ());
        let cancelled = pool.submit(|| 8).unwrap();
        cancelled.cancel();
        drop((task, cancelled));
    });
    here("jobs that fail", 500, || {
        assert!(pool.submit(|| fail()).unwrap().wait(None).unwrap().is_err());
        pool.submit(|| fail()).unwrap().detach();
    });
    here("map", 500, || {
        let mut all = pool.map(0..5, |number| number);
        while all.wait_next(None).unwrap().is_some() {}
        let mut half = pool.map(0..5, |number| number);
        half.wait_next(None).unwrap();
    });
    here("a scope", 1_000, || {
        let mut sum = [0; 3];
        pool.scope(|scope| {
            for one in &mut sum {
                scope.submit(move || *one += 1).unwrap().detach();
            }
        })
        .unwrap();
        assert_eq!(sum, [1; 3]);
    });
    here("a scope within a job", 500, || {
        let inner = pool.clone();
        let mut job =
            pool.submit(move || inner.scope(|scope| scope.submit(|| 1).unwrap().detach()).unwrap()).unwrap();
        job.wait(None).unwrap().unwrap();
    });
    let inner = pool.clone();
    let scope = pool.submit(move || {
        inner.scope(|scope| {
            let mut count = 0;
            here("a scope that goes on", 2_000, || {
                let job = scope.submit(|| [1u8; 100]).unwrap();
                while !job.is_finished() {
                    thread::yield_now();
                }
                count += 1;
            });
            count
        })
    });
    assert!(scope.unwrap().wait(None).unwrap().unwrap().unwrap() > 2_000);
    let ending = ThreadPool::new(1).unwrap();
    let (free, wait) = mpsc::channel::<()>();
    ending.submit(move || wait.recv()).unwrap().detach();
    here("waits for the end of a pool", 2_000, || {
        assert!(ending.join(Some(Duration::ZERO)).is_err());
        let end = ending.shutdown();
        run(async { assert!(timeout(Duration::ZERO, end).await.is_err()) });
    });
    drop(free);
    ending.join(None).unwrap();
    here("threads", 200, || {
        let mut thread = Thread::spawn("short", || vec![0u8; 100]).unwrap();
        thread.join(None).unwrap().unwrap();
        Thread::spawn("short", || vec![0u8; 100]).unwrap().detach();
    });
    pool.join(None).unwrap();
}

#[test]
fn futures_of_an_executor() {
    let _alone = alone();
    let executor = Executor::with_threads(2).unwrap();
    here("read", 5_000, || {
        assert_eq!(executor.spawn(async { 7 }).unwrap().wait(None).unwrap().unwrap(), 7);
        let task = executor.spawn(async { vec![0u8; 100] }).unwrap();
        task.on_done(|_| ());
    });
    here("dropped", 5_000, || {
        drop(executor.spawn(async { vec![0u8; 100] }).unwrap());
        executor.spawn(async { vec![0u8; 100] }).unwrap().wait(None).unwrap().unwrap();
    });
    here("cancelled", 3_000, || {
        let mut task = executor.spawn(pending::<()>()).unwrap();
        task.cancel();
        assert!(task.wait(None).unwrap().is_err());
        let task = executor.spawn(pending::<()>()).unwrap();
        task.cancel();
    });
    here("failed", 500, || {
        assert!(executor.spawn(async { fail() }).unwrap().wait(None).unwrap().is_err());
    });
    here("woken by themselves and by others", 2_000, || {
        let mut own = executor.spawn(futures_yields(3)).unwrap();
        let event = Arc::new(Event::new());
        let waits = event.clone();
        let mut other = executor.spawn(async move { waits.wait().await }).unwrap();
        event.set();
        own.wait(None).unwrap().unwrap();
        other.wait(None).unwrap().unwrap();
    });
    drop(executor);
}

/// As a future of any other crate yields.
async fn futures_yields(count: usize) {
    for _ in 0..count {
        let mut first = true;
        poll_fn(|cx| {
            if !std::mem::take(&mut first) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

#[test]
fn sets_of_remote_tasks() {
    let _alone = alone();
    let pool = ThreadPool::new(1).unwrap();
    here("made and dropped", 2_000, || {
        let mut set: RemoteSet<u32> = (0..3).map(|number| pool.submit(move || number).unwrap()).collect();
        assert!(set.wait_next(None).unwrap().is_some());
    });
    let mut set = RemoteSet::new();
    here("one that goes on", 2_000, || {
        let key = set.insert(pool.submit(|| 1).unwrap());
        set.insert(pool.submit(|| 2).unwrap());
        assert!(set.wait_next(None).unwrap().is_some());
        drop(set.remove(key));
        set.wait_all(None).unwrap();
        assert!(set.is_empty());
    });
    here("dropped with what has ended", 2_000, || {
        let _ended: RemoteSet<u32> = (0..3).map(|number| pool.submit(move || number).unwrap()).collect();
        pool.submit(|| ()).unwrap().wait(None).unwrap().unwrap();
    });
    // A key is small.
    here("one from which all are taken by key", 20_000, || {
        let key = set.insert(pool.submit(|| 1).unwrap());
        pool.submit(|| ()).unwrap().wait(None).unwrap().unwrap();
        set.remove(key).unwrap().wait(None).unwrap().unwrap();
    });
    let (mut set, jobs) = (RemoteSet::new(), pool.clone());
    run(async move {
        steady("awaited", 2_000, async || {
            once(set.next()).await;
            set.extend((0..2).map(|number| jobs.submit(move || number).unwrap()));
            assert!(set.next().await.is_some());
            assert!(set.next().await.is_some());
        })
        .await;
    });
    pool.join(None).unwrap();
}

#[test]
fn values_of_a_thread() {
    let _alone = alone();
    here("dropped where it was set", 10_000, || drop(ThreadLocal::new().set(vec![0u8; 100])));
    let pool = ThreadPool::new(1).unwrap();
    here("dropped elsewhere", 3_000, || {
        let local = Arc::new(ThreadLocal::new());
        let inner = local.clone();
        pool.submit(move || drop(inner.set(vec![0u8; 100]))).unwrap().wait(None).unwrap().unwrap();
    });
    pool.join(None).unwrap();
}

#[test]
fn loops() {
    let _alone = alone();
    here("run", 300, || {
        run(async {
            quiet();
            spawn(sleep(LONG)).detach();
        })
    });
    here("closed", 300, || {
        let event_loop = EventLoop::new();
        drop(event_loop.call_later(LONG, || ()).unwrap());
        event_loop.spawn(pending::<()>()).unwrap().detach();
        event_loop.run_until_complete(yields(1)).unwrap();
        event_loop.set_exception_handler(Some(Rc::new(|_| ())));
        event_loop.close().unwrap();
    });
    let (lock, queue) = (Arc::new(Lock::new(1)), Queue::<u8>::unbounded());
    here("closed under tasks that hold a lock and wait", 300, || {
        let (lock, queue) = (lock.clone(), queue.clone());
        run(async move {
            quiet();
            for _ in 0..2 {
                let (lock, queue) = (lock.clone(), queue.clone());
                spawn(async move {
                    let _held = lock.lock().await;
                    let _ = queue.get().await;
                })
                .detach();
            }
        });
    });
    here("gone before its wakers", 300, || {
        let (wakers, kept) = mpsc::channel();
        run(poll_fn(move |cx| {
            wakers.send(cx.waker().clone()).unwrap();
            Poll::Ready(())
        }));
        kept.recv().unwrap().wake();
    });
    here("dropped before it has run", 300, || {
        let event_loop = EventLoop::new();
        event_loop.set_exception_handler(Some(Rc::new(|_| ())));
        event_loop.spawn(pending::<()>()).unwrap().detach();
        event_loop.handle().submit(async || ()).unwrap().detach();
    });
    let event_loop = EventLoop::new();
    here("run again and again", 3_000, || event_loop.run_until_complete(yields(1)).unwrap());
    here("stopped again and again", 3_000, || {
        event_loop.stop();
        let _ = event_loop.run_forever();
    });
    let mut runner = Runner::new();
    here("a runner", 3_000, || runner.run(yields(1)).unwrap());
    here("a thread", 100, || {
        let thread = EventLoop::spawn_thread("short").unwrap();
        let task = thread.handle().submit(async || pending::<()>().await).unwrap();
        thread.join(None).unwrap();
        drop(task);
    });
    here("a guest", 300, || {
        let guest = selkie::guest(|_| std::future::ready(()), async {
            spawn(yields(2)).await.unwrap();
        });
        futures::executor::block_on(guest).unwrap();
        drop(selkie::guest(|_| std::future::ready(()), pending::<()>()));
    });
    here("an instrument", 300, || {
        struct Names(RefCell<Vec<AnyTask>>);
        impl Instrument for Names {
            fn created(&self, task: &AnyTask) {
                self.0.borrow_mut().push(task.clone());
            }
        }
        let event_loop = EventLoop::new();
        event_loop.set_instrument(Some(Rc::new(Names(Default::default()))));
        event_loop.report_slow_polls(Some(MILLISECOND * 100));
        event_loop.run_until_complete(async { spawn(yields(1)).await.unwrap() }).unwrap();
    });
}

#[test]
fn simulations() {
    let _alone = alone();
    let sim = Sim::seeded(7);
    here("runs of one", 300, || {
        sim.run(async {
            sleep(LONG).await;
            assert_eq!(to_thread(|| 7).await.unwrap(), 7);
            let thread = EventLoop::spawn_thread("simulated").unwrap();
            thread.handle().submit(async || sleep(LONG).await).unwrap().await.unwrap();
            thread.ended().await.unwrap();
        });
    });
    here("loops of one", 300, || {
        let event_loop = sim.event_loop();
        event_loop.run_until_complete(sleep(LONG)).unwrap();
        event_loop.close().unwrap();
    });
    here("many", 300, || {
        let sim = Sim::new();
        sim.run(async { drop(spawn(sleep(LONG)).await) });
        assert!(
            sim.try_run(async {
                quiet();
                pending::<()>().await;
            })
            .is_err()
        );
    });
    here("clocks", 300, || {
        let clock = ManualClock::new();
        let guest = clock.guest(None, || {});
        let task = guest.spawn(sleep(LONG)).unwrap();
        while let Next::At(time) = guest.turn().unwrap() {
            clock.set(time);
        }
        assert!(task.is_finished());
    });
    let clock = ManualClock::new();
    let guest = clock.guest(Some(7), || {});
    here("turns", 3_000, || {
        guest.spawn(sleep(MILLISECOND)).unwrap().detach();
        while let Next::At(time) = guest.turn().unwrap() {
            clock.set(time);
        }
    });
}
