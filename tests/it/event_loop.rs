//! The loop: made, run, stopped, run again, closed; what one turn does.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use selkie::{
    EventLoop, Handle, LoopClosed, Priority, RunError, Task, sleep, spawn, spawn_lazy, testing::Sim,
    yield_now,
};

use crate::harness::{HOST_BLOCKS, OnDrop, Reports, on_new_loops, test};

/// Difference: F01. There is no loop that a thread is set to: a loop is passed on as a value, and `current` is the one
/// that runs.
#[test]
fn a_new_loop_is_stopped_and_open_and_not_the_current_one() {
    let event_loop = EventLoop::new();
    assert!(!event_loop.is_running());
    assert!(!event_loop.is_closed());
    assert!(EventLoop::current().is_none());
    assert_eq!(format!("{event_loop:?}"), "EventLoop { running: false, closed: false, .. }");
}

/// Rows: F01, F07.
#[test]
fn a_loop_is_the_current_one_only_while_it_runs() {
    on_new_loops(|event_loop| {
        let inside = event_loop.clone();
        event_loop
            .run_until_complete(async move {
                let current = EventLoop::current().expect("a loop runs");
                assert!(current.is_running() && inside.is_running());
                // The same loop: a task of one is pending in the other.
                let task = spawn(yield_now());
                assert_eq!(inside.all_tasks(), current.all_tasks());
                task.await.unwrap();
            })
            .unwrap();
        assert!(EventLoop::current().is_none());
        assert!(!event_loop.is_running());
    });
}

/// Rows: F07.
#[test]
fn where_no_loop_runs_there_is_no_current_loop_task_or_list_of_tasks() {
    assert!(EventLoop::current().is_none());
    assert!(selkie::current_task().is_none());
    assert!(selkie::all_tasks().is_empty());
}

/// Rows: F07. What a page's JavaScript calls may spawn: its loop gets turns without being run.
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
#[test]
#[should_panic = "no event loop runs on this thread"]
fn spawning_where_no_loop_runs_is_refused() {
    let _ = spawn(async {});
}

/// Rows: F02.
#[test]
fn a_loop_runs_several_futures_one_after_another() {
    on_new_loops(|event_loop| {
        let kept = Rc::new(Cell::new(0));
        let count = kept.clone();
        let first = event_loop.run_until_complete(async move {
            spawn(async move {
                loop {
                    count.set(count.get() + 1);
                    sleep(Duration::from_millis(1)).await;
                }
            })
            .detach();
            "first"
        });
        assert_eq!(first.unwrap(), "first");
        let after_first = kept.get();
        // What the first run has left behind goes on with the second.
        let second = event_loop.run_until_complete(async {
            sleep(Duration::from_millis(20)).await;
            "second"
        });
        assert_eq!(second.unwrap(), "second");
        assert!(kept.get() > after_first);
        assert!(!event_loop.is_closed());
    });
}

/// Rows: F02.
#[test]
fn a_loop_that_is_stopped_first_says_so_and_the_future_goes_on_with_the_next_run() {
    on_new_loops(|event_loop| {
        let events = Rc::new(RefCell::new(Vec::new()));
        let (log, stopper) = (events.clone(), event_loop.clone());
        let stopped = event_loop.run_until_complete(async move {
            log.borrow_mut().push("first starts");
            stopper.stop();
            yield_now().await;
            log.borrow_mut().push("first ends");
        });
        assert!(matches!(stopped, Err(RunError::Stopped)));
        assert_eq!(*events.borrow(), ["first starts"]);

        let log = events.clone();
        event_loop
            .run_until_complete(async move {
                yield_now().await;
                yield_now().await;
                log.borrow_mut().push("second ends");
            })
            .expect("the end of the first future is no reason to stop the second one's run");
        assert_eq!(*events.borrow(), ["first starts", "first ends", "second ends"]);
    });
}

