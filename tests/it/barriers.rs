//! Barriers: rounds, resets, those who leave.

use std::{rc::Rc, time::Duration};

use selkie::{Barrier, BrokenBarrier, EventLoop, WaitError, gather, spawn, yield_now};

use crate::locks::{Dice, has_threads, yields};

behaviour! {
    /// Rows: X15.
    async fn a_barrier_lets_all_go_on_when_the_last_has_come(t) {
        let barrier = Rc::new(Barrier::new(3));
        let tasks: Vec<_> = (0..3).map(|n| {
            let (t, barrier) = (t.clone(), barrier.clone());
            spawn(async move {
                for round in 0..2 {
                    let place = barrier.wait().await.unwrap();
                    t.log(format!("{n} has place {place} in round {round}"));
                }
            })
        }).collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(barrier.waiting(), 0);
    } => [
        "2 has place 2 in round 0",
        "0 has place 0 in round 0", "1 has place 1 in round 0",
        // The last of the first round is the first of the next.
        "1 has place 2 in round 1", "2 has place 0 in round 1", "0 has place 1 in round 1",
    ]
}

behaviour! {
    /// Rows: X15. Large ones too: everybody of a round is sent on in one step.
    async fn the_places_of_a_round_are_all_different(t) {
        let barrier = Rc::new(Barrier::new(50));
        let places = gather((0..100).map(|_| {
            let barrier = barrier.clone();
            async move { barrier.wait().await.unwrap() }
        })).await;
        let mut places: Vec<_> = places.into_iter().map(Result::unwrap).collect();
        places.sort_unstable();
        assert_eq!(places, (0..50).flat_map(|n| [n, n]).collect::<Vec<_>>());
    }
}

behaviour! {
    /// Rows: X15.
    async fn reset_and_abort_send_all_who_wait_away(t) {
        let barrier = Rc::new(Barrier::new(3));
        let come = |barrier: &Rc<Barrier>| {
            let barrier = barrier.clone();
            spawn(async move { barrier.wait().await })
        };
        let [a, b] = [come(&barrier), come(&barrier)];
        assert_eq!(barrier.waiting(), 2);
        barrier.reset();
        assert_eq!((a.await.unwrap(), b.await.unwrap()), (Err(BrokenBarrier), Err(BrokenBarrier)));
        assert!(!barrier.is_broken());
        let a = come(&barrier);
        barrier.abort();
        assert!(barrier.is_broken());
        assert_eq!(a.await.unwrap(), Err(BrokenBarrier));
        assert_eq!(barrier.wait().await, Err(BrokenBarrier));
        barrier.reset();
        let all = [come(&barrier), come(&barrier), come(&barrier)];
        for (place, task) in all.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), Ok(place));
        }
    }
}

behaviour! {
    /// Rows: X15. It makes room for those who have come.
    async fn the_largest_barrier_can_be_reset(t) {
        let barrier = Rc::new(Barrier::new(1 << 30));
        let theirs = barrier.clone();
        let waiter = spawn(async move { theirs.wait().await });
        barrier.reset();
        assert_eq!(waiter.await.unwrap(), Err(BrokenBarrier));
    }
}

behaviour! {
    /// Rows: X15.
    async fn who_is_cancelled_just_leaves(t) {
        let barrier = Rc::new(Barrier::new(2));
        let theirs = barrier.clone();
        let leaver = spawn(async move { theirs.wait().await });
        leaver.cancel();
        assert!(leaver.await.unwrap_err().is_cancelled());
        assert_eq!(barrier.waiting(), 0);
        assert!(!barrier.is_broken());
        let theirs = barrier.clone();
        let first = spawn(async move { theirs.wait().await });
        assert_eq!(barrier.wait().await, Ok(1));
        assert_eq!(first.await.unwrap(), Ok(0));
    }
}

