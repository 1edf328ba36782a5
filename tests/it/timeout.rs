//! Limits of time: `timeout`, `timeout_at`, `timeout_scope`, `wait_for`, and the sleep below them.

use std::{
    cell::Cell,
    future::{Future, pending},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use selkie::{
    Deadline, TaskGroup, TimedOut, WaitForError, catch_cancel, current_task, sleep, sleep_until, spawn,
    spawn_lazy, timeout, timeout_at, timeout_scope, wait_for, yield_now,
};

use crate::harness::{OnDrop, Reports};

/// Logs when it is dropped.
struct Dropped(crate::harness::T, &'static str);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.log(format!("{} dropped", self.1));
    }
}

behaviour! {
    /// Rows: F20.
    async fn a_sleep_of_zero_yields_once(t) {
        let inner = t.clone();
        let other = spawn_lazy(async move {
            inner.log("other 1");
            yield_now().await;
            inner.log("other 2");
        });
        sleep(Duration::ZERO).await;
        t.log("slept");
        other.await.unwrap();
    } => ["other 1", "slept", "other 2"]
}

behaviour! {
    /// Rows: F20.
    async fn a_sleep_is_never_early_and_lets_others_run(t) {
        let start = t.now();
        let inner = t.clone();
        let other = spawn(async move {
            sleep(inner.secs(1.0)).await;
            inner.log("other");
        });
        sleep(t.secs(2.0)).await;
        t.assert_elapsed(start, 2.0);
        t.log("main");
        other.await.unwrap();
        // A time in the past is over at the next turn.
        sleep_until(start).await;
    } => ["other", "main"]
}

behaviour! {
    /// Rows: F20.
    async fn a_cancelled_sleep_takes_its_timer_back(t) {
        let task = spawn(sleep(t.secs(3600.0)));
        task.cancel();
        assert!(task.await.unwrap_err().is_cancelled());
        // On the simulator a timer that was left behind would make the time jump.
        let start = t.now();
        yield_now().await;
        if t.is_sim() {
            assert_eq!(t.now(), start);
        }
    }
}

behaviour! {
    /// Rows: X08.
    async fn a_timeout_drops_the_future_at_its_expiry(t) {
        let start = t.now();
        let inner = t.clone();
        let slow = async move {
            let _guard = Dropped(inner.clone(), "body");
            sleep(inner.secs(100.0)).await;
            inner.log("never");
        };
        assert_eq!(timeout(t.secs(1.0), slow).await, Err(TimedOut));
        t.assert_elapsed(start, 1.0);
        t.log("timed out");
        assert_eq!(timeout(t.secs(100.0), async { 7 }).await, Ok(7));
    } => ["body dropped", "timed out"]
}

behaviour! {
    /// Rows: X08.
    async fn a_body_that_never_suspends_beats_a_timeout_of_zero(t) {
        assert_eq!(timeout(Duration::ZERO, async { 1 }).await, Ok(1));
        assert_eq!(timeout_at(Duration::ZERO, async { 2 }).await, Ok(2));
    }
}

behaviour! {
    /// Rows: X08.
    /// Answers the complaint U23.
    async fn a_timeout_of_zero_or_in_the_past_fires_at_the_next_turn(t) {
        let inner = t.clone();
        let other = spawn_lazy(async move {
            inner.log("turn 1");
            yield_now().await;
            inner.log("turn 2");
        });
        assert_eq!(timeout(Duration::ZERO, std::future::pending::<()>()).await, Err(TimedOut));
        t.log("zero fired");
        other.await.unwrap();
        assert!(timeout_at(Duration::ZERO, std::future::pending::<()>()).await.is_err());
    } => ["turn 1", "zero fired", "turn 2"]
}

behaviour! {
    /// Rows: X08.
    async fn a_body_that_completes_at_the_turn_of_the_expiry_wins(t) {
        if t.is_sim() {
            assert_eq!(timeout(t.secs(1.0), sleep(t.secs(1.0))).await, Ok(()));
        }
        let deadline = t.now() + t.secs(1.0);
        assert_eq!(timeout_at(deadline, sleep_until(deadline)).await, Ok(()));
    }
}

behaviour! {
    /// Rows: X08.
    async fn a_timeout_of_max_never_fires(t) {
        let mut limited = pin!(timeout(Duration::MAX, sleep(t.secs(5.0))));
        assert_eq!(limited.when(), None);
        assert_eq!(limited.as_mut().await, Ok(()));
        assert!(!limited.expired());
    }
}

