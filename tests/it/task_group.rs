//! Groups of tasks.

use std::{
    cell::RefCell,
    future::{Future, pending},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{join, select};
use selkie::{
    EventLoop, GroupError, Task, TaskError, TaskGroup, TaskState, catch_cancel, current_task, sleep, spawn,
    spawn_lazy, timeout, wait_for, yield_now,
};

type T = crate::harness::T;

/// Logs when it is dropped.
struct Dropped(T, &'static str);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.log(format!("{} dropped", self.1));
    }
}

/// Sleeps, logs, and gives the name.
async fn work(t: T, name: &'static str, seconds: f64) -> Result<&'static str, String> {
    sleep(t.secs(seconds)).await;
    t.log(name);
    Ok(name)
}

/// Sleeps and fails.
async fn fail(t: T, name: &'static str, seconds: f64) -> Result<&'static str, String> {
    sleep(t.secs(seconds)).await;
    Err(name.to_owned())
}

/// Waits for ever; when cancelled, cleans up for `seconds`.
async fn polite(t: T, name: &'static str, seconds: f64) -> Result<&'static str, String> {
    let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
    t.log(format!("{name} cleans up"));
    sleep(t.secs(seconds)).await;
    t.log(format!("{name} clean"));
    cancelled.resume().await;
    unreachable!()
}

/// The errors as text, in their order.
fn texts<R: std::fmt::Debug>(result: Result<R, GroupError<String>>) -> Vec<String> {
    let errors = result.expect_err("the group failed").into_errors();
    errors.into_iter().map(|error| error.to_string()).collect()
}

/// What the loop's exception handler was told, while `body` runs.
async fn reports(body: impl AsyncFnOnce()) -> Vec<String> {
    let event_loop = EventLoop::current().unwrap();
    let told: Rc<RefCell<Vec<String>>> = Rc::default();
    let list = told.clone();
    event_loop.set_exception_handler(Some(Rc::new(move |context| {
        list.borrow_mut().push(context.message().to_owned());
    })));
    body().await;
    event_loop.set_exception_handler(None);
    told.take()
}

behaviour! {
    /// Rows: X04.
    async fn a_group_leaves_when_every_child_has_ended(t) {
        let start = t.now();
        let result = TaskGroup::scope(async |group| {
            group.spawn(work(t.clone(), "slow", 2.0));
            group.spawn(work(t.clone(), "fast", 1.0));
            t.log("body ends");
            7
        });
        assert_eq!(result.await.unwrap(), 7);
        t.assert_elapsed(start, 2.0);
        t.log("left");
    } => ["body ends", "fast", "slow", "left"]
}

behaviour! {
    /// Rows: X04.
    async fn children_give_their_values(t) {
        let both = TaskGroup::scope(async |group| {
            let a = group.spawn(work(t.clone(), "a", 2.0));
            let b = group.spawn(work(t.clone(), "b", 1.0));
            (a.await.unwrap(), b.await.unwrap())
        });
        assert_eq!(both.await.unwrap(), ("a", "b"));
    } => ["b", "a"]
}

behaviour! {
    /// Rows: X04.
    async fn the_first_failure_ends_the_siblings_and_the_body(t) {
        let start = t.now();
        let result = TaskGroup::scope(async |group| {
            let _body = Dropped(t.clone(), "body");
            let sibling = Dropped(t.clone(), "sibling");
            group.spawn(async move {
                let _sibling = sibling;
                pending::<Result<(), String>>().await
            });
            group.spawn(fail(t.clone(), "broken", 1.0));
            pending::<()>().await;
        });
        assert_eq!(texts(result.await), ["broken"]);
        t.assert_elapsed(start, 1.0);
        // The parent was not cancelled: it may wait.
        yield_now().await;
        assert_eq!(current_task().unwrap().cancelling(), 0);
        t.log("parent goes on");
    } => ["sibling dropped", "body dropped", "parent goes on"]
}

behaviour! {
    /// Rows: X04.
    async fn after_a_failure_the_siblings_are_waited_for(t) {
        let start = t.now();
        let result = TaskGroup::scope(async |group| {
            group.spawn(polite(t.clone(), "sibling", 2.0));
            group.spawn(fail(t.clone(), "broken", 1.0));
        });
        assert_eq!(texts(result.await), ["broken"]);
        t.assert_elapsed(start, 3.0);
    } => ["sibling cleans up", "sibling clean"]
}

behaviour! {
    /// Rows: X04.
    async fn all_errors_are_kept_in_the_order_of_their_coming_and_the_bodys_last(t) {
        let result = TaskGroup::try_scope(async |group| {
            for (name, seconds) in [("second", 2.0), ("first", 1.0)] {
                let t = t.clone();
                group.spawn(async move {
                    // Fails in the end, also when it is asked to end.
                    let _ = catch_cancel(sleep(t.secs(100.0))).await;
                    sleep(t.secs(seconds)).await;
                    Err::<(), _>(name.to_owned())
                });
            }
            yield_now().await;
            Err::<(), _>("body".to_owned())
        });
        let error = result.await.unwrap_err();
        assert_eq!(error.to_string(), "3 errors in a task group: first; second; body");
        assert!(!error.is_cancelled());
        assert!(matches!(&error.errors()[0], TaskError::Failed(name) if name == "first"));
        assert_eq!(texts(Err::<(), _>(error)), ["first", "second", "body"]);
    }
}

behaviour! {
    /// Rows: X04.
    async fn a_child_that_is_cancelled_alone_is_ignored(t) {
        let result = TaskGroup::scope(async |group| {
            let victim = group.spawn(work(t.clone(), "never", 100.0));
            group.spawn(work(t.clone(), "other", 2.0));
            victim.cancel();
            assert!(victim.await.unwrap_err().is_cancelled());
            t.log("victim ended");
        });
        assert!(result.await.is_ok());
        t.log("left");
    } => ["victim ended", "other", "left"]
}

behaviour! {
    /// Rows: X04.
    async fn a_failed_child_has_given_its_error_to_the_group(t) {
        let kept: Rc<RefCell<Option<Task<&str>>>> = Rc::default();
        let keep = kept.clone();
        let result = TaskGroup::scope(async move |group| {
            *keep.borrow_mut() = Some(group.spawn(fail(t.clone(), "broken", 1.0)));
        });
        assert_eq!(texts(result.await), ["broken"]);
        let error = kept.take().unwrap().await.unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(error.cancel_message(), Some("it failed, and its group has the error"));
    }
}

behaviour! {
    /// Rows: X04.
    async fn children_spawn_siblings_after_the_body_has_ended(t) {
        let result = TaskGroup::scope(async |group| {
            let (all, inner) = (group.clone(), t.clone());
            group.spawn(async move {
                sleep(inner.secs(1.0)).await;
                all.spawn(work(inner.clone(), "grandchild", 1.0));
                Ok::<_, String>(())
            });
            t.log("body ended");
        });
        assert!(result.await.is_ok());
        t.log("left");
    } => ["body ended", "grandchild", "left"]
}

behaviour! {
    /// Difference: X04. A group that is over, or ends, starts nothing and gives a cancelled task; asyncio raises.
    async fn a_group_that_is_over_or_ends_starts_nothing(t) {
        let over = TaskGroup::<String>::scope(async |group| group.clone()).await.unwrap();
        let refused = over.spawn(work(t.clone(), "never", 0.0));
        assert!(refused.is_finished());
        let error = refused.await.unwrap_err();
        assert_eq!(error.cancel_message(), Some("its group starts no tasks any more"));
        over.cancel();
        assert!(over.is_empty());

        let result = TaskGroup::scope(async |group| {
            group.spawn(async { Err::<(), _>("at once".to_owned()) });
            assert!(group.is_aborting());
            assert!(group.spawn(work(t.clone(), "never", 0.0)).is_cancelled());
        });
        assert_eq!(texts(result.await), ["at once"]);
    } => []
}

behaviour! {
    /// Rows: X04.
    /// Answers the complaint U09.
    async fn the_children_of_a_group_are_listed(t) {
        TaskGroup::<String>::scope(async |group| {
            assert!(group.is_empty());
            group.spawn_with(Task::builder().name("reader"), work(t.clone(), "read", 1.0));
            let writer = group.spawn_with(Task::builder().name("writer").lazy(), work(t.clone(), "written", 2.0));
            assert_eq!(group.len(), 2);
            let names: Vec<_> = group.tasks().iter().map(|task| task.name().to_string()).collect();
            t.log(names.join(" and "));
            writer.await.unwrap();
            assert!(group.is_empty());
            t.log(format!("{group:?}"));
        })
        .await
        .unwrap();
    } => ["reader and writer", "read", "written", "TaskGroup { children: 0, aborting: false, .. }"]
}

behaviour! {
    /// Rows: X06, X12.
    /// Answers the complaint U25.
    async fn children_that_are_done_at_once_neither_hang_nor_end_the_group(t) {
        let result = TaskGroup::scope(async |group| {
            let done = group.spawn(async { Ok::<_, String>(1) });
            assert!(done.is_finished() && group.is_empty());
            yield_now().await;
            done.await.unwrap() + group.spawn_ok(async { 2 }).await.unwrap()
        });
        assert_eq!(result.await.unwrap(), 3);
        let only_eager = TaskGroup::scope_ok(async |group| {
            group.spawn_ok(async {});
        });
        assert!(only_eager.await.is_ok());
        let empty = TaskGroup::scope_ok(async |_| 4);
        assert_eq!(empty.await.unwrap(), 4);
    }
}

behaviour! {
    /// Rows: X06.
    /// Answers the complaint U25.
    async fn a_child_that_fails_at_once_ends_the_group(t) {
        let result = TaskGroup::scope(async |group| {
            let child = group.spawn(async { Err::<(), _>("at once".to_owned()) });
            assert!(group.is_aborting() && !child.is_finished(), "it ends at its next turn");
            t.log("still in this poll");
            yield_now().await;
            t.log("never");
        });
        assert_eq!(texts(result.await), ["at once"]);
    } => ["still in this poll"]
}

behaviour! {
    /// Rows: X05.
    async fn a_cancel_of_the_parent_waits_for_the_children(t) {
        let inner = t.clone();
        let parent = spawn(async move {
            let _parent = Dropped(inner.clone(), "parent");
            let _ = TaskGroup::scope(async |group| {
                group.spawn(polite(inner.clone(), "child", 1.0));
                pending::<()>().await;
            })
            .await;
            inner.log("never");
        });
        parent.cancel_with("outside");
        let error = parent.await.unwrap_err();
        assert_eq!(error.cancel_message(), Some("outside"));
    } => ["child cleans up", "child clean", "parent dropped"]
}

behaviour! {
    /// Rows: X05.
    async fn a_cancel_while_the_group_waits_for_its_children(t) {
        let inner = t.clone();
        let parent = spawn(async move {
            let _ = TaskGroup::scope(async |group| {
                group.spawn(polite(inner.clone(), "child", 2.0));
            })
            .await;
            inner.log("never");
        });
        sleep(t.secs(1.0)).await;
        parent.cancel();
        sleep(t.secs(1.0)).await;
        // A second request does not make it leave early.
        parent.cancel();
        assert!(parent.await.unwrap_err().is_cancelled());
        t.log("parent ended");
    } => ["child cleans up", "child clean", "parent ended"]
}

behaviour! {
    /// Rows: X05.
    /// Answers the complaint U08.
    async fn an_error_and_a_cancel_from_outside_both_come_out(t) {
        let inner = t.clone();
        let parent = spawn(async move {
            let result = TaskGroup::scope(async |group| {
                let t = inner.clone();
                group.spawn(async move {
                    let _ = catch_cancel(pending::<()>()).await;
                    sleep(t.secs(1.0)).await;
                    Err::<(), _>("cannot clean up".to_owned())
                });
            });
            inner.log(texts(result.await).join(" "));
            assert_eq!(current_task().unwrap().cancelling(), 1);
            yield_now().await;
            inner.log("never");
        });
        parent.cancel();
        assert!(parent.await.unwrap_err().is_cancelled());
    } => ["cannot clean up"]
}

behaviour! {
    /// Rows: X05.
    async fn a_cancel_that_the_body_cleans_up_after_is_not_lost_with_the_body(t) {
        let inner = t.clone();
        let parent = spawn(async move {
            let result = TaskGroup::scope(async |group| {
                group.spawn(fail(inner.clone(), "child", 2.0));
                if let Err(cancelled) = catch_cancel(pending::<()>()).await {
                    inner.log("cleans up");
                    sleep(inner.secs(100.0)).await;
                    cancelled.resume().await;
                }
            });
            inner.log(texts(result.await).join(" "));
            yield_now().await;
            inner.log("never");
        });
        sleep(t.secs(1.0)).await;
        parent.cancel_with("outside");
        let error = parent.await.unwrap_err();
        assert_eq!(error.cancel_message(), Some("outside"));
    } => ["cleans up", "child"]
}

behaviour! {
    /// Rows: X05.
    async fn a_cancel_that_a_group_waits_with_is_not_lost_when_the_group_is_dropped(t) {
        let inner = t.clone();
        let parent = spawn(async move {
            let group = TaskGroup::scope(async |group| {
                group.spawn(polite(inner.clone(), "child", 100.0));
            });
            drop(select(Box::pin(group), sleep(inner.secs(2.0))).await);
            inner.log("the other was first");
            yield_now().await;
            inner.log("never");
        });
        sleep(t.secs(1.0)).await;
        parent.cancel_with("outside");
        let error = parent.await.unwrap_err();
        assert_eq!(error.cancel_message(), Some("outside"));
    } => ["child cleans up", "the other was first"]
}

behaviour! {
    /// Rows: X05, X02.
    async fn a_cancel_that_a_group_waits_with_comes_only_once_when_it_is_caught_around(t) {
        let inner = t.clone();
        let parent = spawn(async move {
            let group = TaskGroup::scope(async |group| {
                group.spawn(polite(inner.clone(), "child", 100.0));
            });
            let beside = async {
                if let Err(cancelled) = catch_cancel(pending::<()>()).await {
                    cancelled.resume().await;
                }
            };
            let caught = catch_cancel(join(group, beside)).await;
            inner.log(format!("caught: {}", caught.is_err()));
            sleep(inner.secs(1.0)).await;
            "refused"
        });
        parent.cancel();
        assert_eq!(parent.await.unwrap(), "refused");
    } => ["caught: true", "child cleans up"]
}

behaviour! {
    /// Rows: X05.
    /// Answers the complaint U08.
    async fn a_parent_that_catches_the_cancel_of_its_group_goes_on(t) {
        let inner = t.clone();
        let parent = spawn(async move {
            let group = TaskGroup::scope(async |group| {
                group.spawn(polite(inner.clone(), "child", 1.0));
            });
            let caught = catch_cancel(group).await;
            inner.log(format!("caught: {}", caught.is_err()));
            sleep(inner.secs(1.0)).await;
            "refused"
        });
        parent.cancel();
        assert_eq!(parent.await.unwrap(), "refused");
    } => ["child cleans up", "child clean", "caught: true"]
}

behaviour! {
    /// Rows: X05.
    /// Answers the complaint U08.
    async fn a_cancel_goes_through_nested_groups_from_inside_out(t) {
        let inner = t.clone();
        let parent = spawn(async move {
            TaskGroup::<String>::scope(async |outer| {
                outer.spawn(polite(inner.clone(), "outer child", 1.0));
                let _ = TaskGroup::<String>::scope(async |group| {
                    group.spawn(polite(inner.clone(), "inner child", 1.0));
                })
                .await;
                inner.log("never");
            })
            .await
        });
        parent.cancel();
        assert!(parent.await.unwrap_err().is_cancelled());
        t.log("parent ended");
    } => [
        "inner child cleans up",
        "inner child clean",
        "outer child cleans up",
        "outer child clean",
        "parent ended",
    ]
}

behaviour! {
    /// Rows: X04.
    /// Answers the complaint U08.
    async fn an_error_of_an_inner_group_is_an_error_of_the_outer_body_only_if_passed_on(t) {
        let start = t.now();
        let outer = TaskGroup::try_scope(async |outer| {
            outer.spawn(work(t.clone(), "outer child", 3.0));
            let inner = TaskGroup::scope(async |group| {
                group.spawn(fail(t.clone(), "inner", 1.0));
                pending::<()>().await;
            });
            t.log(texts(inner.await).join(" "));
            Ok::<_, String>("outer body goes on")
        });
        assert_eq!(outer.await.unwrap(), "outer body goes on");
        t.assert_elapsed(start, 3.0);
        let outer = TaskGroup::scope(async |outer| {
            let t = t.clone();
            outer.spawn(async move {
                let inner = TaskGroup::scope(async |group| {
                    group.spawn(fail(t.clone(), "inner again", 1.0));
                });
                inner.await.map_err(|error| error.to_string())
            });
        });
        assert_eq!(texts(outer.await), ["1 error in a task group: inner again"]);
    } => ["inner", "outer child"]
}

behaviour! {
    /// Rows: X04.
    /// Answers the complaint U08.
    async fn a_failure_in_the_outer_group_ends_the_inner_one(t) {
        let result = TaskGroup::scope(async |outer| {
            outer.spawn(fail(t.clone(), "outer child", 1.0));
            let inner = TaskGroup::<String>::scope(async |group| {
                let guard = Dropped(t.clone(), "inner child");
                group.spawn(async move {
                    let _guard = guard;
                    pending::<Result<(), String>>().await
                });
            });
            let _ = inner.await;
            t.log("never");
        });
        assert_eq!(texts(result.await), ["outer child"]);
        yield_now().await;
        t.log("later");
    } => ["inner child dropped", "later"]
}

behaviour! {
    /// Rows: X07.
    /// Answers the complaint U09.
    async fn a_group_cancelled_after_its_body_ends_without_an_error(t) {
        let result = TaskGroup::<String>::scope(async |group| {
            group.spawn(polite(t.clone(), "loser", 1.0));
            let (all, inner) = (group.clone(), t.clone());
            group.spawn(async move {
                sleep(inner.secs(1.0)).await;
                all.cancel();
                all.cancel();
                inner.log("found it");
                Ok(())
            });
            "the body's value"
        });
        assert_eq!(result.await.unwrap(), "the body's value");
        t.log("left");
    } => ["found it", "loser cleans up", "loser clean", "left"]
}

behaviour! {
    /// Difference: X07. A group cancelled before its body has ended has no value, so its result says cancelled.
    async fn a_group_cancelled_before_its_body_has_ended_says_so(t) {
        let result = TaskGroup::<String>::scope(async |group| {
            let _body = Dropped(t.clone(), "body");
            group.spawn(work(t.clone(), "never", 100.0));
            group.cancel();
            t.log("still in this poll");
            pending::<()>().await;
        });
        let error = result.await.unwrap_err();
        assert!(error.is_cancelled() && error.errors().is_empty());
        assert_eq!(error.to_string(), "the task group was cancelled before its body had ended");
        assert!(error.unless_cancelled().is_ok());
        // The parent itself is not cancelled.
        yield_now().await;
        t.log("parent goes on");
    } => ["still in this poll", "body dropped", "parent goes on"]
}

behaviour! {
    /// Rows: X07, X05.
    /// Answers the complaint U08.
    async fn a_cancel_from_outside_comes_out_of_a_group_that_was_cancelled(t) {
        let inner = t.clone();
        let parent = spawn(async move {
            let _ = TaskGroup::<String>::scope(async |group| {
                group.spawn(polite(inner.clone(), "child", 2.0));
                group.cancel();
            })
            .await;
            inner.log("never");
        });
        sleep(t.secs(1.0)).await;
        parent.cancel();
        assert!(parent.await.unwrap_err().is_cancelled());
        t.log("parent ended");
    } => ["child cleans up", "child clean", "parent ended"]
}

behaviour! {
    /// Rows: X07.
    async fn an_error_while_a_cancelled_group_ends_is_kept(t) {
        let result = TaskGroup::scope(async |group| {
            group.spawn(async {
                let _ = catch_cancel(pending::<()>()).await;
                Err::<(), _>("cannot clean up".to_owned())
            });
            group.cancel();
        });
        assert_eq!(texts(result.await), ["cannot clean up"]);
    }
}

behaviour! {
    /// Rows: X04.
    /// Answers the complaint U05.
    async fn a_child_that_swallows_its_cancel_holds_the_group_until_it_ends(t) {
        let start = t.now();
        let result = TaskGroup::scope(async |group| {
            let t = t.clone();
            group.spawn(fail(t.clone(), "broken", 1.0));
            group.spawn(async move {
                let _ = catch_cancel(pending::<()>()).await;
                sleep(t.secs(1.0)).await;
                Ok::<_, String>("swallowed")
            });
        });
        assert_eq!(texts(result.await), ["broken"]);
        t.assert_elapsed(start, 2.0);
    }
}

behaviour! {
    /// Rows: X04, X08.
    async fn a_timeout_in_a_group_is_the_bodys_own(t) {
        let result = TaskGroup::<String>::scope(async |group| {
            group.spawn(work(t.clone(), "child", 2.0));
            let slow = timeout(t.secs(1.0), pending::<()>()).await;
            t.log(format!("timed out: {}", slow.is_err()));
        });
        assert!(result.await.is_ok());
    } => ["timed out: true", "child"]
}

behaviour! {
    /// Difference: X04. A scope that is dropped asks its children to end and does not wait.
    async fn a_timeout_around_a_group_ends_the_children_without_waiting(t) {
        let start = t.now();
        let group = TaskGroup::scope(async |group| {
            group.spawn(polite(t.clone(), "child", 1.0));
        });
        assert!(timeout(t.secs(1.0), group).await.is_err());
        t.log("timed out");
        t.assert_elapsed(start, 1.0);
        sleep(t.secs(3.0)).await;
    } => ["timed out", "child cleans up", "child clean"]
}

behaviour! {
    /// Rows: X04, X09.
    async fn wait_for_around_a_group_waits_for_the_children(t) {
        let inner = t.clone();
        let group = async move {
            TaskGroup::scope(async |group| {
                group.spawn(polite(inner.clone(), "child", 1.0));
            })
            .await
        };
        assert!(wait_for(group, t.secs(1.0)).await.unwrap_err().is_timed_out());
        t.log("timed out");
    } => ["child cleans up", "child clean", "timed out"]
}

behaviour! {
    /// Rows: X04.
    /// Answers the complaint U03.
    async fn errors_that_come_after_a_scope_was_dropped_are_reported(t) {
        let told = reports(async || {
            let group = TaskGroup::scope(async |group| {
                group.spawn(async {
                    let _ = catch_cancel(pending::<()>()).await;
                    yield_now().await;
                    Err::<(), _>(String::new())
                });
            });
            assert!(timeout(t.secs(1.0), group).await.is_err());
            sleep(t.secs(1.0)).await;
        })
        .await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("a child failed in a group whose scope was left"), "{told:?}");
    }
}

behaviour! {
    /// Rows: X04.
    /// Answers the complaint U03.
    async fn an_error_that_a_scope_had_no_time_to_return_is_reported(t) {
        let told = reports(async || {
            let group = TaskGroup::scope(async |group| {
                group.spawn(fail(t.clone(), "broken", 1.0));
            });
            let mut group = Box::pin(group);
            assert!(timeout(t.secs(0.5), group.as_mut()).await.is_err());
            sleep(t.secs(2.0)).await;
            drop(group);
        })
        .await;
        assert_eq!(told.len(), 1, "{told:?}");
    }
}

behaviour! {
    /// Rows: X04. It ended the group, and a child held the scope up.
    async fn an_error_of_the_body_that_a_scope_had_no_time_to_return_is_reported(t) {
        let told = reports(async || {
            let group = TaskGroup::try_scope(async |group| {
                let child = group.spawn(async {
                    let _ = catch_cancel(pending::<()>()).await;
                    pending::<Result<(), String>>().await
                });
                child.detach();
                Err::<(), _>(String::new())
            });
            assert!(timeout(t.secs(1.0), group).await.is_err());
        })
        .await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("the body failed in a group whose scope was left"), "{told:?}");
    }
}

behaviour! {
    /// Rows: X04.
    async fn the_errors_of_a_group_may_cross_threads(t) {
        fn crosses<E: std::error::Error + Send + Sync + 'static>(_: &E) {}
        let failed = TaskGroup::scope(async |group| {
            group.spawn(async { Err::<(), _>(std::fmt::Error) });
        });
        let error = failed.await.unwrap_err();
        crosses(&error);
        assert!(error.to_string().ends_with(&std::fmt::Error.to_string()), "{error}");
    }
}

behaviour! {
    /// Rows: X04, F25.
    async fn errors_that_are_texts_or_boxes_are_passed_on(t) {
        async fn group<E>(error: E) -> Result<(), Box<dyn std::error::Error>>
        where
            E: std::fmt::Debug + std::fmt::Display + 'static,
        {
            TaskGroup::scope(async |group| { group.spawn(async { Err::<(), _>(error) }); }).await?;
            Ok(())
        }
        async fn gather<E>(error: E) -> Result<(), Box<dyn std::error::Error>>
        where
            E: std::fmt::Debug + std::fmt::Display + 'static,
        {
            selkie::try_gather([async { Err::<(), _>(error) }]).await?;
            Ok(())
        }
        t.log(group("text").await.unwrap_err().to_string());
        t.log(gather(String::from("text")).await.unwrap_err().to_string());
        t.log(gather(Box::<dyn std::error::Error>::from("box")).await.unwrap_err().to_string());
    } => ["1 error in a task group: text", "text", "box"]
}

behaviour! {
    /// Rows: X04, X01.
    async fn a_lazy_child_of_an_ending_group_never_runs(t) {
        let result = TaskGroup::<String>::scope(async |group| {
            group.spawn_with(Task::builder().lazy(), work(t.clone(), "never", 0.0));
            group.cancel();
        });
        assert!(result.await.is_ok());
    } => []
}

behaviour! {
    /// Rows: X05, X01.
    seeds async fn a_cancel_at_the_turn_of_the_last_childs_end_is_not_lost(t) {
        let inner = t.clone();
        let parent = spawn(async move {
            let result = TaskGroup::<String>::scope(async |group| {
                group.spawn(work(inner.clone(), "child", 1.0));
            })
            .await;
            // Left in time: the cancel comes at the next await.
            assert!(result.is_ok());
            pending::<()>().await;
        });
        sleep(t.secs(1.0)).await;
        parent.cancel();
        assert!(parent.await.unwrap_err().is_cancelled());
    }
}

behaviour! {
    /// Rows: X04, X05.
    /// Answers the complaint U08.
    seeds async fn a_group_in_any_order_ends_every_child_and_keeps_every_error(t) {
        let ended = Rc::new(RefCell::new(0));
        let count = ended.clone();
        let inner = t.clone();
        let parent = spawn(async move {
            let result = TaskGroup::scope(async |group| {
                for index in 0..6 {
                    let (t, count) = (inner.clone(), count.clone());
                    group.spawn(async move {
                        struct Ended(Rc<RefCell<i32>>);
                        impl Drop for Ended {
                            fn drop(&mut self) {
                                *self.0.borrow_mut() += 1;
                            }
                        }
                        let _ended = Ended(count);
                        let _ = catch_cancel(sleep(t.secs(1.0))).await;
                        sleep(t.secs(f64::from(index % 3))).await;
                        if index % 2 == 0 { Err(index) } else { Ok(index) }
                    });
                }
                pending::<()>().await;
            })
            .await;
            let mut errors: Vec<_> = result
                .unwrap_err()
                .into_errors()
                .into_iter()
                .map(|error| match error {
                    TaskError::Failed(index) => index,
                    other => panic!("{other}"),
                })
                .collect();
            errors.sort_unstable();
            errors
        });
        let outside = spawn_lazy({
            let (any, length) = (parent.any(), t.secs(1.0));
            async move {
                sleep(length).await;
                any.cancel()
            }
        });
        let result = parent.await;
        assert_eq!(*ended.borrow(), 6, "every child has ended when the group is left");
        // Whether it came before the group's own end is the host's to say.
        outside.await.unwrap();
        // A child whose cancel came while it slept outside of a scope ended without its error.
        match result {
            Ok(errors) => assert!(errors.iter().all(|index| index % 2 == 0) && !errors.is_empty()),
            Err(error) => assert!(error.is_cancelled()),
        }
    }
}

behaviour! {
    /// Rows: X04.
    async fn a_group_is_left_alone_by_what_its_parent_does_beside_it(t) {
        let group = TaskGroup::scope(async |group| {
            group.spawn(work(t.clone(), "child", 1.0));
        });
        let mut group = pin!(group);
        assert!(timeout(t.secs(0.5), group.as_mut()).await.is_err());
        t.log("the parent looked away");
        assert!(group.await.is_ok());
    } => ["the parent looked away", "child"]
}

behaviour! {
    /// Rows: X04.
    async fn a_child_may_be_handed_out_and_outlive_the_scope_as_a_result(t) {
        let child = TaskGroup::scope(async |group| group.spawn(work(t.clone(), "child", 1.0))).await.unwrap();
        assert_eq!(child.any().state(), TaskState::Finished);
        assert_eq!(child.await.unwrap(), "child");
        assert_eq!(timeout(Duration::ZERO, async {}).await, Ok(()));
    } => ["child"]
}

#[cfg(panic = "unwind")]
behaviour! {
    /// Rows: X04.
    async fn a_child_that_panics_ends_the_group(t) {
        let result = TaskGroup::scope(async |group| {
            group.spawn(polite(t.clone(), "sibling", 1.0));
            group.spawn_ok(async {
                yield_now().await;
                panic!("bug");
            });
            pending::<()>().await;
        });
        let mut errors = result.await.unwrap_err().into_errors();
        let TaskError::Join(error) = errors.remove(0) else { panic!("it panicked") };
        assert!(error.is_panic() && errors.is_empty());
        assert_eq!(error.into_panic().downcast_ref(), Some(&"bug"));
    } => ["sibling cleans up", "sibling clean"]
}

#[cfg(panic = "unwind")]
behaviour! {
    /// Difference: X04. A panic of the body goes on as a panic, when the children have ended.
    async fn a_body_that_panics_waits_for_its_children_and_goes_on_panicking(t) {
        let inner = t.clone();
        let parent = spawn(async move {
            TaskGroup::scope(async |group| {
                group.spawn(polite(inner.clone(), "child", 1.0));
                panic!("bug in the body");
            })
            .await
        });
        let error = parent.await.unwrap_err();
        assert_eq!(error.into_panic().downcast_ref(), Some(&"bug in the body"));
    } => ["child cleans up", "child clean"]
}

/// Panics when it is dropped.
#[cfg(panic = "unwind")]
#[derive(Debug)]
struct Panics;

#[cfg(panic = "unwind")]
impl Drop for Panics {
    fn drop(&mut self) {
        panic!("in a destructor (expected by a test)");
    }
}

#[cfg(panic = "unwind")]
behaviour! {
    /// Rows: X04, X05. The body is dropped as a child fails, or as the parent is cancelled.
    async fn a_body_that_panics_as_it_is_dropped_waits_for_its_children(t) {
        for fails in [true, false] {
            let inner = t.clone();
            let parent = spawn(async move {
                TaskGroup::scope(async |group| {
                    group.spawn(polite(inner.clone(), "child", 1.0)).detach();
                    if fails {
                        group.spawn(fail(inner.clone(), "fails", 0.5)).detach();
                    }
                    let _panics = Panics;
                    pending::<()>().await;
                })
                .await
            });
            sleep(t.secs(0.25)).await;
            let told = reports(async || {
                if !fails {
                    parent.cancel();
                }
                let error = parent.await.unwrap_err().into_panic();
                assert_eq!(error.downcast_ref(), Some(&"in a destructor (expected by a test)"));
            });
            assert_eq!(told.await.len(), usize::from(fails), "what the child failed with");
            t.log("over");
        }
    } => ["child cleans up", "child clean", "over", "child cleans up", "child clean", "over"]
}

/// Waits for ever; when cancelled, fails with what panics when it is dropped.
#[cfg(panic = "unwind")]
async fn fail_to_clean() -> Result<(), Panics> {
    _ = catch_cancel(pending::<()>()).await;
    Err(Panics)
}

#[cfg(panic = "unwind")]
behaviour! {
    /// Difference: X04. Nobody is given the errors, and a panic on top of the body's would end the program.
    async fn errors_that_panic_as_they_are_dropped_do_not_hide_the_panic_of_the_body(t) {
        let told = reports(async || {
            let parent = spawn(async {
                TaskGroup::scope(async |group| {
                    group.spawn(fail_to_clean()).detach();
                    group.spawn(fail_to_clean()).detach();
                    panic!("bug in the body");
                })
                .await
            });
            let error = parent.await.unwrap_err();
            assert_eq!(error.into_panic().downcast_ref(), Some(&"bug in the body"));
        });
        assert_eq!(told.await.len(), 2, "what the children failed with");
    }
}

#[cfg(panic = "unwind")]
behaviour! {
    /// Difference: X04. One destructor that panics on top of another would end the program.
    async fn errors_that_panic_as_they_are_dropped_with_their_scope_do_no_harm(t) {
        let told = reports(async || {
            let mut scope = pin!(TaskGroup::scope(async |group| {
                group.spawn(fail_to_clean()).detach();
                group.spawn(fail_to_clean()).detach();
                group.cancel();
                pending::<()>().await;
            }));
            assert!(futures::poll!(scope.as_mut()).is_pending());
            // The children fail.
            yield_now().await;
            yield_now().await;
        });
        assert_eq!(told.await.len(), 2, "what the children failed with");
    }
}

#[cfg(panic = "unwind")]
behaviour! {
    /// Rows: X04. The panic of the destructor is no second error, and is reported.
    async fn a_child_that_panics_as_it_is_dropped_has_failed_once(t) {
        struct Fails(Panics);
        impl Future for Fails {
            type Output = Result<(), String>;
            fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
                Poll::Ready(Err("fails".to_owned()))
            }
        }
        let told = reports(async || {
            let result = TaskGroup::scope(async |group| {
                group.spawn(Fails(Panics)).detach();
                pending::<()>().await;
            });
            assert_eq!(texts(result.await), ["fails"]);
        });
        let told = told.await;
        assert!(told.len() == 1 && told[0].contains("panicked while it was dropped"), "{told:?}");
    }
}

behaviour! {
    /// Rows: X04, X01. By the group, and not again by the awaits that go with the body and with a sibling: what is asked twice has
    /// what it does to end cut short.
    async fn a_child_that_is_awaited_is_asked_once_when_its_group_ends(t) {
        for by_sibling in [false, true] {
            let inner = t.clone();
            let group = TaskGroup::scope(async |group| {
                let child = group.spawn(async move {
                    let Err(cancelled) = catch_cancel(std::future::pending::<()>()).await else { unreachable!() };
                    inner.log("asked");
                    sleep(inner.secs(0.5)).await;
                    inner.log("clean");
                    cancelled.resume().await;
                    Ok(())
                });
                group.spawn(async {
                    yield_now().await;
                    Err::<(), _>("failed")
                }).detach();
                if by_sibling {
                    let sibling = async {
                        _ = child.await;
                        Ok(())
                    };
                    group.spawn(sibling).await
                } else {
                    child.await
                }
            });
            assert_eq!(group.await.unwrap_err().errors().len(), 1);
        }
    } => ["asked", "clean", "asked", "clean"]
}
