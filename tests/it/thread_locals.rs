//! Values of a thread or a loop, and resources that each has one of.

use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

use selkie::{AlreadySet, EventLoop, LoopLocal, ThreadLocal, spawn, testing::Sim};

use crate::{
    harness::{OnDrop, test},
    locks::has_threads,
};

behaviour! {
    /// Rows: F57.
    async fn a_value_of_the_thread_is_shared_by_its_tasks(t) {
        let local: Rc<ThreadLocal<Cell<u32>>> = Rc::new(ThreadLocal::new());
        assert!(local.get().is_none());
        assert_eq!(local.get_or_init(|| Cell::new(1)).get(), 1);
        let theirs = local.clone();
        spawn(async move { theirs.get().unwrap().set(2) }).await.unwrap();
        assert_eq!(local.get_or_init(|| Cell::new(3)).get(), 2);
        assert_eq!(local.set(Cell::new(4)).unwrap().get(), 2);
        assert_eq!(local.clear().unwrap().get(), 4);
        assert!(local.clear().is_none());
        let another = ThreadLocal::<Cell<u32>>::new();
        assert!(another.get().is_none());
    }
}

behaviour! {
    /// Rows: F58.
    async fn a_resource_of_a_thread_is_opened_once(t) {
        let connections = ThreadLocal::new();
        let open = |t: &crate::harness::T| {
            t.log("open");
            let t = t.clone();
            OnDrop(move || t.log("close"))
        };
        let first = connections.scope(|| open(&t)).unwrap();
        assert_eq!(connections.scope(|| open(&t)).map(drop), Err(AlreadySet));
        drop(first);
        let second = connections.scope(|| open(&t)).unwrap();
        drop(second);
        assert!(connections.get().is_none());
    } => ["open", "close", "open", "close"]
}

behaviour! {
    /// Rows: F57. The same in this thread; in others the value stays a while.
    async fn a_value_of_the_thread_goes_with_its_variable(t) {
        let (local, other) = (ThreadLocal::new(), ThreadLocal::new());
        other.set(Cell::new(1));
        let log = t.clone();
        local.set(OnDrop(move || log.log("gone")));
        t.log("drop");
        drop(local);
        t.log("dropped");
        assert_eq!(other.get().unwrap().get(), 1);
    } => ["drop", "gone", "dropped"]
}

behaviour! {
    /// Rows: F57. The values of a loop need not cross threads, and no other loop sees them.
    async fn a_value_of_the_loop_is_shared_by_its_tasks_alone(t) {
        static LOCAL: LoopLocal<Cell<u32>> = LoopLocal::new();
        assert!(LOCAL.get().is_none());
        assert_eq!(LOCAL.get_or_init(|| Cell::new(1)).get(), 1);
        spawn(async { LOCAL.get().unwrap().set(2) }).await.unwrap();
        assert_eq!(format!("{LOCAL:?}"), "LoopLocal(Some(Cell { value: 2 }))");
        // A loop inside of this one, on the same thread.
        Sim::new().run(async {
            assert!(LOCAL.get().is_none());
            LOCAL.set(Cell::new(100));
        });
        if has_threads(&t) {
            let worker = EventLoop::spawn_thread("worker").unwrap();
            let theirs = worker.handle().submit(async || {
                let seen = LOCAL.get().map(|value| value.get());
                LOCAL.set(Cell::new(200));
                seen
            });
            assert_eq!(theirs.unwrap().await.unwrap(), None);
            worker.ended().await.unwrap();
        }
        assert_eq!(LOCAL.set(Cell::new(4)).unwrap().get(), 2);
        assert_eq!(LOCAL.clear().unwrap().get(), 4);
        assert!(LOCAL.clear().is_none());
    }
}

behaviour! {
    /// Rows: F58. As for threads: one per loop, closed by its guard.
    async fn a_resource_of_a_loop_is_opened_once(t) {
        let connections = LoopLocal::new();
        let open = |t: &crate::harness::T| {
            t.log("open");
            let t = t.clone();
            OnDrop(move || t.log("close"))
        };
        let first = connections.scope(|| open(&t)).unwrap();
        assert_eq!(connections.scope(|| open(&t)).map(drop), Err(AlreadySet));
        drop(first);
        drop(connections.scope(|| open(&t)).unwrap());
        assert!(connections.get().is_none());
    } => ["open", "close", "open", "close"]
}

behaviour! {
    /// Rows: F57, F58. What makes a value may look for it, but not set it: one of the two would be lost.
    async fn a_value_that_its_maker_sets_is_not_replaced(t) {
        let (of_thread, of_loop) = (ThreadLocal::new(), LoopLocal::new());
        for again in [false, true] {
            assert_eq!(*of_thread.get_or_init(|| if of_thread.get().is_none() { 1 } else { 2 }), 1, "{again}");
            assert_eq!(*of_loop.get_or_init(|| if of_loop.get().is_none() { 1 } else { 2 }), 1, "{again}");
        }
        drop((of_thread.clear(), of_loop.clear()));

        let nested = of_thread.scope(|| of_thread.scope(|| 3).map(std::mem::forget).map_or(4, |()| 5));
        assert_eq!((nested.map(drop), of_thread.clear().as_deref()), (Err(AlreadySet), Some(&3)));
        let nested = of_loop.scope(|| of_loop.scope(|| 3).map(std::mem::forget).map_or(4, |()| 5));
        assert_eq!((nested.map(drop), of_loop.clear().as_deref()), (Err(AlreadySet), Some(&3)));

        if cfg!(panic = "unwind") {
            let init = catch_unwind(AssertUnwindSafe(|| of_thread.get_or_init(|| of_thread.set(6).map_or(7, |_| 8))));
            assert!(init.unwrap_err().downcast_ref::<&str>().unwrap().contains("`make` has set"));
            let init = catch_unwind(AssertUnwindSafe(|| of_loop.get_or_init(|| of_loop.set(6).map_or(7, |_| 8))));
            assert!(init.unwrap_err().downcast_ref::<&str>().unwrap().contains("`make` has set"));
            assert_eq!((of_thread.get().as_deref(), of_loop.get().as_deref()), (Some(&6), Some(&6)));
        }
    }
}

