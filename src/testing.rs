//! Testing code that runs on selkie: virtual time, a chosen order, and no wait that never ends unnoticed.

#![expect(clippy::disallowed_types, reason = "one thread runs a simulation, so the lock is free")]

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    future::Future,
    ops::RangeInclusive,
    rc::{Rc, Weak},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use selkie_platform::{Driven, Job, Next, Platform, Turn, Unavailable};

use crate::{
    EventLoop, RunError,
    context::{self, Context},
    error::{JoinError, contain},
    event_loop::Owner,
    os,
    scheduler::{REPAIRS, ThreadNumber, random},
    sync::{order::wanted_by, owner_of},
    task::AnyTask,
};

/// A world of its own for loops: time passes only when nothing is ready, and everything has an order.
///
/// The same code runs on it as on a real host, on every target, synchronously, also in a page and also inside a task of
/// another loop. A test of hours takes milliseconds.
///
/// - Without a seed, everything runs in the order in which it became ready: tests can assert exact orders.
/// - With [`seed`](Self::seed), the order within each round, the order of the loops and the moments at which blocking
///   jobs end are chosen by the seed. The same seed gives the same run on every target. A test that holds for a thousand
///   seeds relies on no order.
/// - With [`Faults`], workers die, wakes are late, loops close and jobs are slow, at moments that the seed chooses.
/// - What a blocking job itself gives to threads, where no loop runs, goes to those of the host: it takes no virtual time, and a
///   run that waits for nothing else takes that for a deadlock. Give such work from the tasks of a loop.
/// - A blocking job that would have to wait for a lock, a queue or the like is refused, as it would hold up all others: with
///   [`WaitError::WouldBlock`](crate::WaitError::WouldBlock), or what the queue has for that. So is one that waits for a result of
///   its world: [`WaitError::WouldDeadlock`](crate::WaitError::WouldDeadlock), or `WouldBlock` on a thread that must not block, as a
///   page's.
/// - When every task waits and nothing can wake one, the run ends with a [`Deadlock`] that lists who waits for what, and names the
///   circle if tasks wait for each other's locks.
///
/// ```
/// use selkie::{sleep, testing::Sim};
/// use std::time::Duration;
///
/// let sim = Sim::new();
/// sim.run(async {
///     sleep(Duration::from_secs(3600)).await;
/// });
/// assert_eq!(sim.elapsed(), Duration::from_secs(3600)); // and it took no time
/// ```
pub struct Sim {
    world: Arc<World>,
    /// For the report of a deadlock. They are their users': one that is dropped closes.
    loops: RefCell<Vec<Weak<Owner>>>,
}

/// What the platforms of one simulation share. One thread runs it; the lock is for `Sync` and never waited for long.
struct World {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    now: Duration,
    seed: Option<u64>,
    /// Where its numbers have got to.
    random: Option<u64>,
    next_member: usize,
    /// The member that had the last turn.
    last: usize,
    /// What each driven loop needs next.
    members: BTreeMap<usize, Need>,
    jobs: VecDeque<Job>,
    /// Jobs that run for a while, by the time of their end.
    running: BTreeMap<(Duration, usize), RunningJob>,
    next_job: usize,
    /// The shortest and the longest, if the user has said so.
    job_time: Option<(Duration, Duration)>,
    faults: Faults,
    /// The loops of [`Sim::event_loop`] that have not closed.
    open: usize,
    /// The run that ended last did so because nothing could go on.
    stuck: bool,
    /// A loop is being put on a "thread" of this world.
    starting: bool,
    /// Its [`Sim`] has gone.
    left_alone: bool,
    /// Its jobs are being dropped.
    losing: bool,
}

