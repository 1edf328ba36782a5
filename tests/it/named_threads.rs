//! Threads by name: what they are called, whether they are alive, how they end.

use std::{sync::Arc, time::Duration};

use selkie::{
    ContextVar, Event, EventLoop, Queue, Thread, ThreadPanic, ThreadPool, WaitError, current_thread_name,
    sleep, to_thread,
};

use crate::locks::has_threads;

behaviour! {
    /// Rows: F51. What the host cannot do is an error that says so, and the function is dropped.
    async fn a_thread_has_a_name_and_gives_a_result(t) {
        static REQUEST: ContextVar<u32> = ContextVar::new();
        REQUEST.set(7);
        let dropped = Arc::new(());
        let (kept, go) = (dropped.clone(), Arc::new(Event::new()));
        let gate = go.clone();
        let thread = Thread::spawn("reader", move || {
            let _kept = kept;
            // In a simulation this is no thread, and the event is set by then.
            gate.wait_blocking(None).unwrap();
            (current_thread_name(), REQUEST.get())
        });
        let mut thread = match thread {
            Err(error) if !has_threads(&t) => {
                assert!(!error.to_string().is_empty());
                assert_eq!(Arc::strong_count(&dropped), 1);
                return;
            }
            thread => thread.unwrap(),
        };
        assert_eq!(thread.name(), "reader");
        assert!(thread.is_alive());
        assert_eq!(format!("{thread:?}"), r#"Thread { name: "reader", alive: true }"#);
        go.set();
        let (name, request) = (&mut thread).await.unwrap();
        assert_eq!((name.as_deref(), request), (Some("reader"), Some(7)));
        assert!(!thread.is_alive());
        assert_eq!(thread.join(None).unwrap_err(), WaitError::Taken);
        assert_ne!(current_thread_name().as_deref(), Some("reader"));
    }
}

behaviour! {
    /// Rows: F51. Also what a system does not take as the name of a thread: it may come from data.
    async fn a_name_may_be_any_text(t) {
        let name = "name\0with a zero";
        if let Ok(thread) = Thread::spawn(name, || 1) {
            assert_eq!(thread.name(), name);
            assert_eq!(thread.await.unwrap(), 1);
        }
        if let Ok(pool) = ThreadPool::builder(1).name(name).build() {
            assert_eq!(pool.name(), name);
            match pool.submit(|| 2) {
                Ok(job) => assert_eq!(job.await.unwrap(), 2),
                Err(error) => assert!(!has_threads(&t), "{error}"),
            }
        }
        if let Ok(worker) = EventLoop::spawn_thread(name) {
            assert_eq!(worker.handle().submit(async || 3).unwrap().await.unwrap(), 3);
        }
    }
}

behaviour! {
    /// Rows: F51, F71. A Worker is called as who it works for at the time.
    async fn threads_of_pools_and_loops_have_names(t) {
        // A simulated thread is none.
        if t.is_sim() || !has_threads(&t) {
            return;
        }
        for n in 0..3 {
            let pool = ThreadPool::builder(1).name(format!("jobs {n}")).build().unwrap();
            let name = pool.submit(current_thread_name).unwrap().await.unwrap();
            assert_eq!(name.as_deref(), Some(&*format!("jobs {n}-0")));
            pool.shutdown().await;
            let worker = EventLoop::spawn_thread(format!("loop {n}")).unwrap();
            let name = worker.handle().submit(async || {
                sleep(Duration::from_millis(1)).await;
                current_thread_name()
            });
            assert_eq!(name.unwrap().await.unwrap().as_deref(), Some(&*format!("loop {n}")));
            worker.ended().await.unwrap();
        }
        assert!(to_thread(current_thread_name).await.unwrap().unwrap().starts_with("selkie-blocking-"));
        assert!(!current_thread_name().is_some_and(|name| name.starts_with("selkie-blocking-")));
    }
}

behaviour! {
    /// Rows: F51. The hook is told on the thread, then whoever waits.
    async fn a_panic_of_a_thread_is_reported_and_reaches_whoever_waits(t) {
        if !cfg!(panic = "unwind") || !has_threads(&t) {
            return;
        }
        let told = Queue::unbounded();
        let hook = told.clone();
        let thread = Thread::builder("worker").on_panic(move |panic: &ThreadPanic| {
            let here = current_thread_name();
            hook.try_put((here, panic.thread().to_owned(), panic.message().to_owned())).unwrap();
        });
        let thread = thread.spawn(|| if true { panic!("out of paper (expected by a test)") }).unwrap();
        let error = thread.await.unwrap_err();
        assert!(error.is_panic());
        assert_eq!(error.to_string(), "thread worker panicked: out of paper (expected by a test)");
        let (here, thread, message) = told.try_get().unwrap();
        assert_eq!((here.as_deref(), &*thread), (Some("worker"), "worker"));
        assert_eq!(message, "out of paper (expected by a test)");
        // A hook that panics itself changes nothing.
        let thread = Thread::builder("worker").on_panic(|_| panic!("the hook as well (expected by a test)"));
        let thread = thread.spawn(|| if true { panic!("again (expected by a test)") }).unwrap();
        assert!(thread.await.unwrap_err().to_string().contains("again"));
        // Nor does one that nobody needs and that panics as it goes.
        struct Falls;
        impl Drop for Falls {
            fn drop(&mut self) {
                panic!("what the hook owns (expected by a test)");
            }
        }
        let falls = Falls;
        let thread = Thread::builder("worker").on_panic(move |_| drop(falls));
        assert_eq!(thread.spawn(|| 3).unwrap().await.unwrap(), 3);
    }
}

behaviour! {
    /// Difference: F52. Every thread is a daemon: who drops it, or ends the program, does not wait.
    async fn a_thread_that_is_dropped_runs_on(t) {
        if !has_threads(&t) {
            return;
        }
        let done = Arc::new(Event::new());
        let theirs = done.clone();
        Thread::spawn("behind", move || theirs.set()).unwrap().detach();
        done.wait().await;
    }
}

behaviour! {
    /// Rows: F51. In a simulation the thread runs only when the caller awaits.
    async fn joining_what_cannot_run_meanwhile_is_refused(t) {
        if !t.is_sim() {
            return;
        }
        let mut thread = Thread::spawn("later", || 3).unwrap();
        assert_eq!(thread.join(None).unwrap_err(), WaitError::WouldDeadlock);
        while thread.is_alive() {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(thread.join(None).unwrap().unwrap(), 3);
    }
}

/// Rows: F51.
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
#[test]
fn a_thread_is_joined_with_and_without_a_limit() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let go = Arc::new(AtomicBool::new(false));
    let gate = go.clone();
    let mut thread = Thread::spawn("slow", move || {
        while !gate.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        current_thread_name()
    })
    .unwrap();
    assert_eq!(thread.join(Some(Duration::from_millis(5))).unwrap_err(), WaitError::TimedOut);
    assert!(thread.is_alive());
    go.store(true, Ordering::Release);
    assert_eq!(thread.join(None).unwrap().unwrap().as_deref(), Some("slow"));
    assert!(!thread.is_alive());
}

/// Rows: F51. Waiting for oneself is an error, not a hang.
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
#[test]
fn a_thread_that_joins_itself_is_refused() {
    let (send, receive) = std::sync::mpsc::channel::<Thread<WaitError>>();
    let (other, told) = std::sync::mpsc::channel();
    let thread = Thread::spawn("itself", move || {
        let error = receive.recv().unwrap().join(None).unwrap_err();
        other.send(error).unwrap();
        error
    });
    send.send(thread.unwrap()).unwrap();
    assert_eq!(told.recv().unwrap(), WaitError::WouldDeadlock);
}
