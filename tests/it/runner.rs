//! `Runner`: one loop and one context for several runs.

use std::{cell::RefCell, future::Future, rc::Rc, time::Duration};

use selkie::{
    ContextVar, Deferred, EventLoop, LoopClosed, RunError, Runner, catch_cancel, gather, sleep, spawn,
    spawn_lazy, staggered_race, testing::Sim, timeout, yield_now,
};

use crate::harness::{HOST_BLOCKS, on_new_loops, test};

static VAR: ContextVar<u32> = ContextVar::new();

/// Rows: X16.
#[test]
fn a_runner_keeps_its_loop_and_its_context() {
    on_new_loops(|event_loop| {
        let mut runner = Runner::with_loop(event_loop.clone());
        runner
            .run(async {
                VAR.set(1);
            })
            .unwrap();
        // A run that fails has its context kept as well.
        let cancelled = runner.run(async {
            assert_eq!(VAR.get(), Some(1));
            VAR.set(2);
            selkie::current_task().unwrap().cancel();
            std::future::pending::<()>().await;
        });
        assert!(matches!(cancelled, Err(RunError::Task(error)) if error.is_cancelled()));
        assert_eq!(runner.run(async { VAR.get() }).unwrap(), Some(2));
        assert_eq!(VAR.get(), None, "outside nothing has changed");
        runner.close();
        runner.close();
        assert!(event_loop.is_closed());
        assert!(matches!(runner.run(async {}), Err(RunError::Closed)));
        assert_eq!(runner.event_loop().unwrap_err(), LoopClosed);
    });
}

/// Rows: X16.
#[test]
fn a_runner_makes_its_loop_when_it_needs_one() {
    let mut runner = Runner::new();
    assert!(format!("{runner:?}").contains("event_loop: None"));
    let first = runner.event_loop().unwrap();
    let same = runner.run(async move { EventLoop::current().unwrap().all_tasks() == first.all_tasks() });
    match same {
        Ok(same) => assert!(HOST_BLOCKS && same),
        Err(error) => assert!(!HOST_BLOCKS && matches!(error, RunError::WouldBlock)),
    }
}

/// Rows: X16.
#[test]
fn a_runner_is_refused_inside_a_running_loop() {
    Sim::new().run(async {
        assert!(matches!(Runner::new().run(async {}), Err(RunError::Nested)));
    });
}

/// Rows: F05, F44.
#[test]
fn what_was_submitted_may_clean_up_as_a_run_ends() {
    on_new_loops(|event_loop| {
        let mut runner = Runner::with_loop(event_loop.clone());
        let (note, notes) = std::sync::mpsc::channel();
        let remote = runner.run(async move {
            let here = EventLoop::current().unwrap().handle();
            let submitted = here.submit(async move || {
                let caught = selkie::catch_cancel(std::future::pending::<()>()).await.unwrap_err();
                note.send("begun").unwrap();
                yield_now().await;
                note.send("ended").unwrap();
                caught.resume().await
            });
            yield_now().await;
            Some(submitted.unwrap())
        });
        runner.close();
        assert_eq!(notes.try_iter().collect::<Vec<_>>(), ["begun", "ended"]);
        assert!(remote.unwrap().unwrap().try_take().unwrap().unwrap_err().is_cancelled());
    });
}

/// Rows: X17. That Ctrl-C is this cancel, and the second one the end of the process, is tested where there is a terminal.
#[test]
fn an_interrupt_that_cancels_main_lets_it_clean_up_and_ends_the_rest_in_good_order() {
    let event_loop = Sim::new().event_loop();
    let mut runner = Runner::with_loop(event_loop.clone());
    let result = runner.run(async {
        let main = selkie::current_task().unwrap();
        spawn(async move {
            sleep(std::time::Duration::from_secs(1)).await;
            main.cancel_with("interrupted");
        })
        .detach();
        let caught = selkie::catch_cancel(std::future::pending::<()>()).await.unwrap_err();
        sleep(std::time::Duration::from_secs(1)).await;
        caught.resume().await;
    });
    let Err(RunError::Task(error)) = result else { panic!("main was cancelled") };
    assert_eq!(error.cancel_message(), Some("interrupted"));
    assert_eq!(event_loop.time().as_secs(), 2);
}

