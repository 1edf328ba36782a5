//! selkie-redis beside a plain consumer on tokio and a worker of Python's arq: the same jobs, the same server, in one run.
//!
//! ```text
//! npx -y rust-just bench-redis              all; installs arq into target/ if it can
//!   --rounds N    3     --jobs N    20000     --only WORD     --concurrency N    64     --json
//! ```
//!
//! - **jobs/s**: that many jobs, which do nothing, wait in Redis; from the start of the worker until the last outcome is stored. The
//!   best round.
//! - **p50, p99**: 500 jobs a second are submitted for three seconds by another process or thread; from before the submission until the
//!   handler runs. Of all rounds together.
//! - **round trips per job**: on a wire of the benchmark's own, on which an answer that follows a command is counted.
//!
//! Every subject runs 64 jobs at a time (unless told otherwise) and keeps results. The plain consumer is what one writes in an afternoon: one blocking read, a
//! task and a pipeline per job; it has no retries, no time limits, no claims, no bound but the 64, and loses what a crash or a broken
//! connection interrupts.

#[path = "../../tests/jobs/proxy.rs"]
#[allow(dead_code, reason = "the tests cut; here only the round trips are counted")]
mod proxy;

use std::{
    convert::Infallible,
    env,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use proxy::Proxy;
use redis::{Value, streams::StreamReadReply};
use selkie_redis::{JobQueue, LocalServer, Worker};
use serde_json::json;
use tokio::sync::Semaphore;

/// Jobs at a time; not arq's.
static CONCURRENCY: AtomicUsize = AtomicUsize::new(64);
const RATE: u64 = 500;
const SECONDS: u64 = 3;
const STREAM: &str = "selkie:{bench}:jobs";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Guest,
    OwnLoop,
    Plain,
    Arq,
    ArqQuick,
}

impl Subject {
    const ALL: [Self; 5] = [Self::Guest, Self::OwnLoop, Self::Plain, Self::Arq, Self::ArqQuick];

    fn name(self) -> &'static str {
        match self {
            Self::Guest => "selkie-redis, inside tokio",
            Self::OwnLoop => "selkie-redis, own loop",
            Self::Plain => "plain redis and tokio",
            Self::Arq => "arq, as it comes",
            Self::ArqQuick => "arq, polls every 10 ms",
        }
    }

    /// arq runs 64 jobs per poll, so as it comes it has no use for many.
    fn jobs(self, jobs: u64) -> u64 {
        match self {
            Self::Arq => jobs.min(640),
            Self::ArqQuick => jobs.min(3000),
            _ => jobs,
        }
    }
}

fn concurrency() -> usize {
    CONCURRENCY.load(Ordering::Relaxed)
}

type Latencies = Arc<Mutex<Vec<u64>>>;

fn micros() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros())
        .unwrap_or(u64::MAX)
}

fn connection(url: &str) -> redis::Connection {
    redis::Client::open(url).expect("an address").get_connection().expect("the server")
}

fn add(sent: u64) -> redis::Cmd {
    redis::cmd("XADD").arg(STREAM).arg("*").arg("name").arg("note").arg("args").arg(sent).take()
}

/// Puts jobs in without a worker.
fn fill(url: &str, jobs: u64) {
    let mut connection = connection(url);
    redis::cmd("FLUSHALL").exec(&mut connection).expect("flush");
    for chunk in (0..jobs).collect::<Vec<_>>().chunks(500) {
        let mut pipe = redis::pipe();
        for _ in chunk {
            pipe.add_command(add(micros())).ignore();
        }
        pipe.exec(&mut connection).expect("fill");
    }
}

/// Submits at a steady pace, from a thread of its own.
fn pace(url: String) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut connection = connection(&url);
        let start = Instant::now();
        for n in 0..RATE * SECONDS {
            let due = start + Duration::from_micros(n * 1_000_000 / RATE);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            add(micros()).exec(&mut connection).expect("submit");
        }
    })
}

/// Works until `jobs` are done; the time that took.
fn work(subject: Subject, url: &str, jobs: u64, latencies: &Latencies) -> Duration {
    let (url, latencies) = (url.to_owned(), latencies.clone());
    let start = Instant::now();
    match subject {
        Subject::Guest => selkie_redis::run(selkie_worker(url, jobs, latencies)),
        Subject::OwnLoop => selkie::run(selkie_worker(url, jobs, latencies)),
        Subject::Plain => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
            runtime.block_on(plain_worker(url, jobs, latencies));
            start.elapsed()
        }
        Subject::Arq | Subject::ArqQuick => unreachable!("a process"),
    }
}

