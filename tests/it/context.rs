//! Context variables: inherited as a copy, private afterwards.

use selkie::{Context, ContextVar, EventLoop, Task, spawn, spawn_lazy, yield_now};

use crate::harness::test;

static NAME: ContextVar<&'static str> = ContextVar::new();
static COUNT: ContextVar<u32> = ContextVar::new();

behaviour! {
    /// Rows: X18.
    async fn a_task_starts_with_a_copy_and_neither_sees_what_the_other_sets(t) {
        NAME.set("main");
        let lazy = spawn_lazy(async {
            let first = NAME.get();
            NAME.set("child");
            yield_now().await;
            (first, NAME.get())
        });
        NAME.set("changed");
        assert_eq!(lazy.await.unwrap(), (Some("main"), Some("child")));
        assert_eq!(NAME.get(), Some("changed"));
    }
}

behaviour! {
    /// Difference: X11. A context is a value, so a task that is given one works on a copy; in asyncio the owner of the
    /// context sees what the task sets.
    async fn a_task_given_a_context_runs_in_a_copy_of_it(t) {
        NAME.set("given");
        let context = Context::current();
        NAME.set("other");
        let task = Task::builder().context(context.clone()).spawn(async {
            let seen = NAME.get();
            NAME.set("set by the task");
            yield_now().await;
            seen
        });
        let any = task.any();
        assert_eq!(any.context().run(|| NAME.get()), Some("set by the task"));
        assert_eq!(task.await.unwrap(), Some("given"));
        assert_eq!(context.run(|| NAME.get()), Some("given"));
        assert_eq!(NAME.get(), Some("other"));
    }
}

behaviour! {
    /// Rows: X18.
    async fn a_scope_puts_the_old_value_back_also_over_awaits(t) {
        COUNT.clear();
        {
            let _outer = COUNT.scope(1);
            {
                let _inner = COUNT.scope(2);
                yield_now().await;
                assert_eq!(COUNT.get(), Some(2));
            }
            assert_eq!(COUNT.get(), Some(1));
        }
        assert_eq!(COUNT.get(), None);
    }
}

#[cfg(panic = "unwind")]
behaviour! {
    /// Rows: X18.
    async fn what_a_panic_leaves_is_dropped_in_the_context_of_its_task(t) {
        COUNT.set(1);
        let beside = async {
            COUNT.set(2);
            let _scope = COUNT.scope(3);
            std::future::pending::<()>().await;
        };
        let task = spawn(futures::future::join(beside, async { panic!("on purpose") }));
        assert_eq!(COUNT.get(), Some(1));
        assert!(task.await.unwrap_err().is_panic());
        COUNT.clear();
    }
}

/// Sets a variable as it goes.
struct Sets;

impl Drop for Sets {
    fn drop(&mut self) {
        COUNT.set(9);
    }
}

async fn keeps(_sets: Sets) {
    std::future::pending().await
}

behaviour! {
    /// Rows: X18.
    async fn what_a_destructor_sets_is_seen_by_nobody_else(t) {
        COUNT.clear();
        for task in [spawn(keeps(Sets)), spawn_lazy(keeps(Sets))] {
            task.cancel();
            assert!(task.await.unwrap_err().is_cancelled());
        }
        let event_loop = EventLoop::current().unwrap();
        for begins in [true, false] {
            let sets = Sets;
            let handle = event_loop.call_soon(move || drop(sets)).unwrap();
            if begins {
                yield_now().await;
                yield_now().await;
            }
            handle.cancel();
        }
        assert_eq!(COUNT.get(), None);
    }
}

/// Rows: X18. Neither do results that nobody wants, nor what a loop drops as it closes.
#[test]
fn what_a_destructor_sets_does_not_become_the_threads() {
    COUNT.clear();
    let event_loop = selkie::testing::Sim::new().event_loop();
    let run = event_loop.run_until_complete(async {
        spawn(async {
            yield_now().await;
            Sets
        })
        .detach();
        spawn(keeps(Sets)).detach();
        spawn_lazy(keeps(Sets)).detach();
        for _ in 0..3 {
            yield_now().await;
        }
    });
    run.unwrap();
    assert_eq!(COUNT.get(), None, "a result that nobody wants");
    let sets = Sets;
    drop(event_loop.call_soon(move || drop(sets)).unwrap());
    event_loop.close().unwrap();
    assert_eq!(COUNT.get(), None, "a loop that closes");
}

/// Rows: X18. As asyncio's call runs in a copy of the caller's context.
#[test]
fn what_a_call_from_another_thread_sets_does_not_become_the_threads() {
    COUNT.clear();
    let event_loop = selkie::testing::Sim::new().event_loop();
    event_loop.handle().call_soon_threadsafe(|| _ = COUNT.set(3)).unwrap();
    let seen = event_loop.run_until_complete(async {
        yield_now().await;
        COUNT.get()
    });
    assert_eq!((seen.unwrap(), COUNT.get()), (None, None));
}

/// Rows: X18.
#[test]
fn outside_of_a_loop_the_thread_has_a_context_that_a_run_inherits() {
    assert_eq!(NAME.set("outside"), None);
    let sim = selkie::testing::Sim::new();
    let seen = sim.run(async {
        let seen = NAME.get();
        NAME.set("inside");
        assert!(EventLoop::current().is_some());
        spawn(async { NAME.get() }).await.unwrap().zip(seen)
    });
    assert_eq!(seen, Some(("inside", "outside")));
    assert_eq!(NAME.clear(), Some("outside"));
}
