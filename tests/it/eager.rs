//! Eager starts: what they see, what they leave as it was, when they fall back to the queue.

use std::{cell::Cell, rc::Rc};

use selkie::{ContextVar, EventLoop, Priority, Task, all_tasks, current_task, spawn, spawn_lazy, yield_now};

use crate::harness::test;

static VAR: ContextVar<u32> = ContextVar::new();

behaviour! {
    /// Rows: F21, X12.
    async fn a_body_that_never_suspends_is_done_when_spawn_returns(t) {
        let before = all_tasks().len();
        let task = spawn(async { 3 });
        assert!(task.is_finished());
        assert_eq!(all_tasks().len(), before);
        assert_eq!(task.result().unwrap().unwrap(), &3);
        let lazy = Task::builder().lazy().spawn(async {});
        let background = Task::builder().priority(Priority::Background).spawn(async {});
        assert!(!lazy.is_finished() && !background.is_finished());
        lazy.await.unwrap();
        background.await.unwrap();
    }
}

behaviour! {
    /// Rows: X11, X12.
    async fn an_eager_start_has_its_own_context_and_is_the_current_task_meanwhile(t) {
        let me = current_task().unwrap();
        VAR.set(1);
        let child = spawn(async {
            let inherited = VAR.get();
            VAR.set(2);
            let id = current_task().unwrap().id();
            yield_now().await;
            (inherited, VAR.get(), id)
        });
        assert_eq!(VAR.get(), Some(1));
        assert_eq!(current_task().unwrap(), me);
        VAR.set(3);
        let id = child.id();
        assert_eq!(child.await.unwrap(), (Some(1), Some(2), id));
        VAR.clear();
        assert_eq!(VAR.get(), None);
    }
}

behaviour! {
    /// Rows: X12.
    async fn deep_nests_of_eager_starts_fall_back_to_the_queue(t) {
        fn nest(depth: u32, deepest: Rc<Cell<u32>>) {
            deepest.set(deepest.get().max(depth));
            if depth < 10_000 {
                spawn(async move { nest(depth + 1, deepest) }).detach();
            }
        }
        let deepest = Rc::new(Cell::new(0));
        nest(0, deepest.clone());
        let at_once = deepest.get();
        assert!((8..=32).contains(&at_once), "{at_once}");
        while deepest.get() < 10_000 {
            yield_now().await;
        }
    }
}

/// Rows: X12.
#[test]
fn a_loop_that_does_not_run_starts_nothing_at_once() {
    let event_loop = selkie::testing::Sim::new().event_loop();
    let task = event_loop.spawn(async {}).unwrap();
    assert!(!task.is_finished());
    event_loop.run_until_complete(yield_now()).unwrap();
    assert!(task.is_finished());
}

behaviour! {
    /// Rows: X12.
    async fn the_loop_s_own_spawn_is_eager_as_well(t) {
        let task = EventLoop::current().unwrap().spawn(async { 1 }).unwrap();
        assert!(task.is_finished());
        let lazy = spawn_lazy(async { 2 });
        assert!(!lazy.is_finished());
    }
}
