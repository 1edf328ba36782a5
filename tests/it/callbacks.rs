//! Callbacks of the loop and of tasks: order, context, handles, panics.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use selkie::{
    CancelOutcome, ContextVar, EventLoop, Lock, RemoteHandle, Task, sleep, spawn, testing::Sim, yield_now,
};

use crate::harness::{OnDrop, Reports, T, test};

static VAR: ContextVar<u32> = ContextVar::new();

behaviour! {
    /// Rows: F15.
    async fn done_callbacks_come_later_in_the_order_of_registration_and_before_the_awaiter(t) {
        let task = spawn(async {
            yield_now().await;
            4
        });
        for name in ["a", "b"] {
            let t = t.clone();
            task.on_done(move |result| t.log(format!("{name} {}", result.as_ref().unwrap())));
        }
        let inner = t.clone();
        let waiter = spawn(async move { inner.log(format!("awaited {}", task.await.unwrap())) });
        waiter.await.unwrap();
    } => ["a 4", "b 4", "awaited 4"]
}

behaviour! {
    /// Difference: F15. Closures cannot be compared, so none is taken away: every callback is called, and one that is
    /// not wanted any more finds what it stands for gone.
    async fn a_callback_may_outlive_what_it_stands_for(t) {
        let task = spawn(yield_now());
        let listeners = [Rc::new("a"), Rc::new("b")];
        for listener in &listeners {
            let (listener, t) = (Rc::downgrade(listener), t.clone());
            task.on_done(move |_| t.log(listener.upgrade().map_or("gone", |listener| *listener)));
        }
        let [a, _b] = listeners;
        drop(a);
        task.await.unwrap();
    } => ["gone", "b"]
}

behaviour! {
    /// Rows: F15.
    async fn a_callback_added_to_a_done_task_is_not_called_inline(t) {
        let task = spawn(async { 1 });
        assert!(task.is_finished());
        let inner = t.clone();
        task.on_done(move |_| inner.log("called"));
        t.log("added");
        yield_now().await;
        t.log("later");
        assert_eq!(task.await.unwrap(), 1);
    } => ["added", "called", "later"]
}

behaviour! {
    /// Rows: F15.
    async fn callbacks_run_though_the_task_is_dropped_or_cancelled(t) {
        let inner = t.clone();
        let detached = spawn(yield_now());
        detached.on_done(move |result| inner.log(format!("detached {}", result.is_ok())));
        drop(detached);
        let inner = t.clone();
        let cancelled = spawn(std::future::pending::<()>());
        cancelled.on_done(move |result| inner.log(format!("cancelled {}", result.is_err())));
        cancelled.cancel();
        drop(cancelled);
        sleep(Duration::ZERO).await;
        sleep(Duration::ZERO).await;
    } => ["detached true", "cancelled true"]
}

behaviour! {
    /// Rows: F15.
    async fn a_callback_may_add_callbacks_and_drop_its_own_task(t) {
        let slot = Rc::new(RefCell::new(None));
        let task = spawn(async {
            yield_now().await;
            String::from("value")
        });
        let (inner, held) = (t.clone(), slot.clone());
        task.on_done(move |_| {
            let task: selkie::Task<String> = held.take().expect("kept outside");
            let again = inner.clone();
            task.on_done(move |result| again.log(format!("second {}", result.as_ref().unwrap())));
            drop(task);
            inner.log("first");
        });
        *slot.borrow_mut() = Some(task);
        sleep(t.secs(1.0)).await;
    } => ["first", "second value"]
}

