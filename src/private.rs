//! What the macros expand to.

use std::ops::Range;

use crate::testing::Sim;

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub use crate::os::native::{main, test};
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
pub use crate::os::web::{main, test};

pub use crate::isolated::job::{Job, Registered, call, run};
pub use inventory;

/// Options of `#[selkie::test(sim)]`.
#[derive(Debug)]
pub struct SimOptions {
    /// The test's path, for messages.
    pub name: &'static str,
    /// The seeds to run with; first come, first served without.
    pub seeds: Option<Range<u64>>,
}

/// Runs a test on the simulator, once or with each seed. `SELKIE_SEED` picks one seed.
pub fn test_sim<F>(options: SimOptions, f: impl Fn() -> F) -> F::Output
where
    F: Future + 'static,
    F::Output: TestOutput + 'static,
{
    let chosen = std::env::var("SELKIE_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seeds = match (options.seeds, chosen.and_then(|seed| Some(seed..seed.checked_add(1)?))) {
        (Some(_), Some(chosen)) => Some(chosen),
        (seeds, _) => seeds,
    };
    let Some(seeds) = seeds.filter(|seeds| !seeds.is_empty()) else { return Sim::new().run(f()) };
    let last = seeds.end - 1;
    for seed in seeds {
        let note = Note { name: options.name, seed };
        let output = Sim::seeded(seed).run(f());
        if seed == last || output.failed() {
            if !output.failed() {
                std::mem::forget(note);
            }
            return output;
        }
        std::mem::forget(note);
    }
    unreachable!("the last seed returns")
}

/// Names the seed of a test that fails, by an `Err` or by a panic.
struct Note {
    name: &'static str,
    seed: u64,
}

impl Drop for Note {
    fn drop(&mut self) {
        crate::os::report(&format!("selkie: {} failed with SELKIE_SEED={}", self.name, self.seed));
    }
}

/// What a test may return.
pub trait TestOutput {
    /// Whether the test failed without a panic.
    fn failed(&self) -> bool;
}

impl TestOutput for () {
    fn failed(&self) -> bool {
        false
    }
}

impl<T, E> TestOutput for Result<T, E> {
    fn failed(&self) -> bool {
        self.is_err()
    }
}
