//! `run_forever` where a thread must not block.

use std::{cell::RefCell, rc::Rc, time::Duration};

use selkie::{EventLoop, RunError, os::web::run_forever};

use crate::test;

/// Such a thread waits in the call, so not within another loop's turn.
#[cfg(target_feature = "atomics")]
#[test]
async fn a_thread_that_waits_runs_a_loop_within_the_call_and_none_within_another() {
    crate::harness::on_a_thread(|| {
        let refused = selkie::run(async {
            let event_loop = EventLoop::new();
            event_loop.stop();
            run_forever(&event_loop).err()
        });
        assert!(matches!(refused, Some(RunError::Nested)), "{refused:?}");
        let event_loop = EventLoop::new();
        let task = event_loop.spawn(selkie::sleep(Duration::from_millis(1))).expect("the loop is open");
        let stopper = event_loop.clone();
        task.on_done(move |_| stopper.stop());
        let stopped = run_forever(&event_loop).expect("no loop runs");
        assert!(task.is_finished() && futures::FutureExt::now_or_never(stopped).is_some());
    })
    .await;
}

/// Difference: F03. A page cannot wait for its loop, so `EventLoop::run_forever` is an error and `os::web` has a future.
#[test]
async fn the_host_runs_a_loop_until_it_is_stopped_and_may_run_it_again() {
    let log = Rc::new(RefCell::new(Vec::new()));
    let event_loop = EventLoop::new();
    assert!(matches!(event_loop.run_forever(), Err(RunError::WouldBlock)));
    for round in 0..2 {
        let (said, late, stopper) = (log.clone(), log.clone(), event_loop.clone());
        let after = move || {
            said.borrow_mut().push((round, "stops"));
            stopper.stop();
        };
        let _ = event_loop.call_later(Duration::from_millis(5), after).expect("the loop is open");
        let stopped = run_forever(&event_loop).expect("the loop does not run");
        assert!(matches!(run_forever(&event_loop), Err(RunError::Nested)));
        assert!(event_loop.is_running());
        // Waits in a task of another loop: the thread's own.
        selkie::spawn(stopped).await.expect("the loop stops");
        late.borrow_mut().push((round, "has stopped"));
        assert!(!event_loop.is_running());
    }
    assert_eq!(*log.borrow(), [(0, "stops"), (0, "has stopped"), (1, "stops"), (1, "has stopped")]);
    event_loop.close().expect("the loop does not run");
    assert!(matches!(run_forever(&event_loop), Err(RunError::Closed)));
}
