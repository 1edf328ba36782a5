//! W8: one future that waits for many.
//!
//! Every child waits at a gate of its own. When all wait, the gates are opened in an order that is no order, and the
//! parent collects the results: all together, or one by one as they come. The time is that of the whole: to start the
//! children, to open the gates, and to collect. What one by one costs more as there are more of them shows in the sweep.

use std::{
    cell::Cell,
    future::{Future, IntoFuture, poll_fn},
    hint::black_box,
    rc::Rc,
    task::{Poll, Waker},
    time::Instant,
};

use futures::StreamExt;

use crate::{
    effort::Effort,
    subject::{Selkie, Subject, TokioLocal, TokioSet, yield_once},
};

#[derive(Default)]
struct Gate {
    is_open: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

#[derive(Clone)]
struct Gates {
    all: Rc<[Gate]>,
    /// Children that wait.
    waiting: Rc<Cell<usize>>,
}

impl Gates {
    fn new(n: usize) -> Self {
        Self { all: (0..n).map(|_| Gate::default()).collect(), waiting: Rc::default() }
    }

    fn close(&self) {
        for gate in &*self.all {
            gate.is_open.set(false);
        }
        self.waiting.set(0);
    }

    /// Waits until the gate is opened. The same for all: of nothing but the standard library.
    fn child(&self, index: usize) -> impl Future<Output = usize> + 'static {
        let gates = self.clone();
        poll_fn(move |cx| {
            let gate = &gates.all[index];
            if gate.is_open.get() {
                return Poll::Ready(index);
            }
            if gate.waker.replace(Some(cx.waker().clone())).is_none() {
                gates.waiting.set(gates.waiting.get() + 1);
            }
            Poll::Pending
        })
    }

    /// Opens all gates when every child waits.
    async fn open(self, order: Rc<[usize]>) {
        while self.waiting.get() < order.len() {
            yield_once().await;
        }
        for &index in &*order {
            let gate = &self.all[index];
            gate.is_open.set(true);
            gate.waker.take().expect("the child waits").wake();
        }
    }
}

/// Every index once, in no order, the same for every subject.
fn shuffled(n: usize) -> Rc<[usize]> {
    let mut order: Vec<_> = (0..n).collect();
    order.sort_by_key(|&index| (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32));
    order.into()
}

/// Runs `collect` for the children of each batch; nanoseconds per child.
fn measure<S: Subject>(
    n: usize,
    effort: Effort,
    mut collect: impl AsyncFnMut(&S::Spawner, &Gates, &dyn Fn()) -> usize + 'static,
) -> f64 {
    S::run(move |spawner| async move {
        let (gates, order) = (Gates::new(n), shuffled(n));
        let mut batches = 0;
        let mut start = Instant::now();
        loop {
            gates.close();
            let opener = Cell::new(None);
            let all = collect(&spawner, &gates, &|| {
                opener.set(Some(S::spawn(&spawner, gates.clone().open(order.clone()))));
            })
            .await;
            assert_eq!(all, n);
            black_box(opener.take().expect("the gates were opened").into_future().await);
            let elapsed = start.elapsed();
            if batches > 0 && effort.is_spent(elapsed, batches) {
                return elapsed.as_nanos() as f64 / (n * batches) as f64;
            }
            if batches == 0 {
                // The first one warmed up.
                start = Instant::now();
            }
            batches += 1;
        }
    })
}

/// Tasks, by their handles in the order of their start.
pub fn join_in_order<S: Subject>(n: usize, effort: Effort) -> f64 {
    measure::<S>(n, effort, async move |spawner, gates, open| {
        let tasks: Vec<_> = (0..n).map(|index| S::spawn(spawner, gates.child(index))).collect();
        open();
        let mut count = 0;
        for task in tasks {
            black_box(task.into_future().await);
            count += 1;
        }
        count
    })
}

/// selkie's `gather` of tasks.
pub fn join_gather(n: usize, effort: Effort) -> f64 {
    measure::<Selkie>(n, effort, async move |(), gates, open| {
        let tasks: Vec<_> = (0..n).map(|index| selkie::spawn(gates.child(index))).collect();
        open();
        black_box(selkie::gather(tasks).await).len()
    })
}

