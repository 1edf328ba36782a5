//! wait and TaskSet.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt};
use selkie::{
    Task, TaskSet, TaskState, Until, as_completed, sleep, spawn, spawn_lazy, testing::Sim, wait, yield_now,
};

use crate::harness::T;

/// Ends after `seconds`, with its name.
fn job(t: &T, name: &str, seconds: f64) -> Task<()> {
    let length = t.secs(seconds);
    Task::builder().name(name).spawn(sleep(length))
}

fn jobs<const N: usize>(t: &T, jobs: [(&str, f64); N]) -> TaskSet<()> {
    jobs.map(|(name, seconds)| job(t, name, seconds)).into_iter().collect()
}

fn names<R>(tasks: &[Task<R>]) -> Vec<String> {
    tasks.iter().map(|task| task.name().to_string()).collect()
}

fn sorted<R>(set: &TaskSet<R>) -> Vec<String> {
    let mut names: Vec<_> = set.iter().map(|task| task.name().to_string()).collect();
    names.sort();
    names
}

behaviour! {
    /// Rows: F30.
    /// Difference: F30. asyncio gives two unordered sets, and raises nothing either.
    #[cfg(panic = "unwind")]
    async fn waiting_for_all_gives_the_tasks_in_the_order_in_which_they_ended(t) {
        let start = t.now();
        let mut set = jobs(&t, [("c", 3.0), ("a", 1.0), ("b", 2.0)]);
        let cancelled = job(&t, "cancelled", 9.0);
        cancelled.cancel();
        set.insert(cancelled);
        set.insert(Task::builder().name("panics").lazy().spawn(async { panic!("broken") }));
        let done = wait(&mut set, Until::All).await;
        t.assert_elapsed(start, 3.0);
        assert!(set.is_empty() && set.pending() == 0);
        assert_eq!(names(&done), ["cancelled", "panics", "a", "b", "c"]);
        assert!(done[0].is_cancelled() && done[1].result().unwrap().unwrap_err().is_panic());
    }
}

behaviour! {
    async fn who_does_not_wait_for_the_next_end_any_more_is_forgotten(t) {
        struct Nobody;
        impl std::task::Wake for Nobody {
            fn wake(self: Arc<Self>) {}
        }
        let nobody = Arc::new(Nobody);
        let waker = Waker::from(nobody.clone());
        let mut cx = Context::from_waker(&waker);
        let mut set = jobs(&t, [("a", 1.0)]);
        assert!(pin!(set.next_done()).poll(&mut cx).is_pending());
        assert_eq!(Arc::strong_count(&nobody), 2, "the set");
        let mut each = as_completed(set.drain());
        assert!(pin!(each.next_done()).poll(&mut cx).is_pending());
        assert_eq!(Arc::strong_count(&nobody), 2, "the tasks as they end");
        let mut each = as_completed(each.into_set()).timeout(t.secs(9.0));
        assert!(pin!(each.next_done()).poll(&mut cx).is_pending());
        // The timer is the stream's.
        assert!(Arc::strong_count(&nobody) <= 3, "and within a time");
        assert_eq!(names(&[each.next_done().await.unwrap().unwrap()]), ["a"]);
        drop(each);
        assert_eq!(Arc::strong_count(&nobody), 2);
    }
}

behaviour! {
    /// Difference: F30. asyncio takes at least one cycle of the loop.
    async fn a_wait_whose_condition_holds_is_ready_at_once(t) {
        let mut set: TaskSet<_> = [spawn(async { 1 }), spawn(async { 2 })].into_iter().collect();
        assert_eq!(wait(&mut set, Until::All).now_or_never().unwrap().len(), 2);
        set.extend([spawn(async { 3 }), spawn(std::future::pending())]);
        let done = wait(&mut set, Until::FirstCompleted).now_or_never().unwrap();
        assert_eq!(done[0].result().unwrap().unwrap(), &3);
        assert_eq!((done.len(), set.len()), (1, 1));
    }
}

behaviour! {
    /// Rows: F31.
    async fn waiting_for_the_first_gives_all_that_are_done_by_then(t) {
        // One that ends wakes the waiter; the others end in the same round, before it has its turn.
        let mut set: TaskSet<_> =
            (0..4).map(|n| Task::builder().name(format!("{n}")).spawn(async move {
                if n == 3 { std::future::pending().await }
                yield_now().await;
            })).collect();
        let done = wait(&mut set, Until::FirstCompleted).await;
        assert_eq!(names(&done), ["0", "1", "2"]);
        assert_eq!(sorted(&set), ["3"]);
        set.cancel_all();
        let done = wait(&mut set, Until::FirstCompleted).await;
        assert!(done[0].is_cancelled(), "a cancelled task has completed");
    }
}

