use std::time::Duration;

/// How often a job that failed is tried again, and how long it waits before each time.
///
/// The wait before attempt *n* + 1 is `base` doubled *n* - 1 times, at most `max`; of that a random half to all is taken, so that
/// jobs which failed together do not come back together.
///
/// # Examples
///
/// ```
/// use selkie_redis::Retry;
/// use std::time::Duration;
///
/// let retry = Retry::default().attempts(3).base(Duration::from_secs(4));
/// let wait = retry.wait(1).unwrap();
/// assert!(wait >= Duration::from_secs(2) && wait <= Duration::from_secs(4));
/// assert!(retry.wait(2).unwrap() >= Duration::from_secs(4));
/// assert_eq!(retry.wait(3), None); // the third attempt was the last
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    attempts: u32,
    base: Duration,
    max: Duration,
}

impl Default for Retry {
    /// Five attempts, one second at first, at most five minutes.
    fn default() -> Self {
        Self { attempts: 5, base: Duration::from_secs(1), max: Duration::from_secs(300) }
    }
}

impl Retry {
    /// Attempts in all, the first included. Zero counts as one: never again.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// The longest wait before the second attempt.
    pub fn base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// The longest wait of all.
    pub fn max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// How long to wait after `attempt`, counted from one, has failed. `None` if it was the last one.
    pub fn wait(&self, attempt: u32) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let doubled = 1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX).max(1);
        let whole = self.base.checked_mul(doubled).unwrap_or(self.max).min(self.max);
        Some(whole.mul_f64(0.5 + 0.5 * fastrand::f64()))
    }

    /// For connections: as long as it takes.
    pub(crate) const RECONNECT: Self =
        Self { attempts: u32::MAX, base: Duration::from_millis(20), max: Duration::from_secs(2) };
}
