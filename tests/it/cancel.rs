//! Cancelling: a request that is delivered once, caught, counted, taken back.

use std::{
    cell::Cell,
    future::{Future, IntoFuture, pending, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

use futures::{
    StreamExt,
    future::{Either, select},
    stream::FuturesUnordered,
};
use selkie::{
    Deferred, Task, TaskState, catch_cancel, current_task, sleep, sleep_until, spawn, spawn_lazy, yield_now,
};

use crate::harness::OnDrop;

behaviour! {
    /// Rows: X01.
    async fn a_cancel_is_a_request_that_is_delivered_at_the_next_turn(t) {
        let inner = t.clone();
        let task = spawn(async move {
            let dropped = inner.clone();
            let _guard = OnDrop(move || dropped.log("dropped"));
            inner.log("waits");
            pending::<()>().await;
        });
        assert!(task.cancel());
        t.log("asked");
        assert!(!task.is_finished());
        let error = task.await.unwrap_err();
        assert!(error.is_cancelled());
        t.log(error.to_string());
    } => ["waits", "asked", "dropped", "the task was cancelled"]
}

behaviour! {
    /// Rows: X01.
    async fn a_task_cancelled_before_its_first_step_never_runs(t) {
        let guard = {
            let t = t.clone();
            OnDrop(move || t.log("released"))
        };
        let task = spawn_lazy(async move {
            let _guard = guard;
            unreachable!()
        });
        assert!(task.cancel());
        assert!(task.await.unwrap_err().is_cancelled());
    } => ["released"]
}

behaviour! {
    /// Rows: X02.
    async fn a_cancel_raised_again_beside_what_completes_the_scope_comes_afterwards(t) {
        let inner = t.clone();
        let task = spawn(async move {
            let over = inner.now() + inner.secs(2.0);
            let cleans_up = async {
                let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
                sleep_until(over).await;
                inner.log("raised again");
                cancelled.resume().await;
            };
            let both = select(Box::pin(cleans_up), Box::pin(sleep_until(over)));
            let scope = catch_cancel(async { matches!(both.await, Either::Right(_)) });
            inner.log(format!("completed: {}", scope.await.unwrap()));
            let caught = catch_cancel(sleep(inner.secs(1.0))).await;
            inner.log(format!("caught: {}", caught.is_err()));
        });
        sleep(t.secs(1.0)).await;
        task.cancel();
        task.await.unwrap();
    } => ["raised again", "completed: true", "caught: true"]
}

behaviour! {
    /// Rows: X01.
    async fn cancelling_a_finished_task_changes_nothing(t) {
        let task = spawn(async { 1 });
        assert!(!task.cancel());
        assert_eq!(task.cancelling(), 0);
        assert!(!task.any().cancel_with("late"));
        assert_eq!(task.await.unwrap(), 1);
    }
}

behaviour! {
    /// Rows: X01.
    async fn a_result_that_is_there_already_is_lost_to_a_cancel(t) {
        let value = spawn(async {
            yield_now().await;
            1
        });
        let waiter = spawn(async move { value.await.unwrap() });
        yield_now().await;
        // The value is there, and the waiter has not run.
        assert!(waiter.cancel());
        assert!(waiter.await.unwrap_err().is_cancelled());
    }
}

behaviour! {
    /// Difference: X01. A poll that completes wins over a cancel that came during it; asyncio marks the task cancelled.
    async fn a_task_that_cancels_itself_in_its_last_step_keeps_its_result(t) {
        let task = spawn(async {
            yield_now().await;
            assert!(current_task().unwrap().cancel());
            2
        });
        assert_eq!(task.await.unwrap(), 2);
    }
}

behaviour! {
    /// Rows: X01.
    async fn a_task_that_cancels_itself_ends_at_its_next_await(t) {
        let inner = t.clone();
        let task = spawn(async move {
            current_task().unwrap().cancel();
            inner.log("goes on to the await");
            yield_now().await;
            unreachable!()
        });
        assert!(task.await.unwrap_err().is_cancelled());
    } => ["goes on to the await"]
}

behaviour! {
    /// Difference: X01. The awaited task is asked to end when the one that awaits it is dropped, so the outer one ends
    /// first; asyncio's cancel goes to the innermost and comes out through it.
    async fn cancelling_a_task_that_awaits_a_task_ends_both(t) {
        let logged = |name: &'static str| {
            let t = t.clone();
            OnDrop(move || t.log(name))
        };
        let (outer_guard, inner_guard) = (logged("outer dropped"), logged("inner dropped"));
        let inner = spawn(async move {
            let _guard = inner_guard;
            pending::<()>().await;
        });
        let inner_any = inner.any();
        let outer = spawn(async move {
            let _guard = outer_guard;
            inner.await.unwrap();
        });
        outer.cancel();
        assert!(outer.await.unwrap_err().is_cancelled());
        t.log(format!("inner is {:?}", inner_any.state()));
        inner_any.ended().await;
        assert_eq!(inner_any.state(), TaskState::Cancelled);
    } => ["outer dropped", "inner dropped", "inner is Cancelled"]
}

behaviour! {
    /// Rows: X01, X02.
    async fn a_cancel_is_caught_once_and_the_task_may_go_on(t) {
        let inner = t.clone();
        let task = spawn(async move {
            let caught = catch_cancel(pending::<()>()).await.unwrap_err();
            inner.log(caught.to_string());
            // Spent: the next awaits are left alone.
            yield_now().await;
            sleep(inner.secs(1.0)).await;
            inner.log("goes on");
            5
        });
        task.cancel_with("first");
        assert_eq!(task.await.unwrap(), 5);
    } => ["cancelled: first", "goes on"]
}

behaviour! {
    /// Rows: X01.
    async fn what_was_caught_is_raised_again_from_scope_to_scope(t) {
        let inner = t.clone();
        let task = spawn(async move {
            let outer = inner.clone();
            let result = catch_cancel(async move {
                let caught = catch_cancel(pending::<()>()).await.unwrap_err();
                outer.log("inner scope");
                yield_now().await;
                caught.resume().await
            })
            .await;
            inner.log(format!("outer scope: {}", result.unwrap_err()));
            let again = catch_cancel(async { selkie::yield_now().await }).await;
            assert!(again.is_ok());
            1
        });
        task.cancel_with("why");
        assert_eq!(task.await.unwrap(), 1);
    } => ["inner scope", "outer scope: cancelled: why"]
}

behaviour! {
    /// Rows: X01.
    async fn what_is_raised_again_without_a_scope_around_ends_the_task_with_its_message(t) {
        let task = spawn(async {
            let caught = catch_cancel(pending::<()>()).await.unwrap_err();
            sleep(std::time::Duration::ZERO).await;
            caught.resume().await
        });
        task.cancel_with("why");
        let error = task.await.unwrap_err();
        assert_eq!(error.cancel_message(), Some("why"));
    }
}

behaviour! {
    /// Rows: X01.
    async fn what_is_raised_again_ends_the_task_also_beside_a_scope_that_stays(t) {
        let inner = t.clone();
        let task = spawn(async move {
            let first = async {
                let caught = catch_cancel(pending::<()>()).await.unwrap_err();
                caught.resume().await;
            };
            let second = async {
                let _ = catch_cancel(pending::<()>()).await;
                inner.log("second cleans up");
                let _ = catch_cancel(sleep(inner.secs(5.0))).await;
                inner.log("not reached: the task has ended");
            };
            futures::join!(first, second);
        });
        task.cancel();
        assert!(task.await.unwrap_err().is_cancelled());
    } => ["second cleans up"]
}

behaviour! {
    /// Rows: X01, X03.
    async fn what_is_raised_again_cannot_be_taken_back(t) {
        let task = spawn(async {
            let caught = catch_cancel(pending::<()>()).await.unwrap_err();
            caught.resume().await;
        });
        task.cancel();
        let any = task.any();
        // Between the raise and the turn that delivers it.
        yield_now().await;
        assert_eq!(any.uncancel(), 0);
        assert!(task.await.unwrap_err().is_cancelled());
    }
}

behaviour! {
    /// Rows: X01.
    async fn a_cancel_reaches_every_innermost_scope(t) {
        let inner = t.clone();
        let task = spawn(async move {
            let scope = |name: &'static str| {
                let t = inner.clone();
                async move {
                    let caught = catch_cancel(async {
                        catch_cancel(pending::<()>()).await.unwrap_err()
                    })
                    .await;
                    // Only the innermost is hit.
                    t.log(format!("{name} {}", caught.is_ok()));
                }
            };
            let mut set: futures::stream::FuturesUnordered<_> = ["b", "c"].map(scope).into_iter().collect();
            let in_set = async { while futures::StreamExt::next(&mut set).await.is_some() {} };
            futures::join!(scope("a"), in_set);
        });
        yield_now().await;
        task.cancel();
        task.await.unwrap();
    } => ["a true", "b true", "c true"]
}

