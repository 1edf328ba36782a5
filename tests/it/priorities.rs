//! Lanes: who runs first, and that nobody starves.

use std::{cell::Cell, rc::Rc};

use selkie::{Priority, Task, yield_now};

behaviour! {
    /// Rows: U15.
    async fn urgent_runs_before_normal_and_background_comes_last(t) {
        for (name, priority) in
            [("background", Priority::Background), ("normal", Priority::Normal), ("urgent", Priority::Urgent)]
        {
            for round in 0..2 {
                let inner = t.clone();
                Task::builder()
                    .priority(priority)
                    .lazy()
                    .spawn(async move { inner.log(format!("{name} {round}")) })
                    .detach();
            }
        }
        selkie::sleep(t.secs(1.0)).await;
    } => ["urgent 0", "urgent 1", "normal 0", "normal 1", "background 0", "background 1"]
}

behaviour! {
    /// Rows: U15.
    async fn tasks_that_are_always_ready_leave_the_background_a_poll_in_sixteen(t) {
        for busy in [Priority::Urgent, Priority::Normal] {
            let (polls, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
            let (count, over) = (polls.clone(), done.clone());
            let busy = Task::builder().priority(busy).spawn(async move {
                while !over.get() {
                    count.set(count.get() + 1);
                    yield_now().await;
                }
            });
            let (count, start) = (polls.clone(), polls.get());
            let background = Task::builder().priority(Priority::Background).spawn(async move {
                for step in 1..=10 {
                    assert!(count.get() - start <= step * 64, "starved at step {step}");
                    yield_now().await;
                }
                done.set(true);
            });
            background.await.unwrap();
            busy.await.unwrap();
            assert!(polls.get() >= 100, "the background got no more than its share: {}", polls.get());
        }
    }
}

behaviour! {
    /// Rows: U15.
    async fn an_urgent_task_that_is_always_ready_does_not_stop_normal_ones_or_timers(t) {
        let over = Rc::new(Cell::new(false));
        let stop = over.clone();
        let busy = Task::builder().priority(Priority::Urgent).spawn(async move {
            while !stop.get() {
                yield_now().await;
            }
        });
        for _ in 0..100 {
            yield_now().await;
        }
        if !t.is_sim() {
            // Virtual time stands still while something is ready.
            selkie::sleep(t.secs(1.0)).await;
        }
        over.set(true);
        busy.await.unwrap();
    }
}

behaviour! {
    /// Rows: U15.
    async fn a_yield_waits_for_no_lane_behind_the_tasks_own(t) {
        let lazily = |priority| Task::builder().priority(priority).lazy().spawn(async {});
        let (background, normal) = (lazily(Priority::Background), lazily(Priority::Normal));
        yield_now().await;
        assert!(normal.is_finished() && !background.is_finished());
        background.await.unwrap();
    }
}
