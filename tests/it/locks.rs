//! Locks, semaphores and events: order, cancels, threads.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use selkie::{
    Barrier, BoundedSemaphore, Condition, Event, EventLoop, LifoQueue, Lock, NotLocked, NotOwned,
    OverReleased, PriorityQueue, Queue, RLock, Semaphore, Task, WaitError, gather, local, lock_all, sleep,
    spawn, spawn_lazy, testing::Sim, yield_now,
};

use crate::harness::{HOST_BLOCKS, Reports, T, test};

/// Numbers that follow the seed of the run: the order in which tasks run is the seed's.
pub struct Dice(Cell<u64>);

impl Dice {
    pub async fn new() -> Self {
        let order = Rc::new(Cell::new(0u64));
        gather((0..16u64).map(|n| {
            let order = order.clone();
            async move {
                yield_now().await;
                order.set(order.get().wrapping_mul(31).wrapping_add(n));
            }
        }))
        .await;
        Self(Cell::new(order.get()))
    }

    pub fn roll(&self, sides: u64) -> u64 {
        let mut z = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(z);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

pub async fn yields(n: u64) {
    for _ in 0..n {
        yield_now().await;
    }
}

/// The simulator has loops "on threads" everywhere; a host in this build may have none.
pub fn has_threads(t: &T) -> bool {
    t.is_sim() || crate::harness::has_threads()
}

behaviour! {
    /// Rows: F53, X19.
    async fn a_lock_is_handed_over_first_come_first_served(t) {
        let lock = Rc::new(Lock::new(()));
        let guard = lock.lock().await;
        let tasks: Vec<_> = (0..3).map(|n| {
            let (t, lock) = (t.clone(), lock.clone());
            spawn(async move {
                let _guard = lock.lock().await;
                t.log(format!("{n} in"));
                yield_now().await;
                t.log(format!("{n} out"));
            })
        }).collect();
        assert_eq!(lock.statistics().waiting, 3);
        t.log("release");
        drop(guard);
        for task in tasks {
            task.await.unwrap();
        }
        assert!(!lock.is_locked());
        assert_eq!(lock.statistics().waited, 3);
    } => ["release", "0 in", "0 out", "1 in", "1 out", "2 in", "2 out"]
}

behaviour! {
    /// Rows: X19. Between the release and the turn of the one that was woken the lock is not free.
    async fn a_newcomer_does_not_overtake_a_woken_waiter(t) {
        let lock = Rc::new(Lock::new(()));
        let guard = lock.lock().await;
        let (inner, other) = (t.clone(), lock.clone());
        let waiter = spawn(async move {
            let _guard = other.lock().await;
            inner.log("waiter");
        });
        drop(guard);
        assert!(lock.is_locked());
        assert!(lock.try_lock().is_none());
        let _guard = lock.lock().await;
        t.log("newcomer");
        waiter.await.unwrap();
    } => ["waiter", "newcomer"]
}

behaviour! {
    /// Rows: X19, U16.
    async fn taking_what_is_free_does_not_yield(t) {
        let inner = t.clone();
        let other = selkie::spawn_lazy(async move { inner.log("other") });
        let (lock, gate, event) = (Lock::new(0), Semaphore::new(1), Event::new());
        event.set();
        for _ in 0..100 {
            *lock.lock().await += 1;
            drop(gate.acquire().await);
            event.wait().await;
        }
        t.log("a hundred times");
        // The fair way out.
        yield_now().await;
        t.log("after a yield");
        other.await.unwrap();
    } => ["a hundred times", "other", "after a yield"]
}

behaviour! {
    /// Rows: X19, U10.
    async fn a_cancelled_waiter_passes_the_lock_on(t) {
        let lock = Rc::new(Lock::new(()));
        let guard = lock.lock().await;
        let [first, second] = ["first", "second"].map(|name| {
            let (t, lock) = (t.clone(), lock.clone());
            spawn(async move {
                let _guard = lock.lock().await;
                t.log(name);
            })
        });
        // Handed to the first, which is asked to end before it has run.
        drop(guard);
        first.cancel();
        assert!(first.await.unwrap_err().is_cancelled());
        second.await.unwrap();
        assert!(!lock.is_locked());
    } => ["second"]
}

behaviour! {
    /// Rows: F53. asyncio's own form: no guard, and any task may release.
    async fn acquire_and_release_without_a_guard(t) {
        let lock = Rc::new(Lock::new(()));
        assert_eq!(lock.release(), Err(NotLocked));
        lock.acquire().await;
        assert!(lock.is_locked());
        let other = lock.clone();
        spawn(async move { other.release().unwrap() }).await.unwrap();
        assert!(!lock.is_locked());
        assert_eq!(lock.release(), Err(NotLocked));
    }
}

/// Rows: F53, F56. Taking the lock twice waits for ever; the simulator says who waits for what.
#[test]
fn a_lock_taken_twice_is_a_deadlock_that_the_simulator_names() {
    let deadlock = Sim::new()
        .try_run(async {
            let lock = Lock::new(());
            let _once = lock.lock().await;
            let _twice = lock.lock().await;
        })
        .unwrap_err();
    assert_eq!(deadlock.waiting().len(), 1);
    assert!(deadlock.waiting()[0].ends_with("waits for a lock"), "{deadlock}");
    if WATCHED {
        assert_eq!(deadlock.circle().len(), 1);
        assert!(deadlock.circle()[0].ends_with("which it holds itself"), "{deadlock}");
    }
}

behaviour! {
    /// Rows: F54, U14.
    async fn a_task_may_take_an_rlock_again(t) {
        let lock = Rc::new(RLock::new(Cell::new(0)));
        let once = lock.lock().await;
        let twice = lock.lock().await;
        twice.set(twice.get() + 1);
        assert!(lock.is_mine());
        let (inner, theirs) = (t.clone(), lock.clone());
        let other = spawn(async move {
            assert!(!theirs.is_mine() && theirs.try_lock().is_none());
            let value = theirs.lock().await;
            inner.log(format!("other sees {}", value.get()));
            // Still the owner after a suspension.
            yield_now().await;
            assert!(theirs.is_mine());
            let _again = theirs.lock().await;
        });
        drop(once);
        yield_now().await;
        t.log("one hold left");
        twice.set(twice.get() + 1);
        drop(twice);
        other.await.unwrap();
        assert!(!lock.is_locked());
    } => ["one hold left", "other sees 2"]
}

behaviour! {
    /// Rows: U14. An eager start makes another task the current one, and back.
    async fn an_rlock_belongs_to_the_task_and_not_to_the_stack(t) {
        let lock = Rc::new(RLock::new(()));
        let guard = lock.lock().await;
        let theirs = lock.clone();
        let child = spawn(async move { theirs.try_lock().is_none() });
        assert!(child.await.unwrap());
        assert!(lock.is_mine());
        drop(guard);
    }
}

behaviour! {
    /// Rows: X19, X35.
    async fn a_semaphore_lets_so_many_in_first_come_first_served(t) {
        let gate = Rc::new(Semaphore::new(2));
        let tasks: Vec<_> = (0..4).map(|n| {
            let (t, gate) = (t.clone(), gate.clone());
            spawn(async move {
                let _permit = gate.acquire().await;
                t.log(format!("{n} in"));
                yield_now().await;
            })
        }).collect();
        assert!(gate.is_locked() && gate.available() == 0);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(gate.available(), 2);
        // May grow.
        gate.release(3);
        assert_eq!(gate.available(), 5);
        let many = gate.acquire_many(5).await;
        assert!(gate.try_acquire().is_none());
        drop(many);
        gate.try_acquire().unwrap().forget();
        assert_eq!(gate.available(), 4);
    } => ["0 in", "1 in", "2 in", "3 in"]
}

behaviour! {
    /// Difference: X35. Python refuses to release none.
    async fn none_may_be_released_and_acquired(t) {
        let gate = Semaphore::new(0);
        gate.release(0);
        assert_eq!(gate.available(), 0);
        drop(gate.acquire_many(0).await);
        assert_eq!(gate.available(), 0);
        let bounded = BoundedSemaphore::new(0);
        assert_eq!((bounded.release(0), bounded.release(1)), (Ok(()), Err(OverReleased)));
    }
}

behaviour! {
    /// Rows: X19. Who wants many is not starved by those who want few; when it leaves, they go on.
    async fn who_wants_many_permits_keeps_its_place(t) {
        let gate = Rc::new(Semaphore::new(1));
        let want = |name: &'static str, n| {
            let (t, gate) = (t.clone(), gate.clone());
            spawn(async move {
                let _permit = gate.acquire_many(n).await;
                t.log(name);
            })
        };
        let three = want("three", 3);
        let one = want("one", 1);
        assert!(gate.try_acquire().is_none(), "one is free, but others wait");
        yield_now().await;
        t.log("nobody yet");
        three.cancel();
        one.await.unwrap();
        let three = want("three", 3);
        let one = want("one", 1);
        gate.release(2);
        three.await.unwrap();
        one.await.unwrap();
    } => ["nobody yet", "one", "three", "one"]
}

behaviour! {
    /// Rows: X19.
    async fn a_bounded_semaphore_never_has_more_than_at_first(t) {
        let gate = BoundedSemaphore::new(2);
        assert_eq!(gate.release(1), Err(OverReleased));
        gate.acquire().await.forget();
        assert_eq!(gate.release(2), Err(OverReleased));
        gate.release(1).unwrap();
        assert_eq!(gate.available(), 2);
        // A permit that somebody has released already gives nothing more back.
        let permit = gate.acquire().await;
        gate.release(1).unwrap();
        drop(permit);
        assert_eq!(format!("{gate:?}"), "BoundedSemaphore { available: 2, bound: 2, waiting: 0 }");
    }
}

behaviour! {
    /// Rows: F59. Four waiters woken by one event, although it is cleared right after.
    async fn an_event_wakes_everybody_who_waits(t) {
        let event = Rc::new(Event::new());
        let waiters: Vec<_> = (0..10).map(|n| {
            let (t, event) = (t.clone(), event.clone());
            spawn(async move {
                event.wait().await;
                if n % 3 == 0 { t.log(format!("{n}")) }
            })
        }).collect();
        assert!(!event.is_set());
        event.set();
        event.set();
        assert!(event.is_set());
        event.clear();
        for waiter in waiters {
            waiter.await.unwrap();
        }
        t.log("late");
        let (late, inner) = (event.clone(), t.clone());
        let late = spawn(async move { late.wait().await; inner.log("woken") });
        yield_now().await;
        event.set();
        late.await.unwrap();
        event.wait().await;
    } => ["0", "3", "6", "9", "late", "woken"]
}

behaviour! {
    /// Rows: F53, F59. A task must not block its loop: what would have to wait is refused, on every host.
    async fn blocking_forms_refuse_to_block_a_loop(t) {
        let (lock, event, gate) = (Lock::new(1), Event::new(), Semaphore::new(0));
        let guard = lock.lock_blocking(None).unwrap();
        assert_eq!(lock.lock_blocking(Some(Duration::from_secs(1))).unwrap_err(), WaitError::WouldBlock);
        drop(guard);
        assert_eq!(event.wait_blocking(None), Err(WaitError::WouldBlock));
        assert_eq!(gate.acquire_blocking(None).unwrap_err(), WaitError::WouldBlock);
        event.set();
        event.wait_blocking(None).unwrap();
        // A refusal leaves nobody in the queue.
        assert_eq!(gate.statistics().waiting, 0);
        gate.release(1);
        drop(gate.acquire_blocking(None).unwrap());
    }
}

behaviour! {
    /// Difference: X21. A primitive belongs to no loop: tasks of several loops share it.
    async fn tasks_of_several_loops_share_a_lock(t) {
        if !has_threads(&t) {
            return;
        }
        let lock = Arc::new(Lock::new(0u32));
        let gate = Arc::new(Semaphore::new(2));
        let go = Arc::new(Event::new());
        let workers: Vec<_> = (0..3).map(|n| EventLoop::spawn_thread(format!("worker {n}")).unwrap()).collect();
        let mut remotes = Vec::new();
        for worker in &workers {
            for _ in 0..4 {
                let (lock, gate, go) = (lock.clone(), gate.clone(), go.clone());
                remotes.push(worker.handle().submit(async move || {
                    go.wait().await;
                    for _ in 0..50 {
                        let _permit = gate.acquire().await;
                        let mut value = lock.lock().await;
                        let seen = *value;
                        yield_now().await;
                        *value = seen + 1;
                    }
                }).unwrap());
            }
        }
        go.set();
        for remote in remotes {
            remote.await.unwrap();
        }
        assert_eq!(*lock.lock().await, 600);
        assert_eq!(gate.available(), 2);
        for worker in workers {
            worker.ended().await.unwrap();
        }
    }
}

behaviour! {
    /// Rows: U10. Many waiters, cancelled at any moment: exclusion holds, and nothing is lost.
    storm async fn a_storm_of_cancels_loses_no_lock_and_no_permit(t) {
        let dice = Dice::new().await;
        let lock = Rc::new(Lock::new(()));
        let rlock = Rc::new(RLock::new(()));
        let gate = Rc::new(Semaphore::new(3));
        let inside = Rc::new(Cell::new((0, 0, 0)));
        let tasks: Vec<Task<()>> = (0..60).map(|_| {
            let (lock, rlock, gate, inside) = (lock.clone(), rlock.clone(), gate.clone(), inside.clone());
            let (start, hold, many) = (dice.roll(5), dice.roll(3), dice.roll(3) as usize + 1);
            let kind = dice.roll(3);
            spawn(async move {
                yields(start).await;
                let count = |by: (i32, i32, i32)| {
                    let now = inside.get();
                    inside.set((now.0 + by.0, now.1 + by.1, now.2 + by.2));
                    let now = inside.get();
                    assert!(now.0 <= 1 && now.1 <= 1 && now.2 <= 3, "{now:?}");
                };
                match kind {
                    0 => {
                        let _guard = lock.lock().await;
                        count((1, 0, 0));
                        let _out = crate::harness::OnDrop(|| count((-1, 0, 0)));
                        yields(hold).await;
                    }
                    1 => {
                        let _guard = rlock.lock().await;
                        count((0, 1, 0));
                        let _out = crate::harness::OnDrop(|| count((0, -1, 0)));
                        yields(hold).await;
                        let _again = rlock.lock().await;
                        yields(hold).await;
                    }
                    _ => {
                        let _permit = gate.acquire_many(many).await;
                        count((0, 0, many as i32));
                        let _out = crate::harness::OnDrop(|| count((0, 0, -(many as i32))));
                        yields(hold).await;
                    }
                }
            })
        }).collect();
        for _ in 0..40 {
            tasks[dice.roll(60) as usize].cancel();
            yields(dice.roll(2)).await;
        }
        for task in tasks {
            let ended = task.await;
            assert!(ended.is_ok() || ended.unwrap_err().is_cancelled());
        }
        assert!(!lock.is_locked() && !rlock.is_locked());
        assert_eq!(gate.available(), 3);
        assert_eq!(inside.get(), (0, 0, 0));
        for waiting in [lock.statistics(), rlock.statistics(), gate.statistics()] {
            assert_eq!(waiting.waiting, 0);
        }
    }
}

behaviour! {
    /// Rows: U10. A future that is polled with one waker and then with another is woken through the last.
    async fn a_waiting_future_may_move_to_another_task(t) {
        let lock = Rc::new(Lock::new(()));
        let guard = lock.lock().await;
        let theirs = lock.clone();
        let mut waiting: futures::future::LocalBoxFuture<'static, ()> =
            Box::pin(async move { drop(theirs.lock().await) });
        std::future::poll_fn(|cx| {
            assert!(waiting.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        }).await;
        let (inner, mover) = (t.clone(), spawn(waiting));
        yield_now().await;
        inner.log("release");
        drop(guard);
        mover.await.unwrap();
        t.log("moved");
    } => ["release", "moved"]
}

behaviour! {
    /// Rows: F53, F59, X19. The flavours of one thread keep the same promises.
    async fn local_flavours_behave_alike(t) {
        let lock: Rc<local::Lock<RefCell<Vec<u32>>>> = Rc::new(Lock::local(RefCell::default()));
        let gate: local::Semaphore = Semaphore::local(1);
        let go: Rc<local::Event> = Rc::new(Event::local());
        let tasks: Vec<_> = (0..3).map(|n| {
            let (lock, go) = (lock.clone(), go.clone());
            spawn(async move {
                go.wait().await;
                let list = lock.lock().await;
                yield_now().await;
                list.borrow_mut().push(n);
            })
        }).collect();
        let permit = gate.acquire().await;
        assert!(gate.try_acquire().is_none());
        drop(permit);
        go.set();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*lock.lock().await.borrow(), [0, 1, 2]);
    }
}

behaviour! {
    /// Rows: F22, F56. `Debug` of a task says that it waits for a lock.
    async fn a_task_says_that_it_waits_for_a_lock(t) {
        let lock = Rc::new(Lock::named("accounts", 5));
        assert_eq!(format!("{lock:?}"), r#"Lock { name: "accounts", value: 5, waiting: 0 }"#);
        let guard = lock.lock().await;
        let theirs = lock.clone();
        let task = spawn(async move { drop(theirs.lock().await) });
        assert_eq!(task.any().waits_for().as_deref(), Some("a lock"));
        assert_eq!(format!("{lock:?}"), r#"Lock { name: "accounts", value: <locked>, waiting: 1 }"#);
        drop(guard);
        task.await.unwrap();
    }
}

behaviour! {
    /// Rows: F60, F64, X15, X19. Every primitive tells how many wait, in numbers and in words.
    async fn every_primitive_says_how_it_is(t) {
        let (lock, again) = (Rc::new(Lock::named("one", 1)), Rc::new(RLock::named("again", 2)));
        let (gate, event, barrier) = (Rc::new(Semaphore::new(1)), Rc::new(Event::new()), Rc::new(Barrier::new(3)));
        let (bounded, changed) = (Rc::new(BoundedSemaphore::new(1)), Rc::new(Condition::new()));
        let (line, pile, heap) = (Queue::bounded(1), LifoQueue::unbounded(), PriorityQueue::<u8, u8>::unbounded());
        let held = (lock.lock().await, gate.acquire().await, bounded.acquire().await);
        let others = Rc::new(Lock::new(()));
        line.try_put(0).unwrap();
        macro_rules! waits {
            ($($clone:ident),* => $wait:expr) => {{
                $(let $clone = $clone.clone();)*
                spawn(async move { $wait; })
            }};
        }
        let holder = {
            let again = again.clone();
            spawn(async move {
                let _held = again.lock().await;
                std::future::pending::<()>().await
            })
        };
        let tasks = [
            waits!(lock => drop(lock.lock().await)),
            waits!(again => drop(again.lock().await)),
            waits!(gate => drop(gate.acquire().await)),
            waits!(bounded => drop(bounded.acquire().await)),
            waits!(event => event.wait().await),
            waits!(barrier => barrier.wait().await.unwrap()),
            waits!(changed, others => drop(changed.wait(others.lock().await).await)),
            waits!(line => line.put(1).await.unwrap()),
            waits!(line => line.join().await),
            waits!(pile => pile.get().await.map(|_: u8| ()).unwrap()),
            waits!(heap => heap.get().await.map(|_| ()).unwrap()),
        ];
        let shown = [
            format!("{lock:?}"), format!("{again:?}"), format!("{gate:?}"), format!("{bounded:?}"), format!("{event:?}"),
            format!("{barrier:?}"), format!("{changed:?}"), format!("{line:?}"), format!("{pile:?}"), format!("{heap:?}"),
        ];
        assert_eq!(shown, [
            r#"Lock { name: "one", value: <locked>, waiting: 1 }"#,
            r#"RLock { name: "again", value: <locked>, waiting: 1 }"#,
            "Semaphore { available: 0, waiting: 1 }",
            "BoundedSemaphore { available: 0, bound: 1, waiting: 1 }",
            "Event { set: false, waiting: 1 }",
            "Barrier { parties: 3, waiting: 1, broken: false }",
            "Condition { waiting: 1 }",
            "Queue { len: 1, limit: Some(1), unfinished: 1, getting: 0, putting: 1, joining: 1, shut_down: false }",
            "LifoQueue { len: 0, limit: None, unfinished: 0, getting: 1, putting: 0, joining: 0, shut_down: false }",
            "PriorityQueue { len: 0, limit: None, unfinished: 0, getting: 1, putting: 0, joining: 0, shut_down: false }",
        ]);
        let statistics = || [
            lock.statistics(), again.statistics(), gate.statistics(), bounded.statistics(), event.statistics(),
            barrier.statistics(), changed.statistics(),
        ];
        assert!(statistics().iter().all(|one| (one.waiting, one.waited) == (1, 1)), "{:?}", statistics());
        for task in tasks.iter().chain([&holder]) {
            task.cancel();
        }
        for task in tasks.into_iter().chain([holder]) {
            assert!(task.await.unwrap_err().is_cancelled());
        }
        assert!(statistics().iter().all(|one| (one.waiting, one.waited) == (0, 1)), "{:?}", statistics());
        assert_eq!((line.statistics().putting, line.statistics().joining), (0, 0));
        assert_eq!((pile.statistics().getting, heap.statistics().getting), (0, 0));
        drop(held);
    }
}

behaviour! {
    /// Rows: F55. Two tasks name the same locks in opposite order.
    async fn several_locks_are_taken_in_one_order(t) {
        let locks = Rc::new([Lock::named("left", 0), Lock::named("right", 0)]);
        let tasks: Vec<_> = [(0, 1), (1, 0)].map(|(a, b)| {
            let locks = locks.clone();
            spawn(async move {
                for _ in 0..10 {
                    let mut both = lock_all((&locks[a], &locks[b])).await.unwrap();
                    let (a, b) = both.values();
                    *a += 1;
                    *b += 1;
                    yield_now().await;
                }
            })
        }).into();
        for task in tasks {
            task.await.unwrap();
        }
        let mut all = lock_all([&locks[0], &locks[1]]).await.unwrap();
        assert_eq!(all.values(), [&20, &20]);
        drop(all);
        assert!(!locks[0].is_locked() && !locks[1].is_locked());
    }
}

behaviour! {
    /// Rows: F55, F56. Against the order: refused by name, before anything is taken.
    async fn two_locks_in_opposite_order_are_refused(t) {
        let locks = Rc::new([Lock::named("first", ()), Lock::named("second", ())]);
        let [first, second] = &*locks;
        // The order in which they were named first.
        drop(lock_all((first, second)).await.unwrap());
        let later = lock_all((second,)).await.unwrap();
        let error = lock_all((first,)).await.unwrap_err();
        assert_eq!((error.held(), error.wanted()), ("second", "first"));
        assert!(!first.is_locked());
        // Another task has its own order.
        let theirs = locks.clone();
        spawn(async move { drop(lock_all((&theirs[0],)).await.unwrap()) }).await.unwrap();
        drop(later);
        let earlier = lock_all((first,)).await.unwrap();
        let later = lock_all(vec![second]).await.unwrap();
        drop((later, earlier));
        // Nothing is remembered of what was released.
        drop(lock_all((second, first)).await.unwrap());
    }
}

behaviour! {
    /// Rows: F55. The order is that in which the locks were named first, wherever they are in memory: so it is the same in every run.
    async fn the_order_of_locks_is_the_same_in_every_run(t) {
        let locks = Rc::new([Lock::new(()), Lock::new(()), Lock::new(()), Lock::new(())]);
        let [a, b, c, d] = &*locks;
        let held = b.lock().await;
        let theirs = locks.clone();
        let task = spawn(async move {
            let [a, b, c, d] = &*theirs;
            drop(lock_all((d, c, b, a)).await);
        });
        assert!(d.is_locked() && c.is_locked() && !a.is_locked());
        drop(held);
        task.await.unwrap();
        // In calls within each other as well.
        let earlier = lock_all((d,)).await.unwrap();
        drop(lock_all([a, c]).await.unwrap());
        drop(earlier);
        let later = lock_all((a,)).await.unwrap();
        assert!(lock_all((d,)).await.is_err());
        drop(later);
    }
}

behaviour! {
    /// Difference: F55. The recipe waits for itself when a lock is named twice, and fails for no lock while others are held.
    async fn one_lock_twice_and_no_lock_at_all(t) {
        let lock = Lock::named("it", 1);
        let error = lock_all((&lock, &lock)).await.unwrap_err();
        assert_eq!((error.held(), error.wanted()), ("it", "it"));
        let once = lock_all((&lock,)).await.unwrap();
        assert!(lock_all((&lock,)).await.is_err());
        let mut none = lock_all(Vec::<&Lock<u8>>::new()).await.unwrap();
        assert!(none.values().is_empty());
        drop(once);
        assert!(!lock.is_locked());
    }
}

behaviour! {
    /// Rows: F55. A cancelled call releases what it has taken.
    async fn a_cancelled_lock_all_releases_what_it_has(t) {
        let locks = Rc::new([Lock::new(0), Lock::new(0), Lock::new(0)]);
        let last = locks[2].lock().await;
        let theirs = locks.clone();
        let task = spawn(async move {
            let [a, b, c] = &*theirs;
            drop(lock_all((a, b, c)).await);
        });
        assert!(locks[0].is_locked() && locks[1].is_locked());
        task.cancel();
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(!locks[0].is_locked() && !locks[1].is_locked());
        assert_eq!(locks[2].statistics().waiting, 0);
        drop(last);
    }
}

behaviour! {
    /// Rows: F55. Several calls in one task, of which the last ones are given up whatever they have and were just handed.
    seeds async fn calls_that_are_given_up_within_a_task_lose_no_lock(t) {
        let locks = Rc::new([Lock::new(0), Lock::new(0), Lock::new(0), Lock::new(0)]);
        let tasks: Vec<_> = (0..6).map(|n| {
            let locks = locks.clone();
            spawn_lazy(async move {
                for round in 0..20 {
                    let [a, b, c, d] = &*locks;
                    let some = [vec![a, c], vec![b, d], vec![c, d], vec![a, b, c, d]];
                    let [first, second] = [n + round, n / 2 + 2 * round].map(|n| Box::pin(lock_all(some[n % 4].clone())));
                    let held = match futures::future::select(first, second).await {
                        futures::future::Either::Left((held, other))
                        | futures::future::Either::Right((held, other)) => {
                            drop(other);
                            held
                        }
                    };
                    // The other one may have had what comes later.
                    let Ok(mut held) = held else { continue };
                    held.values().into_iter().for_each(|value| *value += 1);
                    yield_now().await;
                }
            })
        }).collect();
        for task in tasks {
            task.await.unwrap();
        }
        for lock in &*locks {
            assert!(!lock.is_locked());
            assert_eq!(lock.statistics().waiting, 0);
        }
        // Nothing is remembered of what was held.
        assert!(lock_all((&locks[3], &locks[0])).await.is_ok());
    }
}

/// Rows: F56. Two tasks that take two locks in opposite orders by hand: the simulator says so.
#[test]
fn two_locks_in_opposite_order_by_hand_are_a_deadlock() {
    let deadlock = Sim::new()
        .try_run(async {
            let _quiet = Reports::of_current();
            let locks = Rc::new([Lock::new(()), Lock::new(())]);
            let tasks = [(0, 1), (1, 0)].map(|(a, b)| {
                let locks = locks.clone();
                spawn(async move {
                    let _a = locks[a].lock().await;
                    yield_now().await;
                    let _b = locks[b].lock().await;
                })
            });
            for task in tasks {
                task.await.unwrap();
            }
        })
        .unwrap_err();
    assert_eq!(
        deadlock.waiting().iter().filter(|line| line.ends_with("waits for a lock")).count(),
        2,
        "{deadlock}"
    );
}

/// Whether the build looks at the order in which locks are taken.
const WATCHED: bool = cfg!(debug_assertions);

/// Takes the locks one inside the other, and gives them back.
async fn nested(locks: &[&Lock<()>]) {
    if let [first, rest @ ..] = locks {
        let _first = first.lock().await;
        yield_now().await;
        Box::pin(nested(rest)).await;
    }
}

behaviour! {
    /// Rows: F56. No deadlock happened: the two orders were seen one after the other.
    async fn two_orders_of_locks_are_reported_when_both_have_been_seen(t) {
        let reports = Reports::of_current();
        let locks = Rc::new([Lock::named("left", ()), Lock::named("right", ())]);
        for (name, first, second) in [("there", 0, 1), ("again", 0, 1), ("back", 1, 0), ("back again", 1, 0)] {
            let locks = locks.clone();
            let task = Task::builder().name(name).spawn(async move {
                let _first = locks[first].lock().await;
                let _second = locks[second].lock().await;
            });
            task.await.unwrap();
        }
        let reported = reports.take();
        assert_eq!(reported.len(), usize::from(WATCHED), "{reported:?}");
        for message in reported {
            assert!(message.starts_with("potential deadlock"), "{message}");
            for part in ["back asked for \"left\" at ", "while it held \"right\", taken at ", "there asked for \"right\" at "] {
                assert!(message.contains(part), "{part} is not in {message}");
            }
            assert_eq!(message.matches(file!()).count(), 4, "{message}");
        }
    }
}

behaviour! {
    /// Rows: F56. Longer ways round count, and what a common outer lock keeps apart does not.
    async fn a_circle_of_orders_is_reported_unless_something_keeps_the_tasks_apart(t) {
        let reports = Reports::of_current();
        let names = ["a", "b", "c", "gate"];
        let [a, b, c, gate] = &names.map(|name| Lock::named(name, ()));
        nested(&[gate, a, b]).await;
        nested(&[gate, b, c]).await;
        nested(&[gate, c, a]).await;
        assert_eq!(reports.take(), [""; 0], "the gate lets one of them in at a time");
        nested(&[a, b]).await;
        assert_eq!(reports.take(), [""; 0], "the other two still pass the gate");
        nested(&[b, c]).await;
        let reported = reports.take();
        assert_eq!(reported.len(), usize::from(WATCHED), "{reported:?}");
        for message in reported {
            assert_eq!(message.matches("asked for \"").count(), 3, "{message}");
        }
        // What was known of a lock goes with it.
        let [a, b] = &["a", "b"].map(|name| Lock::named(name, ()));
        nested(&[b, a]).await;
        assert_eq!(reports.take(), [""; 0]);
    }
}

behaviour! {
    /// Rows: F56. What cannot wait, and what somebody else may release, says nothing of an order.
    async fn locks_that_are_tried_or_released_by_others_give_no_order(t) {
        let reports = Reports::of_current();
        let [a, b] = ["a", "b"].map(|name| Arc::new(Lock::named(name, ())));
        nested(&[&a, &b]).await;
        let outer = b.lock().await;
        drop(a.try_lock().unwrap());
        drop(outer);
        let outer = b.clone().lock_owned().await;
        nested(&[&a]).await;
        drop(outer);
        b.acquire().await;
        nested(&[&a]).await;
        b.release().unwrap();
        assert_eq!(reports.take(), [""; 0]);
        // One that was tried is held all the same; and a reentrant lock is part of it, but not in front of itself.
        let again = RLock::named("again", ());
        let outer = (again.lock().await, again.lock().await);
        nested(&[&b]).await;
        drop(outer);
        let outer = b.try_lock().unwrap();
        drop(again.lock().await);
        drop(outer);
        assert_eq!(reports.take().len(), usize::from(WATCHED));
        // One's own is taken again without a wait, whatever is held in between.
        let [again, other] = ["again", "other"].map(|name| RLock::named(name, ()));
        let outer = (again.lock().await, other.lock().await);
        drop((again.lock().await, again.lock().await));
        drop(outer);
        nested(&[&a, &b]).await;
        assert_eq!(reports.take(), [""; 0]);
        // It is held as before; the other way round is an order against it.
        drop((other.lock().await, again.lock().await));
        assert_eq!(reports.take().len(), usize::from(WATCHED));
        // Nor is it taken anew by who tries it again.
        let [again, other] = ["again", "other"].map(|name| RLock::named(name, ()));
        let (taken, outer) = (line!(), again.lock().await);
        drop(again.try_lock().unwrap());
        drop(other.lock().await);
        drop(outer);
        drop((other.lock().await, again.lock().await));
        let reported = reports.take();
        assert_eq!(reported.len(), usize::from(WATCHED));
        for message in reported {
            let place = format!("while it held \"again\", taken at {}:{taken}:", file!());
            assert!(message.contains(&place), "{place} is not in {message}");
        }
        // `lock_all` against an order by hand.
        let [c, d] = &["c", "d"].map(|name| Lock::named(name, ()));
        drop(lock_all((d, c)).await.unwrap());
        nested(&[c, d]).await;
        nested(&[d, c]).await;
        assert_eq!(reports.take().len(), usize::from(WATCHED));
    }
}

behaviour! {
    /// Rows: F54. Without guards; only the owner may release.
    async fn an_rlock_is_released_by_its_owner_as_often_as_it_was_taken(t) {
        let lock = Rc::new(RLock::named("again", ()));
        assert_eq!(lock.release(), Err(NotOwned));
        lock.acquire().await;
        lock.acquire().await;
        let theirs = lock.clone();
        spawn(async move { assert_eq!(theirs.release(), Err(NotOwned)) }).await.unwrap();
        lock.release().unwrap();
        assert!(lock.is_mine());
        lock.release().unwrap();
        assert!(!lock.is_locked());
        assert_eq!(lock.release(), Err(NotOwned));
        assert_eq!(format!("{lock:?}"), r#"RLock { name: "again", value: (), waiting: 0 }"#);
    }
}

/// Rows: F56. The circle of a real deadlock, from a seed that has one: who holds what, and who wants it.
#[test]
fn the_simulator_names_the_circle_of_a_deadlock() {
    let deadlock = |seed| {
        Sim::seeded(seed).try_run(async {
            let _quiet = Reports::of_current();
            let locks = Rc::new(["left", "middle", "right"].map(|name| Lock::named(name, ())));
            let tasks = [("one", 0, 1), ("two", 1, 2), ("three", 2, 0)].map(|(name, a, b)| {
                let locks = locks.clone();
                Task::builder().name(name).lazy().spawn(async move {
                    let _a = locks[a].lock().await;
                    yields(a as u64 % 2).await;
                    let _b = locks[b].lock().await;
                })
            });
            for task in tasks {
                task.await.unwrap();
            }
        })
    };
    let deadlocks: Vec<_> = (0..50).filter_map(|seed| deadlock(seed).err()).collect();
    assert!(!deadlocks.is_empty() && deadlocks.len() < 50, "the order decides: {}", deadlocks.len());
    for deadlock in deadlocks {
        if !WATCHED {
            assert!(deadlock.circle().is_empty());
            continue;
        }
        let circle = deadlock.circle();
        assert_eq!(circle.len(), 3, "{deadlock}");
        for (name, lock, holder) in
            [("one", "middle", "two"), ("two", "right", "three"), ("three", "left", "one")]
        {
            let found = circle.iter().any(|line| {
                line.starts_with(&format!("{name} waits for \"{lock}\" (asked for at {}", file!()))
                    && line.ends_with(&format!("which {holder} holds"))
            });
            assert!(found, "{name} waits for {lock}, which {holder} holds: {deadlock}");
        }
        assert!(deadlock.to_string().contains("in a circle:"));
    }
}

/// Rows: F56. The circle may go through a loop on another thread.
#[test]
fn the_circle_of_a_deadlock_may_go_through_another_loop() {
    let deadlock = Sim::new()
        .try_run(async {
            let _quiet = Reports::of_current();
            let locks = Arc::new([Lock::named("left", ()), Lock::named("right", ())]);
            let worker = EventLoop::spawn_thread("worker").unwrap();
            let theirs = locks.clone();
            let remote = worker.handle().submit(async move || {
                selkie::Task::builder().name("helper").spawn(std::future::pending::<()>()).detach();
                let _right = theirs[1].lock().await;
                sleep(Duration::from_secs(1)).await;
                let _left = theirs[0].lock().await;
            });
            let _left = locks[0].lock().await;
            sleep(Duration::from_secs(1)).await;
            let _right = locks[1].lock().await;
            remote.unwrap().await.unwrap();
        })
        .unwrap_err();
    assert_eq!(deadlock.circle().len(), if WATCHED { 2 } else { 0 }, "{deadlock}");
    // The tasks of the other loop as well: the one that was submitted, and its helper.
    let [here, there, helper] = deadlock.waiting() else { panic!("{deadlock}") };
    assert!(here.ends_with("waits for a lock") && there.ends_with("waits for a lock"), "{deadlock}");
    assert_eq!(helper, "helper waits for something outside of selkie");
}

/// Rows: F56. A task that holds a lock and awaits another one, which wants it.
#[test]
fn the_circle_of_a_deadlock_may_go_through_an_await() {
    let deadlock = Sim::new()
        .try_run(async {
            let lock = Rc::new(Lock::named("it", ()));
            let theirs = lock.clone();
            let _held = lock.lock().await;
            let child = Task::builder().name("child").spawn(async move { drop(theirs.lock().await) });
            child.await.unwrap();
        })
        .unwrap_err();
    let circle = deadlock.circle();
    if WATCHED {
        assert_eq!(circle.len(), 2, "{deadlock}");
        assert!(circle.iter().any(|line| line.ends_with(" waits for child")), "{deadlock}");
        assert!(circle.iter().any(|line| line.starts_with("child waits for \"it\"")), "{deadlock}");
    }
}

/// Rows: F56. To look at all of them for each would take minutes.
#[test]
fn the_report_of_a_deadlock_of_many_tasks_takes_no_time() {
    const COUNT: usize = if HOST_BLOCKS { 30_000 } else { 10_000 };
    async fn older_awaits_newer(count: usize) {
        match count {
            0 => std::future::pending().await,
            _ => {
                let newer: Pin<Box<dyn Future<Output = ()>>> = Box::pin(older_awaits_newer(count - 1));
                spawn_lazy(newer).await.unwrap();
            }
        }
    }
    async fn newer_awaits_older(count: usize) {
        let mut older = spawn_lazy(std::future::pending::<()>());
        for _ in 1..count {
            older = spawn_lazy(async move { older.await.unwrap() });
        }
        older.await.unwrap();
    }
    fn check(waits: impl Future<Output = ()> + 'static) {
        let deadlock = Sim::new().try_run(async {
            EventLoop::current().unwrap().set_exception_handler(Some(Rc::new(|_| {})));
            waits.await;
        });
        let deadlock = deadlock.unwrap_err();
        assert_eq!(deadlock.waiting().len(), COUNT + 1);
        assert!(deadlock.circle().is_empty());
        let awaiting = deadlock.waiting().iter().filter(|line| line.contains(" waits for Task-"));
        assert_eq!(awaiting.count(), COUNT, "all but the last");
    }
    check(older_awaits_newer(COUNT));
    check(newer_awaits_older(COUNT));
}

/// Rows: F56. All are taken in one order. To try all ways that lead through it would take minutes.
#[test]
fn many_locks_in_one_order_take_no_time_to_watch() {
    Sim::new().run(async {
        let reports = Reports::of_current();
        let dice = Dice::new().await;
        let locks: Vec<_> = (0..40).map(Lock::new).collect();
        for lock in &locks {
            drop(lock_all((lock,)).await.unwrap());
        }
        for _ in 0..300 {
            let some: Vec<_> = locks.iter().filter(|_| dice.roll(4) == 0).collect();
            drop(lock_all(some).await.unwrap());
        }
        assert_eq!(reports.take(), [""; 0]);
        // The other way round, with all that was seen.
        let (first, last) = (locks[39].lock().await, locks[0].lock().await);
        assert_eq!(reports.take().len(), usize::from(WATCHED));
        drop((first, last));
    });
}

/// Rows: F56. One of them leaves, or gets the lock: the other waits still.
#[test]
fn a_task_may_ask_for_a_lock_in_several_futures_at_once() {
    async fn one_leaves(lock: Rc<Lock<()>>) {
        let mut stays = Box::pin(lock.lock());
        assert!(futures::poll!(&mut stays).is_pending());
        assert!(futures::poll!(Box::pin(lock.lock())).is_pending());
        drop(stays.await);
    }
    async fn one_gets_it(lock: Rc<Lock<()>>) {
        drop(futures::future::join(lock.lock(), lock.lock()).await);
    }
    fn circle<F: Future<Output = ()> + 'static>(child: fn(Rc<Lock<()>>) -> F, is_kept: bool) -> Vec<String> {
        let deadlock = Sim::new().try_run(async move {
            let lock = Rc::new(Lock::named("it", ()));
            let held = lock.lock().await;
            let child = Task::builder().name("child").spawn(child(lock.clone()));
            let _kept = Some(held).filter(|_| is_kept);
            child.await.unwrap();
        });
        deadlock.unwrap_err().circle().to_vec()
    }
    let (first, second) = (circle(one_leaves, true), circle(one_gets_it, false));
    assert_eq!((first.len(), second.len()), if WATCHED { (2, 1) } else { (0, 0) }, "{first:?} {second:?}");
    assert!(second.iter().all(|line| line.ends_with("which it holds itself")), "{second:?}");
}

/// Threads that block share the primitives with each other, and with a loop.
#[cfg(any(not(all(target_family = "wasm", target_os = "unknown")), target_feature = "atomics"))]
mod threads {
    use super::*;
    #[allow(clippy::disallowed_types, reason = "tests of threads")]
    use crate::harness::{Instant, thread};

    on_threads! {
    /// Rows: F53, F54, F59.
    #[test]
    fn threads_and_tasks_share_locks_and_events() {
        static LOCK: Lock<u32> = Lock::new(0);
        static RLOCK: RLock<Cell<u32>> = RLock::new(Cell::new(0));
        static GO: Event = Event::new();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                thread::spawn(|| {
                    GO.wait_blocking(None).unwrap();
                    for _ in 0..500 {
                        *LOCK.lock_blocking(None).unwrap() += 1;
                        let once = RLOCK.lock_blocking(None).unwrap();
                        let twice = RLOCK.lock_blocking(None).unwrap();
                        twice.set(once.get() + 1);
                    }
                })
            })
            .collect();
        selkie::run(async {
            GO.set();
            for _ in 0..500 {
                *LOCK.lock().await += 1;
                let value = RLOCK.lock().await;
                value.set(value.get() + 1);
                yield_now().await;
            }
        });
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(*LOCK.try_lock().unwrap(), 2500);
        assert_eq!(RLOCK.try_lock().unwrap().get(), 2500);
    }

    /// Rows: F53, F59, X35.
    #[test]
    #[allow(clippy::disallowed_types, reason = "a test of threads, natively")]
    fn a_blocking_wait_gives_up_after_its_time() {
        let (lock, event, gate) = (Lock::new(()), Event::new(), Semaphore::new(0));
        let guard = lock.try_lock().unwrap();
        let short = Some(Duration::from_millis(5));
        let start = Instant::now();
        assert_eq!(lock.lock_blocking(short).unwrap_err(), WaitError::TimedOut);
        assert!(start.elapsed() >= Duration::from_millis(5));
        assert_eq!(event.wait_blocking(short), Err(WaitError::TimedOut));
        assert_eq!(gate.acquire_blocking(Some(Duration::ZERO)).unwrap_err(), WaitError::TimedOut);
        assert_eq!(lock.statistics().waiting, 0);
        drop(guard);
        drop(lock.lock_blocking(short).unwrap());
        gate.release(1);
        drop(gate.acquire_blocking(short).unwrap());
    }

    /// Rows: U10. Waiters of threads that time out, and tasks that are cancelled, race with the hand-over.
    #[test]
    fn a_storm_across_threads_loses_no_permit() {
        let gate = Arc::new(Semaphore::new(2));
        let threads: Vec<_> = (0..3)
            .map(|n| {
                let gate = gate.clone();
                thread::spawn(move || {
                    for round in 0..300u64 {
                        let time = Duration::from_micros((round * 7 + n) % 50);
                        drop(gate.acquire_blocking(Some(time)));
                    }
                })
            })
            .collect();
        let theirs = gate.clone();
        selkie::run(async move {
            for round in 0..100u64 {
                let tasks: Vec<_> = (0..10)
                    .map(|_| {
                        let gate = theirs.clone();
                        spawn(async move {
                            let _permit = gate.acquire().await;
                            yield_now().await;
                        })
                    })
                    .collect();
                for task in tasks.iter().skip((round % 3) as usize).step_by(2) {
                    task.cancel();
                }
                for task in tasks {
                    let _ = task.await;
                }
            }
            sleep(Duration::ZERO).await;
        });
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(gate.available(), 2);
        assert_eq!(gate.statistics().waiting, 0);
    }
    }
}

/// Rows: X21, U11. What crosses threads, and what must not, is part of the interface.
#[test]
fn shared_primitives_and_their_futures_cross_threads() {
    fn send<T: Send>(_: T) {}
    fn both<T: Send + Sync>(_: &T) {}
    let (lock, gate, event, barrier) =
        (Lock::new(0), Semaphore::new(1), Event::new(), selkie::Barrier::new(1));
    let (condition, rlock, queue) =
        (selkie::Condition::new(), RLock::new(Cell::new(0)), selkie::Queue::bounded(1));
    let _all = (
        both(&lock),
        both(&gate),
        both(&event),
        both(&barrier),
        both(&condition),
        both(&rlock),
        both(&queue),
    );
    send(lock.lock());
    send(lock.try_lock());
    send(async { drop(condition.wait(lock.lock().await).await) });
    send(gate.acquire());
    send(event.wait());
    send(barrier.wait());
    send(queue.put(0));
    send(queue.get());
    send(queue.join());
    send(queue.items());

    /// A type with the trait has `found` twice, so that the call below would not compile.
    trait UnlessSync<A> {
        fn found() {}
    }
    impl<T: ?Sized> UnlessSync<()> for T {}
    impl<T: ?Sized + Sync> UnlessSync<u8> for T {}
    trait UnlessSend<A> {
        fn found() {}
    }
    impl<T: ?Sized> UnlessSend<()> for T {}
    impl<T: ?Sized + Send> UnlessSend<u8> for T {}
    <local::Lock<u8> as UnlessSync<_>>::found();
    <local::Queue<u8> as UnlessSync<_>>::found();
    <local::Queue<u8> as UnlessSend<_>>::found();
    <selkie::RLockGuard<'static, u8> as UnlessSend<_>>::found();
    // Nor what stands in for one: futures of an executor would enter together, as they share threads.
    fn stays<A, F: UnlessSend<A>>(_: &F) {}
    stays(&RLock::new(()).acquire());
    <Lock<Cell<u8>> as UnlessSync<u8>>::found();
    <Lock<Rc<u8>> as UnlessSync<_>>::found();
    <selkie::Queue<Rc<u8>> as UnlessSend<_>>::found();
}
