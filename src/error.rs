//! Why something did not come to a result.

use std::{
    any::Any,
    error::Error,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use selkie_platform::Unavailable;

use crate::os;

/// Why a task has no result: it was cancelled, it panicked, or it could not be waited for.
///
/// Mirrors what awaiting an `asyncio.Task` raises beside the coroutine's own exceptions. An `Err` that the
/// task's future returned is no `JoinError`: it is the task's result.
pub struct JoinError {
    repr: Repr,
}

/// A tag and a pointer, so that a result which is nothing else moves in registers.
enum Repr {
    Cancelled(Option<Text>),
    Panicked(Box<Panicked>),
    Trapped,
    WrongLoop,
    AwaitsItself,
    Lost,
    Unavailable(Text),
    Broken(Text),
    Abandoned,
    Crashed(Text),
    BadData(Text),
}

/// Of one word.
type Text = Box<Arc<str>>;

struct Panicked {
    task: String,
    message: String,
    payload: PanicPayload,
}

/// A panic's payload is `Send` but not `Sync`; it is only ever given out by value.
struct PanicPayload(Box<dyn Any + Send>);

// SAFETY: no method gives out a reference to the payload, so sharing the wrapper shares nothing.
unsafe impl Sync for PanicPayload {}

impl JoinError {
    pub(crate) fn cancelled(message: Option<Arc<str>>) -> Self {
        Self { repr: Repr::Cancelled(message.map(Box::new)) }
    }

    pub(crate) fn panicked(task: String, payload: Box<dyn Any + Send>) -> Self {
        let message = panic_message(&*payload);
        Self { repr: Repr::Panicked(Box::new(Panicked { task, message, payload: PanicPayload(payload) })) }
    }

    pub(crate) fn trapped() -> Self {
        Self { repr: Repr::Trapped }
    }

    pub(crate) const WRONG_LOOP: Self = Self { repr: Repr::WrongLoop };

    pub(crate) const AWAITS_ITSELF: Self = Self { repr: Repr::AwaitsItself };

    pub(crate) const LOST: Self = Self { repr: Repr::Lost };

    pub(crate) fn unavailable(error: Unavailable) -> Self {
        Self { repr: Repr::Unavailable(Box::new(error.to_string().into())) }
    }

    /// `reason` is what the pool's initializer said.
    pub(crate) fn broken(reason: Arc<str>) -> Self {
        Self { repr: Repr::Broken(Box::new(reason)) }
    }

    pub(crate) const ABANDONED: Self = Self { repr: Repr::Abandoned };

    /// `how` says whose worker it was and how it ended.
    pub(crate) fn crashed(how: Arc<str>) -> Self {
        Self { repr: Repr::Crashed(Box::new(how)) }
    }

    pub(crate) fn bad_data(reason: Arc<str>) -> Self {
        Self { repr: Repr::BadData(Box::new(reason)) }
    }

    /// Whether the task was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.repr, Repr::Cancelled(_))
    }

    /// Whether the task panicked, and the panic could be caught.
    pub fn is_panic(&self) -> bool {
        matches!(self.repr, Repr::Panicked(_))
    }

    /// Whether the task ended by a WebAssembly trap, as every panic does in a `panic=abort` build.
    ///
    /// What the task owned is leaked: no destructor ran.
    pub fn is_trap(&self) -> bool {
        matches!(self.repr, Repr::Trapped)
    }

    /// Whether the task belongs to another loop than the one that asked. The task itself is not affected.
    pub fn is_wrong_loop(&self) -> bool {
        matches!(self.repr, Repr::WrongLoop)
    }

    /// Whether the loop, pool or worker that owed the result ended before it had one.
    pub fn is_lost(&self) -> bool {
        matches!(self.repr, Repr::Lost | Repr::Crashed(_))
    }

    /// Whether the worker of an [`IsolatedPool`](crate::IsolatedPool) that had the job died, or could not be started; the
    /// message says how. Such a result [is lost](Self::is_lost) too.
    #[doc(alias = "BrokenProcessPool")]
    pub fn is_crashed(&self) -> bool {
        matches!(self.repr, Repr::Crashed(_))
    }

    /// Whether arguments or result of an [isolated](mod@crate::isolated) function could not be turned into bytes and back.
    #[doc(alias = "PicklingError")]
    pub fn is_bad_data(&self) -> bool {
        matches!(self.repr, Repr::BadData(_))
    }

    /// Whether the host has no thread for the work; it was not begun.
    pub fn is_unavailable(&self) -> bool {
        matches!(self.repr, Repr::Unavailable(_))
    }

    /// Whether the pool's initializer failed, so that the pool runs nothing any more; see
    /// [`ThreadPool`](crate::ThreadPool).
    #[doc(alias = "BrokenThreadPool")]
    pub fn is_broken(&self) -> bool {
        matches!(self.repr, Repr::Broken(_))
    }

    /// Whether nobody is left who could set the result; see [`Deferred`](crate::Deferred).
    pub fn is_abandoned(&self) -> bool {
        matches!(self.repr, Repr::Abandoned)
    }

    /// The message that was given to `cancel_with`, if any.
    pub fn cancel_message(&self) -> Option<&str> {
        match &self.repr {
            Repr::Cancelled(Some(message)) => Some(message),
            _ => None,
        }
    }

    /// The message.
    pub(crate) fn text(&self) -> String {
        text(&self.parts())
    }

    fn parts(&self) -> [&str; 3] {
        let (first, second): (&str, &str) = match &self.repr {
            Repr::Cancelled(None) => ("the task was cancelled", ""),
            Repr::Cancelled(Some(message)) => ("the task was cancelled: ", message),
            Repr::Panicked(panicked) => return [&panicked.task, " panicked: ", &panicked.message],
            Repr::Trapped => ("the task trapped (build with panic=unwind to catch the panic)", ""),
            Repr::WrongLoop => {
                ("the task belongs to another loop: submit to that loop and await the remote task", "")
            }
            Repr::Abandoned => ("every `Resolver` was dropped, so nobody can set the result", ""),
            Repr::AwaitsItself => ("the task awaits itself and would never end", ""),
            Repr::Lost => ("the loop or pool that owed the result ended before it had one", ""),
            Repr::Unavailable(reason) | Repr::Crashed(reason) | Repr::BadData(reason) => (reason, ""),
            Repr::Broken(reason) => ("the pool is broken, as its initializer failed: ", reason),
        };
        [first, second, ""]
    }

    /// The panic's payload, to be passed to [`std::panic::resume_unwind`].
    ///
    /// # Panics
    ///
    /// If the task did not panic; see [`try_into_panic`](Self::try_into_panic).
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        match self.try_into_panic() {
            Ok(payload) => payload,
            Err(error) => panic!("`into_panic` on a task that did not panic ({error}): ask `is_panic` first"),
        }
    }

    /// The panic's payload, or the error itself if it is no panic.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        match self.repr {
            Repr::Panicked(panicked) => Ok(panicked.payload.0),
            _ => Err(self),
        }
    }
}

