//! A loop on a thread of its own, driven from outside.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use selkie_platform::Unavailable;

use crate::{
    EventLoop, LoopHandle, Task, WaitError,
    error::{JoinError, LoopClosed},
    event_loop::{SHUTDOWN_LIMIT, shut_down},
    os,
    remote::{RemoteTask, channel},
    scheduler::{Scheduler, ThreadNumber, with_current},
};

impl EventLoop {
    /// Starts a loop on a new thread called `name` and returns its handle at once.
    ///
    /// What is submitted before the thread has begun waits for it. Mirrors asyncio's loop in a thread that runs
    /// `loop.run_forever`. Inside a simulated loop the new loop is simulated too, in the same world.
    ///
    /// # Platform-specific
    ///
    /// - **Web:** in a build with threads, in an isolated page, the thread is a Worker. It has no JavaScript, so the loop parks
    ///   there as a native one does. A Worker that does not come up, or dies, leaves errors that
    ///   [say so](JoinError::is_lost) wherever something waits for the loop.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] where the host has no thread for it.
    ///
    /// # Examples
    ///
    /// ```
    /// use selkie::EventLoop;
    ///
    /// let worker = EventLoop::spawn_thread("worker")?;
    /// let mut answer = worker.handle().submit(async || 42)?;
    /// assert_eq!(answer.wait(None)??, 42);
    /// worker.join(None)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spawn_thread(name: impl Into<String>) -> Result<LoopThread, Unavailable> {
        let name = name.into();
        let here = with_current(|scheduler| scheduler.platform().clone()).unwrap_or_else(os::host);
        let thread = if here.nests() { ThreadNumber::here() } else { ThreadNumber::new() };
        let scheduler = Scheduler::new(here.sibling(), thread);
        if os::LOSES_THREADS && !here.nests() {
            scheduler.debts.keep();
        }
        let (producer, ended) = channel(Some(scheduler.clone()));
        let unborn = Unborn(Some(scheduler.clone()));
        here.spawn_thread(
            &name,
            Box::new(move || {
                let Some(main) = unborn.born() else { return };
                let risk = os::at_risk(|| {
                    let (scheduler, ended) = (main.clone(), producer.stand_in());
                    Box::new(move |_| {
                        scheduler.lose();
                        ended.give(JoinError::LOST);
                    })
                });
                let at_end = move || {
                    producer.give(Ok(()));
                    drop(risk);
                };
                EventLoop::adopt(main).drive_then(true, Some(Box::new(at_end)));
            }),
        )?;
        let handle = LoopHandle::new(scheduler);
        Ok(LoopThread { handle, ended, stopped: AtomicBool::new(false), name })
    }
}

/// A loop whose thread has not begun. If none comes up, what was submitted meanwhile must not wait for it.
struct Unborn(Option<Arc<Scheduler>>);

impl Unborn {
    fn born(mut self) -> Option<Arc<Scheduler>> {
        self.0.take()
    }
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if let Some(scheduler) = self.0.take() {
            scheduler.lose();
        }
    }
}

/// A loop on a thread of its own; from [`EventLoop::spawn_thread`]. `Send`.
///
/// Dropping it stops the loop as [`stop`](Self::stop) does, without waiting.
#[must_use = "dropping it stops the loop"]
pub struct LoopThread {
    handle: LoopHandle,
    ended: RemoteTask<()>,
    /// It was asked to stop. To ask again would cut short what its tasks do to end.
    stopped: AtomicBool,
    name: String,
}

impl LoopThread {
    /// The loop's handle, to submit to it.
    pub fn handle(&self) -> &LoopHandle {
        &self.handle
    }

    /// The name of the thread.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends when the loop runs.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`] if it has closed before. One that was only asked to [stop](Self::stop) still runs.
    pub fn started(&self) -> Result<RemoteTask<()>, LoopClosed> {
        self.handle.submit(async || ())
    }

    /// Whether the loop has ended.
    pub fn is_finished(&self) -> bool {
        self.ended.is_finished()
    }

    /// Asks all tasks of the loop to end, waits in the loop for at most 10 seconds until they have, then closes it.
    ///
    /// Returns at once; [`join`](Self::join) and [`ended`](Self::ended) wait. Idempotent. What the loop still owes then
    /// ends with an error.
    pub fn stop(&self) {
        if self.stopped.swap(true, Ordering::Relaxed) {
            return;
        }
        let end = |scheduler: &Scheduler| {
            let stop = scheduler.this();
            let ending = async move {
                shut_down(stop.clone(), SHUTDOWN_LIMIT).await;
                stop.stop();
            };
            let ending = Task::builder().name("selkie shutdown").lazy().spawn_in(scheduler, ending);
            ending.raw().mark_quiet();
            ending.detach();
        };
        // A loop that is closed has stopped.
        let _ = self.handle.scheduler().call_remote(end);
    }

    /// Stops the loop and blocks this thread until it has ended; `None` waits as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`RemoteTask::wait`]; after a timeout the loop goes on ending.
    pub fn join(mut self, timeout: Option<Duration>) -> Result<(), WaitError> {
        self.stop();
        self.ended.wait(timeout).map(drop)
    }

    /// Stops the loop and waits for its end, in a task of another loop.
    ///
    /// # Errors
    ///
    /// A [`JoinError`] if its thread died.
    pub async fn ended(mut self) -> Result<(), JoinError> {
        self.stop();
        (&mut self.ended).await
    }
}

impl Drop for LoopThread {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for LoopThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopThread").field("name", &self.name).field("finished", &self.is_finished()).finish()
    }
}
