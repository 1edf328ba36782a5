//! Many jobs through four worker processes that are killed at random moments, while the server is killed once as well.

use std::{
    collections::HashSet,
    env,
    time::{Duration, Instant},
};

use selkie_redis::{LocalServer, NewJob};

use crate::{
    process::{Orders, Process, Work, read_logs},
    support::{Test, ms, queue, run},
};

pub(crate) fn tests() -> Vec<Test> {
    vec![(
        "crashes::killed_workers_and_a_killed_server_lose_nothing",
        killed_workers_and_a_killed_server_lose_nothing,
    )]
}

/// Rows: F49.
fn killed_workers_and_a_killed_server_lose_nothing() {
    let jobs: u64 = env::var("SELKIE_REDIS_JOBS").map_or(5000, |jobs| jobs.parse().unwrap());
    let logs = tempfile::tempdir().unwrap();
    let mut server = LocalServer::start_persistent().unwrap();
    let queue = queue(&server);
    let (url, folder) = (server.url().to_owned(), logs.path().to_owned());
    let mut started = 0;
    let mut start_one = move || {
        started += 1;
        let log = folder.join(started.to_string()).display().to_string();
        Process::start(&Orders { url: url.clone(), log, concurrency: 16, idle_limit: 1500 })
    };
    let mut workers: Vec<_> = (0..4).map(|_| start_one()).collect();
    let start = Instant::now();
    let (kills, counts) = run(async move {
        // Long enough that every kill meets jobs that run; some need a second or a third attempt.
        let new = |n: u64| {
            let work = Work {
                n,
                ms: if jobs > 20_000 { 25 } else { 90 },
                fails: if n % 50 == 0 { 1 + (n % 100 == 0) as u32 } else { 0 },
                padding: String::new(),
            };
            NewJob::new("work", &work).unwrap()
        };
        let ids = queue.submit_all((0..jobs).map(new)).await.unwrap();
        assert!(ids.iter().all(Option::is_some));
        let mut kills = 0;
        let mut restarted = false;
        let counts = loop {
            selkie::sleep(ms(fastrand::u64(200..900))).await;
            let counts = queue.counts().await.unwrap();
            if counts.open() == 0 {
                break counts;
            }
            assert!(start.elapsed() < Duration::from_secs(600), "{counts:?}");
            let half = counts.done_total > jobs / 2;
            if half && !restarted {
                restarted = true;
                server.kill();
                selkie::sleep(ms(300)).await;
                server.restart().unwrap();
            } else if counts.open() > jobs / 20 {
                let victim = fastrand::usize(..workers.len());
                workers[victim].kill();
                kills += 1;
                workers[victim] = start_one();
            }
        };
        assert!(restarted);
        for worker in workers {
            let said = worker.terminate();
            assert!(said.contains("unsettled: 0"), "{said}");
        }
        (kills, counts)
    });

    let runs = read_logs(logs.path());
    let done: HashSet<_> = runs.iter().filter(|(_, runs)| runs.succeeded > 0).map(|((n, _), _)| *n).collect();
    assert_eq!(done.len() as u64, jobs, "jobs that never were done");
    // Each verdict counted once, however many workers had one.
    assert_eq!((counts.submitted_total, counts.done_total, counts.dead_total), (jobs, jobs, 0), "{counts:?}");
    assert_eq!(
        counts.retried_total,
        (0..jobs).filter(|n| n % 50 == 0).map(|n| 1 + u64::from(n % 100 == 0)).sum::<u64>()
    );
    // What ran twice is explained: each run but the first knew that it may not be the first.
    let twice: u32 = runs.values().map(|runs| runs.runs - 1).sum();
    for (job, runs) in &runs {
        assert!(runs.first <= 1, "{job:?} ran {} times as if for the first time", runs.first);
    }
    assert!(kills > 0 && counts.claimed_total > 0, "the test has killed nothing: {kills} {counts:?}");
    assert!(
        u64::from(twice) <= counts.claimed_total,
        "{twice} runs too many, {} deliveries taken over",
        counts.claimed_total
    );
    println!(
        "{jobs} jobs in {:.1} s: {kills} workers killed, {} deliveries taken over, {twice} attempts ran twice, {} retries as ordered",
        start.elapsed().as_secs_f64(),
        counts.claimed_total,
        counts.retried_total,
    );
}
