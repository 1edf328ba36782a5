//! How much of a workload makes one sample.

use std::time::Duration;

#[derive(Clone, Copy)]
pub enum Effort {
    /// For measuring: at least as long.
    Time(Duration),
    /// For profilers that count: so many batches, whatever they take, behind one that warms up.
    Rounds(usize),
}

impl Effort {
    pub fn is_spent(self, elapsed: Duration, rounds: usize) -> bool {
        match self {
            Self::Time(time) => elapsed >= time,
            Self::Rounds(count) => rounds >= count,
        }
    }

    /// How many rounds that is, of about `each`.
    pub fn rounds(self, each: Duration) -> usize {
        match self {
            Self::Time(time) => (time.as_nanos() / each.as_nanos().max(1)) as usize,
            Self::Rounds(count) => count,
        }
    }
}