/// One text of several. What every program for the web has in it is put together by this: `format!` would bring all that formats,
/// a kilobyte, into those that format nothing themselves.
#[inline(never)]
pub(crate) fn text(parts: &[&str]) -> String {
    let mut text = String::new();
    for part in parts {
        text.push_str(part);
    }
    text
}

/// Adds a number to a text, without what formats one.
pub(crate) fn push_number(text: &mut String, number: u64) {
    if number > 9 {
        push_number(text, number / 10);
    }
    text.push(char::from(b'0' + (number % 10) as u8));
}

pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a value that is no text".to_owned()
    }
}

/// Drops a panic's payload, whose destructor may panic in turn.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // The hook has shown its message. Its destructor could go on like this, so it is leaked.
        std::mem::forget(second);
    }
}

/// Runs code of users whose panic, or trap, must not take the caller with it. The hook, or the host, has shown it.
///
/// Whether it did not trap.
pub(crate) fn contain(f: impl FnOnce()) -> bool {
    let mut f = Some(f);
    os::guard(&mut || {
        if let Some(f) = f.take() {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
                discard(payload);
            }
        }
    })
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().into_iter().try_for_each(|part| f.write_str(part))
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl Error for JoinError {}

/// The answer is not there yet, or was taken already. Mirrors `asyncio.InvalidStateError`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[doc(alias = "InvalidStateError")]
pub enum InvalidState {
    /// The task has not finished: await it, or ask `is_finished` first.
    Pending,
    /// The result was moved out by an earlier await.
    Taken,
    /// A result or an error was set already.
    Set,
}

