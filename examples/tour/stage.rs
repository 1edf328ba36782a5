//! What a scenario plays on: a loop that is watched, a log that is checked as it grows.
//!
//! Everything here is the same on every target. A front end makes a loop, calls [`begin`], runs the loop until it is
//! stopped, and calls [`Stage::end`].

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use selkie::{
    AnyTask, EventLoop, Instrument, LoopHandle, LoopLocal, Task, TaskState, ThreadPool, current_thread_name,
    testing::Sim, to_thread,
};

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
    /// Whether there is nothing to see on a host without threads.
    pub needs_threads: bool,
    /// What is different on a host that is not a native program.
    pub note: fn(Host) -> Option<&'static str>,
    /// Every event, in order.
    pub expected: &'static [Expected],
}

impl Scenario {
    /// How long it takes, in seconds.
    pub fn seconds(&self) -> f64 {
        self.expected.iter().fold(0.0, |longest, expected| expected.at.max(longest))
    }

    /// What has to come on `host`.
    pub fn expected_on(&self, host: Host) -> &'static [Expected] {
        if self.is_refused_on(host) { WITHOUT_THREADS } else { self.expected }
    }

    /// Whether the host has to say that it cannot.
    pub fn is_refused_on(&self, host: Host) -> bool {
        self.needs_threads && host == Host::OneThread
    }
}

/// What a scenario runs on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Host {
    /// The simulator, where jobs and loops have threads of its own making.
    Virtual,
    /// A real clock, and threads for blocking work.
    Threads,
    /// A real clock and one thread, as in a page of a build without threads.
    OneThread,
}

impl Host {
    /// The real one that this program runs on.
    pub fn real() -> Self {
        if ThreadPool::new(1).is_ok() { Self::Threads } else { Self::OneThread }
    }
}

/// What a host without threads has to answer.
const WITHOUT_THREADS: &[Expected] = &[
    at(0.0, "main", "to_thread: the error of a host without threads"),
    at(0.0, "main", "EventLoop::spawn_thread: the same, before anything has begun"),
];

async fn without_threads(stage: Stage) {
    if to_thread(|| ()).await.is_err_and(|error| error.is_unavailable()) {
        stage.log("to_thread: the error of a host without threads");
    }
    if EventLoop::spawn_thread("worker").is_err() {
        stage.log("EventLoop::spawn_thread: the same, before anything has begun");
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
    /// A task or a job was made, or has another state.
    Task {
        at: Duration,
        id: u64,
        name: String,
        state: State,
        /// What it waits for, if it waits.
        waits_for: Option<String>,
        /// Where a job runs.
        thread: Option<String>,
    },
    Event(Event),
}

/// What a task or a job does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State {
    Created,
    Running,
    Waiting,
    /// It blocks its thread.
    Busy,
    Done,
    Cancelled,
    Failed,
}

impl From<TaskState> for State {
    fn from(state: TaskState) -> Self {
        match state {
            TaskState::Created => Self::Created,
            TaskState::Running => Self::Running,
            TaskState::Finished => Self::Done,
            TaskState::Cancelled => Self::Cancelled,
            TaskState::Failed => Self::Failed,
            _ => Self::Waiting,
        }
    }
}

/// The stage of the loop, for what other threads have to say.
static STAGE: LoopLocal<Stage> = LoopLocal::new();

/// Says things on a stage from any thread.
#[derive(Clone, Debug)]
pub struct Reporter {
    handle: LoopHandle,
    who: &'static str,
}

impl Reporter {
    /// As [`Stage::log`]. What one thread says comes in its order.
    pub fn log(&self, text: &'static str) {
        let who = self.who;
        self.call(move |stage| stage.log_as(who.to_owned(), text.to_owned()));
    }

    /// Calls `what` on the loop of the stage.
    pub fn call(&self, what: impl FnOnce(&Stage) + Send + 'static) {
        // A loop that has closed needs to hear nothing more.
        let _ = self.handle.call_soon_threadsafe(move || {
            if let Some(stage) = STAGE.get() {
                what(&stage);
            }
        });
    }
}

/// What a thread is.
const THREAD: &str =
    if cfg!(all(target_family = "wasm", target_os = "unknown")) { "Worker" } else { "thread" };

fn this_thread(simulated: bool) -> String {
    match current_thread_name() {
        _ if simulated => "a simulated thread".to_owned(),
        Some(name) => format!("{THREAD} {name}"),
        None => format!("a {THREAD}"),
    }
}

/// A task of another loop, which says itself what it does.
#[derive(Debug)]
pub struct Away {
    reporter: Reporter,
    id: u64,
    name: &'static str,
    simulated: bool,
}

impl Away {
    /// To be called where the task runs.
    pub fn is(&self, state: State) {
        let (id, name, thread) = (self.id, self.name, this_thread(self.simulated));
        self.reporter.call(move |stage| stage.tell_job(stage.time(), id, name, state, Some(thread)));
    }
}

/// Work that blocks the thread it is given to.
#[derive(Debug)]
pub struct Job {
    reporter: Reporter,
    id: u64,
    name: &'static str,
    length: Duration,
    simulated: bool,
}

