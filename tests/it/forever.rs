//! `run_forever` where a thread must not block.

use std::{cell::RefCell, rc::Rc, time::Duration};

use selkie::{EventLoop, RunError, os::web::run_forever};

use crate::test;

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
