//! What the browser and Node have beyond the common ground: promises, abort signals, frames.

mod forever;
#[cfg(not(target_feature = "atomics"))]
mod one_thread;
mod owed;
#[cfg(target_feature = "atomics")]
mod threads;

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    marker::PhantomData,
    panic::AssertUnwindSafe,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use js_sys::{Function, Promise};
use selkie_platform::{Isolate, IsolateEvents, IsolateOptions, Platform, Unavailable};
pub use selkie_web::interop::{idle, is_visible, next_frame, yield_to_page};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
pub use wasm_bindgen_futures::JsFuture;

pub use self::forever::{Stopped, run_forever};
#[cfg(not(target_feature = "atomics"))]
pub(crate) use self::one_thread::{LOSES_THREADS, Pool, Workers, block, lock, may_wait, thread_name};
#[cfg(not(target_feature = "atomics"))]
use self::one_thread::{keep, poll_up};
pub(crate) use self::owed::{at_risk, owes, work};
#[cfg(target_feature = "atomics")]
pub(crate) use self::threads::{LOSES_THREADS, Pool, Workers, block, lock, may_wait, thread_name};
#[cfg(target_feature = "atomics")]
use self::threads::{keep, poll_up};
use crate::{
    AnyTask, EventLoop, JoinError, LoopHandle, Task,
    isolated::job::{self, Registered},
    remote::Shared,
    task::{EndHook, TaskRef},
};

pub(crate) fn host() -> Arc<dyn Platform> {
    Arc::new(selkie_web::Web::new())
}

pub(crate) use selkie_web::{guard, relax};

/// The result of a future that is kept by its task: on the web none is.
pub(crate) struct Carried<T>(Infallible, PhantomData<fn() -> T>);

