use std::{
    fmt,
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use redis::{FromRedisValue, RedisError, RedisResult, Value};
use selkie::{IsolatedPool, isolated::Call};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Error, Failure, Job, JobId, JobQueue, Retry,
    handlers::Handlers,
    link::{Link, code},
    queue::{millis, millis_up},
    shift::{Numbers, Rules, Shift, Source, Verdict, What},
    wire::{self, Entry, FULL, GROUP},
};

/// After how long without a sign of life a worker that has nothing is forgotten by the group.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// More is as good as no limit, and doubled it is still a number that Redis takes.
pub(crate) const MOST_JOBS: usize = 1 << 30;

/// As good as for ever, and points in time can still be so far away.
pub(crate) const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

/// Runs the jobs of a [`JobQueue`] on the current loop: at least once each, so many at a time, failures again and then to the dead
/// letters.
///
/// Any number of workers, on any number of machines, share a queue. More processes use more processors; one worker uses the
/// one of its loop, and the threads of blocking handlers.
///
/// What is promised, and by which protocol, is in the [crate's documentation](crate#what-is-promised).
///
/// # Examples
///
/// ```
/// use selkie_redis::{JobQueue, LocalServer, Worker};
/// use std::{convert::Infallible, time::Duration};
///
/// # selkie_redis::run(async {
/// let server = LocalServer::start()?;
/// let queue = JobQueue::open(server.url(), "sums")?;
/// let id = queue.submit("add", &(19, 23)).await?;
///
/// let worker = Worker::new(queue.clone())
///     .concurrency(64)
///     .register("add", async |(a, b): (u32, u32)| Ok::<_, Infallible>(a + b));
/// let sum = async {
///     let outcome = queue.wait_for::<u32>(&id, Duration::from_secs(10)).await;
///     assert_eq!(outcome.unwrap(), Some(Ok(42)));
/// };
/// let report = worker.run(sum).await?; // in production until `shutdown_signal()?`
/// assert_eq!(report.done, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[must_use = "a worker does nothing until it is run"]
pub struct Worker {
    queue: JobQueue,
    name: String,
    rules: Rules,
    keep: Duration,
    handlers: Handlers,
    numbers: Arc<Numbers>,
    reader: Arc<Link>,
}

/// What a worker did, from [`Worker::run`], or has done so far, from [`Monitor::read`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Deliveries taken from Redis, all kinds.
    pub taken: u64,
    /// Of these, taken over from a worker that was not heard of.
    pub claimed: u64,
    /// Of these, found again after a connection was lost with the reply that brought them.
    pub recovered: u64,
    /// Jobs done and acknowledged.
    pub done: u64,
    /// Attempts that failed and are tried again.
    pub retried: u64,
    /// Jobs given up.
    pub dead: u64,
    /// Deliveries handed back at the shutdown.
    pub handed_back: u64,
    /// Jobs that run.
    pub running: u64,
    /// Deliveries whose verdict Redis has not confirmed, running ones included. At the end: those that will run again elsewhere, as
    /// Redis could not be reached.
    pub unsettled: u64,
    /// How often something had to be sent again, because Redis could not be reached or was not ready.
    pub repeated: u64,
    /// The trouble with Redis, while there is some.
    pub trouble: Option<String>,
}

/// Tells what a worker has done so far, from any thread; from [`Worker::monitor`] and [`ListWorker::monitor`](crate::ListWorker::monitor).
#[derive(Clone, Debug)]
pub struct Monitor {
    pub(crate) numbers: Arc<Numbers>,
    pub(crate) links: Vec<Arc<Link>>,
}

