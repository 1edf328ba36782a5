//! Web Workers with an instance of the module of their own: both ends.
//!
//! They need no shared memory, hence no isolation of the page. The compiled module is posted to them, not fetched again, and
//! each side hands the host its functions by their places in the table. `js/isolated.js` is what the page does,
//! `js/isolated-worker.js` what the Worker does.
//!
//! # The one export
//!
//! Constructors, by which functions register, are run by a wrapper that the linker puts around each *exported* function, and the
//! start of a module need not come by one. So the crate `selkie` exports `__selkie_isolated_0_1`, with the version for the sake of a
//! module that has two. It is called where the registry is about to be looked at, and in a Worker it serves, also when the program's
//! own start, as that of a test, does not divert. It comes by [`serve`] through the registry only, so a program that registers
//! nothing has no more of all this than the question whether it is in such a Worker.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc, time::Duration};

use selkie_platform::{Isolate, IsolateEnd, IsolateEvents, IsolateOptions, Unavailable};
use wasm_bindgen::prelude::*;

use crate::host;

#[wasm_bindgen(module = "/js/isolated.js")]
extern "C" {
    fn available() -> i32;
    fn attach(module: JsValue, exports: JsValue, memory: JsValue, table: JsValue, take: f64, event: f64);
    #[wasm_bindgen(js_name = use)]
    fn use_entry(make: JsValue);
    fn start(idle: f64, limit: f64, address: f64, length: f64) -> f64;
    fn post(worker: f64, address: f64, length: f64);
    fn stop(worker: f64);
}

#[wasm_bindgen(module = "/js/isolated-worker.js")]
extern "C" {
    fn adopt(memory: JsValue, table: JsValue);
    // A Worker without glue knows these by their first letters.
    #[wasm_bindgen(js_name = selkie_serve)]
    fn serve_requests(
        take: f64,
        named: f64,
        answer: f64,
        turn: f64,
        call: f64,
        address: f64,
        length: f64,
    ) -> i32;
    #[wasm_bindgen(js_name = selkie_reply)]
    fn reply(address: f64, length: f64);
    #[wasm_bindgen(js_name = selkie_panicked)]
    fn panicked(address: f64, length: f64);
}

#[wasm_bindgen(module = "/js/host.js")]
extern "C" {
    #[wasm_bindgen(js_name = selkie_role)]
    fn role() -> i32;
    #[wasm_bindgen(js_name = enter)]
    fn enter_by(exports: JsValue);
}

/// A Worker with glue, that the user's own entry has started.
const WITH_GLUE: i32 = 2;

/// What the host tells, as in `js/isolated.js`.
const MESSAGE: i32 = 0;
const IDLE: i32 = 1;
const PANICKED: i32 = 3;

type Answer = fn(&str, &[u8]) -> Vec<u8>;

#[derive(Default)]
struct Page {
    attached: bool,
    workers: BTreeMap<u64, Arc<dyn IsolateEvents>>,
}

