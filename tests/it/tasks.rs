//! Tasks: start, state, results, what can be awaited, how they are shown.

use std::{
    cell::{Cell, RefCell},
    future::IntoFuture,
    rc::Rc,
    time::Duration,
};

use selkie::{
    EventLoop, InvalidState, Priority, Task, TaskState, all_tasks, current_task, sleep, spawn, spawn_lazy,
    testing::Sim, yield_now,
};

use crate::harness::{on_new_loops, test};

behaviour! {
    /// Rows: F12, X12.
    async fn an_eager_task_runs_to_its_first_suspension_inside_spawn(t) {
        let inner = t.clone();
        let eager = spawn(async move {
            inner.log("eager starts");
            yield_now().await;
            inner.log("eager goes on");
        });
        let inner = t.clone();
        let lazy = spawn_lazy(async move { inner.log("lazy starts") });
        t.log("spawned");
        eager.await.unwrap();
        lazy.await.unwrap();
    } => ["eager starts", "spawned", "eager goes on", "lazy starts"]
}

behaviour! {
    /// Rows: F10.
    async fn a_future_that_nobody_polls_does_nothing(t) {
        let inner = t.clone();
        let future = async move { inner.log("ran") };
        yield_now().await;
        t.log("made");
        future.await;
        let inner = t.clone();
        drop(async move { inner.log("never") });
    } => ["made", "ran"]
}

behaviour! {
    /// Rows: F11, F82.
    async fn awaiting_one_after_the_other_adds_the_times_up(t) {
        let start = t.now();
        sleep(t.secs(3.0)).await;
        t.assert_elapsed(start, 3.0);
        sleep(t.secs(1.0)).await;
        t.assert_elapsed(start, 4.0);
    }
}

behaviour! {
    /// Rows: F11.
    async fn awaiting_a_plain_future_is_no_switch(t) {
        let inner = t.clone();
        spawn_lazy(async move { inner.log("other") }).detach();
        let inner = t.clone();
        let value = async move {
            inner.log("called");
            5
        };
        t.log(format!("{}", value.await));
        yield_now().await;
    } => ["called", "5", "other"]
}

behaviour! {
    /// Rows: F12.
    async fn a_task_made_before_the_loop_runs_starts_with_it(t) {
        let sim = Sim::new();
        let event_loop = sim.event_loop();
        let inner = t.clone();
        let task = event_loop.spawn(async move {
            inner.log("runs");
            2
        }).unwrap();
        t.log("made");
        assert!(!task.is_finished());
        assert_eq!(event_loop.run_until_complete(task.into_future()).unwrap().unwrap(), 2);
    } => ["made", "runs"]
}

behaviour! {
    /// Difference: F12. What can be awaited is known when the code is compiled, so no function makes a task of anything:
    /// a task handed to what takes awaitables stays the task it is.
    async fn a_task_handed_in_stays_the_same_task(t) {
        fn ensure_same(awaitable: impl IntoFuture<IntoFuture = selkie::Join<u64>>) -> Task<u64> {
            awaitable.into_future().into_task().expect("it has not given its result")
        }
        let task = spawn(async {
            yield_now().await;
            current_task().unwrap().id()
        });
        let id = task.id();
        let task = ensure_same(task);
        assert_eq!(task.id(), id);
        assert_eq!(task.await.unwrap(), id);
    }
}

behaviour! {
    /// Rows: F13.
    async fn state_and_result_before_and_after_a_task_has_finished(t) {
        let task = spawn(async {
            yield_now().await;
            7
        });
        assert!(!task.is_finished() && !task.is_cancelled());
        assert_eq!(task.result().unwrap_err(), InvalidState::Pending);
        let task = task.try_into_result().expect_err("a pending task comes back");
        (&task).await.unwrap();
        assert!(task.is_finished() && !task.is_cancelled());
        // The same result each time.
        assert_eq!(task.result().unwrap().unwrap(), &7);
        assert_eq!(task.result().unwrap().unwrap(), &7);
        assert_eq!(task.try_into_result().unwrap().unwrap(), 7);
    }
}

