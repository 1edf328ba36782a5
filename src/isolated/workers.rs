//! The workers of a pool: one queue, and a state for each worker.
//!
//! # The idea
//!
//! Everything is a change of [`State`] under one lock, followed by [`Shared::pump`], which looks what can be done and does it
//! until there is nothing: hand a job to a worker that is idle, start a worker, let one go, tell who waits for the end. A worker
//! goes `Starting -> Idle <-> Busy`, and from each of them to `Ending`, where it only waits for its end to be told. It counts
//! until then, so there are never more than the maximum.
//!
//! # Races
//!
//! - **Cancel and reply.** Both take the job out of its worker under the lock; the second finds none. A worker whose job was
//!   taken by a cancel is killed, and its reply is not looked at.
//! - **Idle limit and next job.** The worker asks, under the lock, whether it is to end, and gets no more jobs if so.
//! - **Death before delivery.** A worker that died while it was idle says so when it is given a job, and the job goes back to its
//!   place in the queue: once, and once more for each other worker that there was then, as they may have died together.
//! - **An end before the start has returned.** The worker is gone from the list by then, and what start returns is dropped.
//!
//! # Code of users
//!
//! Types read their values, wakers are woken, callbacks and unwanted results go, and each may panic or trap. What a job or its end
//! does is contained, so that the counts stay right and the worker's thread goes on.
//!
//! # Starts that fail
//!
//! A worker that ends before its first message fails the jobs that wait, if there is no other worker; each failure costs at least
//! one job, so a program that can never start one does not try for ever. If there is another one, no further is started before
//! that has shown some life.

#![expect(
    clippy::disallowed_types,
    reason = "never waited for: `lock` spins, and it is held for a few instructions and never with code of users"
)]

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, TryLockError, Weak},
    task::{Wake, Waker},
};

use selkie_platform::{Isolate, IsolateEnd, IsolateEvents, IsolateOptions, Platform};
use serde::de::DeserializeOwned;

use super::{job, simulated};
use crate::{
    PoolError, PoolShutdown, RemoteTask,
    error::{JoinError, contain},
    os,
    pool::wait_as_well,
    remote::{Producer, channel},
    scheduler::ThreadNumber,
};

pub(super) struct Shared {
    pub(super) max: usize,
    pub(super) options: IsolateOptions,
    /// The loop in which a simulated pool was made, and its thread. Weak, because the world owns what the pool gives it.
    pub(super) simulated: Option<(Weak<dyn Platform>, ThreadNumber)>,
    /// The thread that workers belong to.
    home: os::Home,
    hello: Vec<u8>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    next: u64,
    /// Jobs that have not begun, first one first.
    queue: BTreeMap<u64, Box<dyn Work>>,
    workers: Vec<Worker>,
    /// Jobs that were taken and have not gone.
    jobs: usize,
    /// Start no further worker before another has shown some life.
    hold: bool,
    /// Who waits for the end of jobs and workers, after a shutdown.
    waiting: Vec<Producer<()>>,
}

struct Worker {
    id: u64,
    /// The smallest that was free, for its name.
    number: usize,
    /// `None` while it is made and when it was let go.
    isolate: Option<Arc<dyn Isolate>>,
    phase: Phase,
}

enum Phase {
    Starting,
    Idle,
    Busy(u64, Box<dyn Work>),
    Ending {
        /// It is still to be killed.
        doomed: bool,
    },
}

/// A job, whatever its result.
trait Work: Send {
    /// Says that it begins; `None` if it should not.
    fn begin(&mut self) -> Option<Vec<u8>>;
    /// Prepares for another `begin` with the same request; `false` if it had one, and one more for each of the `others` that there
    /// were at the first.
    fn again(&mut self, request: Vec<u8>, others: usize) -> bool;
    fn end(self: Box<Self>, reply: Result<Vec<u8>, JoinError>);
    fn name(&self) -> &'static str;
}

struct Typed<R: Send> {
    name: &'static str,
    request: Option<Vec<u8>>,
    /// How many more workers it may find dead, once it has found one.
    returns: Option<usize>,
    producer: Producer<R>,
}

impl<R: DeserializeOwned + Send> Work for Typed<R> {
    fn begin(&mut self) -> Option<Vec<u8>> {
        if self.producer.begin() { self.request.take() } else { None }
    }

