//! Where an executor has no threads.

use std::{future::Future, num::NonZeroUsize};

use selkie_platform::Unavailable;

pub(super) const NO_THREADS: Unavailable =
    Unavailable::new("a page has no threads: make the pool where there are, or spawn tasks on the loop");

/// The threads of an [`Executor`](crate::Executor): there are none.
pub(crate) enum Workers {}

impl Workers {
    pub(crate) fn new(_: Option<NonZeroUsize>, _: &str) -> Result<Self, Unavailable> {
        Err(NO_THREADS)
    }

    pub(crate) fn spawn(&self, _: impl Future<Output = ()> + Send + 'static) {
        match *self {}
    }

    pub(crate) fn threads(&self) -> usize {
        match *self {}
    }
}
