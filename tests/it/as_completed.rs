//! as_completed.

use std::{cell::Cell, time::Duration};

use futures::{Stream, StreamExt, future::poll_immediate};
use selkie::{
    AnyTask, TaskState, TimedOut, Until, as_completed, limit, sleep, spawn, timeout, wait, yield_now,
};

use crate::harness::T;

/// Gives its name after `seconds`.
async fn job(t: T, name: &'static str, seconds: f64) -> &'static str {
    t.log(format!("{name} starts"));
    sleep(t.secs(seconds)).await;
    name
}

behaviour! {
    /// Rows: X13.
    async fn as_completed_gives_the_tasks_themselves_in_the_order_in_which_they_end(t) {
        let tasks = [("c", 3.0), ("a", 1.0), ("b", 2.0)].map(|(name, s)| spawn(job(t.clone(), name, s)));
        let ids = tasks.each_ref().map(|task| task.id());
        let mut ended = Vec::new();
        let mut stream = as_completed(tasks);
        assert_eq!(stream.size_hint(), (3, Some(3)));
        while let Some(task) = stream.next().await {
            assert!(task.is_finished());
            ended.push(task.id());
            t.log(task.await.unwrap());
        }
        assert_eq!(ended, [ids[1], ids[2], ids[0]]);
    } => ["c starts", "a starts", "b starts", "a", "b", "c"]
}

behaviour! {
    /// Rows: X13.
    async fn futures_start_during_the_call(t) {
        let mut stream = as_completed([("b", 2.0), ("a", 1.0)].map(|(name, s)| job(t.clone(), name, s)));
        t.log("called");
        while let Some(task) = stream.next_done().await {
            t.log(task.await.unwrap());
        }
        assert!(stream.next_done().await.is_none());
    } => ["b starts", "a starts", "called", "a", "b"]
}

behaviour! {
    /// Rows: X13.
    /// Difference: X13. asyncio runs a task given twice once; here a task cannot be given twice.
    async fn as_completed_of_nothing_ends_at_once(t) {
        assert!(as_completed(Vec::<selkie::Task<u8>>::new()).next().await.is_none());
        let mut timed = as_completed(limit(3, Vec::<selkie::Task<u8>>::new())).timeout(Duration::ZERO);
        assert!(timed.next().await.is_none());
    }
}

behaviour! {
    /// Rows: X13.
    async fn a_timeout_is_told_at_iteration_and_cancels_nothing(t) {
        let start = t.now();
        let tasks = [("a", 1.0), ("b", 3.0), ("c", 4.0)].map(|(name, s)| spawn(job(t.clone(), name, s)));
        let watch = tasks.each_ref().map(|task| task.any());
        let mut stream = as_completed(tasks).timeout(t.secs(2.0));
        assert_eq!(stream.next().await.unwrap().unwrap().await.unwrap(), "a");
        assert_eq!(stream.next().await.unwrap().unwrap_err(), TimedOut);
        t.assert_elapsed(start, 2.0);
        assert!(stream.next().await.is_none());
        assert!(watch.iter().all(|task| task.cancelling() == 0));
        assert_eq!(watch[1].state(), TaskState::Waiting);
        let mut rest = stream.into_set();
        let done = wait(&mut rest, Until::All).await;
        assert_eq!(done.len(), 2);
        t.assert_elapsed(start, 4.0);
    }
}

behaviour! {
    /// Rows: X13.
    async fn what_has_ended_comes_before_the_timeout(t) {
        let mut stream = as_completed([0.0, 0.0, 9.0].map(|s| job(t.clone(), "job", s))).timeout(t.secs(1.0));
        sleep(t.secs(2.0)).await;
        assert!(stream.next_done().await.unwrap().is_ok());
        assert!(stream.next_done().await.unwrap().is_ok());
        assert!(stream.next_done().await.unwrap().is_err());
        assert!(stream.next_done().await.is_none());
    }
}

behaviour! {
    /// Rows: X13.
    async fn one_can_leave_the_loop_and_go_on_with_the_same_stream(t) {
        let mut stream = as_completed([("b", 2.0), ("c", 3.0), ("a", 1.0)].map(|(name, s)| job(t.clone(), name, s)));
        if let Some(task) = stream.next().await {
            t.log(task.await.unwrap());
        }
        sleep(t.secs(5.0)).await;
        t.log("again");
        while let Some(task) = stream.next().await {
            t.log(task.await.unwrap());
        }
    } => ["b starts", "c starts", "a starts", "a", "again", "b", "c"]
}

behaviour! {
    /// Rows: X13.
    async fn dropping_the_stream_detaches_what_runs(t) {
        let task = spawn(job(t.clone(), "a", 1.0));
        let watch: AnyTask = task.any();
        drop(as_completed([task]));
        watch.ended().await;
        assert_eq!((watch.state(), watch.cancelling()), (TaskState::Finished, 0));
    }
}

behaviour! {
    /// Rows: X13.
    #[cfg(panic = "unwind")]
    async fn cancelled_and_panicked_tasks_come_as_any_other(t) {
        let cancelled = spawn(std::future::pending::<()>());
        cancelled.cancel();
        let mut stream = as_completed([cancelled, spawn(async { yield_now().await; panic!("broken") })]);
        assert!(stream.next().await.unwrap().is_cancelled());
        assert!(stream.next().await.unwrap().await.unwrap_err().is_panic());
        assert!(stream.next().await.is_none());
    }
}

behaviour! {
    /// Rows: U21, X13.
    async fn a_limit_starts_the_next_one_when_one_has_ended(t) {
        let jobs = [("a", 2.0), ("b", 1.0), ("c", 0.0), ("d", 1.0)];
        let mut stream = as_completed(limit(2, jobs.iter().map(|(name, s)| job(t.clone(), name, *s))));
        t.log("called");
        while let Some(task) = stream.next().await {
            t.log(task.await.unwrap());
        }
    } => [
        "a starts", "b starts", "called", "c starts", "b", "d starts", "c", "a", "d",
    ]
}

behaviour! {
    /// Rows: U21.
    async fn a_limit_gives_results_although_members_that_end_at_once_have_no_end(_t) {
        let mut stream = as_completed(limit(2, (0..).map(|n| async move { n })));
        for expected in 0..5 {
            assert_eq!(stream.next().await.unwrap().await.unwrap(), expected);
        }
    }
}

behaviour! {
    /// Rows: U21, X13.
    async fn a_timeout_comes_although_members_that_end_at_once_have_no_end(t) {
        let members = limit(1, std::iter::repeat_with(|| async {}));
        let mut stream = as_completed(members).timeout(t.secs(0.5));
        let timed_out = async {
            loop {
                match stream.next_done().await.expect("there is no end of them") {
                    Ok(task) => task.await.unwrap(),
                    Err(TimedOut) => return,
                }
                sleep(t.secs(0.1)).await;
            }
        };
        timeout(t.secs(10.0), timed_out).await.unwrap();
        assert!(stream.next_done().await.is_none());
    }
}

behaviour! {
    /// Rows: X13.
    async fn what_was_given_to_its_end_has_no_timeout_afterwards(t) {
        let mut stream = as_completed(limit(1, [job(t.clone(), "a", 0.0)])).timeout(t.secs(1.0));
        t.log(stream.next_done().await.unwrap().unwrap().await.unwrap());
        sleep(t.secs(2.0)).await;
        assert!(stream.next_done().await.is_none());
    } => ["a starts", "a"]
}

behaviour! {
    /// Rows: U21.
    async fn members_that_end_at_once_do_not_pile_up_behind_a_limit(_t) {
        let started = Cell::new(0);
        let members = (0..).map(|n| {
            started.set(n + 1);
            async move { n }
        });
        let mut stream = as_completed(limit(10, members));
        for expected in 0..100 {
            assert_eq!(stream.next().await.unwrap().await.unwrap(), expected);
            assert!(started.get() <= expected + 12, "{} after {expected}", started.get());
        }
    }
}

behaviour! {
    /// Rows: X13, U21.
    async fn an_iterator_is_not_asked_again_after_its_end(t) {
        let mut asked = 0;
        let members = std::iter::from_fn(|| {
            asked += 1;
            (asked <= 3).then(|| std::future::ready(asked))
        });
        let mut stream = as_completed(limit(2, members));
        while stream.next_done().await.is_some() {}
        assert!(stream.next_done().await.is_none());
        drop(stream);
        assert_eq!(asked, 4);
    }
}

behaviour! {
    /// Rows: X13, U21.
    async fn the_end_behind_a_limit_is_seen_although_the_time_is_over(t) {
        let mut stream = as_completed(limit(1, [sleep(t.secs(1.0))])).timeout(t.secs(2.0));
        assert!(poll_immediate(stream.next_done()).await.is_none());
        sleep(t.secs(3.0)).await;
        assert!(stream.next_done().await.unwrap().is_ok());
        assert!(stream.next_done().await.is_none(), "nothing is left that could be late");
    }
}
