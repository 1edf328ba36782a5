//! The tour in a terminal: each event as it happens, then what each task did as a timeline of one line.

use std::{
    cell::RefCell,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    rc::Rc,
    time::Duration,
};

use selkie::{EventLoop, testing::Sim};

use super::{
    scenarios,
    stage::{self, Event, Expected, Host, Outcome, Record, Scenario, State},
};

/// How far an event may be off by the real clock.
const TOLERANCE: Duration = Duration::from_millis(50);

/// Characters of a timeline.
const WIDTH: usize = 60;

const USAGE: &str = "usage: tour [--virtual] [scenario...]";

pub fn main() -> ExitCode {
    let mut simulated = false;
    let mut chosen = Vec::new();
    for argument in std::env::args().skip(1) {
        let scenario = scenarios::ALL.iter().find(|scenario| scenario.name == argument);
        match (argument.as_str(), scenario) {
            ("--virtual", _) => simulated = true,
            (_, Some(scenario)) => chosen.push(scenario),
            (other, None) => {
                let names: Vec<_> = scenarios::ALL.iter().map(|scenario| scenario.name).collect();
                let problem = if other == "--help" { String::new() } else { format!("unknown: {other}\n") };
                eprintln!("{problem}{USAGE}\nscenarios: {}", names.join(", "));
                return ExitCode::from(2);
            }
        }
    }
    if chosen.is_empty() {
        chosen.extend(scenarios::ALL);
    }

    let paint = Paint { on: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() };
    let clock = EventLoop::new();
    let start = clock.time();
    println!(
        "{}\n",
        paint.dim("timelines: █ polled, or blocks its thread   ─ waits   · not started   ✓ done   ✗ cancelled   ! failed")
    );
    let mut failed = Vec::new();
    for scenario in &chosen {
        if !play(scenario, simulated, paint).passed() {
            failed.push(scenario.name);
        }
    }
    let took = (clock.time() - start).as_secs_f64();
    let on = if simulated { "on virtual time" } else { "against the real clock" };
    let total = chosen.len();
    println!("{}", "=".repeat(72));
    if failed.is_empty() {
        println!("{}: all {total} scenarios, {on}, in {took:.2} s", paint.green("passed"));
        ExitCode::SUCCESS
    } else {
        let names = failed.join(", ");
        println!("{}: {} of {total} scenarios, {on}: {names}", paint.red("FAILED"), failed.len());
        ExitCode::FAILURE
    }
}

fn play(scenario: &'static Scenario, simulated: bool, paint: Paint) -> Outcome {
    println!("{}  {}", paint.bold(scenario.title), paint.dim(&scenario.rows.join(" ")));
    println!("{}", paint.dim(&wrap(scenario.shows, 96)));
    if let Some(note) = (scenario.note)(if simulated { Host::Virtual } else { Host::real() }) {
        println!("{}", paint.dim(&wrap(note, 96)));
    }
    println!("{}", paint.dim("       at  expected  who       event"));

    let rows = Rc::new(RefCell::new(Rows::default()));
    let written = rows.clone();
    let listener = move |record: &Record| match record {
        Record::Event(event) => {
            print_event(event, paint);
            let _ = io::stdout().flush();
        }
        Record::Task { at, id, name, state, thread, .. } => {
            written.borrow_mut().add(*id, name, *at, *state, thread);
        }
    };
    let sim = simulated.then(|| Rc::new(Sim::new()));
    let (event_loop, tolerance) = match &sim {
        Some(sim) => (sim.event_loop(), Duration::ZERO),
        None => (EventLoop::new(), TOLERANCE),
    };
    let stage = stage::begin(scenario, &event_loop, sim, tolerance, listener);
    event_loop.run_forever().expect("no loop runs on this thread");
    let outcome = stage.end();
    for Expected { at, who, text } in outcome.missing {
        println!("{} {:>7}  {at:>8.3}  {who:<8}  {text}", paint.red("✗"), "never");
    }
    println!();
    rows.borrow().print(scenario.seconds(), paint);
    println!();
    outcome
}

