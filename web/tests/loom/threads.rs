//! A host of threads for the pool, and what becomes of its jobs.

#![expect(clippy::disallowed_types, reason = "what is not modelled")]

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

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

std::thread_local! {
    /// How many threads were started in this run of a model, whose threads are all on one of the system's, and those that were not
    /// joined.
    static THREADS: RefCell<(usize, Vec<JoinHandle<()>>)> = const { RefCell::new((0, Vec::new())) };
}

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
        let ends = THREADS.with_borrow(|threads| threads.0 < 2);
        let thread = loom::thread::spawn(move || {
            CLOCK.with(|clock| clock.set(ends.then_some(0)));
            main();
        });
        THREADS.with_borrow_mut(|threads| {
            threads.0 += 1;
            threads.1.push(thread);
        });
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
    use std::{sync::LazyLock, task::Waker};

    use super::{Arc, Duration};

    #[derive(Debug)]
    pub(crate) enum NoWait {
        TimedOut,
    }

    pub(crate) struct Waiter;

    impl std::task::Wake for Waiter {
        fn wake(self: Arc<Self>) {}
    }

    pub(crate) static WAITER: LazyLock<Arc<Waiter>> = LazyLock::new(|| Arc::new(Waiter));

    /// The time is over at once.
    pub(crate) fn block(
        _: Option<[u32; 2]>,
        _: Option<Duration>,
        poll: &mut dyn FnMut(&Waker) -> bool,
    ) -> Result<(), NoWait> {
        let waker = Waker::from(WAITER.clone());
        if poll(&waker) || poll(&waker) { Ok(()) } else { Err(NoWait::TimedOut) }
    }
}

fn join_threads() {
    while let Some(thread) = THREADS.with_borrow_mut(|threads| threads.1.pop()) {
        thread.join().unwrap();
    }
}

/// Where a job waits until it is opened.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut is_open = self.is_open.lock().unwrap();
        while !*is_open {
            is_open = self.opened.wait(is_open).unwrap();
        }
    }

    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

/// Two threads have become idle, and may end just now, when two jobs come of which the first waits for the second. A job that nobody
/// runs is a deadlock, which loom reports.
#[test]
fn a_job_that_another_one_waits_for_finds_a_thread() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        THREADS.with_borrow_mut(|threads| threads.0 = 0);
        let pool: Pool = Pool::new(2.try_into().unwrap(), IDLE, "pool").unwrap();
        for _ in 0..2 {
            pool.submit(Box::new(|| {})).unwrap();
        }
        let begun = Arc::new(Gate::default());
        let there = begun.clone();
        pool.submit(Box::new(move || there.pass())).unwrap();
        pool.submit(Box::new(move || begun.open())).unwrap();
        pool.shutdown();
        join_threads();
    });
}

/// A pool that never ends would only gather them.
#[test]
fn a_join_whose_time_is_over_leaves_nothing() {
    loom::model(|| {
        THREADS.with_borrow_mut(|threads| threads.0 = 0);
        let pool: Pool = Pool::new(1.try_into().unwrap(), IDLE, "pool").unwrap();
        let gate = Arc::new(Gate::default());
        let there = gate.clone();
        pool.submit(Box::new(move || there.pass())).unwrap();
        pool.shutdown();
        assert!(pool.join(Some(Duration::ZERO)).is_err());
        assert_eq!(Arc::strong_count(&park::WAITER), 1);
        gate.open();
        join_threads();
        assert!(pool.join(None).is_ok());
    });
}
