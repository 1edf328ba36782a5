//! How many futures of an executor, or jobs of a pool, there are: counted by many threads at once.
//!
//! # The protocol
//!
//! Each thread counts in a stripe of its own, or of few, so that a future which is made in one thread and ends in another touches
//! no line that both write. A stripe says nothing by itself, and their sum is read one by one, so it is exact only when
//! nobody counts meanwhile. It is asked for when nobody is taken any more, and then the following holds: *the sum is never less
//! than the number of the futures that were taken and have not ended.*
//!
//! - *Enter* counts, and then looks whether it is closed; if so, it takes its count back, in the same stripe. *Close* sets the
//!   mark, and then sums. Both steps are in the one order of all `SeqCst` operations, so a future that was taken is in its
//!   stripe before anybody sums.
//! - *Leave* uncounts, and then looks whether it is closed; if so, it sums. Either it sees the mark, or the sums after the close
//!   see what it did. So the last one, or the closer, finds zero; several may.
//!
//! Zero is final: nobody is taken after the close. Whoever knows that nobody can enter any more may sum without one.

use std::cell::Cell;

use crate::sync::{AtomicBool, AtomicUsize, Ordering};

/// See the module.
pub(crate) struct Census {
    stripes: [Stripe; STRIPES],
    closed: AtomicBool,
}

#[repr(align(128))]
struct Stripe(AtomicUsize);

/// Threads that share one are slower, and no more.
pub(crate) const STRIPES: usize = if cfg!(selkie_loom) { 3 } else { 16 };

/// Loom gives `SeqCst` loads and stores the orders of `AcqRel` only, so the model has a fence where the code needs none.
#[inline]
fn model_fence() {
    #[cfg(selkie_loom)]
    loom::sync::atomic::fence(Ordering::SeqCst);
}

/// The number of the stripe of this thread, in whatever is kept in stripes.
#[inline]
pub(crate) fn stripe() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    thread_local! {
        static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    STRIPE
        .try_with(|stripe| {
            if stripe.get() == usize::MAX {
                stripe.set(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
            }
            stripe.get()
        })
        .unwrap_or(0)
}

impl Default for Stripe {
    fn default() -> Self {
        Self(AtomicUsize::new(0))
    }
}

impl Default for Census {
    fn default() -> Self {
        Self { stripes: std::array::from_fn(|_| Stripe::default()), closed: AtomicBool::new(false) }
    }
}

impl Census {
    /// Counts one; whether it may stay. It has to [`leave`](Self::leave) in any case.
    pub(crate) fn enter(&self) -> bool {
        self.enter_at(stripe())
    }

    fn enter_at(&self, stripe: usize) -> bool {
        self.stripes[stripe].0.fetch_add(1, Ordering::SeqCst);
        model_fence();
        !self.closed.load(Ordering::SeqCst)
    }

    /// Uncounts so many; whether they may have been the last, after a close.
    pub(crate) fn leave(&self, count: usize) -> bool {
        self.leave_at(stripe(), count)
    }

    fn leave_at(&self, stripe: usize, count: usize) -> bool {
        self.stripes[stripe].0.fetch_sub(count, Ordering::SeqCst);
        model_fence();
        self.closed.load(Ordering::SeqCst) && self.count() == 0
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// It may be opened again when nobody is counted, and nobody asks.
    pub(crate) fn set_closed(&self, is_closed: bool) {
        self.closed.store(is_closed, Ordering::SeqCst);
        model_fence();
    }

    /// As [`count`](Self::count), for people: while others count, the sum may be less than nothing.
    pub(crate) fn about(&self) -> usize {
        usize::try_from(self.count() as isize).unwrap_or(0)
    }

    #[cold]
    pub(crate) fn count(&self) -> usize {
        self.stripes.iter().fold(0, |sum, stripe| sum.wrapping_add(stripe.0.load(Ordering::SeqCst)))
    }
}

/// Run by `RUSTFLAGS="--cfg selkie_loom" cargo test -p selkie --lib --release loom`.
#[cfg(all(selkie_loom, test))]
mod loom_models {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    };

    use ::loom::thread;

    use super::Census;

    #[test]
    fn the_last_one_or_the_closer_finds_zero_and_nobody_too_early() {
        ::loom::model(|| {
            let census = Arc::new(Census::default());
            assert!(census.enter_at(0));
            let told = Arc::new(AtomicBool::new(false));
            let ended = Arc::new(AtomicBool::new(false));
            let other = {
                let (census, told, ended) = (census.clone(), told.clone(), ended.clone());
                thread::spawn(move || {
                    ended.store(true, Relaxed);
                    if census.leave_at(1, 1) {
                        told.store(true, Relaxed);
                    }
                })
            };
            let late = {
                let census = census.clone();
                thread::spawn(move || {
                    let taken = census.enter_at(2);
                    let last = census.leave_at(2, 1);
                    (taken, last)
                })
            };
            census.set_closed(true);
            if census.count() == 0 {
                assert!(ended.load(Relaxed), "zero while one had not ended");
                told.store(true, Relaxed);
            }
            other.join().unwrap();
            let (_, last) = late.join().unwrap();
            assert!(told.load(Relaxed) || last, "nobody has found zero");
            assert_eq!(census.count(), 0);
        });
    }
}
