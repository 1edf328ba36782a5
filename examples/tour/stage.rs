//! What a scenario plays on: a loop that is watched, a log that is checked as it grows.
//!
//! Everything here is the same on every target. A front end makes a loop, calls [`begin`], runs the loop until it is
//! stopped, and calls [`Stage::end`].

use std::{cell::RefCell, fmt, future::Future, pin::Pin, rc::Rc, time::Duration};

use selkie::{AnyTask, EventLoop, Instrument, Task, TaskState};

/// One transcript: how it is played, and what has to come out.
#[derive(Debug)]
pub struct Scenario {
    /// One word, for the command line and for addresses.
    pub name: &'static str,
    pub title: &'static str,
    /// What one is meant to see.
    pub shows: &'static str,
    /// The promises of `tests/rows.txt` that it keeps.
    pub rows: &'static [&'static str],
    pub play: Play,
    /// Every event, in order.
    pub expected: &'static [Expected],
}

impl Scenario {
    /// How long it takes, in seconds.
    pub fn seconds(&self) -> f64 {
        self.expected.iter().fold(0.0, |longest, expected| expected.at.max(longest))
    }
}

/// How a scenario runs.
pub enum Play {
    /// An async body, as the task `main`; the loop stops when it has ended.
    Main(fn(Stage) -> Pin<Box<dyn Future<Output = ()>>>),
    /// A function that prepares a stopped loop. What it leaves there has to stop the loop.
    Forever(fn(&EventLoop, &Stage)),
}

impl fmt::Debug for Play {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Main(_) => "Main",
            Self::Forever(_) => "Forever",
        })
    }
}

/// An event that has to come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// Seconds since the scenario began.
    pub at: f64,
    /// The task that says it; `callback` and `caller` for what is outside of tasks.
    pub who: &'static str,
    pub text: &'static str,
}

/// Shortens the tables of expected events.
pub const fn at(at: f64, who: &'static str, text: &'static str) -> Expected {
    Expected { at, who, text }
}

/// An event that came, beside the one that was expected in its place.
#[derive(Debug)]
pub struct Event {
    pub at: Duration,
    pub who: String,
    pub text: String,
    pub expected: Option<&'static Expected>,
    /// The event is the expected one.
    pub in_order: bool,
    /// It came when it should, or as close to that as the host is held to.
    pub in_time: bool,
}

impl Event {
    pub fn is_right(&self) -> bool {
        self.in_order && self.in_time
    }
}

/// What a front end is told while a scenario plays.
#[derive(Debug)]
pub enum Record {
    /// A task was made, or has another state.
    Task {
        at: Duration,
        id: u64,
        name: String,
        state: TaskState,
        /// What it waits for, if it waits.
        waits_for: Option<String>,
    },
    Event(Event),
}

/// Where a scenario plays. Cheap to clone.
#[derive(Clone)]
pub struct Stage {
    scene: Rc<Scene>,
}

struct Scene {
    event_loop: EventLoop,
    start: Duration,
    scenario: &'static Scenario,
    tolerance: Duration,
    listener: Box<dyn Fn(&Record)>,
    score: RefCell<Score>,
}

#[derive(Default)]
struct Score {
    events: usize,
    wrong: usize,
    /// The tasks so far, for what others wait for.
    names: Vec<(u64, String)>,
}

/// How a scenario went.
#[derive(Debug)]
pub struct Outcome {
    /// How many events came in the wrong place, at a wrong time, or unexpected.
    pub wrong: usize,
    /// The expected events that did not come.
    pub missing: &'static [Expected],
}

impl Outcome {
    pub fn passed(&self) -> bool {
        self.wrong == 0 && self.missing.is_empty()
    }
}

