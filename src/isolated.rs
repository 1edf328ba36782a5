//! Work in other address spaces: child processes, and Web Workers with an instance of their own.
//!
//! A function under [`#[selkie::isolated]`](macro@crate::isolated) makes a [`Call`] instead of being called; an
//! [`IsolatedPool`](crate::IsolatedPool) has it run by one of its workers. Natively a worker is a child process that runs this
//! very program; in a browser it is a plain Web Worker, which needs neither shared memory nor the headers for it. So:
//!
//! - a job that never ends, or eats all memory, can be [cancelled](crate::RemoteTask::cancel) for real;
//! - one that crashes ends its worker and nothing else;
//! - pages without cross-origin isolation get work off their main thread.
//!
//! The price: arguments and results are copied as bytes, by [serde](https://serde.rs), a worker takes some milliseconds to
//! start, and nothing is shared, also no statics and no context variables.
//!
//! # The program starts again
//!
//! A worker is the same program, from its beginning. [`#[selkie::main]`](macro@crate::main), [`run`](crate::run), [`start`](crate::start),
//! [`Runner::run`](crate::Runner::run) and [`serve`] notice that they are in a worker, do its work, and never return (on the
//! web: start nothing). Whatever the program does before that it does in each worker too, so let one of them be the first
//! thing in `main`. A pool in a program that has come by none of them is refused, as its workers would run the whole program,
//! and so is a pool in a worker.
//!
//! ```
//! #[selkie::isolated]
//! fn count_primes(up_to: u32) -> usize {
//!     (2..up_to).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0)).count()
//! }
//!
//! # #[cfg(unix)]
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! selkie::isolated::serve(); // first of all
//!
//! let pool = selkie::IsolatedPool::new(2)?;
//! let mut primes = pool.submit(count_primes(1000))?;
//! assert_eq!(primes.wait(None)??, 168);
//! # Ok(()) }
//! # #[cfg(unix)]
//! # example().unwrap();
//! ```
//!
//! # What can be sent
//!
//! Whatever serde can write and read as JSON, with all that its attributes do, and besides maps with keys of any type, and floats that
//! are infinite or NaN. As there, `Some(None)` and `Some(())` come back as `None`: say what is meant by an enum. Keep integers of 128
//! bits out of what is untagged, flattened or tagged inside, where they are refused, or come back as a text if one may stand there.
//! Values may be nested as deep as in JSON, by 128 levels; one that goes on for thousands may overflow the stack of whoever reads it,
//! which for a result is this process. Bytes travel twice as fast in a `ByteBuf` of the crate serde_bytes, or under its attribute, as
//! in a `Vec<u8>`. What cannot be sent is an error of the compiler, be it an argument or the result:
//!
//! ```compile_fail,E0277
//! #[selkie::isolated]
//! fn count(shared: std::rc::Rc<u32>) -> u32 {
//!     *shared
//! }
//! ```
//!
//! ```compile_fail,E0277
//! #[selkie::isolated]
//! fn share() -> std::rc::Rc<u32> {
//!     std::rc::Rc::new(7)
//! }
//! ```
//!
//! and so is a call with other arguments, or of a function that no worker knows:
//!
//! ```compile_fail,E0308
//! # #[selkie::isolated]
//! # fn square(n: u64) -> u64 { n * n }
//! # let pool = selkie::IsolatedPool::new(1).unwrap();
//! pool.submit(square("four"));
//! ```
//!
//! ```compile_fail,E0308
//! # let pool = selkie::IsolatedPool::new(1).unwrap();
//! fn square(n: u64) -> u64 {
//!     n * n
//! }
//! pool.submit(square(4));
//! ```
//!
//! A type may still refuse a certain value when it is written or read. That is [`PoolError::BadData`](crate::PoolError::BadData) at
//! the submit, or a [`JoinError`] that [is bad data](JoinError::is_bad_data).
//!
//! # In a test
//!
//! The main of a test binary is not yours. Write a test that is the worker, and have the workers start with it alone:
//!
//! ```no_run
//! #[test]
//! fn worker() {
//!     selkie::isolated::serve();
//! }
//!
//! # fn pool() -> Result<selkie::IsolatedPool, selkie::Unavailable> {
//! selkie::IsolatedPool::builder(2).arguments(["--exact", "worker", "--nocapture"]).build()
//! # }
//! ```