    fn again(&mut self, request: Vec<u8>, others: usize) -> bool {
        self.request = Some(request);
        let left = match self.returns {
            None => Some(others),
            Some(returns) => returns.checked_sub(1),
        };
        self.returns = left.or(Some(0));
        left.is_some()
    }

    fn end(self: Box<Self>, reply: Result<Vec<u8>, JoinError>) {
        let Self { name, producer, .. } = *self;
        let stand_in = producer.stand_in();
        // The result's type reads the reply.
        contain(|| {
            let result = reply.and_then(|reply| job::result(name, &reply));
            producer.give(result);
        });
        // Nothing, unless a trap took it.
        stand_in.give(JoinError::trapped());
    }

    fn name(&self) -> &'static str {
        self.name
    }
}

/// The waker that a cancel wakes.
struct Cancel {
    pool: Weak<Shared>,
    key: u64,
}

impl Wake for Cancel {
    fn wake(self: Arc<Self>) {
        if let Some(pool) = self.pool.upgrade() {
            pool.cancel(self.key);
        }
    }
}

/// What a pump does outside of the lock.
enum Step {
    Nothing,
    Start {
        id: u64,
        number: usize,
    },
    Post(Arc<dyn Isolate>, Vec<u8>),
    /// Let it go, perhaps by a kill.
    Release(Arc<dyn Isolate>, bool),
    Tell(Vec<Producer<()>>),
    /// The job was cancelled just as it was to begin.
    Withdrawn(Box<dyn Work>),
}

impl Shared {
    pub(super) fn new(
        max: NonZeroUsize,
        options: IsolateOptions,
        simulated: Option<(Weak<dyn Platform>, ThreadNumber)>,
    ) -> Self {
        Self {
            max: max.get(),
            options,
            simulated,
            home: os::Home::new(),
            hello: job::hello(),
            state: Mutex::default(),
        }
    }

