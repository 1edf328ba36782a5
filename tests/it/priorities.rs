//! Lanes: who runs first, and that nobody starves.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::mpsc,
    time::Duration,
};

use selkie::{
    Deferred, EventLoop, Next, Priority, Task, sleep, spawn_lazy,
    testing::{ManualClock, Sim},
    yield_now,
};

use crate::harness::test;

behaviour! {
    /// Rows: U15.
    async fn urgent_runs_before_normal_and_background_comes_last(t) {
        for (name, priority) in
            [("background", Priority::Background), ("normal", Priority::Normal), ("urgent", Priority::Urgent)]
        {
            for round in 0..2 {
                let inner = t.clone();
                Task::builder()
                    .priority(priority)
                    .lazy()
                    .spawn(async move { inner.log(format!("{name} {round}")) })
                    .detach();
            }
        }
        selkie::sleep(t.secs(1.0)).await;
    } => ["urgent 0", "urgent 1", "normal 0", "normal 1", "background 0", "background 1"]
}

behaviour! {
    /// Rows: U15.
    async fn tasks_that_are_always_ready_leave_the_background_a_poll_in_sixteen(t) {
        for busy in [Priority::Urgent, Priority::Normal] {
            let (polls, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
            let (count, over) = (polls.clone(), done.clone());
            let busy = Task::builder().priority(busy).spawn(async move {
                while !over.get() {
                    count.set(count.get() + 1);
                    yield_now().await;
                }
            });
            let (count, start) = (polls.clone(), polls.get());
            let background = Task::builder().priority(Priority::Background).spawn(async move {
                for step in 1..=10 {
                    assert!(count.get() - start <= step * 64, "starved at step {step}");
                    yield_now().await;
                }
                done.set(true);
            });
            background.await.unwrap();
            busy.await.unwrap();
            assert!(polls.get() >= 100, "the background got no more than its share: {}", polls.get());
        }
    }
}

behaviour! {
    /// Rows: U15.
    async fn an_urgent_task_that_is_always_ready_does_not_stop_normal_ones_or_timers(t) {
        let over = Rc::new(Cell::new(false));
        let stop = over.clone();
        let busy = Task::builder().priority(Priority::Urgent).spawn(async move {
            while !stop.get() {
                yield_now().await;
            }
        });
        for _ in 0..100 {
            yield_now().await;
        }
        if !t.is_sim() {
            // Virtual time stands still while something is ready.
            selkie::sleep(t.secs(1.0)).await;
        }
        over.set(true);
        busy.await.unwrap();
    }
}

behaviour! {
    /// Rows: U15.
    async fn a_yield_waits_for_no_lane_behind_the_tasks_own(t) {
        let lazily = |priority| Task::builder().priority(priority).lazy().spawn(async {});
        let (background, normal) = (lazily(Priority::Background), lazily(Priority::Normal));
        yield_now().await;
        assert!(normal.is_finished() && !background.is_finished());
        background.await.unwrap();
    }
}

behaviour! {
    /// Rows: U15.
    async fn polls_count_for_the_background_from_when_it_waits(t) {
        // Whatever number of polls was before.
        for before in 0..16 {
            for _ in 0..before {
                yield_now().await;
            }
            let order = Rc::new(RefCell::new(Vec::new()));
            let spawn = |number, priority| {
                let order = order.clone();
                Task::builder().priority(priority).lazy().spawn(async move { order.borrow_mut().push(number) })
            };
            let background = spawn(10, Priority::Background);
            for number in 0..10 {
                spawn(number, Priority::Normal).detach();
            }
            background.await.unwrap();
            assert_eq!(*order.borrow(), (0..=10).collect::<Vec<_>>());
        }
    }
}

/// Rows: U15.
#[test]
fn a_loop_ends_while_its_background_is_always_ready() {
    Sim::new().run(async {
        let endless = Task::builder().priority(Priority::Background).spawn(async {
            loop {
                yield_now().await;
            }
        });
        endless.detach();
        yield_now().await;
    });
}

/// Rows: U15.
#[test]
fn the_background_waits_for_what_other_threads_hand_in() {
    let (sender, order) = mpsc::channel();
    Sim::new().run(async move {
        let background = |number| {
            let (sender, handed_in) = (sender.clone(), sender.clone());
            Task::builder().priority(Priority::Background).lazy().spawn(async move {
                if number == 1 {
                    let handle = EventLoop::current().unwrap().handle();
                    let _ = handle.call_soon_threadsafe(move || handed_in.send(2).unwrap()).unwrap();
                }
                sender.send(number).unwrap();
            })
        };
        background(1).detach();
        background(3).detach();
        sleep(Duration::from_secs(1)).await;
    });
    assert_eq!(order.iter().collect::<Vec<_>>(), [1, 2, 3]);
}

/// Rows: U15.
#[test]
fn the_background_does_not_hold_up_timers_for_a_slice() {
    let sim = Rc::new(Sim::new());
    let clock = sim.clone();
    sim.run(async move {
        let polls = Rc::new(Cell::new(0));
        for number in 0..1000 {
            let (polls, clock) = (polls.clone(), clock.clone());
            let background = Task::builder().priority(Priority::Background).lazy().spawn(async move {
                polls.set(polls.get() + 1);
                if number == 0 {
                    clock.advance(Duration::from_millis(2));
                }
            });
            background.detach();
        }
        sleep(Duration::from_millis(1)).await;
        assert!((1..=128).contains(&polls.get()), "{} polls before the clock was looked at", polls.get());
    });
}

/// Runs three hundred normal tasks, of which the first one makes an urgent one ready and calls `cut_off`. The order of all.
async fn a_round_with(cut_off: impl Fn() + 'static) -> Vec<u32> {
    let order = Rc::new(RefCell::new(Vec::new()));
    let (wake, woken) = Deferred::<()>::new();
    let log = order.clone();
    let urgent = Task::builder().priority(Priority::Urgent).spawn(async move {
        woken.await.unwrap();
        log.borrow_mut().push(300);
    });
    let mut first = Some((cut_off, wake));
    for number in 0..300 {
        let (log, first) = (order.clone(), first.take());
        let normal = spawn_lazy(async move {
            log.borrow_mut().push(number);
            if let Some((cut_off, wake)) = first {
                wake.set_result(()).unwrap();
                cut_off();
            }
        });
        normal.detach();
    }
    urgent.await.unwrap();
    order.take()
}

/// Rows: U15. The urgent task is of the next round.
#[test]
fn nobody_overtakes_a_round_that_is_cut_off() {
    let all: Vec<_> = (0..=300).collect();
    let sim = Rc::new(Sim::new());
    let clock = sim.clone();
    assert_eq!(sim.run(a_round_with(move || clock.advance(Duration::from_secs(1)))), all, "a slice is over");

    let clock = Rc::new(ManualClock::new());
    let hands = clock.clone();
    let guest = clock.guest(None, || ());
    let task = guest.spawn(a_round_with(move || hands.set(Duration::from_secs(1)))).unwrap();
    while guest.turn().unwrap() == Next::Now {}
    assert_eq!(task.try_into_result().unwrap().unwrap(), all, "a turn of a guest is over");

    // What is told of polls changes, so what is left of a row of them begins anew.
    let watch = || EventLoop::current().unwrap().report_slow_polls(None);
    assert_eq!(Sim::new().run(a_round_with(watch)), all, "a row of polls is over");
}
