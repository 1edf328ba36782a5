//! Operations: what ends once and then calls JavaScript.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use selkie::{Builder, Handle, Task};

use crate::{duration, event_loop, fire, priority};

/// A future that can be dropped before its task is. None is as one that is ready.
type Waiting = Rc<RefCell<Option<Pin<Box<dyn Future<Output = f64>>>>>>;

enum Operation {
    Call(Handle),
    /// And whether what is done of it cannot be undone.
    Wait(Task<()>, Waiting, bool),
}

thread_local! {
    /// By the slots of JavaScript, which uses one again after the operation has fired or was revoked.
    static OPERATIONS: RefCell<Vec<Option<Operation>>> = const { RefCell::new(Vec::new()) };
}

fn keep(slot: u32, operation: Operation) {
    let before = OPERATIONS.with_borrow_mut(|operations| {
        let index = slot as usize;
        if operations.len() <= index {
            operations.resize_with(index + 1, || None);
        }
        operations[index].replace(operation)
    });
    drop(before);
}

fn take(slot: u32) -> Option<Operation> {
    OPERATIONS.with_borrow_mut(|operations| operations.get_mut(slot as usize)?.take())
}

pub(crate) fn clear() {
    let all = OPERATIONS.take();
    drop(all);
}

fn end(slot: u32, value: f64) {
    // First, as JavaScript may use the slot at once.
    drop(take(slot));
    fire(slot, value);
}

/// Fires after so many milliseconds.
#[unsafe(no_mangle)]
extern "C" fn timer(slot: u32, milliseconds: f64) {
    if let Ok(handle) = event_loop().call_later(duration(milliseconds), move || end(slot, 0.0)) {
        keep(slot, Operation::Call(handle));
    }
}

/// Fires at the loop's next turn, after what is ready in that lane.
#[unsafe(no_mangle)]
extern "C" fn soon(slot: u32, number: u32) {
    start(slot, Task::<()>::builder().priority(priority(number)).lazy(), Rc::default(), false);
}

/// Makes sure that the operation does not fire. What it waits in forgets it at once: an item that is given up must not get
/// into a queue afterwards, nor one get lost on the way to who has left. Answers 1 if it was done just before, for good.
#[unsafe(no_mangle)]
extern "C" fn revoke(slot: u32) -> u32 {
    match take(slot) {
        Some(Operation::Call(handle)) => drop(handle.cancel()),
        Some(Operation::Wait(task, future, lasts)) => {
            let mut gone = future.take();
            let done = gone.as_mut().filter(|_| lasts).is_some_and(|future| {
                future.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(0.0)
            });
            drop(gone);
            task.cancel();
            return done.into();
        }
        None => {}
    }
    0
}

/// Fires with what `future` answers, which has its place in whatever list it waits in when this returns.
///
/// JavaScript has looked before that it has to wait.
pub(crate) fn wait(slot: u32, future: impl Future<Output = f64> + 'static) {
    start(slot, Task::<()>::builder(), Rc::new(RefCell::new(Some(Box::pin(future)))), false);
}

/// As [`wait`], for what cannot be undone once it was done, also if its turn has not come yet.
pub(crate) fn wait_for_good(slot: u32, future: impl Future<Output = f64> + 'static) {
    start(slot, Task::<()>::builder(), Rc::new(RefCell::new(Some(Box::pin(future)))), true);
}

/// One type of task for all: each more would cost two kilobytes.
#[inline(never)]
fn start(slot: u32, builder: Builder, future: Waiting, lasts: bool) {
    let shared = future.clone();
    let operation = async move {
        let value = poll_fn(|cx| match &mut *shared.borrow_mut() {
            Some(future) => future.as_mut().poll(cx),
            None => Poll::Ready(0.0),
        });
        let value = value.await;
        end(slot, value);
    };
    if let Ok(task) = event_loop().spawn_with(builder, operation) {
        if !task.is_finished() {
            keep(slot, Operation::Wait(task, future, lasts));
        }
    }
}
