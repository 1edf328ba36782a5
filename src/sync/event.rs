//! A flag that can be waited for.

use std::{fmt, time::Duration};

use super::waiters::{
    Guarded, List, Local, Mode, Now, Request, Shared, WaitStatistics, Waiting, Wakes, block,
};
use crate::WaitError;

/// A flag that tasks and threads wait for.
///
/// Mirrors [`asyncio.Event`](https://docs.python.org/3/library/asyncio-sync.html#asyncio.Event) and `threading.Event` in one.
/// [`set`](Self::set) wakes everybody and the flag stays set; whoever waited at that moment goes on, even if it is cleared
/// right after.
///
/// Waiting for one that is set does not yield: a task that does nothing else needs [`yield_now`](crate::yield_now) to let others
/// run.
///
/// # Examples
///
/// ```
/// use selkie::{Event, spawn};
///
/// static READY: Event = Event::new();
///
/// selkie::run(async {
///     let waiters: Vec<_> = (0..4).map(|n| spawn(async move {
///         READY.wait().await;
///         n
///     })).collect();
///     READY.set();
///     for (n, waiter) in waiters.into_iter().enumerate() {
///         assert_eq!(waiter.await.unwrap(), n);
///     }
/// });
/// ```
pub struct Event<M: Mode = Shared> {
    guarded: Guarded<Flag, M>,
}

struct Flag {
    set: bool,
    waiters: List<()>,
}

impl Flag {
    const NEW: Self = Self { set: false, waiters: List::new() };
}

impl Event {
    const_fn! {
        /// An event that is not set.
        pub const fn new() -> Self {
            Self { guarded: Guarded::shared(Flag::NEW) }
        }
    }
}

impl Event<Local> {
    /// An event for tasks of one thread, without atomics.
    pub const fn local() -> Self {
        Self { guarded: Guarded::local(Flag::NEW) }
    }
}

impl<M: Mode> Event<M> {
    /// Sets the flag and wakes all who wait. Any thread may call it.
    pub fn set(&self) {
        let mut cutoff = None;
        loop {
            let more = self.guarded.with(|flag, wakes| {
                if cutoff.is_none() {
                    flag.set = true;
                }
                let cutoff = *cutoff.get_or_insert(flag.waiters.cutoff());
                flag.waiters.refuse_before(cutoff, 0, wakes)
            });
            if !more {
                break;
            }
        }
    }

    /// Clears the flag: who waits from now on waits for the next [`set`](Self::set).
    pub fn clear(&self) {
        self.guarded.look(|flag| flag.set = false);
    }

    /// Whether the flag is set.
    pub fn is_set(&self) -> bool {
        self.guarded.look(|flag| flag.set)
    }

    /// Waits until the flag is set; at once, without yielding, if it is.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn wait(&self) {
        Waiting::new(Set { guarded: &self.guarded }).await;
    }

    /// Waits until the flag is set, blocking this thread for at most `timeout`; `None` waits as long as it takes.
    ///
    /// # Errors
    ///
    /// - [`WaitError::TimedOut`] where `threading.Event.wait` answers `False`.
    /// - [`WaitError::WouldBlock`] if it would have to wait inside a task or on a page's main thread.
    pub fn wait_blocking(&self, timeout: Option<Duration>) -> Result<(), WaitError> {
        block(Set { guarded: &self.guarded }, timeout)
    }

    /// How many wait, and have waited.
    pub fn statistics(&self) -> WaitStatistics {
        self.guarded.look(|flag| flag.waiters.statistics())
    }
}

struct Set<'a, M> {
    guarded: &'a Guarded<Flag, M>,
}

impl<M: Mode> Request for Set<'_, M> {
    type State = Flag;
    type Mode = M;
    type Payload = ();
    type Output = ();
    type Found = ();

    const WAITS_FOR: &'static &'static str = &"an event";

    fn guarded(&self) -> &Guarded<Flag, M> {
        self.guarded
    }

    fn list(flag: &mut Flag) -> &mut List<()> {
        &mut flag.waiters
    }

    fn look(&mut self, flag: &mut Flag, _: &mut Wakes) -> Now<()> {
        if flag.set { Now::Ready(()) } else { Now::Wait }
    }

    fn found(&mut self, (): ()) {}

    fn payload(&mut self) {}

    fn granted(&mut self, _: u32, _: Option<()>) {}

    /// Everybody was told.
    fn unused(&mut self, _: u32) {}
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Mode> fmt::Debug for Event<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("set", &self.is_set())
            .field("waiting", &self.statistics().waiting)
            .finish()
    }
}