async fn selkie_worker(url: String, jobs: u64, latencies: Latencies) -> Duration {
    let start = Instant::now();
    let queue = JobQueue::open(&url, "bench").expect("an address");
    let worker = Worker::new(queue).concurrency(concurrency()).register("note", move |sent: u64| {
        latencies.lock().expect("no panic").push(micros().saturating_sub(sent));
        async { Ok::<_, Infallible>(()) }
    });
    let monitor = worker.monitor();
    let mut took = Duration::ZERO;
    let done = async {
        while monitor.read().done < jobs {
            selkie::sleep(Duration::from_millis(1)).await;
        }
        took = start.elapsed();
    };
    worker.run(done).await.expect("a worker");
    took
}

async fn plain_worker(url: String, jobs: u64, latencies: Latencies) {
    let client = redis::Client::open(url).expect("an address");
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let mut reader = client.get_multiplexed_async_connection_with_config(&config).await.expect("connect");
    let acks = client.get_multiplexed_async_connection_with_config(&config).await.expect("connect");
    let create = redis::cmd("XGROUP").arg(&["CREATE", STREAM, "plain", "0", "MKSTREAM"]).take();
    create.query_async::<Value>(&mut reader).await.expect("a group");
    let places = Arc::new(Semaphore::new(concurrency()));
    let mut done = 0;
    while done < jobs {
        // At least one place, and then as many as there are.
        let first = places.clone().acquire_owned().await.expect("open");
        let free = 1 + places.available_permits();
        drop(first);
        let reply: Option<StreamReadReply> = redis::cmd("XREADGROUP")
            .arg(&[
                "GROUP",
                "plain",
                "me",
                "COUNT",
                &free.to_string(),
                "BLOCK",
                "1000",
                "STREAMS",
                STREAM,
                ">",
            ])
            .query_async(&mut reader)
            .await
            .expect("read");
        for entry in reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids) {
            done += 1;
            let place = places.clone().acquire_owned().await.expect("open");
            let (mut acks, latencies) = (acks.clone(), latencies.clone());
            tokio::spawn(async move {
                let sent: u64 = entry.get("args").expect("a field");
                latencies.lock().expect("no panic").push(micros().saturating_sub(sent));
                let mut pipe = redis::pipe();
                pipe.atomic()
                    .xack(STREAM, "plain", &[&entry.id])
                    .ignore()
                    .xdel(STREAM, &[&entry.id])
                    .ignore();
                pipe.cmd("SET")
                    .arg(format!("result:{}", entry.id))
                    .arg(r#"{"ok":null}"#)
                    .arg("EX")
                    .arg(3600)
                    .ignore();
                pipe.query_async::<()>(&mut acks).await.expect("acknowledge");
                drop(place);
            });
        }
    }
    let _all = places.acquire_many(u32::try_from(concurrency()).expect("few")).await.expect("open");
}

/// A Python process with the script of this benchmark.
fn arq(python: &str, url: &str, words: &[&str]) -> std::process::Child {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/jobs/arq_worker.py");
    Command::new(python).arg(script).arg(url).args(words).stdout(Stdio::piped()).spawn().expect("python")
}

fn arq_result(child: std::process::Child, latencies: &Latencies) -> Duration {
    let output = child.wait_with_output().expect("python");
    assert!(output.status.success(), "arq has failed");
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let all = result["latencies"].as_array().expect("a list").iter().filter_map(serde_json::Value::as_u64);
    latencies.lock().expect("no panic").extend(all);
    Duration::from_secs_f64(result["seconds"].as_f64().expect("a number"))
}

fn poll(subject: Subject) -> &'static str {
    if subject == Subject::Arq { "0.5" } else { "0.01" }
}

#[derive(Default)]
struct Figures {
    rates: Vec<f64>,
    latencies: Vec<u64>,
    round_trips: f64,
}

