//! Blocking a thread that runs no loop until something is ready, and refusing waits that could never end.
//!
//! Each thread that has loops is a node, known by a number. When it blocks it adds an edge to the thread whose loop owes what it
//! waits for. That none of its loops runs just then makes no difference: none will before the wait is over. An edge that closes
//! a circle is refused instead: of several threads that would close it together, the lock lets exactly one see the circle.

use std::{
    cell::Cell,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Wake, Waker},
    time::{Duration, Instant},
};

use crate::park::{Parker, Patience};

/// Why [`block`] came back without what it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWait {
    /// The time was over.
    TimedOut,
    /// The wait would close a circle of threads that wait for each other.
    WouldDeadlock,
}

/// Which thread waits for which, by their numbers.
static EDGES: Mutex<Option<HashMap<u32, u32>>> = Mutex::new(None);

fn edges() -> MutexGuard<'static, Option<HashMap<u32, u32>>> {
    EDGES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An edge, until dropped.
struct Edge {
    here: u32,
}

impl Edge {
    fn add([here, there]: [u32; 2]) -> Result<Self, NoWait> {
        let mut edges = edges();
        let edges = edges.get_or_insert_default();
        let mut next = Some(there);
        while let Some(node) = next {
            if node == here {
                return Err(NoWait::WouldDeadlock);
            }
            next = edges.get(&node).copied();
        }
        edges.insert(here, there);
        Ok(Self { here })
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        edges().get_or_insert_default().remove(&self.here);
    }
}

thread_local! {
    /// Of this thread's waits, each of which has a parker of its own.
    static PATIENCE: Cell<Patience> = const { Cell::new(Patience::new()) };
}

struct Unpark(Parker);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.pend();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.pend();
    }
}

/// Blocks the calling thread until `poll` answers `true`; it is asked at first, and again when the waker was woken.
///
/// `edge` is this thread and the one that has to do something for the wait to end, by their numbers: if it is one, and others may
/// wait for this one.
///
/// # Errors
///
/// [`NoWait::TimedOut`] after `timeout`, [`NoWait::WouldDeadlock`] at once.
pub fn block(
    edge: Option<[u32; 2]>,
    timeout: Option<Duration>,
    poll: &mut dyn FnMut(&Waker) -> bool,
) -> Result<(), NoWait> {
    let _edge = edge.map(Edge::add).transpose()?;
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let unpark = Arc::new(Unpark(Parker::new()));
    unpark.0.bind();
    let waker = Waker::from(unpark.clone());
    let mut patience = PATIENCE.get();
    loop {
        if poll(&waker) {
            return Ok(());
        }
        let left = || match deadline {
            None => Some(Duration::MAX),
            Some(deadline) => deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()),
        };
        if left().is_none() {
            return Err(NoWait::TimedOut);
        }
        unpark.0.wait(&mut patience, left);
        PATIENCE.set(patience);
    }
}
