//! Where the I/O runs.
//!
//! The client of Redis is made for tokio: a connection has a driver, a future that owns the socket, and handles that send
//! commands to the driver by a channel and wait for the answer on another. The handles work on any executor, so they are
//! polled by the loop. Only the driver needs tokio's reactor, and there are two places for it:
//!
//! - **Beside the loop in one thread**, when the loop is a guest of tokio ([`run`] makes that). A command is then two wakes
//!   within a thread, and waiting for a socket, a timer and a task is one wait of the operating system.
//! - **On a thread of its own**, when the loop runs by itself, as with `#[selkie::main]`. The thread is started at the first
//!   connection and shared by the process. Each command is then a wake of that thread, and each answer a wake of the loop, some
//!   10 us each way, while decoding what Redis says is off the loop's thread.
//!
//! Which one it is, is found at each connect by asking whether this thread is inside tokio. Under load the two are about as fast:
//! batches hide the wakes, and with a second processor decoding elsewhere makes up for them. The client can also use async-io, whose
//! reactor is a thread too: it has the wakes of the second way, decodes on the loop's thread, and has no first way.

use std::{future::Future, io, sync::OnceLock, thread};

use tokio::runtime::{Builder, Handle};

/// Tokio of this thread, or else the process's thread for connections.
pub(crate) fn handle() -> Handle {
    static THREAD: OnceLock<Handle> = OnceLock::new();
    Handle::try_current().unwrap_or_else(|_| {
        let start = || {
            let runtime =
                Builder::new_current_thread().enable_all().build().expect("the system has no more files");
            let handle = runtime.handle().clone();
            thread::Builder::new()
                .name("selkie-redis".to_owned())
                .spawn(move || runtime.block_on(std::future::pending::<()>()))
                .expect("the system has no more threads");
            handle
        };
        THREAD.get_or_init(start).clone()
    })
}

/// Runs `future` on a loop that shares its thread with the connections to Redis, and blocks until it is complete.
///
/// As [`selkie::run`], with the loop as a guest of a tokio runtime, so tasks of both kinds and everything made for tokio (`reqwest`,
/// `hyper`, `tokio::fs`) work inside. A worker also runs on a loop of any other kind; its connections are then on a thread of
/// their own.
///
/// # Panics
///
/// If `future` panics, or if this thread is inside a tokio runtime already: await [`selkie::guest`] there instead, inside
/// `tokio::task::unconstrained`.
///
/// # Examples
///
/// ```
/// let sum = selkie_redis::run(async {
///     let task = selkie::spawn(async { 20 });
///     tokio::time::sleep(std::time::Duration::from_millis(1)).await;
///     task.await.unwrap() + 1
/// });
/// assert_eq!(sum, 21);
/// ```
pub fn run<F>(future: F) -> F::Output
where
    F: Future + 'static,
    F::Output: 'static,
{
    // As `selkie::run` does.
    selkie::isolated::serve();
    let runtime = Builder::new_current_thread().enable_all().build().expect("the system has no more files");
    // Tokio gives a future a budget of operations, and then says "not ready" until its next poll. All tasks of the loop would
    // have to share one.
    let guest = async { tokio::task::unconstrained(selkie::guest(tokio::time::sleep, future)).await };
    match runtime.block_on(guest) {
        Ok(output) => output,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => panic!("the main future did not end: {error}"),
    }
}

/// Ends when the process is asked to end: SIGTERM or SIGINT, on Windows Ctrl-C.
///
/// Made for [`Worker::run`](crate::Worker::run). From the first call on these signals no longer end the process by themselves.
/// Each future sees the signals that come after it was made.
///
/// # Errors
///
/// What the system says when the handler cannot be installed.
///
/// # Examples
///
/// ```
/// # selkie_redis::run(async {
/// let asked_to_end = selkie_redis::shutdown_signal().unwrap();
/// let waited = selkie::timeout(std::time::Duration::from_millis(5), asked_to_end).await;
/// assert!(waited.is_err());
/// # });
/// ```
pub fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    let handle = handle();
    let _inside = handle.enter();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        Ok(async move {
            let terminate = std::pin::pin!(terminate.recv());
            let interrupt = std::pin::pin!(interrupt.recv());
            futures_util::future::select(terminate, interrupt).await;
        })
    }
    #[cfg(not(unix))]
    {
        let pressed = handle.spawn(tokio::signal::ctrl_c());
        Ok(async move { drop(pressed.await) })
    }
}
