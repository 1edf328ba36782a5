//! What nobody waits for is not lost: reports, the exception handler, instruments that fail.

use std::{cell::RefCell, rc::Rc, time::Duration};

use selkie::{AnyTask, ContextVar, Deferred, EventLoop, Instrument, Task, spawn, yield_now};

use crate::harness::{OnDrop, Reports, on_new_loops, test};

/// Rows: F16.
#[test]
fn a_task_destroyed_while_pending_is_reported_at_once_and_by_name() {
    on_new_loops(|event_loop| {
        let reports = Reports::of(&event_loop);
        let named = |name: &str| Task::builder().name(name);
        // What the deferred waits with is the library's own, and no news either.
        let waits = async move {
            let source = named("source").spawn(std::future::pending::<Result<(), ()>>());
            let _ = Deferred::from_future(source).await;
        };
        event_loop.spawn_with(named("waits"), waits).unwrap().detach();
        event_loop.spawn_with(named("not started").lazy(), async {}).unwrap().detach();
        let done = event_loop.spawn_with(named("done"), async {}).unwrap();
        drop(done);
        let kept = event_loop.spawn_with(named("kept"), std::future::pending::<()>()).unwrap();
        let _ = event_loop.call_soon(|| {}).unwrap();
        // A callback is no task, and its end is no news.
        let _ = event_loop.call_later(Duration::from_secs(3600), || {}).unwrap();
        event_loop.stop();
        event_loop.run_forever().unwrap();
        event_loop.close().unwrap();
        let expected = ["waits", "kept", "source"]
            .map(|name| format!("task {name:?} was destroyed while it was pending"));
        assert_eq!(reports.take(), expected);
        assert!(kept.is_cancelled());
    });
}

behaviour! {
    /// Rows: X23.
    async fn the_exception_handler_is_set_called_and_taken_away(t) {
        let event_loop = EventLoop::current().unwrap();
        let inner = t.clone();
        event_loop.set_exception_handler(Some(Rc::new(move |context| {
            inner.log(format!("{} {:?} {context}", context.message(), context.task_name()));
        })));
        event_loop.call_exception_handler("odd");
        event_loop.set_exception_handler(None);
        event_loop.call_exception_handler("the suite's own: not for the handler that was taken away");
    } => ["odd None selkie: odd"]
}

behaviour! {
    /// Rows: F18.
    async fn a_cancelled_task_that_nobody_looks_at_is_no_failure(t) {
        let reports = Reports::of_current();
        let task = spawn(std::future::pending::<()>());
        task.cancel();
        drop(task);
        yield_now().await;
        assert_eq!(reports.take(), [""; 0]);
    }
}

behaviour! {
    /// Difference: F18. An `Err` is a value like any other to a plain task, so dropping it unseen is not reported; a panic
    /// always is.
    async fn an_err_that_nobody_looks_at_is_a_value(t) {
        let reports = Reports::of_current();
        drop(spawn(async { Err::<(), _>("value") }));
        assert_eq!(reports.take(), [""; 0]);
    }
}

/// Cancels every task that it is told of.
struct Canceller;

impl Instrument for Canceller {
    fn created(&self, task: &AnyTask) {
        task.cancel();
    }
}

behaviour! {
    async fn an_instrument_may_cancel_what_it_is_told_of(t) {
        let event_loop = EventLoop::current().unwrap();
        event_loop.set_instrument(Some(Rc::new(Canceller)));
        let lazy: Vec<_> = (0..3).map(|_| selkie::spawn_lazy(async { unreachable!() })).collect();
        let eager = spawn(yield_now());
        let callback = event_loop.call_soon(|| unreachable!()).unwrap();
        event_loop.set_instrument(None);
        for task in lazy {
            let result: Result<(), _> = task.await;
            assert!(result.unwrap_err().is_cancelled());
        }
        assert!(eager.await.unwrap_err().is_cancelled());
        assert!(callback.is_cancelled());
    }
}

behaviour! {
    async fn an_instrument_sees_every_step(t) {
        struct Seen(crate::harness::T);
        impl Instrument for Seen {
            fn created(&self, task: &AnyTask) {
                self.0.log(format!("created {}", task.name()));
            }
            fn poll_start(&self, task: &AnyTask) {
                self.0.log(format!("start {}", task.name()));
            }
            fn poll_end(&self, task: &AnyTask) {
                self.0.log(format!("end {}", task.name()));
            }
            fn done(&self, task: &AnyTask) {
                self.0.log(format!("done {}", task.name()));
            }
        }
        let event_loop = EventLoop::current().unwrap();
        selkie::current_task().unwrap();
        event_loop.set_instrument(Some(Rc::new(Seen(t.clone()))));
        let task = Task::builder().name("a").spawn(async { 1 });
        event_loop.set_instrument(None);
        task.await.unwrap();
    } => ["created a", "start a", "end a", "done a"]
}

/// What panics needs them to unwind; elsewhere a panic ends the simulation, and on a host the task by a trap.
#[cfg(panic = "unwind")]
mod panics {
    use super::*;
    // Not by the glob: the prelude has another `test`.
    use crate::harness::test;

    static REQUEST: ContextVar<u32> = ContextVar::new();

    behaviour! {
        /// Rows: F18.
        async fn a_panic_that_nobody_looks_at_is_reported_when_the_task_is_dropped(t) {
            let reports = Reports::of_current();
            let task = Task::builder().name("worker").spawn(async { panic!("oh") });
            assert_eq!(reports.take(), [""; 0], "somebody may still look");
            drop::<Task<()>>(task);
            assert_eq!(reports.take(), ["task \"worker\" panicked: oh, and nobody looked at the result"]);
            // Detached before it ends.
            drop::<Task<()>>(Task::builder().name("late").lazy().spawn(async { panic!("oh") }));
            yield_now().await;
            assert_eq!(reports.take(), ["task \"late\" panicked: oh, and nobody looked at the result"]);
        }
    }