struct RunningJob {
    job: Job,
    /// Its worker dies before the job has ended.
    dies: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Need {
    next: Next,
    pended: bool,
    /// A wake that is on its way until then.
    wake: Option<Duration>,
    /// The loop has a "thread" of its own, which a fault may end.
    thread: bool,
    /// Its turn runs, below on this stack: no other turn inside of it.
    busy: bool,
}

/// A simulated loop that runs on this thread.
struct Running {
    world: usize,
    member: usize,
    turn: Rc<dyn Turn>,
    event_loop: Weak<Owner>,
}

thread_local! {
    static RUNNING: RefCell<Vec<Running>> = const { RefCell::new(Vec::new()) };
    /// The loop that is about to be given to its platform.
    static DRIVEN: RefCell<Weak<Owner>> = const { RefCell::new(Weak::new()) };
    /// A loop of the world whose job runs.
    static WORKS: RefCell<Option<Arc<dyn Platform>>> = const { RefCell::new(None) };
}

/// The world whose job runs on this thread.
pub(crate) fn works() -> Option<Arc<dyn Platform>> {
    WORKS.try_with(|works| works.borrow().clone()).ok().flatten()
}

/// To be called right before a loop is given to a platform that nests: a platform knows no loop, only its turns.
pub(crate) fn driven(event_loop: Weak<Owner>) {
    DRIVEN.set(event_loop);
}

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        crate::os::lock(&self.state)
    }

    fn key(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// A loop gets no further turns.
    fn leave(&self, member: usize) {
        self.state().members.remove(&member);
        let key = self.key();
        // With a thread that ends they may have gone already.
        let gone = RUNNING.try_with(|running| {
            let mut running = running.borrow_mut();
            let index = running.iter().position(|one| one.world == key && one.member == member)?;
            Some(running.swap_remove(index))
        });
        drop(gone);
    }

    /// Closes the loops of "threads", unless another loop is run, and they with it.
    fn end_threads(&self) {
        let state = self.state();
        if state.members.values().any(|need| !need.thread) {
            return;
        }
        let left: Vec<usize> = state.members.keys().copied().collect();
        drop(state);
        left.into_iter().for_each(|member| self.leave(member));
    }

    /// Drops the jobs if nobody will run them any more: they may keep this world by the handle of a loop.
    fn lose_jobs(&self) {
        let mut state = self.state();
        // A job that goes may leave another one.
        if !state.left_alone || state.open > 0 || std::mem::replace(&mut state.losing, true) {
            return;
        }
        loop {
            let running = state.running.pop_first().map(|(_, running)| running.job);
            let Some(job) = running.or_else(|| state.jobs.pop_front()) else { break };
            drop(state);
            contain(|| drop(job));
            state = self.state();
        }
        state.losing = false;
    }

    /// A place for another loop.
    fn join(self: &Arc<Self>) -> Member {
        let mut state = self.state();
        state.next_member += 1;
        Member { world: self.clone(), id: state.next_member }
    }
}

impl State {
    /// A number below `bound`: 0 without a seed.
    fn choose(&mut self, bound: usize) -> usize {
        self.choose_long(bound as u64) as usize
    }

    /// As [`choose`](Self::choose), for what a `usize` does not hold on every target.
    fn choose_long(&mut self, bound: u64) -> u64 {
        match &mut self.random {
            Some(state) if bound > 1 => random(state) % bound,
            _ => 0,
        }
    }

    /// Whether a fault happens that does so once in so many times. Never without a seed.
    fn happens(&mut self, one_in: u32) -> bool {
        match &mut self.random {
            Some(state) if one_in > 0 => random(state) % u64::from(one_in) == 0,
            _ => false,
        }
    }

    /// A length up to `longest`.
    fn length(&mut self, longest: Duration) -> Duration {
        let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.choose_long(nanos.saturating_add(1)))
    }

    /// Starts the jobs that wait: each takes the time that was set, or one that the seed chooses, or none.
    fn start_jobs(&mut self) {
        while let Some(job) = self.jobs.pop_front() {
            let mut length = match self.job_time {
                Some((shortest, longest)) => shortest.saturating_add(self.length(longest - shortest)),
                None => Duration::from_micros(self.choose(10_000) as u64),
            };
            let Faults { slow_jobs, slow_by, dying_workers, .. } = self.faults;
            if self.happens(slow_jobs) {
                length = length.saturating_add(self.length(slow_by));
            }
            let dies = self.happens(dying_workers);
            self.next_job += 1;
            self.running.insert((self.now.saturating_add(length), self.next_job), RunningJob { job, dies });
        }
    }

    /// The loop whose thread a fault ends now, if one does.
    fn ends(&mut self) -> Option<usize> {
        if !self.happens(self.faults.closing_loops) {
            return None;
        }
        let threads = self.members.iter().filter(|(_, need)| need.thread && !need.busy);
        let threads: Vec<usize> = threads.map(|(&member, _)| member).collect();
        let choice = self.choose(threads.len());
        threads.get(choice).copied()
    }
}

/// What happens next in a world.
enum Step {
    Turn(usize),
    Job(Job),
    /// The worker that ran it has died.
    Lost(Job),
    /// The thread of a loop has died.
    Ended(usize),
    Stuck,
}