thread_local! {
    static PAGE: RefCell<Page> = RefCell::default();
    /// In a Worker: its name, and what answers.
    static ROLE: RefCell<(String, Option<Answer>)> = const { RefCell::new((String::new(), None)) };
    /// What the host is about to hand over.
    static TAKEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Prepares this thread for Workers of its own.
///
/// # Errors
///
/// [`Unavailable`] where there can be none, as under Node, and in a thread that parks, where no event of theirs would come.
pub fn check() -> Result<(), Unavailable> {
    #[cfg(target_feature = "atomics")]
    if crate::crew::parks() {
        return Err(Unavailable::new(
            "a thread of the program has no Workers of its own: make the `IsolatedPool` in a task of the page's loop",
        ));
    }
    if available() == 0 {
        return Err(Unavailable::new(
            "this host has no Web Workers: in Node, split the work into tasks or start processes of its own",
        ));
    }
    if !PAGE.with_borrow_mut(|page| std::mem::replace(&mut page.attached, true)) {
        let take: extern "C" fn(f64) -> f64 = take;
        let event: extern "C" fn(f64, i32, f64, f64) -> i32 = event;
        let (module, exports) = (wasm_bindgen::module(), wasm_bindgen::exports());
        let (memory, table) = (wasm_bindgen::memory(), wasm_bindgen::function_table());
        attach(module, exports, memory, table, take as usize as f64, event as usize as f64);
    }
    Ok(())
}

/// Has `make`, a function of JavaScript that answers a Worker, make all further ones.
pub fn set_worker(make: JsValue) {
    use_entry(make);
}

struct Worker(f64);

impl Isolate for Worker {
    fn post(&self, message: Vec<u8>) {
        post(self.0, address(&message), message.len() as f64);
    }

    fn kill(&self) {
        stop(self.0);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        stop(self.0);
    }
}

/// Starts a Worker. It runs the program's start, and then the module's export `__selkie_isolated_0_1`, which calls
/// [`serve`].
///
/// # Errors
///
/// As [`check`].
pub fn spawn(
    options: &IsolateOptions,
    events: Arc<dyn IsolateEvents>,
) -> Result<Box<dyn Isolate>, Unavailable> {
    check()?;
    let (idle, limit) = (milliseconds(options.idle), milliseconds(options.start));
    let name = options.name.as_bytes();
    let worker = start(idle, limit, address(name), name.len() as f64);
    PAGE.with_borrow_mut(|page| page.workers.insert(worker as u64, events));
    Ok(Box::new(Worker(worker)))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn address(bytes: &[u8]) -> f64 {
    bytes.as_ptr() as usize as f64
}

/// Called by the host: makes room for what it is about to hand over. Answers -1 if there is none.
extern "C" fn take(length: f64) -> f64 {
    let mut room = Vec::new();
    if room.try_reserve_exact(length as usize).is_err() {
        return -1.0;
    }
    room.resize(length as usize, 0);
    let address = address(&room);
    TAKEN.set(room);
    address
}

/// Called by the host, after `take`.
extern "C" fn event(worker: f64, kind: i32, _address: f64, _length: f64) -> i32 {
    let mut message = TAKEN.take();
    let ended = kind != MESSAGE && kind != IDLE;
    let events = PAGE.with_borrow_mut(|page| match ended {
        true => page.workers.remove(&(worker as u64)),
        false => page.workers.get(&(worker as u64)).cloned(),
    });
    let Some(events) = events else { return 1 };
    let mut answer = 0;
    // Callbacks of users run in it.
    host::guard(&mut || {
        let message = std::mem::take(&mut message);
        match kind {
            MESSAGE => events.message(message),
            IDLE => answer = i32::from(events.idle()),
            kind => {
                let text = String::from_utf8_lossy(&message).into_owned();
                events.ended(if kind == PANICKED {
                    IsolateEnd::Panicked(text)
                } else {
                    IsolateEnd::Died(text)
                });
            }
        }
    });
    answer
}

/// Whether this thread is such a Worker. One of the crew is none, and may have no JavaScript to ask.
pub fn is_worker() -> bool {
    #[cfg(target_feature = "atomics")]
    if crate::crew::is_member() {
        return false;
    }
    role() != 0
}

/// Has the entrance come by [`serve`], in such a Worker. Without glue that is called once the program's start is over.
pub fn enter() {
    if role() == WITH_GLUE {
        enter_by(wasm_bindgen::exports());
    }
}

/// Has `answer` answer all that the page asks, after `hello`; returns at once, and does nothing the second time. Called by the
/// module's entrance.
pub fn serve(hello: fn() -> Vec<u8>, answer: Answer) {
    if ROLE.with_borrow_mut(|role| role.1.replace(answer)).is_some() {
        return;
    }
    if role() == WITH_GLUE {
        adopt(wasm_bindgen::memory(), wasm_bindgen::function_table());
    }
    let hello = hello();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("a value that is no text");
        panicked(address(message.as_bytes()), message.len() as f64);
        before(panic);
    }));
    let take: extern "C" fn(f64) -> f64 = take;
    let named: extern "C" fn(f64, f64) = named;
    let request: extern "C" fn(f64, f64) = request;
    let instance = serve_requests(
        take as usize as f64,
        named as usize as f64,
        request as usize as f64,
        host::turn_index(),
        host::call_index(),
        address(&hello),
        hello.len() as f64,
    );
    // Without glue it could not ask for one.
    host::adopt(instance);
}

/// Called by the host, after `take`, within [`serve`].
extern "C" fn named(_address: f64, _length: f64) {
    let name = String::from_utf8_lossy(&TAKEN.take()).into_owned();
    ROLE.with_borrow_mut(|role| role.0 = name);
}

/// Called by the host, after `take`.
extern "C" fn request(_address: f64, _length: f64) {
    let message = TAKEN.take();
    let (name, answer) = ROLE.with_borrow(Clone::clone);
    if let Some(answer) = answer {
        let bytes = answer(&name, &message);
        reply(address(&bytes), bytes.len() as f64);
    }
}
