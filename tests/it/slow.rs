//! Polls that hold up their loop, on every host. What a watchdog adds natively is in `tests/slow_polls.rs`.

use std::{cell::RefCell, rc::Rc, time::Duration};

use selkie::{EventLoop, Task, testing::Sim};

use crate::harness::{Reports, test};

/// Rows: U20.
/// Difference: X24. Where a task was made is not kept, so its name is what the report has. A call from a wrong thread does
/// not compile.
#[selkie::test]
async fn a_poll_that_takes_too_long_is_reported_with_its_task() {
    let event_loop = EventLoop::current().unwrap();
    let reports = Rc::new(RefCell::new(Vec::new()));
    let seen = reports.clone();
    event_loop.set_exception_handler(Some(Rc::new(move |context| {
        seen.borrow_mut().push((context.task_name().unwrap_or("").to_owned(), context.message().to_owned()));
    })));
    event_loop.report_slow_polls(Some(Duration::from_millis(100)));
    Task::builder().name("quick").lazy().spawn(selkie::yield_now()).await.unwrap();
    let clock = event_loop.clone();
    let slow = Task::builder().name("slow").lazy().spawn(async move {
        let start = clock.time();
        while clock.time() - start < Duration::from_millis(150) {}
    });
    slow.await.unwrap();
    event_loop.report_slow_polls(None);
    event_loop.set_exception_handler(None);
    let reports = reports.borrow();
    let slow = reports.iter().find(|(task, _)| task == "slow").expect("the slow poll is reported");
    assert!(slow.1.contains("held up its loop"), "{slow:?}");
    assert!(reports.iter().all(|(task, _)| task != "quick"), "{reports:?}");
}

/// Rows: U20. However long it was.
#[test]
fn a_poll_may_take_all_of_the_time() {
    let sim = Rc::new(Sim::new());
    let (clock, reports) = (sim.clone(), Rc::new(RefCell::new(Vec::new())));
    let seen = reports.clone();
    sim.run(async move {
        let event_loop = EventLoop::current().unwrap();
        event_loop.set_exception_handler(Some(Rc::new(move |context| {
            seen.borrow_mut().push(context.message().to_owned());
        })));
        event_loop.report_slow_polls(Some(Duration::from_millis(100)));
        let slow = Task::builder().name("slow").lazy().spawn(async move { clock.advance(Duration::MAX) });
        slow.await.unwrap();
    });
    assert!(reports.borrow().iter().any(|report| report.contains("held up its loop")), "{reports:?}");
}

/// Rows: U20, X24. They hold up the loop as a poll does, whoever made them.
#[selkie::test]
async fn a_callback_that_takes_too_long_is_reported() {
    fn hold_up() {
        let clock = EventLoop::current().unwrap();
        let start = clock.time();
        while clock.time() - start < Duration::from_millis(60) {}
    }
    let event_loop = EventLoop::current().unwrap();
    let reports = Reports::of_current();
    event_loop.report_slow_polls(Some(Duration::from_millis(50)));
    let callback = event_loop.call_soon(hold_up).unwrap();
    let quick = Task::builder().name("quick").spawn(async {});
    quick.on_done(|_| hold_up());
    event_loop.handle().call_soon_threadsafe(hold_up).unwrap();
    selkie::sleep(Duration::from_millis(1)).await;
    quick.await.unwrap();
    event_loop.report_slow_polls(None);
    drop(callback);
    let reports = reports.take();
    for what in
        ["a callback (", "a done callback of task \"quick\" took ", "a call from another thread took "]
    {
        assert!(reports.iter().any(|report| report.starts_with(what)), "{what}: {reports:?}");
    }
}
