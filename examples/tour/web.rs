//! What the page of the tour calls. What is shown, and how, is the business of `web/tour/tour.js`.

use std::{rc::Rc, time::Duration};

use selkie::{
    EventLoop,
    os::web::{keep_workers, run_forever},
    testing::Sim,
};
use wasm_bindgen::prelude::*;

use super::{
    scenarios,
    stage::{self, Expected, Host, Outcome, Record, Scenario, State},
};

/// How far an event may be off by the clock of a page.
const TOLERANCE: Duration = Duration::from_millis(100);

#[wasm_bindgen]
extern "C" {
    /// The page, as the reader of the table of scenarios.
    pub type Reader;

    #[wasm_bindgen(method, structural)]
    fn scenario(this: &Reader, name: &str, title: &str, shows: &str, rows: &str, seconds: f64);

    /// What is special here, on the clock of that name.
    #[wasm_bindgen(method, structural)]
    fn note(this: &Reader, clock: &str, text: &str);

    #[wasm_bindgen(method, structural)]
    fn expected(this: &Reader, clock: &str, at: f64, who: &str, text: &str);

    /// The page, while a scenario plays.
    #[derive(Clone)]
    pub type Watcher;

    #[wasm_bindgen(method, structural)]
    fn task(
        this: &Watcher,
        at: f64,
        id: f64,
        name: &str,
        state: &str,
        waits_for: Option<String>,
        thread: Option<String>,
    );

    #[wasm_bindgen(method, structural)]
    fn event(this: &Watcher, at: f64, who: &str, text: &str, in_order: bool, in_time: bool);

    #[wasm_bindgen(method, structural)]
    fn end(this: &Watcher, at: f64, passed: bool);
}

/// Tells `reader` of every scenario and of what it expects.
#[wasm_bindgen]
pub fn scenarios(reader: &Reader) {
    for scenario in scenarios::ALL {
        let Scenario { name, title, shows, rows, .. } = scenario;
        reader.scenario(name, title, shows, &rows.join(" "), scenario.seconds());
        for (clock, host) in [("real", Host::real()), ("virtual", Host::Virtual)] {
            if let Some(note) = (scenario.note)(host) {
                reader.note(clock, note);
            }
            for Expected { at, who, text } in scenario.expected_on(host) {
                reader.expected(clock, *at, who, text);
            }
        }
    }
}

/// How far an event may be off in this page, in seconds.
#[wasm_bindgen]
pub fn tolerance() -> f64 {
    TOLERANCE.as_secs_f64()
}

/// Plays a scenario in real time, on a loop of its own that the browser drives.
#[wasm_bindgen]
pub fn play(name: &str, watcher: Watcher) {
    let Some(scenario) = find(name) else { return };
    // In the thread's default loop.
    selkie::spawn(async move {
        // It takes a browser some 50 ms to bring one up, and that is not what the times are about. Where there are no
        // threads there is nothing to do, and where one does not come, the scenario will say so.
        let _ = keep_workers(WORKERS).await;
        // Made here, because the clock of the scenario starts with its loop.
        let event_loop = EventLoop::new();
        let stage = stage::begin(scenario, &event_loop, None, TOLERANCE, listener(watcher.clone()));
        run_forever(&event_loop).expect("the loop is new").await;
        let at = stage.time();
        tell_end(&watcher, at, &stage.end());
    })
    .detach();
}

/// As many as a scenario uses at a time: three of `to_thread`, and two of a pool that is made while those are not given back.
const WORKERS: usize = 5;

/// Plays a scenario on virtual time; it has ended when this returns.
#[wasm_bindgen]
pub fn play_virtual(name: &str, watcher: Watcher) {
    let Some(scenario) = find(name) else { return };
    let sim = Rc::new(Sim::new());
    let event_loop = sim.event_loop();
    let stage = stage::begin(scenario, &event_loop, Some(sim), Duration::ZERO, listener(watcher.clone()));
    event_loop.run_forever().expect("a simulated loop may run anywhere");
    let at = stage.time();
    tell_end(&watcher, at, &stage.end());
}

fn find(name: &str) -> Option<&'static Scenario> {
    scenarios::ALL.iter().find(|scenario| scenario.name == name)
}

fn listener(watcher: Watcher) -> impl Fn(&Record) {
    move |record| match record {
        Record::Task { at, id, name, state, waits_for, thread } => {
            let state = match state {
                State::Created => "created",
                State::Running => "running",
                State::Waiting => "waiting",
                State::Busy => "busy",
                State::Done => "done",
                State::Cancelled => "cancelled",
                State::Failed => "failed",
            };
            watcher.task(at.as_secs_f64(), *id as f64, name, state, waits_for.clone(), thread.clone());
        }
        Record::Event(event) => {
            let stage::Event { at, who, text, in_order, in_time, .. } = event;
            watcher.event(at.as_secs_f64(), who, text, *in_order, *in_time);
        }
    }
}

fn tell_end(watcher: &Watcher, at: Duration, outcome: &Outcome) {
    watcher.end(at.as_secs_f64(), outcome.passed());
}