behaviour! {
    /// Rows: X18.
    async fn callbacks_keep_the_context_of_their_registration_and_leak_nothing(t) {
        VAR.set(1);
        let event_loop = EventLoop::current().unwrap();
        let seen = |what: &'static str| {
            let t = t.clone();
            move || {
                t.log(format!("{what} {:?}", VAR.get()));
                VAR.set(99);
            }
        };
        let _ = event_loop.call_soon(seen("soon")).unwrap();
        let _ = event_loop.call_later(t.secs(1.0), seen("later")).unwrap();
        let task = spawn(async {
            VAR.set(50);
            yield_now().await;
        });
        let done = seen("done");
        task.on_done(move |_| done());
        VAR.set(2);
        let explicit = seen("explicit");
        let context = selkie::Context::current();
        VAR.set(3);
        let _ = event_loop.call_soon(move || context.run(explicit)).unwrap();
        sleep(t.secs(2.0)).await;
        task.await.unwrap();
        t.log(format!("main {:?}", VAR.get()));
    } => ["soon Some(1)", "explicit Some(2)", "done Some(1)", "later Some(1)", "main Some(3)"]
}

/// Rows: F43, X18.
#[test]
fn a_call_from_another_thread_keeps_the_context_of_the_caller_and_leaks_nothing() {
    let seen = Arc::new(Lock::new(Vec::new()));
    let call = |what: u32| {
        let seen = seen.clone();
        move || {
            seen.try_lock().unwrap().push((what, VAR.get()));
            VAR.set(99);
        }
    };
    let (first, second, outside) = (call(1), call(2), call(3));
    let sim = Sim::new();
    VAR.clear();
    sim.run(async move {
        let handle = EventLoop::current().unwrap().handle();
        VAR.set(10);
        handle.call_soon_threadsafe(first).unwrap();
        VAR.set(20);
        handle.call_soon_threadsafe(second).unwrap();
        VAR.clear();
        handle.call_soon_threadsafe(outside).unwrap();
        VAR.set(30);
        yield_now().await;
        yield_now().await;
        assert_eq!(VAR.get(), Some(30));
    });
    assert_eq!(*seen.try_lock().unwrap(), [(1, Some(10)), (2, Some(20)), (3, None)]);
    assert_eq!(VAR.get(), None);
}

#[cfg(panic = "unwind")]
behaviour! {
    /// Rows: X18, X23.
    async fn a_call_from_another_thread_that_panics_is_reported_in_its_context(t) {
        let event_loop = EventLoop::current().unwrap();
        let inner = t.clone();
        event_loop.set_exception_handler(Some(Rc::new(move |_| inner.log(format!("{:?}", VAR.get())))));
        VAR.set(1);
        event_loop.handle().call_soon_threadsafe(|| panic!("on purpose")).unwrap();
        VAR.set(2);
        sleep(t.secs(1.0)).await;
        event_loop.set_exception_handler(None);
    } => ["Some(1)"]
}

behaviour! {
    /// Rows: X22.
    async fn a_callback_that_is_cancelled_is_dropped_at_once_and_not_called(t) {
        let event_loop = EventLoop::current().unwrap();
        let logged = |name: &'static str| {
            let t = t.clone();
            let guard = OnDrop(move || t.log(name));
            move || {
                let _guard = guard;
                unreachable!()
            }
        };
        let soon = event_loop.call_soon(logged("soon dropped")).unwrap();
        let later = event_loop.call_later(t.secs(1.0), logged("later dropped")).unwrap();
        assert!(soon.when().is_none() && later.when().is_some());
        assert!(!soon.is_cancelled());
        assert!(soon.cancel() && later.cancel());
        t.log("asked");
        assert!(soon.is_cancelled() && later.is_cancelled());
        assert!(!soon.cancel() && !later.cancel());
        sleep(t.secs(2.0)).await;
    } => ["soon dropped", "later dropped", "asked"]
}

behaviour! {
    async fn a_callback_can_neither_cancel_itself_nor_be_cancelled_afterwards(t) {
        let slot = Rc::new(RefCell::new(None::<selkie::Handle>));
        let (inner, own) = (t.clone(), slot.clone());
        let handle = EventLoop::current().unwrap().call_soon(move || {
            inner.log(format!("{}", own.borrow().as_ref().unwrap().cancel()));
        }).unwrap();
        *slot.borrow_mut() = Some(handle);
        yield_now().await;
        let handle = slot.take().unwrap();
        assert!(!handle.cancel() && !handle.is_cancelled());
    } => ["false"]
}

