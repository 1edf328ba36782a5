//! Models of the wait list. Run by `RUSTFLAGS="--cfg selkie_loom" cargo test -p selkie --lib --release loom`.

use std::{
    sync::{
        Arc as StdArc,
        atomic::{AtomicUsize, Ordering as StdOrdering},
    },
    task::Wake,
};

use loom::{cell::UnsafeCell as Watched, sync::Arc, thread};

use super::*;

/// A lock made of the list, with a value whose accesses loom watches.
struct Model {
    guarded: Guarded<(bool, List<()>), Shared>,
    value: Watched<u32>,
}

// SAFETY: loom reports an access to the value that is not ordered with another.
unsafe impl Sync for Model {}
// SAFETY: as above.
unsafe impl Send for Model {}

struct Acquire(Arc<Model>);

fn release(model: &Model) {
    model.guarded.with(|(locked, list), wakes| {
        if list.grant(0, wakes).is_none() {
            *locked = false;
        }
    });
}

impl Request for Acquire {
    type State = (bool, List<()>);
    type Mode = Shared;
    type Payload = ();
    type Found = ();
    type Output = ();

    const WAITS_FOR: &'static &'static str = &"a model";

    fn guarded(&self) -> &Guarded<Self::State, Shared> {
        &self.0.guarded
    }

    fn list(state: &mut Self::State) -> &mut List<()> {
        &mut state.1
    }

    fn look(&mut self, (locked, _): &mut Self::State, _: &mut Wakes) -> Now<()> {
        if std::mem::replace(locked, true) { Now::Wait } else { Now::Ready(()) }
    }

    fn found(&mut self, (): ()) {}

    fn payload(&mut self) {}

    fn granted(&mut self, _: u32, _: Option<()>) {}

    fn unused(&mut self, _: u32) {
        release(&self.0);
    }
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: StdArc<Self>) {
        self.0.unpark();
    }
}

/// Counts its wakes.
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: StdArc<Self>) {
        self.0.fetch_add(1, StdOrdering::Relaxed);
    }
}

fn model() -> Arc<Model> {
    Arc::new(Model { guarded: Guarded::shared((false, List::new())), value: Watched::new(0) })
}

/// Waits for the lock as a blocked thread does; a lost wake is a deadlock, which loom reports.
fn enter(model: &Arc<Model>) {
    let waker = Waker::from(StdArc::new(Unpark(thread::current())));
    let mut waiting = pin!(Waiting::new(Acquire(model.clone())));
    while waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        thread::park();
    }
    // SAFETY: the lock is held, which is what the model is about.
    model.value.with_mut(|value| unsafe { *value += 1 });
}

fn is_free(model: &Model) -> bool {
    model.guarded.look(|(locked, list)| !*locked && list.is_empty())
}

/// *Grant, then poll*, *wake before sleep*: exclusion, visibility, and no lost wake.
#[test]
fn the_lock_goes_from_one_to_the_other() {
    loom::model(|| {
        let model = model();
        let theirs = model.clone();
        let other = thread::spawn(move || {
            enter(&theirs);
            release(&theirs);
        });
        // Not the model's main thread: a token of `park` would also end its `join`.
        let ours = model.clone();
        let one = thread::spawn(move || {
            enter(&ours);
            release(&ours);
        });
        one.join().unwrap();
        other.join().unwrap();
        assert!(is_free(&model));
        // SAFETY: the other threads have ended.
        assert_eq!(model.value.with(|value| unsafe { *value }), 2);
    });
}

/// *Grant and drop at once*, *grant, then drop*: with one behind, who must get it and be woken.
#[test]
fn a_dropped_waiter_passes_the_lock_on() {
    loom::model(|| {
        let model = model();
        model.guarded.look(|(locked, _)| *locked = true);
        let wakers = [(); 2].map(|()| StdArc::new(Count(AtomicUsize::new(0))));
        let [leaver, mut stayer] = [0, 1].map(|n| {
            let waker = Waker::from(wakers[n].clone());
            let mut waiting = Box::pin(Waiting::new(Acquire(model.clone())));
            assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            waiting
        });
        let gone = thread::spawn(move || drop(leaver));
        release(&model);
        gone.join().unwrap();
        assert_eq!(wakers[1].0.load(StdOrdering::Relaxed), 1);
        let waker = Waker::from(wakers[1].clone());
        assert!(stayer.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        release(&model);
        assert!(is_free(&model));
    });
}

/// *Poll with another waker*, beside the grant: the poll finds the outcome, or the second waker is called.
#[test]
fn the_last_waker_is_the_one_that_counts() {
    loom::model(|| {
        let model = model();
        model.guarded.look(|(locked, _)| *locked = true);
        let wakers = [(); 2].map(|()| StdArc::new(Count(AtomicUsize::new(0))));
        let mut waiting = Box::pin(Waiting::new(Acquire(model.clone())));
        let first = Waker::from(wakers[0].clone());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&first)).is_pending());
        let theirs = model.clone();
        let granter = thread::spawn(move || release(&theirs));
        let second = Waker::from(wakers[1].clone());
        let ready = waiting.as_mut().poll(&mut Context::from_waker(&second)).is_ready();
        granter.join().unwrap();
        let [first, second] = wakers.map(|waker| waker.0.load(StdOrdering::Relaxed));
        assert_eq!(first + second, 1, "a grant wakes once");
        assert!(ready || second == 1);
        drop(waiting);
        if ready {
            release(&model);
        }
        assert!(is_free(&model));
    });
}
