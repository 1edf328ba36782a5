//! Wrong use gets an error, and harms nobody else.

use std::{cell::RefCell, future::IntoFuture, rc::Rc};

use futures::{StreamExt, stream::FuturesUnordered};
use selkie::{EventLoop, JoinError, RunError, Task, spawn, spawn_lazy, testing::Sim, yield_now};

use crate::harness::test;

behaviour! {
    async fn a_task_that_awaits_itself_gets_an_error(t) {
        for in_set in [false, true] {
            let slot = Rc::new(RefCell::new(None::<Task<String>>));
            let own = slot.clone();
            let task = spawn_lazy(async move {
                let own = own.take().expect("put there").into_future();
                let result: Result<String, JoinError> = if in_set {
                    let mut set: FuturesUnordered<_> = [own].into_iter().collect();
                    set.next().await.unwrap()
                } else {
                    own.await
                };
                result.unwrap_err().to_string()
            });
            let any = task.any();
            task.on_done({
                let t = t.clone();
                move |result| t.log(result.as_ref().unwrap())
            });
            *slot.borrow_mut() = Some(task);
            any.ended().await;
        }
    } => ["the task awaits itself and would never end", "the task awaits itself and would never end"]
}

behaviour! {
    async fn a_task_of_another_loop_cannot_be_awaited_and_is_not_harmed(t) {
        let other = Sim::new().event_loop();
        let task = other.spawn(async { 1 }).unwrap();
        assert!((&task).await.unwrap_err().is_wrong_loop());
        let any = task.any();
        assert!(task.await.unwrap_err().is_wrong_loop());
        other.run_until_complete(any.ended()).unwrap();
        assert_eq!(any.state(), selkie::TaskState::Finished);
        // A result that is there already is given out anywhere.
        let done = other.spawn(async { 2 }).unwrap();
        other.run_until_complete(yield_now()).unwrap();
        assert_eq!(done.await.unwrap(), 2);
    }
}

/// Tasks that wait for each other can be named by the simulator only.
#[test]
fn a_deadlock_says_who_waits_for_whom() {
    let slot = Rc::new(RefCell::new(None::<Task<()>>));
    let deadlock = Sim::new()
        .try_run(async move {
            let other = slot.clone();
            let a = Task::builder().name("a").lazy().spawn(async move {
                let b = other.take().unwrap();
                b.await.unwrap();
            });
            let b = Task::builder().name("b").lazy().spawn(async move { a.await.unwrap() });
            *slot.borrow_mut() = Some(b);
            std::future::pending::<()>().await;
        })
        .unwrap_err();
    assert_eq!(deadlock.waiting()[1..], ["a waits for b", "b waits for a"]);
}

/// Also not in a world in which another loop had one before.
#[test]
fn a_stop_is_no_deadlock() {
    let sim = Sim::new();
    let stuck = sim.event_loop();
    let error = stuck.run_until_complete(std::future::pending::<()>()).unwrap_err();
    assert!(matches!(error, RunError::Stopped));
    let stopped = sim.try_run(async {
        EventLoop::current().unwrap().stop();
        std::future::pending::<()>().await;
    });
    assert!(stopped.expect("no deadlock").unwrap_err().is_cancelled());
}

behaviour! {
    async fn handles_of_every_kind_are_dropped_in_every_state(t) {
        for steps in 0..4 {
            for kind in 0..6 {
                let task = spawn(async {
                    yield_now().await;
                    yield_now().await;
                    String::from("result")
                });
                let any = task.any();
                let mut ended = any.ended();
                let _ = futures::poll!(&mut ended);
                task.on_done(|_| {});
                let waker = futures::task::noop_waker();
                let _ = waker.clone();
                for _ in 0..steps {
                    yield_now().await;
                }
                match kind {
                    0 => drop(task),
                    1 => drop(task.into_future()),
                    2 => {
                        let mut join = task.into_future();
                        let _ = futures::poll!(&mut join);
                    }
                    3 => {
                        let mut joined = (&task).into_future();
                        let _ = futures::poll!(&mut joined);
                    }
                    4 => {
                        task.cancel();
                        drop(task);
                    }
                    _ => drop((ended, task)),
                }
                any.ended().await;
                assert!(any.is_finished());
            }
        }
    }
}

behaviour! {
    async fn wakers_are_kept_cloned_and_used_after_the_task_has_ended(t) {
        let kept = Rc::new(RefCell::new(Vec::new()));
        let out = kept.clone();
        let task = spawn(std::future::poll_fn(move |cx| {
            out.borrow_mut().push(cx.waker().clone());
            if out.borrow().len() < 3 {
                cx.waker().wake_by_ref();
                return std::task::Poll::Pending;
            }
            std::task::Poll::Ready(())
        }));
        task.await.unwrap();
        let wakers = kept.take();
        assert_eq!(wakers.len(), 3);
        assert!(wakers[0].will_wake(&wakers[1]));
        for waker in wakers {
            waker.wake_by_ref();
            let by_value = waker.clone();
            drop(waker);
            by_value.wake();
        }
        yield_now().await;
    }
}

#[test]
fn wakers_outlive_their_loop() {
    let kept = Rc::new(RefCell::new(Vec::new()));
    let out = kept.clone();
    Sim::new().run(async move {
        spawn(std::future::poll_fn(move |cx| {
            out.borrow_mut().push(cx.waker().clone());
            std::task::Poll::<()>::Pending
        }))
        .detach();
    });
    for waker in kept.take() {
        waker.wake_by_ref();
        let by_value = waker.clone();
        drop(waker);
        by_value.wake();
    }
}