impl<T: Send> Carried<T> {
    pub(crate) fn is_finished(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn is_done(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn poll_done(&mut self, _: &Waker) -> bool {
        match self.0 {}
    }

    pub(crate) fn take(&mut self) -> Result<Option<Result<T, JoinError>>, &Shared<T>> {
        match self.0 {}
    }

    pub(crate) fn share(&self) -> Option<Arc<Shared<T>>> {
        match self.0 {}
    }
}

/// Whether code may end by a trap, which runs no destructor.
pub(crate) const TRAPS: bool = true;

/// Ends as a trap that was caught and has to go on.
#[cold]
pub(crate) fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

pub(crate) fn report(message: &str) {
    host().report(message);
}

/// The thread that the Workers of an isolated pool belong to: the one that made the pool.
pub(crate) struct Home {
    here: usize,
    /// In a build with threads, what others reach it by.
    event_loop: Option<LoopHandle>,
}

impl Home {
    pub(crate) fn new() -> Self {
        let threads = cfg!(target_feature = "atomics");
        let event_loop = threads.then(default_loop).flatten().map(|event_loop| event_loop.handle());
        Self { here: selkie_web::here(), event_loop }
    }

    pub(crate) fn run(&self, f: impl FnOnce() + Send + 'static) {
        match &self.event_loop {
            Some(event_loop) if self.here != selkie_web::here() => {
                // A loop that is closed has gone with its thread, and the Workers with that.
                let _ = event_loop.call_soon_threadsafe(f);
            }
            _ => f(),
        }
    }
}

/// Whether isolated pools can be had here.
pub(crate) fn check_isolated() -> Result<(), Unavailable> {
    // Its Workers would belong to this thread, which other threads do not reach while it waits.
    if may_wait() {
        return Err(Unavailable::new(
            "a thread of the program has no Workers of its own: make the pool in a task of the page's loop, for all to use",
        ));
    }
    selkie_web::isolated::check()
}

pub(crate) fn spawn_isolate(
    options: IsolateOptions,
    events: Arc<dyn IsolateEvents>,
) -> Result<Box<dyn Isolate>, Unavailable> {
    selkie_web::isolated::spawn(&options, events)
}

/// The entrance of a Worker, and where constructors are run; see `selkie_web::isolated`.
#[expect(unsafe_code, reason = "an export has a name in common with all of the module")]
// SAFETY: nothing else has this name: it is not one that a program would choose, and it has the version.
#[unsafe(export_name = "__selkie_isolated_0_1")]
extern "C" fn isolated_worker() {
    if !is_isolated_worker() || crate::isolated::worker().is_some() {
        return;
    }
    // Without a function there is no Worker: its pool could not be asked for anything.
    if let Some(registered) = inventory::iter::<Registered>.into_iter().next() {
        (registered.serve)();
    }
}

/// Answers requests from here on. Called by way of the registry.
pub(crate) fn serve_isolated() {
    selkie_web::isolated::serve(job::hello, job::answer);
}

pub(crate) fn is_isolated_worker() -> bool {
    selkie_web::isolated::is_worker()
}

/// Whether the caller is to do nothing, as this is a Worker and serves from here on.
pub(crate) fn divert() -> bool {
    // A job may start what it likes.
    let worker = is_isolated_worker() && crate::isolated::worker().is_none();
    if worker {
        selkie_web::isolated::enter();
    }
    worker
}

/// Has the Workers of [`IsolatedPool`](crate::IsolatedPool)s made by `make`, so that their jobs can call JavaScript.
///
/// Without it a Worker has the module but not the glue that `wasm-bindgen` made for the application: that cannot be found from
/// inside a library once a bundler has been at work. Such jobs may compute whatever they like; one that calls js-sys, web-sys or
/// a function of yours ends with a [crash](crate::JoinError::is_crashed) that names the missing function.
///
/// `make` is a function of JavaScript that answers a Worker whose file loads the glue, in these two lines:
///
/// ```js
/// // worker.js
/// import init from './pkg/app.js';
/// onmessage = ({ data }) => init((globalThis.selkieIsolated = data));
///
/// // beside the page's own code
/// const make = () => new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
/// ```
///
/// `None` is the usual way again. It holds for the calling thread, and for Workers that start from then on. In the Worker the program's start (`main`, or a
/// function under `#[wasm_bindgen(start)]`) has to come by a place that [diverts](mod@crate::isolated).
pub fn set_isolated_worker(make: Option<&Function>) {
    selkie_web::isolated::set_worker(make.into());
}

/// In a build with threads: has `count` Workers there from now on, and waits until they are.
///
/// A thread of the program runs in a Worker. A browser takes 30 to 60 ms until a new one has come up, so the program uses its Workers
/// again; but one that was free for 5 seconds retires, and then the next job waits for another to come up. Here a
/// program says how many it wants to have at hand whatever happens: those that are missing are started at the call, and
/// while there are no more than `count`, busy ones included, none retires. More than that come and go as before. A Worker that
/// is free costs some megabytes of the host, and its stack of 1 MiB.
///
/// The last call counts, from whichever thread; `keep_workers(0)` is how a program begins. One that dies is not replaced before
/// the next call, or before a thread needs one. In Node, Workers that are kept and free do not hold the process.
///
/// ```no_run
/// # async fn demo() -> Result<(), selkie::Unavailable> {
/// // As the page loads, so that the first click is as fast as the tenth.
/// selkie::os::web::keep_workers(2).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Unavailable`] where there are no threads, above 128, and if a Worker does not come up. Those that did are kept.
///
/// # Cancel safety
///
/// What is started and kept is so since the call; the future only waits.
#[doc(alias = "warm_up")]
pub fn keep_workers(count: usize) -> impl Future<Output = Result<(), Unavailable>> + Send {
    let kept = keep(count);
    poll_fn(move |cx| match &kept {
        Ok(()) => poll_up(count, cx.waker()),
        Err(error) => Poll::Ready(Err(error.clone())),
    })
}

thread_local! {
    static DEFAULT: RefCell<Option<EventLoop>> = const { RefCell::new(None) };
}

/// The loop that `spawn` uses where none runs: made and started on first use, and again on the next use after somebody has stopped
/// or closed it.
///
/// A thread that blocks gives a loop no turns between, so there is none.
pub(crate) fn default_loop() -> Option<EventLoop> {
    if may_wait() {
        return None;
    }
    let made = DEFAULT.try_with(|default| {
        let mut default = default.borrow_mut();
        match &*default {
            Some(event_loop) if !event_loop.is_closed() => {
                let scheduler = event_loop.scheduler();
                // It may have been told to, and not have come to it.
                scheduler.stop.set(false);
                (event_loop.clone(), !scheduler.driven.get())
            }
            _ => {
                let event_loop = EventLoop::new();
                *default = Some(event_loop.clone());
                (event_loop, true)
            }
        }
    });
    let (event_loop, is_idle) = made.ok()?;
    if is_idle {
        event_loop.drive(false);
    }
    Some(event_loop)
}

/// `run` cannot get here: the host cannot block.
pub(crate) fn cancelled_main(error: &JoinError) -> ! {
    panic!("{error}")
}

/// `#[selkie::main]`.
#[doc(hidden)]
pub fn main<F>(f: impl FnOnce() -> F)
where
    F: Future + 'static,
    F::Output: MainOutput + 'static,
{
    if crate::isolated::divert() {
        return;
    }
    show_panics();
    let main = f();
    let started = crate::start(async move {
        if let Some(error) = main.await.error() {
            report(&format!("Error: {error}"));
        }
    });
    if let Err(error) = started {
        report(&format!("selkie: {error}"));
    }
}

/// Standard error is nowhere here, so a program's panics would be seen by nobody.
fn show_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(&panic.to_string());
        before(panic);
    }));
}