behaviour! {
    /// Rows: F13.
    async fn state_and_result_of_a_cancelled_task(t) {
        let task = spawn(std::future::pending::<u32>());
        assert!(task.cancel_with("enough"));
        assert!(!task.is_finished(), "a cancel is a request");
        yield_now().await;
        assert!(task.is_finished() && task.is_cancelled());
        let error = task.result().unwrap().unwrap_err();
        assert!(error.is_cancelled() && !error.is_panic() && !error.is_trap());
        assert_eq!(error.cancel_message(), Some("enough"));
        assert_eq!(error.to_string(), "the task was cancelled: enough");
        assert!(task.await.unwrap_err().is_cancelled());
    }
}

#[cfg(panic = "unwind")] // Otherwise a panic ends the simulation, and on a host the task by a trap.
behaviour! {
    /// Rows: F13.
    async fn state_and_result_of_a_task_that_panicked(t) {
        let task = Task::builder().name("worker").spawn(async {
            yield_now().await;
            panic!("no luck");
        });
        (&task).await.unwrap_err();
        assert!(task.is_finished() && !task.is_cancelled());
        assert_eq!(task.any().state(), TaskState::Failed);
        let error = task.result().unwrap().unwrap_err();
        assert!(error.is_panic() && !error.is_cancelled());
        assert_eq!(error.to_string(), "task \"worker\" panicked: no luck");
        let payload = task.await.unwrap_err().into_panic();
        assert_eq!(payload.downcast_ref::<&str>().unwrap(), &"no luck");
    }
}

behaviour! {
    /// Rows: F83.
    async fn two_tasks_are_pending_before_the_first_await_and_done_after_both(t) {
        let start = t.now();
        let work = |seconds: f64| {
            let t = t.clone();
            async move { sleep(t.secs(seconds)).await }
        };
        let (a, b) = (spawn(work(3.0)), spawn(work(1.0)));
        assert!(!a.is_finished() && !b.is_finished());
        (&b).await.unwrap();
        assert!(b.is_finished());
        // A host that was held up for so long comes to both at once.
        assert!(!a.is_finished() || !t.is_sim() && t.now() >= start + t.secs(3.0));
        (&a).await.unwrap();
        assert!(a.is_finished() && b.is_finished());
        t.assert_elapsed(start, 3.0);
    }
}

behaviour! {
    /// Rows: F19.
    async fn futures_tasks_references_to_tasks_and_boxes_can_be_awaited(t) {
        assert_eq!(async { 1 }.await, 1);
        assert_eq!(spawn(async { 2 }).await.unwrap(), 2);
        let task = spawn(async { 3 });
        assert_eq!((&task).await.unwrap(), &3);
        task.any().ended().await;
        let boxed: std::pin::Pin<Box<dyn Future<Output = u32>>> = Box::pin(async { 4 });
        assert_eq!(boxed.await, 4);
        assert_eq!(std::future::ready(5).await, 5);
        let later = std::future::poll_fn(|_| std::task::Poll::Ready(6));
        assert_eq!(later.await, 6);
    }
}

behaviour! {
    /// Rows: F19.
    async fn several_wait_for_one_task_without_owning_it(t) {
        let task = Rc::new(spawn(async {
            yield_now().await;
            9
        }));
        let waiters: Vec<_> = ["a", "b"]
            .into_iter()
            .map(|name| {
                let (task, t) = (task.clone(), t.clone());
                spawn(async move { t.log(format!("{name} {}", (&*task).await.unwrap())) })
            })
            .collect();
        for waiter in waiters {
            waiter.await.unwrap();
        }
    } => ["a 9", "b 9"]
}

behaviour! {
    /// Rows: F19.
    async fn waiting_without_owning_leaves_the_task_running_when_it_is_dropped(t) {
        let task = spawn(async {
            yield_now().await;
            yield_now().await;
            1
        });
        {
            let mut joined = (&task).into_future();
            assert!(futures::poll!(&mut joined).is_pending());
        }
        assert_eq!(task.cancelling(), 0);
        assert_eq!(task.await.unwrap(), 1);
    }
}

