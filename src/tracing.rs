//! The `tracing` crate, for those who ask for the feature: spans of tasks, and where reports go.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use ::tracing::{Level, Span, error, event_enabled, trace_span};

use crate::{exception::ExceptionContext, instrument::Instrument, task::AnyTask};

/// Gives each task of a loop a span of the [`tracing`](https://docs.rs/tracing) crate. Needs the feature `tracing`.
///
/// Set it by [`EventLoop::set_instrument`](crate::EventLoop::set_instrument). A span is named `task`, has the target
/// `selkie::task`, the level `TRACE`, and the fields `id` and `name`. It is entered for each poll, so that what the task logs
/// stands in it, and closed when the task has ended. Its parent is the span that was entered where the task was made: that of
/// the task that spawned it, as a rule.
///
/// With the feature, and without an exception handler, what a loop reports is an event of the level `ERROR` and the target
/// `selkie` if a subscriber takes those. Otherwise it goes to standard error or the console, as without the feature.
///
/// **Platforms**: where a panic cannot unwind, the spans of a task that trapped are left entered, until the instrument goes.
///
/// ```
/// use selkie::{EventLoop, TaskSpans, spawn};
///
/// let event_loop = EventLoop::new();
/// event_loop.set_instrument(Some(TaskSpans::new()));
/// event_loop
///     .run_until_complete(async {
///         spawn(async { tracing::info!("in the span of the task") }).await.unwrap();
///     })
///     .unwrap();
/// ```
#[derive(Debug, Default)]
pub struct TaskSpans {
    spans: RefCell<HashMap<u64, Span>>,
    /// Those of the polls that are under way, innermost last.
    entered: RefCell<Vec<(u64, Span)>>,
}

impl TaskSpans {
    /// An instrument for one loop.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// The span is taken out of the map for the call: a subscriber may do what it likes.
    fn span(&self, task: &AnyTask) -> Option<Span> {
        self.spans.borrow().get(&task.id()).cloned()
    }
}

impl Instrument for TaskSpans {
    fn created(&self, task: &AnyTask) {
        let span = trace_span!(target: "selkie::task", "task", id = task.id(), name = &*task.name());
        if !span.is_disabled() {
            self.spans.borrow_mut().insert(task.id(), span);
        }
    }

    fn poll_start(&self, task: &AnyTask) {
        if let Some(span) = self.span(task) {
            span.with_subscriber(|(id, subscriber)| subscriber.enter(id));
            self.entered.borrow_mut().push((task.id(), span));
        }
    }

    fn poll_end(&self, task: &AnyTask) {
        let mut entered = self.entered.borrow_mut();
        let is_last = entered.last().is_some_and(|(of, _)| *of == task.id());
        let span = if is_last { entered.pop() } else { None };
        drop(entered);
        if let Some((_, span)) = span {
            exit(&span);
        }
    }

    fn done(&self, task: &AnyTask) {
        let span = self.spans.borrow_mut().remove(&task.id());
        drop(span);
    }
}

/// Removed within a poll, of whose end it is not told.
impl Drop for TaskSpans {
    fn drop(&mut self) {
        for (_, span) in self.entered.take().iter().rev() {
            exit(span);
        }
    }
}

fn exit(span: &Span) {
    span.with_subscriber(|(id, subscriber)| subscriber.exit(id));
}

/// Whether a subscriber took the report.
pub(crate) fn report(context: &ExceptionContext) -> bool {
    let taken = event_enabled!(target: "selkie", Level::ERROR);
    if taken {
        let (id, name) = (context.task_id(), context.task_name());
        error!(target: "selkie", { task.id = id, task.name = name }, "{}", context.message());
    }
    taken
}
