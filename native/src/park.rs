//! Puts one thread to sleep until somebody asks for it, or until a time.
//!
//! # The protocol
//!
//! One byte decides, never the token of [`std::thread::park`]: other code on the thread may park too and take
//! the token. The owner is the thread that called [`Parker::bind`]; every other call but [`Parker::pend`] is the
//! owner's alone.
//!
//! | state | meaning | who leaves it |
//! |---|---|---|
//! | `AWAKE` | the owner runs, nobody asked | a pender to `PENDED`, the owner to `PARKED` |
//! | `PENDED` | somebody asked, and the owner has not seen it | the owner to `AWAKE` |
//! | `PARKED` | the owner sleeps or is about to | a pender to `PENDED`, the owner (time is up) to `AWAKE` |
//!
//! [`Parker::pend`] swaps in `PENDED` and calls `unpark` only if it swapped out `PARKED`. So a pend while the
//! owner is awake is one atomic swap, and of many pends during one sleep one does the system call. It must be a
//! swap even if the state is `PENDED` already: only a write gives what the pender did before to the owner that
//! consumes the request. All pends before a consumption form one release sequence, and the owner's swap to
//! `AWAKE` acquires them all.
//!
//! The scenarios the code is held against (loom checks them, see the end of the file):
//!
//! - **Early pend.** Before the first drive or between two: the state stays `PENDED`; the next drive begins with a
//!   turn anyway, and consumes the request for it.
//! - **Pend in a turn.** The state becomes `PENDED` while the owner runs. The owner's attempt to go from `AWAKE` to
//!   `PARKED` fails, and it takes another turn.
//! - **Pend at the edge.** Between the step to `PARKED` and the sleep: the pender sees `PARKED` and unparks; the
//!   token makes the sleep return at once. No user code runs in between that could take the token.
//! - **Late unpark.** The pender swapped out `PARKED` and was then put off; the owner woke for its deadline, went on,
//!   and now sleeps elsewhere (in user code) or here again. The unpark wakes it once for nothing: user code must
//!   expect that of `park`, and `park` here looks at the state and sleeps on.
//! - **Foreign token.** Somebody unparks the thread for reasons of their own: the same, sleep on.
//! - **Deadline and pend together.** The owner leaves by a swap to `AWAKE`, which consumes a pend that came between
//!   the last look and the swap; a turn follows in any case. A pend after the swap is a *pend in a turn*.
//! - **Unwinding.** A turn that panics leaves `AWAKE` or `PENDED`, never `PARKED`, as only `park` passes through it.
//!
//! `unpark` takes no lock where threads park on a futex or its like (Linux, Windows, the BSDs, macOS).
//!
//! # Looking round
//!
//! Two threads that hand short jobs to each other spend most of the time on waking each other, the more if a processor has gone
//! to sleep meanwhile. So an owner whose sleeps are short looks at the state for some microseconds, in `AWAKE`, before it
//! steps to `PARKED`: a pend meanwhile is a *pend in a turn*, and costs its pender a swap. Each look lets other threads of the
//! processor run. How often it looks is its [`Patience`]: not after a longer sleep, and ever more rarely where it looks in vain,
//! so a thread that has little to do spends nothing on it.

use std::{
    sync::{OnceLock, atomic::Ordering},
    time::{Duration, Instant},
};

use sys::{AtomicU8, Thread};

pub(crate) struct Parker {
    state: AtomicU8,
    owner: OnceLock<Thread>,
}

impl Parker {
    pub(crate) fn new() -> Self {
        Self { state: AtomicU8::new(AWAKE), owner: OnceLock::new() }
    }

    /// Makes the calling thread the owner.
    ///
    /// # Panics
    ///
    /// If another thread is the owner.
    #[track_caller]
    pub(crate) fn bind(&self) {
        let current = sys::current();
        let id = current.id();
        let owner = self.owner.get_or_init(|| current);
        assert!(owner.id() == id, "a loop is driven by one thread only");
    }

    /// Wakes the owner, or keeps it from the next sleep. Any thread may call it.
    pub(crate) fn pend(&self) {
        if self.state.swap(PENDED, Ordering::AcqRel) == PARKED {
            self.owner.get().expect("only the owner sets PARKED, after it was bound").unpark();
        }
    }

