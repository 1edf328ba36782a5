//! How one behaviour is tested on every host, twice: on the simulator, and through the host's own backend.
//!
//! A behaviour is an `async` body that logs events. The events must come in the same order in both runs. Time is
//! counted in seconds of the test: virtual ones on the simulator, 20 ms each on the host, where only bounds are checked.

use std::{cell::RefCell, future::Future, rc::Rc, time::Duration};

use selkie::{EventLoop, RunError, testing::Sim};

/// The attribute of tests that are no behaviours, because they make a loop of their own or need none.
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub use std::prelude::v1::test;
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
pub use wasm_bindgen_test::wasm_bindgen_test as test;

/// What a behaviour gets: a log and a clock.
#[derive(Clone, Debug)]
pub struct T {
    events: Rc<RefCell<Vec<String>>>,
    second: Duration,
    exact: bool,
}

/// Seeds that each `seeds` behaviour runs with; `SELKIE_SEEDS` makes it more.
const SEEDS: u64 = 100;


/// The same for `storm` behaviours, and `SELKIE_STORMS`. Where debug builds are slow it is fewer.
const STORMS: u64 = if HOST_BLOCKS { 1000 } else { 100 };
