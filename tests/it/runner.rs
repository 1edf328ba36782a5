//! `Runner`: one loop and one context for several runs.

use selkie::{ContextVar, EventLoop, LoopClosed, RunError, Runner, sleep, spawn, testing::Sim, yield_now};

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
