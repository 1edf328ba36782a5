//! Workers of a simulated world: they live in its queue of jobs, and run on its stack.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering},
};

use selkie_platform::{Isolate, IsolateEnd, IsolateEvents, Platform, Unavailable};

use super::{job, workers::Events};
use crate::{os, scheduler::with_current};

pub(super) const OVER: Unavailable = Unavailable::new(
    "the simulation that the pool belongs to is over: make the pool in the loop that uses it",
);

pub(super) fn world(made_in: &Weak<dyn Platform>) -> Option<Arc<dyn Platform>> {
    let here = with_current(|scheduler| scheduler.platform().clone());
    let here = here.filter(|platform| platform.nests()).or_else(|| made_in.upgrade());
    // The loop may have gone, and another one of its world run.
    here.or_else(crate::testing::works)
}

struct Simulated {
    name: Arc<str>,
    world: Weak<dyn Platform>,
    life: Arc<Life>,
}

struct Life {
    events: Arc<Events>,
    killed: AtomicBool,
    over: AtomicBool,
}

impl Life {
    fn end(&self, how: &str) {
        if !self.over.swap(true, Ordering::Relaxed) {
            self.events.ended(IsolateEnd::Died(how.to_owned()));
        }
    }
}

pub(super) fn spawn(
    world: &Arc<dyn Platform>,
    name: &str,
    hello: &[u8],
    events: Arc<Events>,
) -> Box<dyn Isolate> {
    let life = Arc::new(Life { events, killed: AtomicBool::new(false), over: AtomicBool::new(false) });
    let simulated = Simulated { name: name.into(), world: Arc::downgrade(world), life };
    let hello = hello.to_vec();
    simulated.later(move |life| life.events.message(hello));
    Box::new(simulated)
}

/// What the world is to do; if it ends before, so does the worker.
struct Later<F: FnOnce(&Arc<Life>)> {
    f: Option<F>,
    life: Arc<Life>,
}

impl<F: FnOnce(&Arc<Life>)> Drop for Later<F> {
    fn drop(&mut self) {
        if self.f.is_some() {
            self.life.end("ended with its simulation");
        }
    }
}

impl Simulated {
    fn later(&self, f: impl FnOnce(&Arc<Life>) + Send + 'static) {
        let mut later = Later { f: Some(f), life: self.life.clone() };
        let run = move || {
            if let Some(f) = later.f.take() {
                f(&later.life);
            }
        };
        // A world takes all jobs. Where there is none any more the closure is dropped, which tells the end.
        if let Some(world) = world(&self.world) {
            let _ = world.run_blocking(Box::new(run));
        }
    }
}

impl Isolate for Simulated {
    fn post(&self, message: Vec<u8>) {
        let name = self.name.clone();
        self.later(move |life| {
            let _risk = os::at_risk(|| {
                let (life, outer) = (life.clone(), super::worker());
                Box::new(move |_| {
                    super::WORKER.set(outer);
                    life.end("ended by a trap");
                })
            });
            if !life.killed.load(Ordering::Relaxed) {
                life.events.message(job::answer(&name, &message));
            }
        });
    }

    fn kill(&self) {
        self.life.killed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.later(|life| life.end("was let go"));
    }
}