fn print_event(event: &Event, paint: Paint) {
    let Event { at, who, text, expected, in_order, in_time } = event;
    let mark = if event.is_right() { paint.green("✓") } else { paint.red("✗") };
    let time = expected.map_or("-".to_owned(), |expected| format!("{:.3}", expected.at));
    let mut line = format!("{mark} {:>7.3}  {time:>8}  {who:<8}  {text}", at.as_secs_f64());
    match expected {
        None => line += &paint.red("  <- nothing more was expected"),
        Some(Expected { who, text, .. }) if !in_order => {
            line += &paint.red(&format!("  <- wrong order: expected {who}: {text}"));
        }
        Some(expected) if !in_time => {
            let off = at.as_secs_f64() - expected.at;
            line += &paint.red(&format!("  <- off by {:+.0} ms", off * 1000.0));
        }
        Some(_) => {}
    }
    println!("{line}");
}

/// What each task did, as far as the loop has told.
#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
}

struct Row {
    id: u64,
    name: String,
    /// Each state from when on.
    states: Vec<(Duration, State)>,
    /// Where it runs, if it is a job.
    thread: Option<String>,
}

impl Rows {
    fn add(&mut self, id: u64, name: &str, at: Duration, state: State, thread: &Option<String>) {
        let place = self.rows.iter().position(|row| row.id == id).unwrap_or_else(|| {
            self.rows.push(Row { id, name: name.to_owned(), states: Vec::new(), thread: None });
            self.rows.len() - 1
        });
        let row = &mut self.rows[place];
        row.states.push((at, state));
        if thread.is_some() {
            row.thread.clone_from(thread);
        }
    }

    fn print(&self, length: f64, paint: Paint) {
        // A scenario without any time in it is one column.
        let length = length.max(0.001);
        for Row { name, states, thread, .. } in &self.rows {
            // A poll is too short to see, so it marks its column, and an end comes on top of everything.
            let mut line = vec![' '; WIDTH + 1];
            let column =
                |at: Duration| ((at.as_secs_f64() / length * WIDTH as f64).round() as usize).min(WIDTH);
            for (index, &(at, state)) in states.iter().enumerate() {
                let from = column(at);
                let to = states.get(index + 1).map_or(from, |&(next, _)| column(next));
                let filler = match state {
                    State::Created => '·',
                    State::Busy => '█',
                    _ => '─',
                };
                for cell in &mut line[from..=to] {
                    if *cell == ' ' || state == State::Busy {
                        *cell = filler;
                    }
                }
                match state {
                    State::Running => line[from] = '█',
                    State::Done => line[from] = '✓',
                    State::Cancelled => line[from] = '✗',
                    State::Failed => line[from] = '!',
                    _ => {}
                }
            }
            let place = thread.as_ref().map_or_else(String::new, |thread| format!("  {thread}"));
            println!("  {name:<9} {}{}", paint.cyan(&line.iter().collect::<String>()), paint.dim(&place));
        }
        let mut axis = vec![' '; WIDTH + 8];
        for second in 0..=length as usize {
            let from = (second as f64 / length * WIDTH as f64).round() as usize;
            for (cell, letter) in axis[from..].iter_mut().zip(format!("{second} s").chars()) {
                *cell = letter;
            }
        }
        println!("  {:<9} {}", "", paint.dim(axis.iter().collect::<String>().trim_end()));
    }
}

/// Breaks a text into lines of at most `width`.
fn wrap(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}

/// Colours, if the output is looked at.
#[derive(Clone, Copy)]
struct Paint {
    on: bool,
}

impl Paint {
    fn with(self, code: u8, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.with(1, text)
    }

    fn dim(self, text: &str) -> String {
        self.with(2, text)
    }

    fn red(self, text: &str) -> String {
        self.with(31, text)
    }

    fn green(self, text: &str) -> String {
        self.with(32, text)
    }

    fn cyan(self, text: &str) -> String {
        self.with(36, text)
    }
}