    behaviour! {
        /// Rows: F18.
        async fn a_panic_that_somebody_looks_at_is_not_reported(t) {
            let reports = Reports::of_current();
            let failing = || -> Task<()> { spawn(async { panic!("seen") }) };
            failing().await.unwrap_err();
            (&failing()).await.unwrap_err();
            failing().result().unwrap().unwrap_err();
            failing().try_into_result().unwrap().unwrap_err();
            assert_eq!(reports.take(), [""; 0]);
        }
    }

    behaviour! {
        /// Rows: X18, X23.
        async fn the_handler_runs_in_the_context_of_the_task_that_failed(t) {
            let event_loop = EventLoop::current().unwrap();
            let seen = Rc::new(RefCell::new(Vec::new()));
            let out = seen.clone();
            event_loop.set_exception_handler(Some(Rc::new(move |_| out.borrow_mut().push(REQUEST.get()))));
            let task: Task<()> = spawn(async {
                REQUEST.set(7);
                panic!("oh");
            });
            drop(task);
            REQUEST.set(8);
            let _ = event_loop.call_soon(|| panic!("oh")).unwrap();
            REQUEST.set(9);
            yield_now().await;
            event_loop.set_exception_handler(None);
            assert_eq!(*seen.borrow(), [Some(7), Some(8)]);
            assert_eq!(REQUEST.get(), Some(9));
        }
    }

    behaviour! {
        /// Rows: X23.
        async fn a_handler_that_panics_does_no_harm(t) {
            let event_loop = EventLoop::current().unwrap();
            event_loop.set_exception_handler(Some(Rc::new(|_| panic!("the handler itself"))));
            let _ = event_loop.call_soon(|| panic!("soon")).unwrap();
            drop::<Task<()>>(spawn(async { panic!("task") }));
            event_loop.call_exception_handler("direct");
            yield_now().await;
            event_loop.set_exception_handler(None);
            assert_eq!(spawn(async { 1 }).await.unwrap(), 1);
        }
    }

    behaviour! {
        async fn destructors_that_panic_are_reported_and_results_kept(t) {
            let reports = Reports::of_current();
            let named = |name: &str| Task::builder().name(name);
            let bomb = || OnDrop(|| panic!("bomb"));
            // In the body's own end it is a panic of the task; in what is left of a future it is not.
            let inner = bomb();
            let cancelled = named("cancelled").spawn(async move {
                let _inner = inner;
                std::future::pending::<()>().await;
            });
            cancelled.cancel();
            assert!(cancelled.await.unwrap_err().is_cancelled());
            assert_eq!(reports.take(), ["task \"cancelled\" panicked while it was dropped: bomb"]);

            let mut held = Some(bomb());
            let completed = named("completed").spawn(std::future::poll_fn(move |_| {
                let _ = &mut held;
                std::task::Poll::Ready(3)
            }));
            assert_eq!(completed.await.unwrap(), 3);
            assert_eq!(reports.take(), ["task \"completed\" panicked while it was dropped: bomb"]);

            let output = named("output").spawn(async move { OnDrop(|| panic!("bomb")) });
            drop(output);
            assert_eq!(reports.take(), ["task \"output\" panicked while it was dropped: bomb"]);

            let handle = EventLoop::current().unwrap().call_soon({
                let bomb = bomb();
                move || {
                    let _bomb = bomb;
                }
            }).unwrap();
            assert!(handle.cancel());
            assert_eq!(reports.take().len(), 1);
        }
    }

    #[test]
    fn what_panics_while_a_loop_closes_is_reported_and_the_loop_closes() {
        on_new_loops(|event_loop| {
            let reports = Reports::of(&event_loop);
            let bomb = || OnDrop(|| panic!("bomb"));
            let (task, soon, done, remote) = (bomb(), bomb(), bomb(), bomb());
            let kept = event_loop
                .spawn(async move {
                    let _task = task;
                    std::future::pending::<()>().await;
                })
                .unwrap();
            kept.on_done(move |_| drop(done));
            let _ = event_loop.call_soon(move || drop(soon)).unwrap();
            event_loop.handle().call_soon_threadsafe(move || drop(remote)).unwrap();
            event_loop.close().unwrap();
            let reports = reports.take();
            assert_eq!(reports.iter().filter(|report| report.ends_with("bomb")).count(), 4, "{reports:?}");
            assert!(kept.is_cancelled() && event_loop.is_closed());
        });
    }

    behaviour! {
        async fn an_instrument_that_panics_does_no_harm(t) {
            struct Panics;
            impl Instrument for Panics {
                fn created(&self, _: &AnyTask) {
                    panic!("created");
                }
                fn poll_start(&self, _: &AnyTask) {
                    panic!("start");
                }
                fn poll_end(&self, _: &AnyTask) {
                    panic!("end");
                }
                fn done(&self, _: &AnyTask) {
                    panic!("done");
                }
            }
            let reports = Reports::of_current();
            let event_loop = EventLoop::current().unwrap();
            event_loop.set_instrument(Some(Rc::new(Panics)));
            let task = spawn(async { 1 });
            event_loop.set_instrument(None);
            assert_eq!(task.await.unwrap(), 1);
            let expected = ["created", "start", "end", "done"].map(|step| format!("an instrument panicked: {step}"));
            assert_eq!(reports.take(), expected);
        }
    }
}
