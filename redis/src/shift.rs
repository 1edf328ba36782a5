//! What a worker does between its start and its end, whatever it takes its jobs from.
//!
//! # Tasks
//!
//! One loop runs them all, so what they share needs no lock.
//!
//! - The **reader** takes deliveries and starts jobs. It alone takes, so it alone decides what is one too many.
//! - A task **per job** runs the handler, as a child task: a panic, a timeout or a cancel ends the child, and becomes a verdict.
//! - The **settler** tells Redis the verdicts, in batches: while one batch is under way the next one gathers. A worker with short
//!   jobs so needs few round trips, and one with long jobs does not wait for a batch to fill.
//! - The **heart** says every third of the idle limit that the worker still has what it has.
//! - The **timekeeper** moves what has become due from the waiting jobs to the ready ones.
//!
//! # Room
//!
//! A delivery is *known* from the moment the reader sees it until Redis has confirmed its verdict. With a concurrency of C there
//! are at most C jobs running and at most 2 C known, and never is more taken than there is room for. So memory is bounded by the
//! payloads of 2 C jobs whatever waits in Redis, a slow or absent Redis stops the reading, and a short job does not wait for the
//! confirmation of the one before.
//!
//! # Nothing is lost
//!
//! Redis keeps a delivery as pending until it is settled. A delivery leaves this worker in four ways:
//!
//! 1. It gets a verdict. The script that brings it acknowledges, and does the rest (the outcome, the retry, the dead letter) only
//!    if the acknowledgement was the first. All of that happens or nothing, so sending it again after a lost answer does no harm.
//! 2. The worker dies. Nobody says that the delivery lives, it becomes idle, and after the idle limit another worker claims it.
//! 3. The reply that brought it was lost with the connection. After each failure of reading the reader first *recovers*: it asks
//!    what is pending for this worker, leaves out what is known, and starts the rest. "Known" is looked at before the question is
//!    sent: what was settled since is still known then, and is not started a second time; nothing else can have been taken since,
//!    as only the reader takes. It asks for a megabyte at a time, so that a connection which was too slow for the reply, or too
//!    short-lived, brings it in pieces. The server may learn of the break later than we do, and give a job to a read that still waits
//!    there; reads wait for a second, so the reader recovers once more when that is over. What comes even later, as something on the way
//!    has kept the command, is claimed in time, or where a worker's sign of life is for all that it has, asked for with the claims.
//! 4. The worker stalls for longer than the idle limit (its loop was blocked, the machine slept, the network was cut), and another
//!    worker claims what it has. Both run it. The first verdict counts; the later one finds the delivery acknowledged and
//!    does nothing.
//!
//! So a job is done at least once, and twice only by 2 and 4 (and by 3 with a worker that has the name of one that died). Its
//! handler sees that in [`Job::deliveries`](crate::Job::deliveries). What is delivered too often is given up: it kills its workers.
//! After an outage of Redis everything looks idle, so the reader claims nothing for one idle limit, in which every living worker's
//! heart has beaten.
//!
//! # Shutdown
//!
//! 1. The reader stops. A read that is under way waits for at most a second more; what it brings is handed back, and so is what
//!    was taken but not begun.
//! 2. Jobs that run may end, within the grace. The heart and the settler go on.
//! 3. Jobs that still run are cancelled, and have a second to clean up. They are handed back: ready for others at once, and the
//!    attempt does not count.
//! 4. The settler sends what is left. If Redis cannot be reached then, the verdicts are lost and the jobs will run again: way 2.
//!
//! 5. It takes its name out, if nobody needs that any more: nothing is unsettled, and the reader knows what was delivered. One that
//!    was stopped between a failure and its recovery does not know.
//!
//! A `run` that is dropped cancels its jobs and leaves the rest to way 2.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    future::Future,
    mem,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::{Either, select};
use redis::{RedisError, RedisResult};
use selkie::{AnyTask, JoinError, Task, TimedOut, local, spawn};

use crate::{
    Error, JobId, Retry,
    handlers::{Again, Failure, Handlers, Job, Unfit, discard, set_current},
    link::is_passing_for_worker,
    wire::{Entry, FULL},
};