impl World {
    fn step(&self) -> Step {
        let mut state = self.state();
        state.start_jobs();
        if let Some(member) = state.ends() {
            return Step::Ended(member);
        }
        loop {
            let now = state.now;
            let ready: Vec<usize> = state
                .members
                .iter()
                .filter(|(_, need)| {
                    !need.busy
                        && (need.pended
                            || need.wake.is_some_and(|time| time <= now)
                            || need.next == Next::Now
                            || matches!(need.next, Next::At(time) if time <= now))
                })
                .map(|(&member, _)| member)
                .collect();
            let job_due = state.running.first_key_value().is_some_and(|((time, _), _)| *time <= now);
            if !ready.is_empty() || job_due {
                let choice = match state.random {
                    Some(_) => state.choose(ready.len() + usize::from(job_due)),
                    // A job first, then the loops in turn, so that none starves another.
                    None if job_due => ready.len(),
                    None => ready.iter().position(|&member| member > state.last).unwrap_or(0),
                };
                if let Some(&member) = ready.get(choice) {
                    state.last = member;
                    let need = state.members.get_mut(&member).expect("a ready member is listed");
                    (need.pended, need.wake, need.busy) = (false, None, true);
                    return Step::Turn(member);
                }
                let (_, RunningJob { job, dies }) = state.running.pop_first().expect("a job is due");
                return if dies { Step::Lost(job) } else { Step::Job(job) };
            }
            let first_deadline = state.members.values().filter(|need| !need.busy).flat_map(|need| {
                let deadline = if let Next::At(time) = need.next { Some(time) } else { None };
                deadline.into_iter().chain(need.wake)
            });
            let first_job = state.running.first_key_value().map(|((time, _), _)| *time);
            match first_deadline.chain(first_job).min().filter(|&time| time < Duration::MAX) {
                Some(time) => state.now = time,
                None => return Step::Stuck,
            }
        }
    }
}

/// A member's turn; over also when it panics.
struct Busy<'a>(&'a World, usize);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if let Some(need) = self.0.state().members.get_mut(&self.1) {
            need.busy = false;
        }
    }
}

/// What each loop of a [`Sim`] has as a value of its own, which goes when the loop closes.
struct Open(std::sync::Weak<World>);

impl Open {
    /// No [`LoopLocal`](crate::LoopLocal) has this key.
    const KEY: u64 = 0;
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(world) = self.0.upgrade() {
            world.state().open -= 1;
            world.lose_jobs();
        }
    }
}

/// One loop's place in a world.
struct Member {
    world: Arc<World>,
    id: usize,
}

impl Member {
    /// Runs a job, which may leave others to this world.
    fn work(&self, job: Job) {
        struct Restore(Option<Arc<dyn Platform>>);
        impl Drop for Restore {
            fn drop(&mut self) {
                WORKS.set(self.0.take());
            }
        }
        let here = Arc::new(Self { world: self.world.clone(), id: self.id });
        let _restore = Restore(WORKS.replace(Some(here)));
        let mut job = Some(job);
        let mut outside = Context::current();
        os::work(&mut || job.take().into_iter().for_each(|job| job()));
        // One that trapped has left its own.
        context::exchange(&mut outside);
    }
}

impl Platform for Member {
    fn now(&self) -> Duration {
        self.world.state().now
    }