impl Monitor {
    /// The numbers now. Each is exact, but they are not of one moment.
    pub fn read(&self) -> Report {
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let numbers = &self.numbers;
        let troubles: Vec<_> = self.links.iter().map(|link| link.trouble()).collect();
        Report {
            taken: get(&numbers.taken),
            claimed: get(&numbers.claimed),
            recovered: get(&numbers.recovered),
            done: get(&numbers.done),
            retried: get(&numbers.retried),
            dead: get(&numbers.dead),
            handed_back: get(&numbers.back),
            running: get(&numbers.running),
            unsettled: get(&numbers.known),
            repeated: troubles.iter().map(|trouble| trouble.repeated).sum(),
            trouble: troubles.into_iter().find_map(|trouble| trouble.last),
        }
    }
}

/// A name that no other worker has: two workers with one name would take each other's deliveries for their own lost ones.
pub(crate) fn worker_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.or_else(|| std::env::var("COMPUTERNAME").ok()).unwrap_or_else(|| "worker".to_owned());
    format!("{}-{}-{}", host.trim(), std::process::id(), &wire::unique()[..8])
}

macro_rules! rules {
    () => {
        /// How many jobs run at a time; 16 if not set. No more is taken from Redis than can run.
        pub fn concurrency(mut self, jobs: usize) -> Self {
            self.rules.concurrency = jobs.clamp(1, crate::worker::MOST_JOBS);
            self
        }

        /// How long an attempt may take; five minutes if not set, `None` for ever. Then it has failed, as `timed-out`.
        ///
        /// Its task is cancelled. A function on a thread cannot be: it runs on and keeps its thread, but its job's place is free.
        pub fn timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
            self.rules.timeout = limit.into();
            self
        }

        /// How often and when a failed job is tried again.
        pub fn retry(mut self, retry: Retry) -> Self {
            self.rules.retry = retry;
            self
        }

        /// How long a worker may be silent before others take its jobs over; 30 seconds if not set, at least 30 ms. The same for all
        /// workers of a queue.
        ///
        /// A job may take much longer: its worker gives a sign every third of the limit. But a handler that blocks the loop for
        /// this long will see its jobs run twice.
        pub fn idle_limit(mut self, limit: Duration) -> Self {
            self.rules.idle_limit = limit.clamp(Duration::from_millis(30), crate::worker::LONGEST);
            self
        }

        /// How long running jobs may go on once the worker was asked to end; 20 seconds if not set. Then they are cancelled
        /// and handed back.
        pub fn grace(mut self, grace: Duration) -> Self {
            self.rules.grace = grace;
            self
        }
    };
}
pub(crate) use rules;

impl Worker {
    /// A worker for `queue`, with no handlers yet.
    pub fn new(queue: JobQueue) -> Self {
        let reader = Arc::new(Link::of_worker(queue.link.client().clone()));
        // A link of its own as well: what the worker says for ever must not wait behind what others ask.
        Self {
            queue: queue.apart(),
            name: worker_name(),
            rules: Rules::default(),
            keep: Duration::from_secs(3600),
            handlers: Handlers::default(),
            numbers: Arc::default(),
            reader,
        }
    }

    rules!();

    /// The worker's name in Redis, which no other running worker may have. If not set: host, process and a random number.
    ///
    /// A worker that starts with the name of one that died runs at once what that one had, without waiting for the idle limit.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// After how many deliveries without a verdict a job is a dead letter; 5 if not set. It must have ended or blocked its
    /// worker each time.
    pub fn max_deliveries(mut self, deliveries: u64) -> Self {
        self.rules.max_deliveries = deliveries.max(1);
        self
    }

    /// How long the outcomes of jobs can be asked for; an hour if not set. With [`Duration::ZERO`] none are kept.
    pub fn keep_outcomes(mut self, time: Duration) -> Self {
        self.keep = time;
        self
    }