/// What `#[selkie::main]` may return in a browser.
#[doc(hidden)]
pub trait MainOutput {
    /// The text of an error.
    fn error(&self) -> Option<String>;
}

impl MainOutput for () {
    fn error(&self) -> Option<String> {
        None
    }
}

impl MainOutput for std::process::ExitCode {
    fn error(&self) -> Option<String> {
        (*self != std::process::ExitCode::SUCCESS).then(|| format!("{self:?}"))
    }
}

impl MainOutput for std::convert::Infallible {
    fn error(&self) -> Option<String> {
        match *self {}
    }
}

impl<T: MainOutput, E: std::fmt::Debug> MainOutput for Result<T, E> {
    fn error(&self) -> Option<String> {
        match self {
            Ok(output) => output.error(),
            Err(error) => Some(format!("{error:?}")),
        }
    }
}

/// `#[selkie::test]`.
#[doc(hidden)]
pub async fn test<F>(f: impl FnOnce() -> F) -> F::Output
where
    F: Future + 'static,
    F::Output: 'static,
{
    match crate::spawn_lazy(f()).await {
        Ok(output) => output,
        Err(error) => panic!("{error}"),
    }
}

/// What a promise can be fulfilled with: all that a [`JsValue`] can be made from, and `()`, which becomes `undefined`.
///
/// `Kind` is found by the compiler: it keeps apart the implementation for `()` and the general one, which wasm-bindgen might make
/// one for `()` as well some day.
pub trait PromiseValue<Kind>: 'static {
    #[doc(hidden)]
    fn into_value(self) -> JsValue;
}

#[doc(hidden)]
#[derive(Debug)]
pub enum Unit {}

#[doc(hidden)]
#[derive(Debug)]
pub enum Value {}

impl PromiseValue<Unit> for () {
    fn into_value(self) -> JsValue {
        JsValue::UNDEFINED
    }
}

impl<T: Into<JsValue> + 'static> PromiseValue<Value> for T {
    fn into_value(self) -> JsValue {
        self.into()
    }
}

/// A promise that settles as `task` ends, for JavaScript to await.
///
/// It is fulfilled with the task's value, and with `undefined` if that is `()`. A task that was cancelled, also by the end of its
/// loop, or failed rejects it with an `Error` whose message says why and whose `name` is `AbortError` for a cancelled one, as
/// fetch has it. The task may be of any loop of this thread, and runs on if nobody keeps the promise.
pub fn into_promise<T: PromiseValue<Kind>, Kind>(task: Task<T>) -> Promise {
    settle(task, |result| result.map(T::into_value).map_err(|error| to_error(&error)))
}