/// Rows: F02, F03.
#[test]
fn a_future_that_completes_in_the_round_of_the_stop_has_its_output_returned() {
    on_new_loops(|event_loop| {
        event_loop.stop();
        assert_eq!(event_loop.run_until_complete(async { 5 }).unwrap(), 5);
        // And nothing of it is left for the next run.
        event_loop.run_until_complete(async { yield_now().await }).unwrap();
    });
}

/// Rows: F02.
#[test]
fn a_second_running_loop_is_refused_and_neither_is_disturbed() {
    on_new_loops(|event_loop| {
        let (outer, other) = (event_loop.clone(), EventLoop::new());
        event_loop
            .run_until_complete(async move {
                assert!(matches!(outer.run_until_complete(async {}), Err(RunError::Nested)));
                assert!(matches!(outer.run_forever(), Err(RunError::Nested)));
                assert!(matches!(other.run_until_complete(async {}), Err(RunError::Nested)));
                assert!(matches!(selkie::try_run(async {}), Err(RunError::Nested)));
                assert!(!other.is_running());
                let task = spawn(async { 3 });
                assert_eq!(task.await.unwrap(), 3);
            })
            .unwrap();
    });
}

/// Rows: F02.
#[test]
fn a_simulation_runs_inside_a_task_of_any_loop() {
    on_new_loops(|event_loop| {
        let out = event_loop.run_until_complete(async {
            let outer = EventLoop::current().unwrap();
            let inner = Sim::new().run(async {
                sleep(Duration::from_secs(60)).await;
                spawn(async { 4 }).await.unwrap()
            });
            assert_eq!(outer.all_tasks(), selkie::all_tasks(), "the outer loop is the current one again");
            inner + spawn(async { 1 }).await.unwrap()
        });
        assert_eq!(out.unwrap(), 5);
    });
}

/// Rows: F03.
#[test]
fn a_stop_lets_the_batch_in_hand_finish_and_what_it_adds_waits_for_the_next_run() {
    on_new_loops(|event_loop| {
        let events = Rc::new(RefCell::new(Vec::new()));
        let log = |event: &'static str| {
            let events = events.clone();
            move || events.borrow_mut().push(event)
        };
        let (stopper, late) = (event_loop.clone(), log("added in the batch"));
        let before = log("before");
        let _ = event_loop
            .call_soon(move || {
                before();
                stopper.stop();
                let _ = stopper.call_soon(late).unwrap();
            })
            .unwrap();
        let _ = event_loop.call_soon(log("rest of the batch")).unwrap();
        event_loop.run_forever().unwrap();
        assert_eq!(*events.borrow(), ["before", "rest of the batch"]);

        event_loop.stop();
        event_loop.run_forever().unwrap();
        assert_eq!(*events.borrow(), ["before", "rest of the batch", "added in the batch"]);
    });
}

/// Rows: F03.
#[test]
fn a_stop_before_the_run_gives_one_round_that_does_not_wait() {
    on_new_loops(|event_loop| {
        let events = Rc::new(RefCell::new(Vec::new()));
        let (soon, later) = (events.clone(), events.clone());
        let _ = event_loop.call_soon(move || soon.borrow_mut().push("soon")).unwrap();
        let handle = event_loop
            .call_later(Duration::from_secs(3600), move || later.borrow_mut().push("later"))
            .unwrap();
        event_loop.stop();
        event_loop.run_forever().unwrap();
        assert_eq!(*events.borrow(), ["soon"]);
        assert!(handle.cancel(), "the timer is still there");
    });
}

/// Rows: F03, U15.
#[test]
fn a_stop_leaves_background_tasks_to_the_next_run() {
    on_new_loops(|event_loop| {
        let spawn = |priority| event_loop.spawn_with(Task::builder().priority(priority), async {}).unwrap();
        let [background, normal] = [Priority::Background, Priority::Normal].map(spawn);
        event_loop.stop();
        event_loop.run_forever().unwrap();
        assert!(normal.is_finished() && !background.is_finished());
        event_loop.run_until_complete(async { background.await.unwrap() }).unwrap();
    });
}