behaviour! {
    async fn a_handle_may_be_dropped_in_any_state(t) {
        let event_loop = EventLoop::current().unwrap();
        for round in 0..50 {
            let (a, b, c) = (t.clone(), t.clone(), t.clone());
            drop(event_loop.call_soon(move || if round == 0 { a.log("soon") }).unwrap());
            drop(event_loop.call_later(t.secs(1.0), move || if round == 0 { b.log("later") }).unwrap());
            let kept = event_loop.call_soon(move || if round == 0 { c.log("kept") }).unwrap();
            let cancelled = event_loop.call_later(t.secs(1.0), || unreachable!()).unwrap();
            cancelled.cancel();
            drop(cancelled);
            yield_now().await;
            drop(kept);
        }
        sleep(t.secs(2.0)).await;
    } => ["soon", "kept", "later"]
}

behaviour! {
    async fn calls_of_a_handle_run_in_their_order(t) {
        let handle = EventLoop::current().unwrap().handle();
        let (sender, mut receiver) = futures::channel::mpsc::unbounded();
        for n in 0..5 {
            let sender = sender.clone();
            handle.call_soon_threadsafe(move || sender.unbounded_send(n).unwrap()).unwrap();
        }
        for n in 0..5 {
            assert_eq!(futures::StreamExt::next(&mut receiver).await, Some(n));
        }
    }
}

behaviour! {
    /// Difference: X28. A cancel never blocks: it says how far the call is.
    async fn a_call_from_another_thread_is_prevented_or_says_how_far_it_is(t) {
        let handle = EventLoop::current().unwrap().handle();
        let owned = Arc::new(());
        let kept = owned.clone();
        let call = handle.call_soon_threadsafe(move || drop(kept)).unwrap();
        assert_eq!(format!("{call:?}"), "RemoteHandle(waiting)");
        assert!(!call.is_cancelled());
        assert_eq!(call.cancel(), CancelOutcome::Prevented);
        assert_eq!(Arc::strong_count(&owned), 1, "at once");
        assert_eq!(call.clone().cancel(), CancelOutcome::Prevented);
        assert!(call.is_cancelled());

        let own: Arc<OnceLock<RemoteHandle>> = Arc::default();
        let seen: Arc<OnceLock<CancelOutcome>> = Arc::default();
        let (inner, outcome) = (own.clone(), seen.clone());
        let call = handle.call_soon_threadsafe(move || outcome.set(inner.get().unwrap().cancel()).unwrap()).unwrap();
        own.set(call.clone()).unwrap();
        while seen.get().is_none() {
            yield_now().await;
        }
        assert_eq!(seen.get(), Some(&CancelOutcome::Running));
        assert_eq!(call.cancel(), CancelOutcome::Done);
        assert!(!call.is_cancelled());

        // The callback goes with the loop, and no handle keeps it.
        let other = EventLoop::new();
        let kept = owned.clone();
        let call = other.handle().call_soon_threadsafe(move || drop(kept)).unwrap();
        other.close().unwrap();
        assert_eq!(Arc::strong_count(&owned), 1);
        assert_eq!(call.cancel(), CancelOutcome::Prevented);
    }
}

