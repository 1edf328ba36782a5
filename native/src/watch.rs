//! The watchdog: one thread for all loops that want to be looked at from outside.
//!
//! It starts with the first entry and ends with the last. A check runs without the mutex, so it may register
//! others or take its time. `running` stays set meanwhile, so nobody starts a second thread, and whether to end is
//! decided only under the mutex.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::contain;

pub(crate) static SHARED: Watchdog = Watchdog::new();

pub(crate) struct Watchdog {
    state: Mutex<State>,
    /// There is a new entry, perhaps due before all others.
    changed: Condvar,
}

struct State {
    entries: Vec<Entry>,
    running: bool,
}

struct Entry {
    interval: Duration,
    due: Instant,
    check: Box<dyn FnMut() -> bool + Send>,
}

impl Watchdog {
    pub(crate) const fn new() -> Self {
        Self { state: Mutex::new(State { entries: Vec::new(), running: false }), changed: Condvar::new() }
    }

    /// Calls `check` about once every `interval` until it answers `false` or panics, the first time after one
    /// interval. `false` if there is no thread for it.
    pub(crate) fn watch(&'static self, interval: Duration, check: Box<dyn FnMut() -> bool + Send>) -> bool {
        let interval = interval.max(SHORTEST);
        let Some(due) = Instant::now().checked_add(interval) else {
            // Due after the end of time.
            return true;
        };
        let mut state = self.lock();
        if !state.running {
            let started =
                thread::Builder::new().name("selkie-watchdog".to_owned()).spawn(move || self.run()).is_ok();
            if !started {
                drop(state);
                return false;
            }
            state.running = true;
        }
        state.entries.push(Entry { interval, due, check });
        drop(state);
        self.changed.notify_one();
        true
    }

    fn run(&self) {
        let mut state = self.lock();
        while let Some(due) = state.entries.iter().map(|entry| entry.due).min() {
            let left = due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let place =
                state.entries.iter().position(|entry| entry.due == due).expect("it was found just now");
            let mut entry = state.entries.swap_remove(place);
            drop(state);
            let goes_on = contain(|| (entry.check)()).unwrap_or(false);
            // Counted from the end of the check: a slow one, or a machine that was asleep, is not made up for.
            let next = Instant::now().checked_add(entry.interval);
            let kept = match next {
                Some(due) if goes_on => Some(Entry { due, ..entry }),
                _ => {
                    // A drop that panics must not end the checks of others.
                    contain(|| drop(entry));
                    None
                }
            };
            state = self.lock();
            state.entries.extend(kept);
        }
        state.running = false;
    }

    /// No check runs under this mutex, so it is never poisoned.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An interval of zero would keep a core busy.
const SHORTEST: Duration = Duration::from_millis(1);

#[cfg(all(test, not(selkie_loom)))]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn watchdog() -> &'static Watchdog {
        Box::leak(Box::new(Watchdog::new()))
    }

    #[track_caller]
    fn eventually(what: impl Fn() -> bool) {
        let start = Instant::now();
        while !what() {
            assert!(start.elapsed() < LONG, "it never happened");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_check_is_called_every_interval_until_it_answers_false() {
        let watchdog = watchdog();
        let (calls, is_called) = mpsc::channel();
        let mut left = 5;
        let start = Instant::now();
        let interval = Duration::from_millis(10);
        assert!(watchdog.watch(
            interval,
            Box::new(move || {
                calls.send(Instant::now()).unwrap();
                left -= 1;
                left > 0
            })
        ));
        // Ends by itself: the check is dropped with its sender.
        let times: Vec<_> = is_called.iter().collect();
        assert_eq!(times.len(), 5);
        for (i, time) in (1..).zip(times) {
            assert!(time - start >= interval * i);
        }
        eventually(|| !watchdog.lock().running);
    }

    #[test]
    fn one_thread_serves_all_and_starts_again() {
        let watchdog = watchdog();
        for _ in 0..3 {
            let (name, is_name) = mpsc::channel();
            for interval in [7, 1, 4] {
                let name = name.clone();
                let check = move || {
                    name.send(thread::current().id()).unwrap();
                    false
                };
                assert!(watchdog.watch(Duration::from_millis(interval), Box::new(check)));
            }
            drop(name);
            let threads: Vec<_> = is_name.iter().collect();
            assert_eq!(threads.len(), 3);
            assert!(threads.iter().all(|thread| *thread == threads[0]));
            eventually(|| !watchdog.lock().running);
        }
    }

    #[test]
    fn a_short_interval_does_not_wait_for_a_long_one() {
        let watchdog = watchdog();
        assert!(watchdog.watch(LONG * 10, Box::new(|| false)));
        let (called, is_called) = mpsc::channel();
        assert!(watchdog.watch(Duration::ZERO, Box::new(move || called.send(()).is_err())));
        is_called.recv_timeout(LONG).unwrap();
        drop(is_called);
        eventually(|| watchdog.lock().entries.len() == 1);
        // By now it waits for the long one only, most likely.
        thread::sleep(Duration::from_millis(20));
        let (called, is_called) = mpsc::channel();
        assert!(watchdog.watch(Duration::ZERO, Box::new(move || called.send(()).is_err())));
        is_called.recv_timeout(LONG).unwrap();
    }

    #[test]
    fn a_check_may_panic_or_register_another() {
        let watchdog = watchdog();
        let calls = Arc::new(AtomicUsize::new(0));
        assert!(watchdog.watch(Duration::ZERO, Box::new(|| panic!("a check panics (expected by a test)"))));
        let inner = calls.clone();
        assert!(watchdog.watch(
            Duration::ZERO,
            Box::new(move || {
                let calls = inner.clone();
                watchdog.watch(Duration::ZERO, Box::new(move || calls.fetch_add(1, Ordering::Relaxed) < 2));
                false
            })
        ));
        eventually(|| calls.load(Ordering::Relaxed) == 3 && !watchdog.lock().running);
    }

    #[test]
    fn what_a_check_throws_ends_no_other_whatever_it_is() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                std::panic::panic_any(Self);
            }
        }
        let watchdog = watchdog();
        assert!(watchdog.watch(Duration::ZERO, Box::new(|| std::panic::panic_any(Bomb))));
        let bomb = Bomb;
        let check = move || {
            let _kept = &bomb;
            false
        };
        assert!(watchdog.watch(Duration::ZERO, Box::new(check)));
        let (called, is_called) = mpsc::channel();
        let check = move || called.send(thread::current().id()).is_ok();
        assert!(watchdog.watch(Duration::from_millis(2), Box::new(check)));
        eventually(|| watchdog.lock().entries.len() <= 1);
        is_called.recv_timeout(LONG).unwrap();
        is_called.recv_timeout(LONG).unwrap();
        drop(is_called);
        eventually(|| !watchdog.lock().running);
    }

    #[test]
    fn an_interval_beyond_the_end_of_time_is_never_due() {
        assert!(watchdog().watch(Duration::MAX, Box::new(|| panic!("due"))));
    }
}