    /// Consumes a request, so that it does not lead to a second turn after the one about to start.
    pub(crate) fn take(&self) -> bool {
        // The plain look spares the write in the common case. If it misses a request that comes just then, the
        // next `park` sees it.
        self.state.load(Ordering::Relaxed) == PENDED && self.state.swap(AWAKE, Ordering::Acquire) == PENDED
    }

    /// As [`park`](Self::park), and looks round before that if `patience` says so.
    pub(crate) fn wait(&self, patience: &mut Patience, left: impl FnMut() -> Option<Duration>) {
        if patience.is_due() && self.look_round(patience) {
            self.state.swap(AWAKE, Ordering::Acquire);
            return;
        }
        let start = Instant::now();
        self.park(left);
        patience.slept(start.elapsed());
    }

    /// Whether somebody pended meanwhile.
    fn look_round(&self, patience: &mut Patience) -> bool {
        let start = Instant::now();
        for _ in 0..LOOKS {
            if self.state.load(Ordering::Relaxed) == PENDED {
                patience.rewarded();
                return true;
            }
            sys::yield_now();
            if start.elapsed() > LONG {
                patience.outdone();
                return self.state.load(Ordering::Relaxed) == PENDED;
            }
        }
        patience.disappointed();
        false
    }

    /// Sleeps until a pend, which it consumes, or until `left` answers that nothing is left.
    ///
    /// `left` is asked before every sleep, as sleeps may end early; [`Duration::MAX`] means no end.
    pub(crate) fn park(&self, mut left: impl FnMut() -> Option<Duration>) {
        // Release: a pender that swaps out PARKED finds the owner set.
        if self.state.compare_exchange(AWAKE, PARKED, Ordering::Release, Ordering::Relaxed).is_ok() {
            while let Some(left) = left() {
                if left == Duration::MAX {
                    sys::park();
                } else {
                    sys::park_timeout(left);
                }
                if self.state.load(Ordering::Relaxed) == PENDED {
                    break;
                }
            }
        }
        self.state.swap(AWAKE, Ordering::Acquire);
    }
}

/// Whether to look round before a sleep, by what came of it before.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    /// The last sleep was short.
    is_quick: bool,
    /// So many times it does not look.
    skip: u32,
    /// How many times that will be after the next disappointment.
    penalty: u32,
}

impl Patience {
    pub(crate) const fn new() -> Self {
        Self { is_quick: false, skip: 0, penalty: 0 }
    }

    fn is_due(&mut self) -> bool {
        let is_due = self.is_quick && self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        is_due
    }

    fn rewarded(&mut self) {
        self.penalty = 0;
    }

    fn disappointed(&mut self) {
        self.skip = self.penalty;
        self.penalty = (2 * self.penalty + 1).min(MOST);
    }

    /// Others needed the processor: who sleeps gets it back sooner than who yields.
    fn outdone(&mut self) {
        self.skip = RARELY;
    }

    fn slept(&mut self, length: Duration) {
        self.is_quick = length < QUICK;
    }
}

/// How often it looks at most, and how long: what a wake costs, about.
const LOOKS: usize = if cfg!(selkie_loom) { 1 } else { 32 };
const LONG: Duration = if cfg!(selkie_loom) { Duration::MAX } else { Duration::from_micros(30) };

/// Of a sleep so short perhaps most was the wake that ended it. In a model time means nothing.
const QUICK: Duration = if cfg!(selkie_loom) { Duration::MAX } else { Duration::from_micros(100) };

/// In a row of disappointments it looks once in so many times, and so rarely where the processor is busy with others.
const MOST: u32 = 63;
const RARELY: u32 = 1000;

const AWAKE: u8 = 0;
const PENDED: u8 = 1;
const PARKED: u8 = 2;

#[cfg(not(all(selkie_loom, test)))]
mod sys {
    pub(super) use std::{
        sync::atomic::AtomicU8,
        thread::{Thread, current, park, park_timeout, yield_now},
    };
}