behaviour! {
    /// Rows: F44, X29.
    async fn what_was_submitted_is_listed_and_cancelled_like_any_task(t) {
        let here = EventLoop::current().unwrap().handle();
        let before = all_tasks();
        let mut listed = Vec::new();
        for message in [Some("enough"), None] {
            let remote = here.submit(std::future::pending::<()>).unwrap();
            while listed.is_empty() {
                yield_now().await;
                listed = all_tasks().into_iter().filter(|task| !before.contains(task)).collect();
            }
            assert_eq!(listed.len(), 1);
            let task = listed.remove(0);
            match message {
                Some(message) => task.cancel_with(message),
                None => task.cancel(),
            };
            let error = remote.await.unwrap_err();
            assert!(error.is_cancelled(), "{error}");
            assert_eq!(error.cancel_message(), message);
        }
        assert_eq!(all_tasks().len(), before.len());
    }
}

behaviour! {
    /// Rows: X29.
    async fn all_tasks_lists_what_is_pending_oldest_first_with_main_and_without_callbacks(t) {
        let before = all_tasks();
        let me = current_task().expect("a behaviour is a task");
        assert!(before.contains(&me), "main is a task too");
        let a = spawn_lazy(async {});
        let b = spawn(std::future::pending::<()>());
        let done = spawn(async {});
        let _ = EventLoop::current().unwrap().call_soon(|| {}).unwrap();
        let listed: Vec<_> = all_tasks().into_iter().filter(|task| !before.contains(task)).collect();
        assert_eq!(listed, [a.any(), b.any()]);
        assert!(listed.iter().all(selkie::AnyTask::is_task));
        assert!(done.is_finished(), "finished at once, so never listed");
        b.cancel();
        yield_now().await;
        assert_eq!(all_tasks().len(), before.len());
        assert!(a.is_finished());
    }
}

behaviour! {
    /// Rows: X29.
    async fn the_current_task_is_the_one_that_runs_and_none_in_a_callback(t) {
        let me = current_task().unwrap();
        let child = spawn(async {
            let first = current_task().unwrap();
            yield_now().await;
            assert_eq!(current_task().unwrap(), first);
            first.id()
        });
        assert_eq!(current_task().unwrap(), me, "an eager start gives the task back");
        let seen = Rc::new(Cell::new(false));
        let out = seen.clone();
        let _ = EventLoop::current().unwrap().call_soon(move || {
            assert!(current_task().is_none());
            out.set(true);
        }).unwrap();
        let id = child.id();
        assert_eq!(child.await.unwrap(), id);
        assert!(seen.get());
        assert_eq!(me.state(), TaskState::Running);
    }
}

behaviour! {
    /// Difference: X29. A future has no stack to be printed: `waits_for` and `type_name` say where a task is.
    async fn where_a_task_is(t) {
        async fn fetch(t: crate::harness::T) {
            sleep(t.secs(1.0)).await;
        }
        let task = spawn(fetch(t.clone()));
        assert!(task.any().type_name().contains("fetch"));
        assert_eq!(task.any().waits_for().as_deref(), Some("a timer"));
        task.await.unwrap();
    }
}

behaviour! {
    /// Rows: F22.
    async fn a_task_is_shown_with_its_name_its_state_and_what_it_waits_for(t) {
        let shown = |task: &Task<()>| {
            let shown = format!("{task:?}");
            // Where the future was written is not ours to assert.
            shown.split(", future").next().unwrap().to_owned()
        };
        let named = |name: &str| Task::builder().name(name);
        let a = named("a").lazy().spawn(sleep(t.secs(1.0)));
        t.log(shown(&a));
        yield_now().await;
        t.log(shown(&a));
        let a_join = a.into_future();
        let b = named("b").spawn(async move { a_join.await.unwrap() });
        t.log(shown(&b));
        let c = named("c").spawn(async move { b.await.unwrap() });
        t.log(shown(&c));
        let inner = t.clone();
        let me = Rc::new(RefCell::new(None::<Task<()>>));
        let slot = me.clone();
        *me.borrow_mut() = Some(named("d").lazy().spawn(async move {
            inner.log(format!("{:?}", current_task().unwrap().state()));
            drop(slot);
        }));
        c.await.unwrap();
        t.log(shown(me.borrow().as_ref().unwrap()));
        let e = named("e").spawn(std::future::pending());
        t.log(shown(&e));
        e.cancel();
        yield_now().await;
        t.log(shown(&e));
    } => [
        "Task { name: \"a\", state: Created",
        "Task { name: \"a\", state: Waiting, waits_for: a timer",
        "Task { name: \"b\", state: Waiting, waits_for: a",
        "Task { name: \"c\", state: Waiting, waits_for: b",
        "Running",
        "Task { name: \"d\", state: Finished",
        "Task { name: \"e\", state: Waiting",
        "Task { name: \"e\", state: Cancelled",
    ]
}

