//! Queues and locks. Their items are numbers that JavaScript has values for.

use std::{cell::RefCell, rc::Rc};

use selkie::{Barrier, GetError, Lock, PutError, local};

use crate::operations::{wait, wait_for_good};

/// Instead of an item: there is none, or no room; and: there will be none, or the barrier is broken.
const NOT_NOW: f64 = -1.0;
const NEVER: f64 = -2.0;

type Queue = local::PriorityQueue<i64, u32>;

// Which thing is what is known to JavaScript.
#[derive(Clone)]
enum Thing {
    Queue(Queue),
    Semaphore(Rc<local::Semaphore>),
    Event(Rc<local::Event>),
    Condition(Rc<local::Condition>),
    Barrier(Rc<Barrier>),
}

#[derive(Default)]
struct Things {
    list: Vec<Option<Thing>>,
    free: Vec<u32>,
}

thread_local! {
    static THINGS: RefCell<Things> = const { RefCell::new(Things { list: Vec::new(), free: Vec::new() }) };
}

pub(crate) fn clear() {
    let all = THINGS.take();
    drop(all);
}

fn add(thing: Thing) -> u32 {
    THINGS.with_borrow_mut(|things| {
        if let Some(id) = things.free.pop() {
            things.list[id as usize] = Some(thing);
            return id;
        }
        things.list.push(Some(thing));
        things.list.len() as u32 - 1
    })
}

fn get(id: u32) -> Thing {
    THINGS.with_borrow(|things| things.list[id as usize].clone().expect("not released"))
}

/// Nobody in JavaScript can name the thing any more.
#[unsafe(no_mangle)]
extern "C" fn release(id: u32) {
    let thing = THINGS.with_borrow_mut(|things| {
        let thing = things.list.get_mut(id as usize).and_then(Option::take);
        if thing.is_some() {
            things.free.push(id);
        }
        thing
    });
    drop(thing);
}

/// A queue that gives the item with the smallest order first, and of equal ones the first; no limit if `limit` is 0.
///
/// One kind serves all: JavaScript gives equal orders for first in, first out, and falling ones for last in, first out.
#[unsafe(no_mangle)]
extern "C" fn queue(limit: u32) -> u32 {
    let queue = if limit == 0 { Queue::unbounded() } else { Queue::bounded(limit as usize) };
    add(Thing::Queue(queue))
}

fn a_queue(id: u32) -> Queue {
    match get(id) {
        Thing::Queue(queue) => queue,
        _ => unreachable!(),
    }
}

/// The order of the numbers of JavaScript as that of integers: the bits of those below zero count backwards.
fn key(number: f64) -> i64 {
    let bits = number.to_bits() as i64;
    if bits < 0 { i64::MIN.wrapping_sub(bits) } else { bits }
}

#[unsafe(no_mangle)]
extern "C" fn try_put(id: u32, item: u32, order: f64) -> f64 {
    match a_queue(id).try_put((key(order), item)) {
        Ok(()) => 0.0,
        Err(PutError::Full(_)) => NOT_NOW,
        Err(_) => NEVER,
    }
}

#[unsafe(no_mangle)]
extern "C" fn put(slot: u32, id: u32, item: u32, order: f64) {
    let queue = a_queue(id);
    // Whoever takes lets the item of the next putter in.
    wait_for_good(slot, async move { queue.put((key(order), item)).await.map_or(NEVER, |()| 0.0) });
}

#[unsafe(no_mangle)]
extern "C" fn try_take(id: u32) -> f64 {
    match a_queue(id).try_get() {
        Ok((_, item)) => f64::from(item),
        Err(GetError::Empty) => NOT_NOW,
        Err(_) => NEVER,
    }
}

#[unsafe(no_mangle)]
extern "C" fn take(slot: u32, id: u32) {
    let queue = a_queue(id);
    wait(slot, async move { queue.get().await.map_or(NEVER, |(_, item)| f64::from(item)) });
}