behaviour! {
    /// Rows: F31.
    async fn a_wait_is_not_woken_before_its_time(t) {
        let mut set = jobs(&t, [("a", 1.0), ("b", 2.0), ("c", 3.0)]);
        let polls = Rc::new(RefCell::new(0));
        let mut waiting = Box::pin(wait(&mut set, Until::All));
        let counted = std::future::poll_fn(|cx| {
            *polls.borrow_mut() += 1;
            waiting.poll_unpin(cx)
        });
        assert_eq!(counted.await.len(), 3);
        assert_eq!(*polls.borrow(), 2, "once to begin and once at the end");
    }
}

behaviour! {
    /// Rows: F32.
    async fn waiting_for_the_first_error_does_not_count_a_cancelled_task(t) {
        let start = t.now();
        let result = |name, seconds: f64, result: Result<(), &'static str>| {
            let length = t.secs(seconds);
            Task::builder().name(name).spawn(async move {
                sleep(length).await;
                result
            })
        };
        let cancelled = result("cancelled", 9.0, Ok(()));
        cancelled.cancel();
        let tasks = [cancelled, result("ok", 1.0, Ok(())), result("bad", 2.0, Err("bad")), result("late", 12.0, Ok(()))];
        let mut set: TaskSet<_> = tasks.into_iter().collect();
        let late = set.iter().find(|task| &*task.name() == "late").unwrap().any();
        let done = wait(&mut set, Until::FIRST_ERROR).await;
        t.assert_elapsed(start, 2.0);
        assert_eq!(names(&done), ["cancelled", "ok", "bad"]);
        assert_eq!(done[2].result().unwrap().unwrap(), &Err("bad"));
        assert_eq!((sorted(&set), late.cancelling()), (vec!["late".to_owned()], 0));
        // Without an error it waits for all.
        set.insert(result("later", 2.0, Ok(())));
        assert_eq!(names(&wait(&mut set, Until::FIRST_ERROR).await), ["later", "late"]);
        t.assert_elapsed(start, 12.0);
        // An error that is there already counts.
        set.insert(result("pending", 9.0, Ok(())));
        set.insert(spawn(async { Err("at once") }));
        assert_eq!(wait(&mut set, Until::FIRST_ERROR).await.len(), 1);
    }
}

behaviour! {
    /// Rows: F32.
    #[cfg(panic = "unwind")]
    async fn a_panic_counts_as_an_error(t) {
        let mut set: TaskSet<Result<(), ()>> = TaskSet::new();
        set.spawn(std::future::pending());
        set.spawn(async { yield_now().await; panic!("broken") });
        let done = wait(&mut set, Until::FIRST_ERROR).await;
        assert!(done[0].result().unwrap().unwrap_err().is_panic());
    }
}

behaviour! {
    /// Rows: F33.
    async fn a_wait_that_runs_out_of_time_gives_what_is_done_and_cancels_nothing(t) {
        let start = t.now();
        let mut set = jobs(&t, [("a", 1.0), ("b", 5.0)]);
        let b = set.iter().find(|task| &*task.name() == "b").unwrap().any();
        let done = wait(&mut set, Until::All).timeout(t.secs(2.0)).await;
        t.assert_elapsed(start, 2.0);
        assert_eq!((names(&done), sorted(&set)), (vec!["a".to_owned()], vec!["b".to_owned()]));
        assert_eq!((b.state(), b.cancelling()), (TaskState::Waiting, 0));
        assert!(wait(&mut set, Until::FirstCompleted).timeout(t.secs(1.0)).await.is_empty());
        assert_eq!(names(&wait(&mut set, Until::FirstCompleted).timeout(Duration::MAX).await), ["b"]);
        t.assert_elapsed(start, 5.0);
    }
}

behaviour! {
    /// Rows: F33.
    async fn a_timeout_of_zero_lets_what_is_ready_run_once(t) {
        let mut set: TaskSet<_> = [spawn_lazy(async { 1 }), spawn(std::future::pending())].into_iter().collect();
        let done = wait(&mut set, Until::All).timeout(Duration::ZERO).await;
        assert_eq!(done[0].result().unwrap().unwrap(), &1);
        assert_eq!((done.len(), set.len()), (1, 1));
        assert!(wait(&mut set, Until::All).timeout(Duration::ZERO).await.is_empty());
    }
}

