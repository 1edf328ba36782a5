//! What is asked of the host: the functions of `js/host.js`, and the thread's tie to them.
//!
//! Only numbers cross, as `i32` and `f64`: such an import is bound to the snippet's function itself, with no glue
//! between, so that the module can also be started in a Worker where the application's glue cannot be loaded.
//! The host calls back through the module's function table. A `#[wasm_bindgen]` export would show up in the
//! module of every user, and a named raw export would clash with that of another version of this crate.

use std::{cell::Cell, time::Duration};

use wasm_bindgen::prelude::*;

use crate::turn;

#[wasm_bindgen(module = "/js/host.js")]
extern "C" {
    fn attach(table: JsValue, memory: JsValue, turn: f64, call: f64) -> i32;
    #[wasm_bindgen(js_name = open)]
    fn open_loop(instance: i32, slot: i32) -> i32;
    #[wasm_bindgen(js_name = selkie_guard)]
    fn guard_call(instance: i32, address: f64) -> i32;
    #[wasm_bindgen(js_name = selkie_now)]
    fn milliseconds() -> f64;
    #[wasm_bindgen(js_name = selkie_report)]
    fn report_bytes(instance: i32, start: f64, length: f64);

    pub(crate) fn visible() -> i32;
    /// Arms a microtask.
    pub(crate) fn soon(handle: i32);
    /// Arms a macrotask.
    pub(crate) fn later(handle: i32);
    /// Takes back what can be taken back.
    pub(crate) fn disarm(handle: i32);
}

#[wasm_bindgen(module = "/js/moments.js")]
extern "C" {
    #[wasm_bindgen(js_name = ask)]
    fn ask_for(instance: i32, moment: i32, fired: f64, answer: f64) -> i32;
}

#[cfg(target_feature = "atomics")]
#[wasm_bindgen(module = "/js/wake.js")]
extern "C" {
    /// Gives the loop a turn whenever the word at `address` is not 0, until it is disarmed. While that at `behind` is above 0
    /// it need not be at once.
    pub(crate) fn listen(handle: i32, address: f64, behind: f64);
}

/// Takes the name that the host has given to this instance, where that has no glue to ask for one.
pub(crate) fn adopt(instance: i32) {
    INSTANCE.set(Some(instance));
}

/// What the host needs for [`guard`].
pub(crate) fn call_index() -> f64 {
    let call: extern "C" fn(usize) = call;
    call as usize as f64
}

/// What it needs to give turns.
pub(crate) fn turn_index() -> f64 {
    let turn: extern "C" fn(i32, i32) -> f64 = turn::turn;
    turn as usize as f64
}

thread_local! {
    /// The host's name for the instance of the module that runs in this thread.
    static INSTANCE: Cell<Option<i32>> = const { Cell::new(None) };
    static LATEST: Cell<u64> = const { Cell::new(0) };
}

fn instance() -> i32 {
    INSTANCE.get().unwrap_or_else(|| {
        let table = wasm_bindgen::function_table();
        let instance = attach(table, wasm_bindgen::memory(), turn_index(), call_index());
        INSTANCE.set(Some(instance));
        instance
    })
}

/// Answers the host's handle for the loop in `slot` of this thread.
pub(crate) fn open(slot: i32) -> i32 {
    open_loop(instance(), slot)
}

/// Runs `f`; whether it returned. If it trapped the host has caught that, and shown it.
///
/// The caller's frame is whole, and with it the stack of the module: what the trap had taken of it comes back when this
/// returns. So every call by the host that runs code of users goes through here.
pub fn guard(mut f: &mut dyn FnMut()) -> bool {
    #[cfg(target_feature = "atomics")]
    let risks = crate::crew::risks();
    let returned = guard_call(instance(), (&raw mut f) as usize as f64) != 0;
    #[cfg(target_feature = "atomics")]
    if !returned {
        crate::crew::trapped(risks);
    }
    returned
}

/// Called by the host within [`guard`].
#[expect(unsafe_code, reason = "a closure passes through the host as a number")]
extern "C" fn call(address: usize) {
    // SAFETY: `guard`, which is on the stack, has made the address of its own `f`, and uses it no more.
    let f = unsafe { &mut *(address as *mut &mut dyn FnMut()) };
    f();
}

/// A moment that comes once. The same numbers are in `js/moments.js`.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Moment {
    Frame,
    Idle,
    Task,
}

/// Has the host call `fired` with `answer` once when the moment comes; `false` if it never will.
pub(crate) fn ask(moment: Moment, fired: extern "C" fn(usize, f64), answer: usize) -> bool {
    ask_for(instance(), moment as i32, fired as usize as f64, answer as f64) != 0
}

pub(crate) fn now() -> Duration {
    let now = nanos(milliseconds());
    LATEST.set(now);
    Duration::from_nanos(now)
}

/// What the clock last said in this thread, in nanoseconds. To read it costs as much as ten polls.
pub(crate) fn latest() -> u64 {
    LATEST.get()
}

pub(crate) fn duration(milliseconds: f64) -> Duration {
    Duration::from_nanos(nanos(milliseconds))
}

fn nanos(milliseconds: f64) -> u64 {
    (milliseconds * 1e6) as u64
}

pub(crate) fn report(message: &str) {
    report_bytes(instance(), message.as_ptr() as usize as f64, message.len() as f64);
}