/// How long a read waits for a job. A shutdown waits for that long too.
const READ_WAIT: Duration = Duration::from_secs(1);
/// The timekeeper's longest sleep: how late a delayed job is at most, if this worker did not delay it itself.
const LOOK_WAIT: Duration = Duration::from_secs(1);
/// Verdicts in one round trip, if they are short. Redis does nothing else while it executes them.
const BATCH: usize = 256;
/// How long the reader begins jobs before all else on the loop has its turn.
const SLICE: Duration = Duration::from_millis(10);
/// How long a cancelled job may take to clean up.
const CLEAN_UP: Duration = Duration::from_secs(1);
/// What the settler has at the least when the worker ends.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long it may take a worker to take its name out.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where deliveries come from and verdicts go to.
///
/// `RedisResult` stands where the caller decides whether to try again; an `Error` is final.
#[allow(async_fn_in_trait, reason = "private, and polled by the loop of one thread")]
pub(crate) trait Source: 'static {
    /// Whether a retry waits in the worker, as the source has no place for it.
    const RETRIES_IN_WORKER: bool;

    async fn prepare(&self) -> Result<(), Error>;
    /// Takes up to `room` deliveries, and waits for the first for at most `wait`.
    async fn take(&self, room: usize, wait: Duration) -> RedisResult<Vec<Entry>>;
    /// What is pending for this worker without being in `known`: as much as makes a message, and nothing if there is no more.
    async fn recover(&self, known: &[String], room: usize, first: bool) -> RedisResult<Vec<Entry>>;
    /// Takes up to `room` deliveries over from the dead; and whether there may be more.
    async fn claim(&self, room: usize) -> RedisResult<(Vec<Entry>, bool)>;
    /// Whether it may have deliveries of this worker that `claim` does not bring and that nobody has asked for since: a command may
    /// come late, when the worker no longer waits for its answer.
    async fn misses(&self) -> RedisResult<bool>;
    /// Puts verdicts in the order in which they are to be brought, however many go in one round trip.
    fn order(&self, verdicts: &mut [Verdict]);
    /// How much of a delivery a verdict carries, beside its text.
    fn bytes(&self, entry: &str) -> usize;
    /// The longest text that it takes.
    async fn largest(&self) -> Result<usize, Error>;
    /// Brings verdicts, as often as it takes.
    async fn settle(&self, verdicts: &[Verdict]) -> Result<(), Error>;
    async fn beat(&self, known: &[String], limit: Duration) -> Result<(), Error>;
    /// Makes ready what is due. When to come again, if that is known.
    async fn promote(&self, limit: Duration) -> Result<Option<Duration>, Error>;
    /// Has nothing any more. If this is not done now, others do it in time.
    async fn leave(&self) -> Result<(), Error>;

    /// What a delivery asks for: the job, and its arguments; or what is wrong with it.
    fn job(&self, entry: &Entry) -> Result<(Job, Vec<u8>), String>;
    /// Notes that a call must be repeated; how long to wait before.
    fn pause(&self, tried: u32, error: &RedisError) -> Duration;
    fn recovered(&self);
    /// Whether `error` means that the source has to be prepared again.
    fn is_gone(&self, error: &RedisError) -> bool;
}

/// What becomes of a delivery.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) entry: String,
    pub(crate) id: JobId,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Done { outcome: String, at: u64 },
    Retry { error: String, wait: Duration, attempt: u32 },
    Dead { kind: &'static str, error: String },
    Back,
}

impl Verdict {
    fn text(&self) -> &str {
        match &self.what {
            What::Done { outcome: text, .. }
            | What::Retry { error: text, .. }
            | What::Dead { error: text, .. } => text,
            What::Back => "",
        }
    }

    /// Has Redis keep why it does not keep the text. Running the job again would make the same.
    fn shorten(&mut self) {
        let bytes = self.text().len();
        let what = if matches!(self.what, What::Done { .. }) { "result" } else { "error" };
        let short = format!(
            "its {what} has {bytes} bytes, more than Redis takes at once: keep it elsewhere, and return where it is"
        );
        match &mut self.what {
            What::Done { .. } => self.what = What::Dead { kind: "failed", error: short },
            What::Retry { error, .. } | What::Dead { error, .. } => *error = short,
            What::Back => {}
        }
    }
}

