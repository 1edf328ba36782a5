//! What has ended leaves nothing behind: counted in bytes, over many rounds, so in a program of its own.

#![cfg(not(all(target_family = "wasm", target_os = "unknown")))]
#![allow(clippy::disallowed_methods, reason = "threads are the matter here")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use selkie::{EventLoop, Executor, ThreadPool, run, to_thread, yield_now};

struct Counting;

static MADE: AtomicUsize = AtomicUsize::new(0);
static FREED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is passed on to the system's allocator; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MADE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        FREED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that are in use, when threads that end have had time to.
fn alive() -> usize {
    thread::sleep(Duration::from_millis(200));
    let freed = FREED.load(Ordering::Relaxed);
    MADE.load(Ordering::Relaxed) - freed
}

/// Bytes that each round leaves behind. The first ones fill what is kept for later.
fn left_by(what: &str, round: impl Fn()) {
    const ROUNDS: usize = 100;
    for _ in 0..10 {
        round();
    }
    let before = alive();
    for _ in 0..ROUNDS {
        round();
    }
    let each = alive().saturating_sub(before) / ROUNDS;
    // The least of a loop is 15 KB.
    assert!(each < 200, "{what}: {each} bytes each");
}

#[test]
fn what_has_ended_leaves_nothing() {
    left_by("a run", || run(async { yield_now().await }));
    left_by("a run that blocks a thread", || run(async { to_thread(|| ()).await.unwrap() }));
    left_by("a loop's thread", || EventLoop::spawn_thread("idle").unwrap().join(None).unwrap());
    left_by("a loop's thread that ends a task", || {
        let thread = EventLoop::spawn_thread("busy").unwrap();
        thread.handle().submit(async || pending::<()>().await).unwrap().detach();
        thread.join(None).unwrap();
    });
    left_by("a pool", || {
        let pool = ThreadPool::new(1).unwrap();
        pool.submit(|| ()).unwrap().detach();
        pool.join(None).unwrap();
    });
    left_by("an executor", || {
        let executor = Executor::with_threads(1).unwrap();
        executor.spawn(pending::<()>()).unwrap().detach();
        drop(executor);
        // The next one may have its site.
        thread::sleep(Duration::from_millis(2));
    });
}