#[cfg(all(selkie_loom, test))]
mod sys {
    pub(super) use loom::{
        sync::atomic::AtomicU8,
        thread::{Thread, current, park, yield_now},
    };

    /// In a model a length of time means nothing: any sleep with an end may end at once.
    pub(super) fn park_timeout(_: std::time::Duration) {
        loom::thread::yield_now();
    }
}

/// Run by `RUSTFLAGS="--cfg selkie_loom" cargo test -p selkie-native --lib --release models`.
#[cfg(all(selkie_loom, test))]
mod models {
    use std::{cell::Cell, sync::Arc, time::Duration};

    use loom::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::{Parker, Patience};

    const FOREVER: Option<Duration> = Some(Duration::MAX);

    /// Turns until `items` pieces of work have been seen, parking without a deadline in between: a lost wake is a
    /// deadlock, which loom reports. The work is relaxed, so the protocol alone must make it visible.
    fn run(parker: &Parker, inbox: &AtomicUsize, items: usize, left: impl Fn() -> Option<Duration>) {
        parker.bind();
        loop {
            parker.take();
            if inbox.load(Ordering::Relaxed) == items {
                return;
            }
            parker.park(&left);
        }
    }

    /// Each leaves a piece of work, and asks for the owner.
    fn two_penders(shared: &Arc<(Parker, AtomicUsize)>) -> [thread::JoinHandle<()>; 2] {
        [(); 2].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.1.fetch_add(1, Ordering::Relaxed);
                shared.0.pend();
            })
        })
    }

    #[test]
    fn two_penders_and_no_deadline_lose_nothing() {
        loom::model(|| {
            let shared = Arc::new((Parker::new(), AtomicUsize::new(0)));
            let penders = two_penders(&shared);
            run(&shared.0, &shared.1, 2, || FOREVER);
            for pender in penders {
                pender.join().unwrap();
            }
        });
    }

    /// As above, by an owner that looks round before each sleep.
    #[test]
    fn who_looks_round_first_loses_nothing() {
        loom::model(|| {
            let shared = Arc::new((Parker::new(), AtomicUsize::new(0)));
            let penders = two_penders(&shared);
            shared.0.bind();
            let mut patience = Patience::new();
            patience.slept(Duration::ZERO);
            while shared.1.load(Ordering::Relaxed) != 2 {
                shared.0.wait(&mut patience, || FOREVER);
            }
            for pender in penders {
                pender.join().unwrap();
            }
        });
    }

    #[test]
    fn a_foreign_unpark_neither_ends_nor_breaks_a_sleep() {
        loom::model(|| {
            let shared = Arc::new((Parker::new(), AtomicUsize::new(0)));
            // Not the model's main thread: a token also ends loom's `join`, which the real one does not look at.
            let owner = {
                let shared = shared.clone();
                thread::spawn(move || {
                    shared.0.bind();
                    shared.0.park(|| FOREVER);
                    assert_eq!(shared.1.load(Ordering::Relaxed), 1, "the sleep ended without a pend");
                })
            };
            let pender = thread::spawn(move || {
                shared.1.store(1, Ordering::Relaxed);
                shared.0.pend();
            });
            owner.thread().unpark();
            pender.join().unwrap();
            owner.join().unwrap();
        });
    }

    #[test]
    fn a_pend_beside_the_deadline_is_kept_or_consumed() {
        loom::model(|| {
            let shared = Arc::new((Parker::new(), AtomicUsize::new(0)));
            let pender = {
                let shared = shared.clone();
                thread::spawn(move || {
                    shared.1.store(1, Ordering::Relaxed);
                    shared.0.pend();
                })
            };
            // The first sleep ends by itself at any point; the later ones have no end.
            let first = Cell::new(true);
            let asked = Cell::new(0);
            run(&shared.0, &shared.1, 1, || {
                if !first.get() {
                    return FOREVER;
                }
                asked.set(asked.get() + 1);
                if asked.get() == 2 {
                    first.set(false);
                    return None;
                }
                Some(Duration::from_millis(1))
            });
            pender.join().unwrap();
        });
    }

    #[test]
    fn a_pend_before_the_drive_is_seen_by_it() {
        loom::model(|| {
            let shared = Arc::new((Parker::new(), AtomicUsize::new(0)));
            let pender = {
                let shared = shared.clone();
                thread::spawn(move || {
                    shared.1.fetch_add(1, Ordering::Relaxed);
                    shared.0.pend();
                    shared.1.fetch_add(1, Ordering::Relaxed);
                    shared.0.pend();
                })
            };
            run(&shared.0, &shared.1, 2, || FOREVER);
            pender.join().unwrap();
        });
    }
}

