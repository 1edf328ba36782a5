//! Models of the wake word and of the pool's threads. Run by
//! `RUSTFLAGS="--cfg selkie_loom" cargo test -p selkie-web --test loom --release`.

#![cfg(selkie_loom)]
#![allow(missing_docs)]

mod threads;

// The crate itself is empty on the targets that loom runs on.
#[path = "../../src/pool.rs"]
#[allow(dead_code, unreachable_pub, reason = "what the models have no use for")]
mod pool;
#[path = "../../src/wake.rs"]
mod wake;

use threads::{SLICE, Web, crew, host, lock, park};

/// What the processor does for a thread that waits: the look at the word and the sleep are one step to those who notify.
mod instructions {
    use std::time::Duration;

    pub(crate) use loom::sync::atomic::AtomicI32;
    use loom::sync::{Condvar, Mutex, atomic::Ordering};

    loom::lazy_static! {
        static ref SLEEPERS: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }

    pub(crate) fn notify_all(_: &AtomicI32) {
        let _all = SLEEPERS.0.lock().expect("nobody panics");
        SLEEPERS.1.notify_all();
    }

    pub(crate) fn wait(word: &AtomicI32, timeout: Option<Duration>) {
        let sleepers = SLEEPERS.0.lock().expect("nobody panics");
        // A wait with an end may end at once.
        if timeout.is_none() && word.load(Ordering::SeqCst) == 0 {
            drop(SLEEPERS.1.wait(sleepers).expect("nobody panics"));
        }
    }
}

use std::{sync::Arc, time::Duration};

use loom::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use crate::wake::Wake;

/// What others send, so relaxed that only the word makes it visible, and the word.
type Shared = Arc<(AtomicUsize, Wake)>;

fn send(shared: &Shared) {
    shared.0.fetch_add(1, Ordering::Relaxed);
    shared.1.set();
}

/// Turns until all has come, parking between them: a lost wake is a deadlock, which loom reports.
fn turns(shared: &Shared, sent: usize, mut first: Option<Duration>) {
    loop {
        shared.1.clear();
        if shared.0.load(Ordering::Relaxed) == sent {
            return;
        }
        shared.1.wait(first.take());
    }
}

#[test]
fn wakes_of_two_threads_are_not_lost() {
    let mut builder = loom::model::Builder::new();
    // Without a bound it takes minutes.
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let shared = Shared::default();
        let senders = [(); 2].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || send(&shared))
        });
        turns(&shared, 2, None);
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

/// The second one finds the word set, and leaves it at that.
#[test]
fn two_wakes_of_one_thread_are_not_lost() {
    loom::model(|| {
        let shared = Shared::default();
        let theirs = shared.clone();
        let sender = thread::spawn(move || {
            send(&theirs);
            send(&theirs);
        });
        turns(&shared, 2, None);
        sender.join().unwrap();
    });
}

#[test]
fn a_wake_as_the_time_is_over_is_not_lost() {
    loom::model(|| {
        let shared = Shared::default();
        let theirs = shared.clone();
        let sender = thread::spawn(move || send(&theirs));
        turns(&shared, 1, Some(Duration::from_millis(1)));
        sender.join().unwrap();
    });
}
