//! The workloads B1 to B4, each with the same bodies under every executor; B5 and B6 are in `threads.rs`.
//!
//! What a workload measures is taken on the executor that is measured, so that no other one's latency is part of it.

#[cfg(feature = "threads")]
mod threads;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    hint::black_box,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{
    channel::oneshot,
    executor::LocalPool,
    stream::{FuturesUnordered, StreamExt},
    task::LocalSpawnExt,
};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance)]
    fn now() -> f64;
}

#[derive(Clone, Copy, PartialEq)]
enum Peer {
    Selkie,
    SelkieLazy,
    N0,
    Wbf,
    #[cfg(feature = "threads")]
    Tokio,
    Unordered,
    LocalPool,
    /// Boxes in a ring, polled until they are ready, with a waker that does nothing.
    Ring,
    /// Boxes polled once, in place; the results are kept.
    Once,
}

fn peer(name: &str) -> Peer {
    match name {
        "selkie" => Peer::Selkie,
        "selkie lazy" => Peer::SelkieLazy,
        "n0-future" => Peer::N0,
        "spawn_local" => Peer::Wbf,
        #[cfg(feature = "threads")]
        "tokio_with_wasm" => Peer::Tokio,
        "FuturesUnordered" => Peer::Unordered,
        "LocalPool" => Peer::LocalPool,
        "floor: ring" => Peer::Ring,
        "floor: once" => Peer::Once,
        _ => panic!("no peer {name}"),
    }
}

/// Runs `future` on selkie's loop of this thread.
async fn on_selkie<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
    selkie::spawn_lazy(future).await.expect("a workload completes")
}

