//! A host of threads for the pool, and what becomes of its jobs.

#![expect(clippy::disallowed_types, reason = "what is not modelled")]

use std::{rc::Rc, sync::Arc, time::Duration};

use loom::{
    sync::{Condvar, Mutex},
    thread::JoinHandle,
};
use selkie_platform::{Driven, Job, Next, Platform, Turn, Unavailable};

use crate::{pool::Pool, wake::Wake};

pub(crate) const SLICE: Duration = Duration::from_millis(5);

/// How long a thread is idle before it ends: two looks at the clock.
const IDLE: Duration = Duration::from_millis(15);
const LOOK: Duration = Duration::from_millis(10);

/// How many threads were started in this run of a model, and those that were not joined.
static THREADS: std::sync::Mutex<(usize, Vec<JoinHandle<()>>)> = std::sync::Mutex::new((0, Vec::new()));

loom::thread_local! {
    /// The clock of this thread, in looks. There is none for those after the second one: they stay.
    static CLOCK: std::cell::Cell<Option<u32>> = std::cell::Cell::new(None);
}

#[derive(Debug, Default)]
pub(crate) struct Web(Wake);

impl Web {
    pub(crate) fn new() -> Self {
        Self::default()
    }
}

impl Platform for Web {
    fn now(&self) -> Duration {
        host::now()
    }

    fn drive(&self, turn: Rc<dyn Turn>) -> Driven {
        loop {
            self.0.clear();
            match turn.turn() {
                Next::Now => {}
                Next::At(_) if CLOCK.with(|clock| clock.get().is_some()) => {
                    // Time for the others, which is no preemption.
                    loom::thread::yield_now();
                    self.0.wait(Some(LOOK));
                }
                Next::At(_) | Next::Idle => self.0.wait(None),
                Next::Done => return Driven::Finished,
            }
        }
    }

    fn pend(&self) {
        self.0.set();
    }

    fn can_block(&self) -> bool {
        true
    }

    fn run_blocking(&self, _: Job) -> Result<(), Unavailable> {
        unreachable!("not modelled")
    }

    fn sibling(&self) -> Arc<dyn Platform> {
        unreachable!("not modelled")
    }

    fn spawn_thread(&self, _: &str, _: Job) -> Result<(), Unavailable> {
        unreachable!("not modelled")
    }

    fn report(&self, _: &str) {}
}

pub(crate) mod host {
    use super::{CLOCK, Duration, LOOK};

    pub(crate) fn now() -> Duration {
        CLOCK.with(|clock| {
            let Some(looks) = clock.get() else { return Duration::ZERO };
            clock.set(Some(looks + 1));
            LOOK * looks
        })
    }
}

pub(crate) mod crew {
    use super::{Arc, CLOCK, Job, THREADS, Unavailable};

    pub(crate) struct Risk;

    pub(crate) fn at_risk(_: impl FnOnce() -> Box<dyn FnOnce(bool) + Send>) -> Risk {
        Risk
    }

    pub(crate) fn processors() -> Result<usize, Unavailable> {
        Ok(2)
    }

    pub(crate) fn parks() -> bool {
        true
    }

    pub(crate) fn spawn(_: Arc<str>, main: Job) -> Result<(), Unavailable> {
        let ends = THREADS.lock().unwrap().0 < 2;
        let thread = loom::thread::spawn(move || {
            CLOCK.with(|clock| clock.set(ends.then_some(0)));
            main();
        });
        let mut threads = THREADS.lock().unwrap();
        threads.0 += 1;
        threads.1.push(thread);
        Ok(())
    }
}

pub(crate) mod lock {
    pub(crate) use loom::sync::{Mutex as Spin, MutexGuard as Locked};

    pub(crate) fn lock<T>(mutex: &Spin<T>) -> Locked<'_, T> {
        mutex.lock().expect("nobody panics")
    }
}

pub(crate) mod park {
    use super::Duration;

    #[derive(Debug)]
    pub(crate) enum NoWait {}

    pub(crate) fn block(
        _: Option<[u32; 2]>,
        _: Option<Duration>,
        _: &mut dyn FnMut(&std::task::Waker) -> bool,
    ) -> Result<(), NoWait> {
        unreachable!("not modelled")
    }
}

/// Two threads have become idle, and may end just now, when two jobs come of which the first waits for the second. A job that nobody
/// runs is a deadlock, which loom reports.
#[test]
fn a_job_that_another_one_waits_for_finds_a_thread() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        THREADS.lock().unwrap().0 = 0;
        let pool: Pool = Pool::new(2.try_into().unwrap(), IDLE, "pool").unwrap();
        for _ in 0..2 {
            pool.submit(Box::new(|| {})).unwrap();
        }
        let begun = Arc::new((Mutex::new(false), Condvar::new()));
        let there = begun.clone();
        let first = move || {
            let mut has_begun = there.0.lock().unwrap();
            while !*has_begun {
                has_begun = there.1.wait(has_begun).unwrap();
            }
        };
        pool.submit(Box::new(first)).unwrap();
        let second = move || {
            *begun.0.lock().unwrap() = true;
            begun.1.notify_all();
        };
        pool.submit(Box::new(second)).unwrap();
        pool.shutdown();
        loop {
            let thread = THREADS.lock().unwrap().1.pop();
            let Some(thread) = thread else { break };
            thread.join().unwrap();
        }
    });
}
