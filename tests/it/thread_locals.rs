//! Values of a thread, and resources that each thread has one of.

use std::{cell::Cell, rc::Rc};

use selkie::{AlreadySet, ThreadLocal, spawn};

use crate::harness::OnDrop;

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