behaviour! {
    async fn a_scope_that_lost_a_select_sees_nothing(t) {
        let task = spawn({
            let t = t.clone();
            async move {
                let scope = Box::pin(catch_cancel(pending::<()>()));
                let Either::Right(((), scope)) = select(scope, Box::pin(yield_now())).await else { unreachable!() };
                drop(scope);
                t.log("the scope has gone");
                pending::<()>().await;
            }
        });
        yield_now().await;
        yield_now().await;
        task.cancel();
        assert!(task.await.unwrap_err().is_cancelled());
    } => ["the scope has gone"]
}

behaviour! {
    async fn a_scope_that_moves_to_another_task_is_cancelled_there(t) {
        let mut scope = Box::pin(catch_cancel(pending::<()>()));
        assert!(futures::poll!(&mut scope).is_pending());
        let inner = t.clone();
        let task = spawn(async move {
            let caught = scope.await;
            inner.log(format!("caught {}", caught.is_err()));
        });
        task.cancel();
        task.await.unwrap();
        // Nothing of it is left here.
        assert_eq!(current_task().unwrap().cancelling(), 0);
    } => ["caught true"]
}

behaviour! {
    /// Rows: X02. A cancelled task gives no value and no error of its own; it is told apart by a type.
    async fn being_cancelled_is_told_apart_from_an_error_of_the_task(t) {
        let failed = spawn(async { Err::<(), _>("own error") });
        assert_eq!(failed.await.unwrap(), Err("own error"));
        let cancelled = spawn(pending::<Result<(), &str>>());
        cancelled.cancel_with("no more");
        let error = cancelled.await.unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(error.cancel_message(), Some("no more"));
        assert!(error.try_into_panic().unwrap_err().is_cancelled());
    }
}