behaviour! {
    /// Difference: X28. In asyncio the first of these cancels would wait for the second loop.
    async fn a_call_that_runs_on_another_thread_cannot_be_waited_for(t) {
        // In a simulation it cannot run beside this.
        if t.is_sim() || !crate::harness::has_threads() {
            return;
        }
        let worker = EventLoop::spawn_thread("worker").unwrap();
        let (begun, go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (there, gate, done) = (begun.clone(), go.clone(), Arc::new(AtomicU64::new(0)));
        let result = done.clone();
        let call = worker.handle().call_soon_threadsafe(move || {
            there.store(true, Ordering::Release);
            while !gate.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
            result.store(7, Ordering::Relaxed);
        }).unwrap();
        let behind = worker.handle().call_soon_threadsafe(|| unreachable!()).unwrap();
        while !begun.load(Ordering::Acquire) {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(call.cancel(), CancelOutcome::Running);
        assert_eq!(behind.cancel(), CancelOutcome::Prevented);
        go.store(true, Ordering::Release);
        while call.cancel() == CancelOutcome::Running {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(call.cancel(), CancelOutcome::Done);
        assert_eq!(done.load(Ordering::Relaxed), 7, "what it did is seen");
        worker.ended().await.unwrap();
    }
}

behaviour! {
    /// Difference: X28. Every call is either prevented or run, never both, however the cancels fall.
    async fn a_call_is_prevented_or_run_and_never_both(t) {
        if t.is_sim() || !crate::harness::has_threads() {
            return;
        }
        let worker = EventLoop::spawn_thread("worker").unwrap();
        let ran = Arc::new(AtomicU64::new(0));
        let (mut prevented, mut calls) = (0, Vec::new());
        for n in 0..2000u64 {
            let count = ran.clone();
            calls.push(worker.handle().call_soon_threadsafe(move || { count.fetch_add(1, Ordering::Relaxed); }).unwrap());
            if n % 3 == 0 {
                let one = calls.swap_remove(n as usize / 2 % calls.len());
                prevented += u64::from(one.cancel() == CancelOutcome::Prevented);
            }
        }
        worker.handle().submit(async || ()).unwrap().await.unwrap();
        assert!(calls.iter().all(|call| call.cancel() == CancelOutcome::Done));
        assert_eq!(ran.load(Ordering::Relaxed) + prevented, 2000);
        worker.ended().await.unwrap();
    }
}

#[cfg(panic = "unwind")] // Otherwise a panic ends the simulation, and on a host the callback by a trap.
behaviour! {
    /// Rows: F15, X23.
    async fn a_callback_that_panics_is_reported_and_the_others_still_run(t) {
        let reports = Reports::of_current();
        let task = spawn(yield_now());
        let (first, last) = (t.clone(), t.clone());
        task.on_done(move |_| first.log("first"));
        task.on_done(|_| panic!("second"));
        task.on_done(move |_| last.log("third"));
        let _ = EventLoop::current().unwrap().call_soon(|| panic!("soon")).unwrap();
        EventLoop::current().unwrap().handle().call_soon_threadsafe(|| panic!("remote")).unwrap();
        task.await.unwrap();
        yield_now().await;
        let mut reports = reports.take();
        reports.sort();
        assert_eq!(reports[0], "a call from another thread panicked: remote");
        assert!(reports[1].starts_with("a callback ("), "{}", reports[1]);
        assert!(reports[1].ends_with(" panicked: soon"), "{}", reports[1]);
        assert_eq!(reports[2..], ["a done callback panicked: second"]);
    } => ["first", "third"]
}

behaviour! {
    /// Rows: F15.
    async fn callbacks_that_add_callbacks_keep_nobody_waiting(t) {
        fn add(task: &Rc<Task<()>>, t: T, left: u32) {
            let again = task.clone();
            task.on_done(move |_| {
                t.log(format!("callback {left}"));
                if left > 0 {
                    add(&again, t, left - 1);
                }
            });
        }
        let task = Rc::new(spawn(yield_now()));
        add(&task, t.clone(), 2);
        drop(task);
        let inner = t.clone();
        let other = spawn(async move {
            for _ in 0..4 {
                inner.log("other");
                yield_now().await;
            }
        });
        other.await.unwrap();
    } => ["other", "other", "callback 2", "other", "callback 1", "other", "callback 0"]
}