    fn drive(&self, turn: Rc<dyn Turn>) -> Driven {
        let key = self.world.key();
        let event_loop = DRIVEN.take();
        if let (Some(seed), Some(event_loop)) = (self.world.state().seed, EventLoop::upgrade(&event_loop)) {
            event_loop.scheduler().set_shuffle(seed ^ (self.id as u64) << 32);
        }
        let running = Running { world: key, member: self.id, turn, event_loop };
        RUNNING.with_borrow_mut(|all| all.push(running));
        let mut state = self.world.state();
        let pended = state.members.get(&self.id).is_some_and(|need| need.pended);
        let thread = state.starting;
        let need = Need { next: Next::Now, pended, wake: None, thread, busy: false };
        state.members.insert(self.id, need);
        drop(state);
        if thread {
            // A loop of a "thread": whoever drives the world gives it its turns.
            return Driven::Started;
        }
        // Taken out again also when a turn panics.
        struct Leave<'a>(&'a Member);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.world.leave(self.0.id);
                if self.0.world.state().left_alone {
                    self.0.world.end_threads();
                }
            }
        }
        let _leave = Leave(self);
        loop {
            let mut state = self.world.state();
            if !state.members.contains_key(&self.id) {
                // A run inside of a job, or of another loop's turn, has given it its last turn.
                state.stuck = false;
                return Driven::Finished;
            }
            drop(state);
            match self.world.step() {
                Step::Stuck => {
                    self.world.state().stuck = true;
                    return Driven::Finished;
                }
                Step::Job(job) => self.work(job),
                // What it owed is lost, which whoever waits for it is told.
                Step::Lost(job) => self.work(Box::new(|| _ = contain(|| drop(job)))),
                Step::Ended(member) => self.world.leave(member),
                Step::Turn(member) => {
                    let turn = RUNNING.with_borrow(|running| {
                        let one = running.iter().find(|one| one.world == key && one.member == member)?;
                        Some(one.turn.clone())
                    });
                    let Some(turn) = turn else {
                        self.world.state().members.remove(&member);
                        continue;
                    };
                    let busy = Busy(&self.world, member);
                    let mut next = Next::Now;
                    if !os::guard(&mut || next = turn.turn()) {
                        // As every host does: to tell those who wait may trap as well.
                        let _repaired = (0..REPAIRS).any(|_| os::guard(&mut || turn.trapped()));
                    }
                    drop(busy);
                    if next == Next::Done {
                        if member == self.id {
                            // Another loop of this world may have been.
                            self.world.state().stuck = false;
                            return Driven::Finished;
                        }
                        self.world.leave(member);
                    } else if let Some(need) = self.world.state().members.get_mut(&member) {
                        need.next = next;
                    }
                }
            }
        }
    }

    fn pend(&self) {
        let mut state = self.world.state();
        let Faults { delayed_wakes, delayed_by, .. } = state.faults;
        let late = if state.happens(delayed_wakes) { Some(state.length(delayed_by)) } else { None };
        let now = state.now;
        let Some(need) = state.members.get_mut(&self.id) else { return };
        match late {
            // Late, but not later than one that is on its way.
            Some(late) => {
                let late = now.saturating_add(late);
                need.wake = Some(need.wake.map_or(late, |wake| wake.min(late)));
            }
            None => need.pended = true,
        }
    }

    fn can_block(&self) -> bool {
        true
    }

    fn nests(&self) -> bool {
        true
    }

    fn guard(&self, f: &mut dyn FnMut()) -> bool {
        os::guard(f)
    }

    fn run_blocking(&self, job: Job) -> Result<(), Unavailable> {
        self.world.state().jobs.push_back(job);
        self.world.lose_jobs();
        Ok(())
    }

    fn sibling(&self) -> Arc<dyn Platform> {
        Arc::new(self.world.join())
    }

    /// The loop's turns are taken by whoever drives the world.
    fn spawn_thread(&self, _: &str, main: Job) -> Result<(), Unavailable> {
        let outer = std::mem::replace(&mut self.world.state().starting, true);
        main();
        self.world.state().starting = outer;
        Ok(())
    }

    fn report(&self, message: &str) {
        crate::os::report(message);
    }

    fn grain(&self) -> Duration {
        Duration::ZERO
    }
}

/// What may go wrong in a [`Sim`], each once in so many times; the moments are the seed's. For tests of code that has to survive it.
///
/// What is lost ends in the error that a real fault would leave, [`JoinError::is_lost`](crate::JoinError::is_lost), so that
/// nobody waits for ever. 0 means never, as does leaving it out.
///
/// ```
/// use selkie::{testing::{Faults, Sim}, to_thread};
///
/// let mut lost = 0;
/// for seed in 0..100 {
///     let sim = Sim::seeded(seed).with_faults(Faults::new().dying_workers(4));
///     lost += sim.run(async {
///         match to_thread(|| "done").await {
///             Ok(_) => 0,
///             Err(error) => i32::from(error.is_lost()),
///         }
///     });
/// }
/// assert!(lost > 5 && lost < 60);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    dying_workers: u32,
    slow_jobs: u32,
    slow_by: Duration,
    delayed_wakes: u32,
    delayed_by: Duration,
    closing_loops: u32,
}

impl Faults {
    /// Nothing goes wrong.
    pub fn new() -> Self {
        Self::default()
    }