/// Rows: F03.
#[test]
fn a_done_callback_stops_the_loop() {
    on_new_loops(|event_loop| {
        let stopper = event_loop.clone();
        let task = event_loop
            .spawn(async {
                sleep(Duration::from_millis(1)).await;
                8
            })
            .unwrap();
        task.on_done(move |_| stopper.stop());
        event_loop.run_forever().unwrap();
        assert_eq!(task.result().unwrap().unwrap(), &8);
    });
}

/// Rows: F03.
#[test]
fn a_handle_stops_the_loop_too() {
    on_new_loops(|event_loop| {
        let handle = event_loop.handle();
        let _ = event_loop.call_soon(move || handle.stop().unwrap()).unwrap();
        event_loop.run_forever().unwrap();
    });
}

/// Rows: F06.
#[test]
fn closing_twice_is_fine_and_a_closed_loop_refuses_everything() {
    on_new_loops(|event_loop| {
        let handle = event_loop.handle();
        event_loop.close().unwrap();
        event_loop.close().unwrap();
        assert!(event_loop.is_closed());
        assert_eq!(event_loop.call_soon(|| {}).unwrap_err(), LoopClosed);
        assert_eq!(event_loop.call_later(Duration::ZERO, || {}).unwrap_err(), LoopClosed);
        assert_eq!(event_loop.call_at(Duration::ZERO, || {}).unwrap_err(), LoopClosed);
        assert_eq!(event_loop.spawn(async {}).unwrap_err(), LoopClosed);
        assert!(matches!(event_loop.run_until_complete(async {}), Err(RunError::Closed)));
        assert!(matches!(event_loop.run_forever(), Err(RunError::Closed)));
        assert_eq!(handle.call_soon_threadsafe(|| {}).unwrap_err(), LoopClosed);
        assert_eq!(handle.stop().unwrap_err(), LoopClosed);
        // These stay harmless.
        event_loop.stop();
        let _ = event_loop.time();
        assert!(event_loop.all_tasks().is_empty());
    });
}

/// Rows: F06.
#[test]
fn a_running_loop_cannot_be_closed() {
    on_new_loops(|event_loop| {
        let inside = event_loop.clone();
        event_loop
            .run_until_complete(async move {
                assert!(matches!(inside.close(), Err(RunError::Nested)));
                yield_now().await;
            })
            .unwrap();
        assert!(!event_loop.is_closed());
    });
}

/// Rows: F06.
#[test]
fn closing_drops_what_was_queued_without_running_it() {
    on_new_loops(|event_loop| {
        let _reports = Reports::of(&event_loop);
        let events = Rc::new(RefCell::new(Vec::new()));
        let dropped = |what: &'static str| {
            let events = events.clone();
            OnDrop(move || events.borrow_mut().push(what))
        };
        let (soon, later, task) = (dropped("soon"), dropped("later"), dropped("task"));
        let _ = event_loop
            .call_soon(move || {
                let _soon = soon;
                unreachable!()
            })
            .unwrap();
        let _ = event_loop
            .call_later(Duration::from_secs(1), move || {
                let _later = later;
                unreachable!()
            })
            .unwrap();
        let task = event_loop
            .spawn(async move {
                let _task = task;
                unreachable!()
            })
            .unwrap();
        event_loop.handle().call_soon_threadsafe(|| unreachable!()).unwrap();
        event_loop.close().unwrap();
        assert_eq!(*events.borrow(), ["soon", "later", "task"]);
        assert!(task.is_cancelled());
    });
}

