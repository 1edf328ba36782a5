//! Submits a batch of jobs, follows it to its end, and shows the dead letters.
//!
//! ```text
//! cargo run -p selkie-redis --example submit                                    with a Redis and a worker of its own
//! cargo run -p selkie-redis --example submit -- redis://127.0.0.1/              for the workers that are there
//!   --queue NAME    demo      --jobs N    2000      --json    the figures for machines
//! ```

mod common;

use std::{
    cell::Cell,
    collections::HashSet,
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use common::{Options, Samples, Screen, handlers};
use selkie_redis::{Event, JobQueue, LocalServer, NewJob, Retry, Worker};
use serde_json::json;

fn main() -> ExitCode {
    common::exit(
        Options::parse(&["--queue", "--jobs"]).and_then(|options| selkie_redis::run(submit(options))),
    )
}

async fn submit(options: Options) -> common::Result {
    let jobs: u64 = options.number("--jobs", 2000)?;
    let server;
    let (url, alone) = match options.url() {
        Some(url) => (url, false),
        None => {
            server = LocalServer::start()?;
            (server.url().to_owned(), true)
        }
    };
    let queue = JobQueue::open(&url, options.get("--queue").unwrap_or("demo"))?;
    // Before the first job, so that no end is missed.
    let mut watch = queue.watch().await?;
    let enough = Rc::new(selkie::local::Event::local());
    let worker = alone.then(|| {
        let retry = Retry::default().base(Duration::from_millis(300));
        let worker = handlers(Worker::new(queue.clone()).concurrency(64).retry(retry));
        let enough = enough.clone();
        selkie::spawn(async move { worker.run(async move { enough.wait().await }).await })
    });

    let screen = Screen::new(options.json);
    let bar = screen.bar(jobs);
    let start = Instant::now();
    let batch = (0..jobs).map(|n| match n % 20 {
        19 => NewJob::new("primes", &(1000 + n % 5000)),
        _ => NewJob::new("fetch", &n),
    });
    let ids = queue.submit_all(batch.collect::<Result<Vec<_>, _>>()?).await?;
    let mut open: HashSet<_> = ids.into_iter().flatten().collect();
    if options.json {
        println!("{}", json!({ "submitted": jobs, "seconds": start.elapsed().as_secs_f64() }));
    }

    let samples = Samples::default();
    let (done, retried, dead) = (Cell::new(0u64), Cell::new(0u64), Cell::new(0u64));
    let mut shown = Instant::now();
    let mut shown_done = 0u64;
    while !open.is_empty() {
        match selkie::timeout(Duration::from_millis(250), watch.next()).await {
            Ok(Event::Done { id, latency }) if open.remove(&id) => {
                done.set(done.get() + 1);
                samples.add(latency);
            }
            Ok(Event::Dead { id }) if open.remove(&id) => dead.set(dead.get() + 1),
            Ok(Event::Retry { id }) if open.contains(&id) => retried.set(retried.get() + 1),
            Ok(Event::Gap) => {
                // Ends may have been missed: ask for each that is open.
                for id in open.clone() {
                    if let Some(outcome) = queue.outcome::<serde_json::Value>(&id).await? {
                        open.remove(&id);
                        let counter = if outcome.is_ok() { &done } else { &dead };
                        counter.set(counter.get() + 1);
                    }
                }
            }
            _ => {}
        }
        if shown.elapsed() >= Duration::from_millis(250) || open.is_empty() {
            let in_flight = queue.counts().await?.delivered;
            let rate = (done.get() - shown_done) as f64 / shown.elapsed().as_secs_f64();
            (shown, shown_done) = (Instant::now(), done.get());
            let percentiles = samples.percentiles();
            if options.json {
                println!(
                    "{}",
                    json!({
                        "in_flight": in_flight, "done": done.get(), "retried": retried.get(), "dead": dead.get(), "open": open.len(),
                        "rate": rate, "p50_ms": percentiles.0, "p99_ms": percentiles.1,
                    })
                );
            }
            bar.set_position(jobs - open.len() as u64);
            screen.row(in_flight, done.get(), retried.get(), dead.get(), rate, percentiles);
        }
    }
    bar.finish();

    let seconds = start.elapsed().as_secs_f64();
    let (p50, p99) = samples.percentiles();
    let letters = queue.dead_letters(None, 5).await?;
    if options.json {
        println!(
            "{}",
            json!({
                "ended": true, "jobs": jobs, "done": done.get(), "retried": retried.get(), "dead": dead.get(), "seconds": seconds,
                "rate": jobs as f64 / seconds, "p50_ms": p50, "p99_ms": p99,
            })
        );
    } else {
        eprintln!(
            "{jobs} jobs in {seconds:.1} s: {} done, {} dead, {} attempts again",
            done.get(),
            dead.get(),
            retried.get()
        );
        for letter in &letters {
            let name = letter.name.as_deref().unwrap_or("no name");
            eprintln!(
                "dead: {name}({}) after {} attempts, {}: {}",
                String::from_utf8_lossy(&letter.args),
                letter.attempts,
                letter.kind,
                letter.error
            );
        }
    }
    if let Some(worker) = worker {
        enough.set();
        worker.await??;
    }
    Ok(())
}