/// One item is worked off; answers 0 if there is none that was not.
#[unsafe(no_mangle)]
extern "C" fn task_done(id: u32) -> u32 {
    let queue = a_queue(id);
    if queue.statistics().unfinished == 0 {
        return 0;
    }
    queue.task_done();
    1
}

/// Fires when every item that was put is worked off.
#[unsafe(no_mangle)]
extern "C" fn join(slot: u32, id: u32) {
    let queue = a_queue(id);
    wait(slot, async move {
        queue.join().await;
        0.0
    });
}

#[unsafe(no_mangle)]
extern "C" fn shut_down(id: u32, immediate: u32) {
    a_queue(id).shutdown(immediate != 0);
}

#[unsafe(no_mangle)]
extern "C" fn len(id: u32) -> u32 {
    a_queue(id).len() as u32
}

#[unsafe(no_mangle)]
extern "C" fn semaphore(permits: u32) -> u32 {
    add(Thing::Semaphore(Rc::new(local::Semaphore::local(permits as usize))))
}

fn a_semaphore(id: u32) -> Rc<local::Semaphore> {
    match get(id) {
        Thing::Semaphore(semaphore) => semaphore,
        _ => unreachable!(),
    }
}

#[unsafe(no_mangle)]
extern "C" fn try_acquire(id: u32) -> u32 {
    a_semaphore(id).try_acquire().map_or(0, |permit| {
        permit.forget();
        1
    })
}

#[unsafe(no_mangle)]
extern "C" fn acquire(slot: u32, id: u32) {
    let semaphore = a_semaphore(id);
    wait(slot, async move {
        semaphore.acquire().await.forget();
        0.0
    });
}

/// Gives a permit back.
#[unsafe(no_mangle)]
extern "C" fn give(id: u32) {
    a_semaphore(id).release(1);
}

#[unsafe(no_mangle)]
extern "C" fn available(id: u32) -> u32 {
    a_semaphore(id).available() as u32
}

#[unsafe(no_mangle)]
extern "C" fn event() -> u32 {
    add(Thing::Event(Rc::new(local::Event::local())))
}

#[unsafe(no_mangle)]
extern "C" fn condition() -> u32 {
    add(Thing::Condition(Rc::new(local::Condition::local())))
}

#[unsafe(no_mangle)]
extern "C" fn barrier(parties: u32) -> u32 {
    add(Thing::Barrier(Rc::new(Barrier::new(parties as usize))))
}

/// Sets an event, or clears it.
#[unsafe(no_mangle)]
extern "C" fn set(id: u32, on: u32) {
    if let Thing::Event(event) = get(id) {
        if on != 0 { event.set() } else { event.clear() }
    }
}

/// Wakes so many of those who wait for a condition, in their order.
#[unsafe(no_mangle)]
extern "C" fn notify(id: u32, count: u32) {
    if let Thing::Condition(condition) = get(id) {
        condition.notify(count as usize);
    }
}

/// Breaks a barrier for all who wait, for good; or only for these.
#[unsafe(no_mangle)]
extern "C" fn break_barrier(id: u32, for_good: u32) {
    if let Thing::Barrier(barrier) = get(id) {
        if for_good != 0 { barrier.abort() } else { barrier.reset() }
    }
}

/// Fires when an event is set, a condition was notified, or all have come to a barrier, with the place of arrival.
#[unsafe(no_mangle)]
extern "C" fn wait_for(slot: u32, id: u32) {
    match get(id) {
        Thing::Event(event) => wait(slot, async move {
            event.wait().await;
            0.0
        }),
        Thing::Condition(condition) => wait(slot, async move {
            // The lock that protects what is waited for is JavaScript's to release and to take again.
            let unused = Lock::local(());
            drop(condition.wait(unused.lock().await).await);
            0.0
        }),
        Thing::Barrier(barrier) => {
            wait(slot, async move { barrier.wait().await.map_or(NEVER, |place| place as f64) });
        }
        _ => {}
    }
}
