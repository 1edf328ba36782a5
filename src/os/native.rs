//! What native programs have beyond the common ground.

use std::{process::Termination, sync::Arc, task::Waker, time::Duration};

use selkie_platform::Platform;

use crate::{
    EventLoop, JoinError, WaitError,
    scheduler::{Scheduler, current_scheduler},
};

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

/// Blocks until `poll` answers `true`. `debtor` is the loop that has to do something for it.
pub(crate) fn block(
    debtor: Option<&Arc<Scheduler>>,
    timeout: Option<Duration>,
    poll: &mut dyn FnMut(&Waker) -> bool,
) -> Result<(), WaitError> {
    let number = |scheduler: *const Scheduler| Some(scheduler.addr()).filter(|&number| number != 0);
    let here = number(current_scheduler());
    let there = debtor.and_then(|debtor| number(Arc::as_ptr(debtor)));
    selkie_native::block(here, there, timeout, poll).map_err(|refused| match refused {
        selkie_native::NoWait::TimedOut => WaitError::TimedOut,
        selkie_native::NoWait::WouldDeadlock => WaitError::WouldDeadlock,
    })
}

/// Lets another thread have this processor: it may hold a lock that this one spins for.
#[allow(clippy::disallowed_methods, reason = "this is where it exists")]
pub(crate) fn relax() {
    std::thread::yield_now();
}

pub(crate) fn report(message: &str) {
    host().report(message);
}

/// `#[selkie::main]`.
#[doc(hidden)]
pub fn main<F>(f: impl FnOnce() -> F) -> F::Output
where
    F: Future + 'static,
    F::Output: Termination + 'static,
{
    crate::run(f())
}

/// `#[selkie::test]`.
#[doc(hidden)]
pub fn test<F>(f: impl FnOnce() -> F) -> F::Output
where
    F: Future + 'static,
    F::Output: 'static,
{
    crate::run(f())
}
