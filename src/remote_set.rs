//! Several results of other threads, taken as they come: on any loop, or by a thread without one.
//!
//! Each member has a waker of its own that puts it into an [`Inbox`], once, so a step costs the same however many wait.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use atomic_waker::AtomicWaker;
use futures_core::Stream;

use crate::{
    RemoteTask, WaitError,
    error::JoinError,
    inbox::{Inbox, Kind, Link},
    os,
    remote::block,
    scheduler::ThreadNumber,
};

/// Remote tasks of any loops and pools, whose results are taken as they end.
///
/// Mirrors [`concurrent.futures.wait` and `as_completed`](https://docs.python.org/3/library/concurrent.futures.html#module-functions).
/// It is a [`Stream`], and needs no loop: [`wait_next`](Self::wait_next) and [`wait_all`](Self::wait_all) block a thread. Each
/// result comes with a key: the place in the order of insertion, from 0.
///
/// What has ended comes in the order in which it ended, as far as this set could tell. A set of nothing is at its end, in
/// every way of waiting. **Difference**: a job that was cancelled before it began is done at once, not when a thread of its
/// pool takes notice. Dropping the set detaches its members.
///
/// # Examples
///
/// ```
/// use selkie::{EventLoop, RemoteSet, ThreadPool};
///
/// let pool = ThreadPool::new(2)?;
/// let worker = EventLoop::spawn_thread("worker")?;
/// let mut set = RemoteSet::new();
/// set.insert(pool.submit(|| "a job")?);
/// set.insert(worker.handle().submit(async || "a task")?);
/// let mut all = Vec::new();
/// while let Some((_, result)) = set.wait_next(None)? {
///     all.push(result?);
/// }
/// all.sort();
/// assert_eq!(all, ["a job", "a task"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "as_completed")]
#[must_use = "dropping it detaches its members"]
pub struct RemoteSet<T: Send> {
    members: BTreeMap<usize, (RemoteTask<T>, Waker)>,
    next_key: usize,
    /// Members that may be done: to be asked, first one first.
    due: VecDeque<usize>,
    shared: Arc<Shared>,
}

struct Shared {
    inbox: Inbox,
    /// Who waits for the set.
    waiter: AtomicWaker,
}

/// A member's waker.
#[repr(C)]
struct Entry {
    link: Link,
    key: usize,
    queued: AtomicBool,
    shared: Arc<Shared>,
}

impl Wake for Entry {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // A result comes once, and so does its member.
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let entry = Arc::into_raw(self.clone());
        let Some(link) = std::ptr::NonNull::new(entry.cast_mut()) else { return };
        // SAFETY: the reference that was leaked keeps it until it is taken out; the link is its first field, and `queued` lets
        // it be pushed once.
        match unsafe { self.shared.inbox.push(link.cast(), Kind::Cell) } {
            Ok(_) => self.shared.waiter.wake(),
            // SAFETY: the push failed, so the reference is still ours.
            Err(_) => drop(unsafe { Arc::from_raw(entry) }),
        }
    }
}

impl<T: Send> RemoteSet<T> {
    /// An empty set.
    pub fn new() -> Self {
        let shared = Shared { inbox: Inbox::new(), waiter: AtomicWaker::new() };
        Self { members: BTreeMap::new(), next_key: 0, due: VecDeque::new(), shared: Arc::new(shared) }
    }

    /// Adds a task; returns its key.
    pub fn insert(&mut self, mut task: RemoteTask<T>) -> usize {
        let key = self.next_key;
        self.next_key += 1;
        let entry =
            Entry { link: Link::new(), key, queued: AtomicBool::new(false), shared: self.shared.clone() };
        let waker = Waker::from(Arc::new(entry));
        if task.poll_done(&waker) {
            // By the inbox, where it has a place in the order of the others.
            waker.wake_by_ref();
        }
        self.members.insert(key, (task, waker));
        key
    }

    /// Takes a task out again, not waited for.
    pub fn remove(&mut self, key: usize) -> Option<RemoteTask<T>> {
        let (task, _) = self.members.remove(&key)?;
        // If it has ended, its entry is still there: a set from which all are taken this way would only gather them.
        self.collect();
        if self.due.len() > 2 * self.members.len() + 16 {
            self.due.retain(|key| self.members.contains_key(key));
        }
        Some(task)
    }

    /// How many results were not taken.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether all results were taken.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Asks all members to end; see [`RemoteTask::cancel`]. They stay in the set.
    pub fn cancel_all(&self) {
        for (task, _) in self.members.values() {
            task.cancel();
        }
    }

    /// The next result, if one is there.
    pub fn try_next(&mut self) -> Option<(usize, Result<T, JoinError>)> {
        self.collect();
        while let Some(key) = self.due.pop_front() {
            // One that was taken out again is no longer there.
            let Some((mut task, waker)) = self.members.remove(&key) else { continue };
            debug_assert!(task.poll_done(&waker), "a member is woken by its end");
            if let Some(result) = task.try_take() {
                return Some((key, result));
            }
        }
        None
    }

    /// The next result, with its key; `None` when the set is empty.
    pub async fn next(&mut self) -> Option<(usize, Result<T, JoinError>)> {
        poll_fn(|cx| self.poll_result(cx)).await
    }