/// Logs when a cancel comes, and when what it does to end is done.
async fn tidy(log: Log) {
    let caught = catch_cancel(std::future::pending::<()>()).await.unwrap_err();
    log.borrow_mut().push("begun");
    for _ in 0..3 {
        yield_now().await;
    }
    log.borrow_mut().push("done");
    caught.resume().await;
}

type Log = Rc<RefCell<Vec<&'static str>>>;

/// What `main` leaves is asked to end once, be it by whoever awaits it, by the end of the run, or both.
fn ends_in_good_order<F: Future<Output = ()> + 'static>(main: impl Fn(Log) -> F) {
    let log = Log::default();
    let guest = selkie::guest(|_| std::future::ready(()), main(log.clone()));
    let _ = futures::executor::block_on(guest);
    assert_eq!(*log.borrow(), ["begun", "done"], "in a guest");
    on_new_loops(|event_loop| {
        let log = Log::default();
        let mut runner = Runner::with_loop(event_loop);
        let _ = runner.run(main(log.clone()));
        runner.close();
        assert_eq!(*log.borrow(), ["begun", "done"], "in a runner");
    });
}

/// Rows: X16.
#[test]
fn what_a_cancelled_main_awaits_may_clean_up_to_the_end() {
    ends_in_good_order(|log| async {
        let main = selkie::current_task().unwrap();
        let task = spawn(tidy(log));
        spawn_lazy(async move { main.cancel() }).detach();
        task.await.unwrap();
    });
    // By way of another task.
    ends_in_good_order(|log| async {
        let main = selkie::current_task().unwrap();
        let task = spawn(async { gather([tidy(log)]).await });
        spawn_lazy(async move { main.cancel() }).detach();
        task.await.unwrap();
    });
}

/// Rows: X16.
#[test]
fn what_main_gives_up_as_it_ends_may_clean_up_to_the_end() {
    ends_in_good_order(|log| async {
        assert!(timeout(Duration::ZERO, gather([tidy(log)])).await.is_err());
    });
}

/// Rows: X16.
#[test]
fn what_a_younger_task_awaits_may_clean_up_to_the_end() {
    ends_in_good_order(|log| async {
        let task = spawn(tidy(log));
        spawn(async { task.await.unwrap() }).detach();
    });
    ends_in_good_order(|log| async {
        let tasks = [spawn(tidy(log))];
        spawn(gather(tasks)).detach();
    });
    ends_in_good_order(|log| async {
        let task = spawn(tidy(log));
        let shared = Deferred::from_future(async { Ok::<_, String>(task.await) });
        spawn(async { shared.await.unwrap() }).detach();
    });
    ends_in_good_order(|log| async {
        let runner = || async {
            tidy(log).await;
            Ok::<_, String>(())
        };
        let mut race = Box::pin(staggered_race([runner], Duration::MAX));
        assert!(futures::poll!(race.as_mut()).is_pending());
        spawn(race).detach();
    });
}

/// Rows: X16.
#[test]
fn who_has_refused_to_end_with_a_main_is_asked_when_the_loop_ends() {
    on_new_loops(|event_loop| {
        let log = Log::default();
        let mut runner = Runner::with_loop(event_loop);
        let stubborn = log.clone();
        let _ = runner.run(async {
            let task = spawn(async {
                drop(catch_cancel(std::future::pending::<()>()).await);
                tidy(stubborn).await;
            });
            assert!(timeout(Duration::ZERO, task).await.is_err());
        });
        let _ = runner.run(yield_now());
        assert!(log.borrow().is_empty());
        runner.close();
        assert_eq!(*log.borrow(), ["begun", "done"]);
    });
}
