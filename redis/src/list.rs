//! A plain list as the queue, for programs that have one.
//!
//! Keys of the list `jobs`, in the form that its producers fill with LPUSH (the oldest is at the right end):
//!
//! | key | type | holds |
//! |---|---|---|
//! | `jobs` | list | what waits |
//! | `jobs:processing:WORKER` | list | what that worker has |
//! | `jobs:workers` | set | the names of the workers |
//! | `jobs:alive:WORKER` | string | a sign of life, which vanishes after the idle limit |
//! | `jobs:dead` | list | JSON letters with the item and the error, or an item alone that is too large for that |
//!
//! An item moves from the list to the worker's own in one step of Redis, LMOVE, which waits in Redis (BLMOVE) when there is
//! nothing: push, not poll. It is removed from there with its verdict. Items have no names, and two may be equal; so
//!
//! - a batch of verdicts carries a token, and one that is sent twice is executed once;
//! - what a lost reply brought is found by taking the items that are known from the processing list, as often as they are in it. No
//!   verdict is under way meanwhile: one that Redis has and the worker does not know of would hide an equal item.
//!
//! A worker registers its name before it takes anything, and each time that it does: somebody may have flushed the database.
//! When its sign of life is gone, any other worker moves what it had back to the right end, the oldest last, so that it is taken
//! next. A worker that was only silent takes part again with its next sign, but what it had is done twice: it is at least once
//! here too, and more often twice than with a stream, where a late verdict is recognised.

use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::HashMap,
    fmt,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{Client, RedisError, RedisResult, aio::MultiplexedConnection};
use selkie::local;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{
    Error, Failure, Job, JobId, Monitor, Report, Retry,
    handlers::Handlers,
    link::Link,
    queue::millis,
    shift::{Numbers, Rules, Shift, Source, Verdict, What},
    wire::{self, Entry, FULL, unique},
    worker::{rules, worker_name},
};

/// Runs one function for each item of a Redis list, on the current loop: the simple form, for a list that is there already.
///
/// As a [`Worker`](crate::Worker), with what a list can do: items are JSON values, producers do `LPUSH`, the oldest is taken first.
/// There are no outcomes, no delays and no names. A retry waits in its worker and keeps its place there. What is given up goes to
/// the list `NAME:dead`, as `{"item": .., "kind": .., "error": ..}`; an item that is no JSON is there as a string, and one for which
/// that would be more than Redis takes is there alone, as it came. Redis does not count how often an item was taken, so one that ends
/// its worker ends the next one too; a `Worker` gives it up.
///
/// # Examples
///
/// ```
/// use selkie_redis::{ListWorker, LocalServer};
/// use std::{convert::Infallible, time::Duration};
///
/// # selkie_redis::run(async {
/// let server = LocalServer::start()?;
/// let worker = ListWorker::open(server.url(), "jobs", async |n: u64| {
///     println!("{n} squared is {}", n * n);
///     Ok::<_, Infallible>(())
/// })?;
/// let report = worker.run(selkie::sleep(Duration::from_millis(50))).await?; // nothing was pushed
/// assert_eq!(report.taken, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[must_use = "a worker does nothing until it is run"]
pub struct ListWorker {
    list: String,
    name: String,
    rules: Rules,
    handlers: Handlers,
    numbers: Arc<Numbers>,
    reader: Arc<Link>,
    link: Arc<Link>,
}

impl ListWorker {
    /// A worker for the list with the key `list`, at `url` as in [`JobQueue::open`](crate::JobQueue::open).
    ///
    /// # Errors
    ///
    /// If `url` is no address of Redis.
    pub fn open<A, R, E, F, Fut>(url: &str, list: impl Into<String>, f: F) -> Result<Self, Error>
    where
        A: DeserializeOwned + 'static,
        R: Serialize + 'static,
        E: Into<Failure> + 'static,
        F: Fn(A) -> Fut + 'static,
        Fut: Future<Output = Result<R, E>> + 'static,
    {
        let client = Client::open(url).map_err(Error::address)?;
        let mut handlers = Handlers::default();
        handlers.add(String::new(), f);
        Ok(Self {
            list: list.into(),
            name: worker_name(),
            rules: Rules::default(),
            handlers,
            numbers: Arc::default(),
            reader: Arc::new(Link::of_worker(client.clone())),
            link: Arc::new(Link::of_worker(client)),
        })
    }