fn measure(
    subject: Subject,
    server: &LocalServer,
    python: Option<&str>,
    jobs: u64,
    figures: &mut Figures,
    first: bool,
) {
    let jobs = subject.jobs(jobs);
    let url = server.url();
    let unused = Latencies::default();
    let latencies = Latencies::default();
    let is_arq = matches!(subject, Subject::Arq | Subject::ArqQuick);
    let drain = |url: &str, jobs: u64| {
        if let (true, Some(python)) = (is_arq, python) {
            redis::cmd("FLUSHALL").exec(&mut connection(server.url())).expect("flush");
            let count = jobs.to_string();
            arq(python, server.url(), &["fill", &count]).wait_with_output().expect("python");
            arq_result(arq(python, url, &["work", &count, poll(subject)]), &unused)
        } else {
            fill(server.url(), jobs);
            work(subject, url, jobs, &unused)
        }
    };
    figures.rates.push(jobs as f64 / drain(url, jobs).as_secs_f64());
    if first {
        let proxy = Proxy::start(server.port());
        let counted = jobs.min(2000);
        drain(&proxy.url(), counted);
        figures.round_trips = proxy.round_trips() as f64 / counted as f64;
    }
    let paced = RATE * SECONDS;
    redis::cmd("FLUSHALL").exec(&mut connection(url)).expect("flush");
    if let (true, Some(python)) = (is_arq, python) {
        let worker = arq(python, url, &["work", &paced.to_string(), poll(subject)]);
        thread::sleep(Duration::from_millis(700));
        let submitter = arq(python, url, &["pace", &RATE.to_string(), &SECONDS.to_string()]);
        arq_result(worker, &latencies);
        submitter.wait_with_output().expect("python");
    } else {
        let submitter = pace(url.to_owned());
        work(subject, url, paced, &latencies);
        submitter.join().expect("the submitter");
    }
    figures.latencies.append(&mut latencies.lock().expect("no panic"));
}

fn main() {
    let words: Vec<_> = env::args().collect();
    let number = |name: &str, otherwise: u64| {
        let at = words.iter().position(|word| word == name);
        at.and_then(|at| words.get(at + 1)).and_then(|word| word.parse().ok()).unwrap_or(otherwise)
    };
    CONCURRENCY.store(usize::try_from(number("--concurrency", 64)).expect("few"), Ordering::Relaxed);
    let (rounds, jobs) = (number("--rounds", 3), number("--jobs", 20_000));
    let only = words.iter().position(|word| word == "--only").and_then(|at| words.get(at + 1).cloned());
    let python = env::var("SELKIE_ARQ_PYTHON").ok();
    let server = LocalServer::start().expect("redis-server");
    let subjects: Vec<_> = Subject::ALL
        .into_iter()
        .filter(|subject| only.as_ref().is_none_or(|only| subject.name().contains(only.as_str())))
        .filter(|subject| python.is_some() || !matches!(subject, Subject::Arq | Subject::ArqQuick))
        .collect();
    let mut all: Vec<_> = subjects.iter().map(|_| Figures::default()).collect();
    for round in 0..rounds {
        for (subject, figures) in subjects.iter().zip(&mut all) {
            eprintln!("round {} of {rounds}: {}", round + 1, subject.name());
            measure(*subject, &server, python.as_deref(), jobs, figures, round == 0);
        }
    }
    if python.is_none() {
        eprintln!("arq is not measured: SELKIE_ARQ_PYTHON names no Python that has it");
    }
    let json = words.iter().any(|word| word == "--json");
    if !json {
        println!(
            "{:<28} {:>10} {:>10} {:>10} {:>22}",
            "", "jobs/s", "p50 ms", "p99 ms", "round trips per job"
        );
    }
    for (subject, mut figures) in subjects.iter().zip(all) {
        figures.latencies.sort_unstable();
        let at = |percent: usize| {
            let place = figures.latencies.len().saturating_sub(1) * percent / 100;
            figures.latencies.get(place).copied().unwrap_or_default() as f64 / 1000.0
        };
        let best = figures.rates.iter().copied().fold(0.0, f64::max);
        if json {
            println!(
                "{}",
                json!({
                    "subject": subject.name(), "jobs_per_second": best, "all_rates": figures.rates, "p50_ms": at(50), "p99_ms": at(99),
                    "round_trips_per_job": figures.round_trips,
                })
            );
        } else {
            println!(
                "{:<28} {best:>10.0} {:>10.2} {:>10.2} {:>22.3}",
                subject.name(),
                at(50),
                at(99),
                figures.round_trips
            );
        }
    }
}