    /// One in so many blocking jobs is lost with the thread that runs it: its function never runs.
    pub fn dying_workers(self, one_in: u32) -> Self {
        Self { dying_workers: one_in, ..self }
    }

    /// One in so many blocking jobs takes longer, by at most `by`.
    pub fn slow_jobs(self, one_in: u32, by: Duration) -> Self {
        Self { slow_jobs: one_in, slow_by: by, ..self }
    }

    /// One in so many wakes of a loop that had nothing to do comes late, by at most `by`. None is lost.
    pub fn delayed_wakes(self, one_in: u32, by: Duration) -> Self {
        Self { delayed_wakes: one_in, delayed_by: by, ..self }
    }

    /// Before one in so many steps of the world, a loop of [`EventLoop::spawn_thread`] ends as if its thread had died.
    ///
    /// What it owes is lost, and what is submitted later refused.
    pub fn closing_loops(self, one_in: u32) -> Self {
        Self { closing_loops: one_in, ..self }
    }
}

/// Every task waits, and nothing can wake one.
#[derive(Clone, Debug)]
pub struct Deadlock {
    waiting: Vec<String>,
    circle: Vec<String>,
    seed: Option<u64>,
}

impl Deadlock {
    /// The tasks that wait, each with what it waits for: loop by loop, those of threads last, and of each loop oldest first.
    pub fn waiting(&self) -> &[String] {
        &self.waiting
    }

    /// The tasks that wait for each other in a circle, if some do: each with the lock that it wants and the next one holds, and where
    /// it asked for it, or with the task that it awaits.
    ///
    /// Who holds a lock is known in debug builds only. A lock of [`Lock::lock_owned`](crate::Lock::lock_owned) counts as held by
    /// who took it.
    #[doc(alias = "cycle")]
    pub fn circle(&self) -> &[String] {
        &self.circle
    }
}

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "every task waits and nothing can wake one")?;
        if let Some(seed) = self.seed {
            write!(f, " (SELKIE_SEED={seed})")?;
        }
        self.waiting.iter().try_for_each(|line| write!(f, "\n  {line}"))?;
        if !self.circle.is_empty() {
            write!(f, "\nin a circle:")?;
        }
        self.circle.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl std::error::Error for Deadlock {}

impl Default for Sim {
    fn default() -> Self {
        Self::new()
    }
}

impl Sim {
    /// A world at time zero, where everything runs in the order in which it became ready.
    pub fn new() -> Self {
        // Also between its runs others may wait for its jobs, which get no further while this thread waits.
        ThreadNumber::here().enter();
        Self { world: Arc::new(World { state: Mutex::default() }), loops: RefCell::default() }
    }

    /// A world whose orders are chosen by `seed`.
    pub fn seeded(seed: u64) -> Self {
        let sim = Self::new();
        let mut state = sim.world.state();
        (state.seed, state.random) = (Some(seed), Some(seed));
        drop(state);
        sim
    }

    /// The seed, if there is one.
    pub fn seed(&self) -> Option<u64> {
        self.world.state().seed
    }

    /// Makes faults happen at moments that the seed chooses; see [`Faults`].
    ///
    /// # Panics
    ///
    /// Without a seed: nothing would choose.
    #[track_caller]
    pub fn with_faults(self, faults: Faults) -> Self {
        assert!(self.seed().is_some(), "faults need a seed to choose their moments: `Sim::seeded`");
        self.world.state().faults = faults;
        self
    }

    /// Lets every blocking job ([`to_thread`](crate::to_thread), a [`ThreadPool`](crate::ThreadPool), a
    /// [`Thread`](crate::Thread)) take so long, from the shortest to the longest, as the seed chooses; without a seed the shortest.
    ///
    /// A job's function runs at the end of that time, in one go; after [`Duration::MAX`] never. Unless said otherwise jobs
    /// take no time, and up to 10 ms with a seed.
    ///
    /// ```
    /// use selkie::{gather, testing::Sim, to_thread};
    /// use std::time::Duration;
    ///
    /// let second = Duration::from_secs(1);
    /// let sim = Sim::new();
    /// sim.set_job_time(second..=second);
    /// sim.run(async {
    ///     gather([to_thread(|| 1), to_thread(|| 2)]).await; // two threads
    /// });
    /// assert_eq!(sim.elapsed(), second);
    /// ```
    ///
    /// # Panics
    ///
    /// If the shortest is longer than the longest.
    #[track_caller]
    pub fn set_job_time(&self, range: RangeInclusive<Duration>) {
        let (shortest, longest) = range.into_inner();
        assert!(shortest <= longest, "the shortest time is longer than the longest");
        self.world.state().job_time = Some((shortest, longest));
    }

