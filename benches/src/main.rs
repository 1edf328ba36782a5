//! selkie beside its peers, in one run whose samples alternate: `just bench`, `just bench native W3 --quick`.
//!
//! Only ratios of one run mean something: machines differ, and this one may be busy. Every subject does the same
//! observable work from the same source (`subject.rs`), on the same compiler settings and allocator.

mod channels;
mod children;
mod clock;
mod effort;
mod floor;
mod locks;
mod pools;
mod report;
mod subject;
mod table;
mod tasks;
mod timers;

use std::{
    io::{IsTerminal, Write},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use effort::Effort;
use report::Row;
use table::Workload;

/// How long a sample takes at least.
const SAMPLE: Effort = Effort::Time(Duration::from_millis(5));

const USAGE: &str = "\
usage: just bench [native] [WORKLOAD..] [--quick] [--list]

  WORKLOAD   W1, W5, W5-fire, ..: what begins like this; all without
  --quick    fewer samples, and only the size that the goal is about
  --list     the workloads

For profilers, one subject alone, without a table:
  --only SUBJECT [--n N] [--samples COUNT] [--rounds COUNT] [--bare]
";

#[derive(Default)]
struct Options {
    workloads: Vec<String>,
    quick: bool,
    list: bool,
    only: Option<String>,
    n: Option<usize>,
    samples: Option<usize>,
    rounds: Option<usize>,
    bare: bool,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            let number = |text: String| text.parse().map_err(|_| format!("{text} is not a number"));
            match &*arg {
                "native" => {}
                "--quick" => options.quick = true,
                "--list" => options.list = true,
                "--only" => options.only = Some(value()?),
                "--n" => options.n = Some(number(value()?)?),
                "--rounds" => options.rounds = Some(number(value()?)?),
                "--bare" => options.bare = true,
                "--samples" => options.samples = Some(number(value()?)?),
                _ if arg.starts_with(['w', 'W']) => options.workloads.push(arg.to_uppercase()),
                _ => return Err(format!("unknown argument {arg}")),
            }
        }
        Ok(options)
    }

    fn wants(&self, workload: &Workload) -> bool {
        let id = workload.id.to_uppercase();
        self.workloads.is_empty()
            || self
                .workloads
                .iter()
                .any(|w| id == *w || id.strip_prefix(w).is_some_and(|r| r.starts_with('-')))
    }
}

/// Where `just bench` leaves its files.
fn directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench")
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprint!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let table = table::workloads();
    if options.list {
        for workload in &table {
            println!("{:10} {}", workload.id, workload.title);
        }
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<_> = table.iter().filter(|workload| options.wants(workload)).collect();
    if chosen.is_empty() {
        eprint!("no workload of that name\n\n{USAGE}");
        return ExitCode::from(2);
    }
    if let Some(subject) = &options.only {
        return alone(&chosen, subject, &options);
    }
    let mut measured = Vec::new();
    for workload in chosen {
        let rows = measure(workload, &options);
        print!("{}", report::table(workload, &rows));
        measured.push((workload, rows));
    }
    let directory = directory();
    if let Err(error) = report::write(&directory, &measured) {
        eprintln!("cannot write to {}: {error}", directory.display());
        return ExitCode::FAILURE;
    }
    println!("\ntarget/bench/native.json, target/bench/native.html");
    ExitCode::SUCCESS
}

/// One subject, for a profiler.
fn alone(workloads: &[&Workload], subject: &str, options: &Options) -> ExitCode {
    for workload in workloads {
        let Some(entry) = workload.entries.iter().find(|entry| entry.name == subject) else {
            eprintln!("{} has no subject {subject}", workload.id);
            return ExitCode::from(2);
        };
        let effort = match options.rounds {
            Some(rounds) => Effort::Rounds(rounds),
            None => SAMPLE,
        };
        for _ in 0..options.samples.unwrap_or(1) {
            let value = (entry.measure)(options.n.unwrap_or(workload.n), effort);
            if options.bare {
                println!("{value}");
            } else {
                println!("{} {subject}: {} {}", workload.id, report::number(value), workload.unit);
            }
        }
    }
    ExitCode::SUCCESS
}

fn measure(workload: &Workload, options: &Options) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut left_out = Vec::new();
    let mut sizes = vec![options.n.unwrap_or(workload.n)];
    if !options.quick && options.n.is_none() {
        sizes.extend(workload.sweep);
        sizes.sort_unstable();
    }
    for n in sizes {
        let samples = match (workload.slow, options.quick) {
            _ if options.samples.is_some() => options.samples.unwrap_or(1),
            (true, true) => 1,
            (true, false) => 5,
            // Of large sizes a sample takes seconds.
            (false, _) if n > 100_000 => 3,
            (false, true) if n == 100_000 => 3,
            (false, false) if n == 100_000 => 9,
            (false, true) => 15,
            (false, false) => 25,
        };
        rows.extend(interleaved(workload, n, samples.max(1), &mut left_out));
    }
    rows
}

/// A subject that takes so long for a sample, where it does not wait for timers, takes an hour for all of them.
const TOO_LONG: Duration = Duration::from_secs(6);

/// Takes a sample of each subject in turn, beginning with another one in each round.
///
/// Those that are left out are not asked, and one that takes too long is left out from then on.
fn interleaved(workload: &Workload, n: usize, rounds: usize, left_out: &mut Vec<&'static str>) -> Vec<Row> {
    let entries: Vec<_> = workload.entries.iter().filter(|entry| !left_out.contains(&entry.name)).collect();
    let mut rows: Vec<_> = entries
        .iter()
        .map(|entry| Row {
            workload: workload.id,
            subject: entry.name,
            unit: workload.unit,
            n,
            unfair: entry.unfair,
            samples: Vec::with_capacity(rounds),
        })
        .collect();
    for round in 0..rounds {
        for step in 0..entries.len() {
            let index = (round + step) % entries.len();
            if left_out.contains(&entries[index].name) {
                continue;
            }
            progress(&format!(
                "{} n = {n}: round {} of {rounds}, {}",
                workload.id,
                round + 1,
                entries[index].name
            ));
            let start = Instant::now();
            let sample = if workload.apart {
                apart(workload, entries[index].name, n)
            } else {
                (entries[index].measure)(n, SAMPLE)
            };
            let name = entries[index].name;
            if !workload.slow && start.elapsed() > TOO_LONG {
                left_out.push(name);
                println!(
                    "\n{}: {name} took {:.1} s for a sample of n = {n}, and is left out from here on",
                    workload.id,
                    start.elapsed().as_secs_f64()
                );
            }
            rows[index].samples.push(sample);
        }
    }
    progress("");
    for row in &mut rows {
        row.samples.sort_by(f64::total_cmp);
    }
    rows
}

/// A sample from a process of its own, whose memory nobody has used before.
fn apart(workload: &Workload, subject: &str, n: usize) -> f64 {
    let program = std::env::current_exe().expect("this program is a file");
    let output = std::process::Command::new(program)
        .args([workload.id, "--only", subject, "--bare", "--n", &n.to_string()])
        .output()
        .expect("this program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("{} of {subject} said {text:?}", workload.id))
}

/// One line that is written over; where nobody looks, nothing.
fn progress(line: &str) {
    let mut error = std::io::stderr();
    if error.is_terminal() {
        _ = write!(error, "\r\x1b[K{line}");
        _ = error.flush();
    }
}
