//! Storms: waiters of every primitive, cancelled at any moment. Whatever the order, nothing is lost and nobody is left behind.
//!
//! The storms of locks, semaphores, conditions, barriers and first-in-first-out queues stand with their other tests. Here is what
//! those leave: events, several locks at once, the other queues, the flavours of one thread, and very many waiters at a time.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use selkie::{
    AnyQueue, Condition, Event, EventLoop, LifoQueue, Lock, PriorityQueue, Queue, QueueOrder, Semaphore,
    Task, TaskGroup, catch_cancel, local, lock_all, sleep, spawn, testing::Sim, timeout, yield_now,
};

use crate::{
    harness::{OnDrop, T, test},
    locks::{Dice, yields},
};

/// Cancels tasks at random, so many times, and lets others run between.
async fn blow(dice: &Dice, tasks: &[Task<()>], times: u64) {
    for _ in 0..times {
        tasks[dice.roll(tasks.len() as u64) as usize].cancel();
        yields(dice.roll(2)).await;
    }
}

async fn settle(tasks: Vec<Task<()>>) -> usize {
    let mut ended = 0;
    for task in tasks {
        match task.await {
            Ok(()) => ended += 1,
            Err(error) => assert!(error.is_cancelled(), "{error}"),
        }
    }
    ended
}

behaviour! {
    /// Rows: F59, U10. Every waiter of a moment goes on, also if the flag is cleared right after; the cancelled ones are gone.
    storm async fn an_event_in_a_storm_leaves_nobody_behind(t) {
        let dice = Dice::new().await;
        let (event, local): (Rc<Event>, Rc<local::Event>) = (Rc::default(), Rc::new(Event::local()));
        let tasks: Vec<_> = (0..40).map(|n| {
            let (event, local, start) = (event.clone(), local.clone(), dice.roll(4));
            spawn(async move {
                yields(start).await;
                if n % 2 == 0 { event.wait().await } else { local.wait().await }
            })
        }).collect();
        for _ in 0..3 {
            blow(&dice, &tasks, 5).await;
            let before = (event.statistics().waiting, local.statistics().waiting);
            event.set();
            local.set();
            assert_eq!((event.statistics().waiting, local.statistics().waiting), (0, 0), "{before:?}");
            event.clear();
            local.clear();
        }
        yields(5).await;
        event.set();
        local.set();
        assert!(settle(tasks).await >= 25);
        assert_eq!((event.statistics().waiting, local.statistics().waiting), (0, 0));
    }
}

behaviour! {
    /// Rows: F55, U10. Any locks in any order of the arguments: nobody waits for ever, and each lock has one holder.
    storm async fn several_locks_in_a_storm_are_all_given_back(t) {
        let dice = Dice::new().await;
        let locks: Rc<Vec<_>> = Rc::new((0..5).map(|_| Lock::new(Cell::new(0u32))).collect());
        let tasks: Vec<_> = (0..30).map(|_| {
            let (locks, start, hold) = (locks.clone(), dice.roll(4), dice.roll(3));
            let chosen: BTreeSet<u64> = (0..1 + dice.roll(3)).map(|_| dice.roll(5)).collect();
            let reverse = dice.roll(2) == 1;
            spawn(async move {
                yields(start).await;
                let mut wanted: Vec<_> = chosen.iter().map(|&n| &locks[n as usize]).collect();
                if reverse {
                    wanted.reverse();
                }
                let mut held = lock_all(wanted).await.unwrap();
                for value in held.values() {
                    assert_eq!(value.replace(1), 0, "one holder at a time");
                }
                let _out = OnDrop(move || held.values().iter().for_each(|value| value.set(0)));
                yields(hold).await;
            })
        }).collect();
        blow(&dice, &tasks, 20).await;
        settle(tasks).await;
        for lock in &*locks {
            assert!(!lock.is_locked());
            assert_eq!(lock.statistics().waiting, 0);
        }
    }
}