    /// Lets time pass while the caller holds up its loop, as a function that blocks would do.
    ///
    /// To be called inside of a task or callback of this world. Timers that become due meanwhile fire afterwards.
    pub fn advance(&self, time: Duration) {
        let mut state = self.world.state();
        state.now = state.now.saturating_add(time);
    }

    /// The virtual time that has passed.
    pub fn elapsed(&self) -> Duration {
        self.world.state().now
    }

    /// A new loop in this world.
    ///
    /// It runs by [`EventLoop::run_until_complete`] and its kin. [`EventLoop::spawn_thread`] inside of [`run`](Self::run)
    /// makes loops that run at the same time. These close when the simulation is dropped.
    pub fn event_loop(&self) -> EventLoop {
        let event_loop = EventLoop::with_platform(Arc::new(self.world.join()));
        self.world.state().open += 1;
        let open = Rc::new(Open(Arc::downgrade(&self.world)));
        event_loop.scheduler().locals.set(Open::KEY, Some(open));
        let mut loops = self.loops.borrow_mut();
        loops.retain(|other| other.strong_count() > 0);
        loops.push(event_loop.downgrade());
        drop(loops);
        event_loop
    }

    /// Runs `future` on a new loop of this world and returns its output. What it leaves behind is dropped.
    ///
    /// # Panics
    ///
    /// With the list of who waits for what, if nothing can go on. If `future` panics, with its payload.
    #[track_caller]
    pub fn run<F>(&self, future: F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        match self.try_run(future) {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => match error.try_into_panic() {
                Ok(payload) => std::panic::resume_unwind(payload),
                Err(error) => panic!("{error}"),
            },
            Err(deadlock) => panic!("{deadlock}"),
        }
    }

    /// As [`run`](Self::run), with errors instead of panics.
    ///
    /// # Errors
    ///
    /// [`Deadlock`] if nothing can go on; inside, why the future gave no output.
    pub fn try_run<F>(&self, future: F) -> Result<Result<F::Output, JoinError>, Deadlock>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let event_loop = self.event_loop();
        match event_loop.run_until_complete(future) {
            Ok(output) => Ok(Ok(output)),
            Err(RunError::Task(error)) => Ok(Err(error)),
            Err(RunError::Stopped) if !std::mem::take(&mut self.world.state().stuck) => {
                Ok(Err(JoinError::cancelled(Some("the loop was stopped".into()))))
            }
            Err(RunError::Stopped) => Err(self.deadlock()),
            Err(error) => Ok(Err(JoinError::cancelled(Some(error.to_string().into())))),
        }
    }

    fn deadlock(&self) -> Deadlock {
        let mut loops: Vec<_> = self.loops.borrow().iter().filter_map(EventLoop::upgrade).collect();
        let key = self.world.key();
        RUNNING.with_borrow(|running| {
            for one in running.iter().filter(|one| one.world == key) {
                if let Some(event_loop) = EventLoop::upgrade(&one.event_loop) {
                    if !loops.iter().any(|other| same(other, &event_loop)) {
                        loops.push(event_loop);
                    }
                }
            }
        });
        let pending = loops.iter().flat_map(|event_loop| event_loop.scheduler().pending());
        let tasks = pending.filter(|task| task.is_task()).map(|task| AnyTask::new(&task)).collect();
        let tasks = Tasks::new(tasks);
        let waiting = tasks.all.iter().map(|task| {
            let awaited =
                tasks.awaited_by(task).map(|task| task.name().to_string()).or_else(|| task.waits_for());
            let waits_for = awaited.unwrap_or_else(|| "something outside of selkie".to_owned());
            format!("{} waits for {waits_for}", task.name())
        });
        Deadlock { waiting: waiting.collect(), circle: circle(&tasks), seed: self.seed() }
    }
}

/// The tasks of a deadlock. There may be many, so they are found by what they are known by.
struct Tasks {
    all: Vec<AnyTask>,
    /// Places, by the bits of the id that a waiting task remembers of whom it awaits.
    by_id: BTreeMap<usize, usize>,
}

impl Tasks {
    fn new(all: Vec<AnyTask>) -> Self {
        let by_id = all.iter().enumerate().map(|(place, task)| (task.id() as usize & Self::BITS, place));
        Self { by_id: by_id.collect(), all }
    }

