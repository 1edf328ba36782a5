//! Sleeps and timers: order, bounds, ownership, every state in which one is dropped.

use std::{cell::RefCell, pin::Pin, rc::Rc, sync::mpsc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use selkie::{EventLoop, Sleep, catch_cancel, sleep, sleep_until, spawn, testing::Sim, yield_now};

use crate::harness::test;

behaviour! {
    /// Rows: F20.
    async fn a_sleep_lets_others_run_and_is_never_early(t) {
        let start = t.now();
        let inner = t.clone();
        let other = spawn(async move {
            for _ in 0..3 {
                inner.log("other");
                sleep(inner.secs(0.3)).await;
            }
        });
        sleep(t.secs(2.0)).await;
        t.assert_elapsed(start, 2.0);
        t.log("main");
        other.await.unwrap();
    } => ["other", "other", "other", "main"]
}

behaviour! {
    /// Rows: F20.
    async fn zero_and_past_deadlines_yield_exactly_once(t) {
        for (name, nap) in [
            ("zero", sleep(Duration::ZERO)),
            ("past", sleep_until(Duration::ZERO)),
            ("now", sleep_until(t.now())),
        ] {
            let inner = t.clone();
            let other = spawn(async move {
                yield_now().await;
                inner.log(format!("between {name}"));
                yield_now().await;
                inner.log(format!("after {name}"));
            });
            nap.await;
            t.log(name);
            other.await.unwrap();
        }
    } => [
        "between zero", "zero", "after zero", "between past", "past", "after past", "between now", "now", "after now",
    ]
}

behaviour! {
    /// Rows: F20, X22.
    async fn the_longest_durations_are_never_and_overflow_nothing(t) {
        let event_loop = EventLoop::current().unwrap();
        let never = sleep(Duration::MAX);
        assert_eq!(never.deadline(), None);
        for nap in [never, sleep_until(Duration::MAX), sleep(Duration::from_nanos(u64::MAX))] {
            let task = spawn(nap);
            let handle = event_loop.call_later(Duration::MAX, || unreachable!()).unwrap();
            assert_eq!(handle.when(), None);
            let at = event_loop.call_at(Duration::MAX, || unreachable!()).unwrap();
            sleep(t.secs(1.0)).await;
            assert!(!task.is_finished());
            task.cancel();
            assert!(task.await.unwrap_err().is_cancelled());
            assert!(handle.cancel() && at.cancel());
        }
    }
}

/// Rows: F20.
#[test]
fn centuries_pass_and_then_the_clock_ends() {
    let sim = Sim::new();
    sim.run(async {
        let year = Duration::from_secs(365 * 24 * 3600);
        let other = spawn(sleep(year * 150));
        sleep(year * 292).await;
        assert!(other.is_finished());
        assert_eq!(EventLoop::current().unwrap().time(), year * 292);
        assert_eq!(sleep(year).deadline(), None, "beyond the end of the clock is never");
    });
}

behaviour! {
    /// Rows: X22.
    async fn equal_deadlines_fire_in_the_order_they_were_set_whoever_waits(t) {
        let deadline = t.now() + t.secs(1.0);
        let event_loop = EventLoop::current().unwrap();
        let mut tasks = Vec::new();
        for n in 0..12 {
            let inner = t.clone();
            match n % 3 {
                0 => tasks.push(spawn(async move {
                    sleep_until(deadline).await;
                    inner.log(format!("{n}"));
                })),
                1 => drop(event_loop.call_at(deadline, move || inner.log(format!("{n}"))).unwrap()),
                // Polled with a waker of its own.
                _ => tasks.push(spawn(async move {
                    let mut set: FuturesUnordered<_> = [sleep_until(deadline)].into_iter().collect();
                    set.next().await;
                    inner.log(format!("{n}"));
                })),
            }
        }
        for task in tasks {
            task.await.unwrap();
        }
        yield_now().await;
    } => ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"]
}

behaviour! {
    /// Rows: X22.
    async fn timers_fire_in_the_order_of_their_deadlines(t) {
        let mut set = FuturesUnordered::new();
        for n in [5u32, 1, 4, 2, 3] {
            let delay = t.secs(f64::from(n));
            set.push(async move {
                sleep(delay).await;
                n
            });
        }
        while let Some(n) = set.next().await {
            t.log(n.to_string());
        }
    } => ["1", "2", "3", "4", "5"]
}

/// Rows: X22.
#[test]
fn the_clock_never_goes_back() {
    let host = EventLoop::new();
    let mut last = host.time();
    for _ in 0..10_000 {
        let now = host.time();
        assert!(now >= last);
        last = now;
    }
}

behaviour! {
    async fn a_sleep_moves_between_wakers_and_tasks(t) {
        let start = t.now();
        let mut nap = Box::pin(sleep(t.secs(2.0)));
        // In the cell of this task, then in a set, then in another task, then in a set there.
        assert!(futures::poll!(&mut nap).is_pending());
        {
            let mut set: FuturesUnordered<_> = [&mut nap].into_iter().collect();
            assert!(futures::poll!(set.next()).is_pending());
        }
        let inner = t.clone();
        let task = spawn(async move {
            assert!(futures::poll!(&mut nap).is_pending());
            yield_now().await;
            let mut set: FuturesUnordered<_> = [nap].into_iter().collect();
            set.next().await;
            inner.assert_elapsed(start, 2.0);
        });
        task.await.unwrap();
    }
}

behaviour! {
    async fn several_sleeps_of_one_task_stand_beside_each_other(t) {
        let start = t.now();
        futures::join!(sleep(t.secs(1.0)), sleep(t.secs(3.0)), sleep(t.secs(2.0)));
        t.assert_elapsed(start, 3.0);
        let mut long = sleep(t.secs(60.0));
        futures::select_biased! {
            () = futures::FutureExt::fuse(&mut long) => unreachable!(),
            () = futures::FutureExt::fuse(sleep(t.secs(1.0))) => {}
        }
        t.assert_elapsed(start, 4.0);
        drop(long);
        sleep(t.secs(1.0)).await;
        t.assert_elapsed(start, 5.0);
    }
}

behaviour! {
    async fn a_sleep_is_dropped_in_every_state(t) {
        drop(sleep(t.secs(1.0)));
        for poll_in_set in [false, true] {
            for wait in [0.0, 0.5, 1.5] {
                let mut nap = Box::pin(sleep(t.secs(1.0)));
                if poll_in_set {
                    let mut set: FuturesUnordered<Pin<Box<Sleep>>> = FuturesUnordered::new();
                    set.push(nap);
                    assert!(futures::poll!(set.next()).is_pending());
                    sleep(t.secs(wait)).await;
                    drop(set);
                } else {
                    assert!(futures::poll!(&mut nap).is_pending());
                    // A task of its own, so that this one's cell keeps the dropped sleep's node.
                    spawn(sleep(t.secs(wait))).await.unwrap();
                    drop(nap);
                }
                let start = t.now();
                sleep(t.secs(1.0)).await;
                t.assert_elapsed(start, 1.0);
            }
        }
        let mut nap = sleep(t.secs(0.1));
        (&mut nap).await;
        drop(nap);
    }
}

behaviour! {
    async fn a_sleep_is_set_to_another_time(t) {
        let start = t.now();
        let mut nap = sleep(t.secs(60.0));
        assert!(futures::poll!(&mut nap).is_pending());
        nap.reset(start + t.secs(1.0));
        (&mut nap).await;
        t.assert_elapsed(start, 1.0);
        nap.reset(start + t.secs(2.0));
        nap.await;
        t.assert_elapsed(start, 2.0);
    }
}

behaviour! {
    /// Rows: F20.
    async fn a_cancelled_sleep_takes_its_timer_back(t) {
        let start = t.now();
        let task = spawn({
            let t = t.clone();
            async move {
                let _ = catch_cancel(sleep(t.secs(60.0))).await;
                sleep(t.secs(1.0)).await;
            }
        });
        task.cancel();
        task.await.unwrap();
        t.assert_elapsed(start, 1.0);
    }
}

/// Rows: F20.
#[test]
fn a_sleep_made_outside_of_a_loop_counts_from_its_first_poll() {
    let sim = Sim::new();
    let nap = sleep(Duration::from_secs(3));
    sim.run(async { sleep(Duration::from_secs(10)).await });
    sim.run(nap);
    assert_eq!(sim.elapsed(), Duration::from_secs(13));
}

#[cfg(panic = "unwind")] // Otherwise the panic cannot be caught.
#[test]
fn a_sleep_polled_outside_of_a_loop_says_so() {
    let poll = || futures::FutureExt::now_or_never(sleep(Duration::from_secs(1)));
    let payload = std::panic::catch_unwind(poll).unwrap_err();
    let text = payload.downcast_ref::<&str>().expect("a text");
    assert!(text.contains("outside of a selkie loop"), "{text}");
}

#[test]
fn a_sleep_outlives_its_loop_and_goes_on_in_another() {
    let sim = Sim::new();
    let kept: Rc<RefCell<Vec<Pin<Box<Sleep>>>>> = Rc::default();
    let out = kept.clone();
    sim.run(async move {
        let (mut direct, mut in_set) =
            (Box::pin(sleep(Duration::from_secs(5))), Box::pin(sleep(Duration::from_secs(5))));
        assert!(futures::poll!(&mut direct).is_pending());
        let mut set: FuturesUnordered<_> = [&mut in_set].into_iter().collect();
        assert!(futures::poll!(set.next()).is_pending());
        drop(set);
        out.borrow_mut().extend([direct, in_set]);
    });
    let naps = kept.take();
    sim.run(futures::future::join_all(naps));
    assert_eq!(sim.elapsed(), Duration::from_secs(5));
}

behaviour! {
    seeds async fn sleeps_in_sets_and_tasks_fire_once_and_never_early(t) {
        let start = t.now();
        let mut set = FuturesUnordered::new();
        for n in 0..100u32 {
            let (t, delay) = (t.clone(), f64::from(n * 37 % 50) / 10.0);
            set.push(async move {
                if n % 3 == 0 {
                    let delay = t.secs(delay);
                    spawn(async move { sleep(delay).await }).await.unwrap();
                } else {
                    let mut unused = sleep(t.secs(100.0));
                    let _ = futures::poll!(&mut unused);
                    sleep(t.secs(delay)).await;
                }
                assert!(t.now() >= start + t.secs(delay));
            });
        }
        let mut count = 0;
        while set.next().await.is_some() {
            count += 1;
        }
        assert_eq!(count, 100);
    }
}

/// Rows: F20.
#[test]
fn what_other_threads_hand_in_comes_before_the_timers_that_are_due() {
    let sim = Rc::new(Sim::new());
    let clock = sim.clone();
    let (sender, order) = mpsc::channel();
    sim.run(async move {
        let event_loop = EventLoop::current().unwrap();
        let second = Duration::from_secs(1);
        for when in [second, second * 2] {
            let sender = sender.clone();
            let _ = event_loop.call_later(when, move || sender.send("timer").unwrap()).unwrap();
        }
        clock.advance(second * 3);
        let handed_in = move || {
            let sent = move || sender.send("handed in").unwrap();
            let _ = EventLoop::current().unwrap().call_soon(sent).unwrap();
        };
        let _ = event_loop.handle().call_soon_threadsafe(handed_in).unwrap();
        sleep(second).await;
    });
    assert_eq!(order.iter().collect::<Vec<_>>(), ["handed in", "timer", "timer"]);
}