behaviour! {
    /// Rows: X02.
    async fn a_later_cancel_without_a_message_does_not_repeat_an_old_one(t) {
        let task = spawn(async {
            let first = catch_cancel(pending::<()>()).await.unwrap_err();
            assert_eq!(first.message(), Some("first"));
            let second = catch_cancel(pending::<()>()).await.unwrap_err();
            assert_eq!(second.message(), None);
        });
        task.cancel_with("first");
        yield_now().await;
        task.cancel();
        task.await.unwrap();

        let task = spawn(pending::<()>());
        task.cancel_with("withdrawn");
        task.uncancel();
        yield_now().await;
        task.cancel();
        assert_eq!(task.await.unwrap_err().cancel_message(), None);
    }
}

behaviour! {
    /// Rows: X03.
    async fn requests_are_counted_and_taken_back_and_at_zero_nothing_is_delivered(t) {
        let inner = t.clone();
        let task = spawn(async move {
            yield_now().await;
            inner.log("not cancelled");
            3
        });
        assert!(task.cancel() && task.cancel());
        assert_eq!(task.cancelling(), 2);
        assert_eq!(task.uncancel(), 1);
        assert_eq!(task.any().uncancel(), 0);
        assert_eq!(task.uncancel(), 0, "never below zero");
        assert_eq!(task.await.unwrap(), 3);
    } => ["not cancelled"]
}

