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