/// Starts `count` futures, waits for all of them, and answers how long that took, in ms.
async fn all<F>(peer: Peer, count: u32, make: impl Fn(u32) -> F + 'static) -> f64
where
    F: Future<Output = u32> + 'static,
{
    match peer {
        Peer::Selkie | Peer::SelkieLazy => {
            on_selkie(async move {
                let start = now();
                let tasks: Vec<_> = if peer == Peer::Selkie {
                    (0..count).map(|i| selkie::spawn(make(i))).collect()
                } else {
                    (0..count).map(|i| selkie::spawn_lazy(make(i))).collect()
                };
                let mut sum = 0;
                for task in tasks {
                    sum += task.await.unwrap();
                }
                black_box(sum);
                now() - start
            })
            .await
        }
        Peer::N0 => {
            let start = now();
            let tasks: Vec<_> = (0..count).map(|i| n0_future::task::spawn(make(i))).collect();
            let mut sum = 0;
            for task in tasks {
                sum += task.await.unwrap();
            }
            black_box(sum);
            now() - start
        }
        #[cfg(feature = "threads")]
        Peer::Tokio => {
            let start = now();
            let tasks: Vec<_> = (0..count).map(|i| tokio_with_wasm::spawn(make(i))).collect();
            let mut sum = 0;
            for task in tasks {
                sum += task.await.unwrap();
            }
            black_box(sum);
            now() - start
        }
        Peer::Wbf => {
            let start = now();
            let (done, all_done) = oneshot::channel();
            let (left, sum, done) =
                (Rc::new(Cell::new(count)), Rc::new(Cell::new(0)), Rc::new(Cell::new(Some(done))));
            for i in 0..count {
                let (left, sum, done, body) = (left.clone(), sum.clone(), done.clone(), make(i));
                spawn_local(async move {
                    sum.set(sum.get() + body.await);
                    left.set(left.get() - 1);
                    if left.get() == 0 {
                        done.take().unwrap().send(()).unwrap();
                    }
                });
            }
            all_done.await.unwrap();
            black_box(sum.get());
            now() - start
        }
        Peer::Unordered => {
            let start = now();
            let mut tasks: FuturesUnordered<_> = (0..count).map(make).collect();
            let mut sum = 0;
            while let Some(output) = tasks.next().await {
                sum += output;
            }
            black_box(sum);
            now() - start
        }
        Peer::LocalPool => {
            let start = now();
            let mut pool = LocalPool::new();
            let spawner = pool.spawner();
            let tasks: Vec<_> =
                (0..count).map(|i| spawner.spawn_local_with_handle(make(i)).unwrap()).collect();
            let sum: u32 = pool.run_until(async {
                let mut sum = 0;
                for task in tasks {
                    sum += task.await;
                }
                sum
            });
            black_box(sum);
            now() - start
        }
        Peer::Ring => {
            let start = now();
            let mut context = Context::from_waker(Waker::noop());
            let mut ring: VecDeque<Pin<Box<dyn Future<Output = u32>>>> =
                (0..count).map(|i| black_box(Box::pin(make(i)) as _)).collect();
            let mut sum = 0;
            while let Some(mut future) = ring.pop_front() {
                match future.as_mut().poll(&mut context) {
                    Poll::Ready(output) => sum += output,
                    Poll::Pending => ring.push_back(future),
                }
            }
            black_box(sum);
            now() - start
        }
        Peer::Once => {
            let start = now();
            let mut context = Context::from_waker(Waker::noop());
            let results: Vec<u32> = (0..count)
                .map(|i| {
                    // The compiler must not look into the box.
                    let mut future: Pin<Box<dyn Future<Output = u32>>> = black_box(Box::pin(make(i)));
                    match future.as_mut().poll(&mut context) {
                        Poll::Ready(output) => output,
                        Poll::Pending => unreachable!("the bodies of B1 are ready"),
                    }
                })
                .collect();
            black_box(results.iter().sum::<u32>());
            now() - start
        }
    }
}

/// Wakes itself and waits once.
struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Two tasks that take turns.
#[derive(Default)]
struct Pair {
    side: Cell<usize>,
    wakers: [Cell<Option<Waker>>; 2],
}

impl Pair {
    async fn play(self: Rc<Self>, side: usize, rounds: u32) -> u32 {
        for _ in 0..rounds {
            std::future::poll_fn(|cx| {
                if self.side.get() == side {
                    return Poll::Ready(());
                }
                self.wakers[side].set(Some(cx.waker().clone()));
                Poll::Pending
            })
            .await;
            self.side.set(1 - side);
            if let Some(waker) = self.wakers[1 - side].take() {
                waker.wake();
            }
        }
        rounds
    }
}

/// 100k tasks that are ready at their first poll. ms.
#[wasm_bindgen]
pub async fn b1(name: String, count: u32) -> f64 {
    all(peer(&name), count, |i| async move { i & 1 }).await
}

/// Tasks that yield `switches` times. ms.
#[wasm_bindgen]
pub async fn b2(name: String, count: u32, switches: u32) -> f64 {
    let body = move |_| async move {
        for _ in 0..switches {
            Yield(false).await;
        }
        1
    };
    all(peer(&name), count, body).await
}

/// Pairs that hand over to each other `handovers` times. ms.
#[wasm_bindgen]
pub async fn b2b(name: String, pairs: u32, handovers: u32) -> f64 {
    let made: Vec<Rc<Pair>> = (0..pairs).map(|_| Rc::default()).collect();
    all(peer(&name), pairs * 2, move |i| made[i as usize / 2].clone().play(i as usize % 2, handovers / 2))
        .await
}

/// Spread evenly and without an order over 0 to 1, the same for every peer.
fn spread(i: u32) -> f64 {
    f64::from(i.wrapping_mul(0x9e37_79b9)) / 4_294_967_296.0
}

/// `count` timers in a window of `window` ms that begins `lead` ms after each was made, each in a task. Every `sample`th
/// is measured: how late it was, in ms.
#[wasm_bindgen]
pub async fn b3(name: String, count: u32, lead: f64, window: f64, sample: u32) -> Vec<f64> {
    let late = Rc::new(RefCell::new(Vec::new()));
    let kept = late.clone();
    let delay = move |i| Duration::from_micros(((lead + spread(i) * window) * 1e3) as u64);
    macro_rules! body {
        ($sleep:expr) => {
            move |i| {
                let late = late.clone();
                async move {
                    let delay = delay(i);
                    let due = (i % sample == 0).then(|| now() + delay.as_secs_f64() * 1e3);
                    $sleep(delay).await;
                    if let Some(due) = due {
                        late.borrow_mut().push(now() - due);
                    }
                    1
                }
            }
        };
    }
    match peer(&name) {
        Peer::N0 => all(Peer::N0, count, body!(n0_future::time::sleep)).await,
        peer => all(peer, count, body!(selkie::sleep)).await,
    };
    kept.take()
}

/// Makes `count` sleeps and polls each once, then drops them. ns of each, made and dropped.
#[wasm_bindgen]
pub async fn b3_create(name: String, count: u32) -> Vec<f64> {
    async fn burst<F: Future>(count: u32, sleep: impl Fn(Duration) -> F) -> Vec<f64> {
        let start = now();
        let mut sleeps: Vec<Pin<Box<F>>> = Vec::with_capacity(count as usize);
        std::future::poll_fn(|cx| {
            for i in 0..count {
                let mut future = Box::pin(sleep(Duration::from_millis(10_000 + (spread(i) * 500.0) as u64)));
                assert!(future.as_mut().poll(cx).is_pending());
                sleeps.push(future);
            }
            Poll::Ready(())
        })
        .await;
        let made = now();
        drop(sleeps);
        let dropped = now();
        vec![(made - start) * 1e6 / f64::from(count), (dropped - made) * 1e6 / f64::from(count)]
    }
    match peer(&name) {
        Peer::N0 => burst(count, n0_future::time::sleep).await,
        _ => on_selkie(burst(count, selkie::sleep)).await,
    }
}

/// As a task of `rounds` does it: its result depends on all of them.
#[cfg(feature = "threads")]
fn job(i: u32, rounds: u32) -> u32 {
    work(rounds);
    i & 1
}

/// As fast wherever it is as where it was calibrated: each step waits for the one before, and none for memory. It is no loop
/// over [`black_box`], whose stores and loads take one or several cycles as a compiler and a processor arrange them.
#[inline(never)]
fn work(rounds: u32) {
    let mut x = rounds | 1;
    for _ in 0..rounds {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
    }
    black_box(x);
}

/// How many rounds of work `microseconds` are.
#[wasm_bindgen]
pub fn calibrate(microseconds: f64) -> u32 {
    let best = (0..20).map(|_| {
        let start = now();
        work(1_000_000);
        now() - start
    });
    (microseconds * 1e3 / best.fold(f64::MAX, f64::min)) as u32
}

/// One task's work, for the peers in JavaScript.
#[wasm_bindgen]
pub fn work_once(rounds: u32) {
    work(rounds);
}

/// `count` tasks of `rounds` of work, started lazily where that can be chosen. ms.
#[wasm_bindgen]
pub async fn b4(name: String, count: u32, rounds: u32) -> f64 {
    let body = move |_| async move {
        work(rounds);
        1
    };
    // One more poll of the caller, so that what was to start is drawn first.
    let mut yielded = pin!(Yield(false));
    yielded.as_mut().await;
    all(peer(&name), count, body).await
}
