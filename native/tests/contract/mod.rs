//! What `selkie_platform::Platform` promises, checked against any platform.
//!
//! The cases name no backend, no thread and no clock of their own, so that a host which cannot block can run them
//! too. A case gives a loop in form of a [`Script`]; the test binary of a backend drives it:
//!
//! - a host that blocks: `drive` answers [`Driven::Finished`](selkie_platform::Driven), and [`Script::is_over`];
//! - any other: `drive` answers [`Driven::Started`](selkie_platform::Driven), and [`Script::on_over`] tells when.
//!
//! Where a case needs another thread it uses `run_blocking`, and where there is none it checks that the refusal
//! dropped the job.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use selkie_platform::{Next, Platform, Turn};

/// A case makes the loop that checks it.
pub type Case = fn(Arc<dyn Platform>) -> Rc<Script>;

/// All cases by name. Each wants a platform of its own.
pub const CASES: &[(&str, Case)] = &[
    ("the clock never goes back", the_clock_never_goes_back),
    ("a loop that asks for turns gets them", a_loop_that_asks_for_turns_gets_them),
    ("deadlines are never early", deadlines_are_never_early),
    ("a deadline in the past is a turn", a_deadline_in_the_past_is_a_turn),
    ("a deadline far away does not overflow", a_deadline_far_away_does_not_overflow),
    ("a pend before the drive is not lost", a_pend_before_the_drive_is_not_lost),
    ("a pend in a turn brings another turn", a_pend_in_a_turn_brings_another_turn),
    ("several pends in a turn are consumed", several_pends_in_a_turn_are_consumed),
    ("a pend from another thread ends an idle wait", a_pend_from_another_thread_ends_an_idle_wait),
    ("a pend from another thread beats the deadline", a_pend_from_another_thread_beats_the_deadline),
    ("blocking jobs all run, and may pend", blocking_jobs_all_run),
    ("slice and grain are sane", slice_and_grain_are_sane),
    ("the clock counts time that is slept", the_clock_counts_time_that_is_slept),
];

/// A loop whose every turn is a step of a test. It also checks that no turn runs inside another one or after the
/// last.
pub struct Script {
    step: RefCell<Box<dyn FnMut(usize) -> Next>>,
    turns: Cell<usize>,
    running: Cell<bool>,
    over: Cell<bool>,
    on_over: RefCell<Option<Box<dyn FnOnce()>>>,
}

impl Script {
    /// `step` gets the number of the turn, from 0.
    pub fn new(step: impl FnMut(usize) -> Next + 'static) -> Rc<Self> {
        Rc::new(Self {
            step: RefCell::new(Box::new(step)),
            turns: Cell::new(0),
            running: Cell::new(false),
            over: Cell::new(false),
            on_over: RefCell::new(None),
        })
    }

    /// The loop has answered [`Next::Done`].
    pub fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Calls `f` in the turn that answers [`Next::Done`].
    #[allow(dead_code, reason = "for hosts that cannot block")]
    pub fn on_over(&self, f: impl FnOnce() + 'static) {
        *self.on_over.borrow_mut() = Some(Box::new(f));
    }
}

impl Turn for Script {
    fn turn(&self) -> Next {
        assert!(!self.running.replace(true), "a turn inside a turn");
        assert!(!self.over.get(), "a turn after Done");
        let turn = self.turns.replace(self.turns.get() + 1);
        let next = (self.step.borrow_mut())(turn);
        if next == Next::Done {
            self.over.set(true);
            if let Some(f) = self.on_over.take() {
                f();
            }
        }
        self.running.set(false);
        next
    }

    fn trapped(&self) {
        panic!("no turn of a script traps");
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("turns", &self.turns).field("over", &self.over).finish_non_exhaustive()
    }
}

fn the_clock_never_goes_back(platform: Arc<dyn Platform>) -> Rc<Script> {
    let mut last = platform.now();
    Script::new(move |turn| {
        for _ in 0..100 {
            let now = platform.now();
            assert!(now >= last);
            last = now;
        }
        if turn < 100 { Next::Now } else { Next::Done }
    })
}

fn the_clock_counts_time_that_is_slept(platform: Arc<dyn Platform>) -> Rc<Script> {
    let first = platform.now();
    Script::new(move |turn| match turn {
        0 => Next::At(first + Duration::from_millis(20)),
        _ => {
            let passed = platform.now() - first;
            assert!(passed >= Duration::from_millis(20), "{passed:?}");
            Next::Done
        }
    })
}

fn a_loop_that_asks_for_turns_gets_them(_: Arc<dyn Platform>) -> Rc<Script> {
    Script::new(|turn| if turn < 1000 { Next::Now } else { Next::Done })
}

fn deadlines_are_never_early(platform: Arc<dyn Platform>) -> Rc<Script> {
    let mut deadline = Duration::ZERO;
    Script::new(move |turn| {
        let now = platform.now();
        assert!(now >= deadline, "{:?} early", deadline - now);
        if turn == 60 {
            return Next::Done;
        }
        // Also lengths that no clock and no timer has as its grain.
        deadline = now + Duration::from_nanos(turn as u64 * 123_457);
        Next::At(deadline)
    })
}

