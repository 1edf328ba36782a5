//! `Deferred`: a result that is set by hand.

use std::{cell::Cell, cell::RefCell, rc::Rc};

use futures::task::{LocalSpawnExt, SpawnExt};
use selkie::{
    Deferred, EventLoop, InvalidState, TaskError, TaskGroup, catch_cancel, sleep, spawn, spawn_lazy,
    yield_now,
};

behaviour! {
    /// Rows: F13.
    async fn a_deferred_is_pending_then_finished(t) {
        let (resolver, deferred) = Deferred::<u32>::new();
        assert!(!deferred.is_finished());
        assert_eq!(deferred.result().unwrap_err(), InvalidState::Pending);
        assert!(!resolver.is_finished());
        resolver.set_result(5).unwrap();
        assert!(deferred.is_finished() && resolver.is_finished() && !deferred.is_cancelled());
        assert_eq!(deferred.result().unwrap().unwrap(), &5);
        assert_eq!(deferred.result().unwrap().unwrap(), &5);
        assert_eq!(deferred.await.unwrap(), 5);
    }
}

behaviour! {
    /// Rows: F13.
    async fn a_failed_deferred_gives_the_same_error_each_time(t) {
        let (resolver, deferred) = Deferred::<u32, String>::new();
        resolver.set_exception("broken".into()).unwrap();
        for _ in 0..2 {
            assert!(matches!((&deferred).await, Err(TaskError::Failed(error)) if error == "broken"));
        }
        assert!(matches!(deferred.await, Err(TaskError::Failed(error)) if error == "broken"));
    }
}

behaviour! {
    /// Rows: F14.
    async fn a_result_is_set_once(t) {
        let (resolver, deferred) = Deferred::<u32, &str>::new();
        let other = resolver.clone();
        resolver.set_result(1).unwrap();
        assert_eq!(other.set_result(2), Err(InvalidState::Set));
        assert_eq!(resolver.set_exception("late"), Err(InvalidState::Set));
        assert!(!deferred.cancel());
        assert_eq!(deferred.await.unwrap(), 1);

        let (resolver, deferred) = Deferred::<u32>::new();
        assert!(deferred.cancel());
        assert!(!deferred.cancel());
        assert!(deferred.is_cancelled());
        assert_eq!(resolver.set_result(1), Err(InvalidState::Set));
        let Err(TaskError::Join(error)) = deferred.await else { panic!("it was cancelled") };
        assert!(error.is_cancelled());
    }
}

behaviour! {
    /// Rows: F15.
    async fn callbacks_come_later_in_order_and_before_who_waits(t) {
        let (resolver, deferred) = Deferred::<u32>::new();
        for name in ["first", "second"] {
            let t = t.clone();
            deferred.on_done(move |result| t.log(format!("{name} {}", result.as_ref().unwrap())));
        }
        let inner = t.clone();
        let waiter = spawn(async move {
            let value = (&deferred).await.unwrap();
            inner.log(format!("waiter {value}"));
            deferred
        });
        resolver.set_result(3).unwrap();
        t.log("set");
        let deferred = waiter.await.unwrap();
        let inner = t.clone();
        deferred.on_done(move |_| inner.log("after the end"));
        t.log("added");
        // A callback that is queued is waited for.
        assert_eq!(deferred.await.unwrap(), 3);
        t.log("taken");
    } => ["set", "first 3", "second 3", "waiter 3", "added", "after the end", "taken"]
}

#[cfg(panic = "unwind")]
behaviour! {
    /// Rows: F15.
    async fn a_callback_that_panics_is_reported_and_the_others_run(t) {
        let event_loop = EventLoop::current().unwrap();
        let reports = Rc::new(Cell::new(0));
        let count = reports.clone();
        event_loop.set_exception_handler(Some(Rc::new(move |_| count.set(count.get() + 1))));
        let (resolver, deferred) = Deferred::<u32>::new();
        deferred.on_done(|_| panic!("callback"));
        let inner = t.clone();
        deferred.on_done(move |_| inner.log("other callback"));
        resolver.set_result(1).unwrap();
        assert_eq!(deferred.await.unwrap(), 1);
        event_loop.set_exception_handler(None);
        assert_eq!(reports.get(), 1);
    } => ["other callback"]
}