/// Producers and consumers of one queue, cancelled at any moment: what went in comes out, once.
async fn queue_in_a_storm<T, O, M>(
    dice: &Dice,
    queue: AnyQueue<T, O, M>,
    item: fn(u32) -> T,
    number: fn(T) -> u32,
) where
    T: 'static,
    O: QueueOrder<T>,
    M: local::Mode,
{
    let (put, got) = (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(Vec::new())));
    let tasks: Vec<_> = (0..40)
        .map(|n| {
            let (queue, start) = (queue.clone(), dice.roll(4));
            let (put, got) = (put.clone(), got.clone());
            spawn(async move {
                yields(start).await;
                for k in 0..3 {
                    if n % 2 == 0 {
                        // A put that is cancelled takes its item along or leaves it; one that is refused never counts.
                        if queue.try_put(item(n * 3 + k)).is_ok() {
                            put.borrow_mut().push(n * 3 + k);
                        } else {
                            queue.put(item(1000)).await.unwrap();
                        }
                    } else {
                        let taken = number(queue.get().await.unwrap());
                        got.borrow_mut().push(taken);
                        queue.task_done();
                    }
                    yield_now().await;
                }
            })
        })
        .collect();
    blow(dice, &tasks, 25).await;
    // Getters are left when there are more of them than items, and putters the other way round: not both.
    yields(60).await;
    let statistics = queue.statistics();
    assert!(statistics.getting == 0 || (statistics.putting == 0 && statistics.len == 0), "{statistics:?}");
    assert!(statistics.putting == 0 || queue.is_full(), "{statistics:?}");
    assert_eq!(statistics.unfinished, statistics.len, "{statistics:?}");
    for task in &tasks {
        task.cancel();
    }
    settle(tasks).await;
    while let Ok(rest) = queue.try_get() {
        got.borrow_mut().push(number(rest));
        queue.task_done();
    }
    let (mut put, mut got) = (put.take(), got.take());
    // Of those that waited it is not known here which went in.
    got.retain(|&number| number != 1000);
    put.sort_unstable();
    got.sort_unstable();
    assert_eq!(put, got);
    let statistics = queue.statistics();
    assert_eq!((statistics.len, statistics.unfinished), (0, 0));
    assert_eq!((statistics.getting, statistics.putting, statistics.joining), (0, 0, 0));
    queue.join().await;
}

behaviour! {
    /// Rows: F62, F66, F67, U10. Every kind of queue, shared and of one thread.
    storm async fn every_queue_in_a_storm_gives_out_what_went_in(t) {
        let dice = Dice::new().await;
        let limit = 1 + dice.roll(4) as usize;
        let pair = |n: u32| (n % 3, n);
        match dice.roll(6) {
            0 => queue_in_a_storm(&dice, Queue::bounded(limit), |n| n, |n| n).await,
            1 => queue_in_a_storm(&dice, LifoQueue::bounded(limit), |n| n, |n| n).await,
            2 => queue_in_a_storm(&dice, PriorityQueue::bounded(limit), pair, |(_, n)| n).await,
            3 => queue_in_a_storm(&dice, local::Queue::bounded(limit), Rc::new, |n| *n).await,
            4 => queue_in_a_storm(&dice, local::LifoQueue::bounded(limit), |n| n, |n| n).await,
            _ => queue_in_a_storm(&dice, local::PriorityQueue::bounded(limit), pair, |(_, n)| n).await,
        }
    }
}

behaviour! {
    /// Rows: X19, X20, U10. The flavours of one thread.
    storm async fn the_flavours_of_one_thread_lose_nothing_in_a_storm(t) {
        let dice = Dice::new().await;
        let lock: Rc<local::Lock<u32>> = Rc::new(Lock::local(0));
        let gate: Rc<local::Semaphore> = Rc::new(Semaphore::local(2));
        let changed: Rc<local::Condition> = Rc::new(Condition::local());
        let inside = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (0..40).map(|n| {
            let (lock, gate, changed, inside) = (lock.clone(), gate.clone(), changed.clone(), inside.clone());
            let (start, hold, many) = (dice.roll(4), dice.roll(3), 1 + dice.roll(2) as usize);
            spawn(async move {
                yields(start).await;
                match n % 4 {
                    0 => {
                        let mut units = lock.lock().await;
                        yields(hold).await;
                        *units += 1;
                        changed.notify(1);
                    }
                    1 => {
                        let mut units = changed.wait_for(lock.lock().await, |units| *units > 0).await;
                        *units -= 1;
                    }
                    _ => {
                        let _permit = gate.acquire_many(many).await;
                        inside.set(inside.get() + many);
                        assert!(inside.get() <= 2);
                        let _out = OnDrop(|| inside.set(inside.get() - many));
                        yields(hold).await;
                    }
                }
            })
        }).collect();
        blow(&dice, &tasks, 20).await;
        yields(100).await;
        // No notification was lost: whoever still waits has nothing to take.
        assert!(*lock.lock().await == 0 || changed.statistics().waiting == 0);
        for task in &tasks {
            task.cancel();
        }
        settle(tasks).await;
        assert!(!lock.is_locked());
        assert_eq!((gate.available(), inside.get()), (2, 0));
        for waiting in [lock.statistics(), gate.statistics(), changed.statistics()] {
            assert_eq!(waiting.waiting, 0);
        }
    }
}

