//! How often a running loop asks for memory: counted, as a promise of the documentation.

#![cfg(not(all(target_family = "wasm", target_os = "unknown")))]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::{Cell, RefCell},
    future::{Future, pending, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use selkie::{EventLoop, Executor, RemoteTask, Task, ThreadPool, sleep, spawn, spawn_lazy, yield_now};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all is passed on to the system's allocator; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread so far. What the thread of another test does is not counted.
fn allocations() -> usize {
    COUNT.get()
}

/// The allocations of the second of two runs: the first one warms up.
async fn warm(run: impl AsyncFn()) -> usize {
    run().await;
    let before = allocations();
    run().await;
    allocations() - before
}

#[test]
fn the_counter_counts() {
    let before = allocations();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(allocations() - before, 1);
}

#[test]
fn a_spawn_allocates_at_most_once_and_most_often_not() {
    selkie::run(async {
        let mut tasks = Vec::with_capacity(1000);
        let before = allocations();
        for _ in 0..1000 {
            let before = allocations();
            tasks.push(spawn(pending::<u64>()));
            assert!(allocations() - before <= 1, "a page");
        }
        assert!(allocations() - before < 100, "cells share pages");

        // A cell too large for a page of several.
        let before = allocations();
        let large = spawn(async {
            let bytes = [1u8; 10_000];
            yield_now().await;
            bytes.len()
        });
        assert!(allocations() - before <= 1);
        assert_eq!(large.await.unwrap(), 10_000);
    });
}

#[test]
fn a_spawn_that_finds_a_cell_of_an_ended_task_allocates_nothing() {
    selkie::run(async {
        let count = warm(async || {
            for number in 0..100 {
                assert_eq!(spawn(async move { number }).await.unwrap(), number);
                assert_eq!(spawn_lazy(async move { number }).await.unwrap(), number);
            }
        });
        assert_eq!(count.await, 0);
    });
}

#[test]
fn a_wake_allocates_nothing() {
    async fn wait(turn: &Cell<usize>, mine: usize, me: &RefCell<Option<Waker>>) {
        poll_fn(|cx| {
            if turn.get() % 2 == mine {
                return Poll::Ready(());
            }
            *me.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
    selkie::run(async {
        let count = warm(async || {
            let turn = Rc::new(Cell::new(0));
            let wakers = Rc::new([const { RefCell::new(None) }; 2]);
            let side = |mine: usize| {
                let (turn, wakers) = (turn.clone(), wakers.clone());
                async move {
                    for _ in 0..100 {
                        wait(&turn, mine, &wakers[mine]).await;
                        turn.set(turn.get() + 1);
                        if let Some(waker) = wakers[1 - mine].take() {
                            waker.wake();
                        }
                        yield_now().await;
                    }
                }
            };
            let (left, right): (Task<()>, Task<()>) = (spawn(side(0)), spawn(side(1)));
            left.await.unwrap();
            right.await.unwrap();
        });
        // The two `Rc`s of the test itself.
        assert_eq!(count.await, 2);
    });
}

#[test]
fn a_timer_allocates_nothing_once_the_wheel_is_there() {
    selkie::run(async {
        let count = warm(async || {
            for micros in 0..20 {
                sleep(Duration::from_micros(micros)).await;
            }
        });
        assert_eq!(count.await, 0);

        // Beside each other only the first one is in the task's cell.
        let count = warm(async || {
            for _ in 0..5 {
                let mut first = pin!(sleep(Duration::from_micros(10)));
                let mut second = pin!(sleep(Duration::from_micros(20)));
                let mut never = pin!(sleep(Duration::from_secs(100)));
                poll_fn(|cx| {
                    let both = [&mut first, &mut second, &mut never]
                        .map(|s: &mut Pin<_>| s.as_mut().poll(cx).is_ready());
                    if both[1] { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
        });
        assert_eq!(count.await, 0);
    });
}

#[test]
fn an_item_of_a_queue_allocates_nothing() {
    macro_rules! passes {
        ($queue:expr) => {
            warm(async || {
                let getter = spawn({
                    let queue = $queue.clone();
                    async move {
                        for number in 0..100 {
                            assert_eq!(queue.get().await.unwrap(), number);
                        }
                    }
                });
                for number in 0..100 {
                    $queue.put(number).await.unwrap();
                }
                getter.await.unwrap();
            })
        };
    }
    selkie::run(async {
        // With and without somebody who waits, on either side.
        let (local, shared) = (selkie::local::Queue::bounded(4), selkie::Queue::bounded(4));
        let unbounded = selkie::Queue::unbounded();
        assert_eq!(passes!(local).await, 0);
        assert_eq!(passes!(shared).await, 0);
        assert_eq!(passes!(unbounded).await, 0);
    });
}

/// The allocations of the calling thread for one of many works that it hands over.
fn handing_over(submit: impl Fn() -> RemoteTask<usize>) -> f64 {
    let round = || {
        let mut tasks = Vec::with_capacity(100);
        let before = allocations();
        tasks.extend((0..100).map(|_| submit()));
        let count = allocations() - before;
        tasks.into_iter().for_each(|mut task| assert_eq!(task.wait(None).unwrap().unwrap(), 7));
        count as f64 / 100.0
    };
    round();
    round()
}

#[test]
fn a_submit_to_a_loop_a_job_of_a_pool_and_a_future_of_an_executor_allocate_once() {
    let thread = EventLoop::spawn_thread("alloc").unwrap();
    assert_eq!(handing_over(|| thread.handle().submit(async || 7).unwrap()), 1.0);
    thread.join(None).unwrap();

    let pool = ThreadPool::new(1).unwrap();
    // The queue grows by doubling, and is given back when it was long.
    let jobs = handing_over(|| pool.submit(|| 7).unwrap());
    assert!((1.0..1.1).contains(&jobs), "{jobs}");

    let executor = Executor::with_threads(1).unwrap();
    // Its queue comes in blocks of 31.
    let futures = handing_over(|| executor.spawn(async { 7 }).unwrap());
    assert!((1.0..1.1).contains(&futures), "{futures}");
}