#[cfg(all(test, not(selkie_loom)))]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    fn until(deadline: Instant) -> impl FnMut() -> Option<Duration> {
        move || deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    #[test]
    fn a_pend_while_awake_is_consumed_by_take() {
        let parker = Parker::new();
        parker.bind();
        assert!(!parker.take());
        parker.pend();
        parker.pend();
        assert!(parker.take());
        assert!(!parker.take());
    }

    #[test]
    fn a_wait_looks_round_after_short_sleeps_and_ever_more_rarely_in_vain() {
        let mut patience = Patience::new();
        assert!(!patience.is_due(), "it has not slept yet");
        patience.slept(Duration::from_micros(10));
        let mut looks = |rounds: usize, works: bool| {
            let count = |patience: &mut Patience| {
                let is_due = patience.is_due();
                match (is_due, works) {
                    (false, _) => {}
                    (true, true) => patience.rewarded(),
                    (true, false) => patience.disappointed(),
                }
                is_due
            };
            (0..rounds).filter(|_| count(&mut patience)).count()
        };
        assert_eq!(looks(100, true), 100);
        assert!(looks(1000, false) < 30);
        assert!(looks(200, true) > 100, "one reward is enough");
        patience.slept(Duration::from_millis(5));
        assert!(!patience.is_due());
    }

    #[test]
    fn whoever_waits_again_and_again_hears_each_pend() {
        let pair = Arc::new([Parker::new(), Parker::new()]);
        let rounds = if cfg!(miri) { 50 } else { 20_000 };
        let side = |mine: usize| {
            let pair = pair.clone();
            move || {
                pair[mine].bind();
                let mut patience = Patience::new();
                for _ in 0..rounds {
                    if mine == 0 {
                        pair[1].pend();
                    }
                    pair[mine].wait(&mut patience, || Some(Duration::MAX));
                    if mine == 1 {
                        pair[0].pend();
                    }
                }
            }
        };
        // Each pend is the other's leave to go on: one that is lost is a hang.
        let other = thread::spawn(side(1));
        side(0)();
        other.join().unwrap();
    }

    #[test]
    fn a_pend_before_park_makes_it_return_at_once() {
        let parker = Parker::new();
        parker.pend();
        parker.bind();
        parker.park(|| Some(Duration::MAX));
        assert!(!parker.take(), "park consumed it");
    }

    #[test]
    fn tokens_of_others_do_not_end_a_sleep() {
        let parker = Parker::new();
        parker.bind();
        let stop = Arc::new(AtomicBool::new(false));
        let stranger = {
            let (stop, owner) = (stop.clone(), thread::current());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    owner.unpark();
                    thread::yield_now();
                }
            })
        };
        for _ in 0..20 {
            let deadline = Instant::now() + Duration::from_millis(2);
            parker.park(until(deadline));
            assert!(Instant::now() >= deadline);
        }
        stop.store(true, Ordering::Relaxed);
        stranger.join().unwrap();
    }

    #[test]
    fn a_thread_that_parks_for_itself_cannot_take_our_wake() {
        let parker = Arc::new(Parker::new());
        parker.bind();
        let pender = {
            let parker = parker.clone();
            thread::spawn(move || parker.pend())
        };
        pender.join().unwrap();
        // User code of the turn eats whatever token there is.
        thread::park_timeout(Duration::from_millis(1));
        parker.park(|| Some(Duration::MAX));
    }

    #[test]
    #[should_panic(expected = "one thread only")]
    fn a_second_thread_cannot_bind() {
        let parker = Parker::new();
        thread::scope(|scope| {
            scope.spawn(|| parker.bind());
        });
        parker.bind();
    }
}
