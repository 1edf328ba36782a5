//! What native programs have beyond the common ground.

mod carried;
mod spy;
mod workers;

use std::{
    future::Future,
    num::NonZeroUsize,
    process::Termination,
    sync::{Arc, PoisonError},
    task::Waker,
    time::Duration,
};

use selkie_native::Refused;
use selkie_platform::{Debt, Isolate, IsolateEvents, IsolateOptions, Platform, Unavailable};

pub(crate) use self::{carried::Carried, workers::Workers};
use crate::{
    EventLoop, JoinError, RunError, WaitError, error::contain, event_loop::INTERRUPTED, isolated::job, pool,
    submit,
};

/// Standard input and files as asynchronous readers, writers and streams, through threads of the crate
/// [`blocking`](https://docs.rs/blocking). asyncio has `connect_read_pipe` for some of these and nothing for files.
///
/// It implements `futures::AsyncRead` and `AsyncWrite`, so `futures::AsyncReadExt` and its kin apply. A read that is
/// dropped goes on in its thread, and what it had read is given to the next one; close or flush a writer before it
/// is dropped, or its last bytes may be lost. The threads are not those of [`to_thread`](crate::to_thread), and no loop
/// waits for them at its end: a read of a terminal that nobody types at does not keep the program.
///
/// ```
/// use futures::AsyncReadExt;
/// use selkie::os::native::Unblock;
///
/// # fn main() -> std::io::Result<()> {
/// selkie::run(async {
///     let file = std::fs::File::open("Cargo.toml")?;
///     let mut text = String::new();
///     Unblock::new(file).read_to_string(&mut text).await?;
///     assert!(text.contains("name = \"selkie\""));
///     Ok(())
/// })
/// # }
/// ```
#[doc(alias = "connect_read_pipe")]
pub use blocking::Unblock;

pub(crate) fn host() -> Arc<dyn Platform> {
    Arc::new(selkie_native::Native::new())
}

/// Natively a loop runs only inside `run`.
pub(crate) fn default_loop() -> Option<EventLoop> {
    None
}

/// The main future was cancelled, by Ctrl-C or by the program itself: there is no output to return.
#[expect(clippy::disallowed_methods, reason = "`run` promises it, as asyncio does for Ctrl-C")]
pub(crate) fn cancelled_main(error: &JoinError) -> ! {
    eprintln!("selkie: {error}");
    // As a shell reports a program that SIGINT ended.
    std::process::exit(130)
}

/// Whether this thread may wait.
pub(crate) fn may_wait() -> bool {
    true
}

/// Blocks until `poll` answers `true`. `edge` is this thread and another one that has to do something for it, by their numbers.
pub(crate) fn block(
    edge: Option<[u32; 2]>,
    timeout: Option<Duration>,
    poll: &mut dyn FnMut(&Waker) -> bool,
) -> Result<(), WaitError> {
    selkie_native::block(edge, timeout, poll).map_err(|refused| match refused {
        selkie_native::NoWait::TimedOut => WaitError::TimedOut,
        selkie_native::NoWait::WouldDeadlock => WaitError::WouldDeadlock,
    })
}

#[expect(clippy::disallowed_types, reason = "a thread may wait for it")]
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether code may end by a trap, which runs no destructor.
pub(crate) const TRAPS: bool = false;

/// Runs `f`; whether it returned, as it does here.
#[inline]
pub(crate) fn guard(f: &mut dyn FnMut()) -> bool {
    f();
    true
}

/// Ends as a trap that was caught and has to go on.
#[cold]
pub(crate) fn trap() -> ! {
    unreachable!("nothing traps here")
}

/// Runs a simulated job.
pub(crate) fn work(job: &mut dyn FnMut()) {
    job();
}

/// Whether a thread may go alone.
pub(crate) const LOSES_THREADS: bool = false;

/// Something that is owed by a thread; see [`at_risk`].
pub(crate) struct Risk;

impl Drop for Risk {
    fn drop(&mut self) {}
}

/// No thread goes without its destructors having run, so nothing is at risk.
pub(crate) fn at_risk(_: impl FnOnce() -> Box<dyn FnOnce(bool) + Send>) -> Risk {
    Risk
}

/// As [`at_risk`].
pub(crate) fn owes(_: impl FnOnce() -> Arc<dyn Debt>) -> Risk {
    Risk
}

/// Lets another thread have this processor: it may hold a lock that this one spins for.
#[allow(clippy::disallowed_methods, reason = "this is where it exists")]
pub(crate) fn relax() {
    std::thread::yield_now();
}