behaviour! {
    /// Rows: F22, X11.
    async fn names_are_given_changed_and_made_up_in_the_order_of_creation(t) {
        let (a, b) = (spawn(async {}), spawn(async {}));
        assert_eq!(*a.name(), *format!("Task-{}", a.id()));
        assert!(a.id() < b.id());
        let task = Task::builder().name(format!("n{}", 1)).spawn(yield_now());
        assert_eq!(&*task.name(), "n1");
        task.set_name("n2");
        assert_eq!(&*task.any().name(), "n2");
    }
}

behaviour! {
    /// Difference: X30. The type of a task is fixed when the code is compiled: a builder, which can be kept and cloned,
    /// stands in for the factory, and an instrument sees every task that is made.
    async fn a_builder_is_kept_and_makes_tasks_alike(t) {
        let factory = Task::builder().name("made").priority(Priority::Background);
        let (a, b) = (factory.clone().spawn(async { 1 }), factory.spawn(async { "two" }));
        assert_eq!([&*a.name(), &*b.name()], ["made", "made"]);
        assert!(!a.is_finished() && !b.is_finished());
        assert_eq!(a.await.unwrap(), 1);
        assert_eq!(b.await.unwrap(), "two");
    }
}

behaviour! {
    /// Difference: X31. Nothing tracks generators: a stream that is not finished is dropped with the task that owns it,
    /// and what it holds is released right there.
    async fn a_stream_that_is_not_finished_is_released_with_its_task(t) {
        use futures::StreamExt;
        let inner = t.clone();
        let task = spawn(async move {
            let guard = crate::harness::OnDrop(move || inner.log("released"));
            let mut stream = std::pin::pin!(futures::stream::unfold(0, |n| {
                let _ = &guard;
                async move {
                    yield_now().await;
                    Some((n, n + 1))
                }
            }));
            while stream.next().await.is_some() {}
        });
        yield_now().await;
        task.cancel();
        assert!(task.await.unwrap_err().is_cancelled());
        t.log("ended");
    } => ["released", "ended"]
}

behaviour! {
    /// Difference: F17. A future that is never awaited runs nothing and holds nothing once it is dropped; the compiler
    /// says so (`unused_must_use`), and a task, which does run, says what dropping it means.
    async fn a_future_that_is_never_awaited_releases_what_it_owns(t) {
        let guard = {
            let t = t.clone();
            crate::harness::OnDrop(move || t.log("released"))
        };
        let never = async move {
            let _guard = guard;
            unreachable!()
        };
        drop::<futures::future::BoxFuture<'_, ()>>(Box::pin(async {}));
        t.log("made");
        drop(never);
    } => ["made", "released"]
}

behaviour! {
    /// Rows: F21.
    async fn a_detached_task_runs_on(t) {
        let inner = t.clone();
        drop(spawn(async move {
            sleep(inner.secs(1.0)).await;
            inner.log("task");
        }));
        sleep(t.secs(2.0)).await;
        t.log("main");
    } => ["task", "main"]
}