behaviour! {
    /// Rows: F34.
    async fn what_is_left_can_be_waited_for_again_in_stages(t) {
        let start = t.now();
        // Far apart: on a host the timeout counts from whenever this task hears of "a".
        let mut set = jobs(&t, [("a", 1.0), ("b", 4.0), ("c", 10.0), ("d", 12.0)]);
        let stage = |tasks: Vec<Task<()>>| t.log(names(&tasks).join(" "));
        stage(wait(&mut set, Until::FirstCompleted).await);
        stage(wait(&mut set, Until::All).timeout(t.secs(6.0)).await);
        set.insert(job(&t, "e", 0.0));
        stage(wait(&mut set, Until::FirstCompleted).await);
        stage(wait(&mut set, Until::All).await);
        t.assert_elapsed(start, 12.0);
    } => ["a", "b", "e", "c d"]
}

behaviour! {
    /// Difference: F35. asyncio raises a ValueError, which a loop over a set that shrinks never meets.
    async fn waiting_for_an_empty_set_gives_nothing_at_once(t) {
        let mut set = TaskSet::<Result<(), ()>>::default();
        for until in [Until::FirstCompleted, Until::All, Until::FIRST_ERROR] {
            assert!(wait(&mut set, until).timeout(Duration::MAX).now_or_never().unwrap().is_empty());
        }
        assert!(set.next_done().await.is_none());
    }
}

behaviour! {
    /// Rows: F35.
    async fn cancelling_the_waiter_leaves_the_tasks_running(t) {
        let set = Rc::new(RefCell::new(jobs(&t, [("a", 1.0), ("b", 2.0)])));
        let inner = set.clone();
        #[allow(clippy::await_holding_refcell_ref)]
        let waiter = spawn(async move { wait(&mut inner.borrow_mut(), Until::All).await.len() });
        sleep(t.secs(1.5)).await;
        waiter.cancel();
        assert!(waiter.await.unwrap_err().is_cancelled());
        let mut set = set.take();
        assert_eq!(set.len(), 2, "the one that has ended is still there");
        assert!(set.iter().all(|task| task.cancelling() == 0));
        assert_eq!(names(&wait(&mut set, Until::All).await), ["a", "b"]);
    }
}

/// Rows: F36.
#[cfg_attr(not(all(target_family = "wasm", target_os = "unknown")), test)]
#[cfg_attr(all(target_family = "wasm", target_os = "unknown"), wasm_bindgen_test::wasm_bindgen_test)]
fn a_loop_runs_a_wait_to_its_end() {
    let sim = Sim::new();
    let event_loop = sim.event_loop();
    let tasks = [2, 1].map(|n| {
        let future = async move {
            sleep(Duration::from_secs(n)).await;
            n
        };
        event_loop.spawn(future).unwrap()
    });
    let mut set: TaskSet<_> = tasks.into_iter().collect();
    let done = event_loop.run_until_complete(async move { wait(&mut set, Until::All).await }).unwrap();
    let values: Vec<_> = done.iter().map(|task| *task.result().unwrap().unwrap()).collect();
    assert_eq!(values, [1, 2]);
}

behaviour! {
    /// Rows: F30.
    async fn a_set_may_hold_tasks_of_another_loop_of_the_thread(t) {
        let sim = Sim::new();
        let other = sim.event_loop();
        let mut set: TaskSet<_> = [other.spawn(async { yield_now().await; 7 }).unwrap()].into_iter().collect();
        let waiter = spawn(async move { *wait(&mut set, Until::All).await[0].result().unwrap().unwrap() });
        other.run_until_complete(async { for _ in 0..3 { yield_now().await } }).unwrap();
        assert_eq!(waiter.await.unwrap(), 7);
    }
}

behaviour! {
    /// Rows: F31, F15.
    async fn a_task_is_done_when_its_callbacks_have_run(t) {
        let mut set: TaskSet<_> = [spawn(async { yield_now().await; 1 })].into_iter().collect();
        for task in &set {
            let t = t.clone();
            task.on_done(move |_| t.log("callback"));
        }
        let done = wait(&mut set, Until::FirstCompleted).await;
        t.log("done");
        assert!(done.into_iter().next().unwrap().try_into_result().is_ok());
    } => ["callback", "done"]
}

