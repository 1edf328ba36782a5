//! Worker processes: this program, started again.

use std::{
    collections::HashMap,
    env,
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use selkie_redis::{Failure, JobQueue, Retry, Worker, current_job, shutdown_signal};
use serde::{Deserialize, Serialize};

use crate::support::ms;

const ROLE: &str = "SELKIE_REDIS_TEST_WORKER";

/// How a worker process is to work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) url: String,
    /// Where a line goes for each attempt that ended, before it is settled.
    pub(crate) log: String,
    pub(crate) concurrency: usize,
    pub(crate) idle_limit: u64,
}

/// A job of the tests: it takes its time, and fails in its first attempts if it is told to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) n: u64,
    pub(crate) ms: u64,
    pub(crate) fails: u32,
    pub(crate) padding: String,
}

pub(crate) fn is_worker() -> bool {
    env::var_os(ROLE).is_some()
}

/// The life of a worker process: until SIGTERM.
pub(crate) fn work() {
    let orders: Orders = serde_json::from_str(&env::var(ROLE).unwrap()).unwrap();
    let queue = JobQueue::open(&orders.url, "tests").unwrap();
    // One write for each line: it is whole, and there, whenever the process is killed.
    let log = std::rc::Rc::new(OpenOptions::new().append(true).create(true).open(&orders.log).unwrap());
    let worker = Worker::new(queue)
        .concurrency(orders.concurrency)
        .idle_limit(ms(orders.idle_limit))
        .max_deliveries(1000)
        .keep_outcomes(Duration::from_secs(60))
        .retry(Retry::default().attempts(10).base(ms(50)))
        .register("work", move |work: Work| {
            let log = log.clone();
            async move {
                let job = current_job().unwrap();
                if work.ms > 0 {
                    selkie::sleep(ms(work.ms)).await;
                }
                let failed = job.attempt <= work.fails;
                let line = format!("{} {} {} {}\n", work.n, job.attempt, job.deliveries, u8::from(!failed));
                let mut log: &File = &log;
                log.write_all(line.as_bytes()).unwrap();
                if failed { Err(Failure::new("as ordered")) } else { Ok(work.n) }
            }
        });
    let report = selkie_redis::run(async move { worker.run(shutdown_signal().unwrap()).await });
    println!("{:?}", report.unwrap());
}

/// A worker process, which is killed when it is dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(orders: &Orders) -> Self {
        let child = Command::new(env::current_exe().unwrap())
            .env(ROLE, serde_json::to_string(orders).unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }

    /// SIGTERM; what the process said at its end.
    pub(crate) fn terminate(mut self) -> String {
        let asked = Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        assert!(asked.success());
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.0.stdout.take().unwrap(), &mut said).unwrap();
        let status = self.0.wait().unwrap();
        assert!(status.success(), "a worker that was asked to end: {status}");
        said
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the logs of all workers say of one attempt at one job.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Runs {
    pub(crate) runs: u32,
    /// Runs that were said to be the first.
    pub(crate) first: u32,
    pub(crate) succeeded: u32,
}

/// By job and attempt.
pub(crate) fn read_logs(folder: &Path) -> HashMap<(u64, u32), Runs> {
    let mut all: HashMap<_, Runs> = HashMap::new();
    for file in std::fs::read_dir(folder).unwrap() {
        for line in std::fs::read_to_string(file.unwrap().path()).unwrap().lines() {
            let mut numbers = line.split(' ').map(|n| n.parse::<u64>().unwrap());
            let (n, attempt, deliveries, success) = (
                numbers.next().unwrap(),
                numbers.next().unwrap(),
                numbers.next().unwrap(),
                numbers.next().unwrap(),
            );
            let runs = all.entry((n, u32::try_from(attempt).unwrap())).or_default();
            runs.runs += 1;
            runs.first += u32::from(deliveries == 1);
            runs.succeeded += u32::from(success == 1);
        }
    }
    all
}