    /// How many workers there are, and how many jobs.
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.workers.len(), state.jobs)
    }

    /// Queues a job.
    pub(super) fn submit<R: DeserializeOwned + Send + 'static>(
        self: &Arc<Self>,
        name: &'static str,
        request: Vec<u8>,
    ) -> Result<RemoteTask<R>, PoolError> {
        let (producer, task) = channel(None);
        let mut state = self.lock();
        if state.closed {
            return Err(PoolError::ShutDown);
        }
        state.next += 1;
        let key = state.next;
        // Nobody has the other end yet, so it is not cancelled.
        producer.poll_cancelled(&Waker::from(Arc::new(Cancel { pool: Arc::downgrade(self), key })));
        let work = Typed { name, request: Some(request), returns: None, producer };
        state.queue.insert(key, Box::new(work));
        state.jobs += 1;
        drop(state);
        self.pump();
        Ok(match self.simulated {
            Some((_, by)) => task.simulated(by),
            None => task,
        })
    }

    /// Takes no more jobs.
    pub(super) fn close(self: &Arc<Self>) {
        self.lock().closed = true;
        self.pump();
    }

    pub(super) fn shutdown(self: &Arc<Self>) -> PoolShutdown {
        self.lock().closed = true;
        self.ending()
    }

    pub(super) fn shutdown_now(self: &Arc<Self>) -> PoolShutdown {
        let mut state = self.lock();
        state.closed = true;
        let mut jobs: Vec<_> = std::mem::take(&mut state.queue).into_values().collect();
        for worker in &mut state.workers {
            jobs.extend(worker.doom());
        }
        drop(state);
        for work in jobs {
            self.finish(work, Err(JoinError::LOST));
        }
        self.ending()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        loop {
            match self.state.try_lock() {
                Ok(state) => return state,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => os::relax(),
            }
        }
    }

    /// Does all that can be done, on the thread that the workers belong to.
    fn pump(self: &Arc<Self>) {
        let this = self.clone();
        self.home.run(move || {
            loop {
                let step = this.step(&mut this.lock());
                match step {
                    Step::Nothing => return,
                    Step::Start { id, number } => this.start(id, number),
                    Step::Post(isolate, request) => isolate.post(request),
                    Step::Release(isolate, doomed) => {
                        if doomed {
                            isolate.kill();
                        }
                    }
                    Step::Tell(waiting) => waiting.into_iter().for_each(|producer| {
                        contain(|| producer.give(Ok(())));
                    }),
                    Step::Withdrawn(work) => this.withdraw(work),
                }
            }
        });
    }

    fn step(&self, state: &mut State) -> Step {
        for worker in &mut state.workers {
            if let Phase::Ending { doomed } = &worker.phase {
                if let Some(isolate) = worker.isolate.take() {
                    return Step::Release(isolate, *doomed);
                }
            }
        }
        // The one that was started first: the others run out their limit.
        let free = state.workers.iter_mut().find_map(|worker| match (&worker.phase, &worker.isolate) {
            (Phase::Idle, Some(isolate)) => Some((isolate.clone(), &mut worker.phase)),
            _ => None,
        });
        if let Some((isolate, phase)) = free {
            if let Some((key, mut work)) = state.queue.pop_first() {
                let Some(request) = work.begin() else { return Step::Withdrawn(work) };
                *phase = Phase::Busy(key, work);
                return Step::Post(isolate, request);
            }
        }
        let starting = state.workers.iter().filter(|worker| matches!(worker.phase, Phase::Starting)).count();
        let may_start = state.workers.len() < self.max && (state.workers.is_empty() || !state.hold);
        if state.queue.len() > starting && may_start {
            state.next += 1;
            let id = state.next;
            let mut numbers = 0..self.max;
            let number = numbers.find(|&number| state.workers.iter().all(|worker| worker.number != number));
            let number = number.unwrap_or(self.max);
            state.workers.push(Worker { id, number, isolate: None, phase: Phase::Starting });
            return Step::Start { id, number };
        }
        if state.closed && state.queue.is_empty() {
            for worker in &mut state.workers {
                // One that starts has nothing of a job, and may hang: it is not waited for.
                let doomed = match worker.phase {
                    Phase::Starting => true,
                    Phase::Idle => false,
                    _ => continue,
                };
                if let Some(isolate) = worker.isolate.take() {
                    worker.phase = Phase::Ending { doomed };
                    return Step::Release(isolate, doomed);
                }
            }
            if state.jobs == 0 && state.workers.is_empty() && !state.waiting.is_empty() {
                return Step::Tell(std::mem::take(&mut state.waiting));
            }
        }
        Step::Nothing
    }

    fn start(self: &Arc<Self>, id: u64, number: usize) {
        let mut options = self.options.clone();
        options.name = format!("{}-{number}", options.name);
        let events = Arc::new(Events { pool: self.clone(), id });
        let started = match &self.simulated {
            None => os::spawn_isolate(options, events),
            Some((made_in, _)) => match simulated::world(made_in) {
                Some(world) => Ok(simulated::spawn(&world, &options.name, &self.hello, events)),
                None => Err(simulated::OVER),
            },
        };
        match started {
            Ok(isolate) => {
                let mut state = self.lock();
                match state.workers.iter_mut().find(|worker| worker.id == id) {
                    Some(worker) => worker.isolate = Some(isolate.into()),
                    // It has ended meanwhile.
                    None => {
                        drop(state);
                        drop(isolate);
                    }
                }
            }
            Err(error) => self.ended(id, IsolateEnd::Unavailable(error)),
        }
    }

    /// A job has its result, and nothing of it is left.
    fn finish(&self, work: Box<dyn Work>, reply: Result<Vec<u8>, JoinError>) {
        contain(|| work.end(reply));
        self.lock().jobs -= 1;
    }

    /// As `finish`, of one whose producer sees that somebody asked for its end.
    fn withdraw(&self, work: Box<dyn Work>) {
        contain(|| drop(work));
        self.lock().jobs -= 1;
    }

    fn message(self: &Arc<Self>, id: u64, message: Vec<u8>) {
        let mut state = self.lock();
        state.hold = false;
        let Some(worker) = state.workers.iter_mut().find(|worker| worker.id == id) else { return };
        match std::mem::replace(&mut worker.phase, Phase::Idle) {
            Phase::Starting if message == self.hello => drop(state),
            Phase::Starting => {
                worker.phase = Phase::Ending { doomed: true };
                let reason = "runs another program: its file was replaced while this one ran";
                let failed = self.start_failed(&mut state);
                drop(state);
                self.fail(failed, &IsolateEnd::Died(reason.to_owned()));
            }
            Phase::Busy(_, work) => {
                drop(state);
                // The worker has its next job before the result of this one is looked at.
                self.pump();
                self.finish(work, Ok(message));
            }
            other => {
                worker.phase = other;
                drop(state);
            }
        }
        self.pump();
    }

    fn idle(&self, id: u64) -> bool {
        let mut state = self.lock();
        let Some(worker) = state.workers.iter_mut().find(|worker| worker.id == id) else { return true };
        match worker.phase {
            Phase::Idle => {
                worker.phase = Phase::Ending { doomed: false };
                let isolate = worker.isolate.take();
                drop(state);
                drop(isolate);
                true
            }
            Phase::Ending { .. } => true,
            _ => false,
        }
    }

    fn ended(self: &Arc<Self>, id: u64, end: IsolateEnd) {
        let mut state = self.lock();
        let Some(place) = state.workers.iter().position(|worker| worker.id == id) else { return };
        let worker = state.workers.remove(place);
        match worker.phase {
            Phase::Starting => {
                let failed = self.start_failed(&mut state);
                drop(state);
                self.fail(failed, &end);
            }
            Phase::Busy(key, mut work) => match end {
                IsolateEnd::Undelivered(how, message) => {
                    if work.again(message, state.workers.len()) {
                        state.queue.insert(key, work);
                        drop(state);
                    } else {
                        drop(state);
                        self.fail(vec![work], &IsolateEnd::Died(how));
                    }
                }
                end => {
                    drop(state);
                    self.fail(vec![work], &end);
                }
            },
            Phase::Idle | Phase::Ending { .. } => drop(state),
        }
        drop(worker.isolate);
        self.pump();
    }

    /// The jobs that this fails: all that wait, if no other worker can take them.
    fn start_failed(&self, state: &mut State) -> Vec<Box<dyn Work>> {
        state.hold = true;
        let others = state.workers.iter().any(|worker| !matches!(worker.phase, Phase::Ending { .. }));
        if others { Vec::new() } else { std::mem::take(&mut state.queue).into_values().collect() }
    }

    fn fail(self: &Arc<Self>, jobs: Vec<Box<dyn Work>>, end: &IsolateEnd) {
        for work in jobs {
            let error = match end {
                IsolateEnd::Panicked(message) => job::panic(work.name(), message.clone()),
                IsolateEnd::Unavailable(error) => JoinError::unavailable(error.clone()),
                IsolateEnd::Died(how) | IsolateEnd::Undelivered(how, _) => {
                    JoinError::crashed(format!("the worker of `{}` {how}", work.name()).into())
                }
                _ => JoinError::LOST,
            };
            self.finish(work, Err(error));
        }
    }

    fn cancel(self: &Arc<Self>, key: u64) {
        let mut state = self.lock();
        let work = match state.queue.remove(&key) {
            Some(work) => Some(work),
            None => {
                let busy = |worker: &&mut Worker| matches!(&worker.phase, Phase::Busy(of, _) if *of == key);
                state.workers.iter_mut().find(busy).and_then(Worker::doom)
            }
        };
        drop(state);
        if let Some(work) = work {
            self.withdraw(work);
        }
        self.pump();
    }

    fn ending(self: &Arc<Self>) -> PoolShutdown {
        let (producer, task) = channel(None);
        let gone = wait_as_well(&mut self.lock().waiting, producer);
        drop(gone);
        self.pump();
        PoolShutdown::new(task)
    }
}

impl Worker {
    /// Takes its job, and has it killed.
    fn doom(&mut self) -> Option<Box<dyn Work>> {
        match std::mem::replace(&mut self.phase, Phase::Ending { doomed: true }) {
            Phase::Busy(_, work) => Some(work),
            _ => None,
        }
    }
}

pub(super) struct Events {
    pool: Arc<Shared>,
    id: u64,
}

impl IsolateEvents for Events {
    fn message(&self, message: Vec<u8>) {
        self.pool.message(self.id, message);
    }

    fn idle(&self) -> bool {
        self.pool.idle(self.id)
    }

    fn ended(&self, end: IsolateEnd) {
        self.pool.ended(self.id, end);
    }
}