behaviour! {
    /// Rows: X03.
    async fn one_of_two_requests_taken_back_still_cancels(t) {
        let task = spawn(pending::<()>());
        task.cancel();
        task.cancel();
        task.uncancel();
        assert!(task.await.unwrap_err().is_cancelled());
    }
}

behaviour! {
    /// Rows: X03.
    async fn a_request_that_was_caught_still_counts_until_it_is_taken_back(t) {
        let task = spawn(async {
            let me = current_task().unwrap();
            let _ = catch_cancel(pending::<()>()).await;
            let counted = me.cancelling();
            (counted, me.uncancel())
        });
        task.cancel();
        assert_eq!(task.await.unwrap(), (1, 0));
    }
}

behaviour! {
    /// Rows: X03.
    async fn very_many_requests_are_one_cancel(t) {
        let task = spawn(pending::<()>());
        for _ in 0..100_000 {
            assert!(task.cancel());
        }
        assert!(task.cancelling() >= 65_535);
        assert_eq!(task.any().state(), TaskState::Waiting);
        assert!(task.await.unwrap_err().is_cancelled());
    }
}

behaviour! {
    async fn a_scope_in_no_task_is_the_future_itself(t) {
        // A callback is no task; nothing cancels what another executor polls in it.
        let done = Rc::new(Cell::new(false));
        let out = done.clone();
        let _ = selkie::EventLoop::current().unwrap().call_soon(move || {
            out.set(futures::FutureExt::now_or_never(catch_cancel(async { 1 })).unwrap().is_ok());
        }).unwrap();
        yield_now().await;
        assert!(done.get());
    }
}

behaviour! {
    async fn cancelling_leaves_siblings_and_parents_alone(t) {
        let sibling = spawn({
            let t = t.clone();
            async move {
                sleep(t.secs(1.0)).await;
                "sibling"
            }
        });
        let task = spawn(pending::<()>());
        task.cancel();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(current_task().unwrap().cancelling(), 0);
        assert_eq!(sibling.await.unwrap(), "sibling");
    }
}

behaviour! {
    async fn a_destructor_that_cancels_its_own_task_is_harmless(t) {
        let inner = t.clone();
        let task = spawn(async move {
            let me = current_task().unwrap();
            let _guard = OnDrop(move || inner.log(format!("{}", me.cancel())));
            pending::<()>().await;
        });
        task.cancel();
        assert!(task.await.unwrap_err().is_cancelled());
    } => ["true"]
}

behaviour! {
    seeds async fn a_cancel_at_any_moment_ends_a_chain_of_tasks_and_releases_all(t) {
        let seed_like = t.now().as_nanos() as u64;
        for cut in 0..12u64 {
            let released = Rc::new(Cell::new(0));
            let link = |task: Option<Task<()>>| {
                let released = released.clone();
                let delay = t.secs((cut + seed_like) as f64 % 5.0 / 10.0);
                spawn(async move {
                    let _guard = OnDrop(move || released.set(released.get() + 1));
                    yield_now().await;
                    sleep(delay).await;
                    if let Some(task) = task {
                        let _ = task.await;
                    }
                    let _ = catch_cancel(sleep(delay)).await;
                })
            };
            let chain = link(Some(link(Some(link(None)))));
            let any = chain.any();
            let mut join = chain.into_future();
            sleep(t.secs(cut as f64 / 10.0)).await;
            any.cancel();
            let _ = (&mut join).await;
            // In steps, each as late as those of the chain where the machine stands still.
            for _ in 0..50 {
                if released.get() < 3 {
                    sleep(t.secs(0.1)).await;
                }
            }
            assert_eq!(released.get(), 3);
        }
    }
}

