use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use selkie::{ContextVar, IsolatedPool, RemoteTask, isolated::Call};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::JobId;

/// How an attempt at a job failed, and whether there may be another.
///
/// Every [`std::error::Error`] turns into one by `?`, which is tried again as [`Retry`](crate::Retry) says.
///
/// # Examples
///
/// ```
/// use selkie_redis::Failure;
///
/// async fn charge(cents: i64) -> Result<(), Failure> {
///     if cents < 0 {
///         return Err(Failure::permanent("a negative amount")); // no attempt will mend that
///     }
///     let _rate: f64 = "1.1".parse()?; // any other error
///     Ok(())
/// }
/// # drop(charge);
/// ```
#[derive(Debug)]
pub struct Failure {
    pub(crate) error: String,
    pub(crate) again: Again,
}

#[derive(Debug)]
pub(crate) enum Again {
    Backoff,
    After(Duration),
    Never,
}

impl Failure {
    /// A failure that is tried again as the worker's [`Retry`](crate::Retry) says.
    pub fn new(error: impl fmt::Display) -> Self {
        Self { error: error.to_string(), again: Again::Backoff }
    }

    /// A failure that is tried again after `wait`, as a server may have asked for; not more often than otherwise.
    pub fn after(wait: Duration, error: impl fmt::Display) -> Self {
        Self { error: error.to_string(), again: Again::After(wait) }
    }

    /// A failure that no attempt will mend: the job is a dead letter at once.
    pub fn permanent(error: impl fmt::Display) -> Self {
        Self { error: error.to_string(), again: Again::Never }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// What a handler can know of the job that it runs; from [`current_job`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Job {
    /// The same through all attempts and deliveries. What a handler does to the outside is best keyed by it.
    pub id: JobId,
    /// The name that it was submitted with.
    pub name: String,
    /// Which attempt this is, from one.
    pub attempt: u32,
    /// How often Redis has delivered this attempt, this time included. More than one means that it may have run before.
    pub deliveries: u64,
    /// When it was submitted or due, in ms by the clock of Redis; 0 if that is not known.
    pub(crate) at: u64,
}

static CURRENT: ContextVar<Arc<Job>> = ContextVar::new();

/// The job that the running handler was called for. Also in its tasks, and in its [`to_thread`](selkie::to_thread) functions.
///
/// `None` outside of a handler.
pub fn current_job() -> Option<Arc<Job>> {
    CURRENT.get()
}

pub(crate) fn set_current(job: Arc<Job>) {
    CURRENT.set(job);
}

struct CancelOnDrop<R: Send>(RemoteTask<R>);

impl<R: Send> Drop for CancelOnDrop<R> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// One attempt; the result is the outcome's JSON.
pub(crate) type Attempt = Pin<Box<dyn Future<Output = Result<String, Failure>>>>;
type Handler = Rc<dyn Fn(&[u8]) -> Result<Attempt, serde_json::Error>>;

/// The functions of a worker, by name.
#[derive(Clone, Default)]
pub(crate) struct Handlers(BTreeMap<String, Handler>);

/// Why there is no attempt, with the error for the dead letter.
pub(crate) enum Unfit {
    Malformed(String),
    Unknown(String),
    Panicked(String),
}

/// Drops what a panic was raised with. That is code of users too, and may be another panic.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(another);
    }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a value that is no text")
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Outcome<R> {
    pub(crate) ok: R,
}

/// How an [`Outcome`] begins, and nothing else that is kept in its place.
pub(crate) const OK: &str = "{\"ok\":";

fn outcome<R: Serialize>(result: R) -> Result<String, Failure> {
    let json = serde_json::to_string(&Outcome { ok: result });
    json.map_err(|error| Failure::permanent(format_args!("the result cannot be JSON: {error}")))
}

impl Handlers {
    pub(crate) fn add<A, R, E, F, Fut>(&mut self, name: String, f: F)
    where
        A: DeserializeOwned + 'static,
        R: Serialize + 'static,
        E: Into<Failure> + 'static,
        F: Fn(A) -> Fut + 'static,
        Fut: Future<Output = Result<R, E>> + 'static,
    {
        let f = Rc::new(f);
        let handler = move |args: &[u8]| -> Result<Attempt, serde_json::Error> {
            let args: A = serde_json::from_slice(args)?;
            let f = f.clone();
            // The call is inside of the future, so that what it panics is the attempt's.
            Ok(Box::pin(async move { outcome(f(args).await.map_err(Into::into)?) }))
        };
        self.0.insert(name, Rc::new(handler));
    }

    pub(crate) fn add_blocking<A, R, E, F>(&mut self, name: String, f: F)
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        E: Into<Failure> + Send + 'static,
        F: Fn(A) -> Result<R, E> + Send + Sync + 'static,
    {
        let f = Arc::new(f);
        let call = move |args: A| {
            let f = f.clone();
            async move {
                match selkie::to_thread(move || f(args)).await {
                    Ok(result) => result.map_err(Into::into),
                    // Goes on as the attempt's own panic.
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(error) => Err(Failure::new(error)),
                }
            }
        };
        self.add(name, call);
    }

    pub(crate) fn add_isolated<A, R, E, F>(&mut self, name: String, pool: IsolatedPool, f: F)
    where
        A: DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
        E: fmt::Display + DeserializeOwned + Send + 'static,
        F: Fn(A) -> Call<Result<R, E>> + 'static,
    {
        let f = Rc::new(f);
        let call = move |args: A| {
            let (f, pool) = (f.clone(), pool.clone());
            async move {
                // A timeout and a shutdown drop the attempt, which is to end the call for real.
                let mut task = CancelOnDrop(pool.submit(f(args)).map_err(Failure::new)?);
                match (&mut task.0).await {
                    Ok(result) => result.map_err(Failure::new),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(error) => Err(Failure::new(error)),
                }
            }
        };
        self.add(name, call);
    }

    pub(crate) fn attempt(&self, name: &str, args: &[u8]) -> Result<Attempt, Unfit> {
        let Some(handler) = self.0.get(name) else {
            let known: Vec<_> = self.0.keys().map(|name| format!("`{name}`")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Unfit::Unknown(format!("no handler is called `{name}` here (there are: {known})")));
        };
        // The arguments' type reads them, in a task that is the worker's own.
        let attempt = catch_unwind(AssertUnwindSafe(|| handler(args))).map_err(|payload| {
            let error = format!("the arguments could not be read, that panicked: {}", message(&*payload));
            discard(payload);
            Unfit::Panicked(error)
        })?;
        attempt.map_err(|error| {
            Unfit::Malformed(match name {
                "" => format!("the item is not what the handler takes: {error}"),
                _ => format!("the arguments are not what `{name}` takes: {error}"),
            })
        })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}
