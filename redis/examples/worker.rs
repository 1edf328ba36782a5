//! A worker that shows what it does.
//!
//! ```text
//! cargo run -p selkie-redis --example worker                                    starts a Redis of its own, and says where
//! cargo run -p selkie-redis --example worker -- redis://127.0.0.1/              the one that is there
//!   --queue NAME    demo      --concurrency N    16       --json    a line a second for machines
//! ```
//!
//! Ctrl-C or SIGTERM ends it: running jobs may finish. Start it several times with one address, and kill some.

mod common;

use std::{future::IntoFuture, process::ExitCode, time::Instant};

use common::{Options, Samples, Screen, handlers};
use selkie_redis::{Event, JobQueue, LocalServer, Monitor, Worker, shutdown_signal};
use serde_json::json;

fn main() -> ExitCode {
    common::exit(
        Options::parse(&["--queue", "--concurrency"]).and_then(|options| selkie_redis::run(work(options))),
    )
}

async fn work(options: Options) -> common::Result {
    let server;
    let url = match options.url() {
        Some(url) => url,
        None => {
            server = LocalServer::start()?;
            eprintln!("a Redis of its own, until it ends; give it work with:");
            eprintln!("    cargo run -p selkie-redis --example submit -- {}", server.url());
            server.url().to_owned()
        }
    };
    let queue = JobQueue::open(&url, options.get("--queue").unwrap_or("demo"))?;
    let worker = handlers(Worker::new(queue.clone()).concurrency(options.number("--concurrency", 16)?));
    let monitor = worker.monitor();
    let json = options.json;
    let shown = selkie::spawn(show(queue, monitor.clone(), json));
    let report = worker.run(shutdown_signal()?).await?;
    shown.cancel();
    if json {
        println!(
            "{}",
            json!({ "ended": true, "done": report.done, "retried": report.retried, "dead": report.dead, "handed_back": report.handed_back, "unsettled": report.unsettled })
        );
    } else {
        eprintln!(
            "done {}, retried {}, dead {}, handed back {}",
            report.done, report.retried, report.dead, report.handed_back
        );
    }
    Ok(())
}

/// A line a second, until it is cancelled.
async fn show(queue: JobQueue, monitor: Monitor, json: bool) -> common::Result {
    let screen = Screen::new(json);
    let samples = Samples::default();
    let following = {
        let (queue, samples) = (queue.clone(), samples.clone());
        selkie::spawn(async move {
            let Ok(mut watch) = queue.watch().await else { return };
            loop {
                if let Event::Done { latency, .. } = watch.next().await {
                    samples.add(latency);
                }
            }
        })
    };
    let _following = following.into_future();
    let (mut last, mut done) = (Instant::now(), 0);
    loop {
        selkie::sleep(std::time::Duration::from_secs(1)).await;
        let report = monitor.read();
        let rate = (report.done - done) as f64 / last.elapsed().as_secs_f64();
        (last, done) = (Instant::now(), report.done);
        let (p50, p99) = samples.percentiles();
        if json {
            println!(
                "{}",
                json!({
                    "in_flight": report.running, "done": report.done, "retried": report.retried, "dead": report.dead,
                    "rate": rate, "p50_ms": p50, "p99_ms": p99, "trouble": report.trouble,
                })
            );
        } else {
            screen.row(report.running, report.done, report.retried, report.dead, rate, (p50, p99));
            if let Some(trouble) = report.trouble {
                screen.note(&format!("Redis: {trouble}"));
            }
        }
    }
}