/// As [`into_promise`], for a task whose own `Err` rejects the promise as it is.
pub fn try_into_promise<T, E, Kind>(task: Task<Result<T, E>>) -> Promise
where
    T: PromiseValue<Kind>,
    E: Into<JsValue> + 'static,
{
    settle(task, |result| match result {
        Ok(result) => result.map(T::into_value).map_err(Into::into),
        Err(error) => Err(to_error(&error)),
    })
}

/// A promise that settles with what `convert` makes of the task's result.
fn settle<T: 'static>(
    task: Task<T>,
    convert: fn(Result<T, JoinError>) -> Result<JsValue, JsValue>,
) -> Promise {
    // A panic of the spawn ends its task, and leaves nothing of this half done.
    let mut task = AssertUnwindSafe(Some(task));
    Promise::new(&mut move |fulfil, reject| {
        let Some(task) = task.take() else { return };
        let promise = Settle { fulfil, reject };
        let scheduler = task.raw().scheduler().this();
        // A closed loop has ended it, and no task could wait for that there.
        let task = match if scheduler.is_closed() { task.try_into_result() } else { Err(task) } {
            Ok(result) => return promise.with(convert(result)),
            Err(task) => task,
        };
        let settled = promise.clone();
        let waiter = async move { settled.with(convert(task.await)) };
        // Of the task's own loop: another one must not wait for it.
        let waiter = Task::builder().spawn_in(&scheduler, waiter);
        waiter.raw().mark_quiet();
        // It may go with its loop, and what a value is turned into by code of users may fail.
        if waiter.is_finished() {
            promise.ended(waiter.raw());
        } else {
            waiter.raw().cold(|cold| cold.end_hook = Some(Rc::new(promise)));
        }
        waiter.detach();
    })
}

/// The functions of a promise. The first call counts, and they do not throw.
#[derive(Clone)]
struct Settle {
    fulfil: Function,
    reject: Function,
}

impl Settle {
    fn with(&self, result: Result<JsValue, JsValue>) {
        let _ = match result {
            Ok(value) => self.fulfil.call1(&JsValue::UNDEFINED, &value),
            Err(error) => self.reject.call1(&JsValue::UNDEFINED, &error),
        };
    }
}

impl EndHook for Settle {
    fn ended(&self, waiter: &TaskRef) {
        if waiter.is_failed() {
            self.with(Err(new_error(&waiter.error_text(), waiter.is_cancelled())));
        }
    }
}

fn to_error(error: &JoinError) -> JsValue {
    new_error(&error.to_string(), error.is_cancelled())
}

fn new_error(message: &str, is_abort: bool) -> JsValue {
    let error = js_sys::Error::new(message);
    if is_abort {
        error.set_name("AbortError");
    }
    error.into()
}

/// Waits for a promise of JavaScript: `Ok` with what it was fulfilled with, `Err` with what it was rejected with.
///
/// Dropping the future does not stop what the promise stands for; pass an [`abort_signal`] to what made it. But nothing of it stays
/// with the promise, which may never settle.
pub fn from_promise(promise: Promise) -> FromPromise {
    let settled = Rc::new(Settled::default());
    let [fulfilled, rejected] = [Ok, Err].map(|of: fn(JsValue) -> Result<JsValue, JsValue>| {
        let settled = settled.clone();
        Closure::<dyn FnMut(JsValue)>::own_assert_unwind_safe(move |value| settled.with(of(value)))
    });
    let _ = promise.then2(&fulfilled, &rejected);
    settled.functions.set(Some([fulfilled, rejected]));
    FromPromise { settled }
}

/// The future of [`from_promise`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct FromPromise {
    settled: Rc<Settled>,
}

#[derive(Default)]
struct Settled {
    result: Cell<Option<Result<JsValue, JsValue>>>,
    waker: Cell<Option<Waker>>,
    /// They keep this; so they are taken away by what comes first, the result or the end of the future.
    functions: Cell<Option<[Closure<dyn FnMut(JsValue)>; 2]>>,
}