behaviour! {
    /// Rows: X08.
    async fn of_nested_timeouts_the_one_that_fired_converts(t) {
        let inner_fires = timeout(t.secs(20.0), async {
            let inner = timeout(t.secs(1.0), sleep(t.secs(100.0))).await;
            t.log(format!("inner {inner:?}"));
            "outer goes on"
        });
        t.log(inner_fires.await.unwrap());
        let outer_fires = timeout(t.secs(1.0), async {
            let inner = timeout(t.secs(20.0), sleep(t.secs(100.0))).await;
            t.log(format!("never {inner:?}"));
        });
        assert_eq!(outer_fires.await, Err(TimedOut));
        let both = timeout_at(t.now() + t.secs(1.0), timeout(Duration::ZERO, sleep(t.secs(9.0))));
        assert_eq!(both.await, Ok(Err(TimedOut)));
    } => ["inner Err(TimedOut)", "outer goes on"]
}

behaviour! {
    /// Rows: X08.
    async fn a_timeout_that_was_moved_later_expires_later(t) {
        let start = t.now();
        let mut limited = pin!(timeout(t.secs(1.0), std::future::pending::<()>()));
        assert!(limited.as_mut().reschedule(Some(start + t.secs(3.0))));
        assert_eq!(limited.when(), Some(start + t.secs(3.0)));
        assert_eq!(limited.as_mut().await, Err(TimedOut));
        assert!(limited.expired());
        t.assert_elapsed(start, 3.0);
        assert!(!limited.as_mut().reschedule(None));
    }
}

behaviour! {
    /// Rows: X08.
    async fn a_body_moves_its_own_deadline(t) {
        let start = t.now();
        let kept: Rc<Cell<Option<Deadline>>> = Rc::default();
        let keep = kept.clone();
        let result = timeout_scope(t.secs(1.0), async |limit| {
            assert!(limit.when().is_some());
            limit.reschedule(None);
            sleep(t.secs(2.0)).await;
            t.log("outlived the first limit");
            limit.reschedule(Some(t.now() + t.secs(1.0)));
            keep.set(Some(limit));
            sleep(t.secs(100.0)).await;
        });
        assert_eq!(result.await, Err(TimedOut));
        t.assert_elapsed(start, 3.0);
        let limit = kept.take().unwrap();
        assert!(limit.expired());
        assert!(!limit.reschedule(None));
    } => ["outlived the first limit"]
}

behaviour! {
    /// Rows: X08.
    async fn a_deadline_is_moved_from_another_task(t) {
        let start = t.now();
        let result = timeout_scope(t.secs(100.0), async |limit| {
            let now = t.now();
            let mover = spawn_lazy(async move { assert!(limit.reschedule(Some(now))) });
            let _owned = mover.into_future();
            sleep(t.secs(200.0)).await;
        });
        assert_eq!(result.await, Err(TimedOut));
        if t.is_sim() {
            assert_eq!(t.now(), start);
        }
    }
}

behaviour! {
    /// Rows: X08.
    async fn a_body_that_moves_its_deadline_to_the_past_at_every_poll_expires(t) {
        let polls = Cell::new(0);
        let result = timeout_scope(t.secs(100.0), async |limit| {
            while polls.get() < 10 {
                polls.set(polls.get() + 1);
                limit.reschedule(Some(t.now()));
                yield_now().await;
            }
        });
        assert_eq!(result.await, Err(TimedOut));
        assert_eq!(polls.get(), 2);
    }
}

#[cfg(panic = "unwind")]
behaviour! {
    /// Rows: X08. Whoever polls the scope may have a waker of any kind.
    async fn a_waker_that_panics_takes_nobody_along_who_moves_a_deadline(t) {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("in a waker (expected by a test)");
            }
        }
        let reports = Reports::of_current();
        let kept: Rc<Cell<Option<Deadline>>> = Rc::default();
        let keep = kept.clone();
        let mut scope = pin!(timeout_scope(t.secs(1.0), async |limit| {
            keep.set(Some(limit));
            pending::<()>().await;
        }));
        assert!(scope.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(Panics)))).is_pending());
        assert!(kept.take().unwrap().reschedule(Some(t.now())));
        assert!(reports.take()[0].contains("a waker panicked"));
        assert_eq!(scope.await, Err(TimedOut));
    }
}

