//! `shield`: waiting for a task that the waiter cannot end.

use std::{cell::RefCell, rc::Rc};

use selkie::{EventLoop, shield, sleep, spawn, timeout, yield_now};

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
    /// Rows: X10.
    async fn a_cancel_of_the_waiter_does_not_reach_the_task(t) {
        let inner = t.clone();
        let work = spawn(async move {
            sleep(inner.secs(2.0)).await;
            inner.log("work done");
            1
        });
        let work_state = work.any();
        let waiter = spawn(async move { shield(work).await });
        waiter.cancel();
        assert!(waiter.await.unwrap_err().is_cancelled());
        t.log("waiter ended");
        assert_eq!(work_state.cancelling(), 0);
        work_state.ended().await;
    } => ["waiter ended", "work done"]
}

behaviour! {
    /// Rows: X10, X08.
    async fn a_timeout_does_not_reach_through_a_shield(t) {
        let inner = t.clone();
        let work = async move {
            sleep(inner.secs(2.0)).await;
            inner.log("work done");
        };
        assert!(timeout(t.secs(1.0), shield(work)).await.is_err());
        t.log("timed out");
        sleep(t.secs(4.0)).await;
    } => ["timed out", "work done"]
}

behaviour! {
    /// Rows: X10.
    async fn a_cancel_of_the_task_itself_reaches_the_waiter(t) {
        let work = spawn(std::future::pending::<()>());
        let any = work.any();
        let waiter = spawn(shield(work));
        any.cancel_with("enough");
        let error = waiter.await.unwrap().unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(error.cancel_message(), Some("enough"));
    }
}

behaviour! {
    /// Rows: X10.
    async fn a_shield_of_what_is_done_gives_its_value_at_once(t) {
        let done = spawn(async { 3 });
        let inner = t.clone();
        let other = selkie::spawn_lazy(async move { inner.log("other") });
        assert_eq!(shield(done).await.unwrap(), 3);
        t.log("shield");
        other.await.unwrap();
    } => ["shield", "other"]
}

behaviour! {
    /// Rows: X10.
    /// Answers the complaint U07.
    async fn an_error_behind_a_shield_is_reported_once(t) {
        let length = t.secs(1.0);
        let told = reports(async || {
            let work = async move {
                sleep(length).await;
                Err::<(), _>("disk full")
            };
            drop(shield(work).reporting());
            sleep(t.secs(3.0)).await;
        })
        .await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].ends_with("failed behind its shield: disk full"), "{told:?}");
    }
}

behaviour! {
    /// Rows: X10.
    async fn an_error_that_the_waiter_saw_is_not_reported(t) {
        let told = reports(async || {
            let failing = async {
                yield_now().await;
                Err::<(), _>("seen")
            };
            assert_eq!(shield(failing).reporting().await.unwrap(), Err("seen"));
            yield_now().await;
        })
        .await;
        assert!(told.is_empty(), "{told:?}");
    }
}

behaviour! {
    /// Difference: X10. An `Err` behind a shield is reported only where it was asked for: it is a value.
    async fn an_error_behind_a_plain_shield_is_a_value_that_nobody_wanted(t) {
        let told = reports(async || {
            drop(shield(async {
                yield_now().await;
                Err::<(), _>("unseen")
            }));
            sleep(t.secs(1.0)).await;
        })
        .await;
        assert!(told.is_empty(), "{told:?}");
    }
}

#[cfg(panic = "unwind")]
behaviour! {
    /// Rows: X10.
    /// Answers the complaint U07.
    async fn a_panic_behind_a_shield_is_reported_once(t) {
        let told = reports(async || {
            drop(shield(async {
                yield_now().await;
                panic!("late");
            }));
            sleep(t.secs(1.0)).await;
        })
        .await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("late"), "{told:?}");
    }
}