    rules!();

    /// The worker's name in Redis, which no other running worker may have. If not set: host, process and a random number.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// A handle that tells what the worker has done so far.
    pub fn monitor(&self) -> Monitor {
        Monitor { numbers: self.numbers.clone(), links: vec![self.reader.clone(), self.link.clone()] }
    }

    /// Works until `until` is complete, and then shuts down, as [`Worker::run`](crate::Worker::run) does.
    ///
    /// # Cancel safety
    ///
    /// As there: what was not settled goes back to the list after the idle limit, by another worker.
    ///
    /// # Errors
    ///
    /// [`is_refused`](Error::is_refused) when Redis says no to something that a worker needs.
    pub async fn run(self, until: impl Future<Output = ()>) -> Result<Report, Error> {
        let monitor = self.monitor();
        let key = |part: &str| format!("{}:{part}", self.list);
        let source = List {
            processing: key(&format!("processing:{}", self.name)),
            alive: key(&format!("alive:{}", self.name)),
            workers: key("workers"),
            dead: key("dead"),
            list: self.list,
            name: self.name,
            idle_limit: self.rules.idle_limit,
            reader: self.reader,
            link: self.link,
            items: RefCell::default(),
            settling: local::Lock::local(()),
            counter: Cell::new(0),
            seen: RefCell::default(),
        };
        let unsettled = Shift::new(source, self.rules, self.handlers, self.numbers).run(until).await?;
        Ok(Report { unsettled: unsettled as u64, trouble: None, ..monitor.read() })
    }
}

impl fmt::Debug for ListWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListWorker")
            .field("list", &self.list)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

struct List {
    list: String,
    name: String,
    processing: String,
    alive: String,
    workers: String,
    dead: String,
    idle_limit: Duration,
    reader: Arc<Link>,
    link: Arc<Link>,
    /// The items by the names that they have here.
    items: RefCell<HashMap<String, Vec<u8>>>,
    /// For whoever asks what is missing, or changes it.
    settling: local::Lock<()>,
    counter: Cell<u64>,
    /// Workers that had no sign of life, and since when.
    seen: RefCell<HashMap<Vec<u8>, Instant>>,
}

impl List {
    fn take_in(&self, items: Vec<Vec<u8>>) -> Vec<Entry> {
        let named = items.into_iter().map(|item| {
            self.counter.set(self.counter.get() + 1);
            let id = self.counter.get().to_string();
            self.items.borrow_mut().insert(id.clone(), item.clone());
            Entry { id, fields: vec![(b"args".to_vec(), item)], deliveries: 1 }
        });
        named.collect()
    }

    async fn sign(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let mut sign = redis::pipe();
        sign.cmd("SADD").arg(&self.workers).arg(&self.name).ignore();
        sign.cmd("SET").arg(&self.alive).arg("1").arg("PX").arg(millis(self.idle_limit)).ignore();
        sign.query_async(connection).await
    }
}

impl Source for List {
    const RETRIES_IN_WORKER: bool = true;

    async fn prepare(&self) -> Result<(), Error> {
        self.link.call(None, async |connection| self.sign(connection).await).await
    }

    async fn take(&self, room: usize, wait: Duration) -> RedisResult<Vec<Entry>> {
        let mut take = wire::LIST_TAKE.prepare_invoke();
        take.key(&self.list).key(&self.processing).key(&self.workers).arg(room).arg(&self.name).arg(FULL);
        let there: Vec<Vec<u8>> =
            self.reader.attempt(Duration::ZERO, async |c| take.invoke_async(c).await).await?;
        if !there.is_empty() {
            return Ok(self.take_in(there));
        }
        let mut block = redis::pipe();
        // In one message: if something keeps that until this worker has left, another one looks for what it still moves.
        block.cmd("SADD").arg(&self.workers).arg(&self.name).ignore();
        block.cmd("BLMOVE").arg(&self.list).arg(&self.processing);
        block.arg("RIGHT").arg("LEFT").arg(wait.as_secs_f64());
        let (one,): (Option<Vec<u8>>,) =
            self.reader.attempt(wait, async |c| block.query_async(c).await).await?;
        Ok(self.take_in(one.into_iter().collect()))
    }