/// Rows: F06.
#[test]
fn the_last_value_of_a_loop_closes_it() {
    on_new_loops(|event_loop| {
        // Only the loop itself, and not what `on_new_loops` keeps of it, is dropped here.
        let handle = event_loop.handle();
        let clone = event_loop.clone();
        drop(clone);
        handle.call_soon_threadsafe(|| {}).unwrap();
        drop(event_loop);
        assert_eq!(handle.call_soon_threadsafe(|| {}).unwrap_err(), LoopClosed);
    });
}

/// Rows: F06.
#[test]
fn a_task_spawned_by_a_destructor_of_a_closing_loop_is_returned_cancelled() {
    on_new_loops(|event_loop| {
        let _reports = Reports::of(&event_loop);
        let seen = Rc::new(RefCell::new(None));
        let out = seen.clone();
        let guard = OnDrop(move || {
            let late = spawn(async { unreachable!("a closing loop runs nothing") });
            *out.borrow_mut() = Some(late);
        });
        event_loop
            .spawn(async move {
                let _guard = guard;
                std::future::pending::<()>().await;
            })
            .unwrap()
            .detach();
        event_loop.close().unwrap();
        let late: selkie::Task<()> = seen.take().expect("the destructor ran");
        assert!(late.is_finished() && late.is_cancelled());
    });
}

/// Difference: X37. Files and sockets belong to the libraries of each host; what they need of a loop is a waker, which
/// any thread may call.
#[test]
fn a_future_of_another_library_is_woken_from_outside_of_the_loop() {
    on_new_loops(|event_loop| {
        let (sender, receiver) = futures::channel::oneshot::channel();
        let handle = event_loop.handle();
        let _ = event_loop
            .call_soon(move || {
                // Stands for the driver of a socket: it runs in no task and knows nothing of selkie.
                handle.call_soon_threadsafe(move || sender.send(6).unwrap()).unwrap();
            })
            .unwrap();
        assert_eq!(event_loop.run_until_complete(receiver).unwrap(), Ok(6));
    });
}

/// Rows: F05.
#[test]
fn run_ends_main_then_cancels_awaits_and_reports_the_rest() {
    let run = |main: futures::future::LocalBoxFuture<'static, &'static str>| {
        let mut runner = selkie::Runner::with_loop(Sim::new().event_loop());
        runner.run(main)
    };
    let events = Rc::new(RefCell::new(Vec::new()));
    let log = events.clone();
    let out = run(Box::pin(async move {
        let inner = log.clone();
        spawn(async move {
            let caught = selkie::catch_cancel(sleep(Duration::from_secs(60))).await;
            inner.borrow_mut().push("asked to end");
            sleep(Duration::from_secs(1)).await;
            inner.borrow_mut().push("cleaned up");
            if let Err(cancelled) = caught {
                cancelled.resume().await;
            }
        })
        .detach();
        let inner = log.clone();
        spawn(async move {
            let _guard = OnDrop(move || inner.borrow_mut().push("dropped"));
            std::future::pending::<()>().await;
        })
        .detach();
        log.borrow_mut().push("main ends");
        "out"
    }));
    assert_eq!(out.unwrap(), "out");
    assert_eq!(*events.borrow(), ["main ends", "asked to end", "dropped", "cleaned up"]);
}

/// Rows: F05.
#[test]
fn run_on_the_host_returns_the_output_or_says_that_it_cannot_block() {
    let events = Rc::new(RefCell::new(Vec::new()));
    let log = events.clone();
    let result = selkie::try_run(async move {
        let inner = log.clone();
        spawn(async move {
            let _guard = OnDrop(move || inner.borrow_mut().push("rest"));
            std::future::pending::<()>().await;
        })
        .detach();
        log.borrow_mut().push("main");
        1
    });
    if HOST_BLOCKS {
        assert_eq!(result.unwrap(), 1);
        assert_eq!(*events.borrow(), ["main", "rest"]);
    } else {
        assert!(matches!(result, Err(RunError::WouldBlock)));
        assert!(events.borrow().is_empty());
    }
}

