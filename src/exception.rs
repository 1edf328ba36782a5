//! Where failures go that nobody waits for.

use std::{fmt, rc::Rc, sync::Arc};

use crate::{
    context::{self, Context},
    task::TaskRef,
};

/// Is told what happened, and of which task. A loop keeps what users set in this form, from [`handler`], so that a program that
/// sets none has nothing of it.
pub(crate) type Handler = Rc<dyn Fn(&str, Option<&TaskRef>)>;

/// A handler that tells what users have set.
pub(crate) fn handler(tell: Rc<dyn Fn(&ExceptionContext)>) -> Handler {
    Rc::new(move |message, task| {
        let context = ExceptionContext::new(message, task);
        // Variables say what the failed task was about, so the handler sees the task's.
        let variables = task.map_or_else(context::current, |task| task.context());
        Context(variables).run(|| tell(&context));
    })
}

/// What went wrong where nobody could be told: the argument of an exception handler.
///
/// Mirrors the context dictionary of `loop.call_exception_handler`.
#[derive(Clone, Debug)]
pub struct ExceptionContext {
    message: String,
    task: Option<(u64, Arc<str>)>,
}

impl ExceptionContext {
    pub(crate) fn new(message: &str, task: Option<&TaskRef>) -> Self {
        let task = task.filter(|task| task.is_task()).map(|task| (task.id.get(), task.name()));
        Self { message: message.to_owned(), task }
    }

    /// What happened, in a sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The name of the task concerned, if one was.
    pub fn task_name(&self) -> Option<&str> {
        self.task.as_ref().map(|(_, name)| &**name)
    }

    /// The id of the task concerned, if one was.
    pub fn task_id(&self) -> Option<u64> {
        self.task.as_ref().map(|(id, _)| *id)
    }
}

impl fmt::Display for ExceptionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "selkie: {}", self.message)
    }
}
