//! Finding polls and callbacks that take too long: they hold up every other task of the loop.

#![expect(
    clippy::disallowed_types,
    reason = "only a watchdog contends for it, and a page has none: `os::lock`"
)]

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use selkie_platform::Platform;

use crate::{os, task::TaskRef};

/// What the loop's thread is doing, for the watchdog.
struct Watched {
    /// The outermost poll under way: since when, and of whom. Polls of milliseconds make this lock rare.
    poll: Mutex<Option<Poll>>,
}

struct Poll {
    since: Duration,
    label: String,
    reported: bool,
}

/// What is measured.
#[derive(Clone, Copy)]
pub(crate) enum Step<'a> {
    Poll(&'a TaskRef),
    /// What it is, and of which task.
    Call(&'a str, Option<&'a TaskRef>),
}

/// Is told of each poll and each callback. A loop knows [`SlowPolls`] by this only: a program that never asks for them has nothing
/// of it.
pub(crate) trait Watch {
    fn enter(&self, step: Step<'_>);

    /// What to report of the step that ends.
    fn leave(&self, step: Step<'_>) -> Option<String>;
}

impl Step<'_> {
    fn label(&self) -> String {
        match self {
            Self::Poll(task) => task.label(),
            Self::Call(what, Some(task)) => format!("{what} of {}", task.label()),
            Self::Call(what, None) => (*what).to_owned(),
        }
    }
}

/// Measures polls while somebody wants to know.
pub(crate) struct SlowPolls {
    limit: Duration,
    platform: Arc<dyn Platform>,
    starts: RefCell<Vec<Duration>>,
    watched: Arc<Watched>,
}

impl SlowPolls {
    pub(crate) fn new(limit: Duration, platform: &Arc<dyn Platform>) -> Self {
        let watched = Arc::new(Watched { poll: Mutex::new(None) });
        let weak: Weak<Watched> = Arc::downgrade(&watched);
        // The watchdog sees a poll that does not end; without one it is reported when it ends.
        let reporter = platform.clone();
        platform.watch(
            (limit / 2).max(Duration::from_millis(1)),
            Box::new(move || {
                let Some(watched) = weak.upgrade() else { return false };
                let mut poll = os::lock(&watched.poll);
                if let Some(poll) = poll.as_mut().filter(|poll| !poll.reported) {
                    let length = reporter.now().saturating_sub(poll.since);
                    if length >= limit {
                        poll.reported = true;
                        let label = &poll.label;
                        reporter.report(&format!(
                            "selkie: {label} has been running for {} ms and holds up its loop",
                            milliseconds(length)
                        ));
                    }
                }
                true
            }),
        );
        Self { limit, platform: platform.clone(), starts: RefCell::default(), watched }
    }
}

impl Watch for SlowPolls {
    fn enter(&self, step: Step<'_>) {
        let since = self.platform.now();
        let mut starts = self.starts.borrow_mut();
        if starts.is_empty() {
            let poll = Poll { since, label: step.label(), reported: false };
            *os::lock(&self.watched.poll) = Some(poll);
        }
        starts.push(since);
    }

    fn leave(&self, step: Step<'_>) -> Option<String> {
        let mut starts = self.starts.borrow_mut();
        let since = starts.pop()?;
        if starts.is_empty() {
            *os::lock(&self.watched.poll) = None;
        }
        let length = self.platform.now().saturating_sub(since);
        (length >= self.limit).then(|| {
            let unit = if matches!(step, Step::Poll(_)) { " for one poll" } else { "" };
            format!("{} took {} ms{unit} and held up its loop", step.label(), milliseconds(length))
        })
    }
}

/// The text of a `u128` would be a kilobyte of WebAssembly.
fn milliseconds(length: Duration) -> u64 {
    length.as_secs().saturating_mul(1000).saturating_add(u64::from(length.subsec_millis()))
}