/// Puts a scenario on a stopped loop. `listener` is told of everything, as it happens; an event may be off by `tolerance`.
pub fn begin(
    scenario: &'static Scenario,
    event_loop: &EventLoop,
    tolerance: Duration,
    listener: impl Fn(&Record) + 'static,
) -> Stage {
    let scene = Scene {
        event_loop: event_loop.clone(),
        start: event_loop.time(),
        scenario,
        tolerance,
        listener: Box::new(listener),
        score: RefCell::default(),
    };
    let stage = Stage { scene: Rc::new(scene) };
    event_loop.set_instrument(Some(Rc::new(stage.clone())));
    match scenario.play {
        Play::Main(body) => {
            let builder = Task::builder().name("main").lazy();
            let main = event_loop.spawn_with(builder, body(stage.clone())).expect("the loop is open");
            let running = event_loop.clone();
            main.on_done(move |_| running.stop());
            main.detach();
        }
        Play::Forever(prepare) => {
            prepare(event_loop, &stage);
            stage.log_as("caller".to_owned(), "run_forever begins".to_owned());
        }
    }
    stage
}

impl Stage {
    /// Starts `future` as a task of that name, eagerly.
    #[track_caller]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        Task::builder().name(name).spawn(future)
    }

    /// Says that something happened, in the name of the task that runs, or of the callback.
    pub fn log(&self, text: impl Into<String>) {
        let who = selkie::current_task().map_or("callback".to_owned(), |task| task.name().to_string());
        self.log_as(who, text.into());
    }

    fn log_as(&self, who: String, text: String) {
        let at = self.time();
        let expected = {
            let mut score = self.scene.score.borrow_mut();
            score.events += 1;
            self.scene.scenario.expected.get(score.events - 1)
        };
        let in_order = expected.is_some_and(|expected| expected.who == who && expected.text == text);
        let in_time = expected.is_some_and(|expected| {
            at.abs_diff(Duration::from_secs_f64(expected.at)) <= self.scene.tolerance
        });
        let event = Event { at, who, text, expected, in_order, in_time };
        if !event.is_right() {
            self.scene.score.borrow_mut().wrong += 1;
        }
        self.tell(&Record::Event(event));
    }

    /// Ends what was begun, once the loop has stopped: closes the loop and says how it went.
    pub fn end(self) -> Outcome {
        if matches!(self.scene.scenario.play, Play::Forever(_)) {
            self.log_as("caller".to_owned(), "run_forever has returned".to_owned());
        }
        // Also drops the stages that tasks and the instrument hold.
        self.scene.event_loop.close().expect("the loop has stopped");
        let score = self.scene.score.borrow();
        let missing = self.scene.scenario.expected.get(score.events..).unwrap_or_default();
        Outcome { wrong: score.wrong, missing }
    }

    /// The time since the scenario began.
    pub fn time(&self) -> Duration {
        self.scene.event_loop.time() - self.scene.start
    }

    fn tell(&self, record: &Record) {
        (self.scene.listener)(record);
    }

    fn tell_state(&self, task: &AnyTask) {
        if !task.is_task() {
            return;
        }
        let waits_for = task.waits_for().map(|waits_for| {
            let score = self.scene.score.borrow();
            let awaited = score.names.iter().find(|(id, _)| waits_for == format!("Task-{id}"));
            awaited.map_or(waits_for, |(_, name)| name.clone())
        });
        let name = task.name().to_string();
        self.tell(&Record::Task { at: self.time(), id: task.id(), name, state: task.state(), waits_for });
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("scenario", &self.scene.scenario.name).finish_non_exhaustive()
    }
}

/// The rows of a timeline are what the loop itself says of its tasks.
impl Instrument for Stage {
    fn created(&self, task: &AnyTask) {
        self.scene.score.borrow_mut().names.push((task.id(), task.name().to_string()));
        self.tell_state(task);
    }

    fn poll_start(&self, task: &AnyTask) {
        self.tell_state(task);
    }

    fn poll_end(&self, task: &AnyTask) {
        // A poll that ended the task is told of by `done`.
        if task.state() == TaskState::Waiting {
            self.tell_state(task);
        }
    }

    fn done(&self, task: &AnyTask) {
        self.tell_state(task);
    }
}