impl Job {
    /// Blocks, and gives back its name.
    #[allow(clippy::disallowed_methods, reason = "this is what blocking work does")]
    pub fn run(self) -> &'static str {
        let Self { reporter, id, name, length, simulated } = self;
        let thread = this_thread(simulated);
        // The simulator has let the time pass already.
        let early = if simulated { length } else { Duration::ZERO };
        reporter.call(move |stage| {
            let at = stage.time().saturating_sub(early);
            stage.tell_job(at, id, name, State::Busy, Some(thread));
        });
        if !simulated {
            std::thread::sleep(length);
        }
        reporter.call(move |stage| stage.tell_job(stage.time(), id, name, State::Done, None));
        name
    }
}

/// Where a scenario plays. Cheap to clone.
#[derive(Clone)]
pub struct Stage {
    scene: Rc<Scene>,
}

struct Scene {
    event_loop: EventLoop,
    /// The world, on virtual time.
    sim: Option<Rc<Sim>>,
    start: Duration,
    scenario: &'static Scenario,
    expected: &'static [Expected],
    jobs: Cell<u64>,
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

/// Puts a scenario on a stopped loop: of `sim`, or of the host. `listener` is told of everything, as it happens; an event may be off by
/// `tolerance`.
pub fn begin(
    scenario: &'static Scenario,
    event_loop: &EventLoop,
    sim: Option<Rc<Sim>>,
    tolerance: Duration,
    listener: impl Fn(&Record) + 'static,
) -> Stage {
    let host = if sim.is_some() { Host::Virtual } else { Host::real() };
    let scene = Scene {
        event_loop: event_loop.clone(),
        sim,
        start: event_loop.time(),
        scenario,
        expected: scenario.expected_on(host),
        jobs: Cell::new(0),
        tolerance,
        listener: Box::new(listener),
        score: RefCell::default(),
    };
    let stage = Stage { scene: Rc::new(scene) };
    event_loop.set_instrument(Some(Rc::new(stage.clone())));
    match scenario.play {
        Play::Main(body) => {
            let builder = Task::builder().name("main").lazy();
            let refused = scenario.is_refused_on(host);
            let inner = stage.clone();
            let body = async move {
                STAGE.set(inner.clone());
                if refused { without_threads(inner).await } else { body(inner).await }
            };
            let main = event_loop.spawn_with(builder, body).expect("the loop is open");
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

    /// Work that blocks for so many seconds, to be given to another thread: `to_thread(move || job.run())`.
    ///
    /// On virtual time the jobs that are given away at one moment take equally long.
    pub fn job(&self, name: &'static str, seconds: f64) -> Job {
        self.jobs_take(seconds);
        let length = Duration::from_secs_f64(seconds);
        let id = self.new_job(name);
        Job { reporter: self.reporter(name), id, name, length, simulated: self.scene.sim.is_some() }
    }

    /// A task of that name on another loop, which has not begun.
    pub fn away(&self, name: &'static str) -> Away {
        let id = self.new_job(name);
        Away { reporter: self.reporter(name), id, name, simulated: self.scene.sim.is_some() }
    }

    /// On virtual time, how long the jobs take that are given away next.
    pub fn jobs_take(&self, seconds: f64) {
        let length = Duration::from_secs_f64(seconds);
        if let Some(sim) = &self.scene.sim {
            sim.set_job_time(length..=length);
        }
    }

    /// Work that blocks the loop itself: nothing else happens meanwhile.
    #[allow(clippy::disallowed_methods, reason = "to show what blocking does to a loop")]
    pub fn block_the_loop(&self, name: &'static str, seconds: f64) {
        let id = self.new_job(name);
        self.tell_job(self.time(), id, name, State::Busy, Some("the loop's own thread".to_owned()));
        let length = Duration::from_secs_f64(seconds);
        match &self.scene.sim {
            Some(sim) => sim.advance(length),
            // In a page a sleep of the thread would trap.
            None if cfg!(all(target_family = "wasm", target_os = "unknown")) => {
                let end = self.time() + length;
                while self.time() < end {
                    std::hint::spin_loop();
                }
            }
            None => std::thread::sleep(length),
        }
        self.tell_job(self.time(), id, name, State::Done, None);
    }

    fn new_job(&self, name: &'static str) -> u64 {
        self.scene.jobs.set(self.scene.jobs.get() + 1);
        // Far from the numbers of tasks, and a number for JavaScript too.
        let id = self.scene.jobs.get() + (1 << 50);
        self.tell_job(self.time(), id, name, State::Created, None);
        id
    }

    fn tell_job(&self, at: Duration, id: u64, name: &str, state: State, thread: Option<String>) {
        self.tell(&Record::Task { at, id, name: name.to_owned(), state, waits_for: None, thread });
    }

    /// Says things in the name of `who`, from any thread.
    pub fn reporter(&self, who: &'static str) -> Reporter {
        Reporter { handle: self.scene.event_loop.handle(), who }
    }

    /// Whether loops and jobs have threads here.
    pub fn has_threads(&self) -> bool {
        self.scene.sim.is_some() || Host::real() == Host::Threads
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
            self.scene.expected.get(score.events - 1)
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
        let missing = self.scene.expected.get(score.events..).unwrap_or_default();
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
        let (at, id, state) = (self.time(), task.id(), task.state().into());
        let name = match task.name() {
            // Only what is submitted has no name of its own.
            name if *name == format!("Task-{id}") => "submitted".to_owned(),
            name => name.to_string(),
        };
        self.tell(&Record::Task { at, id, name, state, waits_for, thread: None });
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