/// Rows: U10. Thousands at a time, most of them cancelled before their turn.
#[test]
fn thousands_of_waiters_in_a_storm() {
    const WAITERS: u64 = if cfg!(miri) { 30 } else { 3000 };
    for seed in 0..3 {
        Sim::seeded(seed).run(async {
            let dice = Dice::new().await;
            let (lock, gate) = (Rc::new(Lock::new(0)), Rc::new(Semaphore::new(3)));
            let (event, queue) = (Rc::new(Event::new()), Queue::bounded(3));
            let through = Rc::new(Cell::new(0));
            let held = (lock.lock().await, gate.acquire_many(3).await);
            let tasks: Vec<_> = (0..WAITERS)
                .map(|n| {
                    let (lock, gate, event, queue) =
                        (lock.clone(), gate.clone(), event.clone(), queue.clone());
                    let through = through.clone();
                    spawn(async move {
                        match n % 5 {
                            0 => *lock.lock().await += 1,
                            1 => drop(gate.acquire_many(1 + n as usize % 3).await),
                            2 => event.wait().await,
                            3 => queue.put(n).await.unwrap(),
                            _ => drop(queue.get().await.unwrap()),
                        }
                        through.set(through.get() + 1);
                    })
                })
                .collect();
            assert_eq!(lock.statistics().waiting as u64, WAITERS / 5);
            for (n, task) in tasks.iter().enumerate() {
                if dice.roll(3) > 0 && n % 5 < 3 {
                    task.cancel();
                }
                if n as u64 == WAITERS / 2 {
                    yields(2).await;
                }
            }
            drop(held);
            event.set();
            let ended = settle(tasks).await;
            assert_eq!(ended, through.get());
            assert_eq!(gate.available(), 3);
            assert!(!lock.is_locked() && queue.is_empty());
            assert_eq!(queue.statistics().getting + queue.statistics().putting, 0);
            for waiting in [lock.statistics(), gate.statistics(), event.statistics()] {
                assert_eq!(waiting.waiting, 0);
            }
        });
    }
}

fn a_while(t: &T, dice: &Dice) -> Duration {
    t.secs((1 + dice.roll(8)) as f64 / 16.0)
}

/// Cleans up after a cancel, and passes it on.
async fn cleaning(t: T, dice: Rc<Dice>, body: impl Future<Output = ()>) {
    if let Err(cancelled) = catch_cancel(body).await {
        sleep(a_while(&t, &dice)).await;
        cancelled.resume().await;
    }
}

/// A sleep in limits, scopes and groups, which are as deep as that.
fn nest(t: T, dice: Rc<Dice>, depth: u64) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        let inner = || nest(t.clone(), dice.clone(), depth - 1);
        match if depth == 0 { 0 } else { dice.roll(5) } {
            0 => sleep(a_while(&t, &dice)).await,
            1 => {
                inner().await;
                inner().await;
            }
            2 => cleaning(t.clone(), dice.clone(), inner()).await,
            3 => {
                let limit = a_while(&t, &dice);
                _ = timeout(limit, inner()).await;
            }
            _ => {
                let group = async |group: &TaskGroup<()>| {
                    let (t, dice, nested, fails) = (t.clone(), dice.clone(), inner(), dice.roll(2) == 1);
                    group.spawn(async move {
                        cleaning(t, dice, nested).await;
                        if fails { Err(()) } else { Ok(()) }
                    });
                    inner().await;
                };
                _ = TaskGroup::scope(group).await;
            }
        }
    })
}

behaviour! {
    /// Rows: X05, X08. Not by a limit that is over, nor by a group that ends, while somebody cleans up.
    storm async fn a_cancel_that_nobody_refuses_is_not_lost(t) {
        let event_loop = EventLoop::current().unwrap();
        // A group that was left tells it of failures.
        event_loop.set_exception_handler(Some(Rc::new(|_| {})));
        let dice = Rc::new(Dice::new().await);
        let (inner, rolls) = (t.clone(), dice.clone());
        let task = spawn(async move {
            for _ in 0..50 {
                nest(inner.clone(), rolls.clone(), 5).await;
            }
        });
        sleep(a_while(&t, &dice) * 4).await;
        if task.cancel() {
            sleep(a_while(&t, &dice)).await;
            if dice.roll(2) == 1 {
                task.cancel();
            }
            assert!(task.await.is_err_and(|error| error.is_cancelled()), "the cancel is lost");
        }
        // Children of such groups clean up.
        sleep(t.secs(8.0)).await;
        event_loop.set_exception_handler(None);
    }
}
