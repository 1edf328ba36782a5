//! W5: timers.

use std::{
    future::{Future, IntoFuture, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use futures::task::AtomicWaker;

use crate::{
    clock::{cpu_time, resident_bytes},
    effort::Effort,
    subject::Timers,
};

/// Deadlines in no order, the same for every subject.
fn spread(index: usize, over: Duration) -> Duration {
    let random = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    Duration::from_nanos(((over.as_nanos() as u64 >> 10) * random) >> 22)
}

/// Futures that were polled once each and stay where they are.
struct Pinned<F>(Vec<F>);

impl<F: Future> Pinned<F> {
    fn with_capacity(n: usize) -> Self {
        Self(Vec::with_capacity(n))
    }

    #[inline]
    fn poll_new(&mut self, future: F, cx: &mut Context<'_>) -> Poll<F::Output> {
        assert!(self.0.len() < self.0.capacity());
        self.0.push(future);
        let last = self.0.last_mut().expect("pushed right here");
        // SAFETY: the vector never grows beyond its capacity, so the future stays where it is until it is dropped.
        unsafe { Pin::new_unchecked(last) }.poll(cx)
    }
}

const FAR: Duration = Duration::from_secs(3600);

/// Inserts and cancels `n` sleeps, once or more to warm up; how long each took the last time.
async fn insert_and_cancel<S: Timers>(n: usize, effort: Effort) -> (Duration, Duration) {
    let mut sleeps = Pinned::with_capacity(n);
    let mut times = (Duration::ZERO, Duration::ZERO);
    for _ in 0..=effort.rounds(Duration::MAX).max(1) {
        let start = Instant::now();
        poll_fn(|cx| {
            for index in 0..n {
                let polled = sleeps.poll_new(S::sleep(FAR + spread(index, FAR)), cx);
                assert!(polled.is_pending());
            }
            Poll::Ready(())
        })
        .await;
        let inserted = start.elapsed();
        let start = Instant::now();
        sleeps.0.clear();
        times = (inserted, start.elapsed());
    }
    times
}

/// `n` sleeps are made and polled once; nanoseconds each.
pub fn insert<S: Timers>(n: usize, effort: Effort) -> f64 {
    S::run(move |_| async move { insert_and_cancel::<S>(n, effort).await.0.as_nanos() as f64 / n as f64 })
}

/// `n` pending sleeps are dropped; nanoseconds each.
pub fn cancel<S: Timers>(n: usize, effort: Effort) -> f64 {
    S::run(move |_| async move { insert_and_cancel::<S>(n, effort).await.1.as_nanos() as f64 / n as f64 })
}

/// Counts wakes, and passes the last one on.
struct Countdown {
    left: AtomicUsize,
    main: AtomicWaker,
}

impl Countdown {
    fn new(n: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(n), main: AtomicWaker::new() })
    }

    async fn over(&self) {
        poll_fn(|cx| {
            self.main.register(cx.waker());
            if self.left.load(Ordering::Acquire) == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Wake for Countdown {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.main.wake();
        }
    }
}

/// `n` sleeps end within a second; processor time of the process, nanoseconds each.
pub fn fire_spread<S: Timers>(n: usize, _: Effort) -> f64 {
    let once = || {
        S::run(move |_| async move {
            let countdown = Countdown::new(n);
            let waker = Waker::from(countdown.clone());
            let mut sleeps = Pinned::with_capacity(n);
            let inserted = Instant::now();
            for index in 0..n {
                let length = Duration::from_millis(200) + spread(index, Duration::from_secs(1));
                let _ = sleeps.poll_new(S::sleep(length), &mut Context::from_waker(&waker));
            }
            let start = cpu_time();
            let is_whole = inserted.elapsed() < Duration::from_millis(200);
            countdown.over().await;
            is_whole.then(|| (cpu_time() - start).as_nanos() as f64 / n as f64)
        })
    };
    // A machine that was away for so long measures again.
    let measured = (0..10).find_map(|_| once());
    measured.expect("in each of ten tries the first fired while the last was made")
}

/// `n` sleeps are all due when the loop gets to look; processor time of the process, nanoseconds each.
pub fn fire_burst<S: Timers>(n: usize, _: Effort) -> f64 {
    S::run(move |_| async move {
        let countdown = Countdown::new(n);
        let waker = Waker::from(countdown.clone());
        let mut sleeps = Pinned::with_capacity(n);
        let due = Instant::now() + Duration::from_millis(50) + Duration::from_micros(n as u64);
        for index in 0..n {
            // Within 10 ms, in no order.
            let length =
                due.saturating_duration_since(Instant::now()) + spread(index, Duration::from_millis(10));
            let _ = sleeps.poll_new(S::sleep(length), &mut Context::from_waker(&waker));
        }
        while Instant::now() < due + Duration::from_millis(15) {
            std::hint::spin_loop();
        }
        let start = cpu_time();
        countdown.over().await;
        (cpu_time() - start).as_nanos() as f64 / n as f64
    })
}

/// `n` tasks sleep for up to a second; processor time from the first spawn to the last join, nanoseconds each.
pub fn task<S: Timers>(n: usize, _: Effort) -> f64 {
    S::run(move |spawner| async move {
        let mut tasks = Vec::with_capacity(n);
        let start = cpu_time();
        for index in 0..n {
            tasks.push(S::spawn(&spawner, async move {
                S::sleep(spread(index, Duration::from_secs(1))).await;
            }));
        }
        for task in tasks {
            let _ = task.into_future().await;
        }
        (cpu_time() - start).as_nanos() as f64 / n as f64
    })
}

/// Bytes that the process grows by for each of `n` tasks that sleep. To be called in a process of its own.
pub fn bytes<S: Timers>(n: usize, _: Effort) -> f64 {
    S::run(move |spawner| async move {
        // What the first task and the first timer bring along, and room for the handles.
        let _ = S::spawn(&spawner, S::sleep(Duration::from_millis(1))).into_future().await;
        let mut tasks = Vec::with_capacity(n);
        tasks.spare_capacity_mut().fill_with(std::mem::MaybeUninit::zeroed);
        let before = resident_bytes();
        for index in 0..n {
            tasks.push(S::spawn(&spawner, async move {
                S::sleep(FAR + spread(index, FAR)).await;
            }));
        }
        // All have started when a task that was spawned behind them has run.
        let _ = S::spawn(&spawner, async {}).into_future().await;
        let bytes = (resident_bytes() - before) / n as f64;
        println!("{bytes}");
        // Nobody waits an hour for a million tasks.
        std::process::exit(0)
    })
}
