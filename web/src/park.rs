//! What a thread of the crew does instead of returning to the host: it parks.

use std::{collections::BTreeMap, rc::Rc, sync::Arc, task::Waker, time::Duration};

use selkie_platform::{Next, Turn};

use crate::{
    crew, host,
    lock::{Spin, lock},
    turn::REPAIRS,
    wake::Wake,
};

/// Gives `turn` its turns until it is done, and parks between them.
pub(crate) fn drive(turn: &Rc<dyn Turn>, wake: &Wake) {
    loop {
        // First, as `wake.rs` says.
        wake.clear();
        let mut next = Next::Now;
        if !host::guard(&mut || next = turn.turn()) {
            let repaired = (0..REPAIRS).any(|_| host::guard(&mut || turn.trapped()));
            assert!(repaired, "a loop traps whenever it is told of a trap");
            continue;
        }
        match next {
            Next::Now => {}
            Next::At(time) => {
                let left = time.saturating_sub(host::now());
                if !left.is_zero() {
                    wake.wait(Some(left));
                }
            }
            Next::Idle => wake.wait(None),
            Next::Done => return,
        }
    }
}

/// Why [`block`] came back without what it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWait {
    /// The time was over.
    TimedOut,
    /// The wait would close a circle of threads that wait for each other.
    WouldDeadlock,
    /// This thread is not of the crew: it must not wait.
    WouldBlock,
}

/// Which thread waits for which, by their numbers.
static EDGES: Spin<BTreeMap<u32, u32>> = Spin::new(BTreeMap::new());

/// An edge, until dropped.
struct Edge {
    here: u32,
}

impl Edge {
    fn add([here, there]: [u32; 2]) -> Result<Self, NoWait> {
        let mut edges = lock(&EDGES);
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
        lock(&EDGES).remove(&self.here);
    }
}

struct Unpark(Wake);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.set();
    }
}

/// Blocks the calling thread until `poll` answers `true`; it is asked at first, and again when the waker was woken.
///
/// `edge` is this thread and the one that has to do something for the wait to end, by their numbers: if it is one, and others may
/// wait for this one.
///
/// # Errors
///
/// [`NoWait`].
pub fn block(
    edge: Option<[u32; 2]>,
    timeout: Option<Duration>,
    poll: &mut dyn FnMut(&Waker) -> bool,
) -> Result<(), NoWait> {
    if !crew::is_member() {
        return Err(NoWait::WouldBlock);
    }
    let _edge = edge.map(Edge::add).transpose()?;
    let deadline = timeout.and_then(|timeout| host::now().checked_add(timeout));
    let unpark = Arc::new(Unpark(Wake::default()));
    let waker = Waker::from(unpark.clone());
    loop {
        unpark.0.clear();
        if poll(&waker) {
            return Ok(());
        }
        let left = deadline.map(|deadline| deadline.saturating_sub(host::now()));
        if left == Some(Duration::ZERO) {
            return Err(NoWait::TimedOut);
        }
        unpark.0.wait(left);
    }
}