behaviour! {
    /// Rows: F14, F19.
    async fn several_wait_for_one_result(t) {
        let (resolver, deferred) = Deferred::<u32>::new();
        let deferred = Rc::new(deferred);
        let waiters: Vec<_> = (0..3)
            .map(|index| {
                let (t, deferred) = (t.clone(), deferred.clone());
                spawn(async move { t.log(format!("{index} got {}", (&*deferred).await.unwrap())) })
            })
            .collect();
        // One that leaves does not disturb the others.
        waiters[1].cancel();
        yield_now().await;
        resolver.set_result(8).unwrap();
        for waiter in waiters {
            let _ = waiter.await;
        }
    } => ["0 got 8", "2 got 8"]
}

behaviour! {
    /// Difference: F14. When nobody is left to set it, the wait ends with an error; asyncio waits for ever.
    async fn a_result_that_nobody_can_set_any_more_is_an_error(t) {
        let (resolver, deferred) = Deferred::<u32>::new();
        let clone = resolver.clone();
        drop(resolver);
        assert!(!deferred.is_finished());
        let waiter = spawn(async move { deferred.await });
        drop(clone);
        let Err(TaskError::Join(error)) = waiter.await.unwrap() else { panic!("nobody set it") };
        assert!(error.is_abandoned() && !error.is_cancelled());
        t.log(error.to_string());
    } => ["every `Resolver` was dropped, so nobody can set the result"]
}

behaviour! {
    /// Rows: F14, X01.
    async fn a_resolver_sees_that_nobody_waits(t) {
        let (resolver, deferred) = Deferred::<u32>::new();
        let waiter = spawn(async move { deferred.await });
        assert!(!resolver.is_finished());
        waiter.cancel();
        assert!(waiter.await.unwrap_err().is_cancelled());
        assert!(resolver.is_finished());
        assert_eq!(resolver.set_result(1), Err(InvalidState::Set));
    }
}

behaviour! {
    /// Rows: F18.
    async fn an_error_that_nobody_looked_at_is_reported(t) {
        let event_loop = EventLoop::current().unwrap();
        let told: Rc<RefCell<Vec<String>>> = Rc::default();
        let list = told.clone();
        event_loop.set_exception_handler(Some(Rc::new(move |context| {
            list.borrow_mut().push(context.message().to_owned());
        })));
        let failed = || {
            let (resolver, deferred) = Deferred::<u32, String>::new();
            resolver.set_exception("x".into()).unwrap();
            deferred
        };
        drop(failed());
        assert_eq!(told.borrow().len(), 1);
        assert!(failed().result().unwrap().is_err());
        assert!(failed().await.is_err());
        let (_resolver, cancelled) = Deferred::<u32, String>::new();
        cancelled.cancel();
        drop(cancelled);
        event_loop.set_exception_handler(None);
        assert_eq!(told.borrow().len(), 1);
    }
}

behaviour! {
    /// Rows: F19, F12.
    async fn a_future_and_a_task_become_a_deferred(t) {
        let done = Deferred::from_future(async { Ok::<_, String>(1) });
        assert!(done.is_finished());
        let length = t.secs(1.0);
        let work = async move {
            sleep(length).await;
            Err::<u32, _>("slow and wrong".to_owned())
        };
        let deferred = Deferred::from_future(spawn(work));
        assert!(!deferred.is_finished());
        assert!(matches!((&deferred).await, Err(TaskError::Failed(error)) if error == "slow and wrong"));
    }
}

