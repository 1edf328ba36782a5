//! The scheduler of the npm package `selkie`: what JavaScript calls, and what it is called with.
//!
//! An instance of the module is one loop. JavaScript keeps closures and values in slots, which it numbers; only these
//! numbers cross. There are three kinds of slots: tasks, operations that end once (a timer, a take from a queue), and
//! things (queues and locks), which are numbered here.
//!
//! A task here is a future that asks JavaScript for its next step whenever it was woken, and does what the step says:
//! wait to be woken, sleep, go to the back of its lane, or end. A cancel is a flag beside the task in JavaScript, and a
//! wake: so it is delivered at the task's turn, in order with all others.
//!
//! A trap is a bug of this crate, as the bodies of tasks are JavaScript. The glue then drops the whole instance.

#![cfg(all(target_family = "wasm", target_os = "unknown"))]
#![allow(unsafe_code, reason = "the module's imports and exports")]

mod operations;
mod things;

use std::{
    cell::{Cell, RefCell},
    future::Future,
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use selkie::{EventLoop, Next, Priority, Sleep, Task, testing::ManualClock};

#[link(wasm_import_module = "selkie")]
unsafe extern "C" {
    /// Takes the next step of a task. Answers a time in milliseconds to sleep for, or one of the numbers below.
    safe fn step(task: u32) -> f64;
    /// The task is gone before its end: the loop was closed.
    safe fn dropped(task: u32);
    /// An operation has ended.
    safe fn fire(operation: u32, value: f64);
    /// The loop, which JavaScript drives, wants a turn.
    safe fn pend();
}

// What a step answers, beside a time.
const END: f64 = -1.0;
const YIELD: f64 = -2.0;

// Why a task is woken, as in src/task.ts.
const GO_ON: u32 = 0;
const REQUEST: u32 = 1;
const TAKEN_BACK: u32 = 2;

thread_local! {
    static LOOP: RefCell<Option<EventLoop>> = const { RefCell::new(None) };
    static CLOCK: RefCell<Option<ManualClock>> = const { RefCell::new(None) };
    static TASKS: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
    /// What [`turn`] has answered last.
    static NEXT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// What is known of the task in a slot.
#[derive(Default)]
struct Entry {
    waker: Option<Waker>,
    /// It was woken by JavaScript since its last step.
    woken: bool,
    /// It was asked to end since its last step.
    asked: bool,
}

fn event_loop() -> EventLoop {
    LOOP.with_borrow(|event_loop| event_loop.clone().expect("JavaScript calls no closed loop"))
}

fn duration(milliseconds: f64) -> Duration {
    // JavaScript has refused what is negative or not a number.
    Duration::try_from_secs_f64(milliseconds / 1e3).unwrap_or(Duration::MAX)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn priority(number: u32) -> Priority {
    match number {
        0 => Priority::Urgent,
        1 => Priority::Normal,
        _ => Priority::Background,
    }
}

/// Makes the loop. One with virtual time is driven by [`turn`]; its order is shuffled by `seed`, if that is not negative.
#[unsafe(no_mangle)]
extern "C" fn open(manual: u32, seed: f64) {
    let made = if manual != 0 {
        let clock = ManualClock::new();
        let seed = (seed >= 0.0).then_some(seed as u64);
        let guest = clock.guest(seed, || pend());
        CLOCK.set(Some(clock));
        guest
    } else {
        let made = EventLoop::new();
        drop(selkie::os::web::run_forever(&made));
        made
    };
    // Whoever waits in JavaScript is told, there.
    made.set_exception_handler(Some(Rc::new(|_| {})));
    LOOP.set(Some(made));
}

/// Asks the loop to stop, so that it can be closed after its turn.
#[unsafe(no_mangle)]
extern "C" fn stop() {
    event_loop().stop();
}

/// Closes the loop, which drops what is left of its tasks; answers 0 if it still runs.
#[unsafe(no_mangle)]
extern "C" fn close() -> u32 {
    if event_loop().close().is_err() {
        return 0;
    }
    LOOP.take();
    CLOCK.take();
    operations::clear();
    things::clear();
    TASKS.take();
    1
}

/// Runs one turn of a loop with virtual time. Answers the time of the next one, -1 for at once, -2 for not before [`pend`].
#[unsafe(no_mangle)]
extern "C" fn turn() -> f64 {
    match event_loop().turn() {
        Ok(Next::Now) => -1.0,
        Ok(Next::At(time)) => {
            NEXT.set(time);
            milliseconds(time)
        }
        _ => -2.0,
    }
}

/// The loop's clock, in milliseconds.
#[unsafe(no_mangle)]
extern "C" fn now() -> f64 {
    milliseconds(event_loop().time())
}

/// Moves the virtual clock forward.
#[unsafe(no_mangle)]
extern "C" fn advance(to: f64) {
    let next = NEXT.get();
    CLOCK.with_borrow(|clock| {
        if let Some(clock) = clock {
            // After months a number is not exact to the nanosecond, and the clock would be just before what is due for ever.
            // To the nearest one else: a time that was a sum may be a little less than the deadline that it is for.
            let nearest = Duration::from_nanos((to * 1e6).round() as u64);
            clock.set(if to == milliseconds(next) { next } else { nearest });
        }
    });
}

/// Starts the task in `slot`: at once, or at its first turn.
#[unsafe(no_mangle)]
extern "C" fn spawn(slot: u32, number: u32, lazy: u32) {
    TASKS.with_borrow_mut(|tasks| {
        let index = slot as usize;
        if tasks.len() <= index {
            tasks.resize_with(index + 1, Entry::default);
        }
        tasks[index] = Entry { woken: true, ..Entry::default() };
    });
    let mut builder = Task::<()>::builder().priority(priority(number));
    if lazy != 0 {
        builder = builder.lazy();
    }
    if let Ok(task) = event_loop().spawn_with(builder, Body { slot, sleep: None, ended: false }) {
        task.detach();
    }
}

/// Has the task take its next step, whatever it waits for. One that was not spawned yet will anyway.
#[unsafe(no_mangle)]
extern "C" fn wake(slot: u32, why: u32) {
    let waker = TASKS.with_borrow_mut(|tasks| {
        let entry = tasks.get_mut(slot as usize)?;
        match why {
            TAKEN_BACK => entry.asked = false,
            REQUEST => entry.asked = true,
            _ => entry.woken = true,
        }
        entry.waker.take()
    });
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Drops the waker of a task that is over, which would keep its cell.
fn forget(slot: u32) {
    let waker =
        TASKS.with_borrow_mut(|tasks| tasks.get_mut(slot as usize).and_then(|entry| entry.waker.take()));
    drop(waker);
}

/// Ends by a trap, for tests of what the application does then.
#[unsafe(no_mangle)]
extern "C" fn trap() {
    std::process::abort();
}

/// A task whose steps are JavaScript's.
struct Body {
    slot: u32,
    sleep: Option<Sleep>,
    ended: bool,
}

impl Future for Body {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        // The waker is known before the step, which may wake its own task.
        let woken = TASKS.with_borrow_mut(|tasks| {
            let entry = &mut tasks[this.slot as usize];
            if !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                entry.waker = Some(cx.waker().clone());
            }
            mem::take(&mut entry.woken) | mem::take(&mut entry.asked)
        });
        if woken {
            this.sleep = None;
        } else if let Some(sleep) = &mut this.sleep {
            if Pin::new(sleep).poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.sleep = None;
        } else {
            return Poll::Pending;
        }
        let next = step(this.slot);
        if next == END {
            // The slot is free, so that the next task may have it before this one is dropped.
            this.ended = true;
            forget(this.slot);
            return Poll::Ready(());
        }
        if next == YIELD {
            wake(this.slot, GO_ON);
        } else if next >= 0.0 {
            let mut sleep = selkie::sleep(duration(next));
            if Pin::new(&mut sleep).poll(cx).is_pending() {
                this.sleep = Some(sleep);
            } else {
                wake(this.slot, GO_ON);
            }
        }
        Poll::Pending
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if !self.ended {
            forget(self.slot);
            dropped(self.slot);
        }
    }
}
