//! One connection that comes back.
//!
//! A command that fails because of the connection, or because the server cannot answer just now, is sent again on a new one,
//! after a wait that doubles up to two seconds with jitter. Nobody can know whether the server had executed it: **whatever goes
//! through [`Link::call`] must be made so that sending it twice is as sending it once.** The scripts are, each says how.
//! What cannot be made so, taking jobs, goes through [`Link::attempt`], which does not send again.
//!
//! A new connection is made by one caller, while the others wait for it. A connection that was found broken is given up by
//! its number, so that a late finder does not throw away its successor.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult, aio::MultiplexedConnection};
use selkie::Lock;

use crate::{Error, io, retry::Retry, wire::LARGEST};

/// How long connecting, and any command that does not wait on purpose, may take.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(10);

pub(crate) struct Link {
    client: Client,
    current: Mutex<Current>,
    connecting: Lock<()>,
    trouble: Mutex<Trouble>,
    /// A worker's: it waits for each answer as long as that may take.
    tenacious: bool,
}

struct Current {
    connection: Option<MultiplexedConnection>,
    number: u64,
}

#[derive(Clone, Default)]
pub(crate) struct Trouble {
    /// How many calls had to be repeated.
    pub(crate) repeated: u64,
    /// Why, until a call succeeds.
    pub(crate) last: Option<String>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the same command may succeed later. The rest is for a human to repair.
pub(crate) fn is_passing(error: &RedisError) -> bool {
    const CODES: &[&str] = &[
        "LOADING",
        "TRYAGAIN",
        "CLUSTERDOWN",
        "MASTERDOWN",
        "READONLY",
        "MISCONF",
        "NOREPLICAS",
        "BUSY",
        "UNBLOCKED",
        // It was forgotten again between telling and calling it.
        "NOSCRIPT",
    ];
    // Told to a new connection, by no code of its own.
    let is_full = || error.detail().is_some_and(|detail| detail.contains("max number of clients"));
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse) || has_code(error, CODES) || is_full()
}

/// What kind of error Redis calls it. Before Redis 7 that of an error in a script stands within its text, and where a database could
/// not be selected the client tells the text alone.
pub(crate) fn code(error: &RedisError) -> Option<&str> {
    let in_script = || {
        let (before, error) = error.detail()?.rsplit_once("@user_script:")?;
        let (_line, error) = error.split_once(": ")?;
        let code = error.trim_start_matches('-').split(' ').next()?;
        before.starts_with("Error running script").then_some(code)
    };
    let busy = || error.detail()?.contains(" is busy running ").then_some("BUSY");
    match error.code()? {
        "ERR" => in_script().or_else(busy).or(Some("ERR")),
        code => Some(code),
    }
}

/// Also of a pipeline, whose errors have no code where the client has no kind for them.
fn has_code(error: &RedisError, codes: &[&str]) -> bool {
    if let Some(code) = code(error) {
        return codes.contains(&code);
    }
    let failures = error.clone().into_server_errors();
    failures.is_some_and(|failures| failures.iter().all(|(_, error)| codes.contains(&error.code())))
}

/// As [`is_passing`], for a worker: it waits also for memory that somebody has to free.
pub(crate) fn is_passing_for_worker(error: &RedisError) -> bool {
    is_passing(error) || has_code(error, &["OOM"])
}

/// Whether the connection is at fault, or the server behind it is the wrong one by now.
fn needs_connection(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse)
        || has_code(error, &["READONLY"])
}

