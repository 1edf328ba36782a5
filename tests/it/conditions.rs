//! Conditions: notifications, the lock around them, cancels.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use selkie::{Condition, Lock, Task, WaitError, spawn, testing::Sim, yield_now};

use crate::{
    harness::test,
    locks::{Dice, yields},
};

type Shared = Rc<(Lock<u32>, Condition)>;

fn shared() -> Shared {
    Rc::new((Lock::new(0), Condition::new()))
}

/// Waits once and logs what it sees.
fn waiter(t: &crate::harness::T, shared: &Shared, name: impl ToString) -> Task<()> {
    let (t, shared, name) = (t.clone(), shared.clone(), name.to_string());
    spawn(async move {
        let (lock, changed) = &*shared;
        let guard = changed.wait(lock.lock().await).await;
        t.log(format!("{name} sees {}", *guard));
        yield_now().await;
        t.log(format!("{name} leaves"));
    })
}

behaviour! {
    /// Rows: F60. The woken go on only when the notifier has released, one after the other.
    async fn notified_waiters_go_on_one_after_the_other_with_the_lock(t) {
        let shared = shared();
        let (lock, changed) = &*shared;
        let tasks: Vec<_> = (0..3).map(|n| waiter(&t, &shared, n)).collect();
        assert_eq!(changed.statistics().waiting, 3);
        assert!(!lock.is_locked(), "a wait has released the lock");
        let mut guard = lock.lock().await;
        *guard = 7;
        changed.notify(2);
        assert_eq!(changed.statistics().waiting, 1);
        yield_now().await;
        t.log("notifier releases");
        drop(guard);
        let [first, second, third] = tasks.try_into().unwrap();
        first.await.unwrap();
        second.await.unwrap();
        changed.notify_all();
        third.await.unwrap();
    } => [
        "notifier releases", "0 sees 7", "0 leaves", "1 sees 7", "1 leaves", "2 sees 7", "2 leaves",
    ]
}

behaviour! {
    /// Rows: F60. The last predicate value is always true: the wait goes on until it is.
    async fn wait_for_asks_the_predicate_at_once_and_after_each_notification(t) {
        let shared = shared();
        let (inner, theirs) = (t.clone(), shared.clone());
        let seeker = spawn(async move {
            let (lock, changed) = &*theirs;
            let guard = changed.wait_for(lock.lock().await, |value| {
                inner.log(format!("is it {value}?"));
                *value == 2
            }).await;
            assert_eq!(*guard, 2);
        });
        let (lock, changed) = &*shared;
        for value in [1, 2] {
            *lock.lock().await = value;
            changed.notify_all();
            yields(2).await;
        }
        seeker.await.unwrap();
        let _at_once = changed.wait_for(lock.lock().await, |value| *value == 2).await;
    } => ["is it 0?", "is it 1?", "is it 2?"]
}

/// Rows: F61. Hide and seek in the wrong order: who waits after the notification waits for ever.
#[test]
fn a_notification_that_nobody_waits_for_is_lost() {
    let deadlock = Sim::new()
        .try_run(async {
            let (lock, changed) = (Lock::new(()), Condition::new());
            changed.notify(1);
            changed.notify_all();
            let _never = changed.wait(lock.lock().await).await;
        })
        .unwrap_err();
    assert!(deadlock.waiting()[0].ends_with("waits for a condition"), "{deadlock}");
}