/// Rows: F57. Values go when their loop closes, after its tasks; whoever goes last may still use the loop.
#[test]
fn a_loop_drops_its_values_when_it_closes() {
    type Value = OnDrop<Box<dyn FnMut()>>;
    static LOCAL: LoopLocal<Value> = LoopLocal::new();
    let log = Rc::new(RefCell::new(Vec::new()));
    let (value, task) = (log.clone(), log.clone());
    let event_loop = Sim::new().event_loop();
    let run = event_loop.run_until_complete(async move {
        let in_task = OnDrop(move || task.borrow_mut().push(format!("task, has {}", LOCAL.get().is_some())));
        spawn(async move {
            let _in_task = in_task;
            std::future::pending::<()>().await;
        })
        .detach();
        LOCAL.set(OnDrop(Box::new(move || {
            value.borrow_mut().push(format!("value, has {}", LOCAL.get().is_some()));
            // Ends at once, and what is set is not kept.
            spawn(async {}).detach();
            assert!(LOCAL.set(OnDrop(Box::new(|| ()))).is_none());
        })));
    });
    run.unwrap();
    assert!(log.borrow().is_empty() && LOCAL.get().is_none());
    event_loop.set_exception_handler(Some(Rc::new(|_| ())));
    event_loop.close().unwrap();
    assert_eq!(*log.borrow(), ["task, has true", "value, has false"]);
}

/// Rows: F58. A guard takes away the value of its own loop, also where no loop runs, or another one.
#[test]
fn a_guard_knows_its_loop() {
    static LOCAL: LoopLocal<u8> = LoopLocal::new();
    let event_loop = Sim::new().event_loop();
    let open = || event_loop.run_until_complete(async { LOCAL.scope(|| 1).unwrap() }).unwrap();
    let is_open = || event_loop.run_until_complete(async { LOCAL.get().is_some() }).unwrap();
    let guard = open();
    assert!(is_open());
    drop(guard);
    assert!(!is_open());
    let guard = open();
    Sim::new().run(async move { drop(guard) });
    assert!(!is_open());
}

/// Rows: F57. Nobody has a value where no loop runs.
#[test]
fn a_value_without_a_loop_is_refused() {
    static LOCAL: LoopLocal<u8> = LoopLocal::new();
    assert!(LOCAL.get().is_none() && LOCAL.clear().is_none());
    if cfg!(panic = "unwind") {
        assert!(std::panic::catch_unwind(|| LOCAL.set(1)).is_err());
    }
}

/// Rows: F57, F58.
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
#[test]
fn every_thread_has_its_own_and_drops_it_at_its_end() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    static LOCAL: ThreadLocal<(u32, Arc<AtomicUsize>, Guard)> = ThreadLocal::new();
    struct Guard(Arc<AtomicUsize>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    LOCAL.set((0, dropped.clone(), Guard(dropped.clone())));
    let threads: Vec<_> = (1..4)
        .map(|n| {
            let dropped = dropped.clone();
            std::thread::spawn(move || {
                assert!(LOCAL.get().is_none());
                LOCAL.set((n, dropped.clone(), Guard(dropped)));
                assert_eq!(LOCAL.get().unwrap().0, n);
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(dropped.load(Ordering::Relaxed), 3);
    assert_eq!(LOCAL.get().unwrap().0, 0);
    LOCAL.clear();
    assert_eq!(dropped.load(Ordering::Relaxed), 4);
}

/// Rows: F57. Of those that were dropped in another thread few values are left; all others stay.
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
#[test]
fn a_value_whose_variable_was_dropped_elsewhere_goes_later() {
    let gone = Rc::new(Cell::new(0));
    let kept: Vec<ThreadLocal<usize>> = (0..20).map(|_| ThreadLocal::new()).collect();
    for round in 0..200 {
        if let Some(local) = kept.get(round) {
            local.set(round);
        }
        let local = ThreadLocal::new();
        let count = gone.clone();
        local.set(OnDrop(move || count.set(count.get() + 1)));
        std::thread::spawn(move || drop(local)).join().unwrap();
    }
    assert!(gone.get() >= 150, "{}", gone.get());
    assert!(kept.iter().enumerate().all(|(round, local)| *local.get().unwrap() == round));
}

/// Rows: F57. Of values that go together one may panic.
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
#[test]
fn a_value_whose_drop_panics_takes_none_of_the_others_along() {
    let gone = Rc::new(Cell::new(0));
    for n in 0..31 {
        let (local, count) = (ThreadLocal::new(), gone.clone());
        local.set(OnDrop(move || {
            count.set(count.get() + 1);
            assert!(n != 7, "on purpose");
        }));
        std::thread::spawn(move || drop(local)).join().unwrap();
    }
    let last = ThreadLocal::new();
    let set = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| last.set(1)));
    assert!(set.is_err());
    assert_eq!((gone.get(), last.get().as_deref()), (31, Some(&1)));
}