impl Settled {
    fn with(&self, result: Result<JsValue, JsValue>) {
        self.result.set(Some(result));
        // The waker may be anybody's.
        let mut waker = self.waker.take();
        guard(&mut || waker.take().into_iter().for_each(Waker::wake));
        drop(self.functions.take());
    }
}

impl Future for FromPromise {
    type Output = Result<JsValue, JsValue>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(result) = self.settled.result.take() {
            return Poll::Ready(result);
        }
        self.settled.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for FromPromise {
    fn drop(&mut self) {
        drop(self.settled.waker.take());
        // The promise may still call one of them. When it is no more, JavaScript lets go of them, and they of the rest.
        for function in self.settled.functions.take().into_iter().flatten() {
            drop(function.into_js_value());
        }
    }
}

impl fmt::Debug for FromPromise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromPromise")
    }
}

/// A signal that is aborted when the task is cancelled, for `fetch` and other APIs of the host.
///
/// Its reason is the message of the cancel. A task that goes with its loop counts as cancelled; one that ends otherwise never
/// aborts it.
pub fn abort_signal<T: 'static>(task: &Task<T>) -> web_sys::AbortSignal {
    let controller = web_sys::AbortController::new().expect("every host has AbortController");
    let signal = controller.signal();
    let aborts = Aborts { controller, task: task.any() };
    task.raw().add_callback(Box::new(move |_| drop(aborts)));
    signal
}

/// A done callback, of which a loop that closes makes no call.
struct Aborts {
    controller: web_sys::AbortController,
    task: AnyTask,
}

impl Drop for Aborts {
    fn drop(&mut self) {
        if self.task.raw.is_cancelled() {
            let message = self.task.raw.read_cold(|cold| cold.cancel_message.clone()).flatten();
            self.controller.abort_with_reason(&to_error(&JoinError::cancelled(message)));
        }
    }
}

/// Asks `task` to end when `signal` is aborted; at once if it already is.
///
/// The signal's reason, as text, is the message of the cancel. The listener goes with the returned guard, or, after
/// [`AbortGuard::forget`], when the task has ended.
pub fn cancel_on_abort(task: &AnyTask, signal: &web_sys::AbortSignal) -> AbortGuard {
    let target = task.clone();
    let source = signal.clone();
    let cancel = move || {
        let reason = source.reason();
        let text = reason
            .dyn_ref::<js_sys::Error>()
            .map(|error| String::from(error.message()))
            .or_else(|| reason.as_string())
            .unwrap_or_else(|| "the signal was aborted".to_owned());
        target.cancel_with(text);
    };
    if signal.aborted() {
        cancel();
        return AbortGuard { task: task.clone(), listener: None };
    }
    let closure = Closure::<dyn Fn()>::own_assert_unwind_safe(cancel);
    let function: &Function = closure.as_ref().unchecked_ref();
    // Fails only for a `null` listener.
    let _ = signal.add_event_listener_with_callback("abort", function);
    AbortGuard { task: task.clone(), listener: Some((signal.clone(), closure)) }
}

/// Keeps a task tied to a signal; from [`cancel_on_abort`].
#[must_use = "dropping it unties the task from the signal; `forget` keeps the tie"]
#[derive(Debug)]
pub struct AbortGuard {
    task: AnyTask,
    listener: Option<(web_sys::AbortSignal, Closure<dyn Fn()>)>,
}

impl AbortGuard {
    /// Keeps the tie until the task has ended.
    pub fn forget(self) {
        let task = self.task.clone();
        task.raw.add_callback(Box::new(move |_| drop(self)));
    }
}

impl Drop for AbortGuard {
    fn drop(&mut self) {
        if let Some((signal, closure)) = self.listener.take() {
            let function: &Function = closure.as_ref().unchecked_ref();
            let _ = signal.remove_event_listener_with_callback("abort", function);
        }
    }
}
