//! A queue of jobs in Redis: what stands where, and how jobs get in.
//!
//! The keys of a queue called `mail`:
//!
//! | key | type | holds |
//! |---|---|---|
//! | `selkie:{mail}:jobs` | stream | the jobs that are ready or delivered; an entry is deleted with its acknowledgement |
//! | `selkie:{mail}:later` | sorted set | the jobs that wait for their time, by that time in ms; retries are among them |
//! | `selkie:{mail}:dead` | stream | dead letters: all fields of the job, and `dead.kind`, `.error`, `.worker`, `.at` |
//! | `selkie:{mail}:outcome:ID` | string | JSON, `{"ok": ..}` or `{"kind": .., "error": ..}`, with a time to live |
//! | `selkie:{mail}:totals` | hash | how often which verdict was given |
//! | `selkie:{mail}:events` | channel | the verdicts, a line each, for whoever watches; `..:events:N` in database N, but for the first |
//! | `selkie:{mail}:token:..`, `:id:..` | string | makes a submission that is sent twice count once; with a time to live |
//!
//! A job is an entry with the fields `name` and `args` (JSON). Programs in any language may add one with `XADD` and these two;
//! `id`, `attempt` and `at` are filled in for the rest. One consumer group, `workers`, reads the stream.
//!
//! Submitting goes by a script that first looks for its token: if the answer to a submission was lost with the connection and
//! it is sent again, the token says that it was done, and what the answer was.

use std::{fmt, sync::Arc, time::Duration};

use redis::{Client, FromRedisValue};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Error,
    handlers::{self, Outcome},
    link::Link,
    watch::Watch,
    wire::{self, GROUP, Keys, unique},
};

/// How long a repeated submission is known as one, and an id of the user's choice as taken once its job is ready.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// How long to trust that Redis would have told.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Jobs that one call of the script takes: Redis does nothing else meanwhile.
const CHUNK: usize = 500;

/// A queue of jobs in Redis, for programs that submit and for [`Worker`](crate::Worker)s.
///
/// Made from an address; the connection comes with the first use, is shared by the clones, and comes back by itself. Can be
/// used on any loop of selkie and from several at once. Each method repeats what fails in passing, for at most
/// [`patience`](Self::patience), and counts once however often it had to be repeated. Dropping such a future may leave the
/// request done or not done.
///
/// # Examples
///
/// ```
/// use selkie_redis::{JobQueue, LocalServer};
///
/// # selkie_redis::run(async {
/// let server = LocalServer::start()?; // in production: the address of yours
/// let queue = JobQueue::open(server.url(), "mail")?;
/// queue.submit("send", &("ada@example.org", "hello")).await?;
/// assert_eq!(queue.counts().await?.ready, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct JobQueue {
    pub(crate) link: Arc<Link>,
    pub(crate) keys: Arc<Keys>,
    name: Arc<str>,
    patience: Duration,
}

/// The name of a job, the same through all its attempts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub(crate) Arc<str>);

impl JobId {
    /// As a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<S: AsRef<str>> From<S> for JobId {
    fn from(id: S) -> Self {
        Self(id.as_ref().into())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A job to be submitted: the name of its handler, its arguments, and when.
#[derive(Clone, Debug)]
pub struct NewJob {
    name: String,
    args: String,
    id: Option<String>,
    delay: Duration,
}

impl NewJob {
    /// A job for the handler called `name`. The arguments travel as JSON.
    ///
    /// # Errors
    ///
    /// [`is_payload`](Error::is_payload) if `args` cannot be JSON, as a map whose keys are no strings.
    pub fn new(name: impl Into<String>, args: &impl Serialize) -> Result<Self, Error> {
        let name = name.into();
        let args = wire::json(format!("the arguments of `{name}` cannot be JSON"), args)?;
        Ok(Self { name, args, id: None, delay: Duration::ZERO })
    }

    /// An id of your choice: a second job with it, within an hour from when the first one is ready, is not added.
    ///
    /// The way to make a submission safe against your own crash: take the id from what causes the job.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Not before `delay` has passed, by the clock of Redis.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// How a job ended that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[non_exhaustive]
pub struct Failed {
    /// As [`DeadLetter::kind`](crate::DeadLetter::kind).
    pub kind: String,
    /// What the handler said, or what was wrong with the job.
    pub error: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.error)
    }
}

impl std::error::Error for Failed {}

/// How many jobs are where, at one moment, and how many verdicts there were in the life of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Not yet delivered to a worker.
    pub ready: u64,
    /// Delivered and not settled: running, or in the hands of a worker that is gone.
    pub delivered: u64,
    /// Waiting for their time.
    pub later: u64,
    /// Dead letters.
    pub dead: u64,
    /// Jobs ever added by this crate.
    pub submitted_total: u64,
    /// Jobs ever acknowledged as done.
    pub done_total: u64,
    /// Attempts ever that failed and were tried again.
    pub retried_total: u64,
    /// Jobs ever given up.
    pub dead_total: u64,
    /// Deliveries ever handed back by a worker that shut down.
    pub back_total: u64,
    /// Deliveries ever taken over from a worker that was not heard of.
    pub claimed_total: u64,
}

