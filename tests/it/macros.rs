//! `#[selkie::test]`, as a user writes it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use selkie::{current_task, sleep, spawn};

#[selkie::test]
async fn a_test_runs_on_a_loop_of_the_host() {
    sleep(Duration::from_millis(1)).await;
    assert!(current_task().is_some());
}

#[selkie::test]
async fn a_test_may_return_a_result() -> Result<(), selkie::JoinError> {
    spawn(async {}).await
}

#[selkie::test(sim)]
async fn a_test_on_the_simulator_takes_no_time() {
    sleep(Duration::from_secs(24 * 3600)).await;
}

#[selkie::test(sim, seeds = 20)]
async fn a_test_runs_with_every_seed() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    RUNS.fetch_add(1, Ordering::Relaxed);
    let first = spawn(selkie::yield_now());
    let second = spawn(selkie::yield_now());
    second.await.unwrap();
    first.await.unwrap();
    assert!(RUNS.load(Ordering::Relaxed) <= 20);
}

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
#[selkie::test]
#[should_panic(expected = "the task was cancelled: enough")]
async fn a_test_that_is_cancelled_fails_and_nothing_else_does() {
    current_task().unwrap().cancel_with("enough");
    std::future::pending::<()>().await;
}

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
#[selkie::test(sim)]
#[should_panic(expected = "waits for")]
async fn a_deadlock_names_who_waits() {
    std::future::pending::<()>().await;
}