behaviour! {
    /// Difference: F60. Waiting without the lock does not compile, as a wait takes the guard; notifying without it is allowed.
    async fn the_lock_is_released_in_one_step_with_the_wait(t) {
        let shared = shared();
        let (lock, changed) = &*shared;
        let guard = lock.lock().await;
        let mut wait = Box::pin(changed.wait(guard));
        assert!(lock.is_locked(), "nothing happens before the first poll");
        std::future::poll_fn(|cx| {
            assert!(wait.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        }).await;
        assert!(!lock.is_locked());
        changed.notify(1);
        drop(wait.await);
    }
}

behaviour! {
    /// Difference: X20. A cancelled wait has given its guard away, so there is no lock to take again, and none is held.
    async fn a_cancelled_wait_has_released_the_lock(t) {
        let shared = shared();
        let (lock, changed) = &*shared;
        let task = waiter(&t, &shared, "cancelled");
        let mut guard = lock.lock().await;
        task.cancel();
        assert!(task.await.unwrap_err().is_cancelled());
        *guard = 1;
        drop(guard);
        assert!(!lock.is_locked());
        assert_eq!(changed.statistics().waiting, 0);
    } => []
}

behaviour! {
    /// Rows: X20, U10. Notified, and cancelled before its turn: another gets the notification.
    async fn a_notified_waiter_that_is_cancelled_passes_it_on(t) {
        let shared = shared();
        let (lock, changed) = &*shared;
        let [first, second] = ["first", "second"].map(|name| waiter(&t, &shared, name));
        changed.notify(1);
        first.cancel();
        second.await.unwrap();
        assert!(first.await.unwrap_err().is_cancelled());
        // And while it waits for the lock.
        let [third, fourth] = ["third", "fourth"].map(|name| waiter(&t, &shared, name));
        let guard = lock.lock().await;
        changed.notify(1);
        yields(3).await;
        assert_eq!(lock.statistics().waiting, 1);
        third.cancel();
        yields(3).await;
        drop(guard);
        fourth.await.unwrap();
        assert!(third.await.unwrap_err().is_cancelled());
        assert!(!lock.is_locked());
    } => ["second sees 0", "second leaves", "fourth sees 0", "fourth leaves"]
}

behaviour! {
    /// Rows: X20, U10. As many units go out as came in, whoever is cancelled.
    storm async fn a_storm_of_cancels_loses_no_notification(t) {
        let dice = Dice::new().await;
        let shared = shared();
        let taken = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (0..40).map(|_| {
            let (shared, taken) = (shared.clone(), taken.clone());
            let start = dice.roll(4);
            spawn(async move {
                yields(start).await;
                let (lock, changed) = &*shared;
                let mut units = changed.wait_for(lock.lock().await, |units| *units > 0).await;
                *units -= 1;
                taken.set(taken.get() + 1);
            })
        }).collect();
        let (lock, changed) = &*shared;
        let mut given = 0;
        for _ in 0..20 {
            tasks[dice.roll(40) as usize].cancel();
            yields(dice.roll(3)).await;
            *lock.lock().await += 1;
            given += 1;
            changed.notify(1);
        }
        // All notifications that can be used are used, without one more.
        yields(200).await;
        let left = *lock.lock().await;
        assert_eq!(taken.get() + left, given);
        assert!(left == 0 || changed.statistics().waiting == 0, "{left} units, but {:?}", changed.statistics());
        for task in &tasks {
            task.cancel();
        }
        for task in tasks {
            let _ = task.await;
        }
        assert_eq!(changed.statistics().waiting, 0);
        assert!(!lock.is_locked());
    }
}

behaviour! {
    /// Rows: F60. Inside a task nothing blocks; the guard comes back.
    async fn a_blocking_wait_in_a_task_is_refused_with_the_guard(t) {
        let (lock, changed) = (Lock::new(3), Condition::new());
        let (guard, result) = changed.wait_blocking(lock.lock().await, None);
        assert_eq!(result, Err(WaitError::WouldBlock));
        assert_eq!(*guard, 3);
    }
}

#[cfg(any(not(all(target_family = "wasm", target_os = "unknown")), target_feature = "atomics"))]
on_threads! {
/// Rows: F60, F61.
#[test]
fn threads_wait_for_conditions_with_and_without_a_limit() {
    let shared = Arc::new((Lock::new(false), Condition::new()));
    let (lock, changed) = &*shared;
    let guard = lock.lock_blocking(None).unwrap();
    let (guard, result) = changed.wait_blocking(guard, Some(Duration::from_millis(5)));
    assert_eq!(result, Err(WaitError::TimedOut));
    let theirs = shared.clone();
    let thread = crate::harness::thread::spawn(move || {
        let (lock, changed) = &*theirs;
        *lock.lock_blocking(None).unwrap() = true;
        changed.notify(1);
    });
    let mut guard = guard;
    while !*guard {
        let result;
        (guard, result) = changed.wait_blocking(guard, None);
        result.unwrap();
    }
    drop(guard);
    thread.join().unwrap();
    assert_eq!(changed.statistics().waiting, 0);
}
}