/// As many of the verdicts as go in one round trip.
fn batch(source: &impl Source, verdicts: &[Verdict]) -> usize {
    let mut bytes = 0;
    let fits = |verdict: &&Verdict| {
        let fits = bytes < FULL;
        bytes += verdict.text().len() + source.bytes(&verdict.entry);
        fits
    };
    verdicts.iter().take(BATCH).take_while(fits).count()
}

/// What the owner of a worker chooses.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) concurrency: usize,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Retry,
    pub(crate) idle_limit: Duration,
    pub(crate) max_deliveries: u64,
    pub(crate) grace: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            concurrency: 16,
            timeout: Some(Duration::from_secs(300)),
            retry: Retry::default(),
            idle_limit: Duration::from_secs(30),
            max_deliveries: 5,
            grace: Duration::from_secs(20),
        }
    }
}

/// Counters that any thread may read.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) running: AtomicU64,
    pub(crate) known: AtomicU64,
    pub(crate) taken: AtomicU64,
    pub(crate) claimed: AtomicU64,
    pub(crate) recovered: AtomicU64,
    pub(crate) done: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) dead: AtomicU64,
    pub(crate) back: AtomicU64,
}

fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

enum Stage {
    /// Taken, not begun.
    Waiting,
    Running(JobId, Option<AnyTask>),
    /// It has a verdict, which Redis has not confirmed.
    Judged,
}

pub(crate) struct Shift<S> {
    source: S,
    rules: Rules,
    handlers: Handlers,
    numbers: Arc<Numbers>,
    known: RefCell<HashMap<String, Stage>>,
    waiting: RefCell<VecDeque<Entry>>,
    running: Cell<usize>,
    verdicts: RefCell<Vec<Verdict>>,
    /// When the next retry of this worker is due.
    due: Cell<Option<Instant>>,
    stopping: Cell<bool>,
    /// The reader has ended, and whatever was delivered to this worker is known.
    complete: Cell<bool>,
    /// Jobs that end from now on were cancelled.
    out_of_grace: Cell<bool>,
    /// No verdict will follow those that are there.
    closing: Cell<bool>,
    fatal: RefCell<Option<Error>>,
    /// For the reader: there may be room, or it is to stop.
    room: local::Event,
    /// For the settler.
    judged: local::Event,
    /// For the timekeeper.
    delayed: local::Event,
    /// For `run`: no job runs, or the source has refused.
    news: local::Event,
}

impl<S: Source> Shift<S> {
    pub(crate) fn new(source: S, rules: Rules, handlers: Handlers, numbers: Arc<Numbers>) -> Rc<Self> {
        Rc::new(Self {
            source,
            rules,
            handlers,
            numbers,
            known: RefCell::default(),
            waiting: RefCell::default(),
            running: Cell::new(0),
            verdicts: RefCell::default(),
            due: Cell::new(None),
            stopping: Cell::new(false),
            complete: Cell::new(false),
            out_of_grace: Cell::new(false),
            closing: Cell::new(false),
            fatal: RefCell::default(),
            room: local::Event::local(),
            judged: local::Event::local(),
            delayed: local::Event::local(),
            news: local::Event::local(),
        })
    }

    /// Works until `until` is complete, then shuts down. Returns how many deliveries are not settled.
    pub(crate) async fn run(self: Rc<Self>, until: impl Future<Output = ()>) -> Result<usize, Error> {
        let _jobs = CancelJobs(&self);
        let task = |name: &'static str| Task::builder().name(name);
        let this = self.clone();
        let mut reader = task("reader").spawn(async move { this.read().await }).into_future();
        let this = self.clone();
        let settler = task("settler").spawn(async move { this.settle().await }).into_future();
        let this = self.clone();
        let heart = task("heart").spawn(async move { this.beat().await }).into_future();
        let this = self.clone();
        let timekeeper = task("timekeeper").spawn(async move { this.keep_time().await }).into_future();

        {
            let until = pin!(until);
            let refused = pin!(self.wait_for_news(|| self.fatal.borrow().is_some()));
            select(until, refused).await;
        }
        let asked = Instant::now();
        let left = || self.rules.grace.saturating_sub(asked.elapsed());
        self.stopping.set(true);
        self.room.set();
        // It may be connecting. What it has taken then is pending, and comes to light as way 3 or 2.
        drop(selkie::timeout(left().max(2 * READ_WAIT), &mut reader).await);
        drop(reader);
        let waiting = mem::take(&mut *self.waiting.borrow_mut());
        for entry in waiting {
            self.hand_back(entry);
        }
        let idle = || self.running.get() == 0;
        if selkie::timeout(left(), self.wait_for_news(idle)).await.is_err() {
            self.out_of_grace.set(true);
            self.cancel_jobs();
            if selkie::timeout(CLEAN_UP, self.wait_for_news(idle)).await.is_err() {
                self.abandon_jobs();
            }
        }
        self.closing.set(true);
        self.judged.set();
        drop(selkie::timeout(left().max(LAST_WORDS), settler).await);
        drop((heart, timekeeper));
        if self.known.borrow().is_empty() && self.complete.get() {
            drop(selkie::timeout(FAREWELL, self.source.leave()).await);
        }
        match self.fatal.take() {
            Some(error) => Err(error),
            None => Ok(self.known.borrow().len()),
        }
    }

