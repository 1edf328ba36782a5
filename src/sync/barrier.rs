//! A place where so many meet.

use std::{error::Error, fmt, pin::pin, time::Duration};

use super::waiters::{Guarded, List, Now, Request, Shared, WaitStatistics, Waiting, Wakes, block_on};
use crate::WaitError;

/// A place where a fixed number of tasks and threads wait for each other.
///
/// Mirrors [`asyncio.Barrier`](https://docs.python.org/3/library/asyncio-sync.html#asyncio.Barrier) and `threading.Barrier` in
/// one. It can be used again at once: whoever comes after the last of a round is the first of the next.
///
/// A task that is cancelled while it waits just leaves, as in asyncio. A thread whose [`wait_blocking`](Self::wait_blocking) runs
/// out of time breaks the barrier for all, as in `threading`.
///
/// **Difference**: there is no `action`. Whoever got the last place may do what is to be done once a round; if the others have to wait
/// for that, let all meet again afterwards.
///
/// # Examples
///
/// ```
/// use selkie::{Barrier, gather};
/// use std::rc::Rc;
///
/// selkie::run(async {
///     let barrier = Rc::new(Barrier::new(3));
///     let places = gather((0..3).map(|_| {
///         let barrier = barrier.clone();
///         async move { barrier.wait().await.unwrap() }
///     }))
///     .await;
///     let mut places: Vec<_> = places.into_iter().map(Result::unwrap).collect();
///     places.sort();
///     assert_eq!(places, [0, 1, 2]);
/// });
/// ```
pub struct Barrier {
    guarded: Guarded<Meeting, Shared>,
    parties: usize,
}

struct Meeting {
    broken: bool,
    waiters: List<()>,
}

/// The outcome of those who did not meet; others get their place.
const BROKEN: u32 = 1 << 30;

impl Barrier {
    const_fn! {
        /// A barrier for so many.
        ///
        /// # Panics
        ///
        /// If `parties` is 0, where asyncio raises `ValueError`, or more than 2^30.
        #[track_caller]
        pub const fn new(parties: usize) -> Self {
            assert!(parties > 0, "a barrier is for at least one");
            assert!(parties <= BROKEN as usize, "a barrier is for at most 2^30");
            Self { guarded: Guarded::shared(Meeting { broken: false, waiters: List::new() }), parties }
        }
    }

    /// Waits until all have come, and returns a place that no other of this round has: from 0, in the order of their coming;
    /// the last is `parties - 1`.
    ///
    /// # Errors
    ///
    /// [`BrokenBarrier`] once the barrier is broken, by [`abort`](Self::abort) or a [`wait_blocking`](Self::wait_blocking) whose time
    /// was over, and for those who waited at a [`reset`](Self::reset).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves: one more has to come. If all had come already it changes nothing for the others.
    pub async fn wait(&self) -> Result<usize, BrokenBarrier> {
        Waiting::new(Meet { barrier: self, is_last: false }).await
    }

    /// As [`wait`](Self::wait), blocking this thread for at most `timeout`; `None` waits as long as it takes.
    ///
    /// # Errors
    ///
    /// - [`WaitError::TimedOut`]; the barrier is broken then, as `threading.Barrier` has it.
    /// - [`WaitError::WouldBlock`] inside a task or on a page's main thread, where it would have to wait.
    pub fn wait_blocking(
        &self,
        timeout: Option<Duration>,
    ) -> Result<Result<usize, BrokenBarrier>, WaitError> {
        let mut meet = pin!(Waiting::new(Meet { barrier: self, is_last: false }));
        let met = block_on(&mut meet, timeout, || ()).map_err(|not_now| not_now.error);
        if met == Err(WaitError::TimedOut) {
            self.abort();
        }
        met
    }

    /// Sends all who wait away with an error; afterwards the barrier is as if it was made just now.
    pub fn reset(&self) {
        self.send_away(false);
    }

    /// Sends all who wait away with an error, and everybody who comes later, until it is [`reset`](Self::reset).
    pub fn abort(&self) {
        self.send_away(true);
    }

    fn send_away(&self, broken: bool) {
        let waiting = |meeting: &Meeting| meeting.waiters.statistics().waiting;
        // All at once, so the room is made before, for as many as there are; more may come meanwhile.
        loop {
            let room = self.guarded.look(|meeting| waiting(meeting));
            let has_done = self.guarded.with_room(room, |meeting, wakes| {
                let has_room = waiting(meeting) <= room;
                if has_room {
                    meeting.broken = broken;
                    while meeting.waiters.refuse(BROKEN, wakes) {}
                }
                has_room
            });
            if has_done {
                return;
            }
        }
    }

    /// How many are needed.
    pub fn parties(&self) -> usize {
        self.parties
    }

    /// How many have come and wait, at this moment.
    #[doc(alias = "n_waiting")]
    pub fn waiting(&self) -> usize {
        self.guarded.look(|meeting| meeting.waiters.len())
    }

    /// Whether it was aborted, or a thread ran out of time, and it was not reset since.
    #[doc(alias = "broken")]
    pub fn is_broken(&self) -> bool {
        self.guarded.look(|meeting| meeting.broken)
    }

    /// How many wait, and have waited.
    pub fn statistics(&self) -> WaitStatistics {
        self.guarded.look(|meeting| meeting.waiters.statistics())
    }
}

struct Meet<'a> {
    barrier: &'a Barrier,
    /// All others were there at the last look.
    is_last: bool,
}

impl Request for Meet<'_> {
    type State = Meeting;
    type Mode = Shared;
    type Payload = ();
    type Output = Result<usize, BrokenBarrier>;
    type Found = Result<usize, BrokenBarrier>;

    const WAITS_FOR: &'static &'static str = &"a barrier";

    fn guarded(&self) -> &Guarded<Meeting, Shared> {
        &self.barrier.guarded
    }

    fn list(meeting: &mut Meeting) -> &mut List<()> {
        &mut meeting.waiters
    }

    /// The last to come sends all others on in one step, for places of one round.
    fn room(&self) -> usize {
        if self.is_last { self.barrier.parties - 1 } else { 0 }
    }

    fn prepare(&mut self) {
        self.is_last = true;
    }

    fn look(&mut self, meeting: &mut Meeting, wakes: &mut Wakes) -> Now<Self::Output> {
        if meeting.broken {
            return Now::Ready(Err(BrokenBarrier));
        }
        let last = self.barrier.parties - 1;
        if meeting.waiters.len() < last {
            return Now::Wait;
        }
        if !self.is_last {
            return Now::Prepare;
        }
        for place in 0..last {
            meeting.waiters.grant(place as u32, wakes);
        }
        Now::Ready(Ok(last))
    }

    fn found(&mut self, found: Result<usize, BrokenBarrier>) -> Result<usize, BrokenBarrier> {
        found
    }

    fn payload(&mut self) {}

    fn granted(&mut self, outcome: u32, _: Option<()>) -> Self::Output {
        if outcome == BROKEN { Err(BrokenBarrier) } else { Ok(outcome as usize) }
    }

    fn unused(&mut self, _: u32) {}
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("parties", &self.parties)
            .field("waiting", &self.waiting())
            .field("broken", &self.is_broken())
            .finish()
    }
}

/// The barrier was reset or broken. Mirrors `asyncio.BrokenBarrierError`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenBarrier;

impl fmt::Display for BrokenBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the barrier was reset or broken: `reset` makes it usable again")
    }
}

impl Error for BrokenBarrier {}