    /// As [`next`](Self::next), blocking this thread for at most `timeout`; `None` waits as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`RemoteTask::wait`]. A circle is seen when all members are owed by loops of one thread; among several, each of which
    /// could end the wait, use a timeout.
    pub fn wait_next(
        &mut self,
        timeout: Option<Duration>,
    ) -> Result<Option<(usize, Result<T, JoinError>)>, WaitError> {
        if let Some(next) = self.try_next() {
            return Ok(Some(next));
        }
        if self.is_empty() {
            return Ok(None);
        }
        let debtor = self.only_debtor();
        let mut next = None;
        block(debtor, timeout, &mut |waker| {
            self.shared.waiter.register(waker);
            next = self.try_next();
            next.is_some()
        })?;
        Ok(next)
    }

    /// Blocks this thread until all members have ended, for at most `timeout`, and returns what has ended, taken out.
    ///
    /// What is left in the set has not ended, and can be waited for again. Mirrors `concurrent.futures.wait`.
    ///
    /// # Errors
    ///
    /// [`WaitError::WouldDeadlock`] and [`WaitError::WouldBlock`] as [`RemoteTask::wait`], with all results still in the set or
    /// in their tasks. The end of the time is no error.
    #[doc(alias = "wait")]
    pub fn wait_all(
        &mut self,
        timeout: Option<Duration>,
    ) -> Result<Vec<(usize, Result<T, JoinError>)>, WaitError> {
        let host = os::host();
        let deadline = timeout.and_then(|timeout| host.now().checked_add(timeout));
        // One after another, so that each wait is known by the loop that owes it.
        for (task, _) in self.members.values() {
            let left = deadline.map(|deadline| deadline.saturating_sub(host.now()));
            match self.wait_until_done(task, left) {
                Ok(()) => {}
                Err(WaitError::TimedOut) => break,
                Err(error) => return Err(error),
            }
        }
        let mut ended: Vec<_> = std::iter::from_fn(|| self.try_next()).collect();
        // A thread that has just given its result may not have come to its waker. The entry finds nothing then.
        let others: Vec<_> =
            self.members.iter().filter(|(_, (task, _))| task.is_done()).map(|(key, _)| *key).collect();
        for key in others {
            let taken = self.remove(key).and_then(|mut task| task.try_take());
            ended.extend(taken.map(|result| (key, result)));
        }
        Ok(ended)
    }

    /// Notes which members have said that they may be done.
    fn collect(&mut self) {
        for (link, _) in self.shared.inbox.take() {
            // SAFETY: `wake_by_ref` leaked the reference.
            let entry = unsafe { Arc::from_raw(link.cast::<Entry>().as_ptr().cast_const()) };
            self.due.push_back(entry.key);
        }
    }

    /// Waits for one member without taking anything.
    fn wait_until_done(&self, task: &RemoteTask<T>, timeout: Option<Duration>) -> Result<(), WaitError> {
        if task.is_done() {
            return Ok(());
        }
        block(task.debtor(), timeout, &mut |waker| {
            // Its own waker stays registered, and wakes this one by way of the inbox.
            self.shared.waiter.register(waker);
            task.is_done()
        })
    }

    /// The thread that owes all that is left, if one does.
    fn only_debtor(&self) -> Option<ThreadNumber> {
        let mut debtors = self.members.values().map(|(task, _)| task.debtor());
        // Of a pool with threads the first look is enough.
        let first = debtors.next()??;
        debtors.all(|debtor| debtor == Some(first)).then_some(first)
    }

    fn poll_result(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, Result<T, JoinError>)>> {
        self.shared.waiter.register(cx.waker());
        match self.try_next() {
            None if !self.is_empty() => {
                static REMOTE: &str = "work of other threads";
                crate::task::waits_for_text(&REMOTE);
                Poll::Pending
            }
            next => Poll::Ready(next),
        }
    }
}

impl<T: Send> Default for RemoteSet<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Send> Drop for RemoteSet<T> {
    fn drop(&mut self) {
        for (link, _) in self.shared.inbox.close() {
            // SAFETY: `wake_by_ref` leaked the reference.
            drop(unsafe { Arc::from_raw(link.cast::<Entry>().as_ptr().cast_const()) });
        }
    }
}

impl<T: Send> Extend<RemoteTask<T>> for RemoteSet<T> {
    fn extend<I: IntoIterator<Item = RemoteTask<T>>>(&mut self, tasks: I) {
        for task in tasks {
            self.insert(task);
        }
    }
}

impl<T: Send> FromIterator<RemoteTask<T>> for RemoteSet<T> {
    fn from_iter<I: IntoIterator<Item = RemoteTask<T>>>(tasks: I) -> Self {
        let mut set = Self::new();
        set.extend(tasks);
        set
    }
}

/// Ends when the set is empty; more tasks may be added then.
impl<T: Send> Stream for RemoteSet<T> {
    type Item = (usize, Result<T, JoinError>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_result(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl<T: Send> fmt::Debug for RemoteSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.members.iter().map(|(key, (task, _))| (key, task))).finish()
    }
}