behaviour! {
    /// Rows: X08.
    async fn a_deadline_of_a_scope_that_ended_in_time_cannot_be_moved(t) {
        let limit = timeout_scope(t.secs(50.0), async |limit| limit).await.unwrap();
        assert!(!limit.expired());
        assert!(!limit.reschedule(None));
    }
}

behaviour! {
    /// Difference: X08. An expiry drops the body, so a scope in it sees nothing and cannot swallow it.
    async fn a_catch_scope_inside_a_timeout_sees_no_expiry(t) {
        let body = async {
            let caught = catch_cancel(sleep(t.secs(100.0))).await;
            t.log(format!("never: {caught:?}"));
        };
        assert_eq!(timeout(t.secs(1.0), body).await, Err(TimedOut));
        // And the task's own cancel state is untouched.
        assert_eq!(selkie::current_task().unwrap().cancelling(), 0);
        yield_now().await;
    } => []
}

behaviour! {
    /// Rows: X08, F33.
    async fn a_timeout_on_a_borrowed_task_leaves_it_running(t) {
        let task = spawn(async { 5 });
        assert_eq!(*timeout(t.secs(1.0), &task).await.unwrap().unwrap(), 5);
        let length = t.secs(4.0);
        let task = spawn(async move {
            sleep(length).await;
            6
        });
        assert!(timeout(t.secs(1.0), &task).await.is_err());
        assert_eq!(task.await.unwrap(), 6);
    }
}

behaviour! {
    /// Rows: X08, X01.
    async fn a_timeout_on_an_owned_task_asks_it_to_end(t) {
        let length = t.secs(100.0);
        let task = spawn(sleep(length));
        let any = task.any();
        assert!(timeout(t.secs(1.0), task).await.is_err());
        any.ended().await;
        assert_eq!(any.state(), selkie::TaskState::Cancelled);
    }
}

behaviour! {
    /// Rows: X08, X01.
    seeds async fn a_cancel_at_the_turn_of_an_expiry_ends_the_task(t) {
        let inner = t.clone();
        let expired = Rc::new(Cell::new(false));
        let flag = expired.clone();
        let task = spawn(async move {
            let result = timeout(inner.secs(1.0), std::future::pending::<()>()).await;
            flag.set(result.is_err());
            std::future::pending::<()>().await;
        });
        sleep(t.secs(1.0)).await;
        task.cancel();
        // Whichever came first: the cancel is not taken for the expiry and not lost.
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(expired.get() || t.now() >= t.secs(1.0));
    }
}

behaviour! {
    /// Rows: X08, X03.
    async fn a_cancel_that_the_body_cleans_up_after_goes_on_when_the_time_is_over(t) {
        let start = t.now();
        let inner = t.clone();
        let task = spawn(async move {
            let body = async {
                if let Err(cancelled) = catch_cancel(pending::<()>()).await {
                    inner.log("cleans up");
                    sleep(inner.secs(100.0)).await;
                    cancelled.resume().await;
                }
            };
            let result = timeout(inner.secs(2.0), body).await;
            inner.log(format!("never: {result:?}"));
        });
        sleep(t.secs(1.0)).await;
        task.cancel_with("outside");
        let error = task.await.unwrap_err();
        t.assert_elapsed(start, 2.0);
        t.log(error.to_string());
    } => ["cleans up", "the task was cancelled: outside"]
}

behaviour! {
    /// Rows: X08, X05.
    async fn a_cancel_that_a_group_waits_with_goes_on_when_the_time_is_over(t) {
        let inner = t.clone();
        let task = spawn(async move {
            let group = TaskGroup::scope_ok(async |group| {
                let child = inner.clone();
                group.spawn_ok(async move {
                    let caught = catch_cancel(pending::<()>()).await;
                    child.log(format!("child: {}", caught.is_err()));
                    sleep(child.secs(100.0)).await;
                });
            });
            let caught = catch_cancel(timeout(inner.secs(2.0), group)).await;
            inner.log(format!("parent: {}", caught.is_err()));
            sleep(inner.secs(1.0)).await;
            "refused"
        });
        sleep(t.secs(1.0)).await;
        task.cancel();
        assert_eq!(task.await.unwrap(), "refused");
    } => ["child: true", "parent: true"]
}

