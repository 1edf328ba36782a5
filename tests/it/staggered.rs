//! `staggered_race`: runners that start one after another.

use std::time::Duration;

use futures::future::select;
use selkie::{TaskError, catch_cancel, sleep, spawn, staggered_race, timeout};

type T = crate::harness::T;

/// A runner: logs its start, and after `seconds` succeeds or fails.
async fn run(t: T, index: usize, seconds: f64, succeeds: bool) -> Result<usize, String> {
    t.log(format!("{index} starts"));
    sleep(t.secs(seconds)).await;
    if succeeds { Ok(index * 10) } else { Err(format!("{index} failed")) }
}

/// Runners from their lengths and outcomes.
fn runners<const N: usize>(t: &T, list: [(f64, bool); N]) -> Vec<impl FnOnce() -> Run + use<N>> {
    let runner = |(index, (seconds, succeeds))| {
        let t = t.clone();
        move || Box::pin(run(t, index, seconds, succeeds)) as Run
    };
    list.into_iter().enumerate().map(runner).collect()
}

type Run = std::pin::Pin<Box<dyn Future<Output = Result<usize, String>>>>;

behaviour! {
    /// Rows: X33.
    async fn the_next_starts_after_the_delay_and_the_first_success_wins(t) {
        let start = t.now();
        let race = staggered_race(runners(&t, [(100.0, true), (3.0, true), (100.0, true)]), t.secs(2.0)).await;
        t.assert_elapsed(start, 5.0);
        assert_eq!(race.winner, Some((1, 10)));
        assert_eq!(race.errors.len(), 3);
        assert!(matches!(&race.errors[0], Some(TaskError::Join(error)) if error.is_cancelled()));
        assert!(race.errors[1].is_none());
        assert!(matches!(&race.errors[2], Some(TaskError::Join(error)) if error.is_cancelled()));
    } => ["0 starts", "1 starts", "2 starts"]
}

behaviour! {
    /// Rows: X33.
    async fn a_failure_starts_the_next_at_once(t) {
        let start = t.now();
        let race = staggered_race(runners(&t, [(1.0, false), (0.0, false), (1.0, true)]), Duration::MAX).await;
        t.assert_elapsed(start, 2.0);
        assert_eq!(race.winner, Some((2, 20)));
        assert!(matches!(&race.errors[0], Some(TaskError::Failed(error)) if error == "0 failed"));
        assert!(matches!(&race.errors[1], Some(TaskError::Failed(error)) if error == "1 failed"));
        assert!(race.errors[2].is_none());
    } => ["0 starts", "1 starts", "2 starts"]
}

behaviour! {
    /// Rows: X33.
    async fn only_a_failure_of_the_last_one_started_starts_the_next(t) {
        let start = t.now();
        // 0 fails while 1 runs: 2 still waits for its delay.
        let race = staggered_race(runners(&t, [(3.0, false), (100.0, false), (1.0, true)]), t.secs(2.0)).await;
        t.assert_elapsed(start, 5.0);
        assert_eq!(race.winner, Some((2, 20)));
    } => ["0 starts", "1 starts", "2 starts"]
}

behaviour! {
    /// Rows: X33.
    async fn without_a_success_all_errors_come_back(t) {
        let race = staggered_race(runners(&t, [(1.0, false), (5.0, false)]), t.secs(0.5)).await;
        assert_eq!(race.winner, None);
        assert!(race.errors.iter().all(|error| matches!(error, Some(TaskError::Failed(_)))));
        let empty: [fn() -> Run; 0] = [];
        let race = staggered_race(empty, t.secs(1.0)).await;
        assert!(race.winner.is_none() && race.errors.is_empty());
    } => ["0 starts", "1 starts"]
}

behaviour! {
    /// Rows: X33.
    async fn those_not_started_have_no_entry(t) {
        let race = staggered_race(runners(&t, [(0.0, true), (0.0, true)]), Duration::MAX).await;
        assert_eq!(race.winner, Some((0, 0)));
        assert_eq!(race.errors.len(), 1);
    } => ["0 starts"]
}

behaviour! {
    /// Rows: X33, X09.
    async fn the_losers_are_waited_for(t) {
        let loser = t.clone();
        let race: [Box<dyn FnOnce() -> Run>; 2] = [
            Box::new(move || {
                Box::pin(async move {
                    let cancelled = catch_cancel(sleep(loser.secs(100.0))).await.unwrap_err();
                    sleep(loser.secs(1.0)).await;
                    loser.log("loser cleaned up");
                    cancelled.resume().await;
                    unreachable!()
                })
            }),
            Box::new(|| Box::pin(async { Ok(1) })),
        ];
        assert_eq!(staggered_race(race, t.secs(1.0)).await.winner, Some((1, 1)));
        t.log("race over");
    } => ["loser cleaned up", "race over"]
}