    async fn recover(&self, _: &[String], room: usize, _: bool) -> RedisResult<Vec<Entry>> {
        let _alone = self.settling.lock().await;
        let mut have: HashMap<Vec<u8>, usize> = HashMap::new();
        for item in self.items.borrow().values() {
            *have.entry(item.clone()).or_default() += 1;
        }
        // The oldest: these and what is known, wherever that stands.
        let most = self.items.borrow().len() + room;
        let mut pending: Vec<Vec<u8>> = Vec::new();
        let mut largest = have.keys().map(Vec::len).max();
        while pending.len() < most {
            // As many as make a message, as far as one can tell.
            let page = largest.map_or(1, |largest| FULL / largest.max(1)).clamp(1, most - pending.len());
            let mut range = redis::cmd("LRANGE");
            range.arg(&self.processing).arg(format!("-{}", pending.len() + page));
            range.arg(format!("-{}", pending.len() + 1));
            let found: Vec<Vec<u8>> =
                self.reader.attempt(Duration::ZERO, async |c| range.query_async(c).await).await?;
            let is_last = found.len() < page;
            largest = largest.max(found.iter().map(Vec::len).max());
            pending.extend(found.into_iter().rev());
            if is_last {
                break;
            }
        }
        pending.retain(|item| match have.get_mut(item) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        });
        pending.truncate(room);
        Ok(self.take_in(pending))
    }

    async fn claim(&self, _: usize) -> RedisResult<(Vec<Entry>, bool)> {
        let members = redis::cmd("SMEMBERS").arg(&self.workers).take();
        // Whatever somebody has put there.
        let workers: Vec<Vec<u8>> =
            self.reader.attempt(Duration::ZERO, async |c| members.query_async(c).await).await?;
        let others: Vec<_> = workers.iter().filter(|worker| **worker != self.name.as_bytes()).collect();
        let key = |part: &str, worker: &[u8]| [self.list.as_bytes(), part.as_bytes(), worker].concat();
        let mut alive = redis::pipe();
        for other in &others {
            alive.cmd("EXISTS").arg(key(":alive:", other));
        }
        let signs: Vec<bool> = match others.is_empty() {
            true => Vec::new(),
            false => self.reader.attempt(Duration::ZERO, async |c| alive.query_async(c).await).await?,
        };
        // The signs of all vanish while Redis is away. So a missing one counts when it is missing for the second time, half an
        // idle limit later or more: a living worker has given many by then.
        let mut reap = wire::LIST_REAP.prepare_invoke();
        reap.key(&self.list).key(&self.workers);
        let mut found = false;
        let mut missing = HashMap::new();
        for (other, alive) in others.into_iter().zip(signs) {
            if alive {
                continue;
            }
            let since = self.seen.borrow().get(other).copied();
            if since.is_some_and(|since| since.elapsed() >= self.idle_limit.mul_f64(0.4)) {
                reap.key(key(":processing:", other)).key(key(":alive:", other)).arg(other);
                found = true;
            } else {
                missing.insert(other.clone(), since.unwrap_or_else(Instant::now));
            }
        }
        *self.seen.borrow_mut() = missing;
        if found {
            // Sent twice it finds nothing the second time. What went back is taken as everything else.
            self.reader.attempt(Duration::ZERO, async |c| reap.invoke_async::<u64>(c).await).await?;
        }
        Ok((Vec::new(), false))
    }

    /// The sign of life is for all that is there.
    async fn misses(&self) -> RedisResult<bool> {
        let length = redis::cmd("LLEN").arg(&self.processing).take();
        let length: usize =
            self.reader.attempt(Duration::ZERO, async |c| length.query_async(c).await).await?;
        // A verdict that is under way may have made it shorter. Then it is seen the next time.
        Ok(length > self.items.borrow().len())
    }

    /// What goes back is the next one then, so the oldest goes last.
    fn order(&self, verdicts: &mut [Verdict]) {
        verdicts.sort_by_key(|Verdict { entry, what, .. }| {
            matches!(what, What::Back | What::Retry { .. }).then(|| Reverse(entry.parse::<u64>().ok()))
        });
    }

    /// The item itself, as it has no name.
    fn bytes(&self, entry: &str) -> usize {
        self.items.borrow().get(entry).map_or(0, Vec::len)
    }

    async fn largest(&self) -> Result<usize, Error> {
        self.link.largest(None).await
    }

    async fn settle(&self, verdicts: &[Verdict]) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Letter<'a> {
            item: Item<'a>,
            kind: &'a str,
            error: &'a str,
        }
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Item<'a> {
            /// To the letter: a `Value` would round large numbers, and keep one of several equal keys.
            Json(&'a RawValue),
            Text(String),
        }
        let mut letters = HashMap::new();
        for Verdict { entry, what, .. } in verdicts {
            let items = self.items.borrow();
            let (What::Dead { kind, error }, Some(item)) = (what, items.get(entry)) else { continue };
            let text = || Item::Text(String::from_utf8_lossy(item).into_owned());
            let item = serde_json::from_slice(item).map_or_else(|_| text(), Item::Json);
            letters.insert(entry, wire::json("a dead letter", &Letter { item, kind, error })?);
        }
        // Redis has taken the items, and letters are longer.
        let largest = match letters.values().any(|letter| letter.len() > FULL) {
            true => self.largest().await?,
            false => FULL,
        };
        let mut call = wire::LIST_SETTLE.prepare_invoke();
        call.key(&self.list).key(&self.processing).key(&self.dead).key(format!(
            "{}:token:{}",
            self.list,
            unique()
        ));
        call.arg(millis(Duration::from_secs(3600)));
        {
            let items = self.items.borrow();
            for Verdict { entry, what, .. } in verdicts {
                let Some(item) = items.get(entry) else { continue };
                call.arg(item);
                match what {
                    What::Done { .. } => call.arg("done").arg(""),
                    What::Back | What::Retry { .. } => call.arg("back").arg(""),
                    What::Dead { .. } => match letters.get(entry) {
                        Some(letter) if letter.len() <= largest => call.arg("dead").arg(letter),
                        _ => call.arg("dead").arg(item),
                    },
                };
            }
        }
        let call = &call;
        let _alone = self.settling.lock().await;
        self.link.call(None, async |c| call.invoke_async::<u64>(c).await).await?;
        let mut items = self.items.borrow_mut();
        for verdict in verdicts {
            items.remove(&verdict.entry);
        }
        Ok(())
    }

    async fn beat(&self, _: &[String], limit: Duration) -> Result<(), Error> {
        self.link.call(Some(limit), async |connection| self.sign(connection).await).await
    }

    async fn promote(&self, _: Duration) -> Result<Option<Duration>, Error> {
        Ok(None)
    }

    /// Otherwise another worker does it when the sign of life has vanished.
    async fn leave(&self) -> Result<(), Error> {
        // What is there is not known here, and nobody would look for it without the name.
        let mut reap = wire::LIST_REAP.prepare_invoke();
        reap.key(&self.list).key(&self.workers).key(&self.processing).key(&self.alive).arg(&self.name);
        let reap = &reap;
        let leave = async |c: &mut MultiplexedConnection| {
            redis::cmd("DEL").arg(&self.alive).exec_async(c).await?;
            reap.invoke_async::<u64>(c).await
        };
        self.link.call(None, leave).await.map(drop)
    }

    fn job(&self, entry: &Entry) -> Result<(Job, Vec<u8>), String> {
        let job = Job {
            id: JobId::from(&entry.id),
            name: String::new(),
            attempt: 1,
            deliveries: entry.deliveries,
            at: 0,
        };
        Ok((job, entry.get("args").unwrap_or_default().to_vec()))
    }

    fn pause(&self, tried: u32, error: &RedisError) -> Duration {
        self.reader.pause(tried, error)
    }

    fn recovered(&self) {
        self.reader.recovered();
    }

    fn is_gone(&self, _: &RedisError) -> bool {
        false
    }
}