behaviour! {
    /// Difference: X08, X03. asyncio raises it again unless it was taken back.
    async fn a_cancel_that_the_body_has_refused_does_not_come_back_with_the_expiry(t) {
        let inner = t.clone();
        let task = spawn(async move {
            let body = async {
                if let Err(refused) = catch_cancel(pending::<()>()).await {
                    inner.log("refused");
                    drop(refused);
                }
                pending::<()>().await;
            };
            assert_eq!(timeout(inner.secs(2.0), body).await, Err(TimedOut));
            let body = async {
                let _kept = catch_cancel(pending::<()>()).await;
                while current_task().unwrap().uncancel() > 0 {}
                inner.log("taken back");
                pending::<()>().await;
            };
            assert_eq!(timeout(inner.secs(2.0), body).await, Err(TimedOut));
            sleep(inner.secs(1.0)).await;
        });
        for _ in 0..2 {
            sleep(t.secs(1.5)).await;
            task.cancel();
        }
        task.await.unwrap();
    } => ["refused", "taken back"]
}

behaviour! {
    /// Rows: X08, X02.
    async fn a_cancel_raised_again_at_the_moment_of_the_expiry_goes_on(t) {
        for scope in ["none", "inside", "around"] {
            let inner = t.clone();
            let task = spawn(async move {
                let over = inner.now() + inner.secs(2.0);
                let body = async {
                    if let Err(cancelled) = catch_cancel(pending::<()>()).await {
                        sleep_until(over).await;
                        cancelled.resume().await;
                    }
                };
                let result = match scope {
                    "inside" => timeout_at(over, catch_cancel(body)).await.map(drop),
                    "around" => {
                        let caught = catch_cancel(timeout_at(over, body)).await;
                        caught.unwrap_err().resume().await;
                        unreachable!()
                    }
                    _ => timeout_at(over, body).await,
                };
                inner.log(format!("never: {result:?}"));
            });
            sleep(t.secs(1.0)).await;
            task.cancel();
            assert!(task.await.unwrap_err().is_cancelled());
        }
    } => []
}

behaviour! {
    /// Rows: X08.
    async fn a_timeout_whose_expiry_gave_way_to_a_cancel_may_be_polled_on(t) {
        let inner = t.clone();
        let task = spawn(async move {
            let mut limited = pin!(timeout(inner.secs(2.0), async {
                let _kept = catch_cancel(pending::<()>()).await;
                pending::<()>().await;
            }));
            std::future::poll_fn(|cx| {
                let first = limited.as_mut().poll(cx);
                let again = limited.as_mut().poll(cx);
                assert!(first.is_pending() && again.is_pending());
                Poll::<()>::Pending
            })
            .await;
        });
        sleep(t.secs(1.0)).await;
        task.cancel();
        assert!(task.await.unwrap_err().is_cancelled());
    } => []
}

behaviour! {
    /// Rows: X09.
    async fn wait_for_waits_until_the_task_has_cleaned_up(t) {
        let start = t.now();
        let inner = t.clone();
        let polite = async move {
            if let Err(cancelled) = catch_cancel(sleep(inner.secs(100.0))).await {
                inner.log("cleaning up");
                sleep(inner.secs(2.0)).await;
                inner.log("clean");
                cancelled.resume().await;
            }
        };
        let error = wait_for(polite, t.secs(1.0)).await.unwrap_err();
        assert!(error.is_timed_out());
        t.assert_elapsed(start, 3.0);
        t.log("told");
    } => ["cleaning up", "clean", "told"]
}

behaviour! {
    /// Rows: X09.
    async fn wait_for_returns_the_value_of_a_task_that_refuses_to_end(t) {
        let inner = t.clone();
        let stubborn = async move {
            let _ = catch_cancel(sleep(inner.secs(100.0))).await;
            "done anyway"
        };
        assert_eq!(wait_for(stubborn, t.secs(1.0)).await.unwrap(), "done anyway");
    }
}

behaviour! {
    /// Rows: X09.
    async fn wait_for_with_a_time_of_zero(t) {
        // Done already: the result, although the time is over.
        assert_eq!(wait_for(spawn(async { 1 }), Duration::ZERO).await.unwrap(), 1);
        let inner = t.clone();
        let pending = spawn(async move {
            let _guard = Dropped(inner.clone(), "pending");
            std::future::pending::<()>().await;
        });
        assert!(wait_for(pending, Duration::ZERO).await.unwrap_err().is_timed_out());
        t.log("told");
    } => ["pending dropped", "told"]
}