behaviour! {
    /// Rows: X15, U10. Rounds stay complete while others leave.
    storm async fn a_storm_of_cancels_leaves_rounds_complete(t) {
        let dice = Dice::new().await;
        let barrier = Rc::new(Barrier::new(3));
        let tasks: Vec<_> = (0..30).map(|_| {
            let barrier = barrier.clone();
            let start = dice.roll(6);
            spawn(async move {
                yields(start).await;
                barrier.wait().await.unwrap()
            })
        }).collect();
        for _ in 0..8 {
            tasks[dice.roll(30) as usize].cancel();
            yields(dice.roll(2)).await;
        }
        yields(20).await;
        // Those who did not find two others.
        assert!(barrier.waiting() < 3);
        let waiting = barrier.waiting();
        let mut lasts = 0;
        let mut pending = 0;
        for task in tasks {
            if task.is_finished() {
                lasts += usize::from(task.await.is_ok_and(|place| place == 2));
            } else {
                pending += 1;
                task.cancel();
                assert!(task.await.unwrap_err().is_cancelled());
            }
        }
        assert_eq!(pending, waiting);
        assert_eq!(barrier.waiting(), 0);
        assert!(lasts >= (30 - 8 - 2) / 3);
    }
}

behaviour! {
    /// Rows: X15. A barrier for nobody is a mistake of the program.
    async fn a_barrier_for_nobody_is_refused(t) {
        if cfg!(panic = "unwind") {
            assert!(std::panic::catch_unwind(|| Barrier::new(0)).is_err());
        }
        assert_eq!(Barrier::new(1).wait().await, Ok(0));
        let two = Barrier::new(2);
        assert_eq!(two.wait_blocking(None), Err(WaitError::WouldBlock));
        assert!(!two.is_broken());
    }
}

behaviour! {
    /// Rows: X15, X35. Tasks of several loops meet.
    async fn tasks_of_several_loops_meet(t) {
        if !has_threads(&t) {
            return;
        }
        let barrier = std::sync::Arc::new(Barrier::new(3));
        let workers: Vec<_> = (0..2).map(|n| EventLoop::spawn_thread(format!("worker {n}")).unwrap()).collect();
        let theirs: Vec<_> = workers.iter().map(|worker| {
            let barrier = barrier.clone();
            worker.handle().submit(async move || {
                let mut places = Vec::new();
                for _ in 0..20 {
                    places.push(barrier.wait().await.unwrap());
                    yield_now().await;
                }
                places
            }).unwrap()
        }).collect();
        let mut rounds = Vec::new();
        for _ in 0..20 {
            rounds.push(vec![barrier.wait().await.unwrap()]);
        }
        for places in theirs {
            for (round, place) in rounds.iter_mut().zip(places.await.unwrap()) {
                round.push(place);
            }
        }
        for mut round in rounds {
            round.sort_unstable();
            assert_eq!(round, [0, 1, 2]);
        }
        for worker in workers {
            worker.ended().await.unwrap();
        }
    }
}

#[cfg(any(not(all(target_family = "wasm", target_os = "unknown")), target_feature = "atomics"))]
on_threads! {
/// Rows: X35. A thread that gives up breaks the barrier for all, as `threading.Barrier` has it.
#[test]
fn a_thread_that_gives_up_breaks_the_barrier() {
    static BARRIER: Barrier = Barrier::new(3);
    let patient = crate::harness::thread::spawn(|| BARRIER.wait_blocking(None));
    while BARRIER.waiting() == 0 {
        crate::harness::thread::yield_now();
    }
    assert_eq!(BARRIER.wait_blocking(Some(Duration::from_millis(5))), Err(WaitError::TimedOut));
    assert_eq!(patient.join().unwrap(), Ok(Err(BrokenBarrier)));
    assert!(BARRIER.is_broken());
    BARRIER.reset();
    let threads: Vec<_> = (0..3).map(|_| crate::harness::thread::spawn(|| BARRIER.wait_blocking(None))).collect();
    let mut places: Vec<_> =
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap().unwrap()).collect();
    places.sort_unstable();
    assert_eq!(places, [0, 1, 2]);
}
}
