//! The workloads B5 and B6: functions that run in Workers of the program, over shared memory.

use std::{
    cell::OnceCell,
    hint::black_box,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use futures::{
    channel::oneshot,
    stream::{FuturesUnordered, StreamExt},
};
use selkie::{EventLoop, LoopThread, RemoteTask, ThreadPool};
use wasm_bindgen::prelude::*;

use crate::{job, now, on_selkie};

// The page starts rayon's threads, for those peers that use them: it exports `initThreadPool`.
use wasm_bindgen_rayon as _;

const WORKERS: usize = 2;

thread_local! {
    static POOL: OnceCell<ThreadPool> = const { OnceCell::new() };
    static LOOP: OnceCell<LoopThread> = const { OnceCell::new() };
}

fn pool() -> ThreadPool {
    POOL.with(|pool| pool.get_or_init(|| ThreadPool::new(WORKERS).unwrap()).clone())
}

fn on_pool(i: u32, rounds: u32) -> RemoteTask<u32> {
    POOL.with(|pool| pool.get().unwrap().submit(move || job(i, rounds)).unwrap())
}

fn on_loop(i: u32) -> RemoteTask<u32> {
    LOOP.with(|thread| {
        let thread = thread.get_or_init(|| EventLoop::spawn_thread("bench").unwrap());
        thread.handle().submit(async move || i & 1).unwrap()
    })
}

/// rayon has no future of its own: what its users do.
fn on_rayon(i: u32, rounds: u32) -> oneshot::Receiver<u32> {
    let (result, received) = oneshot::channel();
    rayon::spawn(move || _ = result.send(job(i, rounds)));
    received
}

/// `count` jobs that do nothing, each after the result of the one before. ms.
#[wasm_bindgen]
pub async fn b5(name: String, count: u32) -> f64 {
    let mut sum = 0;
    match name.as_str() {
        "selkie" | "selkie loop" => {
            pool();
            let on_pool = name == "selkie";
            on_selkie(async move {
                let start = now();
                for i in 0..count {
                    sum += if on_pool { on_pool_trip(i).await } else { on_loop(i).await.unwrap() };
                }
                black_box(sum);
                now() - start
            })
            .await
        }
        "rayon" => {
            let start = now();
            for i in 0..count {
                sum += on_rayon(i, 0).await.unwrap();
            }
            black_box(sum);
            now() - start
        }
        "tokio_with_wasm" => {
            let start = now();
            for i in 0..count {
                sum += tokio_with_wasm::task::spawn_blocking(move || job(i, 0)).await.unwrap();
            }
            black_box(sum);
            now() - start
        }
        _ => panic!("no peer {name}"),
    }
}

async fn on_pool_trip(i: u32) -> u32 {
    on_pool(i, 0).await.unwrap()
}

/// `count` jobs of `rounds` of work in two Workers, all results awaited. ms.
#[wasm_bindgen]
pub async fn b6(name: String, count: u32, rounds: u32) -> f64 {
    match name.as_str() {
        "selkie" => {
            pool();
            on_selkie(async move {
                let start = now();
                let jobs: Vec<_> = (0..count).map(|i| on_pool(i, rounds)).collect();
                let mut sum = 0;
                for job in jobs {
                    sum += job.await.unwrap();
                }
                assert_eq!(black_box(sum), count / 2);
                now() - start
            })
            .await
        }
        "rayon" => {
            let start = now();
            let jobs: Vec<_> = (0..count).map(|i| on_rayon(i, rounds)).collect();
            let mut sum = 0;
            for job in jobs {
                sum += job.await.unwrap();
            }
            assert_eq!(black_box(sum), count / 2);
            now() - start
        }
        // One result for all of them.
        "rayon, one latch" => {
            let start = now();
            let (done, all_done) = oneshot::channel();
            let shared = Arc::new((AtomicU32::new(count), AtomicU32::new(0), Mutex::new(Some(done))));
            for i in 0..count {
                let shared = shared.clone();
                rayon::spawn(move || {
                    let (left, sum, done) = &*shared;
                    sum.fetch_add(job(i, rounds), Ordering::Relaxed);
                    if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                        _ = done.lock().unwrap().take().unwrap().send(());
                    }
                });
            }
            all_done.await.unwrap();
            assert_eq!(shared.1.load(Ordering::Relaxed), count / 2);
            now() - start
        }
        // Its pool starts a Worker for each job that waits, up to 512, and the page does not outlive that.
        "tokio_with_wasm, 2 at once" => {
            let start = now();
            let mut next = 0;
            let mut running = FuturesUnordered::new();
            let mut sum = 0;
            loop {
                while running.len() < WORKERS && next < count {
                    let i = next;
                    running.push(tokio_with_wasm::task::spawn_blocking(move || job(i, rounds)));
                    next += 1;
                }
                let Some(result) = running.next().await else { break };
                sum += result.unwrap();
            }
            assert_eq!(black_box(sum), count / 2);
            now() - start
        }
        _ => panic!("no peer {name}"),
    }
}
