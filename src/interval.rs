//! Ticks: the same length of time, again and again.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;

use crate::{
    scheduler::with_current,
    sleep::{Sleep, nanos, sleep, sleep_until},
};

/// What an [`Interval`] does with ticks that were due while nobody waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MissedTicks {
    /// Each missed tick comes, one a turn, until the interval has caught up. Their number stays right.
    #[default]
    Burst,
    /// One tick comes at once, and the next a period after it. The distance stays right, and no other: what each tick is late, as any
    /// may be a little, adds up.
    Delay,
    /// One tick comes at once, and the next at the next multiple of the period. The phase stays right.
    Skip,
}

/// Ticks every `period`, first after one period.
///
/// asyncio has no such thing; JavaScript's `setInterval` is the model. The times are multiples of the period from this
/// call, so they do not drift, unless [`MissedTicks::Delay`] is chosen. A tick is never early, and is late as a
/// [`sleep`](crate::sleep()) may be.
///
/// The interval belongs to the loop that polls it. [`Duration::MAX`] never ticks. Zero counts as one millisecond, as it
/// does for `setInterval`: [`yield_now`](crate::yield_now) is for giving others a turn.
///
/// # Examples
///
/// ```
/// use selkie::interval;
/// use std::time::Duration;
///
/// selkie::run(async {
///     let mut seconds = interval(Duration::from_millis(2));
///     let first = seconds.tick().await;
///     let second = seconds.tick().await;
///     assert_eq!(second - first, Duration::from_millis(2));
/// });
/// ```
#[doc(alias = "setInterval")]
pub fn interval(period: Duration) -> Interval {
    let period = not_zero(period);
    Interval::new(sleep(period), period)
}

/// Ticks at `start` on the loop's clock, and then every `period`.
///
/// A start in the past has missed ticks; see [`MissedTicks`]. Otherwise as [`interval`].
pub fn interval_at(start: Duration, period: Duration) -> Interval {
    Interval::new(sleep_until(start), not_zero(period))
}

/// A source of ticks; from [`interval`]. Also a [`Stream`] that never ends.
///
/// Not `Send`. Dropping it takes its timer back.
#[must_use = "an interval does nothing unless its ticks are awaited"]
pub struct Interval {
    sleep: Sleep,
    period: Duration,
    missed: MissedTicks,
}

fn not_zero(period: Duration) -> Duration {
    if period.is_zero() { Duration::from_millis(1) } else { period }
}

impl Interval {
    fn new(sleep: Sleep, period: Duration) -> Self {
        Self { sleep, period, missed: MissedTicks::default() }
    }

    /// Chooses what happens with missed ticks; [`MissedTicks::Burst`] unless set.
    pub fn missed_ticks(mut self, missed: MissedTicks) -> Self {
        self.missed = missed;
        self
    }

    /// The length between two ticks.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// When the next tick is due, on the loop's clock. `None` for never, and before the first poll of an interval made
    /// outside of a loop.
    pub fn next_tick(&self) -> Option<Duration> {
        self.sleep.deadline()
    }

    /// Waits for the next tick; gives the time at which it was due.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no tick.
    pub fn tick(&mut self) -> Tick<'_> {
        Tick { interval: self }
    }

    /// Makes the next tick come a whole period from now.
    pub fn reset(&mut self) {
        match with_current(|scheduler| Duration::from_nanos(scheduler.time())) {
            Some(now) => self.sleep.reset(now.saturating_add(self.period)),
            None => self.sleep = sleep(self.period),
        }
    }

    fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        if Pin::new(&mut self.sleep).poll(cx).is_pending() {
            return Poll::Pending;
        }
        let due = self.sleep.deadline().expect("a sleep that ended had a deadline");
        // The time that the loop knows may be from before a poll that held it up.
        let now = || with_current(|scheduler| Duration::from_nanos(scheduler.time())).unwrap_or(due);
        let next = match self.missed {
            MissedTicks::Burst => due.saturating_add(self.period),
            MissedTicks::Delay => now().saturating_add(self.period),
            MissedTicks::Skip => after(due, nanos(self.period), now()),
        };
        self.sleep.reset(next);
        Poll::Ready(due)
    }
}

/// The first of the times `due + k * period` that is after `now`.
fn after(due: Duration, period: u64, now: Duration) -> Duration {
    let late = nanos(now.saturating_sub(due));
    due.saturating_add(Duration::from_nanos((late / period + 1).saturating_mul(period)))
}

impl Stream for Interval {
    type Item = Duration;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Duration>> {
        self.poll_tick(cx).map(Some)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interval")
            .field("period", &self.period)
            .field("next_tick", &self.next_tick())
            .field("missed_ticks", &self.missed)
            .finish()
    }
}

/// The future of [`Interval::tick`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Tick<'a> {
    interval: &'a mut Interval,
}

impl Future for Tick<'_> {
    type Output = Duration;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Duration> {
        self.interval.poll_tick(cx)
    }
}
