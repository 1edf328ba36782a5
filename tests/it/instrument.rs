//! What an instrument is told, and when.

use std::{cell::RefCell, rc::Rc};

use selkie::{AnyTask, EventLoop, Instrument, Task, current_task, sleep, yield_now};

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

/// Makes a task of each kind whenever it is told something.
struct Spawner(Notes);

impl Spawner {
    fn told(&self, what: &str, task: &AnyTask) {
        self.0.add(what, task);
        Task::builder().name("eager").spawn(yield_now()).detach();
        Task::builder().name("lazy").lazy().spawn(yield_now()).detach();
        drop(EventLoop::current().expect("a loop runs").call_soon(|| {}).expect("it is open"));
    }
}

impl Instrument for Spawner {
    fn created(&self, task: &AnyTask) {
        self.told("created", task);
    }

    fn poll_start(&self, task: &AnyTask) {
        self.told("poll_start", task);
    }

    fn poll_end(&self, task: &AnyTask) {
        self.told("poll_end", task);
    }

    fn done(&self, task: &AnyTask) {
        self.told("done", task);
    }
}

behaviour! {
    /// Rows: F22. Not of its start, and of nothing later: the loop would never come to an end.
    async fn an_instrument_is_told_nothing_of_what_it_spawns(t) {
        let event_loop = EventLoop::current().expect("a behaviour runs on a loop");
        let this = current_task().expect("a behaviour is a task").name();
        let spawner = Rc::new(Spawner(Notes::default()));
        event_loop.set_instrument(Some(spawner.clone()));
        let seen = Task::builder().name("seen").spawn(async { Task::builder().name("child").spawn(async {}).await });
        for _ in 0..5 {
            yield_now().await;
        }
        event_loop.set_instrument(None);
        seen.await.expect("it ends").expect("it ends");
        let notes: Vec<_> = spawner.0.0.take().into_iter().filter(|note| !note.starts_with(&*this)).collect();
        assert_eq!(
            notes,
            [
                "seen: created, Created",
                "seen: poll_start, Running",
                "child: created, Created",
                "child: poll_start, Running",
                "child: poll_end, Running",
                "child: done, Finished",
                "seen: poll_end, Running",
                "seen: done, Finished",
            ],
        );
    }
}
