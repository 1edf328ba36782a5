//! Threads with a name, for work that is no job of a pool.

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use selkie_platform::Unavailable;

use crate::{
    RemoteTask, WaitError, context,
    error::{JoinError, contain, panic_message},
    remote::{channel, gone},
    scheduler::with_current,
};

/// A thread that runs one function, with a name.
///
/// Mirrors [`threading.Thread`](https://docs.python.org/3/library/threading.html#thread-objects). The function starts at once, with a copy
/// of the context variables. What it returns, or that it panicked, is had by [`join`](Self::join), or by awaiting the thread in a
/// task of any loop.
///
/// Dropping it detaches: the thread runs on.
///
/// For many short jobs take [`to_thread`](crate::to_thread) or a [`ThreadPool`](crate::ThreadPool), and for a loop on a thread
/// [`EventLoop::spawn_thread`](crate::EventLoop::spawn_thread).
///
/// - **Difference**: making and starting are one, so a thread cannot be started twice or joined before it has begun.
/// - **Difference**: `join` gives the result. In Python it returns nothing, also after an exception.
/// - **Difference**: every thread is what Python calls a daemon: a program whose `main` returns does not wait for it. Join
///   those whose end matters.
///
/// Inside a loop of [`testing::Sim`](crate::testing::Sim) no thread is used: the function runs as one job of that world, at a moment
/// that the seed chooses.
///
/// # Platform-specific
///
/// - **Web:** a build with one thread answers [`Unavailable`].
///
/// # Examples
///
/// ```
/// use selkie::{Thread, current_thread_name};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut reader = Thread::spawn("reader", || current_thread_name().unwrap().to_string())?;
/// assert_eq!(reader.join(Some(Duration::from_secs(5)))??, "reader");
/// assert!(!reader.is_alive());
/// # Ok(()) }
/// ```
#[must_use = "dropping it detaches the thread: join it, await it, or say `detach()`"]
pub struct Thread<R: Send = ()> {
    name: Arc<str>,
    number: u64,
    simulated: bool,
    task: RemoteTask<R>,
}

thread_local! {
    /// The thread of this module that runs here.
    static CURRENT: RefCell<Option<(u64, Arc<str>)>> = const { RefCell::new(None) };
}

/// The name of the thread that this runs on, if it has one. Mirrors `threading.current_thread().name`.
///
/// Threads of pools and loops have names as well. In a simulation these are not threads, and have that of its thread.
#[doc(alias = "current_thread")]
pub fn current_thread_name() -> Option<Arc<str>> {
    let ours = CURRENT.try_with(|current| current.borrow().as_ref().map(|(_, name)| name.clone()));
    ours.ok().flatten().or_else(crate::os::thread_name)
}

impl Thread {
    /// A thread with options. See [`ThreadBuilder`].
    pub fn builder(name: impl Into<Arc<str>>) -> ThreadBuilder {
        ThreadBuilder { name: name.into(), on_panic: None }
    }

    /// Runs `f` on a new thread called `name`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] where the host has no thread for it; `f` is dropped.
    pub fn spawn<R: Send + 'static>(
        name: impl Into<Arc<str>>,
        f: impl FnOnce() -> R + Send + 'static,
    ) -> Result<Thread<R>, Unavailable> {
        Self::builder(name).spawn(f)
    }
}

impl<R: Send> Thread<R> {
    /// The name of the thread.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the thread's function has not ended.
    pub fn is_alive(&self) -> bool {
        !self.task.is_finished()
    }

    /// Waits for the end of the thread's function, blocking this thread for at most `timeout`; `None` waits as long as it takes.
    ///
    /// Gives what the function returned, or a [`JoinError`] that has its panic. What the thread keeps in thread-locals may go a
    /// moment later. After a timeout the thread runs on: ask again.
    ///
    /// # Errors
    ///
    /// - [`WaitError::TimedOut`].
    /// - [`WaitError::WouldDeadlock`] on this very thread, and in a simulation, where the thread can run only when the
    ///   caller awaits.
    /// - [`WaitError::WouldBlock`] on a thread that must not block, as a page's main thread: await instead.
    /// - [`WaitError::Taken`] when the result was taken before.
    pub fn join(&mut self, timeout: Option<Duration>) -> Result<Result<R, JoinError>, WaitError> {
        // A thread whose variables have gone has run its function, and may join others in the destructor of one of them.
        let itself =
            CURRENT.try_with(|current| current.borrow().as_ref().is_some_and(|one| one.0 == self.number));
        let itself = itself.unwrap_or(false);
        if itself || (self.simulated && self.is_alive()) {
            return Err(WaitError::WouldDeadlock);
        }
        self.task.wait(timeout)
    }