pub(crate) fn silent() -> RedisError {
    RedisError::from(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time"))
}

impl Link {
    pub(crate) fn new(client: Client) -> Self {
        Self::with(client, false)
    }

    pub(crate) fn of_worker(client: Client) -> Self {
        Self::with(client, true)
    }

    fn with(client: Client, tenacious: bool) -> Self {
        Self {
            client,
            tenacious,
            current: Mutex::new(Current { connection: None, number: 0 }),
            connecting: Lock::new(()),
            trouble: Mutex::new(Trouble::default()),
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn trouble(&self) -> Trouble {
        locked(&self.trouble).clone()
    }

    fn existing(&self) -> Option<(MultiplexedConnection, u64)> {
        let current = locked(&self.current);
        current.connection.clone().map(|connection| (connection, current.number))
    }

    async fn connection(&self, limit: Duration) -> RedisResult<(MultiplexedConnection, u64)> {
        if let Some(existing) = self.existing() {
            return Ok(existing);
        }
        let _only = self.connecting.lock().await;
        if let Some(existing) = self.existing() {
            return Ok(existing);
        }
        let client = self.client.clone();
        let connect = io::handle().spawn(async move {
            // The loop has its own timeouts; the client's need tokio where the handle is polled.
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(limit))
                .set_response_timeout(None)
                .set_pipeline_buffer_size(1024);
            client.get_multiplexed_async_connection_with_config(&config).await
        });
        let connected = connect.await.map_err(|error| RedisError::from(std::io::Error::other(error)))?;
        let connection = connected?;
        let mut current = locked(&self.current);
        current.number += 1;
        current.connection = Some(connection.clone());
        Ok((connection, current.number))
    }

    fn give_up(&self, number: u64) {
        let mut current = locked(&self.current);
        if current.number == number {
            current.connection = None;
        }
    }

    /// Does `command` once. `longer` is how long it waits on purpose.
    pub(crate) async fn attempt<T>(
        &self,
        longer: Duration,
        command: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        self.attempt_until(None, longer, command).await
    }

    /// As [`attempt`](Self::attempt), at most until `end`.
    async fn attempt_until<T>(
        &self,
        end: Option<Instant>,
        longer: Duration,
        command: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let left = || {
            end.map_or(ANSWER_LIMIT, |end| end.saturating_duration_since(Instant::now()).min(ANSWER_LIMIT))
        };
        let limit = left();
        // Also while others try in vain to connect.
        let connection = selkie::timeout(limit, self.connection(limit)).await;
        let (mut connection, number) = connection.unwrap_or_else(|_| Err(silent()))?;
        let done = selkie::timeout(left() + longer, command(&mut connection)).await;
        let result = done.unwrap_or_else(|_| Err(silent()));
        match &result {
            Err(error) if needs_connection(error) => self.give_up(number),
            _ => {}
        }
        result
    }

    /// Does `command`, again and again until it was done once for sure, or until `limit` is over.
    pub(crate) async fn call<T>(
        &self,
        limit: Option<Duration>,
        command: impl AsyncFn(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, Error> {
        let start = Instant::now();
        // A worker's limits say when to look round, and are too short to connect in.
        let end = limit.filter(|_| !self.tenacious).and_then(|limit| start.checked_add(limit));
        let mut tried = 0;
        let mut last: Option<RedisError> = None;
        loop {
            tried += 1;
            let error = match self.attempt_until(end, Duration::ZERO, &command).await {
                Ok(done) => {
                    locked(&self.trouble).last = None;
                    return Ok(done);
                }
                Err(error) if is_passing(&error) || (self.tenacious && is_passing_for_worker(&error)) => {
                    error
                }
                Err(error) => return Err(Error::refused(error)),
            };
            // An attempt that the limit has cut short says less than the one before.
            let error = last.filter(|_| error.is_timeout()).unwrap_or(error);
            let pause = self.pause(tried, &error);
            if limit.is_some_and(|limit| start.elapsed() + pause >= limit) {
                return Err(Error::unreachable(error, start.elapsed()));
            }
            last = Some(error);
            selkie::sleep(pause).await;
        }
    }

    /// The longest text that Redis takes. It has to be asked for before: Redis answers a longer one, and closes the connection without
    /// having read it, which can overtake the answer.
    pub(crate) async fn largest(&self, limit: Option<Duration>) -> Result<usize, Error> {
        let get = redis::cmd("CONFIG").arg("GET").arg("proto-max-bulk-len").take();
        let found = self.call(limit, async |c| get.query_async::<HashMap<String, usize>>(c).await).await;
        match found {
            // Not everybody may ask.
            Err(error) if error.is_refused() => Ok(LARGEST),
            found => Ok(found?.into_values().next().unwrap_or(LARGEST)),
        }
    }

    /// Notes the failure of attempt `tried`; how long to wait before the next one.
    pub(crate) fn pause(&self, tried: u32, error: &RedisError) -> Duration {
        let mut trouble = locked(&self.trouble);
        trouble.repeated += 1;
        trouble.last = Some(error.to_string());
        Retry::RECONNECT.wait(tried).unwrap_or_default()
    }

    pub(crate) fn recovered(&self) {
        locked(&self.trouble).last = None;
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password.
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> RedisError {
        let answer = redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
        answer.extract_error().unwrap_err()
    }

    #[test]
    fn an_error_in_a_script_is_known_in_the_words_of_redis_6() {
        let script = "ERR Error running script (call to f_4c8b): @user_script:7:";
        let memory = said(&format!(
            "{script} @user_script: 7: -OOM command not allowed when used memory > 'maxmemory'."
        ));
        assert!(is_passing_for_worker(&memory) && !is_passing(&memory));
        let replica = said(&format!(
            "{script} @user_script: 7: -READONLY You can't write against a read only replica."
        ));
        assert!(is_passing(&replica) && needs_connection(&replica));
        let gone = said(&format!("{script} NOGROUP No such key 'a' or consumer group 'workers'"));
        assert_eq!(code(&gone), Some("NOGROUP"));
        let wrong =
            said(&format!("{script} WRONGTYPE Operation against a key holding the wrong kind of value"));
        assert!(!is_passing_for_worker(&wrong));
        assert_eq!(code(&said("ERR no such key")), Some("ERR"));
        assert!(is_passing(&said("LOADING Redis is loading the dataset in memory")));
        assert!(is_passing(&said("ERR max number of clients reached")) && !is_passing(&said("ERR wrong")));
    }
}