impl fmt::Display for InvalidState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "the result is not ready: await it, or ask `is_finished` first",
            Self::Taken => "the result was moved out by an earlier await",
            Self::Set => "a result was set already, or the waiter was cancelled",
        })
    }
}

impl Error for InvalidState {}

/// The loop was closed. Mirrors `RuntimeError: Event loop is closed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopClosed;

impl fmt::Display for LoopClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the event loop is closed: make a new one")
    }
}

impl Error for LoopClosed {}

/// Why [`EventLoop::run_until_complete`](crate::EventLoop::run_until_complete) and its kin gave no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// The loop was stopped before the future completed; its task stays pending and goes on with the next run.
    Stopped,
    /// The loop is closed.
    Closed,
    /// This loop, or another one, runs in this thread already.
    Nested,
    /// The host cannot block, as a page cannot: use [`start`](crate::start).
    WouldBlock,
    /// The task was cancelled or panicked.
    Task(JoinError),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("the event loop was stopped before the future completed"),
            Self::Closed => LoopClosed.fmt(f),
            Self::Nested => f.write_str(
                "an event loop runs in this thread already: await instead, or use a thread of its own; \
                 to close it, `stop` it first",
            ),
            Self::WouldBlock => {
                f.write_str("this thread must not block: use `selkie::start` or `#[selkie::main]`")
            }
            Self::Task(error) => error.fmt(f),
        }
    }
}

impl Error for RunError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Task(error) => Some(error),
            _ => None,
        }
    }
}

impl From<LoopClosed> for RunError {
    fn from(_: LoopClosed) -> Self {
        Self::Closed
    }
}

/// The time was over before the answer came. Mirrors `TimeoutError`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "TimeoutError")]
pub struct TimedOut;

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time was over before the answer came")
    }
}

impl Error for TimedOut {}

/// Either the task's own error, or the reason why there is none.
///
/// It is shown as what it holds, so it is an [`Error`] whenever that can be shown: also for texts, `Box<dyn Error>` and
/// `anyhow::Error`, which are no `Error` themselves. Then `?` passes it on.
///
/// ```
/// use std::error::Error;
///
/// async fn parse(text: &str) -> Result<i32, Box<dyn Error>> {
///     Ok(text.parse()?)
/// }
///
/// async fn sum() -> Result<i32, Box<dyn Error>> {
///     let (a, b) = selkie::try_gather((parse("1"), parse("one"))).await?;
///     Ok(a + b)
/// }
///
/// let error = selkie::run(sum()).unwrap_err();
/// assert_eq!(error.to_string(), "invalid digit found in string");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum TaskError<E> {
    /// The task returned `Err`.
    Failed(E),
    /// The task was cancelled or panicked.
    Join(JoinError),
}

impl<E: fmt::Display> fmt::Display for TaskError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Join(error) => error.fmt(f),
        }
    }
}

// Without a source: it says itself what it holds, and a bound that could name one would leave texts and boxes out.
impl<E: fmt::Debug + fmt::Display> Error for TaskError<E> {}

impl<E> From<JoinError> for TaskError<E> {
    fn from(error: JoinError) -> Self {
        Self::Join(error)
    }
}

/// Why a thread did not wait for a result to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitError {
    /// The time was over first; the work goes on.
    TimedOut,
    /// The wait could never end: the loop, or the simulation, that owes the result is one of this thread, or of a thread that
    /// waits for a loop of this one.
    WouldDeadlock,
    /// This thread must not block.
    WouldBlock,
    /// The result was taken before.
    Taken,
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "the time was over before the result came",
            Self::WouldDeadlock => "what owes the result waits for this thread: await it instead",
            Self::WouldBlock => "this thread must not block: await the result instead",
            Self::Taken => "the result was taken before",
        })
    }
}

impl Error for WaitError {}
