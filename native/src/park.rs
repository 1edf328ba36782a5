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

use std::{
    sync::{OnceLock, atomic::Ordering},
    time::Duration,
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

const AWAKE: u8 = 0;
const PENDED: u8 = 1;
const PARKED: u8 = 2;

#[cfg(not(all(selkie_loom, test)))]
mod sys {
    pub(super) use std::{
        sync::atomic::AtomicU8,
        thread::{Thread, current, park, park_timeout},
    };
}

#[cfg(all(selkie_loom, test))]
mod sys {
    pub(super) use loom::{
        sync::atomic::AtomicU8,
        thread::{Thread, current, park},
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

    use super::Parker;

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

    #[test]
    fn two_penders_and_no_deadline_lose_nothing() {
        loom::model(|| {
            let shared = Arc::new((Parker::new(), AtomicUsize::new(0)));
            let penders: Vec<_> = (0..2)
                .map(|_| {
                    let shared = shared.clone();
                    thread::spawn(move || {
                        shared.1.fetch_add(1, Ordering::Relaxed);
                        shared.0.pend();
                    })
                })
                .collect();
            run(&shared.0, &shared.1, 2, || FOREVER);
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