behaviour! {
    /// Rows: X33, X05.
    async fn a_cancel_from_outside_ends_all_runners_first(t) {
        let inner = t.clone();
        let race = spawn(async move {
            let runner = inner.clone();
            let polite = move || async move {
                let cancelled = catch_cancel(sleep(runner.secs(100.0))).await.unwrap_err();
                sleep(runner.secs(1.0)).await;
                runner.log("runner ended");
                cancelled.resume().await;
                Ok::<(), ()>(())
            };
            staggered_race([polite], Duration::MAX).await.winner
        });
        race.cancel();
        assert!(race.await.unwrap_err().is_cancelled());
        t.log("race ended");
    } => ["runner ended", "race ended"]
}

behaviour! {
    /// Rows: X33, X05.
    async fn a_cancel_that_a_race_waits_with_is_not_lost_when_the_race_is_dropped(t) {
        let inner = t.clone();
        let task = spawn(async move {
            let stubborn = inner.clone();
            let runner = move || async move {
                let caught = catch_cancel(sleep(stubborn.secs(100.0))).await;
                stubborn.log(format!("asked to end: {}", caught.is_err()));
                sleep(stubborn.secs(100.0)).await;
                Ok::<_, String>(())
            };
            let race = Box::pin(staggered_race([runner], Duration::MAX));
            drop(select(race, sleep(inner.secs(2.0))).await);
            inner.log("the other was first");
            sleep(inner.secs(1.0)).await;
            inner.log("never");
        });
        sleep(t.secs(1.0)).await;
        task.cancel();
        assert!(task.await.unwrap_err().is_cancelled());
    } => ["asked to end: true", "the other was first"]
}

behaviour! {
    /// Rows: X33.
    seeds async fn a_race_has_at_most_one_winner(t) {
        let race = staggered_race(runners(&t, [(2.0, true), (1.0, true), (0.0, true)]), t.secs(1.0)).await;
        let (index, value) = race.winner.expect("all would succeed");
        assert_eq!(value, index * 10);
        assert!(race.errors[index].is_none());
    }
}

behaviour! {
    /// Rows: X33. To look through all for each one that ends would take half a minute.
    async fn a_race_of_many_that_fail_takes_no_time(t) {
        let count = if crate::harness::HOST_BLOCKS { 60_000 } else { 10_000 };
        let race = staggered_race((0..count).map(|n| move || async move { Err::<(), _>(n) }), Duration::MAX);
        let race = race.await;
        assert!(race.winner.is_none() && race.errors.len() == count);
        assert!(matches!(race.errors[count - 1], Some(TaskError::Failed(last)) if last == count - 1));
    }
}

#[cfg(panic = "unwind")]
behaviour! {
    /// Rows: X33.
    async fn a_panic_counts_as_a_failure(t) {
        let race: [Box<dyn FnOnce() -> Run>; 2] = [
            Box::new(|| Box::pin(async { panic!("stumbled") })),
            Box::new(|| Box::pin(async { Ok(1) })),
        ];
        let race = staggered_race(race, Duration::MAX).await;
        assert_eq!(race.winner, Some((1, 1)));
        assert!(matches!(&race.errors[0], Some(TaskError::Join(error)) if error.is_panic()));
    }
}

#[cfg(panic = "unwind")]
behaviour! {
    /// Rows: X33.
    async fn a_panic_before_there_is_a_future_counts_as_well(t) {
        let race: [Box<dyn FnOnce() -> Run>; 2] = [
            Box::new(|| panic!("stumbled at the start (expected by a test)")),
            Box::new(|| Box::pin(async { Ok(1) })),
        ];
        let race = staggered_race(race, Duration::MAX).await;
        assert_eq!(race.winner, Some((1, 1)));
        assert!(matches!(&race.errors[0], Some(TaskError::Join(error)) if error.is_panic()));
    }
}

behaviour! {
    /// Rows: X33, X01. They were asked when the race was won, and what is asked twice has what it does to end cut short.
    async fn a_race_that_is_dropped_while_it_waits_asks_nobody_a_second_time(t) {
        let runner = |n: u32| {
            let t = t.clone();
            move || async move {
                if n == 0 {
                    let Err(cancelled) = catch_cancel(std::future::pending::<()>()).await else { unreachable!() };
                    t.log("asked");
                    sleep(t.secs(1.0)).await;
                    t.log("clean");
                    cancelled.resume().await;
                }
                Ok::<_, ()>(n)
            }
        };
        let race = staggered_race([runner(0), runner(1)], Duration::ZERO);
        assert!(timeout(t.secs(0.5), race).await.is_err());
        sleep(t.secs(1.0)).await;
    } => ["asked", "clean"]
}
