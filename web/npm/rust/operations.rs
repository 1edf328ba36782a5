//! Operations: what ends once and then calls JavaScript.

use std::{cell::RefCell, future::Future, pin::Pin};

use selkie::{Builder, Handle, Task};

use crate::{duration, event_loop, fire, priority};

enum Operation {
    Call(Handle),
    Wait(Task<()>),
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
    start(slot, Task::<()>::builder().priority(priority(number)).lazy(), None);
}

/// Makes sure that the operation does not fire.
#[unsafe(no_mangle)]
extern "C" fn revoke(slot: u32) {
    match take(slot) {
        Some(Operation::Call(handle)) => drop(handle.cancel()),
        Some(Operation::Wait(task)) => drop(task.cancel()),
        None => {}
    }
}

/// Fires with what `future` answers, which has its place in whatever list it waits in when this returns.
///
/// JavaScript has looked before that it has to wait.
pub(crate) fn wait(slot: u32, future: impl Future<Output = f64> + 'static) {
    wait_boxed(slot, Box::pin(future));
}

#[inline(never)]
fn wait_boxed(slot: u32, future: Pin<Box<dyn Future<Output = f64>>>) {
    start(slot, Task::<()>::builder(), Some(future));
}

/// One type of task for all: each more would cost two kilobytes.
fn start(slot: u32, builder: Builder, future: Option<Pin<Box<dyn Future<Output = f64>>>>) {
    let operation = async move {
        let value = match future {
            Some(future) => future.await,
            None => 0.0,
        };
        end(slot, value);
    };
    if let Ok(task) = event_loop().spawn_with(builder, operation) {
        if !task.is_finished() {
            keep(slot, Operation::Wait(task));
        }
    }
}