impl Counts {
    /// Jobs that are neither done nor dead.
    pub fn open(&self) -> u64 {
        self.ready + self.delivered + self.later
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(1 << 52)
}

/// As [`millis`], but something that is meant to wait does.
pub(crate) fn millis_up(duration: Duration) -> u64 {
    millis(duration.saturating_add(Duration::from_nanos(999_999)))
}

impl JobQueue {
    /// The queue called `name` at `url`: `redis://[user:password@]host[:port][/database]`, `unix:///path`, or `rediss://..` with the
    /// feature `tls`. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// If `url` is no such address.
    pub fn open(url: &str, name: impl AsRef<str>) -> Result<Self, Error> {
        let client = Client::open(url).map_err(Error::address)?;
        let name = name.as_ref();
        let keys = Arc::new(Keys::new(name, client.get_connection_info().redis_settings().db()));
        Ok(Self {
            link: Arc::new(Link::new(client)),
            keys,
            name: name.into(),
            patience: Duration::from_secs(30),
        })
    }

    /// How long a method goes on trying while Redis cannot be reached, or does not answer; 30 seconds if not set. What is under way then
    /// is given up, so it has to be longer than an answer takes. Workers go on for ever.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The name it was opened with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds one job, ready at once.
    ///
    /// # Errors
    ///
    /// [`is_payload`](Error::is_payload) for arguments that cannot be JSON or are larger than Redis takes, [`is_unreachable`](Error::is_unreachable) and
    /// [`is_refused`](Error::is_refused).
    #[doc(alias = "enqueue_job")]
    pub async fn submit(&self, name: &str, args: &impl Serialize) -> Result<JobId, Error> {
        let ids = self.submit_all([NewJob::new(name, args)?]).await?;
        ids.into_iter()
            .next()
            .flatten()
            .ok_or_else(|| Error::reply("a job with an id of its own was refused"))
    }

    /// Adds many jobs, 500 to a round trip, or as many as make a megabyte. `None` stands for a job whose [`id`](NewJob::id) is taken.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit). What came before the failure, in whole round trips, has been added.
    pub async fn submit_all(
        &self,
        jobs: impl IntoIterator<Item = NewJob>,
    ) -> Result<Vec<Option<JobId>>, Error> {
        let mut jobs = jobs.into_iter().peekable();
        let mut ids = Vec::new();
        while jobs.peek().is_some() {
            let token = self.keys.token();
            let mut call = wire::SUBMIT.prepare_invoke();
            call.key(&self.keys.stream).key(&self.keys.later).key(&self.keys.totals).key(token);
            call.arg(millis(TOKEN_LIFE));
            let mut chunk = Vec::new();
            let mut bytes = 0;
            while let Some(job) = jobs.next_if(|_| chunk.len() < CHUNK && bytes < wire::FULL) {
                let texts = [job.args.len(), job.name.len(), job.id.as_ref().map_or(0, String::len)];
                let size = texts.into_iter().max().unwrap_or_default();
                if size > wire::FULL && size > self.link.largest(Some(self.patience)).await? {
                    return Err(Error::too_large(size));
                }
                bytes += texts.into_iter().sum::<usize>();
                let chosen = job.id.is_some();
                let id = job.id.unwrap_or_else(unique);
                if chosen {
                    call.key(self.keys.chosen(&id)).key(self.keys.outcome(&id));
                }
                call.arg(&id).arg(job.name).arg(job.args).arg(millis_up(job.delay)).arg(u8::from(chosen));
                chunk.push(JobId::from(id));
            }
            let call = &call;
            let answer: String =
                self.link.call(Some(self.patience), async |c| call.invoke_async(c).await).await?;
            if answer.len() != chunk.len() {
                return Err(Error::reply("one letter for each job"));
            }
            ids.extend(
                chunk.into_iter().zip(answer.chars()).map(|(id, letter)| (letter == '1').then_some(id)),
            );
        }
        Ok(ids)
    }