    /// An async function that runs on the loop, for jobs called `name`.
    ///
    /// It takes what the job's arguments deserialize to, and its result is the job's outcome. An `Err` or a panic fails the attempt,
    /// and only that. A result of more than 512 MB, or of more than the server takes, fails the job.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selkie_redis::{Failure, Worker};
    /// # fn example(worker: Worker) -> Worker {
    /// #[derive(serde::Deserialize)]
    /// struct Mail { to: String, text: String }
    ///
    /// async fn send(mail: Mail) -> Result<usize, Failure> {
    ///     let key = selkie_redis::current_job().expect("in a handler").id.clone(); // lets the receiver drop a second one
    ///     println!("{key}: {} to {}", mail.text, mail.to);
    ///     Ok(mail.text.len())
    /// }
    ///
    /// worker.register("send", send)
    /// # }
    /// ```
    pub fn register<A, R, E, F, Fut>(mut self, name: impl Into<String>, f: F) -> Self
    where
        A: DeserializeOwned + 'static,
        R: Serialize + 'static,
        E: Into<Failure> + 'static,
        F: Fn(A) -> Fut + 'static,
        Fut: Future<Output = Result<R, E>> + 'static,
    {
        self.handlers.add(name.into(), f);
        self
    }

    /// As [`register`](Self::register), for a function that blocks or computes: each attempt runs on a thread of
    /// [`selkie::to_thread`].
    ///
    /// There are `min(32, cpus + 4)` of these for the process; jobs beyond that wait for one, and that counts to their time.
    pub fn register_blocking<A, R, E, F>(mut self, name: impl Into<String>, f: F) -> Self
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        E: Into<Failure> + Send + 'static,
        F: Fn(A) -> Result<R, E> + Send + Sync + 'static,
    {
        self.handlers.add_blocking(name.into(), f);
        self
    }

    /// As [`register`](Self::register), for a function under [`#[selkie::isolated]`](macro@selkie::isolated): each attempt runs in a
    /// process of `pool`.
    ///
    /// For code that may crash, eat all memory, or never end: that ends its process and fails its attempt, and a timeout or a shutdown
    /// kills it. [`current_job`](crate::current_job) is not known there; hand over what it needs. The pool may be shared. Have
    /// [`run`](crate::run) or [`selkie::isolated::serve`] be the first thing in `main`, as the processes are this program again.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selkie::IsolatedPool;
    /// # use selkie_redis::Worker;
    /// #[selkie::isolated]
    /// fn parse(untrusted: String) -> Result<usize, String> {
    ///     untrusted.trim().parse().map_err(|error| format!("{untrusted}: {error}"))
    /// }
    ///
    /// # fn example(worker: Worker) -> Result<Worker, Box<dyn std::error::Error>> {
    /// let pool = IsolatedPool::new(4)?;
    /// Ok(worker.register_isolated("parse", pool, parse))
    /// # }
    /// ```
    pub fn register_isolated<A, R, E, F>(mut self, name: impl Into<String>, pool: IsolatedPool, f: F) -> Self
    where
        A: DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
        E: fmt::Display + DeserializeOwned + Send + 'static,
        F: Fn(A) -> Call<Result<R, E>> + 'static,
    {
        self.handlers.add_isolated(name.into(), pool, f);
        self
    }

    /// A handle that tells what the worker has done so far.
    pub fn monitor(&self) -> Monitor {
        Monitor { numbers: self.numbers.clone(), links: vec![self.reader.clone(), self.queue.link.clone()] }
    }

    /// Works until `until` is complete, and then shuts down: takes no more, lets running jobs end within the
    /// [grace](Self::grace), cancels and hands back the others. Takes up to a second even when nothing runs.
    ///
    /// While Redis cannot be reached it waits and tries again, for ever. The future is to run on a loop of selkie, [`run`](crate::run)
    /// being the fastest.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the jobs that run. What was not settled runs again after the idle limit, elsewhere.
    ///
    /// # Errors
    ///
    /// [`is_refused`](Error::is_refused) when Redis says no to something that a worker needs. It has shut down then too.
    pub async fn run(self, until: impl Future<Output = ()>) -> Result<Report, Error> {
        let monitor = self.monitor();
        let source = Stream {
            queue: self.queue,
            name: self.name,
            idle_limit: self.rules.idle_limit,
            keep: self.keep,
            reader: self.reader,
            cursor: "0-0".to_owned().into(),
        };
        let shift = Shift::new(source, self.rules, self.handlers, self.numbers);
        let unsettled = shift.run(until).await?;
        Ok(Report { unsettled: unsettled as u64, trouble: None, ..monitor.read() })
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("queue", &self.queue)
            .field("name", &self.name)
            .field("handlers", &self.handlers)
            .finish_non_exhaustive()
    }
}