behaviour! {
    /// Rows: F21.
    async fn an_owner_that_is_dropped_ends_the_task(t) {
        let inner = t.clone();
        let task = spawn(async move {
            let _guard = crate::harness::OnDrop(move || inner.log("ended"));
            std::future::pending::<()>().await;
        });
        let any = task.any();
        let mut join = task.into_future();
        assert!(futures::poll!(&mut join).is_pending());
        drop(join);
        t.log("dropped");
        any.ended().await;
        t.log(format!("{:?}", any.state()));
    } => ["dropped", "ended", "Cancelled"]
}

behaviour! {
    async fn a_join_gives_its_task_back(t) {
        let task = spawn(async {
            yield_now().await;
            4
        });
        let mut join = task.into_future();
        assert!(futures::poll!(&mut join).is_pending());
        let task = join.into_task().unwrap();
        assert_eq!(task.cancelling(), 0);
        assert_eq!(task.await.unwrap(), 4);
    }
}

/// A future with an alignment that no cell has.
#[repr(align(64))]
struct Aligned(u8);

behaviour! {
    async fn futures_and_results_of_any_size_and_alignment_are_tasks(t) {
        let aligned = Aligned(3);
        let address = spawn(async move {
            yield_now().await;
            let aligned = &aligned;
            (std::ptr::from_ref(aligned).addr() % 64, aligned.0)
        });
        assert_eq!(address.await.unwrap(), (0, 3));
        let result = spawn(async { Aligned(4) }).await.unwrap();
        assert_eq!(result.0, 4);
        let large = spawn(async {
            let mut block = [1u8; 20_000];
            yield_now().await;
            block[0] = 2;
            block
        });
        assert_eq!(large.await.unwrap().iter().map(|&byte| usize::from(byte)).sum::<usize>(), 20_001);
        spawn(async {}).await.unwrap();
    }
}

behaviour! {
    seeds async fn many_tasks_of_many_sizes_end_once_each_and_leave_nothing(t) {
        let before = all_tasks().len();
        let ended = Rc::new(Cell::new(0));
        let mut tasks = Vec::new();
        for n in 0..200u64 {
            let ended = ended.clone();
            let delay = t.secs(n as f64 % 7.0 / 10.0);
            tasks.push(match n % 4 {
                0 => spawn(async move {
                    sleep(delay).await;
                    ended.set(ended.get() + 1);
                    n
                }),
                1 => spawn_lazy(async move {
                    ended.set(ended.get() + 1);
                    n
                }),
                2 => spawn(async move {
                    let block = [n; 40];
                    yield_now().await;
                    ended.set(ended.get() + 1);
                    block[39]
                }),
                _ => Task::builder().priority(Priority::Background).spawn(async move {
                    for _ in 0..n % 5 {
                        yield_now().await;
                    }
                    ended.set(ended.get() + 1);
                    n
                }),
            });
        }
        for (n, task) in (0..).zip(tasks) {
            assert_eq!(task.await.unwrap(), n);
        }
        assert_eq!(ended.get(), 200);
        assert_eq!(all_tasks().len(), before);
    }
}

/// Rows: F12. Also for a `Task` kept longer than its loop.
#[test]
fn a_task_outlives_its_loop_and_answers_still() {
    on_new_loops(|event_loop| {
        let _ = event_loop.time();
        let reports = crate::harness::Reports::of(&event_loop);
        let done = event_loop.spawn(async { String::from("kept") }).unwrap();
        let pending = event_loop.spawn(sleep(Duration::from_secs(5))).unwrap();
        event_loop.run_until_complete(async { yield_now().await }).unwrap();
        event_loop.close().unwrap();
        assert_eq!(reports.take().len(), 1);
        drop(reports);
        drop(event_loop);
        assert!(done.is_finished());
        assert_eq!(done.result().unwrap().unwrap(), "kept");
        let _ = format!("{done:?} {pending:?} {}", done.name());
        assert!(!done.cancel() && !pending.cancel());
        done.on_done(|_| unreachable!("a closed loop calls nothing back"));
        let any = done.any();
        assert_eq!(any.state(), TaskState::Finished);
        assert!(pending.is_cancelled());
        let late = Sim::new().run(async move { pending.await });
        assert!(late.unwrap_err().is_cancelled());
    });
}