mod codec;
pub(crate) mod job;
pub(crate) mod pool;
mod simulated;
mod workers;

use std::{
    cell::RefCell,
    fmt,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::de::DeserializeOwned;

use self::job::Job;
use crate::{error::JoinError, os};

/// Says that this program may be started as a worker; in a worker, does its work and never returns.
///
/// For programs that have neither `#[selkie::main]` nor a [`run`](crate::run) where it would be met first. See the
/// [module](self).
///
/// # Platform-specific
///
/// - **Native:** in a worker the process exits when the pool lets it go.
/// - **Web:** in a Worker it returns, and the work comes by messages: the caller is to return to the host.
pub fn serve() {
    divert();
}

/// The name of the worker that runs the calling job: that of its pool and a number, as in `images-0`. `None` outside.
///
/// ```
/// assert_eq!(selkie::isolated::worker(), None);
/// ```
pub fn worker() -> Option<String> {
    WORKER.with_borrow(Clone::clone)
}

thread_local! {
    static WORKER: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The program has come by a place where a worker would have been told.
static DIVERTS: AtomicBool = AtomicBool::new(false);

/// What every entrance calls; whether the caller is to do nothing, as this is a Worker.
pub(crate) fn divert() -> bool {
    if DIVERTS.swap(true, Ordering::Relaxed) && !os::is_isolated_worker() {
        return false;
    }
    os::divert()
}

pub(crate) fn diverts() -> bool {
    DIVERTS.load(Ordering::Relaxed)
}

/// A call of an [isolated](macro@crate::isolated) function that nobody has made yet: the function and its arguments.
///
/// Hand it to [`IsolatedPool::submit`](crate::IsolatedPool::submit). The arguments are bytes already; if one of them could not
/// be turned into bytes, submitting says so.
#[must_use = "a call does nothing before it is submitted to an `IsolatedPool`, or `run_here`"]
pub struct Call<R> {
    job: &'static Job,
    arguments: Result<Vec<u8>, Arc<str>>,
    result: PhantomData<fn() -> R>,
}

impl<R> Call<R> {
    pub(crate) fn new(job: &'static Job, arguments: Result<Vec<u8>, Arc<str>>) -> Self {
        Self { job, arguments, result: PhantomData }
    }

    /// The path of the function.
    pub fn name(&self) -> &'static str {
        self.job.name()
    }

    /// Makes the call here and now, on this thread, with all that a worker would do to arguments and result.
    ///
    /// For tests, and where there is no worker to be had.
    ///
    /// ```
    /// #[selkie::isolated]
    /// fn shout(text: &str) -> String {
    ///     text.to_uppercase()
    /// }
    ///
    /// assert_eq!(shout("hello").run_here().unwrap(), "HELLO");
    /// ```
    ///
    /// # Errors
    ///
    /// A [`JoinError`] that [is a panic](JoinError::is_panic) or [bad data](JoinError::is_bad_data).
    pub fn run_here(self) -> Result<R, JoinError>
    where
        R: DeserializeOwned,
    {
        let name = self.name();
        let arguments = self.arguments.map_err(JoinError::bad_data)?;
        job::result(name, &self.job.run(&arguments))
    }
}

impl<R> Clone for Call<R> {
    fn clone(&self) -> Self {
        Self { job: self.job, arguments: self.arguments.clone(), result: PhantomData }
    }
}

impl<R> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Call").field(&self.name()).finish()
    }
}
