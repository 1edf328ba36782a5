//! The native backend: the contract of all platforms, and what only this one promises.

#![cfg(not(selkie_loom))]

#[expect(unreachable_pub, reason = "other backends may take the file into a crate of their own")]
mod contract;

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use contract::Script;
use selkie_native::Native;
use selkie_platform::{Driven, Next, Platform};

/// Runs `f` on a thread of its own, and fails when it hangs: a lost wake must not hang the whole test run.
#[track_caller]
fn in_time<T: Send + 'static>(name: &str, f: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, is_done) = mpsc::channel();
    let thread = thread::spawn(move || {
        let value = f();
        let _ = done.send(());
        value
    });
    if is_done.recv_timeout(Duration::from_secs(120)) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("{name}: hangs");
    }
    thread.join().unwrap_or_else(|_| panic!("{name}: failed"))
}

#[test]
fn the_contract_of_all_platforms() {
    for (name, case) in contract::CASES {
        in_time(name, || {
            let platform: Arc<dyn Platform> = Arc::new(Native::new());
            let script = case(platform.clone());
            assert_eq!(platform.drive(script.clone()), Driven::Finished);
            assert!(script.is_over());
        });
    }
}

#[test]
fn many_threads_pend_and_every_item_is_seen() {
    const THREADS: usize = 8;
    const EACH: usize = 25_000;
    let turns = in_time("stress", || {
        let platform: Arc<dyn Platform> = Arc::new(Native::new());
        let inbox = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let (platform, inbox) = (platform.clone(), inbox.clone());
                thread::spawn(move || {
                    for i in 0..EACH {
                        // Relaxed: `pend` alone must make it visible to the turn that it brings about.
                        inbox.fetch_add(1, Relaxed);
                        platform.pend();
                        if (i + number) % 16 == 0 {
                            // Lets the loop fall asleep, or nearly.
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let turns = Rc::new(AtomicUsize::new(0));
        let counted = turns.clone();
        platform.drive(Script::new(move |turn| {
            counted.store(turn, Relaxed);
            if inbox.load(Relaxed) == THREADS * EACH { Next::Done } else { Next::Idle }
        }));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        turns.load(Relaxed)
    });
    assert!(turns <= THREADS * EACH, "more turns than requests: {turns}");
}

#[test]
fn a_strict_ping_pong_loses_no_wake() {
    in_time("ping-pong", || {
        const ROUNDS: usize = 100_000;
        let sides: [Arc<dyn Platform>; 2] = [Arc::new(Native::new()), Arc::new(Native::new())];
        let ball = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..2)
            .map(|me| {
                let (mine, other, ball) = (sides[me].clone(), sides[1 - me].clone(), ball.clone());
                thread::spawn(move || {
                    mine.drive(Script::new(move |_| {
                        let seen = ball.load(Relaxed);
                        if seen % 2 == me && seen < ROUNDS {
                            ball.store(seen + 1, Relaxed);
                            other.pend();
                        }
                        // The other side needs the last number too.
                        if seen + 1 >= ROUNDS { Next::Done } else { Next::Idle }
                    }))
                })
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), Driven::Finished);
        }
    });
}

#[test]
fn pends_beside_expiring_deadlines_are_not_lost() {
    in_time("deadlines", || {
        const ITEMS: usize = 20_000;
        let platform: Arc<dyn Platform> = Arc::new(Native::new());
        let inbox = Arc::new(AtomicUsize::new(0));
        let sender = {
            let (platform, inbox) = (platform.clone(), inbox.clone());
            thread::spawn(move || {
                for i in 0..ITEMS {
                    while inbox.load(Relaxed) != i * 2 {
                        thread::yield_now();
                    }
                    inbox.fetch_add(1, Relaxed);
                    platform.pend();
                }
            })
        };
        let clock = platform.clone();
        platform.drive(Script::new(move |turn| {
            let seen = inbox.load(Relaxed);
            if seen % 2 == 1 {
                inbox.store(seen + 1, Relaxed);
            }
            match seen {
                seen if seen >= ITEMS * 2 - 1 => Next::Done,
                // An empty inbox after a deadline is looked at again only when somebody pends.
                _ if turn % 2 == 0 => Next::At(clock.now() + Duration::from_micros(turn as u64 % 100)),
                _ => Next::Idle,
            }
        }));
        sender.join().unwrap();
    });
}

#[test]
fn a_loop_can_be_driven_again_on_its_thread_and_on_no_other() {
    let platform = Arc::new(Native::new());
    for _ in 0..3 {
        platform.pend();
        assert_eq!(platform.drive(Script::new(|_| Next::Done)), Driven::Finished);
    }
    let other = platform.clone();
    assert!(thread::spawn(move || other.drive(Script::new(|_| Next::Done))).join().is_err());
}

#[test]
fn a_pend_after_the_end_is_kept_for_the_next_drive() {
    let platform: Arc<dyn Platform> = Arc::new(Native::new());
    platform.drive(Script::new(|_| Next::Done));
    platform.pend();
    platform.drive(Script::new(|_| Next::Done));
    // The turn has consumed the request: nothing is left to cut this wait short.
    let (clock, start) = (platform.clone(), platform.now());
    platform.drive(Script::new(move |turn| match turn {
        0 => Next::At(start + Duration::from_millis(20)),
        _ => {
            assert!(clock.now() >= start + Duration::from_millis(20));
            Next::Done
        }
    }));
}

#[test]
fn a_turn_that_panics_leaves_the_platform_usable() {
    let platform: Arc<dyn Platform> = Arc::new(Native::new());
    let thrown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        platform.drive(Script::new(|_| panic!("a turn panics (expected by a test)")))
    }));
    assert!(thrown.is_err());
    let inner = platform.clone();
    platform.drive(Script::new(move |turn| {
        inner.pend();
        if turn == 0 { Next::Idle } else { Next::Done }
    }));
}

#[test]
fn all_platforms_of_the_process_share_the_origin() {
    let (first, second) = (Native::new(), Native::new());
    let (a, b, c) = (first.now(), second.now(), first.now());
    assert!(a <= b && b <= c);
}

#[test]
fn the_calling_thread_may_block_and_blocking_jobs_have_threads_with_names() {
    let platform = Native::new();
    assert!(platform.can_block());
    assert_eq!(platform.slice(), Duration::from_millis(10));
    assert_eq!(platform.grain(), Duration::from_millis(1));
    let (name, is_name) = mpsc::channel();
    platform
        .run_blocking(Box::new(move || name.send(thread::current().name().map(str::to_owned)).unwrap()))
        .unwrap();
    let name = is_name.recv().unwrap().unwrap();
    assert!(
        name.strip_prefix("selkie-blocking-").is_some_and(|number| number.parse::<u32>().is_ok()),
        "{name}"
    );
}

#[test]
fn a_check_is_called_from_another_thread_while_a_turn_hangs() {
    let platform = Native::new();
    let (called, is_called) = mpsc::channel();
    platform.drive(Script::new(move |_| {
        let called = called.clone();
        let check = move || called.send(thread::current().id()).is_ok();
        assert!(Native::new().watch(Duration::from_millis(1), Box::new(check)));
        for _ in 0..3 {
            assert_ne!(is_called.recv().unwrap(), thread::current().id());
        }
        Next::Done
    }));
}
