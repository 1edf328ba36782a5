//! A poll that holds up its loop is reported while it lasts, which takes another thread and so a native host.
#![cfg(not(all(target_family = "wasm", target_os = "unknown")))]
#![allow(missing_docs)]
#![allow(clippy::disallowed_methods, reason = "the test is about a thread that is held up")]

use std::{cell::RefCell, process::Command, rc::Rc, thread, time::Duration};

use selkie::{EventLoop, Task};

const CHILD: &str = "SELKIE_TEST_SLOW_POLL";

/// Rows: U20. Beside the behaviours of every host in `tests/it/slow.rs`.
#[test]
fn a_poll_that_lasts_is_reported_with_its_task_before_it_ends() {
    if std::env::var_os(CHILD).is_some() {
        selkie::run(async {
            Task::builder()
                .name("hog")
                .spawn(async {
                    thread::sleep(Duration::from_millis(600));
                    eprintln!("the poll ends");
                })
                .detach();
        });
        return;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_poll_that_lasts_is_reported_with_its_task_before_it_ends", "--nocapture"])
        .env(CHILD, "1")
        .env("SELKIE_DEBUG", "1")
        .output()
        .unwrap();
    let errors = String::from_utf8(child.stderr).unwrap();
    assert!(child.status.success(), "{errors}");
    let during = errors.find("has been running for").expect(&errors);
    let end = errors.find("the poll ends").expect(&errors);
    let after = errors.find("ms for one poll").expect(&errors);
    assert!(during < end && end < after, "{errors}");
    assert!(errors.contains("task \"hog\""), "{errors}");
}

/// Beside the behaviours of every host in `tests/it/slow.rs`.
#[test]
fn a_slow_poll_is_reported_to_the_exception_handler_and_a_quick_one_is_not() {
    let event_loop = EventLoop::new();
    let reports = Rc::new(RefCell::new(Vec::new()));
    let seen = reports.clone();
    event_loop.set_exception_handler(Some(Rc::new(move |context| {
        seen.borrow_mut().push((context.task_name().unwrap_or("").to_owned(), context.message().to_owned()));
    })));
    event_loop.report_slow_polls(Some(Duration::from_millis(50)));
    event_loop
        .run_until_complete(async {
            let quick = Task::builder().name("quick").lazy().spawn(selkie::yield_now());
            let slow = Task::builder().name("slow").lazy().spawn(async {
                thread::sleep(Duration::from_millis(80));
            });
            quick.await.unwrap();
            slow.await.unwrap();
        })
        .unwrap();
    let reports = reports.borrow();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!(reports[0].0, "slow");
    assert!(reports[0].1.contains("held up its loop"), "{reports:?}");
}