    async fn wait_for_news(&self, there: impl Fn() -> bool) {
        while !there() {
            self.news.clear();
            self.news.wait().await;
        }
    }

    fn fail(&self, error: Error) {
        self.fatal.borrow_mut().get_or_insert(error);
        self.news.set();
    }

    fn room(&self) -> usize {
        let busy = self.running.get() + self.waiting.borrow().len();
        let begun = self.rules.concurrency.saturating_sub(busy);
        begun.min((2 * self.rules.concurrency).saturating_sub(self.known.borrow().len()))
    }

    fn known(&self) -> Vec<String> {
        self.known.borrow().keys().cloned().collect()
    }

    // The reader.

    async fn read(self: Rc<Self>) {
        // `Some(true)` at the start: a worker that died may have had this name.
        let mut recover = Some(true);
        let mut again: Option<Instant> = None;
        let mut tried = 0;
        if !self.prepare().await {
            return;
        }
        let mut claim_at = Instant::now() + self.rules.idle_limit.mul_f64(0.5 * fastrand::f64());
        loop {
            // Something taken goes first, and it does not need the room that taking needs.
            self.begin().await;
            while self.room() == 0 && !self.stopping.get() {
                self.room.clear();
                self.room.wait().await;
                self.begin().await;
            }
            if self.stopping.get() {
                self.complete.set(recover.is_none() && again.is_none());
                return;
            }
            let now = Instant::now();
            if again.is_some_and(|at| at <= now) {
                again = None;
                recover = recover.or(Some(false));
            }
            let result = if let Some(first) = recover {
                let (known, room) = (self.known(), self.room());
                let found = self.source.recover(&known, room, first).await;
                if let Ok(found) = &found {
                    if found.is_empty() {
                        recover = None;
                    }
                    add(&self.numbers.recovered, found.len());
                }
                found
            } else if now >= claim_at {
                let found = async {
                    let found = self.source.claim(self.room()).await?;
                    recover = self.source.misses().await?.then_some(false);
                    Ok(found)
                };
                found.await.map(|(found, more)| {
                    if !more {
                        claim_at = now + self.rules.idle_limit.mul_f64(0.4 + 0.2 * fastrand::f64());
                    }
                    add(&self.numbers.claimed, found.len());
                    found
                })
            } else {
                let next = again.map_or(claim_at, |at| at.min(claim_at));
                let wait = READ_WAIT.min(next - now).max(Duration::from_millis(1));
                self.source.take(self.room(), wait).await
            };
            let error = match result {
                Ok(found) => {
                    tried = 0;
                    self.source.recovered();
                    add(&self.numbers.taken, found.len());
                    self.take_in(found);
                    continue;
                }
                Err(error) => error,
            };
            if self.source.is_gone(&error) {
                // Somebody has flushed the database. Jobs in it are gone; new ones come to a new group.
                if !self.prepare().await {
                    return;
                }
            } else if !is_passing_for_worker(&error) {
                return self.fail(Error::refused(error));
            }
            recover = recover.or(Some(false));
            again = Some(now + READ_WAIT.mul_f64(1.5));
            claim_at = claim_at.max(now + self.rules.idle_limit);
            tried += 1;
            let pause = self.source.pause(tried, &error);
            selkie::sleep(pause).await;
        }
    }

