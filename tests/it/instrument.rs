//! What an instrument is told, and when.

use std::{cell::RefCell, rc::Rc};

use selkie::{AnyTask, EventLoop, Instrument, Task, sleep};

/// Notes each call with the task's state at that moment.
#[derive(Default)]
struct Notes(RefCell<Vec<String>>);

impl Notes {
    fn add(&self, what: &str, task: &AnyTask) {
        let waits_for = task.waits_for().map_or(String::new(), |_| ", waits".to_owned());
        self.0.borrow_mut().push(format!("{}: {what}, {:?}{waits_for}", task.name(), task.state()));
    }
}

impl Instrument for Notes {
    fn created(&self, task: &AnyTask) {
        self.add("created", task);
    }

    fn poll_start(&self, task: &AnyTask) {
        self.add("poll_start", task);
    }

    fn poll_end(&self, task: &AnyTask) {
        self.add("poll_end", task);
    }

    fn done(&self, task: &AnyTask) {
        self.add("done", task);
    }
}

behaviour! {
    /// Rows: F22.
    async fn an_instrument_sees_what_a_task_waits_for_when_its_poll_ends(t) {
        let event_loop = EventLoop::current().expect("a behaviour runs on a loop");
        let inner = Task::builder().name("inner").spawn(sleep(t.secs(1.0)));
        let notes = Rc::new(Notes::default());
        event_loop.set_instrument(Some(notes.clone()));
        let outer = Task::builder().name("outer").spawn(async { inner.await.expect("it ends") });
        event_loop.set_instrument(None);
        assert_eq!(
            *notes.0.borrow(),
            ["outer: created, Created", "outer: poll_start, Running", "outer: poll_end, Waiting, waits"],
        );
        outer.await.expect("it ends");
    }
}
