//! A race whose runners start one after another.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use crate::{
    cancel::{Postponed, catch_cancel},
    error::TaskError,
    task::{Members, Task, spawn, waits_for_text},
    task_group::wait_despite_cancel,
    timeout::timeout,
};

/// What came out of a [`staggered_race`].
#[derive(Debug)]
pub struct Staggered<T, E> {
    /// The first success, with the index of the function that gave it.
    pub winner: Option<(usize, T)>,
    /// For each function that was started why it gave no value; `None` for the winner, and for one that succeeded as well
    /// while it was asked to end.
    pub errors: Vec<Option<TaskError<E>>>,
}

/// Starts the first function; each next one when the one before has failed, or after `delay`; keeps the first success.
///
/// The first success asks all others to end, and waits for them. Happy Eyeballs ([RFC 8305](https://www.rfc-editor.org/rfc/rfc8305))
/// is the use: connect to the next address before the last one has given up. With [`Duration::MAX`] only a failure starts
/// the next. A panic counts as a failure, also of a function. The futures run as tasks.
///
/// Mirrors asyncio's internal `staggered.staggered_race`.
///
/// # Cancel safety
///
/// A cancel of the running task asks all to end, waits for them, and goes on. Dropping the future does not wait.
///
/// # Examples
///
/// ```
/// use selkie::{sleep, staggered_race};
/// use std::time::Duration;
///
/// async fn connect(address: &'static str) -> Result<&'static str, String> {
///     if address == "unreachable" {
///         sleep(Duration::from_secs(60)).await;
///     }
///     Ok(address)
/// }
///
/// selkie::run(async {
///     let addresses = ["unreachable", "near"].map(|address| move || connect(address));
///     let race = staggered_race(addresses, Duration::from_millis(2)).await;
///     assert_eq!(race.winner, Some((1, "near")));
///     assert!(race.errors[0].is_some());
/// });
/// ```
///
/// # Panics
///
/// As [`spawn`](crate::spawn()).
#[doc(alias = "happy_eyeballs")]
pub async fn staggered_race<I, F, T, E>(functions: I, delay: Duration) -> Staggered<T, E>
where
    I: IntoIterator<Item: FnOnce() -> F>,
    F: Future<Output = Result<T, E>> + 'static,
    T: 'static,
    E: 'static,
{
    let mut race = Race { tasks: Vec::new(), members: Members::listed(), is_over: false };
    let mut cancelled = Postponed::default();
    let first = match catch_cancel(race.run(functions.into_iter(), delay)).await {
        Ok(first) => first,
        Err(request) => {
            cancelled.put(request);
            None
        }
    };
    race.is_over = true;
    for task in &race.tasks {
        task.raw().cancel_with_owner();
    }
    let members = race.members.clone();
    let ended = |cx: &mut std::task::Context<'_>| {
        if members.pending() == 0 {
            return Poll::Ready(());
        }
        static RUNNERS: &str = "the other runners of its race";
        waits_for_text(&RUNNERS);
        members.wait(0, cx.waker());
        Poll::Pending
    };
    wait_despite_cancel(ended, &mut cancelled, || {}).await;
    if let Some(cancelled) = cancelled.take() {
        cancelled.resume().await;
    }
    let mut winner = None;
    let mut errors = Vec::new();
    for (index, task) in std::mem::take(&mut race.tasks).into_iter().enumerate() {
        let Ok(result) = task.try_into_result() else { unreachable!("every member has ended") };
        errors.push(match result {
            Ok(Ok(value)) => {
                if Some(index) == first {
                    winner = Some((index, value));
                }
                None
            }
            Ok(Err(error)) => Some(TaskError::Failed(error)),
            Err(error) => Some(TaskError::Join(error)),
        });
    }
    Staggered { winner, errors }
}

/// The tasks that were started. Dropping it asks them to end.
struct Race<T, E> {
    tasks: Vec<Task<Result<T, E>>>,
    members: Rc<Members>,
    /// They were asked. To ask again would cut short what they do to end.
    is_over: bool,
}

impl<T: 'static, E: 'static> Race<T, E> {
    /// Starts functions until one succeeds; its index.
    async fn run<F>(
        &mut self,
        mut functions: impl Iterator<Item: FnOnce() -> F>,
        delay: Duration,
    ) -> Option<usize>
    where
        F: Future<Output = Result<T, E>> + 'static,
    {
        let mut more = true;
        loop {
            if more {
                match functions.next() {
                    None => more = false,
                    Some(function) => {
                        let task = match catch_unwind(AssertUnwindSafe(function)) {
                            Ok(future) => spawn(future),
                            Err(payload) => spawn(async move { resume_unwind(payload) }),
                        };
                        task.raw().index.set(self.tasks.len() as u32);
                        self.members.add(task.raw());
                        self.tasks.push(task);
                    }
                }
            }
            let limit = if more { delay } else { Duration::MAX };
            match timeout(limit, self.success_or_last_failure(more)).await {
                Ok(Some(index)) => return Some(index),
                Ok(None) if !more => return None,
                _ => {}
            }
        }
    }

    /// Waits for a success, or until the last one that was started (or, without `more`, everyone) has failed.
    async fn success_or_last_failure(&self, more: bool) -> Option<usize> {
        poll_fn(|cx| {
            while let Some(ended) = self.members.pop_done() {
                let index = ended.index.get() as usize;
                if matches!(self.tasks[index].result(), Ok(Ok(Ok(_)))) {
                    return Poll::Ready(Some(index));
                }
            }
            let last_failed = more && self.tasks.last().is_some_and(Task::is_finished);
            if last_failed || self.members.pending() == 0 {
                return Poll::Ready(None);
            }
            static RUNNER: &str = "a runner of its race";
            waits_for_text(&RUNNER);
            self.members.wait(usize::MAX, cx.waker());
            Poll::Pending
        })
        .await
    }
}

impl<T, E> Drop for Race<T, E> {
    fn drop(&mut self) {
        for task in &self.tasks {
            if !task.is_finished() {
                self.members.remove_pending(task.raw());
                if !self.is_over {
                    task.raw().cancel_with_owner();
                }
            }
        }
    }
}