    /// Whether to go on. Nothing is delivered before that, so a worker that is to end waits for no server.
    async fn prepare(&self) -> bool {
        let stopped = async {
            while !self.stopping.get() {
                self.room.clear();
                self.room.wait().await;
            }
        };
        match select(pin!(self.source.prepare()), pin!(stopped)).await {
            Either::Left((Ok(()), _)) => true,
            Either::Left((Err(error), _)) => {
                self.fail(error);
                false
            }
            Either::Right(_) => false,
        }
    }

    /// Takes in what was delivered; a worker that stops hands it back.
    fn take_in(&self, found: Vec<Entry>) {
        for entry in found {
            // A claim may bring what this worker has, if its heart was late.
            if self.known.borrow().contains_key(&entry.id) {
                continue;
            }
            self.known.borrow_mut().insert(entry.id.clone(), Stage::Waiting);
            self.numbers.known.store(self.known.borrow().len() as u64, Ordering::Relaxed);
            if self.stopping.get() {
                self.hand_back(entry);
            } else {
                self.waiting.borrow_mut().push_back(entry);
            }
        }
    }

    /// Begins what was taken, as many as may run.
    async fn begin(self: &Rc<Self>) {
        let mut since = Instant::now();
        while !self.stopping.get() && self.running.get() < self.rules.concurrency {
            let Some(entry) = self.waiting.borrow_mut().pop_front() else { return };
            self.start(entry);
            // Jobs that never wait end here, one after the other, and together may take longer than the heart can wait.
            if since.elapsed() >= SLICE {
                selkie::yield_now().await;
                since = Instant::now();
            }
        }
    }

    // A job.

    fn start(self: &Rc<Self>, entry: Entry) {
        let dead = |id: &JobId, kind, error| Verdict {
            entry: entry.id.clone(),
            id: id.clone(),
            what: What::Dead { kind, error },
        };
        let (job, args) = match self.source.job(&entry) {
            Ok(job) => job,
            Err(error) => return self.judge(dead(&JobId::from(&entry.id), "malformed", error)),
        };
        if entry.deliveries > self.rules.max_deliveries {
            let times = entry.deliveries - 1;
            let error = format!(
                "delivered {times} times without a verdict: it ends or blocks its worker, or the idle limit is too short"
            );
            return self.judge(dead(&job.id, "lost", error));
        }
        self.known.borrow_mut().insert(entry.id.clone(), Stage::Running(job.id.clone(), None));
        self.running.set(self.running.get() + 1);
        self.numbers.running.store(self.running.get() as u64, Ordering::Relaxed);
        let job = Arc::new(job);
        let this = self.clone();
        let ended = match self.attempt(&entry.id, &job, &args).map(Task::try_into_result) {
            // It never had to wait, so the job needs no task to follow it.
            Ok(Ok(result)) => self.conclude(&job, Ok(result)),
            Ok(Err(task)) => {
                spawn(async move { this.follow(entry.id, job, args, Ok(task)).await }).detach();
                return;
            }
            Err(unfit) => self.unfit(&job, unfit),
        };
        if S::RETRIES_IN_WORKER && matches!(ended, What::Retry { .. }) {
            spawn(async move { this.follow(entry.id, job, args, Err(ended)).await }).detach();
            return;
        }
        self.judge(Verdict { entry: entry.id, id: job.id.clone(), what: ended });
    }

    /// Starts an attempt, up to where it has to wait.
    fn attempt(
        &self,
        entry: &str,
        job: &Arc<Job>,
        args: &[u8],
    ) -> Result<Task<Result<String, Failure>>, Unfit> {
        let attempt = self.handlers.attempt(&job.name, args)?;
        let context = job.clone();
        let name = if job.name.is_empty() { job.id.as_str() } else { job.name.as_str() };
        let task = Task::builder().name(name).spawn(async move {
            set_current(context);
            attempt.await
        });
        if let Some(stage) = self.known.borrow_mut().get_mut(entry) {
            *stage = Stage::Running(job.id.clone(), Some(task.any()));
        }
        Ok(task)
    }