/// A stream with a consumer group.
struct Stream {
    queue: JobQueue,
    name: String,
    idle_limit: Duration,
    keep: Duration,
    /// A read waits in Redis, and would keep everything else on its connection waiting.
    reader: Arc<Link>,
    /// Where the next claim goes on.
    cursor: std::cell::RefCell<String>,
}

impl Source for Stream {
    const RETRIES_IN_WORKER: bool = false;

    async fn prepare(&self) -> Result<(), Error> {
        let create = redis::cmd("XGROUP")
            .arg("CREATE")
            .arg(&self.queue.keys.stream)
            .arg(GROUP)
            .arg("0")
            .arg("MKSTREAM")
            .take();
        let create = async |connection: &mut _| match create.query_async::<Value>(connection).await {
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            other => other.map(drop),
        };
        self.queue.link.call(None, create).await
    }

    async fn take(&self, room: usize, wait: Duration) -> RedisResult<Vec<Entry>> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP")
            .arg(GROUP)
            .arg(&self.name)
            .arg("COUNT")
            .arg(room)
            .arg("BLOCK")
            .arg(millis(wait).max(1));
        read.arg("STREAMS").arg(&self.queue.keys.stream).arg(">");
        wire::read_entries(self.reader.attempt(wait, async |c| read.query_async(c).await).await?)
    }

    async fn recover(&self, known: &[String], room: usize, first: bool) -> RedisResult<Vec<Entry>> {
        let mut call = wire::RECOVER.prepare_invoke();
        call.key(&self.queue.keys.stream)
            .arg(GROUP)
            .arg(&self.name)
            .arg(room)
            .arg(FULL)
            .arg(u8::from(first))
            .arg(known);
        wire::entries(self.reader.attempt(Duration::ZERO, async |c| call.invoke_async(c).await).await?)
    }

    async fn claim(&self, room: usize) -> RedisResult<(Vec<Entry>, bool)> {
        let mut call = wire::CLAIM.prepare_invoke();
        call.key(&self.queue.keys.stream).key(&self.queue.keys.totals).arg(GROUP).arg(&self.name);
        call.arg(millis(self.idle_limit))
            .arg(room)
            .arg(self.cursor.borrow().as_str())
            .arg(millis(FORGET_AFTER));
        let answer = self.reader.attempt(Duration::ZERO, async |c| call.invoke_async(c).await).await?;
        let mut parts = wire::list(answer)?.into_iter();
        let (Some(cursor), Some(found)) = (parts.next(), parts.next()) else {
            return Err(wire::unexpected("a claim without entries"));
        };
        let cursor = String::from_redis_value(cursor)?;
        let more = cursor != "0-0";
        *self.cursor.borrow_mut() = cursor;
        Ok((wire::entries(found)?, more))
    }

    /// Nobody says that it lives.
    async fn misses(&self) -> RedisResult<bool> {
        Ok(false)
    }

    /// In a stream what goes back is the last one then.
    fn order(&self, _: &mut [Verdict]) {}

    fn bytes(&self, _: &str) -> usize {
        0
    }

    async fn largest(&self) -> Result<usize, Error> {
        self.queue.link.largest(None).await
    }

    async fn settle(&self, verdicts: &[Verdict]) -> Result<(), Error> {
        let keys = &self.queue.keys;
        let mut call = wire::SETTLE.prepare_invoke();
        call.key(&keys.stream).key(&keys.later).key(&keys.dead).key(&keys.totals);
        call.arg(GROUP).arg(&keys.channel).arg(&self.name);
        for Verdict { entry, id, what } in verdicts {
            call.key(keys.outcome(id.as_str())).arg(entry);
            match what {
                What::Done { outcome, at } => {
                    call.arg("done").arg(id.as_str()).arg(outcome).arg(millis_up(self.keep)).arg(*at)
                }
                What::Retry { error, wait, attempt } => {
                    call.arg("retry").arg(id.as_str()).arg(error).arg(millis_up(*wait)).arg(*attempt)
                }
                What::Dead { kind, error } => {
                    call.arg("dead").arg(id.as_str()).arg(error).arg(millis_up(self.keep)).arg(*kind)
                }
                What::Back => call.arg("back").arg(id.as_str()).arg("").arg(0).arg(0),
            };
        }
        let call = &call;
        // Each verdict counts or is too late; either way the delivery is none of ours any more.
        let settle = async |c: &mut _| match call.invoke_async::<Vec<u8>>(c).await {
            // The deliveries have gone with their group.
            Err(error) if self.is_gone(&error) => Ok(()),
            other => other.map(drop),
        };
        self.queue.link.call(None, settle).await
    }

    async fn beat(&self, known: &[String], limit: Duration) -> Result<(), Error> {
        if known.is_empty() {
            return Ok(());
        }
        let mut call = wire::BEAT.prepare_invoke();
        call.key(&self.queue.keys.stream).arg(GROUP).arg(&self.name).arg(known);
        let call = &call;
        let beat = async |c: &mut _| match call.invoke_async::<u64>(c).await {
            // The reader makes a new group when it has room to read.
            Err(error) if self.is_gone(&error) => Ok(()),
            other => other.map(drop),
        };
        self.queue.link.call(Some(limit), beat).await
    }

    async fn promote(&self, limit: Duration) -> Result<Option<Duration>, Error> {
        let mut call = wire::PROMOTE.prepare_invoke();
        call.key(&self.queue.keys.later).key(&self.queue.keys.stream).arg(100);
        let call = &call;
        let next: i64 = self.queue.link.call(Some(limit), async |c| call.invoke_async(c).await).await?;
        Ok(u64::try_from(next).ok().map(Duration::from_millis))
    }

    /// Otherwise another worker's claim forgets it.
    async fn leave(&self) -> Result<(), Error> {
        let mut call = wire::LEAVE.prepare_invoke();
        call.key(&self.queue.keys.stream).arg(GROUP).arg(&self.name);
        let call = &call;
        self.queue.link.call(None, async |c| call.invoke_async::<u8>(c).await).await.map(drop)
    }

    fn job(&self, entry: &Entry) -> Result<(Job, Vec<u8>), String> {
        let name = entry.get("name").ok_or("the entry has no field `name`")?;
        let name =
            std::str::from_utf8(name).map_err(|error| format!("the field `name` is no text: {error}"))?;
        let attempt = match entry.get("attempt") {
            None => 1,
            Some(_) => entry
                .text("attempt")
                .and_then(|n| n.parse().ok())
                .ok_or("the field `attempt` is no number")?,
        };
        let back: u64 = entry.text("back").and_then(|n| n.parse().ok()).unwrap_or(0);
        let job = Job {
            id: JobId::from(entry.text("id").unwrap_or(&entry.id)),
            name: name.to_owned(),
            attempt,
            deliveries: entry.deliveries.saturating_add(back),
            at: entry.text("at").and_then(|n| n.parse().ok()).unwrap_or(0),
        };
        Ok((job, entry.get("args").unwrap_or(b"null").to_vec()))
    }

    fn pause(&self, tried: u32, error: &RedisError) -> Duration {
        self.reader.pause(tried, error)
    }

    fn recovered(&self) {
        self.reader.recovered();
    }

    fn is_gone(&self, error: &RedisError) -> bool {
        code(error) == Some("NOGROUP")
    }
}
