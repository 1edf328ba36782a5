//! gather and try_gather.

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::Future,
    rc::Rc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use selkie::{
    AnyTask, EventLoop, JoinError, Priority, Task, TaskError, catch_cancel, current_task, gather, limit,
    sleep, spawn, spawn_lazy, testing::Sim, timeout, try_gather, yield_now,
};

use crate::harness::T;

/// Logs its start and its end, which is `seconds` later.
async fn work(t: T, name: &'static str, seconds: f64) -> &'static str {
    t.log(format!("{name} starts"));
    sleep(t.secs(seconds)).await;
    t.log(format!("{name} ends"));
    name
}

async fn fail(t: T, name: &'static str, seconds: f64) -> Result<&'static str, &'static str> {
    Err(work(t, name, seconds).await)
}

async fn succeed(t: T, name: &'static str, seconds: f64) -> Result<&'static str, &'static str> {
    Ok(work(t, name, seconds).await)
}

/// Logs when it is dropped.
struct Drops(T, &'static str);

impl Drop for Drops {
    fn drop(&mut self) {
        self.0.log(format!("{} is dropped", self.1));
    }
}

async fn forever(t: T, name: &'static str) {
    let _drops = Drops(t, name);
    std::future::pending().await
}

fn values<V>(outcomes: Vec<Result<V, JoinError>>) -> Vec<V> {
    outcomes.into_iter().map(Result::unwrap).collect()
}

/// Sends reports of the running loop to the log.
fn log_reports(t: &T) {
    let t = t.clone();
    let handler = move |context: &selkie::ExceptionContext| {
        let name = context.task_name().unwrap_or("?").to_owned();
        t.log(format!("report of {name}: {}", context.message()));
    };
    EventLoop::current().unwrap().set_exception_handler(Some(Rc::new(handler)));
}

fn named<F: Future<Output: 'static> + 'static>(name: &str, future: F) -> Task<F::Output> {
    Task::builder().name(name).spawn(future)
}

behaviour! {
    /// Rows: F23.
    async fn gather_answers_in_argument_order_not_in_order_of_completion(t) {
        let all = gather([("a", 3.0), ("b", 1.0), ("c", 2.0)].map(|(name, s)| work(t.clone(), name, s)));
        t.log("called");
        assert_eq!(values(all.await), ["a", "b", "c"]);
    } => ["a starts", "b starts", "c starts", "called", "b ends", "c ends", "a ends"]
}

behaviour! {
    /// Rows: F23, F24.
    async fn gather_of_a_tuple_mixes_tasks_and_futures_of_any_type(t) {
        let start = t.now();
        let task = spawn(work(t.clone(), "task", 4.0));
        let id = task.id();
        let inner = t.clone();
        let same = async move {
            sleep(inner.secs(1.0)).await;
            current_task().unwrap().id()
        };
        let (a, b, c, d) = gather((task, same, async { vec![1u8] }, sleep(t.secs(3.0)))).await;
        assert_eq!(a.unwrap(), "task");
        assert_ne!(b.unwrap(), id, "a future is a task of its own");
        assert_eq!(c.unwrap(), [1]);
        d.unwrap();
        t.assert_elapsed(start, 4.0);
    } => ["task starts", "task ends"]
}

behaviour! {
    /// Rows: F23.
    async fn a_tuple_may_have_twelve_members(t) {
        let n = |n: u64| async move { sleep(Duration::from_nanos(12 - n)).await; n };
        let all = gather((n(0), n(1), n(2), n(3), n(4), n(5), n(6), n(7), n(8), n(9), n(10), n(11))).await;
        let (a, .., k, l) = all;
        assert_eq!([a.unwrap(), k.unwrap(), l.unwrap()], [0, 10, 11]);
        let (one,) = gather((n(1),)).await;
        assert_eq!(one.unwrap(), 1);
    }
}

behaviour! {
    /// Difference: F24. asyncio refuses the whole call with a ValueError.
    async fn a_member_of_another_loop_fails_in_its_place_and_is_left_alone(t) {
        let sim = Sim::new();
        let other = sim.event_loop();
        let stranger = other.spawn(async { 7 }).unwrap();
        let watch = stranger.any();
        let [ours, strange] = <[_; 2]>::try_from(gather([spawn(async { 1 }), stranger]).await).unwrap();
        assert_eq!(ours.unwrap(), 1);
        assert!(strange.unwrap_err().is_wrong_loop());
        assert!(!watch.is_finished() && watch.cancelling() == 0);
        other.run_until_complete(yield_now()).unwrap();
        assert!(watch.is_finished());

        let stranger = other.spawn(async { Ok::<_, ()>(7) }).unwrap();
        let pending = spawn(std::future::pending());
        let error = try_gather([pending, stranger]).await.unwrap_err();
        assert!(matches!(error, TaskError::Join(error) if error.is_wrong_loop()));

        // One that has ended has its result, whatever loop it was of.
        let ended = other.spawn(async { 8 }).unwrap();
        other.run_until_complete(yield_now()).unwrap();
        assert_eq!(values(gather([ended]).await), [8]);
    }
}

/// Difference: F24. asyncio raises a RuntimeError in the task; here the members are told.
#[cfg_attr(not(all(target_family = "wasm", target_os = "unknown")), test)]
#[cfg_attr(all(target_family = "wasm", target_os = "unknown"), wasm_bindgen_test::wasm_bindgen_test)]
fn a_gather_that_another_loop_polls_waits_for_nothing() {
    let sim = Sim::new();
    let (ours, other) = (sim.event_loop(), sim.event_loop());
    let task = ours.spawn(async { yield_now().await }).unwrap();
    let watch = task.any();
    let all = gather([task]);
    let outcomes = other.run_until_complete(all).unwrap();
    assert!(outcomes[0].as_ref().unwrap_err().is_wrong_loop());
    ours.run_until_complete(async {
        yield_now().await;
        yield_now().await
    })
    .unwrap();
    assert!(watch.is_finished());
}

behaviour! {
    /// Difference: F24. Its members would be of that loop, where nobody counts them.
    async fn a_limited_gather_that_another_loop_polls_starts_no_more(t) {
        let started = Rc::new(Cell::new(0));
        let members = || {
            let started = started.clone();
            limit(1, (0..5).map(move |_| {
                started.set(started.get() + 1);
                yield_now().map(Ok::<_, ()>)
            }))
        };
        let (all, tried) = (gather(members()), try_gather(members()));
        // There is room for the second ones.
        yield_now().await;
        yield_now().await;
        let other = Sim::new().event_loop();
        assert_eq!(other.run_until_complete(all).unwrap().len(), 1);
        let error = other.run_until_complete(tried).unwrap().unwrap_err();
        assert!(matches!(error, TaskError::Join(error) if error.is_wrong_loop()));
        assert_eq!(started.get(), 2);
    }
}

behaviour! {
    /// Difference: F24. asyncio waits for ever.
    async fn a_task_that_gathers_itself_is_told_so(t) {
        let own = Rc::new(RefCell::new(None::<Task<bool>>));
        let inner = own.clone();
        let task = spawn_lazy(async move {
            let task = inner.borrow_mut().take().unwrap();
            let (this, other) = gather((task, async { yield_now().await })).await;
            other.unwrap();
            assert!(this.unwrap_err().to_string().contains("awaits itself"));
            true
        });
        let watch = task.any();
        *own.borrow_mut() = Some(task);
        watch.ended().await;
        assert_eq!(watch.state(), selkie::TaskState::Finished);
    }
}

behaviour! {
    /// Difference: F24. It comes out of the limit when there is room.
    async fn a_task_that_gathers_itself_behind_others_is_told_so(t) {
        let own = Rc::new(RefCell::new(None::<Task<()>>));
        let inner = own.clone();
        let task = spawn_lazy(async move {
            let task = inner.borrow_mut().take().unwrap();
            let members = [spawn_lazy(yield_now()), task, spawn_lazy(yield_now())];
            let [before, this, behind] = <[_; 3]>::try_from(gather(limit(1, members)).await).unwrap();
            before.and(behind).unwrap();
            assert!(this.unwrap_err().to_string().contains("awaits itself"));
        });
        let watch = task.any();
        *own.borrow_mut() = Some(task);
        watch.ended().await;
        assert_eq!(watch.state(), selkie::TaskState::Finished);
    }
}

behaviour! {
    /// Difference: F24. The waker is the set's.
    async fn a_task_that_gathers_itself_in_a_set_of_futures_is_told_so(t) {
        let own = Rc::new(RefCell::new(None::<Task<()>>));
        let inner = own.clone();
        let limit = t.secs(1.0);
        let task = spawn_lazy(async move {
            let task = inner.borrow_mut().take().unwrap();
            let mut set = FuturesUnordered::from_iter([gather([task])]);
            let [this] = <[_; 1]>::try_from(timeout(limit, set.next()).await.unwrap().unwrap()).unwrap();
            assert!(this.unwrap_err().to_string().contains("awaits itself"));
        });
        let watch = task.any();
        *own.borrow_mut() = Some(task);
        watch.ended().await;
        assert_eq!(watch.state(), selkie::TaskState::Finished);
    }
}

behaviour! {
    /// Rows: F25.
    async fn the_first_error_ends_try_gather_and_the_siblings_run_on(t) {
        let start = t.now();
        let slow = spawn(succeed(t.clone(), "slow", 2.0));
        let watch = slow.any();
        let all = [slow, spawn(fail(t.clone(), "bad", 1.0))];
        let error = try_gather(all).await.unwrap_err();
        t.assert_elapsed(start, 1.0);
        assert!(matches!(error, TaskError::Failed("bad")));
        t.log("ended");
        assert_eq!(watch.cancelling(), 0);
        watch.ended().await;
    } => ["slow starts", "bad starts", "bad ends", "ended", "slow ends"]
}

behaviour! {
    /// Rows: F25, U03.
    /// Difference: F25. asyncio marks the later errors as seen, so that nobody hears of them.
    async fn errors_after_the_first_one_are_reported(t) {
        log_reports(&t);
        let late = named("late", fail(t.clone(), "late", 2.0));
        let good = named("good", succeed(t.clone(), "good", 2.0));
        let (late_end, good_end) = (late.any(), good.any());
        let first = named("first", fail(t.clone(), "first", 1.0));
        let same = named("same", fail(t.clone(), "same", 1.0));
        let error = try_gather([late, good, first, same]).await.unwrap_err();
        assert!(matches!(error, TaskError::Failed("first")));
        t.log("ended");
        late_end.ended().await;
        good_end.ended().await;
        yield_now().await;
    } => [
        "late starts", "good starts", "first starts", "same starts",
        "first ends", "same ends",
        "report of same: task \"same\" failed, and nobody looked at the error: \"same\"",
        "ended",
        "late ends", "good ends",
        "report of late: task \"late\" failed, and nobody looked at the error: \"late\"",
    ]
}

behaviour! {
    /// Rows: F25.
    async fn the_first_error_is_the_first_to_come_not_the_first_argument(t) {
        let (late, early) = (fail(t.clone(), "late", 2.0), fail(t.clone(), "early", 1.0));
        let error = try_gather((late, early)).await.unwrap_err();
        assert!(matches!(error, TaskError::Failed("early")));
        let batch = [("late", 1.0), ("early", 0.5)].map(|(name, s)| fail(t.clone(), name, s));
        assert!(matches!(try_gather(batch).await.unwrap_err(), TaskError::Failed("early")));
    }
}

behaviour! {
    /// Rows: F25. As in asyncio.
    async fn of_tasks_that_failed_before_the_call_the_first_argument_counts(t) {
        let start = || [("late", 1.0), ("early", 0.5)].map(|(name, s)| spawn(fail(t.clone(), name, s)));
        let (batch, [late, early]) = (start(), start());
        sleep(t.secs(2.0)).await;
        assert!(matches!(try_gather(batch).await.unwrap_err(), TaskError::Failed("late")));
        assert!(matches!(try_gather((late, early)).await.unwrap_err(), TaskError::Failed("late")));
    }
}

behaviour! {
    /// Rows: F23.
    async fn try_gather_gives_all_values_in_argument_order(t) {
        async fn ok<V>(t: T, value: V, seconds: f64) -> Result<V, String> {
            sleep(t.secs(seconds)).await;
            Ok(value)
        }
        let numbers = [(1, 2.0), (2, 1.0)].map(|(n, s)| ok(t.clone(), n, s));
        assert_eq!(try_gather(numbers).await.unwrap(), [1, 2]);
        let pair = try_gather((ok(t.clone(), 1, 1.0), spawn(ok(t.clone(), "b", 0.0)))).await.unwrap();
        assert_eq!(pair, (1, "b"));
    }
}

behaviour! {
    /// Rows: F26.
    async fn gather_keeps_values_and_cancels_in_their_places(t) {
        let cancelled = spawn(std::future::pending::<u8>());
        cancelled.cancel_with("enough");
        let members = [spawn(async { 1 }), cancelled, spawn(async { yield_now().await; 4 })];
        let [one, cancelled, four] = <[_; 3]>::try_from(gather(members).await).unwrap();
        assert_eq!((one.unwrap(), four.unwrap()), (1, 4));
        assert_eq!(cancelled.unwrap_err().cancel_message(), Some("enough"));
    }
}

behaviour! {
    /// Rows: F26.
    #[cfg(panic = "unwind")]
    async fn gather_keeps_every_outcome_in_its_place(t) {
        let cancelled = spawn(std::future::pending::<u8>());
        cancelled.cancel_with("enough");
        let members = [
            spawn(async { 1 }),
            spawn(async { panic!("broken") }),
            cancelled,
            spawn(async { yield_now().await; 4 }),
        ];
        let [one, panicked, cancelled, four] = <[_; 4]>::try_from(gather(members).await).unwrap();
        assert_eq!((one.unwrap(), four.unwrap()), (1, 4));
        assert_eq!(cancelled.unwrap_err().cancel_message(), Some("enough"));
        let payload = panicked.unwrap_err().into_panic();
        assert_eq!(payload.downcast_ref(), Some(&"broken"));
    }
}

behaviour! {
    /// Rows: F25.
    #[cfg(panic = "unwind")]
    async fn a_panic_ends_try_gather(t) {
        let members = [spawn(std::future::pending::<Result<(), ()>>()), spawn(async { panic!("broken") })];
        let TaskError::Join(error) = try_gather(members).await.unwrap_err() else { panic!("no error of a member") };
        assert!(error.is_panic());
    }
}

behaviour! {
    /// Rows: F25, U03.
    #[cfg(panic = "unwind")]
    async fn a_sibling_that_panics_later_is_reported(t) {
        log_reports(&t);
        let late: Task<Result<(), &str>> = named("late", async { yield_now().await; yield_now().await; panic!("broken") });
        let end = late.any();
        let bad = async { Err::<(), _>("bad") };
        assert!(matches!(try_gather((late, bad)).await.unwrap_err(), TaskError::Failed("bad")));
        end.ended().await;
    } => ["report of late: task \"late\" panicked: broken, and nobody looked at the result"]
}

behaviour! {
    /// Rows: F27.
    async fn a_gather_may_be_a_member_of_a_gather(t) {
        let group = |a, b| gather([work(t.clone(), a, 1.0), work(t.clone(), b, 2.0)]);
        let (first, second) = gather((group("a", "b"), group("c", "d"))).await;
        assert_eq!(values(first.unwrap()), ["a", "b"]);
        assert_eq!(values(second.unwrap()), ["c", "d"]);
        let nested = gather((0..2).map(|i| gather((0..2).map(move |j| async move { (i, j) })))).await;
        let nested: Vec<_> = values(nested).into_iter().map(values).collect();
        assert_eq!(nested, [[(0, 0), (0, 1)], [(1, 0), (1, 1)]]);
    } => [
        "a starts", "b starts", "c starts", "d starts", "a ends", "c ends", "b ends", "d ends",
    ]
}

behaviour! {
    /// Rows: F27, F29.
    async fn dropping_an_outer_gather_reaches_the_members_of_the_inner_one(t) {
        let inner = gather([forever(t.clone(), "a"), forever(t.clone(), "b")]);
        let outer = gather((inner, forever(t.clone(), "c")));
        drop(outer);
        t.log("dropped");
        for _ in 0..3 {
            yield_now().await;
        }
    } => ["dropped", "c is dropped", "a is dropped", "b is dropped"]
}

behaviour! {
    /// Rows: F28.
    async fn gather_of_nothing_and_of_what_is_done_is_ready_at_once(t) {
        assert!(ready(gather(Vec::<Task<u8>>::new())).unwrap().is_empty());
        assert_eq!(ready(try_gather(Vec::<Task<Result<u8, ()>>>::new())).unwrap().unwrap(), Vec::<u8>::new());
        assert!(ready(gather(limit(2, Vec::<Task<u8>>::new()))).unwrap().is_empty());
        let done = [spawn(async { 1 }), spawn(async { 2 })];
        assert_eq!(values(ready(gather(done)).unwrap()), [1, 2]);
        let (a, b) = ready(gather((async { 'a' }, async { 2 }))).unwrap();
        assert_eq!((a.unwrap(), b.unwrap()), ('a', 2));
    }
}

/// The output of a future that is ready at its first poll.
fn ready<F: Future>(future: F) -> Option<F::Output> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut cx) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

behaviour! {
    /// Rows: F28.
    async fn a_member_that_had_failed_decides_before_new_members_run(t) {
        let failed = spawn(async { Err::<(), _>("failed before") });
        let pair = try_gather((succeed(t.clone(), "new", 0.0), failed));
        t.log("called");
        assert!(matches!(pair.await.unwrap_err(), TaskError::Failed("failed before")));
        t.log("ended");
        sleep(t.secs(1.0)).await;
    } => ["called", "ended", "new starts", "new ends"]
}

behaviour! {
    /// Rows: F28.
    async fn an_eager_member_that_fails_at_once_lets_the_others_start(t) {
        let bad = async { Err("bad") };
        let mut pair = try_gather((succeed(t.clone(), "a", 1.0), bad, succeed(t.clone(), "b", 1.0)));
        t.log("called");
        let error = (&mut pair).await.map(|_: (&str, (), &str)| ()).unwrap_err();
        assert!(matches!(error, TaskError::Failed("bad")));
        drop(pair);
        t.log("ended");
        sleep(t.secs(2.0)).await;
    } => ["a starts", "b starts", "called", "ended", "a ends", "b ends"]
}

behaviour! {
    /// Rows: F29.
    async fn dropping_a_gather_asks_every_unfinished_member_to_end(t) {
        let done = spawn(work(t.clone(), "done", 0.0));
        (&done).await.unwrap();
        let member = spawn(async { "member" });
        let pending = [forever(t.clone(), "a"), forever(t.clone(), "b")].map(spawn);
        let watch = pending.each_ref().map(Task::any);
        let [a, b] = pending;
        drop(gather((done, member, a, b)));
        t.log("dropped");
        yield_now().await;
        assert!(watch.iter().all(|task| task.state() == selkie::TaskState::Cancelled && task.cancelling() == 1));
    } => ["done starts", "done ends", "dropped", "a is dropped", "b is dropped"]
}

/// Logs, when it is dropped, whether the task that gathers has ended.
struct Watches(T, &'static str, Rc<OnceCell<AnyTask>>);

impl Drop for Watches {
    fn drop(&mut self) {
        let parent = self.2.get().map(AnyTask::state);
        self.0.log(format!("{} is dropped, parent {parent:?}", self.1));
    }
}

behaviour! {
    /// Rows: F29.
    /// Difference: F29. asyncio ends the members before whoever awaits them.
    async fn cancelling_whoever_awaits_a_gather_reaches_every_member(t) {
        for fallible in [false, true] {
            let cell = Rc::new(OnceCell::new());
            let members = ["a", "b"].map(|name| {
                let watches = Watches(t.clone(), name, cell.clone());
                async move {
                    let _watches = watches;
                    std::future::pending::<Result<(), ()>>().await
                }
            });
            let parent = spawn(async move {
                if fallible {
                    try_gather(members).await.map(drop).unwrap();
                } else {
                    gather(members).await;
                }
            });
            cell.set(parent.any()).unwrap();
            parent.cancel();
            assert!(parent.await.unwrap_err().is_cancelled());
        }
    } => [
        "a is dropped, parent Some(Cancelled)", "b is dropped, parent Some(Cancelled)",
        "a is dropped, parent Some(Cancelled)", "b is dropped, parent Some(Cancelled)",
    ]
}

behaviour! {
    /// Rows: F29.
    async fn a_cancelled_gather_ends_when_its_members_have(t) {
        let inner = t.clone();
        let stubborn = async move {
            let caught = catch_cancel(std::future::pending::<()>()).await;
            assert!(caught.is_err());
            sleep(inner.secs(1.0)).await;
            inner.log("cleaned up");
            5
        };
        let mut all = gather((stubborn, std::future::pending::<()>(), async { 3 }));
        assert!(all.cancel());
        let (stubborn, cancelled, done) = all.await;
        t.log("ended");
        assert_eq!((stubborn.unwrap(), done.unwrap()), (5, 3));
        assert!(cancelled.unwrap_err().is_cancelled());
        let mut done = gather([async { 1 }]);
        assert!(!done.cancel(), "nothing is left to cancel");
        assert_eq!(values(done.await), [1]);
    } => ["cleaned up", "ended"]
}

behaviour! {
    /// Rows: F29.
    async fn dropping_a_gather_while_its_members_are_cancelled_asks_again(t) {
        let inner = t.clone();
        let stubborn = spawn(async move {
            for _ in 0..2 {
                let caught = catch_cancel(std::future::pending::<()>()).await;
                assert!(caught.is_err());
                inner.log("refuses");
            }
        });
        let watch = stubborn.any();
        let mut all = gather([stubborn]);
        all.cancel();
        yield_now().await;
        drop(all);
        t.log("dropped");
        watch.ended().await;
        assert_eq!(watch.cancelling(), 2);
    } => ["refuses", "dropped", "refuses"]
}

behaviour! {
    /// Rows: F29.
    async fn a_member_cancelled_alone_leaves_the_others(t) {
        let member = spawn(std::future::pending::<u8>());
        member.cancel();
        let all = gather([member, spawn(async { sleep(Duration::from_nanos(1)).await; 2 })]).await;
        assert!(all[0].as_ref().unwrap_err().is_cancelled());
        assert_eq!(*all[1].as_ref().unwrap(), 2);
        assert_eq!(current_task().unwrap().cancelling(), 0);

        // As an error it ends a `try_gather`, which leaves the others as well.
        let member = spawn(std::future::pending::<Result<(), ()>>());
        member.cancel();
        let other = spawn(async { yield_now().await; yield_now().await; Ok(()) });
        let watch = other.any();
        let TaskError::Join(error) = try_gather([member, other]).await.unwrap_err() else { panic!("no such error") };
        assert!(error.is_cancelled());
        watch.ended().await;
        assert_eq!((watch.state(), watch.cancelling()), (selkie::TaskState::Finished, 0));
        assert_eq!(current_task().unwrap().cancelling(), 0);
    }
}

behaviour! {
    /// Rows: F29, U03.
    async fn errors_of_a_dropped_try_gather_are_reported(t) {
        log_reports(&t);
        let failed = named("failed", async { yield_now().await; Err::<(), _>("early") });
        let stubborn = named("stubborn", async {
            let _ = catch_cancel(std::future::pending::<()>()).await;
            Err("in cleaning up")
        });
        let obedient = named("obedient", std::future::pending());
        let all = try_gather([failed, stubborn, obedient]);
        yield_now().await;
        yield_now().await;
        drop(all);
        t.log("dropped");
        for _ in 0..3 {
            yield_now().await;
        }
    } => [
        "report of failed: task \"failed\" failed, and nobody looked at the error: \"early\"",
        "dropped",
        "report of stubborn: task \"stubborn\" failed, and nobody looked at the error: \"in cleaning up\"",
    ]
}

behaviour! {
    /// Rows: F15, F23.
    async fn done_callbacks_of_members_run_before_the_gather_goes_on(t) {
        let members = [spawn(async { 1 }), spawn(async { yield_now().await; 2 })];
        for member in &members {
            let t = t.clone();
            member.on_done(move |result| t.log(format!("callback of {}", result.as_ref().unwrap())));
        }
        assert_eq!(values(gather(members).await), [1, 2]);
        t.log("gathered");
    } => ["callback of 1", "callback of 2", "gathered"]
}

/// Rows: F36.
#[cfg_attr(not(all(target_family = "wasm", target_os = "unknown")), test)]
#[cfg_attr(all(target_family = "wasm", target_os = "unknown"), wasm_bindgen_test::wasm_bindgen_test)]
fn a_loop_runs_a_gather_to_its_end() {
    let sim = Sim::new();
    let event_loop = sim.event_loop();
    let tasks = [3, 1, 2].map(|n| {
        let future = async move {
            sleep(Duration::from_secs(n)).await;
            n
        };
        event_loop.spawn(future).unwrap()
    });
    assert_eq!(values(event_loop.run_until_complete(gather(tasks)).unwrap()), [3, 1, 2]);
    assert_eq!(sim.elapsed(), Duration::from_secs(3));
    // Futures need a running loop to start on.
    let numbers =
        event_loop.run_until_complete(async { gather([1, 2].map(|n| async move { n })).await }).unwrap();
    assert_eq!(values(numbers), [1, 2]);
}

/// Rows: F36.
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
#[test]
#[should_panic(expected = "no event loop runs on this thread")]
fn gathering_futures_without_a_loop_panics() {
    drop(gather([async {}]));
}

behaviour! {
    /// Rows: U21.
    async fn a_limit_lets_so_many_run_and_pulls_the_others_late(t) {
        let start = t.now();
        // No two end at once.
        let jobs = [("a", 1.0), ("b", 2.0), ("c", 2.0), ("d", 2.0)];
        let puller = t.clone();
        let all = gather(limit(2, jobs.into_iter().map(move |(name, length)| {
            puller.log(format!("pull {name}"));
            work(puller.clone(), name, length)
        })));
        t.log("called");
        assert_eq!(values(all.await), ["a", "b", "c", "d"]);
        t.assert_elapsed(start, 4.0);
    } => [
        "pull a", "a starts", "pull b", "b starts", "called",
        "a ends", "pull c", "c starts", "b ends", "pull d", "d starts", "c ends", "d ends",
    ]
}

behaviour! {
    /// Rows: U21.
    async fn members_that_end_at_once_take_no_room(t) {
        assert_eq!(values(ready(gather(limit(1, (0..100).map(|n| async move { n })))).unwrap()), Vec::from_iter(0..100));
        let ok = try_gather(limit(1, (0..3).map(|n| async move { yield_now().await; Ok::<_, ()>(n) })));
        assert_eq!(ok.await.unwrap(), [0, 1, 2]);
    }
}

behaviour! {
    /// Rows: U21, F25.
    async fn an_error_stops_a_limited_try_gather_from_starting_more(t) {
        let t2 = t.clone();
        let jobs = (0..5).map(move |n| {
            let t = t2.clone();
            async move {
                t.log(format!("{n} starts"));
                sleep(t.secs(f64::from(n))).await;
                t.log(format!("{n} ends"));
                if n == 1 { Err(n) } else { Ok(n) }
            }
        });
        let error = try_gather(limit(3, jobs)).await.unwrap_err();
        assert!(matches!(error, TaskError::Failed(1)));
        t.log("ended");
        sleep(t.secs(9.0)).await;
    } => ["0 starts", "1 starts", "2 starts", "0 ends", "3 starts", "1 ends", "ended", "2 ends", "3 ends"]
}

behaviour! {
    /// Rows: U21, F29.
    async fn dropping_or_cancelling_a_limited_gather_starts_no_more(t) {
        let jobs = || ["a", "b", "c"].map(|name| forever(t.clone(), name));
        let mut all = gather(limit(2, jobs()));
        all.cancel();
        assert_eq!(all.await.len(), 2);
        t.log("cancelled");
        drop(gather(limit(1, jobs())));
        yield_now().await;
    } => ["a is dropped", "b is dropped", "cancelled", "a is dropped"]
}

behaviour! {
    /// Rows: U21.
    async fn a_limit_of_zero_counts_as_one(t) {
        let job = |name: &'static str| {
            let t = t.clone();
            async move {
                t.log(name);
                yield_now().await;
            }
        };
        gather(limit(0, [job("a"), job("b")])).await;
    } => ["a", "b"]
}

behaviour! {
    /// Rows: F23, U21.
    seeds async fn ten_thousand_members_in_any_order(t) {
        let count = if t.is_sim() { 500 } else { 10_000 };
        let job = |n: u64| async move {
            sleep(Duration::from_nanos(n * 7919 % 1000)).await;
            if n % 2 == 0 { yield_now().await }
            n
        };
        let expected: Vec<_> = (0..count).collect();
        assert_eq!(values(gather(expected.clone().into_iter().map(job)).await), expected);
        assert_eq!(values(gather(limit(9, expected.clone().into_iter().map(job))).await), expected);
        let ok = |n| async move { Ok::<_, ()>(job(n).await) };
        assert_eq!(try_gather(expected.clone().into_iter().map(ok)).await.unwrap(), expected);
    }
}

behaviour! {
    /// Rows: F15, F23. Although whoever waits has the right of way.
    async fn an_urgent_gather_waits_for_the_done_callbacks_of_its_members(t) {
        let member = spawn(async { yield_now().await; 1 });
        let inner = t.clone();
        member.on_done(move |_| inner.log("callback"));
        let inner = t.clone();
        let urgent = Task::builder().priority(Priority::Urgent).spawn(async move {
            assert_eq!(values(gather([member]).await), [1]);
            inner.log("gathered");
        });
        urgent.await.unwrap();
    } => ["callback", "gathered"]
}