    /// Waits for an attempt, and in a source without a place for retries for those that follow it.
    async fn follow(
        &self,
        entry: String,
        job: Arc<Job>,
        args: Vec<u8>,
        first: Result<Task<Result<String, Failure>>, What>,
    ) {
        let mut job = job;
        let mut ended = match first {
            Ok(task) => self.wait(&job, task).await,
            Err(ended) => ended,
        };
        while S::RETRIES_IN_WORKER && !self.out_of_grace.get() {
            let What::Retry { wait, attempt, .. } = &ended else { break };
            let (wait, attempt) = (*wait, *attempt);
            let sleep = spawn(selkie::sleep(wait));
            if let Some(stage) = self.known.borrow_mut().get_mut(&entry) {
                *stage = Stage::Running(job.id.clone(), Some(sleep.any()));
            }
            // One that ends in the turn of the cancel is not cancelled any more.
            if sleep.await.is_err() || self.out_of_grace.get() {
                ended = What::Back;
                break;
            }
            add(&self.numbers.retried, 1);
            job = Arc::new(Job { attempt, ..(*job).clone() });
            ended = match self.attempt(&entry, &job, &args) {
                Ok(task) => self.wait(&job, task).await,
                Err(unfit) => self.unfit(&job, unfit),
            };
        }
        if S::RETRIES_IN_WORKER && matches!(ended, What::Retry { .. }) {
            ended = What::Back;
        }
        self.judge(Verdict { entry, id: job.id.clone(), what: ended });
    }

    async fn wait(&self, job: &Job, task: Task<Result<String, Failure>>) -> What {
        let result = match self.rules.timeout {
            Some(limit) => selkie::timeout(limit, task).await,
            None => Ok(task.await),
        };
        self.conclude(job, result)
    }

    fn conclude(
        &self,
        job: &Job,
        result: Result<Result<Result<String, Failure>, JoinError>, TimedOut>,
    ) -> What {
        match result {
            Ok(Ok(Ok(outcome))) => What::Done { outcome, at: job.at },
            Ok(Ok(Err(failure))) => self.failed(job, "failed", failure),
            Ok(Err(error)) if error.is_panic() => {
                let failure = Failure::new(&error);
                discard(error.into_panic());
                self.failed(job, "panicked", failure)
            }
            Ok(Err(_)) if self.out_of_grace.get() => What::Back,
            Ok(Err(error)) => self.failed(job, "failed", Failure::new(error)),
            Err(_) => {
                let limit = self.rules.timeout.unwrap_or_default();
                self.failed(job, "timed-out", Failure::new(format_args!("it took longer than {limit:?}")))
            }
        }
    }

    fn unfit(&self, job: &Job, unfit: Unfit) -> What {
        match unfit {
            Unfit::Malformed(error) => What::Dead { kind: "malformed", error },
            // Another worker may be of a newer version, so it is tried again as any other.
            Unfit::Unknown(error) => self.failed(job, "unknown", Failure::new(error)),
            Unfit::Panicked(error) => self.failed(job, "panicked", Failure::new(error)),
        }
    }

    fn failed(&self, job: &Job, kind: &'static str, failure: Failure) -> What {
        let Failure { error, again } = failure;
        let wait = self.rules.retry.wait(job.attempt);
        match (again, wait) {
            (Again::Never, _) => What::Dead { kind: "refused", error },
            (_, None) => What::Dead { kind, error },
            (Again::After(wait), _) | (Again::Backoff, Some(wait)) => {
                What::Retry { error, wait, attempt: job.attempt.saturating_add(1) }
            }
        }
    }

    fn hand_back(&self, entry: Entry) {
        let id = JobId::from(entry.text("id").unwrap_or(&entry.id));
        self.judge(Verdict { entry: entry.id, id, what: What::Back });
    }

    /// Takes a verdict in; only the first for a delivery counts.
    fn judge(&self, verdict: Verdict) {
        let before = match self.known.borrow_mut().get_mut(&verdict.entry) {
            Some(stage) => mem::replace(stage, Stage::Judged),
            None => return,
        };
        match before {
            Stage::Judged => return,
            Stage::Running(..) => {
                self.running.set(self.running.get() - 1);
                self.numbers.running.store(self.running.get() as u64, Ordering::Relaxed);
            }
            Stage::Waiting => {}
        }
        self.verdicts.borrow_mut().push(verdict);
        self.judged.set();
        self.room.set();
        if self.running.get() == 0 {
            self.news.set();
        }
    }

