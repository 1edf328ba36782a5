//! W1, W2, W3: spawning, joining, switching.

use std::{
    cell::Cell,
    future::IntoFuture,
    hint::black_box,
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{
    effort::Effort,
    subject::{Subject, yield_once},
};

/// Runs batches until `effort` is spent, one before that to warm up; nanoseconds per operation.
async fn batches(n: usize, effort: Effort, mut batch: impl AsyncFnMut()) -> f64 {
    batch().await;
    let start = Instant::now();
    let mut batches = 0;
    loop {
        batch().await;
        batches += 1;
        let elapsed = start.elapsed();
        if effort.is_spent(elapsed, batches) {
            return elapsed.as_nanos() as f64 / (n * batches) as f64;
        }
    }
}

/// W1: spawn `n` tasks that are ready at once, then wait for each.
pub fn ready<S: Subject>(n: usize, effort: Effort) -> f64 {
    S::run(move |spawner| async move {
        let mut tasks = Vec::with_capacity(n);
        batches(n, effort, async || {
            for index in 0..n {
                tasks.push(S::spawn(&spawner, async move { black_box(index) }));
            }
            for task in tasks.drain(..) {
                black_box(task.into_future().await);
            }
        })
        .await
    })
}

/// W2: spawn `n` tasks that yield once, then wait for each.
pub fn yielding<S: Subject>(n: usize, effort: Effort) -> f64 {
    S::run(move |spawner| async move {
        let mut tasks = Vec::with_capacity(n);
        batches(n, effort, async || {
            for index in 0..n {
                tasks.push(S::spawn(&spawner, async move {
                    yield_once().await;
                    black_box(index)
                }));
            }
            for task in tasks.drain(..) {
                black_box(task.into_future().await);
            }
        })
        .await
    })
}

/// W3: `n` tasks yield in turn; the time from when all have started to the last yield.
pub fn switch<S: Subject>(n: usize, effort: Effort) -> f64 {
    // At least ten, so that the first round counts little.
    let yields = effort.rounds(Duration::from_nanos(40 * n as u64)).max(10);
    S::run(move |spawner| async move {
        let started = Rc::new(Cell::new(0));
        let ended = Rc::new(Cell::new(0));
        let start = Rc::new(Cell::new(None));
        let total = Rc::new(Cell::new(0.0));
        let mut tasks = Vec::with_capacity(n);
        for _ in 0..n {
            let (started, ended) = (started.clone(), ended.clone());
            let (start, total) = (start.clone(), total.clone());
            tasks.push(S::spawn(&spawner, async move {
                yield_once().await;
                started.set(started.get() + 1);
                if started.get() == n {
                    start.set(Some(Instant::now()));
                }
                for _ in 0..yields {
                    yield_once().await;
                }
                ended.set(ended.get() + 1);
                if ended.get() == n {
                    let start: Instant = start.get().expect("all have started");
                    total.set(start.elapsed().as_nanos() as f64);
                }
            }));
        }
        for task in tasks {
            black_box(task.into_future().await);
        }
        total.get() / (n * yields) as f64
    })
}