    const BITS: usize = usize::MAX >> 1;

    fn find(&self, id: u64) -> Option<&AnyTask> {
        self.by_id.get(&(id as usize & Self::BITS)).map(|&place| &self.all[place])
    }

    fn awaited_by(&self, task: &AnyTask) -> Option<&AnyTask> {
        self.find(task.awaits()?)
    }

    /// The one that is the owner of locks.
    fn owner(&self, owner: u64) -> Option<&AnyTask> {
        self.find(owner >> 1).filter(|task| owner_of(task.id()) == owner)
    }
}

/// Tasks that wait for each other's locks and ends, one line each; empty if none do.
fn circle(tasks: &Tasks) -> Vec<String> {
    let owner = |task: &AnyTask| owner_of(task.id());
    let name = |holder: u64| {
        let known = tasks.owner(holder);
        known.map_or_else(|| format!("Task-{}", holder >> 1), |task| task.name().to_string())
    };
    // Who has to go on before each can, and why.
    let next = |waiter: u64| {
        let mut next = Vec::new();
        for wanted in wanted_by(waiter) {
            let whose = if wanted.holder == waiter {
                "it holds itself".to_owned()
            } else {
                format!("{} holds", name(wanted.holder))
            };
            next.push((wanted.holder, format!("{} waits for {}, which {whose}", name(waiter), wanted.text)));
        }
        if let Some(task) = tasks.owner(waiter).and_then(|task| tasks.awaited_by(task)) {
            next.push((owner(task), format!("{} waits for {}", name(waiter), task.name())));
        }
        next
    };
    let mut seen = BTreeSet::new();
    for task in &tasks.all {
        if !seen.insert(owner(task)) {
            // It was on the way from another one, which led to no circle.
            continue;
        }
        // Depth first; the path is the way to the task that is looked at.
        let mut path = vec![(owner(task), next(owner(task)), String::new())];
        while let Some((_, open, why)) = path.last_mut() {
            let Some((holder, text)) = open.pop() else {
                path.pop();
                continue;
            };
            *why = text;
            if seen.insert(holder) {
                path.push((holder, next(holder), String::new()));
            } else if let Some(start) = path.iter().position(|(on_path, ..)| *on_path == holder) {
                return path.drain(start..).map(|(.., why)| why).collect();
            }
        }
    }
    Vec::new()
}

fn same(a: &EventLoop, b: &EventLoop) -> bool {
    std::ptr::eq(a.scheduler(), b.scheduler())
}

/// Nobody gives turns to the loops of its "threads" any more: they close. Nor does anybody run its jobs.
impl Drop for Sim {
    fn drop(&mut self) {
        self.world.state().left_alone = true;
        self.world.end_threads();
        self.world.lose_jobs();
        ThreadNumber::leave();
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim")
            .field("elapsed", &self.elapsed())
            .field("seed", &self.seed())
            .finish_non_exhaustive()
    }
}

/// A clock that stands still until it is set, for loops that are driven by hand; see [`guest`](Self::guest).
///
/// Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// The time it shows.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    /// Moves it forward to `time`; an earlier time changes nothing.
    pub fn set(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_max(nanos, Ordering::Relaxed);
    }

    /// A loop on this clock, as [`EventLoop::guest`] makes it: whoever drives it decides when time passes.
    ///
    /// It is for tests in which the tasks also wait for what is not of this world, as promises are, so that nobody but
    /// the driver can tell when all is quiet; otherwise [`Sim`] does it by itself. Equal seeds give equal orders; without
    /// one everything runs in the order in which it became ready.
    ///
    /// ```
    /// use selkie::{Next, sleep, testing::ManualClock};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let guest = clock.guest(None, || {});
    /// let task = guest.spawn(sleep(Duration::from_secs(60)))?;
    /// while let Next::At(time) = guest.turn()? {
    ///     clock.set(time);
    /// }
    /// assert!(task.is_finished());
    /// assert_eq!(clock.now(), Duration::from_secs(60));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn guest(&self, seed: Option<u64>, pend: impl Fn() + Send + Sync + 'static) -> EventLoop {
        let event_loop = EventLoop::guest_with(Some(self.clone()), pend);
        if let Some(seed) = seed {
            event_loop.scheduler().set_shuffle(seed);
        }
        event_loop
    }
}
