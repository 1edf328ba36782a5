//! What native programs have beyond the common ground.

use std::{process::Termination, sync::Arc};

use selkie_platform::Platform;

use crate::{EventLoop, JoinError};

pub(crate) fn host() -> Arc<dyn Platform> {
    Arc::new(selkie_native::Native::new())
}

/// Natively a loop runs only inside `run`.
pub(crate) fn default_loop() -> Option<EventLoop> {
    None
}

/// The main future was cancelled, by Ctrl-C or by the program itself: there is no output to return.
pub(crate) fn cancelled_main(error: &JoinError) -> ! {
    eprintln!("selkie: {error}");
    // As a shell reports a program that SIGINT ended.
    std::process::exit(130)
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