    /// How a job ended: `None` while it has not, and after its outcome's time to live.
    ///
    /// # Errors
    ///
    /// [`is_payload`](Error::is_payload) if the result is no `R`; otherwise as [`submit`](Self::submit).
    pub async fn outcome<R: DeserializeOwned>(&self, id: &JobId) -> Result<Option<Result<R, Failed>>, Error> {
        let key = self.keys.outcome(id.as_str());
        let get = redis::cmd("GET").arg(key).take();
        let text: Option<Vec<u8>> =
            self.link.call(Some(self.patience), async |connection| get.query_async(connection).await).await?;
        let Some(text) = text else { return Ok(None) };
        let wrong = |error| Error::payload(format!("the result of job {id} is of another type"), error);
        // By its first letters, and not by way of a `Value`, which has no room for large numbers.
        if text.starts_with(handlers::OK.as_bytes()) {
            let Outcome { ok } = serde_json::from_slice(&text).map_err(wrong)?;
            return Ok(Some(Ok(ok)));
        }
        Ok(Some(Err(serde_json::from_slice(&text).map_err(wrong)?)))
    }

    /// Waits until a job has ended, for at most `limit`; `None` if it has not by then.
    ///
    /// Redis says so, nobody polls. It takes a connection of its own: to follow many jobs, [`watch`](Self::watch) once.
    ///
    /// # Errors
    ///
    /// As [`outcome`](Self::outcome).
    pub async fn wait_for<R: DeserializeOwned>(
        &self,
        id: &JobId,
        limit: Duration,
    ) -> Result<Option<Result<R, Failed>>, Error> {
        let waiting = async {
            // Subscribed before the first look, so an end in between is not missed.
            let mut watch = self.watch().await?;
            loop {
                if let Some(outcome) = self.outcome(id).await? {
                    return Ok(outcome);
                }
                // Looks again now and then: a connection can die in silence.
                let hint = async { while !watch.next().await.may_end(id) {} };
                let _ = selkie::timeout(LOOK_AGAIN, hint).await;
            }
        };
        match selkie::timeout(limit, waiting).await {
            Ok(outcome) => outcome.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// What happens in the queue from now on, as Redis tells it.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub async fn watch(&self) -> Result<Watch, Error> {
        Watch::open(self.link.client().clone(), self.keys.channel.clone(), self.patience).await
    }

    /// How many jobs are where.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub async fn counts(&self) -> Result<Counts, Error> {
        let mut call = wire::COUNTS.prepare_invoke();
        call.key(&self.keys.stream)
            .key(&self.keys.later)
            .key(&self.keys.dead)
            .key(&self.keys.totals)
            .arg(GROUP);
        let call = &call;
        let answer = self.link.call(Some(self.patience), async |c| call.invoke_async(c).await).await?;
        let (all, delivered, later, dead, totals) =
            <(u64, u64, u64, u64, Vec<String>)>::from_redis_value(answer)
                .map_err(|_| Error::reply("counts"))?;
        let total = |name: &str| {
            let found = totals.chunks_exact(2).find(|pair| pair[0] == name);
            found.and_then(|pair| pair[1].parse().ok()).unwrap_or(0)
        };
        Ok(Counts {
            ready: all.saturating_sub(delivered),
            delivered,
            later,
            dead,
            submitted_total: total("submitted"),
            done_total: total("done"),
            retried_total: total("retry"),
            dead_total: total("dead"),
            back_total: total("back"),
            claimed_total: total("claimed"),
        })
    }

    /// The same queue on a connection of a worker's own.
    pub(crate) fn apart(&self) -> Self {
        Self { link: Arc::new(Link::of_worker(self.link.client().clone())), ..self.clone() }
    }

    pub(crate) fn limit(&self) -> Option<Duration> {
        Some(self.patience)
    }
}

impl fmt::Debug for JobQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobQueue").field("name", &self.name).finish_non_exhaustive()
    }
}
