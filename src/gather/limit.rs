//! Of many futures, only some at once.

#![allow(
    private_interfaces,
    reason = "the hidden methods of the sealed traits are called in this crate only"
)]

use std::fmt;

use super::{
    Joint,
    members::{IntoTask, IntoTasks, Tasks, TryTasks, outcome, value},
};
use crate::{
    error::{JoinError, TaskError},
    task::{Task, TaskRef, Urgent, detach_reporting, has_no_value, take_failure},
};

/// Lets at most `count` of the futures that `members` gives run at once.
///
/// For [`gather`](crate::gather()), [`try_gather`](crate::try_gather) and [`as_completed`](crate::as_completed). The
/// iterator is asked for a future only when there is room for one more, so it may be long, and may make each future late.
/// The first `count` that have to wait start during the call, with all before them that end at once; a later one starts when
/// a member has ended and whoever awaits the whole has had its turn. An [`as_completed`](crate::as_completed) starts no more
/// than `count` in one go, and none while more than `count` have ended that were not given out.
///
/// Tasks in the iterator run already, so the limit does not hold them back: give futures.
///
/// A `count` of zero counts as one: with none nothing could ever run.
///
/// # Examples
///
/// ```
/// use selkie::{gather, limit, sleep};
/// use std::time::Duration;
///
/// selkie::run(async {
///     let pages = gather(limit(8, (0..100).map(|page| async move {
///         sleep(Duration::from_micros(10)).await;
///         page
///     })))
///     .await;
///     assert_eq!(pages.len(), 100);
/// });
/// ```
#[doc(alias("buffered", "buffer_unordered", "Semaphore"))]
pub fn limit<I: IntoIterator>(count: usize, members: I) -> Limit<I> {
    Limit { count: count.max(1), members }
}

/// An iterator of futures of which only some may run at once; from [`limit`].
#[derive(Clone, Debug)]
#[must_use = "give it to `gather`, `try_gather` or `as_completed`"]
pub struct Limit<I> {
    pub(crate) count: usize,
    pub(crate) members: I,
}

/// Limited iterators.
#[derive(Debug)]
pub struct Few;

impl<I> IntoTasks<Few> for Limit<I>
where
    I: IntoIterator,
    I::Item: IntoTask,
{
    type Tasks = Limited<I::IntoIter>;

    fn start(self, _joint: &Joint, _lazily: bool) -> Self::Tasks {
        Limited { count: self.count, source: Some(self.members.into_iter()), slots: Vec::new() }
    }
}

/// The handles of the running members of a limited gather, and the results of the others.
pub struct Limited<I: Iterator<Item: IntoTask>> {
    count: usize,
    /// `None` when there are no more.
    source: Option<I>,
    slots: Vec<Slot<<I::Item as IntoTask>::Output>>,
}

enum Slot<T> {
    Running(Task<T>),
    Ended(Result<T, JoinError>),
}

impl<T> Slot<T> {
    fn outcome(self) -> Result<T, JoinError> {
        match self {
            Self::Running(task) => outcome(task),
            Self::Ended(outcome) => outcome,
        }
    }
}

impl<I: Iterator<Item: IntoTask>> Tasks for Limited<I> {
    type Outcomes = Vec<Result<<I::Item as IntoTask>::Output, JoinError>>;

    const LISTED: bool = true;

    #[track_caller]
    fn advance(&mut self, joint: &Joint, failed: Option<Urgent>) -> Option<TaskRef> {
        loop {
            while let Some(task) = joint.members.pop_done() {
                // SAFETY: whoever gives `failed` gives the one that fits.
                if failed.is_some_and(|failed| unsafe { failed(&task) }) {
                    self.source = None;
                    return Some(task);
                }
                // The cell is free for the next member.
                let slot = &mut self.slots[task.index.get() as usize];
                if let Slot::Running(ended) = slot {
                    if let Some(outcome) = ended.take() {
                        *slot = Slot::Ended(outcome);
                    }
                }
            }
            if joint.members.pending() >= self.count {
                return None;
            }
            let Some(member) = self.source.as_mut().and_then(Iterator::next) else {
                self.source = None;
                return None;
            };
            let task = member.into_task();
            joint.add(task.raw(), self.slots.len());
            self.slots.push(Slot::Running(task));
        }
    }

    fn wake_at(&self) -> usize {
        if self.source.is_some() { self.count - 1 } else { 0 }
    }

    fn stop(&mut self) {
        self.source = None;
    }

    fn each(&self, look: &mut dyn FnMut(&TaskRef)) {
        for slot in &self.slots {
            if let Slot::Running(task) = slot {
                look(task.raw());
            }
        }
    }

    fn outcomes(self) -> Self::Outcomes {
        self.slots.into_iter().map(Slot::outcome).collect()
    }
}

impl<I, T, E> TryTasks for Limited<I>
where
    I: Iterator<Item: IntoTask<Output = Result<T, E>>>,
    T: 'static,
    E: fmt::Debug + 'static,
{
    type Values = Vec<T>;
    type Error = E;

    unsafe fn failed(task: &TaskRef) -> bool {
        // SAFETY: all members have this output.
        unsafe { has_no_value::<T, E>(task) }
    }

    unsafe fn error(task: &TaskRef) -> TaskError<E> {
        // SAFETY: as above.
        unsafe { take_failure::<T, E>(task) }
    }

    fn values(self) -> Vec<T> {
        self.slots.into_iter().map(|slot| value(slot.outcome())).collect()
    }

    fn detach(self) {
        for slot in self.slots {
            if let Slot::Running(task) = slot {
                detach_reporting(task);
            }
        }
    }
}

impl<I: Iterator<Item: IntoTask>> fmt::Debug for Limited<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limited").field("count", &self.count).finish_non_exhaustive()
    }
}