behaviour! {
    /// Rows: F31.
    async fn a_set_is_a_stream_of_tasks_as_they_end(t) {
        // Far apart: on a host "d" counts from whenever this task hears of "a".
        let mut set = jobs(&t, [("c", 8.0), ("a", 1.0), ("b", 6.0)]);
        assert_eq!(set.size_hint(), (3, Some(3)));
        t.log(set.next().await.unwrap().name().to_string());
        set.insert(job(&t, "d", 0.5));
        while let Some(task) = set.next_done().await {
            t.log(task.name().to_string());
        }
        assert!(set.next().await.is_none());
    } => ["a", "d", "b", "c"]
}

behaviour! {
    /// Rows: F35.
    async fn dropping_a_set_detaches_its_tasks(t) {
        let ended = spawn(async {});
        let (t1, t2) = (t.clone(), t.clone());
        let watch = spawn(async move { sleep(t1.secs(1.0)).await; t1.log("ends"); });
        let end = watch.any();
        let removed = spawn(async move { t2.log("removed ends"); });
        drop(TaskSet::from_iter([ended, watch, removed]));
        t.log("dropped");
        end.ended().await;
        assert_eq!((end.state(), end.cancelling()), (TaskState::Finished, 0));
    } => ["removed ends", "dropped", "ends"]
}

behaviour! {
    /// Rows: F34.
    async fn tasks_can_be_taken_out_of_a_set_ended_or_not(t) {
        let mut set = jobs(&t, [("a", 0.0), ("b", 0.0), ("c", 9.0), ("d", 9.0), ("e", 0.0)]);
        let id = |set: &TaskSet<()>, name: &str| set.iter().find(|task| &*task.name() == name).unwrap().id();
        sleep(t.secs(1.0)).await;
        assert_eq!((set.len(), set.pending()), (5, 2));
        let (b, c) = (id(&set, "b"), id(&set, "c"));
        let b = set.remove(b).unwrap();
        let c = set.remove(c).unwrap();
        assert!(b.is_finished() && !c.is_finished());
        assert!(set.remove(c.id()).is_none());
        assert_eq!((set.len(), set.pending()), (3, 1));
        assert_eq!(names(&wait(&mut set, Until::FirstCompleted).await), ["a", "e"]);
        // What was taken out can be waited for elsewhere.
        c.cancel();
        b.await.unwrap();
        assert!(c.await.unwrap_err().is_cancelled());
        set.insert(job(&t, "f", 0.0));
        sleep(t.secs(1.0)).await;
        let rest: Vec<_> = set.drain().collect();
        assert_eq!((rest.len(), set.len(), set.pending()), (2, 0, 0));
        assert!(wait(&mut set, Until::All).await.is_empty());
    }
}

behaviour! {
    /// Rows: F31, F34.
    seeds async fn ten_thousand_tasks_drained_as_they_end(t) {
        let count: u64 = if t.is_sim() { 300 } else { 10_000 };
        let job = |n: u64| async move {
            sleep(Duration::from_nanos(n * 7919 % 1000)).await;
            if n % 3 == 0 { yield_now().await }
            n
        };
        let mut set: TaskSet<_> = (0..count).map(|n| spawn(job(n))).collect();
        let mut seen = vec![false; count as usize];
        let mut more = 50;
        while !set.is_empty() {
            let done = wait(&mut set, Until::FirstCompleted).await;
            assert!(!done.is_empty());
            for task in done {
                let n = task.await.unwrap();
                assert!(!std::mem::replace(&mut seen[n as usize], true), "{n} came twice");
                if more > 0 {
                    more -= 1;
                    seen.push(false);
                    set.spawn(job(seen.len() as u64 - 1));
                }
            }
        }
        assert!(seen.iter().all(|seen| *seen));
    }
}

behaviour! {
    /// Rows: F31.
    async fn a_set_wakes_whoever_has_asked_last(t) {
        let mut set: TaskSet<()> = [spawn(sleep(t.secs(1.0)))].into_iter().collect();
        poll_fn(|cx| {
            assert!(pin!(set.next_done()).poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        let other = spawn(async move { set.next_done().await.is_some() });
        assert!(other.await.unwrap());
    }
}

behaviour! {
    /// Rows: F15.
    async fn a_set_gives_out_what_had_ended_when_its_callbacks_have_run(t) {
        let task = spawn(async {});
        let inner = t.clone();
        task.on_done(move |_| inner.log("callback"));
        let mut set: TaskSet<()> = [task].into_iter().collect();
        let done = set.next_done().await.unwrap();
        t.log("taken");
        done.try_into_result().unwrap().unwrap();
    } => ["callback", "taken"]
}