    fn cancel_jobs(&self) {
        let tasks: Vec<_> = {
            let known = self.known.borrow();
            known
                .values()
                .filter_map(|stage| match stage {
                    Stage::Running(_, Some(task)) => Some(task.clone()),
                    _ => None,
                })
                .collect()
        };
        for task in tasks {
            task.cancel_with("the worker shuts down");
        }
    }

    /// Hands back what did not end when it was cancelled. It may go on beside its next run elsewhere.
    fn abandon_jobs(&self) {
        let running: Vec<_> = {
            let known = self.known.borrow();
            known
                .iter()
                .filter_map(|(entry, stage)| match stage {
                    Stage::Running(id, _) => Some((entry.clone(), id.clone())),
                    _ => None,
                })
                .collect()
        };
        for (entry, id) in running {
            self.judge(Verdict { entry, id, what: What::Back });
        }
    }

    // The settler.

    async fn settle(self: Rc<Self>) {
        loop {
            let mut batch = mem::take(&mut *self.verdicts.borrow_mut());
            if batch.is_empty() {
                if self.closing.get() {
                    return;
                }
                self.judged.clear();
                self.judged.wait().await;
                continue;
            }
            self.source.order(&mut batch);
            let rest = batch.split_off(self::batch(&self.source, &batch));
            self.verdicts.borrow_mut().splice(0..0, rest);
            if let Err(error) = self.bring(&mut batch).await {
                return self.fail(error);
            }
            let now = Instant::now();
            for verdict in batch {
                self.known.borrow_mut().remove(&verdict.entry);
                let counter = match verdict.what {
                    What::Done { .. } => &self.numbers.done,
                    What::Dead { .. } => &self.numbers.dead,
                    What::Back => &self.numbers.back,
                    What::Retry { wait, .. } => {
                        // What the clock cannot say is never due.
                        let due = now.checked_add(wait);
                        if due.is_some_and(|due| self.due.get().is_none_or(|earlier| due < earlier)) {
                            self.due.set(due);
                            self.delayed.set();
                        }
                        &self.numbers.retried
                    }
                };
                add(counter, 1);
            }
            self.numbers.known.store(self.known.borrow().len() as u64, Ordering::Relaxed);
            self.room.set();
        }
    }

    async fn bring(&self, batch: &mut [Verdict]) -> Result<(), Error> {
        if batch.iter().any(|verdict| verdict.text().len() > FULL) {
            let largest = self.source.largest().await?;
            batch.iter_mut().filter(|verdict| verdict.text().len() > largest).for_each(Verdict::shorten);
        }
        self.source.settle(batch).await
    }

    // The heart.

    async fn beat(self: Rc<Self>) {
        let pace = self.rules.idle_limit / 3;
        loop {
            let begin = Instant::now();
            let known = self.known();
            match self.source.beat(&known, pace).await {
                Ok(()) => selkie::sleep(pace).await,
                // Mostly it was tried for one pace already; not where that is shorter than the first pause.
                Err(error) if error.is_unreachable() => {
                    selkie::sleep(pace.saturating_sub(begin.elapsed())).await;
                }
                Err(error) => return self.fail(error),
            }
        }
    }

    // The timekeeper.

    async fn keep_time(self: Rc<Self>) {
        loop {
            let wait = match self.source.promote(LOOK_WAIT).await {
                Ok(wait) => wait.unwrap_or(LOOK_WAIT).min(LOOK_WAIT),
                Err(error) if error.is_unreachable() => continue,
                Err(error) => return self.fail(error),
            };
            let look = Instant::now() + wait;
            loop {
                let own = self.due.get();
                let at = own.map_or(look, |own| own.min(look));
                self.delayed.clear();
                let early =
                    selkie::timeout(at.saturating_duration_since(Instant::now()), self.delayed.wait()).await;
                if early.is_err() {
                    if own.is_some_and(|own| own <= Instant::now()) {
                        self.due.set(None);
                    }
                    break;
                }
            }
        }
    }
}

/// Jobs do not outlive the run that started them.
struct CancelJobs<'a, S: Source>(&'a Shift<S>);

impl<S: Source> Drop for CancelJobs<'_, S> {
    fn drop(&mut self) {
        // Nothing is tried again.
        self.0.out_of_grace.set(true);
        self.0.cancel_jobs();
    }
}