    /// Lets the thread run on by itself. The same as dropping, said aloud.
    #[doc(alias = "daemon")]
    pub fn detach(self) {}
}

/// Awaiting waits for the end of the thread's function; gives what [`join`](Thread::join) gives.
impl<R: Send> Future for Thread<R> {
    type Output = Result<R, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(cx)
    }
}

impl<R: Send> fmt::Debug for Thread<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread").field("name", &self.name).field("alive", &self.is_alive()).finish()
    }
}

/// How a [`Thread`] is started; from [`Thread::builder`].
#[must_use = "nothing runs before `spawn`"]
pub struct ThreadBuilder {
    name: Arc<str>,
    on_panic: Option<Box<dyn FnOnce(&ThreadPanic) + Send>>,
}

impl ThreadBuilder {
    /// Calls `hook`, on the thread, if its function panics; without one the panic is shown to the developer.
    ///
    /// Whoever joins is told as well, afterwards. Mirrors `threading.excepthook`, for one thread.
    ///
    /// ```
    /// use selkie::Thread;
    /// use std::sync::mpsc::channel;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (hook, told) = channel();
    /// let fails = Thread::builder("worker").on_panic(move |panic| hook.send(panic.to_string()).unwrap());
    /// let mut fails = fails.spawn(|| if true { panic!("out of paper") })?;
    /// assert!(fails.join(None)?.unwrap_err().is_panic());
    /// assert_eq!(told.recv()?, "thread worker panicked: out of paper");
    /// # Ok(()) }
    /// ```
    #[doc(alias = "excepthook")]
    pub fn on_panic(mut self, hook: impl FnOnce(&ThreadPanic) + Send + 'static) -> Self {
        self.on_panic = Some(Box::new(hook));
        self
    }

    /// Runs `f` on the new thread.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] where the host has no thread for it; `f` is dropped.
    pub fn spawn<R: Send + 'static>(
        self,
        f: impl FnOnce() -> R + Send + 'static,
    ) -> Result<Thread<R>, Unavailable> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let Self { name, on_panic } = self;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (producer, task) = channel(None);
        let context = context::Context::current();
        let own = (number, name.clone());
        let main = move || {
            let here = Here(CURRENT.replace(Some(own.clone())));
            let _risk = crate::os::at_risk(|| {
                let stand_in = producer.stand_in();
                let outer = here.0.clone();
                Box::new(move |trapped| {
                    if trapped {
                        // This very thread goes on with what it did before.
                        CURRENT.set(outer);
                    }
                    stand_in.give(gone(trapped));
                })
            });
            producer.begin();
            let result = catch_unwind(AssertUnwindSafe(|| context.run(f)));
            // What a hook or a context owns may panic when it is dropped, and takes no result with it.
            let result = match result {
                Ok(value) => {
                    contain(|| drop(on_panic));
                    Ok(value)
                }
                Err(payload) => {
                    let panic = ThreadPanic { thread: own.1, message: panic_message(&*payload) };
                    match on_panic {
                        Some(hook) => _ = contain(|| hook(&panic)),
                        None => crate::os::report(&format!("selkie: {panic}")),
                    }
                    Err(JoinError::panicked(format!("thread {}", panic.thread), payload))
                }
            };
            contain(|| drop(context));
            // The name goes first: whoever is told of the end may look.
            drop(here);
            producer.give(result);
        };
        let platform = with_current(|scheduler| scheduler.platform().clone()).unwrap_or_else(crate::os::host);
        let simulated = platform.nests();
        if simulated {
            // The threads of a world drive loops. What blocks is a job there.
            platform.run_blocking(Box::new(main))?;
        } else {
            platform.spawn_thread(&name, Box::new(main))?;
        }
        Ok(Thread { name, number, simulated, task })
    }
}

impl fmt::Debug for ThreadBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Puts back what ran here before: a simulation runs its threads on one stack.
struct Here(Option<(u64, Arc<str>)>);

impl Drop for Here {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// The function of a [`Thread`] has panicked: the argument of [`ThreadBuilder::on_panic`].
#[derive(Clone, Debug)]
pub struct ThreadPanic {
    thread: Arc<str>,
    message: String,
}

impl ThreadPanic {
    /// The name of the thread.
    pub fn thread(&self) -> &str {
        &self.thread
    }

    /// What the panic said.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for ThreadPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {} panicked: {}", self.thread, self.message)
    }
}