behaviour! {
    /// Rows: X01.
    async fn a_deferred_that_goes_ends_the_task_behind_it(t) {
        let task = spawn(std::future::pending::<Result<(), ()>>());
        let any = task.any();
        drop(Deferred::from_future(task));
        any.ended().await;
        let task = spawn(std::future::pending::<Result<(), ()>>());
        let any = task.any();
        let deferred = Deferred::from_future(task);
        assert!(deferred.cancel());
        any.ended().await;
        assert_eq!(any.state(), selkie::TaskState::Cancelled);
    }
}

behaviour! {
    /// Rows: F22.
    async fn printing_a_deferred_tells_its_state(t) {
        let (resolver, deferred) = Deferred::<u32>::new();
        t.log(format!("{deferred:?} {resolver:?}"));
        drop(resolver);
        t.log(format!("{deferred:?}"));
    } => [
        "Deferred { state: pending, .. } Resolver { finished: false, .. }",
        "Deferred { state: abandoned, .. }",
    ]
}

behaviour! {
    /// Rows: F14, F19.
    seeds async fn a_result_set_at_the_turn_of_a_cancel_is_never_lost_to_others(t) {
        let (resolver, deferred) = Deferred::<u32>::new();
        let deferred = Rc::new(deferred);
        let first = spawn({ let deferred = deferred.clone(); async move { (&*deferred).await.copied().ok() } });
        let second = spawn({ let deferred = deferred.clone(); async move { (&*deferred).await.copied().ok() } });
        let setter = spawn_lazy(async move { resolver.set_result(4).unwrap() });
        first.cancel();
        setter.await.unwrap();
        assert_eq!(second.await.unwrap(), Some(4));
        match first.await {
            Ok(value) => assert_eq!(value, Some(4)),
            Err(error) => assert!(error.is_cancelled()),
        }
    }
}

behaviour! {
    /// Rows: X04.
    /// Answers the complaint U09.
    async fn a_child_of_a_group_says_that_it_is_ready(t) {
        let (ready, is_ready) = Deferred::<u16>::new();
        TaskGroup::scope_ok(async |group| {
            let inner = t.clone();
            group.spawn_ok(async move {
                sleep(inner.secs(1.0)).await;
                inner.log("listening");
                ready.set_result(80).unwrap();
                sleep(inner.secs(1.0)).await;
                inner.log("served");
            });
            t.log(format!("port {}", is_ready.await.unwrap()));
        })
        .await
        .unwrap();
        t.log("over");
    } => ["listening", "port 80", "served", "over"]
}

behaviour! {
    /// Rows: F12, F19.
    async fn libraries_spawn_on_a_loop_through_the_traits_of_futures(t) {
        let event_loop = EventLoop::current().unwrap();
        let inner = t.clone();
        event_loop.spawn_local(async move { inner.log("local") }).unwrap();
        let (sender, receiver) = futures::channel::oneshot::channel();
        event_loop.spawn(async move { sender.send(1).unwrap() }).unwrap().detach();
        assert_eq!(receiver.await, Ok(1));
        assert_eq!(SpawnExt::spawn_with_handle(&event_loop, async { 2 }).unwrap().await, 2);
    } => ["local"]
}

behaviour! {
    /// Rows: F06.
    async fn a_closed_loop_tells_libraries_so(t) {
        let closed = EventLoop::new();
        closed.close().unwrap();
        assert!(closed.spawn_local(async {}).unwrap_err().is_shutdown());
        assert!(futures::task::LocalSpawn::status_local(&closed).is_err());
    }
}

behaviour! {
    /// Rows: X01. What is asked twice has what it does to end cut short.
    async fn a_deferred_that_was_cancelled_asks_its_task_no_second_time(t) {
        let inner = t.clone();
        let deferred = Deferred::from_future(async move {
            if let Err(cancelled) = catch_cancel(std::future::pending::<()>()).await {
                inner.log("asked");
                sleep(inner.secs(0.5)).await;
                inner.log("clean");
                cancelled.resume().await;
            }
            Ok::<_, ()>(())
        });
        deferred.cancel();
        yield_now().await;
        yield_now().await;
        drop(deferred);
        sleep(t.secs(1.0)).await;
    } => ["asked", "clean"]
}