/// Rows: F05.
#[test]
fn a_task_that_refuses_to_end_is_dropped_and_named_when_the_limit_is_over() {
    let event_loop = Sim::new().event_loop();
    let reports = Reports::of(&event_loop);
    let mut runner = selkie::Runner::with_loop(event_loop.clone()).shutdown_limit(Duration::from_secs(2));
    let dropped = Rc::new(Cell::new(None));
    let (at, clock) = (dropped.clone(), event_loop.clone());
    runner
        .run(async move {
            selkie::Task::builder()
                .name("stubborn")
                .spawn(async move {
                    let _guard = OnDrop(move || at.set(Some(clock.time())));
                    loop {
                        let _ = selkie::catch_cancel(std::future::pending::<()>()).await;
                    }
                })
                .detach();
        })
        .unwrap();
    runner.close();
    assert_eq!(dropped.get(), Some(Duration::from_secs(2)));
    assert_eq!(reports.take(), ["task \"stubborn\" was destroyed while it was pending"]);
}

behaviour! {
    /// Rows: F09.
    async fn callbacks_and_tasks_that_are_ready_run_first_in_first_out(t) {
        let event_loop = EventLoop::current().unwrap();
        for name in ["a", "b", "c"] {
            let inner = t.clone();
            let _ = event_loop.call_soon(move || inner.log(format!("call {name}"))).unwrap();
            let inner = t.clone();
            spawn_lazy(async move { inner.log(format!("task {name}")) }).detach();
        }
        yield_now().await;
        t.log("main");
    } => ["call a", "task a", "call b", "task b", "call c", "task c", "main"]
}

behaviour! {
    /// Rows: F09.
    async fn what_becomes_ready_in_a_round_waits_for_the_next_one(t) {
        let event_loop = EventLoop::current().unwrap();
        let (inner, again) = (t.clone(), event_loop.clone());
        let _ = event_loop.call_soon(move || {
            inner.log("first");
            let _ = again.call_soon(move || inner.log("added by the first")).unwrap();
        }).unwrap();
        let inner = t.clone();
        let _ = event_loop.call_soon(move || inner.log("second")).unwrap();
        yield_now().await;
        t.log("main");
        yield_now().await;
    } => ["first", "second", "main", "added by the first"]
}

/// Rows: F09.
#[test]
fn a_timer_that_is_due_goes_behind_what_is_ready() {
    let sim = Sim::new();
    let events = Rc::new(RefCell::new(Vec::new()));
    let log = events.clone();
    sim.run(async move {
        let event_loop = EventLoop::current().unwrap();
        let log = move |event: &'static str| {
            let log = log.clone();
            move || log.borrow_mut().push(event)
        };
        let due = event_loop.time();
        let _ = event_loop.call_soon(log("ready")).unwrap();
        let _ = event_loop.call_at(due, log("due")).unwrap();
        let _ = event_loop.call_soon(log("ready too")).unwrap();
        sleep(Duration::from_millis(1)).await;
    });
    assert_eq!(*events.borrow(), ["ready", "ready too", "due"]);
}

/// Rows: F16.
#[test]
fn what_a_closing_loop_ends_may_cancel_what_it_ends_next() {
    on_new_loops(|event_loop| {
        let reports = Reports::of(&event_loop);
        let later: Rc<RefCell<Option<Handle>>> = Rc::default();
        let cancels = later.clone();
        let guard = OnDrop(move || assert!(cancels.take().unwrap().cancel()));
        let first = async move {
            std::future::pending::<()>().await;
            drop(guard);
        };
        event_loop.spawn_with(Task::builder().name("first"), first).unwrap().detach();
        later.replace(Some(event_loop.call_later(Duration::from_secs(1), || unreachable!()).unwrap()));
        event_loop.close().unwrap();
        assert_eq!(reports.take(), ["task \"first\" was destroyed while it was pending"]);
        assert!(later.borrow().is_none());
    });
}