/// futures' `join_all`, of futures that are no tasks.
pub fn join_futures(n: usize, effort: Effort) -> f64 {
    measure::<TokioLocal>(n, effort, async move |(), gates, open| {
        open();
        black_box(futures::future::join_all((0..n).map(|index| gates.child(index))).await).len()
    })
}

/// futures-buffered's `join_all`, of futures that are no tasks.
pub fn join_buffered(n: usize, effort: Effort) -> f64 {
    measure::<TokioLocal>(n, effort, async move |(), gates, open| {
        open();
        black_box(futures_buffered::join_all((0..n).map(|index| gates.child(index))).await).len()
    })
}

/// selkie's `TaskSet`.
pub fn first_set(n: usize, effort: Effort) -> f64 {
    measure::<Selkie>(n, effort, async move |(), gates, open| {
        let mut set: selkie::TaskSet<_> = (0..n).map(|index| selkie::spawn(gates.child(index))).collect();
        open();
        let mut count = 0;
        while let Some(task) = set.next_done().await {
            black_box(task.await).expect("nothing cancels it");
            count += 1;
        }
        count
    })
}

/// selkie's `wait` for the first that ends, again and again.
pub fn first_wait(n: usize, effort: Effort) -> f64 {
    measure::<Selkie>(n, effort, async move |(), gates, open| {
        let mut set: selkie::TaskSet<_> = (0..n).map(|index| selkie::spawn(gates.child(index))).collect();
        open();
        let mut count = 0;
        while !set.is_empty() {
            for task in selkie::wait(&mut set, selkie::Until::FirstCompleted).await {
                black_box(task.await).expect("nothing cancels it");
                count += 1;
            }
        }
        count
    })
}

/// tokio's `JoinSet`.
fn join_set<S: Subject>(n: usize, effort: Effort) -> f64 {
    measure::<S>(n, effort, async move |_, gates, open| {
        let mut set = tokio::task::JoinSet::new();
        for index in 0..n {
            set.spawn_local(gates.child(index));
        }
        open();
        let mut count = 0;
        while let Some(result) = set.join_next().await {
            black_box(result).expect("nothing cancels it");
            count += 1;
        }
        count
    })
}

pub fn first_join_set(n: usize, effort: Effort) -> f64 {
    join_set::<TokioSet>(n, effort)
}

pub fn first_join_set_local(n: usize, effort: Effort) -> f64 {
    join_set::<TokioLocal>(n, effort)
}

/// The handles of tasks in futures' `FuturesUnordered`.
pub fn first_handles<S: Subject>(n: usize, effort: Effort) -> f64 {
    measure::<S>(n, effort, async move |spawner, gates, open| {
        let mut set: futures::stream::FuturesUnordered<_> =
            (0..n).map(|index| S::spawn(spawner, gates.child(index)).into_future()).collect();
        open();
        let mut count = 0;
        while let Some(result) = set.next().await {
            black_box(result);
            count += 1;
        }
        count
    })
}

/// futures' `FuturesUnordered`, of futures that are no tasks.
pub fn first_futures(n: usize, effort: Effort) -> f64 {
    measure::<TokioLocal>(n, effort, async move |(), gates, open| {
        let mut set: futures::stream::FuturesUnordered<_> = (0..n).map(|index| gates.child(index)).collect();
        open();
        let mut count = 0;
        while let Some(result) = set.next().await {
            black_box(result);
            count += 1;
        }
        count
    })
}

/// futures-buffered's `FuturesUnordered`, of futures that are no tasks.
pub fn first_buffered(n: usize, effort: Effort) -> f64 {
    measure::<TokioLocal>(n, effort, async move |(), gates, open| {
        let mut set: futures_buffered::FuturesUnordered<_> = (0..n).map(|index| gates.child(index)).collect();
        open();
        let mut count = 0;
        while let Some(result) = set.next().await {
            black_box(result);
            count += 1;
        }
        count
    })
}