behaviour! {
    /// Difference: X09. The first part of a future given with a time of zero runs; asyncio never starts it.
    async fn wait_for_starts_a_future_even_with_a_time_of_zero(t) {
        let inner = t.clone();
        let body = async move {
            inner.log("starts");
            yield_now().await;
            yield_now().await;
            yield_now().await;
            inner.log("never");
        };
        assert!(wait_for(body, Duration::ZERO).await.is_err());
    } => ["starts"]
}

behaviour! {
    /// Rows: X09.
    async fn wait_for_tells_a_foreign_cancel_from_its_own(t) {
        let task = spawn(std::future::pending::<()>());
        let any = task.any();
        let canceller = spawn_lazy(async move { any.cancel_with("by somebody else") });
        match wait_for(task, t.secs(100.0)).await {
            Err(WaitForError::Join(error)) => assert_eq!(error.cancel_message(), Some("by somebody else")),
            other => panic!("{other:?}"),
        }
        assert!(canceller.await.unwrap());
    }
}

behaviour! {
    /// Rows: X09.
    async fn a_cancel_of_the_waiter_reaches_the_task_it_waits_for(t) {
        let inner = t.clone();
        let waiter = spawn(async move {
            let guard = Dropped(inner.clone(), "task");
            let work = async move {
                let _guard = guard;
                std::future::pending::<()>().await;
            };
            wait_for(work, inner.secs(100.0)).await
        });
        waiter.cancel();
        assert!(waiter.await.unwrap_err().is_cancelled());
        t.log("told");
    } => ["task dropped", "told"]
}

behaviour! {
    /// Rows: X09.
    seeds async fn wait_for_never_loses_a_value_at_the_edge_of_its_time(t) {
        let length = t.secs(1.0);
        let task = spawn(async move {
            sleep(length).await;
            9
        });
        // The value and the expiry are due at the same time: either the value comes, or the task was ended.
        match wait_for(task, length).await {
            Ok(value) => assert_eq!(value, 9),
            Err(error) => assert!(error.is_timed_out(), "{error}"),
        }
    }
}

behaviour! {
    /// Rows: X03.
    async fn requests_are_counted_and_taken_back(t) {
        let inner = t.clone();
        let task = spawn(async move {
            for _ in 0..2 {
                let caught = catch_cancel(std::future::pending::<()>()).await;
                inner.log(format!("{}", caught.unwrap_err()));
            }
            sleep(inner.secs(1.0)).await;
            "refused twice"
        });
        assert!(task.cancel_with("first"));
        yield_now().await;
        assert!(task.cancel_with("second"));
        assert_eq!(task.cancelling(), 2);
        yield_now().await;
        assert_eq!(task.uncancel(), 1);
        assert_eq!(task.uncancel(), 0);
        assert_eq!(task.uncancel(), 0);
        // One that was not delivered is withdrawn.
        assert!(task.cancel());
        assert_eq!(task.uncancel(), 0);
        assert_eq!(task.await.unwrap(), "refused twice");
    } => ["cancelled: first", "cancelled: second"]
}

behaviour! {
    /// Rows: F19.
    async fn what_has_an_await_can_be_given_a_limit(t) {
        let long = t.secs(50.0);
        assert_eq!(timeout(long, async { 1 }).await, Ok(1));
        assert_eq!(timeout(long, std::future::ready(2)).await, Ok(2));
        let task = spawn(async { 3 });
        assert_eq!(timeout(long, &task).await.unwrap().unwrap(), &3);
        assert_eq!(timeout(long, task).await.unwrap().unwrap(), 3);
        let mut boxed: Pin<Box<dyn Future<Output = i32>>> = Box::pin(async { 4 });
        assert_eq!(timeout(long, boxed.as_mut()).await, Ok(4));
        assert_eq!(timeout(long, timeout(long, async { 5 })).await, Ok(Ok(5)));
    }
}

behaviour! {
    /// Rows: X09.
    async fn what_an_expired_body_drops_cannot_move_the_deadline(t) {
        let moved = Rc::new(Cell::new(None));
        let seen = moved.clone();
        let over = timeout_scope(t.secs(1.0), async move |deadline| {
            let _guard = OnDrop(|| seen.set(Some((deadline.expired(), deadline.reschedule(None)))));
            pending::<()>().await;
        });
        assert!(over.await.is_err());
        assert_eq!(moved.get(), Some((true, false)));
    }
}
