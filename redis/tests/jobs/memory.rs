//! A worker that is slower than its queue is full.

use selkie_redis::{LocalServer, NewJob};

use crate::{
    process::{Orders, Process, Work},
    support::{Test, ms, queue, run, until},
};

pub(crate) fn tests() -> Vec<Test> {
    vec![("memory::a_slow_worker_stays_as_small_as_it_is", a_slow_worker_stays_as_small_as_it_is)]
}

/// 60 MiB wait in Redis; the worker has room for 16 jobs, so for 640 KiB.
fn a_slow_worker_stays_as_small_as_it_is() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = LocalServer::start().unwrap();
    let queue = queue(&server);
    let log = folder.path().join("log").display().to_string();
    let worker =
        Process::start(&Orders { url: server.url().to_owned(), log, concurrency: 8, idle_limit: 30_000 });
    let (before, most) = run(async move {
        let jobs = 1500;
        let padding = "x".repeat(40 << 10);
        let new = |n| NewJob::new("work", &Work { n, ms: 8, fails: 0, padding: padding.clone() }).unwrap();
        // The first jobs bring it to its working size.
        queue.submit_all((0..100).map(new)).await.unwrap();
        until("it is warm", async || queue.counts().await.unwrap().done_total == 100).await;
        let before = worker.resident();
        queue.submit_all((100..jobs).map(new)).await.unwrap();
        let mut most = 0;
        until("all are done", async || {
            selkie::sleep(ms(10)).await;
            most = most.max(worker.resident());
            queue.counts().await.unwrap().done_total == jobs
        })
        .await;
        (before, most)
    });
    assert!(most < before + (10 << 10), "it grew from {before} to {most} KiB");
    println!("resident memory of a slow worker: {before} KiB, at most {most} KiB");
}
