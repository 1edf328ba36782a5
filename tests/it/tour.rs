//! The transcripts of the tour, on virtual time. The example itself plays them against the real clock.

#[path = "../../examples/tour/scenarios.rs"]
mod scenarios;
#[allow(dead_code, reason = "each front end shows a part of it")]
#[path = "../../examples/tour/stage.rs"]
mod stage;

use std::{cell::RefCell, rc::Rc, time::Duration};

use selkie::testing::Sim;

use crate::test;

/// Rows: F27, F34, F55, F59, F60, F70, F79, F82, F83, F84, F85, F86, F87, F88.
#[test]
fn every_scenario_of_the_tour_plays_as_expected() {
    for scenario in scenarios::ALL {
        let wrong = Rc::new(RefCell::new(Vec::new()));
        let noted = wrong.clone();
        let sim = Rc::new(Sim::new());
        let event_loop = sim.event_loop();
        let listener = move |record: &stage::Record| match record {
            stage::Record::Event(event) if !event.is_right() => noted.borrow_mut().push(format!("{event:?}")),
            _ => {}
        };
        let stage = stage::begin(scenario, &event_loop, Some(sim), Duration::ZERO, listener);
        event_loop.run_forever().expect("a simulated loop may run anywhere");
        let outcome = stage.end();
        assert!(outcome.passed(), "{}: {:#?}, missing {:#?}", scenario.name, wrong.borrow(), outcome.missing);
    }
}