fn a_deadline_in_the_past_is_a_turn(platform: Arc<dyn Platform>) -> Rc<Script> {
    Script::new(move |turn| match turn {
        0 => Next::At(Duration::ZERO),
        1 => Next::At(platform.now()),
        2 => Next::At(platform.now().saturating_sub(Duration::from_millis(5))),
        _ => Next::Done,
    })
}

fn a_deadline_far_away_does_not_overflow(platform: Arc<dyn Platform>) -> Rc<Script> {
    Script::new(move |turn| {
        // A pend cuts each wait short.
        platform.pend();
        match turn {
            0 => Next::At(Duration::MAX),
            1 => Next::At(Duration::MAX - Duration::from_nanos(1)),
            // More than a timer of 32 bits holds in milliseconds, and in seconds.
            2 => Next::At(platform.now() + Duration::from_secs(60 * 60 * 24 * 50)),
            3 => Next::At(platform.now() + Duration::from_secs(1 << 33)),
            _ => Next::Done,
        }
    })
}

fn a_pend_before_the_drive_is_not_lost(platform: Arc<dyn Platform>) -> Rc<Script> {
    platform.pend();
    Script::new(|_| Next::Done)
}

fn a_pend_in_a_turn_brings_another_turn(platform: Arc<dyn Platform>) -> Rc<Script> {
    Script::new(move |turn| {
        if turn == 100 {
            return Next::Done;
        }
        platform.pend();
        if turn % 2 == 0 { Next::Idle } else { Next::At(platform.now() + Duration::from_secs(3600)) }
    })
}

fn several_pends_in_a_turn_are_consumed(platform: Arc<dyn Platform>) -> Rc<Script> {
    let mut deadline = None;
    Script::new(move |turn| {
        if turn == 0 {
            (0..10).for_each(|_| platform.pend());
            return Next::Idle;
        }
        // From here on nobody pends, so at most the other nine requests may still bring a turn each.
        assert!(turn <= 11, "turns that nobody asked for");
        let deadline = *deadline.get_or_insert_with(|| platform.now() + Duration::from_millis(30));
        if platform.now() >= deadline { Next::Done } else { Next::At(deadline) }
    })
}

/// Runs `job` elsewhere, or checks the refusal and answers `false`.
fn elsewhere(platform: &Arc<dyn Platform>, job: impl FnOnce(&dyn Platform) + Send + 'static) -> bool {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let (guard, other) = (Dropped(dropped.clone()), platform.clone());
    let taken = platform.run_blocking(Box::new(move || {
        let _guard = guard;
        job(&*other);
    }));
    if let Err(refusal) = &taken {
        assert!(!refusal.to_string().is_empty());
        assert!(dropped.load(SeqCst), "a refused job is dropped");
    }
    taken.is_ok()
}

fn a_pend_from_another_thread_ends_an_idle_wait(platform: Arc<dyn Platform>) -> Rc<Script> {
    let arrived = Arc::new(AtomicUsize::new(0));
    let mut sent = 0;
    Script::new(move |_| {
        // An extra turn is no harm, a missing one hangs the test.
        if arrived.load(SeqCst) == sent {
            if sent == 1000 {
                return Next::Done;
            }
            sent += 1;
            let arrived = arrived.clone();
            if !elsewhere(&platform, move |platform| {
                arrived.fetch_add(1, SeqCst);
                platform.pend();
            }) {
                return Next::Done;
            }
        }
        Next::Idle
    })
}

fn a_pend_from_another_thread_beats_the_deadline(platform: Arc<dyn Platform>) -> Rc<Script> {
    let arrived = Arc::new(AtomicBool::new(false));
    let start = platform.now();
    let deadline = start + Duration::from_secs(600);
    let mut sent = false;
    Script::new(move |_| {
        if arrived.load(SeqCst) {
            assert!(platform.now() < deadline);
            return Next::Done;
        }
        if !sent {
            sent = true;
            let arrived = arrived.clone();
            if !elsewhere(&platform, move |platform| {
                arrived.store(true, SeqCst);
                platform.pend();
            }) {
                return Next::Done;
            }
        }
        Next::At(deadline)
    })
}

fn blocking_jobs_all_run(platform: Arc<dyn Platform>) -> Rc<Script> {
    let ran = Arc::new(AtomicUsize::new(0));
    Script::new(move |turn| {
        if turn == 0 {
            for _ in 0..1000 {
                let ran = ran.clone();
                if !elsewhere(&platform, move |platform| {
                    ran.fetch_add(1, SeqCst);
                    platform.pend();
                }) {
                    return Next::Done;
                }
            }
        }
        if ran.load(SeqCst) == 1000 { Next::Done } else { Next::Idle }
    })
}

fn slice_and_grain_are_sane(platform: Arc<dyn Platform>) -> Rc<Script> {
    assert!(platform.slice() > Duration::ZERO);
    assert!(platform.slice() <= Duration::from_millis(100));
    assert!(platform.grain() <= platform.slice());
    Script::new(|_| Next::Done)
}