/// What the running thread is called.
#[expect(clippy::disallowed_methods, reason = "natively it answers")]
pub(crate) fn thread_name() -> Option<Arc<str>> {
    std::thread::current().name().map(Into::into)
}

pub(crate) fn report(message: &str) {
    host().report(message);
}

const NO_THREAD: Unavailable =
    Unavailable::new("the system refuses to start a thread; try again when fewer are running");

/// The threads of a [`ThreadPool`](crate::ThreadPool).
pub(crate) struct Pool(selkie_native::Pool<submit::Job>);

impl selkie_native::Run for submit::Job {
    type Owner = Arc<pool::Shared>;

    fn run(self, owner: &Arc<pool::Shared>) {
        let _counted = pool::Uncount(owner);
        pool::run(owner, self);
    }
}

impl Pool {
    pub(crate) fn new(
        max: NonZeroUsize,
        idle: Duration,
        spin: Duration,
        owner: &Arc<pool::Shared>,
    ) -> Result<Self, Unavailable> {
        Ok(Self(selkie_native::Pool::owned_by(max, idle, spin, owner.name(), owner.clone())))
    }

    /// Whether it took the job, and the count with it; it does not after a shutdown.
    pub(crate) fn submit(&self, job: submit::Job, counted: pool::Uncount<'_>) -> Result<bool, Unavailable> {
        match self.0.submit(job) {
            Ok(()) => {
                std::mem::forget(counted);
                Ok(true)
            }
            Err(Refused::ShutDown(_)) => Ok(false),
            Err(_) => Err(NO_THREAD),
        }
    }

    pub(crate) fn shutdown(&self) {
        self.0.shutdown();
    }

    /// Runs those that have not begun, or drops them.
    pub(crate) fn shutdown_now(&self, runs: bool, owner: &Arc<pool::Shared>) {
        for job in self.0.shutdown_now() {
            let _counted = pool::Uncount(owner);
            // One that panics as it goes must not take the others, uncounted, with it.
            contain(|| if runs { pool::run(owner, job) } else { drop(job) });
        }
    }

    pub(crate) fn join(&self, timeout: Option<Duration>) -> Result<(), WaitError> {
        self.0.join(timeout).map_err(|_| WaitError::TimedOut)
    }

    pub(crate) fn threads(&self) -> usize {
        self.0.counts().threads
    }
}

/// The thread that the workers of an isolated pool belong to: any.
pub(crate) struct Home;

impl Home {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn run(&self, f: impl FnOnce() + Send + 'static) {
        f();
    }
}

/// Whether isolated pools can be had on this system.
pub(crate) fn check_isolated() -> Result<(), Unavailable> {
    selkie_native::isolate::check()
}

pub(crate) fn spawn_isolate(
    options: IsolateOptions,
    events: Arc<dyn IsolateEvents>,
) -> Result<Box<dyn Isolate>, Unavailable> {
    selkie_native::isolate::spawn(options, events)
}

pub(crate) fn is_isolated_worker() -> bool {
    selkie_native::isolate::is_worker()
}

/// Never returns in a worker, the first time. Natively whoever called goes on otherwise.
pub(crate) fn divert() -> bool {
    if is_isolated_worker() {
        serve_isolated();
    }
    false
}

/// Answers requests until the pool lets this process go.
pub(crate) fn serve_isolated() {
    selkie_native::isolate::serve(&job::hello(), &mut |name, request| job::answer(name, &request));
}

/// `#[selkie::main]`.
#[doc(hidden)]
pub fn main<F>(f: impl FnOnce() -> F) -> F::Output
where
    F: Future + 'static,
    F::Output: Termination + 'static,
{
    crate::isolated::serve();
    crate::run(f())
}

/// `#[selkie::test]`.
#[doc(hidden)]
pub fn test<F>(f: impl FnOnce() -> F) -> F::Output
where
    F: Future + 'static,
    F::Output: 'static,
{
    match crate::try_run(f()) {
        Ok(output) => output,
        // That is for the whole process. Any other cancel fails this test and no other.
        Err(RunError::Task(error)) if error.cancel_message() == Some(INTERRUPTED) => cancelled_main(&error),
        Err(RunError::Task(error)) => match error.try_into_panic() {
            Ok(payload) => std::panic::resume_unwind(payload),
            Err(error) => panic!("{error}"),
        },
        Err(error) => panic!("{error}"),
    }
}
