//! What the two examples share: options, the demo's handlers, and what is drawn.

use std::{cell::RefCell, collections::HashMap, error::Error, process::ExitCode, rc::Rc, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use selkie_redis::{Failure, Worker, current_job};

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

pub(crate) fn exit(result: Result) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The words of the command line.
pub(crate) struct Options {
    url: Option<String>,
    named: HashMap<String, String>,
    pub(crate) json: bool,
}

impl Options {
    pub(crate) fn parse(known: &[&str]) -> Result<Self> {
        let mut options = Self { url: None, named: HashMap::new(), json: false };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            if word == "--json" {
                options.json = true;
            } else if known.contains(&word.as_str()) {
                let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
                options.named.insert(word, value);
            } else if word.starts_with('-') || options.url.is_some() {
                return Err(
                    format!("not known here: {word}; there are [URL] --json {}", known.join(" ")).into()
                );
            } else {
                options.url = Some(word);
            }
        }
        Ok(options)
    }

    /// The address on the command line, or in REDIS_URL.
    pub(crate) fn url(&self) -> Option<String> {
        self.url.clone().or_else(|| std::env::var("REDIS_URL").ok())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.named.get(name).map(String::as_str)
    }

    pub(crate) fn number<N: std::str::FromStr>(&self, name: &str, otherwise: N) -> Result<N> {
        match self.get(name) {
            None => Ok(otherwise),
            Some(text) => text.parse().map_err(|_| format!("{name} wants a number, not {text}").into()),
        }
    }
}

/// The demo's jobs: waiting as for a service that fails now and then, and computing on a thread.
pub(crate) fn handlers(worker: Worker) -> Worker {
    worker
        .register("fetch", async |n: u64| {
            selkie::sleep(Duration::from_millis(5 + n * 7 % 40)).await;
            let attempt = current_job().map_or(1, |job| job.attempt);
            match n {
                _ if n % 97 == 96 => Err(Failure::permanent(format!("{n} is not there"))),
                _ if n % 13 == 12 && attempt == 1 => Err(Failure::new("the service is busy")),
                _ => Ok(n * 2),
            }
        })
        .register_blocking("primes", |limit: u64| {
            let is_prime = |n: &u64| (2..).take_while(|d| d * d <= *n).all(|d| n % d != 0);
            Ok::<_, Failure>((2..limit).filter(is_prime).count())
        })
}

/// The latest latencies.
#[derive(Clone, Default)]
pub(crate) struct Samples(Rc<RefCell<Vec<u64>>>);

impl Samples {
    const KEPT: usize = 4096;

    pub(crate) fn add(&self, latency: Duration) {
        let mut samples = self.0.borrow_mut();
        if samples.len() == Self::KEPT {
            samples.remove(0);
        }
        samples.push(u64::try_from(latency.as_millis()).unwrap_or(u64::MAX));
    }

    /// The median and the 99th percentile in ms; zeros of nothing.
    pub(crate) fn percentiles(&self) -> (u64, u64) {
        let mut sorted = self.0.borrow().clone();
        sorted.sort_unstable();
        let at =
            |percent: usize| sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or(0);
        (at(50), at(99))
    }
}

/// A table of one live row, and room for a bar above it. Draws nothing for machines, and nothing where no terminal is.
pub(crate) struct Screen {
    all: MultiProgress,
    head: ProgressBar,
    live: ProgressBar,
}

impl Screen {
    pub(crate) fn new(hidden: bool) -> Self {
        let all = MultiProgress::new();
        if hidden {
            all.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
        let line =
            || ProgressBar::new(0).with_style(ProgressStyle::with_template("{msg}").expect("a template"));
        let (head, live) = (all.add(line()), all.add(line()));
        head.set_message(format!(
            "{:>10} {:>10} {:>8} {:>6} {:>10} {:>8} {:>8}",
            "in flight", "done", "retried", "dead", "jobs/s", "p50 ms", "p99 ms"
        ));
        Self { all, head, live }
    }

    /// A bar over `jobs`, above the table.
    #[allow(dead_code, reason = "one of the two examples has one")]
    pub(crate) fn bar(&self, jobs: u64) -> ProgressBar {
        let style = ProgressStyle::with_template("{bar:50.green} {pos}/{len} in {elapsed}, {eta} to go")
            .expect("a template");
        self.all.insert_before(&self.head, ProgressBar::new(jobs).with_style(style))
    }

    pub(crate) fn row(
        &self,
        in_flight: u64,
        done: u64,
        retried: u64,
        dead: u64,
        rate: f64,
        (p50, p99): (u64, u64),
    ) {
        let row = format!("{in_flight:>10} {done:>10} {retried:>8} {dead:>6} {rate:>10.0} {p50:>8} {p99:>8}");
        self.head.tick();
        self.live.set_message(row);
    }

    /// A line that stays.
    #[allow(dead_code, reason = "one of the two examples has some")]
    pub(crate) fn note(&self, text: &str) {
        // Where there is no terminal nothing is drawn, and nothing needs to be said.
        let _ = self.all.println(text);
    }
}
