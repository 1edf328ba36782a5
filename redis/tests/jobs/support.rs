//! What many tests use.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    rc::Rc,
    time::{Duration, Instant},
};

use redis::FromRedisValue;
use selkie_redis::{JobQueue, LocalServer, Report, Worker};

pub(crate) type Test = (&'static str, fn());

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) fn server() -> LocalServer {
    LocalServer::start().expect("redis-server")
}

pub(crate) fn queue(server: &LocalServer) -> JobQueue {
    JobQueue::open(server.url(), "tests").unwrap()
}

/// Runs `test` on a loop inside tokio.
pub(crate) fn run<T: 'static>(test: impl Future<Output = T> + 'static) -> T {
    selkie_redis::run(test)
}

/// Waits until `there`, and fails loudly if that takes a minute.
pub(crate) async fn until(what: &str, mut there: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !there().await {
        assert!(start.elapsed() < Duration::from_secs(60), "still waiting: {what}");
        selkie::sleep(ms(5)).await;
    }
}

/// Works until nothing is open in the queue.
pub(crate) async fn drain(queue: &JobQueue, worker: Worker) -> Report {
    let empty = until("the queue is empty", async || queue.counts().await.unwrap().open() == 0);
    worker.run(empty).await.unwrap()
}

/// A command straight to the server, on a blocking connection of its own.
pub(crate) fn ask<T: FromRedisValue>(server: &LocalServer, command: &[&str]) -> T {
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let mut cmd = redis::cmd(command[0]);
    for arg in &command[1..] {
        cmd.arg(*arg);
    }
    cmd.query(&mut connection).unwrap()
}

/// A list that handlers of one loop write to.
#[derive(Clone, Default)]
pub(crate) struct Notes(Rc<RefCell<Vec<String>>>);

impl Notes {
    pub(crate) fn add(&self, note: impl Into<String>) {
        self.0.borrow_mut().push(note.into());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

/// How many are at it, and the most there ever were.
#[derive(Clone, Default)]
pub(crate) struct Gauge(Rc<(Cell<usize>, Cell<usize>)>);

impl Gauge {
    pub(crate) fn enter(&self) {
        self.0.0.set(self.0.0.get() + 1);
        self.0.1.set(self.0.1.get().max(self.0.0.get()));
    }

    pub(crate) fn leave(&self) {
        self.0.0.set(self.0.0.get() - 1);
    }

    pub(crate) fn now(&self) -> usize {
        self.0.0.get()
    }

    pub(crate) fn most(&self) -> usize {
        self.0.1.get()
    }
}