behaviour! {
    /// Rows: X01.
    async fn a_scope_that_is_kept_and_not_polled_keeps_no_cancel_back(_t) {
        let task = spawn(async {
            let mut kept = pin!(catch_cancel(pending::<()>()));
            assert!(poll_once(kept.as_mut()).await.is_pending());
            pending::<()>().await;
        });
        task.cancel();
        assert!(task.await.unwrap_err().is_cancelled());
    }
}

behaviour! {
    /// Rows: X01.
    async fn a_cancel_whose_scope_goes_at_the_same_moment_is_not_lost(t) {
        let (resolver, deferred) = Deferred::<()>::new();
        let inner = t.clone();
        let task = spawn(async move {
            let mut waiting = pin!(deferred.into_future());
            let other = matches!(
                select(&mut waiting, pin!(catch_cancel(pending::<()>()))).await,
                Either::Left(_)
            );
            inner.log(if other { "the other" } else { "the scope" });
            yield_now().await;
            pending::<()>().await;
        });
        resolver.set_result(()).unwrap();
        task.cancel();
        assert!(task.await.unwrap_err().is_cancelled());
    } => ["the other"]
}

behaviour! {
    /// Rows: X01.
    async fn a_cancel_reaches_more_scopes_than_are_polled_in_one_go(t) {
        let inner = t.clone();
        let task = spawn(async move {
            let mut many: FuturesUnordered<_> = (0..200).map(|_| catch_cancel(pending::<()>())).collect();
            let mut caught = 0;
            while let Some(result) = many.next().await {
                assert!(result.is_err());
                caught += 1;
            }
            inner.log(format!("{caught} caught"));
        });
        task.cancel();
        task.await.unwrap();
    } => ["200 caught"]
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(move |cx| Poll::Ready(future.as_mut().poll(cx))).await
}

behaviour! {
    /// Rows: X02.
    async fn a_scope_that_is_polled_only_in_the_next_turn_catches_the_cancel_too(t) {
        let task = spawn(async {
            let mut scope = pin!(catch_cancel(pending::<()>()));
            let mut polls = 0;
            poll_fn(|cx| {
                polls += 1;
                if polls == 2 {
                    // As a future that has done enough for this turn.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                scope.as_mut().poll(cx).map(|ended| (polls, ended.is_err()))
            })
            .await
        });
        task.cancel();
        assert_eq!(task.await.unwrap(), (3, true));
    }
}

behaviour! {
    /// Rows: X01.
    async fn the_first_message_of_two_requests_counts(t) {
        let task = spawn(pending::<()>());
        assert!(task.cancel_with("first") && task.cancel_with("second"));
        assert_eq!(task.await.unwrap_err().cancel_message(), Some("first"));
    }
}

behaviour! {
    /// Rows: X02.
    async fn a_scope_that_has_ended_leaves_the_cancel_to_the_one_around(t) {
        let task = spawn(async {
            catch_cancel(async {
                catch_cancel(yield_now()).await.unwrap();
                pending::<()>().await;
            })
            .await
            .is_err()
        });
        yield_now().await;
        yield_now().await;
        task.cancel();
        assert!(task.await.unwrap());
    }
}

behaviour! {
    /// Rows: X02. The scope has caught the first request, and is not polled any more.
    async fn a_cancel_that_nobody_catches_ends_the_task_though_one_was_caught_before(t) {
        let task = spawn(async {
            assert!(catch_cancel(pending::<()>()).await.is_err());
            let mut kept = pin!(catch_cancel(pending::<()>()));
            poll_fn(|cx| {
                assert!(kept.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            pending::<()>().await;
        });
        task.cancel();
        yield_now().await;
        yield_now().await;
        assert!(!task.is_finished());
        task.cancel();
        assert!(task.await.unwrap_err().is_cancelled());
    }
}

behaviour! {
    /// Rows: X02.
    async fn a_cancel_goes_on_to_a_scope_that_has_just_begun(t) {
        let second = t.secs(1.0);
        let task = spawn(async move {
            let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
            sleep(second).await;
            catch_cancel(cancelled.resume()).await.is_err()
        });
        task.cancel();
        assert!(task.await.unwrap());
    }
}
